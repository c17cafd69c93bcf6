/** Chance that can be had again: the same seed gives the same numbers, on every machine. */

/** Numbers drawn in order from one seed. */
export interface SeededRandom {
  /** From 0 up to but not including 1. */
  next(): number;
  /** A whole number from 0 up to but not including `below`. */
  below(below: number): number;
}

/** Starts a sequence (mulberry32: 32 bits of state, which is plenty to choose where to cut). */
export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return { next, below: (below) => Math.floor(next() * below) };
}

/** Bytes cut at `count` places drawn from `random`: at most `count + 1` pieces, none empty, which joined are the bytes again. */
export function cutAtRandom(bytes: Uint8Array, count: number, random: SeededRandom): Uint8Array[] {
  const places = new Set<number>();
  for (let cut = 0; cut < count && bytes.length > 1; cut++) places.add(1 + random.below(bytes.length - 1));
  const pieces: Uint8Array[] = [];
  let from = 0;
  for (const place of [...places].sort((a, b) => a - b)) {
    pieces.push(bytes.subarray(from, place));
    from = place;
  }
  if (from < bytes.length) pieces.push(bytes.subarray(from));
  return pieces;
}

/** Bytes one by one. */
export function cutEverywhere(bytes: Uint8Array): Uint8Array[] {
  return Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
}
