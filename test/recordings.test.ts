/**
 * Recorded provider traffic through the whole house: the recorded bytes are what the provider sends, over a real socket, and what comes
 * out of each door is read by readers that share nothing with ours. Whole, byte by byte, and cut at seeded random places.
 */
import { Agent, request } from "node:http";
import Anthropic from "@anthropic-ai/sdk";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Collector } from "../proto/chat.ts";
import { GrpcCode } from "../proto/fault.ts";
import { ErrorInfoSchema } from "../proto/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../proto/gen/google/rpc/status_pb.ts";
import {
  CreateChatCompletionRequestSchema,
  CreateChatCompletionResponseSchema,
  StreamChatCompletionRequestSchema,
  StreamChatCompletionResponseSchema,
} from "../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { chatRequest } from "./kit/call.ts";
import {
  type Carries,
  differences,
  foldAnthropicEvents,
  foldOpenAiChunks,
  foldResponsesEvents,
  type Meaning,
  readAnthropic,
  readChatResponse,
  readOpenAi,
  readResponses,
} from "./kit/meaning.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "./kit/random.ts";
import { type RecordedMeaning, type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "./kit/recordings.ts";
import { type Replay, replayHeaders, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

/**
 * Runs at random cuts of each case at each door. The dialects that are doors themselves get all of them, since both their halves meet
 * here; of the others only the reading is new, which their own tests cut 200 times, so that a few through each door are enough for an
 * ordinary run. The long run cuts everything alike.
 */
const cutRuns = { doors: 200, others: process.env.OUTRIGGER_LONG === undefined ? 25 : 200 };
const doorFolders = /^(openai|openai-compatible|anthropic)\//;

/** What a door made of a case. */
interface Outcome {
  readonly meaning: Meaning;
  /** The error's class in the door's own terms: an HTTP status, or a gRPC status; undefined if the answer ended well. */
  readonly failure: Failure | undefined;
}

interface Failure {
  readonly status: number;
  readonly message: string;
  readonly providerStatus: string | undefined;
  readonly providerCode: string | undefined;
}

interface DoorUnderTest {
  readonly name: string;
  readonly carries: Carries;
  /** Whether every cut is run here, or the whole and the bytes only: an SDK reads the same bytes that the raw reader does. */
  readonly cuts: boolean;
  /** The dialect whose recorded requests this door's callers can send as they are. */
  readonly dialect: string | undefined;
  ask(recording: Recording): Promise<Outcome>;
  /** Whether a failure is in this door's own form. */
  expectFailure(failure: Failure, recording: Recording): void;
}

let replay: Replay;
let house: TestSidecar;
let client: grpc.Client;
const agent = new Agent({ keepAlive: true });

const allUsage = ["input", "output", "cached", "cacheWrite", "reasoning", "total"] as const;
const openAiCarries: Carries = { choices: true, refusal: true, usageParts: ["input", "output", "total", "cached", "reasoning"] };
const anthropicCarries: Carries = { choices: false, refusal: false, usageParts: ["input", "output", "cached", "cacheWrite"] };
const responsesCarries: Carries = { choices: false, refusal: true, usageParts: allUsage };
const grpcCarries: Carries = { choices: true, refusal: true, usageParts: allUsage };

const doors: readonly DoorUnderTest[] = [
  {
    name: "OpenAI door, raw",
    carries: openAiCarries,
    cuts: true,
    dialect: "openai.chat",
    async ask(recording) {
      const { status, headers, body } = await post("/v1/chat/completions", openAiRequest(recording));
      const meaning = readOpenAi(body, status === 200 && recording.stream);
      return { meaning, failure: failureOf(meaning, status, headers) };
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "OpenAI door, openai package",
    carries: openAiCarries,
    cuts: false,
    dialect: "openai.chat",
    async ask(recording) {
      const sdk = new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
      const chunks: unknown[] = [];
      try {
        const asked = openAiRequest(recording) as unknown as OpenAI.ChatCompletionCreateParams;
        const answer = await sdk.chat.completions.create(asked);
        if (!(Symbol.asyncIterator in answer)) return { meaning: readOpenAi(JSON.stringify(answer), false), failure: undefined };
        for await (const chunk of answer) chunks.push(chunk);
        return { meaning: { ...foldOpenAiChunks(chunks), complete: true }, failure: undefined };
      } catch (error) {
        if (!(error instanceof OpenAI.APIError)) throw error;
        return { meaning: foldOpenAiChunks(chunks), failure: sdkFailure(error.status, error.message, error.headers) };
      }
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "Responses door, raw",
    carries: responsesCarries,
    cuts: true,
    dialect: "openai.responses",
    async ask(recording) {
      const { status, headers, body } = await post("/v1/responses", responsesRequest(recording));
      const meaning = readResponses(body, status === 200 && recording.stream);
      return { meaning, failure: failureOf(meaning, status, headers) };
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "Responses door, openai package",
    carries: responsesCarries,
    cuts: false,
    dialect: "openai.responses",
    async ask(recording) {
      const sdk = new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
      const events: OpenAI.Responses.ResponseStreamEvent[] = [];
      try {
        const asked = responsesRequest(recording);
        if (!recording.stream) {
          const answer = await sdk.responses.create(asked as unknown as OpenAI.Responses.ResponseCreateParamsNonStreaming);
          return { meaning: readResponses(JSON.stringify(answer), false), failure: undefined };
        }
        // The package puts the pieces together itself, and is strict in how they must come.
        const stream = sdk.responses.stream(asked as unknown as Parameters<typeof sdk.responses.stream>[0]);
        stream.on("event", (event) => events.push(event));
        const answer = await stream.finalResponse();
        const meaning = foldResponsesEvents(events);
        expect(answer.output_text).toBe(meaning.texts[0]);
        return { meaning, failure: undefined };
      } catch (error) {
        if (!(error instanceof OpenAI.APIError)) throw error;
        return { meaning: foldResponsesEvents(events), failure: sdkFailure(error.status, error.message, error.headers) };
      }
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "Anthropic door, raw",
    carries: anthropicCarries,
    cuts: true,
    dialect: "anthropic.messages",
    async ask(recording) {
      const { status, headers, body } = await post("/v1/messages", anthropicRequest(recording));
      const meaning = readAnthropic(body, status === 200 && recording.stream);
      return { meaning, failure: failureOf(meaning, status, headers) };
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "Anthropic door, @anthropic-ai/sdk package",
    carries: anthropicCarries,
    cuts: false,
    dialect: "anthropic.messages",
    async ask(recording) {
      const sdk = new Anthropic({ baseURL: house.origin, apiKey: "none", maxRetries: 0 });
      const events: unknown[] = [];
      try {
        const asked = anthropicRequest(recording) as unknown as Anthropic.MessageCreateParams;
        // Without a time of its own the package refuses to ask for long answers unary.
        const answer = await sdk.messages.create(asked, { timeout: 60_000 });
        if (!(Symbol.asyncIterator in answer)) return { meaning: readAnthropic(JSON.stringify(answer), false), failure: undefined };
        for await (const event of answer) events.push(event);
        return { meaning: foldAnthropicEvents(events), failure: undefined };
      } catch (error) {
        if (!(error instanceof Anthropic.APIError)) throw error;
        return { meaning: foldAnthropicEvents(events), failure: sdkFailure(error.status, error.message, error.headers) };
      }
    },
    expectFailure: expectHttpFailure,
  },
  {
    name: "gRPC door, @grpc/grpc-js package",
    carries: grpcCarries,
    cuts: true,
    dialect: undefined,
    ask: askGrpc,
    expectFailure(failure, { expect: { error, stream_error } }) {
      const expected = error?.class ?? stream_error?.class;
      // The platform's own credential is not the caller's affair; nor is it the caller's fault when a provider breaks off.
      const codes =
        expected === "UNAUTHENTICATED"
          ? ["UNAVAILABLE"]
          : expected === undefined
            ? ["UNAVAILABLE"]
            : [expected, ...(error?.class_alternatives ?? []), ...(stream_error?.class_alternatives ?? [])];
      expect(codes.map((code) => GrpcCode[code as keyof typeof GrpcCode])).toContain(failure.status);
    },
  },
];

/** The model by which each grammar's provider is asked for. */
const modelsByApi: Readonly<Record<string, string>> = {
  "openai.chat": "open",
  "openai.responses": "resp",
  "anthropic.messages": "ant",
  "bedrock.converse": "bed",
  "gemini.generateContent": "gem",
  "bedrock.invoke-anthropic": "invoked",
  "ollama.chat": "oll",
  "ollama.generate": "oll",
  "tgi.generate": "tgi",
  "llama2.raw": "raw",
  "bedrock.invoke-llama": "completed",
  "cohere.chat": "coh",
};

/** The folders by who answers. Of one grammar: whose it is first, then who borrowed it. */
const borrowed = ["openai-compatible", "azure", "huggingface", "mistral", "ollama", "tgi", "vllm"];
const folders = ["openai", ...borrowed, "anthropic", "bedrock", "gemini", "vertex", "llama", "cohere"];
const recordings = readRecordings(folders, Object.keys(modelsByApi)).map(ended);

/** Counted for the table at the end. */
const tally = new Map<string, { run: number; passed: number; partly: Map<string, string> }>();

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(
    policyFor(replay.origin, { more: responsesPolicy() + bedrockPolicy() + geminiPolicy() + openModelPolicy() + coherePolicy() }),
    { open: "a", ant: "b", id: "c", secret: "d", gem: "e" },
    { logLevel: "silent" },
  );
  client = new grpc.Client(`127.0.0.1:${house.port}`, grpc.credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  agent.destroy();
  await house.close();
  await replay.close();
});

if (recordingsFolder() === undefined) {
  test("recorded traffic through every door", (context) => context.skip(recordingsAbsent));
} else {
  test("the recordings that the suite is about are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(118);
  });

  describe.each(doors)("$name", (door) => {
    const counts = { run: 0, passed: 0, partly: new Map<string, string>() };
    tally.set(door.name, counts);

    test.each(recordings)("$name", { timeout: 60_000 }, async (recording) => {
      const reason = notCarried(door, recording);
      if (reason !== undefined) counts.partly.set(recording.name, reason);
      const random = seededRandom(hash(recording.name));
      const ways = [[recording.answer], cutEverywhere(recording.answer)];
      const cuts = !door.cuts ? 0 : doorFolders.test(recording.name) ? cutRuns.doors : cutRuns.others;
      for (let run = 0; run < cuts; run++) ways.push(cutAtRandom(recording.answer, 1 + random.below(8), random));
      for (const pieces of ways) {
        counts.run++;
        replay.forget();
        replay.answerWith({ status: recording.status, headers: replayHeaders(recording.headers, recording.stream), pieces });
        const outcome = await door.ask(recording);
        check(door, recording, outcome);
        counts.passed++;
      }
    });
  });

  test("the count of cases", async ({ annotate }) => {
    const rows = [...tally].map(([name, { run, passed, partly }]) => {
      const reasons = [...partly].map(([recording, reason]) => `\n    in part: ${recording}: ${reason}`).join("");
      return `  ${name}: ${recordings.length} recordings, ${run} runs, ${passed} passed, ${run - passed} failed${reasons}`;
    });
    await annotate(
      `recorded traffic, whole, byte by byte and at seeded cuts (${cutRuns.doors} of the doors' own formats, ${cutRuns.others} of others):\n${rows.join("\n")}`,
      "closing",
    );
    expect([...tally.values()].every(({ run, passed }) => run > 0 && passed === run)).toBe(true);
  });
}

/** What of a recording a door's format has no place for, or undefined. It is then compared without that, and said in the table. */
function notCarried(door: DoorUnderTest, { expect }: Recording): string | undefined {
  if (!door.carries.choices && Number(expect.choices ?? 1) > 1) return "the format has one answer; the first of two is compared";
  if (!door.carries.refusal && expect.refusal !== undefined) return "the format has no refusal text; it is compared as text";
  return undefined;
}

function check(door: DoorUnderTest, recording: Recording, { meaning, failure }: Outcome): void {
  const { expect: expected } = recording;
  if (expected.kind === "error") {
    if (failure === undefined) throw new Error("a refusal by the provider came out as an answer");
    expect(failure.providerStatus).toBe(String(statusOf(expected)));
    if (failure.providerCode !== undefined) {
      expect([expected.error?.class, ...(expected.error?.class_alternatives ?? [])]).toContain(failure.providerCode);
    }
    door.expectFailure(failure, recording);
    return;
  }
  expect(differences(expected, meaning, door.carries)).toEqual([]);
  if (expected.complete) expect(failure).toBeUndefined();
  else {
    if (failure === undefined) throw new Error("an incomplete answer came out as a whole one");
    door.expectFailure(failure, recording);
  }
}

/** At the doors that speak plain HTTP: the provider's own status, but 502 where the platform's credential was refused; 200 once begun. */
function expectHttpFailure(failure: Failure, { expect: expected }: Recording): void {
  const { kind, error } = expected;
  if (kind === "error") expect(failure.status).toBe(error?.class === "UNAUTHENTICATED" ? 502 : statusOf(expected));
  if (error?.class === "UNAUTHENTICATED") expect(failure.message).not.toContain(error.message);
  expect(failure.message).toMatch(/\w{4}/);
}

/** The status of a refusal; of one that came under a good status, the one that its body gives. */
function statusOf({ error }: RecordedMeaning): number | undefined {
  return error !== undefined && error.status < 300 ? error.status_in_body : error?.status;
}

function failureOf(
  meaning: Meaning,
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Failure | undefined {
  if (meaning.error === undefined) return undefined;
  const providerStatus = headers["x-outrigger-provider-status"];
  return { status, message: meaning.error.message, providerStatus: providerStatus?.toString(), providerCode: undefined };
}

function sdkFailure(status: number | undefined, message: string, headers: Headers | undefined): Failure {
  return {
    status: status ?? 200,
    message,
    providerStatus: headers?.get("x-outrigger-provider-status") ?? undefined,
    providerCode: undefined,
  };
}

/**
 * The recorded request where this door's format is the recording's, with our model name; a plain one otherwise, and for refusals, whose
 * requests are wrong in ways that the door sees before the provider would.
 */
function openAiRequest(recording: Recording): Record<string, unknown> {
  const recorded = recordedRequest(recording, "openai.chat");
  return {
    messages: [{ role: "user", content: "Say something" }],
    ...recorded,
    model: modelOf(recording),
    stream: recording.stream,
    ...(recording.stream && { stream_options: { include_usage: true } }),
  };
}

function responsesRequest(recording: Recording): Record<string, unknown> {
  const recorded = recordedRequest(recording, "openai.responses");
  return { input: "Say something", ...recorded, model: modelOf(recording), stream: recording.stream };
}

function anthropicRequest(recording: Recording): Record<string, unknown> {
  const recorded = recordedRequest(recording, "anthropic.messages");
  return {
    messages: [{ role: "user", content: "Say something" }],
    max_tokens: 1024,
    ...recorded,
    model: modelOf(recording),
    stream: recording.stream,
  };
}

function recordedRequest({ api, request: text, expect: { kind } }: Recording, format: string): object | undefined {
  return api === format && text !== undefined && kind !== "error" ? JSON.parse(text) : undefined;
}

function modelOf({ api }: Recording): string {
  return modelsByApi[api] ?? "";
}

function post(
  path: string,
  body: object,
): Promise<{ status: number; headers: Record<string, string | string[] | undefined>; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${house.origin}${path}`,
      { method: "POST", agent, headers: { "content-type": "application/json", "anthropic-version": "2023-06-01" } },
      (incoming) => {
        const pieces: Buffer[] = [];
        incoming.on("data", (piece: Buffer) => pieces.push(piece));
        incoming.on("error", reject);
        incoming.on("end", () => {
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(pieces).toString() });
        });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(JSON.stringify(body));
  });
}

function askGrpc(recording: Recording): Promise<Outcome> {
  const collector = new Collector();
  const chat = chatRequest({ model: modelOf(recording) });
  const path = (method: string): string => `/outrigger.chat.v1.ChatCompletionService/${method}`;
  const same = (bytes: Buffer): Buffer => bytes;
  return new Promise((resolve) => {
    const finish = (error: grpc.ServiceError | null, complete: boolean): void =>
      resolve({
        meaning: readChatResponse(collector.response, complete),
        failure: error === null ? undefined : grpcFailure(error),
      });
    if (recording.stream) {
      const asked = Buffer.from(toBinary(StreamChatCompletionRequestSchema, create(StreamChatCompletionRequestSchema, { chat })));
      const stream = client.makeServerStreamRequest(path("StreamChatCompletion"), same, same, asked);
      stream.on("data", (bytes: Buffer) => collector.add(fromBinary(StreamChatCompletionResponseSchema, bytes).events));
      stream.on("error", (error: grpc.ServiceError) => finish(error, false));
      stream.on("end", () => finish(null, collector.complete));
      return;
    }
    const asked = Buffer.from(toBinary(CreateChatCompletionRequestSchema, create(CreateChatCompletionRequestSchema, { chat })));
    client.makeUnaryRequest(path("CreateChatCompletion"), same, same, asked, (error, bytes) => {
      if (bytes !== undefined) {
        const { chat: answer } = fromBinary(CreateChatCompletionResponseSchema, bytes);
        if (answer !== undefined) Object.assign(collector.response, answer);
      }
      finish(error, error === null);
    });
  });
}

function grpcFailure(error: grpc.ServiceError): Failure {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const details = bytes instanceof Buffer ? fromBinary(StatusSchema, bytes).details : [];
  const info = details.find(({ typeUrl }) => typeUrl.endsWith("google.rpc.ErrorInfo"));
  const facts = info === undefined ? {} : fromBinary(ErrorInfoSchema, info.value).metadata;
  return { status: error.code, message: error.details, providerStatus: facts.provider_status, providerCode: facts.provider_code };
}

function responsesPolicy(): string {
  return `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: resp-provider}
spec:
  responses: {}
  endpoint: ${replay.origin}/v1
  credential: {header: {secret: {file: SECRETS/open}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: resp-route}
spec:
  match: {models: [resp]}
  targets: [{provider: resp-provider, model: upstream-model}]
`;
}

/** A provider whose requests are signed, and the route to it. */
function bedrockPolicy(): string {
  return `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: bed-provider}
spec:
  bedrock: {region: eu-central-1}
  endpoint: ${replay.origin}
  credential: {aws: {access_key_id: {file: SECRETS/id}, secret_access_key: {file: SECRETS/secret}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: bed-route}
spec:
  match: {models: [bed]}
  targets: [{provider: bed-provider, model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}]
---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: invoked-provider}
spec:
  bedrock: {region: eu-central-1, api: BEDROCK_API_INVOKE_MESSAGES}
  endpoint: ${replay.origin}
  credential: {aws: {access_key_id: {file: SECRETS/id}, secret_access_key: {file: SECRETS/secret}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: invoked-route}
spec:
  match: {models: [invoked]}
  targets: [{provider: invoked-provider, model: "anthropic.claude-3-sonnet-20240229-v1:0"}]
`;
}

function coherePolicy(): string {
  return `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: coh-provider}
spec:
  cohere: {}
  endpoint: ${replay.origin}
  credential: {header: {secret: {file: SECRETS/open}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: coh-route}
spec:
  match: {models: [coh]}
  targets: [{provider: coh-provider, model: upstream-model}]
`;
}
function geminiPolicy(): string {
  return `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: gem-provider}
spec:
  gemini: {}
  endpoint: ${replay.origin}
  credential: {header: {secret: {file: SECRETS/gem}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: gem-route}
spec:
  match: {models: [gem]}
  targets: [{provider: gem-provider, model: upstream-model}]
`;
}

/** Servers of open models, each with the route to it; none wants a credential. */
function openModelPolicy(): string {
  const dialects = {
    oll: "ollama: {}",
    tgi: "huggingface: {prompt_format: plain}",
    raw: "llama: {form: inputs, prompt_format: llama2}",
    completed: "llama: {form: generation, prompt_format: llama3}",
  };
  const documents = Object.entries(dialects).map(
    ([name, dialect]) => `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: ${name}-provider}
spec:
  ${dialect}
  endpoint: ${replay.origin}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${name}-route}
spec:
  match: {models: [${name}]}
  targets: [{provider: ${name}-provider, model: upstream-model}]
`,
  );
  return documents.join("");
}

/** A recording of a server that never says why an answer ended: whole, it ended as any other does. */
function ended(recording: Recording): Recording {
  const { expect: meaning } = recording;
  if (meaning.kind !== "chat" || meaning.complete !== true || meaning.finish_reason !== null) return recording;
  return { ...recording, expect: { ...meaning, finish_reason: "stop" } };
}

/** A seed of a name, so that each case has cuts of its own and the same ones every time. */
function hash(text: string): number {
  let value = 0;
  for (const character of text) value = (Math.imul(value, 31) + (character.codePointAt(0) ?? 0)) >>> 0;
  return value;
}
