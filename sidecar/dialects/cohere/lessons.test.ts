/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects, or doors.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason, Role, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { jsonText } from "../../../test/kit/jsonText.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { cohereClient } from "./cohere.ts";

const client = cohereClient({ models: [] });

/** Frames of a stream from the JSON of their data. */
function frames(...data: readonly object[]): string {
  return data.map((frame) => `event: ${"type" in frame ? frame.type : ""}\ndata: ${JSON.stringify(frame)}\n\n`).join("");
}

const begin = { id: "m1", type: "message-start", delta: { message: { role: "assistant" } } };
const piece = (text: string, index = 0): object => ({ type: "content-delta", index, delta: { message: { content: { text } } } });
const thought = (thinking: string, index = 0): object => ({ type: "content-delta", index, delta: { message: { content: { thinking } } } });
const callStart = (index: number, id: string, name: string, args = ""): object => ({
  type: "tool-call-start",
  index,
  delta: { message: { tool_calls: { id, type: "function", function: { name, arguments: args } } } },
});
const callPiece = (index: number, args: string): object => ({
  type: "tool-call-delta",
  index,
  delta: { message: { tool_calls: { function: { arguments: args } } } },
});
const callEnd = (index: number): object => ({ type: "tool-call-end", index });
const finish = (finish_reason = "COMPLETE", usage: object = { tokens: { input_tokens: 1, output_tokens: 2 } }): object => ({
  type: "message-end",
  delta: { finish_reason, usage },
});

function callsOf(response: ChatResponse): { id: string; name: string; argumentsJson: string }[] {
  return (response.choices[0]?.message?.parts ?? []).flatMap(({ content }) =>
    content.case === "toolCall" ? [{ id: content.value.id, name: content.value.name, argumentsJson: content.value.argumentsJson }] : [],
  );
}

function textOf(response: ChatResponse): string {
  return (response.choices[0]?.message?.parts ?? []).map(({ content }) => (content.case === "text" ? content.value.text : "")).join("");
}

function bodyOf(request: Parameters<typeof chatRequest>[0], model = "command-newest", dropUnsupported = false) {
  const written = client.writeRequest({ request: chatRequest(request), native: undefined, model, streaming: true, dropUnsupported });
  return { body: JSON.parse(String(written.body)), text: String(written.body), warnings: written.warnings, written };
}

function faultOf(work: () => unknown): Fault {
  try {
    work();
  } catch (caught) {
    if (caught instanceof Fault) return caught;
    throw caught;
  }
  throw new Error("nothing was refused");
}

const user = (words: string) => ({ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: words } } }] });
const calls = (...all: { id: string; name?: string; argumentsJson?: string }[]) => ({
  role: Role.ASSISTANT,
  parts: all.map(({ id, name = "look", argumentsJson = "{}" }) => ({
    content: { case: "toolCall" as const, value: { id, name, argumentsJson } },
  })),
});
const result = (toolCallId: string, words = toolCallId) => ({
  role: Role.TOOL,
  parts: [
    {
      content: {
        case: "toolResult" as const,
        value: { toolCallId, parts: [{ content: { case: "text" as const, value: { text: words } } }] },
      },
    },
  ],
});
const tools = [{ name: "look", parametersJson: '{"type":"object"}' }];

describe("tool calls", () => {
  it("2: a call without arguments has {} exactly once, whether there are pieces or the word null", () => {
    for (const pieces of [[], [""], ["null"], ["n", "ull"], [" ", "null", "\n"]]) {
      const { response, complete } = readPieces(client, [
        frames(begin, callStart(0, "a", "look"), ...pieces.map((each) => callPiece(0, each)), callEnd(0), finish("TOOL_CALL")),
      ]);
      expect([complete, callsOf(response)]).toEqual([true, [{ id: "a", name: "look", argumentsJson: "{}" }]]);
    }
  });

  it("2: a call without arguments goes back as the text of an object, and so does one with broken ones", () => {
    for (const [argumentsJson, sent] of [
      ["", "{}"],
      ["null", "{}"],
      [" {} ", " {} "],
      ['{"n": 1.0}', '{"n": 1.0}'],
      ["[1]", '{"value":"[1]"}'],
      ['{"n": ', '{"value":"{\\"n\\": "}'],
    ]) {
      const { body } = bodyOf({ tools, messages: [user("a"), calls({ id: "t1", argumentsJson: argumentsJson ?? "" }), result("t1")] });
      expect(body.messages[1].tool_calls[0].function.arguments).toBe(sent);
    }
  });

  it("3: calls are counted from 0, whatever their index on the wire and however many blocks came before", () => {
    const { events } = readPieces(client, [
      frames(begin, piece("x", 0), callStart(3, "a", "look"), callEnd(3), callStart(9, "b", "look"), callEnd(9), finish("TOOL_CALL")),
    ]);
    expect(events.flatMap((event) => (event.case === "toolCall" && event.value.id !== "" ? [event.value.index] : []))).toEqual([0, 1]);
  });

  it("6: pieces find their call by its index though calls are interleaved, and an index that begins again is another call", () => {
    const { response } = readPieces(client, [
      frames(
        begin,
        callStart(0, "a", "look", '{"n'),
        callStart(1, "b", "look"),
        callPiece(0, '":1}'),
        callPiece(1, '{"n":2}'),
        callStart(0, "c", "look", '{"n":3}'),
        finish("TOOL_CALL"),
      ),
    ]);
    expect(callsOf(response)).toEqual([
      { id: "a", name: "look", argumentsJson: '{"n":1}' },
      { id: "b", name: "look", argumentsJson: '{"n":2}' },
      { id: "c", name: "look", argumentsJson: '{"n":3}' },
    ]);
  });

  it("6: a call without a name, and a piece of no call, are failures and not crashes", () => {
    for (const frame of [callStart(0, "a", ""), callPiece(0, "{}"), { type: "tool-call-start", index: 0, delta: {} }]) {
      const { complete, failure } = readPieces(client, [frames(begin, frame, finish("TOOL_CALL"))]);
      expect([complete, failure?.reason]).toEqual([false, FaultReason.PROVIDER_ANSWER_INVALID]);
    }
  });

  it("7: results are sent by the id of their call, in whichever order they come", () => {
    const { body } = bodyOf({ tools, messages: [user("a"), calls({ id: "x" }, { id: "y" }), result("y"), result("x")] });
    expect(body.messages.slice(2)).toEqual([
      { role: "tool", tool_call_id: "y", content: "y" },
      { role: "tool", tool_call_id: "x", content: "x" },
    ]);
  });

  it("8: a call whose id is missing, empty or no text gets one", () => {
    for (const id of [undefined, "", null, 7]) {
      const tool_calls = [{ id, type: "function", function: { name: "look", arguments: "{}" } }];
      const body = JSON.stringify({ id: "m", message: { tool_calls }, finish_reason: "TOOL_CALL" });
      const { response } = readPieces(client, [body], { streaming: false });
      expect(callsOf(response)).toEqual([{ id: "call_1", name: "look", argumentsJson: "{}" }]);
    }
  });

  it("9: names that are too free go out as others and come back as they were", () => {
    const names = ["sea/state", "sea.state", "sea_state", "x".repeat(100), "ü"];
    const request = chatRequest({ tools: names.map((name) => ({ name })) });
    const sent = JSON.parse(
      String(client.writeRequest({ request, native: undefined, model: "m", streaming: true, dropUnsupported: false }).body),
    ).tools.map((tool: { function: { name: string } }) => tool.function.name);
    expect(new Set(sent).size).toBe(names.length);
    for (const name of sent) expect(name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/);
    const { response } = readPieces(
      client,
      [frames(begin, ...sent.map((name: string, index: number) => callStart(index, `${index}`, name)), finish("TOOL_CALL"))],
      { request },
    );
    expect(callsOf(response).map(({ name }) => name)).toEqual(names);
  });

  it("10: every choice of tools has its word, and one that cannot be met is refused", () => {
    const choose = (mode: ToolMode) => bodyOf({ tools, toolChoice: { choice: { case: "mode", value: mode } } }).body.tool_choice;
    expect([ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED].map(choose)).toEqual([undefined, "NONE", "REQUIRED"]);
    for (const choice of [
      { case: "tool" as const, value: "gone" },
      { case: "mode" as const, value: ToolMode.REQUIRED },
    ]) {
      expect(faultOf(() => bodyOf({ toolChoice: { choice } }))).toMatchObject({
        reason: FaultReason.REQUEST_INVALID,
        field: "tool_choice",
      });
    }
  });

  it("arguments keep every byte, whole and in pieces", () => {
    fc.assert(
      fc.property(jsonText, fc.integer({ min: 1, max: 9 }), (json, size) => {
        const args = `{"v": ${json}}`;
        const pieces = args.match(new RegExp(`[^]{1,${size}}`, "gu")) ?? [];
        const stream = frames(begin, callStart(0, "a", "look"), ...pieces.map((each) => callPiece(0, each)), finish("TOOL_CALL"));
        expect(callsOf(readPieces(client, [stream]).response)[0]?.argumentsJson).toBe(args);
        const { body } = bodyOf({ messages: [calls({ id: "a", argumentsJson: args })] });
        expect(body.messages[0].tool_calls[0].function.arguments).toBe(args);
        const schema = `{"type":"object","default":${json}}`;
        expect(bodyOf({ tools: [{ name: "look", parametersJson: schema }] }).text).toContain(`"parameters":${schema}`);
      }),
    );
  });
});

describe("content", () => {
  it("11: all pieces of text are kept, also those that need reading with care", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme", maxLength: 12 }), { maxLength: 12 }), (pieces) => {
        const stream = Buffer.from(frames(begin, ...pieces.map((each) => piece(each)), finish()));
        expect(textOf(readPieces(client, [stream]).response)).toBe(pieces.join(""));
        expect(textOf(readPieces(client, cutEverywhere(stream)).response)).toBe(pieces.join(""));
        const content = pieces.map((text) => ({ type: "text", text }));
        const whole = JSON.stringify({ id: "m", message: { content }, finish_reason: "COMPLETE" });
        expect(textOf(readPieces(client, [whole], { streaming: false }).response)).toBe(pieces.join(""));
      }),
    );
  });

  it("11: escapes, blanks and members out of order mean the same as the usual form", () => {
    const ways = [
      String.raw`{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"a\"b"}}}}`,
      String.raw`{"index":0,"type":"content-delta","delta":{"message":{"content":{"text":"a\u0022b"}}}}`,
      String.raw`{ "type":"content-delta", "delta":{"message":{"content":{"type":"text","text":"a\"b"}}}}`,
    ];
    for (const way of ways) {
      const stream = `${frames(begin)}data: ${way}\n\n${frames(finish())}`;
      expect(textOf(readPieces(client, [stream]).response)).toBe('a"b');
    }
  });

  it("a control character in a piece is no JSON, also on the quick way", () => {
    const stream = `${frames(begin)}data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"a\tb"}}}}\n\n`;
    expect(readPieces(client, [stream]).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
  });

  it("13: an empty turn is not sent, nor is thinking that is another's or that the model does not know", () => {
    const reasoning = (dialect: string, signature: string) => ({
      role: Role.ASSISTANT,
      parts: [
        { content: { case: "reasoning" as const, value: { text: "hm", dialect, signature } } },
        { content: { case: "text" as const, value: { text: "x" } } },
      ],
    });
    const messages = [user("a"), { role: Role.ASSISTANT, parts: [] }, reasoning("anthropic", "sig"), reasoning("openai", "")];
    const { body, warnings } = bodyOf({ messages });
    expect(body.messages).toEqual([
      { role: "user", content: "a" },
      { role: "assistant", content: "x" },
      { role: "assistant", content: "x" },
    ]);
    expect(warnings.map(({ field }) => field)).toEqual(["messages[2].parts[0]"]);
    const own = [user("a"), reasoning("cohere", "thinking")];
    expect(bodyOf({ messages: own }).body.messages[1].content[0]).toEqual({ type: "thinking", thinking: "hm" });
    expect(bodyOf({ messages: own }, "command-a-03-2025").body.messages[1].content).toBe("x");
  });

  it("16: empty pieces make no events", () => {
    const { events } = readPieces(client, [frames(begin, piece(""), thought(""), piece("a"), finish())]);
    expect(events.map((event) => event.case)).toEqual(["start", "text", "usage", "finish", "end"]);
  });

  it("what was thought, planned and called goes back where it came from", () => {
    const stream = frames(
      begin,
      thought("Let me", 0),
      thought(" see.", 0),
      { type: "tool-plan-delta", delta: { message: { tool_plan: "I look." } } },
      callStart(0, "a", "look", '{"n": 1.0}'),
      finish("TOOL_CALL"),
    );
    const { response } = readPieces(client, [stream]);
    const message = response.choices[0]?.message;
    const { body } = bodyOf({ messages: [user("a"), ...(message === undefined ? [] : [message]), result("a")] });
    expect(body.messages[1]).toEqual({
      role: "assistant",
      tool_plan: "I look.",
      tool_calls: [{ id: "a", type: "function", function: { name: "look", arguments: '{"n": 1.0}' } }],
      content: [{ type: "thinking", thinking: "Let me see." }],
    });
  });
});

describe("usage", () => {
  it("23: counts that are null, missing or no counts are absent, and billed units are no tokens", () => {
    const usage = { billed_units: { input_tokens: 8 }, tokens: { input_tokens: null, output_tokens: -1 }, cached_tokens: null };
    const { response } = readPieces(client, [frames(begin, finish("COMPLETE", usage))]);
    expect(response.usage).toEqual({ $typeName: "outrigger.chat.v1.Usage", nativeJson: JSON.stringify(usage) });
  });

  it("24: what a failed answer consumed is told", () => {
    const { response, complete } = readPieces(client, [frames(begin, piece("a"), finish("ERROR"))]);
    expect([complete, response.usage?.inputTokens, response.usage?.outputTokens]).toEqual([false, 1n, 2n]);
  });
});

describe("streams and errors", () => {
  it("26: any cuts give the same events", () => {
    const stream = Buffer.from(
      frames(begin, thought("ä"), piece('\u{1F6A3}\n"x"'), callStart(0, "a", "look"), callPiece(0, '{"ü":1}'), finish("TOOL_CALL")),
    );
    const whole = readPieces(client, [stream]);
    expect(whole.complete).toBe(true);
    expect(readPieces(client, cutEverywhere(stream)).events).toEqual(whole.events);
  });

  it("27: an error that comes as a body under a good status is a failure, streaming or not", () => {
    for (const body of [{ message: "overloaded" }, { error: "overloaded" }, { error: { message: "overloaded" } }]) {
      for (const streaming of [true, false]) {
        const { failure, events } = readPieces(client, [JSON.stringify(body)], { streaming });
        expect([failure?.reason, failure?.message, events]).toEqual([FaultReason.PROVIDER_FAILED, "overloaded", []]);
      }
    }
  });

  it("a whole answer where a stream was asked for is an answer", () => {
    const body = JSON.stringify({ id: "m", message: { content: [{ type: "text", text: "a" }] }, finish_reason: "COMPLETE" });
    const { response, complete } = readPieces(client, cutEverywhere(Buffer.from(`\n ${body}`)));
    expect([complete, textOf(response)]).toEqual([true, "a"]);
  });

  it("29: a stream without its end is no answer, wherever it stops; a last frame without its blank line is", () => {
    const stream = Buffer.from(frames(begin, piece("a"), callStart(0, "a", "look"), finish("TOOL_CALL")));
    for (let length = 0; length < stream.length - 2; length++) {
      const { complete, failure } = readPieces(client, [stream.subarray(0, length)]);
      expect([length, complete, failure?.reason]).toEqual([length, false, FaultReason.PROVIDER_ANSWER_INCOMPLETE]);
    }
    expect(readPieces(client, [stream.subarray(0, stream.length - 2)]).complete).toBe(true);
    expect(readPieces(client, [frames(begin, { type: "message-end", delta: {} })]).failure?.reason).toBe(
      FaultReason.PROVIDER_ANSWER_INCOMPLETE,
    );
  });

  it("29: nor is a body that says no reason, or is cut, or empty", () => {
    const message = { content: [{ type: "text", text: "a" }] };
    for (const [body, reason] of [
      [JSON.stringify({ id: "m", message }), FaultReason.PROVIDER_ANSWER_INCOMPLETE],
      [JSON.stringify({ id: "m", message, finish_reason: "COMPLETE" }).slice(0, -3), FaultReason.PROVIDER_ANSWER_INVALID],
      ["", FaultReason.PROVIDER_ANSWER_INCOMPLETE],
      ["[]", FaultReason.PROVIDER_ANSWER_INVALID],
    ] as const) {
      expect(readPieces(client, [body], { streaming: false }).failure?.reason).toBe(reason);
    }
  });

  it("30: a comment is a sign of life", () => {
    const { events, complete } = readPieces(client, [`: hello\n\n${frames(begin)}: still there\n\n${frames(finish())}`]);
    expect([complete, events.map((event) => event.case)]).toEqual([true, ["start", "heartbeat", "usage", "finish", "end"]]);
  });

  it("31: lines without a blank, with CRLF, and without names of events are read", () => {
    const stream = frames(begin, piece("a"), finish())
      .replaceAll("data: ", "data:")
      .replaceAll(/event: .*\n/g, "")
      .replaceAll("\n", "\r\n");
    const { response, complete } = readPieces(client, cutEverywhere(Buffer.from(stream)));
    expect([complete, textOf(response)]).toEqual([true, "a"]);
  });

  it("36: a missing, null or odd message is a failure and not a crash", () => {
    const odd: unknown[] = [
      null,
      undefined,
      5,
      [],
      {},
      { content: 7, tool_calls: "x", citations: 3, tool_plan: [] },
      { content: [null, 5] },
    ];
    for (const message of odd) {
      const { failure, complete } = readPieces(client, [JSON.stringify({ id: "m", message, finish_reason: "COMPLETE" })], {
        streaming: false,
      });
      const readable = typeof message === "object" && message !== null && !Array.isArray(message);
      expect([complete, failure === undefined]).toEqual([readable, readable]);
    }
    for (const frame of [{}, { type: 5 }, { type: "content-delta" }, { type: "message-end", delta: null }, { type: "citation-start" }]) {
      const { failure } = readPieces(client, [frames(begin, frame)]);
      expect(failure).toBeInstanceOf(Fault);
    }
    for (const frame of [piece("a"), callStart(0, "a", "look"), finish()]) {
      expect(readPieces(client, [frames(frame)]).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    }
    expect(readPieces(client, [frames(begin, begin)]).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
  });

  it("any bytes end in an answer or a fault, within the limit", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), fc.boolean(), (text, streaming) => {
        const { complete, failure } = readPieces(client, [`${frames(begin)}data: ${text}\n\n`], { streaming });
        expect(complete).toBe(failure === undefined);
      }),
    );
    for (const streaming of [true, false]) {
      const { failure } = readPieces(client, cutEverywhere(Buffer.from(`data: ${"x".repeat(300)}`)), { streaming, answerBytesMax: 200 });
      expect(failure?.message).toContain("larger than the limit of 200 bytes");
    }
  });
});

describe("parameters", () => {
  it("34: what was translated for one provider is untouched for the next", () => {
    const request = chatRequest({ tools, topP: 1, stop: ["1", "2", "3", "4", "5", "6"], messages: [user("a"), calls({ id: "a" })] });
    const before = structuredClone(request);
    const write = () => client.writeRequest({ request, native: undefined, model: "m", streaming: true, dropUnsupported: true });
    expect(write()).toEqual(write());
    expect(request).toEqual(before);
  });

  it("37: zero, false and empty are values", () => {
    const request = { temperature: 0, topK: 0n, seed: 0n, maxOutputTokens: 0n, presencePenalty: 0, frequencyPenalty: 0 };
    expect(bodyOf(request).body).toMatchObject({
      temperature: 0,
      k: 0,
      seed: 0,
      max_tokens: 0,
      presence_penalty: 0,
      frequency_penalty: 0,
    });
    expect(bodyOf({}).body).toEqual({ model: "command-newest", messages: [{ role: "user", content: "Say hello" }], stream: true });
  });

  it("37: numbers beyond what others can count are written in full", () => {
    expect(bodyOf({ seed: 9007199254740993n }).text).toContain('"seed":9007199254740993');
  });

  it("38: members that would reach into objects are members like any other, or refused", () => {
    const extra = (path: string, json: string) => ({ extras: [{ dialect: "cohere", path, json }] });
    for (const path of ["__proto__", "constructor.x", "messages", "model", "toString()", "p"]) {
      expect(faultOf(() => bodyOf(extra(path, "{}"))).kind.code).toBe("INVALID_ARGUMENT");
    }
    for (const json of ["", "{", '1,"model":"other"', "1}", "{}{}"]) {
      expect(faultOf(() => bodyOf(extra("documents", json)))).toMatchObject({ field: "extras[0].json" });
    }
    expect(bodyOf(extra("documents", '["a", {"n": 1.0}]')).text).toContain('"documents":["a", {"n": 1.0}]');
    const body = '{"id":"m","__proto__":{"x":1},"message":{"content":[{"__proto__":{"text":"no"}}]},"finish_reason":"COMPLETE"}';
    const { response } = readPieces(client, [body], { streaming: false });
    expect([textOf(response), ({} as Record<string, unknown>).x]).toEqual(["", undefined]);
  });

  it("39: the limit on the answer has its one name", () => {
    expect(bodyOf({ maxOutputTokens: 77n }).body.max_tokens).toBe(77);
  });

  it("40: a model that no row knows can do everything, and an operator's rows go first", () => {
    const request = { tools, toolChoice: { choice: { case: "mode" as const, value: ToolMode.REQUIRED } } };
    expect(bodyOf(request, "brand-new").body.tool_choice).toBe("REQUIRED");
    expect(faultOf(() => bodyOf(request, "command-r-08-2024"))).toMatchObject({
      reason: FaultReason.PARAMETER_UNSUPPORTED,
      field: "tool_choice",
      facts: { model: "command-r-08-2024" },
    });
    const told = cohereClient({ models: [{ pattern: "command-r-*", toolChoice: true }] });
    const { body } = told.writeRequest({
      request: chatRequest(request),
      native: undefined,
      model: "command-r-08-2024",
      streaming: true,
      dropUnsupported: false,
    });
    expect(JSON.parse(String(body)).tool_choice).toBe("REQUIRED");
  });

  it("refuses by name what cannot be carried, unless it may be left out", () => {
    const refusals: [string, Parameters<typeof chatRequest>[0]][] = [
      ["n", { n: 2 }],
      ["logit_bias", { logitBias: { "5": 1 } }],
      ["logprobs.top", { logprobs: { top: 2 } }],
      ["parallel_tool_calls", { parallelToolCalls: false }],
      ["presence_penalty", { presencePenalty: -1 }],
      ["seed", { seed: -1n }],
      ["stop[5]", { stop: ["1", "2", "3", "4", "5", "6"] }],
      ["service_tier", { serviceTier: "flex" }],
      ["reasoning.effort", { reasoning: { amount: { case: "effort", value: "enormous" } } }],
      ["tools.strict", { tools: [{ name: "a", strict: true, parametersJson: '{"required":["x"]}' }, { name: "b" }] }],
    ];
    for (const [field, request] of refusals) {
      expect(faultOf(() => bodyOf(request))).toMatchObject({ reason: FaultReason.PARAMETER_UNSUPPORTED, field });
      expect(bodyOf(request, "command-newest", true).warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field }]);
    }
  });

  it("refuses schemas that are no JSON objects, since they would become a part of the request", () => {
    for (const text of ["[]", "{", '{"a":1},"x":2', "null"]) {
      expect(faultOf(() => bodyOf({ tools: [{ name: "a", parametersJson: text }] }))).toMatchObject({ field: "tools[0].parameters_json" });
      const responseFormat = { format: { case: "jsonSchema" as const, value: { name: "n", schemaJson: text } } };
      expect(faultOf(() => bodyOf({ responseFormat }))).toMatchObject({ field: "response_format.json_schema.schema" });
    }
  });
});

it("finish reasons mean what they say; one that nobody knows means that the model was done", () => {
  const reasons = ["COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "ERROR_TOXIC", "SOMETHING_NEW"].map((native) => {
    const { response } = readPieces(client, [frames(begin, finish(native))]);
    expect(response.choices[0]?.nativeFinishReason).toBe(native);
    return response.choices[0]?.finishReason;
  });
  const { STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER } = FinishReason;
  expect(reasons).toEqual([STOP, STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER, STOP]);
  const failures = ["ERROR", "TIMEOUT", "ERROR_LIMIT"].map((native) => readPieces(client, [frames(begin, finish(native))]).failure?.reason);
  expect(failures).toEqual([FaultReason.PROVIDER_FAILED, FaultReason.PROVIDER_TIMEOUT, FaultReason.PROVIDER_FAILED]);
});
