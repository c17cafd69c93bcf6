/** Every source of AWS's keys against strict fakes on real sockets, in the order in which AWS's own tools look for them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AwsCredentialSchema, AwsEndpointsSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { type FakeKey, fakeContainer, fakeInstance, fakeSts } from "../../../test/kit/clouds/aws.ts";
import { type Replay, type ReplayAnswer, startReplay } from "../../../test/kit/replay.ts";
import type { AccessKey } from "../../policy/compile.ts";
import { openUpstream, type PooledUpstream } from "../upstream.ts";
import { asker } from "./ask.ts";
import { awsKeys } from "./aws.ts";
import type { Fresh } from "./tokenSource.ts";

const hourMs = 3_600_000;
const long: FakeKey = { accessKeyId: "AKIALONG", secretAccessKey: "long/secret+1" };
const given = { accessKeyId: "ASIAGIVEN", secretAccessKey: "given&secret/1==", sessionToken: "given-session-token==" };
const role = "arn:aws:iam::123456789012:role/reader";

let replay: Replay;
let upstream: PooledUpstream;
let folder: string;
let clock: ManualClock;

beforeAll(async () => {
  replay = await startReplay();
  upstream = openUpstream();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-aws-"));
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

/** Fetches once what a credential names. All services are the replay. */
async function fetched(
  credential: MessageInitShape<typeof AwsCredentialSchema>,
  environment: Record<string, string> = {},
  ownKey?: () => AccessKey,
): Promise<Fresh<AccessKey>> {
  const everywhere = { sts: replay.origin, instance: replay.origin, container: replay.origin };
  const endpoints = create(AwsEndpointsSchema, credential.endpoints ?? everywhere);
  const parts = { ask: asker(upstream.send, clock), clock, environment };
  const keys = await awsKeys(
    create(AwsCredentialSchema, { ...credential, endpoints }),
    "eu-central-1",
    ownKey,
    parts,
  )(new AbortController().signal);
  expect(clock.waiting).toBe(0);
  return keys;
}

/** The same, where a test is about the refusal. */
async function refusal(...asked: Parameters<typeof fetched>): Promise<string> {
  try {
    await fetched(...asked);
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was not refused");
}

/** A token service that gives `given` for an hour to whoever shows `keys` or the token `pod-token`. */
function startSts(keys: readonly FakeKey[] = [long]) {
  const asked: Record<string, string>[] = [];
  replay.answerWith(
    fakeSts({
      region: "eu-central-1",
      keys,
      webTokens: { [role]: "pod-token" },
      nowMs: () => clock.wallMs(),
      give(_, form) {
        asked.push(Object.fromEntries(form));
        return { ...given, endsAtMs: clock.wallMs() + hourMs };
      },
    }),
  );
  return asked;
}

const chain = { source: { case: "chain" as const, value: {} } };
const webIdentity = (value: { roleArn?: string; tokenFile?: string; sessionName?: string } = {}) => ({
  source: { case: "webIdentity" as const, value },
});

describe("web identity", () => {
  test("asks for the role with the token of the file, which is read anew each time", async () => {
    const asked = startSts();
    const tokenFile = file("token", "pod-token\n");
    const environment = { AWS_ROLE_ARN: role, AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile, AWS_ROLE_SESSION_NAME: "pod-7" };
    expect(await fetched(webIdentity(), environment)).toEqual({ value: given, lifeMs: hourMs });
    expect(asked).toEqual([
      {
        Action: "AssumeRoleWithWebIdentity",
        Version: "2011-06-15",
        RoleArn: role,
        RoleSessionName: "pod-7",
        WebIdentityToken: "pod-token",
      },
    ]);
    writeFileSync(tokenFile, "another-token");
    expect(await refusal(webIdentity(), environment)).toMatch(/^127\.0\.0\.1:\d+ answered 400 \(InvalidIdentityToken\)$/);
    writeFileSync(tokenFile, "pod-token");
    await fetched(webIdentity({ roleArn: role, tokenFile, sessionName: "mine" }), { AWS_ROLE_ARN: "other" });
    expect(asked[1]).toMatchObject({ RoleArn: role, RoleSessionName: "mine" });
  });

  test("says what is missing before anything is asked", async () => {
    expect(await refusal(webIdentity())).toBe("the environment variable AWS_ROLE_ARN is not set, and policy says nothing in its place");
    const missing = webIdentity({ roleArn: role, tokenFile: join(folder, "gone") });
    expect(await refusal(missing)).toBe(`the file ${join(folder, "gone")} cannot be read (ENOENT)`);
    expect(await refusal(webIdentity({ roleArn: role, tokenFile: file("two", "a\nb") }))).toContain("holds no token");
    expect(replay.requests).toEqual([]);
  });
});

describe("roles", () => {
  test("are taken on with a signature that the service can make again, and one with the keys of the other", async () => {
    const asked = startSts([long, given]);
    const second = "arn:aws:iam::210987654321:role/deep/er";
    const keys = await fetched(
      {
        assumeRoles: [
          { roleArn: role, externalId: "ext-1", sessionName: "first" },
          { roleArn: second, duration: { seconds: 900n } },
        ],
      },
      {},
      () => long,
    );
    expect(keys).toEqual({ value: given, lifeMs: hourMs });
    expect(asked).toEqual([
      { Action: "AssumeRole", Version: "2011-06-15", RoleArn: role, RoleSessionName: "first", ExternalId: "ext-1" },
      { Action: "AssumeRole", Version: "2011-06-15", RoleArn: second, RoleSessionName: "outrigger", DurationSeconds: "900" },
    ]);
    const [first, other] = replay.requests;
    expect(first?.headers["x-amz-security-token"]).toBeUndefined();
    expect(other?.headers["x-amz-security-token"]).toBe(given.sessionToken);
  });

  test("are refused for a key that signs wrongly", async () => {
    startSts();
    const wrong = { ...long, secretAccessKey: "another" };
    expect(await refusal({ assumeRoles: [{ roleArn: role }] }, {}, () => wrong)).toContain("403 (SignatureDoesNotMatch)");
  });
});

describe("a container", () => {
  const source = { source: { case: "container" as const, value: {} } };
  const keys = { ...given, endsAtMs: 0 };
  const give = () => ({ ...keys, endsAtMs: clock.wallMs() + hourMs });

  test("of ECS gives keys at the path in the environment", async () => {
    replay.answerWith(fakeContainer("/v2/credentials/abc", () => undefined, give));
    expect(await fetched(source, { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/v2/credentials/abc" })).toEqual({
      value: given,
      lifeMs: hourMs,
    });
  });

  test("with an identity of EKS shows the token of its file, which is read anew each time", async () => {
    let expected = "first";
    replay.answerWith(fakeContainer("/v1/credentials", () => expected, give));
    const tokenFile = file("token", "first");
    const environment = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${replay.origin}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: tokenFile,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: "not this one",
    };
    await fetched(source, environment);
    expected = "second";
    expect(await refusal(source, environment)).toContain("answered 400 (AccessDeniedException)");
    writeFileSync(tokenFile, "second\n");
    await fetched(source, environment);
  });

  test.each(["http://example.com/x", "http://169.254.169.254/x", "ftp://127.0.0.1/x", "http://u:p@127.0.0.1/x", "nonsense"])(
    "sends no token to %s",
    async (address) => {
      expect(await refusal(source, { AWS_CONTAINER_CREDENTIALS_FULL_URI: address })).toContain("neither https nor http at an address");
    },
  );

  test("needs an address", async () => {
    expect(await refusal(source)).toContain("this is no container of ECS and no pod with an identity");
    expect(await refusal(source, { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "//evil.example/x" })).toContain("is no path");
  });
});

describe("a machine", () => {
  const source = { source: { case: "instance" as const, value: {} } };

  test("gives keys to whoever began a session first", async () => {
    replay.answerWith(fakeInstance("web-role", () => ({ ...given, endsAtMs: clock.wallMs() + 6 * hourMs })));
    expect(await fetched(source)).toEqual({ value: given, lifeMs: 6 * hourMs });
    expect(replay.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      "PUT /latest/api/token",
      "GET /latest/meta-data/iam/security-credentials/",
      "GET /latest/meta-data/iam/security-credentials/web-role",
    ]);
  });

  test("without a session service gives nothing: there is no way back to version 1", async () => {
    replay.answerWith(({ method }) => (method === "PUT" ? { status: 404, pieces: [] } : { pieces: ["web-role"] }));
    expect(await refusal(source)).toContain("answered 404");
    expect(replay.requests).toHaveLength(1);
  });

  test.each([
    ["a role that is none", { 1: { pieces: ["../../x"] } }, "answered 200 with something else than a credential"],
    ["no role", { 1: { status: 404, pieces: [""] } }, "this machine has no role"],
    [
      "a failure told with 200",
      { 2: { pieces: ['{"Code":"AssumeRoleUnauthorizedAccess","Message":"CANARY"}'] } },
      "with something else than a credential",
    ],
    ["keys without an end", { 2: { pieces: [JSON.stringify({ AccessKeyId: "a", SecretAccessKey: "b", Token: "c" })] } }, "something else"],
    ["no JSON", { 2: { pieces: ["<html>CANARY"] } }, "something else"],
  ] satisfies [string, Record<number, ReplayAnswer>, string][])(
    "that has %s is a failure without its words",
    async (_, answers, expected) => {
      let at = 0;
      replay.answerWith(() => new Map(Object.entries(answers)).get(String(at++)) ?? { pieces: ["r"] });
      const message = await refusal(source);
      expect(message).toContain(expected);
      expect(message).not.toContain("CANARY");
    },
  );

  test("can be told by the environment to be asked elsewhere, but not just anywhere", async () => {
    const own = { endpoints: {} };
    const at = (address: string) => refusal({ ...source, ...own }, { AWS_EC2_METADATA_SERVICE_ENDPOINT: address });
    expect(await at("http://metadata.evil.example")).toContain("AWS_EC2_METADATA_SERVICE_ENDPOINT is neither https");
    replay.answerWith(fakeInstance("r", () => ({ ...given, endsAtMs: clock.wallMs() + hourMs })));
    await fetched({ ...source, ...own }, { AWS_EC2_METADATA_SERVICE_ENDPOINT: replay.origin });
    expect(await refusal({ ...source, ...own }, { AWS_EC2_METADATA_DISABLED: "TRUE" })).toContain("switches the metadata service off");
  });
});

describe("profiles", () => {
  const profile = (name: string) => ({ source: { case: "profile" as const, value: { name } } });
  const files = (config: string, credentials: string) => ({
    AWS_CONFIG_FILE: file("config", config),
    AWS_SHARED_CREDENTIALS_FILE: file("credentials", credentials),
  });

  test("have keys of their own, which are looked at again soon, and the credentials file goes first", async () => {
    const environment = files(
      '[default]\nregion = eu-west-1\n\n[profile "work"]\naws_access_key_id = AKIACONFIG\naws_secret_access_key=old\n[sso-session work]\naws_access_key_id = AKIANOT',
      "# ours\n[work]\nAWS_ACCESS_KEY_ID = AKIAWORK ; mine\naws_secret_access_key = s3cret/1+\n  aws_session_token = not indented\n",
    );
    const value = { accessKeyId: "AKIAWORK", secretAccessKey: "s3cret/1+", sessionToken: undefined };
    expect(await fetched(profile("work"), environment)).toEqual({ value, lifeMs: Number.POSITIVE_INFINITY, refreshInMs: 5000 });
    expect((await fetched(profile(""), { ...environment, AWS_PROFILE: "work" })).value).toEqual(value);
    writeFileSync(environment.AWS_SHARED_CREDENTIALS_FILE, "[work]\naws_access_key_id=AKIANEW\naws_secret_access_key=new");
    expect((await fetched(profile("work"), environment)).value.accessKeyId).toBe("AKIANEW");
  });

  test("take on roles with the keys of another profile, of the environment, or with a token", async () => {
    const asked = startSts();
    const environment = {
      ...files(
        `[profile a]\nrole_arn=${role}\nsource_profile=b\nexternal_id=e\nduration_seconds=1800\n[profile c]\nrole_arn=${role}\ncredential_source=Environment\n` +
          `[profile d]\nrole_arn=${role}\nweb_identity_token_file=${file("t", "pod-token")}\nrole_session_name=me\n[profile e]\nrole_arn=${role}\nsource_profile=a\n`,
        `[b]\naws_access_key_id=${long.accessKeyId}\naws_secret_access_key=${long.secretAccessKey}\n`,
      ),
      AWS_ACCESS_KEY_ID: long.accessKeyId,
      AWS_SECRET_ACCESS_KEY: long.secretAccessKey,
    };
    expect((await fetched(profile("a"), environment)).value).toEqual(given);
    expect(asked[0]).toMatchObject({ Action: "AssumeRole", ExternalId: "e", DurationSeconds: "1800" });
    await fetched(profile("c"), environment);
    await fetched(profile("d"), environment);
    expect(asked[2]).toMatchObject({ Action: "AssumeRoleWithWebIdentity", RoleSessionName: "me" });
    // A role by a role: the keys that the first one gave are unknown to this service, which shows that they are what signs.
    expect(await refusal(profile("e"), environment)).toContain("403 (InvalidClientTokenId)");
  });

  test("take on roles with the keys of a machine or a container", async () => {
    const sts = fakeSts({
      region: "eu-central-1",
      keys: [{ ...given, accessKeyId: "ASIABASE" }],
      nowMs: () => clock.wallMs(),
      give: () => ({ ...given, endsAtMs: clock.wallMs() + hourMs }),
    });
    const base = () => ({ ...given, accessKeyId: "ASIABASE", endsAtMs: clock.wallMs() + hourMs });
    const instance = fakeInstance("r", base);
    const container = fakeContainer("/c", () => undefined, base);
    replay.answerWith((request) =>
      request.method === "POST" ? sts(request) : request.path === "/c" ? container(request) : instance(request),
    );
    const environment = {
      ...files(
        `[profile i]\nrole_arn=${role}\ncredential_source=Ec2InstanceMetadata\n[profile c]\nrole_arn=${role}\ncredential_source=EcsContainer`,
        "",
      ),
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c",
    };
    expect((await fetched(profile("i"), environment)).value).toEqual(given);
    expect((await fetched(profile("c"), environment)).value).toEqual(given);
  });

  test.each([
    ["a", `[profile a]\nrole_arn=${role}\nsource_profile=b\n[profile b]\nrole_arn=${role}\nsource_profile=a`, "lead from one to the other"],
    ["a", `[profile a]\nrole_arn=${role}\nsource_profile=gone`, "the profile a leads to gone, which is not there"],
    ["a", `[profile a]\nrole_arn=${role}`, "neither source_profile nor a known credential_source"],
    ["a", `[profile a]\nrole_arn=${role}\nsource_profile=b\nmfa_serial=1`, "wants a code from a person"],
    ["a", "[profile a]\ncredential_process = touch NEVER", "names a program (credential_process), and programs are not run"],
    ["a", "[profile a]\nsso_session = work", "needs a person to sign in"],
    ["a", "[profile a]\nregion = x", "the profile a has neither keys nor a role"],
    ["gone", "[profile a]\nregion = x", "there is no profile gone in "],
    ["a", "[profile a]\naws_access_key_id=a b\naws_secret_access_key=c", "holds characters that no key has"],
  ])("%s of %j is refused", async (name, config, expected) => {
    expect(await refusal(profile(name), files(config, ""))).toContain(expected);
    expect(replay.requests).toEqual([]);
  });
});

describe("the chain", () => {
  test("takes the first that is set up: key, web identity, profile, container, machine", async () => {
    const container = fakeContainer(
      "/c",
      () => undefined,
      () => ({ ...given, accessKeyId: "ASIACONTAINER", endsAtMs: clock.wallMs() + hourMs }),
    );
    const instance = fakeInstance("r", () => ({ ...given, accessKeyId: "ASIAMACHINE", endsAtMs: clock.wallMs() + hourMs }));
    const sts = fakeSts({
      region: "eu-central-1",
      keys: [],
      webTokens: { [role]: "pod-token" },
      nowMs: () => clock.wallMs(),
      give: () => ({ ...given, accessKeyId: "ASIAWEB", endsAtMs: clock.wallMs() + hourMs }),
    });
    replay.answerWith((request) =>
      request.method === "POST" ? sts(request) : request.path === "/c" ? container(request) : instance(request),
    );
    const environment: Record<string, string> = {
      AWS_ACCESS_KEY_ID: "AKIAENV",
      AWS_SECRET_ACCESS_KEY: "s",
      AWS_ROLE_ARN: role,
      AWS_WEB_IDENTITY_TOKEN_FILE: file("token", "pod-token"),
      AWS_CONFIG_FILE: file("config", "[default]\naws_access_key_id=AKIAPROFILE\naws_secret_access_key=s"),
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c",
      HOME: folder,
    };
    const found: string[] = [];
    for (const gone of ["AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_CONFIG_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "HOME"]) {
      found.push((await fetched(chain, environment)).value.accessKeyId);
      delete environment[gone];
    }
    expect(found).toEqual(["AKIAENV", "ASIAWEB", "AKIAPROFILE", "ASIACONTAINER", "ASIAMACHINE"]);
  });

  test("goes past nothing that is set up and fails", async () => {
    startSts();
    const environment = {
      AWS_ROLE_ARN: role,
      AWS_WEB_IDENTITY_TOKEN_FILE: file("token", "wrong"),
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c",
    };
    expect(await refusal(chain, environment)).toContain("InvalidIdentityToken");
    expect(replay.requests).toHaveLength(1);
    expect(await refusal(chain, { AWS_PROFILE: "gone", HOME: folder })).toBe("the profile gone of AWS_PROFILE gives no keys");
  });
});

describe("a token service that misbehaves", () => {
  const asked = () => refusal(webIdentity({ roleArn: role, tokenFile: file("token", "pod-token") }));

  test.each([
    [
      "words of its own",
      403,
      "<Error><Code>sk-CANARY0123456789</Code><Message>pod-token</Message></Error>",
      "not one of the documented ones",
    ],
    ["a page", 502, "<html>pod-token CANARY</html>", "answered 502"],
    ["half an answer", 200, "<Credentials><AccessKeyId>CANARY</AccessKeyId></Credentials>", "something else than a credential"],
    ["a way elsewhere", 307, "", "answered 307"],
    ["too much", 200, "CANARY".repeat(40_000), "answered with more than 131072 bytes"],
  ])("with %s is a failure without its words", async (_, status, body, expected) => {
    replay.answerWith({ status, headers: { location: "http://169.254.169.254/" }, pieces: [body] });
    const message = await asked();
    expect(message).toContain(expected);
    expect(message).not.toMatch(/CANARY|pod-token/);
    expect(replay.requests).toHaveLength(1);
  });

  test("that closes the connection is a failure, and one that hangs is given up after five seconds", async () => {
    replay.answerWith({ pieces: ["<x>"], ending: "cut" });
    expect(await asked()).toContain("closed the connection");
    const arrived = Promise.withResolvers<void>();
    replay.answerWith({ pieces: ["<x>"], ending: "hang", written: () => arrived.resolve() });
    const waiting = asked();
    await arrived.promise;
    clock.advance(5_000);
    expect(await waiting).toContain("gave no whole answer within 5000 ms");
  });
});
