/** Vectors through the whole house, asked for by the official packages over real sockets. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createChatClient } from "../proto/client.ts";
import {
  CreateEmbeddingsRequestSchema,
  CreateEmbeddingsResponseSchema,
  EmbeddingPurpose,
  EmbeddingService,
} from "../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

let replay: Replay;
let house: TestSidecar;

/** A price, so that it is seen that vectors have one; and a route on which what cannot be carried is left out. */
const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: PriceBook
metadata: {name: prices}
spec:
  currency: USD
  rows: [{model: "*", input: 1000000000, output: 2000000000}]
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: lenient-route}
spec:
  match: {models: [lenient]}
  targets: [{provider: open-provider, model: upstream-model}]
  unsupported_params: UNSUPPORTED_PARAMS_DROP
`;

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin, { more }), { open: "key", ant: "key" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});
beforeEach(() => {
  replay.forget();
  replay.answerWith(({ body }) => {
    const { input } = JSON.parse(body.toString()) as { input: unknown[] };
    const data = input.map((_, index) => ({ object: "embedding", index, embedding: [index + 0.1, -1] })).reverse();
    const answer = { object: "list", data, model: "exact-model", usage: { prompt_tokens: 9, total_tokens: 9 } };
    return { headers: { "content-type": "application/json" }, pieces: [JSON.stringify(answer)] };
  });
});

const sdk = () => new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
const asked = () => replay.requests.map(({ body }) => JSON.parse(body.toString()));

describe("the openai package", () => {
  test("gets numbers, which it asks for as base64 unless told otherwise", async () => {
    const { data, model, usage } = await sdk().embeddings.create({ model: "open", input: ["one", "two"] });
    // The package decodes what it asked for by itself, to numbers of 32 bits.
    expect(data.map(({ index, embedding }) => [index, [...embedding]])).toEqual([
      [0, [Math.fround(0.1), -1]],
      [1, [Math.fround(1.1), -1]],
    ]);
    expect({ model, usage }).toEqual({ model: "exact-model", usage: { prompt_tokens: 9, total_tokens: 9 } });
    expect(asked()).toEqual([{ model: "upstream-model", input: ["one", "two"], encoding_format: "base64" }]);
    expect(replay.requests[0]?.path).toBe("/v1/embeddings");
  });

  test("gets numbers as they were, where it asks for those", async () => {
    const { data } = await sdk().embeddings.create({ model: "open", input: "one", encoding_format: "float", dimensions: 2, user: "u" });
    expect(data).toEqual([{ object: "embedding", index: 0, embedding: [0.1, -1] }]);
    expect(asked()).toEqual([{ model: "upstream-model", input: ["one"], dimensions: 2, encoding_format: "base64", user: "u" }]);
  });

  test("sends tokens", async () => {
    await sdk().embeddings.create({ model: "open", input: [[1, 2], [3]] });
    expect(asked()[0].input).toEqual([[1, 2], [3]]);
  });

  test("hears of what is wrong as of any call", async () => {
    await expect(sdk().embeddings.create({ model: "open", input: [] })).rejects.toMatchObject({ status: 400, param: "input" });
    await expect(sdk().embeddings.create({ model: "nothing", input: "x" })).rejects.toMatchObject({ status: 404, code: "model_not_found" });
    await expect(sdk().embeddings.create({ model: "ant", input: "x" })).rejects.toMatchObject({ status: 501 });
    expect(replay.requests).toEqual([]);
    replay.answerWith({ status: 429, headers: { "retry-after": "7" }, pieces: ['{"error":{"message":"slow down","type":"requests"}}'] });
    const refused = sdk().embeddings.create({ model: "open", input: "x" });
    await expect(refused).rejects.toMatchObject({ status: 429 });
    await expect(refused).rejects.toSatisfy((error: InstanceType<typeof OpenAI.APIError>) => error.headers?.get("retry-after") === "7");
  });

  test("gets an error, and no short list, for an answer that is not one", async () => {
    replay.answerWith({ pieces: ['{"data":[{"index":0,"embedding":[1]}],"usage":{}}'] });
    await expect(sdk().embeddings.create({ model: "open", input: ["a", "b"] })).rejects.toMatchObject({ status: 502 });
  });
});

describe("EmbeddingService", () => {
  const request = { model: "open", inputs: [{ content: { case: "text" as const, value: "one" } }] };

  test("answers gRPC with vectors, usage and cost, and the log has a line of it", async () => {
    const client = new grpc.Client(`127.0.0.1:${house.port}`, grpc.credentials.createInsecure());
    const bytes = await new Promise<Uint8Array>((resolve, reject) => {
      const same = (message: Buffer): Buffer => message;
      const sent = Buffer.from(toBinary(CreateEmbeddingsRequestSchema, create(CreateEmbeddingsRequestSchema, { embedding: request })));
      client.makeUnaryRequest(`/${EmbeddingService.typeName}/CreateEmbeddings`, same, same, sent, (error, answer) => {
        if (answer === undefined) reject(error);
        else resolve(answer);
      });
    });
    client.close();
    const { embedding } = fromBinary(CreateEmbeddingsResponseSchema, bytes);
    expect(embedding).toMatchObject({ model: "exact-model", route: "open-route", provider: "open-provider" });
    expect(embedding?.embeddings.map(({ index, values }) => [index, values])).toEqual([[0, [Math.fround(0.1), -1]]]);
    expect(embedding?.usage).toMatchObject({ inputTokens: 9n, totalTokens: 9n });
    // Nine tokens at a thousand dollars a million.
    expect(embedding?.cost).toMatchObject({ currency: "USD", micros: 9_000n });
    expect(house.log()).toMatch(/"route":"open-route".*"provider":"open-provider".*"asked":"vectors"/);
  });

  const transports = [
    ["Connect", () => createConnectTransport({ baseUrl: house.origin, httpVersion: "1.1" })],
    ["Connect binary", () => createConnectTransport({ baseUrl: house.origin, httpVersion: "1.1", useBinaryFormat: true })],
    ["gRPC-Web", () => createGrpcWebTransport({ baseUrl: house.origin, httpVersion: "1.1" })],
  ] as const;

  test.each(transports)("answers %s, and explains instead of sending", async (_, transport) => {
    const client = createClient(EmbeddingService, transport());
    const embedding = await createChatClient(transport()).embed(request);
    expect(embedding.embeddings[0]?.values).toEqual([Math.fround(0.1), -1]);
    replay.forget();
    const explained = await client.createEmbeddings({ embedding: request, validateOnly: true });
    expect(explained.embedding?.decisions.map(({ filter }) => filter)).toContain("send");
    expect(replay.requests).toEqual([]);
  });

  test("refuses what breaks a rule, with the field", async () => {
    const client = createClient(EmbeddingService, createConnectTransport({ baseUrl: house.origin, httpVersion: "1.1" }));
    await expect(client.createEmbeddings({ embedding: { ...request, dimensions: -1 } })).rejects.toThrow(/embedding\.dimensions/);
    await expect(client.createEmbeddings({})).rejects.toThrow(/embedding is required/);
  });

  test("says what could not be carried: refused by one route, left out by another", async () => {
    const client = createClient(EmbeddingService, createConnectTransport({ baseUrl: house.origin, httpVersion: "1.1" }));
    const extras = [{ dialect: "other", path: "truncate", json: "1" }];
    await expect(client.createEmbeddings({ embedding: { ...request, extras } })).rejects.toThrow(/does not support truncate/);
    const purpose = EmbeddingPurpose.QUERY;
    const { embedding } = await client.createEmbeddings({ embedding: { ...request, model: "lenient", purpose, extras } });
    // What a model makes nothing of is left out by either.
    expect(embedding?.warnings).toMatchObject([
      { code: "PARAMETER_DROPPED", field: "purpose" },
      { code: "PARAMETER_DROPPED", field: "truncate" },
    ]);
  });
});
