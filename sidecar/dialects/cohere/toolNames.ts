/**
 * Names of tools on their way to a provider and back.
 *
 * The API does not say which names it takes, so what is sent keeps to what every provider takes: letters, digits, `_` and `-`, at most 64
 * of them. A name that does not fit is sent under another one for the length of a request, and its own comes back in the answer. Both
 * ways follow from the request alone, so the reader of an answer needs nothing from the writer of the request.
 */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** How the names of one request's tools are sent. Names that fit are in neither map. */
export interface ToolNames {
  /** The name to send, by the caller's. */
  readonly sent: ReadonlyMap<string, string>;
  /** The caller's name, by the one that was sent. */
  readonly callers: ReadonlyMap<string, string>;
}

/** Finds names for all tools that a request declares, chooses or has called. */
export function toolNames(request: ChatRequest): ToolNames {
  const names = new Set(request.tools.map(({ name }) => name));
  if (request.toolChoice?.choice.case === "tool") names.add(request.toolChoice.choice.value);
  for (const { parts } of request.messages) {
    for (const { content } of parts) if (content.case === "toolCall") names.add(content.value.name);
  }
  const sent = new Map<string, string>();
  const callers = new Map<string, string>();
  for (const name of names) {
    if (fitting.test(name)) continue;
    const plain = name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, NAME_CHARACTERS_MAX) || "tool";
    let free = plain;
    // Room for the number keeps a long name from growing longer than is allowed.
    for (let n = 2; names.has(free) || callers.has(free); n++) free = `${plain.slice(0, NAME_CHARACTERS_MAX - 8)}_${n}`;
    sent.set(name, free);
    callers.set(free, name);
  }
  return { sent, callers };
}

/** What the strictest providers take. */
const NAME_CHARACTERS_MAX = 64;

const fitting = /^[a-zA-Z0-9_-]{1,64}$/;
