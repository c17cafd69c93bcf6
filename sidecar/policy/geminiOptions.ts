/** What policy says of a provider in the Gemini dialect, as the dialect takes it. */
import { type GeminiDialect, type GeminiModel, GeminiSchemas, GeminiThinking } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { GeminiModelRow, GeminiOptions } from "../dialects/gemini/gemini.ts";

/** The options of the dialect's client half. What is not said is as AI Studio has it, or Vertex AI where a project is given. */
export function geminiOptions({ vertex, version, callIds, models }: GeminiDialect): GeminiOptions {
  return {
    version: version || (vertex === undefined ? "v1beta" : "v1"),
    project: vertex && { project: vertex.project, location: vertex.location || "global" },
    callIds: callIds ?? vertex === undefined,
    models: models.map(modelRow),
  };
}

function modelRow({
  pattern,
  thinking,
  levels,
  schemas,
  schemaWithTools,
  signedCalls,
  resultsApart,
  fetches,
}: GeminiModel): GeminiModelRow {
  return {
    pattern,
    thinking: thinkingWays[thinking],
    levels: levels.length > 0 ? levels : undefined,
    schemas: schemaForms[schemas],
    schemaWithTools,
    signedCalls,
    resultsApart,
    fetches,
  };
}

const thinkingWays: Readonly<Record<number, GeminiModelRow["thinking"]>> = {
  [GeminiThinking.BUDGET]: "budget",
  [GeminiThinking.LEVEL]: "level",
  [GeminiThinking.NONE]: "none",
};

const schemaForms: Readonly<Record<number, GeminiModelRow["schemas"]>> = {
  [GeminiSchemas.JSON]: "json",
  [GeminiSchemas.SUBSET]: "subset",
};
