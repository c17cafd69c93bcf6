/**
 * What a call consumed. This API counts twice: `tokens` is what the model read and wrote, its own preamble and thinking included, and
 * `billed_units` what is charged for. The conversation's totals are the former; the latter stays in the provider's own account.
 */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonObject } from "../../framing/json.ts";

/** Reads a usage object; `nativeJson` is its exact text. What is null or missing stays absent: absent is not zero. */
export function readUsage(usage: JsonObject, nativeJson: string): Usage {
  const tokens = isObject(usage.tokens) ? usage.tokens : nothing;
  const read: Usage = { $typeName: "outrigger.chat.v1.Usage", nativeJson };
  const input = count(tokens.input_tokens);
  if (input !== undefined) read.inputTokens = input;
  const output = count(tokens.output_tokens);
  if (output !== undefined) read.outputTokens = output;
  const cached = count(usage.cached_tokens);
  if (cached !== undefined) read.cachedInputTokens = cached;
  const reasoning = count(tokens.reasoning_tokens);
  if (reasoning !== undefined) read.reasoningTokens = reasoning;
  return read;
}

const nothing: JsonObject = Object.freeze({});

/** A count of tokens, or undefined for what is none: null, text, fractions, and numbers below zero. */
function count(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}
