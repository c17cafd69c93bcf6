/**
 * Messages in envelopes: one byte of flags, four bytes of length, then the message.
 *
 * gRPC (PROTOCOL-HTTP2, "Length-Prefixed-Message"), gRPC-Web and Connect's streams share this form and differ in the flags.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";

/** The message is compressed; all three protocols. */
export const compressedFlag = 0b0000_0001;
/** The envelope holds the end of a stream as JSON; Connect. */
export const connectEndFlag = 0b0000_0010;
/** The envelope holds trailers as header lines; gRPC-Web. */
export const webTrailersFlag = 0b1000_0000;
/** Bytes before the message. */
export const envelopeHead = 5;

/** One message with its flags. */
export interface Envelope {
  readonly flags: number;
  readonly message: Uint8Array;
}

/**
 * The one message of a request body, for methods that take exactly one.
 *
 * Throws `MESSAGE_COUNT_INVALID` for none or several, `REQUEST_TOO_LARGE` for one that says it is longer than `bytesMax`, and
 * `REQUEST_INVALID` for a body that ends within an envelope or has a flag that no request may have.
 */
export function onlyMessage(body: Uint8Array, bytesMax: number): Envelope {
  if (body.byteLength === 0)
    throw new Fault(FaultReason.MESSAGE_COUNT_INVALID, "The request has no message; this method takes exactly one.");
  if (body.byteLength < envelopeHead) {
    throw new Fault(
      FaultReason.REQUEST_INVALID,
      `The request ends within an envelope's head: ${body.byteLength} of ${envelopeHead} bytes came.`,
    );
  }
  const flags = body[0] ?? 0;
  if ((flags & ~compressedFlag) !== 0) {
    throw new Fault(
      FaultReason.REQUEST_INVALID,
      `The request's envelope has the flags 0x${flags.toString(16).padStart(2, "0")}; a request knows only 0x01, for a compressed message.`,
    );
  }
  const length = readLength(body);
  if (length > bytesMax) {
    throw new Fault(
      FaultReason.REQUEST_TOO_LARGE,
      `The request's message is ${length} bytes long; ${bytesMax} bytes is the most that is read.`,
      { facts: { bytes_max: String(bytesMax) } },
    );
  }
  const rest = body.byteLength - envelopeHead;
  if (rest < length) {
    throw new Fault(FaultReason.REQUEST_INVALID, `The request's envelope promises ${length} bytes; the request ends after ${rest}.`);
  }
  if (rest > length) {
    throw new Fault(FaultReason.MESSAGE_COUNT_INVALID, "More follows the request's message; this method takes exactly one.");
  }
  return { flags, message: body.subarray(envelopeHead) };
}

/** A message in its envelope. */
export function wrap(flags: number, message: Uint8Array): Uint8Array {
  const enveloped = Buffer.allocUnsafe(envelopeHead + message.byteLength);
  writeHead(enveloped, flags, message.byteLength);
  enveloped.set(message, envelopeHead);
  return enveloped;
}

/** A text in its envelope, as UTF-8. */
export function wrapText(flags: number, text: string): Uint8Array {
  const length = Buffer.byteLength(text);
  const enveloped = Buffer.allocUnsafe(envelopeHead + length);
  writeHead(enveloped, flags, length);
  enveloped.write(text, envelopeHead);
  return enveloped;
}

/** Writes the first five bytes of an envelope whose message of `length` bytes stands behind them. */
export function writeHead(target: Uint8Array, flags: number, length: number): void {
  target[0] = flags;
  target[1] = length >>> 24;
  target[2] = length >>> 16;
  target[3] = length >>> 8;
  target[4] = length;
}

/** Big-endian, unsigned; at least five bytes are there. */
function readLength(body: Uint8Array): number {
  return (((body[1] ?? 0) << 24) | ((body[2] ?? 0) << 16) | ((body[3] ?? 0) << 8) | (body[4] ?? 0)) >>> 0;
}
