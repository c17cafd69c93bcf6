/** When to try again: longer after each failure, and never at one moment for all. */
import type { Random } from "../call.ts";

/** The longest wait after a first failure: nobody notices less. */
export const firstWaitMs = 250;
/** The longest wait of all: when control is back, everybody is within this time. */
export const longestWaitMs = 30_000;
/** What control may ask for at most; whoever asks for more has its units wrong. */
const pushbackMaxMs = 300_000;

/**
 * How long to wait after a number of failures in a row. Full jitter: anything from nothing to twice the limit before, since sidecars
 * that lost control together would otherwise come back together, again and again. What control asks for comes first, and jitter on top.
 */
export function waitMs(failures: number, retryAfterMs: number | undefined, random: Pick<Random, "next">): number {
  const limit = Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(failures, 16)); // 2 to the 16th is beyond the limit
  return Math.min(Math.max(retryAfterMs ?? 0, 0), pushbackMaxMs) + random.next() * limit;
}
