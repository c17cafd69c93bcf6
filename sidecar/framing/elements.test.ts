import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jsonElementsWithin, protoElementsWithin } from "./elements.ts";

/** Enough white space that nothing is waved through for its size. */
function padded(json: string, max: number): Uint8Array {
  return Buffer.from(" ".repeat(2 * max + 1) + json);
}

/** What is counted: one, and one more for every opening bracket and every comma. */
function elementsOf(value: unknown): number {
  if (Array.isArray(value))
    return 1 + value.length + value.reduce((sum, inner) => sum + elementsOf(inner) - 1, 0) + (value.length === 0 ? 1 : 0);
  if (typeof value === "object" && value !== null) return elementsOf(Object.values(value));
  return 1;
}

describe("jsonElementsWithin", () => {
  test("counts values wherever they lie, and nothing within texts", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: fc.constantFrom("a", ",", "{", "[", '"', "\\", "\u00e9") }), (value) => {
        const count = elementsOf(value);
        const json = JSON.stringify(value);
        expect(jsonElementsWithin(padded(json, count), count)).toBe(true);
        expect(jsonElementsWithin(padded(json, count), Math.max(1, count - 1))).toBe(count === 1);
      }),
    );
  });

  test("does not look at what is too small to hold so many", () => {
    expect(jsonElementsWithin(Buffer.from("[1,1,1]"), 4)).toBe(true);
    expect(jsonElementsWithin(Buffer.from("[1,1,1,1,1,1]"), 6)).toBe(false);
  });
});

type Tree = readonly (number | Tree)[];

/** A message in which a number is a scalar field of that wire type, and a tree a message. */
function encode(tree: Tree): Buffer {
  return Buffer.concat(
    tree.map((node) => {
      if (typeof node !== "number") {
        const inner = encode(node);
        return Buffer.concat([Buffer.of((1 << 3) | 2), varint(inner.byteLength), inner]);
      }
      const values: Record<number, Buffer> = {
        0: Buffer.of(0x80, 0x80, 1),
        1: Buffer.alloc(8, 0x0a),
        2: Buffer.from("\x05\x0a\x01\x0a\x01\x0a"),
        5: Buffer.alloc(4, 0x0a),
      };
      return Buffer.concat([varint((300 << 3) | node), values[node] ?? Buffer.alloc(0)]);
    }),
  );
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.of(...bytes, rest);
}

function countOf(tree: Tree): number {
  return tree.reduce((sum: number, node) => sum + 1 + (typeof node === "number" ? 0 : countOf(node)), 0);
}

describe("protoElementsWithin", () => {
  const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc.array(fc.oneof({ depthSize: "small" }, fc.constantFrom(0, 1, 2, 5), tie("tree")), { maxLength: 6 }),
  }));
  const within = (kind: "message", field: number) => (field === 1 ? kind : undefined);

  test("counts fields of messages within messages, and nothing within anything else", () => {
    fc.assert(
      fc.property(tree, (given) => {
        const count = countOf(given) + 1;
        // One long field at the end, so that nothing is waved through for its size.
        const message = Buffer.concat([encode(given), Buffer.of((2 << 3) | 2), varint(2 * count), Buffer.alloc(2 * count, 0x0a)]);
        expect(protoElementsWithin(message, "message", within, count)).toBe(true);
        expect(protoElementsWithin(message, "message", within, count - 1)).toBe(false);
      }),
    );
  });

  test("ends with any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 3, maxLength: 60 }), (bytes) => void protoElementsWithin(bytes, "message", within, 1)),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 60, maxLength: 90 }), (bytes) => {
        expect(typeof protoElementsWithin(bytes, "message", within, 29)).toBe("boolean");
      }),
    );
  });
});
