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

  // Padding after every byte made a body within its limit take 1.4 s and half a gigabyte.
  test("takes as many pieces as a caller may need, and no more", () => {
    const most = 16 * 1024;
    expect(decodeBase64(Buffer.from("AA==".repeat(most)))).toHaveLength(most);
    expect(decodeBase64(Buffer.from("AA==".repeat(most + 1)))).toBeUndefined();
    expect(decodeBase64(Buffer.from("A".repeat(8 * most)))).toHaveLength(6 * most);
  });
});
