/** Every source of Entra ID's tokens against strict fakes on real sockets, in the order in which Azure's own tools look for them. */
import { constants, createHash, generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EntraCredentialSchema, EntraEndpointsSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { selfSigned } from "../../../test/kit/certificate.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { fakeAgent, fakeEntra, fakePlatform } from "../../../test/kit/clouds/entra.ts";
import { verified } from "../../../test/kit/clouds/google.ts";
import { type Replay, startReplay } from "../../../test/kit/replay.ts";
import { Secret } from "../../call.ts";
import { openUpstream, type PooledUpstream } from "../upstream.ts";
import { asker } from "./ask.ts";
import { entraToken } from "./entra.ts";

const scope = "https://cognitiveservices.azure.com/.default";
const resource = "https://cognitiveservices.azure.com";

let replay: Replay;
let upstream: PooledUpstream;
let folder: string;
let clock: ManualClock;
let ids = 0;

beforeAll(async () => {
  replay = await startReplay();
  upstream = openUpstream();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-entra-"));
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

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

type Given = MessageInitShape<typeof EntraCredentialSchema>;

function fetching(credential: Given, environment: Record<string, string> = {}, secret?: () => Secret) {
  const endpoints = create(EntraEndpointsSchema, credential.endpoints ?? { authority: replay.origin, metadata: replay.origin });
  const random = { next: () => 0, id: () => `id-${ids++}` };
  const parts = { ask: asker(upstream.send, clock), clock, random, environment, proofFolder: folder };
  const fetch = entraToken(create(EntraCredentialSchema, { ...credential, endpoints }), scope, secret, parts);
  return async () => {
    const { value, ...life } = await fetch(new AbortController().signal);
    expect(clock.waiting).toBe(0);
    return { token: value.reveal(), ...life };
  };
}

const fetched = (...asked: Parameters<typeof fetching>) => fetching(...asked)();

async function refusal(...asked: Parameters<typeof fetching>): Promise<string> {
  try {
    await fetching(...asked)();
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was not refused");
}

const of = { tenantId: "tenant-1", clientId: "client-1" };
const variables = { AZURE_TENANT_ID: "tenant-1", AZURE_CLIENT_ID: "client-1" };

/** A token endpoint for the application above. */
function endpoint(proves: (form: URLSearchParams) => boolean, refreshSeconds?: number) {
  return fakeEntra({
    tenant: "tenant-1",
    clientId: "client-1",
    proves,
    give: (asked) => ({ token: `for ${asked}`, seconds: 3599, ...(refreshSeconds === undefined ? {} : { refreshSeconds }) }),
  });
}

describe("an application's secret", () => {
  const credential = (value = of): Given => ({ source: { case: "clientSecret", value } });

  test("is shown, as it is at that moment", async () => {
    let secret = "first";
    replay.answerWith(endpoint((form) => form.get("client_secret") === "second", 1800));
    const again = fetching(credential(), {}, () => new Secret(secret));
    await expect(again()).rejects.toThrow("answered 401 (invalid_client) (AADSTS7000215)");
    secret = "second";
    expect(await again()).toEqual({ token: `for ${scope}`, lifeMs: 3_599_000, refreshInMs: 1_800_000 });
    const named = credential({ tenantId: "", clientId: "" });
    expect((await fetched(named, variables, () => new Secret("second"))).token).toBe(`for ${scope}`);
  });

  test("needs a tenant and an application", () => {
    expect(() => fetching(credential({ ...of, tenantId: "" }), {}, () => new Secret("s"))).toThrow("AZURE_TENANT_ID is not set");
    expect(() => fetching(credential({ ...of, tenantId: "" }), { AZURE_TENANT_ID: "a/b" }, () => new Secret("s"))).toThrow("neither an id");
  });

  test("goes to the authority that the environment names, over https alone", async () => {
    const own: Given = { source: { case: "clientSecret", value: of }, endpoints: {} };
    replay.answerWith(endpoint(() => true));
    await fetched(own, { AZURE_AUTHORITY_HOST: `${replay.origin}/` }, () => new Secret("s"));
    expect(() => fetching(own, { AZURE_AUTHORITY_HOST: "http://evil.example" }, () => new Secret("s"))).toThrow(
      "AZURE_AUTHORITY_HOST is neither",
    );
  });
});

describe("an application's certificate", () => {
  test("signs claims that the endpoint can verify", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const certificateText = selfSigned(publicKey, privateKey);
    const keyText = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const certificate = new X509Certificate(certificateText);
    const thumbprint = createHash("sha256").update(certificate.raw).digest("base64url");
    const seen: unknown[] = [];
    replay.answerWith(
      endpoint((form) => {
        const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
        const header = { alg: "PS256", typ: "JWT", "x5t#S256": thumbprint };
        const claims = verified(form.get("client_assertion") ?? "", header, certificate.publicKey, padding);
        seen.push(claims);
        return form.get("client_assertion_type") === "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" && claims !== undefined;
      }),
    );
    const path = file("both.pem", certificateText + keyText);
    const credential: Given = { source: { case: "clientCertificate", value: { ...of, path } } };
    await fetched(credential);
    await fetched({ source: { case: "chain", value: {} } }, { ...variables, AZURE_CLIENT_CERTIFICATE_PATH: path });
    const nowS = Math.floor(clock.wallMs() / 1000);
    const url = `${replay.origin}/tenant-1/oauth2/v2.0/token`;
    const claims = { aud: url, iss: "client-1", sub: "client-1", nbf: nowS, iat: nowS, exp: nowS + 600 };
    expect(seen).toEqual([
      { ...claims, jti: "id-0" },
      { ...claims, jti: "id-1" },
    ]);
    expect(() =>
      fetching({ source: { case: "clientCertificate", value: { ...of, path: file("certificate.pem", certificateText) } } }),
    ).toThrow("no private key");
    expect(() => fetching({ source: { case: "clientCertificate", value: { ...of, path: file("key.pem", keyText) } } })).toThrow(
      "no certificate",
    );
  });
});

test("a pod's token stands for the application, and is read anew each time", async () => {
  const credential: Given = { source: { case: "workloadIdentity", value: {} } };
  const tokenFile = file("token", "pod-1\n");
  const environment = { ...variables, AZURE_FEDERATED_TOKEN_FILE: tokenFile };
  const shows = (token: string) =>
    endpoint(
      (form) =>
        form.get("client_assertion_type") === "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" &&
        form.get("client_assertion") === token,
    );
  const again = fetching(credential, environment);
  replay.answerWith(shows("pod-1"));
  expect(await again()).toEqual({ token: `for ${scope}`, lifeMs: 3_599_000 });
  replay.answerWith(shows("pod-2"));
  await expect(again()).rejects.toThrow("(invalid_client)");
  writeFileSync(tokenFile, "pod-2");
  await again();
  await fetched({ source: { case: "workloadIdentity", value: { ...of, tokenFile } } });
  expect(() => fetching(credential, variables)).toThrow("AZURE_FEDERATED_TOKEN_FILE is not set");
});

describe("a managed identity", () => {
  const system: Given = { source: { case: "managedIdentity", value: {} } };
  const machine = { path: "/metadata/identity/oauth2/token", version: "2018-02-01", headers: { metadata: "true" } };
  const life = { access_token: "of the machine", expires_in: "86399", expires_on: "1", refresh_in: "43199" };

  test("of a machine comes from its metadata service, with numbers written as text", async () => {
    replay.answerWith(fakePlatform({ ...machine, give: (asked) => ({ ...life, access_token: `for ${asked}` }) }));
    expect(await fetched(system)).toEqual({ token: `for ${resource}`, lifeMs: 86_399_000, refreshInMs: 43_199_000 });
  });

  test.each([
    ["clientId", "c-1", { client_id: "c-1" }],
    ["objectId", "o-1", { object_id: "o-1" }],
    ["resourceId", "/subscriptions/s/x", { msi_res_id: "/subscriptions/s/x" }],
  ] as const)("can be one of several, by %s", async (kind, value, more) => {
    replay.answerWith(fakePlatform({ ...machine, more, give: () => life }));
    await fetched({ source: { case: "managedIdentity", value: { identity: { case: kind, value } } } });
    expect(await refusal(system)).toContain("answered 400 (invalid_request)");
  });

  test("of an app comes from the address in the environment, for its header", async () => {
    const endsAt = String(Math.floor(clock.wallMs() / 1000) + 3600);
    const app = { path: "/msi/token", version: "2019-08-01", headers: { "x-identity-header": "app-header" } };
    replay.answerWith(fakePlatform({ ...app, give: () => ({ access_token: "of the app", expires_on: endsAt }) }));
    const environment = { IDENTITY_ENDPOINT: `${replay.origin}/msi/token`, IDENTITY_HEADER: "app-header" };
    const { token, lifeMs } = await fetched(system, environment);
    expect([token, Math.round(lifeMs / 1000)]).toEqual(["of the app", 3600]);
    replay.answerWith(fakePlatform({ ...app, more: { object_id: "o" }, give: () => ({ access_token: "a", expires_on: endsAt }) }));
    await fetched({ source: { case: "managedIdentity", value: { identity: { case: "objectId", value: "o" } } } }, environment);
    expect(await refusal(system, { ...environment, IDENTITY_HEADER: "wrong" })).toContain("(invalid_request)");
    expect(() => fetching(system, { ...environment, IDENTITY_ENDPOINT: "http://evil.example/msi" })).toThrow(
      "IDENTITY_ENDPOINT is neither",
    );
  });

  test("of a connected server is proven by a file of its agent, and by no other file", async () => {
    const environment = { IDENTITY_ENDPOINT: `${replay.origin}/metadata/identity/oauth2/token`, IMDS_ENDPOINT: "http://localhost:40342" };
    replay.answerWith(
      fakeAgent(
        file("abc-1.key", "proof-1"),
        () => "proof-1",
        () => "of the server",
      ),
    );
    expect(await fetched(system, environment)).toEqual({ token: "of the server", lifeMs: 86_000_000 });
    for (const other of [
      "/etc/passwd",
      "/etc/x.key",
      join(folder, "secret.pem"),
      `${folder}/../x.key`,
      `${folder}/../${folder.split("/").at(-1)}/../x.key`,
    ]) {
      replay.forget();
      replay.answerWith(
        fakeAgent(
          other,
          () => "",
          () => "never",
        ),
      );
      expect(await refusal(system, environment)).toBe("the agent of this server names a file that is not one of its proofs");
      expect(replay.requests).toHaveLength(1);
    }
    const named: Given = { source: { case: "managedIdentity", value: { identity: { case: "clientId", value: "c" } } } };
    expect(() => fetching(named, environment)).toThrow("a connected server has one identity");
  });

  test("of Service Fabric is refused by name", () => {
    expect(() => fetching(system, { IDENTITY_SERVER_THUMBPRINT: "x" })).toThrow("Service Fabric");
  });
});

test("the chain takes the first that is set up: secret, pod's token, managed identity", async () => {
  const chain: Given = { source: { case: "chain", value: {} } };
  const tokens = fakeEntra({
    tenant: "tenant-1",
    clientId: "client-1",
    proves: () => true,
    give: () => ({ token: "", seconds: 60 }),
  });
  const metadata = fakePlatform({
    path: "/metadata/identity/oauth2/token",
    version: "2018-02-01",
    headers: { metadata: "true" },
    more: { client_id: "client-1" },
    give: () => ({ access_token: "of the machine", expires_in: "60" }),
  });
  replay.answerWith((request) => {
    if (request.method === "GET") return metadata(request);
    const form = new URLSearchParams(request.body.toString());
    expect(tokens(request).status).toBe(200);
    const proof = form.get("client_secret") ?? form.get("client_assertion");
    return { pieces: [JSON.stringify({ access_token: proof, expires_in: 60 })] };
  });
  const environment: Record<string, string> = { ...variables, AZURE_CLIENT_SECRET: "secret", AZURE_FEDERATED_TOKEN_FILE: file("t", "pod") };
  const found: string[] = [];
  for (const gone of ["AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", ""]) {
    found.push((await fetched(chain, environment)).token);
    delete environment[gone];
  }
  expect(found).toEqual(["secret", "pod", "of the machine"]);
});

test.each([
  [
    "its own words",
    401,
    '{"error":"sk-CANARY0123456789","error_description":"CANARY","error_codes":["CANARY"]}',
    "not one of the documented ones",
  ],
  ["a page", 502, "<html>CANARY", "answered 502"],
  ["no life", 200, '{"access_token":"CANARY"}', "something else than a credential"],
  ["a way elsewhere", 302, "", "answered 302"],
])("an endpoint with %s is a failure without its words", async (_, status, body, expected) => {
  replay.answerWith({ status, headers: { location: "http://evil.example/" }, pieces: [body] });
  const credential: Given = { source: { case: "clientSecret", value: of } };
  const message = await refusal(credential, {}, () => new Secret("CANARY-secret"));
  expect(message).toContain(expected);
  expect(message).not.toContain("CANARY");
});
