import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutEverywhere } from "../../test/kit/random.ts";
import { NdjsonReader } from "./ndjson.ts";

const LIMIT = 1 << 20;

function readAll(pieces: readonly Uint8Array[], limit = LIMIT): { texts: string[]; tooLong: boolean } {
  const reader = new NdjsonReader(limit);
  const texts: string[] = [];
  let tooLong = false;
  for (const piece of pieces) {
    const lines = reader.read(piece);
    texts.push(...lines.texts);
    tooLong ||= lines.tooLong;
  }
  const rest = reader.end();
  texts.push(...rest.texts);
  return { texts, tooLong: tooLong || rest.tooLong };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function cut(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const points = [...new Set(at.map((point) => (bytes.length === 0 ? 0 : point % bytes.length)))].sort((a, b) => a - b);
  return [0, ...points].map((point, i) => bytes.slice(point, points[i] ?? bytes.length));
}

const value = fc.jsonValue({ noUnicodeString: false, maxDepth: 3 });
const line = fc.oneof({ weight: 4, arbitrary: value.map((each) => JSON.stringify(each)) }, fc.constantFrom("", "  ", "\t"));

describe("lines", () => {
  test("are the values that were written, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n")), { maxLength: 20 }),
        fc.array(fc.nat(), { maxLength: 10 }),
        (lines, points) => {
          const bytes = bytesOf(lines.map(([text, end]) => text + end).join(""));
          const expected = lines.map(([text]) => text).filter((text) => text.trim() !== "");
          expect(readAll([bytes]).texts).toEqual(expected);
          expect(readAll(cut(bytes, points)).texts).toEqual(expected);
          expect(readAll(cutEverywhere(bytes)).texts).toEqual(expected);
        },
      ),
    );
  });

  test("come with the read that brings their end", () => {
    const reader = new NdjsonReader(LIMIT);
    expect(reader.read(bytesOf('{"a":1}\n{"b"')).texts).toEqual(['{"a":1}']);
    expect(reader.read(bytesOf(":2}")).texts).toEqual([]);
    expect(reader.read(bytesOf("\n")).texts).toEqual(['{"b":2}']);
  });

  test("include a last one without its end, and no empty one after an end", () => {
    expect(readAll([bytesOf('{"a":1}\n{"b":2}')]).texts).toEqual(['{"a":1}', '{"b":2}']);
    expect(readAll([bytesOf('{"a":1}\n')]).texts).toEqual(['{"a":1}']);
    expect(readAll([]).texts).toEqual([]);
  });

  test("survive a cut inside a character", () => {
    const bytes = bytesOf('"漢🦊é"\n');
    for (let point = 0; point < bytes.length; point++) expect(readAll(cut(bytes, [point])).texts).toEqual(['"漢🦊é"']);
  });

  test("have no byte order mark before the first, and keep one elsewhere", () => {
    const bytes = bytesOf('\uFEFF{"a":1}\n"\uFEFF"\n');
    for (const pieces of [[bytes], cutEverywhere(bytes)]) expect(readAll(pieces).texts).toEqual(['{"a":1}', '"\uFEFF"']);
  });

  test("may hold the line ends of other standards, which JSON does not escape", () => {
    expect(readAll([bytesOf('"a\u2028b\u0085c"\n')]).texts).toEqual(['"a\u2028b\u0085c"']);
  });

  test("longer than the limit end the reading, whole or in pieces, and what came before is given", () => {
    const bytes = bytesOf(`"1"\n${"x".repeat(9)}\n"2"\n`);
    for (const pieces of [[bytes], cutEverywhere(bytes)]) {
      expect(readAll(pieces, 8)).toEqual({ texts: ['"1"'], tooLong: true });
      expect(readAll(pieces, 9)).toEqual({ texts: ['"1"', "x".repeat(9), '"2"'], tooLong: false });
    }
    const reader = new NdjsonReader(8);
    expect(reader.read(bytes).tooLong).toBe(true);
    expect(reader.read(bytesOf('"3"\n'))).toEqual({ texts: [], tooLong: true });
    expect(reader.end()).toEqual({ texts: [], tooLong: true });
  });
});
