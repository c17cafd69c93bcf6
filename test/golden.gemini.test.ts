/**
 * The Gemini dialect on golden cases. Requests: one conversation, side by side as models of three ages are asked. Answers: the bytes and
 * the events that they mean.
 */
import { fromJson, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../proto/gen/outrigger/chat/v1/events_pb.ts";
import { geminiClient } from "../sidecar/dialects/gemini/gemini.ts";
import { goldenCases } from "./kit/golden.ts";
import { pretty } from "./kit/prettyJson.ts";
import { cutEverywhere } from "./kit/random.ts";
import { readPieces } from "./kit/reading.ts";

const studio = geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] });
const cloud = geminiClient({ version: "v1", project: { project: "p-1", location: "europe-west4" }, callIds: false, models: [] });

/** One that neither thinks nor knows JSON Schema, one that thinks by a number and in a project, and one that no row knows. */
const models = [
  ["gemini-2.0-flash", studio],
  ["gemini-2.5-flash", cloud],
  ["gemini-newest", studio],
] as const;

describe("requests", () => {
  it.each(goldenCases("gemini/requests").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const request = fromJson(ChatRequestSchema, JSON.parse(golden.section("conversation") ?? "{}"));
    const came = new Map<string, string>();
    for (const [model, client] of models) {
      const write = (dropUnsupported: boolean): string => written(client, request, model, dropUnsupported);
      came.set(model, write(false));
      if (came.get(model)?.startsWith("refused")) came.set(`${model}, the unsupported left out`, write(true));
    }
    golden.check(["conversation"], came);
  });
});

describe("answers", () => {
  it.each(goldenCases("gemini/answers").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const given = golden.section("stream");
    const text = given === undefined ? (golden.section("body") ?? "") : `${given.replaceAll("\n", "\r\n")}\r\n\r\n`;
    const bytes = Buffer.from(text);
    const streaming = given !== undefined;
    const { events, batches, failure } = readPieces(studio, [bytes], { streaming });
    const lines = batches.flat().map((event) => JSON.stringify(toJson(ChatEventSchema, event)));
    if (failure !== undefined) lines.push(`failed: ${failure.kind.name}: ${failure.message}`);
    golden.check([streaming ? "stream" : "body"], new Map([["events", lines.join("\n")]]));

    const cut = readPieces(studio, cutEverywhere(bytes), { streaming });
    expect(cut.events).toEqual(events);
    expect(cut.failure?.message).toBe(failure?.message);
  });
});

/** Path and body for a model, and what was reported; or why there is none. */
function written(client: typeof studio, request: ChatRequest, model: string, dropUnsupported: boolean): string {
  try {
    const { path, body, warnings } = client.writeRequest({ request, native: undefined, model, streaming: true, dropUnsupported });
    const reported = warnings.map(({ code, field, message }) => `${code} ${field}: ${message}\n`).join("");
    return `POST ${path}\n${pretty(String(body))}\n${reported}`;
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return `refused: ${caught.kind.name} ${caught.field}: ${caught.message}`;
  }
}
