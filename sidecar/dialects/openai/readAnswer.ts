/**
 * Reads answers: whole bodies, and streams of chunks.
 *
 * Batches carry the bytes they were made of, so that a door of this dialect passes on what the conversation does not model. Not among
 * those bytes are the frame that ends a stream, which the door writes when the answer is really complete; a frame of usage that the
 * caller did not ask for; an error; and whatever comes after a tool call that had to be put right.
 */
import { type Batch, endEvent, heartbeatEvent, nativeBatch } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject } from "../../framing/json.ts";
import { type SseBlock, type SseFrame, SseReader } from "../../framing/sse.ts";
import type { BodyReader } from "../bodyReader.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { faultInAnswer, noWords, readError } from "../errorBody.ts";
import { bytesOf, incomplete, invalid, none, parseObject, passedBody, tooLarge } from "../passedAnswer.ts";
import { AnswerEvents, type CallersOf } from "./answerEvents.ts";
import { isWordsMember, PlainChunks, type WordsMember } from "./plainChunk.ts";

/** Begins to read an answer. `callersOf` is asked for the names of tools once the first of them is called. */
export function readAnswer(input: AnswerInput, callersOf: CallersOf = ownNames): AnswerReader {
  return input.streaming ? new StreamReader(input, callersOf) : readBody(input, callersOf, true);
}

/** A stream of chunks in frames of server-sent events. */
class StreamReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #callersOf: CallersOf;
  readonly #frames: SseReader;
  readonly #events: AnswerEvents;
  readonly #plain = new PlainChunks();
  /** Reads an answer that is no stream although one was asked for; undefined once it is known to be one. */
  #body: BodyReader | undefined;
  #begun = false;
  /** Whether the provider said that nothing more comes. */
  #done = false;

  constructor(input: AnswerInput, callersOf: CallersOf) {
    this.#input = input;
    this.#callersOf = callersOf;
    this.#frames = new SseReader(input.answerBytesMax);
    this.#events = new AnswerEvents(input, callersOf);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (!this.#begun) {
      const first = bytes.find((byte) => byte > SPACE);
      // What begins like this is no field of an event: the status said yes and the body is a single object, often an error.
      if (first === OPEN_BRACE) this.#body = readBody(this.#input, this.#callersOf, false);
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
    // A choice that never began looks like one that was not asked for, unless the provider says that this was all.
    const allBegan = this.#done || this.#events.count >= (this.#input.request.n ?? 1);
    if (!this.#events.complete || !allBegan) {
      this.failure = incomplete(this.#input.provider);
      return batches;
    }
    return [...batches, [endEvent()]];
  }

  /** Turns the frames of one read into batches: one, unless a frame must not be passed on. `last`: the frame lacks its blank line. */
  #take(block: SseBlock, last: boolean): readonly Batch[] {
    const batches: Batch[] = [];
    let events: ChatEvent[] = [];
    let start = -1;
    let end = -1;
    const close = (): void => {
      if (start !== -1) batches.push(nativeBatch(events, { dialect: "openai", form: "frames", bytes: bytesOf(block, start, end, last) }));
      else if (events.length > 0) batches.push(events);
      events = [];
      start = -1;
    };
    const { frames } = block;
    for (let i = 0; i < frames.length; i++) {
      const frame = frames[i];
      if (frame === undefined) break;
      const before = events.length;
      const passing = this.#frame(frame, events, last) && !this.#events.repaired;
      if (this.failure !== undefined) break;
      if (passing !== (start !== -1)) {
        const added = events.splice(before);
        close();
        events = added;
        if (passing) start = frame.start;
      }
      end = frame.end;
    }
    close();
    if (block.tooLong && this.failure === undefined) this.failure = tooLarge(this.#input);
    return batches;
  }

  /** Adds what one frame says. Returns whether its bytes may be passed on. */
  #frame(frame: SseFrame, out: ChatEvent[], last: boolean): boolean {
    const events = this.#events;
    if (frame.kind !== "data") {
      // Nothing may come before the start event, and a comment before the answer's beginning is no part of it.
      if (!events.started) return false;
      if (frame.kind === "comment") out.push(heartbeatEvent());
      return true;
    }
    if (frame.event === "" && frame.lines === undefined) {
      const plain = this.#plain;
      const words = plain.match(frame.block, frame.textStart, frame.textEnd);
      if (words !== undefined) {
        const choice = events.choice(plain.choice);
        if (plain.member === "content") events.text(choice, words, out);
        else events.thought(choice, words, out);
        return true;
      }
    }
    return this.#chunk(frame, out, last);
  }

  #chunk(frame: SseFrame, out: ChatEvent[], last: boolean): boolean {
    const text = frame.text();
    const trimmed = text.trim();
    // The word proves nothing: errors are followed by it, too. What counts is that every choice was finished.
    if (trimmed === "[DONE]") this.#done = true;
    if (trimmed === "[DONE]" || trimmed === "") return false;
    const wire = parseObject(trimmed);
    if (frame.event === "error") {
      const error = wire === undefined ? { ...noWords, message: trimmed } : (readError(wire) ?? readError({ error: wire }));
      this.failure = faultInAnswer(error ?? noWords);
      return false;
    }
    if (wire === undefined) {
      // A last frame that is cut is no answer that cannot be understood, but one that is not complete.
      if (!last) this.failure = invalid(this.#input.provider);
      return false;
    }
    const events = this.#events;
    const before = out.length;
    events.add(wire, trimmed, "delta", out);
    this.failure = events.failure;
    const choices: readonly unknown[] = Array.isArray(wire.choices) ? wire.choices : [];
    if (out.length === before + 1 && choices.length === 1) this.#learn(out[before], wire, frame);
    return choices.length > 0 || !isObject(wire.usage) || this.#input.nativeStreamUsage;
  }

  /** Keeps a chunk as the template if its words were all that it said, to us or to the calls that are being put together. */
  #learn(made: ChatEvent | undefined, wire: JsonObject, frame: SseFrame): void {
    const event = made?.event;
    if ((event?.case !== "text" && event?.case !== "reasoning") || isObject(wire.usage) || frame.lines !== undefined) return;
    const [choice] = wire.choices as readonly unknown[];
    if (!isObject(choice) || !isObject(choice.delta)) return;
    let words: WordsMember | undefined;
    for (const key of Object.keys(choice.delta)) {
      const value = choice.delta[key];
      const isWords = typeof value === "string" && value !== "" && isWordsMember(key);
      if (isWords && words === undefined) words = key;
      else if (isWords || (typeof value === "object" && value !== null && !(Array.isArray(value) && value.length === 0))) return;
    }
    if (words !== undefined) this.#plain.learn(frame.block, frame.textStart, frame.textEnd, event.value.choice, words);
  }
}

/** Reads a whole body. `isPassed`: whether its bytes are what a unary caller of this dialect expects. */
function readBody(input: AnswerInput, callersOf: CallersOf, isPassed: boolean): BodyReader {
  return passedBody(input, isPassed ? "openai" : undefined, (wire, json, out) => {
    const events = new AnswerEvents(input, callersOf);
    events.add(wire, json, "message", out);
    return events;
  });
}

/** Every tool is called by its own name. */
const ownNames: CallersOf = () => noNames;
const noNames: ReadonlyMap<string, string> = new Map();

const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
