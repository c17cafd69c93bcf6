import fc from "fast-check";
import { expect, it } from "vitest";
import { cutEverywhere } from "../../test/kit/random.ts";
import { JsonArrayReader } from "./jsonArray.ts";

function read(
  pieces: Iterable<Uint8Array>,
  elementBytesMax = 1_000_000,
): { elements: string[]; closed: boolean; broken: string | undefined } {
  const reader = new JsonArrayReader(elementBytesMax);
  const elements: string[] = [];
  for (const piece of pieces) elements.push(...reader.read(piece));
  return { elements, closed: reader.closed, broken: reader.broken };
}

it("gives the elements of any array back, byte for byte, however it is cut and spaced", () => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue(), { maxLength: 5 }),
      fc.array(fc.nat(40)),
      fc.constantFrom("", " ", "\r\n", " \n\t"),
      (values, cuts, blank) => {
        const texts = values.map((value) => JSON.stringify(value));
        const bytes = Buffer.from(`${blank}[${blank}${texts.join(`${blank},${blank}`)}${blank}]${blank}`);
        const pieces: Uint8Array[] = [];
        let at = 0;
        for (const cut of cuts) {
          pieces.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        pieces.push(bytes.subarray(at));
        expect(read(pieces)).toEqual({ elements: texts, closed: true, broken: undefined });
        expect(read(cutEverywhere(bytes)).elements).toEqual(texts);
      },
    ),
  );
});

it("takes what looks like an end inside a text for text", () => {
  const text = '{"a":"]},[\\"}\\\\","b":["\\\\"]}';
  expect(read([Buffer.from(`[${text},${text}]`)]).elements).toEqual([text, text]);
});

it("gives what came before the array breaks off, and says that it is not closed", () => {
  expect(read([Buffer.from('[{"a":1},{"a"')])).toEqual({ elements: ['{"a":1}'], closed: false, broken: undefined });
});

it.each(['{"a":1}', "[}]", "[1] x", "data: x"])("%s is no array", (text) => {
  expect(read([Buffer.from(text)]).broken).toBe("no array");
});

it("ends at an element that is larger than the limit, whole or in pieces", () => {
  const bytes = Buffer.from(`[{"a":1},"${"x".repeat(20)}",{"b":2}]`);
  for (const pieces of [[bytes], cutEverywhere(bytes)]) {
    expect(read(pieces, 16)).toEqual({ elements: ['{"a":1}'], closed: false, broken: "too long" });
  }
});
