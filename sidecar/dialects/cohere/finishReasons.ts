/** Why an answer ended, in the words of this API and in those of the conversation. */
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/**
 * The reason that a `finish_reason` means, or undefined for one that means a failure. One that nobody knows yet means that the model was
 * done, unless it calls itself an error.
 */
export function finishReasonOf(finishReason: string): FinishReason | undefined {
  const reason = known.get(finishReason);
  if (reason !== undefined) return reason;
  return failed(finishReason) ? undefined : FinishReason.STOP;
}

function failed(finishReason: string): boolean {
  return finishReason === "TIMEOUT" || finishReason.startsWith("ERROR");
}

const known: ReadonlyMap<string, FinishReason> = new Map([
  ["COMPLETE", FinishReason.STOP],
  ["STOP_SEQUENCE", FinishReason.STOP],
  ["MAX_TOKENS", FinishReason.LENGTH],
  ["TOOL_CALL", FinishReason.TOOL_CALLS],
  ["ERROR_TOXIC", FinishReason.CONTENT_FILTER],
]);
