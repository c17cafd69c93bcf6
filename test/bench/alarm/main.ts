/**
 * Wakes the generator when a call is due. A thread of its own, started by `load/main.ts`: timers of the event loop are a millisecond coarse,
 * which is several times what is measured, while a thread that waits on shared memory is woken within some 50 us.
 */
import { parentPort, workerData } from "node:worker_threads";
import { monotonicClock } from "../clock.ts";
import { poissonMoments } from "../random.ts";

/** What the thread is started with. */
export interface AlarmSettings {
  readonly ratePerS: number;
  readonly seed: number;
  /** When the schedule begins and ends, on the monotonic clock, in microseconds. */
  readonly startUs: number;
  readonly endUs: number;
}

// Calls that are due within this time share a wake-up: more wake-ups than this would cost more than they tell.
const COARSENESS_US = 40;

const { ratePerS, seed, startUs, endUs } = workerData as AlarmSettings;
const nowUs = monotonicClock();
const never = new Int32Array(new SharedArrayBuffer(4));
for (const moment of poissonMoments(ratePerS, seed)) {
  const dueUs = startUs + moment;
  if (dueUs > endUs) break;
  const waitUs = dueUs - nowUs();
  if (waitUs < -COARSENESS_US) continue;
  if (waitUs > 0) Atomics.wait(never, 0, 0, waitUs / 1e3);
  parentPort?.postMessage(0);
}
parentPort?.postMessage(1);
