import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { connect, type Socket } from "node:net";

/** Where to connect: a port of this machine, or a Unix socket. */
export type Where = number | string;

function dial(where: Where): Socket {
  return typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
}

/** A connection on which a test decides every byte. */
export class RawConnection {
  readonly socket: Socket;
  /** All that came so far, one character for each byte. */
  received = "";
  closed = false;
  readonly #watchers = new Set<() => void>();

  constructor(where: Where) {
    this.socket = dial(where);
    this.socket.setNoDelay(true);
    this.socket.on("data", (bytes: Buffer) => {
      this.received += bytes.toString("latin1");
      this.#tell();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
      this.#tell();
    });
  }

  send(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Sends, and resolves when the bytes are with the kernel. */
  sent(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes, () => resolve()));
  }

  /** Resolves once `sign` was received; rejects if the connection closes before. */
  async until(sign: string): Promise<string> {
    await this.#when(() => this.received.includes(sign) || this.closed);
    if (!this.received.includes(sign)) throw new Error(`closed before '${sign}' came; came: ${this.received.slice(0, 2000)}`);
    return this.received;
  }

  /** Resolves to all that was received once the other side closes. */
  async end(): Promise<string> {
    await this.#when(() => this.closed);
    return this.received;
  }

  destroy(): void {
    this.socket.destroy();
  }

  #when(met: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const watch = () => {
        if (!met()) return;
        this.#watchers.delete(watch);
        resolve();
      };
      this.#watchers.add(watch);
      watch();
    });
  }

  #tell(): void {
    for (const watch of [...this.#watchers]) watch();
  }
}

/** An answer, whole. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Over HTTP/2 only. */
  readonly trailers: IncomingHttpHeaders;
}

/** Reads the first answer in what came over HTTP/1.1; undefined while it is not whole. The answer to `HEAD` is a head alone. */
export function readAnswer(received: string, method = "GET"): WholeAnswer | undefined {
  const end = received.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [statusLine = "", ...lines] = received.slice(0, end).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const rest = received.slice(end + 4);
  const length = headers["content-length"];
  const status = Number(statusLine.split(" ")[1]);
  if (method === "HEAD") return { status, headers, body: rest, trailers: {} };
  if (headers["transfer-encoding"] === "chunked") {
    const body = unchunk(rest);
    return body === undefined ? undefined : { status, headers, body, trailers: {} };
  }
  if (length !== undefined && rest.length < Number(length)) return undefined;
  return { status, headers, body: length === undefined ? rest : rest.slice(0, Number(length)), trailers: {} };
}

function unchunk(rest: string): string | undefined {
  let body = "";
  let from = 0;
  for (;;) {
    const line = rest.indexOf("\r\n", from);
    if (line === -1) return undefined;
    const length = Number.parseInt(rest.slice(from, line), 16);
    if (length === 0) return body;
    body += rest.slice(line + 2, line + 2 + length);
    from = line + 2 + length + 2;
    if (from > rest.length) return undefined;
  }
}

/** Sends one request over a connection of its own, over HTTP/1.1. */
export async function request1(
  where: Where,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body: string | Uint8Array = "",
): Promise<WholeAnswer> {
  const connection = new RawConnection(where);
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const length = method === "GET" || method === "HEAD" || method === "OPTIONS" ? {} : { "content-length": String(bytes.byteLength) };
  const all = Object.entries({ host: "localhost", connection: "close", ...length, ...headers });
  connection.send(`${method} ${path} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
  if (bytes.byteLength > 0) connection.send(bytes);
  const received = await connection.end();
  const answer = readAnswer(received, method);
  if (answer === undefined) throw new Error(`the answer is not whole: ${received.slice(0, 2000)}`);
  return answer;
}

/** Opens an HTTP/2 connection with prior knowledge. Errors of the connection are seen in its streams. */
export function session2(where: Where, options: Parameters<typeof connectHttp2>[1] = {}): ClientHttp2Session {
  const session = connectHttp2("http://localhost", { createConnection: () => dial(where), ...options });
  session.on("error", () => {});
  return session;
}

/** Reads the answer of one HTTP/2 stream; rejects if it is cut off. */
export function answer2(stream: ClientHttp2Stream): Promise<WholeAnswer> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (headers) => {
      head = headers;
    });
    stream.on("trailers", (headers) => {
      trailers = headers;
    });
    stream.on("data", (piece: Buffer) => pieces.push(piece));
    stream.on("error", reject);
    stream.on("close", () => {
      if (stream.rstCode !== 0) reject(new Error(`the stream was reset with ${stream.rstCode}`));
      const headers = Object.fromEntries(Object.entries(head).map(([name, value]) => [name, String(value)]));
      resolve({ status: Number(head[":status"]), headers, body: Buffer.concat(pieces).toString(), trailers });
    });
  });
}

/** Sends one request over an HTTP/2 connection of its own. */
export async function request2(
  where: Where,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body: string | Uint8Array = "",
): Promise<WholeAnswer> {
  const session = session2(where);
  try {
    const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream: body.length === 0 });
    if (body.length > 0) stream.end(body);
    return await answer2(stream);
  } finally {
    session.destroy();
  }
}

/** Lets the event loop turn until `met`; the test's own time limit is what stops it. */
export async function until(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets the event loop turn until a figure stays the same for many turns, and gives it back. */
export async function settled(figure: () => number, turns = 300): Promise<number> {
  let last = figure();
  for (let same = 0; same < turns; same += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    const now = figure();
    if (now !== last) same = 0;
    last = now;
  }
  return last;
}
