/** Writes requests of `/generate` and `/generate_stream`: the conversation as one text, and what steers the model beside it. */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, stringify } from "../../framing/json.ts";
import { refuseChatOnly } from "../completionOnly.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras, rawJson } from "../placeExtras.ts";
import { type PromptOptions, promptOf } from "../rawPrompt.ts";
import { Report } from "../report.ts";

/** What is particular to an endpoint that speaks this dialect. */
export interface HuggingFaceOptions {
  /** How the model is told who speaks. */
  readonly prompt: PromptOptions;
  /** The limit on the answer where the caller gives none: servers have one of their own that can be as low as 20 tokens. */
  readonly defaultMaxTokens: bigint;
  /** Whether one host serves many models, each at `/models/NAME`, where a member says whether to stream. */
  readonly modelInPath: boolean;
}

/** Writes a request. Throws a fault with reason `PARAMETER_UNSUPPORTED` for what cannot be carried, unless that may be dropped. */
export function writeRequest(input: RequestInput, options: HuggingFaceOptions): WrittenRequest {
  const { request, model, streaming } = input;
  const report = new Report(model, input.dropUnsupported);
  refuseChatOnly(request, report);
  if ((request.presencePenalty ?? 0) !== 0) report.unsupported("presence_penalty");
  if (Object.keys(request.logitBias).length > 0) report.unsupported("logit_bias");
  const root: Members = {
    inputs: promptOf(request, options.prompt, report),
    parameters: writeParameters(request, options, report),
    stream: options.modelInPath ? streaming : undefined,
  };
  placeExtras(root, request.extras, "huggingface", report);
  const generate = streaming ? "/generate_stream" : "/generate";
  return {
    path: options.modelInPath ? `/models/${model.split("/").map(encodeURIComponent).join("/")}` : generate,
    headers: streaming ? streamHeaders : bodyHeaders,
    body: stringify(root),
    warnings: report.warnings,
  };
}

/** Identity: a compressed stream would have to be inflated before it is read, and comes in larger and later pieces. */
const bodyHeaders = Object.freeze(["content-type", "application/json", "accept", "application/json", "accept-encoding", "identity"]);
const streamHeaders = Object.freeze(["content-type", "application/json", "accept", "text/event-stream", "accept-encoding", "identity"]);

function writeParameters(request: ChatRequest, { defaultMaxTokens }: HuggingFaceOptions, report: Report): Members {
  return {
    max_new_tokens: request.maxOutputTokens ?? defaultMaxTokens,
    ...writeSampling(request),
    // The server takes numbers of 64 bits without a sign; a seed is a name for a sequence, so any other name does as well.
    seed: request.seed === undefined ? undefined : BigInt.asUintN(64, request.seed),
    stop: request.stop.length === 0 ? undefined : request.stop,
    frequency_penalty: (request.frequencyPenalty ?? 0) === 0 ? undefined : request.frequencyPenalty,
    grammar: writeGrammar(request, report),
    top_n_tokens: request.logprobs === undefined || request.logprobs.top === 0 ? undefined : request.logprobs.top,
    // Without it a unary answer says neither why it ended nor what it took.
    details: true,
    return_full_text: false,
  };
}

/**
 * The server refuses the values with which others switch sampling off or leave it alone: a temperature of 0, a share of 0 or 1, the
 * likeliest 0 tokens. The likeliest token alone is what it gives without sampling.
 */
function writeSampling({ temperature, topP, topK }: ChatRequest): Members {
  if (temperature === 0 || topP === 0) return { do_sample: false };
  const sampling: Members = {
    temperature,
    top_p: topP === 1 ? undefined : topP,
    top_k: topK === 0n ? undefined : topK,
  };
  return Object.values(sampling).some((value) => value !== undefined) || topP !== undefined ? { do_sample: true, ...sampling } : {};
}

function writeGrammar({ responseFormat }: ChatRequest, report: Report): JsonValue | undefined {
  const format = responseFormat?.format;
  if (format?.case === "jsonObject") return { type: "json", value: anyObject };
  if (format?.case !== "jsonSchema") return undefined;
  const { description, schemaJson } = format.value;
  if (description !== "") {
    report.dropped("response_format.json_schema.description", "This provider takes a schema without a description.");
  }
  return { type: "json", value: rawJson(schemaJson, "response_format.json_schema.schema_json", report) };
}

const anyObject = { type: "object" } as const;
