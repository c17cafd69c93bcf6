/**
 * Secrets through every error path of every dialect: each provider is called with a credential of its own, by every kind of credential
 * that there is, and fails in every way that its language has, repeating what it was sent wherever there is a place for words. None of
 * it may stand in an answer, a header, a trailer, a detail, the log, the metrics or the status.
 */
import { createServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { providerRows } from "../sidecar/providers.ts";
import { ask, callers } from "./kit/callers.ts";
import { dataFrame, eventFrame, exceptionFrame } from "./kit/eventFrames.ts";
import { leaks } from "./kit/leaks.ts";
import { type Replay, type ReplayAnswer, startReplay } from "./kit/replay.ts";
import { startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

/** One secret for each credential, in the forms that they have in the wild: some look like keys, and some look like anything. */
const secrets = {
  bearer: "sk-proj-canaryA1b2C3d4E5f6G7h8I9j0K1l2M3n4",
  words: "correct-horse-canary-battery",
  ownHeader: "canary-in-a-header-of-its-own",
  ownPrefix: "canary with blanks and a prefix".replaceAll(" ", "_"),
  azure: "0a1b2c3d4e5f67890canary0a1b2c3d4",
  anthropic: "sk-ant-api03-canaryQ1w2E3r4T5y6U7i8-AAAA",
  anthropicToken: "canary.oauth.token.of.a.person",
  google: "AIzaSyCanaryStudio0123456789abcdefghijk",
  googleToken: "ya29.canary-token-of-a-service-account",
  awsId: "AKIACANARY7EXAMPLE01",
  awsSecret: "canary/wJalrXUtnFEMI+K7MDENG/bPxRfiCYEXAMPLE",
  awsSession: "canarySession//////////wEaCXVzLWVhc3QtMSJHMEUCIQ",
  awsBearer: "bedrock-api-key-canaryYmVkcm9jay5hbWF6b25hd3M",
  cohere: "canaryCohere40LettersWithoutAnyDigitsInIt",
  mistral: "canaryMistralKeyOf32LettersAbcdef",
  huggingface: "hf_canaryAbcdefghijklmnopqrstuvwxyzAB",
  ollama: "canary-ollama-behind-a-proxy",
  llama: "canary-llama-behind-a-proxy",
  callerBearer: "caller-canary-bearer-5c2d8e1f",
  callerKey: "caller-canary-x-api-key-9a7b3c",
} as const;

/** How each provider is reached, and which secrets the failure repeats: those that were sent. */
interface Provider {
  readonly spec: string;
  readonly model?: string;
  readonly repeats: readonly (keyof typeof secrets)[];
}

const header = (name: keyof typeof secrets, more = ""): string => `{header: {secret: {file: SECRETS/${name}}${more}}}`;
const aws = (session: string): string =>
  `{aws: {access_key_id: {file: SECRETS/awsId}, secret_access_key: {file: SECRETS/awsSecret}${session}}}`;

const providers: Readonly<Record<string, Provider>> = {
  open: { spec: `openai: {}, credential: ${header("bearer")}`, repeats: ["bearer"] },
  words: { spec: `openai: {row: compatible}, credential: ${header("words")}`, repeats: ["words"] },
  named: { spec: `openai: {row: compatible}, credential: ${header("ownHeader", ", name: x-key")}`, repeats: ["ownHeader"] },
  prefixed: {
    spec: `openai: {row: compatible}, credential: ${header("ownPrefix", ', name: x-key, prefix: "Token "')}`,
    repeats: ["ownPrefix"],
  },
  azure: { spec: `openai: {row: azure}, credential: ${header("azure")}`, repeats: ["azure"] },
  mistral: { spec: `openai: {row: mistral}, credential: ${header("mistral")}`, repeats: ["mistral"] },
  resp: { spec: `responses: {}, credential: ${header("bearer")}`, repeats: ["bearer"] },
  ant: { spec: `anthropic: {}, credential: ${header("anthropic")}`, repeats: ["anthropic"] },
  antToken: {
    spec: `anthropic: {}, credential: ${header("anthropicToken", ', name: authorization, prefix: "Bearer "')}`,
    repeats: ["anthropicToken"],
  },
  gem: { spec: `gemini: {}, credential: ${header("google")}`, repeats: ["google"] },
  vertex: { spec: `gemini: {vertex: {project: p, location: eu}}, credential: ${header("googleToken")}`, repeats: ["googleToken"] },
  bed: {
    spec: `bedrock: {region: eu-central-1}, credential: ${aws(", session_token: {file: SECRETS/awsSession}")}`,
    model: "anthropic.claude-3-5-haiku-20241022-v1:0",
    repeats: ["awsId", "awsSession"],
  },
  bedKey: { spec: `bedrock: {region: eu-central-1}, credential: ${header("awsBearer")}`, repeats: ["awsBearer"] },
  invoked: {
    spec: `bedrock: {region: eu-central-1, api: BEDROCK_API_INVOKE_MESSAGES}, credential: ${aws("")}`,
    model: "anthropic.claude-3-5-haiku-20241022-v1:0",
    repeats: ["awsId"],
  },
  coh: { spec: `cohere: {}, credential: ${header("cohere")}`, repeats: ["cohere"] },
  oll: { spec: `ollama: {}, credential: ${header("ollama")}`, repeats: ["ollama"] },
  tgi: { spec: `huggingface: {prompt_format: plain}, credential: ${header("huggingface")}`, repeats: ["huggingface"] },
  raw: { spec: `llama: {form: inputs, prompt_format: llama3}, credential: ${header("llama")}`, repeats: ["llama"] },
};

/** The forms in which providers write an error, with words in every place for them. */
const bodies: readonly ((words: string) => string)[] = [
  (words) =>
    JSON.stringify({ error: { message: words, type: words, param: words, code: words, status: words, details: [{ reason: words }] } }),
  (words) => JSON.stringify({ type: "error", error: { type: "invalid_request_error", message: `Key ${words} may not.` } }),
  (words) => JSON.stringify({ message: words, Message: words, __type: words, error_type: words, id: words }),
  (words) => JSON.stringify({ error: words, detail: words, object: "error" }),
  (words) => JSON.stringify({ detail: [{ loc: [words], msg: words, type: words }] }),
  (words) => JSON.stringify([{ error: { code: 400, message: words, status: "INVALID_ARGUMENT" } }]),
  (words) => `<html><title>${words}</title>${words}</html>`,
  (words) => words,
];

const json = { "content-type": "application/json" };
const sse = { "content-type": "text/event-stream" };
const frames = { "content-type": "application/vnd.amazon.eventstream" };

/** Each way of failing, given the words that repeat the secrets. */
function failuresOf(words: string): [string, ReplayAnswer][] {
  const [first, second] = bodies;
  if (first === undefined || second === undefined) throw new Error("there are forms of errors");
  const event = (name: string, data: string): string => `event: ${name}\ndata: ${data}\n\n`;
  return [
    ...[400, 401, 403, 404, 408, 413, 422, 424, 429, 498, 500, 503, 529].map((status, at): [string, ReplayAnswer] => [
      `status ${status}`,
      {
        status,
        headers: { ...json, "x-amzn-errortype": words, "retry-after": words, "x-request-id": words, "www-authenticate": words },
        pieces: [(bodies[at % bodies.length] ?? first)(words)],
      },
    ]),
    ...bodies.map((body, at): [string, ReplayAnswer] => [`body ${at}`, { status: 400, headers: json, pieces: [body(words)] }]),
    ["a redirect", { status: 307, headers: { location: `http://127.0.0.1:1/?key=${encodeURIComponent(words)}` }, pieces: [words] }],
    ["an error under a good status", { headers: json, pieces: [first(words)] }],
    ["a body that is no answer", { headers: json, pieces: [`{"${words}":`] }],
    ["an odd type of content", { headers: { "content-type": words }, pieces: [words] }],
    ["an error as the first frame", { headers: sse, pieces: [event("error", second(words))] }],
    [
      "an error in the middle of a stream",
      { headers: sse, pieces: ['data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', `data: ${first(words)}\n\n`] },
    ],
    [
      "an answer that failed after it began",
      {
        headers: sse,
        pieces: [
          event("response.created", '{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","output":[]}}'),
          event(
            "response.failed",
            JSON.stringify({ type: "response.failed", response: { status: "failed", error: { code: words, message: words } } }),
          ),
        ],
      },
    ],
    ["a frame that is no JSON", { headers: sse, pieces: [`data: {"${words}\n\n`] }],
    ["a line with an error", { headers: { "content-type": "application/x-ndjson" }, pieces: [`${JSON.stringify({ error: words })}\n`] }],
    ["an exception in a frame", { headers: frames, pieces: [exceptionFrame("validationException", words)] }],
    [
      "an exception in the middle",
      { headers: frames, pieces: [dataFrame("messageStart", { role: "assistant" }), exceptionFrame(words.slice(0, 20), words)] },
    ],
    [
      "an error in a frame",
      { headers: frames, pieces: [eventFrame({ ":message-type": "error", ":error-code": words, ":error-message": words }, "")] },
    ],
    [
      "an answer that fails",
      {
        headers: sse,
        pieces: [event("error", second(words)), event("response.failed", `{"response":{"status":"failed",${second(words).slice(1)}}`)],
      },
    ],
    ["a stream that breaks off", { headers: sse, pieces: [`data: ${words}`], ending: "cut" }],
    ["a socket that closes", { headers: json, pieces: [], ending: "cut" }],
  ];
}

let replay: Replay;
let house: TestSidecar;
const seen: { readonly where: string; readonly text: string }[] = [];
/** A port that nobody listens at. */
let closedPort = 0;

beforeAll(async () => {
  replay = await startReplay();
  closedPort = await freePort();
  const documents = Object.entries(providers).flatMap(([name, { spec, model = "m" }]) => {
    const at = (suffix: string, address: string): string[] => [
      `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: ${name.toLowerCase()}${suffix}},
        spec: {${spec}, endpoint: "${address}", timeouts: {first_content: 0.2s, connect: 1s}}}`,
      `{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: ${name.toLowerCase()}${suffix}},
        spec: {match: {models: [${name}${suffix}]}, unsupported_params: drop, targets: [{provider: ${name.toLowerCase()}${suffix}, model: "${model}"}]}}`,
    ];
    return [
      ...at("", replay.origin),
      ...at("-closed", `http://127.0.0.1:${closedPort}`),
      // The other side speaks no TLS.
      ...at("-tls", replay.origin.replace("http:", "https:")),
    ];
  });
  documents.push("{apiVersion: outrigger.dev/v1alpha1, kind: Consumer, metadata: {name: app}, spec: {identities: [{anonymous: {}}]}}");
  house = await startTestSidecar(documents.join("\n---\n"), secrets, { logLevel: "debug" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

/** One caller of each form: which door shows a fault is what differs, and not whether it streams over one HTTP or the other. */
const doors = [...new Map(callers.map((caller) => [`${caller.form} ${caller.streaming}`, caller])).values()];

async function call(where: string, model: string, which = doors): Promise<void> {
  for (const caller of which) {
    const { headers, trailers, body } = await ask(caller, house.port, model, {
      headers: { authorization: `Bearer ${secrets.callerBearer}`, "x-api-key": secrets.callerKey },
    });
    const details = trailers["grpc-status-details-bin"] ?? headers["grpc-status-details-bin"] ?? "";
    const text = JSON.stringify([headers, trailers]) + body.toString("latin1") + Buffer.from(details, "base64").toString("latin1");
    seen.push({ where: `${where}, ${caller.name}`, text });
  }
}

test("no secret is seen, however a provider of any dialect fails", { timeout: 120_000 }, async () => {
  const dialects = new Set(Object.values(providers).map(({ spec }) => spec.slice(0, spec.indexOf(":"))));
  expect([...dialects].sort()).toEqual([...new Set(Object.values(providerRows).map(({ dialect }) => dialect))].sort());
  expect(Object.keys(secrets)).toHaveLength(20);

  for (const [name, { repeats }] of Object.entries(providers)) {
    replay.forget();
    const words = repeats.map((each) => secrets[each]).join(" and ");
    let turn = 0;
    for (const [failure, answer] of failuresOf(words)) {
      replay.answerWith(answer);
      // Each failure meets two doors, and over a provider's failures every door is met.
      const which = [0, 1].flatMap((next) => doors[(turn * 2 + next) % doors.length] ?? []);
      turn++;
      await call(`${name}: ${failure}`, name, which);
    }
    // What was repeated had been sent, or the test would prove nothing.
    const sent = replay.requests.map(({ headers, path }) => JSON.stringify(headers) + path).join("\n");
    for (const each of repeats) expect(sent, `${name} sends ${each}`).toContain(secrets[each]);
    expect(sent).not.toContain(secrets.awsSecret);
    expect(sent).not.toContain(secrets.callerBearer);
    expect(sent).not.toContain(secrets.callerKey);
    const few = doors.slice(turn % 3, (turn % 3) + 2);
    replay.answerWith({ headers: json, pieces: [], ending: "hang" });
    await call(`${name}: a provider that says nothing`, name, few);
    await call(`${name}: a provider that is not there`, `${name}-closed`, few);
    await call(`${name}: a provider that speaks no TLS`, `${name}-tls`, few);
  }

  seen.push({ where: "the status", text: JSON.stringify(house.sidecar.status()) });
  for (const path of ["/metrics", "/readyz", "/healthz"]) {
    seen.push({ where: path, text: await (await fetch(`${house.opsOrigin}${path}`)).text() });
  }
  seen.push({ where: "the log", text: house.log() });
  expect(house.log()).toContain("PROVIDER_TIMEOUT");
  const found = seen.flatMap(({ where, text }) =>
    Object.entries(secrets).flatMap(([name, secret]) => (leaks(text, secret) ? [`${name} in ${where}`] : [])),
  );
  expect([...new Set(found)]).toEqual([]);
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
