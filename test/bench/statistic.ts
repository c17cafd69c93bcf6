/** Numbers of many rounds told in few: pure arithmetic. */

/** What rounds say of one figure. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** Median, least and greatest. All NaN where there is nothing. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median =
    sorted.length % 2 === 1
      ? (sorted[Math.floor(middle)] ?? Number.NaN)
      : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN, count: sorted.length };
}

/** Ratios taken round by round, so that a noisy minute weighs on both sides of each; rounds that one side lacks are left out. */
export function ratios(above: readonly number[], below: readonly number[]): Spread {
  const found: number[] = [];
  for (const [round, value] of above.entries()) {
    const other = below[round];
    if (other !== undefined && other > 0 && Number.isFinite(value)) found.push(value / other);
  }
  return spread(found);
}

/** The value below which a share of all samples lies (nearest rank); NaN without samples. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** Samples of several rounds together, in ascending order. */
export function pooled(rounds: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(rounds.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const one of rounds) {
    all.set(one, at);
    at += one.length;
  }
  return all.sort();
}
