/**
 * The rows, by what goes on the wire: `test/golden/rows` holds requests, each with what every row of this dialect makes of it, side by
 * side. A file is a case; `UPDATE_GOLDEN=1` writes what comes into the files, for a person to read in the difference. Rows that make the
 * same of a request stand together, so that a difference between two of them is to be seen.
 *
 * `body` is a request of a caller who speaks the format, sent as it came wherever it can be; `conversation` is one that came by another
 * door. The way is the one that calls take: policy is compiled, and what it would send is caught at the wire.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Fault } from "../proto/fault.ts";
import { ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { readResources } from "../proto/resources.ts";
import { batchesOf, makeCall } from "../test/kit/call.ts";
import { ManualClock } from "../test/kit/clock.ts";
import { noIdentities } from "../test/kit/policy.ts";
import { newNotes, type Policy, Secret, type UpstreamRequest } from "./call.ts";
import { openAiServer } from "./dialects/openai/openai.ts";
import { compilePolicy } from "./policy/compile.ts";
import { type ProviderRow, providerRows } from "./providers.ts";

const folder = join(import.meta.dirname, "../test/golden/rows");
const ownAddress = "https://provider.test";
const rows = Object.entries(providerRows).filter(([, { dialect }]) => dialect === "openai");

interface Given {
  readonly body?: string;
  readonly conversation?: JsonValue;
  readonly model?: string;
  readonly streaming?: boolean;
  readonly dropUnsupported?: boolean;
}

interface Sent {
  readonly path: string;
  readonly wire: string;
  readonly dropped: readonly string[];
}

interface Wire {
  readonly policy: Policy;
  /** What reached the wire since it was last emptied. */
  readonly sent: UpstreamRequest[];
}

const wires = new Map<string, Wire>();

/** One policy with every row, and a route to each by the row's name. */
function wireTo(model: string, unsupportedParams: "drop" | "reject"): Wire {
  const known = wires.get(`${unsupportedParams} ${model}`);
  if (known !== undefined) return known;
  const head = "apiVersion: outrigger.dev/v1alpha1, kind:";
  const documents = rows.flatMap(([name, { endpoint }]) => [
    `{${head} Provider, metadata: {name: ${name}}, spec: {openai: {row: ${name}}, endpoint: "${endpoint || ownAddress}",
      credential: {header: {secret: {env: KEY}}}}}`,
    `{${head} ModelRoute, metadata: {name: ${name}}, spec: {match: {models: [${name}]}, unsupported_params: ${unsupportedParams},
      targets: [{provider: ${name}, model: "${model}"}]}}`,
  ]);
  documents.push(`{${head} Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}`);
  const read = readResources([{ path: "policy.yaml", text: documents.join("\n---\n") }]);
  expect(read.problems).toEqual([]);
  const sent: UpstreamRequest[] = [];
  const { policy, problems } = compilePolicy(read.resources, "root", {
    clock: new ManualClock(),
    random: { next: () => 0, id: () => "id" },
    upstream(request, handler) {
      sent.push(request);
      handler.error(new Error("this test has no network"), false);
      return { pause() {}, resume() {}, abort() {} };
    },
    sha256: (text) => text,
    secret: () => ({ read: () => new Secret("s3cret") }),
    identities: noIdentities,
    signer: () => () => [],
    shed: (call, next) => next(call),
    recall: (call, next) => next(call),
    write: () => {},
    refused: () => {},
  });
  if (policy === undefined) throw new Error(JSON.stringify(problems));
  const wire = { policy, sent };
  wires.set(`${unsupportedParams} ${model}`, wire);
  return wire;
}

/** What a row makes of a request: what is sent, or the sentence with which it is refused. */
async function sentBy(name: string, row: ProviderRow, given: Given): Promise<Sent | string> {
  const { policy, sent } = wireTo(given.model ?? "given", given.dropUnsupported === true ? "drop" : "reject");
  sent.length = 0;
  const asked =
    given.body === undefined
      ? { request: fromJson(ChatRequestSchema, given.conversation ?? null), native: undefined, streaming: given.streaming === true }
      : openAiServer.readRequest(Buffer.from(given.body));
  const notes = newNotes(false);
  try {
    await batchesOf(policy.answer(makeCall({ ...asked, request: { ...asked.request, model: name }, notes })));
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    if (sent.length === 0) return `${caught.field}: ${caught.message}`;
  }
  const [request] = sent;
  if (request === undefined) throw new Error("nothing was sent and nothing was refused");
  const key = request.headers.indexOf(row.keyHeader);
  expect(request.headers.slice(key)).toEqual([row.keyHeader, `${row.keyPrefix}s3cret`]);
  expect(request.origin).toBe(new URL(row.endpoint || ownAddress).origin);
  JSON.parse(String(request.body));
  return { path: request.path, wire: String(request.body), dropped: notes.droppedParams };
}

/** Rows that make the same of it, together; the path is each row's own. */
async function sideBySide(given: Given): Promise<JsonValue> {
  const groups = new Map<string, Record<string, JsonValue>>();
  for (const [name, row] of rows) {
    const made = await sentBy(name, row, given);
    const same = typeof made === "string" ? { refused: made } : { wire: made.wire, dropped: [...made.dropped] };
    const group = groups.get(JSON.stringify(same)) ?? { rows: {}, ...same };
    groups.set(JSON.stringify(same), group);
    Object.assign(group.rows as object, { [name]: typeof made === "string" ? "" : made.path });
  }
  return [...groups.values()];
}

describe("every row, side by side", () => {
  test.each(readdirSync(folder).map((file) => file.replace(/\.json$/, "")))("%s", async (name) => {
    const path = join(folder, `${name}.json`);
    const { about, given, comes } = JSON.parse(readFileSync(path, "utf8")) as { about: string; given: Given; comes: JsonValue };
    const before = JSON.stringify(given);
    const seen = await sideBySide(given);
    expect(JSON.stringify(given)).toBe(before);
    if (process.env.UPDATE_GOLDEN === "1") writeFileSync(path, `${JSON.stringify({ about, given, comes: seen }, null, 2)}\n`);
    expect(seen).toEqual(process.env.UPDATE_GOLDEN === "1" ? seen : comes);
  });
});
