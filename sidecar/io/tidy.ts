/**
 * Gives memory back that the process holds and does not need, at moments when nobody waits for it.
 *
 * Loading the program makes V8's heap twice as large as what is kept of it, and so does a busy hour. V8 would give that back when memory
 * runs short somewhere, of which it knows nothing in a container: a sidecar that has little to do would hold what its neighbours need.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../call.ts";

/** How often it is looked whether there is nothing to do, in milliseconds. */
const lookMs = 1000;
/** Looks without a request before the first time: whoever starts a sidecar mostly calls at once. */
const idleLooksAtStart = 2;
/** The same later on: a pause of this length is none between two calls of one conversation. */
const idleLooksLater = 15;
/** Requests after which it is worth while again. Fewer leave less behind than the work costs, which is some 60 ms. */
const requestsMin = 1000;

/** What has been asked of the process. */
export interface Work {
  /** Requests that are open. */
  open(): number;
  /** Requests that there have been. */
  begun(): number;
}

/** Looks after the process until the function returned is called. `collect` is V8's own full collection unless given. */
export function tidyWhenIdle(clock: Clock, work: Work, collect: () => void = collectAll): () => void {
  let idleLooks = 0;
  let seen = work.begun();
  let tidiedAt: number | undefined;
  let stop = clock.after(lookMs, look);

  function look(): void {
    const begun = work.begun();
    idleLooks = work.open() === 0 && begun === seen ? idleLooks + 1 : 0;
    seen = begun;
    const due = tidiedAt === undefined ? idleLooks >= idleLooksAtStart : idleLooks >= idleLooksLater && begun - tidiedAt >= requestsMin;
    if (due) {
      tidiedAt = begun;
      collect();
    }
    stop = clock.after(lookMs, look);
  }

  return () => stop();
}

function collectAll(): void {
  // The function exists only where this flag was set before its context was made. It changes nothing else.
  setFlagsFromString("--expose-gc");
  const gc: unknown = runInNewContext("gc");
  // This flavour also makes the heap itself smaller, which the ordinary one leaves as it is.
  if (typeof gc === "function") gc({ type: "major", flavor: "last-resort", execution: "sync" });
}
