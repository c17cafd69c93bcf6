/** Any event and any whole answer, for properties of their codecs. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type ChatEvent, ChatEventSchema, type ChatResponse, ChatResponseSchema } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";

const text = fc.oneof(fc.constant(""), fc.string({ maxLength: 20 }), fc.string({ unit: "grapheme", minLength: 60, maxLength: 300 }));
const int32 = fc.oneof(fc.nat(3), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const int64 = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const extra = fc.record({ dialect: text, path: text, json: text });
const logprob = fc.record({ token: text, logprob: fc.double(), bytes: maybe(fc.uint8Array()) });

const logprobs = fc.record({ choice: int32, content: fc.array(logprob), refusal: fc.array(logprob) });
const usage = fc.record({
  inputTokens: maybe(int64),
  outputTokens: maybe(int64),
  totalTokens: maybe(int64),
  cachedInputTokens: maybe(int64),
  cacheWriteTokens: maybe(int64),
  reasoningTokens: maybe(int64),
  nativeJson: text,
});
const money = fc.record({ currency: text, micros: int64 });
const decision = fc.record({ filter: text, outcome: text, facts: fc.dictionary(text, text) });

/** Every kind of event, with every field at and away from its default. */
export const anyEvent: fc.Arbitrary<ChatEvent> = fc
  .oneof(
    fc.record({ case: fc.constant("start"), value: fc.record({ id: text, model: text, created: int64, route: text, provider: text }) }),
    fc.record({ case: fc.constant("text"), value: fc.record({ choice: int32, text }) }),
    fc.record({
      case: fc.constant("reasoning"),
      value: fc.record({ choice: int32, block: int32, text, signature: text, redacted: text, dialect: text }),
    }),
    fc.record({ case: fc.constant("refusal"), value: fc.record({ choice: int32, text }) }),
    fc.record({
      case: fc.constant("toolCall"),
      value: fc.record({ choice: int32, index: int32, id: text, name: text, argumentsJson: text }),
    }),
    fc.record({
      case: fc.constant("citation"),
      value: fc.record({ choice: int32, url: text, title: text, quote: text, native: maybe(extra) }),
    }),
    fc.record({
      case: fc.constant("logprobs"),
      value: logprobs,
    }),
    fc.record({
      case: fc.constant("finish"),
      value: fc.record({ choice: int32, reason: int32, nativeReason: text, stopSequence: text, detail: text }),
    }),
    fc.record({
      case: fc.constant("usage"),
      value: usage,
    }),
    fc.record({ case: fc.constant("warning"), value: fc.record({ code: text, field: text, message: text }) }),
    fc.record({ case: fc.constant("heartbeat"), value: fc.constant({}) }),
    fc.record({ case: fc.constant("extra"), value: fc.record({ choice: int32, extra: maybe(extra) }) }),
    fc.record({ case: fc.constant("decision"), value: decision }),
    fc.record({ case: fc.constant("embedding"), value: fc.record({ index: int32, values: fc.array(fc.float()) }) }),
    fc.record({
      case: fc.constant("end"),
      value: fc.record({ cost: maybe(money) }),
    }),
  )
  .map((event) => create(ChatEventSchema, { event } as never));

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
export const anyResponse: fc.Arbitrary<ChatResponse> = fc
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
        logprobs: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: logprobs }),
      }),
      { maxLength: 3 },
    ),
    usage: maybe(usage),
    warnings: rarely(fc.record({ code: text, field: text, message: text })),
    decisions: rarely(decision),
    cost: maybe(money),
  })
  .map((init) => create(ChatResponseSchema, init as never));
