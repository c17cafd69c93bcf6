/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects, or stand in the golden cases: 34 in every request.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { huggingFaceClient } from "./huggingface.ts";

const options = { prompt: { format: "chatml", beginning: false }, defaultMaxTokens: 1024n, modelInPath: false } as const;
const client = huggingFaceClient(options);

const token = (text: string, special = false): string =>
  `data:${JSON.stringify({ token: { id: 1, text, logprob: -1, special }, generated_text: null, details: null })}\n\n`;
const last = `data:${JSON.stringify({ token: { id: 2, text: "</s>", logprob: 0, special: true }, generated_text: "x", details: { finish_reason: "eos_token", generated_tokens: 2, seed: null } })}\n\n`;

function parametersOf(init: Parameters<typeof chatRequest>[0]) {
  const written = client.writeRequest({
    request: chatRequest(init),
    native: undefined,
    model: "m",
    streaming: false,
    dropUnsupported: false,
  });
  return JSON.parse(String(written.body)).parameters;
}

describe("content", () => {
  it("11: all text parts are kept", () => {
    const parts = ["a", "b"].map((value) => ({ content: { case: "text" as const, value: { text: value } } }));
    const request = chatRequest({ messages: [{ role: Role.USER, parts }] });
    const written = client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false });
    expect(JSON.parse(String(written.body)).inputs).toContain("user\nab<|im_end|>");
  });

  it("16: empty tokens make no events", () => {
    const { events } = readPieces(client, [token(""), token("a"), last]);
    expect(events.map((each) => each.case)).toEqual(["start", "text", "finish", "usage", "end"]);
  });
});

describe("streams and errors", () => {
  it("26: a read of the network is no event", () => {
    const bytes = Buffer.from(token("é漢") + token("🦊") + last);
    expect(readPieces(client, cutEverywhere(bytes)).response.choices).toEqual(readPieces(client, [bytes]).response.choices);
  });

  it("27: an error as the body of a streaming request is an error", () => {
    const { failure } = readPieces(client, ['data:{"error":"Request failed during generation","error_type":"generation"}\n\n']);
    expect(failure?.facts).toMatchObject({ provider_status: "424", provider_type: "generation" });
  });

  it("29: a stream without its last event is not finished", () => {
    const { complete, failure } = readPieces(client, [token("a")]);
    expect(complete).toBe(false);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("30: a sign of life is passed on before the first word and between words", () => {
    const { events } = readPieces(client, [":\n\n", token("a"), ": keep-alive\n\n", last]);
    expect(events.map((each) => each.case)).toEqual(["start", "heartbeat", "text", "heartbeat", "finish", "usage", "end"]);
  });

  it("31: data without a blank behind the colon is data", () => {
    expect(token("a").startsWith("data:{")).toBe(true);
    expect(readPieces(client, [token("a"), last]).complete).toBe(true);
    expect(readPieces(client, [token("a").replace("data:", "data: "), last]).complete).toBe(true);
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

  it("35: a model's name is escaped where it stands in a path", () => {
    const shared = huggingFaceClient({ ...options, modelInPath: true });
    const input = { request: chatRequest(), native: undefined, streaming: false, dropUnsupported: false };
    expect(shared.writeRequest({ ...input, model: "org/a model?x=1#y" }).path).toBe("/models/org/a%20model%3Fx%3D1%23y");
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
          const { complete, failure } = readPieces(client, [streaming ? `data:${body}\n\n` : body], { streaming });
          expect(complete).toBe(failure === undefined);
          client.readFault({ status: 503, header: () => undefined, body: Buffer.from(body), nowMs: 0 });
        },
      ),
    );
  });

  it("37: zeros are values, in the words that the server has for them", () => {
    expect(parametersOf({ temperature: 0, seed: 0n, maxOutputTokens: 0n })).toMatchObject({ do_sample: false, seed: 0, max_new_tokens: 0 });
  });
});
