/** Decides which tools to call, by comparing the words of the prompt with those of the tools' names and descriptions. */
import { type Prompt, readPrompt, wordsOfName } from "./prompt.ts";
import type { DemoRequest, DemoTool } from "./request.ts";

/** The tools to call now; none if the answer should be in words. */
export function pickTools(request: DemoRequest, prompt: Prompt): DemoTool[] {
  const { tools, toolChoice } = request;
  if (tools.length === 0 || toolChoice === "none") return [];
  if (typeof toolChoice === "object") return tools.filter((tool) => tool.name === toolChoice.name).slice(0, 1);
  const last = request.messages.at(-1);
  if (toolChoice === "auto" && (last?.role === "tool" || last?.role === "function")) return [];
  const words = new Set((prompt.text.toLowerCase().match(/[\p{L}\d]+/gu) ?? []).map(stem));
  const rated = tools.map((tool) => ({ tool, score: score(tool, words) })).sort((a, b) => b.score - a.score);
  const fitting = rated.filter((one) => one.score >= 2).map((one) => one.tool);
  const must = toolChoice === "required" || request.model.behaviour.callsTools;
  const chosen = fitting.length > 0 ? fitting : must ? rated.slice(0, 1).map((one) => one.tool) : [];
  return chosen.slice(0, request.parallelToolCalls && !request.legacyFunctions ? callsMax : 1);
}

/** More calls than this in one answer would only repeat what they show. */
export const callsMax = 4;

/** Two points for a word of the name that the prompt has, one for a word of the description. */
function score(tool: DemoTool, words: ReadonlySet<string>): number {
  const name = wordsOfName(tool.name).filter((word) => !commonVerbs.has(word));
  const described = readPrompt(tool.description).topics.map((word) => word.toLowerCase());
  const hits = (list: readonly string[]) => list.filter((word) => words.has(stem(word))).length;
  return 2 * hits(name) + hits(described.filter((word) => !name.includes(word) && !commonVerbs.has(word)));
}

/** Five letters are enough to know `calculate` in `calculator`, and a short word by what is left without its plural. */
function stem(word: string): string {
  return word.length > 5 ? word.slice(0, 5) : word.replace(/s$/, "");
}

// Words of tools' names that say nothing about what they are for.
const commonVerbs = new Set(
  "get set do run call fetch make use a the of to for in by with and or tool function api current data value info information returns return".split(
    " ",
  ),
);
