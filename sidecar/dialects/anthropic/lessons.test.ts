/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects.
 */
import { describe, expect, it } from "vitest";
import { event, finishEvent, nativeBatch, startEvent, textEvent, toolCallEvent, usageEvent } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason, Role, type Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { readEventStream } from "../../../test/kit/eventStream.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { anthropicClient, anthropicServer } from "./anthropic.ts";

const client = anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] });

/** Frames of a stream from the JSON of their data. */
function frames(...data: readonly object[]): string {
  return data.map((frame) => `event: ${"type" in frame ? frame.type : ""}\ndata: ${JSON.stringify(frame)}\n\n`).join("");
}

const begin = (usage: object = { input_tokens: 10, output_tokens: 1 }): object => ({
  type: "message_start",
  message: {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "claude-x",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage,
  },
});
const start = (index: number, content_block: object): object => ({ type: "content_block_start", index, content_block });
const piece = (index: number, delta: object): object => ({ type: "content_block_delta", index, delta });
const stop = (index: number): object => ({ type: "content_block_stop", index });
const text = (index: number, ...pieces: string[]): object[] => [
  start(index, { type: "text", text: "" }),
  ...pieces.map((each) => piece(index, { type: "text_delta", text: each })),
  stop(index),
];
const tool = (index: number, id: string, name: string, ...pieces: string[]): object[] => [
  start(index, { type: "tool_use", id, name, input: {} }),
  ...pieces.map((each) => piece(index, { type: "input_json_delta", partial_json: each })),
  stop(index),
];
const finish = (stop_reason: string | null = "end_turn", usage: object = { output_tokens: 5 }): object[] => [
  { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage },
  { type: "message_stop" },
];

function callsOf(response: ChatResponse): { id: string; name: string; argumentsJson: string }[] {
  return (response.choices[0]?.message?.parts ?? []).flatMap(({ content }) =>
    content.case === "toolCall" ? [{ id: content.value.id, name: content.value.name, argumentsJson: content.value.argumentsJson }] : [],
  );
}

function bodyOf(request: Parameters<typeof chatRequest>[0], model = "claude-sonnet-4-5", dropUnsupported = false) {
  const written = client.writeRequest({ request: chatRequest(request), native: undefined, model, streaming: true, dropUnsupported });
  return { body: JSON.parse(String(written.body)), text: String(written.body), warnings: written.warnings, headers: written.headers };
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
  it("1: the empty input of a block's start is not written before the pieces", () => {
    const { response } = readPieces(client, [frames(begin(), ...tool(0, "t1", "look", '{"a"', ":1}"), ...finish("tool_use"))]);
    expect(callsOf(response)).toEqual([{ id: "t1", name: "look", argumentsJson: '{"a":1}' }]);
  });

  it("1: an input that comes whole with the block's start is taken if no pieces follow, byte for byte", () => {
    const stream = frames(begin(), start(0, { type: "tool_use", id: "t1", name: "look", input: {} }), stop(0), ...finish("tool_use"));
    const { response } = readPieces(client, [stream.replace('"input":{}', '"input":{"n": 1.0}')]);
    expect(callsOf(response)[0]?.argumentsJson).toBe('{"n": 1.0}');
  });

  it("2: a call without arguments has {} exactly once", () => {
    for (const pieces of [[], [""], ["", ""]]) {
      const { response } = readPieces(client, [frames(begin(), ...tool(0, "t1", "look", ...pieces), ...finish("tool_use"))]);
      expect(callsOf(response)[0]?.argumentsJson).toBe("{}");
    }
  });

  it("2: a call without arguments goes back as an object", () => {
    for (const argumentsJson of ["", " ", "null", "{}"]) {
      const { body } = bodyOf({ tools, messages: [user("a"), calls({ id: "t1", argumentsJson }), result("t1")] });
      expect(body.messages[1].content[0].input).toEqual({});
    }
  });

  it("3: calls are counted apart from blocks", () => {
    const stream = frames(
      begin(),
      start(0, { type: "thinking", thinking: "", signature: "" }),
      stop(0),
      ...text(1, "I look."),
      ...tool(2, "t1", "look", "{}"),
      start(3, { type: "server_tool_use", id: "s1", name: "web_search", input: {} }),
      stop(3),
      ...tool(4, "t2", "look", "{}"),
      ...finish("tool_use"),
    );
    const { events } = readPieces(client, [stream]);
    const indices = events.flatMap((each) => (each.case === "toolCall" && each.value.id !== "" ? [each.value.index] : []));
    expect(indices).toEqual([0, 1]);
  });

  it("4: of several choices only the first is written, since this API has no others", () => {
    const written = writeBatches(anthropicServer, [
      [startEvent("a", "m", 0, "", ""), textEvent(0, "first"), textEvent(1, "second"), textEvent(0, " choice")],
      [finishEvent(1, FinishReason.LENGTH, "length"), finishEvent(0, FinishReason.STOP, "stop")],
    ]);
    const events = readEventStream(written).map(({ data }) => JSON.parse(data));
    expect(events.flatMap(({ delta }) => delta?.text ?? [])).toEqual(["first", " choice"]);
    expect(events.find(({ type }) => type === "message_delta").delta.stop_reason).toBe("end_turn");
  });

  it("6: calls whose pieces mix stand one after the other, whole", () => {
    const written = writeBatches(
      anthropicServer,
      [
        [startEvent("a", "m", 0, "", ""), toolCallEvent(0, 0, "c1", "one", ""), toolCallEvent(0, 1, "c2", "two", '{"b"')],
        [toolCallEvent(0, 0, "", "", '{"a":'), toolCallEvent(0, 1, "", "", ":2}"), toolCallEvent(0, 0, "", "", "{}}")],
        [toolCallEvent(0, 2, "c3", "three", "{}"), finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls")],
      ],
      { streaming: true },
    );
    const blocks: { name: string; input: string; open: boolean }[] = [];
    for (const { data } of readEventStream(written)) {
      const each = JSON.parse(data);
      if (each.type === "content_block_start") blocks.push({ name: each.content_block.name, input: "", open: true });
      const block = blocks[each.index];
      if (each.type === "content_block_delta" && block?.open) block.input += each.delta.partial_json;
      if (each.type === "content_block_stop" && block !== undefined) block.open = false;
    }
    expect(blocks).toEqual([
      { name: "one", input: '{"a":{}}', open: false },
      { name: "two", input: '{"b":2}', open: false },
      { name: "three", input: "{}", open: false },
    ]);
  });

  it("6: arguments whose beginning already parses are not complete", () => {
    const { response } = readPieces(client, [frames(begin(), ...tool(0, "t1", "look", "{", "}"), ...finish("tool_use"))]);
    expect(callsOf(response)[0]?.argumentsJson).toBe("{}");
    const written = writeBatches(anthropicServer, [
      [startEvent("a", "m", 0, "", ""), toolCallEvent(0, 0, "c1", "one", '{"a":"}"'), toolCallEvent(0, 1, "c2", "two", "{}")],
      [toolCallEvent(0, 0, "", "", "}"), finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls")],
    ]);
    expect(written.indexOf('"partial_json":"}"')).toBeGreaterThan(0);
    expect(written.indexOf('"partial_json":"}"')).toBeLessThan(written.indexOf('"name":"two"'));
  });

  it("7: the results of one turn's calls stand in one user's turn, first and in the order of the calls", () => {
    const { body } = bodyOf({
      tools,
      messages: [user("a"), calls({ id: "t1" }, { id: "t2" }, { id: "t3" }), result("t3"), user("and this"), result("t1"), result("t2")],
    });
    expect(body.messages).toHaveLength(3);
    expect(body.messages[2].role).toBe("user");
    expect(body.messages[2].content.map((block: { tool_use_id?: string; text?: string }) => block.tool_use_id ?? block.text)).toEqual([
      "t1",
      "t2",
      "t3",
      "and this",
    ]);
  });

  it("8: missing and empty ids are given, and stay the same in both places", () => {
    const { response } = readPieces(client, [frames(begin(), ...tool(0, "", "look", "{}"), ...finish("tool_use"))]);
    expect(callsOf(response)[0]?.id).toMatch(/^toolu_/);
    const { body } = bodyOf({
      tools,
      messages: [user("a"), calls({ id: "" }, { id: "" }), result("", "first"), result("", "second")],
    });
    const [first, second] = body.messages[1].content;
    expect(first.id).not.toBe(second.id);
    expect(body.messages[2].content).toMatchObject([
      { tool_use_id: first.id, content: "first" },
      { tool_use_id: second.id, content: "second" },
    ]);
  });

  it("8: ids that this API refuses or that come twice are sent under others", () => {
    const { body } = bodyOf({
      tools,
      messages: [user("a"), calls({ id: "call:0" }), result("call:0"), calls({ id: "call:0" }), result("call:0")],
    });
    const ids = [body.messages[1].content[0].id, body.messages[3].content[0].id];
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^[a-zA-Z0-9_-]+$/);
    expect(body.messages[2].content[0].tool_use_id).toBe(ids[0]);
    expect(body.messages[4].content[0].tool_use_id).toBe(ids[1]);
  });

  it("9: names and arguments that this API refuses do not break the conversation", () => {
    const request = {
      tools: [{ name: "a.b", parametersJson: "{}" }, { name: "a_b" }],
      messages: [
        user("a"),
        calls({ id: "t1", name: "a.b", argumentsJson: '{"broken' }, { id: "t2", name: "wrong name", argumentsJson: "[1]" }),
      ],
    };
    const { body } = bodyOf({ ...request, messages: [...request.messages, result("t1"), result("t2")] });
    const sent = body.tools.map(({ name }: { name: string }) => name);
    expect(sent[1]).toBe("a_b");
    expect(new Set(sent).size).toBe(2);
    expect(body.messages[1].content).toMatchObject([
      { name: sent[0], input: { value: '{"broken' } },
      { name: "wrong_name", input: { value: "[1]" } },
    ]);
    const answer = frames(begin(), ...tool(0, "t1", sent[0], "{}"), ...finish("tool_use"));
    const { response, native } = readPieces(client, [answer], { request: chatRequest(request) });
    expect(callsOf(response)[0]?.name).toBe("a.b");
    // The bytes say another name than the caller knows, so they are not for the caller.
    expect(native.toString()).not.toContain(sent[0]);
  });

  it("10: the choice of a tool arrives", () => {
    const choices = [
      [{ case: "mode", value: 1 }, { type: "auto" }],
      [{ case: "mode", value: 2 }, { type: "none" }],
      [{ case: "mode", value: 3 }, { type: "any" }],
      [
        { case: "tool", value: "look" },
        { type: "tool", name: "look" },
      ],
    ] as const;
    for (const [choice, expected] of choices) expect(bodyOf({ tools, toolChoice: { choice } }).body.tool_choice).toEqual(expected);
    expect(bodyOf({ tools, parallelToolCalls: false }).body.tool_choice).toEqual({ type: "auto", disable_parallel_tool_use: true });
  });
});

describe("content", () => {
  it("11: all blocks of text are kept, joined without a separator", () => {
    const { response } = readPieces(client, [frames(begin(), ...text(0, "one"), ...text(1, " two"), ...text(2, "three"), ...finish())]);
    expect(response.choices[0]?.message?.parts.map(({ content }) => content.value)).toMatchObject([{ text: "one twothree" }]);
  });

  it("13: empty turns are left out, and thinking that this dialect did not seal goes not back", () => {
    const { body, warnings } = bodyOf({
      messages: [
        user("a"),
        { role: Role.ASSISTANT, parts: [{ content: { case: "text", value: { text: "  " } } }] },
        { role: Role.ASSISTANT, parts: [{ content: { case: "reasoning", value: { text: "hm", dialect: "openai", signature: "s" } } }] },
        {
          role: Role.ASSISTANT,
          parts: [
            { content: { case: "reasoning", value: { text: "unsigned", dialect: "anthropic" } } },
            { content: { case: "reasoning", value: { text: "signed", signature: "sig", dialect: "anthropic" } } },
            { content: { case: "reasoning", value: { redacted: "sealed", dialect: "anthropic" } } },
            { content: { case: "text", value: { text: "b" } } },
          ],
        },
        user("c"),
      ],
    });
    expect(body.messages).toHaveLength(3);
    expect(body.messages[1].content).toEqual([
      { type: "thinking", thinking: "signed", signature: "sig" },
      { type: "redacted_thinking", data: "sealed" },
      { type: "text", text: "b" },
    ]);
    expect(warnings.map(({ code }) => code)).toEqual(["PARAMETER_DROPPED"]);
  });

  it("13: empty text between blocks of thinking keeps its place", () => {
    const sealed = (signature: string) => ({
      content: { case: "reasoning" as const, value: { text: "t", signature, dialect: "anthropic" } },
    });
    const empty = { content: { case: "text" as const, value: { text: "" } } };
    const { body } = bodyOf({
      messages: [user("a"), { role: Role.ASSISTANT, parts: [empty, sealed("1"), empty, sealed("2"), empty] }, user("b")],
    });
    expect(body.messages[1].content.map(({ type }: { type: string }) => type)).toEqual(["thinking", "text", "thinking"]);
  });

  it("15: the first event of an answer says that the assistant speaks", () => {
    const [first] = readEventStream(writeBatches(anthropicServer, [[startEvent("a", "m", 0, "", "")], [textEvent(0, "x")]]));
    expect(JSON.parse(first?.data ?? "{}").message).toMatchObject({ role: "assistant", content: [] });
  });

  it("16: empty pieces become no blocks", () => {
    const written = writeBatches(anthropicServer, [
      [startEvent("a", "m", 0, "", ""), textEvent(0, "")],
      [toolCallEvent(0, 0, "c", "look", ""), textEvent(0, ""), toolCallEvent(0, 0, "", "", "{}")],
      [finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls")],
    ]);
    const types = readEventStream(written).map(({ event: name }) => name);
    expect(types).toEqual([
      "message_start",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
  });

  it("17: cache markers stay on their own blocks and tools", () => {
    const marked = (words: string, ttl?: string) => ({
      content: { case: "text" as const, value: { text: words } },
      ...(ttl === undefined ? {} : { cache: { ttl } }),
    });
    const { body } = bodyOf({
      tools: [
        { name: "one", parametersJson: "{}", cache: { ttl: "1h" } },
        { name: "two", parametersJson: "{}" },
      ],
      messages: [
        { role: Role.SYSTEM, parts: [marked("a", ""), marked("b")] },
        { role: Role.USER, parts: [marked("c"), marked("d", "5m"), marked(" ", "1h"), marked("e"), marked("", "1h")] },
      ],
    });
    expect(body.system).toEqual([
      { type: "text", text: "a", cache_control: { type: "ephemeral" } },
      { type: "text", text: "b" },
    ]);
    expect(body.messages[0].content).toEqual([
      { type: "text", text: "c" },
      { type: "text", text: "d", cache_control: { type: "ephemeral", ttl: "5m" } },
      // Blank text is left out; what it asked to keep ends with the block before it.
      { type: "text", text: "e", cache_control: { type: "ephemeral", ttl: "1h" } },
    ]);
    expect(body.tools[0].cache_control).toEqual({ type: "ephemeral", ttl: "1h" });
    expect(body.tools[1]).not.toHaveProperty("cache_control");
  });
});

describe("usage", () => {
  const usageOf = (first: object, last: object) =>
    readPieces(client, [frames(begin(first), ...text(0, "x"), ...finish("end_turn", last))]).response.usage;

  it("20: counts are replaced one by one, never added, and never by 0 or null", () => {
    expect(usageOf({ input_tokens: 7, output_tokens: 1 }, { output_tokens: 5 })).toMatchObject({ inputTokens: 7n, outputTokens: 5n });
    expect(usageOf({ input_tokens: 7, output_tokens: 1 }, { input_tokens: 0, output_tokens: 5 })).toMatchObject({ inputTokens: 7n });
    expect(usageOf({ input_tokens: 7, output_tokens: 1 }, { input_tokens: null, output_tokens: 5 })).toMatchObject({ inputTokens: 7n });
    expect(usageOf({ input_tokens: 0, output_tokens: 0 }, { input_tokens: 9, output_tokens: 5 })).toMatchObject({ inputTokens: 9n });
    expect(
      usageOf(
        { input_tokens: 3, cache_read_input_tokens: 40, cache_creation_input_tokens: 5, output_tokens: 1 },
        { input_tokens: 3, cache_read_input_tokens: 0, cache_creation_input_tokens: null, output_tokens: 2 },
      ),
    ).toMatchObject({ inputTokens: 48n, cachedInputTokens: 40n, cacheWriteTokens: 5n });
    expect(
      usageOf({ input_tokens: 34824, output_tokens: 0 }, { input_tokens: 3883, cache_read_input_tokens: 30464, output_tokens: 49 }),
    ).toMatchObject({ inputTokens: 34347n, cachedInputTokens: 30464n, outputTokens: 49n });
  });

  it("22: tokens from and to the cache count as input, and are taken out again on the way to this API's callers", () => {
    const usage: Usage = {
      $typeName: "outrigger.chat.v1.Usage",
      inputTokens: 100n,
      outputTokens: 7n,
      cachedInputTokens: 60n,
      cacheWriteTokens: 30n,
      nativeJson: "",
    };
    const body = (changes: Partial<Usage>) =>
      JSON.parse(
        writeBatches(anthropicServer, [[startEvent("a", "m", 0, "", ""), usageEvent({ ...usage, ...changes })]], { streaming: false }),
      ).usage;
    expect(body({})).toEqual({ input_tokens: 10, cache_creation_input_tokens: 30, cache_read_input_tokens: 60, output_tokens: 7 });
    // Reported numbers need not fit each other.
    expect(body({ cachedInputTokens: 200n }).input_tokens).toBe(0);
  });

  it("23: counts that nobody gave are left out and not null", () => {
    const usage: Usage = { $typeName: "outrigger.chat.v1.Usage", inputTokens: 1n, outputTokens: 2n, nativeJson: "" };
    const written = writeBatches(anthropicServer, [[startEvent("a", "m", 0, "", ""), usageEvent(usage)]], { streaming: false });
    expect(JSON.parse(written).usage).toEqual({ input_tokens: 1, output_tokens: 2 });
    expect(usageOf({ input_tokens: 7, cache_read_input_tokens: null, output_tokens: 1 }, {})).not.toHaveProperty("cachedInputTokens");
  });
});

describe("streams and errors", () => {
  const answer = frames(begin(), ...text(0, "Grüße", " 🚣"), ...finish());

  it("26: a read is no frame", () => {
    const whole = readPieces(client, [answer]);
    const cut = readPieces(client, cutEverywhere(Buffer.from(answer)));
    expect(cut.response).toEqual(whole.response);
    expect(cut.complete).toBe(true);
    expect(cut.native.toString()).toBe(answer);
  });

  it("27: an error that comes as a body although a stream was asked for is an error", () => {
    const body = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}';
    for (const streaming of [true, false]) {
      const { failure, complete } = readPieces(client, cutEverywhere(Buffer.from(body)), { streaming });
      expect(failure?.reason).toBe(FaultReason.PROVIDER_UNAVAILABLE);
      expect(complete).toBe(false);
    }
  });

  it("27: a whole answer that comes as a body although a stream was asked for is an answer", () => {
    const body = '\n{"id":"msg_1","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1}}';
    const { response, complete, native } = readPieces(client, [body]);
    expect(complete).toBe(true);
    expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ text: "hi" });
    // A body is no frame, and must not stand in a stream.
    expect(native).toHaveLength(0);
  });

  it("29: a stream that ends early is incomplete, wherever it ends", () => {
    const bytes = Buffer.from(answer);
    for (let length = 0; length < bytes.length - 2; length++) {
      const { failure, complete } = readPieces(client, [bytes.subarray(0, length)]);
      // The last frame's data may be whole although its blank line is missing, and counts then.
      if (complete) expect(bytes.subarray(0, length).toString()).toContain('"type":"message_stop"}');
      else expect(failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
    }
  });

  it("29: an answer that does not say why it ended is incomplete", () => {
    const { failure } = readPieces(client, [frames(begin(), ...text(0, "x"), ...finish(null))]);
    expect(failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
  });

  // Bytes of something else, with whatever it had to say in them, came out of the door as they were.
  it("bytes that are no frames of an answer are not passed on before it begins", () => {
    const { native, failure } = readPieces(client, ['\u0000\u0001 a secret: x\n\nevent: odd\ndata: {"type":"odd"}\n\n']);
    expect([native.toString(), failure?.kind.name]).toEqual(["", "PROVIDER_ANSWER_INCOMPLETE"]);
  });

  it("30: pings are heartbeats, and heartbeats are pings", () => {
    const { events } = readPieces(client, [frames(begin(), { type: "ping" }, ...text(0, "x"), { type: "ping" }, ...finish())]);
    expect(events.filter((each) => each.case === "heartbeat")).toHaveLength(2);
    const beat = event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" });
    const names = readEventStream(writeBatches(anthropicServer, [[startEvent("a", "m", 0, "", "")], [beat]])).map(
      ({ event: name }) => name,
    );
    expect(names).toContain("ping");
  });

  it("30: a heartbeat between frames that pass as they came leaves them as they are", () => {
    const beat = event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" });
    const batches = readPieces(client, cutEverywhere(Buffer.from(answer))).batches;
    const written = writeBatches(anthropicServer, [...batches.slice(0, 2), [beat], ...batches.slice(2)], { native: true });
    expect(written.replace('event: ping\ndata: {"type":"ping"}\n\n', "")).toBe(answer);
  });

  it("31: data without a blank behind its colon, and padded data, read the same", () => {
    const tight = answer.replaceAll("data: ", "data:").replaceAll("event: ", "event:");
    const padded = answer.replaceAll("}\n", "}   \n");
    const { response } = readPieces(client, [answer]);
    expect(readPieces(client, [tight]).response).toEqual(response);
    expect(readPieces(client, [padded]).response).toEqual(response);
  });

  it("32: errors of other shapes keep their status", () => {
    for (const body of ['{"error":{"code":400,"message":5}}', '{"error":"no"}', "[]", "<html>", "", '{"error":{"type":7}}']) {
      const fault = client.readFault({ status: 400, header: () => undefined, body: Buffer.from(body), nowMs: 0 });
      expect(fault.reason).toBe(FaultReason.PROVIDER_REQUEST_REFUSED);
      expect(fault.httpStatus).toBe(400);
    }
  });

  it("33: answers are asked for uncompressed", () => {
    const { headers } = bodyOf({});
    expect(headers[headers.indexOf("accept-encoding") + 1]).toBe("identity");
  });

  it("34: writing a request leaves it as it was", () => {
    const request = chatRequest({ tools, messages: [user("a"), calls({ id: "x:1" }), result("x:1"), user(" ")], temperature: 2 });
    const before = structuredClone(request);
    client.writeRequest({ request, native: undefined, model: "claude-x", streaming: true, dropUnsupported: true });
    expect(request).toEqual(before);
  });

  it("36: bodies without what they should have are faults and no crashes", () => {
    for (const body of ["", "null", "[]", "{}", '{"content":null}', '{"content":[null],"stop_reason":"end_turn"}', '{"content":[]}']) {
      const { failure, complete } = readPieces(client, [body], { streaming: false });
      expect(failure).toBeInstanceOf(Fault);
      expect(complete).toBe(false);
    }
    for (const frame of [
      "null",
      "[]",
      "{}",
      "x",
      '{"type":"content_block_start"}',
      '{"type":"message_delta"}',
      '{"type":"message_stop"}',
    ]) {
      const { failure } = readPieces(client, [`data: ${frame}\n\n`]);
      expect(failure).toBeInstanceOf(Fault);
    }
  });

  it("37: zero and empty are values", () => {
    const { body } = bodyOf({ temperature: 0, topK: 0n, maxOutputTokens: 0n }, "claude-3-5-haiku");
    expect(body).toMatchObject({ temperature: 0, top_k: 0, max_tokens: 0 });
    const zero = { inputTokens: 0n, outputTokens: 0n, cachedInputTokens: 0n };
    const usage: Usage = { $typeName: "outrigger.chat.v1.Usage", ...zero, nativeJson: "" };
    const written = writeBatches(anthropicServer, [[startEvent("a", "m", 0, "", ""), usageEvent(usage)]], { streaming: false });
    expect(JSON.parse(written).usage).toEqual({ input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 0 });
  });

  it("38: members called __proto__ are members and nothing more", () => {
    const body =
      '{"id":"m","model":"m","__proto__":{"polluted":1},"content":[{"type":"text","text":"x","__proto__":{"type":"tool_use"}}],"stop_reason":"end_turn","usage":{"__proto__":{"input_tokens":3},"constructor":1,"output_tokens":2}}';
    const { response } = readPieces(client, [body], { streaming: false });
    expect(response.usage).toMatchObject({ outputTokens: 2n });
    expect(response.usage).not.toHaveProperty("inputTokens");
    const asked =
      '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"__proto__":{"polluted":1},"metadata":{"__proto__":{"p":2}}}';
    const read = anthropicServer.readRequest(Buffer.from(asked));
    const written = client.writeRequest({ request: read.request, native: undefined, model: "m", streaming: false, dropUnsupported: false });
    expect(String(written.body)).toContain('"__proto__":{"polluted":1}');
    expect(String(written.body)).toContain('"metadata":{"__proto__":{"p":2}}');
    expect(Object.prototype).not.toHaveProperty("polluted");
  });

  it("40: a model that no row knows behaves like the newest of its family", () => {
    expect(bodyOf({ reasoning: { amount: { case: "effort", value: "high" } } }, "claude-sonnet-9").body).toMatchObject({
      thinking: { type: "adaptive" },
      output_config: { effort: "high" },
    });
    expect(() => bodyOf({ temperature: 0.5 }, "claude-sonnet-9")).toThrow(Fault);
    const own = anthropicClient({
      version: "2023-06-01",
      betas: [],
      defaultMaxTokens: 4096,
      models: [{ pattern: "claude-sonnet-9*", sampling: true }],
    });
    const request = chatRequest({ temperature: 0.5 });
    const written = own.writeRequest({ request, native: undefined, model: "claude-sonnet-9", streaming: false, dropUnsupported: false });
    expect(JSON.parse(String(written.body)).temperature).toBe(0.5);
  });
});

describe("bytes that pass", () => {
  it("go on from their events where a batch was changed, inside the block that is open", () => {
    const stream = frames(begin(), ...text(0, "one", " two", " three"), ...tool(1, "t1", "look", '{"a"', ":1}"), ...finish("tool_use"));
    const { batches, response } = readPieces(client, cutEverywhere(Buffer.from(stream)));
    for (let from = 0; from <= batches.length; from++) {
      const mixed = batches.map((batch, at) =>
        at < from || batch.native === undefined ? batch : nativeBatch([...batch], { ...batch.native, dialect: "" }),
      );
      const written = writeBatches(anthropicServer, mixed, { native: true });
      const again = readPieces(client, [written]);
      expect(again.failure).toBeUndefined();
      expect(again.response.choices[0]?.message).toEqual(response.choices[0]?.message);
      expect(again.response.choices[0]?.nativeFinishReason).toBe("tool_use");
      const open: number[] = [];
      for (const { data } of readEventStream(written)) {
        const each = JSON.parse(data);
        if (each.type === "content_block_start") open.push(each.index);
        if (each.type === "content_block_stop") expect(open.pop()).toBe(each.index);
      }
      expect(open).toEqual([]);
    }
  });
});
