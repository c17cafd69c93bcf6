/** What single models of this dialect can be asked; operators put rows of their own before the built-in ones. */
import { matcher } from "../../../proto/pattern.ts";

/** What is particular to the models that a pattern fits; undefined leaves it to the next row. */
export interface OllamaModelRow {
  /** A model's name in which `*` stands for anything. */
  readonly pattern: string;
  /** How thinking is asked for: switched on and off, by a word of effort, or not at all. */
  readonly thinking: "switch" | "words" | "none" | undefined;
  /** The context window in tokens. */
  readonly contextTokens: number | undefined;
}

/** What holds for one model. */
export interface OllamaModel {
  readonly thinking: "switch" | "words" | "none";
  readonly contextTokens: number | undefined;
}

/** Makes the lookup of models: for each property the first row that fits the name and says something holds. */
export function modelTraits(operatorRows: readonly OllamaModelRow[]): (model: string) => OllamaModel {
  const rows = [...operatorRows, ...builtInModels].map((row) => ({ row, fits: matcher(row.pattern) }));
  return (model) => {
    const fitting = rows.filter(({ fits }) => fits(model)).map(({ row }) => row);
    return {
      // What nobody knows is taken for the newest kind, which can be switched.
      thinking: fitting.find(({ thinking }) => thinking !== undefined)?.thinking ?? "switch",
      contextTokens: fitting.find(({ contextTokens }) => contextTokens !== undefined)?.contextTokens,
    };
  };
}

/** A vendor's name can stand before the model's, and a size or a label behind it. */
const builtInModels: readonly OllamaModelRow[] = [{ pattern: "*gpt-oss*", thinking: "words", contextTokens: undefined }];
