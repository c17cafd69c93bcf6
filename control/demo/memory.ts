/**
 * What the demo provider remembers of earlier prompts, so that a prompt which begins like one of them is counted as cached: the way in
 * which real providers report their prompt caches.
 */
import { digest } from "./seeded.ts";

const tokensLeast = 128; // shorter beginnings are not kept, so that small requests cost the same however often they are sent
const beginningsMax = 4_096; // what a long afternoon of trying things out fills, in a few hundred kilobytes

/** The beginnings of prompts that were seen. */
export class PromptMemory {
  // Only the order of insertion is used: what was not met for longest is forgotten first.
  readonly #seen = new Set<string>();

  /**
   * How many tokens of a prompt were seen before, and remembers this one. `pieces` are the prompt's parts in order, each with its own
   * number of tokens; beginnings are told apart at their borders.
   */
  cachedTokens(pieces: readonly { readonly json: string; readonly tokens: number }[]): number {
    let chain = "";
    let tokens = 0;
    let cached = 0;
    for (const piece of pieces) {
      chain = digest(`${chain}${piece.json}`);
      tokens += piece.tokens;
      if (tokens < tokensLeast) continue;
      if (this.#seen.delete(chain)) cached = tokens;
      this.#seen.add(chain);
    }
    for (const oldest of this.#seen) {
      if (this.#seen.size <= beginningsMax) break;
      this.#seen.delete(oldest);
    }
    return cached;
  }
}
