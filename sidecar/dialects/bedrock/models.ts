/**
 * What is particular to single models behind the Converse API, as data. The API is one; what it may be asked for is each model's own.
 *
 * The rows age with every model that comes out, so an operator can put rows of their own before them. A family's members that no row
 * knows are taken to behave like its newest ones.
 */
import { matcher } from "../../../proto/pattern.ts";
import { onceForModel } from "../onceForModel.ts";

/**
 * How a model is asked to think: by a number of tokens, adaptively by a word of effort, by the word of effort that one vendor's models
 * take (`reasoningConfig`), by the word that others take (`reasoning_effort`), or not at all.
 */
export type ReasoningWay = "budget" | "adaptive" | "config" | "effort" | "none";

/** All that is particular to one model. */
export interface BedrockModel {
  /** Whether it takes instructions apart from the turns. */
  readonly system: boolean;
  readonly tools: boolean;
  /** Whether it can be made to call some tool, or even one by name. */
  readonly toolChoice: "auto" | "any" | "tool";
  /** Whether ids of tool calls must be nine letters and digits. */
  readonly nineCharacterIds: boolean;
  readonly strictTools: boolean;
  readonly reasoning: ReasoningWay;
  /** How an answer by JSON schema is asked for: by the member `outputConfig`, by a tool that must be called, or not at all. */
  readonly jsonSchema: "output_config" | "tool" | "none";
  /** Under which name among the additional fields top_k goes, as a path with dots; empty if the model has no such parameter. */
  readonly topK: string;
  /** Whether it takes cache markers. */
  readonly cache: boolean;
  /** Whether temperature and top_p may be sent. */
  readonly sampling: boolean;
  /** Whether temperature and top_p may be sent in one request. */
  readonly samplingPair: boolean;
  /** The most tokens that the model can answer with; 0 where that is not known. */
  readonly maxOutputTokens: number;
}

/** What must be known of a model that makes vectors, of which every maker's have a body of their own. */
export interface VectorModel {
  /** The form of the body, by its member for the text: one text, a list of them, or one inside of parameters. */
  readonly form: "inputText" | "texts" | "singleEmbeddingParams";
  /** Whether the length of vectors can be chosen. */
  readonly dimensions: boolean;
}

/** Looks up a model that makes vectors; undefined for one that is not known to. */
export function vectorModel(model: string): VectorModel | undefined {
  return vectorModels.find(({ pattern }) => matcher(pattern)(model));
}

const vectorModels: readonly (VectorModel & { readonly pattern: string })[] = [
  { pattern: "*titan-embed-text-v1*", form: "inputText", dimensions: false },
  { pattern: "*titan-embed-g1*", form: "inputText", dimensions: false },
  { pattern: "*titan-embed-text*", form: "inputText", dimensions: true },
  { pattern: "*cohere.embed-v4*", form: "texts", dimensions: true },
  { pattern: "*cohere.embed*", form: "texts", dimensions: false },
  { pattern: "*nova-*-embeddings*", form: "singleEmbeddingParams", dimensions: true },
];

/** One row. What it leaves out, a later row that fits decides. */
export type BedrockModelRow = { readonly [Key in keyof BedrockModel]?: BedrockModel[Key] | undefined } & {
  /** Which models: a name in which `*` stands for anything. */
  readonly pattern: string;
};

/** Looks models up in an operator's rows first and in the built-in rows then. */
export function modelTable(operatorRows: readonly BedrockModelRow[]): (model: string) => BedrockModel {
  const rows = [...operatorRows, ...builtInModels].map((row) => ({ row, fits: matcher(row.pattern) }));
  return onceForModel(function modelOf(model) {
    const fitting = rows.filter(({ fits }) => fits(model));
    const first = <Key extends keyof BedrockModel>(key: Key): BedrockModel[Key] =>
      (fitting.find(({ row }) => row[key] !== undefined)?.row as BedrockModel | undefined)?.[key] ?? unknownModel[key];
    return {
      system: first("system"),
      tools: first("tools"),
      toolChoice: first("toolChoice"),
      nineCharacterIds: first("nineCharacterIds"),
      strictTools: first("strictTools"),
      reasoning: first("reasoning"),
      jsonSchema: first("jsonSchema"),
      topK: first("topK"),
      cache: first("cache"),
      sampling: first("sampling"),
      samplingPair: first("samplingPair"),
      maxOutputTokens: first("maxOutputTokens"),
    };
  });
}

/** Models that no row knows: what most of them can do, and nothing that only some can. */
const unknownModel: BedrockModel = Object.freeze({
  system: true,
  tools: true,
  toolChoice: "any",
  nineCharacterIds: false,
  strictTools: false,
  reasoning: "none",
  jsonSchema: "tool",
  topK: "",
  cache: false,
  sampling: true,
  samplingPair: true,
  maxOutputTokens: 0,
});

/** Said in every row of the family, since what a row leaves out the last and newest one decides. */
const claude = { toolChoice: "tool", topK: "top_k", cache: true, strictTools: false, sampling: true, samplingPair: true } as const;
const early = { ...claude, reasoning: "none", jsonSchema: "tool" } as const;
const budgeted = { ...claude, reasoning: "budget", jsonSchema: "tool" } as const;
const structured = { ...claude, reasoning: "budget", jsonSchema: "output_config", strictTools: true, samplingPair: false } as const;
const adaptive = { ...structured, reasoning: "adaptive" } as const;
const openWeights = { reasoning: "effort", jsonSchema: "output_config", toolChoice: "auto" } as const;

/** The rows that Outrigger knows. The patterns begin with `*` since a region, or a whole resource name, may stand before a model's. */
export const builtInModels: readonly BedrockModelRow[] = Object.freeze<BedrockModelRow[]>([
  { pattern: "*claude-3-5-*", ...early, maxOutputTokens: 8192 },
  { pattern: "*claude-3-7-*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-3-*", ...early, maxOutputTokens: 4096 },
  { pattern: "*claude-v2*", ...early, tools: false, maxOutputTokens: 4096 },
  { pattern: "*claude-instant*", ...early, tools: false, system: false, maxOutputTokens: 4096 },
  { pattern: "*claude-sonnet-4-2025*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-2025*", ...budgeted, maxOutputTokens: 32_000 },
  { pattern: "*claude-opus-4-1*", ...budgeted, samplingPair: false, maxOutputTokens: 32_000 },
  { pattern: "*claude-sonnet-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-haiku-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-6*", ...adaptive, maxOutputTokens: 128_000 },
  { pattern: "*claude-sonnet-4-6*", ...adaptive, maxOutputTokens: 64_000 },
  { pattern: "*claude-*", ...adaptive, sampling: false },
  { pattern: "*amazon.nova-2-*", toolChoice: "tool", reasoning: "config", topK: "inferenceConfig.topK", cache: true },
  { pattern: "*amazon.nova-*", toolChoice: "tool", reasoning: "none", topK: "inferenceConfig.topK", cache: true },
  { pattern: "*amazon.titan-*", system: false, tools: false, jsonSchema: "none" },
  { pattern: "*meta.llama2*", tools: false, jsonSchema: "none" },
  { pattern: "*meta.llama*", toolChoice: "auto", jsonSchema: "none" },
  { pattern: "*mistral.mistral-7b*", system: false, tools: false, jsonSchema: "none", topK: "top_k" },
  { pattern: "*mistral.mixtral*", system: false, tools: false, jsonSchema: "none", topK: "top_k" },
  { pattern: "*mistral.*", toolChoice: "any", nineCharacterIds: true, topK: "top_k" },
  { pattern: "*cohere.command-r*", toolChoice: "auto", jsonSchema: "none", topK: "k" },
  { pattern: "*deepseek.r1*", tools: false, jsonSchema: "none", reasoning: "none" },
  { pattern: "*openai.gpt-oss*", ...openWeights },
  { pattern: "*deepseek.*", ...openWeights },
  { pattern: "*qwen.*", ...openWeights, reasoning: "none" },
]);
