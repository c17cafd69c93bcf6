/** Why an answer ended, in the words of this API and in those of the conversation. */
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/**
 * The reason that a `stopReason` means; undefined where the model's output could not be read by the provider itself, which is no ending.
 * A reason that nobody knows yet means that the model was done.
 */
export function finishReasonOf(stopReason: string): FinishReason | undefined {
  if (stopReason === "malformed_model_output" || stopReason === "malformed_tool_use") return undefined;
  return known.get(stopReason) ?? FinishReason.STOP;
}

const known: ReadonlyMap<string, FinishReason> = new Map([
  ["end_turn", FinishReason.STOP],
  ["stop_sequence", FinishReason.STOP],
  ["max_tokens", FinishReason.LENGTH],
  ["model_context_window_exceeded", FinishReason.LENGTH],
  ["tool_use", FinishReason.TOOL_CALLS],
  ["guardrail_intervened", FinishReason.CONTENT_FILTER],
  ["content_filtered", FinishReason.CONTENT_FILTER],
]);
