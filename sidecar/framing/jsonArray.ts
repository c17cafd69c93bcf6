/**
 * Bytes to the elements of one JSON array that comes in pieces: some APIs stream so where no server-sent events were asked for.
 *
 * Elements are found by their brackets alone, and are text to whoever reads them: what stands in them is checked there.
 */

/** Splits one array. Feed it every read in order. */
export class JsonArrayReader {
  readonly #elementBytesMax: number;
  #state: "before" | "between" | "element" | "after" = "before";
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** The pieces of the element that is not at its end yet. */
  #pieces: Uint8Array[] = [];
  #length = 0;
  /** An element is larger than the limit, or the bytes are no array. The reader gives nothing more. */
  broken: "too long" | "no array" | undefined;

  /** `elementBytesMax`: an element with more bytes ends the reading. */
  constructor(elementBytesMax: number) {
    this.#elementBytesMax = elementBytesMax;
  }

  /** Whether the array's closing bracket was seen. */
  get closed(): boolean {
    return this.#state === "after";
  }

  /** Takes in what one read brought, cut anywhere, and returns the texts of the elements that it completes. */
  read(bytes: Uint8Array): string[] {
    const elements: string[] = [];
    /** Where the element begins in these bytes; those of an element that began before are all from 0. */
    let start = 0;
    for (let at = 0; at < bytes.length && this.broken === undefined; at++) {
      const byte = bytes[at] ?? 0;
      switch (this.#state) {
        case "before":
          if (byte === OPEN_BRACKET) this.#state = "between";
          else if (!isBlank(byte)) this.broken = "no array";
          break;
        case "between":
          if (byte === CLOSE_BRACKET) this.#state = "after";
          else if (byte !== COMMA && !isBlank(byte)) {
            this.#state = "element";
            start = at;
            this.#depth = 0;
            if (this.#step(byte)) this.broken = "no array";
          }
          break;
        case "element":
          // An element that is no object or array ends where something else begins.
          if (this.#depth === 0 && !this.#inString && (byte === COMMA || byte === CLOSE_BRACKET || isBlank(byte))) {
            this.#finish(bytes.subarray(start, at), elements);
            this.#state = byte === CLOSE_BRACKET ? "after" : "between";
          } else if (this.#step(byte)) {
            this.#finish(bytes.subarray(start, at + 1), elements);
            this.#state = "between";
          }
          break;
        default:
          if (!isBlank(byte)) this.broken = "no array";
      }
    }
    if (this.#state === "element" && this.broken === undefined) {
      const rest = bytes.subarray(start);
      this.#pieces.push(rest);
      this.#length += rest.length;
      if (this.#length > this.#elementBytesMax) {
        this.broken = "too long";
        this.#pieces = [];
      }
    }
    return elements;
  }

  /** Goes on by one byte within an element. Returns whether it closes an object or array that is the element. */
  #step(byte: number): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#inString = false;
      return false;
    }
    switch (byte) {
      case QUOTE:
        this.#inString = true;
        return false;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        this.#depth++;
        return false;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        this.#depth--;
        return this.#depth <= 0;
      default:
        return false;
    }
  }

  #finish(last: Uint8Array, elements: string[]): void {
    this.#pieces.push(last);
    const length = this.#length + last.length;
    const [only] = this.#pieces;
    let whole = only ?? last;
    if (this.#pieces.length > 1) {
      whole = new Uint8Array(length);
      let offset = 0;
      for (const piece of this.#pieces) {
        whole.set(piece, offset);
        offset += piece.length;
      }
    }
    this.#pieces = [];
    this.#length = 0;
    if (length > this.#elementBytesMax) this.broken = "too long";
    else elements.push(lenient.decode(whole));
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
