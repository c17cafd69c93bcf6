/**
 * The one way out of the sidecar: HTTP requests to providers, on undici's dispatch level.
 *
 * A handler object with fixed fields hears of the answer; there is no promise, no stream and no header object for a request. Pools are
 * kept for each origin and settings, with one connection a request at a time: requests that wait behind a long answer on the same
 * connection would inherit its delay.
 */
import type { Dispatcher } from "undici";
// The package's front door loads its fetch, caches and web sockets too: 60 ms and 9 MB that nothing here uses.
import Pool from "undici/lib/dispatcher/pool.js";
import type { Upstream, UpstreamExchange, UpstreamHandler, UpstreamHeaders, UpstreamRequest } from "../call.ts";

/** An upstream with connections to keep, which `close` ends. */
export interface PooledUpstream {
  readonly send: Upstream;
  /** Ends every connection. Requests that still run fail. */
  close(): Promise<void>;
}

/** An answer's headers may take this much; longer ones are an attack or a mistake. */
const headerBytesMax = 64 * 1024;

/** Idle connections are kept this long: less than the minute after which many load balancers silently forget them. */
const idleTimeoutMs = 50_000;

/** Opens the way out. */
export function openUpstream(): PooledUpstream {
  const pools = new Map<string, Kept[]>();
  return {
    send(request, handler) {
      const exchange = new Exchange(handler);
      poolFor(pools, request).dispatch(dispatchOptions(request), exchange);
      return exchange;
    },
    async close() {
      const open = [...pools.values()].flat();
      pools.clear();
      await Promise.all(open.map(({ pool }) => pool.destroy()));
    },
  };
}

/** The connections to one origin, and what they were opened with. */
interface Kept {
  readonly connections: number;
  readonly connectTimeoutMs: number;
  readonly pool: Pool;
}

function poolFor(pools: Map<string, Kept[]>, request: UpstreamRequest): Pool {
  const { origin, connections, connectTimeoutMs } = request;
  let kept = pools.get(origin);
  if (kept === undefined) {
    kept = [];
    pools.set(origin, kept);
  }
  for (const one of kept) if (one.connections === connections && one.connectTimeoutMs === connectTimeoutMs) return one.pool;
  const pool = new Pool(origin, {
    connections,
    pipelining: 1,
    // Over HTTP/1.1 a call that is over closes its socket, which every provider understands as an end to the work and the bill.
    allowH2: false,
    connect: { timeout: connectTimeoutMs },
    // Deadlines are the send filter's, which knows content from pings; the client's own timers would be a second opinion.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: idleTimeoutMs,
    maxHeaderSize: headerBytesMax,
  });
  kept.push({ connections, connectTimeoutMs, pool });
  return pool;
}

function dispatchOptions(request: UpstreamRequest): Dispatcher.DispatchOptions {
  const { path, method = "POST", headers, body } = request;
  return { path, method, headers: headers as string[], body: method === "GET" ? null : body };
}

/** One request on its way, as undici's handler and as what the send filter holds. */
class Exchange implements UpstreamExchange, Dispatcher.DispatchHandler {
  readonly #handler: UpstreamHandler;
  #controller: Dispatcher.DispatchController | undefined;
  #over = false;
  #paused = false;
  /** Whether the parser was stopped because nobody wanted what this turn brought. */
  #stopped = false;
  /** The bytes that this turn brought so far. */
  #piece: Uint8Array | undefined;
  #morePieces: Uint8Array[] | undefined;

  constructor(handler: UpstreamHandler) {
    this.#handler = handler;
  }

  pause(): void {
    this.#paused = true;
    this.#controller?.pause();
  }

  resume(): void {
    if (this.#over) return;
    this.#paused = false;
    this.#controller?.resume();
  }

  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#controller?.abort(left);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // Aborted while it waited for a connection: it must not be sent any more.
    if (this.#over) {
      controller.abort(left);
      return;
    }
    this.#controller = controller;
    this.#handler.begun();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[] | undefined>): void {
    if (this.#over || status < 200) return;
    if (this.#paused) controller.pause();
    // Views of all that came with the head, which would be held as long as the answer lasts.
    controller.rawHeaders = null;
    this.#handler.head(status, new AnswerHeaders(headers));
  }

  /**
   * The parser calls once for each chunk of the transfer coding, which for most providers is once for each event. What one read of the
   * socket brought is gathered and handed on together, so that a hundred events that came at once cost one pass and one write.
   */
  onResponseData(_controller: Dispatcher.DispatchController, bytes: Buffer): void {
    if (this.#over) return;
    if (this.#piece === undefined) {
      this.#piece = bytes;
      // Called by the parser, which has read all that there is before anything else gets a turn.
      process.nextTick(handOn, this);
      // Nobody waits for it: the parser stops here, and the socket is read no further.
      if (!this.#handler.wanting) {
        this.#stopped = true;
        this.#controller?.pause();
      }
    } else if (this.#morePieces === undefined) this.#morePieces = [this.#piece, bytes];
    else this.#morePieces.push(bytes);
  }

  /** Gives the handler what was gathered. */
  handOn(): void {
    const piece = this.#piece;
    if (piece === undefined || this.#over) return;
    const bytes = this.#morePieces === undefined ? piece : Buffer.concat(this.#morePieces);
    this.#piece = undefined;
    this.#morePieces = undefined;
    const { wanting } = this.#handler;
    this.#handler.data(bytes);
    // It was wanted after all, before the turn was over.
    if (this.#stopped && wanting && !this.#paused) this.resume();
    this.#stopped = false;
  }

  onResponseEnd(): void {
    this.handOn();
    if (this.#over) return;
    this.#over = true;
    this.#handler.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.handOn();
    if (this.#over) return;
    this.#over = true;
    this.#handler.error(error, this.#controller !== undefined);
  }
}

function handOn(exchange: Exchange): void {
  exchange.handOn();
}

/** Why a request was given up. One object for all: making an error costs more than the rest of an ordinary abort. */
const left = Object.assign(new Error("the call is over"), { code: "OUTRIGGER_LEFT" });

class AnswerHeaders implements UpstreamHeaders {
  readonly #headers: Record<string, string | string[] | undefined>;

  constructor(headers: Record<string, string | string[] | undefined>) {
    this.#headers = headers;
  }

  get(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value.at(-1) : value;
  }
}
