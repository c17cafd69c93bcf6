/** Vectors by `/api/embed`, or one at a time by the path that older servers have (https://docs.ollama.com/api#generate-embeddings). */
import type { Fault } from "../../../proto/fault.ts";
import { isObject, stringify } from "../../framing/json.ts";
import type { EmbeddingAnswerInput, EmbeddingHalf, EmbeddingRequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { errorIn } from "../plainError.ts";
import { plainUsage, tokenCount } from "../plainUsage.ts";
import { Report } from "../report.ts";
import { extrasBesidePurpose, readVectors, reportPurpose, reportUser, textsOf, type VectorAnswer, vectorHeaders } from "../vectors.ts";
import { faultInAnswer } from "./readFault.ts";
import type { OllamaOptions } from "./writeRequest.ts";

/** Makes the part of the client half that makes vectors at one endpoint. */
export function embeddingHalf({ oneVectorAtOnce = false, keepAlive }: OllamaOptions): EmbeddingHalf {
  return Object.freeze({
    // The newer path has no limit of its own; a list of any length would block all others for as long as it takes.
    inputsMax: () => (oneVectorAtOnce ? 1 : 512),
    writeRequest({ request, model, dropUnsupported }: EmbeddingRequestInput): WrittenRequest {
      const report = new Report(model, dropUnsupported);
      const texts = textsOf(request.inputs, report);
      const root: Members = oneVectorAtOnce ? { model, prompt: texts[0] } : { model, input: texts, dimensions: request.dimensions };
      root.keep_alive = keepAlive;
      if (oneVectorAtOnce && request.dimensions !== undefined) report.unsupported("dimensions", ": the server is too old for it");
      reportPurpose(request, report);
      reportUser(request, report);
      placeExtras(root, extrasBesidePurpose(request), "ollama", report);
      const path = oneVectorAtOnce ? "/api/embeddings" : "/api/embed";
      return { path, headers: vectorHeaders, body: stringify(root), warnings: report.warnings };
    },
    readAnswer: (input: EmbeddingAnswerInput) => readVectors(input, readBody),
  });
}

function readBody(body: unknown, json: string): VectorAnswer | Fault {
  const error = errorIn(body);
  if (error !== undefined) return faultInAnswer(error);
  if (!isObject(body)) return { vectors: undefined, usage: undefined };
  return {
    model: typeof body.model === "string" ? body.model : undefined,
    // The older path has one vector under the name of one.
    vectors: body.embeddings === undefined ? [body.embedding] : body.embeddings,
    usage: plainUsage(tokenCount(body.prompt_eval_count), undefined, () => json, counts),
  };
}

const counts: ReadonlySet<string> = new Set(["prompt_eval_count", "total_duration", "load_duration"]);
