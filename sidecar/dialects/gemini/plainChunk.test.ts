import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { isObject, type JsonObject } from "../../framing/json.ts";
import { type SseFrame, SseReader } from "../../framing/sse.ts";
import { geminiClient } from "./gemini.ts";
import { PlainChunks } from "./plainChunk.ts";

const client = geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] });

/** What a stream is read as: its events, and why it failed. */
function read(pieces: readonly Uint8Array[]) {
  const { batches, events, failure } = readPieces(client, pieces);
  const usages = events.flatMap((each) => (each.case === "usage" ? [each.value] : []));
  const reason = failure === undefined ? undefined : [failure.kind.name, failure.message];
  return { batches, said: events.filter((each) => each.case !== "usage"), usages, lastUsage: usages.at(-1), reason };
}

/** Each chunk as a frame; cut the other way, the same frame may have a line end less. */
const frames = (chunks: readonly string[]): Uint8Array[] => chunks.map((chunk) => Buffer.from(`data: ${chunk}\r\n\r\n`));

/** Chunks that are alike but for a little, written by hand so that spelling varies too. */
const words = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('"a"', '" the"', '""', '"\\""', '"\\\\"', '"\\u0061"', '"漢🦊"', '"\\ud83e"', '"}],"') },
  {
    weight: 1,
    arbitrary: fc.constantFrom("null", "[]", "1", '"a', '"\\x"', '"\u0001"', '"a","text":"b"', '"a","functionCall":{"name":"f"}'),
  },
  { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 5 }).map((text) => JSON.stringify(text)) },
);
const count = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 2000 }).map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "007",
      "1.5",
      "2e3",
      "-1",
      "-",
      "",
      '"7"',
      "null",
      "999999999999999",
      "1000000000000000",
      "9007199254740993",
    ),
  },
);
const usually = (plain: string, ...others: string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: 8, arbitrary: fc.constant(plain) }, { weight: 1, arbitrary: fc.constantFrom(plain, ...others) });
const chunk = fc
  .record({
    words,
    counts: fc.tuple(count, count),
    part: usually("", ',"thought":true', ',"thought":true', ',"thought":false', ',"thoughtSignature":"c2ln"', ',"more":1'),
    parts: usually("", ',{"text":"b"}', ',{"executableCode":{"code":"x"}}', ",null"),
    index: usually(',"index":0', "", ',"index":1', ',"index":-1', ',"index":0,"index":1'),
    candidate: usually(
      "",
      ',"finishReason":"STOP"',
      ',"finishMessage":"m"',
      ',"safetyRatings":[{"category":"C"}]',
      ',"citationMetadata":{"citations":[{"uri":"u"}]}',
      ',"groundingMetadata":{"groundingChunks":[{"web":{"uri":"w"}}]}',
      ',"logprobsResult":{"chosenCandidates":[{"token":"a","logProbability":-1}]}',
    ),
    candidates: usually("", ',{"index":2,"content":{"parts":[{"text":"c"}]}}', ",1"),
    usage: usually("counts", "fewer", "more", "traffic", "none", "null", "before", "twice"),
    behind: usually(
      "",
      ',"promptFeedback":{"blockReason":"SAFETY"}',
      ',"error":{"code":500,"message":"no","status":"INTERNAL"}',
      ',"error":null',
      ',"responseId":"1"',
      ',"createTime":"2026-01-01T00:00:00Z"',
    ),
    end: usually("", " ", "x", "\u0000"),
  })
  .map(({ words, counts, part, parts, index, candidate, candidates, usage, behind, end }) => {
    const [answer, total] = counts;
    const details = `"promptTokensDetails": [{"modality": "TEXT","tokenCount": 9},{"1":"2 3"}]`;
    const all = `{"promptTokenCount": 9,"candidatesTokenCount": ${answer},"totalTokenCount":${total} ,${details}}`;
    const usages: Record<string, string> = {
      counts: `,"usageMetadata": ${all}`,
      fewer: `,"usageMetadata": {"promptTokenCount": 9,"totalTokenCount": ${total}}`,
      more: `,"usageMetadata": {"thoughtsTokenCount": ${answer},"promptTokenCount": 9,"totalTokenCount": ${total}}`,
      traffic: `,"usageMetadata": {"trafficType": "ON_DEMAND ${answer}"}`,
      null: ',"usageMetadata": null',
      twice: `,"usageMetadata": {"totalTokenCount":${answer}},"usageMetadata": {"totalTokenCount":${total}}`,
    };
    const before = usage === "before" ? `"usageMetadata":${all},` : "";
    const only = `{"content": {"parts": [{"text": ${words}${part}}${parts}],"role": "model"}${index}${candidate}}`;
    return `{${before}"candidates": [${only}${candidates}]${usages[usage] ?? ""},"modelVersion":"m"${behind}}${end}`;
  });

/** The frame that a chunk comes in, behind another one, and its JSON. */
function framed(chunk: string): SseFrame {
  const frame = new SseReader(1000).read(Buffer.from(`: é\r\n\r\ndata: ${chunk}\r\n\r\n`)).frames.at(-1);
  if (frame === undefined) throw new Error("there is a frame");
  return frame;
}

function learned(chunk: string): PlainChunks {
  const plain = new PlainChunks();
  const response: unknown = JSON.parse(chunk);
  if (!isObject(response)) throw new Error("a response is an object");
  plain.learn(framed(chunk), response satisfies JsonObject);
  return plain;
}

const plainChunk = (text: string, answer = "4", total = "13", more = ""): string =>
  `{"candidates": [{"content": {"parts": [{"text": ${text}}],"role": "model"},"index": 0}],` +
  `"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": ${answer},"totalTokenCount": ${total}},"modelVersion": "gemini-9"${more}}`;

describe("plain chunks", () => {
  it("say the same by template as by parsing, read by read", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 12 }), fc.nat(), (chunks, seed) => {
        const plain = frames(chunks);
        // One more blank before the brace of every chunk keeps it from fitting a template that was learned before.
        const parsed = frames(chunks.map((text, i) => " ".repeat(i) + text));
        // Several frames come in one read, and the same ones in both.
        const random = seededRandom(seed);
        const reads = chunks.map(() => random.below(3) === 0).flatMap((ends, i) => (ends ? [i + 1] : []));
        const grouped = (all: readonly Uint8Array[]): Uint8Array[] =>
          [...reads, all.length].map((to, i) => Buffer.concat(all.slice(reads[i - 1] ?? 0, to)));
        expect(read(grouped(plain))).toEqual(read(grouped(parsed)));
        expect(read(plain)).toEqual(read(parsed));
      }),
      { numRuns: 2000 },
    );
  });

  it("say the same however the stream is cut, but for how often they tell their usage", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 8 }), fc.nat(), (chunks, seed) => {
        const whole = Buffer.concat(frames(chunks));
        const { said, lastUsage, reason } = read(frames(chunks.map((text, i) => " ".repeat(i) + text)));
        for (const pieces of [[whole], cutEverywhere(whole), cutAtRandom(whole, 4, seededRandom(seed))]) {
          expect(read(pieces)).toMatchObject({ said, lastUsage, reason });
        }
      }),
      { numRuns: 500 },
    );
  });

  it("fit when only their words and counts differ", () => {
    const plain = learned(plainChunk('"a"'));
    for (const [chunk, text, usage] of [
      [plainChunk('" there"'), " there", [9, 4, 13]],
      [plainChunk('"\\n\\"\\u00e9"', "0", "9"), '\n"é', [9, 0, 9]],
      [plainChunk('""', "123456789012345", "1"), "", [9, 123456789012345, 1]],
      [plainChunk('"漢🦊é"', "1000", "1009").replace("9,", "8,"), "漢🦊é", [8, 1000, 1009]],
    ] as const) {
      const frame = framed(chunk);
      expect(plain.match(frame)).toBe(text);
      expect(Object.values(JSON.parse(frame.block.slice(plain.usageStart, plain.usageEnd)))).toEqual(usage);
    }
    expect([plain.candidate, plain.thought, plain.usageCounts]).toEqual([0, false, true]);
  });

  it.each([
    ["words", plainChunk("null")],
    ["words without an end", plainChunk('"a')],
    ["a control character", plainChunk('"a\u0001"')],
    ["a broken escape", plainChunk('"\\x"')],
    ["a number with a zero before it", plainChunk('"a"', "04")],
    ["a fraction", plainChunk('"a"', "4.5")],
    ["an exponent", plainChunk('"a"', "4e1")],
    ["a sign", plainChunk('"a"', "-4")],
    ["a number that JavaScript would round", plainChunk('"a"', "1234567890123456")],
    ["no number", plainChunk('"a"', "")],
    ["an end", plainChunk('"a"').replace('"index"', '"finishReason": "STOP","index"')],
    ["another index", plainChunk('"a"').replace('"index": 0', '"index": 1')],
    ["another member", plainChunk('"a"', "4", "13", ',"error": {}')],
    ["another part", plainChunk('"a","thought": true')],
    ["something behind it", `${plainChunk('"a"')}x`],
    ["less", plainChunk('"a"').slice(0, -1)],
  ])("do not fit with %s", (_, chunk) => {
    expect(learned(plainChunk('"a"')).match(framed(chunk))).toBeUndefined();
  });

  it.each([
    ["an end", plainChunk('"a"').replace('"index"', '"finishReason": "STOP","index"')],
    ["sources", plainChunk('"a"').replace('"index"', '"groundingMetadata": {},"index"')],
    ["a signature", plainChunk('"a","thoughtSignature": "c2ln"')],
    ["two parts", plainChunk('"a"},{"text": "b"')],
    ["judged prompts", plainChunk('"a"', "4", "13", ',"promptFeedback": {}')],
    ["usage before the words", `{"usageMetadata": {"totalTokenCount": 1},"candidates": [{"content": {"parts": [{"text": "a"}]}}]}`],
  ])("are not learned from a chunk with %s", (_, chunk) => {
    expect(learned(chunk).match(framed(chunk))).toBeUndefined();
  });

  it("may be thinking, another candidate's words, or without usage", () => {
    const chunk = '{"candidates": [{"content": {"parts": [{"thought": true,"text": "a"}]},"index": 2}]}';
    const plain = learned(chunk);
    expect([plain.match(framed(chunk)), plain.candidate, plain.thought, plain.usageCounts]).toEqual(["a", 2, true, undefined]);
    const traffic = learned(chunk.replace("]}", '],"role": "model"}').replace("}]}", '}],"usageMetadata": {"trafficType": "ON_DEMAND"}}'));
    expect(traffic.usageCounts).toBe(false);
  });
});
