/**
 * The quick way through a stream's plain chunks.
 *
 * Nearly every chunk is the one before it with other words in it: some 300 bytes of envelope around one string. Parsing all of it costs
 * more than everything else that is done for the chunk, so the envelope of a chunk that was parsed is kept as a template: what stands
 * before the words and what stands behind them, with holes where some providers write padding or counts. A chunk that equals the
 * template everywhere but in its holes is the same JSON value but for them, so only the words need to be read. Any other chunk is parsed;
 * properties in the tests of each dialect hold both ways to the same events.
 */
import type { ElementSpan } from "../framing/json.ts";
import type { SseBlock } from "../framing/sse.ts";

/**
 * Where the chunk's JSON may differ from the next one's, in the order in which it stands there: first the words, a string, and then
 * strings in which no word is written and whole numbers of at most `COUNT_DIGITS_MAX` digits.
 */
export type ChunkHoles = readonly [words: ElementSpan, ...others: ElementSpan[]];

/** The template of one stream. All its texts have one character for each byte, as `SseBlock.units` has. */
export class ChunkTemplate {
  /** Where the words end in the chunk that fitted last: the offset of their closing quote. */
  wordsEnd = 0;
  /** Up to and with the quote before the words. Empty while there is no template. */
  #before = "";
  /** From the quote behind the words on: what stands between holes, and last what stands behind them all. */
  #behind: readonly string[] = [];
  /** Of each hole between these, whether it holds a number and no string. */
  #numbers: readonly boolean[] = [];
  #learned = 0;
  #hits = 0;

  /**
   * Keeps the envelope of a chunk that said nothing but words; its JSON stands in the block from `start` to `end`. `holesOf` is given the
   * same as text with one character for each byte, and finds where it may differ; undefined if that cannot be told. Streams whose
   * envelope keeps changing are given up on, since learning costs as much as parsing. Returns whether this is the template now.
   */
  learn(block: SseBlock, start: number, end: number, holesOf: (json: string) => ChunkHoles | undefined): boolean {
    if (this.#learned > LEARNED_FREELY + this.#hits / HITS_PER_LESSON) return false;
    this.#learned++;
    const json = block.unitsApart(start, end);
    const holes = holesOf(json);
    if (holes === undefined) return false;
    const [words, ...others] = holes;
    const behind: string[] = [];
    const numbers: boolean[] = [];
    let from = words.end - 1;
    for (const hole of others) {
      const quote = json.charCodeAt(hole.start) === QUOTE ? 1 : 0;
      behind.push(json.slice(from, hole.start + quote));
      numbers.push(quote === 0);
      from = hole.end - quote;
    }
    behind.push(json.slice(from));
    this.#before = json.slice(0, words.start + 1);
    this.#behind = behind;
    this.#numbers = numbers;
    return true;
  }

  /** The words of the chunk that stands in a block from `start` to `end`, or undefined if it must be parsed. */
  match(block: SseBlock, start: number, end: number): string | undefined {
    const before = this.#before;
    const wordsStart = start + before.length;
    const units = block.units();
    if (before === "" || wordsStart > end || units.slice(start, wordsStart) !== before) return undefined;
    let escaped = false;
    let wide = false;
    let position = wordsStart;
    for (; position < end; position++) {
      const unit = units.charCodeAt(position);
      if (unit === QUOTE) break;
      // A control character is no JSON, which the parser will say.
      if (unit < 0x20) return undefined;
      if (unit > 0x7f) wide = true;
      else if (unit === BACKSLASH) {
        escaped = true;
        position++;
      }
    }
    const wordsEnd = position;
    if (!this.#fitsBehind(units, wordsEnd, end)) return undefined;
    this.wordsEnd = wordsEnd;
    this.#hits++;
    if (escaped) return unescaped(block.slice(wordsStart - 1, wordsEnd + 1));
    return wide ? block.slice(wordsStart, wordsEnd) : units.slice(wordsStart, wordsEnd);
  }

  /** Whether what stands from `start` to `end` is what stands behind the template's words, whatever its holes hold. */
  #fitsBehind(units: string, start: number, end: number): boolean {
    const behind = this.#behind;
    const last = behind.length - 1;
    let position = start;
    for (let i = 0; i <= last; i++) {
      const piece = behind[i] ?? "";
      const pieceEnd = position + piece.length;
      if (pieceEnd > end || units.slice(position, pieceEnd) !== piece) return false;
      if (i === last) return pieceEnd === end;
      position = this.#numbers[i] === true ? countEnd(units, pieceEnd) : paddingEnd(units, pieceEnd, end);
      if (position === -1) return false;
    }
    return false;
  }
}

/** Digits of a count: any number with as many is read by JavaScript as it stands. */
export const COUNT_DIGITS_MAX = 15;

/** Learning this often costs nothing that anyone would notice. */
const LEARNED_FREELY = 16;
/** One more lesson for so many chunks that a template saved the parsing of. */
const HITS_PER_LESSON = 8;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ZERO = 0x30;
const NINE = 0x39;

/** Behind the whole number that begins there, or -1 if none does. What the template has behind it is no part of any number. */
function countEnd(units: string, start: number): number {
  let position = start;
  for (let unit = units.charCodeAt(position); unit >= ZERO && unit <= NINE; unit = units.charCodeAt(position)) position++;
  const digits = position - start;
  if (digits === 0 || digits > COUNT_DIGITS_MAX) return -1;
  return digits > 1 && units.charCodeAt(start) === ZERO ? -1 : position;
}

/** The quote that ends the string that begins there, or -1 if it has anything but plain characters. */
function paddingEnd(units: string, start: number, end: number): number {
  for (let position = start; position < end; position++) {
    const unit = units.charCodeAt(position);
    if (unit === QUOTE) return position;
    if (unit < 0x20 || unit === BACKSLASH) return -1;
  }
  return -1;
}

function unescaped(literal: string): string | undefined {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}
