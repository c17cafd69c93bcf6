import type { Clock } from "../../sidecar/call.ts";

/** A clock that stands still until it is told to go on, so that no test waits and none depends on how fast a machine is. */
export class ManualClock implements Clock {
  #nowMs = 1000;
  #timers: { readonly atMs: number; readonly order: number; readonly then: () => void }[] = [];
  #order = 0;

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_790_000_000_000 + this.#nowMs;
  }

  after(delayMs: number, then: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, order: this.#order, then };
    this.#order += 1;
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((candidate) => candidate !== timer);
    };
  }

  /** Lets time pass; timers that fall due fire in the order of their times, and see the time at which they are due. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const due = this.#timers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((candidate) => candidate !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.then();
    }
    this.#nowMs = untilMs;
  }

  /** How many timers wait: 0 once everything that was opened is closed. */
  get waiting(): number {
    return this.#timers.length;
  }
}
