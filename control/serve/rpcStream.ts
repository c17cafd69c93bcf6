/**
 * One streaming call of gRPC or Connect over HTTP/2, driven by hand: envelopes in, envelopes out, and the end in the protocol's words.
 *
 * For the one method that ten thousand sidecars have open. No promise, no iterator and no header object is made for a message; whatever
 * is not plain (compression, JSON, deadlines, pages of other origins) is left to Connect's own stack, which serves the same method and
 * is the reference in tests.
 */
import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { endStreamFlag, endStreamToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { Clock } from "../clock.ts";
import { controlFault } from "./fault.ts";
import type { Peer } from "./peer.ts";

/** Who hears a call. */
export interface RpcListener {
  /** A message came whole. The bytes are the listener's to keep. */
  message(bytes: Uint8Array): void;
  /** No further message comes: the caller has said all, has left (`Canceled`), or has sent what is no message. Called once, last. */
  over(fault: ConnectError | undefined): void;
  /** What was written has been taken, after a write that said false. */
  drained(): void;
}

/** A streaming call as who serves it sees it. After the caller is gone every function does nothing. */
export interface RpcStream {
  readonly peer: Peer;
  /** Begins to read. Called once. */
  listen(listener: RpcListener): void;
  /** Reads no further until `resume`; what the connection has taken in waits, and what the caller sends fills its window. */
  pause(): void;
  resume(): void;
  /** Writes messages that stand in their envelopes; the bytes are never changed, and may be shared. False says: wait for `drained`. */
  write(enveloped: Uint8Array): boolean;
  /** Ends the call, well or with a fault. */
  end(fault: ConnectError | undefined): void;
}

/** Bytes of an envelope before its message: flags, and the length (gRPC, PROTOCOL-HTTP2, "Length-Prefixed-Message"; Connect has the same). */
export const envelopeHead = 5;

/** How long a caller may go on after its call has ended: the end is on its way for as long, and then nobody listens. */
export const lingerMs = 5_000;

/** What is known of a call before it is taken. */
export interface RpcParts {
  readonly peer: Peer;
  /** Bytes of one of the caller's messages at most. */
  readonly bytesMax: number;
  readonly clock: Pick<Clock, "after">;
}

/** Takes a stream by hand if it is plain; undefined leaves it to Connect's stack. */
export function takeByHand(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, parts: RpcParts): RpcStream | undefined {
  const words = wordsOf(headers["content-type"]);
  if (words === undefined || headers[":method"] !== "POST" || headers.origin !== undefined || headers.expect !== undefined)
    return undefined;
  if (headers[words.timeoutHeader] !== undefined) return undefined;
  const encoding = headers[words.encodingHeader];
  if (encoding !== undefined && encoding !== "identity") return undefined;
  return new HandStream(stream, words, parts);
}

/** Writes the head of an envelope without flags. */
export function writeEnvelopeHead(target: Uint8Array, length: number, flags = 0): void {
  target[0] = flags;
  target[1] = length >>> 24;
  target[2] = length >>> 16;
  target[3] = length >>> 8;
  target[4] = length;
}

class HandStream implements RpcStream {
  readonly peer: Peer;
  readonly #stream: ServerHttp2Stream;
  readonly #words: Words;
  readonly #bytesMax: number;
  readonly #clock: Pick<Clock, "after">;
  #listener: RpcListener | undefined;
  /** What came and is no whole envelope yet. */
  #rest: Buffer = noBytes;
  #paused = false;
  /** Whether the caller said all that it has to say while nobody read. */
  #endWaits = false;
  #isOver = false;
  #ended = false;

  constructor(stream: ServerHttp2Stream, words: Words, { peer, bytesMax, clock }: RpcParts) {
    this.#stream = stream;
    this.peer = peer;
    this.#words = words;
    this.#bytesMax = bytesMax;
    this.#clock = clock;
  }

  listen(listener: RpcListener): void {
    this.#listener = listener;
    const stream = this.#stream;
    stream.on("data", (piece: Buffer) => this.#read(piece));
    stream.on("end", () => this.#readEnd());
    // A reset is also an error; `close` follows each and says all that matters.
    stream.on("error", ignore);
    stream.on("close", () => this.#over(new ConnectError("the caller has left", Code.Canceled)));
    stream.on("drain", () => {
      if (!this.#isOver || !this.#ended) this.#listener?.drained();
    });
  }

  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#take();
    if (this.#paused) return;
    if (this.#endWaits) this.#readEnd();
    else this.#stream.resume();
  }

  write(enveloped: Uint8Array): boolean {
    const stream = this.#stream;
    if (this.#ended || stream.destroyed || stream.closed) return true;
    if (!stream.headersSent) stream.respond(this.#words.head, this.#words.options);
    return stream.write(enveloped);
  }

  end(fault: ConnectError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    if (stream.writableNeedDrain) {
      // Whoever reads nothing would never see the end, and what was written would wait for ever.
      stream.close(constants.NGHTTP2_CANCEL);
      return;
    }
    this.#words.end(stream, fault);
    // What the caller may still say is thrown away, so that the stream can close.
    this.#rest = noBytes;
    stream.resume();
    // A caller that never ends its side would keep the stream for as long as the connection lives.
    const stop = this.#clock.after(lingerMs, () => stream.close(constants.NGHTTP2_NO_ERROR));
    stream.once("close", stop);
  }

  #read(piece: Buffer): void {
    if (this.#isOver || this.#ended) return;
    this.#rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    this.#take();
  }

  /** Takes the envelopes that are whole. */
  #take(): void {
    let rest = this.#rest;
    while (!this.#paused && !this.#isOver && !this.#ended && rest.length >= envelopeHead) {
      const flags = rest.readUInt8(0);
      const length = rest.readUInt32BE(1);
      if (flags !== 0 || length > this.#bytesMax) {
        this.#over(wrongEnvelope(flags, length, this.#bytesMax));
        return;
      }
      const end = envelopeHead + length;
      if (rest.length < end) break;
      const message = rest.subarray(envelopeHead, end);
      rest = rest.subarray(end);
      this.#rest = rest;
      this.#listener?.message(message);
    }
    this.#rest = rest;
  }

  #readEnd(): void {
    // What came with the end may hold whole messages that wait to be taken.
    if (this.#paused) {
      this.#endWaits = true;
      return;
    }
    const cut = this.#rest.length > 0 && !this.#ended;
    this.#over(cut ? controlFault("REQUEST_INVALID", "The request ends within a message.") : undefined);
  }

  #over(fault: ConnectError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#rest = noBytes;
    this.#listener?.over(fault);
  }
}

function wrongEnvelope(flags: number, length: number, bytesMax: number): ConnectError {
  if ((flags & 1) !== 0) return controlFault("REQUEST_INVALID", "A message is compressed, and the request did not say how.");
  if (flags !== 0) return controlFault("REQUEST_INVALID", `A message has flags that no request may have: ${flags}.`);
  return controlFault("REQUEST_TOO_LARGE", `A message has ${length} bytes; at most ${bytesMax} are read.`, {
    facts: { limit: String(bytesMax) },
  });
}

/** What a protocol says around messages. */
interface Words {
  readonly head: OutgoingHttpHeaders;
  readonly options: { readonly waitForTrailers: boolean };
  readonly timeoutHeader: string;
  readonly encodingHeader: string;
  end(stream: ServerHttp2Stream, fault: ConnectError | undefined): void;
}

function wordsOf(contentType: string | undefined): Words | undefined {
  switch (contentType) {
    case "application/grpc":
    case "application/grpc+proto":
      return grpc;
    case "application/connect+proto":
      return connect;
    default:
      return undefined;
  }
}

/** gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): the status comes as trailers. */
const grpc: Words = Object.freeze({
  head: Object.freeze({ ":status": 200, "content-type": "application/grpc+proto" }),
  options: Object.freeze({ waitForTrailers: true }),
  timeoutHeader: "grpc-timeout",
  encodingHeader: "grpc-encoding",
  end(stream: ServerHttp2Stream, fault: ConnectError | undefined) {
    const trailers = Object.fromEntries(setTrailerStatus(new Headers(), fault));
    if (!stream.headersSent) {
      // "Trailers-Only": one block of headers, which ends the stream.
      stream.respond({ ...grpc.head, ...trailers }, { endStream: true });
      return;
    }
    stream.once("wantTrailers", () => stream.sendTrailers(trailers));
    stream.end();
  },
});

/** Connect's streams (https://connectrpc.com/docs/protocol, "Streaming-Response"): always 200, and the last envelope says how it went. */
const connect: Words = Object.freeze({
  head: Object.freeze({ ":status": 200, "content-type": "application/connect+proto" }),
  options: Object.freeze({ waitForTrailers: false }),
  timeoutHeader: "connect-timeout-ms",
  encodingHeader: "connect-content-encoding",
  end(stream: ServerHttp2Stream, fault: ConnectError | undefined) {
    const json = Buffer.from(JSON.stringify(endStreamToJson(new Headers(), fault, undefined)));
    const last = new Uint8Array(envelopeHead + json.length);
    writeEnvelopeHead(last, json.length, endStreamFlag);
    last.set(json, envelopeHead);
    if (!stream.headersSent) stream.respond(connect.head, connect.options);
    stream.end(last);
  },
});

const noBytes: Buffer = Buffer.alloc(0);

function ignore(): void {
  // Said by `close`.
}
