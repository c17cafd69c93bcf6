/**
 * Ticks for the provider, finer than the event loop's timers, so that paced streams speak each at its own moment and not a millisecond's
 * worth of them at once. A thread of its own, started by `provider/main.ts`.
 */
import { parentPort, workerData } from "node:worker_threads";

/** What the thread is started with. */
export interface MetronomeSettings {
  readonly tickUs: number;
  /** 1 while a tick has been sent that was not yet served; a provider that is late is not sent more. */
  readonly pending: Int32Array;
}

const { tickUs, pending } = workerData as MetronomeSettings;
const never = new Int32Array(new SharedArrayBuffer(4));
for (;;) {
  Atomics.wait(never, 0, 0, tickUs / 1e3);
  if (Atomics.exchange(pending, 0, 1) === 0) parentPort?.postMessage(0);
}
