/** What must hold of a sidecar under control, whatever the network does. */
import { describe, expect, test } from "vitest";
import { herdShare, plantedBugs, runCase } from "./clientSimulation.ts";

/** Declares the properties as tests over that many cases. */
export function clientProperties(cases: number): void {
  test(`in ${cases} storms: only published roots hold, whole, in order, acknowledged after they do; and in calm the newest arrives`, () => {
    for (let seed = 1; seed <= cases; seed++) {
      const violations = runCase(seed);
      if (violations.length > 0) expect(violations, `seed ${seed}`).toEqual([]);
    }
  }, 600_000);

  test("the same seed gives the same run", () => {
    expect(herdShare(7)).toBe(herdShare(7));
  });

  describe("a planted bug is found:", () => {
    test.each(Object.entries(plantedBugs))("%s", (_, sabotage) => {
      const found = Array.from({ length: 200 }, (_unused, seed) => runCase(seed + 1, sabotage)).filter(
        (violations) => violations.length > 0,
      );
      expect(found.length).toBeGreaterThan(0);
    });

    test("sidecars come back without jitter", () => {
      expect(herdShare(1)).toBeLessThan(0.2);
      expect(herdShare(1, () => 0.999)).toBe(1);
    });
  });
}
