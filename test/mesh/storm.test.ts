/** Ten thousand sidecars lose control at one moment and come back: the sidecars' own waits against control's own buckets, in virtual time. */
import { expect, test } from "vitest";
import { admissionDefaults, openBucket } from "../../control/mesh/admission.ts";
import { waitMs } from "../../sidecar/mesh/backoff.ts";
import { seededRandom } from "../kit/random.ts";

/** How a sidecar waits after so many failures, what control asked for, and how long it has been without it. */
type Wait = (failures: number, retryAfterMs: number | undefined, random: { next(): number }, awayMs: number) => number;

interface Storm {
  /** When the last one is in, from when control is back. */
  readonly lastMs: number;
  /** The most that come within one hundredth of a second, once control is back. */
  readonly peak: number;
  /** Attempts once control is back, for each sidecar. */
  readonly attempts: number;
  /** The most that are let in within one second. */
  readonly letInPerSecond: number;
}

/** Control is away for a time. `cold` sidecars have nothing that control knows. */
function storm(sidecars: number, awayMs: number, cold: boolean, wait: Wait): Storm {
  const random = seededRandom(42);
  const bucket = openBucket(cold ? admissionDefaults.coldStarts : admissionDefaults.resumes, awayMs, random.next);
  // By the time of the next attempt, in milliseconds; attempts are far enough apart for a list by whole milliseconds.
  const due = new Map<number, { failures: number }[]>();
  const plan = (atMs: number, sidecar: { failures: number }): void => {
    const slot = Math.ceil(atMs);
    due.set(slot, [...(due.get(slot) ?? []), sidecar]);
  };
  for (let at = 0; at < sidecars; at++) plan(wait(0, undefined, random, 0), { failures: 0 });
  const arrivals = new Map<number, number>();
  const letIn = new Map<number, number>();
  let [left, attempts, lastMs] = [sidecars, 0, 0];
  for (let nowMs = 0; left > 0 && nowMs < 1_000_000; nowMs++) {
    for (const sidecar of due.get(nowMs) ?? []) {
      let retryAfterMs: number | undefined;
      if (nowMs >= awayMs) {
        attempts += 1;
        arrivals.set(Math.floor(nowMs / 10), (arrivals.get(Math.floor(nowMs / 10)) ?? 0) + 1);
        const pushbackMs = bucket.take(nowMs);
        if (pushbackMs === 0) {
          left -= 1;
          lastMs = nowMs - awayMs;
          letIn.set(Math.floor(nowMs / 1000), (letIn.get(Math.floor(nowMs / 1000)) ?? 0) + 1);
          continue;
        }
        retryAfterMs = pushbackMs;
      }
      sidecar.failures += 1;
      plan(nowMs + Math.max(wait(sidecar.failures, retryAfterMs, random, nowMs), 1), sidecar);
    }
    due.delete(nowMs);
  }
  const peak = Math.max(...arrivals.values());
  return { lastMs, peak, attempts: attempts / sidecars, letInPerSecond: Math.max(...letIn.values()) };
}

test("after a short restart ten thousand resume within fifteen seconds, no more a second than control takes, and no crowd at one moment", () => {
  const { lastMs, peak, attempts, letInPerSecond } = storm(10_000, 2_000, false, waitMs);
  expect(lastMs).toBeLessThanOrEqual(15_000);
  // A full bucket, and what it gains meanwhile.
  expect(letInPerSecond).toBeLessThanOrEqual(2 * admissionDefaults.resumes);
  expect(peak).toBeLessThanOrEqual(500);
  expect(attempts).toBeLessThanOrEqual(3);
});

test("after a long outage too they are back within the longest wait", () => {
  const { lastMs, peak } = storm(10_000, 120_000, false, waitMs);
  expect(lastMs).toBeLessThanOrEqual(35_000);
  expect(peak).toBeLessThanOrEqual(100);
});

test("those that need everything come at their own rate, each turned away a few times at most", () => {
  const { attempts, letInPerSecond } = storm(2_000, 1_000, true, waitMs);
  expect(letInPerSecond).toBeLessThanOrEqual(2 * admissionDefaults.coldStarts);
  expect(attempts).toBeLessThanOrEqual(6);
});

test("is caught: reconnecting without jitter brings all of them at one moment", () => {
  const planted: Wait = (failures, retryAfterMs, _, awayMs) => waitMs(failures, retryAfterMs, { next: () => 0.999 }, awayMs);
  expect(storm(10_000, 2_000, false, planted).peak).toBeGreaterThan(5_000);
});
