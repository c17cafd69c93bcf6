import { expect, test } from "vitest";
import { nearestEffort } from "./efforts.ts";

test.each<[string, string[], string]>([
  ["low", [], "low"],
  ["low", ["none", "low"], "low"],
  ["minimal", ["none", "high"], "none"],
  ["low", ["none", "high"], "high"],
  ["low", ["high", "none"], "high"],
  ["medium", ["none", "high"], "high"],
  ["max", ["none", "high"], "high"],
  ["none", ["low", "high"], "low"],
  ["medium", ["low", "high"], "high"],
  ["their-own", ["none", "high"], "their-own"],
])("for %s of a server that knows %j it is %s", (asked, known, nearest) => {
  expect(nearestEffort(asked, known)).toBe(nearest);
});
