/**
 * Bytes to lines of JSON (https://github.com/ndjson/ndjson-spec): one value in each line, lines end in LF, and a CR before it is a blank
 * like any other. Blank lines say nothing.
 *
 * A line is decoded once it is whole, so that a character cut by the wire is never read in halves.
 */

/** The lines that one read completed. */
export interface NdjsonLines {
  /** The text of each, without its line end; broken UTF-8 becomes U+FFFD. */
  readonly texts: readonly string[];
  /** A line is larger than the limit. It is not among the texts, and the reader gives nothing more. */
  readonly tooLong: boolean;
}

/** Splits one stream. Feed it every read in order, then `end`. */
export class NdjsonReader {
  readonly #lineBytesMax: number;
  /** What came of the line that is not whole yet, in pieces, so that a long line in many reads is copied once. */
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;
  #beforeFirst = true;
  #tooLong = false;

  /** `lineBytesMax`: a line with more bytes, its line end not counted, ends the reading. */
  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** Takes in what one read brought, cut anywhere, and returns the lines that it completes. The bytes must stay as they are. */
  read(bytes: Uint8Array): NdjsonLines {
    const texts: string[] = [];
    let start = 0;
    while (!this.#tooLong) {
      const lineEnd = bytes.indexOf(LF, start);
      const end = lineEnd === -1 ? bytes.length : lineEnd;
      if (this.#pieceBytes + end - start > this.#lineBytesMax) {
        this.#giveUp();
        break;
      }
      if (lineEnd === -1) {
        if (start < end) {
          this.#pieces.push(bytes.subarray(start));
          this.#pieceBytes += end - start;
        }
        break;
      }
      this.#line(bytes.subarray(start, end), texts);
      start = end + 1;
    }
    return { texts, tooLong: this.#tooLong };
  }

  /** The stream is over. A last line without its end is returned as if it had one: whoever reads it decides whether it is whole. */
  end(): NdjsonLines {
    const texts: string[] = [];
    if (!this.#tooLong) this.#line(nothing, texts);
    return { texts, tooLong: this.#tooLong };
  }

  #line(last: Uint8Array, texts: string[]): void {
    let bytes = last;
    if (this.#pieceBytes > 0) {
      bytes = joined([...this.#pieces, last], this.#pieceBytes + last.length);
      this.#pieces = [];
      this.#pieceBytes = 0;
    }
    let text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    // RFC 8259 section 8.1 lets readers pass over a byte order mark.
    if (this.#beforeFirst && text.charCodeAt(0) === BYTE_ORDER_MARK) text = text.slice(1);
    this.#beforeFirst = false;
    if (!blank.test(text)) texts.push(text.endsWith("\r") ? text.slice(0, -1) : text);
  }

  #giveUp(): void {
    this.#tooLong = true;
    this.#pieces = [];
    this.#pieceBytes = 0;
  }
}

const LF = 0x0a;
const BYTE_ORDER_MARK = 0xfeff;
const nothing = new Uint8Array(0);
/** What JSON calls blanks (RFC 8259 section 2), and nothing else. */
const blank = /^[ \t\r]*$/;

function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
