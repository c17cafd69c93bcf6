/** Takes the prompt off the beginning of an answer that repeats it. */
import type { PromptFormat } from "../rawPrompt.ts";

/**
 * The answer in a text that may begin with the prompt, as it was sent, as the server spells it, or without its control words. What does
 * not begin so is returned as it is. Where the format has no control words nothing can tell a prompt from an answer, and all is returned.
 */
export function withoutPrompt(text: string, prompt: string, format: PromptFormat): string {
  if (format === "plain") return text;
  if (text.startsWith(prompt)) return text.slice(prompt.length).trim();
  if (format === "llama2") {
    const end = text.lastIndexOf(questionEnd);
    return end !== -1 && /^\s*(?:<s>\s*)*\[INST\]/.test(text) ? text.slice(end + questionEnd.length).trim() : text;
  }
  const bare = prompt.replace(/<\|\w+\|>/g, "");
  return text.startsWith(bare) ? text.slice(bare.length).trim() : text;
}

const questionEnd = "[/INST]";
