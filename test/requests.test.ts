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
import { ChatRequestSchema } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { capabilityTable } from "../sidecar/dialects/capabilities.ts";
import { providerRows, rowNameOf } from "../sidecar/providers.ts";
import { chatRequest } from "./kit/call.ts";
import { goldenCases } from "./kit/golden.ts";
import { compileTargets, type Target } from "./kit/targets.ts";

const targets: readonly Target[] = [
  { name: "openai", spec: "openai: {}", model: "gpt-4.1" },
  {
    name: "openai, a server that borrowed the format",
    spec: "openai: {row: compatible}, endpoint: https://there.test/v1",
    model: "some-model",
  },
  { name: "openai, mistral", spec: "openai: {row: mistral}", model: "mistral-large-latest" },
  { name: "openai, a model of texts", spec: "openai: {}", model: "davinci-002" },
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

const sideBySide = compileTargets(targets);

test.each(goldenCases("requests").map((each) => ({ name: each.name, each })))("$name", async ({ each }) => {
  const asked = fromJson(ChatRequestSchema, JSON.parse(each.section("conversation") ?? "{}"));
  each.check(["conversation", "asked"], await sideBySide(asked, { streaming: each.section("asked") === "streaming" }));
});

test("every dialect is among the targets", () => {
  const shown = new Set(targets.map(({ spec }) => spec.slice(0, spec.indexOf(":"))));
  expect([...shown].sort()).toEqual([...new Set(Object.values(providerRows).map(({ dialect }) => dialect))].sort());
});

// Two dialects refused by themselves what no table spoke of, so that neither the page nor an explanation showed it.
test.each<[string, Parameters<typeof chatRequest>[0]]>([
  ["n", { n: 3 }],
  ["seed", { seed: 1n }],
  ["presence_penalty", { presencePenalty: 0.5 }],
  ["frequency_penalty", { frequencyPenalty: 0.5 }],
  ["logit_bias", { logitBias: { "7": 1 } }],
  ["logprobs", { logprobs: { top: 0 } }],
  ["stop", { stop: ["a"] }],
  ["response_format", { responseFormat: { format: { case: "jsonObject", value: {} } } }],
  ["response_format.json_object", { responseFormat: { format: { case: "jsonObject", value: {} } } }],
])("where %s is refused, the provider's row says so", async (parameter, init) => {
  const wires = await sideBySide(chatRequest(init));
  const refusing = targets.filter(({ name }) => wires.get(name)?.includes(`refused: PARAMETER_UNSUPPORTED ${parameter}:`));
  const unsaid = refusing.filter(({ spec, model }) => {
    const dialect = spec.slice(0, spec.indexOf(":"));
    // What these servers take depends on the form of their API, which policy says and no row.
    if (dialect === "llama") return false;
    const named = /row: ([a-z-]+)/.exec(spec)?.[1] ?? "";
    const row = rowNameOf({ case: dialect, value: { row: named, ...(spec.includes("vertex:") ? { vertex: {} } : {}) } });
    const said = capabilityTable(providerRows[row]?.capabilities ?? [])(model).get(parameter);
    return said?.support !== "unsupported";
  });
  expect(unsaid.map(({ name }) => name)).toEqual([]);
});
