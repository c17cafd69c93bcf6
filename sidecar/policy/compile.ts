/**
 * Makes one policy of all resources that hold: every lookup, pattern and address is worked out here, so that a call interprets nothing.
 *
 * The result is whole or there is none: whatever is wrong is returned as problems with field paths, and what runs keeps running.
 */
import type { Duration } from "@bufbuild/protobuf/wkt";
import { Fault, FaultReason } from "../../proto/fault.ts";
import {
  AnthropicJsonSchema,
  AnthropicThinking,
  type AwsCredential,
  BedrockApi,
  type BedrockDialect,
  type Capability as CapabilityMessage,
  CapabilitySupport,
  type EntraCredential,
  ForcedToolChoice,
  type GoogleCredential,
  type HeaderCredential,
  JsonForm,
  MaxTokensField,
  type OpenAIDialect,
  type Provider,
  type ProviderSpec,
  type SecretReference,
  ThinkingMember,
} from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { Problem, Resources } from "../../proto/resources.ts";
import type { Call, Filter, Policy, Secret } from "../call.ts";
import { anthropicClient } from "../dialects/anthropic/anthropic.ts";
import { bedrockClient, invokeClient } from "../dialects/bedrock/bedrock.ts";
import { type Capability, withCapabilities } from "../dialects/capabilities.ts";
import { cohereClient } from "../dialects/cohere/cohere.ts";
import type { ClientHalf } from "../dialects/dialect.ts";
import { geminiClient, projectOrigin } from "../dialects/gemini/gemini.ts";
import { huggingFaceClient } from "../dialects/huggingface/huggingface.ts";
import { llamaClient } from "../dialects/llama/llama.ts";
import { ollamaClient } from "../dialects/ollama/ollama.ts";
import { type OpenAiOptions, openAiClient } from "../dialects/openai/openai.ts";
import { withTurns } from "../dialects/rawPrompt.ts";
import { responsesClient } from "../dialects/responses/responses.ts";
import { failover } from "../filters/failover.ts";
import { compileIdentify } from "../filters/identify.ts";
import { type CallRecord, record } from "../filters/record.ts";
import { compileRoute } from "../filters/route.ts";
import { type LivingCredential, type ProviderWire, type SendParts, send } from "../filters/send.ts";
import { compose, inOrder, send as wireEnd } from "../pipeline.ts";
import { endpointOf, type ProviderRow, providerRows, rowNameOf } from "../providers.ts";
import { bedrockOptions, messagesFormat } from "./bedrockOptions.ts";
import { geminiOptions } from "./geminiOptions.ts";
import { huggingFaceOptions, llamaOptions, ollamaOptions } from "./openModelOptions.ts";
import { compilePrices } from "./prices.ts";

/** What a policy is made with, beside its resources. */
export interface CompileParts extends SendParts {
  /** SHA-256 of a text, as 64 hexadecimal digits. */
  readonly sha256: (text: string) => string;
  /** Finds a secret that a resource of a namespace, default unless given, refers to; or says why it cannot be found, never showing it. */
  readonly secret: (reference: SecretReference, namespace?: string) => SecretSource;
  /** Finds credentials by identity. */
  readonly identities: IdentityFinder;
  /** Makes what signs requests with a key, as it is at the moment of signing. */
  readonly signer: (scope: SigningScope, key: () => AccessKey) => Signer;
  /** The filter that refuses under load; it outlives policies, since calls in flight do. */
  readonly shed: Filter;
  /** The filter that keeps sealed thinking; it outlives policies, since conversations do. */
  readonly recall: Filter;
  /** Puts a record where records go. */
  readonly write: (record: CallRecord) => void;
  /** Hears of callers whom no consumer's credential identifies. */
  readonly refused: (call: Call, fault: Fault) => void;
}

/** What signs the requests to one provider: gives the headers to add to a request that is final but for these. */
export type Signer = ProviderWire["authorize"];

/** For whom a signature holds. */
export interface SigningScope {
  /** The `Host` header of every request. */
  readonly host: string;
  readonly region: string;
  /** The name under which the service checks signatures. */
  readonly service: string;
}

/** What requests are signed with. Never logged. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of temporary keys. */
  readonly sessionToken?: string | undefined;
}

/** A secret that was found, as it is at the moment of reading; or why it was not. */
export type SecretSource = { readonly read: () => Secret } | { readonly missing: string };

/** Finds what gives keys and tokens by identity, for a provider by its full name. What a policy finds is kept fresh once the policy runs. */
export interface IdentityFinder {
  /** Keys that sign in a region. `ownKey` reads the key that stands in the credential, if one does. */
  aws(provider: string, credential: AwsCredential, region: string, ownKey: (() => AccessKey) | undefined): IdentitySource<AccessKey>;
  /** A token from Google. */
  google(provider: string, credential: GoogleCredential): IdentitySource<Secret>;
  /** A token from Microsoft Entra ID for a scope. `secret` reads the application's secret, if the credential has one. */
  entra(provider: string, credential: EntraCredential, scope: string, secret: (() => Secret) | undefined): IdentitySource<Secret>;
}

/** An identity, or why there is none whatever comes, as the end of a sentence. */
export type IdentitySource<Value> = { readonly identity: Identity<Value> } | { readonly missing: string };

/** What is known by an identity: a token or keys, which hold for a while and are replaced before that is over. */
export interface Identity<Value> extends LivingCredential {
  /** The value that holds now, or undefined. */
  current(): Value | undefined;
}

/** A policy, or every reason why there is none. */
export type Compiled =
  | { readonly policy: Policy; readonly problems: readonly [] }
  | { readonly policy: undefined; readonly problems: readonly Problem[] };

/** Compiles resources that `proto/resources.ts` found to be in order. `root` is the hash of their content. */
export function compilePolicy(resources: Resources, root: string, parts: CompileParts): Compiled {
  const problems: Problem[] = [];
  const wires = new Map<string, ProviderWire>();
  for (const provider of resources.providers) {
    const namespace = provider.metadata?.namespace || "default";
    const within = { ...parts, secret: (reference: SecretReference) => parts.secret(reference, namespace) };
    const wire = compileProvider(provider, within, problems);
    if (wire !== undefined) wires.set(`${provider.metadata?.namespace || "default"}/${wire.name}`, wire);
  }
  if (problems.length > 0) return { policy: undefined, problems };

  const identify = compileIdentify(resources, parts.sha256, parts.refused);
  const route = compileRoute(
    resources,
    (namespace) => (name, timeoutMs) => {
      const wire = wires.get(`${namespace}/${name}`);
      return wire === undefined ? undefined : { send: send(wire, parts, timeoutMs), seals: wire.client.seals };
    },
    parts.random,
  );
  const filters = inOrder({
    identify: identify.filter,
    record: record(compilePrices(resources.priceBooks), parts.write, parts.clock),
    shed: parts.shed,
    route: route.filter,
    failover,
    recall: parts.recall,
  });
  return {
    policy: { root, answer: compose(filters, wireEnd), models: (credential) => route.models(identify.consumerOf(credential)) },
    problems: [],
  };
}

/** Where no limit or time is given. The times are those of `docs/architecture.md`, "Time". */
const defaults = {
  connectMs: 3_000,
  firstContentMs: 60_000,
  betweenContentMs: 30_000,
  callMs: 600_000,
  /** Enough for a busy pod; a provider that opens more at once for one client is rare. */
  connections: 256,
  /** A long answer with images inside; more than this at once is no answer. */
  answerBytes: 64 * 1024 * 1024,
  /** What every model of the dialect can answer with. */
  anthropicMaxTokens: 4096,
} as const;

function compileProvider(provider: Provider, parts: CompileParts, problems: Problem[]): ProviderWire | undefined {
  const name = provider.metadata?.name ?? "";
  const { spec } = provider;
  const fullName = `${provider.metadata?.namespace || "default"}/${name}`;
  const refuse = (field: string, message: string): undefined => {
    problems.push({ id: "policy/not-compiled", severity: "error", kind: "Provider", name: fullName, field, message, hint: "" });
  };
  if (spec === undefined) return refuse("spec", "a provider needs a spec");

  const dialect = compileDialect(spec, refuse);
  if (dialect === undefined) return undefined;
  const { row, client } = dialect;

  const endpoint = endpointOf(row, spec.endpoint, regionOf(spec));
  if (endpoint === "" && row.endpoint !== "")
    return refuse(`spec.${spec.dialect.case}.region`, "this provider has an address in every region: give a region such as eu-central-1");
  if (endpoint === "")
    return refuse("spec.endpoint", "this provider's row has no address of its own: give one such as http://127.0.0.1:8000/v1");
  if (!URL.canParse(endpoint)) return refuse("spec.endpoint", `expected an http or https address, saw ${JSON.stringify(endpoint)}`);
  const url = new URL(endpoint);

  const headers = compileHeaders(spec, refuse);
  if (headers === undefined) return undefined;
  const credential = compileCredential(fullName, spec, row, url.host, headers, parts, refuse);
  if (credential === undefined) return undefined;

  return {
    name,
    client,
    textClient: withTurns(client),
    origin: url.origin,
    basePath: url.pathname.replace(/\/+$/, ""),
    headers,
    ...credential,
    connectTimeoutMs: milliseconds(spec.timeouts?.connect, defaults.connectMs),
    firstContentTimeoutMs: milliseconds(spec.timeouts?.firstContent, row.firstContentMs ?? defaults.firstContentMs),
    betweenContentTimeoutMs: milliseconds(spec.timeouts?.betweenContent, defaults.betweenContentMs),
    callTimeoutMs: milliseconds(spec.timeouts?.call, defaults.callMs),
    connections: spec.limits?.connections || defaults.connections,
    embeddingInputsMax: spec.limits?.embeddingInputs || (row.embeddingInputs ?? Number.POSITIVE_INFINITY),
    answerBytesMax: Number(spec.limits?.answerBytes ?? 0n) || defaults.answerBytes,
  };
}

type Refuse = (field: string, message: string) => undefined;

function compileDialect(spec: ProviderSpec, refuse: Refuse): { row: ProviderRow; client: ClientHalf } | undefined {
  const { dialect } = spec;
  if (dialect.case === undefined) return refuse("spec", "a provider needs a dialect, such as openai or anthropic");
  const rowName = rowNameOf(dialect);
  const row = Object.hasOwn(providerRows, rowName) ? providerRows[rowName] : undefined;
  if (row === undefined || row.dialect !== dialect.case) {
    const known = Object.entries(providerRows).filter(([, candidate]) => candidate.dialect === dialect.case);
    const names = known.map(([candidate]) => candidate).join(", ");
    return refuse(`spec.${dialect.case}.row`, `no row ${JSON.stringify(rowName)} speaks this dialect; known rows: ${names}`);
  }
  const capabilities = [...spec.capabilities.map(capability), ...(row.capabilities ?? [])];
  switch (dialect.case) {
    case "openai": {
      const options = openAiOptions(dialect.value, row);
      return { row, client: withCapabilities(openAiClient(options), { capabilities, strictMembers: options.strictMembers ?? false }) };
    }
    case "anthropic": {
      const { version, betas, defaultMaxTokens, models } = dialect.value;
      const client = anthropicClient({
        version: version || "2023-06-01",
        betas,
        defaultMaxTokens: Number(defaultMaxTokens) || defaults.anthropicMaxTokens,
        models: models.map((model) => ({
          pattern: model.pattern,
          thinking: thinkingWays[model.thinking],
          jsonSchema: jsonSchemaWays[model.jsonSchema],
          sampling: model.sampling,
          maxOutputTokens: Number(model.maxOutputTokens) || undefined,
        })),
      });
      return { row, client: withCapabilities(client, { capabilities, strictMembers: false }) };
    }
    case "responses": {
      const { pathPrefix, query, models } = dialect.value;
      const client = responsesClient({
        ...row.responses,
        ...(pathPrefix === undefined ? {} : { pathPrefix }),
        query: { ...row.responses?.query, ...query },
        models,
      });
      return { row, client: withCapabilities(client, { capabilities, strictMembers: false }) };
    }
    case "gemini": {
      const options = geminiOptions(dialect.value);
      const inProject = rowName === "vertex";
      if (inProject && options.project === undefined)
        return refuse("spec.gemini.vertex", "this row's models are asked in a project: give its name");
      if (!inProject && options.project !== undefined)
        return refuse("spec.gemini.vertex", `the row ${rowName} asks no models in a project: leave out the project or the row`);
      const client = withCapabilities(geminiClient(options), { capabilities, strictMembers: false });
      return { row: options.project === undefined ? row : { ...row, endpoint: projectOrigin(options.project.location) }, client };
    }
    case "huggingface": {
      const options = huggingFaceOptions(dialect.value, row);
      if (options === undefined) return refuse("spec.huggingface.prompt_format", noFormat);
      return { row, client: withCapabilities(huggingFaceClient(options), { capabilities, strictMembers: false }) };
    }
    case "llama": {
      const options = llamaOptions(dialect.value);
      if (options === undefined) return refuse("spec.llama", `${noFormat}, and a form: inputs, completion or generation`);
      return { row, client: withCapabilities(llamaClient(options), { capabilities, strictMembers: false }) };
    }
    case "ollama":
      return { row, client: withCapabilities(ollamaClient(ollamaOptions(dialect.value)), { capabilities, strictMembers: false }) };
    case "bedrock": {
      const client = bedrockWith(dialect.value, refuse);
      if (client === undefined) return undefined;
      return { row, client: withCapabilities(client, { capabilities, strictMembers: false }) };
    }
    case "cohere": {
      const client = cohereClient({ models: dialect.value.models });
      return { row, client: withCapabilities(client, { capabilities, strictMembers: false }) };
    }
  }
}

/** The client half for one of the provider's APIs. In the older one the Messages dialect speaks inside the provider's envelope. */
function bedrockWith(dialect: BedrockDialect, refuse: Refuse): ClientHalf | undefined {
  if (dialect.api !== BedrockApi.INVOKE_MESSAGES) return bedrockClient(bedrockOptions(dialect));
  if (dialect.guardrail !== undefined) return refuse("spec.bedrock.guardrail", "a guardrail goes along with the Converse API only");
  if (dialect.models.length > 0) return refuse("spec.bedrock.models", "these rows are of the Converse API, and another one is chosen");
  return invokeClient(
    anthropicClient({ version: "", betas: [], defaultMaxTokens: defaults.anthropicMaxTokens, models: [] }),
    messagesFormat,
  );
}

const noFormat = "a model that completes text needs a prompt format: llama2, llama3, chatml or plain";

/** The region of a dialect whose endpoints have one, or empty. */
function regionOf({ dialect }: ProviderSpec): string {
  return dialect.value !== undefined && "region" in dialect.value ? dialect.value.region : "";
}

/** What policy says of an endpoint, before what its row says. */
function openAiOptions(given: OpenAIDialect, row: ProviderRow): OpenAiOptions {
  const own: OpenAiOptions = {
    ...row.openai,
    maxTokensField: maxTokensFields[given.maxTokensField] ?? row.maxTokensField,
    developerRole: given.developerRole ?? row.developerRole,
    streamUsage: given.streamUsage ?? row.streamUsage,
    query: { ...row.openai?.query, ...given.query },
  };
  const toolChoice = toolChoices[given.toolChoice];
  const thinking = thinkingMembers[given.thinking];
  const jsonForm = jsonForms[given.jsonForm];
  const {
    pathPrefix,
    requiredWord,
    toolCallIdLength,
    strictMembers,
    cacheMarkers,
    topK,
    wholeTopP,
    seedField,
    freeToolNames,
    userAfterTool,
    base64Vectors,
    dimensionsField,
  } = given;
  return {
    ...own,
    ...(pathPrefix === undefined ? {} : { pathPrefix }),
    ...(toolChoice === undefined ? {} : { toolChoice }),
    ...(requiredWord === "" ? {} : { requiredWord: requiredWord === "any" ? "any" : "required" }),
    ...(toolCallIdLength === undefined ? {} : { toolCallIdLength }),
    ...(thinking === undefined ? {} : { thinking }),
    ...(strictMembers === undefined ? {} : { strictMembers }),
    ...(cacheMarkers === undefined ? {} : { cacheMarkers }),
    ...(topK === undefined ? {} : { topK }),
    ...(wholeTopP === undefined ? {} : { wholeTopP }),
    ...(seedField === "" ? {} : { seedField: seedField === "random_seed" ? "random_seed" : "seed" }),
    ...(given.reasoningEfforts.length === 0 ? {} : { reasoningEfforts: given.reasoningEfforts }),
    ...(jsonForm === undefined ? {} : { jsonForm }),
    ...(freeToolNames === undefined ? {} : { freeToolNames }),
    ...(userAfterTool === undefined ? {} : { userAfterTool }),
    ...(given.textModels.length === 0 ? {} : { textModels: given.textModels }),
    ...(base64Vectors === undefined ? {} : { base64Vectors }),
    ...(dimensionsField === "" ? {} : { dimensionsField: dimensionsField === "output_dimension" ? "output_dimension" : "dimensions" }),
  };
}

function capability({ parameter, models, support, how }: CapabilityMessage): Capability {
  return { parameter, support: supports[support] ?? "mapped", how, ...(models === "" ? {} : { models }) };
}

const supports: Readonly<Record<number, Capability["support"]>> = {
  [CapabilitySupport.MAPPED]: "mapped",
  [CapabilitySupport.EMULATED]: "emulated",
  [CapabilitySupport.UNSUPPORTED]: "unsupported",
};

const toolChoices: Readonly<Record<number, NonNullable<OpenAiOptions["toolChoice"]>>> = {
  [ForcedToolChoice.NAMED]: "named",
  [ForcedToolChoice.MODES]: "modes",
  [ForcedToolChoice.NONE]: "none",
};

const thinkingMembers: Readonly<Record<number, NonNullable<OpenAiOptions["thinking"]>>> = {
  [ThinkingMember.REASONING_CONTENT]: "reasoning_content",
  [ThinkingMember.REASONING]: "reasoning",
  [ThinkingMember.PARTS]: "parts",
  [ThinkingMember.NONE]: "none",
};

const jsonForms: Readonly<Record<number, NonNullable<OpenAiOptions["jsonForm"]>>> = {
  [JsonForm.JSON_SCHEMA]: "json_schema",
  [JsonForm.VALUE]: "value",
};

const maxTokensFields: Readonly<Record<number, ProviderRow["maxTokensField"]>> = {
  [MaxTokensField.MAX_COMPLETION_TOKENS]: "max_completion_tokens",
  [MaxTokensField.MAX_TOKENS]: "max_tokens",
};

const thinkingWays: Readonly<Record<number, "budget" | "adaptive" | "none">> = {
  [AnthropicThinking.BUDGET]: "budget",
  [AnthropicThinking.ADAPTIVE]: "adaptive",
  [AnthropicThinking.NONE]: "none",
};

const jsonSchemaWays: Readonly<Record<number, "output_config" | "tool">> = {
  [AnthropicJsonSchema.OUTPUT_CONFIG]: "output_config",
  [AnthropicJsonSchema.TOOL]: "tool",
};

/** What a credential is for the wire. */
type WireCredential = Pick<ProviderWire, "authorize" | "living">;

function compileCredential(
  provider: string,
  spec: ProviderSpec,
  row: ProviderRow,
  host: string,
  headers: readonly string[],
  parts: CompileParts,
  refuse: Refuse,
): WireCredential | undefined {
  const form = spec.credential?.form;
  switch (form?.case) {
    case undefined:
      return { authorize: () => noHeaders };
    case "header":
      return headerCredential(form.value, row, parts, refuse);
    case "aws": {
      const { region: given, service: givenService } = form.value;
      const region = given || regionOf(spec);
      const service = givenService || row.signingService;
      if (service === undefined) return refuse("spec.credential.aws.service", "this provider's row names no service to sign for: name one");
      if (region === "") return refuse("spec.credential.aws.region", "a signature needs a region such as eu-central-1");
      return signature(provider, form.value, { host, region, service }, headers, parts, refuse);
    }
    case "google":
      return tokenCredential("spec.credential.google", parts.identities.google(provider, form.value), refuse);
    case "entra": {
      const { source } = form.value;
      const scope = form.value.scope || row.entraScope;
      if (scope === undefined)
        return refuse("spec.credential.entra.scope", "this provider's row names no scope to ask a token for: name one");
      let secret: (() => Secret) | undefined;
      if (source.case === "clientSecret") {
        secret = compileSecret(source.value.secret, "spec.credential.entra.client_secret.secret", parts, refuse);
        if (secret === undefined) return undefined;
      }
      return tokenCredential("spec.credential.entra", parts.identities.entra(provider, form.value, scope, secret), refuse);
    }
  }
}

/** A token, which goes in the one header that all who take tokens look at (RFC 6750), whatever header the row has for keys. */
function tokenCredential(field: string, found: IdentitySource<Secret>, refuse: Refuse): WireCredential | undefined {
  if ("missing" in found) return refuse(field, `there is no token to be had: ${found.missing}`);
  const { identity } = found;
  return { authorize: () => ["authorization", `Bearer ${held(identity).reveal()}`], living: identity };
}

function headerCredential(
  { secret, name, prefix }: HeaderCredential,
  row: ProviderRow,
  parts: CompileParts,
  refuse: Refuse,
): WireCredential | undefined {
  const header = name || row.keyHeader;
  if (framing.has(header))
    return refuse("spec.credential.header.name", `the header ${header} belongs to the connection and carries no credential`);
  const before = prefix ?? (name === "" || name === row.keyHeader ? row.keyPrefix : "");
  const read = compileSecret(secret, "spec.credential.header.secret", parts, refuse);
  return read && { authorize: () => [header, before + read().reveal()] };
}

/** Signs what is sent, headers of policy included, with the key that stands in policy or with those of an identity. */
function signature(
  provider: string,
  credential: AwsCredential,
  scope: SigningScope,
  headers: readonly string[],
  parts: CompileParts,
  refuse: Refuse,
): WireCredential | undefined {
  const { accessKeyId, secretAccessKey, sessionToken, assumeRoles } = credential;
  // Whole or not at all, and not beside a source: that is a rule of the resource.
  const stands = accessKeyId !== undefined || secretAccessKey !== undefined || sessionToken !== undefined;
  const own = stands ? ownKey(credential, parts, refuse) : undefined;
  if (stands && own === undefined) return undefined;
  if (own !== undefined && assumeRoles.length === 0) return { authorize: withHeaders(parts.signer(scope, own), headers) };

  const found = parts.identities.aws(provider, credential, scope.region, own);
  if ("missing" in found) return refuse("spec.credential.aws", `there are no keys to be had: ${found.missing}`);
  const { identity } = found;
  return {
    authorize: withHeaders(
      parts.signer(scope, () => held(identity)),
      headers,
    ),
    living: identity,
  };
}

function ownKey(
  { accessKeyId, secretAccessKey, sessionToken }: AwsCredential,
  parts: CompileParts,
  refuse: Refuse,
): (() => AccessKey) | undefined {
  const id = compileSecret(accessKeyId, "spec.credential.aws.access_key_id", parts, refuse);
  const secret = compileSecret(secretAccessKey, "spec.credential.aws.secret_access_key", parts, refuse);
  const token = sessionToken && compileSecret(sessionToken, "spec.credential.aws.session_token", parts, refuse);
  if (id === undefined || secret === undefined || (sessionToken !== undefined && token === undefined)) return undefined;
  return () => ({ accessKeyId: id().reveal(), secretAccessKey: secret().reveal(), sessionToken: token?.().reveal() });
}

function withHeaders(sign: Signer, headers: readonly string[]): Signer {
  return headers.length === 0 ? sign : (path, dialects, body) => sign(path, [...dialects, ...headers], body);
}

/** What an identity gives now. Whoever sends has waited for it, so it is there but for the blink in which it ended. */
function held<Value>(identity: Identity<Value>): Value {
  const value = identity.current();
  if (value === undefined)
    throw new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, "The credential for the provider has just expired.");
  return value;
}

/** What reads a secret as it is now; undefined if it cannot be had, which is then told. */
function compileSecret(
  reference: SecretReference | undefined,
  field: string,
  parts: CompileParts,
  refuse: Refuse,
): (() => Secret) | undefined {
  if (reference === undefined) return refuse(field, "a credential needs a secret by reference: env, file or delivered");
  const source = parts.secret(reference);
  return "missing" in source ? refuse(field, source.missing) : source.read;
}

const noHeaders: readonly string[] = [];

/** Headers that frame a message or steer a connection: whoever sets these by policy breaks or smuggles requests (RFC 9110, 7.6.1). */
const framing: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Headers that the dialect or the credential sets. */
const taken: ReadonlySet<string> = new Set([
  "accept",
  "accept-encoding",
  "api-key",
  "authorization",
  "content-encoding",
  "content-type",
  "x-amz-date",
  "x-amz-security-token",
  "x-api-key",
  "x-goog-api-key",
]);

function compileHeaders(spec: ProviderSpec, refuse: Refuse): readonly string[] | undefined {
  const headers: string[] = [];
  for (const [name, value] of Object.entries(spec.headers).sort()) {
    if (framing.has(name)) return refuse(`spec.headers.${name}`, `the header ${name} frames the message and cannot be set`);
    if (taken.has(name)) return refuse(`spec.headers.${name}`, `the header ${name} is set by the dialect or by spec.credential`);
    headers.push(name, value);
  }
  return headers;
}

function milliseconds(duration: Duration | undefined, otherwise: number): number {
  return duration === undefined ? otherwise : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
