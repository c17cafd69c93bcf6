/** Vectors by version 2 of the embed API (https://docs.cohere.com/reference/embed). */
import type { Fault } from "../../../proto/fault.ts";
import { EmbeddingPurpose } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { isObject, JsonPlace, stringify } from "../../framing/json.ts";
import type { EmbeddingAnswerInput, EmbeddingHalf, EmbeddingRequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { Report } from "../report.ts";
import {
  countedInput,
  extrasBesidePurpose,
  readVectors,
  reportUser,
  requiredPurpose,
  textsOf,
  type VectorAnswer,
  vectorHeaders,
} from "../vectors.ts";
import { faultInAnswer } from "./readFault.ts";

/** The part of the client half that makes vectors. */
export const embeddings: EmbeddingHalf = Object.freeze({
  inputsMax: () => 96, // as the API has it
  writeRequest(input: EmbeddingRequestInput): WrittenRequest {
    const report = new Report(input.model, input.dropUnsupported);
    return { path: "/v2/embed", headers: vectorHeaders, body: writeBody(input, report), warnings: report.warnings };
  },
  readAnswer: (input: EmbeddingAnswerInput) => readVectors(input, readBody),
});

function writeBody({ request, model }: EmbeddingRequestInput, report: Report): string {
  const root: Members = {
    model,
    texts: textsOf(request.inputs, report),
    input_type: requiredPurpose(request, "search_document", purposes, report),
    embedding_types: ["float"],
    output_dimension: request.dimensions,
  };
  reportUser(request, report);
  placeExtras(root, extrasBesidePurpose(request), "cohere", report);
  return stringify(root);
}

const purposes = Object.freeze({
  [EmbeddingPurpose.QUERY]: "search_query",
  [EmbeddingPurpose.CLASSIFICATION]: "classification",
  [EmbeddingPurpose.CLUSTERING]: "clustering",
} as const);

function readBody(body: unknown, json: string): VectorAnswer | Fault {
  if (!isObject(body)) return { vectors: undefined, usage: undefined };
  if (body.embeddings === undefined && body.message !== undefined) return faultInAnswer(body.message);
  const billed = isObject(body.meta) && isObject(body.meta.billed_units) ? body.meta.billed_units : undefined;
  const tokens = billed?.input_tokens;
  return {
    id: typeof body.id === "string" ? body.id : undefined,
    vectors: isObject(body.embeddings) ? body.embeddings.float : body.embeddings,
    usage: typeof tokens === "number" ? countedInput(tokens, JsonPlace.root(json).member("meta").member("billed_units").json()) : undefined,
  };
}
