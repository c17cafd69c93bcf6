/** Which sources run, and for how long: those of the policy that holds, and no others. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { AwsCredentialSchema, EntraCredentialSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { Secret, type UpstreamHandler, type UpstreamRequest } from "../../call.ts";
import { type Identities, openIdentities } from "./identities.ts";

const environment: Record<string, string> = { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c" };

let clock: ManualClock;
let asked: { readonly request: UpstreamRequest; readonly handler: UpstreamHandler }[];
let aborted: number;
let warned: string[];
let identities: Identities;

beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  aborted = 0;
  warned = [];
  identities = openIdentities({
    environment,
    clock,
    random: { next: () => 0, id: () => "id" },
    upstream(request, handler) {
      asked.push({ request, handler });
      return {
        pause() {},
        resume() {},
        abort() {
          aborted += 1;
        },
      };
    },
    warn: (message) => warned.push(message),
  });
});

const container: MessageInitShape<typeof AwsCredentialSchema> = { source: { case: "container", value: {} } };

function found(credential: MessageInitShape<typeof AwsCredentialSchema>, gathering = identities.gather(), provider = "default/p") {
  const source = gathering.aws(provider, create(AwsCredentialSchema, credential), "eu-west-1", undefined);
  if ("missing" in source) throw new Error(source.missing);
  return { gathering, identity: source.identity };
}

/** Answers the last question with keys that hold for an hour. */
async function answer(accessKeyId: string): Promise<void> {
  const { handler } = asked.at(-1) ?? {};
  const body = {
    AccessKeyId: accessKeyId,
    SecretAccessKey: "s",
    Token: "t",
    Expiration: new Date(clock.wallMs() + 3_600_000).toISOString(),
  };
  handler?.head(200, { get: () => undefined });
  handler?.data(Buffer.from(JSON.stringify(body)));
  handler?.end();
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

test("nothing is asked for a policy that is never kept", () => {
  found(container);
  expect([asked.length, clock.waiting]).toEqual([0, 0]);
});

test("what two policies share goes on, and what only the one before used rests", async () => {
  const first = identities.gather();
  const { identity } = found(container, first);
  found(container, first, "default/q");
  first.keep();
  expect(asked).toHaveLength(2);
  await answer("of q");
  asked.splice(1);
  await answer("of p");
  expect(clock.waiting).toBe(2);

  const second = identities.gather();
  expect(found(container, second).identity).toBe(identity);
  expect(found({ ...container, assumeRoles: [{ roleArn: "arn:aws:iam::123456789012:role/r" }] }, identities.gather()).identity).not.toBe(
    identity,
  );
  second.keep();
  expect([asked.length, clock.waiting, identity.current()?.accessKeyId]).toEqual([1, 1, "of p"]);
  identities.gather().keep();
  expect([clock.waiting, identity.current()?.accessKeyId]).toEqual([0, "of p"]);
});

test("providers of one name in two namespaces have a source each", () => {
  const gathering = identities.gather();
  expect(found(container, gathering, "a/p").identity).not.toBe(found(container, gathering, "b/p").identity);
});

test("what is wrong whatever comes is told while the policy is made", () => {
  const credential = create(AwsCredentialSchema, { source: { case: "webIdentity", value: {} } });
  expect(identities.gather().aws("default/p", credential, "eu-west-1", undefined)).toEqual({
    missing: "the environment variable AWS_ROLE_ARN is not set, and policy says nothing in its place",
  });
});

test("once closed no timer and no question is left, whatever was being asked", async () => {
  const { gathering, identity } = found(container);
  gathering.keep();
  const wait = identity.ready();
  expect([asked.length, clock.waiting]).toEqual([1, 1]);
  identities.gather().keep();
  identities.close();
  await expect(wait).rejects.toMatchObject({ kind: { name: "PROVIDER_CREDENTIAL_UNAVAILABLE" } });
  expect([aborted, clock.waiting]).toEqual([1, 0]);
  found(container).gathering.keep();
  expect([asked.length, clock.waiting]).toEqual([1, 0]);
});

test("what is compiled anew is fetched in its new way, though it is written as before", async () => {
  const credential = create(EntraCredentialSchema, {
    source: { case: "clientSecret", value: { tenantId: "t", clientId: "c", secret: { source: { case: "env", value: "S" } } } },
  });
  const giving = async (token: string) => {
    const { handler } = asked.at(-1) ?? {};
    handler?.head(200, { get: () => undefined });
    handler?.data(Buffer.from(JSON.stringify({ access_token: token, expires_in: 3600 })));
    handler?.end();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  for (const secret of ["one", "two"]) {
    const gathering = identities.gather();
    gathering.entra("default/p", credential, "s/.default", () => new Secret(secret));
    gathering.keep();
    clock.advance(50 * 60_000);
    expect(asked.at(-1)?.request.body).toContain(`client_secret=${secret}`);
    await giving(secret);
  }
});

test("keys of a file that changes are taken within seconds, and those that were good stay while it is broken", async () => {
  const folder = mkdtempSync(join(tmpdir(), "outrigger-identities-"));
  try {
    const credentialsFile = join(folder, "credentials");
    const write = (id: string) => writeFileSync(credentialsFile, `[a]\naws_access_key_id=${id}\naws_secret_access_key=s\n`);
    write("AKIAFIRST");
    const profile = { name: "a", configFile: join(folder, "none"), credentialsFile };
    const { gathering, identity } = found({ source: { case: "profile", value: profile } });
    gathering.keep();
    await identity.ready();
    expect(identity.current()?.accessKeyId).toBe("AKIAFIRST");
    write("AKIASECOND");
    clock.advance(5_000);
    await until(() => identity.current()?.accessKeyId === "AKIASECOND");
    rmSync(credentialsFile);
    clock.advance(5_000);
    await until(() => warned.length > 0);
    expect(warned[0]).toContain("there is no profile a in");
    expect(identity.current()?.accessKeyId).toBe("AKIASECOND");
    write("AKIATHIRD");
    clock.advance(60_000);
    await until(() => identity.current()?.accessKeyId === "AKIATHIRD");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Lets the process read files until something has come of it. */
async function until(come: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !come(); turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(come()).toBe(true);
}
