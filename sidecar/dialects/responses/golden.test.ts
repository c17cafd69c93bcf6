/**
 * The Responses dialect on golden cases, in `test/golden/responses`. `requests`: a body, the conversation that it is, and how the
 * conversation is written again where the body itself cannot be sent. `answers`: a provider's bytes, the events that they mean, and how a
 * caller of this dialect is told these events where it cannot be given the bytes.
 */
import { toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { ChatRequestSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { goldenCases } from "../../../test/kit/golden.ts";
import { pretty } from "../../../test/kit/prettyJson.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import type { ReadRequest } from "../dialect.ts";
import { responsesClient, responsesServer } from "./responses.ts";

const client = responsesClient({ models: [] });

describe("requests", () => {
  it.each(goldenCases("responses/requests").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const body = golden.section("body") ?? "";
    let read: ReadRequest;
    try {
      read = responsesServer.readRequest(Buffer.from(body));
    } catch (caught) {
      golden.check(["body"], new Map([["refused", faultText(caught)]]));
      return;
    }
    const came = new Map([["conversation", pretty(JSON.stringify(toJson(ChatRequestSchema, read.request)))]]);
    for (const [section, dropUnsupported] of [
      ["written", false],
      ["written, with what is not supported left out", true],
    ] as const) {
      try {
        const written = client.writeRequest({ ...read, native: undefined, model: "m", dropUnsupported });
        const warnings = written.warnings.map(({ code, field, message }) => `\n${code} ${field}: ${message}`);
        came.set(section, pretty(String(written.body)) + warnings.join(""));
        break;
      } catch (caught) {
        came.set(section, faultText(caught));
      }
    }
    golden.check(["body"], came);
  });
});

describe("answers", () => {
  it.each(goldenCases("responses/answers").map((each) => [each.name, each] as const))("%s", (_, golden) => {
    const given = golden.section("stream");
    const streaming = given !== undefined;
    const bytes = Buffer.from(given === undefined ? (golden.section("body") ?? "") : `${given}\n\n`);
    const { batches, events, failure } = readPieces(client, [bytes], { streaming });
    const cut = readPieces(client, cutEverywhere(bytes), { streaming });
    expect(cut.events).toEqual(events);
    expect(cut.failure?.message).toBe(failure?.message);

    const lines = batches.flat().map((event) => JSON.stringify(toJson(ChatEventSchema, event)));
    if (failure !== undefined) lines.push(`failed: ${failure.kind.name}: ${failure.message}`);
    const came = new Map([["events", lines.join("\n")]]);
    for (const asStream of [true, false]) {
      const read = responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "asked", input: "q", stream: asStream })));
      const writer = responsesServer.writeAnswer(read, "req-1");
      let text = "";
      for (const batch of batches) text += writer.write([...batch]) ?? "";
      text += failure === undefined ? (writer.end() ?? "") : writer.fault(failure);
      came.set(asStream ? "written as a stream" : "written whole", asStream ? text : pretty(text));
    }
    golden.check([streaming ? "stream" : "body"], came);
  });
});

function faultText(caught: unknown): string {
  if (!(caught instanceof Fault)) throw caught;
  return `${caught.kind.name} ${caught.field}: ${caught.message}`;
}
