import fc from "fast-check";
import { expect, test } from "vitest";
import { readPattern } from "./pattern.ts";
import { Seeded } from "./seeded.ts";

// The language's own engine is the oracle here, where patterns are ours and cannot be chosen to keep it busy.
const atoms = fc.constantFrom(
  "a",
  "b",
  "-",
  "\\d",
  "\\w",
  "[a-c]",
  "[^a-c]",
  "[0-9A-F]",
  ".",
  "\\.",
  "é",
  "\\u0041",
  "[\\d_-]",
  "\\s",
  "\\S",
);
const quantifiers = fc.constantFrom("", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "*?");
const { pattern } = fc.letrec<{ pattern: string; piece: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    atoms,
    tie("pattern").map((inner) => `(${inner})`),
    tie("pattern").map((inner) => `(?:${inner})`),
  ),
  piece: fc.tuple(tie("atom"), quantifiers).map(([atom, quantifier]) => atom + quantifier),
  pattern: fc
    .tuple(fc.array(fc.array(tie("piece"), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 2 }), fc.boolean(), fc.boolean())
    .map(([branches, start, end]) => `${start ? "^" : ""}${branches.map((pieces) => pieces.join("")).join("|")}${end ? "$" : ""}`),
}));

test("what is written for a pattern fits it", () => {
  fc.assert(
    // An anchor within a pattern can make it one that nothing fits.
    fc.property(
      pattern.filter((one) => !/.\^(?!a-c)|\$./.test(one)),
      fc.string(),
      fc.double({ min: 0, max: 0.3, noNaN: true }),
      (source, seed, generous) => {
        const text = readPattern(source)?.write(new Seeded(seed), generous) ?? "not understood";
        expect(text, source).toMatch(new RegExp(source, "u"));
      },
    ),
    { numRuns: 400 },
  );
});

test("matching agrees with the language's engine", () => {
  const texts = fc.oneof(
    fc.string({ unit: fc.constantFrom("a", "b", "c", "1", "-", ".", "_", "A", "é", " ", "\n"), maxLength: 8 }),
    fc.string(),
  );
  fc.assert(
    fc.property(pattern, texts, (source, text) => {
      expect(readPattern(source)?.matches(text), `${source} on ${JSON.stringify(text)}`).toBe(new RegExp(source, "u").test(text));
    }),
    { numRuns: 800 },
  );
});

test("a pattern that keeps backtracking engines busy for minutes is answered at once", () => {
  expect(readPattern("^(a+)+$")?.matches(`${"a".repeat(5_000)}!`)).toBe(false);
  expect(readPattern("^(a|a)*b$")?.matches("a".repeat(5_000))).toBe(false);
});

test("what is not understood is said, not guessed", () => {
  for (const source of [
    "(?=a)b",
    "(?<!a)b",
    "(a)\\1",
    "\\bword\\b",
    "\\p{L}",
    "a{1001}",
    "(a",
    "a)",
    "*a",
    "[",
    "a{1000}{1000}",
    "[z-a]",
  ]) {
    expect(readPattern(source), source).toBeUndefined();
  }
});
