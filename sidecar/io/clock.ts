import type { Clock } from "../call.ts";

/** A moment in milliseconds since 1970 as text, such as 2026-11-22T08:30:00.000Z. */
export function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

/** The machine's own time. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, then) {
    // Node's timers hold 31 bits; a longer delay would fire at once.
    const timer = setTimeout(then, Math.min(delayMs, 2_147_483_647));
    return () => clearTimeout(timer);
  },
};
