/**
 * One request for vectors, every wire: `test/golden/embeddings` holds requests, each with what every target makes of it, side by side, as
 * `requests.test.ts` has it for conversations. A call that needs several requests is shown with the first that goes out.
 */
import { fromJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EmbeddingRequestSchema } from "../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { goldenCases } from "./kit/golden.ts";
import { compileTargets, type Target } from "./kit/targets.ts";

const bedrock = "bedrock: {region: eu-central-1}";
const targets: readonly Target[] = [
  { name: "openai", spec: "openai: {}", model: "text-embedding-3-small" },
  { name: "openai, a server that borrowed the format", spec: "openai: {row: vllm}, endpoint: https://there.test/v1", model: "org/model" },
  { name: "openai, deployments", spec: "openai: {row: azure}, endpoint: https://there.test", model: "my-deployment" },
  { name: "openai, mistral", spec: "openai: {row: mistral}", model: "mistral-embed" },
  { name: "openai, mistral, a model for code", spec: "openai: {row: mistral}", model: "codestral-embed-2505" },
  { name: "openai, a row without vectors", spec: "openai: {row: groq}", model: "some-model" },
  { name: "anthropic", spec: "anthropic: {}", model: "claude-opus-4-7" },
  { name: "bedrock, one text", spec: bedrock, model: "amazon.titan-embed-text-v2:0" },
  { name: "bedrock, one text, an older model", spec: bedrock, model: "amazon.titan-embed-text-v1" },
  { name: "bedrock, texts", spec: bedrock, model: "eu.cohere.embed-v4:0" },
  { name: "bedrock, texts, an older model", spec: bedrock, model: "cohere.embed-multilingual-v3" },
  { name: "bedrock, parameters", spec: bedrock, model: "amazon.nova-2-multimodal-embeddings-v1:0" },
  { name: "bedrock, a model that makes none", spec: bedrock, model: "us.amazon.nova-2-lite-v1:0" },
  { name: "gemini", spec: "gemini: {}", model: "gemini-embedding-001" },
  { name: "gemini, in a project", spec: "gemini: {vertex: {project: p-1, location: europe-west4}}", model: "gemini-embedding-001" },
  {
    name: "gemini, in a project, predicted",
    spec: "gemini: {vertex: {project: p-1, location: europe-west4}}",
    model: "text-embedding-005",
  },
  { name: "cohere", spec: "cohere: {}", model: "embed-v4.0" },
  { name: "ollama", spec: "ollama: {keep_alive: 5m}", model: "nomic-embed-text" },
  { name: "ollama, an old server", spec: "ollama: {one_vector_at_once: true}", model: "nomic-embed-text" },
  { name: "huggingface", spec: "huggingface: {prompt_format: chatml}, endpoint: https://there.test", model: "org/model" },
  { name: "llama", spec: "llama: {form: inputs, prompt_format: llama3}, endpoint: https://there.test", model: "llama-3" },
];

const sideBySide = compileTargets(targets);
const cases = goldenCases("embeddings");

test.each(cases.map((each) => ({ name: each.name, each })))("$name", async ({ each }) => {
  const asked = fromJson(EmbeddingRequestSchema, JSON.parse(each.section("request") ?? "{}"));
  each.check(["request"], await sideBySide(asked));
});

test("there are cases", () => {
  expect(cases.length).toBeGreaterThan(4);
});
