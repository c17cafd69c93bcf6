/**
 * How V8 collects garbage here. When no room is needed: once after the start, and never again.
 *
 * Loading the program makes V8's heap twice as large as what is kept of it. V8 would give that back when memory runs short somewhere, of
 * which it knows nothing in a container: a sidecar that has little to do would hold what its neighbours need.
 *
 * Later, any collection while nothing happens throws away what V8 has compiled for what was hot, because no object of the kinds that the
 * code was made for is alive then: calls after it cost twice as much for seconds, and one in a hundred waits for a tenth of a second
 * (`docs/performance.md`).
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

/**
 * Sets how V8 collects garbage, before there is any to speak of. The flags are V8's own and may change: they are set where we know what
 * they do, and elsewhere all stays as V8 has it.
 *
 * It is kept from collecting in pauses, and from collecting all the time after them. It does the first eight seconds after each load, and
 * the second because it lets a heap grow by less the longer little was allocated. A process that was busy keeps some 100 MB more in its
 * pauses, and answers as fast after them as before.
 *
 * And all objects begin young. Of a kind that mostly lives long, V8 makes new ones old from the start. Under load requests seem to be of
 * such a kind, since they wait for their provider; but they die soon, and a dead object among the old keeps all that it points to from
 * dying until the next full collection: in some processes seven hundredths of all that gRPC calls allocate (`docs/performance.md`).
 */
export function steerCollector(v8Version: string, setFlag: (flag: string) => void = setFlagsFromString): void {
  if (Number.parseInt(v8Version, 10) < v8VersionTried) return;
  // The flag that leaves the whole mechanism out is looked at before any program runs; this one, how often it collects, each time.
  setFlag("--memory-reducer-gc-count=0");
  // Four times what lives, which is what V8 allows a heap that is busy.
  setFlag("--heap-growing-percent=300");
  setFlag("--no-allocation-site-pretenuring");
}

/** That of Node 26. */
const v8VersionTried = 14;

function collectAll(): void {
  // The function exists only where this flag was set before its context was made. It changes nothing else.
  setFlagsFromString("--expose-gc");
  const gc: unknown = runInNewContext("gc");
  // This flavour also makes the heap itself smaller, which the ordinary one leaves as it is.
  if (typeof gc === "function") gc({ type: "major", flavor: "last-resort", execution: "sync" });
}
