/**
 * The Anthropic dialect on golden cases. Requests: one conversation, side by side as models of three ages are asked. Answers: the bytes,
 * the events that they mean, and how they are written again from those.
 */
import Anthropic from "@anthropic-ai/sdk";
import { fromJson, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../proto/gen/outrigger/chat/v1/events_pb.ts";
import { anthropicClient, anthropicServer } from "../sidecar/dialects/anthropic/anthropic.ts";
import { goldenCases } from "./kit/golden.ts";
import { pretty } from "./kit/prettyJson.ts";
import { cutEverywhere } from "./kit/random.ts";
import { readPieces, writeBatches } from "./kit/reading.ts";

const client = anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] });

/** One that knows neither thinking nor schemas, one that thinks by a budget, and one that no row knows. */
const models = ["claude-3-5-haiku-latest", "claude-sonnet-4-5", "claude-newest"];

describe("requests", () => {
  it.each(goldenCases("anthropic/requests").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const native = golden.section("as it came");
    const conversation = golden.section("conversation");
    const came = new Map<string, string>();
    let request: ChatRequest;
    if (native !== undefined) {
      request = anthropicServer.readRequest(Buffer.from(native)).request;
      came.set("conversation", pretty(JSON.stringify(toJson(ChatRequestSchema, request))));
    } else request = fromJson(ChatRequestSchema, JSON.parse(conversation ?? "{}"));
    for (const model of models) {
      came.set(model, written(request, model, false));
      if (came.get(model)?.startsWith("refused")) came.set(`${model}, the unsupported left out`, written(request, model, true));
    }
    golden.check([native === undefined ? "conversation" : "as it came"], came);
  });
});

describe("answers", () => {
  it.each(goldenCases("anthropic/answers").map((each) => [each.name, each] as const))("%s", async (_, golden) => {
    const came = new Map<string, string>();
    const given = golden.section("stream");
    const bytes = Buffer.from(given === undefined ? (golden.section("body") ?? "") : `${given}\n\n`);
    const streaming = given !== undefined;
    const { events, batches, complete, failure } = readPieces(client, [bytes], { streaming });
    const lines = batches.flat().map((event) => JSON.stringify(toJson(ChatEventSchema, event)));
    if (failure !== undefined) lines.push(`failed: ${failure.kind.name}: ${failure.message}`);
    came.set("events", lines.join("\n"));
    if (complete) {
      came.set("written as a stream", writeBatches(anthropicServer, [batches.flat()]));
      came.set("written whole", pretty(writeBatches(anthropicServer, [batches.flat()], { streaming: false })));
    }
    golden.check([streaming ? "stream" : "body"], came);
    const stream = came.get("written as a stream");
    if (stream !== undefined) expect(await bySdk(stream)).toEqual(JSON.parse(came.get("written whole") ?? ""));

    const cut = readPieces(client, cutEverywhere(bytes), { streaming });
    expect(cut.events).toEqual(events);
    expect(cut.failure?.message).toBe(failure?.message);
  });
});

/** What the provider's own SDK makes of a stream. */
async function bySdk(stream: string): Promise<unknown> {
  const sdk = new Anthropic({
    apiKey: "none",
    maxRetries: 0,
    fetch: async () => new Response(stream, { headers: { "content-type": "text/event-stream" } }),
  });
  const messages = [{ role: "user" as const, content: "x" }];
  const message = await sdk.messages.stream({ model: "m", max_tokens: 1, messages }).finalMessage();
  // The one member that the SDK adds of its own.
  const { parsed_output: _, ...answer } = JSON.parse(JSON.stringify(message));
  return answer;
}

/** The body for a model, and what was reported; or why there is none. */
function written(request: ChatRequest, model: string, dropUnsupported: boolean): string {
  try {
    const { body, warnings } = client.writeRequest({ request, native: undefined, model, streaming: false, dropUnsupported });
    const reported = warnings.map(({ code, field, message }) => `${code} ${field}: ${message}\n`).join("");
    return `${pretty(String(body))}\n${reported}`;
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return `refused: ${caught.kind.name} ${caught.field}: ${caught.message}`;
  }
}
