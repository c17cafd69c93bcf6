/**
 * What a call consumed, in this API's counts and in the conversation's totals that include their parts.
 *
 * Here thinking stands beside the answer's count and not in it, and what the provider's own tools read beside the prompt's. A count that
 * is 0 is left out of the JSON, as protocol buffers do it. In a stream each chunk has running totals: the last one holds, none is added.
 * So of all that one read brings only the last is read and told: nobody sees the ones before it, since a batch is taken in as one.
 */
import { usageEvent } from "../../../proto/chat.ts";
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { JsonObject, JsonPlace } from "../../framing/json.ts";
import type { SseBlock } from "../../framing/sse.ts";

/** The running totals of one answer. */
export class RunningUsage {
  /** Where the last totals stand in what is being read: a place in a text, or a range of a block. */
  #place: JsonPlace | undefined;
  #block: SseBlock | undefined;
  #start = 0;
  #end = 0;
  /** The text of the last totals that are not told yet. */
  #text: string | undefined;
  /** Whether any totals so far counted something. */
  #counted = false;
  #toldText = "";

  /** Takes in the totals that stand at a place. Those without a count tell of the kind of traffic, and replace none. */
  add(metadata: JsonObject, place: JsonPlace): void {
    const counts = hasCounts(metadata);
    if (this.#counted && !counts) return;
    this.#counted = counts;
    this.#place = place;
    this.#block = undefined;
  }

  /** The same for totals that nobody has parsed: their JSON stands in a block, and whether they count something is known. */
  addAt(block: SseBlock, start: number, end: number, counts: boolean): void {
    if (this.#counted && !counts) return;
    this.#counted = counts;
    this.#place = undefined;
    this.#block = block;
    this.#start = start;
    this.#end = end;
  }

  /** A read is over: adds the event of the last totals, if they count something that was not told. */
  tell(events: ChatEvent[]): void {
    // What was read is not held longer for a few counts in it.
    this.#text = this.#place?.json() ?? this.#block?.slice(this.#start, this.#end) ?? this.#text;
    this.#place = undefined;
    this.#block = undefined;
    if (this.#counted) this.#tellText(events);
  }

  /** The same at an answer's end. A blocked prompt is told by usage without any count, which is a count of nothing. */
  tellLast(events: ChatEvent[]): void {
    this.tell(events);
    this.#tellText(events);
  }

  #tellText(events: ChatEvent[]): void {
    const text = this.#text;
    this.#text = undefined;
    if (text === undefined || text === this.#toldText) return;
    this.#toldText = text;
    events.push(usageEvent(readUsage(JSON.parse(text) as JsonObject, text)));
  }
}

/** The usage that a `usageMetadata` means. `text` is its exact text. */
function readUsage(metadata: JsonObject, text: string): Usage {
  const prompt = count(metadata.promptTokenCount);
  const toolPrompt = count(metadata.toolUsePromptTokenCount);
  const answer = count(metadata.candidatesTokenCount);
  const thoughts = count(metadata.thoughtsTokenCount);
  const total = count(metadata.totalTokenCount);
  const cached = count(metadata.cachedContentTokenCount);
  const usage: Usage = { $typeName: "outrigger.chat.v1.Usage", outputTokens: (answer ?? 0n) + (thoughts ?? 0n), nativeJson: text };
  // No prompt is empty, so a missing count is not known and no 0.
  if (prompt !== undefined || toolPrompt !== undefined) usage.inputTokens = (prompt ?? 0n) + (toolPrompt ?? 0n);
  if (total !== undefined) usage.totalTokens = total;
  if (cached !== undefined) usage.cachedInputTokens = cached;
  if (thoughts !== undefined) usage.reasoningTokens = thoughts;
  return usage;
}

/** Whether a `usageMetadata` counts anything: the first chunks of some streams tell of the kind of traffic alone. */
export function hasCounts(metadata: JsonObject): boolean {
  return countNames.some((name) => count(metadata[name]) !== undefined);
}

const countNames = ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"] as const;

function count(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}
