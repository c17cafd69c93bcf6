/**
 * The table of providers: what is particular to each endpoint that the world knows by name.
 *
 * This is the one place outside a dialect's own folder where a provider's name may stand. Everything else asks what an endpoint can
 * do, never who it is. Policy can override every property here.
 */

import type { Capability } from "./dialects/capabilities.ts";
import type { OpenAiOptions } from "./dialects/openai/openai.ts";
import type { ResponsesOptions } from "./dialects/responses/responses.ts";

/** What is known of an endpoint. */
export interface ProviderRow {
  /** The dialect it speaks. */
  readonly dialect: "openai" | "anthropic" | "gemini" | "bedrock" | "huggingface" | "llama" | "ollama" | "cohere" | "responses";
  /** The address before the dialect's own paths, with `{region}` where a region's name stands; empty where there is no one address. */
  readonly endpoint: string;
  /** The environment variable in which its users keep their key by custom, or undefined where there is none. */
  readonly keyVariable: string | undefined;
  /** The header that carries the key, and what stands before the key in it. */
  readonly keyHeader: string;
  readonly keyPrefix: string;
  /** The name under which signatures of requests are made, where the endpoint takes any. */
  readonly signingService?: string;
  /** What a token from Microsoft Entra ID must be for, where the endpoint takes such tokens. */
  readonly entraScope?: string;
  /** Of the OpenAI dialect: the field that limits the answer. */
  readonly maxTokensField: "max_completion_tokens" | "max_tokens";
  /** Of the OpenAI dialect: whether the developer role is known. */
  readonly developerRole: boolean;
  /** Of the OpenAI dialect: whether usage in streams can be asked for. */
  readonly streamUsage: boolean;
  /** Of the OpenAI dialect: what else is particular; what is left out is as the format has it. */
  readonly openai?: Omit<OpenAiOptions, "maxTokensField" | "developerRole" | "streamUsage">;
  /** Of the Responses dialect: what is particular to its address. */
  readonly responses?: Omit<ResponsesOptions, "models">;
  /** What becomes of single parameters, for some models or for all; what is not here is supported. */
  readonly capabilities?: readonly Capability[];
  /** Of the Hugging Face dialect: whether one host serves many models by path. */
  readonly modelInPath?: boolean;
  /** The most inputs of one request for vectors, where the server takes fewer than the dialect's own API. */
  readonly embeddingInputs?: number;
  /** How long to wait for the first content where policy says nothing, in milliseconds; absent means as long as for any other. */
  readonly firstContentMs?: number;
  /** Model names by which the endpoint can be recognised, for routes that are made without a policy. */
  readonly modelPatterns: readonly string[];
}

const bearer = { keyHeader: "authorization", keyPrefix: "Bearer " } as const;
const apiKey = { keyHeader: "api-key", keyPrefix: "" } as const;
/** Of dialects in which an answer has no limit of its own name, no roles to map and no usage to ask for. */
const native = { ...bearer, maxTokensField: "max_tokens", developerRole: false, streamUsage: true, modelPatterns: [] } as const;
const compatible = { dialect: "openai", ...bearer, maxTokensField: "max_tokens", developerRole: false, streamUsage: true } as const;

/** Rows that say of several parameters the same. */
function all(parameters: readonly string[], support: Capability["support"], how: string, models?: string): Capability[] {
  return parameters.map((parameter) => ({ parameter, support, how, ...(models === undefined ? {} : { models }) }));
}

const sampling = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"];
const noSampling = "it reasons, and samples in its own way";
/**
 * Of OpenAI's models, wherever they are served. A later member of a family takes more than an earlier one or other things, so patterns
 * name the members that are known and nothing is guessed of new ones.
 */
const openAiModels: readonly Capability[] = [
  ...all(sampling, "mapped", "", "gpt-5-chat*"),
  ...["o1*", "o3*", "o4*", "gpt-5", "gpt-5-*"].flatMap((models) => all(sampling, "unsupported", noSampling, models)),
  ...all(["stop"], "unsupported", "it takes no texts to stop at", "o3*"),
  ...all(["stop"], "unsupported", "it takes no texts to stop at", "o4*"),
];

/** Those of OpenAI's models that go on with texts, under their own names. */
const openAiTextModels: readonly string[] = ["babbage-002", "davinci-002", "gpt-3.5-turbo-instruct*", "gpt-35-turbo-instruct*"];

/** What is said of requests for vectors. */
const noVectors = all(["embeddings"], "unsupported", "the API makes none");
const textVectors = all(["embeddings.tokens"], "unsupported", "the API takes texts only");

const oneAnswer = all(["n"], "unsupported", "there is one answer to a call");

/**
 * Of an API that has a turn's answer and how it is sampled, and no more. What single models take besides, the dialects' own tables say,
 * which an operator's `models` go before.
 */
const turnsOnly: readonly Capability[] = [
  ...oneAnswer,
  ...all(["seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"], "unsupported", "the API has no such parameter"),
  ...all(["response_format.json_object"], "unsupported", "the API takes JSON by a schema only"),
  ...all(["response_format.json_schema"], "emulated", "by a tool that must be called, where the model knows no other way"),
  ...all(["reasoning"], "emulated", "by a word or a number of tokens, whichever the model takes"),
  ...all(["temperature"], "emulated", "above 1 it is sent as 1"),
];

/** Servers that hand a request to engines of their own, and take what these engines know beside the format. */
const engine = {
  ...compatible,
  keyVariable: undefined,
  modelPatterns: [],
  openai: { topK: true, freeToolNames: true, textModels: ["*"] },
} as const;

/** Of servers that complete text. */
const completionOnly = [
  ...oneAnswer,
  ...all(["tools", "tool_choice", "reasoning", "service_tier"], "unsupported", "the server only completes text"),
];

const generated = [
  ...completionOnly,
  ...all(["presence_penalty", "logit_bias"], "unsupported", "the API has no such parameter"),
  ...all(["temperature", "top_p"], "emulated", "0 is no sampling"),
  ...all(["response_format.json_object", "response_format.json_schema"], "emulated", "a grammar made of the schema"),
];

/** Of OpenAI's newer API, wherever it is served. */
const responsesApi = {
  dialect: "responses",
  maxTokensField: "max_tokens",
  developerRole: true,
  streamUsage: true,
  capabilities: [
    ...oneAnswer,
    ...all(
      ["stop", "seed", "top_k", "presence_penalty", "frequency_penalty", "logit_bias"],
      "unsupported",
      "the API has no such parameter",
    ),
    ...all(["max_output_tokens"], "emulated", "a limit below 16 tokens is sent as 16"),
    ...openAiModels.filter(({ parameter }) => ["temperature", "top_p", "logprobs"].includes(parameter)),
    ...noVectors,
  ],
  modelPatterns: [],
} as const;

const azureScope = "https://cognitiveservices.azure.com/.default";

const azureOpenAi = {
  dialect: "openai",
  endpoint: "",
  keyVariable: "AZURE_OPENAI_API_KEY",
  ...apiKey,
  entraScope: azureScope,
  maxTokensField: "max_completion_tokens",
  developerRole: true,
  streamUsage: true,
  capabilities: openAiModels,
  modelPatterns: [],
} as const;
/** Of the hosts that serve the format's own models. */
const azureVectors = { thinking: "none", base64Vectors: true, textModels: openAiTextModels } as const;

/** The address of a provider: what policy gives, or the row's own in a region; empty if one of the two is wanting. */
export function endpointOf(row: ProviderRow, given: string, region: string): string {
  if (given !== "") return given;
  return region === "" && row.endpoint.includes("{region}") ? "" : row.endpoint.replace("{region}", region);
}

/** Of Gemini's models, at either place. The dialect's own table says what single models take. */
const geminiModels: readonly Capability[] = [
  ...all(["logit_bias", "service_tier"], "unsupported", "the API has no such parameter"),
  ...all(["parallel_tool_calls"], "unsupported", "the model decides how many tools it calls at once"),
  ...all(["reasoning"], "emulated", "by a word or a number of tokens, whichever the model takes"),
  ...["*gemini-1.*", "*gemini-2.0*"].flatMap((models) =>
    all(["response_format.json_schema"], "emulated", "a subset of JSON Schema", models),
  ),
];

/** The row that a provider's dialect names, or the one that is meant where it names none. */
export function rowNameOf(dialect: { readonly case: string; readonly value: { readonly row: string; readonly vertex?: unknown } }): string {
  return dialect.value.row || (dialect.value.vertex === undefined ? (usualRows[dialect.case] ?? dialect.case) : "vertex");
}

/** The usual rows of dialects whose own name is that of a row in another one. */
const usualRows: Readonly<Record<string, string>> = Object.freeze({
  huggingface: "tgi-native",
  ollama: "ollama-native",
  responses: "openai-responses",
});

/** The rows, by name. */
export const providerRows: Readonly<Record<string, ProviderRow>> = Object.freeze({
  openai: {
    dialect: "openai",
    endpoint: "https://api.openai.com/v1",
    keyVariable: "OPENAI_API_KEY",
    ...bearer,
    maxTokensField: "max_completion_tokens",
    developerRole: true,
    streamUsage: true,
    openai: { thinking: "none", base64Vectors: true, textModels: openAiTextModels },
    capabilities: openAiModels,
    modelPatterns: ["gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "text-embedding-*"],
  },
  // Without a variable: the key is that of the row above, of which a provider is made where nobody asks for this API.
  "openai-responses": { ...responsesApi, ...bearer, endpoint: "https://api.openai.com/v1", keyVariable: undefined },
  anthropic: {
    dialect: "anthropic",
    endpoint: "https://api.anthropic.com",
    keyVariable: "ANTHROPIC_API_KEY",
    keyHeader: "x-api-key",
    keyPrefix: "",
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    capabilities: [
      ...turnsOnly,
      ...all(["max_output_tokens"], "emulated", "4096 where no other number is said, since the API wants one"),
      ...all(["user"], "mapped", "metadata.user_id"),
    ],
    modelPatterns: ["claude-*"],
  },
  bedrock: {
    dialect: "bedrock",
    endpoint: "https://bedrock-runtime.{region}.amazonaws.com",
    // Its users' variable holds a key for one region, which no variable names for sure, so no provider can be made of it unasked.
    keyVariable: undefined,
    ...bearer,
    signingService: "bedrock",
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    capabilities: turnsOnly,
    modelPatterns: [],
  },
  gemini: {
    dialect: "gemini",
    endpoint: "https://generativelanguage.googleapis.com",
    keyVariable: "GEMINI_API_KEY",
    // Never as a query parameter, which ends up in logs.
    keyHeader: "x-goog-api-key",
    keyPrefix: "",
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    capabilities: [...geminiModels, ...all(["user"], "unsupported", "the API has no such parameter")],
    modelPatterns: ["gemini-*"],
  },
  vertex: {
    dialect: "gemini",
    // The global location's; others have hosts of their own, which policy's location leads to.
    endpoint: "https://aiplatform.googleapis.com",
    keyVariable: undefined,
    ...bearer,
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    capabilities: [...geminiModels, ...all(["user"], "mapped", "a label, where it fits one")],
    modelPatterns: [],
  },
  cohere: {
    dialect: "cohere",
    endpoint: "https://api.cohere.com",
    keyVariable: "CO_API_KEY",
    ...bearer,
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    capabilities: [
      ...oneAnswer,
      ...all(["logit_bias", "user"], "unsupported", "the API has no such parameter"),
      ...all(["parallel_tool_calls"], "unsupported", "the model decides how many tools it calls at once"),
      ...all(["tool_choice"], "emulated", "to name a tool, it alone is offered"),
      ...all(["reasoning"], "emulated", "by a number of tokens"),
      ...all(["top_p"], "emulated", "as p, from 0.01 to 0.99"),
    ],
    modelPatterns: ["command-*", "c4ai-*"],
  },
  compatible: {
    ...compatible,
    endpoint: "",
    keyVariable: undefined,
    modelPatterns: [],
  },
  // Deployments: the path names the deployment. Asking for usage in streams needs a version of the API from 2024-09-01-preview on.
  azure: {
    ...azureOpenAi,
    openai: { pathPrefix: "/openai/deployments/{model}", query: { "api-version": "2024-10-21" }, ...azureVectors },
  },
  // The address without versions, on the same hosts: the model is the deployment.
  "azure-v1": { ...azureOpenAi, openai: { pathPrefix: "/openai/v1", ...azureVectors } },
  "azure-responses": {
    ...responsesApi,
    ...apiKey,
    entraScope: azureScope,
    endpoint: "",
    keyVariable: "AZURE_OPENAI_API_KEY",
    responses: { pathPrefix: "/openai/v1" },
  },
  // Models of every maker. The server refuses members that it does not know, unless a header says otherwise.
  "azure-models": {
    ...azureOpenAi,
    maxTokensField: "max_tokens",
    developerRole: false,
    openai: { pathPrefix: "/models", query: { "api-version": "2024-05-01-preview" }, thinking: "none" },
  },
  mistral: {
    ...compatible,
    endpoint: "https://api.mistral.ai/v1",
    keyVariable: "MISTRAL_API_KEY",
    // Usage comes in every stream, and the question is refused.
    streamUsage: false,
    openai: {
      strictMembers: true,
      requiredWord: "any",
      toolCallIdLength: 9,
      userAfterTool: false,
      thinking: "parts",
      seedField: "random_seed",
      dimensionsField: "output_dimension",
      reasoningEfforts: ["none", "high"],
    },
    capabilities: [
      ...all(["logprobs", "logit_bias", "user", "service_tier"], "unsupported", "the API has no such parameter"),
      ...all(["top_k"], "unsupported", "the API has no such parameter"),
      ...all(["seed"], "mapped", "random_seed"),
      ...all(["reasoning"], "emulated", "none or high, whichever is nearer"),
      ...all(["safe_prompt", "prompt_mode", "prompt_cache_key", "prediction", "messages[].prefix"], "mapped", ""),
      ...textVectors,
      ...all(["embeddings.dimensions"], "mapped", "output_dimension", "codestral-embed*"),
      ...all(["embeddings.dimensions"], "unsupported", "its vectors have one length"),
      ...all(["embeddings.user"], "unsupported", "the API has no such parameter"),
      ...all(["embeddings.output_dtype", "embeddings.encoding_format"], "mapped", ""),
    ],
    modelPatterns: ["mistral-*", "ministral-*", "codestral-*", "magistral-*", "devstral-*", "pixtral-*", "open-mistral-*"],
  },
  huggingface: {
    ...compatible,
    endpoint: "https://router.huggingface.co/v1",
    keyVariable: "HF_TOKEN",
    // Whoever answers, answers in its own way: what only some of them take is not sent.
    openai: { thinking: "none" },
    capabilities: noVectors,
    modelPatterns: [],
  },
  tgi: {
    ...compatible,
    endpoint: "",
    keyVariable: undefined,
    openai: { thinking: "none", wholeTopP: false, jsonForm: "value", textModels: ["*"] },
    capabilities: [
      ...oneAnswer,
      ...all(["logit_bias", "reasoning", "parallel_tool_calls"], "unsupported", "the server ignores it"),
      ...all(["response_format.json_object", "response_format.json_schema"], "emulated", "a grammar made of the schema"),
      ...noVectors,
    ],
    modelPatterns: [],
  },
  // A server of embedding models alone; a larger batch is refused unless its operator allows more.
  tei: { ...engine, endpoint: "", openai: {}, embeddingInputs: 32 },
  vllm: { ...engine, endpoint: "" },
  sglang: { ...engine, endpoint: "" },
  llamacpp: { ...engine, endpoint: "", capabilities: oneAnswer },
  gpustack: { ...engine, endpoint: "", keyVariable: "GPUSTACK_API_KEY" },
  lmstudio: { ...engine, endpoint: "http://127.0.0.1:1234/v1", capabilities: oneAnswer },
  ollama: {
    ...compatible,
    endpoint: "http://127.0.0.1:11434/v1",
    keyVariable: undefined,
    openai: { thinking: "reasoning", toolChoice: "none", freeToolNames: true, textModels: ["*"] },
    capabilities: [
      ...oneAnswer,
      ...textVectors,
      ...all(["logit_bias", "parallel_tool_calls"], "unsupported", "the server ignores it"),
      ...all(["tool_choice"], "emulated", "none offers no tools; that one must be called cannot be said"),
    ],
    modelPatterns: [],
  },
  "ollama-native": {
    dialect: "ollama",
    ...native,
    endpoint: "http://127.0.0.1:11434",
    keyVariable: undefined,
    // The server loads a model when the first call for it comes, and gives up on that after five minutes itself.
    firstContentMs: 300_000,
    capabilities: [
      ...oneAnswer,
      ...all(["logit_bias", "logprobs", "service_tier"], "unsupported", "the API has no such parameter"),
      ...all(["tool_choice"], "emulated", "none offers no tools; that one must be called cannot be said"),
      ...all(["reasoning"], "emulated", "a switch or one of three words, by model"),
    ],
  },
  "tgi-native": { dialect: "huggingface", ...native, endpoint: "", keyVariable: undefined, capabilities: generated },
  // No variable although there is one by custom: without a prompt format a key alone makes no provider.
  "huggingface-native": {
    dialect: "huggingface",
    ...native,
    endpoint: "https://router.huggingface.co/hf-inference",
    keyVariable: undefined,
    modelInPath: true,
    capabilities: generated,
  },
  llama: {
    dialect: "llama",
    ...native,
    endpoint: "",
    keyVariable: undefined,
    capabilities: [
      ...completionOnly,
      ...all(["response_format.json_object", "response_format.json_schema", "logprobs"], "unsupported", "the server only completes text"),
    ],
  },
  groq: {
    ...compatible,
    endpoint: "https://api.groq.com/openai/v1",
    keyVariable: "GROQ_API_KEY",
    openai: { thinking: "reasoning" },
    capabilities: [...oneAnswer, ...all(["logprobs", "logit_bias"], "unsupported", "the API has no such parameter"), ...noVectors],
    modelPatterns: [],
  },
  deepseek: {
    ...compatible,
    endpoint: "https://api.deepseek.com/v1",
    keyVariable: "DEEPSEEK_API_KEY",
    capabilities: noVectors,
    modelPatterns: ["deepseek-*"],
  },
  xai: {
    ...compatible,
    endpoint: "https://api.x.ai/v1",
    keyVariable: "XAI_API_KEY",
    capabilities: [
      ...noVectors,
      ...all(["stop", "presence_penalty", "frequency_penalty"], "mapped", "", "*non-reasoning*"),
      ...all(["stop", "presence_penalty", "frequency_penalty"], "unsupported", noSampling, "grok-4*"),
    ],
    modelPatterns: ["grok-*"],
  },
  openrouter: {
    ...compatible,
    endpoint: "https://openrouter.ai/api/v1",
    keyVariable: "OPENROUTER_API_KEY",
    openai: { thinking: "reasoning", cacheMarkers: true, topK: true },
    capabilities: textVectors,
    modelPatterns: [],
  },
  together: {
    ...compatible,
    endpoint: "https://api.together.xyz/v1",
    keyVariable: "TOGETHER_API_KEY",
    openai: { topK: true, textModels: ["*"] },
    capabilities: textVectors,
    modelPatterns: [],
  },
});
