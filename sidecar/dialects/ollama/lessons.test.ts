/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects, or stand in the golden cases: 34 in every request.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FinishReason, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { ollamaClient } from "./ollama.ts";

const client = ollamaClient({ contextTokens: undefined, keepAlive: undefined, models: [] });

function line(message: object, more: object = {}): string {
  return `${JSON.stringify({ model: "m", created_at: "2025-01-01T00:00:00Z", message: { role: "assistant", content: "", ...message }, done: false, ...more })}\n`;
}

const end = line({}, { done: true, done_reason: "stop", eval_count: 2 });
const calls = (...functions: object[]): object => ({ tool_calls: functions.map((called) => ({ function: called })) });

function callsOf({ choices }: ChatResponse): { id: string; name: string; argumentsJson: string }[] {
  return (choices[0]?.message?.parts ?? []).flatMap(({ content }) =>
    content.case === "toolCall" ? [{ id: content.value.id, name: content.value.name, argumentsJson: content.value.argumentsJson }] : [],
  );
}

function bodyOf(init: Parameters<typeof chatRequest>[0], dropUnsupported = false) {
  const request = chatRequest(init);
  const written = client.writeRequest({ request, native: undefined, model: "qwen3", streaming: false, dropUnsupported });
  return JSON.parse(String(written.body));
}

const text = (value: string) => ({ content: { case: "text" as const, value: { text: value } } });
const call = (id: string, argumentsJson: string) => ({ content: { case: "toolCall" as const, value: { id, name: "f", argumentsJson } } });
const result = (toolCallId: string, value: string) => ({
  content: { case: "toolResult" as const, value: { toolCallId, parts: [text(value)] } },
});

describe("tool calls", () => {
  it("2: calls without arguments have an empty object, in answers and in history", () => {
    const { response } = readPieces(client, [
      line(calls({ name: "a" }, { name: "b", arguments: "" }, { name: "c", arguments: null })),
      end,
    ]);
    expect(callsOf(response).map(({ argumentsJson }) => argumentsJson)).toEqual(["{}", "{}", "{}"]);
    const { messages } = bodyOf({ messages: [{ role: Role.ASSISTANT, parts: [call("1", ""), call("2", "null")] }] });
    expect(messages[0].tool_calls.map((each: { function: { arguments: unknown } }) => each.function.arguments)).toEqual([{}, {}]);
  });

  it("3: calls are numbered through, over lines", () => {
    const { events } = readPieces(client, [line(calls({ name: "a" }, { name: "b" })), line(calls({ name: "c" })), end]);
    expect(events.flatMap((each) => (each.case === "toolCall" ? [each.value.index] : []))).toEqual([0, 1, 2]);
  });

  it("5: an answer that calls tools ends so, though the word is stop and comes in a later line", () => {
    const { response } = readPieces(client, [line(calls({ name: "a" })), line({ content: " " }), end]);
    expect(response.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
    expect(response.choices[0]?.nativeFinishReason).toBe("stop");
  });

  it("7: results are given in the order of the calls", () => {
    const { messages } = bodyOf({
      messages: [
        { role: Role.ASSISTANT, parts: [call("1", "{}"), call("2", "{}"), call("3", "{}")] },
        { role: Role.TOOL, parts: [result("3", "three")] },
        { role: Role.TOOL, parts: [result("1", "one")] },
        { role: Role.TOOL, parts: [result("2", "two")] },
      ],
    });
    expect(messages.slice(1).map((each: { content: string }) => each.content)).toEqual(["one", "two", "three"]);
  });

  it("8: a call without an id, or with an empty one, gets one that no other has", () => {
    const { response } = readPieces(client, [
      line({ tool_calls: [{ function: { name: "a" } }, { id: "", function: { name: "b" } }] }),
      end,
    ]);
    const ids = callsOf(response).map(({ id }) => id);
    expect(new Set(ids).size).toBe(2);
    expect(ids).not.toContain("");
  });

  it("9: arguments that are no object do not end the conversation", () => {
    const { messages } = bodyOf({ messages: [{ role: Role.ASSISTANT, parts: [call("1", '{"a":'), call("2", '"x"')] }] });
    expect(messages[0].tool_calls.map((each: { function: { arguments: unknown } }) => each.function.arguments)).toEqual([
      { value: '{"a":' },
      { value: '"x"' },
    ]);
  });

  it("10: the choice of a tool is obeyed or refused, never forgotten", () => {
    expect(() => bodyOf({ tools: [{ name: "f" }], toolChoice: { choice: { case: "tool", value: "f" } } })).toThrow(/tool_choice/);
  });

  it("keep the text of their arguments, to the model and from it", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), (value) => {
        const argumentsJson = JSON.stringify(value, null, 1);
        const answer = `{"message":{"tool_calls":[{"function":{"name":"f","arguments":${argumentsJson}}}]},"done":true}`;
        expect(callsOf(readPieces(client, [answer], { streaming: false }).response)[0]?.argumentsJson).toBe(argumentsJson);
        const request = chatRequest({ messages: [{ role: Role.ASSISTANT, parts: [call("1", argumentsJson)] }] });
        const written = client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false });
        expect(String(written.body)).toContain(`"arguments":${argumentsJson}`);
      }),
    );
  });
});

describe("content", () => {
  it("11: all text parts are kept", () => {
    expect(bodyOf({ messages: [{ role: Role.USER, parts: [text("a"), text("b"), text("c")] }] }).messages[0].content).toBe("abc");
  });

  it("16: empty pieces make no events", () => {
    const { events } = readPieces(client, [line({ content: "", thinking: "" }), line({ content: "a" }), end]);
    expect(events.map((each) => each.case)).toEqual(["start", "text", "finish", "usage", "end"]);
  });
});

describe("usage", () => {
  it("23: what was not counted is absent, not zero", () => {
    const { response } = readPieces(client, [end]);
    expect(response.usage?.inputTokens).toBeUndefined();
    expect(response.usage?.outputTokens).toBe(2n);
  });
});

describe("streams and errors", () => {
  it("26: a read of the network is no line", () => {
    const bytes = Buffer.from(line({ content: "é漢" }) + line({ content: "🦊" }) + end);
    expect(readPieces(client, cutEverywhere(bytes)).response.choices).toEqual(readPieces(client, [bytes]).response.choices);
  });

  it("27: an error as the body of a streaming request is an error", () => {
    const { failure } = readPieces(client, ['{"error":"llama runner process has terminated"}']);
    expect(failure?.facts.provider_code).toBe("INTERNAL");
    expect(failure?.message).toBe("llama runner process has terminated");
  });

  it("29: a stream without its last line is not finished", () => {
    const { complete, failure } = readPieces(client, [line({ content: "a" })]);
    expect(complete).toBe(false);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("32: a number as error code does not hide the status", () => {
    const body = Buffer.from('{"error":{"message":"no","code":404}}');
    const fault = client.readFault({ status: 404, header: () => undefined, body, nowMs: 0 });
    expect([fault.facts.provider_status, fault.facts.provider_error_code]).toEqual(["404", "404"]);
  });

  it("33: answers are asked for without compression", () => {
    const { headers } = client.writeRequest({
      request: chatRequest(),
      native: undefined,
      model: "m",
      streaming: true,
      dropUnsupported: false,
    });
    expect(headers[headers.indexOf("accept-encoding") + 1]).toBe("identity");
  });

  it("36: an empty body, and bodies of every other kind, are faults and no crash", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.constant(""),
          fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
        ),
        fc.boolean(),
        (body, streaming) => {
          const { complete, failure } = readPieces(client, [body], { streaming });
          expect(complete).toBe(failure === undefined);
          client.readFault({ status: 500, header: () => undefined, body: Buffer.from(body), nowMs: 0 });
        },
      ),
    );
    expect(readPieces(client, [], { streaming: false }).failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("37: zeros and empty texts are values", () => {
    const { options } = bodyOf({ temperature: 0, topP: 0, topK: 0n, seed: 0n, presencePenalty: 0, frequencyPenalty: 0 });
    expect(options).toEqual({ temperature: 0, top_p: 0, top_k: 0, seed: 0, presence_penalty: 0, frequency_penalty: 0 });
  });

  it("38: names that the language gives a meaning pollute nothing", () => {
    readPieces(client, ['{"__proto__":{"polluted":1},"message":{"__proto__":{"polluted":1}},"done":true}'], { streaming: false });
    bodyOf({
      extras: [
        { dialect: "ollama", path: "__proto__.polluted", json: "1" },
        { dialect: "ollama", path: "constructor.x", json: "1" },
      ],
    });
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  it("40: a model that nobody knows is taken for the newest kind", () => {
    expect(bodyOf({ reasoning: { amount: { case: "effort", value: "none" } } }).think).toBe(false);
  });
});
