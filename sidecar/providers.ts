/**
 * The table of providers: what is particular to each endpoint that the world knows by name.
 *
 * This is the one place outside a dialect's own folder where a provider's name may stand. Everything else asks what an endpoint can
 * do, never who it is. Policy can override every property here.
 */

/** What is known of an endpoint. */
export interface ProviderRow {
  /** The dialect it speaks. */
  readonly dialect: "openai" | "anthropic";
  /** The address before the dialect's own paths. */
  readonly endpoint: string;
  /** The environment variable in which its users keep their key by custom, or undefined where there is none. */
  readonly keyVariable: string | undefined;
  /** The header that carries the key, and what stands before the key in it. */
  readonly keyHeader: string;
  readonly keyPrefix: string;
  /** Of the OpenAI dialect: the field that limits the answer. */
  readonly maxTokensField: "max_completion_tokens" | "max_tokens";
  /** Of the OpenAI dialect: whether the developer role is known. */
  readonly developerRole: boolean;
  /** Of the OpenAI dialect: whether usage in streams can be asked for. */
  readonly streamUsage: boolean;
  /** Model names by which the endpoint can be recognised, for routes that are made without a policy. */
  readonly modelPatterns: readonly string[];
}

const bearer = { keyHeader: "authorization", keyPrefix: "Bearer " } as const;
const compatible = { dialect: "openai", ...bearer, maxTokensField: "max_tokens", developerRole: false, streamUsage: true } as const;

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
    modelPatterns: ["gpt-*", "o1*", "o3*", "o4*", "chatgpt-*"],
  },
  anthropic: {
    dialect: "anthropic",
    endpoint: "https://api.anthropic.com",
    keyVariable: "ANTHROPIC_API_KEY",
    keyHeader: "x-api-key",
    keyPrefix: "",
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: true,
    modelPatterns: ["claude-*"],
  },
  compatible: {
    ...compatible,
    endpoint: "",
    keyVariable: undefined,
    modelPatterns: [],
  },
  ollama: {
    ...compatible,
    endpoint: "http://127.0.0.1:11434/v1",
    keyVariable: undefined,
    modelPatterns: [],
  },
  groq: { ...compatible, endpoint: "https://api.groq.com/openai/v1", keyVariable: "GROQ_API_KEY", modelPatterns: [] },
  deepseek: { ...compatible, endpoint: "https://api.deepseek.com/v1", keyVariable: "DEEPSEEK_API_KEY", modelPatterns: ["deepseek-*"] },
  xai: { ...compatible, endpoint: "https://api.x.ai/v1", keyVariable: "XAI_API_KEY", modelPatterns: ["grok-*"] },
  openrouter: { ...compatible, endpoint: "https://openrouter.ai/api/v1", keyVariable: "OPENROUTER_API_KEY", modelPatterns: [] },
  together: { ...compatible, endpoint: "https://api.together.xyz/v1", keyVariable: "TOGETHER_API_KEY", modelPatterns: [] },
});
