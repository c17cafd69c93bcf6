import fc from "fast-check";
import { expect, test } from "vitest";
import { openBucket } from "./admission.ts";

test("in any stretch of time no more are let in than a full bucket and what it gains, and nobody is told to wait for nothing", () => {
  const gaps = fc.array(fc.nat(400), { minLength: 1, maxLength: 300 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), gaps, fc.double({ min: 0, max: 0.999, noNaN: true }), (rate, gapsMs, lot) => {
      const bucket = openBucket(rate, 0, () => lot);
      const letIn: number[] = [];
      let nowMs = 0;
      for (const gapMs of gapsMs) {
        nowMs += gapMs;
        const waitMs = bucket.take(nowMs);
        if (waitMs === 0) letIn.push(nowMs);
        else expect(waitMs).toBeGreaterThan(0);
      }
      for (const [from, fromMs] of letIn.entries()) {
        for (const [more, untilMs] of letIn.slice(from).entries()) {
          expect(more + 1).toBeLessThanOrEqual(rate + ((untilMs - fromMs) / 1000) * rate + 1e-6);
        }
      }
    }),
  );
});

test("those that are turned away at one moment are told different times, one after the other", () => {
  const bucket = openBucket(10, 0, () => 0);
  const waits = Array.from({ length: 40 }, () => bucket.take(0));
  expect(waits.slice(0, 10)).toEqual(Array(10).fill(0));
  expect(waits.slice(10, 13)).toEqual([100, 200, 300]);
  expect(waits.at(-1)).toBe(3_000);
  // Whoever comes when it was told to is let in.
  expect(bucket.take(3_000)).toBe(0);
});

test("time that stands still or goes back gives nobody anything", () => {
  const bucket = openBucket(1, 5_000, () => 0);
  expect(bucket.take(5_000)).toBe(0);
  expect(bucket.take(1_000)).toBeGreaterThan(0);
});
