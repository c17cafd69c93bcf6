/**
 * Signed requests on a real wire: what arrives is what was signed, for every door and for streams, and the key that signs shows nowhere,
 * even where the provider repeats it.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { signed } from "../sidecar/io/sign.ts";
import { ask, callers } from "./kit/callers.ts";
import { dataFrame } from "./kit/eventFrames.ts";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

const key = {
  accessKeyId: "AKIACANARYSIGNING123",
  secretAccessKey: "canary+Secret/Q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5",
  sessionToken: "canarySessionToken//////////Z9x8C7v6B5n4M3l2K1j0==",
};

let replay: Replay;
let house: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(
    `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: signed}
spec:
  bedrock: {region: eu-central-1}
  endpoint: ${replay.origin}/some/prefix
  headers: {x-amz-trace: "on  and off", x-team: blue}
  credential:
    aws: {access_key_id: {file: SECRETS/id}, secret_access_key: {file: SECRETS/secret}, session_token: {file: SECRETS/token}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: signed}
spec: {match: {models: [m]}, targets: [{provider: signed, model: "arn:aws:bedrock:eu-central-1:1:inference-profile/eu.x-v1:0"}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: anyone}
spec: {identities: [{anonymous: {}}]}
`,
    { id: key.accessKeyId, secret: key.secretAccessKey, token: key.sessionToken },
    { logLevel: "debug" },
  );
});
afterEach(() => replay.forget());
afterAll(async () => {
  await house.close();
  await replay.close();
});

/** The signature of a request as it arrived, made again from that alone. */
function signatureOf({ method, path, headers, body }: SeenRequest): string | undefined {
  const time = String(headers["x-amz-date"]).replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z");
  const names = /SignedHeaders=([^,]*)/.exec(headers.authorization ?? "")?.[1]?.split(";") ?? [];
  const made = ["host", "x-amz-date", "x-amz-security-token"];
  const others = names.filter((name) => !made.includes(name)).flatMap((name) => [name, String(headers[name])]);
  const scope = { host: "", region: "eu-central-1", service: "bedrock" };
  return signed({ method, host: headers.host ?? "", path, headers: others, body }, scope, key, Date.parse(time)).at(-1);
}

const whole = JSON.stringify({
  output: { message: { role: "assistant", content: [{ text: "Hello" }] } },
  stopReason: "end_turn",
  usage: { inputTokens: 1, outputTokens: 1, totalTokens: 2 },
});
const frames = [
  dataFrame("messageStart", { role: "assistant" }),
  dataFrame("contentBlockDelta", { contentBlockIndex: 0, delta: { text: "Hello" } }),
  dataFrame("messageStop", { stopReason: "end_turn" }),
];

describe.each(callers)("$name", (caller) => {
  test("what arrives is what was signed", async () => {
    replay.answerWith(({ path }) =>
      path.endsWith("-stream")
        ? { headers: { "content-type": "application/vnd.amazon.eventstream" }, pieces: frames }
        : { headers: { "content-type": "application/json" }, pieces: [whole] },
    );
    const { body } = await ask(caller, house.port, "m");
    expect(body.toString("latin1")).toContain("Hello");
    const [request] = replay.requests;
    if (request === undefined) throw new Error("no request arrived");
    expect(request.path).toMatch(
      /^\/some\/prefix\/model\/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu\.x-v1%3A0\/converse/,
    );
    expect(request.headers.authorization).toContain("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-trace,");
    expect(signatureOf(request)).toBe(request.headers.authorization);
    // And it would not be, had anything changed on the way.
    expect(signatureOf({ ...request, body: Buffer.concat([request.body, Buffer.from(" ")]) })).not.toBe(request.headers.authorization);
  });

  test("the key shows nowhere, even where the provider repeats it", async () => {
    const message = `The Canonical String should have been 'POST x-amz-security-token:${key.sessionToken} ${key.accessKeyId}' ${key.secretAccessKey}`;
    const seen: string[] = [];
    for (const [status, type] of [
      [403, "InvalidSignatureException"],
      [403, "AccessDeniedException"],
      [400, "ValidationException"],
      [500, "InternalServerException"],
    ] as const) {
      replay.answerWith({ status, headers: { "x-amzn-errortype": type }, pieces: [JSON.stringify({ message })] });
      const { headers, trailers, body } = await ask(caller, house.port, "m");
      const details = trailers["grpc-status-details-bin"] ?? headers["grpc-status-details-bin"] ?? "";
      seen.push(JSON.stringify([headers, trailers]), body.toString("latin1"), Buffer.from(details, "base64").toString("latin1"));
    }
    const all = `${seen.join("\n")}\n${house.log()}\n${await (await fetch(`${house.opsOrigin}/metrics`)).text()}`;
    for (const secret of [key.accessKeyId, key.secretAccessKey, key.sessionToken]) expect(all).not.toContain(secret.slice(0, 20));
  });
});
