/**
 * Credentials by identity, from a caller's door to the provider's: real sockets, the clouds' services as strict fakes, and the sidecar's own
 * clock. What each source asks and takes is tested beside it; here is what callers and providers see.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { signed } from "../sidecar/io/sign.ts";
import { ask, callers } from "./kit/callers.ts";
import { type FakeKey, fakeSts } from "./kit/clouds/aws.ts";
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
function policy(spec: string): string {
  return [
    `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: cloud}, spec: ${spec}}`,
    "{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: m}, spec: {match: {models: [m]}, unsupported_params: drop, targets: [{provider: cloud}]}}",
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
