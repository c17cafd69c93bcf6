/**
 * The Cohere dialect on golden cases. Requests: one conversation, side by side as models of three kinds are asked. Answers: the bytes, and
 * the events that they mean, whole and cut everywhere.
 */
import { fromJson, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { goldenCases } from "../../../test/kit/golden.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { elementSpans, memberSpans } from "../../framing/json.ts";
import { cohereClient } from "./cohere.ts";

const client = cohereClient({ models: [] });

/** One that cannot be told which tool to call, one that neither thinks nor looks at pictures, and one that no row knows. */
const models = ["command-r-plus-08-2024", "command-a-03-2025", "command-newest"];

describe("requests", () => {
  it.each(goldenCases("cohere/requests").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const request = fromJson(ChatRequestSchema, JSON.parse(golden.section("conversation") ?? ""));
    const before = JSON.stringify(toJson(ChatRequestSchema, request));
    const came = new Map<string, string>();
    for (const model of models) {
      came.set(model, written(request, model, false));
      if (came.get(model)?.startsWith("refused")) came.set(`${model}, the unsupported left out`, written(request, model, true));
    }
    golden.check(["conversation"], came);
    expect(JSON.stringify(toJson(ChatRequestSchema, request))).toBe(before);
  });
});

describe("answers", () => {
  it.each(goldenCases("cohere/answers").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const given = golden.section("stream");
    const bytes = Buffer.from(given === undefined ? (golden.section("body") ?? "") : `${given}\n\n`);
    const streaming = given !== undefined;
    const { events, batches, failure } = readPieces(client, [bytes], { streaming });
    const lines = batches.flat().map((event) => JSON.stringify(toJson(ChatEventSchema, event)));
    if (failure !== undefined) lines.push(`failed: ${failure.kind.name}: ${failure.message}`);
    golden.check([streaming ? "stream" : "body"], new Map([["events", lines.join("\n")]]));

    const cut = readPieces(client, cutEverywhere(bytes), { streaming });
    expect(cut.events).toEqual(events);
    expect(cut.failure?.message).toBe(failure?.message);
  });
});

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

/** JSON text with a line for each member that is not small; what is small stays byte for byte as it was written. */
function pretty(text: string, indent = ""): string {
  const inner = `${indent}  `;
  if (text.length + indent.length <= 120 || !/^[[{]/.test(text)) return text;
  const lines = text.startsWith("[")
    ? elementSpans(text).map(({ start, end }) => inner + pretty(text.slice(start, end), inner))
    : memberSpans(text).map(
        ({ key, valueStart, valueEnd }) => `${inner}${JSON.stringify(key)}: ${pretty(text.slice(valueStart, valueEnd), inner)}`,
      );
  return `${text[0]}\n${lines.join(",\n")}\n${indent}${text.at(-1)}`;
}
