/**
 * Turns the parsed objects of an answer into events: the whole body of a unary answer, or the chunks of a stream. What is missing, null
 * or of another kind than the format says is passed over: servers leave out much, and an answer is not worth less for it.
 */
import { event, finishEvent, reasoningEvent, refusalEvent, startEvent, textEvent, usageEvent } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { type ChatRequest, FinishReason, type TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace, lateMember } from "../../framing/json.ts";
import type { AnswerInput } from "../dialect.ts";
import { faultInAnswer, noWords, readError } from "../errorBody.ts";
import { readFinishReason } from "./finishReasons.ts";
import { ToolCalls } from "./toolCalls.ts";
import { readUsage } from "./usage.ts";

/** Finds the caller's names of a request's tools, by those under which they were sent; of those that differ. */
export type CallersOf = (request: ChatRequest) => ReadonlyMap<string, string>;

/** One answer's events, made from its objects in order. */
export class AnswerEvents {
  /** Why the answer failed, once an object said so; the events before it were given. */
  failure: Fault | undefined;
  /** Whether the events say more than the answer's own bytes, which from then on must not be passed on. */
  repaired = false;
  readonly #input: AnswerInput;
  readonly #callersOf: CallersOf;
  /** Found only when a tool is called, since most answers call none. */
  #callers: ReadonlyMap<string, string> | undefined;
  readonly #choices: ChoiceState[] = [];
  #started = false;

  constructor(input: AnswerInput, callersOf: CallersOf) {
    this.#input = input;
    this.#callersOf = callersOf;
  }

  /** Whether the start event was given. */
  get started(): boolean {
    return this.#started;
  }

  /** Whether the provider's own end was seen: a choice at least, and a reason for the end of every choice. */
  get complete(): boolean {
    return this.#choices.length > 0 && this.#choices.every((choice) => choice.finished);
  }

  /** How many choices have said anything. */
  get count(): number {
    return this.#choices.length;
  }

  /** The choice of a number, for `text`. */
  choice(index: number): ChoiceState {
    // Almost always there is one.
    const first = this.#choices[0];
    if (first !== undefined && first.index === index) return first;
    const found = this.#choices.find((choice) => choice.index === index);
    if (found !== undefined) return found;
    const choice = new ChoiceState(index, new ToolCalls(index, this.#input.newId));
    this.#choices.push(choice);
    return choice;
  }

  /** Adds a piece of text, which is all that most chunks say. */
  text(choice: ChoiceState, text: string, out: ChatEvent[]): void {
    if (text === "") return;
    choice.thinking = false;
    out.push(textEvent(choice.index, text));
  }

  /** Adds a piece of thinking. */
  thought(choice: ChoiceState, thought: string, out: ChatEvent[]): void {
    if (thought === "") return;
    if (!choice.thinking) {
      choice.thinking = true;
      choice.blocks++;
    }
    out.push(reasoningEvent(choice.index, choice.blocks - 1, thought, seal));
  }

  /**
   * Adds what one object says; `json` is its text. `member` names where a choice holds its words: `message` in a whole answer, `delta`
   * in a chunk of a stream.
   */
  add(wire: JsonObject, json: string, member: "message" | "delta", out: ChatEvent[]): void {
    const error = readError(wire);
    if (error !== undefined) {
      this.failure = faultInAnswer(error);
      return;
    }
    const choices: readonly unknown[] = Array.isArray(wire.choices) ? wire.choices : [];
    const usage = isObject(wire.usage) ? wire.usage : undefined;
    if (!this.#started) {
      // Some streams begin with an object that only says how the prompt was judged, without id and model.
      if (choices.length === 0 && usage === undefined && text(wire.id) === "") return;
      this.#start(wire, out);
    }
    for (let i = 0; i < choices.length; i++) {
      const choice = choices[i];
      if (!isObject(choice)) continue;
      this.#choice(choice, i, json, member, out);
      if (this.failure !== undefined) return;
    }
    if (usage !== undefined) out.push(usageEvent(readUsage(usage, lateMember(json, "usage"))));
  }

  #start(wire: JsonObject, out: ChatEvent[]): void {
    const { newId, model, route, provider } = this.#input;
    const created = typeof wire.created === "number" && Number.isFinite(wire.created) ? wire.created : 0;
    out.push(startEvent(text(wire.id) || newId("chatcmpl-"), text(wire.model) || model, created, route, provider));
    this.#started = true;
  }

  #choice(wire: JsonObject, position: number, json: string, member: "message" | "delta", out: ChatEvent[]): void {
    if (isObject(wire.error)) {
      this.failure = faultInAnswer(readError(wire) ?? noWords);
      return;
    }
    const choice = this.choice(isIndex(wire.index) ? wire.index : position);
    const words = wire[member];
    const at = (): JsonPlace => JsonPlace.root(json).member("choices").element(position);
    if (isObject(words)) this.#words(choice, words, member, () => at().member(member), out);
    // A choice that was withheld can come without this member, which every caller looks into.
    else this.repaired = true;
    if (isObject(wire.logprobs)) addLogprobs(choice.index, wire.logprobs, out);
    const reason = text(wire.finish_reason);
    if (reason !== "" && !choice.finished) this.#finish(choice, reason, wire, out);
  }

  #words(choice: ChoiceState, words: JsonObject, member: "message" | "delta", at: () => JsonPlace, out: ChatEvent[]): void {
    this.thought(choice, text(words.reasoning_content) || text(words.reasoning), out);
    if (typeof words.content === "string") this.text(choice, words.content, out);
    else if (Array.isArray(words.content)) {
      // Callers of the format know content as text, and would show these as something else.
      this.repaired = true;
      this.#contentParts(choice, words.content, () => at().member("content"), out);
    }
    const refusal = text(words.refusal);
    if (refusal !== "") {
      choice.thinking = false;
      out.push(refusalEvent(choice.index, refusal));
    }
    if (Array.isArray(words.annotations)) addCitations(choice.index, words.annotations, () => at().member("annotations"), out);
    if (Array.isArray(words.tool_calls)) this.#toolCalls(choice, words.tool_calls, member, () => at().member("tool_calls"), out);
    if (isObject(words.function_call)) {
      choice.thinking = false;
      const called = this.#restored(calledFunction(words.function_call, () => at().member("function_call")));
      // This form has neither index nor id, so there is nothing in it to be put right.
      choice.toolCalls.add({ index: FUNCTION_CALL_INDEX, id: "", ...called }, out);
    }
    if (isObject(words.audio)) out.push(extraEvent(choice.index, "audio", at().member("audio").json()));
  }

  /** Some servers write content as a list of parts, in an answer as in a request. */
  #contentParts(choice: ChoiceState, parts: readonly unknown[], at: () => JsonPlace, out: ChatEvent[]): void {
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i];
      if (typeof part === "string") this.text(choice, part, out);
      if (!isObject(part)) continue;
      if (part.type === "text" || part.type === "output_text") this.text(choice, text(part.text), out);
      else if (part.type === "thinking") {
        const pieces: readonly unknown[] = Array.isArray(part.thinking) ? part.thinking : [part.thinking];
        for (const piece of pieces) this.thought(choice, isObject(piece) ? text(piece.text) : text(piece), out);
      } else if (part.type === "refusal") out.push(refusalEvent(choice.index, text(part.refusal)));
      else out.push(extraEvent(choice.index, "content", at().element(i).json()));
    }
  }

  #toolCalls(choice: ChoiceState, calls: readonly unknown[], member: "message" | "delta", at: () => JsonPlace, out: ChatEvent[]): void {
    for (let i = 0; i < calls.length; i++) {
      const wire = calls[i];
      if (!isObject(wire)) continue;
      choice.thinking = false;
      const type = text(wire.type);
      if (isObject(wire.custom) || (type !== "" && type !== "function")) {
        // A call of a kind that only this dialect has.
        out.push(extraEvent(choice.index, "tool_calls", at().element(i).json()));
        continue;
      }
      const called = isObject(wire.function)
        ? this.#restored(calledFunction(wire.function, () => at().element(i).member("function")))
        : nothingCalled;
      // Whole answers list each call once, so the place in the list is the index that only streams write.
      const index = member === "message" ? i : isIndex(wire.index) ? wire.index : undefined;
      const numbered = typeof wire.id === "number";
      const id = numbered ? String(wire.id) : text(wire.id);
      choice.toolCalls.add({ index, id, ...called, exact: called.exact && !numbered }, out);
      this.repaired ||= choice.toolCalls.repaired;
    }
  }

  /** What is called under the name that the caller knows, which the answer's own bytes do not have where it was sent under another. */
  #restored(called: CalledFunction): CalledFunction {
    this.#callers ??= this.#callersOf(this.#input.request);
    const name = this.#callers.get(called.name);
    if (name === undefined) return called;
    this.repaired = true;
    return { ...called, name };
  }

  #finish(choice: ChoiceState, word: string, wire: JsonObject, out: ChatEvent[]): void {
    const reason = readFinishReason(word, choice.toolCalls.any);
    if (reason === undefined) {
      this.failure = new Fault(FaultReason.PROVIDER_FAILED, "The provider broke its answer off.", {
        facts: { provider: this.#input.provider, provider_code: "INTERNAL", finish_reason: word },
      });
      return;
    }
    if (!choice.toolCalls.finish(out)) {
      this.failure = new Fault(FaultReason.PROVIDER_ANSWER_INVALID, "The provider's answer has a tool call without a name.", {
        facts: { provider: this.#input.provider },
      });
      return;
    }
    // The deprecated form is right without what the calls needed.
    this.repaired ||= choice.toolCalls.repaired && word !== "function_call";
    choice.finished = true;
    // Some servers say which stop text was met; others have this member for something else.
    const stopped = text(wire.stop_reason);
    const stopSequence = reason === FinishReason.STOP && this.#input.request.stop.includes(stopped) ? stopped : "";
    out.push(finishEvent(choice.index, reason, word, stopSequence));
  }
}

/** What is known of one choice so far. */
class ChoiceState {
  readonly index: number;
  readonly toolCalls: ToolCalls;
  finished = false;
  /** Whether the last words were thinking, so that more of it belongs to the same block. */
  thinking = false;
  /** The number of blocks of thinking. */
  blocks = 0;

  constructor(index: number, toolCalls: ToolCalls) {
    this.index = index;
    this.toolCalls = toolCalls;
  }
}

/** Thinking in this dialect has no proof. */
const seal = { dialect: "openai" } as const;

/** The deprecated single call has no index; this one no wire has. */
const FUNCTION_CALL_INDEX = -1;

const nothingCalled = { name: "", argumentsJson: "", exact: true } as const;

/** A string, or empty for anything else. */
function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A number that can name a choice or a call. */
function isIndex(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 31;
}

interface CalledFunction {
  readonly name: string;
  readonly argumentsJson: string;
  readonly exact: boolean;
}

/** Name and arguments; arguments that are an object and not its text, as some servers write them, are given as their text. */
function calledFunction(wire: JsonObject, at: () => JsonPlace): CalledFunction {
  const isValue = isObject(wire.arguments);
  const argumentsJson = isValue ? at().member("arguments").json() : text(wire.arguments);
  return { name: text(wire.name), argumentsJson, exact: !isValue };
}

function addCitations(choice: number, annotations: readonly unknown[], at: () => JsonPlace, out: ChatEvent[]): void {
  for (let i = 0; i < annotations.length; i++) {
    const annotation = annotations[i];
    if (!isObject(annotation)) continue;
    const source: JsonObject = isObject(annotation.url_citation) ? annotation.url_citation : annotation;
    out.push(
      event("citation", {
        $typeName: "outrigger.chat.v1.Citation",
        choice,
        url: text(source.url),
        title: text(source.title),
        quote: text(source.content),
        native: { $typeName: "outrigger.chat.v1.Extra", dialect: "openai", path: "annotations", json: at().element(i).json() },
      }),
    );
  }
}

function addLogprobs(choice: number, wire: JsonObject, out: ChatEvent[]): void {
  const content = tokenLogprobs(wire.content);
  const refusal = tokenLogprobs(wire.refusal);
  if (content.length === 0 && refusal.length === 0) return;
  out.push(event("logprobs", { $typeName: "outrigger.chat.v1.LogprobsDelta", choice, content, refusal }));
}

function tokenLogprobs(value: unknown): TokenLogprob[] {
  if (!Array.isArray(value)) return [];
  const tokens: TokenLogprob[] = [];
  for (const wire of value as readonly unknown[]) {
    if (!isObject(wire) || typeof wire.logprob !== "number") continue;
    const token: TokenLogprob = {
      $typeName: "outrigger.chat.v1.TokenLogprob",
      token: text(wire.token),
      logprob: wire.logprob,
      top: tokenLogprobs(wire.top_logprobs),
    };
    if (Array.isArray(wire.bytes)) token.bytes = Uint8Array.from(wire.bytes as readonly number[]);
    tokens.push(token);
  }
  return tokens;
}

function extraEvent(choice: number, path: string, json: string): ChatEvent {
  const extra = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "openai", path, json };
  return event("extra", { $typeName: "outrigger.chat.v1.ExtraEvent", choice, extra });
}
