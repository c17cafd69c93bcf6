/** Any request of a chat method, for properties of its codecs: every field at and away from its default, texts in every script. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  type CreateChatCompletionRequest,
  CreateChatCompletionRequestSchema,
} from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";

/** Lone surrogates are no text: UTF-8 cannot say them. */
const text = fc.oneof(
  fc.constant(""),
  fc.string({ maxLength: 12 }),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.constantFrom("\ufeff", "\ufffd", '"\\\n', "__proto__", "漢".repeat(70)),
);
const int32 = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constantFrom(2 ** 28 - 1));
const role = fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 5 }) }, { weight: 1, arbitrary: int32 });
const int64 = fc.oneof(
  fc.bigInt({ min: 0n, max: 300n }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom(2n ** 49n - 1n, 2n ** 49n, 2n ** 53n, -1n, -(2n ** 63n), 2n ** 63n - 1n),
);
const double = fc.oneof(
  { weight: 9, arbitrary: fc.double({ noDefaultInfinity: true, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY) },
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const few = <T>(arbitrary: fc.Arbitrary<T>) => fc.array(arbitrary, { maxLength: 3 });

const cache = maybe(fc.record({ ttl: text }));
const extra = fc.record({ dialect: text, path: text, json: text });
const media = fc.record({
  source: fc.oneof(
    fc.record({ case: fc.constantFrom("url", "fileId"), value: text }),
    fc.record({ case: fc.constant("data"), value: fc.uint8Array({ maxLength: 40 }) }),
    fc.constant({ case: undefined }),
  ),
  mediaType: text,
  detail: text,
  filename: text,
});

const { part } = fc.letrec<{ part: unknown }>((tie) => ({
  part: fc.record({
    cache,
    content: fc.oneof(
      { depthSize: "small" },
      fc.record({ case: fc.constantFrom("text", "refusal"), value: fc.record({ text }) }),
      fc.record({ case: fc.constantFrom("image", "audio", "file"), value: media }),
      fc.record({ case: fc.constant("toolCall"), value: fc.record({ id: text, name: text, argumentsJson: text }) }),
      fc.record({ case: fc.constant("reasoning"), value: fc.record({ text, signature: text, redacted: text, dialect: text }) }),
      fc.record({ case: fc.constant("extra"), value: extra }),
      fc.constant({ case: undefined }),
      fc.record({
        case: fc.constant("toolResult"),
        value: fc.record({ toolCallId: text, parts: few(tie("part")), isError: fc.boolean() }),
      }),
    ),
  }),
}));

/** A request, with and without each field that may be absent. */
export const anyRequest: fc.Arbitrary<CreateChatCompletionRequest> = fc
  .record({
    validateOnly: fc.boolean(),
    chat: maybe(
      fc.record(
        {
          model: text,
          messages: few(fc.record({ role, parts: few(part), name: text })),
          tools: few(fc.record({ name: text, description: text, parametersJson: text, strict: maybe(fc.boolean()), cache })),
          toolChoice: fc.oneof(
            fc.record({ choice: fc.record({ case: fc.constant("mode"), value: int32 }) }),
            fc.record({ choice: fc.record({ case: fc.constant("tool"), value: text }) }),
          ),
          parallelToolCalls: fc.boolean(),
          responseFormat: fc.oneof(
            fc.record({ format: fc.record({ case: fc.constantFrom("text", "jsonObject"), value: fc.constant({}) }) }),
            fc.record({
              format: fc.record({
                case: fc.constant("jsonSchema"),
                value: fc.record({ name: text, description: text, schemaJson: text, strict: maybe(fc.boolean()) }),
              }),
            }),
          ),
          maxOutputTokens: int64,
          temperature: double,
          topP: double,
          topK: int64,
          stop: few(text),
          n: int32,
          seed: int64,
          presencePenalty: double,
          frequencyPenalty: double,
          logitBias: fc.dictionary(
            text.filter((key) => key !== "__proto__"),
            double,
            { maxKeys: 3 },
          ),
          logprobs: fc.record({ top: int32 }),
          reasoning: fc.record({
            amount: fc.oneof(
              fc.record({ case: fc.constant("effort"), value: text }),
              fc.record({ case: fc.constant("budgetTokens"), value: int64 }),
            ),
            thinking: maybe(fc.boolean()),
          }),
          user: text,
          serviceTier: text,
          extras: few(extra),
          rawPrompt: fc.boolean(),
        },
        { requiredKeys: ["model", "messages"] },
      ),
    ),
  })
  .map((init) => create(CreateChatCompletionRequestSchema, init as never));
