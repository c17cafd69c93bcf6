/**
 * What is particular to single models of the Anthropic dialect, as data.
 *
 * The rows age with every model that comes out, so an operator can put rows of their own before them. A family's members that no row
 * knows are taken to behave like its newest ones: yesterday's rules are the ones that tomorrow's models drop.
 */

import { matcher } from "../../../proto/pattern.ts";
import { onceForModel } from "../onceForModel.ts";

/** One row. What it leaves out, a later row that fits decides. */
export interface AnthropicModelRow {
  /** Which models: a name in which `*` stands for anything. */
  readonly pattern: string;
  /** How thinking is asked for: by a number of tokens, by a word of effort, or not at all. */
  readonly thinking?: "budget" | "adaptive" | "none" | undefined;
  /** How an answer by JSON schema is asked for: by the member `output_config`, or by a tool that must be called. */
  readonly jsonSchema?: "output_config" | "tool" | undefined;
  /** Whether temperature, top_p and top_k may be sent. */
  readonly sampling?: boolean | undefined;
  /** Whether temperature and top_p may be sent in one request. */
  readonly samplingPair?: boolean | undefined;
  /** The most tokens that the model can answer with; 0 where that is not known. */
  readonly maxOutputTokens?: number | undefined;
}

/** All that is particular to one model. */
export interface AnthropicModel {
  readonly thinking: "budget" | "adaptive" | "none";
  readonly jsonSchema: "output_config" | "tool";
  readonly sampling: boolean;
  readonly samplingPair: boolean;
  readonly maxOutputTokens: number;
}

/** Looks models up in an operator's rows first and in the built-in rows then. */
export function modelTable(operatorRows: readonly AnthropicModelRow[]): (model: string) => AnthropicModel {
  const rows = [...operatorRows, ...builtInModels].map((row) => ({ row, fits: matcher(row.pattern) }));
  return onceForModel(function modelOf(model) {
    const fitting = rows.filter(({ fits }) => fits(model));
    const first = <Key extends keyof AnthropicModel>(key: Key): AnthropicModel[Key] =>
      (fitting.find(({ row }) => row[key] !== undefined)?.row as AnthropicModel | undefined)?.[key] ?? unknownModel[key];
    return {
      thinking: first("thinking"),
      jsonSchema: first("jsonSchema"),
      sampling: first("sampling"),
      samplingPair: first("samplingPair"),
      maxOutputTokens: first("maxOutputTokens"),
    };
  });
}

const early = { thinking: "none", jsonSchema: "tool", sampling: true, samplingPair: true } as const;
const budgeted = { thinking: "budget", jsonSchema: "tool", sampling: true, samplingPair: true } as const;
const structured = { thinking: "budget", jsonSchema: "output_config", sampling: true, samplingPair: false } as const;
const adaptive = { thinking: "adaptive", jsonSchema: "output_config", sampling: true, samplingPair: false } as const;
const newest = { thinking: "adaptive", jsonSchema: "output_config", sampling: false, samplingPair: false, maxOutputTokens: 0 } as const;

/** The rows that Outrigger knows. The pattern begins with `*` since some endpoints put a vendor or a region before the name. */
export const builtInModels: readonly AnthropicModelRow[] = Object.freeze([
  { pattern: "*claude-3-5-*", ...early, maxOutputTokens: 8192 },
  { pattern: "*claude-3-7-*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-3-*", ...early, maxOutputTokens: 4096 },
  { pattern: "*claude-sonnet-4-0*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-sonnet-4-2025*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-sonnet-4@*", ...budgeted, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-0*", ...budgeted, maxOutputTokens: 32_000 },
  { pattern: "*claude-opus-4-2025*", ...budgeted, maxOutputTokens: 32_000 },
  { pattern: "*claude-opus-4@*", ...budgeted, maxOutputTokens: 32_000 },
  { pattern: "*claude-opus-4-1*", ...budgeted, samplingPair: false, maxOutputTokens: 32_000 },
  { pattern: "*claude-sonnet-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-haiku-4-5*", ...structured, maxOutputTokens: 64_000 },
  { pattern: "*claude-opus-4-6*", ...adaptive, maxOutputTokens: 128_000 },
  { pattern: "*claude-sonnet-4-6*", ...adaptive, maxOutputTokens: 64_000 },
  { pattern: "*claude-*", ...newest },
]);

/** Models of other makers behind endpoints that speak this dialect: they know its oldest forms best. */
const unknownModel: AnthropicModel = { ...budgeted, maxOutputTokens: 0 };
