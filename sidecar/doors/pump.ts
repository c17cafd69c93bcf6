/**
 * Runs one call and writes its answer: the part that every door has in common.
 *
 * The head of the answer goes out with its first bytes, so that whatever fails before is a proper refusal with its own status; what
 * fails afterwards is said in the answer's own words. A caller that reads slowly stops the pulling, and so the provider. A caller that
 * leaves aborts the call's signal first, because a pending read does not notice that a loop was left; then the loop is left.
 */
import type { AnyRequest, Batch, NativeRequest } from "../../proto/chat.ts";
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import { type Call, type CallSignal, type DoorName, type House, newNotes, type Secret } from "../call.ts";
import type { Exchange } from "./exchange.ts";
import { pieceBytesMax } from "./keeper.ts";

/** What a door read of a call. The fields are those of `Call`. */
export interface CallParts {
  /** From `House.random`, made when the request came, so that a refused request has one too. */
  readonly id: string;
  readonly door: DoorName;
  readonly request: AnyRequest;
  readonly native: NativeRequest | undefined;
  readonly streaming: boolean;
  readonly nativeStreamUsage: boolean;
  readonly validateOnly: boolean;
  /** No if left out. */
  readonly countOnly?: boolean;
  readonly credential: Secret | undefined;
  readonly traceparent: string | undefined;
  /** How long the caller waits, in milliseconds, as it said; `Infinity` if it did not. */
  readonly timeoutMs: number;
}

/** How an answer begins. */
export interface AnswerHead {
  readonly status: number;
  /** Names in lower case and values, in turn. */
  readonly headers: readonly string[];
  /** Whether trailers may come at the end, which HTTP/2 must know at the head. */
  readonly trailing?: boolean;
}

/** How an answer ends. */
export interface AnswerTail {
  readonly data?: Uint8Array | string | undefined;
  /** Names in lower case and values, in turn. */
  readonly trailers?: readonly string[] | undefined;
}

/** The whole of an answer that never began. */
export interface Refusal extends AnswerTail {
  readonly status: number;
  /** Names in lower case and values, in turn. */
  readonly headers: readonly string[];
}

/** Writes one answer in a door's own words. */
export interface Rendering {
  /** The head of an answer that succeeds so far. `call.notes` tells what is known by now. */
  head(call: Call): AnswerHead;
  /** What to send of a batch now, or undefined. */
  write(batch: Batch): Uint8Array | string | undefined;
  /** The answer is complete. */
  end(): AnswerTail;
  /** An answer that never began. */
  refuse(fault: Fault, call: Call): Refusal;
  /** An answer that fails after it began. */
  fail(fault: Fault): AnswerTail;
}

/** A deadline is taken this much earlier than the caller said, so that the answer arrives before the caller's own clock runs out. */
const answerMarginMs = 5;

/** Runs a call with the policy that holds now, and sees its answer through. Returns at once. */
export function pump(house: House, exchange: Exchange, parts: CallParts, rendering: Rendering): void {
  new Pump(house, exchange, parts, rendering).start();
}

/** The call that a door's parts make, beginning now. `signal` is the one that ends it. */
export function callOf(parts: CallParts, signal: CallSignal, startedAtMs: number): Call {
  return {
    id: parts.id,
    door: parts.door,
    request: parts.request,
    native: parts.native,
    streaming: parts.streaming,
    nativeStreamUsage: parts.nativeStreamUsage,
    validateOnly: parts.validateOnly,
    countOnly: parts.countOnly ?? false,
    credential: parts.credential,
    traceparent: parts.traceparent,
    signal,
    startedAtMs,
    deadlineAtMs: startedAtMs + untilDeadlineMs(parts.timeoutMs),
    consumer: undefined,
    target: undefined,
    warnings: noWarnings,
    watch: undefined,
    notes: newNotes(parts.validateOnly),
  };
}

const noWarnings: Call["warnings"] = [];

/** How long a call may take whose caller waits for so long, in milliseconds: the answer must arrive before the caller's own clock runs out. */
export function untilDeadlineMs(timeoutMs: number): number {
  return timeoutMs > 2 * answerMarginMs ? timeoutMs - answerMarginMs : timeoutMs / 2;
}

/** Why a call that has only just been made is not begun, or undefined if it may begin. */
export function turnedAway(house: House, call: Call): Fault | undefined {
  if (house.draining()) {
    return new Fault(FaultReason.DRAINING, "The sidecar is stopping and takes no new calls.", { retryAfterMs: 1_000 });
  }
  return call.deadlineAtMs <= call.startedAtMs ? deadlineExceeded() : undefined;
}

/** The fault of a call whose deadline passed. */
export function deadlineExceeded(): Fault {
  return new Fault(FaultReason.DEADLINE_EXCEEDED, "The call did not end within the time that its caller gave it.");
}

/** The fault of an answer that ends without its last event; no half answer may pass for a whole one. */
export function incomplete(): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "The answer ended before it was complete.");
}

class Pump {
  readonly #house: House;
  readonly #exchange: Exchange;
  readonly #rendering: Rendering;
  readonly #leaving = new Leaving();
  readonly #call: Call;
  readonly #onResult = (result: IteratorResult<Batch>) => this.#take(result);
  readonly #onError = (caught: unknown) => this.#failed(caught);
  readonly #onDrained = () => this.#pull();
  #iterator: AsyncIterator<Batch> | undefined;
  #cancelDeadline: (() => void) | undefined;
  #headSent = false;
  #complete = false;
  /** Whether nothing more is to be written: the answer is whole, has failed, or nobody waits for it. */
  #over = false;

  constructor(house: House, exchange: Exchange, parts: CallParts, rendering: Rendering) {
    this.#house = house;
    this.#exchange = exchange;
    this.#rendering = rendering;
    this.#call = callOf(parts, this.#leaving, house.clock.monotonicMs());
  }

  start(): void {
    const { deadlineAtMs, startedAtMs } = this.#call;
    const fault = turnedAway(this.#house, this.#call);
    if (fault !== undefined) {
      this.#turnAway(fault);
      return;
    }
    if (deadlineAtMs !== Number.POSITIVE_INFINITY) {
      this.#cancelDeadline = this.#house.clock.after(deadlineAtMs - startedAtMs, () => this.#stop(deadlineExceeded()));
    }
    this.#exchange.gone((fault) => this.#stop(fault));
    if (this.#over) return;
    try {
      this.#iterator = this.#house.policy().answer(this.#call)[Symbol.asyncIterator]();
    } catch (caught) {
      this.#failed(caught);
      return;
    }
    this.#pull();
  }

  #pull(): void {
    if (this.#over || this.#iterator === undefined) return;
    this.#iterator.next().then(this.#onResult, this.#onError);
  }

  #take(result: IteratorResult<Batch>): void {
    if (this.#over) return;
    if (result.done === true) {
      this.#finish();
      return;
    }
    const batch = result.value;
    if (batch.length > 0) this.#complete = batch[batch.length - 1]?.event.case === "end";
    let more: boolean;
    try {
      more = this.#write(batch);
    } catch (caught) {
      // The provider is still sending, to nobody from now on.
      this.#leaving.abort(toFault(caught));
      this.#failed(caught);
      this.#leave();
      return;
    }
    if (more) this.#pull();
    else this.#exchange.drained(this.#onDrained);
  }

  #write(batch: Batch): boolean {
    const data = this.#rendering.write(batch);
    if (data === undefined || data.length === 0) return true;
    this.#sendHead();
    return this.#exchange.write(data);
  }

  #finish(): void {
    if (!this.#complete) {
      // The readers of answers see to this; should one ever not, its half answer must not pass for a whole one.
      this.#failed(incomplete());
      return;
    }
    try {
      this.#end(this.#rendering.end());
    } catch (caught) {
      this.#failed(caught);
    }
  }

  #end(tail: AnswerTail): void {
    const { data, trailers } = tail;
    const bytes = data !== undefined && data.length > pieceBytesMax ? (typeof data === "string" ? Buffer.from(data) : data) : undefined;
    if (bytes === undefined) {
      this.#sendHead();
      this.#exchange.end(data, trailers);
    } else {
      // The exchange adds the length only where the whole body comes at once.
      this.#sendHead("content-length", String(bytes.byteLength));
      new Remainder(this.#exchange, bytes, trailers).write();
    }
    this.#over = true;
    this.#cancelDeadline?.();
  }

  #failed(caught: unknown): void {
    if (!(caught instanceof Fault)) this.#house.warn("A call failed in a way that nobody foresaw.", { call: this.#call.id }, caught);
    if (this.#over) return;
    this.#close(toFault(caught));
  }

  /** The answer must stop now, wherever it is. */
  #stop(fault: Fault): void {
    if (this.#over) return;
    this.#leaving.abort(fault);
    this.#close(fault);
    this.#leave();
  }

  /** Says the fault, as far as anybody hears. */
  #close(fault: Fault): void {
    this.#over = true;
    this.#cancelDeadline?.();
    if (!this.#exchange.writable) return;
    try {
      if (this.#headSent) this.#fail(fault);
      else this.#refuse(fault);
    } catch (caught) {
      this.#house.warn("A fault could not be told to its caller.", { call: this.#call.id }, caught);
      this.#exchange.reset();
    }
  }

  #fail(fault: Fault): void {
    const tail = this.#rendering.fail(fault);
    this.#exchange.end(tail.data, tail.trailers);
  }

  #turnAway(fault: Fault): void {
    this.#over = true;
    this.#house.refused(this.#call.door, this.#call.id, fault);
    this.#refuse(fault);
  }

  #refuse(fault: Fault): void {
    const refusal = this.#rendering.refuse(fault, this.#call);
    this.#exchange.head(refusal.status, refusal.headers, refusal.trailers !== undefined);
    this.#exchange.end(refusal.data, refusal.trailers);
  }

  #sendHead(...more: readonly string[]): void {
    if (this.#headSent) return;
    const head = this.#rendering.head(this.#call);
    this.#exchange.head(head.status, more.length === 0 ? head.headers : [...head.headers, ...more], head.trailing);
    this.#headSent = true;
  }

  #leave(): void {
    this.#iterator?.return?.().then(undefined, this.#onError);
  }
}

/** Tells a call that nobody waits for it. Nearly every call has one listener, and few are ever told. */
class Leaving implements CallSignal {
  aborted = false;
  reason: unknown = undefined;
  #listeners: readonly (() => void)[] = noListeners;

  addEventListener(_type: "abort", listener: () => void): void {
    this.#listeners = [...this.#listeners, listener];
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    this.#listeners =
      this.#listeners.length === 1 && this.#listeners[0] === listener ? noListeners : this.#listeners.filter((each) => each !== listener);
  }

  /** Tells whoever listens, once. */
  abort(reason: Fault): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    const listeners = this.#listeners;
    this.#listeners = noListeners;
    for (const listener of listeners) listener();
  }
}

const noListeners: readonly (() => void)[] = Object.freeze([]);

/** Writes a large last piece as fast as the caller takes it, so that one who takes nothing is noticed and holds little. */
class Remainder {
  readonly #exchange: Exchange;
  readonly #bytes: Uint8Array;
  readonly #trailers: readonly string[] | undefined;
  readonly #write = () => this.write();
  #written = 0;

  constructor(exchange: Exchange, bytes: Uint8Array, trailers: readonly string[] | undefined) {
    this.#exchange = exchange;
    this.#bytes = bytes;
    this.#trailers = trailers;
  }

  write(): void {
    const bytes = this.#bytes;
    while (bytes.byteLength - this.#written > pieceBytesMax) {
      const piece = bytes.subarray(this.#written, this.#written + pieceBytesMax);
      this.#written += piece.byteLength;
      if (!this.#exchange.write(piece)) {
        this.#exchange.drained(this.#write);
        return;
      }
    }
    this.#exchange.end(bytes.subarray(this.#written), this.#trailers);
  }
}
