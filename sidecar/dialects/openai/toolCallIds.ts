/**
 * Ids of tool calls on their way to a server that takes only its own kind of them.
 *
 * The calls of a conversation may come from any provider, so their ids have any form. One that does not fit is sent as another, made
 * from it alone: a call and its result agree, and every turn sends the same, which prompt caches want. Answers bring ids of the
 * server's own kind, which callers give back and which then fit.
 */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** The id to send, by the caller's, for ids of exactly `length` letters and digits; ids that fit are not in the map. */
export function toolCallIds(request: ChatRequest, length: number): ReadonlyMap<string, string> {
  const fits = new RegExp(`^[a-zA-Z0-9]{${length}}$`);
  const taken = new Set<string>();
  const unfit = new Set<string>();
  for (const { parts } of request.messages) {
    for (const { content } of parts) {
      const id = content.case === "toolCall" ? content.value.id : content.case === "toolResult" ? content.value.toolCallId : "";
      if (id !== "") (fits.test(id) ? taken : unfit).add(id);
    }
  }
  const sent = new Map<string, string>();
  for (const id of unfit) {
    let made = idFrom(id, length, 0);
    for (let attempt = 1; taken.has(made); attempt++) made = idFrom(id, length, attempt);
    taken.add(made);
    sent.set(id, made);
  }
  return sent;
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** Letters and digits from a text: two sums of 32 bits over it (FNV-1a), stirred on for each letter. Nothing here is secret. */
function idFrom(text: string, length: number, attempt: number): string {
  let one = 0x811c9dc5 ^ attempt;
  let two = 0x01000193 + attempt;
  for (let i = 0; i < text.length; i++) {
    one = Math.imul(one ^ text.charCodeAt(i), 0x01000193);
    two = Math.imul(two ^ text.charCodeAt(i), 0x85ebca6b) ^ (two >>> 13);
  }
  let id = "";
  for (let i = 0; i < length; i++) {
    one = Math.imul(one ^ (one >>> 15) ^ two, 0x2c1b3c6d) + i;
    two = Math.imul(two ^ (two >>> 12), 0x297a2d39) ^ (one >>> 16);
    id += alphabet[((one ^ two) >>> 0) % alphabet.length];
  }
  return id;
}
