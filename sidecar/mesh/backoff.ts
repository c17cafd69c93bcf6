/** When to try again: longer after each failure, and never at one moment for all. */
import type { Random } from "../call.ts";

/** The longest wait after a first failure: nobody notices less. */
export const firstWaitMs = 250;
/** The longest wait of all: when control is back, everybody is within this time. */
export const longestWaitMs = 30_000;
/** Jitter on top of what control asks for: it spreads what it asks for itself, and whoever waits far longer comes back last for nothing. */
const pushbackJitterMs = 1_000;
/** What control may ask for at most; whoever asks for more has its units wrong. */
const pushbackMaxMs = 300_000;

/**
 * How long to wait after a number of failures in a row. Full jitter: anything from nothing to twice the limit before, since sidecars
 * that lost control together would otherwise come back together, again and again. Nobody waits longer than twice the time for which
 * control has been away by then (`awayMs`): whoever drew a row of short waits would else stay away for long after a short outage. What
 * control asks for comes first, and jitter on top.
 */
export function waitMs(
  failures: number,
  retryAfterMs: number | undefined,
  random: Pick<Random, "next">,
  awayMs = Number.POSITIVE_INFINITY,
): number {
  const grown = firstWaitMs * 2 ** Math.min(failures, 16); // 2 to the 16th is beyond the limit
  const limit = Math.min(longestWaitMs, grown, firstWaitMs + 2 * awayMs);
  if (retryAfterMs === undefined) return random.next() * limit;
  return Math.min(Math.max(retryAfterMs, 0), pushbackMaxMs) + random.next() * Math.min(limit, pushbackJitterMs);
}
