/** What `main.ts` asks of the generator's process, and what it hears back. */

/** One call, ready to be sent many times. */
export interface Wire {
  readonly http: 1 | 2;
  readonly path: string;
  /** Names and values in turn, without host, length and pseudo-headers. */
  readonly headers: readonly string[];
  readonly body: Uint8Array;
  /** Stamps in a complete answer. */
  readonly stamps: number;
}

/** A measurement. */
export interface Job {
  readonly wire: Wire;
  readonly port: number;
  /** Connections; for HTTP/1.1 in an open loop the most that are opened. */
  readonly connections: number;
  /** Calls at once on a connection. */
  readonly streams: number;
  /** Calls a second at the moments of a Poisson process; 0 for a closed loop, in which every answer is followed by the next call. */
  readonly ratePerS: number;
  readonly seed: number;
  /** Time over which a closed loop begins its calls, so that paced streams do not beat together. */
  readonly spreadMs: number;
  /** From the beginning to the window, and the window in which everything is counted. */
  readonly warmMs: number;
  readonly windowMs: number;
  /** Processes whose CPU time is read at both ends of the window. */
  readonly pids: readonly number[];
  /** The core that they run on, and the one that generator and provider share. */
  readonly core: number;
  readonly loadCore: number;
}

/** A measurement's outcome. All figures are of the window. */
export interface JobResult {
  readonly windowUs: number;
  /** Complete and correct answers. */
  readonly calls: number;
  readonly events: number;
  /** Answers over the whole job, warm-up included, to be compared with what provider and log counted. */
  readonly callsAll: number;
  readonly failed: number;
  /** Why, of the first few. */
  readonly reasons: readonly string[];
  /** Calls whose answer had not come two seconds after the window. */
  readonly unfinished: number;
  /** CPU time of the processes. */
  readonly cpuUs: number;
  /** How long the core of generator and provider was busy: near the window's length it, and not the subject, was the limit. */
  readonly loadBusyUs: number;
  /** Of everything else on the core of the processes, and what the machine below took. */
  readonly otherUs: number;
  readonly stolenUs: number;
  /** Payload bytes of the smallest and the largest answer. */
  readonly bytesMin: number;
  readonly bytesMax: number;
  /** From a call's scheduled moment to its whole answer, in microseconds; in a closed loop from when it was sent, thinned. */
  readonly latencies: Float64Array;
  /** From a call's scheduled moment to its first content. */
  readonly firsts: Float64Array;
  /** From the provider's write of an event to here, thinned. */
  readonly delays: Float64Array;
}

/** Holding connections that do nothing, or streams that say little, until told to let go. */
export interface Hold {
  readonly wire: Wire | undefined;
  readonly port: number;
  readonly connections: number;
  readonly streams: number;
}

/** What holding came to. */
export interface HoldResult {
  /** Connections, or streams that gave their first content. */
  readonly held: number;
  readonly reasons: readonly string[];
}

/** A message to the generator. */
export type Ask = { readonly ask: "run"; readonly job: Job } | { readonly ask: "hold"; readonly hold: Hold } | { readonly ask: "release" };
