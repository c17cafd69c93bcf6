import { describe, expect, test } from "vitest";
import type { Batch } from "../../../proto/chat.ts";
import { FaultReason } from "../../../proto/fault.ts";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { readAnswer } from "./readAnswer.ts";

const request: ChatRequest = {
  $typeName: "outrigger.chat.v1.ChatRequest",
  model: "m",
  messages: [],
  tools: [],
  stop: ["END"],
  logitBias: {},
  user: "",
  serviceTier: "",
  extras: [],
};

function begin(given: Partial<AnswerInput> = {}): AnswerReader {
  let ids = 0;
  return readAnswer({
    request,
    streaming: true,
    model: "upstream-model",
    route: "r",
    provider: "p",
    nativeStreamUsage: false,
    answerBytesMax: 1000,
    newId: (prefix) => `${prefix}${++ids}`,
    ...given,
  });
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const chunk = (content: string, finish: string | null = null): string =>
  `data: ${JSON.stringify({ id: "i", model: "m", choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`;
const usage = 'data: {"id":"i","choices":[],"usage":{"prompt_tokens":1}}\n\n';
const cases = (batches: readonly Batch[]) => batches.map((batch) => batch.map(({ event }) => event.case));
const native = (batches: readonly Batch[]) => batches.map((batch) => Buffer.from(batch.native?.bytes ?? []).toString());

describe("streams", () => {
  test("give one batch for a read, with its bytes", () => {
    const reader = begin();
    const first = reader.read(bytes(chunk("a") + chunk("b") + chunk("c").slice(0, 20)));
    expect(cases(first)).toEqual([["start", "text", "text"]]);
    expect(native(first)).toEqual([chunk("a") + chunk("b")]);
    const second = reader.read(bytes(chunk("c").slice(20) + chunk("", "stop")));
    expect(cases(second)).toEqual([["text", "finish"]]);
    expect(native(second)).toEqual([chunk("c") + chunk("", "stop")]);
    expect(cases(reader.end())).toEqual([["end"]]);
  });

  test("do not copy what came whole", () => {
    const read = bytes(chunk("a"));
    const [batch] = begin().read(read);
    expect(batch?.native?.bytes.buffer).toBe(read.buffer);
  });

  test("keep usage that was not asked for apart from the bytes, and go on behind it", () => {
    const all = bytes(`${chunk("a", "stop") + usage}: late\n\ndata: [DONE]\n\n`);
    const unasked = begin().read(all);
    expect(cases(unasked)).toEqual([["start", "text", "finish"], ["usage"], ["heartbeat"]]);
    expect(native(unasked)).toEqual([chunk("a", "stop"), "", ": late\n\n"]);
    const asked = begin({ nativeStreamUsage: true }).read(all);
    expect(cases(asked)).toEqual([["start", "text", "finish", "usage", "heartbeat"]]);
    expect(native(asked)).toEqual([`${chunk("a", "stop")}${usage}: late\n\n`]);
  });

  test("pass on frames that say nothing to us", () => {
    const reader = begin();
    reader.read(bytes(chunk("a")));
    const silent = 'data: {"id":"i","choices":[{"index":0,"delta":{},"content_filter_results":{}}]}\n\n';
    const batches = reader.read(bytes(silent));
    expect(cases(batches)).toEqual([[]]);
    expect(native(batches)).toEqual([silent]);
  });

  test("return what came before a failure with it, and nothing afterwards", () => {
    const reader = begin();
    const error = 'data: {"error":{"message":"No.","type":"server_error"}}\n\n';
    const batches = reader.read(bytes(chunk("a") + error + chunk("b")));
    expect(cases(batches)).toEqual([["start", "text"]]);
    expect(native(batches)).toEqual([chunk("a")]);
    expect(reader.failure).toMatchObject({ reason: FaultReason.PROVIDER_FAILED, message: "No." });
    expect(reader.read(bytes(chunk("c", "stop")))).toEqual([]);
    expect(reader.end()).toEqual([]);
  });

  test("with an event that is too large fail, after the events before it", () => {
    for (const end of ["", "\n\n"]) {
      const reader = begin();
      const batches = reader.read(bytes(`${chunk("a")}data: {"x":"${"y".repeat(1000)}${end}`));
      expect(cases(batches)).toEqual([["start", "text"]]);
      expect(reader.failure).toMatchObject({ reason: FaultReason.PROVIDER_ANSWER_INVALID });
      expect(reader.failure?.message).toContain("1000 bytes");
    }
  });

  test("take no sign of life for the beginning of an answer", () => {
    const reader = begin();
    expect(reader.read(bytes(": waiting\n\n"))).toEqual([]);
    expect(cases(reader.read(bytes(`: waiting\n\n${chunk("a")}`)))).toEqual([["start", "text"]]);
  });

  test("tell which stop text was met, where the provider does and the caller gave it", () => {
    const finish = (reason: string) => {
      const line = `data: {"id":"i","choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"${reason}"}]}\n\n`;
      const event = begin().read(bytes(line))[0]?.[1]?.event;
      return event?.case === "finish" ? event.value.stopSequence : undefined;
    };
    expect(finish("END")).toBe("END");
    expect(finish("end_turn")).toBe("");
  });
});

describe("bodies", () => {
  const body = '{"id":"i","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}';

  test("come in one batch, at the end", () => {
    const reader = begin({ streaming: false });
    expect(reader.read(bytes(body.slice(0, 20)))).toEqual([]);
    expect(reader.read(bytes(body.slice(20)))).toEqual([]);
    const batches = reader.end();
    expect(cases(batches)).toEqual([["start", "text", "finish", "end"]]);
    expect(native(batches)).toEqual([body]);
    expect(batches[0]?.native).toMatchObject({ dialect: "openai", form: "body" });
  });

  test("that are too large fail while they come, and are not kept", () => {
    const reader = begin({ streaming: false });
    expect(reader.read(new Uint8Array(1000))).toEqual([]);
    expect(reader.failure).toBeUndefined();
    reader.read(new Uint8Array(1));
    expect(reader.failure).toMatchObject({ reason: FaultReason.PROVIDER_ANSWER_INVALID });
    expect(reader.end()).toEqual([]);
  });

  test("that fail give what they said, without bytes to pass on", () => {
    const reader = begin({ streaming: false });
    reader.read(bytes('{"id":"i","choices":[{"message":{"content":"a"},"finish_reason":null}]}'));
    const batches = reader.end();
    expect(cases(batches)).toEqual([["start", "text"]]);
    expect(native(batches)).toEqual([""]);
    expect(reader.failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
  });
});
