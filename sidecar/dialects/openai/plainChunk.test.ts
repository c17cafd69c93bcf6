import { toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { SseBlock } from "../../framing/sse.ts";
import { PlainChunks } from "./plainChunk.ts";
import { readAnswer } from "./readAnswer.ts";

const request: ChatRequest = {
  $typeName: "outrigger.chat.v1.ChatRequest",
  model: "m",
  messages: [],
  tools: [],
  stop: [],
  logitBias: {},
  user: "",
  serviceTier: "",
  extras: [],
};

/** The events of a stream that comes in the given pieces, and how it failed. */
function read(pieces: readonly Uint8Array[]): unknown {
  let ids = 0;
  const reader = readAnswer({
    request,
    streaming: true,
    model: "upstream-model",
    route: "r",
    provider: "p",
    nativeStreamUsage: false,
    answerBytesMax: 1 << 20,
    newId: (prefix) => prefix + ++ids,
  });
  const batches = [...pieces.flatMap((piece) => [...reader.read(piece)]), ...reader.end()];
  return { events: batches.flat().map((event) => toJson(ChatEventSchema, event)), failure: reader.failure?.message };
}

function frames(chunks: readonly string[]): Uint8Array {
  return Buffer.from(chunks.map((chunk) => `data: ${chunk}\n\n`).join(""));
}

/** Chunks that are alike but for a little, written by hand so that spelling varies too. */
const words = fc.oneof(
  fc.constantFrom('"a"', '" the"', '""', '"\\""', '"\\\\"', '"\\u0061"', '"漢🦊"', '"\\ud83e"', '"}],"', "null", "[]", "1", '["x"]', '"a'),
  fc.string({ unit: "grapheme", maxLength: 5 }).map((text) => JSON.stringify(text)),
);
const chunk = fc
  .record({
    words,
    index: fc.constantFrom("0", "0", "0", "1"),
    member: fc.constantFrom("content", "content", "reasoning_content", "reasoning"),
    others: fc.constantFrom(
      "",
      "",
      "",
      ',"content":null',
      ',"reasoning_content":null,"reasoning":""',
      ',"reasoning":"so"',
      ',"refusal":"no"',
      ',"tool_calls":[{"index":0,"function":{"arguments":"n"}}]',
      ',"reasoning_content":"hm"',
      ',"content":"b"',
    ),
    finish: fc.constantFrom("null", "null", "null", '"stop"'),
    behind: fc.constantFrom(
      "",
      ',"obfuscation":"xyz"',
      ',"obfuscation":"x"',
      ',"obfuscation":"\\u0061"',
      ',"obfuscation":1',
      ',"usage":null',
      ',"usage":{"prompt_tokens":1}',
      ',"p":"a","error":null',
      ',"error":"no"',
      ',"x":"y"',
    ),
    before: fc.constantFrom("", "", "", '"usage":{"prompt_tokens":2},', '"error":{"message":"no"},'),
    end: fc.constantFrom("", "", "", "", " ", "x"),
  })
  .map(
    ({ words, index, member, others, finish, behind, before, end }) =>
      `{"id":"i",${before}"choices":[{"index":${index},"delta":{"${member}":${words}${others}},"finish_reason":${finish}}]${behind}}${end}`,
  );

/** A frame's JSON where it stands among other bytes. */
function placed(json: string): [SseBlock, number, number] {
  const bytes = Buffer.from(`é data: ${json}\n`);
  return [new SseBlock(bytes), Buffer.byteLength("é data: "), bytes.length - 1];
}

function learn(template: PlainChunks, json: string): void {
  template.learn(...placed(json), 0, "content");
}

function match(template: PlainChunks, json: string): string | undefined {
  return template.match(...placed(json));
}

describe("plain chunks", () => {
  test("say the same by template as by parsing", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 12 }), (chunks) => {
        const bytes = frames(chunks);
        // A blank before the brace of every other chunk keeps it from fitting a template that was learned before.
        const apart = frames(chunks.map((text, i) => " ".repeat(i) + text));
        const parsed = read([apart]);
        expect(read([bytes])).toEqual(parsed);
        expect(read(cutEverywhere(bytes))).toEqual(parsed);
      }),
      { numRuns: 2000 },
    );
  });

  const plain = (content: string, more = ',"obfuscation":"abc"'): string =>
    `{"id":"1","choices":[{"index":0,"delta":{"content":${content}},"finish_reason":null}]${more}}`;

  test("fit when only the words and the padding differ", () => {
    const template = new PlainChunks();
    expect(match(template, plain('"a"'))).toBeUndefined();
    learn(template, plain('"a"'));
    for (const [text, expected] of [
      [plain('" there"'), " there"],
      [plain('"\\n\\"\\u00e9"'), '\n"é'],
      [plain('""'), ""],
      [plain('"漢🦊é"'), "漢🦊é"],
      [plain('"漢\\n"'), "漢\n"],
      [plain('"a"', ',"obfuscation":""'), "a"],
      [plain('"a"', ',"obfuscation":"0123456789"'), "a"],
    ] as const) {
      expect(match(template, text)).toBe(expected);
    }
  });

  test.each([
    plain("null"),
    plain('"a","x":1'),
    plain('"a"', ""),
    plain('"a"', ',"obfuscation":"a","error":{}'),
    plain('"a"', ',"obfuscation":"\\u0061"'),
    plain('"a"', ',"usage":"abc"'),
    `${plain('"a"')}x`,
    plain('"a\u0001"'),
    plain('"\\x"'),
    plain('"a'),
    plain('"a"').slice(0, -1),
    plain('"a"').replace("null", '"stop"'),
    "",
    "[DONE]",
  ])("do not fit: %s", (text) => {
    const template = new PlainChunks();
    learn(template, plain('"a"'));
    expect(match(template, text)).toBeUndefined();
  });

  test("do not fit with anything behind a template that ends with the words' envelope", () => {
    const template = new PlainChunks();
    learn(template, plain('"a"', ""));
    expect(match(template, plain('"b"', ""))).toBe("b");
    expect(match(template, `${plain('"b"', "")}x`)).toBeUndefined();
    expect(match(template, plain('"b"', ',"usage":{}'))).toBeUndefined();
  });

  test("are given up on where every envelope is another", () => {
    const template = new PlainChunks();
    for (let i = 0; i < 100; i++) learn(template, `{"created":${i},"choices":[{"delta":{"content":"a"}}]}`);
    expect(match(template, '{"created":99,"choices":[{"delta":{"content":"a"}}]}')).toBeUndefined();
  });
});
