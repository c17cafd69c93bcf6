/**
 * Bytes to server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
 *
 * A frame keeps its place in the bytes it came in, so that frames nobody changed are passed on in one piece, and its text is made
 * only if someone asks. All frames of one read stand in one block, in order and touching each other: `block.bytes` from the start of
 * one to the end of a later one is exactly what the provider sent. A read that holds whole frames is not copied; what is cut at a
 * read's end is copied once it goes on.
 *
 * Lines end in LF, CRLF or CR. An event that ends in a CR at the end of a read is given at once, since a CR alone ends a line too;
 * an LF that follows stands before the next frame's first line, within its range.
 */

/** What a frame holds. A `data` frame is an event; `comment` is a line for keeping the connection alive; `other` has no meaning here. */
export type SseKind = "data" | "comment" | "other";

/** One frame of a stream. Positions are offsets in `block.bytes`. */
export class SseFrame {
  readonly block: SseBlock;
  readonly kind: SseKind;
  /** The event's name, or empty where the stream named none. */
  readonly event: string;
  /** Where the frame begins. */
  readonly start: number;
  /** Where the frame ends, its closing blank line included. */
  end: number;
  /** Where the text of the first data line, or of the comment, begins. */
  readonly textStart: number;
  /** Where that text ends. */
  readonly textEnd: number;
  /** Begin and end of each data line in turn, if there are several; otherwise undefined. */
  readonly lines: readonly number[] | undefined;

  constructor(
    block: SseBlock,
    kind: SseKind,
    event: string,
    start: number,
    end: number,
    textStart: number,
    textEnd: number,
    lines: readonly number[] | undefined,
  ) {
    this.block = block;
    this.kind = kind;
    this.event = event;
    this.start = start;
    this.end = end;
    this.textStart = textStart;
    this.textEnd = textEnd;
    this.lines = lines;
  }

  /** The event's data, its lines joined by LF; of a comment what follows the colon. Broken UTF-8 becomes U+FFFD, as the standard says. */
  text(): string {
    const { block, lines } = this;
    if (lines === undefined) return block.slice(this.textStart, this.textEnd);
    const texts: string[] = [];
    for (let i = 0; i + 1 < lines.length; i += 2) texts.push(block.slice(lines[i] ?? 0, lines[i + 1] ?? 0));
    return texts.join("\n");
  }
}

/** The frames that one read completed, and the bytes they stand in. */
export class SseBlock {
  readonly bytes: Uint8Array;
  readonly frames: SseFrame[] = [];
  /** A frame is larger than the limit. It is not among the frames, and the reader gives nothing more. */
  tooLong = false;
  readonly #buffer: Buffer;
  #units: string | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * The whole block as text with one character for each byte, of the byte's number. It is no decoded text, but bytes can be compared and
   * cut in it as fast as text, at the same offsets, and making it once for a read costs less than decoding each frame.
   */
  units(): string {
    this.#units ??= this.#buffer.toString("latin1");
    return this.#units;
  }

  /** The same from one offset up to another, for whoever keeps it: a slice of the above would keep all that one read brought. */
  unitsApart(start: number, end: number): string {
    return this.#buffer.toString("latin1", start, end);
  }

  /** The bytes from one offset up to another as text. */
  slice(start: number, end: number): string {
    return this.#buffer.toString("utf8", start, end);
  }
}

/** Splits one stream. Feed it every read in order, then `end`. */
export class SseReader {
  readonly #frameBytesMax: number;
  /** Holds what is not given out yet, from `#start` to `#length`. */
  #buffer: Uint8Array = nothing;
  #length = 0;
  /** Whether the buffer was made here, so that more can be written behind its length. */
  #owned = false;
  /** Where the next frame's range begins. */
  #start = 0;
  /** Where the frame's first line begins that is not blank, or -1. */
  #contentStart = -1;
  /** Where the line begins that is not complete yet. */
  #lineStart = 0;
  /** Up to where no line end was found. */
  #searched = 0;
  #event = "";
  #textStart = -1;
  #textEnd = -1;
  #lines: number[] | undefined;
  /** The last line ended in a CR at the very end of a read; an LF that follows belongs to it. */
  #afterCr = false;
  #beforeBom = true;
  #tooLong = false;

  /** `frameBytesMax`: a frame with more bytes, its closing blank line not counted, ends the reading. */
  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  /** Takes in what one read brought, cut anywhere, and returns the frames that it completes. The bytes must stay as they are. */
  read(bytes: Uint8Array): SseBlock {
    if (this.#tooLong) return spent();
    if (this.#start === this.#length) this.#takeOver(bytes);
    else this.#append(bytes);
    const block = new SseBlock(this.#owned ? this.#buffer.subarray(0, this.#length) : this.#buffer);
    if (this.#beforeBom && !this.#passBom()) return block;
    this.#scan(block);
    this.#letGo();
    return block;
  }

  /**
   * The stream is over. An event whose closing blank line is missing is returned as if it were there: whoever reads it decides
   * whether it is whole.
   */
  end(): SseBlock {
    if (this.#tooLong) return spent();
    const block = new SseBlock(this.#buffer.subarray(0, this.#length));
    if (this.#lineStart < this.#length) this.#line(block, this.#lineStart, this.#length, this.#length);
    if (this.#contentStart >= 0) this.#finish(block, this.#length);
    return block;
  }

  #takeOver(bytes: Uint8Array): void {
    this.#buffer = bytes;
    this.#length = bytes.length;
    this.#owned = false;
    this.#start = 0;
    this.#lineStart = 0;
    this.#searched = 0;
  }

  #append(bytes: Uint8Array): void {
    const kept = this.#length - this.#start;
    if (!this.#owned || bytes.length === 0 || this.#length + bytes.length > this.#buffer.length) {
      // Twice what is kept, so that a large frame in many small reads is not copied once for each.
      const grown = new Uint8Array(Math.max(kept + bytes.length, kept * 2));
      grown.set(this.#buffer.subarray(this.#start, this.#length));
      this.#shift(this.#start);
      this.#buffer = grown;
      this.#length = kept;
      this.#owned = true;
    }
    // Blocks given out before end where this begins, so their bytes stay as they are.
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /**
   * Until the next read only what is not given out yet is kept: of a large read mostly a frame's beginning, which would hold all of
   * it for as long as the caller, or the provider, takes.
   */
  #letGo(): void {
    const kept = this.#length - this.#start;
    if (kept === 0) this.#takeOver(nothing);
    else if (this.#buffer.length > LARGE_READ && kept < this.#buffer.length / 4) this.#append(nothing);
  }

  #shift(by: number): void {
    this.#start -= by;
    if (this.#contentStart >= 0) this.#contentStart -= by;
    this.#lineStart -= by;
    this.#searched -= by;
    if (this.#textStart >= 0) {
      this.#textStart -= by;
      this.#textEnd -= by;
    }
    this.#lines = this.#lines?.map((position) => position - by);
  }

  /** Skips a byte order mark at the stream's beginning. False if more bytes are needed to tell. */
  #passBom(): boolean {
    for (let i = 0; i < byteOrderMark.length; i++) {
      if (i === this.#length) return false;
      if (this.#buffer[i] !== byteOrderMark[i]) {
        this.#beforeBom = false;
        return true;
      }
    }
    this.#beforeBom = false;
    this.#start = byteOrderMark.length;
    this.#lineStart = byteOrderMark.length;
    this.#searched = byteOrderMark.length;
    return true;
  }

  #scan(block: SseBlock): void {
    const { bytes } = block;
    const length = this.#length;
    let lineStart = this.#lineStart;
    if (this.#afterCr && lineStart < length) {
      this.#afterCr = false;
      if (bytes[lineStart] === LF) lineStart++;
    }
    let from = Math.max(this.#searched, lineStart);
    // Almost no stream has a CR: looking for the next one only when the last one is behind keeps that free.
    let cr = bytes.indexOf(CR, from);
    while (from < length) {
      let lineEnd = from;
      // A blank line, which is every other one, is seen where it stands: a search costs more than looking at a byte.
      if (bytes[from] !== CR && bytes[from] !== LF) {
        const lf = bytes.indexOf(LF, from);
        if (cr !== -1 && cr < from) cr = bytes.indexOf(CR, from);
        lineEnd = lf === -1 || (cr !== -1 && cr < lf) ? cr : lf;
        if (lineEnd === -1) break;
      }
      let next = lineEnd + 1;
      if (bytes[lineEnd] === CR) {
        if (next === length) this.#afterCr = true;
        else if (bytes[next] === LF) next++;
      }
      this.#line(block, lineStart, lineEnd, next);
      if (this.#tooLong) return;
      lineStart = next;
      from = next;
    }
    this.#lineStart = lineStart;
    this.#searched = length;
    if (this.#contentStart >= 0 || lineStart < length) {
      const begun = this.#contentStart >= 0 ? this.#contentStart : lineStart;
      if (lineStart < length && length - begun > this.#frameBytesMax) this.#giveUp(block);
    } else if (length - this.#start > BLANKS_KEPT_MAX) {
      this.#start = length;
    }
  }

  /** One line, from `start` up to its line end at `end`; the next one begins at `next`. */
  #line(block: SseBlock, start: number, end: number, next: number): void {
    if (start === end) {
      if (this.#contentStart >= 0) this.#finish(block, next);
      else this.#closeComment(block, next);
      return;
    }
    if (this.#contentStart < 0) this.#contentStart = start;
    if (end - this.#contentStart > this.#frameBytesMax) {
      this.#giveUp(block);
      return;
    }
    const { bytes } = block;
    switch (bytes[start]) {
      case COLON:
        // A comment among the lines of an event is a part of its frame and nothing else.
        if (this.#contentStart === start) {
          block.frames.push(new SseFrame(block, "comment", "", this.#start, next, start + 1, end, undefined));
          this.#start = next;
          this.#contentStart = -1;
        }
        return;
      case 0x64: // d
        if (isField(bytes, start, end, dataField)) this.#data(valueStart(bytes, start + dataField.length, end), end);
        return;
      case 0x65: // e
        if (isField(bytes, start, end, eventField)) this.#event = block.slice(valueStart(bytes, start + eventField.length, end), end);
        return;
      default: // id, retry and what nobody knows
        return;
    }
  }

  #data(start: number, end: number): void {
    if (this.#textStart < 0) {
      this.#textStart = start;
      this.#textEnd = end;
      return;
    }
    this.#lines ??= [this.#textStart, this.#textEnd];
    this.#lines.push(start, end);
  }

  #finish(block: SseBlock, next: number): void {
    if (this.#textStart >= 0) {
      block.frames.push(new SseFrame(block, "data", this.#event, this.#start, next, this.#textStart, this.#textEnd, this.#lines));
    } else {
      block.frames.push(new SseFrame(block, "other", this.#event, this.#start, next, next, next, undefined));
    }
    this.#start = next;
    this.#contentStart = -1;
    this.#event = "";
    this.#textStart = -1;
    this.#textEnd = -1;
    this.#lines = undefined;
  }

  /** The blank line behind a comment belongs to the comment, if it came with it. */
  #closeComment(block: SseBlock, next: number): void {
    const last = block.frames.at(-1);
    if (last?.kind !== "comment" || last.end !== this.#start) return;
    last.end = next;
    this.#start = next;
  }

  #giveUp(block: SseBlock): void {
    this.#tooLong = true;
    block.tooLong = true;
    this.#buffer = nothing;
  }
}

/** Blank lines before a frame are kept with it, but no more bytes of them: an LF cut from its CR, and a line or two. */
const BLANKS_KEPT_MAX = 4;

/** Bytes of a read from which on it pays to copy the beginning of a frame out of it. */
const LARGE_READ = 4 * 1024;

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;
const SPACE = 0x20;
const nothing = new Uint8Array(0);
const byteOrderMark = Uint8Array.of(0xef, 0xbb, 0xbf);
const dataField = Uint8Array.of(0x64, 0x61, 0x74, 0x61);
const eventField = Uint8Array.of(0x65, 0x76, 0x65, 0x6e, 0x74);
function spent(): SseBlock {
  const block = new SseBlock(nothing);
  block.tooLong = true;
  return block;
}

/** Whether a line's field has this name: the name is followed by a colon or by nothing. */
function isField(bytes: Uint8Array, start: number, end: number, name: Uint8Array): boolean {
  if (end - start < name.length) return false;
  for (let i = 1; i < name.length; i++) if (bytes[start + i] !== name[i]) return false;
  const behind = start + name.length;
  return behind === end || bytes[behind] === COLON;
}

/** Where a field's value begins: behind the colon and at most one blank. `behind` is where the name ends. */
function valueStart(bytes: Uint8Array, behind: number, end: number): number {
  if (behind === end) return end;
  const start = behind + 1;
  return start < end && bytes[start] === SPACE ? start + 1 : start;
}
