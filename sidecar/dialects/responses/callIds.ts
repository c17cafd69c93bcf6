/**
 * Ids of tool calls on their way to this API, which takes at most 64 characters. The calls of a conversation may come from any provider, so
 * their ids have any length. One that does not fit is sent as another, made from it alone: a call and its result agree, and every turn
 * sends the same, which prompt caches want.
 */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** The id to send, by the caller's; ids that fit are not in the map. */
export function callIds({ messages }: ChatRequest): ReadonlyMap<string, string> {
  const taken = new Set<string>();
  const unfit = new Set<string>();
  for (const { parts } of messages) {
    for (const { content } of parts) {
      const id = content.case === "toolCall" ? content.value.id : content.case === "toolResult" ? content.value.toolCallId : "";
      if (id !== "") (id.length <= ID_CHARACTERS_MAX ? taken : unfit).add(id);
    }
  }
  const sent = new Map<string, string>();
  for (const id of unfit) {
    let made = shortened(id, 0);
    for (let attempt = 1; taken.has(made); attempt++) made = shortened(id, attempt);
    taken.add(made);
    sent.set(id, made);
  }
  return sent;
}

/** The API's own limit. */
const ID_CHARACTERS_MAX = 64;

/** The beginning of an id, and two sums of 32 bits over all of it (FNV-1a). Nothing here is secret. */
function shortened(id: string, attempt: number): string {
  let forward = 0x811c9dc5 ^ attempt;
  let backward = 0x01000193 + attempt;
  for (let at = 0; at < id.length; at++) {
    forward = Math.imul(forward ^ id.charCodeAt(at), 0x01000193) >>> 0;
    backward = Math.imul(backward ^ id.charCodeAt(id.length - 1 - at), 0x01000193) >>> 0;
  }
  return `${id.slice(0, 40).toWellFormed()}_${forward.toString(36)}_${backward.toString(36)}`;
}
