/**
 * Secrets of identities that must never be seen: twenty of them, brought in by every way in which one comes near a failure of a token
 * service or of a provider. None may stand in an answer, the log, the metrics, the status or a policy problem.
 */
import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, callers } from "./kit/callers.ts";
import { leaks } from "./kit/leaks.ts";
import { type Replay, type ReplayAnswer, type SeenRequest, startReplay } from "./kit/replay.ts";
import { startTestSidecar } from "./kit/sidecar.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const pem = rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString();

const canaries = {
  accessKey: "canary+AccessKey/Q1W2e3R4t5Y6u7I8o9P0a1S2d3F4",
  sessionOfKey: "canarySessionOfKey//////////Z9x8C7v6B5n4M3l2K1==",
  environmentKey: "canary+EnvironmentKey/a1S2d3F4g5H6j7K8l9Z0",
  profileKey: "canary+ProfileKey/z1X2c3V4b5N6m7Q8w9E0",
  externalId: "canary-external-id-7f3a9c1e5b2d",
  podToken: "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJwb2QifQ.canaryPodSignature0123456789",
  containerToken: "canary-container-token-0f1e2d3c4b5a6978",
  givenKey: "canary+GivenKey/p0O9i8U7y6T5r4E3w2Q1",
  givenSession: "canaryGivenSession//////////n1M2b3V4c5X6z7==",
  instanceSession: "canaryInstanceSession==q9W8e7R6t5Y4u3I2",
  serviceKey: pem.split("\n")[9] ?? "",
  refreshToken: "1//canary-refresh-token-u8I7o6P5a4S3d2F1",
  userSecret: "GOCSPX-canary-user-secret-k1L2m3N4",
  foreignToken: "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJmb3JlaWduIn0.canaryForeignSignature9876",
  givenToken: "ya29.canary-given-access-token-G5h6J7k8L9",
  actingToken: "ya29.canary-acting-access-token-M1n2B3v4C5",
  applicationSecret: "canary~Application.Secret_8Q~9W0e1R2t3Y",
  environmentSecret: "canary~Environment.Secret_4U~5I6o7P8a9S",
  identityHeader: "canary-identity-header-D1F2A3B4C5E6",
  echoed: "sk-canaryOfTheTokenServiceItself0123456789",
} as const;

let cloud: Replay;
let provider: Replay;

beforeAll(async () => {
  cloud = await startReplay();
  provider = await startReplay();
});
afterAll(async () => {
  await cloud.close();
  await provider.close();
});

interface Case {
  readonly credential: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly variables?: Readonly<Record<string, string>>;
  /** The dialect that asks; the one that is signed unless given. */
  readonly dialect?: string;
}

const signed = "bedrock: {region: eu-central-1}";
const project = "gemini: {vertex: {project: p}}";
const deployed = "openai: {row: azure-v1}";
const role = "arn:aws:iam::123456789012:role/r";

/** Ways to a credential, each with secrets on it. `CLOUD` is where every service of every cloud is. */
const cases: Readonly<Record<string, Case>> = {
  "a role by a key that stands in policy": {
    credential: `aws: {access_key_id: {file: SECRETS/id}, secret_access_key: {file: SECRETS/key}, session_token: {file: SECRETS/session},
      assume_roles: [{role_arn: "${role}", external_id: ${canaries.externalId}}], endpoints: {sts: "CLOUD"}}`,
    files: { id: "AKIAID", key: canaries.accessKey, session: canaries.sessionOfKey },
  },
  "a role by a key of the environment": {
    credential: `aws: {chain: {}, assume_roles: [{role_arn: "${role}"}], endpoints: {sts: "CLOUD"}}`,
    variables: { AWS_ACCESS_KEY_ID: "AKIAID", AWS_SECRET_ACCESS_KEY: canaries.environmentKey },
  },
  "a role by a profile": {
    credential: `aws: {profile: {name: a, config_file: SECRETS/config, credentials_file: SECRETS/credentials}, endpoints: {sts: "CLOUD"}}`,
    files: {
      config: `[profile a]\nrole_arn=${role}\nsource_profile=b\nexternal_id=${canaries.externalId}`,
      credentials: `[b]\naws_access_key_id=AKIAID\naws_secret_access_key=${canaries.profileKey}`,
    },
  },
  "a role by web identity": {
    credential: `aws: {web_identity: {role_arn: "${role}", token_file: SECRETS/token}, endpoints: {sts: "CLOUD"}}`,
    files: { token: canaries.podToken },
  },
  "a container": {
    credential: "aws: {container: {}}",
    variables: { AWS_CONTAINER_CREDENTIALS_FULL_URI: "CLOUD/c", AWS_CONTAINER_AUTHORIZATION_TOKEN: canaries.containerToken },
  },
  "a machine": { credential: `aws: {instance: {}, endpoints: {instance: "CLOUD"}}` },
  "a service account's file": {
    credential: `google: {file: {path: SECRETS/key.json}, endpoints: {token: "CLOUD"}}`,
    files: {
      "key.json": JSON.stringify({ type: "service_account", client_email: "a@b", private_key: pem, token_uri: "https://t.example/token" }),
    },
    dialect: project,
  },
  "a user's file, acting as another": {
    credential: `google: {chain: {}, impersonate: c@d, endpoints: {token: "CLOUD", iam_credentials: "CLOUD"}}`,
    files: {
      "user.json": JSON.stringify({
        type: "authorized_user",
        client_id: "i",
        client_secret: canaries.userSecret,
        refresh_token: canaries.refreshToken,
      }),
    },
    variables: { GOOGLE_APPLICATION_CREDENTIALS: "SECRETS/user.json" },
    dialect: project,
  },
  "a foreign token": {
    credential: `google: {file: {path: SECRETS/wif.json}, endpoints: {sts: "CLOUD"}}`,
    files: {
      "wif.json": JSON.stringify({
        type: "external_account",
        audience: "a",
        subject_token_type: "t",
        token_url: "https://t.example/v1/token",
        credential_source: { file: "SECRETS/token" },
      }),
      token: canaries.foreignToken,
    },
    dialect: project,
  },
  "an application's secret": {
    credential: `entra: {client_secret: {tenant_id: t, client_id: c, secret: {file: SECRETS/secret}}, endpoints: {authority: "CLOUD"}}`,
    files: { secret: canaries.applicationSecret },
    dialect: deployed,
  },
  "an application's secret of the environment": {
    credential: `entra: {chain: {}, endpoints: {authority: "CLOUD"}}`,
    variables: { AZURE_TENANT_ID: "t", AZURE_CLIENT_ID: "c", AZURE_CLIENT_SECRET: canaries.environmentSecret },
    dialect: deployed,
  },
  "a pod's token": {
    credential: `entra: {workload_identity: {tenant_id: t, client_id: c, token_file: SECRETS/token}, endpoints: {authority: "CLOUD"}}`,
    files: { token: canaries.podToken },
    dialect: deployed,
  },
  "an app's identity": {
    credential: "entra: {managed_identity: {}}",
    variables: { IDENTITY_ENDPOINT: "CLOUD/msi", IDENTITY_HEADER: canaries.identityHeader },
    dialect: deployed,
  },
};

const everything = Object.values(canaries).join(" ");
const end = "2999-01-01T00:00:00Z";

/** A service that gives something to everybody. */
function giving({ path, body }: SeenRequest): ReplayAnswer {
  const headers = { "content-type": "application/json", "metadata-flavor": "Google" };
  if (path === "/latest/api/token") return { pieces: [canaries.instanceSession] };
  if (path.endsWith("/security-credentials/")) return { pieces: ["role"] };
  if (body.includes("Action="))
    return {
      pieces: [
        `<Credentials><AccessKeyId>ASIAID</AccessKeyId><SecretAccessKey>${canaries.givenKey}</SecretAccessKey>`,
        `<SessionToken>${canaries.givenSession}</SessionToken><Expiration>${end}</Expiration></Credentials>`,
      ],
    };
  const keys = { AccessKeyId: "ASIAID", SecretAccessKey: canaries.givenKey, Token: canaries.givenSession, Expiration: end };
  const token = { access_token: canaries.givenToken, expires_in: 3600, accessToken: canaries.actingToken, expireTime: end };
  return { headers, pieces: [JSON.stringify({ ...keys, ...token })] };
}

/** How the clouds and the provider behave. All that they were shown, and all secrets that there are, is what they say. */
const manners: readonly (readonly [string, (request: SeenRequest) => ReplayAnswer])[] = [
  [
    "refuses in JSON",
    ({ headers, body }) => ({
      status: 400,
      headers: { "content-type": "application/json", "www-authenticate": `Basic realm=/var/${canaries.echoed}` },
      pieces: [
        JSON.stringify({
          error: canaries.echoed,
          error_description: everything + body,
          error_codes: [canaries.echoed],
          message: JSON.stringify(headers),
          Code: canaries.givenKey,
        }),
      ],
    }),
  ],
  [
    "refuses in XML",
    ({ body }) => ({ status: 403, pieces: [`<Error><Code>${canaries.echoed}</Code><Message>${everything}${body}</Message></Error>`] }),
  ],
  ["answers with nonsense", () => ({ pieces: [`${everything} "access_token": "${canaries.givenToken}`] })],
  [
    "answers with a token that no header can carry",
    () => ({ pieces: [JSON.stringify({ access_token: `${canaries.givenToken}\r\nx: y`, expires_in: 3600 })] }),
  ],
  ["closes the connection", () => ({ pieces: [everything], ending: "cut" })],
  ["gives", giving],
];

test("none of twenty secrets of identities is seen anywhere, whatever fails", { timeout: 120_000 }, async () => {
  expect(Object.keys(canaries)).toHaveLength(20);
  // Three ways in are enough: how a fault looks in each format is tested elsewhere.
  const chosen = callers.filter(({ form, streaming }) => !streaming && ["openai", "anthropic", "grpc"].includes(form));
  expect(chosen.length).toBeGreaterThanOrEqual(3);
  const seen: { readonly where: string; readonly text: string }[] = [];
  let shown = "";
  provider.answerWith(({ headers, path }) => {
    shown += JSON.stringify(headers);
    const message = `${JSON.stringify(headers)} ${everything}`;
    return {
      status: path.includes("x") ? 403 : 401,
      headers: { "content-type": "application/json" },
      pieces: [JSON.stringify({ error: { message }, message })],
    };
  });

  for (const [name, { credential, files = {}, variables = {}, dialect = signed }] of Object.entries(cases)) {
    const inPlace = (text: string): string => text.replaceAll("CLOUD", cloud.origin);
    const policy = [
      `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: p}, spec: {${dialect}, endpoint: "${provider.origin}", credential: {${inPlace(credential)}}}}`,
      "{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: m}, spec: {match: {models: [m]}, unsupported_params: drop, targets: [{provider: p}]}}",
      "{apiVersion: outrigger.dev/v1alpha1, kind: Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}",
    ].join("\n---\n");
    const environment = Object.fromEntries(Object.entries(variables).map(([variable, value]) => [variable, inPlace(value)]));
    for (const [manner, answer] of manners) {
      const where = `${name}, where the service ${manner}`;
      provider.forget();
      cloud.answerWith((request) => {
        shown += JSON.stringify(request.headers) + decodeURIComponent(request.body.toString().replaceAll("+", " "));
        return answer(request);
      });
      const house = await startTestSidecar(policy, files, { logLevel: "debug" }, environment);
      try {
        expect(house.sidecar.status().refusal?.problems, where).toBeUndefined();
        for (const caller of chosen) {
          const { headers, trailers, body } = await ask(caller, house.port, "m");
          seen.push({ where: `${where}, ${caller.name}`, text: JSON.stringify([headers, trailers]) + body.toString("latin1") });
          const details = trailers["grpc-status-details-bin"] ?? headers["grpc-status-details-bin"] ?? "";
          seen.push({ where: `${where}, ${caller.name}, details`, text: Buffer.from(details, "base64").toString("latin1") });
        }
        seen.push({ where: `${where}, the log`, text: house.log() });
        seen.push({ where: `${where}, the metrics`, text: await (await fetch(`${house.opsOrigin}/metrics`)).text() });
        seen.push({ where: `${where}, the status`, text: JSON.stringify(house.sidecar.status()) });
      } finally {
        await house.close();
      }
      // Only what was given reaches the provider, and what was not given leaves it unasked, or the test would prove nothing.
      expect(provider.requests.length > 0, where).toBe(answer === giving);
    }
  }

  // Secrets went where they belong.
  for (const name of ["externalId", "podToken", "containerToken", "givenSession", "instanceSession", "refreshToken", "userSecret"] as const)
    expect(shown, name).toContain(canaries[name]);
  for (const name of ["foreignToken", "givenToken", "actingToken", "applicationSecret", "environmentSecret", "identityHeader"] as const)
    expect(shown, name).toContain(canaries[name]);
  const found = seen.flatMap(({ where, text }) =>
    Object.entries(canaries).flatMap(([name, secret]) => (leaks(text, secret) ? [`${name} in ${where}`] : [])),
  );
  expect([...new Set(found)]).toEqual([]);
});
