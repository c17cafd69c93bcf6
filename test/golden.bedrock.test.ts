/**
 * The Bedrock dialect on golden cases. Requests: one conversation, side by side as models of several makers are asked. Answers: the events
 * of a stream, or a body, and what they mean.
 */
import { fromJson, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../proto/gen/outrigger/chat/v1/events_pb.ts";
import { bedrockClient } from "../sidecar/dialects/bedrock/bedrock.ts";
import { eventFrame, exceptionFrame } from "./kit/eventFrames.ts";
import { goldenCases } from "./kit/golden.ts";
import { pretty } from "./kit/prettyJson.ts";
import { cutEverywhere } from "./kit/random.ts";
import { readPieces } from "./kit/reading.ts";

const client = bedrockClient({ guardrail: undefined, models: [] });

/** One that thinks not at all, one by a budget, one by words, one that cannot be made to call a tool, and one that nobody knows. */
const models = [
  "anthropic.claude-3-5-haiku-20241022-v1:0",
  "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
  "us.amazon.nova-2-lite-v1:0",
  "meta.llama3-3-70b-instruct-v1:0",
  "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc",
];

describe("requests", () => {
  it.each(goldenCases("bedrock/requests").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const request = fromJson(ChatRequestSchema, JSON.parse(golden.section("conversation") ?? "{}"));
    const came = new Map<string, string>();
    for (const model of models) {
      came.set(model, written(request, model, false));
      if (came.get(model)?.startsWith("refused")) came.set(`${model}, the unsupported left out`, written(request, model, true));
    }
    golden.check(["conversation"], came);
  });
});

describe("answers", () => {
  it.each(goldenCases("bedrock/answers").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const stream = golden.section("stream");
    const streaming = stream !== undefined;
    const bytes = stream === undefined ? Buffer.from(golden.section("body") ?? "") : framesOf(stream);
    const request = fromJson(ChatRequestSchema, JSON.parse(golden.section("request") ?? '{"model":"m"}'));
    const { events, batches, failure } = readPieces(client, [bytes], { streaming, request });
    const lines = batches.flat().map((event) => JSON.stringify(toJson(ChatEventSchema, event)));
    if (failure !== undefined) lines.push(`failed: ${failure.kind.name}: ${failure.message}`);
    golden.check(["request", "stream", "body"], new Map([["events", lines.join("\n")]]));

    const cut = readPieces(client, cutEverywhere(bytes), { streaming, request });
    expect(cut.events).toEqual(events);
    expect(cut.failure?.message).toBe(failure?.message);
  });
});

/** A stream by lines: the kind of an event and its payload, or `exception`, its kind and its message. */
function framesOf(lines: string): Buffer {
  return Buffer.concat(
    lines.split("\n").map((line) => {
      const [kind = "", rest = ""] = splitOnce(line);
      if (kind === "exception") return exceptionFrame(...splitOnce(rest));
      return eventFrame({ ":event-type": kind, ":content-type": "application/json", ":message-type": "event" }, rest);
    }),
  );
}

function splitOnce(line: string): [string, string] {
  const at = line.indexOf(" ");
  return [line.slice(0, at), line.slice(at + 1)];
}

/** The path and body for a model, and what was reported; or why there is none. */
function written(request: ChatRequest, model: string, dropUnsupported: boolean): string {
  try {
    const { path, body, warnings } = client.writeRequest({ request, native: undefined, model, streaming: false, dropUnsupported });
    const reported = warnings.map(({ code, field, message }) => `${code} ${field}: ${message}\n`).join("");
    return `${path}\n${pretty(String(body))}\n${reported}`;
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return `refused: ${caught.kind.name} ${caught.field}: ${caught.message}`;
  }
}
