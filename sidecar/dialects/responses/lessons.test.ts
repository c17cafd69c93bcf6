/** Bugs that others shipped, one test each, named for the line of our notes that tells of it; and what this API's servers were seen to do. */
import { describe, expect, test } from "vitest";
import { event, finishEvent, startEvent, textEvent, toolCallEvent } from "../../../proto/chat.ts";
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { readEventStream } from "../../../test/kit/eventStream.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { type Reading, readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { responsesClient, responsesServer } from "./responses.ts";

const client = responsesClient({ models: [] });

/** A stream of events by type and members; numbers are added. */
function stream(...events: readonly (readonly [type: string, members: object])[]): string {
  return events
    .map(([type, members], number) => `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: number, ...members })}\n\n`)
    .join("");
}

const created = ["response.created", { response: { id: "resp_1", model: "m", created_at: 5, status: "in_progress", output: [] } }] as const;
const usage = {
  input_tokens: 3,
  input_tokens_details: { cached_tokens: 1 },
  output_tokens: 2,
  output_tokens_details: { reasoning_tokens: 1 },
  total_tokens: 5,
};
const completed = (output: readonly object[] = []) =>
  ["response.completed", { response: { id: "resp_1", model: "m", created_at: 5, status: "completed", output, usage } }] as const;
const added = (output_index: number, item: object) => ["response.output_item.added", { output_index, item }] as const;
const done = (output_index: number, item: object) => ["response.output_item.done", { output_index, item }] as const;
const delta = (output_index: number, piece: string, content_index = 0) =>
  ["response.output_text.delta", { item_id: "i", output_index, content_index, delta: piece }] as const;
const message = (text: string) => ({
  type: "message",
  id: "msg_1",
  role: "assistant",
  content: [{ type: "output_text", text, annotations: [] }],
});
const call = (args: string, id = "call_1", name = "f") => ({ type: "function_call", id: "fc_1", call_id: id, name, arguments: args });

function read(text: string, streaming = true): Reading {
  return readPieces(client, [Buffer.from(text)], { streaming });
}

/** The parts of what was read, short. */
function partsOf({ response }: Reading): unknown[] {
  return (response.choices[0]?.message?.parts ?? []).map(({ content }) => {
    switch (content.case) {
      case "toolCall":
        return [content.value.id, content.value.name, content.value.argumentsJson];
      case "reasoning":
        return { thought: content.value.text, seal: content.value.signature };
      case "extra":
        return { extra: content.value.json };
      case "text":
      case "refusal":
        return content.value.text;
      default:
        return content.case;
    }
  });
}

function written(text: string, dropUnsupported = false) {
  const asked = responsesServer.readRequest(Buffer.from(text));
  const { body, warnings } = client.writeRequest({ ...asked, native: undefined, model: "m", dropUnsupported });
  return { body: JSON.parse(String(body)), warnings };
}

function refusal(text: string): Fault {
  try {
    responsesServer.readRequest(Buffer.from(text));
  } catch (caught) {
    return caught as Fault;
  }
  throw new Error("it was to be refused");
}

describe("tool calls", () => {
  test("2: a call without arguments has an object for them, and callers of this dialect get that, too", () => {
    const answer = read(stream(created, added(0, call("")), done(0, call("")), completed([call("")])));
    expect(partsOf(answer)).toEqual([["call_1", "f", "{}"]]);
    // The bytes say "", so they are passed on no further than the call's beginning, and the rest is written.
    const seen = writeBatches(responsesServer, answer.batches, { native: true });
    expect(seen).toContain('"arguments":"{}"');
    expect(seen).not.toMatch(/arguments\.done.*"arguments":""/);
    expect(partsOf(read(seen))).toEqual([["call_1", "f", "{}"]]);
  });

  test("3: the number of a call is not the place of its item", () => {
    const answer = read(
      stream(
        created,
        added(0, { type: "reasoning", id: "rs_1", summary: [] }),
        done(0, { type: "reasoning", id: "rs_1", summary: [] }),
        added(1, message("")),
        delta(1, "a"),
        done(1, message("a")),
        added(2, call("", "call_a")),
        ["response.function_call_arguments.delta", { item_id: "fc", output_index: 2, delta: '{"x":1}' }],
        done(2, call('{"x":1}', "call_a")),
        added(3, call("", "call_b", "g")),
        done(3, call('{"y":2}', "call_b", "g")),
        completed(),
      ),
    );
    expect(answer.events.flatMap((each) => (each.case === "toolCall" ? [each.value.index] : []))).toEqual([0, 0, 1, 1]);
    expect(partsOf(answer)).toEqual(["a", ["call_a", "f", '{"x":1}'], ["call_b", "g", '{"y":2}']]);
  });

  test("items written from events stand at places of their own, whatever another provider's blocks were numbered", () => {
    const events = [
      startEvent("r", "m", 0, "", ""),
      toolCallEvent(0, 7, "call_a", "f", '{"a":'),
      toolCallEvent(0, 9, "call_b", "g", '{"b":'),
      toolCallEvent(0, 7, "", "", "1}"),
      toolCallEvent(0, 9, "", "", "2}"),
      finishEvent(0, FinishReason.TOOL_CALLS, ""),
    ];
    const body = writeBatches(responsesServer, [events]);
    expect(partsOf(read(body))).toEqual([
      ["call_a", "f", '{"a":1}'],
      ["call_b", "g", '{"b":2}'],
    ]);
    const places = readEventStream(body).map(({ data }) => JSON.parse(data).output_index);
    expect([...new Set(places.filter((place) => place !== undefined))]).toEqual([0, 1]);
  });

  test("8: a call without an id gets one, and its result can name it", () => {
    const { call_id: _, ...nameless } = call('{"a":1}');
    const answer = read(stream(created, added(0, nameless), done(0, nameless), completed()));
    expect(partsOf(answer)).toEqual([["call_1", "f", '{"a":1}']]);
    expect(answer.native.toString()).not.toContain("output_item");
  });

  test("a call that never has a name is no call, and the answer none", () => {
    const answer = read(stream(created, added(0, call("{}", "c", "")), done(0, call("{}", "c", "")), completed()));
    expect(answer.failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    expect(answer.complete).toBe(false);
  });

  test("a forced call ends as a call does, and other kinds of calls do so, too", () => {
    const custom = { type: "custom_tool_call", id: "ctc_1", call_id: "c", name: "sql", input: "select 1" };
    for (const item of [call("{}"), custom]) {
      const { response } = read(JSON.stringify({ id: "r", status: "completed", output: [item] }), false);
      expect(response.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
    }
  });

  test("an id that is too long is sent as another, the same for the call and its result, in every turn", () => {
    const id = `call_${"x".repeat(80)}`;
    const ask = (turns: number) => {
      const input = Array.from({ length: turns }, () => [
        { type: "function_call", call_id: id, name: "f", arguments: "{}" },
        { type: "function_call_output", call_id: id, output: "o" },
      ]).flat();
      return responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "m", input })));
    };
    const ids = [ask(1), ask(2)].flatMap((asked) => {
      const body = JSON.parse(String(client.writeRequest({ ...asked, model: "m", dropUnsupported: false }).body));
      return body.input.map((item: { call_id: string }) => item.call_id);
    });
    expect(new Set(ids).size).toBe(1);
    expect(ids[0].length).toBeLessThanOrEqual(64);
  });
});

describe("words", () => {
  test("11: all messages of an answer are its text, and all their parts", () => {
    const parts = ["a", "b"].map((text) => ({ type: "output_text", text, annotations: [] }));
    const body = { id: "r", status: "completed", output: [{ type: "message", phase: "commentary", content: parts }, message("c")] };
    expect(partsOf(read(JSON.stringify(body), false))).toEqual(["abc"]);
    const said = read(
      stream(
        created,
        added(0, message("")),
        delta(0, "a"),
        delta(0, "b", 1),
        done(0, message("a")),
        added(1, message("")),
        delta(1, "c"),
        completed(),
      ),
    );
    expect(partsOf(said)).toEqual(["abc"]);
  });

  test("16: empty pieces make no parts and no items", () => {
    const body = writeBatches(responsesServer, [
      [startEvent("r", "m", 0, "", ""), textEvent(0, ""), finishEvent(0, FinishReason.STOP, "")],
    ]);
    expect(body).not.toContain("output_item");
    expect(JSON.parse(readEventStream(body).at(-1)?.data ?? "").response.output).toEqual([]);
  });

  test("what was not said in pieces is said from the first whole that has it, and once", () => {
    const whole = [message("Hello"), call('{"a":1}')];
    const thought = { type: "reasoning", id: "rs", summary: [{ type: "summary_text", text: "Hm." }], encrypted_content: "c2VhbA" };
    const ways = [
      stream(
        created,
        added(0, thought),
        done(0, thought),
        added(1, whole[0] ?? {}),
        done(1, whole[0] ?? {}),
        done(2, whole[1] ?? {}),
        completed([thought, ...whole]),
      ),
      stream(created, completed([thought, ...whole])),
      stream(completed([thought, ...whole])),
    ];
    for (const way of ways) expect(partsOf(read(way))).toEqual([{ thought: "Hm.", seal: "c2VhbA" }, "Hello", ["call_1", "f", '{"a":1}']]);
  });

  test("a server that announces no items is understood", () => {
    expect(partsOf(read(stream(delta(0, "Hel"), delta(0, "lo"), completed())))).toEqual(["Hello"]);
  });

  test("the type stands in the data where there is no line for it, and a closing word is no event", () => {
    const bare = stream(created, delta(0, "Hi"), completed()).replace(/^event: .*\n/gm, "");
    const answer = read(`${bare}data: [DONE]\n\n`);
    expect(partsOf(answer)).toEqual(["Hi"]);
    expect(answer.complete).toBe(true);
    expect(answer.native.toString()).toBe(bare);
  });

  test("a refusal is one, in pieces or whole", () => {
    const refused = { type: "message", id: "msg", content: [{ type: "refusal", refusal: "I will not." }] };
    const pieces = ["I will", " not."].map(
      (piece) => ["response.refusal.delta", { output_index: 0, content_index: 0, delta: piece }] as const,
    );
    for (const answer of [
      read(stream(created, added(0, { type: "message" }), ...pieces, done(0, refused), completed())),
      read(stream(created, done(0, refused), completed())),
    ]) {
      expect(answer.response.choices[0]?.message?.parts.map(({ content }) => content)).toMatchObject([
        { case: "refusal", value: { text: "I will not." } },
      ]);
    }
  });

  test("sources come once, with their own text beside them", () => {
    const annotation = { type: "url_citation", url: "https://a.test", title: "A", start_index: 0, end_index: 2 };
    const item = {
      type: "message",
      content: [{ type: "output_text", text: "Hi", annotations: [annotation, { ...annotation, title: "B" }] }],
    };
    const answer = read(
      stream(
        created,
        added(0, message("")),
        delta(0, "Hi"),
        ["response.output_text.annotation.added", { output_index: 0, content_index: 0, annotation_index: 0, annotation }],
        done(0, item),
        completed([item]),
      ),
    );
    expect(answer.response.choices[0]?.citations.map(({ title, native }) => [title, native?.dialect])).toEqual([
      ["A", "responses"],
      ["B", "responses"],
    ]);
    const again = read(writeBatches(responsesServer, answer.batches));
    expect(again.response.choices[0]?.citations).toEqual(answer.response.choices[0]?.citations);
  });

  test("token probabilities stand with the piece that they are of", () => {
    const tokens = [{ token: "Hi", logprob: -0.5, bytes: [72, 105], top_logprobs: [{ token: "Ho", logprob: -2, bytes: [72, 111] }] }];
    const piece = ["response.output_text.delta", { output_index: 0, content_index: 0, delta: "Hi", logprobs: tokens }] as const;
    const answer = read(stream(created, added(0, message("")), piece, completed()));
    const frame = readEventStream(writeBatches(responsesServer, answer.batches)).find(({ data }) => data.includes("output_text.delta"));
    expect(JSON.parse(frame?.data ?? "")).toMatchObject({ delta: "Hi", logprobs: tokens });
  });
});

describe("thinking", () => {
  test("a summary in parts is one thought, its parts apart", () => {
    const part = (summary_index: number, piece: string) =>
      ["response.reasoning_summary_text.delta", { output_index: 0, summary_index, delta: piece }] as const;
    const item = { type: "reasoning", summary: ["ab", "c"].map((text) => ({ type: "summary_text", text })), encrypted_content: "c2VhbA" };
    const streamed = read(
      stream(created, added(0, { type: "reasoning" }), part(0, "a"), part(0, "b"), part(1, "c"), done(0, item), completed([item])),
    );
    const whole = read(JSON.stringify({ id: "r", status: "completed", output: [item] }), false);
    for (const answer of [streamed, whole]) expect(partsOf(answer)).toEqual([{ thought: "ab\n\nc", seal: "c2VhbA" }]);
  });

  test("open models show the thinking itself", () => {
    const piece = ["response.reasoning_text.delta", { output_index: 0, content_index: 0, delta: "I add." }] as const;
    const item = { type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: "I add." }] };
    for (const answer of [
      read(stream(created, added(0, { type: "reasoning" }), piece, done(0, item), completed())),
      read(stream(created, done(0, item), completed())),
    ]) {
      expect(partsOf(answer)).toEqual([{ thought: "I add.", seal: "" }]);
    }
  });

  test("the seal that counts is that of the item's end", () => {
    const item = (seal: string) => ({ type: "reasoning", id: "rs", summary: [], encrypted_content: seal });
    expect(partsOf(read(stream(created, added(0, item("begun")), done(0, item("whole")), completed([item("again")]))))).toEqual([
      { thought: "", seal: "whole" },
    ]);
  });

  test("sealed thinking goes back with what came of it; alone, unsealed or foreign it is left out and reported", () => {
    const thought = { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "c2VhbA" };
    const kept = written(JSON.stringify({ model: "m", input: [{ role: "user", content: "q" }, thought, call("{}")] }));
    expect(kept.body.input[1]).toEqual({ type: "reasoning", summary: [], encrypted_content: "c2VhbA" });
    expect(kept.warnings).toEqual([]);
    const { encrypted_content: _, ...unsealed } = { ...thought, summary: [{ type: "summary_text", text: "Hm." }] };
    for (const input of [[thought], [unsealed, call("{}")], [{ ...thought, encrypted_content: "outrigger.a.3:abc" }, call("{}")]]) {
      const { body, warnings } = written(JSON.stringify({ model: "m", input: [{ role: "user", content: "q" }, ...input] }));
      expect(JSON.stringify(body.input)).not.toContain("reasoning");
      expect(warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "messages[1].reasoning" }]);
    }
  });

  test("thinking that another dialect sealed does not go out natively, either", () => {
    const foreign = { type: "reasoning", summary: [], encrypted_content: "outrigger.elsewhere.3:abc" };
    const asked = responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "m", input: [foreign, call("{}")] })));
    expect(String(client.writeRequest({ ...asked, model: "m", dropUnsupported: false }).body)).not.toContain("outrigger.elsewhere");
  });

  test("a model that does not think is not asked for it, and is not given it", () => {
    const thought = { type: "reasoning", summary: [], encrypted_content: "c2VhbA" };
    const asked = responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "m", input: [thought, call("{}")] })));
    for (const model of ["gpt-4.1", "gpt-4o-mini", "chatgpt-4o-latest", "gpt-5-chat-latest"]) {
      const body = JSON.parse(String(client.writeRequest({ ...asked, model, dropUnsupported: false }).body));
      expect([body.include, body.input.length]).toEqual([undefined, 1]);
    }
    for (const model of ["gpt-5.1", "o4-mini", "somebody's-deployment"]) {
      const body = JSON.parse(String(client.writeRequest({ ...asked, model, dropUnsupported: false }).body));
      expect(body.include).toEqual(["reasoning.encrypted_content"]);
    }
    const told = responsesClient({ models: [{ pattern: "plain-*", sealedThinking: false }] });
    expect(String(told.writeRequest({ ...asked, model: "plain-1", dropUnsupported: false }).body)).not.toContain("encrypted_content");
  });
});

describe("usage", () => {
  test("23: counts that nobody reported are left out, and never null", () => {
    const counted = { $typeName: "outrigger.chat.v1.Usage" as const, inputTokens: 3n, outputTokens: 2n, nativeJson: "" };
    const body = writeBatches(
      responsesServer,
      [[startEvent("r", "m", 0, "", ""), event("usage", counted), finishEvent(0, FinishReason.STOP, "")]],
      { streaming: false },
    );
    expect(JSON.parse(body).usage).toEqual({
      input_tokens: 3,
      input_tokens_details: {},
      output_tokens: 2,
      output_tokens_details: {},
      total_tokens: 5,
    });
  });

  test("24: what an answer that was cut short or failed consumed is counted", () => {
    for (const [status, more] of [
      ["incomplete", { incomplete_details: { reason: "max_output_tokens" } }],
      ["failed", { error: { code: "server_error", message: "It broke." } }],
    ] as const) {
      const response = { id: "r", status, output: [], usage, ...more };
      for (const answer of [read(stream(created, [`response.${status}`, { response }])), read(JSON.stringify(response), false)]) {
        expect(answer.response.usage).toMatchObject({
          inputTokens: 3n,
          cachedInputTokens: 1n,
          outputTokens: 2n,
          reasoningTokens: 1n,
          totalTokens: 5n,
        });
        expect(answer.complete).toBe(status === "incomplete");
      }
    }
  });

  test("24: an error event before the failed answer takes nothing of that", () => {
    const error = ["error", { error: { type: "server_error", code: "server_error", message: "It broke." } }] as const;
    const failed = [
      "response.failed",
      { response: { id: "r", status: "failed", error: { code: "server_error", message: "It broke." }, usage } },
    ] as const;
    const answer = read(stream(created, error, failed));
    expect(answer.response.usage?.inputTokens).toBe(3n);
    expect(answer.failure?.message).toBe("It broke.");
    expect(answer.native.toString()).toBe(stream(created));
  });
});

describe("ends and errors", () => {
  test.each([
    ["max_output_tokens", FinishReason.LENGTH],
    ["content_filter", FinishReason.CONTENT_FILTER],
    ["something_new", FinishReason.LENGTH],
  ])("2.2: an answer cut short by %s is one, and says why", (reason, finish) => {
    const response = { id: "r", status: "incomplete", incomplete_details: { reason }, output: [message("a")] };
    for (const answer of [read(stream(created, ["response.incomplete", { response }])), read(JSON.stringify(response), false)]) {
      expect(answer.response.choices[0]).toMatchObject({ finishReason: finish, nativeFinishReason: reason });
      const again = JSON.parse(writeBatches(responsesServer, answer.batches, { streaming: false }));
      expect(again.status).toBe("incomplete");
      expect(again.output.at(-1).status).toBe("incomplete");
      expect(again.incomplete_details.reason).toBe(reason === "content_filter" ? "content_filter" : "max_output_tokens");
    }
  });

  test("29: a stream that stops without its last event is no answer, nor is one that is still being made", () => {
    for (const text of [stream(created, delta(0, "a")), `${stream(created)}event: response.completed\ndata: {"type":"response.compl`]) {
      expect(read(text).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
    }
    expect(read(JSON.stringify({ id: "r", status: "in_progress", output: [] }), false).failure?.reason).toBe(
      FaultReason.PROVIDER_ANSWER_INCOMPLETE,
    );
  });

  test("26: a last object in many pieces is one event", () => {
    const text = stream(created, delta(0, "a"), completed([message("x".repeat(5_000))]));
    const { events, complete } = readPieces(client, cutEverywhere(Buffer.from(text)));
    expect(complete).toBe(true);
    expect(events).toEqual(read(text).events);
  });

  test("27: a body that is an error, or the whole answer, is understood where a stream was asked for", () => {
    const error = { error: { message: "No.", type: "invalid_request_error", code: "context_length_exceeded" } };
    expect(read(JSON.stringify(error)).failure?.reason).toBe(FaultReason.CONTEXT_TOO_LONG);
    expect(partsOf(read(JSON.stringify({ id: "r", status: "completed", output: [message("a")] })))).toEqual(["a"]);
  });

  test.each([
    [{ error: { code: "rate_limit_exceeded", message: "Slow." } }, FaultReason.PROVIDER_RATE_LIMITED],
    [{ code: "rate_limit_exceeded", message: "Slow.", param: null }, FaultReason.PROVIDER_RATE_LIMITED],
    [{ error: { code: "insufficient_quota", type: "insufficient_quota", message: "Spent." } }, FaultReason.PROVIDER_QUOTA_SPENT],
    [{ code: "server_error", message: "Broke." }, FaultReason.PROVIDER_FAILED],
    [{ code: "invalid_image_format", message: "No picture." }, FaultReason.PROVIDER_REQUEST_REFUSED],
    [{ code: "invalid_prompt", message: "Not this." }, FaultReason.PROVIDER_REQUEST_REFUSED],
    [{ error: { code: 429, message: "A number." } }, FaultReason.PROVIDER_RATE_LIMITED],
  ])("15.32: the error event %j is understood in either form, whatever its code", (members, reason) => {
    const { failure, response } = read(stream(created, added(0, message("")), delta(0, "a"), ["error", members]));
    expect(failure?.reason).toBe(reason);
    expect(response.choices[0]?.message?.parts).toHaveLength(1);
  });

  test("36: an answer without an output, or with odd things in it, is no crash", () => {
    expect(read(JSON.stringify({ id: "r", status: "completed" }), false).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    const odd = {
      id: "r",
      status: "completed",
      output: [null, 7, {}, { type: "message" }, { type: "message", content: [null, {}] }, message("a")],
    };
    expect(partsOf(read(JSON.stringify(odd), false)).at(-1)).toBe("a");
  });

  test("what a provider runs itself is no call of the caller's, and keeps its own form", () => {
    const search = { type: "web_search_call", id: "ws_1", status: "completed", action: { type: "search", query: "a" } };
    const answer = read(stream(created, added(0, search), done(0, search), added(1, message("")), delta(1, "a"), completed()));
    expect(partsOf(answer)).toEqual([{ extra: JSON.stringify(search) }, "a"]);
    expect(answer.response.choices[0]?.finishReason).toBe(FinishReason.STOP);
    expect(partsOf(read(writeBatches(responsesServer, answer.batches)))).toEqual(partsOf(answer));
  });

  test("an answer that fails in the middle says so twice, with what was said so far", () => {
    const asked = responsesServer.readRequest(Buffer.from('{"model":"m","input":"q","stream":true}'));
    const writer = responsesServer.writeAnswer(asked, "1");
    writer.write([startEvent("r", "m", 0, "", ""), textEvent(0, "Half")]);
    const answer = readPieces(client, [`data: {"type":"error","code":"server_error","message":"It broke."}\n\n`]);
    if (answer.failure === undefined) throw new Error("it was to fail");
    const [error, failed, ...more] = readEventStream(writer.fault(answer.failure)).map(({ data }) => JSON.parse(data));
    expect(more).toEqual([]);
    expect(error).toMatchObject({ type: "error", sequence_number: 5, message: "It broke.", error: { message: "It broke." } });
    expect(failed).toMatchObject({
      type: "response.failed",
      sequence_number: 6,
      response: { status: "failed", error: { message: "It broke." } },
    });
    expect(failed.response.output).toMatchObject([{ type: "message", status: "incomplete", content: [{ text: "Half" }] }]);
  });
});

describe("requests", () => {
  test("34: writing leaves the conversation as it was", () => {
    const request = chatRequest({ topK: 3n, stop: ["x"], extras: [{ dialect: "responses", path: "metadata", json: "{}" }] });
    const before = JSON.stringify(request, (_, value) => (typeof value === "bigint" ? String(value) : value));
    client.writeRequest({ request, native: undefined, model: "m", streaming: true, dropUnsupported: true });
    expect(JSON.stringify(request, (_, value) => (typeof value === "bigint" ? String(value) : value))).toBe(before);
  });

  test("37: nothing and zero are values", () => {
    const asked = {
      model: "m",
      input: "q",
      temperature: 0,
      top_p: 0,
      parallel_tool_calls: false,
      tools: [{ type: "function", name: "f", parameters: {}, strict: false }],
    };
    expect(written(JSON.stringify(asked)).body).toMatchObject({
      temperature: 0,
      top_p: 0,
      parallel_tool_calls: false,
      tools: [{ parameters: {}, strict: false }],
    });
  });

  test("38: members named like those of every object are members and nothing more", () => {
    const text =
      '{"model":"m","input":[{"role":"user","content":"q","__proto__":{"polluted":1}}],"__proto__":{"polluted":2},"constructor":{"a":1}}';
    const asked = responsesServer.readRequest(Buffer.from(text));
    const body = String(client.writeRequest({ ...asked, native: undefined, model: "m", dropUnsupported: false }).body);
    expect(body).toContain('"__proto__":{"polluted":1}');
    expect(body).toContain('"__proto__":{"polluted":2}');
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test("what the API has no parameter for is refused by name, or reported", () => {
    const asked = { topK: 1n, stop: ["x"], seed: 1n, n: 2, presencePenalty: 1, frequencyPenalty: 1, logitBias: { "1": 1 } };
    for (const [member, value] of Object.entries(asked)) {
      const input = { request: chatRequest({ [member]: value }), native: undefined, model: "m", streaming: false };
      const field = member.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      expect(() => client.writeRequest({ ...input, dropUnsupported: false })).toThrow(expect.objectContaining({ field }));
      expect(client.writeRequest({ ...input, dropUnsupported: true }).warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field }]);
    }
  });

  test("a limit that is too low is raised, and the caller is told", () => {
    const ask = (maxOutputTokens: bigint) =>
      client.writeRequest({
        request: chatRequest({ maxOutputTokens }),
        native: undefined,
        model: "m",
        streaming: false,
        dropUnsupported: false,
      });
    expect(JSON.parse(String(ask(5n).body)).max_output_tokens).toBe(16);
    expect(ask(5n).warnings).toMatchObject([{ code: "PARAMETER_CHANGED", field: "max_output_tokens" }]);
    expect(JSON.parse(String(ask(16n).body)).max_output_tokens).toBe(16);
    expect(ask(16n).warnings).toEqual([]);
  });

  test("a tool is not strict unless it is asked to be, and a failed one says so in words", () => {
    const request = chatRequest({
      tools: [{ name: "f", parametersJson: '{"type":"object"}' }],
      messages: [
        { role: Role.ASSISTANT, parts: [{ content: { case: "toolCall", value: { id: "c", name: "f", argumentsJson: "{}" } } }] },
        {
          role: Role.TOOL,
          parts: [
            {
              content: {
                case: "toolResult",
                value: { toolCallId: "c", isError: true, parts: [{ content: { case: "text", value: { text: "no" } } }] },
              },
            },
          ],
        },
      ],
    });
    const body = JSON.parse(
      String(client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false }).body),
    );
    expect(body.tools[0].strict).toBe(false);
    expect(body.input[1]).toEqual({ type: "function_call_output", call_id: "c", output: "Error: no" });
  });

  test("state is not asked for by the back door, either", () => {
    for (const path of ["previous_response_id", "conversation", "background", "store"]) {
      const request = chatRequest({ extras: [{ dialect: "responses", path, json: '"x"' }] });
      expect(() => client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false })).toThrow(
        expect.objectContaining({ field: path, reason: FaultReason.PARAMETER_UNSUPPORTED }),
      );
    }
  });

  test("what a caller gives back of an answer is no wish of its own, for whichever provider", () => {
    const output = [
      {
        ...message("a"),
        status: "completed",
        phase: "commentary",
        content: [{ type: "output_text", text: "a", annotations: [{}], logprobs: [{}] }],
      },
      { ...call("{}"), status: "completed" },
    ];
    const input = [
      { role: "user", content: "q" },
      ...output,
      { type: "function_call_output", id: "o", status: "completed", call_id: "call_1", output: "r" },
    ];
    const { request } = responsesServer.readRequest(
      Buffer.from(
        JSON.stringify({ model: "m", input, store: false, truncation: "disabled", background: false, previous_response_id: null }),
      ),
    );
    expect(request.extras).toEqual([]);
    expect(request.messages.map(({ role, parts }) => [role, parts.map(({ content }) => content.case)])).toEqual([
      [Role.USER, ["text"]],
      [Role.ASSISTANT, ["text", "toolCall"]],
      [Role.TOOL, ["toolResult"]],
    ]);
  });

  test.each([
    ['{"model":"m"}', "input"],
    ['{"input":"q"}', "model"],
    ['{"model":"m","input":[]}', "input"],
    ['{"model":"m","input":7}', "input"],
    ['{"model":"m","input":[{"role":"critic","content":"q"}]}', "input[0].role"],
    ['{"model":"m","input":[{"role":"user","content":[{"text":"q"}]}]}', "input[0].content[0].type"],
    ['{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f"}]}', "input[0].arguments"],
    ['{"model":"m","input":[{"type":"function_call_output","output":"x"}]}', "input[0].call_id"],
    ['{"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_data":"data:x,y"}]}]}', "input[0].content[0].file_data"],
    ['{"model":"m","input":"q","temperature":-1}', "temperature"],
    ['{"model":"m","input":"q","tool_choice":"perhaps"}', "tool_choice"],
    ['{"model":"m","input":"q","tools":[{"type":"function"}]}', "tools[0].name"],
    ['{"model":"m","input":"q","tools":[{"type":"code_interpreter","container":"c"}]}', "tools[0].type"],
    ['{"model":"m","input":"q","tools":[{"type":"mcp","server_url":"https://a.test"}]}', "tools[0].type"],
    ['{"model":"m","input":"q","tool_choice":{"type":"file_search"}}', "tool_choice.type"],
    ['{"model":"m","input":"q","text":{"format":{"type":"json_schema","name":"n"}}}', "text.format.schema"],
  ])("%s is refused at %s", (text, field) => {
    const fault = refusal(text);
    expect({ field: fault.field, reason: fault.reason }).toEqual({ field, reason: FaultReason.REQUEST_INVALID });
    expect(fault.message).toContain(field);
  });

  test("a long name of a caller's is refused, and not cut", () => {
    expect(refusal(JSON.stringify({ model: "m", input: "q", user: "u".repeat(2_000) })).field).toBe("user");
  });
});

describe("an answer that changes in the middle goes on where its bytes ended", () => {
  const whole = stream(
    created,
    added(0, message("")),
    [
      "response.content_part.added",
      { item_id: "msg_1", output_index: 0, content_index: 0, part: { type: "output_text", text: "", annotations: [] } },
    ],
    delta(0, "Hel"),
    delta(0, "lo"),
    ["response.output_text.done", { item_id: "msg_1", output_index: 0, content_index: 0, text: "Hello" }],
    done(0, message("Hello")),
    added(1, call("")),
    ["response.function_call_arguments.delta", { item_id: "fc_1", output_index: 1, delta: '{"a"' }],
    ["response.function_call_arguments.delta", { item_id: "fc_1", output_index: 1, delta: ":1}" }],
    done(1, call('{"a":1}')),
    completed([message("Hello"), call('{"a":1}')]),
  );
  const { batches } = readPieces(client, cutEverywhere(Buffer.from(whole)));
  const withBytes = batches.filter((batch) => batch.length > 0 || batch.native !== undefined);

  test.each(withBytes.map((_, from) => from))("from batch %i on", (from) => {
    const writer = responsesServer.writeAnswer({ request: chatRequest(), native: undefined, streaming: true, streamUsage: true }, "1");
    let text = "";
    withBytes.forEach((batch, at) => {
      const changed: readonly ChatEvent[] = batch.map(({ event: each, ...rest }) => ({ ...rest, event: each }));
      text += String(Buffer.from(writer.write(at < from ? batch : changed) ?? ""));
    });
    text += writer.end() ?? "";
    const events = readEventStream(text).map(({ data }) => JSON.parse(data));
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, number) => number));
    const last = events.at(-1);
    expect(last.type).toBe("response.completed");
    expect(last.response.output.map((item: { id: string; type: string }) => item.type)).toEqual(["message", "function_call"]);
    expect(partsOf(read(text))).toEqual(["Hello", ["call_1", "f", '{"a":1}']]);
    // What began under one id ends under it.
    const ids = (type: string): string[] => events.filter((each) => each.type === type).map(({ item }) => item.id);
    expect(ids("response.output_item.done")).toEqual(ids("response.output_item.added"));
  });
});
