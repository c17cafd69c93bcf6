/**
 * Thinking with its seal, through a format that has no place for seals.
 *
 * A provider whose thinking is signed wants it back unchanged with the next turn. Callers of this dialect give assistant messages back
 * as they got them, so the blocks travel in a member `reasoning_details` of the message, in the form that became customary for it, and
 * are known again by a `format` that only we write.
 */
import type { Reasoning } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue } from "../../framing/json.ts";

/** One block as a member of the list. `index` is the block's number in the answer. */
export function writeReasoningDetail(block: Pick<Reasoning, "text" | "signature" | "redacted" | "dialect">, index: number): JsonValue {
  const format = FORMAT_PREFIX + block.dialect;
  if (block.redacted !== "") return { type: "reasoning.encrypted", data: block.redacted, format, index };
  return { type: "reasoning.text", text: block.text, signature: block.signature, format, index };
}

/**
 * Reads a list that we wrote, or undefined if anyone else wrote a part of it. Streams bring the list again as it grows; callers keep the
 * last one or all of them, so a later entry of a block replaces an earlier one.
 */
export function readReasoningDetails(value: unknown): Reasoning[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const blocks = new Map<unknown, Reasoning>();
  for (const detail of value as readonly unknown[]) {
    if (!isObject(detail) || typeof detail.format !== "string" || !ourFormat.test(detail.format)) return undefined;
    blocks.set(detail.index, {
      $typeName: "outrigger.chat.v1.Reasoning",
      text: typeof detail.text === "string" ? detail.text : "",
      signature: typeof detail.signature === "string" ? detail.signature : "",
      redacted: typeof detail.data === "string" ? detail.data : "",
      dialect: detail.format.slice(FORMAT_PREFIX.length),
    });
  }
  return [...blocks.values()];
}

const FORMAT_PREFIX = "outrigger.";
/** The prefix and a dialect's name. */
const ourFormat = /^outrigger\.[a-z][a-z0-9-]{0,63}$/;
