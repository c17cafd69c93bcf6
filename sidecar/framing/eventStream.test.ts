import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { dataFrame, eventFrame, rawFrame } from "../../test/kit/eventFrames.ts";
import { type EventFrame, EventStreamReader } from "./eventStream.ts";

const LIMIT = 10_000;

/** Reads bytes that come in pieces. */
function readAll(pieces: Iterable<Uint8Array>, limit = LIMIT) {
  const reader = new EventStreamReader(limit);
  const frames: EventFrame[] = [];
  for (const piece of pieces) frames.push(...reader.read(piece));
  return { frames: frames.map(shown), broken: reader.broken, leftOver: reader.leftOver };
}

function shown({ headers, payload }: EventFrame) {
  return { headers: Object.fromEntries(headers), payload: Buffer.from(payload).toString("latin1") };
}

/** Cuts bytes at some points. */
function cut(bytes: Uint8Array, points: readonly number[]): Uint8Array[] {
  const places = [...new Set(points.map((point) => point % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, index) => bytes.subarray(from, places[index] ?? bytes.length));
}

const headersOf = fc.dictionary(fc.stringMatching(/^[:a-z-]{1,20}$/), fc.string({ maxLength: 40 }), { maxKeys: 5, noNullPrototype: true });
const frameOf = fc.record({ headers: headersOf, payload: fc.uint8Array({ maxLength: 300 }) });

describe("frames", () => {
  test("come out as they went in, however the bytes are cut", () => {
    fc.assert(
      fc.property(fc.array(frameOf, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 10 }), (written, points) => {
        const bytes = Buffer.concat(written.map(({ headers, payload }) => eventFrame(headers, payload)));
        const expected = written.map(({ headers, payload }) => ({ headers, payload: Buffer.from(payload).toString("latin1") }));
        expect(readAll(cut(bytes, points))).toEqual({ frames: expected, broken: undefined, leftOver: 0 });
      }),
    );
  });

  test("keep their payloads after later reads", () => {
    const reader = new EventStreamReader(LIMIT);
    const bytes = Buffer.concat(["first", "second", "third, and longer"].map((text) => eventFrame({}, text)));
    const frames: EventFrame[] = [];
    for (let at = 0; at < bytes.length; at += 7) frames.push(...reader.read(Uint8Array.from(bytes.subarray(at, at + 7))));
    expect(frames.map((frame) => shown(frame).payload)).toEqual(["first", "second", "third, and longer"]);
  });

  test("keep their headers apart though the bytes they were read from are used again", () => {
    const reader = new EventStreamReader(LIMIT);
    const buffer = Buffer.concat([dataFrame("delta", 1), dataFrame("delta", 2).subarray(0, 3)]);
    const [one] = reader.read(buffer);
    buffer.fill(0x41, 0, buffer.length - 3);
    const [two] = reader.read(dataFrame("delta", 2).subarray(3));
    expect(two?.headers).toBe(one?.headers);
  });

  test("share the headers that are equal to the byte, and no others", () => {
    const [one, same, other] = new EventStreamReader(LIMIT).read(
      Buffer.concat([dataFrame("delta", 1), dataFrame("delta", 2), dataFrame("gamma", 3)]),
    );
    expect(same?.headers).toBe(one?.headers);
    expect(other?.headers.get(":event-type")).toBe("gamma");
    expect(one?.headers.get(":event-type")).toBe("delta");
  });

  test("may have headers of every type, of which text is read", () => {
    const block = Buffer.concat([
      ...[0, 1].map((type) => Buffer.from([1, 0x61 + type, type])),
      ...[1, 2, 4, 8].map((length, at) => Buffer.concat([Buffer.from([1, 0x63 + at, 2 + at]), Buffer.alloc(length)])),
      Buffer.concat([Buffer.from([1, 0x67, 6, 0, 3]), Buffer.alloc(3)]),
      Buffer.concat([Buffer.from([1, 0x68, 7, 0, 2]), Buffer.from("hi")]),
      Buffer.concat([Buffer.from([1, 0x69, 8]), Buffer.alloc(8)]),
      Buffer.concat([Buffer.from([1, 0x6a, 9]), Buffer.alloc(16)]),
    ]);
    expect(readAll([rawFrame(block, Buffer.from("x"))]).frames).toEqual([{ headers: { h: "hi" }, payload: "x" }]);
  });
});

describe("a stream is given up", () => {
  const good = dataFrame("delta", { text: "hello" });

  test("at any flipped bit, and what came before is given out", () => {
    const bytes = Buffer.concat([good, good, good]);
    for (let bit = 0; bit < good.length * 8; bit++) {
      const flipped = Uint8Array.from(bytes);
      const at = good.length + Math.floor(bit / 8);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit % 8));
      const { frames, broken } = readAll([flipped]);
      expect({ bit, frames: frames.length, broken }).toEqual({ bit, frames: 1, broken: "checksum" });
    }
  });

  test("where the headers are longer than the frame, end too early or have no known type", () => {
    expect(readAll([withPrelude(good.length, good.length)]).broken).toBe("form");
    expect(readAll([withPrelude(15, 0)]).broken).toBe("form");
    expect(readAll([rawFrame(Buffer.alloc(0), Buffer.alloc(0))]).broken).toBeUndefined();
    for (const block of [[5], [1, 0x61], [1, 0x61, 7], [1, 0x61, 7, 0], [1, 0x61, 7, 0, 9, 1], [1, 0x61, 5, 1], [1, 0x61, 10]]) {
      expect({ block, broken: readAll([rawFrame(Buffer.from(block), Buffer.alloc(0))]).broken }).toEqual({ block, broken: "form" });
    }
  });

  test("where a frame is larger than the limit, before the frame is there", () => {
    expect(readAll([eventFrame({}, "x".repeat(100))], 100).broken).toBeUndefined();
    expect(readAll([eventFrame({}, "x".repeat(101)).subarray(0, 12)], 100).broken).toBe("size");
    expect(readAll([withPrelude(0xffffffff, 200_000)]).broken).toBe("size");
  });

  test("and nothing is read behind that", () => {
    const reader = new EventStreamReader(LIMIT);
    reader.read(Buffer.alloc(20, 1));
    expect(reader.broken).toBe("checksum");
    expect(reader.read(good)).toEqual([]);
    expect(reader.leftOver).toBe(0);
  });
});

test("what is left over at the end is told", () => {
  const bytes = Buffer.concat([eventFrame({}, "a"), eventFrame({}, "b")]);
  for (let length = 0; length <= bytes.length; length++) {
    const whole = Math.floor(length / 17);
    expect(readAll([bytes.subarray(0, length)])).toMatchObject({ broken: undefined, leftOver: length - whole * 17 });
  }
});

/** The beginning of a frame with these lengths, its checksum right. */
function withPrelude(total: number, headers: number): Uint8Array {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(total, 0);
  bytes.writeUInt32BE(headers, 4);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8);
  return bytes;
}
