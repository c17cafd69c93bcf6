import fc from "fast-check";
import { expect, test } from "vitest";
import { exactness, isPattern, matcher } from "./pattern.ts";

test.each([
  ["gpt-4o", "gpt-4o", true],
  ["gpt-4o", "gpt-4o-mini", false],
  ["gpt-*", "gpt-", true],
  ["*", "", true],
  ["a*a", "a", false],
  ["a*a", "aa", true],
  ["*b*c*", "abxc", true],
  ["*bc*cd", "abcd", false],
  ["a.c", "abc", false],
  ["", "", true],
])("%s fits %s: %s", (pattern, name, fits) => expect(matcher(pattern)(name)).toBe(fits));

test("fits what the regular expression fits in which * is anything", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 8 });
  fc.assert(
    fc.property(text, fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 12 }), (pattern, name) => {
      expect(matcher(pattern)(name)).toBe(new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(name));
    }),
    { numRuns: 1000 },
  );
});

test("a pattern made to be slow is not", () => {
  // As a regular expression this takes longer than anyone waits.
  expect(matcher(`${"*a".repeat(250)}*b`)("a".repeat(500))).toBe(false);
});

test("a name is the most exact, then the pattern with the most letters", () => {
  const sorted = ["*", "g*", "*gp*", "gpt*4*", "gpt-4o"];
  expect(sorted.toSorted((a, b) => (exactness(a) < exactness(b) ? -1 : 1))).toEqual(sorted);
  expect(sorted.map(isPattern)).toEqual([true, true, true, true, false]);
  expect(exactness("**a")).toBe(exactness("a*"));
});
