/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects.
 */
import { describe, expect, it } from "vitest";
import { FinishReason, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { geminiClient } from "./gemini.ts";

const client = geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] });

/** A stream of chunks. */
const stream = (...chunks: readonly object[]): string => chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`).join("");
const chunk = (parts: readonly object[], more: object = {}, index = 0): object => ({
  candidates: [{ content: { role: "model", parts }, index, ...more }],
});
const stop = { finishReason: "STOP" };
const call = (name: string, args?: object, more: object = {}): object => ({ functionCall: { name, args, ...more } });

function callsOf(response: ChatResponse, choice = 0): { id: string; name: string; argumentsJson: string }[] {
  return (response.choices[choice]?.message?.parts ?? []).flatMap(({ content }) =>
    content.case === "toolCall" ? [{ id: content.value.id, name: content.value.name, argumentsJson: content.value.argumentsJson }] : [],
  );
}

function bodyOf(request: Parameters<typeof chatRequest>[0], model = "gemini-3-flash", dropUnsupported = false) {
  const written = client.writeRequest({ request: chatRequest(request), native: undefined, model, streaming: true, dropUnsupported });
  return { ...written, body: JSON.parse(String(written.body)), text: String(written.body) };
}

const user = (text: string) => ({ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text } } }] });
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

describe("tool calls", () => {
  it("2: a call without arguments has {} exactly once, and goes back as an object", () => {
    for (const part of [call("look"), call("look", {}), { functionCall: { name: "look", args: null } }]) {
      expect(callsOf(readPieces(client, [stream(chunk([part], stop))]).response)[0]?.argumentsJson).toBe("{}");
    }
    for (const argumentsJson of ["", " ", "null", "{}"]) {
      const { body } = bodyOf({ messages: [user("a"), calls({ id: "c1", argumentsJson }), result("c1")] });
      expect(body.contents[1].parts[0].functionCall.args).toEqual({});
    }
  });

  it("3: calls are counted apart from parts, from 0 in each choice", () => {
    const { events } = readPieces(client, [
      stream(
        chunk([{ text: "Hm", thought: true }, { text: "I look." }, call("a")]),
        chunk([{ executableCode: { language: "PYTHON", code: "1" } }, call("b")], stop),
        chunk([call("c")], stop, 1),
      ),
    ]);
    const seen = events.flatMap((each) => (each.case === "toolCall" ? [[each.value.choice, each.value.index, each.value.name]] : []));
    expect(seen).toEqual([
      [0, 0, "a"],
      [0, 1, "b"],
      [1, 0, "c"],
    ]);
  });

  it("4: what a candidate says is said of its own choice", () => {
    const { response, complete } = readPieces(client, [
      stream(chunk([{ text: "one" }]), chunk([{ text: "two" }], stop, 1), chunk([{ text: " more" }], { finishReason: "MAX_TOKENS" })),
    ]);
    expect(response.choices.map(({ index, finishReason, message }) => [index, finishReason, message?.parts.length])).toEqual([
      [0, FinishReason.LENGTH, 1],
      [1, FinishReason.STOP, 1],
    ]);
    expect(complete).toBe(true);
  });

  it("4: an answer one of whose candidates did not end is not complete", () => {
    const { failure } = readPieces(client, [stream(chunk([{ text: "one" }]), chunk([{ text: "two" }], stop, 1))]);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("5: STOP after a call means the call, whether it comes with it, after it, or with an empty text", () => {
    for (const chunks of [
      [chunk([call("look")], stop)],
      [chunk([call("look")]), chunk([], stop)],
      [chunk([call("look")]), chunk([{ text: "" }], stop)],
      [chunk([call("look")]), { candidates: [{ ...stop }] }],
    ]) {
      const { response } = readPieces(client, [stream(...chunks)]);
      expect(response.choices[0]).toMatchObject({ finishReason: FinishReason.TOOL_CALLS, nativeFinishReason: "STOP" });
    }
  });

  it("6: a call is finished when the provider says so, and not when what came of it is JSON", () => {
    const pieces = (partialArgs: object[], more: object = { willContinue: true }): object =>
      chunk([{ functionCall: { partialArgs, ...more } }]);
    const { events, response } = readPieces(client, [
      stream(
        chunk([{ functionCall: { name: "look", willContinue: true } }]),
        pieces([{ jsonPath: "$.a", stringValue: "x", willContinue: true }]),
        pieces([{ jsonPath: "$.a", stringValue: "y" }]),
        pieces([
          { jsonPath: "$.b[0].c", numberValue: 1.5 },
          { jsonPath: "$.b[1]", boolValue: false },
          { jsonPath: "$.d", nullValue: "NULL_VALUE" },
        ]),
        chunk([{ functionCall: {} }]),
        chunk([call("look", { z: 1 })], stop),
      ),
    ]);
    expect(callsOf(response).map(({ argumentsJson }) => argumentsJson)).toEqual(['{"a":"xy","b":[{"c":1.5},false],"d":null}', '{"z":1}']);
    expect(events.filter((each) => each.case === "toolCall" && each.value.id !== "")).toHaveLength(2);
  });

  it("6: a piece of a call that nobody began is no answer", () => {
    const { failure } = readPieces(client, [stream(chunk([{ functionCall: { partialArgs: [] } }], stop))]);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INVALID");
  });

  it("7: results stand in one turn behind their calls, in the order of the calls, under the names of their functions", () => {
    const messages = [user("a"), calls({ id: "c1", name: "one" }, { id: "c2", name: "two" }), result("c2"), user("Well?"), result("c1")];
    const parts = (content: { parts: { functionResponse?: { name: string; response: { output: string } }; text?: string }[] }) =>
      content.parts.map(({ functionResponse: each, text }) => (each === undefined ? text : [each.name, each.response.output]));
    const results = [
      ["one", "c1"],
      ["two", "c2"],
    ];
    // The newest models want nothing beside results; the others want one turn.
    expect(bodyOf({ messages }).body.contents.slice(2).map(parts)).toEqual([results, ["Well?"]]);
    expect(bodyOf({ messages }, "gemini-2.5-pro").body.contents.slice(2).map(parts)).toEqual([[...results, "Well?"]]);
  });

  it("7: an id that a model uses again means the call of the turn before", () => {
    const { body } = bodyOf({
      messages: [
        user("a"),
        calls({ id: "c", name: "one" }),
        result("c", "1"),
        user("b"),
        calls({ id: "c", name: "two" }),
        result("c", "2"),
      ],
    });
    const [, , first, , , second] = body.contents;
    expect([first.parts[0].functionResponse.name, second.parts[0].functionResponse.name]).toEqual(["one", "two"]);
    const sent = body.contents.flatMap(({ parts }: { parts: { functionCall?: { id: string }; functionResponse?: { id: string } }[] }) =>
      parts.flatMap(({ functionCall, functionResponse }) => functionCall?.id ?? functionResponse?.id ?? []),
    );
    expect(sent).toEqual(["c", "c", "c_2", "c_2"]);
  });

  it("7: a result of no call is refused, since its function's name is not known", () => {
    expect(() => bodyOf({ messages: [user("a"), calls({ id: "c1" }), result("c9")] })).toThrow(
      expect.objectContaining({ field: "messages[2].parts[0].tool_result.tool_call_id" }),
    );
  });

  it("8: every call gets an id of its own, also two calls of one function and ids that are empty or the same", () => {
    const parts = [
      call("look", { a: 1 }),
      call("look", { a: 1 }),
      call("look", {}, { id: "" }),
      call("look", {}, { id: "x" }),
      call("look", {}, { id: "x" }),
    ];
    const ids = callsOf(readPieces(client, [stream(chunk(parts, stop))]).response).map(({ id }) => id);
    expect(new Set(ids).size).toBe(5);
    expect(ids.every((id) => id !== "")).toBe(true);
    expect(ids[3]).toBe("x");
  });

  it("9: names that do not fit and arguments that are no object do not break the conversation, and names come back", () => {
    const name = "9 lives/äh".padEnd(80, "x");
    const request = {
      tools: [{ name, parametersJson: '{"type":"object"}' }],
      messages: [user("a"), calls({ id: "c1", name, argumentsJson: '["x"' })],
    };
    const { body } = bodyOf(request);
    const sent = body.tools[0].functionDeclarations[0].name;
    expect(sent).toMatch(/^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$/);
    expect(body.contents[1].parts[0].functionCall).toMatchObject({ name: sent, args: { value: '["x"' } });
    const { response } = readPieces(client, [stream(chunk([call(sent)], stop))], { request: chatRequest(request) });
    expect(callsOf(response)[0]?.name).toBe(name);
  });
});

describe("content", () => {
  it("11: all texts are kept, joined without anything between", () => {
    const { response } = readPieces(client, [stream(chunk([{ text: "a" }, { text: "b" }]), chunk([{ text: "c" }], stop))]);
    expect(response.choices[0]?.message?.parts.map(({ content }) => content.value)).toMatchObject([{ text: "abc" }]);
  });

  it("13: empty turns are not sent, and thinking that another sealed is left out and told", () => {
    const { body, warnings } = bodyOf({
      messages: [
        user("a"),
        { role: Role.ASSISTANT, parts: [{ content: { case: "text", value: { text: "" } } }] },
        { role: Role.ASSISTANT, parts: [{ content: { case: "reasoning", value: { text: "t", signature: "s", dialect: "other" } } }] },
        user("b"),
      ],
    });
    expect(body.contents).toEqual([{ role: "user", parts: [{ text: "a" }, { text: "b" }] }]);
    expect(warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "messages[2].parts[0]" }]);
  });

  it("16: empty texts make no events", () => {
    const { events } = readPieces(client, [stream(chunk([{ text: "" }]), chunk([{}, { text: "", thought: true }], stop))]);
    expect(events.map((each) => each.case)).toEqual(["start", "finish", "end"]);
  });
});

describe("usage", () => {
  const usage = (usageMetadata: object): object => ({ ...chunk([{ text: "a" }]), usageMetadata });

  it("21: the output counts the thoughts, and running totals replace each other", () => {
    const { response } = readPieces(client, [
      stream(usage({ trafficType: "ON_DEMAND" }), usage({ promptTokenCount: 10, thoughtsTokenCount: 5, totalTokenCount: 15 }), {
        ...chunk([], stop),
        usageMetadata: {
          promptTokenCount: 10,
          toolUsePromptTokenCount: 3,
          candidatesTokenCount: 4,
          thoughtsTokenCount: 7,
          cachedContentTokenCount: 6,
          totalTokenCount: 24,
        },
      }),
    ]);
    expect(response.usage).toMatchObject({
      inputTokens: 13n,
      outputTokens: 11n,
      reasoningTokens: 7n,
      cachedInputTokens: 6n,
      totalTokens: 24n,
    });
  });

  it("21: a last chunk that counts nothing takes no count away", () => {
    const { response } = readPieces(client, [
      stream(usage({ promptTokenCount: 10, totalTokenCount: 10 }), { ...chunk([], stop), usageMetadata: { trafficType: "X" } }),
    ]);
    expect(response.usage?.inputTokens).toBe(10n);
  });

  it("is told once for each read, and before a failure too", () => {
    const counted = (promptTokenCount: number): string => stream(usage({ promptTokenCount, totalTokenCount: promptTokenCount }));
    const told = (...pieces: string[]): unknown[] =>
      readPieces(client, pieces).events.flatMap((each) => (each.case === "usage" ? [[each.value.inputTokens, each.value.nativeJson]] : []));
    const of = (tokens: number): unknown[] => [BigInt(tokens), `{"promptTokenCount":${tokens},"totalTokenCount":${tokens}}`];
    expect(told(counted(1) + counted(2), counted(2), counted(3) + counted(4))).toEqual([of(2), of(4)]);
    expect(told(counted(1) + counted(2), `${counted(3)}data: {\r\n\r\n${counted(4)}`)).toEqual([of(2), of(3)]);
    expect(told(counted(1) + counted(2), stream(usage({ trafficType: "X" })))).toEqual([of(2)]);
  });

  it("23: what the provider did not say is absent and not 0", () => {
    const { response } = readPieces(client, [
      stream({ ...chunk([{ text: "a" }], stop), usageMetadata: { candidatesTokenCount: 1, cachedContentTokenCount: null } }),
    ]);
    expect(response.usage).toEqual({
      $typeName: "outrigger.chat.v1.Usage",
      outputTokens: 1n,
      nativeJson: '{"candidatesTokenCount":1,"cachedContentTokenCount":null}',
    });
    expect(readPieces(client, [stream(chunk([{ text: "a" }], stop))]).response.usage).toBeUndefined();
  });
});

describe("streams and errors", () => {
  const whole = stream(chunk([{ text: "Größe " }]), chunk([{ text: "🦜" }, call("look", { a: "ü" })], stop));

  it("26: one read is not one event", () => {
    const one = readPieces(client, [whole]);
    const many = readPieces(client, cutEverywhere(Buffer.from(whole)));
    expect(many.response).toEqual(one.response);
    expect(many.complete).toBe(true);
  });

  it("27: an error body where a stream was asked for is read as what it is, alone or in an array", () => {
    const error = { error: { code: 429, message: "Slow down.", status: "RESOURCE_EXHAUSTED" } };
    for (const body of [JSON.stringify(error), JSON.stringify([error]), `data: ${JSON.stringify(error)}\r\n\r\n`]) {
      for (const pieces of [[body], cutEverywhere(Buffer.from(body))]) {
        expect(readPieces(client, pieces).failure).toMatchObject({ kind: { name: "PROVIDER_RATE_LIMITED" }, message: "Slow down." });
      }
    }
    for (const body of [JSON.stringify(error), JSON.stringify([error])]) {
      expect(client.readFault({ status: 429, header: () => undefined, body: Buffer.from(body), nowMs: 0 }).message).toBe("Slow down.");
    }
  });

  it("29: an answer that does not say why it ended is not complete, in whichever form it comes", () => {
    const part = chunk([{ text: "a" }]);
    for (const body of [stream(part), JSON.stringify(part), JSON.stringify([part]), `[${JSON.stringify(part)}`, "", "{}", "[]", "\r\n"]) {
      const { complete, failure } = readPieces(client, [body]);
      expect([body, complete, failure?.kind.name]).toEqual([body, false, "PROVIDER_ANSWER_INCOMPLETE"]);
    }
  });

  it("29: half a frame at the end is no frame", () => {
    const { events, failure } = readPieces(client, [stream(chunk([{ text: "a" }])), 'data: {"candidates":[{"finishReason":"ST']);
    expect(events.map((each) => each.case)).toEqual(["start", "text"]);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("29: the last frame counts without its blank line", () => {
    expect(readPieces(client, [whole.trimEnd()]).complete).toBe(true);
  });

  it("30: comments are signs of life", () => {
    expect(readPieces(client, [": keep\n\n", whole]).events[0]?.case).toBe("heartbeat");
  });

  it("31: data needs no blank behind its colon", () => {
    expect(readPieces(client, [whole.replaceAll("data: ", "data:")]).complete).toBe(true);
  });

  it("32: an error's code may be a number, a text or nothing", () => {
    for (const code of [400, "400", undefined]) {
      const body = Buffer.from(JSON.stringify({ error: { code, message: "No.", status: "INVALID_ARGUMENT" } }));
      const fault = client.readFault({ status: 400, header: () => undefined, body, nowMs: 0 });
      expect(fault).toMatchObject({ kind: { name: "PROVIDER_REQUEST_REFUSED" }, message: "No.", httpStatus: 400 });
    }
  });

  it("33: nothing compressed is asked for", () => {
    const { headers } = bodyOf({});
    expect(headers[headers.indexOf("accept-encoding") + 1]).toBe("identity");
  });

  it("34: the request is written anew each time, from what came and untouched", () => {
    const request = chatRequest({ messages: [user("a"), calls({ id: "c" }), result("c")] });
    const before = structuredClone(request);
    const write = (model: string) =>
      client.writeRequest({ request, native: undefined, model, streaming: false, dropUnsupported: true }).body;
    const [first, , third] = [write("gemini-3"), write("gemini-2.0-flash"), write("gemini-3")];
    expect(request).toEqual(before);
    expect(third).toBe(first);
  });

  it("35: a model's name stands encoded in the path", () => {
    expect(bodyOf({}, "a/../b?c#d").path).toBe("/v1beta/models/a%2F..%2Fb%3Fc%23d:streamGenerateContent?alt=sse");
    expect(bodyOf({}, "tunedModels/x/y").path).toBe("/v1beta/tunedModels/x%2Fy:streamGenerateContent?alt=sse");
  });

  it("36: candidates without content, content without parts, parts that are null", () => {
    for (const candidate of [
      stop,
      { ...stop, content: null },
      { ...stop, content: {} },
      { ...stop, content: { parts: null } },
      { ...stop, content: { parts: [null, "x"] } },
    ]) {
      expect(
        readPieces(client, [JSON.stringify({ candidates: [null, candidate], usageMetadata: null })], { streaming: false }).complete,
      ).toBe(true);
    }
  });

  it("37: values that are 0, empty or false are sent", () => {
    const { body } = bodyOf({ temperature: 0, topP: 0, topK: 0n, seed: 0n, maxOutputTokens: 0n, presencePenalty: 0, frequencyPenalty: 0 });
    expect(body.generationConfig).toEqual({
      maxOutputTokens: 0,
      temperature: 0,
      topP: 0,
      topK: 0,
      seed: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
    });
  });

  it("38: names from outside are names and nothing more", () => {
    const piece = (jsonPath: string): object => ({ jsonPath, stringValue: "x" });
    const call = { name: "look", partialArgs: [piece("$.__proto__.polluted"), piece("$['constructor'].prototype.polluted")] };
    const { response } = readPieces(client, [stream(chunk([{ functionCall: call }], stop))]);
    expect(callsOf(response)[0]?.argumentsJson).toBe('{"__proto__":{"polluted":"x"},"constructor":{"prototype":{"polluted":"x"}}}');
    expect(({} as { polluted?: string }).polluted).toBeUndefined();
    const extras = [{ dialect: "gemini", path: "__proto__", json: '{"polluted":1}' }];
    expect(bodyOf({ extras }).text).toContain('"__proto__":{"polluted":1}');
    const schema = '{"type":"object","properties":{"__proto__":{"type":"string"}}}';
    expect(bodyOf({ tools: [{ name: "t", parametersJson: schema }] }, "gemini-2.0-flash").text).toContain(schema);
  });

  it("39: the limit on the answer is sent", () => {
    expect(bodyOf({ maxOutputTokens: 9_007_199_254_740_993n }).text).toContain('"maxOutputTokens":9007199254740993');
  });

  it("40: models that no row knows are taken for the newest, and an operator's rows go before", () => {
    const reasoning = { amount: { case: "effort" as const, value: "low" } };
    expect(bodyOf({ reasoning }, "gemini-9-ultra").body.generationConfig.thinkingConfig).toEqual({
      thinkingLevel: "low",
      includeThoughts: true,
    });
    const own = geminiClient({ version: "v1", project: undefined, callIds: true, models: [{ pattern: "gemini-9*", thinking: "budget" }] });
    const written = own.writeRequest({
      request: chatRequest({ reasoning }),
      native: undefined,
      model: "gemini-9-ultra",
      streaming: false,
      dropUnsupported: false,
    });
    expect(JSON.parse(String(written.body)).generationConfig.thinkingConfig).toEqual({ thinkingBudget: 1024, includeThoughts: true });
  });
});
