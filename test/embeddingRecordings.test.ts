/**
 * Recorded vectors through the whole house: the recorded bytes are what the provider sends, over a real socket, and what comes out of each
 * door is what the recording means. Whole, byte by byte at the beginning, and cut at seeded random places.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  CreateEmbeddingsRequestSchema,
  CreateEmbeddingsResponseSchema,
  EmbeddingService,
} from "../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "./kit/random.ts";
import { type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "./kit/recordings.ts";
import { type Replay, replayHeaders, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

/** A model for each grammar, and the provider and the model behind it; where a project's answers differ from those beside it, by folder. */
const ways: readonly { readonly reads: RegExp; readonly model: string; readonly spec: string; readonly upstream: string }[] = [
  { reads: /^(openai|mistral)\//, model: "open-embed", spec: "openai: {}", upstream: "text-embedding-3-small" },
  { reads: /^gemini\//, model: "gem-embed", spec: "gemini: {}", upstream: "gemini-embedding-001" },
  { reads: /^vertex\//, model: "ver-embed", spec: "gemini: {vertex: {project: p-1}}", upstream: "text-embedding-004" },
  { reads: /^cohere\//, model: "coh-embed", spec: "cohere: {}", upstream: "embed-v4.0" },
  { reads: /^ollama\//, model: "oll-embed", spec: "ollama: {one_vector_at_once: true}", upstream: "llama3" },
  { reads: /titan/, model: "one-embed", spec: "bedrock: {region: eu-central-1}", upstream: "amazon.titan-embed-text-v2:0" },
  { reads: /^bedrock\/cohere/, model: "list-embed", spec: "bedrock: {region: eu-central-1}", upstream: "cohere.embed-v4:0" },
];

const apis = [
  "openai.embeddings",
  "gemini.embed",
  "cohere.embed",
  "ollama.embeddings",
  "bedrock.cohere-embed",
  "bedrock.titan-embed",
] as const;
const recordings = readRecordings(["openai", "mistral", "gemini", "vertex", "cohere", "ollama", "bedrock"], apis);

/** Random cuts of each recording at each door; what is new here is the reading of one body. */
const cutRuns = 10;

let replay: Replay;
let house: TestSidecar;
let client: grpc.Client;

beforeAll(async () => {
  replay = await startReplay();
  const more = ways.map(
    ({ model, spec, upstream }) => `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: ${model}-provider}
spec: {${spec}, endpoint: "${replay.origin}", credential: {header: {secret: {file: SECRETS/open}}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${model}-route}
spec: {match: {models: [${model}]}, targets: [{provider: ${model}-provider, model: "${upstream}"}]}
`,
  );
  house = await startTestSidecar(policyFor(replay.origin, { more: more.join("") }), { open: "a", ant: "b" }, { logLevel: "silent" });
  client = new grpc.Client(`127.0.0.1:${house.port}`, grpc.credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await house.close();
  await replay.close();
});

/** What a door gave for one text. */
interface Given {
  readonly vectors: readonly (readonly number[])[];
  readonly inputTokens: number | undefined;
  /** Undefined where the door does not tell it apart from the input. */
  readonly totalTokens?: number | undefined;
  readonly nativeJson?: string | undefined;
}

const doors: readonly { readonly name: string; ask(model: string): Promise<Given> }[] = [
  { name: "OpenAI door, numbers", ask: (model) => askOpenAi(model, "float") },
  { name: "OpenAI door, base64 as its package asks for it", ask: (model) => askOpenAi(model, undefined) },
  {
    name: "gRPC door",
    async ask(model) {
      const embedding = { model, inputs: [{ content: { case: "text" as const, value: "Name a sea" } }] };
      const sent = Buffer.from(toBinary(CreateEmbeddingsRequestSchema, create(CreateEmbeddingsRequestSchema, { embedding })));
      const bytes = await new Promise<Uint8Array>((resolve, reject) => {
        const same = (message: Buffer): Buffer => message;
        client.makeUnaryRequest(`/${EmbeddingService.typeName}/CreateEmbeddings`, same, same, sent, (error, answer) => {
          if (answer === undefined) reject(error);
          else resolve(answer);
        });
      });
      const answer = fromBinary(CreateEmbeddingsResponseSchema, bytes).embedding;
      return {
        vectors: answer?.embeddings.map(({ values }) => values) ?? [],
        inputTokens: answer?.usage?.inputTokens === undefined ? undefined : Number(answer.usage.inputTokens),
        totalTokens: answer?.usage?.totalTokens === undefined ? undefined : Number(answer.usage.totalTokens),
        nativeJson: answer?.usage?.nativeJson,
      };
    },
  },
];

async function askOpenAi(model: string, encoding: "float" | undefined): Promise<Given> {
  const sdk = new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
  const { data, usage } = await sdk.embeddings.create({ model, input: "Name a sea", ...(encoding && { encoding_format: encoding }) });
  return { vectors: data.map(({ embedding }) => [...embedding]), inputTokens: usage?.prompt_tokens };
}

if (recordingsFolder() === undefined) {
  test("recorded vectors through every door", (context) => context.skip(recordingsAbsent));
} else {
  test("the recordings that the suite is about are there", () => {
    expect(recordings.length).toBe(9);
  });

  describe.each(doors)("$name", (door) => {
    test.each(recordings)("$name", { timeout: 60_000 }, async (recording) => {
      const model = ways.find(({ reads }) => reads.test(recording.name))?.model;
      if (model === undefined) throw new Error(`no way reads ${recording.name}`);
      const random = seededRandom(recording.answer.length);
      const cuts = [[recording.answer], cutEverywhere(recording.answer.subarray(0, 2_000)).concat(recording.answer.subarray(2_000))];
      for (let run = 0; run < cutRuns; run++) cuts.push(cutAtRandom(recording.answer, 1 + random.below(8), random));
      for (const pieces of cuts) {
        replay.answerWith({ status: recording.status, headers: replayHeaders(recording.headers, false), pieces });
        check(recording, await door.ask(model));
      }
    });
  });
}

function check({ expect: meaning }: Recording, given: Given): void {
  const { count, dimensions, first_values, usage, usage_native } = meaning as unknown as {
    readonly count: number;
    readonly dimensions: number;
    readonly first_values: readonly number[];
    readonly usage: { readonly input_tokens: number; readonly total_tokens?: number } | null;
    readonly usage_native: unknown;
  };
  expect(given.vectors.length).toBe(count);
  for (const vector of given.vectors) expect(vector.length).toBe(dimensions);
  // Written down with six digits.
  expect(given.vectors[0]?.slice(0, first_values.length).map((value) => Number(value.toPrecision(6)))).toEqual([...first_values]);
  expect(given.inputTokens).toBe(usage?.input_tokens);
  if (!("nativeJson" in given)) return;
  expect(given.totalTokens).toBe(usage?.total_tokens);
  if (given.nativeJson !== undefined) expect(given.nativeJson === "" ? null : JSON.parse(given.nativeJson)).toEqual(usage_native);
}
