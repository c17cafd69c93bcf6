/** A distribution shows what prom-client's own histogram shows of the same values. */
import fc from "fast-check";
import { Histogram, Registry } from "prom-client";
import { expect, test } from "vitest";
import { Distributions } from "./distribution.ts";

const settings = { name: "seconds", help: "How long it took.", buckets: [0.01, 0.1, 1.28, 10] };

test("shows the same text as prom-client's histogram, whatever is added", async () => {
  const value = fc.oneof(fc.double({ min: 0, max: 20, noNaN: true }), fc.constantFrom(0, 0.01, 0.1, 1.28, 10, 10.5));
  const series = fc.uniqueArray(fc.record({ door: fc.string(), values: fc.array(value, { minLength: 1 }) }), {
    selector: ({ door }) => door,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(series, async (all) => {
      const [ours, theirs] = [new Registry(), new Registry()];
      const distributions = new Distributions(settings, ours);
      const histogram = new Histogram({ ...settings, labelNames: ["door"], registers: [theirs] });
      for (const { door, values } of all) {
        const distribution = distributions.begin({ door });
        for (const seconds of values) {
          distribution.observe(seconds);
          histogram.observe({ door }, seconds);
        }
      }
      // An object with numbers for names, such as the labels of prom-client's series, may come in another order.
      expect(lines(await ours.metrics())).toEqual(lines(await theirs.metrics()));
    }),
  );
});

function lines(text: string): string[] {
  return text.split("\n").sort();
}
