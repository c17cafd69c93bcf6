/** One log line, the counters, and the price of every call, however it ends. */
import { type Batch, nativeBatch } from "../../proto/chat.ts";
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import { FinishReason, type Money, type Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type AnswerWatcher, type Call, type Clock, type Filter, watchAnswer } from "../call.ts";

/** What is known of a call once it is over. Holds no content, no credential and no prompt, so it may be written down as it is. */
export interface CallRecord {
  readonly call: Call;
  /** How it ended: `ok`, or a fault's name such as `MODEL_NOT_FOUND`. */
  readonly outcome: string;
  /** What went wrong; undefined if all went well. */
  readonly fault: Fault | undefined;
  readonly totalMs: number;
  /** From the start to the provider's first content, or undefined if there was none. */
  readonly firstContentMs: number | undefined;
  readonly usage: Usage | undefined;
  readonly finishReason: FinishReason;
  readonly cost: Money | undefined;
}

/**
 * What a call costs: `dayMs` is a time in milliseconds since 1970, for dated prices; `namespace` is where the provider and the price
 * book are. Undefined without a price.
 */
export type PriceOf = (provider: string, model: string, usage: Usage, dayMs: number, namespace: string) => Money | undefined;

/** Makes the filter. `write` puts a record where records go. */
export function record(priceOf: PriceOf, write: (record: CallRecord) => void, clock: Clock): Filter {
  return function record(call, next) {
    return watchAnswer(() => next(call), new Recorder(call, priceOf, write, clock));
  };
}

/** Looks at one call's answer, and writes its record at the end. */
class Recorder implements AnswerWatcher {
  readonly #call: Call;
  readonly #priceOf: PriceOf;
  readonly #write: (record: CallRecord) => void;
  readonly #clock: Clock;
  #usage: Usage | undefined;
  #finishReason: FinishReason = FinishReason.UNSPECIFIED;
  #ended = false;
  #cost: Money | undefined;

  constructor(call: Call, priceOf: PriceOf, write: (record: CallRecord) => void, clock: Clock) {
    this.#call = call;
    this.#priceOf = priceOf;
    this.#write = write;
    this.#clock = clock;
  }

  pass(batch: Batch): Batch {
    for (const { event } of batch) {
      // What is only counted was not consumed.
      if (event.case === "usage" && !this.#call.countOnly) this.#usage = event.value;
      else if (event.case === "finish") this.#finishReason = event.value.reason;
      else if (event.case === "end") this.#ended = true;
    }
    if (!this.#ended || this.#usage === undefined) return batch;
    const { notes, consumer, request } = this.#call;
    // Vectors are no tokens, so that a provider that tells what it read has told everything.
    const used = request.$typeName === "outrigger.chat.v1.EmbeddingRequest" ? { ...this.#usage, outputTokens: 0n } : this.#usage;
    this.#cost = this.#priceOf(notes.provider, notes.model, used, this.#clock.wallMs(), consumer?.namespace ?? "default");
    return this.#cost === undefined ? batch : withCost(batch, this.#cost);
  }

  over(failure: unknown): void {
    const call = this.#call;
    let fault = failure === undefined ? undefined : toFault(failure);
    // A door that leaves between two batches throws nothing. Why it left is what its call's signal says.
    if (!this.#ended) fault ??= call.signal.aborted ? toFault(call.signal.reason) : left();
    const { firstContentAtMs } = call.notes;
    this.#write({
      call,
      outcome: fault?.kind.name ?? "ok",
      fault,
      totalMs: this.#clock.monotonicMs() - call.startedAtMs,
      firstContentMs: firstContentAtMs === 0 ? undefined : firstContentAtMs - call.startedAtMs,
      usage: this.#usage,
      finishReason: this.#finishReason,
      cost: this.#cost,
    });
  }
}

function left(): Fault {
  return new Fault(FaultReason.CANCELLED, "The door left before the answer was over.");
}

/** The same batch with the cost in its end event. Native bytes stay: no dialect has a place for our price, so they say the same. */
function withCost(batch: Batch, cost: Money): Batch {
  const events = batch.map((event) =>
    event.event.case === "end" ? { ...event, event: { ...event.event, value: { ...event.event.value, cost } } } : event,
  );
  return batch.native === undefined ? events : nativeBatch(events, batch.native);
}
