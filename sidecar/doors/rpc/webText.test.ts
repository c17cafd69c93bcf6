import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeBase64 } from "./webText.ts";

const pieces = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 });

describe("decodeBase64", () => {
  test("joins any pieces, however each was padded", () => {
    fc.assert(
      fc.property(pieces, (given) => {
        const text = given.map((piece) => Buffer.from(piece).toString("base64")).join("");
        expect(Buffer.from(decodeBase64(Buffer.from(text)) ?? [0xde, 0xad])).toEqual(Buffer.concat(given));
      }),
    );
  });

  test.each(["A", "AB", "ABC", "AB=C", "A===", "====", "AAA=A", "AA-_", "AA A", "AAAA\n", "=AAA", "AA==="])("refuses %j", (text) => {
    expect(decodeBase64(Buffer.from(text))).toBeUndefined();
  });
});
