/** Writes requests to servers that complete text: the conversation as one prompt, and what the form has words for. */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { stringify } from "../../framing/json.ts";
import { refuseChatOnly } from "../completionOnly.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { promptOf } from "../rawPrompt.ts";
import { Report } from "../report.ts";
import type { LlamaForm, LlamaOptions } from "./forms.ts";

/** Writes a request. Throws a fault with reason `PARAMETER_UNSUPPORTED` for what cannot be carried, unless that may be dropped. */
export function writeRequest(input: RequestInput, options: LlamaOptions): WrittenRequest {
  const { request, model } = input;
  const report = new Report(model, input.dropUnsupported);
  refuseChatOnly(request, report);
  refuseUnknown(request, options.form, report);
  const streams = input.streaming && options.form === "completion";
  const root = writeBody(request, options, promptOf(request, options.prompt, report), streams);
  placeExtras(root, request.extras, "llama", report);
  return {
    path: options.path.replaceAll("{model}", () => encodeURIComponent(model)),
    headers: streams ? streamHeaders : bodyHeaders,
    body: stringify(root),
    warnings: report.warnings,
  };
}

/** Identity: a compressed stream would have to be inflated before it is read, and comes in larger and later pieces. */
const bodyHeaders = Object.freeze(["content-type", "application/json", "accept", "application/json", "accept-encoding", "identity"]);
const streamHeaders = Object.freeze(["content-type", "application/json", "accept", "text/event-stream", "accept-encoding", "identity"]);

/** Only one form streams in a way that all its servers share; an answer in another comes whole. */
function writeBody(request: ChatRequest, { form, defaultMaxTokens }: LlamaOptions, prompt: string, streams: boolean): Members {
  const limit = request.maxOutputTokens ?? defaultMaxTokens;
  const { temperature, topP: top_p, topK: top_k } = request;
  switch (form) {
    case "inputs":
      return { inputs: prompt, parameters: { max_new_tokens: limit, temperature, top_p, top_k, stream: false } };
    case "generation":
      return { prompt, max_gen_len: limit, temperature, top_p };
    case "completion": {
      const bias = Object.entries(request.logitBias).map(([id, value]) => [Number(id), value]);
      return {
        prompt,
        n_predict: limit,
        temperature,
        top_p,
        top_k,
        seed: request.seed,
        stop: request.stop.length === 0 ? undefined : request.stop,
        presence_penalty: request.presencePenalty,
        frequency_penalty: request.frequencyPenalty,
        logit_bias: bias.length === 0 ? undefined : bias,
        stream: streams,
      };
    }
  }
}

/** Parameters that the form has no word for. Values that mean what happens anyway need none. */
function refuseUnknown(request: ChatRequest, form: LlamaForm, report: Report): void {
  const format = request.responseFormat?.format.case;
  if (format !== undefined && format !== "text") report.unsupported("response_format");
  if (request.logprobs !== undefined) report.unsupported("logprobs");
  if (form === "completion") {
    if (Object.keys(request.logitBias).some((id) => !/^\d{1,9}$/.test(id)))
      throw report.invalid("logit_bias", "expected numbers of tokens");
    return;
  }
  if (form === "generation" && (request.topK ?? 0n) !== 0n) report.unsupported("top_k");
  if (request.seed !== undefined) report.unsupported("seed");
  if (request.stop.length > 0) report.unsupported("stop");
  if ((request.presencePenalty ?? 0) !== 0) report.unsupported("presence_penalty");
  if ((request.frequencyPenalty ?? 0) !== 0) report.unsupported("frequency_penalty");
  if (Object.keys(request.logitBias).length > 0) report.unsupported("logit_bias");
}
