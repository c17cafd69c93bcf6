/**
 * One HTTP request and its answer, whichever HTTP it came over.
 *
 * Doors are written against `Exchange` and know nothing of node:http or node:http2, so that the wire underneath can be replaced. Both
 * implementations have fixed fields and make no promise, no signal and no header object of their own on the way of a call.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { Keeper, Kept } from "./keeper.ts";

/** One HTTP request and its answer. After the caller is gone every function does nothing. */
export interface Exchange {
  readonly protocol: "http1" | "http2";
  readonly method: string;
  /** The path without the query, as it was sent. */
  readonly path: string;
  /** The query without its question mark, or empty. */
  readonly query: string;
  /** Where the caller's connection comes from: an address, or empty for a Unix socket and for a caller who left. */
  readonly peer: string;
  /** A request header by its name in lower case. Of repeated ones all, joined with commas, as far as HTTP allows to join them. */
  header(name: string): string | undefined;
  /**
   * Reads the whole body. `done` is called once: with a fault if it is larger than `bytesMax`, comes too slowly, or the caller leaves.
   * The bytes are as they were sent, so possibly compressed.
   */
  body(bytesMax: number, done: (fault: Fault | undefined, body: Uint8Array) => void): void;
  /** Reads the body as it comes, for callers that wait for an answer before they send on. Without limit: the reader keeps nothing. */
  pieces(take: (piece: Uint8Array) => void, done: (fault: Fault | undefined) => void): void;
  /**
   * Begins the answer. Sent together with the first write or the end. `headers` are names in lower case and values, in turn.
   * `trailers` says that `end` may bring some, which HTTP/2 wants to know before.
   */
  head(status: number, headers: readonly string[], trailers?: boolean): void;
  /** Writes a piece of the body. False says: wait for `drained` before the next. */
  write(data: Uint8Array | string): boolean;
  /** Calls `then` once, when what was written has been taken. To be asked right after a write that said false. */
  drained(then: () => void): void;
  /** Writes the last piece and, over HTTP/2, the trailers: names in lower case and values, in turn. */
  end(data?: Uint8Array | string, trailers?: readonly string[]): void;
  /** Cuts the answer off so that the caller sees that it is not finished. */
  reset(): void;
  /**
   * Calls `then` once if the answer must stop before its end: the caller left (`CANCELLED`) or no longer reads (`CALLER_STALLED`), where
   * nothing can be written any more; or the sidecar goes away (`DRAINING`), where the answer may still be failed in its own words.
   */
  gone(then: (fault: Fault) => void): void;
  /** Bytes that were written and not yet taken by the connection. */
  readonly bufferedBytes: number;
  /** Whether the answer can still be written to. */
  readonly writable: boolean;
  /** Headers that stand on every answer of this exchange, names and values in turn; set before it reaches a door. */
  extraHeaders: readonly string[];
}

/** A wire format that callers speak. */
export interface Door {
  /** Whether this exchange is for this door; decided by method, path and headers alone. */
  accepts(exchange: Exchange): boolean;
  /** Takes the exchange and sees it through. */
  open(exchange: Exchange): void;
}

const noHeaders: readonly string[] = Object.freeze([]);
const noRequestHeaders: IncomingHttpHeaders = Object.freeze({});
const noBytes = new Uint8Array(0);

/** An exchange over HTTP/1.1. */
export class Http1Exchange implements Exchange, Kept {
  readonly protocol = "http1";
  readonly method: string;
  readonly path: string;
  readonly query: string;
  extraHeaders = noHeaders;
  place = -1;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #keeper: Keeper;
  readonly #slowness = new Slowness();
  #incoming: Incoming | undefined;
  #continueDue: boolean;
  #status = 0;
  #headers = noHeaders;
  #headSent = false;
  #written = 0;
  #ended = false;
  #over = false;
  #drained: (() => void) | undefined;
  #gone: ((fault: Fault) => void) | undefined;
  readonly #flushed = (error?: Error | null) => {
    if (error === undefined || error === null) this.#tellDrained();
  };

  /** `continueDue` says that the caller waits for `100 Continue` before it sends the body. */
  constructor(request: IncomingMessage, response: ServerResponse, keeper: Keeper, continueDue: boolean) {
    this.#request = request;
    this.#response = response;
    this.#keeper = keeper;
    this.#continueDue = continueDue;
    this.method = request.method ?? "";
    const target = originForm(request.url ?? "/");
    const mark = target.indexOf("?");
    this.path = mark === -1 ? target : target.slice(0, mark);
    this.query = mark === -1 ? "" : target.slice(mark + 1);
    keeper.enter(this);
    response.on("close", () => this.#closed());
  }

  get bufferedBytes(): number {
    return this.#over ? 0 : this.#response.writableLength;
  }

  get peer(): string {
    return this.#request.socket.remoteAddress ?? "";
  }

  get writable(): boolean {
    return !this.#over && !this.#ended && !this.#response.destroyed;
  }

  header(name: string): string | undefined {
    return single(this.#request.headers[name]);
  }

  body(bytesMax: number, done: (fault: Fault | undefined, body: Uint8Array) => void): void {
    const incoming = new Incoming(this.#request, this.#keeper, bytesMax, done);
    this.#incoming = incoming;
    if (!incoming.accepts(declaredLength(this.#request.headers["content-length"]))) return;
    this.#sayContinue();
    incoming.read();
    this.#request.on("error", () => incoming.left());
    this.#request.on("close", () => incoming.left());
  }

  pieces(take: (piece: Uint8Array) => void, done: (fault: Fault | undefined) => void): void {
    this.#sayContinue();
    readPieces(this.#request, take, done);
  }

  head(status: number, headers: readonly string[]): void {
    this.#status = status;
    this.#headers = headers;
  }

  write(data: Uint8Array | string): boolean {
    if (!this.writable) return true;
    const isFirst = !this.#headSent;
    if (isFirst) this.#sendHead(noHeaders);
    const bytes = bytesOf(data);
    this.#written += bytes;
    // The mark is ours and not Node's, so it is this piece's own leaving that tells when there is room, not Node's `drain`.
    const isRoom = this.#response.writableLength + bytes < this.#keeper.bufferedBytesHigh;
    const whenGone = isRoom ? undefined : this.#flushed;
    const socket = isFirst || bytes === 0 || bytes > chunkBytesMax ? undefined : this.#chunkSocket();
    if (socket === undefined) this.#response.write(data, whenGone);
    else socket.write(chunkOf(data, bytes), whenGone);
    return isRoom;
  }

  /**
   * The socket, if the next chunk may be written straight to it: Node would write four pieces for it, which cost more to gather than to
   * copy. The first chunk takes Node's way, as it goes with the head; so does what follows in the same turn, which Node still holds, and
   * all that waits for a connection.
   */
  #chunkSocket(): Socket | undefined {
    const { chunkedEncoding, socket, writableCorked } = this.#response;
    return chunkedEncoding && writableCorked === 0 && socket?.writable ? socket : undefined;
  }

  drained(then: () => void): void {
    this.#drained = then;
  }

  end(data?: Uint8Array | string): void {
    if (!this.writable) return;
    this.#ended = true;
    // An answer may come before its request was read; what is left of it is thrown away, for a while.
    if (!this.#request.complete) this.#request.resume();
    const length = data === undefined ? 0 : bytesOf(data);
    this.#written += length;
    if (this.#headSent) {
      this.#response.end(data);
      return;
    }
    this.#sendHead(bodiless(this.#status) ? noHeaders : ["content-length", String(length)]);
    this.#response.end(data);
  }

  reset(): void {
    if (this.#over) return;
    this.#ended = true;
    this.#request.socket.destroy();
  }

  gone(then: (fault: Fault) => void): void {
    if (this.#over) then(left());
    else this.#gone = then;
  }

  check(nowMs: number): void {
    const { patience } = this.#keeper;
    if (this.#incoming !== undefined && !this.#incoming.finished && !this.#ended) {
      this.#incoming.check(nowMs);
      return;
    }
    // An answer that waits for the one before it on the same connection has no socket yet, and its caller is not to blame.
    const waiting = this.#response.socket === null ? 0 : this.#response.writableLength;
    if (this.#slowness.stalledMs(nowMs, this.#written, waiting) > patience.writeStallMs) this.#cutOff(stalled(patience.writeStallMs));
    else if (this.#ended && !this.#request.complete && this.#slowness.lingeredMs(nowMs) > patience.lingerMs) this.#request.socket.destroy();
  }

  expel(): void {
    this.#tellGone(goingAway());
  }

  #sayContinue(): void {
    if (!this.#continueDue) return;
    this.#continueDue = false;
    this.#response.writeContinue();
  }

  #sendHead(more: readonly string[]): void {
    // A caller that was not told to send its body may or may not do so now, and nobody could tell where the next request begins.
    const close = this.#keeper.draining || this.#continueDue ? closing : noHeaders;
    this.#response.writeHead(this.#status, [...this.#headers, ...this.extraHeaders, ...more, ...close]);
    this.#headSent = true;
  }

  #tellDrained(): void {
    const then = this.#drained;
    this.#drained = undefined;
    then?.();
  }

  #cutOff(fault: Fault): void {
    this.reset();
    this.#tellGone(fault);
  }

  #tellGone(fault: Fault): void {
    const then = this.#gone;
    this.#gone = undefined;
    then?.(fault);
  }

  #closed(): void {
    if (this.#over) return;
    this.#over = true;
    this.#drained = undefined;
    if (this.#gone !== undefined && !this.#response.writableFinished) this.#tellGone(left());
    this.#gone = undefined;
    // A refused request whose rest is still coming stays under watch, or its sender could keep the connection for ever.
    if (this.#request.complete || this.#request.destroyed) {
      this.#incoming?.left();
      this.#keeper.leave(this);
      return;
    }
    // Node tells a request whose answer is over nothing of its connection's end, so both are heard.
    const { socket } = this.#request;
    const leave = () => {
      socket.off("close", leave);
      this.#incoming?.left();
      this.#keeper.leave(this);
    };
    this.#request.once("close", leave);
    socket.once("close", leave);
  }
}

/** An exchange over HTTP/2: one stream. */
export class Http2Exchange implements Exchange, Kept {
  readonly protocol = "http2";
  readonly method: string;
  readonly path: string;
  readonly query: string;
  extraHeaders = noHeaders;
  place = -1;
  readonly #stream: ServerHttp2Stream;
  #requestHeaders: IncomingHttpHeaders;
  readonly #keeper: Keeper;
  readonly #slowness = new Slowness();
  #incoming: Incoming | undefined;
  #status = 0;
  #headers = noHeaders;
  #trailers = false;
  #headSent = false;
  #written = 0;
  #ended = false;
  #over = false;
  #drained: (() => void) | undefined;
  #gone: ((fault: Fault) => void) | undefined;
  readonly #flushed = (error?: Error | null) => {
    if (error === undefined || error === null) this.#tellDrained();
  };

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, keeper: Keeper) {
    this.#stream = stream;
    this.#requestHeaders = headers;
    this.#keeper = keeper;
    this.method = single(headers[":method"]) ?? "";
    const target = single(headers[":path"]) ?? "/";
    const mark = target.indexOf("?");
    this.path = mark === -1 ? target : target.slice(0, mark);
    this.query = mark === -1 ? "" : target.slice(mark + 1);
    keeper.enter(this);
    stream.on("close", () => this.#closed());
    // A caller's reset is also an error of the stream; `close` follows and says all that matters here.
    stream.on("error", ignore);
  }

  get bufferedBytes(): number {
    return this.#over ? 0 : this.#stream.writableLength;
  }

  get peer(): string {
    return this.#stream.session?.socket.remoteAddress ?? "";
  }

  get writable(): boolean {
    return !this.#over && !this.#ended && !this.#stream.destroyed && !this.#stream.closed;
  }

  header(name: string): string | undefined {
    return single(name === "host" ? (this.#requestHeaders.host ?? this.#requestHeaders[":authority"]) : this.#requestHeaders[name]);
  }

  body(bytesMax: number, done: (fault: Fault | undefined, body: Uint8Array) => void): void {
    const incoming = new Incoming(this.#stream, this.#keeper, bytesMax, done);
    this.#incoming = incoming;
    if (!incoming.accepts(declaredLength(this.#requestHeaders["content-length"]))) return;
    this.#sayContinue();
    incoming.read();
  }

  pieces(take: (piece: Uint8Array) => void, done: (fault: Fault | undefined) => void): void {
    this.#sayContinue();
    readPieces(this.#stream, take, done);
  }

  head(status: number, headers: readonly string[], trailers = false): void {
    this.#status = status;
    this.#headers = headers;
    this.#trailers = trailers;
  }

  write(data: Uint8Array | string): boolean {
    if (!this.writable) return true;
    if (!this.#headSent) this.#sendHead(false);
    if (this.method === "HEAD") return true;
    const bytes = bytesOf(data);
    this.#written += bytes;
    if (this.#stream.writableLength + bytes < this.#keeper.bufferedBytesHigh) {
      this.#stream.write(data);
      return true;
    }
    this.#stream.write(data, this.#flushed);
    return false;
  }

  drained(then: () => void): void {
    this.#drained = then;
  }

  end(data?: Uint8Array | string, trailers?: readonly string[]): void {
    if (!this.writable) return;
    this.#ended = true;
    if (!this.#stream.readableEnded) this.#stream.resume();
    const stream = this.#stream;
    const empty = data === undefined || data.length === 0 || this.method === "HEAD";
    const trailing = trailers !== undefined && trailers.length > 0;
    const whole = !this.#headSent;
    if (whole) {
      if (trailing) this.#trailers = true;
      try {
        this.#sendHead(empty && !trailing);
      } catch (error) {
        // Nothing more would be written, and the caller would wait for it.
        this.reset();
        throw error;
      }
    }
    // It comes once; to say so would cost Node a wrapper and the listener's removal.
    if (trailing) stream.on("wantTrailers", () => stream.sendTrailers(headerObject(trailers)));
    else if (this.#trailers) stream.on("wantTrailers", () => stream.sendTrailers({}));
    if (empty) stream.end();
    else {
      this.#written += bytesOf(data);
      stream.end(data);
      // Nothing was written before, so Node has all of it by now. Where there are no trailers it takes that for the end by itself; otherwise
      // it would wait until all is sent, and ask for the trailers in another round.
      if (whole && this.#trailers && !stream.destroyed) stream._final(ignore);
    }
  }

  reset(): void {
    if (this.#over) return;
    this.#ended = true;
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    this.#stream.destroy();
  }

  gone(then: (fault: Fault) => void): void {
    if (this.#over) then(left());
    else this.#gone = then;
  }

  check(nowMs: number): void {
    const { patience } = this.#keeper;
    if (this.#incoming !== undefined && !this.#incoming.finished && !this.#ended) {
      this.#incoming.check(nowMs);
      return;
    }
    if (this.#slowness.stalledMs(nowMs, this.#written, this.#stream.writableLength) > patience.writeStallMs)
      this.#cutOff(stalled(patience.writeStallMs));
    else if (this.#ended && !this.#stream.readableEnded && this.#slowness.lingeredMs(nowMs) > patience.lingerMs) this.reset();
  }

  expel(): void {
    this.#tellGone(goingAway());
  }

  #sayContinue(): void {
    if (this.#requestHeaders.expect === "100-continue") this.#stream.additionalHeaders({ ":status": 100 });
  }

  #sendHead(endStream: boolean): void {
    // An object would be copied by Node to one that V8 keeps as a hash table; of an array only its own date is added.
    const headers = [":status", String(this.#status), ...this.#headers, ...this.extraHeaders];
    this.#stream.respond(headers, this.#trailers ? withTrailers : endStream ? endOfStream : undefined);
    this.#headSent = true;
  }

  #tellDrained(): void {
    const then = this.#drained;
    this.#drained = undefined;
    then?.();
  }

  #cutOff(fault: Fault): void {
    this.reset();
    this.#tellGone(fault);
  }

  #tellGone(fault: Fault): void {
    const then = this.#gone;
    this.#gone = undefined;
    then?.(fault);
  }

  #closed(): void {
    if (this.#over) return;
    this.#over = true;
    this.#drained = undefined;
    if (this.#gone !== undefined && (!this.#ended || this.#stream.rstCode !== constants.NGHTTP2_NO_ERROR)) this.#tellGone(left());
    this.#gone = undefined;
    this.#incoming?.left();
    this.#incoming = undefined;
    this.#keeper.leave(this);
    if (this.#ended) this.#letGo();
  }

  /**
   * Cuts what hangs on a stream whose answer is over. Under load Node often keeps the stream itself until the next full collection
   * (`docs/performance.md`); whatever it still reaches then would be copied by the collector of young objects, twice for each call.
   */
  #letGo(): void {
    this.#requestHeaders = noRequestHeaders;
    this.#headers = noHeaders;
    this.extraHeaders = noHeaders;
    // As long as anybody listens for removals, each listener is taken off by itself.
    this.#stream.removeAllListeners("removeListener");
    this.#stream.removeAllListeners();
    this.#stream.on("error", ignore);
  }
}

/** Reads one body whole, within its limits. */
class Incoming {
  /** Whether `done` was called. */
  finished = false;
  readonly #from: Readable;
  readonly #keeper: Keeper;
  readonly #bytesMax: number;
  #done: (fault: Fault | undefined, body: Uint8Array) => void;
  #first: Uint8Array | undefined;
  #rest: Uint8Array[] | undefined;
  #bytes = 0;
  #sinceMs = Number.NaN;

  constructor(from: Readable, keeper: Keeper, bytesMax: number, done: (fault: Fault | undefined, body: Uint8Array) => void) {
    this.#from = from;
    this.#keeper = keeper;
    this.#bytesMax = bytesMax;
    this.#done = done;
  }

  /** Refuses a body by the length that its sender declares, before a byte of it is read. */
  accepts(declared: number): boolean {
    if (declared <= this.#bytesMax) return true;
    this.#finish(tooLarge(this.#bytesMax));
    return false;
  }

  read(): void {
    const from = this.#from;
    from.on("data", (piece: Uint8Array) => this.#take(piece));
    from.on("end", () => this.#finish(undefined));
  }

  /** Nothing more comes. Also said of a body that is whole. */
  left(): void {
    // An error with its stack is dear.
    if (!this.finished) this.#finish(left());
  }

  check(nowMs: number): void {
    if (Number.isNaN(this.#sinceMs)) this.#sinceMs = nowMs;
    const { bodyGraceMs, bodyBytesPerSecondMin } = this.#keeper.patience;
    const elapsedMs = nowMs - this.#sinceMs;
    if (elapsedMs > bodyGraceMs && this.#bytes < (elapsedMs / 1000) * bodyBytesPerSecondMin) this.#finish(slowBody(bodyBytesPerSecondMin));
  }

  #take(piece: Uint8Array): void {
    if (this.finished) return;
    if (this.#bytes + piece.byteLength > this.#bytesMax) this.#finish(tooLarge(this.#bytesMax));
    else if (!this.#keeper.hold(piece.byteLength)) this.#finish(noRoom());
    else this.#keep(piece);
  }

  #keep(piece: Uint8Array): void {
    this.#bytes += piece.byteLength;
    if (this.#first === undefined) this.#first = piece;
    else if (this.#rest === undefined) this.#rest = [this.#first, piece];
    else this.#rest.push(piece);
  }

  #finish(fault: Fault | undefined): void {
    if (this.finished) return;
    this.finished = true;
    const pieces = this.#rest;
    const whole = fault !== undefined ? noBytes : pieces === undefined ? (this.#first ?? noBytes) : Buffer.concat(pieces, this.#bytes);
    this.#first = undefined;
    this.#rest = undefined;
    this.#keeper.release(this.#bytes);
    const done = this.#done;
    // The stream may outlive its call by seconds: under load Node often keeps those of HTTP/2 (`docs/performance.md`).
    this.#done = ignore;
    done(fault, whole);
  }
}

/** Notices, from one look to the next, that a caller takes nothing of what waits for it. */
class Slowness {
  #taken = 0;
  #sinceMs = Number.NaN;
  #endedMs = Number.NaN;

  /**
   * How long the caller has taken nothing, given the bytes that were written so far and those of them that wait. What waits may stay the
   * same while much is taken, since more is written as soon as there is room.
   */
  stalledMs(nowMs: number, written: number, waiting: number): number {
    const taken = written - waiting;
    if (waiting === 0 || taken > this.#taken || Number.isNaN(this.#sinceMs)) this.#sinceMs = nowMs;
    this.#taken = taken;
    return nowMs - this.#sinceMs;
  }

  /** How long ago the first look after the answer's end was. */
  lingeredMs(nowMs: number): number {
    if (Number.isNaN(this.#endedMs)) this.#endedMs = nowMs;
    return nowMs - this.#endedMs;
  }
}

function readPieces(from: Readable, take: (piece: Uint8Array) => void, done: (fault: Fault | undefined) => void): void {
  let finished = false;
  const finish = (whole: boolean) => {
    if (finished) return;
    finished = true;
    done(whole ? undefined : left());
  };
  from.on("data", take);
  from.on("end", () => finish(true));
  from.on("error", () => finish(false));
  from.on("close", () => finish(false));
}

/** Chunks up to this much are copied to get their frame; of longer ones the copy costs more than it saves. */
const chunkBytesMax = 16 * 1024;
const lineEnd = "\r\n";

/** A piece of a body in the frame of the chunked transfer coding (RFC 9112 section 7.1). */
function chunkOf(data: Uint8Array | string, bytes: number): Uint8Array {
  const head = bytes.toString(16) + lineEnd;
  const chunk = Buffer.allocUnsafe(head.length + bytes + lineEnd.length);
  chunk.write(head, 0, "latin1");
  if (typeof data === "string") chunk.write(data, head.length, "utf8");
  else chunk.set(data, head.length);
  chunk[head.length + bytes] = 0x0d;
  chunk[head.length + bytes + 1] = 0x0a;
  return chunk;
}

const closing: readonly string[] = Object.freeze(["connection", "close"]);
const endOfStream = Object.freeze({ endStream: true });
const withTrailers = Object.freeze({ waitForTrailers: true });

function ignore(): void {}

function bytesOf(data: Uint8Array | string): number {
  return typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(", ") : value;
}

/** The path and query of a request target; callers behind a proxy setting send the whole address (RFC 9112 section 3.2.2). */
function originForm(target: string): string {
  if (target.startsWith("/") || target === "*") return target;
  const authority = target.indexOf("://");
  const path = authority === -1 ? -1 : target.indexOf("/", authority + 3);
  return path === -1 ? "/" : target.slice(path);
}

/** The declared length of a body, or 0 if none is declared; Node's parser has already refused what is not a number. */
function declaredLength(value: string | string[] | undefined): number {
  return value === undefined ? 0 : Number(single(value));
}

/** Answers that have no body, and so no length (RFC 9110 section 8.6). */
function bodiless(status: number): boolean {
  return status === 204 || status === 304 || status < 200;
}

function headerObject(headers: readonly string[]): OutgoingHttpHeaders {
  const object: OutgoingHttpHeaders = {};
  addHeaders(object, headers);
  return object;
}

function addHeaders(object: OutgoingHttpHeaders, headers: readonly string[]): void {
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index] as string;
    const value = headers[index + 1] as string;
    const before = object[name];
    object[name] = before === undefined ? value : Array.isArray(before) ? [...before, value] : [String(before), value];
  }
}

function left(): Fault {
  return new Fault(FaultReason.CANCELLED, "The caller left before the call was over.");
}

function goingAway(): Fault {
  return new Fault(FaultReason.DRAINING, "The sidecar is stopping, and this call did not end in time.");
}

function stalled(writeStallMs: number): Fault {
  return new Fault(FaultReason.CALLER_STALLED, `The caller took nothing of the answer for ${writeStallMs / 1000} seconds.`);
}

function slowBody(bytesPerSecond: number): Fault {
  return new Fault(FaultReason.CALLER_STALLED, `The request's body came slower than ${bytesPerSecond} bytes a second.`);
}

function tooLarge(bytesMax: number): Fault {
  return new Fault(FaultReason.REQUEST_TOO_LARGE, `The request's body is larger than ${bytesMax} bytes, which is the most that is read.`, {
    facts: { bytes_max: String(bytesMax) },
  });
}

function noRoom(): Fault {
  return new Fault(FaultReason.OVERLOADED, "Too many large requests are being read at this moment.", { retryAfterMs: 1_000 });
}
