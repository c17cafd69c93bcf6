/**
 * Secrets that must never be seen: twenty of them, each of a shape that real ones have, brought in by every way that a secret comes near
 * a failure. None may stand in an answer, a header, the log, the metrics, the status or a policy problem.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { readResources } from "../proto/resources.ts";
import { ask, callers } from "./kit/callers.ts";
import { leaks } from "./kit/leaks.ts";
import { type Replay, type ReplayAnswer, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { anthropicStream, openAiStream } from "./kit/wire.ts";

/** Shapes of keys as providers and clouds hand them out, each with a middle that stands nowhere else. */
const canaries = {
  openProvider: "sk-proj-canaryQ1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6j7K8",
  antProvider: "sk-ant-api03-canaryZ9x8C7v6B5n4M3l2K1j0H9g8F7d6S5a4-AAAA",
  rotatedProvider: "sk-svcacct-canaryR0t4t3d5e6c7r8e9t0a1b2c3d4e5f6",
  callerBearer: "caller-canary-bearer-4f9a1c7e2b8d",
  callerKey: "caller-canary-xapikey-7b2e9d4c1a6f",
  callerBasic: "Y2FuYXJ5OmNhbmFyeS1iYXNpYy1wYXNzd29yZA",
  callerCookie: "session-canary-cookie-a1b2c3d4e5",
  callerQuery: "query-canary-key-9f8e7d6c5b",
  callerForwarded: "forwarded-canary-f00dfeed1234",
  echoedOpenAi: "sk-canaryEchoedByTheProvider1234567890abcdef",
  echoedTruncated: "sk-canaryTruncatedButLong0987654321",
  echoedBearer: "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOnRydWV9.canarySignature0123456789",
  echoedAws: "AKIACANARY7EXAMPLE12",
  echoedGoogle: "AIzaSyCanary0123456789abcdefghijklmnopq",
  echoedGithub: "ghp_canary0123456789abcdefghijklmnopqrst",
  echoedHtml: "xoxb-canary-012345678901-abcdefghijkl",
  echoedInStream: "sk-ant-canaryInTheMiddleOfAStream000111222",
  echoedInCode: "hf_canaryAsAnErrorCode01234567890abc",
  inlineInPolicy: "sk-canaryWrittenIntoPolicy5555566666777778888",
  inlineInHeader: "gsk_canaryWrittenIntoAHeader0123456789abcdef",
} as const;

let replay: Replay;
let house: TestSidecar;
/** Everything that came out anywhere. */
const seen: { readonly where: string; readonly text: string }[] = [];

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(
    policyFor(replay.origin),
    { open: canaries.openProvider, ant: canaries.antProvider },
    { logLevel: "debug" },
  );
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

const credentials = {
  authorization: `Bearer ${canaries.callerBearer}`,
  "x-api-key": canaries.callerKey,
  "proxy-authorization": `Basic ${canaries.callerBasic}`,
  cookie: `session=${canaries.callerCookie}`,
  "x-forwarded-authorization": canaries.callerForwarded,
};

/** Calls by every door with every credential that a caller may bring, and keeps what comes back. */
async function callEverywhere(where: string, answer: ReplayAnswer | undefined, model = "open"): Promise<void> {
  for (const caller of callers) {
    if (answer !== undefined) replay.answerWith(answer);
    const { headers, trailers, body } = await ask(caller, house.port, model, {
      headers: credentials,
      path: `${caller.path}?key=${canaries.callerQuery}`,
    });
    seen.push({ where: `${where}, ${caller.name}`, text: JSON.stringify([headers, trailers]) + body.toString("latin1") });
    // Details of gRPC statuses travel in base64, which hides what they hold from a search.
    const details = trailers["grpc-status-details-bin"] ?? headers["grpc-status-details-bin"] ?? "";
    seen.push({ where: `${where}, ${caller.name}, details`, text: Buffer.from(details, "base64").toString("latin1") });
  }
}

const refusal = (status: number, body: unknown, headers: Record<string, string> = {}): ReplayAnswer => ({
  status,
  headers: { "content-type": typeof body === "string" ? "text/html" : "application/json", ...headers },
  pieces: [typeof body === "string" ? body : JSON.stringify(body)],
});

const json = { "content-type": "application/json" };
const sse = { "content-type": "text/event-stream" };

/** Ways in which a provider fails, with a secret in its mouth where it has a place for one. */
const failures: Readonly<Record<string, ReplayAnswer>> = {
  "a refused credential": refusal(401, {
    error: { message: `Incorrect API key provided: ${canaries.echoedOpenAi}.`, type: "invalid_request_error", code: "invalid_api_key" },
  }),
  "the credential of the platform echoed": refusal(403, {
    error: { message: `Key ${canaries.openProvider} and ${canaries.antProvider} may not do this`, type: "permission_error" },
  }),
  "a bad request with a key in its words": refusal(400, {
    error: { message: `Wrong header: Authorization: Bearer ${canaries.echoedBearer}`, type: "x", param: canaries.echoedTruncated },
  }),
  "a flat error": refusal(500, { error: `backend said ${canaries.echoedAws} is not allowed`, message: canaries.echoedGoogle }),
  "an error in a page": refusal(502, `<html><body>token ${canaries.echoedHtml}</body></html>`),
  "an error with a key for a code": refusal(429, {
    error: { message: "slow down", type: canaries.echoedInCode, code: canaries.echoedGithub },
  }),
  "a header with a key": refusal(503, { error: { message: "down" } }, { "x-debug": canaries.echoedGithub, "retry-after": "1" }),
  "no answer that anyone could read": { pieces: [`${canaries.echoedTruncated} is no JSON`], headers: json },
  "an error in the middle of a stream": {
    pieces: [
      ...openAiStream({ text: "a" }).slice(0, 2),
      `data: {"error":{"message":"key ${canaries.echoedInStream} expired","type":"${canaries.echoedInCode}","code":"${canaries.echoedAws}"}}\n\n`,
    ],
    headers: sse,
  },
  "a stream that breaks off": { pieces: openAiStream({ text: "a" }).slice(0, 2), headers: sse, ending: "cut" },
  "a socket that closes": { pieces: [], headers: json, ending: "cut" },
};

test("none of twenty secrets is seen anywhere, whatever fails", { timeout: 60_000 }, async () => {
  expect(Object.keys(canaries)).toHaveLength(20);
  for (const [name, answer] of Object.entries(failures)) await callEverywhere(name, answer);
  await callEverywhere(
    "an error in the middle of an Anthropic stream",
    {
      pieces: [
        ...anthropicStream({ text: "a" }).slice(0, 4),
        `event: error\ndata: {"type":"error","error":{"type":"${canaries.echoedInCode}","message":"${canaries.echoedInStream}"}}\n\n`,
      ],
      headers: sse,
    },
    "ant",
  );
  await callEverywhere("a model that nobody has", undefined, "nobody");
  // Secrets reached the provider, and only there, or the test would prove nothing.
  expect(replay.requests.some(({ headers }) => headers.authorization === `Bearer ${canaries.openProvider}`)).toBe(true);
  for (const { headers, path } of replay.requests) {
    const sent = JSON.stringify(headers) + path;
    for (const name of ["callerBearer", "callerKey", "callerBasic", "callerCookie", "callerQuery", "callerForwarded"] as const) {
      expect(sent, `${name} went to the provider`).not.toContain(canaries[name]);
    }
  }

  house.setSecret("open", canaries.rotatedProvider);
  house.offer(policyFor(replay.origin, { closed: true }));
  await callEverywhere("a key that nobody has", undefined);
  house.offer(`${policyFor(replay.origin)}\n---\nkind: [`);
  for (const inline of [
    policyFor(replay.origin).replace("{file: SECRETS/open}", `{env: ${canaries.inlineInPolicy}}`),
    policyFor(replay.origin).replace("{file: SECRETS/open}", `{file: ${canaries.inlineInPolicy}}`),
    policyFor(replay.origin).replace("{file: SECRETS/open}", canaries.inlineInPolicy),
    policyFor(replay.origin).replace("{secret: {file: SECRETS/open}}", `{secret: {value: ${canaries.inlineInPolicy}}}`),
    policyFor(replay.origin).replace("openai: {}", `openai: {}\n  headers: {x-custom: ${canaries.inlineInHeader}}`),
    policyFor(replay.origin).replace("openai: {}", `openai: {}\n  headers: {authorization: Bearer ${canaries.inlineInHeader}}`),
    policyFor(replay.origin).replace("identities: [{anonymous: {}}]", `identities: [{api_key: {sha256: ${canaries.inlineInPolicy}}}]`),
  ]) {
    house.offer(inline);
    seen.push({ where: "a policy problem", text: JSON.stringify(readResources([{ path: "p.yaml", text: inline }]).problems) });
  }
  seen.push({ where: "the status", text: JSON.stringify(house.sidecar.status()) });
  for (const path of ["/metrics", "/readyz", "/healthz"]) {
    seen.push({ where: path, text: await (await fetch(`${house.opsOrigin}${path}`)).text() });
  }
  seen.push({ where: "the log", text: house.log() });

  expect(house.log()).toContain("MODEL_NOT_FOUND");
  const found = seen.flatMap(({ where, text }) =>
    Object.entries(canaries).flatMap(([name, secret]) => (leaks(text, secret) ? [`${name} in ${where}`] : [])),
  );
  expect([...new Set(found)]).toEqual([]);
});
