/**
 * The generator: calls a subject and measures what comes back. A process of its own, started by `main.ts`.
 *
 * In an open loop calls are due at the moments of a Poisson process, whatever the subject does, and every latency counts from the moment
 * at which the call was due: a subject that stalls is charged for all the calls that it kept waiting (no coordinated omission).
 * In a closed loop a fixed number of calls is always under way, which finds out how much a subject can do.
 */
import type { Socket } from "node:net";
import { connect } from "node:net";
import { Worker } from "node:worker_threads";
import type { AlarmSettings } from "../alarm/main.ts";
import { monotonicClock } from "../clock.ts";
import { coreTimes, cpuUs } from "../cpu.ts";
import type { Ask, Hold, HoldResult, Job, JobResult, Wire } from "../job.ts";
import { poissonMoments } from "../random.ts";
import type { Caller, Exchange } from "./caller.ts";
import { openHttp1 } from "./http1.ts";
import { openHttp2 } from "./http2.ts";
import { StampScanner } from "./scan.ts";

// One read of a socket; nothing of it outlives the read, so all connections share it.
const readBuffer = Buffer.alloc(256 * 1024);
const nowUs = monotonicClock();
// More samples than these say nothing more about a closed loop, and would have to be sent to main.
const SAMPLES_MAX = 4000;
// Answers that take longer than this after the window are called unfinished.
const DRAIN_MS = 2000;

function openCaller(wire: Wire, port: number, streams: number): Caller {
  return wire.http === 1 ? openHttp1(port, readBuffer, nowUs) : openHttp2(port, wire.path, wire.headers, streams, readBuffer, nowUs);
}

/** What is written for one call: the whole request for HTTP/1.1, the body for HTTP/2. */
function requestBytes(wire: Wire, port: number): Buffer {
  if (wire.http === 2) return Buffer.from(wire.body);
  let head = `POST ${wire.path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n`;
  for (let i = 0; i < wire.headers.length; i += 2) head += `${wire.headers[i]}: ${wire.headers[i + 1]}\r\n`;
  return Buffer.concat([Buffer.from(`${head}content-length: ${wire.body.length}\r\n\r\n`), wire.body]);
}

/** Keeps every n-th sample once there are many, so that a window of any length gives a few thousand spread over all of it. */
class Samples {
  readonly #values: number[] = [];
  readonly #max: number;
  #stride = 1;
  #seen = 0;

  constructor(max: number) {
    this.#max = max;
  }

  add(value: number): void {
    if (this.#seen++ % this.#stride !== 0) return;
    this.#values.push(value);
    if (this.#values.length < this.#max) return;
    const kept = this.#values.filter((_, i) => i % 2 === 0);
    this.#values.length = 0;
    this.#values.push(...kept);
    this.#stride *= 2;
  }

  take(): Float64Array {
    return Float64Array.from(this.#values);
  }
}

/** One running measurement. */
class Run {
  readonly #job: Job;
  readonly #request: Buffer;
  readonly #callers: Caller[] = [];
  readonly #due: number[] = [];
  readonly #latencies: Samples;
  readonly #firsts: Samples;
  readonly #delays = new Samples(SAMPLES_MAX);
  readonly #delaySink = (delayUs: number) => this.#delays.add(delayUs);
  readonly #reasons: string[] = [];
  #inWindow = false;
  #stopped = false;
  #windowStartUs = 0;
  #windowEndUs = Number.POSITIVE_INFINITY;
  #next = 0;
  calls = 0;
  callsAll = 0;
  events = 0;
  failed = 0;
  active = 0;
  bytesMin = Number.POSITIVE_INFINITY;
  bytesMax = 0;

  constructor(job: Job) {
    this.#job = job;
    this.#request = requestBytes(job.wire, job.port);
    const samplesMax = job.ratePerS > 0 ? Number.POSITIVE_INFINITY : SAMPLES_MAX;
    this.#latencies = new Samples(samplesMax);
    this.#firsts = new Samples(samplesMax);
  }

  async measure(): Promise<JobResult> {
    const job = this.#job;
    const startUs = nowUs() + 2e3;
    this.#windowStartUs = startUs + job.warmMs * 1e3;
    this.#windowEndUs = this.#windowStartUs + job.windowMs * 1e3;
    const schedule = job.ratePerS > 0 ? this.#openLoop(startUs) : this.#closedLoop();
    await at(this.#windowStartUs);
    this.#inWindow = true;
    const windowUs = nowUs();
    const cpu = cpuUs(job.pids);
    const load = coreTimes(job.loadCore);
    const core = coreTimes(job.core);
    await at(this.#windowEndUs);
    const usedUs = cpuUs(job.pids) - cpu;
    const coreEnd = coreTimes(job.core);
    const loadEnd = coreTimes(job.loadCore);
    this.#inWindow = false;
    const lengthUs = nowUs() - windowUs;
    const calls = this.calls;
    const events = this.events;
    this.#stopped = true;
    await schedule;
    for (let waited = 0; this.active > 0 && waited < DRAIN_MS && job.spreadMs === 0; waited += 5) await at(nowUs() + 5e3);
    const unfinished = job.spreadMs === 0 ? this.active : 0;
    for (const caller of this.#callers) caller.close();
    return {
      windowUs: lengthUs,
      calls,
      events,
      callsAll: this.callsAll,
      failed: this.failed,
      reasons: this.#reasons,
      unfinished,
      cpuUs: usedUs,
      loadBusyUs: loadEnd.busyUs - load.busyUs,
      otherUs: Math.max(0, coreEnd.busyUs - core.busyUs - usedUs),
      stolenUs: coreEnd.stolenUs - core.stolenUs,
      bytesMin: this.bytesMin,
      bytesMax: this.bytesMax,
      latencies: this.#latencies.take(),
      firsts: this.#firsts.take(),
      delays: this.#delays.take(),
    };
  }

  /** Sends every call when it is due, on the connection that was free last, or on a new one. */
  #openLoop(startUs: number): Promise<void> {
    const job = this.#job;
    const moments = poissonMoments(job.ratePerS, job.seed);
    let dueUs = startUs + moments.next().value;
    const settings: AlarmSettings = { ratePerS: job.ratePerS, seed: job.seed, startUs, endUs: this.#windowEndUs };
    const alarm = new Worker(new URL("../alarm/main.ts", import.meta.url), { workerData: settings });
    return new Promise((resolve) => {
      alarm.on("message", (over: number) => {
        for (const now = nowUs(); dueUs <= now && dueUs < this.#windowEndUs; dueUs = startUs + moments.next().value) this.#start(dueUs);
        this.#flush();
        if (over === 1) resolve();
      });
    });
  }

  async #closedLoop(): Promise<void> {
    const { connections, streams, spreadMs } = this.#job;
    const total = connections * streams;
    for (let i = 0; i < connections; i++) this.#callers.push(this.#open());
    const beganUs = nowUs();
    for (let i = 0; i < total; i++) {
      const caller = this.#callers[i % connections];
      if (caller === undefined) continue;
      if (spreadMs > 0 && i > 0) {
        const dueUs = beganUs + (i / total) * spreadMs * 1e3;
        if (dueUs > nowUs() + 500) await at(dueUs);
      }
      if (caller.closed || this.#stopped) continue;
      this.#send(caller, nowUs());
      if (spreadMs > 0) caller.flush();
    }
    this.#flush();
  }

  #open(): Caller {
    return openCaller(this.#job.wire, this.#job.port, this.#job.streams);
  }

  #start(dueUs: number): void {
    const caller = this.#freeCaller();
    if (caller === undefined) this.#due.push(dueUs);
    else this.#send(caller, dueUs);
  }

  #freeCaller(): Caller | undefined {
    const callers = this.#callers;
    if (this.#job.wire.http === 2) {
      // Calls take turns on the connections, as the pool of a client would have it.
      while (callers.length < this.#job.connections) callers.push(this.#open());
      for (let tried = 0; tried < callers.length; tried++) {
        const caller = callers[this.#next++ % callers.length];
        if (caller !== undefined && !caller.closed && caller.active < caller.capacity) return caller;
      }
      return undefined;
    }
    for (let i = callers.length - 1; i >= 0; i--) {
      const caller = callers[i];
      if (caller === undefined) continue;
      if (caller.closed) callers.splice(i, 1);
      else if (caller.active === 0) return caller;
    }
    if (callers.length >= this.#job.connections) return undefined;
    const caller = this.#open();
    callers.push(caller);
    return caller;
  }

  #send(caller: Caller, dueUs: number): void {
    this.active++;
    caller.send(new MeasuredExchange(this, this.#request, dueUs));
  }

  #flush(): void {
    for (const caller of this.#callers) caller.flush();
  }

  payload(scanner: StampScanner, bytes: Buffer, start: number, end: number, atUs: number): void {
    const before = scanner.count;
    scanner.scan(bytes, start, end, atUs, this.#inWindow ? this.#delaySink : undefined);
    if (this.#inWindow) this.events += scanner.count - before;
  }

  finished(exchange: MeasuredExchange, atUs: number, failure: string | undefined, caller: Caller): void {
    this.active--;
    const { scanner, dueUs, status } = exchange;
    const wrong = failure ?? verdict(this.#job.wire, scanner, status);
    if (wrong === undefined) {
      this.callsAll++;
      if (this.#inWindow) this.calls++;
      this.bytesMin = Math.min(this.bytesMin, scanner.bytes);
      this.bytesMax = Math.max(this.bytesMax, scanner.bytes);
    } else if (!this.#stopped || failure === undefined) {
      this.failed++;
      if (this.#reasons.length < 5) this.#reasons.push(wrong);
    }
    if (dueUs >= this.#windowStartUs && dueUs < this.#windowEndUs && wrong === undefined) {
      this.#latencies.add(atUs - dueUs);
      this.#firsts.add(scanner.firstAtUs - dueUs);
    }
    if (this.#job.ratePerS > 0) {
      const waitingUs = caller.closed ? undefined : this.#due.shift();
      if (waitingUs !== undefined) this.#send(caller, waitingUs);
      return;
    }
    if (this.#stopped) return;
    if (!caller.closed) {
      this.#send(caller, nowUs());
      return;
    }
    // A subject that closes a connection after an answer is within its rights; the next call opens another.
    const index = this.#callers.indexOf(caller);
    if (index < 0 || this.failed > 1000) return;
    const fresh = this.#open();
    this.#callers[index] = fresh;
    this.#send(fresh, nowUs());
    fresh.flush();
  }
}

/** One call of a run. */
class MeasuredExchange implements Exchange {
  readonly request: Buffer;
  readonly dueUs: number;
  readonly scanner = new StampScanner();
  readonly #run: Run;
  status = 0;

  constructor(run: Run, request: Buffer, dueUs: number) {
    this.#run = run;
    this.request = request;
    this.dueUs = dueUs;
  }

  payload(bytes: Buffer, start: number, end: number, atUs: number): void {
    this.#run.payload(this.scanner, bytes, start, end, atUs);
  }

  done(atUs: number, failure: string | undefined, caller: Caller): void {
    this.#run.finished(this, atUs, failure, caller);
  }
}

/** What is wrong with an answer that ended, or undefined. */
function verdict(wire: Wire, scanner: StampScanner, status: number): string | undefined {
  if (wire.http === 1 && status !== 200) return `status ${status}`;
  return scanner.count === wire.stamps ? undefined : `${scanner.count} events instead of ${wire.stamps}`;
}

/** Waits until a moment, to a millisecond. */
function at(us: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, (us - nowUs()) / 1e3)));
}

let held: { close(): void }[] = [];

/** Holds connections or streams until released. */
async function holdOpen(hold: Hold): Promise<HoldResult> {
  const reasons: string[] = [];
  let count = 0;
  const note = (reason: string) => {
    if (reasons.length < 5) reasons.push(reason);
  };
  const { wire } = hold;
  for (let i = 0; i < hold.connections; i++) {
    // Connections come in small groups, so that no listen queue overflows.
    if (i % 100 === 99) await at(nowUs() + 5e3);
    if (wire === undefined) {
      const socket: Socket = connect({ port: hold.port, host: "127.0.0.1" });
      socket.on("connect", () => count++);
      socket.on("error", (error) => note(String(error)));
      held.push({ close: () => socket.destroy() });
      continue;
    }
    const caller = openCaller(wire, hold.port, hold.streams);
    held.push(caller);
    for (let stream = 0; stream < hold.streams; stream++) {
      let spoke = false;
      const scanner = new StampScanner();
      caller.send({
        request: requestBytes(wire, hold.port),
        status: 0,
        payload: (bytes, start, end, atUs) => {
          scanner.scan(bytes, start, end, atUs, undefined);
          if (!spoke && scanner.count > 0) {
            spoke = true;
            count++;
          }
        },
        done: (_atUs, failure) => note(failure ?? "a stream ended"),
      });
    }
    caller.flush();
  }
  const wanted = hold.connections * (wire === undefined ? 1 : hold.streams);
  for (let waited = 0; count < wanted && waited < 10_000; waited += 20) await at(nowUs() + 20e3);
  return { held: count, reasons };
}

async function answer(ask: Ask): Promise<JobResult | HoldResult> {
  switch (ask.ask) {
    case "run":
      return new Run(ask.job).measure();
    case "hold":
      return holdOpen(ask.hold);
    case "release":
      for (const one of held) one.close();
      held = [];
      return { held: 0, reasons: [] };
  }
}

process.on("message", (ask: Ask) => {
  answer(ask).then((result) => process.send?.(result));
});
process.on("disconnect", () => process.exit(0));
