/**
 * Bytes to frames of the AWS event stream encoding (application/vnd.amazon.eventstream; https://smithy.io/2.0/aws/amazon-eventstream.html).
 *
 * A frame is: total length (u32), length of the headers (u32), CRC-32 of these eight bytes, headers, payload, CRC-32 of everything before
 * it; numbers are big-endian. Both checksums are always checked, and a stream in which one is wrong is given up: behind a wrong length
 * nothing can be found again. What is left over at the end is a frame that was cut off, which whoever reads must not take for an end.
 *
 * This is our own code because the known library costs a start-up and an object for each header of each frame, and has no reader that
 * takes bytes cut anywhere. Nearly all frames of a stream have the same headers to the byte, so those are read once.
 */

/** One frame that was whole and whose checksums fit. */
export interface EventFrame {
  /** The headers whose values are text, by name, such as `:event-type`. Shared between frames with equal headers. */
  readonly headers: ReadonlyMap<string, string>;
  /** The payload; stays as it is after later reads. */
  readonly payload: Uint8Array;
}

/** Why a stream cannot be read on: `checksum` or `form` if its bytes are not what was sent, `size` if a frame is larger than the limit. */
export type EventStreamBreak = "checksum" | "form" | "size";

/** Splits one stream. Feed it every read in order; at the end look at `leftOver`. */
export class EventStreamReader {
  readonly #payloadBytesMax: number;
  /** Holds what is not given out yet, from `#start` to `#length`. */
  #buffer: Uint8Array = nothing;
  #length = 0;
  #start = 0;
  /** Whether the buffer was made here, so that more can be written behind its length. */
  #owned = false;
  #broken: EventStreamBreak | undefined;
  #headerBytes: Uint8Array = nothing;
  #headers: ReadonlyMap<string, string> = noHeaders;

  /** `payloadBytesMax`: a frame with a larger payload ends the reading, before it is waited for. */
  constructor(payloadBytesMax: number) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  /** Why nothing more is read, or undefined as long as all is well. Frames before it are given out. */
  get broken(): EventStreamBreak | undefined {
    return this.#broken;
  }

  /** How many bytes came that are no whole frame; not 0 at the end of a stream that was cut off. */
  get leftOver(): number {
    return this.#length - this.#start;
  }

  /** Takes in what one read brought, cut anywhere, and returns the frames that it completes. The bytes must stay as they are. */
  read(bytes: Uint8Array): EventFrame[] {
    const frames: EventFrame[] = [];
    if (this.#broken !== undefined) return frames;
    if (this.#start === this.#length) this.#takeOver(bytes);
    else this.#append(bytes);
    const view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#length);
    while (this.#length - this.#start >= PRELUDE_BYTES) {
      const frame = this.#frame(view);
      if (frame === undefined) break;
      frames.push(frame);
    }
    return frames;
  }

  /** The next frame; undefined if it is not whole yet, or cannot be. */
  #frame(view: DataView): EventFrame | undefined {
    const start = this.#start;
    const total = view.getUint32(start);
    const headersLength = view.getUint32(start + 4);
    const preludeSum = crc32(this.#buffer, start, start + 8, ALL_ONES);
    // Checked before the lengths are believed: a flipped bit there would make us wait for gigabytes.
    if ((preludeSum ^ ALL_ONES) >>> 0 !== view.getUint32(start + 8)) return this.#breakOff("checksum");
    const payloadLength = total - headersLength - FRAMING_BYTES;
    if (payloadLength < 0) return this.#breakOff("form");
    if (headersLength > HEADER_BYTES_MAX || payloadLength > this.#payloadBytesMax) return this.#breakOff("size");
    if (this.#length - start < total) return undefined;
    const end = start + total;
    const sum = crc32(this.#buffer, start + 8, end - 4, preludeSum);
    if ((sum ^ ALL_ONES) >>> 0 !== view.getUint32(end - 4)) return this.#breakOff("checksum");
    const payloadStart = start + PRELUDE_BYTES + headersLength;
    const headers = this.#headersAt(start + PRELUDE_BYTES, payloadStart);
    if (headers === undefined) return this.#breakOff("form");
    this.#start = end;
    return { headers, payload: this.#buffer.subarray(payloadStart, end - 4) };
  }

  /** The headers between two offsets, or undefined if they are none. */
  #headersAt(start: number, end: number): ReadonlyMap<string, string> | undefined {
    const bytes = this.#buffer.subarray(start, end);
    if (equal(bytes, this.#headerBytes)) return this.#headers;
    const headers = readHeaders(bytes);
    if (headers === undefined) return undefined;
    // A copy, so that a small block of headers does not hold on to a large read. Node's own buffers would not be copied by `slice`.
    this.#headerBytes = new Uint8Array(bytes);
    this.#headers = headers;
    return headers;
  }

  #breakOff(why: EventStreamBreak): undefined {
    this.#broken = why;
    this.#buffer = nothing;
    this.#start = 0;
    this.#length = 0;
  }

  #takeOver(bytes: Uint8Array): void {
    this.#buffer = bytes;
    this.#length = bytes.length;
    this.#start = 0;
    this.#owned = false;
  }

  #append(bytes: Uint8Array): void {
    const kept = this.#length - this.#start;
    if (!this.#owned || this.#length + bytes.length > this.#buffer.length) {
      // Twice what is kept, so that a large frame in many small reads is not copied once for each.
      const grown = new Uint8Array(Math.max(kept + bytes.length, kept * 2));
      grown.set(this.#buffer.subarray(this.#start, this.#length));
      this.#buffer = grown;
      this.#start = 0;
      this.#length = kept;
      this.#owned = true;
    }
    // Payloads given out before end where this begins, so they stay as they are.
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}

/** Two lengths and the checksum of both. */
const PRELUDE_BYTES = 12;
/** What a frame has beside headers and payload: the prelude and the checksum at its end. */
const FRAMING_BYTES = 16;
/** The encoding allows no more (128 KiB). */
const HEADER_BYTES_MAX = 128 * 1024;
/** A CRC-32 begins with all bits set and is inverted at its end. */
const ALL_ONES = 0xffffffff;

const nothing = new Uint8Array(0);
const noHeaders: ReadonlyMap<string, string> = new Map();

/**
 * Goes on with a CRC-32 (ISO 3309, polynomial 0xEDB88320 with reflected bits) over some bytes. Four bits at a time: the table is small
 * enough to be written down, so importing this file computes nothing, and a frame of 200 bytes takes well under a microsecond.
 */
function crc32(bytes: Uint8Array, start: number, end: number, begun: number): number {
  let sum = begun;
  for (let at = start; at < end; at++) {
    sum ^= bytes[at] ?? 0;
    sum = (sum >>> 4) ^ (crcOfNibble[sum & 15] ?? 0);
    sum = (sum >>> 4) ^ (crcOfNibble[sum & 15] ?? 0);
  }
  return sum;
}

const crcOfNibble = new Int32Array([
  0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8,
  0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
]);

function equal(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}

/** How many bytes a header's value has, by its type; what is not here has its length before it (bytes and text) or is no type. */
const valueBytes: Readonly<Record<number, number>> = Object.freeze({ 0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16 });
const BYTES_TYPE = 6;
const TEXT_TYPE = 7;

/** Reads a block of headers; of values that are no text only the length matters. Undefined if the block is broken. */
function readHeaders(bytes: Uint8Array): Map<string, string> | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const headers = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const nameStart = at + 1;
    const nameEnd = nameStart + view.getUint8(at);
    if (nameEnd >= bytes.length) return undefined;
    const type = view.getUint8(nameEnd);
    let valueStart = nameEnd + 1;
    let length = valueBytes[type];
    if (type === BYTES_TYPE || type === TEXT_TYPE) {
      if (valueStart + 2 > bytes.length) return undefined;
      length = view.getUint16(valueStart);
      valueStart += 2;
    }
    if (length === undefined || valueStart + length > bytes.length) return undefined;
    at = valueStart + length;
    if (type === TEXT_TYPE) headers.set(decoder.decode(bytes.subarray(nameStart, nameEnd)), decoder.decode(bytes.subarray(valueStart, at)));
  }
  return headers;
}

const decoder = new TextDecoder("utf-8");
