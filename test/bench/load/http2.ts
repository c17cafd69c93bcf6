/**
 * An HTTP/2 caller with prior knowledge that costs next to nothing (RFC 9113): hand-made frames out, frames read just far enough to know
 * what ends when.
 *
 * Headers are sent as gRPC clients do: literals that both sides index on the first request of a connection, one byte each after that
 * (RFC 7541, section 6). Headers of answers are not decoded: an answer counts only if its content is complete, which no refusal has,
 * and single answers are decoded by real clients while it is measured.
 */
import type { Socket } from "node:net";
import { connect } from "node:net";
import type { Caller, Exchange } from "./caller.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const FRAME_HEAD = 9;
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PADDED = 8;
const SETTING_HEADER_TABLE_SIZE = 1;
const SETTING_ENABLE_PUSH = 2;
const SETTING_MAX_CONCURRENT_STREAMS = 3;
const SETTING_INITIAL_WINDOW_SIZE = 4;
const SETTING_MAX_FRAME_SIZE = 5;
// Until the peer's settings arrive (RFC 9113, section 6.5.2).
const WINDOW_DEFAULT = 65_535;
const FRAME_DEFAULT = 16_384;
// No answer is as large, so that a stream never needs an update.
const STREAM_WINDOW = 16 * 1024 * 1024;
const CONNECTION_WINDOW = 1024 * 1024 * 1024;
// Given back in large steps, so that updates cost nothing.
const WINDOW_STEP = 64 * 1024 * 1024;
// Only settings and pings are gathered, and those are short.
const GATHER_MAX = 1024;

/** Opens a connection that carries up to `capacity` streams. `headers` are names and values in turn, pseudo-headers left out. */
export function openHttp2(
  port: number,
  path: string,
  headers: readonly string[],
  capacity: number,
  readBuffer: Buffer,
  nowUs: () => number,
): Caller {
  return new Http2Caller(port, path, headers, capacity, readBuffer, nowUs);
}

class Http2Caller implements Caller {
  readonly capacity: number;
  active = 0;
  closed = false;
  readonly #nowUs: () => number;
  readonly #socket: Socket;
  readonly #exchanges = new Map<number, Exchange>();
  readonly #firstBlock: Buffer;
  readonly #laterBlock: Buffer;
  readonly #out: Buffer[] = [];
  readonly #waiting: Exchange[] = [];
  #nextStream = 1;
  #ready = false;
  #sendWindow = WINDOW_DEFAULT;
  #streamWindow = WINDOW_DEFAULT;
  #frameMax = FRAME_DEFAULT;
  #received = 0;
  // The frame that is being read.
  readonly #head = Buffer.alloc(FRAME_HEAD);
  #headFilled = 0;
  #left = 0;
  #type = 0;
  #flags = 0;
  #stream = 0;
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;

  constructor(port: number, path: string, headers: readonly string[], capacity: number, readBuffer: Buffer, nowUs: () => number) {
    this.capacity = capacity;
    this.#nowUs = nowUs;
    const all = [":path", path, ":authority", `127.0.0.1:${port}`, ...headers];
    this.#firstBlock = literalBlock(all);
    this.#laterBlock = indexedBlock(all.length / 2);
    this.#socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (length, bytes) => {
          this.#read(Buffer.from(bytes.buffer, bytes.byteOffset, length));
          return true;
        },
      },
    });
    this.#socket.on("error", (error) => this.#fail(String(error)));
    this.#socket.on("close", () => this.#fail("connection closed"));
    const settings = Buffer.alloc(12);
    settings.writeUInt16BE(SETTING_ENABLE_PUSH, 0);
    settings.writeUInt16BE(SETTING_INITIAL_WINDOW_SIZE, 6);
    settings.writeUInt32BE(STREAM_WINDOW, 8);
    this.#socket.write(
      Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, settings), frame(WINDOW_UPDATE, 0, 0, uint32(CONNECTION_WINDOW - WINDOW_DEFAULT))]),
    );
  }

  send(exchange: Exchange): void {
    this.active++;
    // Requests wait for the peer's settings, and for room in the connection's window.
    if (!this.#ready || this.#waiting.length > 0 || exchange.request.length > this.#sendWindow) this.#waiting.push(exchange);
    else this.#begin(exchange);
  }

  #begin(exchange: Exchange): void {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const body = exchange.request;
    if (body.length > this.#streamWindow) {
      this.active--;
      exchange.done(this.#nowUs(), `a request of ${body.length} bytes does not fit a stream window of ${this.#streamWindow}`, this);
      return;
    }
    this.#sendWindow -= body.length;
    this.#exchanges.set(stream, exchange);
    const block = stream === 1 ? this.#firstBlock : this.#laterBlock;
    const frames = Math.max(1, Math.ceil(body.length / this.#frameMax));
    const bytes = Buffer.allocUnsafe(FRAME_HEAD + block.length + frames * FRAME_HEAD + body.length);
    let at = writeFrameHead(bytes, 0, block.length, HEADERS, END_HEADERS, stream);
    at += block.copy(bytes, at);
    for (let i = 0, from = 0; i < frames; i++) {
      const to = Math.min(body.length, from + this.#frameMax);
      at = writeFrameHead(bytes, at, to - from, DATA, i === frames - 1 ? END_STREAM : 0, stream);
      at += body.copy(bytes, at, from, to);
      from = to;
    }
    this.#out.push(bytes);
  }

  flush(): void {
    if (this.#out.length === 0) return;
    this.#socket.write(this.#out.length === 1 && this.#out[0] !== undefined ? this.#out[0] : Buffer.concat(this.#out));
    this.#out.length = 0;
  }

  close(): void {
    this.closed = true;
    this.#exchanges.clear();
    this.#waiting.length = 0;
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    const atUs = this.#nowUs();
    let at = 0;
    while (at < bytes.length) {
      if (this.#headFilled < FRAME_HEAD) {
        const copied = bytes.copy(this.#head, this.#headFilled, at, at + FRAME_HEAD - this.#headFilled);
        this.#headFilled += copied;
        at += copied;
        if (this.#headFilled < FRAME_HEAD) break;
        this.#left = this.#head.readUIntBE(0, 3);
        this.#type = this.#head[3] ?? 0;
        this.#flags = this.#head[4] ?? 0;
        this.#stream = this.#head.readUInt32BE(5) & 0x7fffffff;
        if (this.#type === DATA) {
          if ((this.#flags & PADDED) !== 0) {
            this.#fail("padded data, which this caller does not read");
            return;
          }
          this.#received += this.#left;
        }
      }
      const end = Math.min(bytes.length, at + this.#left);
      if (this.#type === DATA) this.#exchanges.get(this.#stream)?.payload(bytes, at, end, atUs);
      else if (this.#type !== HEADERS && end > at) this.#gather(bytes.subarray(at, end));
      this.#left -= end - at;
      at = end;
      if (this.#left === 0) {
        this.#headFilled = 0;
        this.#frameEnd(atUs);
        if (this.closed) return;
      }
    }
    if (this.#received > WINDOW_STEP) {
      this.#out.push(frame(WINDOW_UPDATE, 0, 0, uint32(this.#received)));
      this.#received = 0;
    }
    this.flush();
  }

  #gather(bytes: Buffer): void {
    this.#gatheredBytes += bytes.length;
    if (this.#gatheredBytes > GATHER_MAX) return;
    this.#gathered.push(Buffer.from(bytes));
  }

  #frameEnd(atUs: number): void {
    const payload = this.#gathered.length === 1 && this.#gathered[0] !== undefined ? this.#gathered[0] : Buffer.concat(this.#gathered);
    if (this.#gatheredBytes > 0) {
      this.#gathered = [];
      this.#gatheredBytes = 0;
    }
    switch (this.#type) {
      case DATA:
      case HEADERS:
        if ((this.#flags & END_STREAM) !== 0) this.#finish(this.#stream, atUs, undefined);
        break;
      case RST_STREAM:
        this.#finish(this.#stream, atUs, `stream reset with code ${payload.readUInt32BE(0)}`);
        break;
      case SETTINGS:
        if ((this.#flags & ACK) === 0) {
          const wrong = this.#settings(payload);
          if (wrong !== undefined) this.#fail(wrong);
        }
        break;
      case PING:
        if ((this.#flags & ACK) === 0) this.#out.push(frame(PING, ACK, 0, payload));
        break;
      case WINDOW_UPDATE:
        if (this.#stream === 0) this.#sendWindow += payload.readUInt32BE(0);
        this.#beginWaiting();
        break;
      case GOAWAY:
        this.#fail(`connection refused further calls with code ${payload.readUInt32BE(4)}`);
        break;
    }
  }

  /** Takes in the peer's settings; returns why they do not do. */
  #settings(payload: Buffer): string | undefined {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case SETTING_HEADER_TABLE_SIZE:
          if (value < 4096) return `a header table of ${value} bytes, which this caller does not handle`;
          break;
        case SETTING_INITIAL_WINDOW_SIZE:
          this.#streamWindow = value;
          break;
        case SETTING_MAX_FRAME_SIZE:
          this.#frameMax = Math.min(value, FRAME_DEFAULT);
          break;
        case SETTING_MAX_CONCURRENT_STREAMS:
          if (value < this.capacity) return `only ${value} streams allowed on a connection, ${this.capacity} wanted`;
          break;
      }
    }
    this.#out.push(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    this.#ready = true;
    this.#beginWaiting();
    return undefined;
  }

  #beginWaiting(): void {
    for (
      let next = this.#waiting[0];
      this.#ready && next !== undefined && next.request.length <= this.#sendWindow;
      next = this.#waiting[0]
    ) {
      this.#waiting.shift();
      this.#begin(next);
    }
  }

  #finish(stream: number, atUs: number, failure: string | undefined): void {
    const exchange = this.#exchanges.get(stream);
    // A stream that this caller gave up, or that was reset after its end.
    if (exchange === undefined) return;
    this.#exchanges.delete(stream);
    this.active--;
    exchange.done(atUs, failure, this);
  }

  #fail(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#socket.destroy();
    const left = [...this.#exchanges.values(), ...this.#waiting];
    this.#exchanges.clear();
    this.#waiting.length = 0;
    this.active = 0;
    for (const exchange of left) exchange.done(this.#nowUs(), reason, this);
  }
}

function writeFrameHead(bytes: Buffer, at: number, length: number, type: number, flags: number, stream: number): number {
  bytes.writeUIntBE(length, at, 3);
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  return bytes.writeUInt32BE(stream, at + 5);
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD + payload.length);
  payload.copy(bytes, writeFrameHead(bytes, 0, payload.length, type, flags, stream));
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

// `:method POST` and `:scheme http` stand in HPACK's static table (RFC 7541, appendix A).
const METHOD_POST = 0x83;
const SCHEME_HTTP = 0x86;
/** The first entry of the dynamic table. */
const DYNAMIC_FIRST = 62;

/** The headers of a connection's first request: each a literal with a new name that both sides index. */
function literalBlock(headers: readonly string[]): Buffer {
  const parts: Buffer[] = [Buffer.from([METHOD_POST, SCHEME_HTTP])];
  for (let i = 0; i < headers.length; i += 2) parts.push(Buffer.from([0x40]), literal(headers[i] ?? ""), literal(headers[i + 1] ?? ""));
  return Buffer.concat(parts);
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text);
  // Lengths from 127 on take more bytes (RFC 7541, section 5.1).
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const rest = bytes.length - 127;
  if (rest >= 128) throw new Error(`a header of ${bytes.length} bytes, which this caller does not write`);
  return Buffer.concat([Buffer.from([127, rest]), bytes]);
}

/** The headers of every later request: an index each, the newest entry first in the table. */
function indexedBlock(count: number): Buffer {
  const bytes = [METHOD_POST, SCHEME_HTTP];
  for (let i = 0; i < count; i++) bytes.push(0x80 | (DYNAMIC_FIRST + count - 1 - i));
  return Buffer.from(bytes);
}
