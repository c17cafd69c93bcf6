/**
 * What bit others: each test is one shipped bug of a comparable gateway, under its number in the list that this project keeps. Numbers
 * that are missing concern other dialects, or stand in the golden cases: 34 in every request, 37 in those of every form.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { type LlamaOptions, llamaClient } from "./llama.ts";

const usual: LlamaOptions = {
  form: "completion",
  path: "/completion",
  prompt: { format: "llama3", beginning: false },
  defaultMaxTokens: undefined,
};
const client = llamaClient(usual);

const piece = (content: string, more: object = { stop: false }): string => `data: ${JSON.stringify({ content, ...more })}\n\n`;
const last = piece("", { stop: true, stop_type: "eos", tokens_evaluated: 3, tokens_predicted: 2 });

describe("streams and errors", () => {
  it("26: a read of the network is no event", () => {
    const bytes = Buffer.from(piece("é漢") + piece("🦊") + last);
    expect(readPieces(client, cutEverywhere(bytes)).response.choices).toEqual(readPieces(client, [bytes]).response.choices);
  });

  it("27: an error as the body of a streaming request is an error", () => {
    const { failure } = readPieces(client, ['data: {"error":{"message":"Loading model","type":"unavailable_error","code":503}}\n\n']);
    expect(failure?.facts).toMatchObject({ provider_status: "503", provider_code: "UNAVAILABLE" });
  });

  it("29: a stream without its last event is not finished", () => {
    const { complete, failure } = readPieces(client, [piece("a")]);
    expect(complete).toBe(false);
    expect(failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  it("35: a model's name is escaped where it stands in a path", () => {
    const hosted = llamaClient({ ...usual, form: "generation", path: "/model/{model}/invoke" });
    const input = { request: chatRequest(), native: undefined, streaming: false, dropUnsupported: false };
    const model = "arn:aws:bedrock:eu:1:model/meta.llama3$&";
    expect(hosted.writeRequest({ ...input, model }).path).toBe(`/model/${encodeURIComponent(model)}/invoke`);
  });

  it("36: an empty body, and bodies of every other kind, are faults and no crash", () => {
    const bodies = fc.oneof(
      fc.constant(""),
      fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(bodies, fc.boolean(), (body, streaming) => {
        const { complete, failure } = readPieces(client, [streaming ? `data: ${body}\n\n` : body], { streaming });
        expect(complete).toBe(failure === undefined);
        client.readFault({ status: 400, header: () => undefined, body: Buffer.from(body), nowMs: 0 });
      }),
    );
  });

  it("39: the limit on the answer is sent under the form's own name", () => {
    const limits = (["inputs", "completion", "generation"] as const).map((form) => {
      const written = llamaClient({ ...usual, form }).writeRequest({
        request: chatRequest({ maxOutputTokens: 7n }),
        native: undefined,
        model: "m",
        streaming: false,
        dropUnsupported: false,
      });
      return String(written.body).match(/"(\w+)":7\b/)?.[1];
    });
    expect(limits).toEqual(["max_new_tokens", "n_predict", "max_gen_len"]);
  });
});
