import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CreateChatCompletionRequestSchema,
  StreamChatCompletionRequestSchema,
} from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { type ChatRequest, ChatRequestSchema, type MessageSchema, type Part, PartSchema } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { validateChat } from "./validateChat.ts";

type Init = MessageInitShape<typeof ChatRequestSchema>;

const oracle = createValidator();

/**
 * The paths of the fields that protovalidate finds at fault. Its version 1.3.0 does not look into parts within tool results (it takes
 * a rule out of its plan while the plan of the recursive message is not yet made), so those are given to it one by one.
 */
function oraclePaths(request: ChatRequest): string[] {
  const whole = create(CreateChatCompletionRequestSchema, { chat: request });
  const paths = violated(CreateChatCompletionRequestSchema, whole, "");
  for (const [index, message] of request.messages.entries()) addNested(paths, `chat.messages[${index}]`, message.parts, false);
  return [...new Set(paths)].sort();
}

function addNested(paths: string[], at: string, parts: readonly Part[], within: boolean): void {
  for (const [index, part] of parts.entries()) {
    const path = `${at}.parts[${index}]`;
    if (within) paths.push(...violated(PartSchema, part, `${path}.`));
    if (part.content.case === "toolResult") addNested(paths, `${path}.tool_result`, part.content.value.parts, true);
  }
}

function violated<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>, prefix: string): string[] {
  const result = oracle.validate(schema, message);
  if (result.kind === "error") throw result.error;
  return result.kind === "valid" ? [] : result.violations.map(({ field }) => `${prefix}${pathToString(field)}`);
}

function ourPaths(request: ChatRequest): string[] {
  return [...new Set(validateChat(request, "chat").map((violation) => violation.field))].sort();
}

/** A text that is near a limit of bytes, from either side, in characters of one to four bytes. */
function near(...limits: number[]): fc.Arbitrary<string> {
  return fc.oneof(
    fc.constantFrom("", "a"),
    fc
      .tuple(fc.constantFrom(...limits), fc.integer({ min: -3, max: 3 }), fc.constantFrom("a", "é", "漢", "😀", "\ud800"))
      .map(([limit, off, unit]) => {
        const bytes = new TextEncoder().encode(unit).byteLength;
        const whole = Math.max(0, Math.floor((limit + off) / bytes));
        return unit.repeat(whole) + "a".repeat(Math.max(0, limit + off - whole * bytes));
      }),
  );
}

/** Mostly fine, so that a whole request is often fine too. */
function mostly<T>(fine: T, otherwise: fc.Arbitrary<T>, weight = 12): fc.Arbitrary<T> {
  return fc.oneof({ weight, arbitrary: fc.constant(fine) }, { weight: 1, arbitrary: otherwise });
}

const cache = mostly(undefined, fc.record({ ttl: near(16) }));
const media = fc.record({
  source: mostly(
    { case: "url", value: "https://example.com/a.png" },
    fc.constantFrom(
      { case: undefined, value: undefined },
      { case: "fileId", value: "" },
      { case: "data", value: new Uint8Array(3) },
    ) as fc.Arbitrary<never>,
  ),
  mediaType: mostly("image/png", near(128)),
  detail: mostly("", near(16)),
  filename: mostly("", near(512)),
});
const extra = fc.record({ dialect: mostly("openai", near(64)), path: mostly("", near(1024)), json: fc.constant("1") });
const { part } = fc.letrec<{ part: unknown }>((tie) => ({
  part: fc.record({
    cache,
    content: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.record({ case: fc.constant("text"), value: fc.record({ text: fc.string() }) }),
      fc.record({ case: fc.constantFrom("image", "audio", "file"), value: media }),
      fc.record({ case: fc.constant("toolCall"), value: fc.record({ id: mostly("c", near(4096)), name: mostly("f", near(256)) }) }),
      fc.record({ case: fc.constant("reasoning"), value: fc.record({ dialect: mostly("openai", near(64)) }) }),
      fc.record({ case: fc.constant("refusal"), value: fc.record({ text: fc.string() }) }),
      fc.record({ case: fc.constant("extra"), value: extra }),
      fc.constant({ case: undefined }),
      fc.record({
        case: fc.constant("toolResult"),
        value: fc.record({ toolCallId: mostly("c", near(4096)), parts: fc.array(tie("part"), { maxLength: 2 }) }),
      }),
    ),
  }),
}));
const number = fc.constantFrom(0, 0.5, 1, 1.0000001, -0.1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
const long = fc.constantFrom(0n, 1n, -1n, 2n ** 62n);
const anyRequest = fc
  .record({
    model: mostly("gpt", near(512)),
    messages: fc.array(
      fc.record({
        role: mostly(3, fc.constantFrom(0, 1, 2, 4, 5, 6, -1, 99)),
        parts: fc.array(part, { maxLength: 3 }),
        name: mostly("", near(256)),
      }),
      { maxLength: 3 },
    ),
    tools: fc.array(fc.record({ name: mostly("f", near(256)), cache }), { maxLength: 2 }),
    toolChoice: mostly(
      undefined,
      fc.record({
        choice: fc.oneof(
          fc.constant({ case: undefined }),
          fc.record({ case: fc.constant("mode"), value: fc.constantFrom(0, 1, 2, 3, 4, -1) }),
          fc.record({ case: fc.constant("tool"), value: near(256) }),
        ),
      }),
    ),
    responseFormat: mostly(
      undefined,
      fc.record({
        format: fc.oneof(
          fc.constantFrom({ case: undefined }, { case: "text", value: {} }, { case: "jsonObject", value: {} }),
          fc.record({ case: fc.constant("jsonSchema"), value: fc.record({ name: near(256), schemaJson: fc.constantFrom("", "{}") }) }),
        ),
      }),
    ),
    maxOutputTokens: mostly(undefined, long),
    temperature: mostly(undefined, number),
    topP: mostly(undefined, number),
    topK: mostly(undefined, long),
    stop: mostly<string[]>([], fc.constantFrom(new Array(64).fill("x"), new Array(65).fill(""))),
    n: mostly(undefined, fc.constantFrom(0, 1, 128, 129, -1)),
    presencePenalty: mostly(undefined, number),
    frequencyPenalty: mostly(undefined, number),
    logprobs: mostly(undefined, fc.record({ top: fc.constantFrom(-1, 0, 20, 21) })),
    reasoning: mostly(
      undefined,
      fc.record({
        amount: fc.oneof(
          fc.constant({ case: undefined }),
          fc.record({ case: fc.constant("effort"), value: near(32) }),
          fc.record({ case: fc.constant("budgetTokens"), value: long }),
        ),
      }),
    ),
    user: mostly("", near(1024)),
    serviceTier: mostly("", near(64)),
    extras: fc.array(extra, { maxLength: 2 }),
  })
  .map((init) => create(ChatRequestSchema, init as Init));

const small: Init = { model: "m", messages: [{ role: 3, parts: [{ content: { case: "text", value: { text: "hi" } } }] }] };

describe("validateChat", () => {
  test("finds the fields that protovalidate finds in the rules", () => {
    let valid = 0;
    let invalid = 0;
    fc.assert(
      fc.property(anyRequest, (request) => {
        const expected = oraclePaths(request);
        const found = ourPaths(request);
        if (expected.length === 0) valid++;
        else invalid++;
        // Ours stops after the first 16; up to there both name the same fields.
        if (found.length < 16) expect(found).toEqual(expected);
        else for (const path of found) expect(expected).toContain(path);
      }),
      { numRuns: 1_500 },
    );
    // The property would say nothing if chance only made one sort.
    expect(Math.min(valid, invalid)).toBeGreaterThan(100);
  });

  test.each<[string, Init, string]>([
    ["messages", { ...small, messages: new Array(16_385).fill({ role: 3 }) }, "chat.messages"],
    ["no messages", { ...small, messages: [] }, "chat.messages"],
    ["parts", { ...small, messages: [{ role: 3, parts: parts(4_097) }] }, "chat.messages[0].parts"],
    ["tools", { ...small, tools: new Array(1_025).fill({ name: "f" }) }, "chat.tools"],
    ["extras", { ...small, extras: new Array(1_025).fill({ dialect: "d" }) }, "chat.extras"],
    [
      "a tool result's parts",
      { ...small, messages: [{ role: 5, parts: [{ content: { case: "toolResult", value: { toolCallId: "c", parts: parts(1_025) } } }] }] },
      "chat.messages[0].parts[0].tool_result.parts",
    ],
    [
      "biases",
      { ...small, logitBias: Object.fromEntries(Array.from({ length: 1_025 }, (_, index) => [`${index}`, 0])) },
      "chat.logit_bias",
    ],
  ])("counts %s as protovalidate does", (_, init, path) => {
    const request = create(ChatRequestSchema, init);
    expect(ourPaths(request)).toEqual([path]);
    expect(oraclePaths(request)).toEqual([path]);
  });

  test.each([
    [16_384, 4_096],
    [1, 1],
  ])("%d messages, one of them with %d parts, are within the limits", (messages, count) => {
    const first: MessageInitShape<typeof MessageSchema> = { role: 3, parts: parts(count) };
    const request = create(ChatRequestSchema, { ...small, messages: [first, ...new Array(messages - 1).fill({ role: 3 })] });
    expect(validateChat(request, "chat")).toEqual([]);
  });

  test("a request that is not there is required, as protovalidate says", () => {
    expect(validateChat(undefined, "chat")).toEqual([{ field: "chat", message: "is required" }]);
    const result = oracle.validate(StreamChatCompletionRequestSchema, create(StreamChatCompletionRequestSchema));
    expect(result.kind === "invalid" && result.violations.map(({ field }) => pathToString(field))).toEqual(["chat"]);
  });

  test("says what is wrong where, and stops after sixteen", () => {
    const request = create(ChatRequestSchema, { model: "", messages: new Array(40).fill({ role: 0 }) });
    const violations = validateChat(request, "chat");
    expect(violations).toHaveLength(16);
    expect(violations.slice(0, 2)).toEqual([
      { field: "chat.model", message: "must be 1 to 512 bytes long" },
      { field: "chat.messages[0].role", message: "must be one of the roles, and not unspecified" },
    ]);
  });
});

function parts(count: number): MessageInitShape<typeof PartSchema>[] {
  return new Array(count).fill({ content: { case: "text", value: { text: "" } } });
}
