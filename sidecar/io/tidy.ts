/**
 * Gives back the memory that only the start needed.
 *
 * Loading the program makes V8's heap twice as large as what is kept of it. V8 would give that back when memory runs short somewhere, of
 * which it knows nothing in a container: a sidecar that has little to do would hold what its neighbours need.
 *
 * It is done once, before the work begins, and never again: the collection that makes a heap smaller also throws away the code that V8 has
 * compiled for what is hot, and calls after it cost twice as much for some seconds.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../call.ts";

/** How often it is looked whether there is nothing to do, in milliseconds. */
const lookMs = 1000;
/** Looks without a request before it is done: whoever starts a sidecar mostly calls at once. */
const idleLooks = 2;
/** Requests after which it is too late: code is hot then. */
const requestsMax = 100;

/** What has been asked of the process. */
export interface Work {
  /** Requests that are open. */
  open(): number;
  /** Requests that there have been. */
  begun(): number;
}

/** Waits for the moment, until it has come or passed or the function returned is called. `collect` is V8's own unless given. */
export function tidyAfterStart(clock: Clock, work: Work, collect: () => void = collectAll): () => void {
  let idle = 0;
  let seen = work.begun();
  let stop = clock.after(lookMs, look);

  function look(): void {
    const begun = work.begun();
    if (begun > requestsMax) return;
    idle = work.open() === 0 && begun === seen ? idle + 1 : 0;
    seen = begun;
    if (idle === idleLooks) collect();
    else stop = clock.after(lookMs, look);
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
