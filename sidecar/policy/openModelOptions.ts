/** What policy says of servers of open models, as their dialects take it. Whatever names no prompt format is refused before it comes here. */
import {
  type HuggingFaceDialect,
  type LlamaDialect,
  LlamaForm as LlamaFormNumber,
  type OllamaDialect,
  OllamaThinking,
  PromptFormat as PromptFormatNumber,
} from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { HuggingFaceOptions } from "../dialects/huggingface/huggingface.ts";
import type { LlamaForm, LlamaOptions } from "../dialects/llama/llama.ts";
import type { OllamaModelRow, OllamaOptions } from "../dialects/ollama/ollama.ts";
import type { PromptFormat } from "../dialects/rawPrompt.ts";

/** The options of the client half of Ollama's dialect. */
export function ollamaOptions({ contextTokens, keepAlive, oneVectorAtOnce, models }: OllamaDialect): OllamaOptions {
  return {
    contextTokens: Number(contextTokens) || undefined,
    keepAlive: keepAlive || undefined,
    oneVectorAtOnce,
    models: models.map(
      (model): OllamaModelRow => ({
        pattern: model.pattern,
        thinking: thinkingWays[model.thinking],
        contextTokens: Number(model.contextTokens) || undefined,
      }),
    ),
  };
}

/** The options of the client half of Text Generation Inference's dialect, or undefined where policy names no prompt format. */
export function huggingFaceOptions(
  { promptFormat, defaultMaxTokens, modelInPath }: HuggingFaceDialect,
  row: { readonly modelInPath?: boolean },
): HuggingFaceOptions | undefined {
  const format = promptFormats[promptFormat];
  if (format === undefined) return undefined;
  return {
    // The server adds the beginning itself.
    prompt: { format, beginning: false },
    // Without one the server has its own; this is an answer of some pages, which every server can give.
    defaultMaxTokens: defaultMaxTokens || 1024n,
    modelInPath: modelInPath ?? row.modelInPath ?? false,
  };
}

/** The options of the client half of the dialect of completion-only servers, or undefined where policy names no form or prompt format. */
export function llamaOptions({
  form: formNumber,
  promptFormat,
  beginning,
  path,
  defaultMaxTokens,
}: LlamaDialect): LlamaOptions | undefined {
  const form = forms[formNumber];
  const format = promptFormats[promptFormat];
  if (form === undefined || format === undefined) return undefined;
  return {
    form,
    path: path || usualPaths[form],
    prompt: { format, beginning: beginning ?? form !== "completion" },
    defaultMaxTokens: defaultMaxTokens || undefined,
  };
}

const thinkingWays: Readonly<Record<number, "switch" | "words" | "none">> = {
  [OllamaThinking.SWITCH]: "switch",
  [OllamaThinking.WORDS]: "words",
  [OllamaThinking.NONE]: "none",
};

const promptFormats: Readonly<Record<number, PromptFormat>> = {
  [PromptFormatNumber.LLAMA2]: "llama2",
  [PromptFormatNumber.LLAMA3]: "llama3",
  [PromptFormatNumber.CHATML]: "chatml",
  [PromptFormatNumber.PLAIN]: "plain",
};

const forms: Readonly<Record<number, LlamaForm>> = {
  [LlamaFormNumber.INPUTS]: "inputs",
  [LlamaFormNumber.COMPLETION]: "completion",
  [LlamaFormNumber.GENERATION]: "generation",
};

const usualPaths: Readonly<Record<LlamaForm, string>> = {
  inputs: "/generate",
  completion: "/completion",
  generation: "/model/{model}/invoke",
};
