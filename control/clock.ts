/** Time, as an argument. */
export interface Clock {
  /** Milliseconds on a clock that only goes forward, with fractions. */
  monotonicMs(): number;
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Calls `then` after `delayMs`; the function returned takes that back. */
  after(delayMs: number, then: () => void): () => void;
}
