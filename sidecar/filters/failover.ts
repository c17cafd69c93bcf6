/** Asks the target that the route chose. The answer of one target is the answer of the call: there is one attempt. */
import type { Filter } from "../call.ts";

/** The last filter before the wire: the way ends at the chosen target's own `send`. */
export const failover: Filter = function failover(call, next) {
  const { target } = call;
  if (target === undefined) throw new Error("failover comes after route");
  call.notes.provider = target.provider;
  call.notes.model = target.model;
  call.notes.attempts = 1;
  return next(call);
};
