/** Which sources run, and for how long: those of the policy that holds, and no others. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { AwsCredentialSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import type { UpstreamHandler, UpstreamRequest } from "../../call.ts";
import { type Identities, openIdentities } from "./identities.ts";

const environment: Record<string, string> = { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c" };

let clock: ManualClock;
let asked: { readonly request: UpstreamRequest; readonly handler: UpstreamHandler }[];
let aborted: number;
let identities: Identities;

beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  aborted = 0;
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
    warn: () => {},
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
