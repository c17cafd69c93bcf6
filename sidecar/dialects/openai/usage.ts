/** What a call consumed: this dialect counts cached tokens with the prompt and thinking with the completion, as the conversation does. */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonObject, type JsonValue } from "../../framing/json.ts";

/** Reads a usage object; `nativeJson` is its exact text. What is null or missing stays absent: absent is not zero. */
export function readUsage(usage: JsonObject, nativeJson: string): Usage {
  const prompt = isObject(usage.prompt_tokens_details) ? usage.prompt_tokens_details : nothing;
  const completion = isObject(usage.completion_tokens_details) ? usage.completion_tokens_details : nothing;
  const read: Usage = { $typeName: "outrigger.chat.v1.Usage", nativeJson };
  const input = count(usage.prompt_tokens);
  if (input !== undefined) read.inputTokens = input;
  const output = count(usage.completion_tokens);
  if (output !== undefined) read.outputTokens = output;
  const total = count(usage.total_tokens);
  if (total !== undefined) read.totalTokens = total;
  const cached = count(prompt.cached_tokens);
  if (cached !== undefined) read.cachedInputTokens = cached;
  // Routers in front of providers that charge for it report it here.
  const written = count(prompt.cache_write_tokens) ?? count(prompt.cache_creation_tokens);
  if (written !== undefined) read.cacheWriteTokens = written;
  const reasoning = count(completion.reasoning_tokens);
  if (reasoning !== undefined) read.reasoningTokens = reasoning;
  return read;
}

/** Writes usage. Parts that nobody reported are left out, never null: null breaks clients. */
export function writeUsage(usage: Usage): JsonValue {
  const { inputTokens, outputTokens, totalTokens, cachedInputTokens, cacheWriteTokens, reasoningTokens } = usage;
  const sum = inputTokens === undefined || outputTokens === undefined ? undefined : inputTokens + outputTokens;
  const prompt = { cached_tokens: cachedInputTokens, cache_write_tokens: cacheWriteTokens };
  return {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    total_tokens: totalTokens ?? sum,
    prompt_tokens_details: cachedInputTokens === undefined && cacheWriteTokens === undefined ? undefined : prompt,
    completion_tokens_details: reasoningTokens === undefined ? undefined : { reasoning_tokens: reasoningTokens },
  };
}

const nothing: JsonObject = Object.freeze({});

/** A count of tokens, or undefined for what is none: null, text, fractions, and numbers below zero. */
function count(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}
