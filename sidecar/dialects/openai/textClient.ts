/**
 * The older form of this API, in which a model goes on with a text (https://platform.openai.com/docs/api-reference/completions), as
 * providers speak it: several texts can be given at once, and the answers to each stand together in their order.
 */
import { event, finishEvent, startEvent, textEvent, usageEvent } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { ChatRequest, Message, TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, type JsonValue, lateMember, stringify } from "../../framing/json.ts";
import { refuseChatOnly } from "../completionOnly.ts";
import type { AnswerInput, AnswerReader, RequestInput, WrittenRequest } from "../dialect.ts";
import { faultInAnswer, readError } from "../errorBody.ts";
import { pathWriter } from "../path.ts";
import { type Members, placeExtras, rawJson } from "../placeExtras.ts";
import { type AnswerEvents, notUnderstood, readBody, readFrames } from "../plainReader.ts";
import { Report } from "../report.ts";
import { readFinishReason } from "./finishReasons.ts";
import type { OpenAiOptions } from "./options.ts";
import { TEXT_DIALECT } from "./textServer.ts";
import { readUsage } from "./usage.ts";

/** Makes what writes requests to an endpoint. */
export function textWriter(options: OpenAiOptions): (input: RequestInput) => WrittenRequest {
  const pathOf = pathWriter(options, "/completions");
  return function writeText(input) {
    const report = new Report(input.model, input.dropUnsupported);
    const headers = input.streaming ? streamHeaders : bodyHeaders;
    return { path: pathOf(input.model), headers, body: writeBody(input, options, report), warnings: report.warnings };
  };
}

/** Begins to read an answer. */
export function readTexts(input: AnswerInput): AnswerReader {
  const events = new TextEvents(input);
  return input.streaming ? readFrames(input, events) : readBody(input, events);
}

/** Identity: a compressed stream is delivered in lumps. */
const headersFor = (accept: string): readonly string[] =>
  Object.freeze(["content-type", "application/json", "accept", accept, "accept-encoding", "identity"]);
const bodyHeaders = headersFor("application/json");
const streamHeaders = headersFor("text/event-stream");

function writeBody({ request, model, streaming }: RequestInput, options: OpenAiOptions, report: Report): string {
  // Several answers and the name of a user have a place here; nothing else of a chat has.
  const { n: _, ...alone } = request;
  refuseChatOnly({ ...alone, user: "" }, report);
  if (request.responseFormat !== undefined && request.responseFormat.format.case !== "text") report.unsupported("response_format");
  if (request.topK !== undefined && options.topK !== true) report.unsupported("top_k", ": the API has no such parameter");
  const root: Members = {
    model,
    prompt: writePrompts(request, report),
    max_tokens: request.maxOutputTokens,
    temperature: request.temperature,
    top_p: request.topP,
    top_k: options.topK === true ? request.topK : undefined,
    n: request.n,
    stop: request.stop.length === 0 ? undefined : request.stop,
    [options.seedField ?? "seed"]: request.seed,
    presence_penalty: request.presencePenalty,
    frequency_penalty: request.frequencyPenalty,
    logit_bias: Object.keys(request.logitBias).length === 0 ? undefined : request.logitBias,
    logprobs: request.logprobs?.top,
    user: request.user === "" ? undefined : request.user,
    stream: streaming ? true : undefined,
    stream_options: streaming && options.streamUsage ? { include_usage: true } : undefined,
  };
  placeExtras(root, request.extras, TEXT_DIALECT, report);
  return stringify(root);
}

/** One text alone, several as a list. */
function writePrompts({ messages }: ChatRequest, report: Report): JsonValue {
  const written = messages.map((message, index) => writePrompt(message, `messages[${index}]`, report));
  return written.length === 1 ? (written[0] ?? "") : written;
}

function writePrompt({ parts }: Message, path: string, report: Report): JsonValue {
  let text = "";
  for (const [index, { content }] of parts.entries()) {
    if (content.case === "text") text += content.value.text;
    else if (content.case === "extra" && content.value.dialect === TEXT_DIALECT && parts.length === 1) {
      return rawJson(content.value.json, `${path}.parts[0].extra.json`, report);
    } else report.unsupported(`${path}.parts[${index}]`, ", a part that is no text");
  }
  return text;
}

class TextEvents implements AnswerEvents {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  /** Whether each choice seen so far has ended. */
  readonly #ended = new Map<number, boolean>();
  #started = false;

  constructor(input: AnswerInput) {
    this.#input = input;
  }

  get complete(): boolean {
    return this.#ended.size > 0 && [...this.#ended.values()].every((ended) => ended);
  }

  ping(out: ChatEvent[]): void {
    if (this.#started) out.push(event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" }));
  }

  add(value: unknown, json: string, out: ChatEvent[]): void {
    if (!isObject(value)) {
      this.failure = notUnderstood(this.#input);
      return;
    }
    const error = readError(value);
    if (error !== undefined) {
      this.failure = faultInAnswer(error);
      return;
    }
    this.#start(value, out);
    const choices: readonly unknown[] = Array.isArray(value.choices) ? value.choices : [];
    for (const [position, choice] of choices.entries()) if (isObject(choice)) this.#choice(choice, position, out);
    if (isObject(value.usage)) out.push(usageEvent(readUsage(value.usage, lateMember(json, "usage"))));
  }

  #start(wire: JsonObject, out: ChatEvent[]): void {
    if (this.#started) return;
    this.#started = true;
    const { newId, model, route, provider } = this.#input;
    const created = typeof wire.created === "number" && Number.isFinite(wire.created) ? wire.created : 0;
    out.push(startEvent(text(wire.id) || newId("cmpl-"), text(wire.model) || model, created, route, provider));
  }

  #choice(wire: JsonObject, position: number, out: ChatEvent[]): void {
    const index = typeof wire.index === "number" && Number.isInteger(wire.index) && wire.index >= 0 ? wire.index : position;
    const words = text(wire.text);
    if (words !== "") out.push(textEvent(index, words));
    const content = isObject(wire.logprobs) ? readLogprobs(wire.logprobs) : [];
    if (content.length > 0)
      out.push(event("logprobs", { $typeName: "outrigger.chat.v1.LogprobsDelta", choice: index, content, refusal: [] }));
    const word = text(wire.finish_reason);
    const ended = this.#ended.get(index) === true;
    this.#ended.set(index, ended || word !== "");
    if (word === "" || ended) return;
    const reason = readFinishReason(word, false);
    if (reason === undefined) {
      this.failure = new Fault(FaultReason.PROVIDER_FAILED, "The provider broke its answer off.", {
        facts: { provider: this.#input.provider, provider_code: "INTERNAL", finish_reason: word },
      });
      return;
    }
    const stopped = text(wire.stop_reason);
    out.push(finishEvent(index, reason, word, this.#input.request.stop.includes(stopped) ? stopped : ""));
  }
}

/** Three lists side by side. Of the first token of a text that is repeated nobody knows how likely it was: it is left out. */
function readLogprobs({ tokens, token_logprobs: logprobs, top_logprobs: tops }: JsonObject): TokenLogprob[] {
  if (!Array.isArray(tokens) || !Array.isArray(logprobs)) return [];
  return (tokens as readonly unknown[]).flatMap((token, at): TokenLogprob[] => {
    const logprob: unknown = logprobs[at];
    if (typeof token !== "string" || typeof logprob !== "number") return [];
    const top: unknown = Array.isArray(tops) ? tops[at] : undefined;
    const alternatives = isObject(top) ? Object.entries(top) : [];
    return [
      {
        ...likelihood(token, logprob),
        top: alternatives.flatMap(([other, likely]) => (typeof likely === "number" ? [likelihood(other, likely)] : [])),
      },
    ];
  });
}

function likelihood(token: string, logprob: number): TokenLogprob {
  return { $typeName: "outrigger.chat.v1.TokenLogprob", token, logprob, top: [] };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
