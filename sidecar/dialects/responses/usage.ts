/** What a call consumed: this API counts cached tokens with the input and thinking with the output, as the conversation does. */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonObject, type JsonValue } from "../../framing/json.ts";

/** Reads a usage object; `nativeJson` is its exact text. What is null or missing stays absent: absent is not zero. */
export function readUsage(usage: JsonObject, nativeJson: string): Usage {
  const input = isObject(usage.input_tokens_details) ? usage.input_tokens_details : nothing;
  const output = isObject(usage.output_tokens_details) ? usage.output_tokens_details : nothing;
  const read: Usage = { $typeName: "outrigger.chat.v1.Usage", nativeJson };
  const counts = {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    totalTokens: usage.total_tokens,
    cachedInputTokens: input.cached_tokens,
    cacheWriteTokens: input.cache_write_tokens,
    reasoningTokens: output.reasoning_tokens,
  };
  for (const [name, value] of Object.entries(counts)) {
    // What is no count, such as a fraction, says nothing.
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) read[name as keyof typeof counts] = BigInt(value);
  }
  return read;
}

/**
 * Writes usage. Parts that nobody reported are left out; the objects that hold them are always there, since callers look into them
 * without asking.
 */
export function writeUsage(usage: Usage | undefined): JsonValue {
  if (usage === undefined) return null;
  const { inputTokens, outputTokens, totalTokens, cachedInputTokens, cacheWriteTokens, reasoningTokens } = usage;
  const sum = inputTokens === undefined || outputTokens === undefined ? undefined : inputTokens + outputTokens;
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: cachedInputTokens, cache_write_tokens: cacheWriteTokens },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: totalTokens ?? sum,
  };
}

const nothing: JsonObject = Object.freeze({});
