/**
 * Control's port: gRPC, gRPC-Web and Connect, over HTTP/1.1 and HTTP/2, with or without TLS. Connect's own stack serves it, since nothing
 * here is on any call's way to a model; but for methods that thousands have open at a time, which are driven by hand where they can be.
 */
import { lstatSync, rmSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { createServer as createHttp1Server, type Server as Http1Server, type IncomingMessage } from "node:http";
import {
  createServer as createHttp2Server,
  createSecureServer,
  type Http2SecureServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { connect, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import {
  type ConnectRouter,
  type ContextKey,
  cors as connectCors,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Clock } from "../clock.ts";
import { checkRequests } from "./checkedRequests.ts";
import type { Peer } from "./peer.ts";
import { type RpcStream, takeByHand } from "./rpcStream.ts";

/** Where a request came from, for handlers and interceptors. */
export const peerKey: ContextKey<Peer> = createContextKey<Peer>({ address: "", certificate: () => undefined });

/** A certificate and its key, and whose certificates of clients are believed; all in PEM. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly key: string;
  /** Authorities whose clients' certificates count; without any, none is asked for. */
  readonly clientAuthorities: readonly string[];
}

/** A streaming method that is driven by hand. */
export interface HandMethod {
  /** Bytes of one of the caller's messages at most. */
  readonly bytesMax: number;
  /** Serves a call to its end. */
  serve(stream: RpcStream): void;
}

/** What a listener serves. */
export interface ListenerOptions {
  /** Registers the services. */
  readonly routes: (router: ConnectRouter) => void;
  /** Seen by every request, the first one first. */
  readonly interceptors: readonly Interceptor[];
  /** By path: streaming methods that are driven by hand where the request is plain. They see no interceptor. */
  readonly byHand?: ReadonlyMap<string, HandMethod>;
  /** Undefined serves in the clear. */
  readonly tls: TlsIdentity | undefined;
  /** Web origins whose pages may call. */
  readonly corsOrigins: readonly string[];
  readonly clock: Pick<Clock, "after">;
  /** Hears of connections that fail. */
  readonly warn: (message: string, error: unknown) => void;
}

/** A port that is served. */
export interface ControlListener {
  /** Listens; port 0 takes a free one. Resolves to the port. */
  listen(host: string, port: number): Promise<number>;
  /** Listens on a Unix socket; one that a dead process left is replaced. */
  listenUnix(path: string): Promise<void>;
  /** Goes on where a server listens already that knew nothing of HTTP, with the connections that it has taken and not read from. */
  takeOver(server: Server, taken: readonly Socket[]): Promise<void>;
  /** Takes no more connections, lets what runs end for `graceMs`, then cuts it. */
  close(graceMs: number): Promise<void>;
}

/** The most bytes of one message, unless a service says otherwise: 10,000 resources in one change. */
export const messageBytesMax = 16 * 1024 * 1024;
/** From the first byte until the head of a request is there; a sidecar's is a few hundred bytes. */
const headMs = 10_000;
/** For the body of an HTTP/1.1 request: 16 MiB over a slow line. Long polls answer later than that, and are not meant by it. */
const bodyMs = 120_000;
/** Connections at one time: 10,000 sidecars, and as many again while they move between replicas. */
const connectionsMax = 20_000;
/**
 * Connections that wait to be taken: when control starts again all sidecars come within a moment, and one that the kernel drops believes
 * that it is connected until its watchdog says otherwise. Linux takes no more than `net.core.somaxconn`, 4096 by default.
 */
const waitingMax = 4_096;
/**
 * Connections that become sessions of HTTP/2 in one turn of the loop: some 20 ms. In between others are taken from the kernel, whose line
 * would be full after a restart: it takes thousands of sessions more than a second to begin.
 */
const sessionsPerTurn = 64;
/** Calls at one time on one connection: what one sidecar or one console has open. */
const streamsMax = 1_000;
/** From a connection to its first byte. */
const prefaceMs = 5_000;
/** Seconds for which browsers remember a preflight: two hours, the longest that they do. */
const preflightSeconds = 7_200;
/** The first bytes of HTTP/2 (RFC 9113, section 3.4); no request of HTTP/1.1 begins so. */
const preface = Buffer.from("PRI * HTTP/2.0");

/** Makes a listener that listens nowhere yet. */
export function createControlListener(options: ListenerOptions): ControlListener {
  const adapter = connectNodeAdapter({
    routes(router) {
      const bytesMax = new Map<string, number>();
      options.routes({
        ...router,
        service(service, implementation, own) {
          bytesMax.set(service.typeName, own?.readMaxBytes ?? messageBytesMax);
          router.service(service, implementation, own);
          return router;
        },
      });
      const handlers = router.handlers.map((handler) => checkRequests(handler, bytesMax.get(handler.service.typeName) ?? messageBytesMax));
      router.handlers.splice(0, handlers.length, ...handlers);
    },
    interceptors: [...options.interceptors],
    readMaxBytes: messageBytesMax,
    jsonOptions: { ignoreUnknownFields: false },
    contextValues: (request) => createContextValues().set(peerKey, peerOf(request)),
  });
  const origins = new Set(options.corsOrigins.map((origin) => new URL(origin).origin));
  const take = (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse): void => {
    if (greetPage(origins, request, response)) return;
    // Both are served by one adapter, which declares them as one union.
    adapter(request as IncomingMessage, response as ServerResponse);
  };
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  const http1 = new Set<Http1Server>();

  /** Looks at every stream before Node makes a request and a response of it. */
  function handFirst(server: Http2Server | Http2SecureServer): void {
    const others = server.listeners("stream");
    server.removeAllListeners("stream");
    server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => {
      const method = options.byHand?.get(headers[":path"] ?? "");
      const socket = stream.session?.socket;
      const taken =
        method === undefined || socket === undefined
          ? undefined
          : takeByHand(stream, headers, { peer: peerOf({ socket }), bytesMax: method.bytesMax, clock: options.clock });
      if (taken !== undefined) method?.serve(taken);
      else for (const other of others) other.call(server, stream, headers, ...more);
    });
  }

  function track<One extends Http2Server | Http2SecureServer>(server: One): One {
    handFirst(server);
    server.on("session", (session) => {
      sessions.add(session);
      session.on("close", () => sessions.delete(session));
      // Node answers nonsense and closes; without a listener the error would be thrown.
      session.on("error", () => undefined);
    });
    server.on("sessionError", () => undefined);
    return server;
  }

  function trackSockets(server: Server): Server {
    server.maxConnections = connectionsMax;
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => socket.destroy());
    });
    servers.push(server);
    return server;
  }

  function makeServer(): Server {
    const settings = { maxConcurrentStreams: streamsMax };
    if (options.tls !== undefined) {
      const { certificate, key, clientAuthorities } = options.tls;
      const ask = clientAuthorities.length > 0;
      const server = track(
        createSecureServer(
          {
            cert: certificate,
            key,
            allowHTTP1: true,
            minVersion: "TLSv1.2",
            handshakeTimeout: headMs,
            settings,
            // Nobody is refused here: callers without a certificate show a token instead, and each service looks at what it needs.
            ...(ask ? { requestCert: true, rejectUnauthorized: false, ca: [...clientAuthorities] } : {}),
          },
          take,
        ),
      );
      server.on("tlsClientError", (error) => options.warn("A TLS handshake failed.", error));
      return trackSockets(server as unknown as Server);
    }
    const plain1 = createHttp1Server({ headersTimeout: headMs, requestTimeout: bodyMs, keepAliveTimeout: 75_000 }, take);
    http1.add(plain1);
    const plain2 = track(createHttp2Server({ settings }, take));
    const begin = inTurns(sessionsPerTurn, (socket: Socket) => {
      if (!socket.destroyed) plain2.emit("connection", socket);
    });
    // The HTTP/1.1 server listens, because Node keeps time limits only for what comes to a listening server.
    const [serve] = plain1.listeners("connection");
    if (serve === undefined) throw new Error("an HTTP server always listens for connections");
    plain1.removeAllListeners("connection");
    plain1.on("connection", (socket: Socket) => {
      sniff(socket, options.clock, (isHttp2) => {
        if (isHttp2) begin(socket);
        else serve.call(plain1, socket);
      });
    });
    return trackSockets(plain1);
  }

  async function open(where: { host: string; port: number } | { path: string } | Server): Promise<Server> {
    const server = makeServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      // Given a server that listens, Node uses its handle: from then on the connections that come are this one's.
      server.listen("listen" in where ? where : { ...where, backlog: waitingMax }, () => {
        server.off("error", reject);
        // A connection that cannot be taken, for want of descriptors say, must not end the process.
        server.on("error", (error) => options.warn("A connection could not be taken.", error));
        resolve();
      });
    });
    return server;
  }

  return {
    async listen(host, port) {
      const address = (await open({ host, port })).address();
      if (address === null || typeof address === "string") throw new Error(`${host}:${port} is no TCP address`);
      return address.port;
    },

    async listenUnix(path) {
      try {
        await open({ path });
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
        if (!lstatSync(path).isSocket() || (await somebodyAnswers(path))) throw error;
        rmSync(path);
        await open({ path });
      }
    },

    async takeOver(listening, taken) {
      const server = await open(listening);
      for (const socket of taken) if (!socket.destroyed) server.emit("connection", socket);
    },

    async close(graceMs) {
      const closed = servers.map((server) => new Promise<void>((done) => server.close(() => done())));
      for (const session of sessions) session.close();
      for (const server of http1) server.closeIdleConnections();
      const cancel = options.clock.after(graceMs, () => {
        for (const socket of sockets) socket.destroy();
      });
      // Also those that another server has taken, which none of these waits for.
      const gone = [...sockets].map((socket) => new Promise((done) => socket.once("close", done)));
      await Promise.all([...closed, ...gone]);
      cancel();
    },
  };
}

/** Makes what does something with each of those that it is given, in their order, so many in a turn of the loop. */
function inTurns<One>(perTurn: number, act: (one: One) => void): (one: One) => void {
  let waiting: One[] = [];
  let at = 0;
  const turn = (): void => {
    for (let done = 0; done < perTurn && at < waiting.length; done++) {
      const one = waiting[at++];
      if (one !== undefined) act(one);
    }
    if (at < waiting.length) {
      setImmediate(turn);
      return;
    }
    waiting = [];
    at = 0;
  };
  return (one) => {
    waiting.push(one);
    if (waiting.length === 1) setImmediate(turn);
  };
}

/** Tells by the first bytes of a connection which HTTP it speaks, and puts them back. Whoever says nothing is cut off. */
function sniff(socket: Socket, clock: Pick<Clock, "after">, tell: (isHttp2: boolean) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const stopWaiting = clock.after(prefaceMs, () => socket.destroy());
  const onEnd = (): void => void socket.destroy();
  const onData = (piece: Buffer): void => {
    seen = Buffer.concat([seen, piece]);
    const length = Math.min(seen.length, preface.length);
    const isAlike = seen.compare(preface, 0, length, 0, length) === 0;
    if (isAlike && length < preface.length) return;
    stopWaiting();
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("close", stopWaiting);
    socket.pause();
    socket.unshift(seen);
    // A caller of HTTP/2 that closes its half has left; HTTP/1.1 sees to that itself.
    if (isAlike) socket.allowHalfOpen = false;
    tell(isAlike);
    // HTTP/2 reads below the stream; resuming that would take its bytes away.
    if (!isAlike) socket.resume();
  };
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("close", stopWaiting);
}

/** Sets what pages of allowed origins need, and answers their preflights; true if it answered. No cookie is ever looked at. */
function greetPage(
  origins: ReadonlySet<string>,
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
): boolean {
  const { origin } = request.headers;
  if (origin === undefined) return false;
  const may = origins.has(origin);
  response.setHeader("vary", "origin");
  if (may) {
    response.setHeader("access-control-allow-origin", origin);
    response.setHeader("access-control-expose-headers", connectCors.exposedHeaders.join(", "));
  }
  if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return false;
  if (may) {
    response.setHeader("access-control-allow-methods", connectCors.allowedMethods.join(", "));
    response.setHeader("access-control-allow-headers", [...connectCors.allowedHeaders, "authorization"].join(", "));
    response.setHeader("access-control-max-age", String(preflightSeconds));
  }
  response.statusCode = 204;
  response.end();
  return true;
}

function peerOf({ socket }: { readonly socket: Socket }): Peer {
  return {
    address: socket.remoteAddress ?? "",
    certificate() {
      // Of HTTP/2 this is a stand-in for the socket that has all of its methods for reading.
      const tls = socket as Partial<TLSSocket>;
      if (tls.authorized !== true || typeof tls.getPeerCertificate !== "function") return undefined;
      const { raw } = tls.getPeerCertificate();
      return raw instanceof Uint8Array ? new Uint8Array(raw) : undefined;
    },
  };
}

function somebodyAnswers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      done(true);
    });
    socket.on("error", () => done(false));
  });
}
