/** Reads answers of `/generate` and `/generate_stream`: one object, by itself or alone in a list, or an event for each token. */
import { event, finishEvent, heartbeatEvent, startEvent, textEvent, usageEvent } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason, type TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { errorIn } from "../plainError.ts";
import { type AnswerEvents, notUnderstood, readBody, readFrames } from "../plainReader.ts";
import { plainUsage, tokenCount } from "../plainUsage.ts";
import { faultInAnswer } from "./readFault.ts";
import { StopText } from "./stopText.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  const events = new GeneratedEvents(input);
  return input.streaming ? readFrames(input, events) : readBody(input, events);
}

class GeneratedEvents implements AnswerEvents {
  failure: Fault | undefined;
  complete = false;
  readonly #input: AnswerInput;
  readonly #stop: StopText;
  #started = false;
  #sawToken = false;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#stop = new StopText(input.request.stop);
  }

  /** The server writes a comment every few seconds while a prompt waits or is read. */
  ping(out: ChatEvent[]): void {
    this.#start(out);
    out.push(heartbeatEvent());
  }

  add(value: unknown, json: string, out: ChatEvent[]): void {
    if (this.complete) return;
    const error = errorIn(value);
    if (error !== undefined) {
      this.failure = faultInAnswer(error);
      return;
    }
    const listed = Array.isArray(value);
    const wire = listed ? (value[0] as unknown) : value;
    if (!isObject(wire) || (!isObject(wire.token) && typeof wire.generated_text !== "string")) {
      this.failure = notUnderstood(this.#input);
      return;
    }
    this.#start(out);
    if (isObject(wire.token)) this.#token(wire.token, wire.top_tokens, out);
    if (typeof wire.generated_text !== "string") return;
    // What stands here of a stream can differ from its tokens by a blank, and was given already.
    if (!this.#sawToken) this.#text(wire.generated_text, out);
    const at = JsonPlace.root(json);
    this.#finish(isObject(wire.details) ? wire.details : nothing, () => (listed ? at.element(0) : at).member("details").json(), out);
  }

  #start(out: ChatEvent[]): void {
    if (this.#started) return;
    this.#started = true;
    const { newId, model, route, provider } = this.#input;
    out.push(startEvent(newId("chatcmpl-"), model, 0, route, provider));
  }

  #token(token: JsonObject, alternatives: unknown, out: ChatEvent[]): void {
    this.#sawToken = true;
    // Words for the machine, such as the one that ends every answer.
    if (token.special === true) return;
    if (typeof token.text === "string") this.#text(token.text, out);
    if (this.#input.request.logprobs !== undefined) this.#logprobs([token], [alternatives], out);
  }

  #text(piece: string, out: ChatEvent[]): void {
    const passed = this.#stop.pass(piece);
    if (passed !== "") out.push(textEvent(0, passed));
  }

  #finish(details: JsonObject, json: () => string, out: ChatEvent[]): void {
    const word = typeof details.finish_reason === "string" ? details.finish_reason : "";
    const { text, stop } = this.#stop.end(word === "stop_sequence");
    if (text !== "") out.push(textEvent(0, text));
    if (Array.isArray(details.tokens) && this.#input.request.logprobs !== undefined) {
      this.#logprobs(details.tokens, Array.isArray(details.top_tokens) ? details.top_tokens : [], out);
    }
    // An answer without details is over as well: the server gives all of it or an error.
    out.push(finishEvent(0, word === "length" ? FinishReason.LENGTH : FinishReason.STOP, word, stop));
    // How long the prompt was is said in streams of newer servers, or by the list of its tokens where that was asked for.
    const prefill = Array.isArray(details.prefill) && details.prefill.length > 0 ? BigInt(details.prefill.length) : undefined;
    const input = tokenCount(details.input_length) ?? prefill;
    const usage = plainUsage(input, tokenCount(details.generated_tokens), json, account);
    if (usage !== undefined) out.push(usageEvent(usage));
    this.complete = true;
  }

  #logprobs(tokens: readonly unknown[], alternatives: readonly unknown[], out: ChatEvent[]): void {
    const content: TokenLogprob[] = [];
    tokens.forEach((token, index) => {
      const likely = readLogprob(token);
      if (likely === undefined) return;
      const others = alternatives[index];
      likely.top = Array.isArray(others) ? others.map(readLogprob).filter((each) => each !== undefined) : [];
      content.push(likely);
    });
    if (content.length === 0) return;
    out.push(event("logprobs", { $typeName: "outrigger.chat.v1.LogprobsDelta", choice: 0, content, refusal: [] }));
  }
}

const nothing: JsonObject = Object.freeze({});

/** Of the details what is no list of tokens. */
const account: ReadonlySet<string> = new Set(["finish_reason", "generated_tokens", "seed", "input_length"]);

function readLogprob(token: unknown): TokenLogprob | undefined {
  if (!isObject(token) || token.special === true || typeof token.text !== "string" || typeof token.logprob !== "number") return undefined;
  return { $typeName: "outrigger.chat.v1.TokenLogprob", token: token.text, logprob: token.logprob, top: [] };
}
