import { describe, expect, it } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { anthropicClient, anthropicServer } from "./anthropic.ts";

const client = anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] });

const frame = (data: object): string => `event: ${"type" in data ? data.type : ""}\ndata: ${JSON.stringify(data)}\n\n`;
const begin = frame({
  type: "message_start",
  message: { id: "msg_1", model: "m", content: [], usage: { input_tokens: 1, output_tokens: 1 } },
});
const openText = frame({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } });
const piece = (text: string, index = 0): string => frame({ type: "content_block_delta", index, delta: { type: "text_delta", text } });
const closed = frame({ type: "content_block_stop", index: 0 });
const told = (stop_reason = "end_turn"): string => frame({ type: "message_delta", delta: { stop_reason }, usage: { output_tokens: 2 } });
const over = frame({ type: "message_stop" });
const textOf = (stream: string): string =>
  readPieces(client, [stream])
    .events.map((event) => (event.case === "text" ? event.value.text : ""))
    .join("");

describe("pieces of text", () => {
  it("mean the same in whatever form their frames come", () => {
    const plain = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}';
    const forms = [
      plain,
      plain.replace("}}", "}  }   "),
      plain.replaceAll(":", ": "),
      plain.replace('"one"}', '"one","more":{"text":"no"}}'),
      plain.replace('"index":0,', '"index":0,"x":1,'),
      '{"type":"content_block_delta","delta":{"text":"one","type":"text_delta"},"index":0}',
      plain.replace("one", "\\u006fne"),
    ];
    for (const form of forms) expect(textOf(`${begin}${openText}data: ${form}\n\n${closed}${told()}${over}`)).toBe("one");
  });

  it("keep every character", () => {
    for (const text of ['"', "\\", '\\"', "}}", '"}}', "\u2028", "é\u0000🚣", " ", "\n"]) {
      expect(textOf(begin + openText + piece(text) + piece("é") + closed + told() + over)).toBe(`${text}é`);
    }
  });

  it("are refused where they are cut off inside", () => {
    for (const broken of [
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one',
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}}',
    ]) {
      const { failure } = readPieces(client, [`${begin}${openText}data: ${broken}\n\n${closed}${told()}${over}`]);
      expect(failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    }
  });

  it("belong to an open block of text", () => {
    const { failure } = readPieces(client, [begin + openText + piece("x", 7)]);
    expect(failure?.message).toMatch(/not open/);
    const thinking = frame({ type: "content_block_start", index: 0, content_block: { type: "thinking", thinking: "" } });
    expect(textOf(begin + thinking + piece("x") + closed + told() + over)).toBe("");
  });
});

describe("ends", () => {
  it("nothing counts behind the end", () => {
    const answer = begin + openText + piece("x") + closed + told() + over;
    for (const more of [
      piece("y"),
      over,
      frame({ type: "error", error: { type: "api_error", message: "late" } }),
      begin.replace("msg_1", "msg_2"),
      "data: [DONE]\n\n",
    ]) {
      const whole = readPieces(client, [answer + more]);
      expect(whole.complete).toBe(true);
      expect(whole.response).toEqual(readPieces(client, [answer]).response);
      expect(whole.native.toString()).toBe(answer);
      expect(readPieces(client, [answer, more]).native.toString()).toBe(answer);
    }
  });

  it("the last frame may lack its blank line, and gets one where it is passed on", () => {
    const answer = begin + openText + piece("x") + closed + told() + over;
    for (const cut of [1, 2]) {
      const { complete, batches } = readPieces(client, [answer.slice(0, -cut)]);
      expect(complete).toBe(true);
      const written = writeBatches(anthropicServer, batches, { native: true });
      expect(written.startsWith(answer.slice(0, -cut))).toBe(true);
      expect(written.endsWith("\n\n")).toBe(true);
    }
  });

  it("a block that nobody closed ends with the answer", () => {
    const tool = frame({ type: "content_block_start", index: 0, content_block: { type: "tool_use", id: "t", name: "look", input: {} } });
    const { response } = readPieces(client, [begin + tool + told("tool_use") + over]);
    expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ argumentsJson: "{}" });
  });

  it("each stop reason means what it means", () => {
    const reasons = {
      end_turn: FinishReason.STOP,
      stop_sequence: FinishReason.STOP,
      pause_turn: FinishReason.STOP,
      compaction: FinishReason.STOP,
      of_tomorrow: FinishReason.STOP,
      max_tokens: FinishReason.LENGTH,
      model_context_window_exceeded: FinishReason.LENGTH,
      tool_use: FinishReason.TOOL_CALLS,
      refusal: FinishReason.CONTENT_FILTER,
    };
    for (const [word, reason] of Object.entries(reasons)) {
      const { batches, response } = readPieces(client, [begin + told(word) + over]);
      expect(response.choices[0]).toMatchObject({ finishReason: reason, nativeFinishReason: word });
      // The word that a caller of the same format sees is the provider's own.
      if (word !== "of_tomorrow") expect(writeBatches(anthropicServer, batches)).toContain(`"stop_reason":"${word}"`);
    }
  });
});

describe("JSON that comes by a tool", () => {
  const format = { format: { case: "jsonSchema" as const, value: { name: "n", schemaJson: '{"type":"object"}' } } };
  const request = chatRequest({ responseFormat: format, tools: [{ name: "look", parametersJson: "{}" }] });
  const use = (index: number, name: string, ...pieces: string[]): string =>
    frame({ type: "content_block_start", index, content_block: { type: "tool_use", id: `t${index}`, name, input: {} } }) +
    pieces.map((json) => frame({ type: "content_block_delta", index, delta: { type: "input_json_delta", partial_json: json } })).join("") +
    frame({ type: "content_block_stop", index });

  it("is the answer's text, and the answer is done", () => {
    const stream = begin + use(0, "json", "", '{"a"', ": 1.0}") + told("tool_use") + over;
    const { response, native } = readPieces(client, cutEverywhere(Buffer.from(stream)), { request });
    expect(response.choices[0]).toMatchObject({
      finishReason: FinishReason.STOP,
      nativeFinishReason: "tool_use",
      message: { parts: [{ content: { case: "text", value: { text: '{"a": 1.0}' } } }] },
    });
    // The bytes speak of a tool that the caller does not have.
    expect(native.toString()).toBe(begin);
  });

  it("goes out as text and as a normal end where the beginning was passed on as it came", () => {
    const stream = begin + use(0, "json", '{"a": 1.0}') + told("tool_use") + over;
    const { batches } = readPieces(client, cutEverywhere(Buffer.from(stream)), { request });
    const again = readPieces(client, [writeBatches(anthropicServer, batches, { native: true })]);
    expect(again.response.choices[0]).toMatchObject({
      nativeFinishReason: "end_turn",
      message: { parts: [{ content: { case: "text", value: { text: '{"a": 1.0}' } } }] },
    });
  });

  it("leaves calls of other tools what they are", () => {
    const { response } = readPieces(client, [begin + use(0, "look", "{}") + told("tool_use") + over], { request });
    expect(response.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
    const both = readPieces(client, [begin + use(0, "json", "{}") + use(1, "look", "{}") + told("tool_use") + over], { request });
    expect(both.response.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
  });

  it("is text in a whole answer too, and {} where the tool got nothing", () => {
    const body = (input: string) =>
      `{"id":"m","model":"m","content":[{"type":"tool_use","id":"t","name":"json","input":${input}}],"stop_reason":"tool_use"}`;
    for (const input of ['{"a": 1.0}', "{}"]) {
      const { response, native } = readPieces(client, [body(input)], { request, streaming: false });
      expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ text: input });
      expect(native).toHaveLength(0);
    }
    const { response } = readPieces(client, [begin + use(0, "json") + told("tool_use") + over], { request });
    expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ text: "{}" });
  });

  it("is a tool like any other where the caller has one of that name", () => {
    const own = chatRequest({
      responseFormat: format,
      tools: [
        { name: "json", parametersJson: "{}" },
        { name: "json_2", parametersJson: "{}" },
      ],
    });
    const { response } = readPieces(client, [begin + use(0, "json", "{}") + told("tool_use") + over], { request: own });
    expect(response.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
    const third = readPieces(client, [begin + use(0, "json_3", "{}") + told("tool_use") + over], { request: own });
    expect(third.response.choices[0]?.finishReason).toBe(FinishReason.STOP);
    // A name of the caller's that is sent under another one must not meet it either.
    const odd = chatRequest({ responseFormat: format, tools: [{ name: "json", parametersJson: "{}" }, { name: "json.2" }] });
    const call = readPieces(client, [begin + use(0, "json_2", "{}") + told("tool_use") + over], { request: odd });
    expect(call.response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ name: "json.2" });
  });
});

describe("limits", () => {
  it("hold for a whole answer, a frame, and a block that is held back", () => {
    const limits = { answerBytesMax: 300 };
    const refusal = /larger than the limit of 300 bytes/;
    const body = readPieces(client, [`{"content":[],"x":"${"y".repeat(300)}"}`], { ...limits, streaming: false });
    expect(body.failure?.message).toMatch(refusal);
    expect(readPieces(client, cutEverywhere(Buffer.from("x".repeat(400))), { ...limits, streaming: false }).failure?.message).toMatch(
      refusal,
    );
    expect(readPieces(client, [begin + openText + piece("x".repeat(300))], limits).failure?.message).toMatch(refusal);
    expect(readPieces(client, [begin + openText, "data: ", "x".repeat(200), "x".repeat(200)], limits).failure?.message).toMatch(refusal);
    const server = frame({ type: "content_block_start", index: 0, content_block: { type: "server_tool_use", id: "s", input: {} } });
    const input = frame({ type: "content_block_delta", index: 0, delta: { type: "input_json_delta", partial_json: "x".repeat(100) } });
    expect(readPieces(client, [begin + server + input + input + input + input], limits).failure?.message).toMatch(refusal);
    // Many frames below the limit are no large frame.
    const long = begin + openText + piece("x".repeat(50)).repeat(40) + closed + told() + over;
    expect(readPieces(client, [long], limits).complete).toBe(true);
    expect(readPieces(client, cutEverywhere(Buffer.from(long)), limits).complete).toBe(true);
  });
});
