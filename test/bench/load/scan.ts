/**
 * Finds stamps in an answer's payload, cut anywhere: how many events came, when the first did, and how long each was on its way.
 */
import { STAMP_DIGITS, STAMP_MARK } from "../payloads.ts";

/** Bytes of a whole stamp. */
const STAMP_BYTES = STAMP_MARK.length + STAMP_DIGITS;
const MARK = Buffer.from(STAMP_MARK, "latin1");
const ZERO = 0x30;

/** Takes the time of one event from the provider's write to here, in microseconds; shared by all answers of a measurement. */
export type DelaySink = (delayUs: number) => void;

/** Scans one answer. */
export class StampScanner {
  /** Stamps seen so far. */
  count = 0;
  /** When the first stamp came, in microseconds; 0 if none did. */
  firstAtUs = 0;
  /** Payload bytes seen so far. */
  bytes = 0;
  #carry: Buffer | undefined;

  /** Takes in a piece of the payload that arrived at `atUs`. Stamps that tell a time are given to `sink`. */
  scan(bytes: Buffer, start: number, end: number, atUs: number, sink: DelaySink | undefined): void {
    this.bytes += end - start;
    let from = start;
    if (this.#carry !== undefined) {
      // A stamp was cut: what is missing of it stands at the beginning of this piece, or of a later one.
      const missing = STAMP_BYTES - this.#carry.length;
      const joined = Buffer.concat([this.#carry, bytes.subarray(start, Math.min(end, start + missing))]);
      if (joined.length < STAMP_BYTES && isStampStart(joined)) {
        this.#carry = joined;
        return;
      }
      this.#carry = undefined;
      if (isStampStart(joined)) {
        this.#found(joined, 0, atUs, sink);
        from = start + missing;
      }
    }
    for (;;) {
      const at = bytes.indexOf(MARK, from);
      if (at < 0 || at >= end) break;
      if (at + STAMP_BYTES > end) break;
      if (digitsFrom(bytes, at + MARK.length)) this.#found(bytes, at, atUs, sink);
      from = at + MARK.length;
    }
    const tail = Math.max(from, end - STAMP_BYTES + 1);
    for (let at = tail; at < end; at++) {
      if (bytes[at] === MARK[0] && isStampStart(bytes.subarray(at, end))) {
        this.#carry = Buffer.from(bytes.subarray(at, end));
        break;
      }
    }
  }

  #found(bytes: Buffer, at: number, atUs: number, sink: DelaySink | undefined): void {
    if (this.count++ === 0) this.firstAtUs = atUs;
    if (sink === undefined) return;
    let stampUs = 0;
    for (let i = at + MARK.length; i < at + STAMP_BYTES; i++) stampUs = stampUs * 10 + (bytes[i] ?? ZERO) - ZERO;
    if (stampUs > 0) sink(atUs - stampUs);
  }
}

/** Whether bytes are the beginning of a stamp, as far as they go. */
function isStampStart(bytes: Buffer): boolean {
  for (let i = 0; i < bytes.length; i++) {
    if (i < MARK.length ? bytes[i] !== MARK[i] : !isDigit(bytes[i])) return false;
  }
  return true;
}

/** Whether a stamp's digits stand here, all of them. */
function digitsFrom(bytes: Buffer, start: number): boolean {
  for (let i = start; i < start + STAMP_DIGITS; i++) if (!isDigit(bytes[i])) return false;
  return true;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= ZERO + 9;
}
