/** Protobuf-es is the measure: all that is read by hand, it reads to the same message. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CreateChatCompletionRequestSchema } from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { type ChatRequest, ChatRequestSchema, PartSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { anyRequest } from "../../../test/kit/anyRequest.ts";
import { ELEMENTS_MAX } from "../../framing/elements.ts";
import { readAsked } from "./chatReader.ts";

const schema = CreateChatCompletionRequestSchema;
const read = { readUnknownFields: false, recursionLimit: 64 };

/** What protobuf-es makes of bytes, or undefined if it refuses them. */
function expected(bytes: Uint8Array) {
  try {
    const { chat, validateOnly } = fromBinary(schema, bytes, read);
    return { chat, validateOnly };
  } catch {
    return undefined;
  }
}

const field = (number: number, wireType: number, ...content: number[]) => Buffer.of((number << 3) | wireType, ...content);
const within = (number: number, content: Uint8Array) => Buffer.concat([lengthed(number, content.byteLength), content]);
function lengthed(number: number, length: number): Buffer {
  const bytes = [(number << 3) | 2];
  for (let rest = length; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.of(...bytes, rest);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

describe("readAsked", () => {
  test("reads every message that is encoded as usual, to what protobuf-es reads", () => {
    fc.assert(
      fc.property(anyRequest, fc.boolean(), (message, asBuffer) => {
        const encoded = toBinary(schema, message);
        const bytes = asBuffer ? Buffer.from(encoded) : encoded;
        const found = readAsked(bytes);
        expect(found).toBeDefined();
        expect(found).toEqual(expected(bytes));
      }),
      { numRuns: process.env.OUTRIGGER_LONG === undefined ? 500 : 10_000 },
    );
  });

  test("bytes that are changed, cut, doubled or put in anywhere are read as protobuf-es reads them, or not at all", () => {
    const change = fc.record({ at: fc.nat(), remove: fc.nat(3), put: fc.oneof(fc.uint8Array({ maxLength: 3 }), frequentBytes) });
    let readCount = 0;
    fc.assert(
      fc.property(anyRequest, fc.array(change, { minLength: 1, maxLength: 2 }), (message, changes) => {
        let bytes: Uint8Array = toBinary(schema, message);
        for (const { at, remove, put } of changes) {
          const from = at % (bytes.byteLength + 1);
          bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + remove)]);
        }
        const found = readAsked(bytes);
        if (found === undefined) return;
        readCount++;
        expect(found).toEqual(expected(bytes));
      }),
      { numRuns: process.env.OUTRIGGER_LONG === undefined ? 3_000 : 100_000 },
    );
    expect(readCount).toBeGreaterThan(100);
  });

  test("objects of a kind have one shape, whatever is in them", () => {
    const small = readAsked(toBinary(schema, create(schema, { chat: { model: "m", messages: [{ role: 3, parts: [{}] }], tools: [{}] } })));
    const large = readAsked(toBinary(schema, create(schema, { chat: everything })));
    const shape = (value: object | undefined) => Object.keys(value ?? {});
    expect(shape(large?.chat)).toEqual(shape(small?.chat));
    expect(shape(large?.chat?.messages[0])).toEqual(shape(small?.chat?.messages[0]));
    expect(shape(large?.chat?.messages[0]?.parts[0])).toEqual(shape(small?.chat?.messages[0]?.parts[0]));
    expect(shape(large?.chat?.tools[0])).toEqual(shape(small?.chat?.tools[0]));
    const fields = ChatRequestSchema.fields.map(({ localName }) => localName);
    expect(shape(small?.chat)).toEqual(["$typeName", ...fields]);
  });

  test.each<[string, Uint8Array]>([
    ["a message twice, which is merged", Buffer.concat([within(1, within(1, Buffer.from("a"))), within(1, field(5, 0, 1))])],
    ["two pieces of content in one part", within(1, within(2, within(2, Buffer.concat([within(1, field(9, 0)), within(8, field(9, 0))]))))],
    ["a field of the wrong wire type", within(1, field(1, 0, 1, 0x61))],
    ["a group that nobody knows", Buffer.concat([field(14, 3), field(14, 4)])],
    ["a message that runs into what follows", Buffer.concat([field(1, 2, 3), field(1, 2, 2), Buffer.from("ab")])],
    ["text that is not UTF-8", within(1, within(1, Buffer.of(0xff)))],
    ["half a pair of surrogates as UTF-8", within(1, within(1, Buffer.of(0xed, 0xa0, 0x80)))],
    [
      "a token bias by the name of the prototype",
      within(1, Buffer.concat([Buffer.of(0x82, 0x01, 11), within(1, Buffer.from("__proto__"))])),
    ],
    ["a length beyond the end", field(1, 2, 200, 1)],
    ["nothing behind a tag", field(2, 0)],
    ["the number 0 of a field", Buffer.of(0, 0)],
  ])("leaves %s to protobuf-es", (_, bytes) => {
    expect(readAsked(bytes)).toBeUndefined();
  });

  test.each<[string, Uint8Array]>([
    ["nothing at all", Buffer.alloc(0)],
    ["an empty conversation", within(1, Buffer.alloc(0))],
    [
      "fields of later versions, of every kind",
      within(1, Buffer.concat([0xf8, 0xf9, 0xfa, 0xfd].map((tag) => Buffer.of(tag, 0x01, ...(laterValues.get(tag & 7) ?? []))))),
    ],
    [
      "the same scalar twice, of which the last counts",
      within(1, Buffer.concat([within(1, Buffer.from("a")), within(1, Buffer.from("b"))])),
    ],
    ["a replacement character that was meant, and a byte order mark", within(1, within(1, Buffer.from("\ufeff\ufffd")))],
    ["the least number of 64 bits", within(1, field(13, 0, ...new Array(9).fill(0x80), 1))],
  ])("reads %s", (_, bytes) => {
    expect(readAsked(bytes)).toBeDefined();
    expect(readAsked(bytes)).toEqual(expected(bytes));
  });

  test("is as deep as protobuf-es, or less", () => {
    for (let depth = 1; depth < 70; depth++) {
      let part = toBinary(PartSchema, create(PartSchema, { content: { case: "text", value: { text: "a" } } }));
      for (let level = 0; level < depth; level++) part = within(6, within(2, part));
      const bytes = within(1, within(2, within(2, part)));
      const found = readAsked(bytes);
      if (found !== undefined) expect(found).toEqual(expected(bytes));
      expect(found === undefined).toBe(depth > 29);
    }
  });

  test("counts what it makes", () => {
    const stops = (count: number) => {
      const content = Buffer.alloc(2 * count, field(11, 2, 0));
      return Buffer.concat([lengthed(1, content.byteLength), content]);
    };
    // The conversation itself is a field, too.
    expect(readAsked(stops(ELEMENTS_MAX - 1))?.chat?.stop.length).toBe(ELEMENTS_MAX - 1);
    expect(readAsked(stops(ELEMENTS_MAX))).toBeUndefined();
  });
});

/** A value of each wire type that has no group. */
const laterValues = new Map([
  [0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
  [1, [1, 2, 3, 4, 5, 6, 7, 8]],
  [2, [2, 0x0a, 0x0b]],
  [5, [1, 2, 3, 4]],
]);

/** Bytes that mean something where a field begins. */
const frequentBytes = fc.constantFrom(
  Buffer.of(0x0a, 0),
  Buffer.of(0x12, 0),
  Buffer.of(0x10, 1),
  Buffer.of(0x0b),
  Buffer.of(0x0c),
  Buffer.of(0x80, 0),
  Buffer.of(0xff, 0xff, 0xff, 0xff, 0x0f),
  Buffer.of(0xc0, 0x80),
);

const everything: ChatRequest = create(ChatRequestSchema, {
  model: "m",
  messages: [{ role: 3, name: "n", parts: [{ content: { case: "text", value: { text: "t" } }, cache: { ttl: "5m" } }] }],
  tools: [{ name: "f", description: "d", parametersJson: "{}", strict: false, cache: {} }],
  toolChoice: { choice: { case: "tool", value: "f" } },
  parallelToolCalls: false,
  responseFormat: { format: { case: "text", value: {} } },
  maxOutputTokens: 0n,
  temperature: 0,
  topP: 0,
  topK: 0n,
  stop: ["s"],
  n: 0,
  seed: -1n,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: { "1": 0 },
  logprobs: {},
  reasoning: {},
  user: "u",
  serviceTier: "s",
  extras: [{}],
  rawPrompt: false,
});
