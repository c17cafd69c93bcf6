/**
 * Vectors. At AI Studio there is one request for many inputs (https://ai.google.dev/api/embeddings); in a project the older models
 * predict, many at once, and the newer ones embed one content in a request
 * (https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api).
 */
import type { Fault } from "../../../proto/fault.ts";
import { EmbeddingPurpose } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { isObject, type JsonObject, JsonPlace, type JsonValue, stringify } from "../../framing/json.ts";
import type { EmbeddingAnswerInput, EmbeddingHalf, EmbeddingRequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { Report } from "../report.ts";
import { countedInput, extrasBesidePurpose, readVectors, reportUser, textsOf, type VectorAnswer, vectorHeaders } from "../vectors.ts";
import { modelPaths } from "./address.ts";
import { predictsVectors } from "./models.ts";
import { faultInAnswer } from "./readFault.ts";
import type { GeminiOptions } from "./writeRequest.ts";

/** Makes the part of the client half that makes vectors at one endpoint. */
export function embeddingHalf({ version, project }: GeminiOptions): EmbeddingHalf {
  const pathOf = modelPaths(version, project);
  const wayOf = (model: string): Way => {
    if (project === undefined) return ways.batch;
    return predictsVectors(model) ? ways.predict : ways.single;
  };
  return Object.freeze({
    inputsMax: (model: string) => wayOf(model).inputsMax,
    writeRequest(input: EmbeddingRequestInput): WrittenRequest {
      const { request, model } = input;
      const report = new Report(model, input.dropUnsupported);
      const way = wayOf(model);
      const asked = {
        model,
        texts: textsOf(request.inputs, report),
        taskType: taskTypes[request.purpose],
        dimensions: request.dimensions,
      };
      reportUser(request, report);
      const body = way.write(asked);
      placeExtras(body, extrasBesidePurpose(request), "gemini", report);
      return { path: `${pathOf(model)}:${way.method}`, headers: vectorHeaders, body: stringify(body), warnings: report.warnings };
    },
    readAnswer: (input: EmbeddingAnswerInput) => readVectors(input, readBody),
  });
}

interface Asked {
  readonly model: string;
  readonly texts: readonly string[];
  readonly taskType: string | undefined;
  readonly dimensions: number | undefined;
}

/** One of the methods by which vectors are asked for. */
interface Way {
  readonly method: string;
  readonly inputsMax: number;
  write(asked: Asked): Members;
}

const ways = Object.freeze({
  batch: {
    method: "batchEmbedContents",
    inputsMax: 100, // as the API has it
    write: (asked: Asked) => ({
      requests: asked.texts.map((text) => ({
        // Every request of a batch names the model once more.
        model: asked.model.includes("/") ? asked.model : `models/${asked.model}`,
        ...contentOf(text, asked),
      })),
    }),
  },
  predict: {
    method: "predict",
    inputsMax: 250, // as the API has it
    write: ({ texts, taskType, dimensions }: Asked) => ({
      instances: texts.map((content) => ({ content, task_type: taskType })),
      parameters: dimensions === undefined ? undefined : { outputDimensionality: dimensions },
    }),
  },
  single: {
    method: "embedContent",
    inputsMax: 1,
    write: (asked: Asked) => ({ ...contentOf(asked.texts[0] ?? "", asked) }),
  },
} satisfies Record<string, Way>);

function contentOf(text: string, { taskType, dimensions }: Asked): { readonly [key: string]: JsonValue | undefined } {
  return { content: { parts: [{ text }] }, taskType, outputDimensionality: dimensions };
}

const taskTypes: Readonly<Partial<Record<EmbeddingPurpose, string>>> = Object.freeze({
  [EmbeddingPurpose.QUERY]: "RETRIEVAL_QUERY",
  [EmbeddingPurpose.DOCUMENT]: "RETRIEVAL_DOCUMENT",
  [EmbeddingPurpose.SIMILARITY]: "SEMANTIC_SIMILARITY",
  [EmbeddingPurpose.CLASSIFICATION]: "CLASSIFICATION",
  [EmbeddingPurpose.CLUSTERING]: "CLUSTERING",
});

/** Each method has its own member for the vectors, so the answer itself tells which one it is of. */
function readBody(body: unknown, json: string): VectorAnswer | Fault {
  if (!isObject(body)) return { vectors: undefined, usage: undefined };
  if (body.error !== undefined) return faultInAnswer(body.error);
  if (Array.isArray(body.predictions)) return readPredictions(body.predictions, json);
  const { usageMetadata } = body;
  const tokens = isObject(usageMetadata) ? usageMetadata.promptTokenCount : undefined;
  return {
    vectors: isObject(body.embedding) ? [body.embedding.values] : valuesOf(body.embeddings),
    usage: typeof tokens === "number" ? countedInput(tokens, JsonPlace.root(json).member("usageMetadata").json()) : undefined,
  };
}

function valuesOf(list: unknown): unknown {
  return Array.isArray(list) ? (list as readonly unknown[]).map((entry) => (isObject(entry) ? entry.values : undefined)) : undefined;
}

/** Each prediction counts its own tokens; there is a sum where all of them do. */
function readPredictions(predictions: readonly unknown[], json: string): VectorAnswer {
  const vectors = predictions.map((prediction) => (isObject(prediction) && isObject(prediction.embeddings) ? prediction.embeddings : {}));
  const counts = vectors.map(({ statistics }: JsonObject) => (isObject(statistics) ? statistics.token_count : undefined));
  let sum = 0;
  for (const count of counts) sum += typeof count === "number" ? count : Number.NaN;
  const place = JsonPlace.root(json).member("predictions");
  const accounts = (): string =>
    `[${predictions.map((_, index) => place.element(index).member("embeddings").member("statistics").json()).join(",")}]`;
  return {
    vectors: vectors.map(({ values }: JsonObject) => values),
    usage: predictions.length === 0 || Number.isNaN(sum) ? undefined : countedInput(sum, accounts()),
  };
}
