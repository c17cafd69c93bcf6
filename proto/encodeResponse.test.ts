import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeResponse } from "./encodeResponse.ts";
import { CreateChatCompletionResponseSchema } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { type ChatResponse, ChatResponseSchema } from "./gen/outrigger/chat/v1/events_pb.ts";

const text = fc.oneof(fc.constant(""), fc.string({ maxLength: 20 }), fc.string({ unit: "grapheme", minLength: 60, maxLength: 300 }));
const int32 = fc.oneof(fc.nat(3), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const int64 = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

const part = fc.oneof(
  { weight: 8, arbitrary: fc.record({ content: fc.record({ case: fc.constant("text" as const), value: fc.record({ text }) }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      content: fc.record({ case: fc.constant("toolCall" as const), value: fc.record({ id: text, name: text, argumentsJson: text }) }),
    }),
  },
);
const rarely = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 9, arbitrary: fc.constant<T[]>([]) }, { weight: 1, arbitrary: fc.array(arbitrary, { minLength: 1, maxLength: 2 }) });

/** Answers, mostly of text alone, with every field at and away from its default. */
const anyResponse: fc.Arbitrary<ChatResponse> = fc
  .record({
    id: text,
    model: text,
    created: int64,
    route: text,
    provider: text,
    choices: fc.array(
      fc.record({
        index: int32,
        message: maybe(fc.record({ role: int32, parts: fc.array(part, { maxLength: 3 }), name: text })),
        finishReason: int32,
        nativeFinishReason: text,
        stopSequence: text,
        finishDetail: text,
        citations: rarely(fc.record({ choice: int32, url: text })),
      }),
      { maxLength: 3 },
    ),
    usage: maybe(
      fc.record({
        inputTokens: maybe(int64),
        outputTokens: maybe(int64),
        totalTokens: maybe(int64),
        cachedInputTokens: maybe(int64),
        cacheWriteTokens: maybe(int64),
        reasoningTokens: maybe(int64),
        nativeJson: text,
      }),
    ),
    warnings: rarely(fc.record({ code: text, field: text, message: text })),
    cost: maybe(fc.record({ currency: text, micros: int64 })),
  })
  .map((init) => create(ChatResponseSchema, init as never));

test("an answer is encoded as protobuf-es encodes it, byte for byte", () => {
  fc.assert(
    fc.property(anyResponse, fc.nat(8), (chat, headroom) => {
      const bytes = encodeResponse(chat, headroom, (length) => new Uint8Array(length).fill(0xee));
      expect([...bytes.subarray(0, headroom)]).toEqual(new Array(headroom).fill(0xee));
      const expected = toBinary(CreateChatCompletionResponseSchema, create(CreateChatCompletionResponseSchema, { chat }));
      expect(Buffer.from(bytes.subarray(headroom)).equals(Buffer.from(expected))).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("so are fields that this build does not know", () => {
  const chat = create(ChatResponseSchema, { id: "a" });
  chat.$unknown = [{ no: 99, wireType: 0, data: new Uint8Array([1]) }];
  const expected = toBinary(CreateChatCompletionResponseSchema, create(CreateChatCompletionResponseSchema, { chat }));
  expect(Buffer.from(encodeResponse(chat, 0, (length) => new Uint8Array(length))).equals(Buffer.from(expected))).toBe(true);
});
