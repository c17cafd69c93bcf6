import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EmbeddingRequestSchema } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { embeddings } from "./embeddings.ts";

/** What an answer consumed, and its vectors. */
function read(body: unknown, headers: Readonly<Record<string, string>>) {
  const reader = embeddings.readAnswer({
    request: create(EmbeddingRequestSchema, { model: "asked", inputs: [{ content: { case: "text", value: "one" } }] }),
    model: "cohere.embed-english-v3",
    route: "r",
    provider: "p",
    answerBytesMax: 10_000,
    header: (name) => headers[name],
    newId: (prefix) => `${prefix}1`,
  });
  reader.read(Buffer.from(JSON.stringify(body)));
  const events = reader.end().flatMap((batch) => batch.map(({ event }) => event));
  expect(reader.failure).toBeUndefined();
  return {
    tokens: events.flatMap((event) => (event.case === "usage" ? [event.value.inputTokens] : [])),
    vectors: events.flatMap((event) => (event.case === "embedding" ? [event.value.values] : [])),
  };
}

describe("vectors of other makers' models", () => {
  const header = { "x-amzn-bedrock-input-token-count": "7" };

  test("25: tokens that only a header counts are counted, whichever form the vectors are in", () => {
    for (const body of [{ embeddings: [[1, 2]] }, { embeddings: { float: [[1, 2]] } }, { embeddings: [{ embedding: [1, 2] }] }]) {
      expect(read(body, header)).toEqual({ tokens: [7n], vectors: [[1, 2]] });
    }
  });

  test("a body that counts them itself is believed first, and without either nothing is counted", () => {
    const body = { embedding: [1, 2], inputTextTokenCount: 3 };
    expect(read(body, header).tokens).toEqual([3n]);
    expect(read({ embedding: [1, 2] }, {}).tokens).toEqual([]);
    expect(read({ embedding: [1, 2] }, { "x-amzn-bedrock-input-token-count": "many" }).tokens).toEqual([]);
  });
});
