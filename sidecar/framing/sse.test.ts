import { createParser } from "eventsource-parser";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type SseBlock, SseReader } from "./sse.ts";

const LIMIT = 1 << 20;

interface Seen {
  readonly event: string;
  readonly data: string;
}

/** The frames of a stream that arrives in the given pieces, and the bytes of their ranges, joined. */
function readAll(
  pieces: readonly Uint8Array[],
  limit = LIMIT,
): { events: Seen[]; comments: string[]; ranges: Uint8Array; tooLong: boolean } {
  const reader = new SseReader(limit);
  const events: Seen[] = [];
  const comments: string[] = [];
  const ranges: Uint8Array[] = [];
  let tooLong = false;
  const take = (block: SseBlock): void => {
    tooLong ||= block.tooLong;
    for (const frame of block.frames) {
      if (frame.kind === "data") events.push({ event: frame.event, data: frame.text() });
      if (frame.kind === "comment") comments.push(frame.text());
      ranges.push(block.bytes.slice(frame.start, frame.end));
    }
  };
  for (const piece of pieces) take(reader.read(piece));
  take(reader.end());
  return { events, comments, ranges: Buffer.concat(ranges), tooLong };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function cut(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const points = [...new Set(at.map((point) => (bytes.length === 0 ? 0 : point % bytes.length)))].sort((a, b) => a - b);
  return [0, ...points].map((point, i) => bytes.slice(point, points[i] ?? bytes.length));
}

function byteByByte(bytes: Uint8Array): Uint8Array[] {
  return Array.from(bytes, (byte) => Uint8Array.of(byte));
}

/** What an independent reader makes of the same text. A last event without its blank line is no event to it. */
function oracle(text: string): Seen[] {
  const events: Seen[] = [];
  const parser = createParser({ onEvent: (event) => events.push({ event: event.event ?? "", data: event.data }) });
  parser.feed(text);
  return events;
}

const lineEnd = fc.constantFrom("\n", "\r\n", "\r");
const word = fc.string({ unit: fc.constantFrom("a", ":", " ", "é", "漢", "🦊", "{", '"', "\\", "\u0085", "\u2028"), maxLength: 8 });
const line = fc.oneof(
  fc.tuple(fc.constantFrom("data:", "data: ", "data"), word).map(([field, text]) => (field === "data" ? field : field + text)),
  word.map((text) => `event: ${text}`),
  word.map((text) => `:${text}`),
  word.map((text) => `id: ${text.replaceAll("\u0000", "")}`),
  fc.constant("retry: 10"),
  word.map((text) => `datab: ${text}`),
  fc.constant(""),
);
const stream = fc.array(fc.tuple(line, lineEnd), { maxLength: 30 }).map((lines) => lines.map(([text, end]) => text + end).join(""));

describe("frames", () => {
  test("are what an independent reader finds, however the bytes are cut", () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat(), { maxLength: 8 }), (text, points) => {
        const closed = `${text}\n\n`;
        const expected = oracle(closed);
        expect(readAll(cut(bytesOf(closed), points)).events).toEqual(expected);
        expect(readAll(byteByByte(bytesOf(closed))).events).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  test("give their bytes back whole: ranges touch and leave out nothing but floods of blank lines", () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat(), { maxLength: 8 }), (text, points) => {
        const bytes = bytesOf(`${text}data: end\n\n`);
        const whole = Buffer.from(readAll([bytes]).ranges).toString();
        expect(whole).toBe(Buffer.from(bytes).toString());
        const inPieces = Buffer.from(readAll(cut(bytes, points)).ranges).toString();
        // Blank lines that no frame follows in their read may be missing; nothing else may.
        const withoutBlanks = (ranges: string): string => ranges.replaceAll(/[\r\n]+/g, "\n").replace(/^\n/, "");
        expect(withoutBlanks(inPieces)).toBe(withoutBlanks(whole));
      }),
      { numRuns: 500 },
    );
  });

  test("keep every byte where lines end in LF and no line is needless", () => {
    const bytes = bytesOf('data: {"a":1}\n\nevent: x\ndata: {"é":2}\n\n: ping\n\ndata: [DONE]\n\n');
    for (let point = 0; point < bytes.length; point++) {
      expect(Buffer.from(readAll(cut(bytes, [point])).ranges)).toEqual(Buffer.from(bytes));
    }
    expect(Buffer.from(readAll(byteByByte(bytes)).ranges)).toEqual(Buffer.from(bytes));
  });

  test("know data with and without a blank, and several data lines (lesson 31)", () => {
    expect(readAll([bytesOf("data:{}\n\ndata: a\ndata:b\ndata\n\ndata:  two\n\n")]).events).toEqual([
      { event: "", data: "{}" },
      { event: "", data: "a\nb\n" },
      { event: "", data: " two" },
    ]);
  });

  test("survive a cut inside a character", () => {
    const bytes = bytesOf("data: 漢🦊é\n\n");
    for (let point = 0; point < bytes.length; point++) {
      expect(readAll(cut(bytes, [point])).events).toEqual([{ event: "", data: "漢🦊é" }]);
    }
  });

  test("skip a byte order mark at the beginning and nowhere else", () => {
    const bytes = bytesOf("\uFEFFdata: a\n\ndata: \uFEFFb\n\n");
    for (const pieces of [[bytes], byteByByte(bytes)]) {
      expect(readAll(pieces).events).toEqual([
        { event: "", data: "a" },
        { event: "", data: "\uFEFFb" },
      ]);
    }
  });

  test("report comments, with the blank line that closes them", () => {
    const { comments, ranges } = readAll([bytesOf(": keep-alive\n\n:\ndata: a\n: inside\n\n")]);
    expect(comments).toEqual([" keep-alive", ""]);
    expect(Buffer.from(ranges).toString()).toBe(": keep-alive\n\n:\ndata: a\n: inside\n\n");
  });

  test("are given without waiting for more once they are whole", () => {
    const reader = new SseReader(LIMIT);
    expect(reader.read(bytesOf("data: a\r\n\r")).frames.map((frame) => frame.text())).toEqual(["a"]);
    expect(reader.read(bytesOf("\ndata: b\r\n")).frames).toEqual([]);
    expect(reader.read(bytesOf("\r\n")).frames.map((frame) => frame.text())).toEqual(["b"]);
    expect(reader.read(bytesOf(":\n")).frames.map((frame) => frame.kind)).toEqual(["comment"]);
  });

  test("include a last event without its blank line, even without a line end", () => {
    expect(readAll([bytesOf("data: a\n\ndata: b\n")]).events.map((seen) => seen.data)).toEqual(["a", "b"]);
    expect(readAll([bytesOf("data: a\n\nevent: x\ndata: b")]).events).toEqual([
      { event: "", data: "a" },
      { event: "x", data: "b" },
    ]);
  });

  test("do not copy what lies whole in one read", () => {
    const bytes = bytesOf("data: a\n\ndata: b\n\n");
    const block = new SseReader(LIMIT).read(bytes);
    expect(block.bytes).toBe(bytes);
  });

  test("keep their text after later reads", () => {
    const reader = new SseReader(LIMIT);
    reader.read(bytesOf("data: fir"));
    const first = reader.read(bytesOf("st\n\ndata: sec")).frames;
    reader.read(bytesOf("ond, which is much longer than what was there before\n\ndata: third"));
    reader.read(bytesOf(" and so on and so on and so on and so on and so on\n\n"));
    expect(first.map((frame) => frame.text())).toEqual(["first"]);
  });
});

describe("the limit", () => {
  test("ends the reading at the same frame, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.constantFrom("\n", "\r\n"),
        (limit, points, end) => {
          const bytes = bytesOf(["data: short", "", `event: name`, "data: a longer one", "", "data: b", "", ""].join(end));
          const whole = readAll([bytes], limit);
          const sizes = [11, 11 + end.length + 18, 7];
          const firstTooLong = sizes.findIndex((size) => size > limit);
          expect(whole.tooLong).toBe(firstTooLong !== -1);
          expect(whole.events.length).toBe(firstTooLong === -1 ? 3 : firstTooLong);
          const inPieces = readAll(cut(bytes, points), limit);
          expect({ ...inPieces, ranges: undefined }).toEqual({ ...whole, ranges: undefined });
        },
      ),
    );
  });

  test("holds for a line that never ends, and for memory", () => {
    const reader = new SseReader(1000);
    const piece = new Uint8Array(100).fill(0x61);
    let reads = 0;
    while (!reader.read(piece).tooLong) reads++;
    expect(reads).toBe(10);
    expect(reader.read(bytesOf("\n\ndata: a\n\n")).frames).toEqual([]);
  });

  test("does not count blank lines, which are not kept", () => {
    const reader = new SseReader(20);
    for (let i = 0; i < 100; i++) expect(reader.read(bytesOf("\n\n\n\n\n\n")).tooLong).toBe(false);
    const block = reader.read(bytesOf("data: a\n\n"));
    expect(block.frames.map((frame) => frame.text())).toEqual(["a"]);
    expect(block.bytes.length).toBeLessThan(20);
  });
});
