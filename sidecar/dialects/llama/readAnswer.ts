/** Reads answers of servers that complete text, whichever form they are in: whole, or as a stream where the form has one. */
import { finishEvent, heartbeatEvent, startEvent, textEvent, usageEvent } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason, type Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject } from "../../framing/json.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { errorIn } from "../plainError.ts";
import { type AnswerEvents, notUnderstood, readBody, readFrames } from "../plainReader.ts";
import { plainUsage, tokenCount } from "../plainUsage.ts";
import { promptOf } from "../rawPrompt.ts";
import { Report } from "../report.ts";
import { withoutPrompt } from "./echo.ts";
import type { LlamaOptions } from "./forms.ts";
import { faultInAnswer } from "./readFault.ts";

/** Begins to read an answer. Only one form is asked to stream, so that any other comes whole. */
export function readAnswer(input: AnswerInput, options: LlamaOptions): AnswerReader {
  const events = new CompletedEvents(input, options);
  return input.streaming && options.form === "completion" ? readFrames(input, events) : readBody(input, events);
}

class CompletedEvents implements AnswerEvents {
  failure: Fault | undefined;
  complete = false;
  readonly #input: AnswerInput;
  readonly #options: LlamaOptions;
  #started = false;

  constructor(input: AnswerInput, options: LlamaOptions) {
    this.#input = input;
    this.#options = options;
  }

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
    const completed = this.#read(value, json);
    if (completed === undefined) {
      this.failure = notUnderstood(this.#input);
      return;
    }
    this.#start(out);
    if (completed.text !== "") out.push(textEvent(0, completed.text));
    const { finish } = completed;
    if (finish === undefined) return;
    out.push(finishEvent(0, finish.reason, finish.word, finish.stop));
    if (finish.usage !== undefined) out.push(usageEvent(finish.usage));
    this.complete = true;
  }

  #start(out: ChatEvent[]): void {
    if (this.#started) return;
    this.#started = true;
    const { newId, model, route, provider } = this.#input;
    // Servers that name a model give the path of its file, which is nobody's business.
    out.push(startEvent(newId("chatcmpl-"), model, 0, route, provider));
  }

  #read(value: unknown, json: string): Completed | undefined {
    const generated = firstGenerated(value);
    if (generated !== undefined) {
      const { prompt: promptOptions } = this.#options;
      const prompt = promptOf(this.#input.request, promptOptions, new Report(this.#input.model, true));
      // The form says neither why it ended nor what it took: it is over, and the rest is not known.
      return {
        text: withoutPrompt(generated, prompt, promptOptions.format),
        finish: { reason: FinishReason.STOP, word: "", stop: "", usage: undefined },
      };
    }
    if (!isObject(value)) return undefined;
    if (typeof value.generation === "string") return { text: value.generation, finish: generationFinish(value, json) };
    if (typeof value.content !== "string") return undefined;
    // A whole answer is over whether it says so or not; a piece is the last one only if it does.
    const over = value.stop === true || !this.#input.streaming;
    return { text: value.content, finish: over ? completionFinish(value, json) : undefined };
  }
}

/** What one value says. */
interface Completed {
  readonly text: string;
  /** Undefined while more is to come. */
  readonly finish: Finish | undefined;
}

interface Finish {
  readonly reason: FinishReason;
  /** The server's own word, or empty. */
  readonly word: string;
  /** The stop text that was met, or empty. */
  readonly stop: string;
  readonly usage: Usage | undefined;
}

/** The text of the form `inputs`, or undefined for a value in another form. */
function firstGenerated(value: unknown): string | undefined {
  const list: unknown = isObject(value) && Array.isArray(value.data) ? value.data : value;
  const first: unknown = Array.isArray(list) ? list[0] : list;
  return isObject(first) && typeof first.generated_text === "string" ? first.generated_text : undefined;
}

function generationFinish(value: JsonObject, json: string): Finish {
  const word = typeof value.stop_reason === "string" ? value.stop_reason : "";
  const reason = word === "length" ? FinishReason.LENGTH : FinishReason.STOP;
  return {
    reason,
    word,
    stop: "",
    usage: plainUsage(tokenCount(value.prompt_token_count), tokenCount(value.generation_token_count), () => json, generationCounts),
  };
}

function completionFinish(value: JsonObject, json: string): Finish {
  const older = ["stopped_limit", "stopped_word", "stopped_eos"].find((member) => value[member] === true) ?? "";
  const word = typeof value.stop_type === "string" && value.stop_type !== "none" ? value.stop_type : older;
  const limited = word === "limit" || word === "stopped_limit";
  return {
    reason: limited ? FinishReason.LENGTH : FinishReason.STOP,
    word,
    stop: !limited && typeof value.stopping_word === "string" ? value.stopping_word : "",
    usage: plainUsage(tokenCount(value.tokens_evaluated), tokenCount(value.tokens_predicted), () => json, completionCounts),
  };
}

const generationCounts: ReadonlySet<string> = new Set(["prompt_token_count", "generation_token_count"]);
const completionCounts: ReadonlySet<string> = new Set(["tokens_evaluated", "tokens_predicted"]);
