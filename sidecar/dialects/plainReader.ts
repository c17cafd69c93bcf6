/**
 * The way from bytes to events for dialects whose answers have no server half: nobody gets their bytes as they came, so batches carry
 * none. What an object means is told by the dialect; here is what holds for every one, whole or in a stream.
 */
import { type Batch, endEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { NdjsonReader } from "../framing/ndjson.ts";
import { type SseBlock, SseReader } from "../framing/sse.ts";
import type { AnswerInput, AnswerReader } from "./dialect.ts";

/** Makes events of an answer's JSON values in order. */
export interface AnswerEvents {
  /** Why the answer failed, once a value said so; the events before it were given. */
  readonly failure: Fault | undefined;
  /** Whether the provider's own end was seen. */
  readonly complete: boolean;
  /** Adds the events of one value; `json` is its text. */
  add(value: unknown, json: string, out: ChatEvent[]): void;
  /** Adds what is to be said when the provider only shows that it is alive. */
  ping(out: ChatEvent[]): void;
}

/** What the reader of a body must know, whatever was asked. */
export type BodyInput = Pick<AnswerInput, "provider" | "answerBytesMax">;

/** Reads an answer that is one JSON value. */
export function readBody(input: BodyInput, events: AnswerEvents): AnswerReader {
  return new BodyReader(input, events);
}

/** Reads an answer that is a stream of JSON lines. */
export function readLines(input: AnswerInput, events: AnswerEvents): AnswerReader {
  return new LinesReader(input, events);
}

/** Reads an answer that is a stream of server-sent events with JSON as data. */
export function readFrames(input: AnswerInput, events: AnswerEvents): AnswerReader {
  return new FramesReader(input, events);
}

/** The fault that an answer cannot be understood; `what` says what was wrong with it, as a sentence. */
export function notUnderstood(input: BodyInput, what = "The provider's answer could not be understood."): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, what, { facts: { provider: input.provider } });
}

function incomplete({ provider }: BodyInput): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "The provider's answer ended before it was complete.", { facts: { provider } });
}

function tooLarge(input: BodyInput, what: string): Fault {
  return notUnderstood(input, `${what} is larger than ${input.answerBytesMax} bytes.`);
}

class BodyReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: BodyInput;
  readonly #events: AnswerEvents;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  constructor(input: BodyInput, events: AnswerEvents) {
    this.#input = input;
    this.#events = events;
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    this.#length += bytes.length;
    if (this.#length > this.#input.answerBytesMax) {
      this.#pieces.length = 0;
      this.failure = tooLarge(this.#input, "The provider's answer");
    } else this.#pieces.push(bytes);
    return none;
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const text = lenient.decode(Buffer.concat(this.#pieces));
    const value = parsed(text);
    if (value === undefined) {
      this.failure = text.trim() === "" ? incomplete(this.#input) : notUnderstood(this.#input);
      return none;
    }
    const out: ChatEvent[] = [];
    this.#events.add(value, text, out);
    this.failure = this.#events.failure ?? (this.#events.complete ? undefined : incomplete(this.#input));
    if (this.failure === undefined) out.push(endEvent());
    return out.length === 0 ? none : [out];
  }
}

/** What lines and frames have in common: one batch for each read, and an end that has to be earned. */
class ValuesReader {
  failure: Fault | undefined;
  readonly input: AnswerInput;
  readonly events: AnswerEvents;

  constructor(input: AnswerInput, events: AnswerEvents) {
    this.input = input;
    this.events = events;
  }

  /** `last`: what closes the value is missing, so that it may be cut. */
  take(text: string, last: boolean, out: ChatEvent[]): void {
    const value = parsed(text);
    if (value === undefined) {
      // What is cut is no answer that cannot be understood, but one that is not complete.
      if (!last) this.failure = notUnderstood(this.input);
      return;
    }
    this.events.add(value, text, out);
    this.failure = this.events.failure;
  }

  finish(out: ChatEvent[]): readonly Batch[] {
    if (this.failure === undefined) {
      if (this.events.complete) out.push(endEvent());
      else this.failure = incomplete(this.input);
    }
    return batch(out);
  }
}

class LinesReader extends ValuesReader implements AnswerReader {
  readonly #lines: NdjsonReader;

  constructor(input: AnswerInput, events: AnswerEvents) {
    super(input, events);
    this.#lines = new NdjsonReader(input.answerBytesMax);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const { texts, tooLong } = this.#lines.read(bytes);
    const out: ChatEvent[] = [];
    for (const text of texts) {
      this.take(text, false, out);
      if (this.failure !== undefined) return batch(out);
    }
    if (tooLong) this.failure = tooLarge(this.input, "A line of the provider's answer");
    return batch(out);
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const out: ChatEvent[] = [];
    for (const text of this.#lines.end().texts) this.take(text, true, out);
    return this.finish(out);
  }
}

class FramesReader extends ValuesReader implements AnswerReader {
  readonly #frames: SseReader;

  constructor(input: AnswerInput, events: AnswerEvents) {
    super(input, events);
    this.#frames = new SseReader(input.answerBytesMax);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const out: ChatEvent[] = [];
    this.#take(this.#frames.read(bytes), false, out);
    return batch(out);
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const out: ChatEvent[] = [];
    this.#take(this.#frames.end(), true, out);
    return this.finish(out);
  }

  #take(block: SseBlock, last: boolean, out: ChatEvent[]): void {
    for (const frame of block.frames) {
      if (frame.kind === "comment") this.events.ping(out);
      if (frame.kind !== "data") continue;
      const text = frame.text();
      // Some servers close with this word as others do; it proves nothing.
      if (text.trim() === "" || text.trim() === "[DONE]") continue;
      this.take(text, last, out);
      if (this.failure !== undefined) return;
    }
    if (block.tooLong) this.failure = tooLarge(this.input, "An event of the provider's answer");
  }
}

const none: readonly Batch[] = [];
const lenient = new TextDecoder("utf-8");

function batch(out: ChatEvent[]): readonly Batch[] {
  return out.length === 0 ? none : [out];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
