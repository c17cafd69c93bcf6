/** Why an answer ended, in the words of this API and in those of the conversation. */
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/**
 * The reason that a `stop_reason` means. One that nobody knows yet means that the model was done: the API adds reasons over time, and
 * all that it added so far were ways of being done.
 */
export function finishReasonOf(stopReason: string): FinishReason {
  return known.get(stopReason) ?? FinishReason.STOP;
}

/**
 * The `stop_reason` that means a reason. The provider's own word is kept where it means the same, so that an answer which comes from
 * this API and goes out by it says `pause_turn` where it said so.
 */
export function stopReasonOf(reason: FinishReason, nativeReason: string, stopSequence: string): string {
  if (known.get(nativeReason) === reason) return nativeReason;
  switch (reason) {
    case FinishReason.LENGTH:
      return "max_tokens";
    case FinishReason.TOOL_CALLS:
      return "tool_use";
    case FinishReason.CONTENT_FILTER:
      return "refusal";
    default:
      return stopSequence === "" ? "end_turn" : "stop_sequence";
  }
}

const known: ReadonlyMap<string, FinishReason> = new Map([
  ["end_turn", FinishReason.STOP],
  ["stop_sequence", FinishReason.STOP],
  ["pause_turn", FinishReason.STOP],
  ["compaction", FinishReason.STOP],
  ["max_tokens", FinishReason.LENGTH],
  ["model_context_window_exceeded", FinishReason.LENGTH],
  ["tool_use", FinishReason.TOOL_CALLS],
  ["refusal", FinishReason.CONTENT_FILTER],
]);
