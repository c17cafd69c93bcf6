/**
 * Golden cases of a dialect's client half, in `test/golden/FOLDER`: `requests` are conversations and what goes on the wire for them,
 * `answers` are a provider's bytes and the events that they mean.
 *
 * A request's sections: `conversation` in JSON; where they matter `options`, for the maker of the client, and `asked`, words of
 * `streaming` and `drop`. An answer's: `answer`; `asked`, words of `streaming`; `conversation`; `options`; `status`, for a refusal.
 */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Fault } from "../../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { ClientHalf } from "../../sidecar/dialects/dialect.ts";
import { type GoldenCase, goldenCases } from "./golden.ts";
import { cutEverywhere } from "./random.ts";
import { readPieces } from "./reading.ts";

const given = ["conversation", "options", "asked", "answer", "status"];

/** Runs all cases of a folder. `clientOf` makes a client of the options that a case gives, `{}` where it gives none. */
export function goldenClient(folder: string, clientOf: (options: JsonValue) => ClientHalf): void {
  describe("requests", () => {
    test.each(goldenCases(`${folder}/requests`).map((each) => ({ name: each.name, each })))("$name", ({ each }) => {
      const client = clientOf(jsonOf(each, "options", {}));
      const request = requestOf(each);
      const before = toJson(ChatRequestSchema, request);
      each.check(given, new Map(writeCase(client, request, words(each))));
      // Another attempt elsewhere writes from the same conversation (lesson 34).
      expect(toJson(ChatRequestSchema, request)).toEqual(before);
    });
  });

  describe("answers", () => {
    test.each(goldenCases(`${folder}/answers`).map((each) => ({ name: each.name, each })))("$name", ({ each }) => {
      const client = clientOf(jsonOf(each, "options", {}));
      const bytes = Buffer.from(each.section("answer") ?? "");
      const status = each.section("status");
      if (status !== undefined) {
        each.check(given, new Map([["fault", faultText(refusal(client, status, bytes))]]));
        return;
      }
      // Text sections have no line break at their end, and the wire has.
      const wire = Buffer.concat([bytes, Buffer.from(words(each).has("cut") ? "" : "\n\n")]);
      const changes = { request: requestOf(each), streaming: words(each).has("streaming"), model: "asked-model" };
      const whole = readPieces(client, [wire], changes);
      const pieces = readPieces(client, cutEverywhere(wire), changes);
      const events = (reading: typeof whole): string =>
        reading.batches.flatMap((batch) => batch.map((event) => JSON.stringify(toJson(ChatEventSchema, event)))).join("\n");
      expect(events(pieces)).toBe(events(whole));
      expect(pieces.failure?.message).toBe(whole.failure?.message);
      const failure = whole.failure === undefined ? "none" : faultText(whole.failure);
      each.check(
        given,
        new Map([
          ["events", events(whole)],
          ["failure", failure],
        ]),
      );
    });
  });
}

function writeCase(client: ClientHalf, request: ChatRequest, asked: ReadonlySet<string>): [string, string][] {
  try {
    const written = client.writeRequest({
      request,
      native: undefined,
      model: "org/model:1",
      streaming: asked.has("streaming"),
      dropUnsupported: asked.has("drop"),
    });
    JSON.parse(String(written.body));
    const warnings = written.warnings.map(({ code, field, message }) => `${code} ${field}: ${message}`);
    return [
      ["wire", `${written.path}\n${String(written.body)}`],
      ["warnings", warnings.length === 0 ? "none" : warnings.join("\n")],
    ];
  } catch (caught) {
    if (caught instanceof Fault) return [["fault", faultText(caught)]];
    throw caught;
  }
}

/** The status, and headers as `name: value` in lines below it. */
function refusal(client: ClientHalf, section: string, body: Uint8Array): Fault {
  const [status = "", ...lines] = section.split("\n");
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
  return client.readFault({ status: Number(status), header: (name) => headers.get(name), body, nowMs: 0 });
}

function faultText({ kind, httpStatus, retryable, retryAfterMs, field, message, facts }: Fault): string {
  const told = { httpStatus, retryable, retryAfterMs, field, facts };
  return `${kind.name} ${JSON.stringify(told)}\n${message}`;
}

function requestOf(each: GoldenCase): ChatRequest {
  return fromJson(ChatRequestSchema, jsonOf(each, "conversation", { model: "asked" }));
}

function jsonOf(each: GoldenCase, section: string, otherwise: JsonValue): JsonValue {
  const text = each.section(section);
  return text === undefined ? otherwise : (JSON.parse(text) as JsonValue);
}

function words(each: GoldenCase): Set<string> {
  return new Set((each.section("asked") ?? "").split(/\s+/));
}
