/**
 * The demo provider's own tokens: short, stable pieces of text, so that usage can be counted exactly by anyone who has this file.
 */

// A blank belongs to what follows it, as in the tokenizers of real models. Words are cut after seven letters and numbers after three
// digits, so that long words cost more than short ones. A line break stands alone, so that lines can be counted one by one.
const token = / ?\p{L}[\p{L}\p{M}]{0,6}| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]{1,2}|\n| +|[^\S\n ]+|\p{M}+/gu;

/** The tokens of a text; joined, they are the text again. */
export function tokensOf(text: string): string[] {
  return text.match(token) ?? [];
}

/** How many tokens a text has. */
export function countTokens(text: string): number {
  return tokensOf(text).length;
}
