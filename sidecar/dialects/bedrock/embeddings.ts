/**
 * Vectors. There is no API for those of all makers: each model is invoked with its maker's own body
 * (https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html), and only some of them take several texts at once. How
 * many tokens were read stands in a header, whoever made the model.
 */
import type { Fault } from "../../../proto/fault.ts";
import { EmbeddingPurpose, type EmbeddingRequest } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { isObject, stringify } from "../../framing/json.ts";
import type { EmbeddingAnswerInput, EmbeddingHalf, EmbeddingRequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { plainUsage, tokenCount } from "../plainUsage.ts";
import { Report } from "../report.ts";
import {
  countedInput,
  extrasBesidePurpose,
  readVectors,
  reportPurpose,
  reportUser,
  requiredPurpose,
  textsOf,
  type VectorAnswer,
  vectorHeaders,
} from "../vectors.ts";
import { type VectorModel, vectorModel } from "./models.ts";
import { faultInBody } from "./readFault.ts";
import { modelPath } from "./writeRequest.ts";

/** The part of the client half that makes vectors. */
export const embeddings: EmbeddingHalf = Object.freeze({
  inputsMax: (model: string) => (vectorModel(model)?.form === "texts" ? 96 : 1), // as each maker's own API has it
  writeRequest(input: EmbeddingRequestInput): WrittenRequest {
    const { request, model } = input;
    const report = new Report(model, input.dropUnsupported);
    const known = vectorModel(model);
    if (known === undefined) throw report.refusal("embeddings", ": it is none of the models that are known to make vectors");
    const texts = textsOf(request.inputs, report);
    if (!known.dimensions && request.dimensions !== undefined) report.unsupported("dimensions", ": its vectors have one length");
    reportUser(request, report);
    const root = forms[known.form](texts, known.dimensions ? request : { ...request, dimensions: undefined }, report);
    placeExtras(root, extrasBesidePurpose(request), "bedrock", report);
    return { path: modelPath(model, "invoke"), headers: vectorHeaders, body: stringify(root), warnings: report.warnings };
  },
  readAnswer: (input: EmbeddingAnswerInput) => readVectors(input, (body, json) => readBody(body, json, input)),
});

type WriteForm = (texts: readonly string[], request: EmbeddingRequest, report: Report) => Members;

const forms: Readonly<Record<VectorModel["form"], WriteForm>> = Object.freeze({
  inputText(texts, request, report) {
    reportPurpose(request, report);
    return { inputText: texts[0], dimensions: request.dimensions };
  },
  texts: (texts, request, report) => ({
    texts,
    input_type: requiredPurpose(request, "search_document", searchPurposes, report),
    embedding_types: ["float"],
    output_dimension: request.dimensions,
  }),
  singleEmbeddingParams: (texts, request, report) => ({
    taskType: "SINGLE_EMBEDDING",
    singleEmbeddingParams: {
      embeddingPurpose: requiredPurpose(request, "GENERIC_INDEX", indexPurposes, report),
      embeddingDimension: request.dimensions,
      // A text that is too long is refused: a vector of a part of it would pass for one of the whole.
      text: { truncationMode: "NONE", value: texts[0] },
    },
  }),
});

const searchPurposes = Object.freeze({
  [EmbeddingPurpose.QUERY]: "search_query",
  [EmbeddingPurpose.CLASSIFICATION]: "classification",
  [EmbeddingPurpose.CLUSTERING]: "clustering",
} as const);

const indexPurposes = Object.freeze({
  [EmbeddingPurpose.QUERY]: "TEXT_RETRIEVAL",
  [EmbeddingPurpose.CLASSIFICATION]: "CLASSIFICATION",
  [EmbeddingPurpose.CLUSTERING]: "CLUSTERING",
} as const);

function readBody(body: unknown, json: string, { header }: EmbeddingAnswerInput): VectorAnswer | Fault {
  if (!isObject(body)) return { vectors: undefined, usage: undefined };
  const vectors = vectorsIn(body);
  if (vectors === undefined && (body.message !== undefined || body.Message !== undefined)) return faultInBody(json);
  return {
    id: typeof body.id === "string" ? body.id : undefined,
    vectors,
    usage:
      plainUsage(tokenCount(body.inputTextTokenCount), undefined, () => json, counts) ??
      countedInput(header("x-amzn-bedrock-input-token-count")),
  };
}

const counts: ReadonlySet<string> = new Set(["inputTextTokenCount"]);

/** The vectors of a body in any of the forms: one, a list, a list for each type of number, or a list of objects with one each. */
function vectorsIn(body: { readonly [member: string]: unknown }): unknown {
  const { embedding, embeddings: found, embeddingsByType } = body;
  if (embedding !== undefined) return [embedding];
  if (isObject(embeddingsByType)) return [embeddingsByType.float];
  if (isObject(found)) return found.float;
  if (!Array.isArray(found)) return undefined;
  return (found as readonly unknown[]).map((entry) => (isObject(entry) ? entry.embedding : entry));
}
