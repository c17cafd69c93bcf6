/** Answers with vectors in every form that a dialect's API has, beside those that recordings show; and bodies that are errors. */
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { FaultReason } from "../../proto/fault.ts";
import { EmbeddingRequestSchema } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { bedrockClient } from "./bedrock/bedrock.ts";
import { cohereClient } from "./cohere/cohere.ts";
import type { ClientHalf } from "./dialect.ts";
import { geminiClient } from "./gemini/gemini.ts";
import { ollamaClient } from "./ollama/ollama.ts";
import { encodeVector } from "./vectors.ts";

const clients = {
  bedrock: bedrockClient({ models: [], guardrail: undefined }),
  cohere: cohereClient({ models: [] }),
  gemini: geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] }),
  ollama: ollamaClient({ contextTokens: undefined, keepAlive: undefined, models: [] }),
} satisfies Record<string, ClientHalf>;

function read(dialect: keyof typeof clients, body: unknown, texts: number, headers: Readonly<Record<string, string>> = {}) {
  const inputs = Array.from({ length: texts }, () => ({ content: { case: "text" as const, value: "x" } }));
  const reader = clients[dialect].embeddings?.readAnswer({
    request: create(EmbeddingRequestSchema, { model: "m", inputs }),
    model: "m",
    route: "r",
    provider: "p",
    answerBytesMax: 1 << 20,
    header: (name) => headers[name],
    newId: (prefix) => `${prefix}1`,
  });
  if (reader === undefined) throw new Error("the dialect makes vectors");
  reader.read(Buffer.from(JSON.stringify(body)));
  const events = reader.end().flat();
  const usage = events.map(({ event }) => event).find((event) => event.case === "usage")?.value;
  return {
    vectors: events.flatMap(({ event }) => (event.case === "embedding" ? [event.value.values] : [])),
    input: usage?.inputTokens,
    nativeJson: usage?.nativeJson,
    failure: reader.failure,
  };
}

describe("vectors are found", () => {
  const two = [
    [1, 2],
    [3, 4],
  ];
  test.each<[string, keyof typeof clients, unknown, number[][], bigint | undefined, Record<string, string>?]>([
    [
      "in one list for each type of number",
      "bedrock",
      { embeddings: { float: two } },
      two,
      7n,
      { "x-amzn-bedrock-input-token-count": "7" },
    ],
    ["in a bare list", "bedrock", { embeddings: two }, two, undefined],
    ["in objects with one each", "bedrock", { embeddings: [{ embeddingType: "TEXT", embedding: [1, 2] }] }, [[1, 2]], undefined],
    ["by the type that was asked for", "bedrock", { embeddingsByType: { float: [1, 2] }, inputTextTokenCount: 3 }, [[1, 2]], 3n],
    ["where no number is a count", "bedrock", { embedding: [1, 2] }, [[1, 2]], undefined, { "x-amzn-bedrock-input-token-count": "many" }],
    ["in one list for each type of number", "cohere", { embeddings: { float: two }, meta: { billed_units: { input_tokens: 5 } } }, two, 5n],
    ["in a bare list", "cohere", { embeddings: two }, two, undefined],
    ["in a batch", "gemini", { embeddings: [{ values: [1, 2] }, { values: [3, 4] }] }, two, undefined],
    ["alone, with a count", "gemini", { embedding: { values: [1, 2] }, usageMetadata: { promptTokenCount: 4 } }, [[1, 2]], 4n],
    [
      "in predictions, whose counts are added up",
      "gemini",
      { predictions: two.map((values, at) => ({ embeddings: { values, statistics: { token_count: at + 1 } } })) },
      two,
      3n,
    ],
    [
      "in predictions of which one does not count",
      "gemini",
      { predictions: [{ embeddings: { values: [1, 2], statistics: { token_count: 1 } } }, { embeddings: { values: [3, 4] } }] },
      two,
      undefined,
    ],
    ["in a list with a count", "ollama", { model: "m", embeddings: two, prompt_eval_count: 6 }, two, 6n],
    ["alone", "ollama", { embedding: [1, 2] }, [[1, 2]], undefined],
    ["as base64 where somebody sends that", "ollama", { embeddings: [encodeVector([1, 2])] }, [[1, 2]], undefined],
  ])("%s: %s", (_, dialect, body, vectors, input, headers = {}) => {
    const seen = read(dialect, body, vectors.length, headers);
    expect(seen.failure).toBeUndefined();
    expect(seen.vectors).toEqual(vectors);
    expect(seen.input).toBe(input);
  });
});

describe("what is no answer", () => {
  test.each<[string, keyof typeof clients, unknown, string]>([
    ["a message under a good status", "bedrock", { message: "Too many requests" }, "Too many requests"],
    ["a message under a good status", "cohere", { message: "something broke" }, "something broke"],
    ["an error under a good status", "gemini", { error: { code: 503, status: "UNAVAILABLE", message: "overloaded" } }, "overloaded"],
    ["an error under a good status", "ollama", { error: "model not loaded" }, "model not loaded"],
  ])("%s is the provider's fault: %s", (_, dialect, body, said) => {
    const { failure, vectors } = read(dialect, body, 1);
    expect(vectors).toEqual([]);
    expect(failure?.reason).not.toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    expect(`${failure?.message} ${JSON.stringify(failure?.facts)}`).toContain(said);
  });

  test.each(Object.keys(clients) as (keyof typeof clients)[])("a body without vectors, or none at all: %s", (dialect) => {
    for (const body of [{}, [], 1, null, { embeddings: [] }, { embeddings: "x" }, { predictions: [] }, { predictions: [{}] }]) {
      expect(read(dialect, body, 1).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
    }
  });
});
