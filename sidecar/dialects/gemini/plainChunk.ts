/**
 * Which chunks of this dialect are plain: those that say nothing but words of one candidate. Their running totals differ from chunk to
 * chunk, so that every whole number in their usage is a hole of the template. A number that is written with a sign, a fraction or an
 * exponent is no count that anyone reads, and stays part of the envelope.
 */
import { type ElementSpan, isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import type { SseFrame } from "../../framing/sse.ts";
import { type ChunkHoles, ChunkTemplate, COUNT_DIGITS_MAX } from "../chunkTemplate.ts";
import { hasCounts } from "./usage.ts";

/** The plain chunks of one stream. */
export class PlainChunks {
  /** The candidate that the template's words belong to. */
  candidate = 0;
  /** Whether they are thinking and no text. */
  thought = false;
  /** Whether their usage counts anything, which is told by its members' names; undefined if there is none. */
  usageCounts: boolean | undefined;
  /** Where the usage stands in the block of the frame that fitted last. */
  usageStart = 0;
  usageEnd = 0;
  readonly #template = new ChunkTemplate();
  /** From the words' closing quote to the usage's beginning, and from its end to the chunk's end. */
  #usageFrom = 0;
  #usageTo = 0;

  /** Keeps the envelope of a chunk whose only event was a piece of words of a candidate; `response` is its JSON. */
  learn(frame: SseFrame, response: JsonObject): void {
    const part = onlyPart(response);
    if (part === undefined || frame.lines !== undefined) return;
    const { usageMetadata } = response;
    const counted = isObject(usageMetadata);
    let from = 0;
    let to = 0;
    const learned = this.#template.learn(frame.block, frame.textStart, frame.textEnd, (json): ChunkHoles | undefined => {
      const top = JsonPlace.root(json);
      const words = top.member("candidates").element(0).member("content").member("parts").element(0).member("text").span();
      if (!counted) return [words];
      const usage = top.member("usageMetadata").span();
      // Holes stand behind the words, as in whatever was seen.
      if (usage.start < words.end) return undefined;
      from = usage.start - (words.end - 1);
      to = json.length - usage.end;
      return [words, ...countSpans(json, usage)];
    });
    if (!learned) return;
    this.candidate = part.candidate;
    this.thought = part.thought;
    this.usageCounts = counted ? hasCounts(usageMetadata) : undefined;
    this.#usageFrom = from;
    this.#usageTo = to;
  }

  /** The words of a frame's chunk, or undefined if it must be parsed. */
  match(frame: SseFrame): string | undefined {
    if (frame.lines !== undefined) return undefined;
    const words = this.#template.match(frame.block, frame.textStart, frame.textEnd);
    this.usageStart = this.#template.wordsEnd + this.#usageFrom;
    this.usageEnd = frame.textEnd - this.#usageTo;
    return words;
  }
}

/** Whose words a response holds that has nothing else in it, and whether they are thinking; undefined if it has more to say. */
function onlyPart(response: JsonObject): { readonly candidate: number; readonly thought: boolean } | undefined {
  const { candidates, promptFeedback, error } = response;
  if (promptFeedback !== undefined || error !== undefined || !Array.isArray(candidates) || candidates.length !== 1) return undefined;
  const [candidate] = candidates as readonly unknown[];
  if (!isObject(candidate) || !Object.keys(candidate).every((key) => silentMembers.has(key)) || !isObject(candidate.content))
    return undefined;
  const { parts } = candidate.content;
  if (!Array.isArray(parts) || parts.length !== 1) return undefined;
  const [part] = parts as readonly unknown[];
  if (!isObject(part) || !Object.keys(part).every((key) => key === "text" || key === "thought")) return undefined;
  return { candidate: typeof candidate.index === "number" ? candidate.index : 0, thought: part.thought === true };
}

/** Members of a candidate that say nothing beside its words. */
const silentMembers: ReadonlySet<string> = new Set(["content", "index", "safetyRatings"]);

/** The whole numbers within a value. */
function countSpans(json: string, { start, end }: ElementSpan): ElementSpan[] {
  const spans: ElementSpan[] = [];
  for (const { 0: token, index } of json.slice(start, end).matchAll(stringOrNumber)) {
    if (token.length <= COUNT_DIGITS_MAX && wholeNumber.test(token))
      spans.push({ start: start + index, end: start + index + token.length });
  }
  return spans;
}

const stringOrNumber = /"(?:[^"\\]|\\.)*"|[-\d][-+.eE\d]*/g;
const wholeNumber = /^(?:0|[1-9]\d*)$/;
