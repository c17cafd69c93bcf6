import { expect, test } from "vitest";
import { PATIENCE_MS, STILL_MS, standstill } from "./standstill.ts";

/** Counts that grow with time, which passes only while somebody waits. */
function provider(requestsAt: (ms: number) => number) {
  let nowMs = 0;
  let reads = 0;
  return {
    read: async () => {
      reads++;
      return { requests: requestsAt(nowMs) };
    },
    wait: async (ms: number) => {
      nowMs += ms;
    },
    reads: () => reads,
    nowMs: () => nowMs,
  };
}

test("late calls belong to what was before", async () => {
  // The last of 115 calls comes after 345 ms.
  const late = provider((ms) => 1000 + Math.min(115, Math.floor(ms / 3)));
  expect(await standstill(late.read, late.wait, 1000 - 1)).toEqual({ counts: { requests: 1115 }, still: true });
  expect(late.nowMs()).toBeGreaterThanOrEqual(345 + STILL_MS);
});

test("nothing is waited for where nothing came since the last reading", async () => {
  const still = provider(() => 7);
  expect(await standstill(still.read, still.wait, 7)).toEqual({ counts: { requests: 7 }, still: true });
  expect([still.reads(), still.nowMs()]).toEqual([1, 0]);
});

test("what never stops is not waited for without end, and is told", async () => {
  const endless = provider((ms) => ms);
  expect((await standstill(endless.read, endless.wait, undefined)).still).toBe(false);
  expect(endless.nowMs()).toBe(PATIENCE_MS);
});
