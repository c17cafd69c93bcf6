import fc from "fast-check";
import { expect, test } from "vitest";
import { countTokens, tokensOf } from "./tokens.ts";

test("tokens joined are the text, whatever the text", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" })), (text) => {
      expect(tokensOf(text).join("")).toBe(text);
      expect(tokensOf(text).every((token) => token !== "")).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test("a blank belongs to the word after it, long words and numbers cost more, a line break stands alone", () => {
  expect(tokensOf("Hello brave understanding 12345\nyes!?")).toEqual([
    "Hello",
    " brave",
    " underst",
    "anding",
    " 123",
    "45",
    "\n",
    "yes",
    "!?",
  ]);
  expect(countTokens("")).toBe(0);
});

test("a text that ends in a line break costs the same each time it is repeated", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 5 }), (text, times) => {
      const line = `${text.trimStart()}x\n`;
      expect(countTokens(line.repeat(times))).toBe(times * countTokens(line));
    }),
  );
});
