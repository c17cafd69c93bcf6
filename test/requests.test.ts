/**
 * One conversation, every wire: `test/golden/requests` holds conversations, each with what every dialect makes of it, side by side. A file
 * is a case; dropping one in adds a test, and `UPDATE_GOLDEN=1` writes what comes of it, for a person to read in the difference.
 *
 * A section `conversation` is given; `asked: streaming` may stand in a section of that name. Each other section is a model at a provider:
 * the path, the body, and what was reported. What is refused is shown with its sentence, and then as it is sent where a route lets
 * unsupported parameters be left out. The way is the one that calls take: policy is compiled, and what it would send is caught at the
 * wire. `as X` stands where the body and the reports are those of the section X.
 */

import { fromJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Fault } from "../proto/fault.ts";
import { type ChatRequest, ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { readResources } from "../proto/resources.ts";
import { newNotes, type Policy, Secret, type UpstreamRequest } from "../sidecar/call.ts";
import { compilePolicy } from "../sidecar/policy/compile.ts";
import { providerRows } from "../sidecar/providers.ts";
import { batchesOf, makeCall } from "./kit/call.ts";
import { ManualClock } from "./kit/clock.ts";
import { goldenCases } from "./kit/golden.ts";
import { noIdentities } from "./kit/policy.ts";
import { pretty } from "./kit/prettyJson.ts";

interface Target {
  /** What the section is called. */
  readonly name: string;
  /** The provider's spec, but for its credential. */
  readonly spec: string;
  readonly model: string;
}

const targets: readonly Target[] = [
  { name: "openai", spec: "openai: {}", model: "gpt-4.1" },
  {
    name: "openai, a server that borrowed the format",
    spec: "openai: {row: compatible}, endpoint: https://there.test/v1",
    model: "some-model",
  },
  { name: "openai, mistral", spec: "openai: {row: mistral}", model: "mistral-large-latest" },
  { name: "responses", spec: "responses: {}", model: "gpt-5.2" },
  { name: "anthropic", spec: "anthropic: {}", model: "claude-opus-4-7" },
  { name: "anthropic, an older model", spec: "anthropic: {}", model: "claude-3-5-haiku-20241022" },
  { name: "bedrock", spec: "bedrock: {region: eu-central-1}", model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0" },
  { name: "bedrock, another maker's model", spec: "bedrock: {region: eu-central-1}", model: "us.amazon.nova-2-lite-v1:0" },
  {
    name: "bedrock, a body of Messages",
    spec: "bedrock: {region: eu-central-1, api: BEDROCK_API_INVOKE_MESSAGES}",
    model: "anthropic.claude-3-5-haiku-20241022-v1:0",
  },
  { name: "gemini", spec: "gemini: {}", model: "gemini-3-pro-preview" },
  { name: "gemini, an older model", spec: "gemini: {}", model: "gemini-2.0-flash" },
  { name: "gemini, in a project", spec: "gemini: {vertex: {project: p-1, location: europe-west4}}", model: "gemini-2.5-flash" },
  { name: "cohere", spec: "cohere: {}", model: "command-a-03-2025" },
  { name: "ollama", spec: "ollama: {}", model: "llama3.2" },
  { name: "huggingface", spec: "huggingface: {prompt_format: chatml}, endpoint: https://there.test", model: "org/model" },
  { name: "llama", spec: "llama: {form: inputs, prompt_format: llama3}, endpoint: https://there.test", model: "llama-3" },
];

const sent: UpstreamRequest[] = [];
const policies = { reject: compiled("reject"), drop: compiled("drop") };

/** A policy with a route to each target, by the target's number. */
function compiled(unsupportedParams: "reject" | "drop"): Policy {
  const head = "apiVersion: outrigger.dev/v1alpha1, kind:";
  const documents = targets.flatMap(({ spec, model }, index) => [
    `{${head} Provider, metadata: {name: t${index}}, spec: {${spec}, credential: {header: {secret: {env: KEY}}}}}`,
    `{${head} ModelRoute, metadata: {name: t${index}}, spec: {match: {models: [t${index}]}, unsupported_params: ${unsupportedParams},
      targets: [{provider: t${index}, model: "${model}"}]}}`,
  ]);
  documents.push(`{${head} Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}`);
  const read = readResources([{ path: "policy.yaml", text: documents.join("\n---\n") }]);
  if (read.problems.length > 0) throw new Error(JSON.stringify(read.problems));
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
  return policy;
}

/** What a target makes of a request: its path and what else is to be seen, or the sentence with which it is refused. */
async function wireOf(index: number, asked: ChatRequest, streaming: boolean, way: "reject" | "drop"): Promise<Wire | string> {
  const request = { ...asked, model: `t${index}` };
  const warnings: string[] = [];
  try {
    for (const batch of await batchesOf(
      policies[way].answer(makeCall({ request, streaming, validateOnly: true, notes: newNotes(true) })),
    )) {
      for (const { event } of batch) {
        if (event.case === "warning") warnings.push(`${event.value.code} ${event.value.field}: ${event.value.message}`);
      }
    }
  } catch (caught) {
    if (caught instanceof Fault) return `refused: ${caught.kind.name} ${caught.field}: ${caught.message}`;
    throw caught;
  }
  sent.length = 0;
  await expect(batchesOf(policies[way].answer(makeCall({ request, streaming })))).rejects.toThrow("could not be reached");
  const [wire] = sent;
  if (wire === undefined) throw new Error("nothing was sent and nothing was refused");
  JSON.parse(String(wire.body));
  return { path: wire.path, text: [pretty(String(wire.body)), ...warnings].join("\n") };
}

interface Wire {
  readonly path: string;
  readonly text: string;
}

test.each(goldenCases("requests").map((each) => ({ name: each.name, each })))("$name", async ({ each }) => {
  const asked = fromJson(ChatRequestSchema, JSON.parse(each.section("conversation") ?? "{}"));
  const streaming = each.section("asked") === "streaming";
  const came = new Map<string, string>();
  const known = new Map<string, string>();
  for (const [index, { name, model }] of targets.entries()) {
    const rejected = await wireOf(index, asked, streaming, "reject");
    const wires = typeof rejected === "string" ? [rejected, await wireOf(index, asked, streaming, "drop")] : [rejected];
    const paths = wires.flatMap((wire) => (typeof wire === "string" ? [] : [wire.path]));
    // A case that is refused even so would be shown twice with one sentence.
    const texts = [...new Set(wires.map((wire) => (typeof wire === "string" ? wire : wire.text)))];
    const text = texts.join("\n\nwith what it does not take left out:\n");
    const alike = text.replaceAll(model, "MODEL");
    const other = known.get(alike);
    if (other === undefined) known.set(alike, name);
    came.set(name, [model, ...paths, other === undefined ? text : `as ${other}`].join("\n"));
  }
  each.check(["conversation", "asked"], came);
});

test("every dialect is among the targets", () => {
  const shown = new Set(targets.map(({ spec }) => spec.slice(0, spec.indexOf(":"))));
  expect([...shown].sort()).toEqual([...new Set(Object.values(providerRows).map(({ dialect }) => dialect))].sort());
});
