/**
 * What is particular to single models of the Cohere dialect, as data.
 *
 * The rows age with every model that comes out, so an operator can put rows of their own before them. A model that no row knows is taken
 * to be able to do everything: what it refuses, the provider says.
 */
import { matcher } from "../../../proto/pattern.ts";
import { onceForModel } from "../onceForModel.ts";

/** One row. What it leaves out, a later row that fits decides. */
export interface CohereModelRow {
  /** Which models: a name in which `*` stands for anything. */
  readonly pattern: string;
  /** Whether it thinks when it is asked to. */
  readonly thinking?: boolean | undefined;
  /** Whether it looks at pictures. */
  readonly images?: boolean | undefined;
  /** Whether it can be told to call a tool, or not to. */
  readonly toolChoice?: boolean | undefined;
}

/** All that is particular to one model. */
export interface CohereModel {
  readonly thinking: boolean;
  readonly images: boolean;
  readonly toolChoice: boolean;
}

/** Looks models up in an operator's rows first and in the built-in rows then. */
export function modelTable(operatorRows: readonly CohereModelRow[]): (model: string) => CohereModel {
  const rows = [...operatorRows, ...builtInModels].map((row) => ({ row, fits: matcher(row.pattern) }));
  return onceForModel(function modelOf(model) {
    const fitting = rows.filter(({ fits }) => fits(model));
    const first = (key: keyof CohereModel): boolean => fitting.find(({ row }) => row[key] !== undefined)?.row[key] ?? true;
    return { thinking: first("thinking"), images: first("images"), toolChoice: first("toolChoice") };
  });
}

/** The rows that Outrigger knows; models that are not named here are newer, or another maker's. */
const builtInModels: readonly CohereModelRow[] = Object.freeze([
  { pattern: "*command-a-reasoning*", images: false },
  { pattern: "*command-a-vision*", thinking: false },
  { pattern: "*command-a-translate*", thinking: false, images: false },
  { pattern: "*command-a-03-2025*", thinking: false, images: false },
  { pattern: "*command-r7b*", thinking: false, images: false },
  // https://docs.cohere.com/reference/chat: the choice of tools came with the model above.
  { pattern: "*command-r*", thinking: false, images: false, toolChoice: false },
]);
