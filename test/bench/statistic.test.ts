import { expect, test } from "vitest";
import { poissonMoments } from "./random.ts";
import { pooled, quantile, ratios, spread } from "./statistic.ts";

test("a spread is the median with both ends", () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, count: 3 });
  expect(spread([4, 1, 2, 3]).median).toBe(2.5);
  expect(spread([]).median).toBeNaN();
});

test("ratios are taken round by round", () => {
  // The second round was slow for both: the ratio does not see it.
  expect(ratios([2, 20, 3], [1, 10, 1])).toEqual({ median: 2, min: 2, max: 3, count: 3 });
  expect(ratios([2, 4], [1]).count).toBe(1);
});

test("quantiles are nearest ranks of all rounds together", () => {
  const all = pooled([Float64Array.of(5, 1), Float64Array.of(3)]);
  expect([...all]).toEqual([1, 3, 5]);
  expect([0.5, 0.99, 0].map((share) => quantile(all, share))).toEqual([3, 5, 1]);
});

test("moments come at the rate, spaced as a Poisson process spaces them", () => {
  const gaps: number[] = [];
  let before = 0;
  for (const moment of poissonMoments(1000, 7)) {
    gaps.push(moment - before);
    before = moment;
    if (gaps.length === 20_000) break;
  }
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
  expect(mean).toBeGreaterThan(970);
  expect(mean).toBeLessThan(1030);
  // The deviation of exponential gaps is their mean.
  expect(deviation / mean).toBeGreaterThan(0.95);
  expect(deviation / mean).toBeLessThan(1.05);
});
