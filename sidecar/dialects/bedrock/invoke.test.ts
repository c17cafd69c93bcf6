import { describe, expect, test } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { dataFrame, exceptionFrame } from "../../../test/kit/eventFrames.ts";
import { differences } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { messagesFormat } from "../../policy/bedrockOptions.ts";
import { anthropicClient, anthropicServer } from "../anthropic/anthropic.ts";
import { invokeClient } from "./bedrock.ts";

const client = invokeClient(
  anthropicClient({ version: "", betas: ["effort-2025-11-24"], defaultMaxTokens: 1000, models: [] }),
  messagesFormat,
);
const model = "anthropic.claude-3-5-haiku-20241022-v1:0";

/** A frame that holds an event of the other dialect. */
const chunk = (event: unknown): Buffer => dataFrame("chunk", { bytes: Buffer.from(JSON.stringify(event)).toString("base64"), p: "ab" });

const events = [
  { type: "message_start", message: { id: "msg_1", model: "claude", usage: { input_tokens: 3, output_tokens: 1 } } },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Grüße" } },
  { type: "content_block_stop", index: 0 },
  { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 4 } },
  { type: "message_stop", "amazon-bedrock-invocationMetrics": { inputTokenCount: 3 } },
];

describe("requests", () => {
  test("name model and streaming in the path, and the version in the body", () => {
    const { path, body, headers } = client.writeRequest({
      request: chatRequest(),
      native: undefined,
      model,
      streaming: true,
      dropUnsupported: false,
    });
    expect(path).toBe("/model/anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke-with-response-stream");
    expect(JSON.parse(String(body))).toEqual({
      max_tokens: 1000,
      messages: [{ role: "user", content: [{ type: "text", text: "Say hello" }] }],
      anthropic_version: "bedrock-2023-05-31",
      anthropic_beta: ["effort-2025-11-24"],
    });
    expect(headers.join()).not.toContain("anthropic");
    const unary = client.writeRequest({ request: chatRequest(), native: undefined, model, streaming: false, dropUnsupported: false });
    expect(unary.path).toMatch(/\/invoke$/);
  });

  test("18: of callers of the Messages format keep all that they say; beta features that would be refused are left out and reported", () => {
    const text =
      '{ "model":"x", "max_tokens":1.0e1, "messages":[{"role":"user","content":"Hi"}], "stream" : true, "unheard_of":{"b":1,"a":2} }';
    const asked = { "anthropic-beta": "interleaved-thinking-2025-05-14,never-heard-2030-01-01" } as Record<string, string>;
    const read = anthropicServer.readRequest(Buffer.from(text), (name) => asked[name]);
    const { body, warnings } = client.writeRequest({ ...read, model, dropUnsupported: false });
    expect(body).toBe(
      '{ "max_tokens":1.0e1, "messages":[{"role":"user","content":"Hi"}], "unheard_of":{"b":1,"a":2},' +
        '"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["effort-2025-11-24","interleaved-thinking-2025-05-14"] }',
    );
    expect(warnings.map(({ field, message }) => `${field}: ${message}`)).toEqual([
      "headers.anthropic-beta: The beta feature never-heard-2030-01-01 was left out: this provider does not take it.",
    ]);
  });
});

describe("streams", () => {
  const whole = Buffer.concat(events.map(chunk));

  test("are the other dialect's events, and its bytes for callers who speak it, however they are cut", () => {
    const { events: came, native, complete, response } = readPieces(client, [whole]);
    expect(complete).toBe(true);
    expect(response.usage).toMatchObject({ inputTokens: 3n, outputTokens: 4n });
    expect(native.toString()).toBe(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
    const random = seededRandom(5);
    const cuts = [cutEverywhere(whole), ...Array.from({ length: 50 }, () => cutAtRandom(whole, 6, random))];
    for (const pieces of cuts) expect(readPieces(client, pieces).events).toEqual(came);
  });

  test("that are cut, flipped, excepted or hold no chunk are faults, and what came before is given", () => {
    const begun = events.slice(0, 3).map(chunk);
    const flipped = chunk(events[3]);
    flipped[40] = (flipped[40] ?? 0) ^ 4;
    const outcomes = [
      [[], FaultReason.PROVIDER_ANSWER_INCOMPLETE],
      [[chunk(events[3]).subarray(0, 30)], FaultReason.PROVIDER_ANSWER_INCOMPLETE],
      [[flipped], FaultReason.PROVIDER_ANSWER_INVALID],
      [[exceptionFrame("throttlingException", "Wait")], FaultReason.PROVIDER_RATE_LIMITED],
      [[exceptionFrame("modelTimeoutException", "Slow")], FaultReason.PROVIDER_TIMEOUT],
      [[dataFrame("chunk", {})], FaultReason.PROVIDER_ANSWER_INVALID],
      [[chunk({ type: "error", error: { type: "overloaded_error", message: "Busy" } })], FaultReason.PROVIDER_UNAVAILABLE],
    ] as const;
    for (const [more, reason] of outcomes) {
      const { complete, failure, response } = readPieces(client, [Buffer.concat([...begun, ...more])]);
      expect({ complete, reason: failure?.reason }).toEqual({ complete: false, reason });
      expect(response.choices[0]?.message?.parts[0]?.content.value).toMatchObject({ text: "Grüße" });
    }
    // An exception behind the last event is one as well.
    expect(readPieces(client, [whole, exceptionFrame("internalServerException", "Late")]).complete).toBe(false);
  });

  test("may have their JSON on several lines", () => {
    const spread = events.map((event) => dataFrame("chunk", { bytes: Buffer.from(JSON.stringify(event, null, 1)).toString("base64") }));
    expect(readPieces(client, spread)).toMatchObject({ complete: true, failure: undefined });
  });

  test("that come as a body are read as one", () => {
    const body = { id: "m", model: "claude", content: [{ type: "text", text: "Hi" }], stop_reason: "end_turn", usage: { input_tokens: 1 } };
    expect(readPieces(client, [JSON.stringify(body)]).complete).toBe(true);
    expect(readPieces(client, [JSON.stringify(body)], { streaming: false }).complete).toBe(true);
  });
});

const recordings = readRecordings(["bedrock"], ["bedrock.invoke-anthropic"]);

describe.skipIf(recordingsFolder() === undefined)(`recordings${recordingsFolder() === undefined ? `: ${recordingsAbsent}` : ""}`, () => {
  test("are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(1);
  });

  test.each(recordings.map((each) => [each.name, each] as const))("%s", (_, { answer, stream: streaming, expect: meaning }) => {
    const random = seededRandom(1);
    const cuts = [[answer], cutEverywhere(answer), ...Array.from({ length: 200 }, () => cutAtRandom(answer, 1 + random.below(8), random))];
    for (const pieces of cuts) {
      const { response, complete, failure: fault } = readPieces(client, pieces, { streaming });
      expect(differences(meaning, { response, complete, fault })).toEqual([]);
    }
  });
});

describe("pictures and documents", () => {
  const data = new Uint8Array([1]);
  const image = (source: { case: "url"; value: string } | { case: "fileId"; value: string } | { case: "data"; value: Uint8Array }) => ({
    content: { case: "image" as const, value: { source, mediaType: "image/png" } },
  });
  const request = chatRequest({
    messages: [
      {
        role: Role.USER,
        parts: [
          image({ case: "data", value: data }),
          image({ case: "url", value: "data:image/png;base64,AQ==" }),
          image({ case: "url", value: "https://pictures.test/a.png" }),
          image({ case: "fileId", value: "file-1" }),
        ],
      },
    ],
  });
  const input = { request, native: { dialect: "anthropic", text: '{"model":"m","messages":[]}' }, model, streaming: false };

  // They were sent as they came, and the provider answered 400: it fetches nothing and keeps no files of this API.
  test("are refused by name where the provider would have to fetch them, also of a caller who speaks the format inside", () => {
    expect(() => client.writeRequest({ ...input, dropUnsupported: false })).toThrow(/messages\[0\]\.parts\[2\] by address/);
    const { body, warnings } = client.writeRequest({ ...input, dropUnsupported: true });
    expect(JSON.parse(String(body)).messages[0].content.map(({ source }: { source: { type: string } }) => source.type)).toEqual([
      "base64",
      "base64",
    ]);
    expect(warnings.map(({ field }) => field)).toEqual(["messages[0].parts[2]", "messages[0].parts[3]"]);
  });
});
