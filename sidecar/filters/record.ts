/** One log line, the counters, and the price of every call, however it ends. */
import { type Batch, nativeBatch } from "../../proto/chat.ts";
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import { FinishReason, type Money, type Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Call, Clock, Filter, Next } from "../call.ts";

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
    return recorded(call, next, priceOf, write, clock);
  };
}

async function* recorded(
  call: Call,
  next: Next,
  priceOf: PriceOf,
  write: (record: CallRecord) => void,
  clock: Clock,
): AsyncGenerator<Batch> {
  const seen: Seen = { usage: undefined, finishReason: FinishReason.UNSPECIFIED, ended: false };
  let fault: Fault | undefined;
  let cost: Money | undefined;
  try {
    for await (const batch of next(call)) {
      look(batch, seen);
      if (seen.ended && seen.usage !== undefined) {
        cost = priceOf(call.notes.provider, call.notes.model, seen.usage, clock.wallMs(), call.consumer?.namespace ?? "default");
        yield cost === undefined ? batch : withCost(batch, cost);
      } else yield batch;
    }
  } catch (caught) {
    fault = toFault(caught);
    throw fault;
  } finally {
    // A door that leaves between two batches throws nothing. Why it left is what its call's signal says.
    if (!seen.ended) fault ??= call.signal.aborted ? toFault(call.signal.reason) : left();
    const { firstContentAtMs } = call.notes;
    write({
      call,
      outcome: fault?.kind.name ?? "ok",
      fault,
      totalMs: clock.monotonicMs() - call.startedAtMs,
      firstContentMs: firstContentAtMs === 0 ? undefined : firstContentAtMs - call.startedAtMs,
      usage: seen.usage,
      finishReason: seen.finishReason,
      cost,
    });
  }
}

function left(): Fault {
  return new Fault(FaultReason.CANCELLED, "The door left before the answer was over.");
}

interface Seen {
  usage: Usage | undefined;
  finishReason: FinishReason;
  ended: boolean;
}

function look(batch: Batch, seen: Seen): void {
  for (const { event } of batch) {
    if (event.case === "usage") seen.usage = event.value;
    else if (event.case === "finish") seen.finishReason = event.value.reason;
    else if (event.case === "end") seen.ended = true;
  }
}

/** The same batch with the cost in its end event. Native bytes stay: no dialect has a place for our price, so they say the same. */
function withCost(batch: Batch, cost: Money): Batch {
  const events = batch.map((event) =>
    event.event.case === "end" ? { ...event, event: { ...event.event, value: { ...event.event.value, cost } } } : event,
  );
  return batch.native === undefined ? events : nativeBatch(events, batch.native);
}
