/**
 * Answers of version 2 of the chat API into events: whole ones, and streams (https://docs.cohere.com/reference/chat-stream).
 *
 * A stream is read frame by frame into one batch for each read. A frame that holds a piece of text, by far the most frequent, is
 * recognised by its beginning and its end and not parsed; whatever deviates from that form takes the way of all others. No door speaks
 * this dialect, so the bytes are not kept.
 */
import {
  type Batch,
  endEvent,
  event,
  finishEvent,
  heartbeatEvent,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import { type SseBlock, type SseFrame, SseReader } from "../../framing/sse.ts";
import { asFault, incomplete, invalid, parseObject, tooLarge } from "../answerFaults.ts";
import { BodyReader } from "../bodyReader.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import { finishReasonOf } from "./finishReasons.ts";
import { faultInAnswer } from "./readFault.ts";
import { PLAN, THINKING } from "./seal.ts";
import { readUsage } from "./usage.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  return input.streaming ? new StreamReader(input) : bodyReader(input);
}

/** A tool call that is not at its end yet. */
interface OpenCall {
  readonly number: number;
  /** Arguments that were not given on, since they may turn out to be none. */
  held: string;
  hasArguments: boolean;
}

/** What is known of an answer so far, whichever form it comes in. Its functions add events to `out`. */
class Reading {
  begun = false;
  readonly #input: AnswerInput;
  readonly #callers: ReadonlyMap<string, string>;
  #calls = 0;
  #thoughts = 0;
  /** The block of thinking that is open, and the seal that its end brings. */
  #thought: { readonly number: number; readonly seal: string } | undefined;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#callers = toolNames(input.request, strictNames).callers;
  }

  /** The answer begins. The API says neither which model answers nor when. */
  start(id: string, out: ChatEvent[]): void {
    const { route, provider, model, newId } = this.#input;
    this.begun = true;
    out.push(startEvent(id === "" ? newId("chat_") : id, model, 0, route, provider));
  }

  text(text: string, out: ChatEvent[]): void {
    if (text === "") return;
    this.closeThought(out);
    out.push(textEvent(0, text));
  }

  /** A piece of thinking, or of the plan that comes before tool calls: both are words of the model that are no answer. */
  thought(text: string, seal: string, out: ChatEvent[]): void {
    if (text === "") return;
    if (this.#thought?.seal !== seal) this.closeThought(out);
    this.#thought ??= { number: this.#thoughts++, seal };
    out.push(reasoningEvent(0, this.#thought.number, text));
  }

  /** A block of thinking is over. Its seal tells in which place it is given back. */
  closeThought(out: ChatEvent[]): void {
    if (this.#thought === undefined) return;
    out.push(reasoningEvent(0, this.#thought.number, "", { signature: this.#thought.seal, dialect: "cohere" }));
    this.#thought = undefined;
  }

  /** A tool call begins, perhaps with its arguments. */
  call(call: JsonObject, out: ChatEvent[]): OpenCall {
    const fn = isObject(call.function) ? call.function : nothing;
    const sent = textMember(fn, "name");
    if (sent === "") throw invalid("a tool call without a name");
    this.closeThought(out);
    const open: OpenCall = { number: this.#calls++, held: "", hasArguments: false };
    const id = textMember(call, "id") || this.#input.newId("call_");
    out.push(toolCallEvent(0, open.number, id, this.#callers.get(sent) ?? sent, ""));
    this.callArguments(open, textMember(fn, "arguments"), out);
    return open;
  }

  /** A piece of arguments. The word null stands for none, and must not be given on before it is clear that it does not. */
  callArguments(call: OpenCall, piece: string, out: ChatEvent[]): void {
    if (piece === "") return;
    const known = call.held + piece;
    if (!call.hasArguments && isNothingYet(known)) {
      call.held = known;
      return;
    }
    call.held = "";
    call.hasArguments = true;
    out.push(toolCallEvent(0, call.number, "", "", known));
  }

  closeCall(call: OpenCall, out: ChatEvent[]): void {
    if (!call.hasArguments) out.push(toolCallEvent(0, call.number, "", "", "{}"));
    call.hasArguments = true;
  }

  /** Sources of a stretch of text. `citations` is one citation or a list of them, with its place. */
  citations(citations: unknown, place: JsonPlace, out: ChatEvent[]): void {
    if (isObject(citations)) out.push(citationEvent(citations, place.json()));
    else if (Array.isArray(citations)) {
      citations.forEach((citation: unknown, index) => {
        if (isObject(citation)) out.push(citationEvent(citation, place.element(index).json()));
      });
    }
  }

  /** The end as it is told: why the answer ended, and what it took. Throws the fault that it may be. */
  finish(told: JsonObject, place: JsonPlace, out: ChatEvent[]): void {
    this.closeThought(out);
    // What was consumed is consumed, also where the answer failed.
    if (isObject(told.usage)) out.push(usageEvent(readUsage(told.usage, place.member("usage").json())));
    const native = textMember(told, "finish_reason");
    if (native === "") {
      if (textMember(told, "error") !== "") throw faultInAnswer(told.error);
      throw incomplete("The provider's answer ended without saying why.");
    }
    const reason = finishReasonOf(native);
    if (reason === undefined) throw faultInAnswer(told.error, native);
    out.push(finishEvent(0, reason, native), endEvent());
  }
}

/** Reads a whole answer. */
function bodyReader(input: AnswerInput): BodyReader {
  return new BodyReader(input.answerBytesMax, (bytes, events) => {
    readBody(lenient.decode(bytes), input, events);
    return undefined;
  });
}

function readBody(text: string, input: AnswerInput, out: ChatEvent[]): void {
  if (text.trim() === "") throw incomplete("The provider's answer is empty.");
  const answer = parseObject(text);
  const { message } = answer;
  refuseErrors(answer);
  if (!isObject(message)) throw invalid("no message");
  const reading = new Reading(input);
  reading.start(textMember(answer, "id"), out);
  const place = JsonPlace.root(text);
  const content: readonly unknown[] = Array.isArray(message.content) ? message.content : [message.content];
  for (const block of content) {
    if (typeof block === "string") reading.text(block, out);
    else if (isObject(block)) readContent(block, reading, out);
    reading.closeThought(out);
  }
  reading.thought(textMember(message, "tool_plan"), PLAN, out);
  reading.closeThought(out);
  reading.citations(message.citations, place.member("message").member("citations"), out);
  if (Array.isArray(message.tool_calls)) {
    for (const call of message.tool_calls) {
      if (!isObject(call)) throw invalid("a tool call that is no object");
      reading.closeCall(reading.call(call, out), out);
    }
  }
  const items: readonly unknown[] = Array.isArray(answer.logprobs) ? answer.logprobs : [];
  for (const item of items) putLogprobs(item, out);
  reading.finish(answer, place, out);
}

/** Content, or a piece of it, which says its kind by the member that it has. */
function readContent(content: JsonObject, reading: Reading, out: ChatEvent[]): void {
  reading.thought(textMember(content, "thinking"), THINKING, out);
  reading.text(textMember(content, "text"), out);
}

/** Reads a stream. */
class StreamReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #frames: SseReader;
  readonly #reading: Reading;
  /** Calls that are open, by the number they have on the wire. */
  readonly #open = new Map<unknown, OpenCall>();
  #complete = false;
  /** The whole answer, should it come as one body although a stream was asked for. */
  #body: BodyReader | undefined;
  #decided = false;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#frames = new SseReader(input.answerBytesMax);
    this.#reading = new Reading(input);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (!this.#decided) this.#decide(bytes);
    if (this.#body !== undefined) {
      const batches = this.#body.read(bytes);
      this.failure = this.#body.failure;
      return batches;
    }
    const block = this.#frames.read(bytes);
    const batches = this.#batches(block, false);
    if (block.tooLong) this.failure ??= tooLarge(this.#input.answerBytesMax);
    return batches;
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (this.#body !== undefined) {
      const batches = this.#body.end();
      this.failure = this.#body.failure;
      return batches;
    }
    const batches = this.#batches(this.#frames.end(), true);
    if (!this.#complete) this.failure ??= incomplete("The provider's stream ended before its answer was complete.");
    return batches;
  }

  /** Servers answer a streaming request with a plain body, too: an error with status 200, or a cached answer. */
  #decide(bytes: Uint8Array): void {
    const first = bytes.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09);
    if (first === undefined) return;
    this.#decided = true;
    if (first === 0x7b) this.#body = bodyReader(this.#input);
  }

  /** The events of all frames of one read. Of a failure, all that came before it. */
  #batches({ frames }: SseBlock, atEnd: boolean): readonly Batch[] {
    const out: ChatEvent[] = [];
    try {
      for (const frame of frames) {
        if (this.#complete) break;
        this.#frame(frame, out, atEnd);
      }
    } catch (caught) {
      this.failure = asFault(caught);
    }
    return out.length === 0 ? none : [out];
  }

  #frame(frame: SseFrame, out: ChatEvent[], atEnd: boolean): void {
    if (frame.kind !== "data") {
      // Nothing may come before the start event, and a comment before the answer's beginning is no part of it.
      if (frame.kind === "comment" && this.#reading.begun) out.push(heartbeatEvent());
      return;
    }
    const text = frame.text();
    if (this.#textDelta(text, out)) return;
    const data = parseFrame(text, atEnd);
    if (data === undefined) return;
    const delta = isObject(data.delta) ? data.delta : nothing;
    const message = isObject(delta.message) ? delta.message : nothing;
    switch (typeof data.type === "string" ? data.type : frame.event) {
      case "content-delta":
        this.#content(message, out);
        putLogprobs(data.logprobs, out);
        break;
      case "tool-plan-delta":
        this.#requireBegun();
        this.#reading.thought(textMember(message, "tool_plan"), PLAN, out);
        break;
      case "tool-call-start": {
        this.#requireBegun();
        this.#close(data.index, out);
        this.#open.set(data.index, this.#reading.call(one(message.tool_calls), out));
        break;
      }
      case "tool-call-delta": {
        const call = this.#open.get(data.index);
        if (call === undefined) throw invalid("a piece of a tool call that did not begin");
        const fn = one(message.tool_calls).function;
        if (isObject(fn)) this.#reading.callArguments(call, textMember(fn, "arguments"), out);
        break;
      }
      case "tool-call-end":
        this.#close(data.index, out);
        break;
      case "content-start":
        this.#reading.closeThought(out);
        this.#content(message, out);
        break;
      case "content-end":
        this.#reading.closeThought(out);
        break;
      case "citation-start":
        this.#requireBegun();
        this.#reading.citations(message.citations, JsonPlace.root(text).member("delta").member("message").member("citations"), out);
        break;
      case "message-start":
        if (this.#reading.begun) throw invalid("a second answer inside the first");
        this.#reading.start(textMember(data, "id"), out);
        break;
      case "message-end":
        this.#requireBegun();
        for (const index of [...this.#open.keys()]) this.#close(index, out);
        this.#reading.finish(delta, JsonPlace.root(text).member("delta"), out);
        this.#complete = true;
        break;
      case "error":
        throw faultInAnswer(data);
      default:
        refuseErrors(data);
    }
  }

  #content(message: JsonObject, out: ChatEvent[]): void {
    this.#requireBegun();
    if (isObject(message.content)) readContent(message.content, this.#reading, out);
  }

  /**
   * The way of nearly all frames: `{"type":"content-delta","index":N,"delta":{"message":{"content":{"text":"..."}}}}`. Returns false for
   * whatever looks otherwise, having done nothing.
   */
  #textDelta(text: string, out: ChatEvent[]): boolean {
    if (!text.startsWith(deltaBeginning)) return false;
    let position = deltaBeginning.length;
    for (let code = text.charCodeAt(position); code >= 0x30 && code <= 0x39; code = text.charCodeAt(++position));
    if (!text.startsWith(textBeginning, position)) return false;
    const start = position + textBeginning.length;
    const end = text.indexOf('"', start);
    if (end === -1 || !text.startsWith(deltaEnd, end) || text.length !== end + deltaEnd.length) return false;
    const piece = text.slice(start, end);
    if (!plainText.test(piece)) return false;
    this.#requireBegun();
    this.#reading.text(piece, out);
    return true;
  }

  #close(index: unknown, out: ChatEvent[]): void {
    const call = this.#open.get(index);
    if (call === undefined) return;
    this.#open.delete(index);
    this.#reading.closeCall(call, out);
  }

  #requireBegun(): void {
    if (!this.#reading.begun) throw invalid("content before its beginning");
  }
}

const deltaBeginning = '{"type":"content-delta","index":';
const textBeginning = ',"delta":{"message":{"content":{"text":"';
const deltaEnd = '"}}}}';

/** Text that stands in JSON as it is: without escapes, and without the control characters that JSON does not allow. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not stand there.
const plainText = /^[^\\\u0000-\u001f]*$/;

/** The data of a frame; undefined for one that means nothing. What is cut off at the end of a stream is no frame. */
function parseFrame(text: string, atEnd: boolean): JsonObject | undefined {
  // It follows the end, and proves nothing.
  if (text.trim() === "[DONE]") return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    if (atEnd) return undefined;
  }
  throw invalid("a frame that is no JSON object");
}

/** An error with a good status: a member `error`, or a message that is a sentence and no message of the conversation. */
function refuseErrors(answer: JsonObject): void {
  const { error, message } = answer;
  if ((error !== undefined && error !== null) || typeof message === "string") throw faultInAnswer(answer);
}

/** The one tool call of a frame: an object, where the whole answer has a list. */
function one(value: unknown): JsonObject {
  const call: unknown = Array.isArray(value) ? value[0] : value;
  if (!isObject(call)) throw invalid("a frame of a tool call without the call");
  return call;
}

/** A source that the answer leans on. `json` is the citation's exact text. Where it has several sources, the first is named. */
function citationEvent(citation: JsonObject, json: string): ChatEvent {
  const sources: readonly unknown[] = Array.isArray(citation.sources) ? citation.sources : [];
  const source = sources.find(isObject) ?? nothing;
  const document = isObject(source.document) ? source.document : nothing;
  return event("citation", {
    $typeName: "outrigger.chat.v1.Citation",
    choice: 0,
    url: textMember(document, "url"),
    title: textMember(document, "title"),
    quote: textMember(document, "snippet") || textMember(document, "text"),
    native: { $typeName: "outrigger.chat.v1.Extra", dialect: "cohere", path: "citations", json },
  });
}

/**
 * How likely a stretch of text was. The API gives a number for each token and the text of all of them together, so they stay together:
 * the logarithm of the stretch is the sum of theirs.
 */
function putLogprobs(item: unknown, out: ChatEvent[]): void {
  if (!isObject(item) || !Array.isArray(item.logprobs)) return;
  const values = item.logprobs.filter((value: unknown) => typeof value === "number");
  if (values.length === 0) return;
  const logprob = values.reduce((sum, value) => sum + value, 0);
  out.push(
    event("logprobs", {
      $typeName: "outrigger.chat.v1.LogprobsDelta",
      choice: 0,
      content: [{ $typeName: "outrigger.chat.v1.TokenLogprob", token: textMember(item, "text"), logprob, top: [] }],
      refusal: [],
    }),
  );
}

/** Whether arguments so far could still turn out to be none: nothing but blanks, or the beginning of the word null. */
function isNothingYet(text: string): boolean {
  return text.length < 32 && "null".startsWith(text.trim());
}

function textMember(object: JsonObject, key: string): string {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === "string" ? value : "";
}

const none: readonly Batch[] = Object.freeze([]);
const nothing: JsonObject = Object.freeze({});
const lenient = new TextDecoder("utf-8");
