/** A seeded source of numbers from 0 up to but not including 1, so that every subject meets calls at the same moments: a linear
 * congruential generator whose state is scrambled on the way out; good enough to space calls, and for nothing else. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) >>> 0;
    return ((mixed ^ (mixed >>> 13)) >>> 0) / 2 ** 32;
  };
}

/** Moments of a Poisson process, in microseconds from its start, without end. */
export function* poissonMoments(ratePerS: number, seed: number): Generator<number, never> {
  const random = randomFrom(seed);
  let atUs = 0;
  for (;;) {
    atUs -= (Math.log(1 - random()) / ratePerS) * 1e6;
    yield atUs;
  }
}
