/** Why an answer ended, in the words of this API and in those of the conversation. */
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/**
 * The reason that a `finishReason` means. This API has none for tool calls, so `calls` tells whether any was made. A reason that nobody
 * knows yet, or that tells of a call that failed, leaves the answer as it is: the model is done, and the provider's word stands beside.
 */
export function finishReasonOf(native: string, calls: boolean): FinishReason {
  return known.get(native) ?? (calls ? FinishReason.TOOL_CALLS : FinishReason.STOP);
}

/** The name of a reason. Servers that were asked for numbers in place of names give the number that the name has in the API. */
export function finishReasonName(given: unknown): string | undefined {
  if (typeof given === "number") return numbered[given] ?? `FINISH_REASON_${given}`;
  return typeof given === "string" && given !== "" && given !== "FINISH_REASON_UNSPECIFIED" ? given : undefined;
}

const known: ReadonlyMap<string, FinishReason> = new Map([
  ["MAX_TOKENS", FinishReason.LENGTH],
  ["SAFETY", FinishReason.CONTENT_FILTER],
  ["RECITATION", FinishReason.CONTENT_FILTER],
  ["LANGUAGE", FinishReason.CONTENT_FILTER],
  ["BLOCKLIST", FinishReason.CONTENT_FILTER],
  ["PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER],
  ["SPII", FinishReason.CONTENT_FILTER],
  ["IMAGE_SAFETY", FinishReason.CONTENT_FILTER],
  ["IMAGE_PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER],
  ["IMAGE_RECITATION", FinishReason.CONTENT_FILTER],
  ["MODEL_ARMOR", FinishReason.CONTENT_FILTER],
]);

/** The numbers that AI Studio and Vertex AI agree on. */
const numbered: readonly (string | undefined)[] = [undefined, "STOP", "MAX_TOKENS", "SAFETY", "RECITATION"];
