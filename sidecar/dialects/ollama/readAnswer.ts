/** Reads answers of `/api/chat`, and of `/api/generate`, which says the same in other members: one object, or a line for each piece. */
import { finishEvent, reasoningEvent, startEvent, textEvent, toolCallEvent, usageEvent } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { errorIn } from "../plainError.ts";
import { type AnswerEvents, notUnderstood, readBody, readLines } from "../plainReader.ts";
import { plainUsage, tokenCount } from "../plainUsage.ts";
import { faultInAnswer } from "./readFault.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  const events = new OllamaEvents(input);
  return input.streaming ? readLines(input, events) : readBody(input, events);
}

class OllamaEvents implements AnswerEvents {
  failure: Fault | undefined;
  complete = false;
  readonly #input: AnswerInput;
  #started = false;
  #calls = 0;
  #thinking = false;
  #blocks = 0;

  constructor(input: AnswerInput) {
    this.#input = input;
  }

  /** This API has no sign of life. */
  ping(): void {}

  add(value: unknown, json: string, out: ChatEvent[]): void {
    if (this.complete) return;
    const error = errorIn(value);
    if (error !== undefined) {
      this.failure = faultInAnswer(error);
      return;
    }
    if (!isObject(value)) {
      this.failure = notUnderstood(this.#input);
      return;
    }
    this.#start(value, out);
    const chat = isObject(value.message);
    const words: JsonObject = isObject(value.message) ? value.message : value;
    this.#words(words, text(chat ? words.content : words.response), out);
    if (Array.isArray(words.tool_calls)) {
      this.#toolCalls(words.tool_calls, () => (chat ? JsonPlace.root(json).member("message") : JsonPlace.root(json)), out);
    }
    if (value.done === true && this.failure === undefined) this.#finish(value, json, out);
  }

  #start(value: JsonObject, out: ChatEvent[]): void {
    if (this.#started) return;
    this.#started = true;
    const { newId, model, route, provider } = this.#input;
    const createdMs = Date.parse(text(value.created_at));
    const created = Number.isNaN(createdMs) ? 0 : Math.max(0, createdMs / 1000);
    out.push(startEvent(newId("chatcmpl-"), text(value.model) || model, created, route, provider));
  }

  #words(words: JsonObject, content: string, out: ChatEvent[]): void {
    const thought = text(words.thinking);
    if (thought !== "") {
      if (!this.#thinking) this.#blocks++;
      this.#thinking = true;
      out.push(reasoningEvent(0, this.#blocks - 1, thought, seal));
    }
    if (content !== "") {
      this.#thinking = false;
      out.push(textEvent(0, content));
    }
  }

  /** Each call comes whole. Older servers give no ids. */
  #toolCalls(calls: readonly unknown[], at: () => JsonPlace, out: ChatEvent[]): void {
    for (const [index, call] of calls.entries()) {
      if (!isObject(call)) continue;
      const called = isObject(call.function) ? call.function : nothing;
      const name = text(called.name);
      if (name === "") {
        this.failure = notUnderstood(this.#input, "The provider's answer has a tool call without a name.");
        return;
      }
      this.#thinking = false;
      const id = text(call.id) || this.#input.newId("call_");
      const place = (): JsonPlace => at().member("tool_calls").element(index).member("function").member("arguments");
      out.push(toolCallEvent(0, this.#calls, id, name, argumentsOf(called.arguments, place)));
      this.#calls++;
    }
  }

  #finish(value: JsonObject, json: string, out: ChatEvent[]): void {
    const word = text(value.done_reason);
    // The API has no word for an answer that calls tools, and some servers none for any.
    const reason = word === "length" ? FinishReason.LENGTH : this.#calls > 0 ? FinishReason.TOOL_CALLS : FinishReason.STOP;
    out.push(finishEvent(0, reason, word));
    // A prompt that was in the cache is not counted at all, which is not zero.
    const usage = plainUsage(tokenCount(value.prompt_eval_count), tokenCount(value.eval_count), () => json, counters);
    if (usage !== undefined) out.push(usageEvent(usage));
    this.complete = true;
  }
}

/** Thinking in this dialect has no proof. */
const seal = { dialect: "ollama" } as const;

const nothing: JsonObject = Object.freeze({});

/** What the server counts, in tokens and nanoseconds. */
const counters: ReadonlySet<string> = new Set([
  "total_duration",
  "load_duration",
  "prompt_eval_count",
  "prompt_eval_duration",
  "eval_count",
  "eval_duration",
]);

/** Arguments as the text of an object: they are one here, and their text at servers that borrow from other APIs. */
function argumentsOf(value: unknown, place: () => JsonPlace): string {
  if (isObject(value)) return place().json();
  if (typeof value !== "string") return "{}";
  try {
    return isObject(JSON.parse(value)) ? value : "{}";
  } catch {
    return "{}";
  }
}

/** A string, or empty for anything else. */
function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
