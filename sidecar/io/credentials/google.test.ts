/** Every source of Google's tokens against strict fakes on real sockets, in the order in which Google's own tools look for them. */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GoogleCredentialSchema, GoogleEndpointsSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { fakeGoogleIam, fakeGoogleMetadata, fakeGoogleSts, fakeGoogleTokens } from "../../../test/kit/clouds/google.ts";
import { type Replay, startReplay } from "../../../test/kit/replay.ts";
import { openUpstream, type PooledUpstream } from "../upstream.ts";
import { asker } from "./ask.ts";
import { googleToken } from "./google.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const otherRsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const pem = (key = rsa.privateKey) => key.export({ type: "pkcs8", format: "pem" }).toString();
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform";
const account = "models@project.iam.gserviceaccount.com";

let replay: Replay;
let upstream: PooledUpstream;
let folder: string;
let clock: ManualClock;

beforeAll(async () => {
  replay = await startReplay();
  upstream = openUpstream();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-google-"));
  clock = new ManualClock();
});
afterEach(() => {
  replay.forget();
  rmSync(folder, { recursive: true });
});
afterAll(async () => {
  await upstream.close();
  await replay.close();
});

function file(name: string, content: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

type Given = MessageInitShape<typeof GoogleCredentialSchema>;

function fetching(credential: Given, environment: Record<string, string> = {}) {
  const everywhere = { token: replay.origin, sts: replay.origin, iamCredentials: replay.origin, metadata: replay.origin };
  const endpoints = create(GoogleEndpointsSchema, credential.endpoints ?? everywhere);
  const parts = { ask: asker(upstream.send, clock), clock, environment };
  const fetch = googleToken(create(GoogleCredentialSchema, { ...credential, endpoints }), parts);
  return async () => {
    const { value, ...life } = await fetch(new AbortController().signal);
    expect(clock.waiting).toBe(0);
    return { token: value.reveal(), ...life };
  };
}

const fetched = (...asked: Parameters<typeof fetching>) => fetching(...asked)();

/** What a refusal says, whether it comes while policy is made or while the token is fetched. */
async function refusal(...asked: Parameters<typeof fetching>): Promise<string> {
  try {
    await fetching(...asked)();
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was not refused");
}

const byFile = (path: string, more: Given = {}): Given => ({ source: { case: "file", value: { path } }, ...more });
const byChain: Given = { source: { case: "chain", value: {} } };
const byMetadata: Given = { source: { case: "metadata", value: {} } };

const serviceAccount = {
  type: "service_account",
  project_id: "project",
  private_key_id: "key-1",
  private_key: pem(),
  client_email: account,
  token_uri: "https://oauth2.googleapis.com/token",
};
const user = { client_id: "id", client_secret: "user-secret", refresh_token: "1//refresh" };

/** A token endpoint that knows the account and the user above. */
function tokens() {
  return fakeGoogleTokens({
    account,
    keyId: "key-1",
    key: rsa.publicKey,
    user,
    nowMs: () => clock.wallMs(),
    give: (scope) => `for ${scope}`,
  });
}

describe("a service account's file", () => {
  test("signs claims that the endpoint can verify", async () => {
    replay.answerWith(tokens());
    expect(await fetched(byFile(file("key.json", serviceAccount)))).toEqual({ token: `for ${cloudPlatform}`, lifeMs: 3_599_000 });
    const scopes = ["https://www.googleapis.com/auth/a", "https://www.googleapis.com/auth/b"];
    const two = await fetched(byFile(file("key.json", serviceAccount), { scopes }));
    expect(two.token).toBe(`for ${scopes.join(" ")}`);
  });

  test("is read anew each time, so that a rotated key needs no restart", async () => {
    replay.answerWith(tokens());
    const path = file("key.json", { ...serviceAccount, private_key: pem(otherRsa.privateKey) });
    const again = fetching(byFile(path));
    await expect(again()).rejects.toThrow("answered 400 (invalid_grant)");
    file("key.json", serviceAccount);
    expect((await again()).token).toBe(`for ${cloudPlatform}`);
    file("key.json", "half of it");
    await expect(again()).rejects.toThrow(`the file ${path} is no JSON object`);
  });

  test.each([
    ["no key", { ...serviceAccount, private_key: undefined }, "has no private_key"],
    ["a broken key", { ...serviceAccount, private_key: "-----BEGIN PRIVATE KEY-----\nCANARY" }, "holds no private key that could be read"],
    [
      "a key of another kind",
      { ...serviceAccount, private_key: generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }) },
      "is not one of RSA",
    ],
    ["no account", { ...serviceAccount, client_email: undefined }, "has no client_email"],
    ["an endpoint without encryption", { ...serviceAccount, token_uri: "http://oauth2.googleapis.com/token" }, "neither https nor http"],
    ["a type that needs a person", { type: "external_account_authorized_user" }, "is of a type that is not used here"],
    ["a type of its own", { type: "CANARY" }, "is of a type that is not used here"],
  ])("with %s is refused", async (_, content, expected) => {
    const message = await refusal(byFile(file("key.json", content)));
    expect(message).toContain(expected);
    expect(message).not.toContain("CANARY");
    expect(replay.requests).toEqual([]);
  });

  test("that is not there refuses the policy", () => {
    expect(() => fetching(byFile(join(folder, "gone.json")))).toThrow("gone.json cannot be read (ENOENT)");
  });
});

test("a user's file is exchanged for a token", async () => {
  replay.answerWith(tokens());
  const path = file("user.json", { type: "authorized_user", ...user });
  expect(await fetched(byFile(path))).toEqual({ token: "for of the user", lifeMs: 3_599_000 });
  file("user.json", { type: "authorized_user", ...user, refresh_token: "gone" });
  expect(await refusal(byFile(path))).toContain("answered 400 (invalid_grant)");
});

describe("workload identity federation", () => {
  const audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";
  const subjectType = "urn:ietf:params:oauth:token-type:jwt";
  const external = (source: unknown, more: object = {}) => ({
    type: "external_account",
    audience,
    subject_token_type: subjectType,
    token_url: "https://sts.googleapis.com/v1/token",
    credential_source: source,
    ...more,
  });
  const sts = (subject: string, basic?: string) =>
    fakeGoogleSts({ audience, subject, subjectType, ...(basic === undefined ? {} : { basic }), give: (scope) => `exchanged for ${scope}` });

  test("exchanges the token of a file, which is read anew each time", async () => {
    const tokenFile = file("token", "foreign-1\n");
    const again = fetching(byFile(file("wif.json", external({ file: tokenFile }))));
    replay.answerWith(sts("foreign-1"));
    expect(await again()).toEqual({ token: `exchanged for ${cloudPlatform}`, lifeMs: 3_600_000 });
    replay.answerWith(sts("foreign-2"));
    await expect(again()).rejects.toThrow("answered 400 (invalid_grant)");
    writeFileSync(tokenFile, "foreign-2");
    await again();
  });

  test("takes the token from a member of a JSON file or answer, with the headers that the file names", async () => {
    const format = { type: "json", subject_token_field_name: "access_token" };
    const exchange = sts("foreign", `Basic ${Buffer.from("me:s%20ecret").toString("base64")}`);
    replay.answerWith((request) =>
      request.method === "POST"
        ? exchange(request)
        : request.headers.metadata === "True"
          ? { pieces: ['{"access_token":"foreign"}'] }
          : { status: 400, pieces: [] },
    );
    const client = { client_id: "me", client_secret: "s ecret" };
    const json = file("token.json", { access_token: "foreign" });
    await fetched(byFile(file("wif.json", external({ file: json, format }, client))));
    const url = `${replay.origin}/metadata/identity/oauth2/token?resource=x`;
    await fetched(byFile(file("wif.json", external({ url, headers: { Metadata: "True" }, format }, client))));
    expect(await refusal(byFile(file("wif.json", external({ url, format }, client))))).toContain("answered 400");
  });

  test("acts as a service account where the file says so", async () => {
    const exchange = sts("foreign");
    const asked: unknown[] = [];
    const iam = fakeGoogleIam({
      account,
      token: () => `exchanged for ${cloudPlatform}`,
      nowMs: () => clock.wallMs(),
      give(wanted) {
        asked.push(wanted);
        return "acting";
      },
    });
    replay.answerWith((request) => (request.path === "/v1/token" ? exchange(request) : iam(request)));
    const content = external(
      { file: file("token", "foreign") },
      {
        service_account_impersonation_url: `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${account}:generateAccessToken`,
        service_account_impersonation: { token_lifetime_seconds: 1800 },
      },
    );
    expect(await fetched(byFile(file("wif.json", content), { scopes: ["s"] }))).toEqual({ token: "acting", lifeMs: 1_800_000 });
    expect(asked).toEqual([{ scope: ["s"], lifetime: "1800s" }]);
  });

  test.each([
    [{ executable: { command: "touch NEVER" } }, "names a program (executable), and programs are not run"],
    [{ environment_id: "aws1", url: "http://169.254.169.254/latest" }, "neither from a file nor from an address"],
    [{ url: "http://evil.example/token" }, "neither https nor http at an address"],
    [{ url: "https://t.example", headers: { "a\nb": "c" } }, "names a header that is none"],
    [{ url: "https://t.example", headers: { a: "c\nd" } }, "has no a"],
    [{ file: "/x", format: { type: "json" } }, "has no subject_token_field_name"],
    [undefined, "has no credential_source"],
    [{}, "neither from a file nor from an address"],
  ])("%j refuses the policy", (source, expected) => {
    expect(() => fetching(byFile(file("wif.json", external(source))))).toThrow(expected);
  });
});

describe("acting as another account", () => {
  test("asks for everything first, and for what is wanted then", async () => {
    const exchange = tokens();
    const asked: unknown[] = [];
    const iam = fakeGoogleIam({
      account: "other@project.iam.gserviceaccount.com",
      token: () => `for ${cloudPlatform}`,
      nowMs: () => clock.wallMs(),
      give(wanted) {
        asked.push(wanted);
        return "as the other";
      },
    });
    replay.answerWith((request) => (request.path === "/token" ? exchange(request) : iam(request)));
    const credential = byFile(file("key.json", serviceAccount), {
      impersonate: "other@project.iam.gserviceaccount.com",
      scopes: ["s1", "s2"],
    });
    expect(await fetched(credential)).toEqual({ token: "as the other", lifeMs: 3_600_000 });
    expect(asked).toEqual([{ scope: ["s1", "s2"], lifetime: "3600s" }]);
    const wrong = await refusal({ ...credential, impersonate: "third@project.iam.gserviceaccount.com" });
    expect(wrong).toContain("answered 404 (NOT_FOUND)");
  });

  test("is written in a file of its own, with the accounts between", async () => {
    const exchange = tokens();
    const asked: unknown[] = [];
    const iam = fakeGoogleIam({
      account,
      token: () => "for of the user",
      nowMs: () => clock.wallMs(),
      give(wanted) {
        asked.push(wanted);
        return "acting";
      },
    });
    replay.answerWith((request) => (request.path === "/token" ? exchange(request) : iam(request)));
    const content = {
      type: "impersonated_service_account",
      service_account_impersonation_url: `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${account}:generateAccessToken`,
      delegates: ["projects/-/serviceAccounts/between@p"],
      source_credentials: { type: "authorized_user", ...user },
    };
    expect((await fetched(byFile(file("as.json", content)))).token).toBe("acting");
    expect(asked).toEqual([{ scope: [cloudPlatform], lifetime: "3600s", delegates: ["projects/-/serviceAccounts/between@p"] }]);
    const twice = { ...content, source_credentials: content };
    expect(await refusal(byFile(file("as.json", twice)))).toContain("has no source_credentials that can be used");
  });
});

describe("the metadata service", () => {
  test("gives a token to whoever says that it is meant", async () => {
    replay.answerWith(fakeGoogleMetadata("default", (scopes) => ({ token: `for ${scopes}`, seconds: 1200 })));
    expect(await fetched(byMetadata)).toEqual({ token: `for ${cloudPlatform}`, lifeMs: 1_200_000 });
    const other = { source: { case: "metadata" as const, value: { serviceAccount: account } }, scopes: ["a", "b"] };
    replay.answerWith(fakeGoogleMetadata(encodeURIComponent(account), (scopes) => ({ token: scopes, seconds: 60 })));
    expect((await fetched(other)).token).toBe("a,b");
  });

  test("that does not say that it is Google's is believed nothing", async () => {
    replay.answerWith({ pieces: ['{"access_token":"CANARY","expires_in":3600}'] });
    expect(await refusal(byMetadata)).toBe("the metadata service that answered is not Google's");
  });

  test("can be told by the environment to be asked elsewhere, but not just anywhere", async () => {
    replay.answerWith(fakeGoogleMetadata("default", () => ({ token: "t", seconds: 60 })));
    const own = { ...byMetadata, endpoints: {} };
    await fetched(own, { GCE_METADATA_HOST: new URL(replay.origin).host });
    expect(() => fetching(own, { GCE_METADATA_HOST: "evil.example" })).toThrow("GCE_METADATA_HOST is neither https nor http");
  });
});

describe("application default credentials", () => {
  test("are the first that is set up: file of the environment, file of gcloud, metadata service", async () => {
    const exchange = tokens();
    const metadata = fakeGoogleMetadata("default", () => ({ token: "of the machine", seconds: 60 }));
    replay.answerWith((request) => (request.method === "POST" ? exchange(request) : metadata(request)));
    const gcloud = join(folder, ".config", "gcloud");
    mkdirSync(gcloud, { recursive: true });
    writeFileSync(join(gcloud, "application_default_credentials.json"), JSON.stringify({ type: "authorized_user", ...user }));
    const named = file("key.json", serviceAccount);
    expect((await fetched(byChain, { HOME: folder, GOOGLE_APPLICATION_CREDENTIALS: named })).token).toBe(`for ${cloudPlatform}`);
    expect((await fetched(byChain, { HOME: folder })).token).toBe("for of the user");
    expect((await fetched(byChain, { HOME: "/nowhere", CLOUDSDK_CONFIG: gcloud })).token).toBe("for of the user");
    expect((await fetched(byChain, { HOME: "/nowhere" })).token).toBe("of the machine");
    expect(() => fetching(byChain, { HOME: folder, GOOGLE_APPLICATION_CREDENTIALS: "/nowhere.json" })).toThrow(
      "/nowhere.json cannot be read",
    );
  });
});

test.each([
  ["its own words", 400, '{"error":"sk-CANARY0123456789","error_description":"CANARY"}', "not one of the documented ones"],
  ["no life", 200, '{"access_token":"CANARY"}', "answered 200 with something else than a credential"],
  ["two tokens", 200, '{"access_token":"CANARY","access_token":"b","expires_in":1}', "something else than a credential"],
  ["a token with a line end", 200, '{"access_token":"CANARY\\nx","expires_in":3600}', "something else than a credential"],
])("an endpoint with %s is a failure without its words", async (_, status, body, expected) => {
  replay.answerWith({ status, pieces: [body] });
  const message = await refusal(byFile(file("key.json", serviceAccount)));
  expect(message).toContain(expected);
  expect(message).not.toContain("CANARY");
});
