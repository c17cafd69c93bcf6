import { describe, expect, it } from "vitest";
import { Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { readResources } from "../../proto/resources.ts";
import { chatRequest, faultOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { Secret, type UpstreamRequest } from "../call.ts";
import { compilePolicy } from "./compile.ts";

const consumer = "{apiVersion: outrigger.dev/v1alpha1, kind: Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}";
const route = `{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: r},
  spec: {match: {models: [m]}, targets: [{provider: p}]}}`;

type Asked = Parameters<typeof chatRequest>[0];

/** A part of a message, for the request of a test. */
function part(
  content: NonNullable<NonNullable<NonNullable<NonNullable<Asked>["messages"]>[number]["parts"]>[number]["content"]>,
  cache?: { ttl: string },
) {
  return cache === undefined ? { content } : { content, cache };
}

/** The body that a provider, whose spec is given, is sent for a request. */
async function wireOf(spec: string, asked: Asked): Promise<unknown> {
  const { request, problems } = await compiled(spec, asked);
  expect(problems).toBeUndefined();
  return JSON.parse(String(request?.body));
}

const living = { ready: () => undefined, refused() {} };

/** Compiles a policy with one provider, whose spec is given; returns what it would send, or the problems. */
async function compiled(spec: string, asked: Asked = {}) {
  const provider = `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: p}, spec: ${spec}}`;
  const read = readResources([{ path: "policy.yaml", text: [provider, route, consumer].join("\n---\n") }]);
  expect(read.problems).toEqual([]);
  const sent: UpstreamRequest[] = [];
  const { policy, problems } = compilePolicy(read.resources, "root", {
    clock: new ManualClock(),
    random: { next: () => 0, id: () => "id" },
    upstream(request, handler) {
      sent.push(request);
      handler.error(new Error("this test has no network"), false);
      return { pause() {}, resume() {}, abort() {} };
    },
    sha256: (text) => text,
    secret: (reference) => (reference.source.value === "THERE" ? { read: () => new Secret("s3cret") } : { missing: "it is not set" }),
    identities: {
      aws(provider, { source }, region, ownKey) {
        if (source.case === "container") return { missing: "this is no container" };
        const of = ownKey === undefined ? source.case : ownKey().accessKeyId;
        return { identity: { ...living, current: () => ({ accessKeyId: `${of} of ${provider}`, secretAccessKey: region }) } };
      },
      google: (provider, { impersonate }) =>
        impersonate === ""
          ? { identity: { ...living, current: () => new Secret(`google's of ${provider}`) } }
          : { missing: "no such account" },
      entra(provider, { source }, scope, secret) {
        if (source.case === "managedIdentity") return { missing: "no such identity" };
        return { identity: { ...living, current: () => new Secret(`entra's for ${scope} of ${provider} by ${secret?.().reveal()}`) } };
      },
    },
    signer:
      ({ host, region, service }, key) =>
      (path, headers, body) => ["signed", [host, region, service, path, headers.join(" "), body.length, ...Object.values(key())].join(" ")],
    shed: (call, next) => next(call),
    recall: (call, next) => next(call),
    write: () => {},
    refused: () => {},
  });
  if (policy === undefined) return { problems: problems.map(({ field, message }) => `${field}: ${message}`) };
  const call = makeCall({ request: chatRequest({ ...asked, model: "m" }) });
  const fault = await faultOf(policy.answer(call));
  if (sent.length === 0) throw fault;
  expect(fault).toMatchObject({ message: expect.stringContaining("could not be reached") });
  return { request: sent[0] };
}

describe("compilePolicy", () => {
  it("takes address, header and properties from the provider's row", async () => {
    const { request } = await compiled("{openai: {}, credential: {header: {secret: {env: THERE}}}}");
    expect(request).toMatchObject({
      origin: "https://api.openai.com",
      path: "/v1/chat/completions",
      connectTimeoutMs: 3000,
      connections: 256,
    });
    expect(request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
  });

  it("lets policy override the row", async () => {
    const { request } = await compiled(`{anthropic: {}, endpoint: "http://10.0.0.1:8080/proxy/",
      credential: {header: {name: api-key, secret: {env: THERE}}}, headers: {x-team: blue},
      timeouts: {connect: 0.5s}, limits: {connections: 7}}`);
    expect(request).toMatchObject({ origin: "http://10.0.0.1:8080", path: "/proxy/v1/messages", connectTimeoutMs: 500, connections: 7 });
    expect(request?.headers.slice(-4)).toEqual(["x-team", "blue", "api-key", "s3cret"]);
  });

  it("finds an endpoint by its region, and signs for that region over all that is sent", async () => {
    const credential = "{aws: {access_key_id: {env: THERE}, secret_access_key: {env: THERE}, session_token: {env: THERE}}}";
    const { request } = await compiled(`{bedrock: {region: eu-central-1}, headers: {x-team: blue}, credential: ${credential}}`);
    expect(request).toMatchObject({ origin: "https://bedrock-runtime.eu-central-1.amazonaws.com", path: "/model/m/converse-stream" });
    const at = request?.headers.indexOf("signed") ?? -1;
    const sent = `${request?.path} ${request?.headers.slice(0, at).join(" ")} ${request?.body.length}`;
    expect(request?.headers.slice(at)).toEqual([
      "signed",
      `bedrock-runtime.eu-central-1.amazonaws.com eu-central-1 bedrock ${sent} s3cret s3cret s3cret`,
    ]);
    expect(sent).toContain("x-team blue");
  });

  it("signs over the path that policy puts before the dialect's, for another region or service", async () => {
    const aws = "{access_key_id: {env: THERE}, secret_access_key: {env: THERE}, region: us-east-1, service: other}";
    const { request } = await compiled(`{bedrock: {region: eu-west-1}, endpoint: "http://10.0.0.1:8080/proxy", credential: {aws: ${aws}}}`);
    expect(request?.headers.at(-1)).toMatch(/^10\.0\.0\.1:8080 us-east-1 other \/proxy\/model\/m\/converse-stream /);
  });

  it("leads to the Responses API at its own address, or behind a prefix with parameters", async () => {
    const own = await compiled("{responses: {}, credential: {header: {secret: {env: THERE}}}}");
    expect(own.request).toMatchObject({ origin: "https://api.openai.com", path: "/v1/responses" });
    expect(own.request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
    expect(JSON.parse(String(own.request?.body))).toMatchObject({ model: "m", store: false, include: ["reasoning.encrypted_content"] });
    const row = 'row: azure-responses, query: {api-version: preview}, models: [{pattern: "m*", sealed_thinking: false}]';
    const hosted = await compiled(`{responses: {${row}}, endpoint: "https://r.test", credential: {header: {secret: {env: THERE}}}}`);
    expect(hosted.request).toMatchObject({ origin: "https://r.test", path: "/openai/v1/responses?api-version=preview" });
    expect(hosted.request?.headers.slice(-2)).toEqual(["api-key", "s3cret"]);
    expect(JSON.parse(String(hosted.request?.body))).not.toHaveProperty("include");
    const elsewhere = await compiled('{responses: {path_prefix: ""}, endpoint: "http://10.0.0.1:8000/v1"}');
    expect(elsewhere.request).toMatchObject({ origin: "http://10.0.0.1:8000", path: "/v1/responses" });
  });

  it("signs with the keys of an identity, as they are at that moment", async () => {
    const { request } = await compiled("{bedrock: {region: eu-west-1}, credential: {aws: {web_identity: {}}}}");
    expect(request?.headers.at(-1)).toMatch(/ webIdentity of default\/p eu-west-1 *$/);
    const own = "access_key_id: {env: THERE}, secret_access_key: {env: THERE}";
    const assumed = `{aws: {${own}, region: us-east-1, assume_roles: [{role_arn: "arn:aws:iam::123456789012:role/r"}]}}`;
    const other = await compiled(`{bedrock: {region: eu-west-1}, credential: ${assumed}}`);
    expect(other.request?.headers.at(-1)).toMatch(/ us-east-1 bedrock .* s3cret of default\/p us-east-1 *$/);
  });

  it("sends tokens of identities in the header for tokens, whatever header the row has for keys", async () => {
    const headerOf = async (spec: string) => (await compiled(spec)).request?.headers.slice(-2);
    const vertex = "gemini: {vertex: {project: x}}";
    expect(await headerOf(`{${vertex}, credential: {google: {chain: {}}}}`)).toEqual(["authorization", "Bearer google's of default/p"]);
    const application = "client_secret: {tenant_id: t, client_id: c, secret: {env: THERE}}";
    for (const row of ["azure", "azure-v1", "azure-models"]) {
      expect(
        await headerOf(`{openai: {row: ${row}}, endpoint: "https://r.openai.azure.com", credential: {entra: {${application}}}}`),
      ).toEqual(["authorization", "Bearer entra's for https://cognitiveservices.azure.com/.default of default/p by s3cret"]);
    }
    const responses = await headerOf(
      `{responses: {row: azure-responses}, endpoint: "https://r.openai.azure.com", credential: {entra: {${application}}}}`,
    );
    expect(responses?.[1]).toContain("https://cognitiveservices.azure.com/.default");
    expect(await headerOf("{openai: {}, credential: {entra: {chain: {}, scope: api/.default}}}")).toEqual([
      "authorization",
      "Bearer entra's for api/.default of default/p by undefined",
    ]);
  });

  it("takes an API key as a bearer token where a row knows no other header", async () => {
    const { request } = await compiled("{bedrock: {region: eu-west-1}, credential: {header: {secret: {env: THERE}}}}");
    expect(request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
  });

  it("hands guardrail and models to the dialect", async () => {
    const { request } = await compiled(`{bedrock: {region: eu-west-1, guardrail: {identifier: g, version: "3",
      trace: BEDROCK_GUARDRAIL_TRACE_FULL, streaming: BEDROCK_GUARDRAIL_STREAMING_ASYNC}, models: [{pattern: m, max_output_tokens: 5}]}}`);
    expect(JSON.parse(String(request?.body)).guardrailConfig).toEqual({
      guardrailIdentifier: "g",
      guardrailVersion: "3",
      trace: "enabled_full",
      streamProcessingMode: "async",
    });
  });

  it("finds the models of a project at its location, and those of an account without one", async () => {
    const there = "{credential: {header: {secret: {env: THERE}}}, gemini: ";
    const studio = await compiled(`${there}{}}`);
    expect(studio.request?.origin).toBe("https://generativelanguage.googleapis.com");
    expect(studio.request?.headers.slice(-2)).toEqual(["x-goog-api-key", "s3cret"]);
    const region = await compiled(`${there}{vertex: {project: p-1, location: europe-west4}}}`);
    expect(region.request?.origin).toBe("https://europe-west4-aiplatform.googleapis.com");
    expect(region.request?.path).toMatch(/^\/v1\/projects\/p-1\/locations\/europe-west4\/publishers\/google\/models\//);
    expect(region.request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
    const origins = ["global", "", "eu"].map((location) => compiled(`${there}{vertex: {project: p-1, location: "${location}"}}}`));
    expect((await Promise.all(origins)).map(({ request }) => request?.origin)).toEqual([
      "https://aiplatform.googleapis.com",
      "https://aiplatform.googleapis.com",
      "https://aiplatform.eu.rep.googleapis.com",
    ]);
    const own = await compiled(`{gemini: {version: v1, vertex: {project: p-1}}, endpoint: "http://10.0.0.1:8080/proxy"}`);
    expect(own.request?.origin).toBe("http://10.0.0.1:8080");
    expect(own.request?.path).toMatch(/^\/proxy\/v1\/projects\/p-1\/locations\/global\//);
  });

  it("speaks to a deployment with its key, and with a token where policy says so", async () => {
    const azure = 'endpoint: "https://r.example.com"';
    const byKey = await compiled(`{openai: {row: azure}, ${azure}, credential: {header: {secret: {env: THERE}}}}`);
    expect(byKey.request?.path).toBe("/openai/deployments/m/chat/completions?api-version=2024-10-21");
    expect(byKey.request?.headers.slice(-2)).toEqual(["api-key", "s3cret"]);
    const token = 'credential: {header: {name: authorization, prefix: "Bearer ", secret: {env: THERE}}}';
    const byToken = await compiled(`{openai: {row: azure, query: {api-version: 2025-01-01-preview, x: "1&2"}}, ${azure}, ${token}}`);
    expect(byToken.request?.path).toBe("/openai/deployments/m/chat/completions?api-version=2025-01-01-preview&x=1%262");
    expect(byToken.request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
    const own = await compiled(`{openai: {row: compatible, path_prefix: "/models/{+model}/v1"}, ${azure}}`);
    expect(own.request?.path).toBe("/models/m/v1/chat/completions");
  });

  it("lets policy say of a row's every property otherwise", async () => {
    const asked = {
      messages: [
        { role: Role.DEVELOPER, parts: [part({ case: "text", value: { text: "d" } }, { ttl: "" })] },
        {
          role: Role.ASSISTANT,
          parts: [
            part({ case: "reasoning", value: { text: "t", dialect: "openai" } }),
            part({ case: "toolCall", value: { id: "call_1", name: "f", argumentsJson: "{}" } }),
          ],
        },
        { role: Role.TOOL, parts: [part({ case: "toolResult", value: { toolCallId: "call_1" } })] },
        { role: Role.USER, parts: [part({ case: "text", value: { text: "q" } })] },
      ],
      tools: [{ name: "f" }, { name: "g.h" }],
      toolChoice: { choice: { case: "tool" as const, value: "g.h" } },
      responseFormat: { format: { case: "jsonObject" as const, value: {} } },
      maxOutputTokens: 5n,
      topP: 1,
      topK: 3n,
      seed: 7n,
      reasoning: { amount: { case: "effort" as const, value: "low" } },
    };
    const options = `max_tokens_field: MAX_TOKENS_FIELD_MAX_TOKENS, developer_role: false, stream_usage: false, required_word: any,
      tool_choice: FORCED_TOOL_CHOICE_MODES, tool_call_id_length: 12, thinking: THINKING_MEMBER_REASONING, strict_members: true,
      cache_markers: true, top_k: true, whole_top_p: false, seed_field: random_seed, reasoning_efforts: [none, high],
      json_form: JSON_FORM_VALUE, free_tool_names: true, user_after_tool: false`;
    const id = expect.stringMatching(/^[A-Za-z0-9]{12}$/);
    expect(await wireOf(`{openai: {${options}}}`, asked)).toEqual({
      model: "m",
      messages: [
        { role: "system", content: [{ type: "text", text: "d", cache_control: { type: "ephemeral" } }] },
        {
          role: "assistant",
          content: null,
          reasoning: "t",
          tool_calls: [{ id, type: "function", function: { name: "f", arguments: "{}" } }],
        },
        { role: "tool", tool_call_id: id, content: "" },
        { role: "assistant", content: "OK." },
        { role: "user", content: "q" },
      ],
      tools: [{ type: "function", function: { name: "g.h" } }],
      tool_choice: "any",
      response_format: { type: "json", value: { type: "object" } },
      max_tokens: 5,
      top_k: 3,
      random_seed: 7,
      reasoning_effort: "high",
      stream: true,
    });
    const back = `max_tokens_field: MAX_TOKENS_FIELD_MAX_COMPLETION_TOKENS, developer_role: true, stream_usage: true,
      required_word: required, tool_choice: FORCED_TOOL_CHOICE_NAMED, thinking: THINKING_MEMBER_REASONING_CONTENT, strict_members: false,
      seed_field: seed, reasoning_efforts: [low], json_form: JSON_FORM_JSON_SCHEMA, top_k: true, free_tool_names: false,
      user_after_tool: true`;
    expect(
      await wireOf(`{openai: {row: mistral, ${back}}, capabilities: [{parameter: top_k, support: CAPABILITY_SUPPORT_MAPPED}]}`, asked),
    ).toMatchObject({
      messages: [{ role: "developer" }, { reasoning_content: "t" }, {}, { role: "user" }],
      tool_choice: { function: { name: "g_h" } },
      response_format: { type: "json_object" },
      max_completion_tokens: 5,
      top_p: 1,
      top_k: 3,
      seed: 7,
      reasoning_effort: "low",
      stream_options: { include_usage: true },
    });
  });

  it("asks no model for what policy says it does not support, in every dialect", async () => {
    const capabilities = `capabilities: [{parameter: stop, models: "m*", support: CAPABILITY_SUPPORT_UNSUPPORTED, how: tried it}]`;
    for (const dialect of ["openai", "anthropic"]) {
      await expect(wireOf(`{${dialect}: {}, ${capabilities}}`, { stop: ["x"] })).rejects.toThrow(
        "The model m does not support stop: tried it.",
      );
      expect(await wireOf(`{${dialect}: {}, ${capabilities}}`, {})).toMatchObject({ model: "m" });
    }
  });

  it("hands what is said of models to the dialect", async () => {
    const { request } = await compiled("{cohere: {models: [{pattern: m, thinking: false}]}, credential: {header: {secret: {env: THERE}}}}");
    expect(request).toMatchObject({ origin: "https://api.cohere.com", path: "/v2/chat" });
    expect(request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
  });

  it.each([
    [
      '{bedrock: {region: eu-west-1, api: BEDROCK_API_INVOKE_MESSAGES, guardrail: {identifier: g, version: "1"}}}',
      "spec.bedrock.guardrail: a guardrail goes along with the Converse API only",
    ],
    [
      "{bedrock: {region: eu-west-1, api: BEDROCK_API_INVOKE_MESSAGES, models: [{pattern: m}]}}",
      "spec.bedrock.models: these rows are of the Converse API",
    ],
    ["{bedrock: {}}", "spec.bedrock.region: this provider has an address in every region"],
    [
      '{bedrock: {}, endpoint: "http://10.0.0.1", credential: {aws: {access_key_id: {env: THERE}, secret_access_key: {env: THERE}}}}',
      "spec.credential.aws.region: a signature needs a region",
    ],
    [
      "{openai: {}, credential: {aws: {access_key_id: {env: THERE}, secret_access_key: {env: THERE}, region: eu-west-1}}}",
      "spec.credential.aws.service: this provider's row names no service",
    ],
    [
      "{bedrock: {region: eu-west-1}, credential: {aws: {access_key_id: {env: THERE}, secret_access_key: {env: NOT_THERE}}}}",
      "spec.credential.aws.secret_access_key: it is not set",
    ],
    [
      "{bedrock: {region: eu-west-1}, credential: {aws: {container: {}}}}",
      "spec.credential.aws: there are no keys to be had: this is no container",
    ],
    [
      "{openai: {}, credential: {google: {chain: {}, impersonate: a@b.c}}}",
      "spec.credential.google: there is no token to be had: no such account",
    ],
    ["{openai: {}, credential: {entra: {managed_identity: {}}}}", "spec.credential.entra.scope: this provider's row names no scope"],
    [
      "{openai: {}, credential: {entra: {managed_identity: {}, scope: s}}}",
      "spec.credential.entra: there is no token to be had: no such identity",
    ],
    [
      "{openai: {}, credential: {entra: {client_secret: {secret: {env: NOT_THERE}}, scope: s}}}",
      "spec.credential.entra.client_secret.secret: it is not set",
    ],
    ["{bedrock: {region: eu-west-1}, headers: {x-amz-date: now}}", "spec.headers.x-amz-date: the header x-amz-date is set by"],
    ["{gemini: {row: vertex}}", "spec.gemini.vertex: this row's models are asked in a project: give its name"],
    ["{gemini: {row: gemini, vertex: {project: p}}}", "spec.gemini.vertex: the row gemini asks no models in a project"],
    ["{openai: {row: unheard-of}}", 'spec.openai.row: no row "unheard-of" speaks this dialect; known rows: openai,'],
    ["{openai: {row: anthropic}}", 'spec.openai.row: no row "anthropic" speaks this dialect'],
    ["{openai: {row: compatible}}", "spec.endpoint: this provider's row has no address of its own"],
    ["{openai: {}, credential: {header: {secret: {env: NOT_THERE}}}}", "spec.credential.header.secret: it is not set"],
  ])("refuses %s whole", async (spec, problem) => {
    expect((await compiled(spec)).problems).toEqual([expect.stringContaining(problem)]);
  });
});
