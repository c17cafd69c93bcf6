/**
 * An HTTP/1.1 caller that costs next to nothing: prepared bytes out, answers read just far enough to know when they end.
 *
 * One exchange at a time on a connection, as HTTP clients do. What it cannot read it reports as a failure and never as an answer.
 */
import type { Socket } from "node:net";
import { connect } from "node:net";
import type { Caller, Exchange } from "./caller.ts";

const CRLF = Buffer.from("\r\n");
const END_OF_HEAD = Buffer.from("\r\n\r\n");
// A chunk's size line is a few digits; a longer one is not HTTP.
const SIZE_LINE_MAX = 64;
// Answers' heads are some hundred bytes; a longer one is a mistake.
const HEAD_MAX = 64 * 1024;

/** Where the reading of an answer stands. */
type Reading = "idle" | "head" | "sized" | "chunk-size" | "chunk" | "chunk-end" | "trailer";

/** Opens a connection. `readBuffer` is read into by every connection of the process: nothing of it is kept. */
export function openHttp1(port: number, readBuffer: Buffer, nowUs: () => number): Caller {
  return new Http1Caller(port, readBuffer, nowUs);
}

class Http1Caller implements Caller {
  /** HTTP/1.1 carries one exchange at a time. */
  readonly capacity = 1;
  active = 0;
  closed = false;
  readonly #nowUs: () => number;
  readonly #socket: Socket;
  #exchange: Exchange | undefined;
  #reading: Reading = "idle";
  #left = 0;
  #closeAfter = false;
  #partial: Buffer | undefined;

  constructor(port: number, readBuffer: Buffer, nowUs: () => number) {
    this.#nowUs = nowUs;
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
  }

  send(exchange: Exchange): void {
    this.active = 1;
    this.#exchange = exchange;
    this.#reading = "head";
    this.#socket.write(exchange.request);
  }

  flush(): void {}

  close(): void {
    this.closed = true;
    this.#exchange = undefined;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const atUs = this.#nowUs();
    let bytes = chunk;
    if (this.#partial !== undefined) {
      bytes = Buffer.concat([this.#partial, chunk]);
      this.#partial = undefined;
    }
    let at = 0;
    while (at < bytes.length) {
      const exchange = this.#exchange;
      if (exchange === undefined) {
        this.#fail("bytes after the end of an answer");
        return;
      }
      switch (this.#reading) {
        case "idle":
          this.#fail("bytes before a request");
          return;
        case "head": {
          const end = bytes.indexOf(END_OF_HEAD, at);
          if (end < 0) {
            if (bytes.length - at > HEAD_MAX) {
              this.#fail("an answer's head without end");
              return;
            }
            this.#partial = Buffer.from(bytes.subarray(at));
            return;
          }
          this.#reading = this.#head(exchange, bytes.toString("latin1", at, end + 2));
          at = end + 4;
          if (this.#reading === "sized" && this.#left === 0) this.#end(atUs);
          break;
        }
        case "sized": {
          const end = Math.min(bytes.length, at + this.#left);
          exchange.payload(bytes, at, end, atUs);
          this.#left -= end - at;
          at = end;
          if (this.#left === 0) this.#end(atUs);
          break;
        }
        case "chunk-size":
        case "chunk-end":
        case "trailer": {
          const end = bytes.indexOf(CRLF, at);
          if (end < 0) {
            if (bytes.length - at > SIZE_LINE_MAX) {
              this.#fail("a chunk's size line without end");
              return;
            }
            this.#partial = Buffer.from(bytes.subarray(at));
            return;
          }
          if (this.#reading === "trailer") {
            if (end === at) this.#end(atUs);
          } else if (this.#reading === "chunk-end") this.#reading = "chunk-size";
          else {
            this.#left = hexadecimal(bytes, at, end);
            this.#reading = this.#left === 0 ? "trailer" : "chunk";
          }
          at = end + 2;
          break;
        }
        case "chunk": {
          const end = Math.min(bytes.length, at + this.#left);
          exchange.payload(bytes, at, end, atUs);
          this.#left -= end - at;
          at = end;
          if (this.#left === 0) this.#reading = "chunk-end";
          break;
        }
      }
    }
  }

  /** Reads an answer's head; returns what comes after it. */
  #head(exchange: Exchange, head: string): "sized" | "chunk-size" {
    exchange.status = Number(head.slice(9, 12));
    const lower = head.toLowerCase();
    this.#closeAfter = lower.includes("\r\nconnection: close\r\n");
    const lengthAt = lower.indexOf("\r\ncontent-length:");
    if (lengthAt >= 0) {
      this.#left = Number.parseInt(lower.slice(lengthAt + 17, lower.indexOf("\r\n", lengthAt + 17)), 10);
      return "sized";
    }
    return "chunk-size";
  }

  #end(atUs: number): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#reading = "idle";
    this.active = 0;
    if (this.#closeAfter) {
      this.closed = true;
      this.#socket.destroy();
    }
    exchange?.done(atUs, undefined, this);
  }

  #fail(reason: string): void {
    this.closed = true;
    this.#socket.destroy();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.active = 0;
    exchange?.done(this.#nowUs(), reason, this);
  }
}

/** The number that a chunk's size line begins with. */
function hexadecimal(bytes: Buffer, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte >= 0x30 && byte <= 0x39) value = value * 16 + byte - 0x30;
    else if (byte >= 0x61 && byte <= 0x66) value = value * 16 + byte - 0x61 + 10;
    else if (byte >= 0x41 && byte <= 0x46) value = value * 16 + byte - 0x41 + 10;
    else break;
  }
  return value;
}
