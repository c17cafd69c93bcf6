/**
 * A provider made of recorded bytes: a real HTTP server on a real socket that answers with what it is told, in the pieces it is told,
 * and remembers what it was asked and when its sockets closed.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** How one request is answered. */
export interface ReplayAnswer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** The body in the pieces in which it is written; each is an HTTP chunk of its own. */
  readonly pieces: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>;
  /**
   * How it goes on after the last piece: `end` completes the answer (the default), `cut` destroys the socket, `hang` keeps it open and
   * says nothing more until the other side leaves.
   */
  readonly ending?: "end" | "cut" | "hang";
  /** Called when the last piece was handed to the socket. */
  readonly written?: () => void;
}

/** A request that came. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  /** Resolves when the answer is over: with `finished` as to whether all of it was sent, and when on `performance.now`'s clock. */
  readonly over: Promise<{ readonly finished: boolean; readonly atMs: number }>;
  /** Bytes of body handed to the socket so far. */
  readonly progress: { bytes: number };
}

/** The running provider. */
export interface Replay {
  /** Such as `http://127.0.0.1:40123`. */
  readonly origin: string;
  /** All requests since the start or the last `forget`. */
  readonly requests: readonly SeenRequest[];
  /** Sockets that are open now. */
  openSockets(): number;
  /** Says how requests from now on are answered. */
  answerWith(answer: ReplayAnswer | ((request: SeenRequest) => ReplayAnswer)): void;
  forget(): void;
  close(): Promise<void>;
}

/** Starts a provider on a free loopback port. Until told otherwise it answers every request with 500. */
export async function startReplay(): Promise<Replay> {
  let choose: (request: SeenRequest) => ReplayAnswer = () => ({ status: 500, pieces: ["no answer was set"] });
  const requests: SeenRequest[] = [];
  const sockets = new Set<unknown>();

  const server = createServer({ keepAliveTimeout: 60_000, noDelay: true }, (incoming, response) => {
    const pieces: Buffer[] = [];
    incoming.on("data", (piece: Buffer) => pieces.push(piece));
    incoming.on("end", () => {
      const seen: SeenRequest = {
        method: incoming.method ?? "",
        path: incoming.url ?? "",
        headers: incoming.headers,
        body: Buffer.concat(pieces),
        over: new Promise((resolve) => {
          response.once("close", () => resolve({ finished: response.writableFinished, atMs: performance.now() }));
        }),
        progress: { bytes: 0 },
      };
      requests.push(seen);
      void write(response, choose(seen), seen);
    });
  });
  // A provider's refusal to speak must not look like its failure: limits of the server are not what is tested here.
  server.maxRequestsPerSocket = 0;
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    openSockets: () => sockets.size,
    answerWith(answer) {
      choose = typeof answer === "function" ? answer : () => answer;
    },
    forget() {
      requests.length = 0;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function write(response: ServerResponse, answer: ReplayAnswer, seen: SeenRequest): Promise<void> {
  response.writeHead(answer.status ?? 200, answer.headers ?? {});
  response.flushHeaders();
  for await (const piece of answer.pieces) {
    if (response.destroyed) return;
    const flowing = response.write(piece);
    seen.progress.bytes += piece.length;
    if (!flowing) await drained(response);
  }
  answer.written?.();
  if (answer.ending === "hang") return;
  // What was written is flushed first, so that the cut comes after the last piece and not instead of it.
  if (answer.ending === "cut") response.write("", () => response.destroy());
  else response.end();
}

/** Resolves when the other side has taken what was written, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

/** Headers of a recorded answer that can be sent again: those of the connection belong to the connection it was recorded on. */
export function replayHeaders(recorded: Readonly<Record<string, string>>, stream: boolean): Record<string, string> {
  const headers: Record<string, string> = { "content-type": stream ? "text/event-stream; charset=utf-8" : "application/json" };
  for (const [name, value] of Object.entries(recorded)) {
    if (!["connection", "content-encoding", "content-length", "transfer-encoding"].includes(name)) headers[name] = value;
  }
  return headers;
}
