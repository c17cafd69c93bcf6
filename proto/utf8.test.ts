import fc from "fast-check";
import { expect, test } from "vitest";
import { utf8Length, writeUtf8 } from "./utf8.ts";

test("a text is as long as its encoding, and is written as it, lone surrogates included", () => {
  const text = fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 200 }),
    fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)), maxLength: 200 }),
    fc.string({ unit: fc.constantFrom("a", "é", "漢", "\ud83d", "\ude00", "😀") }),
  );
  fc.assert(
    fc.property(text, fc.nat(9), (given, at) => {
      const expected = new TextEncoder().encode(given);
      expect(utf8Length(given)).toBe(expected.byteLength);
      const target = new Uint8Array(at + expected.byteLength + 3).fill(0x2e);
      expect(writeUtf8(target, at, given, expected.byteLength)).toBe(at + expected.byteLength);
      expect(target.subarray(at, at + expected.byteLength)).toEqual(expected);
      expect([...target.subarray(0, at), ...target.subarray(at + expected.byteLength)]).toEqual(new Array(at + 3).fill(0x2e));
    }),
    { numRuns: 500 },
  );
});
