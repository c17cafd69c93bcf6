/**
 * What is particular to single models of the Gemini dialect, as data.
 *
 * The rows age with every model that comes out, so an operator can put rows of their own before them. A model that no row knows is taken
 * to behave like the newest ones: yesterday's rules are the ones that tomorrow's models drop.
 */
import { matcher } from "../../../proto/pattern.ts";
import { onceForModel } from "../onceForModel.ts";

/** All that is particular to one model. */
export interface GeminiModel {
  /** How thinking is asked for: by a number of tokens, by a word, or not at all. */
  readonly thinking: "budget" | "level" | "none";
  /** The words of thinking that the model takes, the least first. */
  readonly levels: readonly string[];
  /** The fewest and the most tokens that the model can be told to think with. */
  readonly budgetMin: number;
  readonly budgetMax: number;
  /** Whether thinking by a number can be switched off. */
  readonly budgetOff: boolean;
  /** How schemas are written: as they came, or in the subset of OpenAPI that older models take. */
  readonly schemas: "json" | "subset";
  /** Whether an answer by schema and tools may be asked for in one request. */
  readonly schemaWithTools: boolean;
  /** Whether a function call without its thought signature is refused. */
  readonly signedCalls: boolean;
  /** Whether what tools returned stands in a turn of its own, with pictures inside; otherwise these stand beside it in the same turn. */
  readonly resultsApart: boolean;
  /** Whether the provider fetches what stands at a public address. */
  readonly fetches: boolean;
}

/** Whether a model in a project makes vectors by predicting, many at once; newer ones embed one content in a request. */
export function predictsVectors(model: string): boolean {
  return !/(^|\/)gemini-embedding/.test(model);
}

/** One row. What it leaves out, a later row that fits decides. */
export type GeminiModelRow = { /** Which models: a name in which `*` stands for anything. */ readonly pattern: string } & {
  readonly [Trait in keyof GeminiModel]?: GeminiModel[Trait] | undefined;
};

/** Looks models up in an operator's rows first and in the built-in rows then. */
export function modelTable(operatorRows: readonly GeminiModelRow[]): (model: string) => GeminiModel {
  const rows = [...operatorRows, ...builtInModels].map((row) => ({ row, fits: matcher(row.pattern) }));
  return onceForModel(function modelOf(model) {
    const fitting = rows.filter(({ fits }) => fits(model));
    const first = <Trait extends keyof GeminiModel>(trait: Trait): GeminiModel[Trait] => {
      for (const { row } of fitting) {
        const value = (row as Partial<GeminiModel>)[trait];
        if (value !== undefined) return value;
      }
      return newest[trait];
    };
    return {
      thinking: first("thinking"),
      levels: first("levels"),
      budgetMin: first("budgetMin"),
      budgetMax: first("budgetMax"),
      budgetOff: first("budgetOff"),
      schemas: first("schemas"),
      schemaWithTools: first("schemaWithTools"),
      signedCalls: first("signedCalls"),
      resultsApart: first("resultsApart"),
      fetches: first("fetches"),
    };
  });
}

const earlier = { schemaWithTools: false, signedCalls: false, resultsApart: false } as const;
const early = { ...earlier, thinking: "none", schemas: "subset", fetches: false } as const;
const budgeted = { ...earlier, thinking: "budget", schemas: "json", fetches: true } as const;

/** What holds where no row says otherwise. */
const newest: GeminiModel = Object.freeze({
  thinking: "level",
  levels: ["minimal", "low", "medium", "high"],
  budgetMin: 1,
  budgetMax: 32_768,
  budgetOff: true,
  schemas: "json",
  schemaWithTools: true,
  signedCalls: true,
  resultsApart: true,
  fetches: true,
});

/** The rows that Outrigger knows. The pattern begins with `*` since names may stand behind `models/` or a publisher. */
export const builtInModels: readonly GeminiModelRow[] = Object.freeze([
  { pattern: "*gemini-1.*", ...early },
  { pattern: "*gemini-2.0*", ...early },
  { pattern: "*gemini-2.5-pro*", ...budgeted, budgetMin: 128, budgetMax: 32_768, budgetOff: false },
  { pattern: "*gemini-2.5-flash-lite*", ...budgeted, budgetMin: 512, budgetMax: 24_576 },
  { pattern: "*gemini-2.5*", ...budgeted, budgetMax: 24_576 },
  { pattern: "*gemini-3-pro*", levels: ["low", "high"] },
  { pattern: "*gemini-*-pro*", levels: ["low", "medium", "high"] },
  { pattern: "*gemma-*", ...early },
]);
