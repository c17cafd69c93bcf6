/**
 * What a call consumed, in this API's counts and in the conversation's totals that include their parts.
 *
 * Here thinking stands beside the answer's count and not in it, and what the provider's own tools read beside the prompt's. A count that
 * is 0 is left out of the JSON, as protocol buffers do it. In a stream each chunk has running totals: the last one holds, none is added.
 */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { JsonObject } from "../../framing/json.ts";

/** The usage that a `usageMetadata` means. `text` is its exact text. */
export function readUsage(metadata: JsonObject, text: string): Usage {
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
