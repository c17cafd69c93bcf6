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
import type { SseBlock } from "../../framing/sse.ts";

/** The member of a delta that holds the words of a plain chunk. */
export type WordsMember = "content" | "reasoning_content" | "reasoning";

/** Whether a member of a delta holds words. */
export function isWordsMember(key: string): key is WordsMember {
  return key === "content" || key === "reasoning_content" || key === "reasoning";
}

/** The template of one stream. All its texts have one character for each byte, as `SseBlock.units` has. */
export class PlainChunks {
  /** The choice that the template's words belong to. */
  choice = 0;
  /** What they are: text or thinking. */
  member: WordsMember = "content";
  /** Up to and with the quote before the words. Empty while there is no template. */
  #before = "";
  /** From the quote behind the words on: to the end, or up to and with the quote before the padding. */
  #behind = "";
  /** From the quote behind the padding to the end; empty if there is none. */
  #tail = "";
  #learned = 0;
  #hits = 0;

  /**
   * Keeps the envelope of a chunk that said nothing but words of one choice, in a member of its delta. The chunk's JSON stands in the
   * block from `start` to `end`. Streams whose envelope keeps changing are given up on, since learning costs as much as parsing.
   */
  learn(block: SseBlock, start: number, end: number, choice: number, member: WordsMember): void {
    if (this.#learned > LEARNED_FREELY + this.#hits / HITS_PER_LESSON) return;
    this.#learned++;
    const json = block.unitsApart(start, end);
    const words = JsonPlace.root(json).member("choices").element(0).member("delta").member(member).span();
    const last = memberSpans(json).at(-1);
    this.choice = choice;
    this.member = member;
    this.#before = json.slice(0, words.start + 1);
    this.#tail = "";
    if (last !== undefined && last.valueStart > words.end && paddings.has(last.key) && json[last.valueStart] === '"') {
      this.#behind = json.slice(words.end - 1, last.valueStart + 1);
      this.#tail = json.slice(last.valueEnd - 1);
    } else {
      this.#behind = json.slice(words.end - 1);
    }
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
    position += this.#behind.length;
    if (position > end || units.slice(wordsEnd, position) !== this.#behind) return undefined;
    if (this.#tail !== "") {
      for (; position < end; position++) {
        const unit = units.charCodeAt(position);
        if (unit === QUOTE) break;
        if (unit < 0x20 || unit === BACKSLASH) return undefined;
      }
      if (units.slice(position, end) !== this.#tail) return undefined;
    } else if (position !== end) return undefined;
    this.#hits++;
    if (escaped) return unescaped(block.slice(wordsStart - 1, wordsEnd + 1));
    return wide ? block.slice(wordsStart, wordsEnd) : units.slice(wordsStart, wordsEnd);
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
