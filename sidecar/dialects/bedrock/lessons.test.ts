/** What bit others with this API: one test for each known failure, named for it. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema, PartSchema, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { dataFrame, eventFrame, exceptionFrame } from "../../../test/kit/eventFrames.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { type BedrockOptions, bedrockClient } from "./bedrock.ts";

type PartInit = MessageInitShape<typeof PartSchema>;

const options: BedrockOptions = { guardrail: undefined, models: [] };
const client = bedrockClient(options);
const claude = "anthropic.claude-sonnet-4-5-20250929-v1:0";

/** What is written for a model, as a value, with the warnings. */
function write(request: ChatRequest, { model = claude, dropUnsupported = false, streaming = false, from = client }: WriteWishes = {}) {
  const written = from.writeRequest({ request, native: undefined, model, streaming, dropUnsupported });
  // biome-ignore lint/suspicious/noExplicitAny: the body is JSON of many forms, and the tests look at its parts.
  const body: any = JSON.parse(String(written.body));
  return { ...written, text: String(written.body), body };
}

interface WriteWishes {
  readonly model?: string;
  readonly dropUnsupported?: boolean;
  readonly streaming?: boolean;
  readonly from?: typeof client;
}

function conversation(...messages: readonly (readonly [Role, ...PartInit[]])[]): ChatRequest {
  return create(ChatRequestSchema, { model: "m", messages: messages.map(([role, ...parts]) => ({ role, parts })) });
}

const text = (value: string): PartInit => ({ content: { case: "text", value: { text: value } } });
const marked = (value: string): PartInit => create(PartSchema, { content: { case: "text", value: { text: value } }, cache: { ttl: "" } });
const call = (id: string, name: string, argumentsJson: string): PartInit => ({
  content: { case: "toolCall", value: { id, name, argumentsJson } },
});
const result = (toolCallId: string, value: string): PartInit => ({
  content: { case: "toolResult", value: { toolCallId, parts: [text(value)] } },
});

const started = dataFrame("messageStart", { role: "assistant" });
const stopped = (stopReason: string): Buffer => dataFrame("messageStop", { stopReason });
const delta = (contentBlockIndex: number, piece: unknown): Buffer => dataFrame("contentBlockDelta", { contentBlockIndex, delta: piece });
const toolStart = (contentBlockIndex: number, name: string, toolUseId = `id${contentBlockIndex}`): Buffer =>
  dataFrame("contentBlockStart", { contentBlockIndex, start: { toolUse: { toolUseId, name } } });
const blockStop = (contentBlockIndex: number): Buffer => dataFrame("contentBlockStop", { contentBlockIndex });

function callsOf(frames: readonly Buffer[], request = chatRequest()) {
  const { response, failure } = readPieces(client, frames, { request });
  expect(failure).toBeUndefined();
  return (response.choices[0]?.message?.parts ?? []).flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
}

function refusalOf(run: () => unknown): Fault {
  try {
    run();
  } catch (caught) {
    if (caught instanceof Fault) return caught;
    throw caught;
  }
  throw new Error("expected a fault");
}

describe("tool calls", () => {
  test("1, 2: arguments are the pieces and nothing else, and none are {}", () => {
    const frames = [
      started,
      toolStart(0, "a"),
      delta(0, { toolUse: { input: "" } }),
      delta(0, { toolUse: { input: '{"x":1}' } }),
      blockStop(0),
    ];
    const none = [toolStart(1, "b"), delta(1, { toolUse: { input: "" } }), blockStop(1), toolStart(2, "c"), stopped("tool_use")];
    expect(callsOf([...frames, ...none]).map(({ argumentsJson }) => argumentsJson)).toEqual(['{"x":1}', "{}", "{}"]);
  });

  test("3: calls are numbered by themselves and not by their blocks, interleaved or not", () => {
    const frames = [started, delta(0, { text: "Hm" }), toolStart(3, "a"), toolStart(7, "b"), delta(7, { toolUse: { input: '{"b"' } })];
    const rest = [delta(3, { toolUse: { input: "{}" } }), delta(7, { toolUse: { input: ":2}" } }), stopped("tool_use")];
    const { events } = readPieces(client, [...frames, ...rest]);
    expect(events.flatMap((event) => (event.case === "toolCall" ? [event.value.index] : []))).toEqual([0, 1, 1, 0, 1]);
    expect(callsOf([...frames, ...rest]).map(({ argumentsJson }) => argumentsJson)).toEqual(["{}", '{"b":2}']);
  });

  test("7: results out of order become one user's turn in the order of the calls", () => {
    const { body } = write(
      conversation(
        [Role.USER, text("Go")],
        [Role.ASSISTANT, call("1", "f", "{}"), call("2", "f", "{}"), call("3", "f", "{}")],
        [Role.TOOL, result("3", "c")],
        [Role.USER, text("And now?")],
        [Role.TOOL, result("1", "a")],
        [Role.TOOL, result("2", "b")],
      ),
    );
    expect(body.messages).toHaveLength(3);
    const { content } = body.messages[2];
    expect(content.slice(0, 3).map((block: { toolResult: { toolUseId: string } }) => block.toolResult.toolUseId)).toEqual(["1", "2", "3"]);
    expect(content[3]).toEqual({ text: "And now?" });
  });

  test("8: a call without an id gets one", () => {
    const frames = [started, toolStart(0, "a", ""), blockStop(0), stopped("tool_use")];
    expect(callsOf(frames)[0]?.id).toMatch(/^tooluse_/);
  });

  test("9: invented names and broken arguments can be sent back", () => {
    const history = conversation(
      [Role.USER, text("Go")],
      [Role.ASSISTANT, call("1", "functions.get weather()", "{broken"), call("2", "f", "[1,2]"), call("3", "f", "null")],
      [Role.TOOL, result("1", "a"), result("2", "b"), result("3", "c")],
    );
    const uses = write(history).body.messages[1].content.map((block: { toolUse: unknown }) => block.toolUse);
    expect(uses).toEqual([
      { toolUseId: "1", name: "functions_get_weather__", input: { value: "{broken" } },
      { toolUseId: "2", name: "f", input: { value: "[1,2]" } },
      { toolUseId: "3", name: "f", input: {} },
    ]);
  });

  test("tools that the provider runs are no calls of the caller's", () => {
    const server = dataFrame("contentBlockStart", {
      contentBlockIndex: 0,
      start: { toolUse: { toolUseId: "s", name: "x", type: "server_tool_use" } },
    });
    expect(callsOf([started, server, delta(0, { toolUse: { input: "{}" } }), blockStop(0), stopped("end_turn")])).toEqual([]);
  });

  test("models of one vendor get ids of nine letters and digits, the same for call and result, and no two alike", () => {
    const ids = ["tooluse_KGkwW6RLa3r1oGyLaekMWX", "tooluse_KGkwW6RLa3r1oGyLaekMWY", "abcDEF123", "call|1"];
    const { body } = write(
      conversation(
        [Role.USER, text("Go")],
        [Role.ASSISTANT, ...ids.map((id) => call(id, "f", "{}"))],
        [Role.TOOL, ...ids.map((id) => result(id, "x"))],
      ),
      { model: "mistral.mistral-large-2407-v1:0" },
    );
    const sent = body.messages[1].content.map((block: { toolUse: { toolUseId: string } }) => block.toolUse.toolUseId);
    expect(sent.every((id: string) => /^[A-Za-z0-9]{9}$/.test(id))).toBe(true);
    expect(new Set(sent).size).toBe(4);
    expect(sent[2]).toBe("abcDEF123");
    expect(body.messages[2].content.map((block: { toolResult: { toolUseId: string } }) => block.toolResult.toolUseId)).toEqual(sent);
  });
});

describe("content", () => {
  test("11: all blocks of text are kept, joined without a separator", () => {
    const { response } = readPieces(client, [
      started,
      delta(0, { text: "one" }),
      blockStop(0),
      delta(1, { text: "two" }),
      stopped("end_turn"),
    ]);
    expect(response.choices[0]?.message?.parts.map(({ content }) => content.value)).toMatchObject([{ text: "onetwo" }]);
  });

  test("13: no empty turn, no blank text and no unsealed thinking is sent", () => {
    const history = conversation(
      [Role.USER, text("Go"), text(" ")],
      [Role.ASSISTANT, { content: { case: "reasoning", value: { text: "Hm", dialect: "bedrock" } } }, text("")],
      [Role.USER, text("On")],
    );
    const { body, warnings } = write(history);
    expect(body.messages).toEqual([{ role: "user", content: [{ text: "Go" }, { text: "On" }] }]);
    expect(warnings.map(({ field }) => field)).toEqual(["messages[1].parts[0]"]);
  });

  test("15: the first event is the start, even where the stream's own is missing", () => {
    expect(readPieces(client, [delta(0, { text: "Hi" }), stopped("end_turn")]).events.map((event) => event.case)).toEqual([
      "start",
      "text",
      "finish",
      "end",
    ]);
  });

  test("16: empty pieces make no events", () => {
    const { events } = readPieces(client, [
      started,
      delta(0, { text: "" }),
      delta(1, { reasoningContent: { text: "" } }),
      stopped("end_turn"),
    ]);
    expect(events.map((event) => event.case)).toEqual(["start", "finish", "end"]);
  });

  test("17: every block has one member, cache markers too, also among the tools; more than four are left out", () => {
    const request = conversation([Role.SYSTEM, marked("a")], [Role.USER, marked("b"), marked("c"), marked("d")]);
    request.tools.push({
      $typeName: "outrigger.chat.v1.Tool",
      name: "f",
      description: "",
      parametersJson: "",
      cache: { $typeName: "outrigger.chat.v1.CacheMarker", ttl: "" },
    });
    const { body, warnings } = write(request);
    const blocks = [...body.system, ...body.messages[0].content, ...body.toolConfig.tools];
    expect(blocks.every((block: object) => Object.keys(block).length === 1)).toBe(true);
    expect(blocks.filter((block: { cachePoint?: unknown }) => block.cachePoint !== undefined)).toHaveLength(4);
    expect(warnings.map(({ field }) => field)).toEqual(["messages[1].parts[2].cache"]);
  });

  test("18: beta flags of another API's callers do not get here", () => {
    const request = conversation([Role.USER, text("Go")]);
    request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "anthropic", path: "headers.anthropic-beta", json: '"x"' });
    expect(refusalOf(() => write(request)).field).toBe("headers.anthropic-beta");
    const { text: body, headers } = write(request, { dropUnsupported: true });
    expect(body + headers.join()).not.toContain("beta");
  });
});

describe("usage", () => {
  test("22: input counts what came from and went to the cache; 23: what was not said is absent", () => {
    const metadata = (usage: object): Buffer => dataFrame("metadata", { usage });
    const full = metadata({ inputTokens: 1, outputTokens: 2, totalTokens: 33, cacheReadInputTokens: 10, cacheWriteInputTokens: 20 });
    expect(readPieces(client, [started, stopped("end_turn"), full]).response.usage).toMatchObject({ inputTokens: 31n, totalTokens: 33n });
    const odd = metadata({ inputTokens: 1, outputTokens: -2, totalTokens: null, cacheReadInputTokens: "3" });
    const { usage } = readPieces(client, [started, stopped("end_turn"), odd]).response;
    expect(Object.keys(usage ?? {}).sort()).toEqual(["$typeName", "inputTokens", "nativeJson"]);
    expect(readPieces(client, [started, stopped("end_turn")]).response.usage).toBeUndefined();
  });
});

describe("streams and errors", () => {
  const whole = Buffer.concat([
    started,
    delta(0, { text: "Grüße 🌊" }),
    blockStop(0),
    stopped("end_turn"),
    dataFrame("metadata", { usage: {} }),
  ]);

  test("26: a read is no event: bytes may be cut anywhere, and many frames come in one", () => {
    const expected = readPieces(client, [whole]).events;
    expect(readPieces(client, cutEverywhere(whole)).events).toEqual(expected);
    const random = seededRandom(7);
    for (let run = 0; run < 50; run++) expect(readPieces(client, cutAtRandom(whole, 5, random)).events).toEqual(expected);
    expect(readPieces(client, [whole]).batches).toHaveLength(2);
  });

  test("27: an error body in place of a stream is an error", () => {
    const { failure, complete } = readPieces(client, ['{"mess', 'age":"Too many requests","__type":"x#ThrottlingException"}']);
    expect({ complete, reason: failure?.reason }).toEqual({ complete: false, reason: FaultReason.PROVIDER_RATE_LIMITED });
  });

  test("28: exception frames, error frames, cut frames and wrong checksums are errors, whatever came before", () => {
    const outcomes = [
      [exceptionFrame("serviceUnavailableException", "Down"), FaultReason.PROVIDER_UNAVAILABLE],
      [exceptionFrame("validationException", "Input is too long for requested model."), FaultReason.CONTEXT_TOO_LONG],
      [exceptionFrame("modelTimeoutException", "Slow"), FaultReason.PROVIDER_TIMEOUT],
      [exceptionFrame("neverHeardOfException", "What"), FaultReason.PROVIDER_FAILED],
      [
        eventFrame({ ":message-type": "error", ":error-code": "internalServerException", ":error-message": "Oh" }, ""),
        FaultReason.PROVIDER_FAILED,
      ],
      [stopped("end_turn").subarray(0, 20), FaultReason.PROVIDER_ANSWER_INCOMPLETE],
      [Buffer.from(stopped("end_turn")).fill(0, 30, 31), FaultReason.PROVIDER_ANSWER_INVALID],
    ] as const;
    for (const [frame, reason] of outcomes) {
      const { failure, complete, response } = readPieces(client, [started, delta(0, { text: "Begun" }), frame]);
      expect({ complete, reason: failure?.reason }).toEqual({ complete: false, reason });
      expect(response.choices[0]?.message?.parts).toHaveLength(1);
    }
    // An exception behind the end of the message is one as well.
    expect(readPieces(client, [started, stopped("end_turn"), exceptionFrame("internalServerException", "Late")]).complete).toBe(false);
  });

  test("29: a stream without messageStop, or without a reason in it, is not complete", () => {
    for (const frames of [[started], [started, dataFrame("messageStop", {})], []]) {
      const { failure, complete } = readPieces(client, frames);
      expect({ complete, reason: failure?.reason }).toEqual({ complete: false, reason: FaultReason.PROVIDER_ANSWER_INCOMPLETE });
    }
  });

  test("33: nothing compressed is asked for", () => {
    const { headers } = write(chatRequest(), { streaming: true });
    expect(headers[headers.indexOf("accept-encoding") + 1]).toBe("identity");
  });

  test("34: the request is not changed by being written", () => {
    const request = conversation([Role.USER, text("Go")], [Role.ASSISTANT, call("a b", "x.y", "{}")], [Role.TOOL, result("a b", " ")]);
    const before = structuredClone(request);
    const first = write(request, { model: "mistral.mistral-large-2407-v1:0" }).text;
    write(request);
    expect(request).toEqual(before);
    expect(write(request, { model: "mistral.mistral-large-2407-v1:0" }).text).toBe(first);
  });

  test("35: resource names and model ids are one segment of the path", () => {
    const arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0";
    const { path } = write(chatRequest(), { model: arn, streaming: true });
    expect(path).toBe(`/model/${arn.replaceAll(":", "%3A").replace("/", "%2F")}/converse-stream`);
    expect(write(chatRequest(), { model: "a/../b?c#d!(e)'f*" }).path).toBe("/model/a%2F..%2Fb%3Fc%23d%21%28e%29%27f%2A/converse");
  });

  test("36: missing output, odd content and frames that are no JSON are errors and crash nothing", () => {
    for (const body of ["", "null", "[]", "{}", '{"output":null}', '{"output":{"message":{"content":[1]}},"stopReason":"end_turn"}']) {
      expect(readPieces(client, [body], { streaming: false }).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    }
    for (const payload of ["", "null", "{", '{"delta":1}', '{"contentBlockIndex":5,"delta":{"toolUse":{"input":"x"}}}']) {
      const frame = eventFrame({ ":event-type": "contentBlockDelta", ":message-type": "event" }, payload);
      expect(readPieces(client, [started, frame]).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    }
  });

  test("38: members named __proto__ are members and nothing more", () => {
    const request = conversation([Role.USER, text("Go")]);
    request.extras.push({
      $typeName: "outrigger.chat.v1.Extra",
      dialect: "bedrock",
      path: "additionalModelRequestFields.__proto__",
      json: '{"polluted":true}',
    });
    expect(write(request).text).toContain('"additionalModelRequestFields":{"__proto__":{"polluted":true}}');
    readPieces(client, [started, delta(0, { text: "x" }), eventFrame({ ":event-type": "metadata" }, '{"__proto__":{"polluted":true}}')]);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("answers that contradict themselves are errors", () => {
    const contradictions = [
      [started, started],
      [toolStart(0, "a"), toolStart(0, "b")],
      [toolStart(0, "a"), delta(0, { reasoningContent: { text: "Hm" } })],
      [toolStart(0, "")],
    ];
    for (const frames of contradictions) expect(readPieces(client, frames).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
  });

  test("what the provider's own tools are given is held up to the limit", () => {
    const start = dataFrame("contentBlockStart", {
      contentBlockIndex: 0,
      start: { toolUse: { toolUseId: "s", name: "x", type: "server_tool_use" } },
    });
    const pieces = Array.from({ length: 5 }, () => delta(0, { toolUse: { input: "x".repeat(60) } }));
    expect(readPieces(client, [started, start, ...pieces], { answerBytesMax: 200 }).failure?.message).toContain("larger than the limit");
  });

  test("a frame, and a body, above the limit are refused", () => {
    const large = delta(0, { text: "x".repeat(200) });
    expect(readPieces(client, [started, large], { answerBytesMax: 100 }).failure?.message).toContain("larger than the limit of 100 bytes");
    expect(readPieces(client, ["x".repeat(101)], { answerBytesMax: 100, streaming: false }).failure?.message).toContain(
      "larger than the limit",
    );
  });
});

describe("40: models", () => {
  test("unknown members of a family behave like its newest ones", () => {
    const request = create(ChatRequestSchema, {
      model: "m",
      messages: [{ role: Role.USER, parts: [text("Go")] }],
      reasoning: { amount: { case: "effort", value: "high" } },
    });
    const { body } = write(request, { model: "eu.anthropic.claude-opus-9-v1:0" });
    expect(body.additionalModelRequestFields).toEqual({ thinking: { type: "adaptive" }, output_config: { effort: "high" } });
  });

  test("an operator's rows come first", () => {
    const from = bedrockClient({
      ...options,
      models: [{ pattern: "arn:*:application-inference-profile/abc", toolChoice: "tool", cache: true, topK: "k" }],
    });
    const request = create(ChatRequestSchema, {
      model: "m",
      messages: [{ role: Role.USER, parts: [marked("Go")] }],
      topK: 3n,
    });
    const { body } = write(request, { model: "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc", from });
    expect(body.messages[0].content).toHaveLength(2);
    expect(body.additionalModelRequestFields).toEqual({ k: 3 });
  });
});

describe("the platform's guardrail", () => {
  const guardrail = { identifier: "gr-1", version: "2", trace: "enabled", streamProcessing: "sync" } as const;
  const from = bedrockClient({ ...options, guardrail });

  test("goes with every request; only a stream says how it is checked", () => {
    const config = { guardrailIdentifier: "gr-1", guardrailVersion: "2", trace: "enabled" };
    expect(write(chatRequest(), { from }).body.guardrailConfig).toEqual(config);
    expect(write(chatRequest(), { from, streaming: true }).body.guardrailConfig).toEqual({ ...config, streamProcessingMode: "sync" });
  });

  test("cannot be replaced by a caller", () => {
    const request = chatRequest();
    const json = '{"guardrailIdentifier":"mine","guardrailVersion":"1"}';
    request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "bedrock", path: "guardrailConfig", json });
    expect(refusalOf(() => write(request, { from }))).toMatchObject({
      reason: FaultReason.PARAMETER_UNSUPPORTED,
      field: "guardrailConfig",
    });
    expect(write(request, { from, dropUnsupported: true }).body.guardrailConfig.guardrailIdentifier).toBe("gr-1");
  });
});

describe("byte for byte", () => {
  const jsonObject = fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4, noNullPrototype: true });

  test("tool arguments and schemas are sent as they were written", () => {
    fc.assert(
      fc.property(jsonObject, jsonObject, fc.constantFrom(0, 1, 2), (input, schema, indent) => {
        const [argumentsJson, parametersJson] = [JSON.stringify(input, null, indent), JSON.stringify(schema, null, indent)];
        const request = conversation(
          [Role.USER, text("Go")],
          [Role.ASSISTANT, call("1", "f", argumentsJson)],
          [Role.TOOL, result("1", "x")],
        );
        request.tools.push({ $typeName: "outrigger.chat.v1.Tool", name: "f", description: "", parametersJson });
        const { text: body } = write(request);
        expect(body).toContain(`"input":${argumentsJson}}`);
        expect(body).toContain(`"json":${parametersJson}}`);
      }),
    );
  });

  test("tool arguments come back as they were written, in a stream and in a body, under the caller's name", () => {
    const request = chatRequest({ tools: [{ name: "get weather!" }] });
    fc.assert(
      fc.property(jsonObject, fc.constantFrom(0, 2), fc.array(fc.nat(), { maxLength: 4 }), (input, indent, points) => {
        const json = JSON.stringify(input, null, indent);
        const places = [0, ...points.map((point) => point % (json.length + 1)).sort((a, b) => a - b), json.length];
        const pieces = places.slice(1).map((place, at) => delta(0, { toolUse: { input: json.slice(places[at], place) } }));
        const streamed = callsOf([started, toolStart(0, "get_weather_"), ...pieces, blockStop(0), stopped("tool_use")], request);
        expect(streamed).toMatchObject([{ name: "get weather!", argumentsJson: json }]);
        const block = `{"toolUse":{"toolUseId":"1","name":"get_weather_","input":${json}}}`;
        const body = `{"output":{"message":{"content":[${block}]}},"stopReason":"tool_use"}`;
        const { response } = readPieces(client, [body], { streaming: false, request });
        expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ name: "get weather!", argumentsJson: json });
      }),
    );
  });

  test("thinking that was sealed here goes back as it came", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.base64String({ minLength: 4 }), (thought, signature) => {
        const frames = [
          started,
          delta(0, { reasoningContent: { text: thought } }),
          delta(0, { reasoningContent: { signature } }),
          blockStop(0),
          delta(1, { text: "So." }),
          stopped("end_turn"),
        ];
        const message = readPieces(client, frames).response.choices[0]?.message;
        if (message === undefined) throw new Error("an answer has a message");
        const request = conversation([Role.USER, text("Go")]);
        request.messages.push(message, ...conversation([Role.USER, text("On")]).messages);
        expect(write(request).body.messages[1].content).toEqual([
          { reasoningContent: { reasoningText: { text: thought, signature } } },
          { text: "So." },
        ]);
      }),
    );
  });
});

test("any bytes at all give events and a fault, and nothing is thrown", () => {
  const random = seededRandom(3);
  const whole = Buffer.concat([started, toolStart(0, "f"), delta(0, { toolUse: { input: "{}" } }), stopped("tool_use")]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(whole.length), (noise, at) => {
      const bytes = Buffer.concat([whole.subarray(0, at), noise, whole.subarray(at)]);
      const { complete, failure } = readPieces(client, cutAtRandom(bytes, 3, random));
      expect(complete).toBe(failure === undefined);
    }),
  );
});
