/** Answers that are one body, for dialects whose readers throw what is wrong with it. */
import { type Batch, nativeBatch } from "../../proto/chat.ts";
import type { Fault } from "../../proto/fault.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { asFault, tooLarge } from "./answerFaults.ts";
import type { AnswerReader } from "./dialect.ts";

/**
 * Reads a whole body into `events`, and returns the dialect in which its bytes may be passed on as they came, or undefined. Throws a
 * fault for what is wrong with it; the events that it gave before reach the caller.
 */
export type ReadBody = (bytes: Uint8Array, events: ChatEvent[]) => string | undefined;

/** Gathers a body up to its limit, and reads it once it is whole. */
export class BodyReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #answerBytesMax: number;
  readonly #readBody: ReadBody;
  #pieces: Uint8Array[] = [];
  #length = 0;

  constructor(answerBytesMax: number, readBody: ReadBody) {
    this.#answerBytesMax = answerBytesMax;
    this.#readBody = readBody;
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    this.#length += bytes.length;
    this.#pieces.push(bytes);
    if (this.#length > this.#answerBytesMax) {
      this.#pieces = [];
      this.failure = tooLarge(this.#answerBytesMax);
    }
    return none;
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    const bytes = joined(this.#pieces, this.#length);
    const events: ChatEvent[] = [];
    let dialect: string | undefined;
    try {
      dialect = this.#readBody(bytes, events);
    } catch (caught) {
      this.failure = asFault(caught);
    }
    if (dialect !== undefined) return [nativeBatch(events, { dialect, form: "body", bytes })];
    return events.length === 0 ? none : [events];
  }
}

/** Pieces as one: the piece itself where there is one. `length` is that of all of them. */
export function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return only;
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

const none: readonly Batch[] = Object.freeze([]);
