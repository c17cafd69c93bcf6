/**
 * Which chunks of this dialect are plain: those that say nothing but words of one choice. Of some providers' chunks the padding differs,
 * too, which they add so that nobody guesses words from sizes.
 */
import { JsonPlace, memberSpans } from "../../framing/json.ts";
import type { SseBlock } from "../../framing/sse.ts";
import { ChunkTemplate } from "../chunkTemplate.ts";

/** The member of a delta that holds the words of a plain chunk. */
export type WordsMember = "content" | "reasoning_content" | "reasoning";

/** Whether a member of a delta holds words. */
export function isWordsMember(key: string): key is WordsMember {
  return key === "content" || key === "reasoning_content" || key === "reasoning";
}

/** The plain chunks of one stream. */
export class PlainChunks {
  /** The choice that the template's words belong to. */
  choice = 0;
  /** What they are: text or thinking. */
  member: WordsMember = "content";
  readonly #template = new ChunkTemplate();

  /**
   * Keeps the envelope of a chunk that said nothing but words of one choice, in a member of its delta. The chunk's JSON stands in the
   * block from `start` to `end`.
   */
  learn(block: SseBlock, start: number, end: number, choice: number, member: WordsMember): void {
    const learned = this.#template.learn(block, start, end, (json) => {
      const words = JsonPlace.root(json).member("choices").element(0).member("delta").member(member).span();
      const last = memberSpans(json).at(-1);
      const padded = last !== undefined && last.valueStart > words.end && paddings.has(last.key) && json[last.valueStart] === '"';
      return padded ? [words, { start: last.valueStart, end: last.valueEnd }] : [words];
    });
    if (!learned) return;
    this.choice = choice;
    this.member = member;
  }

  /** The words of the chunk that stands in a block from `start` to `end`, or undefined if it must be parsed. */
  match(block: SseBlock, start: number, end: number): string | undefined {
    return this.#template.match(block, start, end);
  }
}

/** Members of random length against the guessing of words from sizes. */
const paddings: ReadonlySet<string> = new Set(["obfuscation", "p"]);
