/** Tokens counted before anything is asked, by the official package over real sockets: by the provider where it can, estimated where not. */
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Replay, startReplay } from "./kit/replay.ts";
import { callerKey, policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

let replay: Replay;
let house: TestSidecar;

const signed = "credential: {aws: {access_key_id: {file: SECRETS/id}, secret_access_key: {file: SECRETS/key}}}";
const keyed = "credential: {header: {secret: {file: SECRETS/key}}}";

/** Providers that can be asked, each in its own way: by model name, the spec and the model there. */
const providers: Readonly<Record<string, { readonly spec: string; readonly upstream: string }>> = {
  gem: { spec: `gemini: {}, ${keyed}`, upstream: "gemini-2.5-flash" },
  ver: { spec: `gemini: {vertex: {project: p-1}}, ${keyed}`, upstream: "gemini-2.5-flash" },
  bed: { spec: `bedrock: {region: eu-central-1}, ${signed}`, upstream: "anthropic.claude-sonnet-4-20250514-v1:0" },
  invoked: {
    spec: `bedrock: {region: eu-central-1, api: BEDROCK_API_INVOKE_MESSAGES}, ${signed}`,
    upstream: "anthropic.claude-3-5-haiku-20241022-v1:0",
  },
};

beforeAll(async () => {
  replay = await startReplay();
  const more = Object.entries(providers).map(
    ([name, { spec, upstream }]) => `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: ${name}-provider}
spec: {${spec}, endpoint: "${replay.origin}"}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${name}-route}
spec: {match: {models: [${name}]}, targets: [{provider: ${name}-provider, model: "${upstream}"}]}
`,
  );
  const secrets = { open: "key", ant: "key", key: "key", id: "id" };
  house = await startTestSidecar(policyFor(replay.origin, { closed: true, more: more.join("") }), secrets);
});
afterAll(async () => {
  await house.close();
  await replay.close();
});
beforeEach(() => replay.forget());

const sdk = (apiKey = callerKey) => new Anthropic({ baseURL: house.origin, apiKey, maxRetries: 0 });
const question = {
  system: "Answer in one word.",
  messages: [{ role: "user" as const, content: "Name a sea" }],
  tools: [{ name: "look", description: "Looks", input_schema: { type: "object" as const } }],
};

/** Counts, and gives what was asked of the provider, and the header that says whether it was. */
async function count(model: string, answer: object) {
  replay.answerWith({ headers: { "content-type": "application/json" }, pieces: [JSON.stringify(answer)] });
  const { data, response } = await sdk()
    .messages.countTokens({ model, ...question })
    .withResponse();
  const [asked] = replay.requests;
  return {
    tokens: data.input_tokens,
    estimated: response.headers.get("x-outrigger-estimated"),
    path: asked?.path,
    body: asked === undefined ? undefined : JSON.parse(asked.body.toString()),
  };
}

describe("messages.countTokens", () => {
  test("is passed on where the provider speaks the same language, as it came but for the model", async () => {
    const { tokens, estimated, path, body } = await count("ant", { input_tokens: 42 });
    expect({ tokens, estimated, path }).toEqual({ tokens: 42, estimated: null, path: "/v1/messages/count_tokens" });
    expect(body).toEqual({ model: "upstream-model", ...question });
  });

  test("leaves out what says how an answer would be made", async () => {
    replay.answerWith({ pieces: ['{"input_tokens":1}'] });
    const asked = { model: "ant", ...question, max_tokens: 5, temperature: 0.5, stop_sequences: ["x"], stream: true };
    const answer = await fetch(`${house.origin}/v1/messages/count_tokens`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": callerKey },
      body: JSON.stringify(asked),
    });
    expect(await answer.text()).toBe('{"input_tokens":1}');
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(JSON.parse(replay.requests[0]?.body.toString() ?? "")).toEqual({ model: "upstream-model", ...question });
  });

  test("is asked in the language of each provider that can count", async () => {
    const gemini = await count("gem", { totalTokens: 43, promptTokensDetails: [] });
    expect(gemini).toMatchObject({ tokens: 43, estimated: null, path: "/v1beta/models/gemini-2.5-flash:countTokens" });
    expect(Object.keys(gemini.body)).toEqual(["generateContentRequest"]);
    expect(gemini.body.generateContentRequest).toMatchObject({
      model: "models/gemini-2.5-flash",
      contents: [{ role: "user", parts: [{ text: "Name a sea" }] }],
      systemInstruction: { parts: [{ text: "Answer in one word." }] },
    });
    replay.forget();
    const vertex = await count("ver", { totalTokens: 44 });
    expect(vertex.path).toBe("/v1/projects/p-1/locations/global/publishers/google/models/gemini-2.5-flash:countTokens");
    expect(Object.keys(vertex.body).sort()).toEqual(["contents", "systemInstruction", "tools"]);
    expect(vertex.tokens).toBe(44);
    replay.forget();
    const bedrock = await count("bed", { inputTokens: 45 });
    expect(bedrock.path).toBe("/model/anthropic.claude-sonnet-4-20250514-v1%3A0/count-tokens");
    expect(Object.keys(bedrock.body.input.converse).sort()).toEqual(["messages", "system", "toolConfig"]);
    expect(bedrock.tokens).toBe(45);
    replay.forget();
    const invoked = await count("invoked", { inputTokens: 46 });
    expect(invoked.tokens).toBe(46);
    const inner = JSON.parse(Buffer.from(invoked.body.input.invokeModel.body, "base64").toString());
    expect(inner).toMatchObject({ anthropic_version: "bedrock-2023-05-31", messages: question.messages });
  });

  test("is estimated where nobody can be asked, which is said", async () => {
    const { tokens, estimated, path } = await count("open", {});
    expect({ estimated, path }).toEqual({ estimated: "true", path: undefined });
    expect(tokens).toBeGreaterThan(10);
    expect(tokens).toBeLessThan(60);
  });

  test("keeps to the policy that a call keeps to", async () => {
    const unknown = sdk("wrong").messages.countTokens({ model: "ant", ...question });
    await expect(unknown).rejects.toMatchObject({ status: 401 });
    const nowhere = sdk().messages.countTokens({ model: "nothing", ...question });
    await expect(nowhere).rejects.toMatchObject({ status: 404 });
    const broken = sdk().messages.countTokens({ model: "ant", messages: [{ role: "user", content: 5 as never }] });
    await expect(broken).rejects.toMatchObject({ status: 400 });
    expect(replay.requests).toEqual([]);
  });

  test("fails as a call fails: by the provider's refusal, and for an answer that is none", async () => {
    replay.answerWith({ status: 429, pieces: ['{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'] });
    await expect(sdk().messages.countTokens({ model: "ant", ...question })).rejects.toMatchObject({ status: 429 });
    await expect(count("ant", { tokens: 3 })).rejects.toMatchObject({ status: 502 });
    await expect(count("ant", { input_tokens: -3 })).rejects.toMatchObject({ status: 502 });
  });

  test("spends nothing: what was counted is not what was consumed", async () => {
    await count("ant", { input_tokens: 4_242 });
    const metrics = await (await fetch(`${house.opsOrigin}/metrics`)).text();
    expect(metrics).toContain('outrigger_requests_total{door="anthropic",route="ant-route"');
    expect(metrics).not.toContain("4242");
    expect(house.log()).toMatch(/"asked":"count"/);
  });
});
