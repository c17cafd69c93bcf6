/**
 * The quick way through a stream's plain chunks.
 *
 * Nearly every chunk is the one before it with other words in it: some 300 bytes of envelope around one string. Parsing all of it costs
 * more than everything else that is done for the chunk, so the envelope of a chunk that was parsed is kept as a template: what stands
 * before the words, between them and the padding that some providers add, and after that. A chunk that equals the template everywhere
 * but in these strings is the same JSON value but for them, so only the words need to be read. Any other chunk is parsed; a property in
 * the tests holds both ways to the same events.
 */
import { JsonPlace, memberSpans } from "../../framing/json.ts";

/** The template of one stream. */
export class PlainChunks {
  /** The choice that the template's words belong to. */
  choice = 0;
  /** Up to and with the quote before the words. Empty while there is no template. */
  #before = "";
  /** From the quote behind the words on: to the end, or up to and with the quote before the padding. */
  #behind = "";
  /** From the quote behind the padding to the end; empty if there is none. */
  #tail = "";
  #learned = 0;
  #hits = 0;

  /**
   * Keeps the envelope of a chunk that said nothing but words of one choice. `text` is the chunk's JSON as it stands in its frame.
   * Streams whose envelope keeps changing are given up on, since learning costs as much as parsing.
   */
  learn(text: string, choice: number): void {
    if (this.#learned > LEARNED_FREELY + this.#hits / HITS_PER_LESSON) return;
    this.#learned++;
    const words = JsonPlace.root(text).member("choices").element(0).member("delta").member("content").span();
    const last = memberSpans(text).at(-1);
    this.choice = choice;
    this.#before = text.slice(0, words.start + 1);
    this.#tail = "";
    if (last !== undefined && last.valueStart > words.end && paddings.has(last.key) && text[last.valueStart] === '"') {
      this.#behind = text.slice(words.end - 1, last.valueStart + 1);
      this.#tail = text.slice(last.valueEnd - 1);
    } else {
      this.#behind = text.slice(words.end - 1);
    }
  }

  /** The words of the chunk that stands in `text` from `start` to `end`, or undefined if it must be parsed. */
  match(text: string, start: number, end: number): string | undefined {
    const before = this.#before;
    const wordsStart = start + before.length;
    if (before === "" || wordsStart > end || text.slice(start, wordsStart) !== before) return undefined;
    let escaped = false;
    let position = wordsStart;
    for (; position < end; position++) {
      const code = text.charCodeAt(position);
      if (code === QUOTE) break;
      // A control character is no JSON, which the parser will say.
      if (code < 0x20) return undefined;
      if (code === BACKSLASH) {
        escaped = true;
        position++;
      }
    }
    const wordsEnd = position;
    position += this.#behind.length;
    if (position > end || text.slice(wordsEnd, position) !== this.#behind) return undefined;
    if (this.#tail !== "") {
      for (; position < end; position++) {
        const code = text.charCodeAt(position);
        if (code === QUOTE) break;
        if (code < 0x20 || code === BACKSLASH) return undefined;
      }
      if (text.slice(position, end) !== this.#tail) return undefined;
    } else if (position !== end) return undefined;
    this.#hits++;
    return escaped ? unescaped(text.slice(wordsStart - 1, wordsEnd + 1)) : text.slice(wordsStart, wordsEnd);
  }
}

/** Learning this often costs nothing that anyone would notice. */
const LEARNED_FREELY = 16;
/** One more lesson for so many chunks that a template saved the parsing of. */
const HITS_PER_LESSON = 8;

/** Members of random length against the guessing of words from sizes. */
const paddings: ReadonlySet<string> = new Set(["obfuscation", "p"]);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

function unescaped(literal: string): string | undefined {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}
