import { describe, expect, it } from "vitest";
import {
  endEvent,
  event,
  finishEvent,
  nativeBatch,
  reasoningEvent,
  refusalEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  warningEvent,
} from "../../../proto/chat.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { readEventStream } from "../../../test/kit/eventStream.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { anthropicClient, anthropicServer } from "./anthropic.ts";

const client = anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] });

const begin = startEvent("chatcmpl-1", "small", 0, "main", "there");
const stop = finishEvent(0, FinishReason.STOP, "stop");

/** The body of a whole answer made of events. */
function whole(...events: ChatEvent[]) {
  return JSON.parse(writeBatches(anthropicServer, [[begin, ...events, endEvent()]], { streaming: false }));
}

function citation(url: string, json?: string): ChatEvent {
  const native = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "anthropic", path: "citations", json: json ?? "" };
  const value = { $typeName: "outrigger.chat.v1.Citation" as const, choice: 0, url, title: "", quote: "q" };
  return event("citation", json === undefined ? value : { ...value, native });
}

describe("whole answers", () => {
  it("name themselves where the provider gave no id", () => {
    const written = writeBatches(anthropicServer, [[startEvent("", "m", 0, "", ""), endEvent()]], { streaming: false });
    expect(JSON.parse(written).id).toBe("msg_req-1");
  });

  it("end as a refusal where the model declined in words of its own", () => {
    expect(whole(refusalEvent(0, "I would "), refusalEvent(0, "rather not."), stop)).toMatchObject({
      content: [{ type: "text", text: "I would rather not." }],
      stop_reason: "refusal",
    });
    expect(whole(textEvent(0, "Yes."), stop).stop_reason).toBe("end_turn");
  });

  it("show seals of other dialects so that they find their way back", () => {
    const { content } = whole(
      reasoningEvent(0, 0, "hm", { signature: "c2ln", dialect: "other" }),
      reasoningEvent(0, 1, "", { redacted: "eA==", dialect: "other" }),
      reasoningEvent(0, 2, "plain"),
      reasoningEvent(0, 3, "own", { signature: "b3du", dialect: "anthropic" }),
      stop,
    );
    expect(content).toEqual([
      { type: "thinking", thinking: "hm", signature: "other:c2ln" },
      { type: "redacted_thinking", data: "other:eA==" },
      { type: "thinking", thinking: "plain", signature: "" },
      { type: "thinking", thinking: "own", signature: "b3du" },
    ]);
    const body = { model: "m", max_tokens: 1, messages: [{ role: "assistant", content }] };
    const { request } = anthropicServer.readRequest(Buffer.from(JSON.stringify(body)));
    expect(request.messages[0]?.parts.map(({ content: { value } }) => value)).toMatchObject([
      { signature: "c2ln", dialect: "other" },
      { redacted: "eA==", dialect: "other" },
      { signature: "" },
      { signature: "b3du", dialect: "anthropic" },
    ]);
  });

  it("put sources with their text: before it in this dialect, behind it in others", () => {
    const own = whole(citation("a", '{"n": 1.0}'), textEvent(0, "one"), citation("b", '{"n":2}'), textEvent(0, "two"), stop).content;
    expect(own).toEqual([
      { type: "text", text: "one", citations: [{ n: 1 }] },
      { type: "text", text: "two", citations: [{ n: 2 }] },
    ]);
    const other = whole(textEvent(0, "one"), citation("https://a"), textEvent(0, "two"), stop).content;
    expect(other).toEqual([
      {
        type: "text",
        text: "onetwo",
        citations: [{ type: "web_search_result_location", url: "https://a", title: null, cited_text: "q", encrypted_index: "" }],
      },
    ]);
  });

  it("show arguments that are no object as the value of one", () => {
    const { content } = whole(toolCallEvent(0, 0, "c", "look", '{"broken'), finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls"));
    expect(content[0].input).toEqual({ value: '{"broken' });
  });

  // The rest of the arguments became a call of its own, without a name.
  it.each<[string, readonly ChatEvent[]]>([
    ["words", [textEvent(0, "hm")]],
    ["words, another call and blanks", [textEvent(0, "hm"), toolCallEvent(0, 1, "d", "see", "{}"), toolCallEvent(0, 1, "", "", "\n")]],
    ["thinking", [reasoningEvent(0, 0, "hm")]],
    ["empty words", [textEvent(0, "")]],
  ])("keep a call together whose arguments are interrupted by %s", (_what, between) => {
    const { content } = whole(
      toolCallEvent(0, 0, "c", "look", '{"at"'),
      ...between,
      toolCallEvent(0, 0, "", "", ":1}"),
      ...between.filter(({ event }) => event.case === "text"),
      toolCallEvent(0, 0, "", "", "\n"),
      finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls"),
    );
    const calls = content.filter(({ type }: { type: string }) => type === "tool_use");
    const called = between.some(({ event }) => event.case === "toolCall");
    expect(calls).toEqual([
      { type: "tool_use", id: "c", name: "look", input: { at: 1 } },
      ...(called ? [{ type: "tool_use", id: "d", name: "see", input: {} }] : []),
    ]);
    const said = content.map(({ text = "", thinking = "" }) => text + thinking).join("");
    expect(said).toBe(
      between.map(({ event }) => (event.case === "text" ? event.value.text.repeat(2) : event.case === "reasoning" ? "hm" : "")).join(""),
    );
  });

  it("leave out what only another dialect knows", () => {
    const extra = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "other", path: "x", json: "{}" };
    expect(whole(event("extra", { $typeName: "outrigger.chat.v1.ExtraEvent", choice: 0, extra }), stop).content).toEqual([]);
  });

  it("pass as they came, unless something was said beside them", () => {
    const body = '{ "id":"msg_1","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1} }';
    const { batches } = readPieces(client, [body], { streaming: false });
    const warning = [warningEvent("PARAMETER_DROPPED", "n", "n was left out")];
    for (const all of [batches, [warning, ...batches], [...batches, warning]]) {
      expect(writeBatches(anthropicServer, all, { streaming: false, native: true })).toBe(body);
    }
    const said = writeBatches(anthropicServer, [...batches, [textEvent(0, " there")]], { streaming: false, native: true });
    expect(
      JSON.parse(said)
        .content.map(({ text }: { text: string }) => text)
        .join(""),
    ).toBe("hi there");
  });
});

describe("streams", () => {
  const frame = (data: object): string => `event: ${"type" in data ? data.type : ""}\ndata: ${JSON.stringify(data)}\n\n`;
  const stream = [
    { type: "message_start", message: { id: "msg_1", model: "m", content: [], usage: { input_tokens: 1, output_tokens: 1 } } },
    { type: "content_block_start", index: 0, content_block: { type: "thinking", thinking: "", signature: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "hm" } },
    { type: "content_block_delta", index: 0, delta: { type: "signature_delta", signature: "c2ln" } },
    { type: "content_block_stop", index: 0 },
    { type: "content_block_start", index: 1, content_block: { type: "server_tool_use", id: "s", name: "search", input: {} } },
    { type: "content_block_delta", index: 1, delta: { type: "input_json_delta", partial_json: '{"q":1}' } },
    { type: "content_block_stop", index: 1 },
    { type: "content_block_start", index: 2, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 2, delta: { type: "text_delta", text: "hi" } },
    { type: "content_block_stop", index: 2 },
    { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 9 } },
    { type: "message_stop" },
  ]
    .map(frame)
    .join("");

  it("end once and open every block once, wherever passing frames stops", () => {
    const { batches } = readPieces(client, cutEverywhere(Buffer.from(stream)));
    for (let from = 0; from <= batches.length; from++) {
      const mixed = batches.map((batch, at) =>
        at < from || batch.native === undefined ? batch : nativeBatch([...batch], { ...batch.native, dialect: "other" }),
      );
      const events = readEventStream(writeBatches(anthropicServer, mixed, { native: true })).map(({ data }) => JSON.parse(data));
      const count = (type: string) => events.filter((each) => each.type === type).length;
      expect(count("message_start")).toBe(1);
      expect(count("message_delta")).toBe(1);
      expect(count("message_stop")).toBe(1);
      expect(events.at(-1)?.type).toBe("message_stop");
      expect(events.filter((each) => each.type === "content_block_start").map((each) => [each.index, each.content_block.type])).toEqual([
        [0, "thinking"],
        [1, "server_tool_use"],
        [2, "text"],
      ]);
    }
  });

  it("say a warning nowhere, and do not stop passing frames for one", () => {
    const { batches } = readPieces(client, cutEverywhere(Buffer.from(stream)));
    const warned = batches.flatMap((batch) => [batch, [warningEvent("PARAMETER_DROPPED", "n", "n was left out")]]);
    expect(writeBatches(anthropicServer, warned, { native: true })).toBe(stream);
  });

  it("write one frame for all text of a batch, and none for nothing", () => {
    const written = writeBatches(anthropicServer, [
      [begin],
      [textEvent(0, "a"), textEvent(0, "b"), textEvent(1, "x"), textEvent(0, "c")],
      [stop],
    ]);
    const pieces = readEventStream(written).flatMap(({ data }) => JSON.parse(data).delta?.text ?? []);
    expect(pieces).toEqual(["ab", "c"]);
    const writer = anthropicServer.writeAnswer(
      {
        ...anthropicServer.readRequest(Buffer.from('{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}')),
        streaming: true,
      },
      "r",
    );
    expect(writer.write([textEvent(1, "x")])).toBeUndefined();
  });
});
