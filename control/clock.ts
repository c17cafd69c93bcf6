/** Time, as an argument. */
export interface Clock {
  /** Milliseconds on a clock that only goes forward, with fractions. */
  monotonicMs(): number;
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Calls `then` after `delayMs`; the function returned takes that back. */
  after(delayMs: number, then: () => void): () => void;
}

/** A moment in milliseconds since 1970 as text, such as 2026-11-22T08:30:00.000Z. */
export function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
