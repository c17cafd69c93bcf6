/**
 * What bit others who translate this format: each test is named for its line in the list of bugs that peers shipped, with the sentence
 * that says what broke. Lines that are missing here are other dialects' or the doors'.
 */
import { describe, expect, test } from "vitest";
import { type Batch, Collector, endEvent, finishEvent, startEvent, textEvent, toolCallEvent, usageEvent } from "../../../proto/chat.ts";
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { type ChatRequest, FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { openAiClient, openAiServer } from "./openai.ts";

const client = openAiClient({ maxTokensField: "max_completion_tokens", developerRole: true, streamUsage: true });

function ask(members: object): ChatRequest {
  const body = { model: "m", messages: [{ role: "user", content: "q" }], ...members };
  return openAiServer.readRequest(Buffer.from(JSON.stringify(body))).request;
}

/** The body that is sent, written from the conversation alone. */
function sent(request: ChatRequest): Record<string, unknown> {
  const written = client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false });
  return JSON.parse(String(written.body)) as Record<string, unknown>;
}

interface Answer {
  readonly batches: readonly Batch[];
  readonly response: ChatResponse;
  readonly fault: Fault | undefined;
  readonly complete: boolean;
}

function read(answer: string, streaming: boolean, pieces: readonly Uint8Array[] = [Buffer.from(answer)]): Answer {
  let ids = 0;
  const reader = client.readAnswer({
    request: ask({}),
    streaming,
    model: "upstream-model",
    route: "r",
    provider: "p",
    nativeStreamUsage: false,
    answerBytesMax: 1 << 20,
    newId: (prefix) => `${prefix}${++ids}`,
  });
  const batches = [...pieces.flatMap((piece) => [...reader.read(piece)]), ...reader.end()];
  const collector = new Collector();
  for (const batch of batches) collector.add(batch);
  return { batches, response: collector.response, fault: reader.failure, complete: collector.complete };
}

const frame = (chunk: object): string => `data: ${JSON.stringify(chunk)}\n\n`;
const delta = (words: object, finish: string | null = null, index = 0): string =>
  frame({ id: "i", model: "m", choices: [{ index, delta: words, finish_reason: finish }] });
const whole = (message: object | undefined, finish = "stop"): string =>
  JSON.stringify({ id: "i", model: "m", choices: [{ index: 0, message, finish_reason: finish }] });
const callsOf = ({ response }: Answer) =>
  (response.choices[0]?.message?.parts ?? []).flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));

/** What a caller of this dialect gets of events, as parsed chunks. */
function written(batch: Batch, members: object = {}): { choices: { index: number; delta: Record<string, unknown> }[]; usage?: unknown }[] {
  const body = { model: "m", messages: [{ role: "user", content: "q" }], stream: true, ...members };
  const writer = openAiServer.writeAnswer(openAiServer.readRequest(Buffer.from(JSON.stringify(body))), "r");
  const text = [writer.write(batch), writer.end()].join("");
  return text
    .split("\n\n")
    .filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice(6)));
}

const start = startEvent("i", "m", 0, "r", "p");

describe("what bit the peers", () => {
  test('2: "" for calls without arguments broke the next turn', () => {
    const call = { id: "c", type: "function", function: { name: "f", arguments: "" } };
    expect(callsOf(read(whole({ tool_calls: [call] }, "tool_calls"), false))[0]?.argumentsJson).toBe("{}");
    const streamed = read(delta({ tool_calls: [{ index: 0, ...call }] }) + delta({}, "tool_calls"), true);
    expect(callsOf(streamed)[0]?.argumentsJson).toBe("{}");
    const history = ask({ messages: [{ role: "assistant", tool_calls: [call] }] });
    expect(sent(history).messages).toMatchObject([{ tool_calls: [{ function: { arguments: "{}" } }] }]);
    const none = { ...call, function: { name: "f", arguments: " null" } };
    const odd = ask({ messages: [{ role: "assistant", tool_calls: [none] }] });
    expect(sent(odd).messages).toMatchObject([{ tool_calls: [{ function: { arguments: "{}" } }] }]);
  });

  test("3: every call had index 0", () => {
    const chunks = written([start, toolCallEvent(0, 0, "a", "f", "{}"), toolCallEvent(0, 1, "b", "g", "{}")]);
    expect(chunks.map(({ choices }) => choices[0]?.delta.tool_calls)).toMatchObject([[{ index: 0, id: "a" }], [{ index: 1, id: "b" }]]);
  });

  test("4: every choice had index 0", () => {
    expect(written([start, textEvent(0, "a"), textEvent(1, "b")]).map(({ choices }) => choices[0]?.index)).toEqual([0, 1]);
    const both = read(delta({ content: "a" }) + delta({ content: "b" }, null, 1) + delta({}, "stop") + delta({}, "length", 1), true);
    expect(both.response.choices.map(({ index, finishReason }) => [index, finishReason])).toEqual([
      [0, FinishReason.STOP],
      [1, FinishReason.LENGTH],
    ]);
  });

  test("6: pieces without name, id or index crashed, or calls were merged", () => {
    const pieces = [
      { function: { name: "f", arguments: '{"a"' } },
      { function: { arguments: ":1}" } },
      { function: { name: "g", arguments: "{}" } },
      { index: 0, id: "x", function: { name: "h", arguments: "{}" } },
      // What came parses, and is not over for that.
      { index: 0, function: { arguments: " " } },
      // The index of another call, and an id of its own.
      { index: 0, id: "y", function: { name: "k", arguments: "{}" } },
    ];
    const answer = read(pieces.map((call) => delta({ tool_calls: [call] })).join("") + delta({}, "tool_calls"), true);
    expect(callsOf(answer).map(({ name, argumentsJson }) => name + argumentsJson)).toEqual(['f{"a":1}', "g{}", "h{} ", "k{}"]);
  });

  test("8: ids that were null or empty were taken for ids", () => {
    const calls = [null, "", undefined].map((id) => ({ id, type: "function", function: { name: "f", arguments: "{}" } }));
    const answer = read(whole({ tool_calls: calls }, "tool_calls"), false);
    expect(new Set(callsOf(answer).map(({ id }) => id)).size).toBe(3);
    expect(callsOf(answer).every(({ id }) => id !== "")).toBe(true);
    expect(answer.batches.every(({ native }) => native === undefined)).toBe(true);
  });

  test("11: only one of several texts was kept", () => {
    const request = ask({
      messages: [
        {
          role: "assistant",
          content: [
            { type: "text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
      ],
    });
    expect(sent(request).messages).toEqual([{ role: "assistant", content: "ab" }]);
  });

  test("12: null content was sent where there were no calls", () => {
    const messages = [
      { role: "assistant", content: null },
      { role: "assistant", content: null, tool_calls: [] },
    ];
    expect(sent(ask({ messages })).messages).toEqual([
      { role: "assistant", content: "" },
      { role: "assistant", content: "" },
    ]);
  });

  test("14: choices were null in the usage chunk, written and read", () => {
    const usage = usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens: 1n, nativeJson: "" });
    expect(written([start, textEvent(0, "a"), usage], { stream_options: { include_usage: true } }).at(-1)?.choices).toEqual([]);
    const answer = read(delta({ content: "a" }, "stop") + frame({ id: "i", choices: null, usage: { prompt_tokens: 1 } }), true);
    expect(answer.response.usage?.inputTokens).toBe(1n);
  });

  test("15: the first delta had no role", () => {
    expect(written([start, textEvent(0, "a"), textEvent(0, "b")]).map(({ choices }) => choices[0]?.delta)).toEqual([
      { role: "assistant", content: "a" },
      { content: "b" },
    ]);
  });

  test("16: empty deltas became empty texts", () => {
    const { batches } = read(
      delta({ role: "assistant", content: "" }) + delta({ content: "a" }) + delta({ content: "" }) + delta({}, "stop"),
      true,
    );
    expect(batches.flat().filter(({ event }) => event.case === "text").length).toBe(1);
  });

  test("19: an answer that was all thinking had no place", () => {
    const { response } = read(whole({ content: "", reasoning_content: '{"a":1}' }), false);
    expect(response.choices[0]?.message?.parts).toMatchObject([{ content: { case: "reasoning", value: { text: '{"a":1}' } } }]);
  });

  test("23: null for cached tokens broke clients", () => {
    const usage = { prompt_tokens: 1, prompt_tokens_details: { cached_tokens: null } };
    const { response } = read(delta({ content: "a" }, "stop") + frame({ id: "i", choices: [], usage }), true);
    expect(response.usage).not.toHaveProperty("cachedInputTokens");
    const seen = response.usage;
    if (seen === undefined) throw new Error("usage came");
    const chunk = written([start, finishEvent(0, FinishReason.STOP, "stop"), usageEvent(seen)], {
      stream_options: { include_usage: true },
    }).at(-1);
    expect(chunk?.usage).toEqual({ prompt_tokens: 1 });
  });

  test("26: a network chunk was taken for an event", () => {
    const answer = delta({ role: "assistant", content: "漢🦊" }) + delta({ content: "é" }) + delta({}, "stop");
    const cut = read(answer, true, cutEverywhere(Buffer.from(answer)));
    expect(cut.response).toEqual(read(answer, true).response);
    expect(cut.complete).toBe(true);
  });

  test("27: an error body of a streaming request was read as a stream and lost", () => {
    const { fault } = read('{"error":{"message":"No.","code":"model_not_found"}}', true);
    expect(fault?.reason).toBe(FaultReason.PROVIDER_MODEL_NOT_FOUND);
    expect(fault?.message).toBe("No.");
  });

  test("29: streams without a finish reason were reported as finished", () => {
    const { fault, complete } = read(`${delta({ content: "a" })}data: [DONE]\n\n`, true);
    expect(fault?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
    expect(complete).toBe(false);
  });

  test("30: pings were dropped, and idle proxies cut the stream", () => {
    const { batches } = read(`${delta({ content: "a" })}: keep-alive\n\n${delta({}, "stop")}`, true);
    expect(batches.flat().map(({ event }) => event.case)).toContain("heartbeat");
    expect(batches.map(({ native }) => Buffer.from(native?.bytes ?? []).toString()).join("")).toContain(": keep-alive\n\n");
  });

  test("31: data without a blank was not recognised", () => {
    const answer = (delta({ content: "a" }) + delta({}, "stop")).replaceAll("data: ", "data:");
    expect(read(answer, true).complete).toBe(true);
  });

  test("32: a code that is a number made 500 of 400", () => {
    const body = Buffer.from('{"error":{"message":"Too long.","type":"BadRequestError","code":400}}');
    const fault = client.readFault({ status: 400, header: () => undefined, body, nowMs: 0 });
    expect([fault.reason, fault.httpStatus, fault.message]).toEqual([FaultReason.PROVIDER_REQUEST_REFUSED, 400, "Too long."]);
    expect(read(`data: ${body}\n\n`, true).fault?.httpStatus).toBe(400);
  });

  test("33: compressed bodies were passed on without saying so", () => {
    for (const streaming of [true, false]) {
      const { headers } = client.writeRequest({ request: ask({}), native: undefined, model: "m", streaming, dropUnsupported: false });
      expect(headers.slice(headers.indexOf("accept-encoding"))).toEqual(["accept-encoding", "identity"]);
    }
  });

  test("34: a request was changed in place and sent so to the next provider", () => {
    const request = ask({ messages: [{ role: "developer", content: "d" }], max_tokens: 5, metadata: { a: 1 } });
    const before = structuredClone(request);
    const older = openAiClient({ maxTokensField: "max_tokens", developerRole: false, streamUsage: false });
    const input = { request, native: undefined, model: "x", streaming: true, dropUnsupported: true };
    const first = client.writeRequest(input).body;
    older.writeRequest(input);
    expect(request).toEqual(before);
    expect(client.writeRequest(input).body).toBe(first);
  });

  test("36: missing members crashed the proxy", () => {
    for (const answer of [
      "{}",
      "null",
      "[]",
      '{"choices":[null]}',
      '{"choices":[{}]}',
      '{"choices":[{"message":null}]}',
      '{"choices":{}}',
    ]) {
      expect(read(answer, false).fault).toBeDefined();
      expect(read(`data: ${answer}\n\n`, true).fault).toBeDefined();
    }
    expect(read(whole(undefined, "content_filter"), false).complete).toBe(true);
  });

  test("37: zero, empty text and false were taken for missing", () => {
    const members = { temperature: 0, top_p: 0, max_completion_tokens: 0, seed: 0, presence_penalty: 0, frequency_penalty: 0 };
    const tools = [{ type: "function", function: { name: "f", strict: false } }];
    const body = sent(ask({ ...members, tools, parallel_tool_calls: false, messages: [{ role: "user", content: "" }] }));
    expect(body).toMatchObject({ ...members, tools, parallel_tool_calls: false, messages: [{ role: "user", content: "" }] });
  });

  test("38: names in a provider's JSON changed prototypes", () => {
    const evil = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}';
    read(
      `data: {"id":"i","__proto__":${evil},"choices":[{"delta":{"content":"a","__proto__":${evil}},"finish_reason":"stop"}],"usage":${evil}}\n\n`,
      true,
    );
    const body = `{"model":"m","__proto__":${evil},"logit_bias":{},"messages":[{"role":"user","content":"q","__proto__":${evil}}]}`;
    const { request } = openAiServer.readRequest(Buffer.from(body));
    expect(Object.keys(sent(request))).toContain("__proto__");
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test("39: max_completion_tokens was ignored", () => {
    expect(ask({ max_completion_tokens: 7 }).maxOutputTokens).toBe(7n);
    expect(ask({ max_tokens: 6 }).maxOutputTokens).toBe(6n);
    expect(ask({ max_tokens: 6, max_completion_tokens: 7 }).maxOutputTokens).toBe(7n);
  });

  test("the end of an answer is told once, and last", () => {
    const { batches } = read(`${delta({ content: "a" }, "stop")}data: [DONE]\n\n`, true);
    expect(batches.flat().at(-1)).toEqual(endEvent());
  });
});
