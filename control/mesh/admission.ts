/**
 * Who may open a stream just now. After a restart of control all sidecars come at once: those that have what they need cost one small
 * message each, those that have nothing cost a whole snapshot, and letting all of them in together is how control planes fall over twice.
 */

/** A bucket of tokens: so many a second, and no more than a second's worth at once. */
export interface Bucket {
  /** Takes one and gives 0, or gives how many milliseconds to wait before asking again. */
  take(nowMs: number): number;
}

/** How many streams a second are let in. */
export interface AdmissionRates {
  /** Sidecars whose root is known. */
  readonly resumes: number;
  /** Sidecars that need all of it. */
  readonly coldStarts: number;
}

/** What two cores take without falling behind with heartbeats. */
export const admissionDefaults: AdmissionRates = Object.freeze({ resumes: 2_000, coldStarts: 50 });

/** Times that a wait is stretched by at most, so that those who were turned away together do not come back together. */
const spread = 1.5;

/** Opens a bucket that is full. `random` gives numbers from 0 up to but not including 1. */
export function openBucket(perSecond: number, nowMs: number, random: () => number): Bucket {
  let tokens = perSecond;
  let atMs = nowMs;
  /** How many were turned away and will be back; each is told to come after those before it. */
  let turnedAway = 0;
  return {
    take(nowMs) {
      const passedMs = Math.max(nowMs - atMs, 0);
      atMs = nowMs;
      const gained = (passedMs / 1000) * perSecond;
      tokens = Math.min(tokens + gained, perSecond);
      turnedAway = Math.max(turnedAway - gained, 0);
      if (tokens >= 1) {
        tokens -= 1;
        return 0;
      }
      turnedAway += 1;
      return Math.ceil((turnedAway / perSecond) * 1000 * (1 + random() * (spread - 1)));
    },
  };
}
