/**
 * One port for every door: tells HTTP/1.1 from HTTP/2 by the first bytes of a connection, keeps the limits of both, and lets nothing
 * through that a strict reader of either would not. What comes out is an `Exchange`, and nothing of the request is ever copied onward.
 */

import { lstatSync, rmSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from "node:http2";
import { connect, type Server, type Socket } from "node:net";
import { type Fault, FaultReason, faultKinds } from "../../proto/fault.ts";
import type { Clock, House } from "../call.ts";
import { cors } from "./cors.ts";
import { type Door, type Exchange, Http1Exchange, Http2Exchange } from "./exchange.ts";
import { Keeper, type Patience, pieceBytesMax, usualPatience } from "./keeper.ts";
import { createServer as createHttp1Server } from "./nodeHttp.ts";
import { nothingHere } from "./plain.ts";

/** What a listener needs. */
export interface ListenerOptions {
  /** Asked in turn; the first that accepts an exchange opens it. */
  readonly doors: readonly Door[];
  /** Refuses what no door may see: unknown paths, and pages that call under a foreign name. */
  readonly turnAway: (exchange: Exchange, fault: Fault) => void;
  /** Web origins that may call beside pages of this machine. */
  readonly corsOrigins: readonly string[];
  readonly house: Pick<House, "clock" | "warn">;
  readonly limits?: Limits;
  readonly patience?: Patience;
}

/** What one connection may ask of a listener. */
export interface Limits {
  /** From the first moment of a connection until its first bytes tell which HTTP it speaks, and until HTTP/2 has said its settings. */
  readonly prefaceMs: number;
  /** For the head of an HTTP/1.1 request, the first as any other. */
  readonly headersMs: number;
  /** How often HTTP/1.1 connections are checked for that. */
  readonly headersSweepMs: number;
  /** Bytes of a request's head. */
  readonly headBytesMax: number;
  /** Headers of a request. */
  readonly headersMax: number;
  /** How long an idle HTTP/1.1 connection is kept. */
  readonly keepAliveMs: number;
  /** Connections at one time, on each address. */
  readonly connectionsMax: number;
  /** HTTP/2 streams of one connection at one time. */
  readonly streamsMax: number;
  /** HTTP/2 streams that a connection may reset at once, and then each second (CVE-2023-44487). */
  readonly resetsBurst: number;
  readonly resetsPerSecond: number;
  /** Frames of a connection that make no sense, before it is closed. */
  readonly invalidFramesMax: number;
  /** Streams that a connection may open beyond its limit, before it is closed. */
  readonly rejectedStreamsMax: number;
  /** Memory of one HTTP/2 connection beside the bodies, in MB of 10^6 bytes. */
  readonly sessionMemoryMb: number;
  /** Pings that may wait to be answered. */
  readonly pingsMax: number;
  /** When a listener closes: between saying so and taking no more streams, for those that are on their way. */
  readonly goawayMs: number;
  /** When a listener closes: for the last words of what was still running, before connections are cut. */
  readonly lastWordsMs: number;
}

/** What holds unless a listener is told otherwise. */
export const usualLimits: Limits = Object.freeze({
  prefaceMs: 5_000, // a client sends its first bytes at once; browsers that connect in advance simply connect again
  headersMs: 10_000, // a head of 16 KiB over the worst of networks
  headersSweepMs: 1_000, // a second late is early enough
  headBytesMax: 16 * 1024, // Node's own; the largest tokens that identity providers issue fill half of it
  headersMax: 100, // SDKs send about 25, browsers and proxies as many again
  keepAliveMs: 75_000, // longer than the 60 s of common clients and balancers, so that the caller closes and never meets a closing socket
  connectionsMax: 10_000, // at 30 KB each 300 MB, which is what a pod has; a sidecar serves its own pod
  streamsMax: 100, // the least that RFC 9113 section 6.5.2 recommends; gRPC clients open a second connection beyond it
  resetsBurst: 1_000, // an agent that gives up on all it has open, ten times over
  resetsPerSecond: 33, // Node's own
  invalidFramesMax: 100, // a sound client sends none
  rejectedStreamsMax: 100, // a burst that began before our settings arrived
  sessionMemoryMb: 10, // 100 streams with 64 KiB waiting in each, and their heads
  pingsMax: 10, // Node's own
  goawayMs: 1_000, // longer than any round trip to a sidecar
  lastWordsMs: 1_000, // a fault and an end take less
});

/** A running listener. */
export interface Listener {
  /** Listens on a TCP address; port 0 takes a free one. Resolves to the port. */
  listen(host: string, port: number): Promise<number>;
  /**
   * Listens on a Unix socket. A socket that a dead process left is replaced; one that somebody answers on is an error, and so is a file
   * that is no socket. Who may connect is decided by the rights of its folder.
   */
  listenUnix(path: string): Promise<void>;
  /** Exchanges that are open. */
  readonly openCount: number;
  /** How many requests there have been. */
  readonly requestCount: number;
  /**
   * Stops: takes no new connections, tells callers to go elsewhere, lets what runs end for `graceMs`, then ends it with a fault in its own
   * words, and cuts what is left. Resolves when every connection is closed. Asked again, it waits for the shorter of the graces.
   */
  close(graceMs: number): Promise<void>;
}

/** What an HTTP/2 connection begins with (RFC 9113 section 3.4). No HTTP/1.1 request can begin so. */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Makes a listener that listens nowhere yet. */
export function createListener(options: ListenerOptions): Listener {
  return new DoorListener(options);
}

class DoorListener implements Listener {
  readonly #doors: readonly Door[];
  readonly #turnAway: (exchange: Exchange, fault: Fault) => void;
  readonly #greet: ReturnType<typeof cors>["greet"];
  readonly #house: Pick<House, "clock" | "warn">;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #keeper: Keeper;
  readonly #http2Options: ServerOptions;
  readonly #servers = new Set<Http1Server>();
  readonly #connections = new Map<Socket, Connection>();
  readonly #sessions = new Map<ServerHttp2Session, Socket>();
  #closing: Promise<void> | undefined;
  /** Resolved when the grace of a close is over. */
  readonly #lastCall = Promise.withResolvers<void>();

  constructor(options: ListenerOptions) {
    this.#doors = options.doors;
    this.#turnAway = options.turnAway;
    this.#greet = cors(options.corsOrigins).greet;
    this.#house = options.house;
    this.#clock = options.house.clock;
    this.#limits = options.limits ?? usualLimits;
    this.#keeper = new Keeper(this.#clock, options.patience ?? usualPatience);
    this.#http2Options = http2Options(this.#limits);
  }

  get openCount(): number {
    return this.#keeper.openCount;
  }

  get requestCount(): number {
    return this.#keeper.enteredCount;
  }

  async listen(host: string, port: number): Promise<number> {
    const server = await this.#listen({ host, port });
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error(`${host}:${port} is no TCP address`);
    return address.port;
  }

  async listenUnix(path: string): Promise<void> {
    try {
      await this.#listen({ path });
    } catch (error) {
      if (!isTaken(error)) throw error;
      // A path that was mistyped may name anything, and what nobody listens behind is not always what a dead process left.
      if (!lstatSync(path).isSocket()) throw Object.assign(new Error(`${path} is no socket`), { code: "ENOTSOCK", address: path });
      if (await somebodyAnswers(path)) throw error;
      rmSync(path);
      await this.#listen({ path });
    }
  }

  async #listen(where: { host: string; port: number } | { path: string }): Promise<Http1Server> {
    if (this.#closing !== undefined) throw new Error("the listener is closed");
    const server = this.#createServer();
    await listening(server, where);
    // A connection that cannot be taken, for want of descriptors say, is an error of the server; without a listener it would end the process.
    server.on("error", (error) => this.#house.warn("A connection could not be taken.", {}, error));
    this.#servers.add(server);
    return server;
  }

  close(graceMs: number): Promise<void> {
    const stopWaiting = this.#clock.after(graceMs, this.#lastCall.resolve);
    this.#closing ??= this.#close();
    return this.#closing.finally(stopWaiting);
  }

  async #close(): Promise<void> {
    this.#keeper.draining = true;
    const closed = [...this.#servers].map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    // The highest stream id says "no more soon"; requests that are on their way are still taken (RFC 9113 section 6.8).
    for (const session of this.#sessions.keys()) session.goaway(0, 2 ** 31 - 1);
    const stopWaiting = this.#clock.after(this.#limits.goawayMs, () => {
      for (const session of this.#sessions.keys()) session.close();
    });
    await Promise.race([this.#empty(), this.#lastCall.promise]);
    this.#keeper.expelAll();
    const lastWords = Promise.withResolvers<void>();
    const stopListening = this.#clock.after(this.#limits.lastWordsMs, lastWords.resolve);
    await Promise.race([this.#empty(), lastWords.promise]);
    stopListening();
    stopWaiting();
    const sockets = [...this.#sessions.values()];
    for (const session of this.#sessions.keys()) session.close();
    // For Node a stream of HTTP/2 is over before the last of it has left. Its session ends the socket behind that, unless one is still open.
    if (this.openCount === 0) {
      const flushed = Promise.withResolvers<void>();
      const stopFlushing = this.#clock.after(this.#limits.lastWordsMs, flushed.resolve);
      await Promise.race([Promise.all(sockets.map(allSent)), flushed.promise]);
      stopFlushing();
    }
    for (const socket of this.#connections.keys()) socket.destroy();
    await Promise.all(closed);
    this.#keeper.close();
  }

  /** Resolves when no exchange is open. */
  #empty(): Promise<void> {
    return new Promise((resolve) => this.#keeper.whenEmpty(resolve));
  }

  /** An HTTP/1.1 server that looks at every connection before it takes it for its own. */
  #createServer(): Http1Server {
    const limits = this.#limits;
    const server = createHttp1Server({
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: limits.headersSweepMs,
      // How long a body may take is decided by its progress, not by a clock: the keeper looks at it.
      requestTimeout: 0,
      keepAliveTimeout: limits.keepAliveMs,
      maxHeaderSize: limits.headBytesMax,
      // Node would answer without a word; that there is exactly one is checked below.
      requireHostHeader: false,
      insecureHTTPParser: false,
      joinDuplicateHeaders: false,
      highWaterMark: pieceBytesMax,
      noDelay: true,
      // A caller whose machine lost power says nothing more; without this its connection would stay for ever.
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    });
    // Node leaves out what is beyond, silently. One more than allowed is let in, so that it can be seen and refused.
    server.maxHeadersCount = limits.headersMax + 1;
    server.maxConnections = limits.connectionsMax;
    const [serve] = server.listeners("connection");
    if (serve === undefined) throw new Error("an HTTP server always listens for connections");
    server.removeAllListeners("connection");
    server.on("connection", (socket: Socket) => {
      this.#connections.set(socket, { lastAnswer: undefined, refused: false });
      socket.on("close", () => this.#connections.delete(socket));
      new Sniffer(socket, this.#clock, limits.prefaceMs, (http2) => {
        if (http2) this.#takeHttp2(socket);
        else serve.call(server, socket);
      });
    });
    server.on("request", (request: IncomingMessage, response: ServerResponse) => this.#takeHttp1(request, response, false));
    server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => this.#takeHttp1(request, response, true));
    server.on("connect", (_request: IncomingMessage, socket: Socket) => refuseRaw(socket, 405, "CONNECT is not taken here."));
    server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => this.#answerBroken(error, socket));
    return server;
  }

  #takeHttp2(socket: Socket): void {
    const { prefaceMs } = this.#limits;
    const session = performServerHandshake(socket, this.#http2Options);
    this.#sessions.set(session, socket);
    session.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      this.#take(new Http2Exchange(stream, headers, this.#keeper));
    });
    const stopWaiting = this.#clock.after(prefaceMs, () => socket.destroy());
    session.once("remoteSettings", () => stopWaiting());
    // Node answers nonsense and closes; the listener is here because the error would otherwise be thrown.
    session.on("error", ignore);
    session.on("goaway", () => session.close());
    session.once("close", () => {
      this.#sessions.delete(session);
      stopWaiting();
      if (socket.destroyed) return;
      // A peer that was sent away may go on talking to a session that nobody keeps any more (CVE-2026-21714).
      const stopReaping = this.#clock.after(prefaceMs, () => socket.destroy());
      socket.once("close", stopReaping);
    });
    if (this.#keeper.draining) session.close();
  }

  #takeHttp1(request: IncomingMessage, response: ServerResponse, continueDue: boolean): void {
    const connection = this.#connections.get(request.socket);
    // What came in one piece with a request that was refused is not taken for a request of its own.
    if (connection === undefined || connection.refused) return;
    connection.lastAnswer = response;
    const wrong = wrongHttp1(request, this.#limits.headersMax);
    if (wrong === undefined) {
      this.#take(new Http1Exchange(request, response, this.#keeper, continueDue));
      return;
    }
    connection.refused = true;
    const body = refusalBody(wrong.message);
    response.writeHead(wrong.status, [...refusalHeaders, "content-length", String(Buffer.byteLength(body))]);
    response.end(body);
  }

  /** Answers what could not be read as a request, and closes: where one request ends and the next begins is no longer known. */
  #answerBroken(error: NodeJS.ErrnoException, socket: Socket): void {
    const connection = this.#connections.get(socket);
    const last = connection?.lastAnswer;
    // In the middle of an answer, whatever is written would be taken for a part of it; and an answer without a socket yet waits for
    // one before it. A request whose own body is broken, and whose answer has not begun, is answered here.
    const answering = last !== undefined && !last.writableFinished && (last.headersSent || last.socket === null);
    if (connection === undefined || answering || !socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    connection.refused = true;
    if (error.code === "HPE_HEADER_OVERFLOW") refuseRaw(socket, 431, "The request's headers are too large.");
    else if (error.code === "ERR_HTTP_REQUEST_TIMEOUT") refuseRaw(socket, 408, "The request's headers took too long.");
    else if (error.code === "HPE_CHUNK_EXTENSIONS_OVERFLOW") refuseRaw(socket, 413, "The request's chunk extensions are too large.");
    else refuseRaw(socket, 400, `The request is not HTTP/1.1 as it should be: ${error.message.replace(/^Parse Error: /, "")}.`);
  }

  #take(exchange: Exchange): void {
    try {
      const greeted = this.#greet(exchange);
      if (greeted === true) return;
      if (greeted !== false) {
        this.#turnAway(exchange, greeted);
        return;
      }
      for (const door of this.#doors) {
        if (!door.accepts(exchange)) continue;
        door.open(exchange);
        return;
      }
      this.#turnAway(exchange, nothingHere(exchange));
    } catch (error) {
      this.#house.warn("A door failed in a way that nobody foresaw.", { method: exchange.method, path: exchange.path }, error);
      exchange.reset();
    }
  }
}

/** What must be known of a connection to refuse what comes on it. */
interface Connection {
  /** The answer that was begun last. */
  lastAnswer: ServerResponse | undefined;
  /** Whether the connection is about to close, so that nothing more on it is read. */
  refused: boolean;
}

/** Resolves when all that was written to a socket has left, or none of it ever will. */
function allSent(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed || socket.writableFinished) return resolve();
    socket.once("finish", resolve);
    socket.once("close", resolve);
  });
}

type Http1Server = ReturnType<typeof createHttp1Server>;

function http2Options(limits: Limits): ServerOptions {
  return {
    settings: { maxConcurrentStreams: limits.streamsMax, maxHeaderListSize: limits.headBytesMax, enablePush: false },
    // Beside the headers there are the pseudo-headers :method, :scheme, :authority and :path.
    maxHeaderListPairs: limits.headersMax + 4,
    streamResetBurst: limits.resetsBurst,
    streamResetRate: limits.resetsPerSecond,
    maxSessionInvalidFrames: limits.invalidFramesMax,
    maxSessionRejectedStreams: limits.rejectedStreamsMax,
    maxSessionMemory: limits.sessionMemoryMb,
    maxOutstandingPings: limits.pingsMax,
  };
}

/** Looks at the first bytes of a connection, puts them back, and tells whether they are HTTP/2's. */
class Sniffer {
  readonly #socket: Socket;
  readonly #tell: (http2: boolean) => void;
  readonly #stopWaiting: () => void;
  readonly #onData = (piece: Buffer) => this.#look(piece);
  readonly #onEnd = () => this.#socket.destroy();
  readonly #onClose = () => this.#stopWaiting();
  #seen: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, clock: Clock, waitMs: number, tell: (http2: boolean) => void) {
    this.#socket = socket;
    this.#tell = tell;
    this.#stopWaiting = clock.after(waitMs, () => socket.destroy());
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("close", this.#onClose);
    // Whatever goes wrong on a connection, `close` follows and is what counts.
    socket.on("error", ignore);
  }

  #look(piece: Buffer): void {
    this.#seen = this.#seen.length === 0 ? piece : Buffer.concat([this.#seen, piece]);
    const length = Math.min(this.#seen.length, preface.length);
    const alike = this.#seen.compare(preface, 0, length, 0, length) === 0;
    if (alike && length < preface.length) return;
    const socket = this.#socket;
    this.#stopWaiting();
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("close", this.#onClose);
    socket.pause();
    socket.unshift(this.#seen);
    // A caller of HTTP/2 that closes its half has left; HTTP/1.1 sees to that itself.
    if (alike) socket.allowHalfOpen = false;
    this.#tell(alike);
    if (!alike) socket.resume();
  }
}

/**
 * What Node's parser lets pass and a strict reader does not (RFC 9112 sections 3.2, 6.1 and 6.3). Requests are never copied onward, so
 * none of this could smuggle one past us; but whoever sends it tries to, or is confused, and should hear of it.
 */
function wrongHttp1(request: IncomingMessage, headersMax: number): { readonly status: number; readonly message: string } | undefined {
  const { rawHeaders, httpVersion } = request;
  if (rawHeaders.length > 2 * headersMax) return { status: 431, message: `The request has more than ${headersMax} headers.` };
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? "";
    if (name.length === 4 && name.toLowerCase() === "host") hosts += 1;
  }
  if (hosts > 1 || (hosts === 0 && httpVersion === "1.1"))
    return { status: 400, message: `The request has ${hosts} Host headers and needs one.` };
  const coding = request.headers["transfer-encoding"];
  if (coding === undefined) return undefined;
  if (httpVersion !== "1.1") return { status: 400, message: "Transfer-Encoding belongs to HTTP/1.1." };
  if (coding.trim().toLowerCase() !== "chunked") return { status: 501, message: "The only Transfer-Encoding taken here is chunked." };
  return undefined;
}

const reasonPhrases: ReadonlyMap<number, string> = new Map([
  [400, "Bad Request"],
  [405, "Method Not Allowed"],
  [408, "Request Timeout"],
  [413, "Content Too Large"],
  [431, "Request Header Fields Too Large"],
  [501, "Not Implemented"],
]);

/** Refuses below every door, in a JSON that SDKs of either format show, and closes the connection. */
function refuseRaw(socket: Socket, status: number, message: string): void {
  const body = refusalBody(message);
  const lines = [`HTTP/1.1 ${status} ${reasonPhrases.get(status) ?? "Refused"}`];
  for (let index = 0; index + 1 < refusalHeaders.length; index += 2) lines.push(`${refusalHeaders[index]}: ${refusalHeaders[index + 1]}`);
  lines.push(`content-length: ${Buffer.byteLength(body)}`);
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`, () => socket.destroySoon());
}

const refusalHeaders: readonly string[] = Object.freeze([
  "content-type",
  "application/json",
  "x-outrigger-reason",
  faultKinds[FaultReason.REQUEST_INVALID].name,
  "x-should-retry",
  "false",
  "connection",
  "close",
]);

function refusalBody(message: string): string {
  return JSON.stringify({ type: "error", error: { type: "invalid_request_error", message, param: null, code: null } });
}

function listening(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EADDRINUSE";
}

/** Whether a process listens behind a Unix socket's file. */
function somebodyAnswers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function ignore(): void {}
