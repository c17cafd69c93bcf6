/** Whatever a token service answers, what comes of it is a value that a header can carry or a failure without the service's own words. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AwsCredentialSchema, EntraCredentialSchema, GoogleCredentialSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { Secret } from "../../call.ts";
import type { Ask } from "./ask.ts";
import { awsKeys } from "./aws.ts";
import { entraToken } from "./entra.ts";
import { CredentialFailure } from "./failure.ts";
import { googleToken } from "./google.ts";
import type { Fetch } from "./tokenSource.ts";

const word = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.constantFrom("CANARY", "a\r\nb", "", " x", "Success", "ä", "3600", "2999-01-01T00:00:00Z"),
);
const thing = fc.oneof(word, fc.double(), fc.integer(), fc.boolean(), fc.constant(null), fc.array(word, { maxLength: 2 }));
const members = [
  ...["access_token", "accessToken", "expires_in", "expires_on", "refresh_in", "expireTime", "error", "error_codes", "code"],
  ...["Code", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"],
];
const json = fc.dictionary(fc.constantFrom(...members), thing, { maxKeys: 12 }).map((body) => JSON.stringify(body));
const xml = fc
  .array(fc.tuple(fc.constantFrom("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Code"), word), { maxLength: 8 })
  .map((elements) => elements.map(([name, text]) => `<${name}>${text}</${name}>`).join(""));
const reply = fc.record({
  status: fc.constantFrom(200, 200, 200, 201, 302, 400, 401, 403, 500),
  body: fc.oneof(json, xml, fc.string()),
  header: fc.constantFrom(undefined, "Google", "Basic realm=/etc/passwd"),
});

test("no reply brings more than a value or a failure in our own words", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(reply, { minLength: 3, maxLength: 3 }), async (replies) => {
      const clock = new ManualClock();
      let at = 0;
      const ask: Ask = () => {
        const { status = 500, body = "", header } = replies[at++ % 3] ?? {};
        return Promise.resolve({ status, body, header: () => header });
      };
      const environment = { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/c" };
      const random = { next: () => 0, id: () => "id" };
      const role = { roleArn: "arn:aws:iam::123456789012:role/r" };
      const key = { accessKeyId: "a", secretAccessKey: "b" };
      const parts = { ask, clock, environment, random };
      const clientSecret = { source: { case: "clientSecret" as const, value: { tenantId: "t", clientId: "c" } } };
      const fetches: readonly Fetch<unknown>[] = [
        awsKeys(create(AwsCredentialSchema, { source: { case: "instance", value: {} } }), "r-1", undefined, parts),
        awsKeys(create(AwsCredentialSchema, { source: { case: "container", value: {} } }), "r-1", undefined, parts),
        awsKeys(create(AwsCredentialSchema, { assumeRoles: [role] }), "r-1", () => key, parts),
        googleToken(create(GoogleCredentialSchema, { source: { case: "metadata", value: {} }, impersonate: "a@b" }), parts),
        googleToken(create(GoogleCredentialSchema, { source: { case: "metadata", value: {} } }), parts),
        entraToken(create(EntraCredentialSchema, clientSecret), "s/.default", () => new Secret("s"), parts),
        entraToken(create(EntraCredentialSchema, { source: { case: "managedIdentity", value: {} } }), "s/.default", undefined, parts),
      ];
      for (const fetch of fetches) {
        at = 0;
        try {
          const { value, lifeMs } = await fetch(new AbortController().signal);
          expect(typeof lifeMs).toBe("number");
          const texts = value instanceof Secret ? [value.reveal()] : Object.values(value as Record<string, string>);
          for (const text of texts) expect(text).toMatch(/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/);
        } catch (error) {
          if (!(error instanceof CredentialFailure)) throw error;
          expect(error.message).not.toContain("CANARY");
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("a body that was made to take time takes none", async () => {
  const body = "<AccessKeyId>".repeat(10_000);
  const ask: Ask = () => Promise.resolve({ status: 200, body, header: () => undefined });
  const credential = create(AwsCredentialSchema, { assumeRoles: [{ roleArn: "arn:aws:iam::123456789012:role/r" }] });
  const fetch = awsKeys(credential, "r-1", () => ({ accessKeyId: "a", secretAccessKey: "b" }), {
    ask,
    clock: new ManualClock(),
    environment: {},
  });
  await expect(fetch(new AbortController().signal)).rejects.toThrow("something else than a credential");
});
