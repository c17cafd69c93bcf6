/**
 * Answers of the Anthropic Messages API into events: whole ones, and streams (https://docs.anthropic.com/en/api/messages-streaming).
 *
 * A stream is read frame by frame into one batch for each read, which keeps the bytes of its frames for a door of the same dialect. A
 * frame that holds a piece of text, by far the most frequent, is recognised by its beginning and not parsed; whatever deviates from that
 * form takes the way of all others. Where the answer says something else than the bytes, because a tool's name is restored or JSON comes
 * by a tool, the bytes are left out from there on.
 */
import {
  type Batch,
  endEvent,
  event,
  finishEvent,
  heartbeatEvent,
  type NativeBytes,
  nativeBatch,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace, lateMember } from "../../framing/json.ts";
import { type SseBlock, type SseFrame, SseReader } from "../../framing/sse.ts";
import { asFault, incomplete, invalid, parseObject, tooLarge } from "../answerFaults.ts";
import { BodyReader, joined } from "../bodyReader.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { answerToolName, toolNames } from "../toolNames.ts";
import { finishReasonOf } from "./finishReasons.ts";
import { anthropicNames } from "./names.ts";
import { faultInAnswer } from "./readFault.ts";
import { UsageReader } from "./usage.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  return input.streaming ? new StreamReader(input) : bodyReader(input);
}

/** What is known of an answer so far, whichever form it comes in. */
class Reading {
  readonly #input: AnswerInput;
  /** The caller's names of tools, once one of them is called. */
  #callers: ReadonlyMap<string, string> | undefined;
  readonly #answerTool: string | undefined;
  readonly usage = new UsageReader();
  /** Whether the events say something else than the bytes. */
  rewritten = false;
  /** The provider's id of the answer, once it began. */
  id: string | undefined;
  #stopReason: string | undefined;
  #stopSequence = "";
  #explanation = "";
  #toolCalls = 0;
  #reasoningBlocks = 0;
  #answeredByTool = false;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#answerTool = answerToolName(input.request, anthropicNames);
  }

  get begun(): boolean {
    return this.id !== undefined;
  }

  /** The answer begins. `message` has its id and model. */
  start(message: JsonObject): ChatEvent {
    const { route, provider, newId } = this.#input;
    this.id = textMember(message, "id");
    return startEvent(this.id === "" ? newId("msg_") : this.id, textMember(message, "model"), 0, route, provider);
  }

  /** Whether calls of this tool are the answer's text. */
  isAnswerTool(name: string): boolean {
    return name === this.#answerTool;
  }

  /** A tool call begins; returns its number and its first event. */
  toolCall(block: JsonObject, argumentsJson: string): { readonly index: number; readonly event: ChatEvent } {
    const sent = textMember(block, "name");
    if (sent === "") throw invalid("a tool call without a name");
    this.#callers ??= toolNames(this.#input.request, anthropicNames).callers;
    const name = this.#callers.get(sent) ?? sent;
    if (name !== sent) this.rewritten = true;
    const index = this.#toolCalls++;
    return { index, event: toolCallEvent(0, index, textMember(block, "id") || this.#input.newId("toolu_"), name, argumentsJson) };
  }

  /** The answer is given by a tool: its arguments are text, and its end is the answer's. */
  answerByTool(): void {
    this.#answeredByTool = true;
    this.rewritten = true;
  }

  reasoningBlock(): number {
    return this.#reasoningBlocks++;
  }

  /** The end of the answer as it is told: `told` has stop_reason and what belongs to it. */
  stop(told: JsonObject): void {
    if (typeof told.stop_reason === "string") this.#stopReason = told.stop_reason;
    if (typeof told.stop_sequence === "string") this.#stopSequence = told.stop_sequence;
    // What is said of a refusal explains it, and is nothing that the model said.
    if (isObject(told.stop_details)) this.#explanation = textMember(told.stop_details, "explanation");
  }

  /** The last events before the end: usage, and why the answer ended. */
  finish(events: ChatEvent[]): void {
    const native = this.#stopReason;
    if (native === undefined) {
      throw incomplete("The provider's answer ended without saying why.");
    }
    if (this.usage.known) events.push(usageEvent(this.usage.usage()));
    let reason = finishReasonOf(native);
    if (reason === FinishReason.TOOL_CALLS && this.#answeredByTool && this.#toolCalls === 0) reason = FinishReason.STOP;
    events.push(finishEvent(0, reason, native, this.#stopSequence, this.#explanation));
  }
}

/** A source that the answer leans on. `json` is its exact text. */
function citationEvent(citation: JsonObject, json: string): ChatEvent {
  return event("citation", {
    $typeName: "outrigger.chat.v1.Citation",
    choice: 0,
    url: textMember(citation, "url"),
    title: textMember(citation, "title") || textMember(citation, "document_title"),
    quote: textMember(citation, "cited_text"),
    native: { $typeName: "outrigger.chat.v1.Extra", dialect: "anthropic", path: "citations", json },
  });
}

/** A block that only this dialect knows, such as a tool that the provider ran itself. */
function extraEvent(json: string): ChatEvent {
  return event("extra", {
    $typeName: "outrigger.chat.v1.ExtraEvent",
    choice: 0,
    extra: { $typeName: "outrigger.chat.v1.Extra", dialect: "anthropic", path: "content", json },
  });
}

/** Reads a whole answer. */
function bodyReader(input: AnswerInput): BodyReader {
  return new BodyReader(input.answerBytesMax, (bytes, events) => (readBody(bytes, input, events) ? undefined : "anthropic"));
}

/** Reads a whole body into `events`. Returns whether they say something else than the bytes. */
function readBody(bytes: Uint8Array, input: AnswerInput, events: ChatEvent[]): boolean {
  const text = lenient.decode(bytes);
  const message = parseObject(text);
  if (message.error !== undefined && message.error !== null) throw faultInAnswer(message.error);
  if (!Array.isArray(message.content)) throw invalid("no content");
  const reading = new Reading(input);
  events.push(reading.start(message));
  const place = JsonPlace.root(text);
  const content = place.member("content");
  message.content.forEach((block: unknown, index) => {
    if (!isObject(block)) throw invalid("a block that is no object");
    readBlock(block, content.element(index), reading, events);
  });
  if (isObject(message.usage)) reading.usage.add(message.usage, place.member("usage").json());
  reading.stop(message);
  reading.finish(events);
  events.push(endEvent());
  return reading.rewritten;
}

/** A whole block. */
function readBlock(block: JsonObject, place: JsonPlace, reading: Reading, events: ChatEvent[]): void {
  switch (block.type) {
    case "text": {
      if (Array.isArray(block.citations)) {
        block.citations.forEach((citation: unknown, index) => {
          if (isObject(citation)) events.push(citationEvent(citation, place.member("citations").element(index).json()));
        });
      }
      const text = textMember(block, "text");
      if (text !== "") events.push(textEvent(0, text));
      break;
    }
    case "thinking": {
      const seal = { signature: textMember(block, "signature"), dialect: "anthropic" };
      events.push(reasoningEvent(0, reading.reasoningBlock(), textMember(block, "thinking"), seal));
      break;
    }
    case "redacted_thinking":
      events.push(reasoningEvent(0, reading.reasoningBlock(), "", { redacted: textMember(block, "data"), dialect: "anthropic" }));
      break;
    case "tool_use": {
      const input = isObject(block.input) ? place.member("input").json() : "{}";
      if (reading.isAnswerTool(textMember(block, "name"))) {
        reading.answerByTool();
        events.push(textEvent(0, input));
      } else events.push(reading.toolCall(block, input).event);
      break;
    }
    default:
      events.push(extraEvent(place.json()));
  }
}

/** A block of a stream that is not at its end yet. */
interface OpenBlock {
  readonly index: number;
  readonly kind: "text" | "thinking" | "redacted" | "tool" | "answer" | "extra";
  /** The number of the tool call or of the block of thinking. */
  readonly number: number;
  /** What the start of the block held as its input, or empty. */
  readonly input: string;
  /** Whether a piece of input came that was not empty. */
  hasInput: boolean;
  /** Of a block that only this dialect knows: its start, and the pieces of its input. */
  readonly start: string;
  pieces: string;
}

/** Reads a stream. */
class StreamReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #frames: SseReader;
  readonly #reading: Reading;
  readonly #open = new Map<number, OpenBlock>();
  #last: OpenBlock | undefined;
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
    const batch = this.#batch(block, false);
    if (block.tooLong) this.failure ??= tooLarge(this.#input.answerBytesMax);
    return batch === undefined ? none : [batch];
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (this.#body !== undefined) {
      const batches = this.#body.end();
      this.failure = this.#body.failure;
      // The bytes are no frames, so they cannot stand in a stream.
      return batches.map((batch) => [...batch]);
    }
    const batch = this.#batch(this.#frames.end(), true);
    const batches = batch === undefined ? [] : [batch];
    if (this.#complete) {
      const native: NativeBytes = { dialect: "anthropic", form: "frames", bytes: nothing };
      batches.push(this.#reading.rewritten ? [endEvent()] : nativeBatch([endEvent()], native));
    } else this.failure ??= incomplete("The provider's stream ended before its answer was complete.");
    return batches;
  }

  /** Servers answer a streaming request with a plain body, too: an error with status 200, or a cached answer. */
  #decide(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) continue;
      this.#decided = true;
      if (byte === 0x7b) this.#body = bodyReader(this.#input);
      return;
    }
  }

  /** The events of all frames of one read, with the bytes of the frames; undefined if there were none. */
  #batch(block: SseBlock, atEnd: boolean): Batch | undefined {
    const { frames } = block;
    if (frames.length === 0) return undefined;
    const events: ChatEvent[] = [];
    const pieces: Uint8Array[] = [];
    let from = frames[0]?.start ?? 0;
    let end = from;
    for (const frame of frames) {
      if (this.#complete || this.failure !== undefined) break;
      if (this.#frameUnlessFailed(frame, events, atEnd)) end = frame.end;
      else {
        // A frame that must not be passed on leaves a hole in the bytes.
        if (frame.start > from) pieces.push(block.bytes.subarray(from, frame.start));
        from = frame.end;
        end = frame.end;
      }
    }
    if (end > from) pieces.push(block.bytes.subarray(from, end));
    if (this.#reading.rewritten) return events.length === 0 ? undefined : events;
    // The last frame of a stream may lack the blank line that ends it; without one no reader would see it.
    if (atEnd && pieces.length > 0) pieces.push(blankLine);
    if (pieces.length === 0) return events.length === 0 ? undefined : events;
    const bytes = joined(
      pieces,
      pieces.reduce((sum, piece) => sum + piece.length, 0),
    );
    return nativeBatch(events, { dialect: "anthropic", form: "frames", bytes });
  }

  /** As `#frame`; a failure is kept, so that what came before it reaches the caller. */
  #frameUnlessFailed(frame: SseFrame, events: ChatEvent[], atEnd: boolean): boolean {
    try {
      return this.#frame(frame, events, atEnd);
    } catch (caught) {
      this.failure = asFault(caught);
      return false;
    }
  }

  /** Reads one frame. Returns whether it may be passed on. Throws the fault that it tells of. */
  #frame(frame: SseFrame, events: ChatEvent[], atEnd: boolean): boolean {
    if (frame.kind !== "data") {
      if (frame.kind === "comment" || frame.event === "ping") {
        events.push(heartbeatEvent());
        return true;
      }
      // What says nothing that anyone knows is passed on as a part of an answer, and there is none yet.
      return this.#reading.begun;
    }
    const text = frame.text();
    if (text.startsWith(deltaBeginning) && this.#textDelta(text, events)) return true;
    const data = this.#parse(text, atEnd);
    if (data === undefined) return false;
    switch (typeof data.type === "string" ? data.type : frame.event) {
      case "content_block_delta":
        this.#delta(data, text, events);
        return true;
      case "content_block_start":
        this.#start(data, text, events);
        return true;
      case "content_block_stop":
        this.#stop(indexOf(data), events);
        return true;
      case "ping":
        events.push(heartbeatEvent());
        return true;
      case "message_start":
        return this.#message(data, text, events);
      case "message_delta":
        this.#requireBegun();
        if (isObject(data.delta)) this.#reading.stop(data.delta);
        if (isObject(data.usage)) this.#reading.usage.add(data.usage, lateMember(text, "usage"));
        return true;
      case "message_stop":
        this.#requireBegun();
        for (const index of [...this.#open.keys()]) this.#stop(index, events);
        this.#reading.finish(events);
        this.#complete = true;
        return true;
      case "error":
        throw faultInAnswer(data.error);
      default:
        if (data.error !== undefined && data.error !== null) throw faultInAnswer(data.error);
        return this.#reading.begun;
    }
  }

  /** The data of a frame; undefined for one that means nothing. What is cut off at the end of a stream is no frame. */
  #parse(text: string, atEnd: boolean): JsonObject | undefined {
    // Some servers end every stream as another API ends its own.
    if (text.trim() === "[DONE]") return undefined;
    try {
      const value: unknown = JSON.parse(text);
      if (isObject(value)) return value;
    } catch {
      if (atEnd) return undefined;
    }
    throw invalid("a frame that is no JSON object");
  }

  /**
   * The way of nearly all frames: `{"type":"content_block_delta","index":N,"delta":{"type":"text_delta","text":"..."}}`, blanks allowed
   * where servers pad. Returns false for whatever looks otherwise, having done nothing.
   */
  #textDelta(text: string, events: ChatEvent[]): boolean {
    let position = deltaBeginning.length;
    let index = 0;
    for (let code = text.charCodeAt(position); code >= 0x30 && code <= 0x39; code = text.charCodeAt(++position)) {
      index = index * 10 + code - 0x30;
    }
    if (!text.startsWith(textBeginning, position)) return false;
    const open = this.#last?.index === index ? this.#last : this.#open.get(index);
    if (open?.kind !== "text") return false;
    const start = position + textBeginning.length;
    const end = text.indexOf('"', start);
    const backslash = text.indexOf("\\", start);
    if (end === -1 || (backslash !== -1 && backslash < end) || !endsDelta(text, end + 1)) return false;
    const piece = text.slice(start, end);
    if (piece !== "") events.push(textEvent(0, piece));
    return true;
  }

  #message(data: JsonObject, text: string, events: ChatEvent[]): boolean {
    const message = isObject(data.message) ? data.message : {};
    if (this.#reading.begun) {
      if (textMember(message, "id") !== this.#reading.id) throw invalid("a second answer inside the first");
      return false;
    }
    events.push(this.#reading.start(message));
    if (isObject(message.usage)) {
      this.#reading.usage.add(message.usage, JsonPlace.root(text).member("message").member("usage").json());
      events.push(usageEvent(this.#reading.usage.usage()));
    }
    return true;
  }

  #start(data: JsonObject, text: string, events: ChatEvent[]): void {
    this.#requireBegun();
    const index = indexOf(data);
    const block = data.content_block;
    if (!isObject(block)) throw invalid("the start of a block without the block");
    const reading = this.#reading;
    const place = JsonPlace.root(text).member("content_block");
    switch (block.type) {
      case "text": {
        this.#opened({ index, kind: "text" });
        readBlock(block, place, reading, events);
        break;
      }
      case "thinking": {
        const number = reading.reasoningBlock();
        this.#opened({ index, kind: "thinking", number });
        const seal = { signature: textMember(block, "signature"), dialect: "anthropic" };
        const thinking = textMember(block, "thinking");
        if (thinking !== "" || seal.signature !== "") events.push(reasoningEvent(0, number, thinking, seal));
        break;
      }
      case "redacted_thinking":
        this.#opened({ index, kind: "redacted" });
        readBlock(block, place, reading, events);
        break;
      case "tool_use": {
        // Nearly always empty here. It must not be given as text before the pieces, or the two together are no JSON.
        const input = isObject(block.input) && Object.keys(block.input).length > 0 ? place.member("input").json() : "";
        if (reading.isAnswerTool(textMember(block, "name"))) {
          reading.answerByTool();
          this.#opened({ index, kind: "answer", input });
          break;
        }
        const call = reading.toolCall(block, "");
        this.#opened({ index, kind: "tool", number: call.index, input });
        events.push(call.event);
        break;
      }
      default:
        this.#opened({ index, kind: "extra", start: place.json() });
    }
  }

  #opened(block: Pick<OpenBlock, "index" | "kind"> & Partial<OpenBlock>): void {
    if (this.#open.has(block.index)) throw invalid("two open blocks with one index");
    const open: OpenBlock = { number: 0, input: "", hasInput: false, start: "", pieces: "", ...block };
    this.#open.set(open.index, open);
    this.#last = open;
  }

  #delta(data: JsonObject, text: string, events: ChatEvent[]): void {
    this.#requireBegun();
    const open = this.#open.get(indexOf(data));
    if (open === undefined) throw invalid("a piece of a block that is not open");
    const { delta } = data;
    if (!isObject(delta)) throw invalid("a piece without content");
    if (open.kind === "extra") {
      if (typeof delta.partial_json === "string") this.#grow(open, delta.partial_json);
      return;
    }
    switch (delta.type) {
      case "text_delta":
        if (open.kind === "text" && textMember(delta, "text") !== "") events.push(textEvent(0, textMember(delta, "text")));
        break;
      case "thinking_delta": {
        const thinking = textMember(delta, "thinking");
        if (open.kind === "thinking" && thinking !== "") events.push(reasoningEvent(0, open.number, thinking));
        break;
      }
      case "signature_delta": {
        const signature = textMember(delta, "signature");
        if (open.kind === "thinking") events.push(reasoningEvent(0, open.number, "", { signature, dialect: "anthropic" }));
        break;
      }
      case "input_json_delta": {
        const piece = textMember(delta, "partial_json");
        if (piece === "") break;
        if (open.kind === "tool") events.push(toolCallEvent(0, open.number, "", "", piece));
        else if (open.kind === "answer") events.push(textEvent(0, piece));
        open.hasInput = true;
        break;
      }
      case "citations_delta":
        if (open.kind === "text" && isObject(delta.citation)) {
          events.push(citationEvent(delta.citation, JsonPlace.root(text).member("delta").member("citation").json()));
        }
        break;
      default:
        // A kind of piece that nobody knows yet belongs to something that nobody asked for.
        break;
    }
  }

  /** Blocks that are passed on whole are held until their end, and so have a limit. */
  #grow(open: OpenBlock, piece: string): void {
    open.pieces += piece;
    if (open.pieces.length > this.#input.answerBytesMax) throw tooLarge(this.#input.answerBytesMax);
  }

  #stop(index: number, events: ChatEvent[]): void {
    const open = this.#open.get(index);
    if (open === undefined) return;
    this.#open.delete(index);
    if (this.#last === open) this.#last = undefined;
    const input = open.input === "" ? "{}" : open.input;
    if (open.kind === "tool" && !open.hasInput) events.push(toolCallEvent(0, open.number, "", "", input));
    else if (open.kind === "answer" && !open.hasInput) events.push(textEvent(0, input));
    else if (open.kind === "extra") events.push(extraEvent(withInput(open)));
  }

  #requireBegun(): void {
    if (!this.#reading.begun) throw invalid("content before its beginning");
  }
}

/** A block that was streamed, whole again: its start with the input that came in pieces. */
function withInput(block: OpenBlock): string {
  if (block.pieces === "" || !isJson(block.pieces)) return block.start;
  const members = parseObject(block.start);
  if (!Object.hasOwn(members, "input")) return block.start;
  const { start, end } = JsonPlace.root(block.start).member("input").span();
  return block.start.slice(0, start) + block.pieces + block.start.slice(end);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const deltaBeginning = '{"type":"content_block_delta","index":';
const textBeginning = ',"delta":{"type":"text_delta","text":"';

/** Whether nothing but the two closing braces and blanks stands from here to the end. */
function endsDelta(text: string, from: number): boolean {
  let braces = 0;
  for (let position = from; position < text.length; position++) {
    const code = text.charCodeAt(position);
    if (code === 0x7d) braces++;
    else if (code !== 0x20) return false;
  }
  return braces === 2;
}

function indexOf(data: JsonObject): number {
  return typeof data.index === "number" ? data.index : 0;
}

function textMember(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === "string" ? value : "";
}

const none: readonly Batch[] = Object.freeze([]);
const nothing = new Uint8Array(0);
const blankLine = Uint8Array.of(0x0a, 0x0a);
const lenient = new TextDecoder("utf-8");
