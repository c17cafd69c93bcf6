/**
 * Credentials by identity, from a caller's door to the provider's: real sockets, the clouds' services as strict fakes, and the sidecar's own
 * clock. What each source asks and takes is tested beside it; here is what callers and providers see.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { signed } from "../sidecar/io/sign.ts";
import { ask, callers } from "./kit/callers.ts";
import { type FakeKey, fakeSts } from "./kit/clouds/aws.ts";
import { fakeEntra } from "./kit/clouds/entra.ts";
import { fakeGoogleMetadata } from "./kit/clouds/google.ts";
import { type Replay, type ReplayAnswer, type SeenRequest, startReplay } from "./kit/replay.ts";
import { startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

let cloud: Replay;
let provider: Replay;
let house: TestSidecar | undefined;

beforeAll(async () => {
  cloud = await startReplay();
  provider = await startReplay();
});
afterEach(async () => {
  await house?.close();
  house = undefined;
  cloud.forget();
  provider.forget();
});
afterAll(async () => {
  await cloud.close();
  await provider.close();
});

const [plain] = callers.filter(({ form, streaming }) => form === "openai" && !streaming);
const role = "arn:aws:iam::123456789012:role/reader";

/** A policy with one provider, its route `m`, and no need for a key. */
function policy(spec: string, model = "m"): string {
  return [
    `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: cloud}, spec: ${spec}}`,
    `{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: m}, spec: {match: {models: [m]}, unsupported_params: drop, targets: [{provider: cloud, model: ${model}}]}}`,
    "{apiVersion: outrigger.dev/v1alpha1, kind: Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}",
  ].join("\n---\n");
}

async function call(): Promise<number> {
  if (plain === undefined || house === undefined) throw new Error("there is no caller or no house");
  return (await ask(plain, house.port, "m")).status;
}

describe("keys of a role by web identity", () => {
  const converse = JSON.stringify({
    output: { message: { role: "assistant", content: [{ text: "Hello" }] } },
    stopReason: "end_turn",
    usage: { inputTokens: 1, outputTokens: 1, totalTokens: 2 },
  });
  const given: FakeKey[] = [];

  /** The provider: it takes requests that were signed with the key that was given last. */
  function signedOnly({ method, path, headers, body }: SeenRequest): ReplayAnswer {
    const json = { "content-type": "application/json" };
    const key = given.at(-1);
    const names = /SignedHeaders=([^,]*)/.exec(headers.authorization ?? "")?.[1]?.split(";") ?? [];
    const made = ["host", "x-amz-date", "x-amz-security-token"];
    const others = names.filter((name) => !made.includes(name)).flatMap((name) => [name, String(headers[name])]);
    const atMs = Date.parse(String(headers["x-amz-date"]).replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
    const scope = { host: "", region: "eu-central-1", service: "bedrock" };
    const right = key && signed({ method, host: headers.host ?? "", path, headers: others, body }, scope, key, atMs).at(-1);
    if (right !== headers.authorization || !names.includes("x-amz-security-token"))
      return { status: 403, headers: { ...json, "x-amzn-errortype": "ExpiredTokenException" }, pieces: ['{"message":"Expired"}'] };
    return { headers: json, pieces: [converse] };
  }

  const spec = () => `{bedrock: {region: eu-central-1}, endpoint: "${provider.origin}",
    credential: {aws: {web_identity: {}, endpoints: {sts: "${cloud.origin}"}}}}`;
  const variables = { AWS_ROLE_ARN: role, AWS_WEB_IDENTITY_TOKEN_FILE: "SECRETS/token" };

  test("sign what a hundred callers send, and are asked for once", async () => {
    cloud.answerWith(
      fakeSts({
        region: "eu-central-1",
        keys: [],
        webTokens: { [role]: "pod-token" },
        nowMs: Date.now,
        give() {
          const key = {
            accessKeyId: `ASIA${given.length}`,
            secretAccessKey: `secret${given.length}`,
            sessionToken: `token${given.length}==`,
          };
          given.push(key);
          return { ...key, endsAtMs: Date.now() + 3_600_000 };
        },
      }),
    );
    provider.answerWith(signedOnly);
    house = await startTestSidecar(policy(spec()), { token: "pod-token" }, {}, variables);
    expect(new Set(await Promise.all(Array.from({ length: 100 }, call)))).toEqual(new Set([200]));
    expect(cloud.requests).toHaveLength(1);
    // The same policy with another word in it goes on with the keys that there are.
    house.offer(policy(spec().replace("{bedrock", "{jurisdiction: DE, bedrock")));
    expect(await call()).toBe(200);
    expect(cloud.requests).toHaveLength(1);
  });

  test("that cannot be had are a fault that names the provider and nothing else, and are had once they can be", async () => {
    cloud.answerWith({ status: 403, pieces: ["<Error><Code>AccessDenied</Code><Message>pod-token and CANARY</Message></Error>"] });
    provider.answerWith(signedOnly);
    house = await startTestSidecar(policy(spec()), { token: "pod-token" }, {}, variables);
    for (const caller of callers) {
      const { headers, trailers, body } = await ask(caller, house.port, "m");
      const seen = JSON.stringify([headers, trailers]) + body.toString("latin1");
      expect(seen).toContain("cannot be had at present");
      expect(seen).not.toMatch(/CANARY|pod-token|AccessDenied/);
    }
    expect(provider.requests).toEqual([]);
    expect(house.log()).toContain("answered 403 (AccessDenied)");
    expect(house.log()).not.toMatch(/CANARY|pod-token/);
  });
});

const chatAnswer = JSON.stringify({
  id: "1",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
});
const json = { "content-type": "application/json" };

/** A provider that answers whoever shows the token at one of its paths. */
function takes(token: () => string, body: string): (request: SeenRequest) => ReplayAnswer {
  return ({ headers }) =>
    headers.authorization === `Bearer ${token()}` && headers["api-key"] === undefined && headers["x-goog-api-key"] === undefined
      ? { headers: json, pieces: [body] }
      : {
          status: 401,
          headers: json,
          pieces: [JSON.stringify({ error: { code: "401", message: "Unauthorized", status: "UNAUTHENTICATED" } })],
        };
}

describe("tokens of Entra ID", () => {
  test.each([
    ["azure", "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"],
    ["azure-v1", "/openai/v1/chat/completions"],
    ["azure-models", "/models/chat/completions?api-version=2024-05-01-preview"],
  ])("open the addresses of the row %s, and are fetched for the right scope", async (row, path) => {
    const scopes: string[] = [];
    const shows = (form: URLSearchParams) => form.get("client_assertion") === "pod-token";
    const give = (scope: string) => {
      scopes.push(scope);
      return { token: "entra-token", seconds: 3600 };
    };
    cloud.answerWith(fakeEntra({ tenant: "t", clientId: "c", proves: shows, give }));
    provider.answerWith(takes(() => "entra-token", chatAnswer));
    const credential = `{entra: {workload_identity: {}, endpoints: {authority: "${cloud.origin}"}}}`;
    const variables = { AZURE_TENANT_ID: "t", AZURE_CLIENT_ID: "c", AZURE_FEDERATED_TOKEN_FILE: "SECRETS/token" };
    const spec = `{openai: {row: ${row}}, endpoint: "${provider.origin}", credential: ${credential}}`;
    house = await startTestSidecar(policy(spec, "gpt"), { token: "pod-token" }, {}, variables);
    expect([await call(), await call()]).toEqual([200, 200]);
    expect(provider.requests.map((request) => request.path)).toEqual([path, path]);
    expect(scopes).toEqual(["https://cognitiveservices.azure.com/.default"]);
  });
});

describe("tokens of Google", () => {
  const generated = JSON.stringify({
    candidates: [{ content: { role: "model", parts: [{ text: "Hello" }] }, finishReason: "STOP", index: 0 }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
  });
  const spec = () => `{gemini: {vertex: {project: p, location: europe-west4}}, endpoint: "${provider.origin}",
    credential: {google: {metadata: {}, endpoints: {metadata: "${cloud.origin}"}}}}`;

  test("open Vertex AI, and one that is wrong is the platform's trouble and not the caller's", async () => {
    let current = "first";
    cloud.answerWith(fakeGoogleMetadata("default", () => ({ token: current, seconds: 3600 })));
    provider.answerWith(takes(() => "first", generated));
    house = await startTestSidecar(policy(spec(), "gemini-2.5-flash"));
    expect(await call()).toBe(200);
    expect(provider.requests[0]?.path).toBe(
      "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent",
    );
    current = "second";
    provider.answerWith(takes(() => "second", generated));
    // The one that is held is new, so that another would hardly be better: nobody is flooded with questions.
    expect([await call(), await call()]).toEqual([502, 502]);
    expect(cloud.requests).toHaveLength(1);
    // Another policy for the same provider begins anew.
    house.offer(policy(spec().replace("metadata: {}", "metadata: {}, scopes: [s]"), "gemini-2.5-flash"));
    expect(await call()).toBe(200);
  });

  test("are waited for by the first calls alone", async () => {
    const asked = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const metadata = fakeGoogleMetadata("default", () => ({ token: "late", seconds: 3600 }));
    cloud.answerWith((request) => {
      const { pieces, ...answer } = metadata(request);
      asked.resolve();
      return {
        ...answer,
        pieces: (async function* () {
          await held.promise;
          yield* pieces;
        })(),
      };
    });
    provider.answerWith(takes(() => "late", generated));
    house = await startTestSidecar(policy(spec(), "gemini-2.5-flash"));
    const waiting = Array.from({ length: 20 }, call);
    await asked.promise;
    expect(provider.requests).toEqual([]);
    held.resolve();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([200]));
    expect([cloud.requests.length, provider.requests.length]).toEqual([1, 20]);
  });
});
