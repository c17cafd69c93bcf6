/**
 * Reads answers: whole bodies, and streams of events.
 *
 * Batches carry the bytes they were made of, so that a door of this dialect passes on what the conversation does not model. Not among those
 * bytes are events that say that the answer failed, which the door tells in its own words, and whatever comes after a tool call that had
 * to be put right.
 */
import { type Batch, endEvent, heartbeatEvent, nativeBatch } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type SseBlock, type SseFrame, SseReader } from "../../framing/sse.ts";
import type { BodyReader } from "../bodyReader.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { bytesOf, incomplete, invalid, none, parseObject, passedBody, tooLarge } from "../passedAnswer.ts";
import { AnswerEvents, placeOf } from "./answerEvents.ts";
import { PlainDeltas } from "./plainDelta.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  return input.streaming ? new StreamReader(input) : readBody(input, true);
}

/** A stream of events in frames of server-sent events. */
class StreamReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #frames: SseReader;
  readonly #events: AnswerEvents;
  readonly #plain = new PlainDeltas();
  /** Reads an answer that is no stream although one was asked for; undefined once it is known to be one. */
  #body: BodyReader | undefined;
  #begun = false;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#frames = new SseReader(input.answerBytesMax);
    this.#events = new AnswerEvents(input);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (!this.#begun) {
      const first = bytes.find((byte) => byte > SPACE);
      // What begins like this is no field of an event: the status said yes and the body is a single object, often an error.
      if (first === OPEN_BRACE) this.#body = readBody(this.#input, false);
      this.#begun = first !== undefined;
    }
    if (this.#body !== undefined) {
      const batches = this.#body.read(bytes);
      this.failure = this.#body.failure;
      return batches;
    }
    return this.#take(this.#frames.read(bytes), false);
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (this.#body !== undefined) {
      const batches = this.#body.end();
      this.failure = this.#body.failure;
      return batches;
    }
    const batches = this.#take(this.#frames.end(), true);
    if (this.failure !== undefined) return batches;
    this.failure = this.#events.announced ?? (this.#events.complete ? undefined : incomplete(this.#input.provider));
    return this.failure === undefined ? [...batches, [endEvent()]] : batches;
  }

  /** Turns the frames of one read into batches: one, unless a frame must not be passed on. `last`: the frame lacks its blank line. */
  #take(block: SseBlock, last: boolean): readonly Batch[] {
    const batches: Batch[] = [];
    let events: ChatEvent[] = [];
    let start = -1;
    let end = -1;
    const close = (): void => {
      if (start !== -1)
        batches.push(nativeBatch(events, { dialect: "responses", form: "frames", bytes: bytesOf(block, start, end, last) }));
      else if (events.length > 0) batches.push(events);
      events = [];
      start = -1;
    };
    for (const frame of block.frames) {
      const before = events.length;
      const passing = this.#frame(frame, events, last) && !this.#events.repaired;
      if (passing !== (start !== -1)) {
        const added = events.splice(before);
        close();
        events = added;
        if (passing) start = frame.start;
      }
      if (passing) end = frame.end;
      if (this.failure !== undefined) break;
    }
    close();
    if (block.tooLong && this.failure === undefined) this.failure = tooLarge(this.#input);
    return batches;
  }

  /** Adds what one frame says. Returns whether its bytes may be passed on. */
  #frame(frame: SseFrame, out: ChatEvent[], last: boolean): boolean {
    const events = this.#events;
    // Behind the end nothing is said any more but a closing word that some servers have.
    if (events.complete) return false;
    if (frame.kind !== "data") {
      // Nothing may come before the start event, and a comment before the answer's beginning is no part of it.
      if (!events.started) return false;
      if (frame.kind === "comment") out.push(heartbeatEvent());
      return true;
    }
    const plain = this.#plain;
    const piece = frame.lines === undefined ? plain.match(frame.block, frame.textStart, frame.textEnd) : undefined;
    if (piece !== undefined) {
      events.piece(plain.place, plain.content, piece, out);
      return true;
    }
    const text = frame.text();
    const trimmed = text.trim();
    if (trimmed === "" || trimmed === "[DONE]") return false;
    const wire = parseObject(trimmed);
    if (wire === undefined) {
      // A last frame that is cut is no answer that cannot be understood, but one that is not complete.
      if (!last) this.failure = invalid(this.#input.provider);
      return false;
    }
    const before = out.length;
    const passing = events.add(wire, trimmed, frame.event, out);
    this.failure = events.failure;
    // Only a piece of text that said nothing else is an example for others.
    if (wire.type === "response.output_text.delta" && frame.lines === undefined && out.length === before + 1) {
      plain.learn(frame.block, frame.textStart, frame.textEnd, placeOf(wire.output_index), placeOf(wire.content_index));
    }
    return passing && events.started;
  }
}

/** Reads a whole body. `isPassed`: whether its bytes are what a unary caller of this dialect expects. */
function readBody(input: AnswerInput, isPassed: boolean): BodyReader {
  return passedBody(input, isPassed ? "responses" : undefined, (wire, json, out) => {
    const events = new AnswerEvents(input);
    events.addWhole(wire, json, out);
    return events;
  });
}

const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
