import { describe, expect, test } from "vitest";
import {
  type Batch,
  endEvent,
  event,
  finishEvent,
  heartbeatEvent,
  nativeBatch,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
  warningEvent,
} from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { AnswerWriter } from "../dialect.ts";
import { openAiServer } from "./openai.ts";

function writer(members: object = {}): AnswerWriter {
  const body = JSON.stringify({ model: "asked", messages: [{ role: "user", content: "q" }], ...members });
  return openAiServer.writeAnswer(openAiServer.readRequest(Buffer.from(body)), "request-1");
}

const stream = { stream: true };
const start = startEvent("id-1", "model-1", 7, "r", "p");
const stop = finishEvent(0, FinishReason.STOP, "end_turn");
const usage = usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens: 3n, outputTokens: 2n, nativeJson: '{"x":1}' });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The chunks of written frames, parsed. */
function chunks(...written: (Uint8Array | string | undefined)[]): Record<string, unknown>[] {
  const text = written.map((piece) => (typeof piece === "string" ? piece : Buffer.from(piece ?? "").toString())).join("");
  return text
    .split("\n\n")
    .filter((frame) => frame.startsWith("data: {"))
    .map((frame) => JSON.parse(frame.slice("data: ".length)) as Record<string, unknown>);
}

function deltas(...written: (Uint8Array | string | undefined)[]): unknown[] {
  return chunks(...written).flatMap(({ choices }) => (choices as { delta: unknown }[]).map(({ delta }) => delta));
}

describe("streams", () => {
  test("are passed on as they came where nothing changed them", () => {
    const writing = writer(stream);
    const native: Batch = nativeBatch([start, textEvent(0, "a")], { dialect: "openai", form: "frames", bytes: bytes("data: {}\n\n") });
    expect(writing.write(native)).toBe(native.native?.bytes);
    expect(writing.end()).toBe("data: [DONE]\n\n");
  });

  test("are written anew for bytes of another dialect or form", () => {
    for (const native of [
      { dialect: "other", form: "frames" as const, bytes: bytes("x") },
      { dialect: "openai", form: "body" as const, bytes: bytes("{}") },
    ]) {
      expect(deltas(writer(stream).write(nativeBatch([start, textEvent(0, "a")], native)))).toEqual([{ role: "assistant", content: "a" }]);
    }
  });

  // The first delta without a role broke clients (lesson 15), as did choices and calls that all had index 0 (lessons 3, 4).
  test("say once for each choice who speaks, and number choices and calls", () => {
    const batch = [
      start,
      textEvent(0, "a"),
      toolCallEvent(1, 0, "c0", "f", ""),
      toolCallEvent(1, 0, "", "", "{}"),
      textEvent(0, "b"),
      toolCallEvent(1, 1, "c1", "g", "{}"),
    ];
    const written = writer(stream).write(batch);
    expect(chunks(written).map(({ choices }) => (choices as { index: number }[])[0]?.index)).toEqual([0, 1, 1, 0, 1]);
    expect(deltas(written)).toEqual([
      { role: "assistant", content: "a" },
      { role: "assistant", content: null, tool_calls: [{ index: 0, id: "c0", type: "function", function: { name: "f", arguments: "" } }] },
      { tool_calls: [{ index: 0, function: { arguments: "{}" } }] },
      { content: "b" },
      { tool_calls: [{ index: 1, id: "c1", type: "function", function: { name: "g", arguments: "{}" } }] },
    ]);
  });

  test("go on after bytes that were passed on with the same id, model and speaker", () => {
    const writing = writer(stream);
    writing.write(nativeBatch([start, textEvent(0, "a")], { dialect: "openai", form: "frames", bytes: bytes("data: {}\n\n") }));
    const written = writing.write([textEvent(0, "b"), textEvent(1, "c")]);
    expect(chunks(written)).toMatchObject([
      { id: "id-1", model: "model-1", created: 7, choices: [{ index: 0, delta: { content: "b" } }] },
      { choices: [{ index: 1, delta: { role: "assistant", content: "c" } }] },
    ]);
    expect(deltas(written)[0]).toEqual({ content: "b" });
  });

  // Exactly one usage chunk, last, with no choices, and only if asked (providers 0.3.10, 15.14).
  test("show usage once, last, if the caller asked", () => {
    const asked = writer({ ...stream, stream_options: { include_usage: true } });
    const first = usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens: 1n, nativeJson: "" });
    const written = [asked.write([start, textEvent(0, "a"), first]), asked.write([stop, usage, endEvent()]), asked.end()];
    const all = chunks(...written);
    expect(all.map((chunk) => chunk.usage)).toEqual([null, null, { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 }]);
    expect(all.at(-1)?.choices).toEqual([]);
    expect(String(written.at(-1))).toMatch(/\n\ndata: \[DONE\]\n\n$/);

    const unasked = writer(stream);
    const silent = [unasked.write([start, textEvent(0, "a"), usage, stop, endEvent()]), unasked.end()].join("");
    expect(silent).not.toContain("usage");
  });

  test("do not show usage again that was among passed bytes", () => {
    const writing = writer({ ...stream, stream_options: { include_usage: true } });
    writing.write(nativeBatch([start, stop, usage], { dialect: "openai", form: "frames", bytes: bytes("data: {}\n\n") }));
    expect(writing.end()).toBe("data: [DONE]\n\n");
  });

  test("show usage once even where it came twice, once as an event and once among passed bytes", () => {
    const writing = writer({ ...stream, stream_options: { include_usage: true } });
    writing.write([start, textEvent(0, "a"), usage]);
    writing.write(nativeBatch([stop, usage], { dialect: "openai", form: "frames", bytes: bytes("data: {}\n\n") }));
    expect(writing.end()).toBe("data: [DONE]\n\n");
  });

  test("for callers of the deprecated form are never passed on, since calls may have come in the present one", () => {
    const call = [start, toolCallEvent(0, 0, "c", "f", "{}"), finishEvent(0, FinishReason.TOOL_CALLS, "tool_calls")];
    const functions = { functions: [{ name: "f" }] };
    const frames = nativeBatch([...call], { dialect: "openai", form: "frames", bytes: bytes("data: {}\n\n") });
    expect(chunks(writer({ ...stream, ...functions }).write(frames))).toMatchObject([
      { choices: [{ delta: { function_call: { name: "f", arguments: "{}" } } }] },
      { choices: [{ finish_reason: "function_call" }] },
    ]);
    const whole = writer(functions);
    whole.write(nativeBatch([...call, endEvent()], { dialect: "openai", form: "body", bytes: bytes("{}") }));
    expect(JSON.parse(String(whole.end()))).toMatchObject({
      choices: [{ message: { function_call: { name: "f", arguments: "{}" } }, finish_reason: "function_call" }],
    });
  });

  test("give thinking with its seal in a form that comes back as it was", () => {
    const writing = writer(stream);
    const written = writing.write([
      start,
      reasoningEvent(0, 0, "think", { dialect: "other" }),
      reasoningEvent(0, 0, "ing", { dialect: "other" }),
      reasoningEvent(0, 0, "", { signature: "sig", dialect: "other" }),
      reasoningEvent(0, 1, "", { redacted: "sealed", dialect: "other" }),
      textEvent(0, "a"),
    ]);
    const all = deltas(written) as { reasoning_content?: string; reasoning_details?: unknown }[];
    expect(all.map((delta) => delta.reasoning_content ?? "").join("")).toBe("thinking");
    // Callers keep the last list, or gather all of them: both must be read as the blocks that they were.
    const lists = all.flatMap((delta) => (delta.reasoning_details === undefined ? [] : [delta.reasoning_details as unknown[]]));
    for (const details of [lists.at(-1), lists.flat()]) {
      const history = [{ role: "assistant", content: "a", reasoning_content: "thinking", reasoning_details: details }];
      const { request } = openAiServer.readRequest(Buffer.from(JSON.stringify({ model: "m", messages: history })));
      expect(request.messages[0]?.parts.map(({ content }) => content.value)).toMatchObject([
        { text: "thinking", signature: "sig", redacted: "", dialect: "other" },
        { text: "", signature: "", redacted: "sealed", dialect: "other" },
        { text: "a" },
      ]);
    }
  });

  test("keep idle connections alive, and leave warnings to the headers", () => {
    const writing = writer(stream);
    expect(writing.write([start, heartbeatEvent()])).toBe(": ping\n\n");
    expect(writing.write([warningEvent("PARAMETER_DROPPED", "top_k", "left out")])).toBeUndefined();
    expect(writing.write([])).toBeUndefined();
  });

  test("that fail say so and have no closing word", () => {
    const writing = writer(stream);
    writing.write([start, textEvent(0, "a")]);
    const text = writing.fault(new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "It ended."));
    expect(chunks(text)).toMatchObject([{ error: { message: "It ended.", type: "server_error" } }]);
    expect(text).not.toContain("[DONE]");
  });

  test("are not broken by line ends in JSON that is passed on", () => {
    const native = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "openai", path: "annotations", json: '{\n "type":\r\n"x" }' };
    const citation = event("citation", { $typeName: "outrigger.chat.v1.Citation", choice: 0, url: "", title: "", quote: "", native });
    const extra = event("extra", { $typeName: "outrigger.chat.v1.ExtraEvent", choice: 0, extra: { ...native, path: "audio" } });
    const written = writer(stream).write([start, citation, extra]);
    expect(deltas(written)).toMatchObject([{ annotations: [{ type: "x" }] }, { audio: { type: "x" } }]);
    expect(String(written)).toMatch(/^(?:data: [^\r\n]+\n\n){2}$/);
  });

  test("cite what another dialect cited by the place in the text", () => {
    const citation = event("citation", {
      $typeName: "outrigger.chat.v1.Citation",
      choice: 0,
      url: "https://a.test",
      title: "A",
      quote: "",
    });
    expect(deltas(writer(stream).write([start, textEvent(0, "1234"), citation]))[1]).toEqual({
      annotations: [{ type: "url_citation", url_citation: { start_index: 4, end_index: 4, url: "https://a.test", title: "A" } }],
    });
  });

  test("name the answer after the request where nobody named it", () => {
    expect(chunks(writer(stream).write([textEvent(0, "a")]))).toMatchObject([{ id: "request-1", model: "asked" }]);
  });
});

describe("whole answers", () => {
  test("are passed on as they came", () => {
    const writing = writer();
    const body = bytes('{"a": 1.0}');
    expect(writing.write(nativeBatch([start, stop, endEvent()], { dialect: "openai", form: "body", bytes: body }))).toBeUndefined();
    expect(writing.end()).toBe(body);
  });

  // Several blocks of text are one text, without a separator (lesson 11).
  test("are folded from events otherwise", () => {
    const writing = writer();
    for (const batch of [
      [start, textEvent(0, "a")],
      [reasoningEvent(0, 0, "hm", { dialect: "other" })],
      [textEvent(0, "b")],
      [stop, usage, endEvent()],
    ]) {
      expect(writing.write(batch)).toBeUndefined();
    }
    expect(JSON.parse(String(writing.end()))).toEqual({
      id: "id-1",
      object: "chat.completion",
      created: 7,
      model: "model-1",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "ab", refusal: null, reasoning_content: "hm" },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
    });
  });

  test("have null for content only where something else was said", () => {
    const content = (batch: Batch): unknown => {
      const writing = writer();
      writing.write(batch);
      return JSON.parse(String(writing.end())).choices[0].message.content;
    };
    expect(content([start, finishEvent(0, FinishReason.LENGTH, "length"), endEvent()])).toBe("");
    expect(content([start, toolCallEvent(0, 0, "c", "f", "{}"), finishEvent(0, FinishReason.TOOL_CALLS, "tool_use"), endEvent()])).toBe(
      null,
    );
  });

  // Null for a part of the usage that nobody reported broke clients (lesson 23).
  test("leave out parts of usage that nobody reported", () => {
    const writing = writer();
    writing.write([
      start,
      stop,
      usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens: 0n, cachedInputTokens: 0n, nativeJson: "" }),
      endEvent(),
    ]);
    expect(JSON.parse(String(writing.end())).usage).toEqual({ prompt_tokens: 0, prompt_tokens_details: { cached_tokens: 0 } });
  });

  test("that fail are an error and nothing else", () => {
    const writing = writer();
    writing.write([start, textEvent(0, "a")]);
    expect(JSON.parse(writing.fault(new Fault(FaultReason.PROVIDER_FAILED, "It failed.")))).toMatchObject({
      error: { message: "It failed." },
    });
  });
});
