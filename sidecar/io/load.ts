/** How busy the process is: looked at once a second, so that asking costs nothing. */
import { type EventLoopUtilization, monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import type { Clock } from "../call.ts";

/** A look at the process's load that is kept up to date until `close`. */
export interface LoadMeter {
  /** Whether new calls should be refused. */
  saturated(): boolean;
  /**
   * The worst of the event loop's delays, each the 99th percentile of a second, since this was last asked; in milliseconds. Seconds are
   * looked at that follow one with work in it.
   */
  worstLagMs(): number;
  close(): void;
}

/** The figures that a meter looks at. */
export interface Gauges {
  /** The 99th percentile of the event loop's delay since the last look, in milliseconds. */
  lagMs(): number;
  /** The part of the time since the last look in which the event loop had work, from 0 to 1. */
  busyShare(): number;
  /** The part of the heap that is in use, from 0 to 1. */
  heapShare(): number;
  close(): void;
}

/**
 * The event loop must also have been busy for this part of the time. A process that mostly waits is late because the machine is full
 * of others: refusing calls would help nobody then, least of all on a laptop that has just been told to compile something.
 */
const busyShareMin = 0.8;

/** Seconds in a row above the limit before calls are refused: one collection of garbage or one large body is no overload. */
const lagSecondsMax = 2;

/** The part of the heap that may be in use; beyond it the collector takes the time that calls need, and the process dies next. */
const heapShareMax = 0.8;

/** Starts to look. Above `lagMaxMs` of delay the event loop is late. `gauges` are this process's own unless given. */
export function meterLoad(clock: Clock, lagMaxMs: number, gauges: Gauges = processGauges()): LoadMeter {
  let laggedSeconds = 0;
  let full = false;
  let worstMs = 0;
  let stop = clock.after(1000, look);

  function look(): void {
    // Both are asked every time, since each counts from the last look.
    const [lagMs, busyShare] = [gauges.lagMs(), gauges.busyShare()];
    laggedSeconds = lagMs > lagMaxMs && busyShare >= busyShareMin ? laggedSeconds + 1 : 0;
    worstMs = Math.max(worstMs, lagMs);
    full = gauges.heapShare() > heapShareMax;
    stop = clock.after(1000, look);
  }

  return {
    saturated: () => full || laggedSeconds >= lagSecondsMax,
    worstLagMs() {
      const worst = worstMs;
      worstMs = 0;
      return worst;
    },
    close() {
      stop();
      gauges.close();
    },
  };
}

/** How often the event loop is asked how late it is, in milliseconds: seldom enough to cost nothing, often enough to see 50 ms of delay. */
const resolutionMs = 20;

/**
 * The event loop is asked only in the second after one in which it had work for this part of the time: being asked wakes the process, and
 * one that has next to nothing to do is not late by its own work.
 */
const askedFromShare = 0.2;

/** The figures of this process. */
export function processGauges(): Gauges {
  const delay = monitorEventLoopDelay({ resolution: resolutionMs });
  let before: EventLoopUtilization = performance.eventLoopUtilization();
  return {
    lagMs() {
      // The histogram counts from its own interval, which is no delay; what was not asked for is none either.
      const lagMs = Math.max(0, delay.percentile(99) / 1e6 - resolutionMs);
      delay.reset();
      return lagMs;
    },
    busyShare() {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      if (utilization >= askedFromShare) delay.enable();
      else delay.disable();
      return utilization;
    },
    heapShare() {
      const heap = getHeapStatistics();
      return heap.used_heap_size / heap.heap_size_limit;
    },
    close: () => delay.disable(),
  };
}
