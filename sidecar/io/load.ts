/** How busy the process is: looked at once a second, so that asking costs nothing. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import type { Clock } from "../call.ts";

/** A look at the process's load that is kept up to date until `close`. */
export interface LoadMeter {
  /** Whether new calls should be refused. */
  saturated(): boolean;
  close(): void;
}

/** Above this delay of the event loop, callers notice: a token that takes 20 ms to make would take three times as long to arrive. */
const lagMaxMs = 50;

/** Seconds in a row above the limit before calls are refused: one collection of garbage or one large body is no overload. */
const lagSecondsMax = 2;

/** The part of the heap that may be in use; beyond it the collector takes the time that calls need, and the process dies next. */
const heapShareMax = 0.8;

/** Starts to look. */
export function meterLoad(clock: Clock): LoadMeter {
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  let lagged = 0;
  let full = false;
  let stop = clock.after(1000, look);

  function look(): void {
    // The histogram counts from its own interval, which is no delay.
    lagged = delay.percentile(99) / 1e6 - 20 > lagMaxMs ? lagged + 1 : 0;
    delay.reset();
    const heap = getHeapStatistics();
    full = heap.used_heap_size > heap.heap_size_limit * heapShareMax;
    stop = clock.after(1000, look);
  }

  return {
    saturated: () => full || lagged >= lagSecondsMax,
    close() {
      stop();
      delay.disable();
    },
  };
}
