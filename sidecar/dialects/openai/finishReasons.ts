/** Why an answer ended: this dialect's words and the conversation's terms. */
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/**
 * The conversation's term for a provider's word. Servers that borrow the format bring words of their own; one that nobody knows is an
 * end like any other, and the word itself stands beside it. Undefined for a word that says that the answer failed. `calls`: whether the
 * answer calls tools. This dialect's own "stop" stays what it is beside a call: that is how a call ends that the caller forced.
 */
export function readFinishReason(word: string, calls: boolean): FinishReason | undefined {
  if (failures.has(word)) return undefined;
  if (calls && withoutToolReason.has(word)) return FinishReason.TOOL_CALLS;
  return byWord.get(word) ?? FinishReason.STOP;
}

/** This dialect's word for an end. `functionCall`: the answer's call is written in the deprecated form. */
export function writeFinishReason(reason: FinishReason, functionCall: boolean): string {
  switch (reason) {
    case FinishReason.LENGTH:
      return "length";
    case FinishReason.TOOL_CALLS:
      return functionCall ? "function_call" : "tool_calls";
    case FinishReason.CONTENT_FILTER:
      return "content_filter";
    default:
      return "stop";
  }
}

const byWord: ReadonlyMap<string, FinishReason> = new Map([
  ["stop", FinishReason.STOP],
  ["length", FinishReason.LENGTH],
  ["tool_calls", FinishReason.TOOL_CALLS],
  ["function_call", FinishReason.TOOL_CALLS],
  ["content_filter", FinishReason.CONTENT_FILTER],
  ["eos_token", FinishReason.STOP],
  ["stop_sequence", FinishReason.STOP],
  ["end_turn", FinishReason.STOP],
  ["max_tokens", FinishReason.LENGTH],
  ["max_length", FinishReason.LENGTH],
  ["model_length", FinishReason.LENGTH],
  ["tool_use", FinishReason.TOOL_CALLS],
  ["safety", FinishReason.CONTENT_FILTER],
  ["refusal", FinishReason.CONTENT_FILTER],
  ["recitation", FinishReason.CONTENT_FILTER],
]);

/** Words of servers that have none for an answer that calls tools. */
const withoutToolReason: ReadonlySet<string> = new Set(["eos_token", "stop_sequence"]);

/** Words with which a server breaks an answer off. */
const failures: ReadonlySet<string> = new Set(["error", "abort", "insufficient_system_resource"]);
