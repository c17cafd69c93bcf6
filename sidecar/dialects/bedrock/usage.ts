/** What a call consumed, in this API's disjoint counts and in the conversation's totals that include their parts. */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { JsonObject } from "../../framing/json.ts";

/**
 * Reads a `usage` object; `nativeJson` is its exact text. Here `inputTokens` leaves out what came from and went to the prompt cache, and
 * `totalTokens` does not.
 */
export function readUsage(counts: JsonObject, nativeJson: string): Usage {
  const input = count(counts.inputTokens);
  const output = count(counts.outputTokens);
  const total = count(counts.totalTokens);
  const read = count(counts.cacheReadInputTokens);
  const written = count(counts.cacheWriteInputTokens);
  const usage: Usage = { $typeName: "outrigger.chat.v1.Usage", nativeJson };
  if (input !== undefined) usage.inputTokens = input + (read ?? 0n) + (written ?? 0n);
  if (output !== undefined) usage.outputTokens = output;
  if (total !== undefined) usage.totalTokens = total;
  if (read !== undefined) usage.cachedInputTokens = read;
  if (written !== undefined) usage.cacheWriteTokens = written;
  return usage;
}

function count(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}
