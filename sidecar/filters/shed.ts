/** Refuses early what could not be answered in time anyway, so that the calls that run keep their speed. */
import type { Batch } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { type AnswerWatcher, type Clock, type Filter, watchAnswer } from "../call.ts";

/** When to refuse. */
export interface ShedLimits {
  /** Calls in flight at most. */
  readonly callsMax: number;
  /** Whether the process as a whole is too busy: asked once for each call, so it must only look at a figure that is kept elsewhere. */
  saturated(): boolean;
}

/** A later attempt may pass after this long: an overloaded process needs about this time to work off what it has. */
const retryAfterMs = 1000;

/** Makes the filter. One per sidecar, not one per policy: the calls in flight outlive a change of policy. */
export function shed(limits: ShedLimits, clock: Clock): Filter {
  const flight = { calls: 0 };
  const counting: AnswerWatcher = {
    pass: (batch) => batch,
    over: () => {
      flight.calls -= 1;
    },
  };
  return function shed(call, next) {
    // Most calls have none, and asking for the time is not free.
    if (call.deadlineAtMs !== Number.POSITIVE_INFINITY && call.deadlineAtMs <= clock.monotonicMs()) {
      throw new Fault(FaultReason.DEADLINE_EXCEEDED, "The call's deadline had passed before it was sent.");
    }
    // With nothing in flight, whatever keeps the process busy is not calls, and refusing one would not make it less busy.
    if (flight.calls >= limits.callsMax || (flight.calls > 0 && limits.saturated())) {
      throw new Fault(FaultReason.OVERLOADED, `The sidecar is busy with ${flight.calls} calls. Try again in a second.`, {
        facts: { calls_in_flight: String(flight.calls), calls_max: String(limits.callsMax) },
        retryAfterMs,
      });
    }
    call.notes.decisions?.push({
      filter: "shed",
      outcome: "there is room",
      facts: { calls_in_flight: String(flight.calls), calls_max: String(limits.callsMax) },
    });
    const begin = (): AsyncIterable<Batch> => {
      flight.calls += 1;
      return next(call);
    };
    return watchAnswer(begin, counting);
  };
}
