/**
 * The project's own cases of this dialect, in `test/golden/openai`: a file is a case, with what is given and what must come of it.
 * `UPDATE_GOLDEN=1` writes what comes into the files, for a person to read in the difference.
 *
 * `reads`: a request body and the conversation that it is. `writes`: a conversation and the body that is sent. `rewrites`: a body of this
 * dialect on its way to a provider of this dialect. `answers`: a provider's bytes, their events, the bytes that are passed on, and how
 * the events are written where bytes cannot be.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import type { Batch } from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatEventSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { cutEverywhere } from "../../../test/kit/random.ts";
import type { AnswerReader, ClientHalf, WrittenRequest } from "../dialect.ts";
import { type OpenAiOptions, openAiClient, openAiServer } from "./openai.ts";

const folder = join(import.meta.dirname, "../../../test/golden/openai");
const usual: OpenAiOptions = { maxTokensField: "max_completion_tokens", developerRole: true, streamUsage: true };

type Case = { readonly [member: string]: JsonValue };

/** Runs every case of a folder: `run` makes what comes of what is given. */
function golden(kind: string, run: (given: Case) => Record<string, JsonValue>): void {
  describe(kind, () => {
    test.each(readdirSync(join(folder, kind)).map((file) => file.replace(/\.json$/, "")))("%s", (name) => {
      const path = join(folder, kind, `${name}.json`);
      const { about, given, comes } = JSON.parse(readFileSync(path, "utf8")) as { about: string; given: Case; comes: Case };
      const seen = run(given);
      if (process.env.UPDATE_GOLDEN === "1") writeFileSync(path, `${JSON.stringify({ about, given, comes: seen }, null, 2)}\n`);
      expect(seen).toEqual(process.env.UPDATE_GOLDEN === "1" ? seen : comes);
    });
  });
}

function faultOf(fault: Fault): JsonValue {
  const { reason, message, httpStatus, field, facts, retryable } = fault;
  return { reason, message, httpStatus, retryable, ...(field === undefined ? {} : { field }), facts: { ...facts } };
}

/** What an action makes, or the fault that it throws. */
function orFault(act: () => Record<string, JsonValue>): Record<string, JsonValue> {
  try {
    return act();
  } catch (caught) {
    if (caught instanceof Fault) return { fault: faultOf(caught) };
    throw caught;
  }
}

function writtenOf(written: WrittenRequest): Record<string, JsonValue> {
  const warnings = written.warnings.map(({ code, field, message }) => `${code} ${field}: ${message}`);
  return { path: written.path, headers: [...written.headers], wire: String(written.body), warnings };
}

const text = (value: JsonValue | undefined): string => (typeof value === "string" ? value : "");

golden("reads", ({ body }) =>
  orFault(() => {
    const { request, streaming, streamUsage, native } = openAiServer.readRequest(Buffer.from(text(body)));
    expect(native).toEqual({ dialect: "openai", text: body });
    // What this door lets in, every other part of the house may rely on.
    expect(validateChat(request, "chat")).toEqual([]);
    return { conversation: toJson(ChatRequestSchema, request), streaming, streamUsage };
  }),
);

golden("writes", ({ conversation, streaming, dropUnsupported, options }) =>
  orFault(() => {
    const request: ChatRequest = fromJson(ChatRequestSchema, conversation ?? null);
    const client = openAiClient({ ...usual, ...(options as Partial<OpenAiOptions> | undefined) });
    const before = toJson(ChatRequestSchema, request);
    const written = client.writeRequest({
      request,
      native: undefined,
      model: "given",
      streaming: streaming === true,
      dropUnsupported: dropUnsupported === true,
    });
    JSON.parse(String(written.body));
    // Another attempt elsewhere writes from the same conversation (lesson 34).
    expect(toJson(ChatRequestSchema, request)).toEqual(before);
    return writtenOf(written);
  }),
);

golden("rewrites", ({ body, model, options }) => {
  const { request, native, streaming } = openAiServer.readRequest(Buffer.from(text(body)));
  const client = openAiClient({ ...usual, ...(options as Partial<OpenAiOptions> | undefined) });
  const written = client.writeRequest({ request, native, model: text(model), streaming, dropUnsupported: false });
  JSON.parse(String(written.body));
  return writtenOf(written);
});

/** All batches of an answer, and why it failed. */
function readAll(reader: AnswerReader, pieces: readonly Uint8Array[]): Batch[] {
  return [...pieces.flatMap((piece) => [...reader.read(piece)]), ...reader.end()];
}

golden("answers", ({ answer, stream, nativeStreamUsage }) => {
  const client: ClientHalf = openAiClient(usual);
  const begin = (): AnswerReader => {
    let ids = 0;
    return client.readAnswer({
      request: fromJson(ChatRequestSchema, { model: "asked" }),
      streaming: stream === true,
      model: "upstream-model",
      route: "route",
      provider: "provider",
      nativeStreamUsage: nativeStreamUsage === true,
      answerBytesMax: 1 << 20,
      newId: (prefix) => `${prefix}${++ids}`,
    });
  };
  const bytes = Buffer.from(text(answer));
  const reader = begin();
  const batches = readAll(reader, [bytes]);
  const events = batches.flatMap((batch) => batch.map((event) => toJson(ChatEventSchema, event)));

  // However the bytes are cut, the same comes of them.
  const other = begin();
  const cut = readAll(other, cutEverywhere(bytes));
  expect(cut.flatMap((batch) => batch.map((event) => toJson(ChatEventSchema, event)))).toEqual(events);
  expect(other.failure?.message).toBe(reader.failure?.message);

  const native = batches.map((batch) => (batch.native === undefined ? "" : Buffer.from(batch.native.bytes).toString())).join("");
  const callers = { plain: {}, usage: { stream_options: { include_usage: true } }, functions: { functions: [{ name: "f" }] } };
  const asked = { model: "asked", stream: stream === true, messages: [{ role: "user", content: "q" }] };
  const rewritten = Object.entries(callers).map(([caller, members]): [string, JsonValue] => {
    const read = openAiServer.readRequest(Buffer.from(JSON.stringify({ ...asked, ...members })));
    const writer = openAiServer.writeAnswer(read, "request-1");
    const written = batches.map((batch) => writer.write([...batch]) ?? "");
    written.push(reader.failure === undefined ? (writer.end() ?? "") : writer.fault(reader.failure));
    return [caller, written.map(String).join("")];
  });
  return {
    events,
    native,
    rewritten: Object.fromEntries(rewritten),
    failure: reader.failure === undefined ? null : faultOf(reader.failure),
  };
});
