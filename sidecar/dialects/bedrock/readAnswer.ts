/**
 * Answers of the Converse API into events: whole ones, and streams in the AWS event stream encoding
 * (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html).
 *
 * A stream is read frame by frame into one batch for each read. It is complete when `messageStop` was seen and its bytes end where a frame
 * ends; usage comes after that. The API says neither an id nor a model, so those are ours.
 */
import {
  type Batch,
  endEvent,
  event,
  finishEvent,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { EventStreamReader } from "../../framing/eventStream.ts";
import { isObject, type JsonObject, JsonPlace, lateMember } from "../../framing/json.ts";
import { asFault, incomplete, invalid, parseObject, tooLarge } from "../answerFaults.ts";
import { BodyReader } from "../bodyReader.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { answerToolName, strictNames, toolNames } from "../toolNames.ts";
import { finishReasonOf } from "./finishReasons.ts";
import { eventOf, faultOfBytes, textOf } from "./frames.ts";
import { faultInBody } from "./readFault.ts";
import { readUsage } from "./usage.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  return input.streaming ? new StreamReader(input) : bodyReader(input);
}

/** What is known of an answer so far, whichever form it comes in. */
class Reading {
  readonly #input: AnswerInput;
  readonly #callers: ReadonlyMap<string, string>;
  readonly #answerTool: string | undefined;
  #toolCalls = 0;
  #reasoningBlocks = 0;
  #answeredByTool = false;
  /** The fault that the end of the answer will be, once everything that belongs to it was read. */
  ending: Fault | undefined;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#callers = toolNames(input.request, strictNames).callers;
    this.#answerTool = answerToolName(input.request, strictNames);
  }

  start(): ChatEvent {
    const { route, provider, newId, model } = this.#input;
    return startEvent(newId("msg_"), model, 0, route, provider);
  }

  /** Whether calls of this tool are the answer's text. */
  isAnswerTool(name: string): boolean {
    return name === this.#answerTool;
  }

  /** A tool call begins; returns its number and its first event. */
  toolCall(block: JsonObject, argumentsJson: string): { readonly index: number; readonly event: ChatEvent } {
    const name = textMember(block, "name");
    if (name === "") throw invalid("a tool call without a name");
    const index = this.#toolCalls++;
    const id = textMember(block, "toolUseId") || this.#input.newId("tooluse_");
    return { index, event: toolCallEvent(0, index, id, this.#callers.get(name) ?? name, argumentsJson) };
  }

  /** The answer is given by a tool: its arguments are text, and its end is the answer's. */
  answerByTool(): void {
    this.#answeredByTool = true;
  }

  reasoningBlock(): number {
    return this.#reasoningBlocks++;
  }

  /** Why the answer ended, as an event; undefined where it is no ending, which is then told by `ending`. */
  finish(native: unknown): ChatEvent | undefined {
    if (typeof native !== "string" || native === "") throw incomplete("The provider's answer ended without saying why.");
    let reason = finishReasonOf(native);
    if (reason === undefined) {
      const message = `The provider could not read what the model wrote (${native}).`;
      this.ending = new Fault(FaultReason.PROVIDER_ANSWER_INVALID, message, { facts: { provider_code: "INTERNAL" } });
      return undefined;
    }
    if (reason === FinishReason.TOOL_CALLS && this.#answeredByTool && this.#toolCalls === 0) reason = FinishReason.STOP;
    return finishEvent(0, reason, native);
  }
}

/** A source that the answer leans on. `json` is its exact text. */
function citationEvent(citation: JsonObject, json: string): ChatEvent {
  const location = isObject(citation.location) ? citation.location : {};
  const web = isObject(location.web) ? location.web : {};
  const quotes = Array.isArray(citation.sourceContent) ? citation.sourceContent : [];
  return event("citation", {
    $typeName: "outrigger.chat.v1.Citation",
    choice: 0,
    url: textMember(web, "url"),
    title: textMember(citation, "title"),
    quote: quotes.map((quote: unknown) => (isObject(quote) ? textMember(quote, "text") : "")).join(""),
    native: { $typeName: "outrigger.chat.v1.Extra", dialect: "bedrock", path: "citations", json },
  });
}

/** A block that only this dialect knows, such as a tool that the provider ran itself. */
function extraEvent(json: string): ChatEvent {
  return event("extra", {
    $typeName: "outrigger.chat.v1.ExtraEvent",
    choice: 0,
    extra: { $typeName: "outrigger.chat.v1.Extra", dialect: "bedrock", path: "content", json },
  });
}

/** Reads a whole answer. */
function bodyReader(input: AnswerInput): BodyReader {
  return new BodyReader(input.answerBytesMax, (bytes, events) => {
    readBody(textOf(bytes), input, events);
    return undefined;
  });
}

/** Reads a whole body into `events`. */
function readBody(text: string, input: AnswerInput, events: ChatEvent[]): void {
  const answer = parseObject(text);
  const message = isObject(answer.output) ? answer.output.message : undefined;
  if (!isObject(message)) {
    if (answer.output === undefined && (typeof answer.message === "string" || typeof answer.Message === "string")) throw faultInBody(text);
    throw invalid("no message");
  }
  const reading = new Reading(input);
  events.push(reading.start());
  const place = JsonPlace.root(text);
  const content = place.member("output").member("message").member("content");
  // A guardrail that lets nothing through leaves no content at all.
  (Array.isArray(message.content) ? message.content : []).forEach((block: unknown, index) => {
    if (!isObject(block)) throw invalid("a block that is no object");
    readBlock(block, content.element(index), reading, events);
  });
  if (isObject(answer.usage)) events.push(usageEvent(readUsage(answer.usage, place.member("usage").json())));
  const finish = reading.finish(answer.stopReason);
  if (finish === undefined) throw reading.ending;
  events.push(finish, endEvent());
}

/** A whole block, which has one member that says its kind. */
function readBlock(block: JsonObject, place: JsonPlace, reading: Reading, events: ChatEvent[]): void {
  if (typeof block.text === "string") {
    if (block.text !== "") events.push(textEvent(0, block.text));
  } else if (isObject(block.reasoningContent)) {
    const { reasoningText, redactedContent } = block.reasoningContent;
    const number = reading.reasoningBlock();
    if (isObject(reasoningText)) {
      const seal = { signature: textMember(reasoningText, "signature"), dialect: "bedrock" };
      events.push(reasoningEvent(0, number, textMember(reasoningText, "text"), seal));
    } else if (typeof redactedContent === "string") {
      events.push(reasoningEvent(0, number, "", { redacted: redactedContent, dialect: "bedrock" }));
    }
  } else if (isObject(block.toolUse) && !isServerTool(block.toolUse)) {
    const input = isObject(block.toolUse.input) ? place.member("toolUse").member("input").json() : "{}";
    if (reading.isAnswerTool(textMember(block.toolUse, "name"))) {
      reading.answerByTool();
      events.push(textEvent(0, input));
    } else events.push(reading.toolCall(block.toolUse, input).event);
  } else if (isObject(block.citationsContent)) readCited(block.citationsContent, place.member("citationsContent"), events);
  else events.push(extraEvent(place.json()));
}

/** Text with its sources: the text stands inside and nowhere else. */
function readCited(cited: JsonObject, place: JsonPlace, events: ChatEvent[]): void {
  for (const piece of Array.isArray(cited.content) ? cited.content : []) {
    if (isObject(piece) && textMember(piece, "text") !== "") events.push(textEvent(0, textMember(piece, "text")));
  }
  (Array.isArray(cited.citations) ? cited.citations : []).forEach((citation: unknown, index) => {
    if (isObject(citation)) events.push(citationEvent(citation, place.member("citations").element(index).json()));
  });
}

/** Tools that the provider runs itself are no calls of the caller's tools. */
function isServerTool(toolUse: JsonObject): boolean {
  return textMember(toolUse, "type") === "server_tool_use";
}

/** A block of a stream that is not at its end yet. */
interface OpenBlock {
  readonly kind: "tool" | "answer" | "thinking" | "server";
  /** The number of the tool call or of the block of thinking. */
  readonly number: number;
  /** Whether a piece of input came that was not empty. */
  hasInput: boolean;
  /** Of a tool that the provider runs: its start as JSON, and the pieces of its input. */
  readonly start: string;
  pieces: string;
}

/** Reads a stream. */
class StreamReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #frames: EventStreamReader;
  readonly #reading: Reading;
  readonly #open = new Map<number, OpenBlock>();
  #begun = false;
  #stopped = false;
  /** The whole answer, should it come as one body although a stream was asked for. */
  #body: BodyReader | undefined;
  #decided = false;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#frames = new EventStreamReader(input.answerBytesMax);
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
    const events: ChatEvent[] = [];
    try {
      for (const frame of this.#frames.read(bytes)) this.#event(eventOf(frame), frame.payload, events);
      this.failure = faultOfBytes(this.#frames, this.#input.answerBytesMax);
    } catch (caught) {
      this.failure = asFault(caught);
    }
    return events.length === 0 ? none : [events];
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (this.#body !== undefined) {
      const batches = this.#body.end();
      this.failure = this.#body.failure;
      return batches;
    }
    if (this.#frames.leftOver > 0) this.failure = incomplete("The provider's stream broke off inside a frame.");
    else if (!this.#stopped) this.failure = incomplete("The provider's stream ended before its answer was complete.");
    else this.failure = this.#reading.ending;
    return this.failure === undefined ? [[endEvent()]] : none;
  }

  /** A frame begins with its length, whose first byte is no brace for any length that is allowed; a body of JSON begins with one. */
  #decide(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#decided = true;
    if (bytes[0] === 0x7b) this.#body = bodyReader(this.#input);
  }

  #event(type: string, payload: Uint8Array, events: ChatEvent[]): void {
    switch (type) {
      case "contentBlockDelta":
        this.#delta(textOf(payload), events);
        break;
      case "contentBlockStart":
        this.#start(textOf(payload), events);
        break;
      case "contentBlockStop":
        this.#begin(events);
        this.#stop(indexOf(parseObject(textOf(payload))), events);
        break;
      case "messageStart":
        if (this.#begun) throw invalid("a second answer inside the first");
        this.#begin(events);
        break;
      case "messageStop": {
        this.#begin(events);
        for (const index of [...this.#open.keys()]) this.#stop(index, events);
        const finish = this.#reading.finish(parseObject(textOf(payload)).stopReason);
        if (finish !== undefined) events.push(finish);
        this.#stopped = true;
        break;
      }
      case "metadata": {
        const text = textOf(payload);
        const { usage } = parseObject(text);
        if (isObject(usage)) events.push(usageEvent(readUsage(usage, lateMember(text, "usage"))));
        break;
      }
      default:
        // A kind of event that nobody knows yet says something that nobody asked for.
        break;
    }
  }

  /** The first event of all; a stream whose own beginning is missing still has one. */
  #begin(events: ChatEvent[]): void {
    if (this.#begun) return;
    this.#begun = true;
    events.push(this.#reading.start());
  }

  /** Only tools have a start: text and thinking begin with their first piece. */
  #start(text: string, events: ChatEvent[]): void {
    this.#begin(events);
    const data = parseObject(text);
    const index = indexOf(data);
    const start = isObject(data.start) ? data.start : {};
    if (this.#open.has(index)) throw invalid("two open blocks with one index");
    if (isObject(start.toolUse) && !isServerTool(start.toolUse)) {
      if (this.#reading.isAnswerTool(textMember(start.toolUse, "name"))) {
        this.#reading.answerByTool();
        this.#opened(index, "answer", 0);
        return;
      }
      const call = this.#reading.toolCall(start.toolUse, "");
      this.#opened(index, "tool", call.index);
      events.push(call.event);
    } else if (Object.keys(start).length > 0) this.#opened(index, "server", 0, JsonPlace.root(text).member("start").json());
  }

  #opened(index: number, kind: OpenBlock["kind"], number: number, start = ""): OpenBlock {
    const open: OpenBlock = { kind, number, hasInput: false, start, pieces: "" };
    this.#open.set(index, open);
    return open;
  }

  #delta(text: string, events: ChatEvent[]): void {
    this.#begin(events);
    const data = parseObject(text);
    const { delta } = data;
    if (!isObject(delta)) throw invalid("a piece without content");
    if (typeof delta.text === "string") {
      if (delta.text !== "") events.push(textEvent(0, delta.text));
    } else if (isObject(delta.toolUse)) this.#toolInput(indexOf(data), textMember(delta.toolUse, "input"), events);
    else if (isObject(delta.reasoningContent)) this.#think(indexOf(data), delta.reasoningContent, events);
    else if (isObject(delta.citation)) {
      events.push(citationEvent(delta.citation, JsonPlace.root(text).member("delta").member("citation").json()));
    }
  }

  /** A piece of a tool's input. */
  #toolInput(index: number, piece: string, events: ChatEvent[]): void {
    const open = this.#open.get(index);
    if (open === undefined) throw invalid("a piece of a tool call that has not begun");
    if (piece === "") return;
    open.hasInput = true;
    switch (open.kind) {
      case "tool":
        events.push(toolCallEvent(0, open.number, "", "", piece));
        break;
      case "answer":
        events.push(textEvent(0, piece));
        break;
      default:
        // Blocks that are passed on whole are held until their end, and so have a limit.
        open.pieces += piece;
        if (open.pieces.length > this.#input.answerBytesMax) throw tooLarge(this.#input.answerBytesMax);
    }
  }

  #think(index: number, piece: JsonObject, events: ChatEvent[]): void {
    const open = this.#open.get(index) ?? this.#opened(index, "thinking", this.#reading.reasoningBlock());
    if (open.kind !== "thinking") throw invalid("thinking inside another block");
    const seal = { signature: textMember(piece, "signature"), redacted: textMember(piece, "redactedContent") };
    const text = textMember(piece, "text");
    if (seal.signature !== "" || seal.redacted !== "") events.push(reasoningEvent(0, open.number, text, { ...seal, dialect: "bedrock" }));
    else if (text !== "") events.push(reasoningEvent(0, open.number, text));
  }

  #stop(index: number, events: ChatEvent[]): void {
    const open = this.#open.get(index);
    if (open === undefined) return;
    this.#open.delete(index);
    // No arguments are an object without members, and no piece says so.
    if (open.kind === "tool" && !open.hasInput) events.push(toolCallEvent(0, open.number, "", "", "{}"));
    else if (open.kind === "answer" && !open.hasInput) events.push(textEvent(0, "{}"));
    else if (open.kind === "server") events.push(extraEvent(withInput(open)));
  }
}

/** A block that was streamed, whole again: its start with the input that came in pieces. */
function withInput({ start, pieces }: OpenBlock): string {
  const members = parseObject(start);
  if (!isObject(members.toolUse)) return start;
  let input: unknown = pieces === "" ? {} : pieces;
  try {
    input = JSON.parse(pieces);
  } catch {
    // Pieces that are no JSON stay text.
  }
  return JSON.stringify({ toolUse: { ...members.toolUse, input } });
}

function indexOf(data: JsonObject): number {
  return typeof data.contentBlockIndex === "number" ? data.contentBlockIndex : 0;
}

function textMember(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === "string" ? value : "";
}

const none: readonly Batch[] = Object.freeze([]);
