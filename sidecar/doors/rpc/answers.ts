/**
 * The two ways in which the hot methods answer, for the pump to drive: message by message, and whole.
 */
import { type Batch, Collector } from "../../../proto/chat.ts";
import { encodeEvents } from "../../../proto/encodeEvents.ts";
import { encodeResponse } from "../../../proto/encodeResponse.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { ChatResponse } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { eventsJson, responseJson } from "../../../proto/responseJson.ts";
import type { Call } from "../../call.ts";
import type { AnswerHead, AnswerTail, Refusal, Rendering } from "../pump.ts";
import { envelopeHead, wrapText, writeHead } from "./envelope.ts";
import { answerMetadata } from "./metadata.ts";
import type { Wire } from "./wire.ts";

/** Writes a stream: each batch of events is one message. */
export class StreamAnswer implements Rendering {
  readonly #wire: Wire;
  readonly #requestId: string;

  constructor(wire: Wire, requestId: string) {
    this.#wire = wire;
    this.#requestId = requestId;
  }

  head(call: Call): AnswerHead {
    return this.#wire.head(answerMetadata(call.id, call.notes));
  }

  write(batch: Batch): Uint8Array | undefined {
    if (batch.length === 0) return undefined;
    if (this.#wire.json) return wrapText(0, eventsJson(batch));
    const bytes = encodeEvents(batch, envelopeHead, allocate);
    writeHead(bytes, 0, bytes.byteLength - envelopeHead);
    return bytes;
  }

  end(): AnswerTail {
    return this.#wire.end(undefined);
  }

  refuse(fault: Fault, call: Call): Refusal {
    return this.#wire.refuse(fault, call.id, answerMetadata(call.id, call.notes));
  }

  fail(fault: Fault): AnswerTail {
    return this.#wire.fail(fault, this.#requestId);
  }
}

/** Writes a whole answer at its end: the fold of the same stream. */
export class UnaryAnswer implements Rendering {
  readonly #wire: Wire;
  readonly #requestId: string;
  readonly #collector = new Collector();

  constructor(wire: Wire, requestId: string) {
    this.#wire = wire;
    this.#requestId = requestId;
  }

  head(call: Call): AnswerHead {
    return this.#wire.head(answerMetadata(call.id, call.notes));
  }

  write(batch: Batch): undefined {
    this.#collector.add(batch);
    return undefined;
  }

  end(): AnswerTail {
    return this.#wire.end(wholeMessage(this.#wire, this.#collector.response));
  }

  refuse(fault: Fault, call: Call): Refusal {
    return this.#wire.refuse(fault, call.id, answerMetadata(call.id, call.notes));
  }

  fail(fault: Fault): AnswerTail {
    return this.#wire.fail(fault, this.#requestId);
  }
}

function wholeMessage(wire: Wire, chat: ChatResponse): Uint8Array | string {
  if (wire.json) {
    const json = responseJson(chat);
    return wire.enveloped ? wrapText(0, json) : json;
  }
  if (!wire.enveloped) return encodeResponse(chat, 0, allocate);
  const bytes = encodeResponse(chat, envelopeHead, allocate);
  writeHead(bytes, 0, bytes.byteLength - envelopeHead);
  return bytes;
}

function allocate(length: number): Uint8Array {
  return Buffer.allocUnsafe(length);
}
