/**
 * What is particular to single models of this API, as data. An operator can put rows of their own before these. A model that no row knows
 * is taken to behave like the newest ones, which think.
 */
import { matcher } from "../../../proto/pattern.ts";

/** One row. */
export interface ResponsesModelRow {
  /** Which models: a name in which `*` stands for anything. */
  readonly pattern: string;
  /** Whether thinking comes back sealed if asked for; models that do not think refuse the question. */
  readonly sealedThinking?: boolean | undefined;
}

/** Makes what tells whether a model can be asked for sealed thinking. `own` are an operator's rows. */
export function sealedThinkingOf(own: readonly ResponsesModelRow[]): (model: string) => boolean {
  const rows = [...own, ...builtIn].map(({ pattern, sealedThinking }) => ({ fits: matcher(pattern), sealedThinking }));
  return (model) => rows.find(({ fits, sealedThinking }) => sealedThinking !== undefined && fits(model))?.sealedThinking ?? true;
}

const builtIn: readonly ResponsesModelRow[] = ["gpt-3.5*", "gpt-4*", "chatgpt-*", "gpt-5*-chat*"].map((pattern) => ({
  pattern,
  sealedThinking: false,
}));
