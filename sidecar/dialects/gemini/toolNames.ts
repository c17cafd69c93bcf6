/**
 * Names of tools on their way to a provider and back.
 *
 * This API takes names of letters, digits, `_`, `.`, `:` and `-`, at most 64 of them, that begin with a letter or `_`; callers and other
 * providers are freer. A name that does not fit is sent under another one for the length of a request, and its own comes back in the
 * answer. Both ways follow from the request alone, so the reader of an answer needs nothing from the writer of the request.
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
  const fit = new Set<string>();
  const unfit = new Set<string>();
  const see = (name: string): void => void (fitting.test(name) ? fit : unfit).add(name);
  for (const tool of request.tools) see(tool.name);
  if (request.toolChoice?.choice.case === "tool") see(request.toolChoice.choice.value);
  for (const message of request.messages) {
    for (const part of message.parts) if (part.content.case === "toolCall") see(part.content.value.name);
  }
  if (unfit.size === 0) return allFit;
  const sent = new Map<string, string>();
  const callers = new Map<string, string>();
  for (const name of unfit) {
    const free = freeName(name, (candidate) => fit.has(candidate) || callers.has(candidate));
    sent.set(name, free);
    callers.set(free, name);
  }
  return { sent, callers };
}

const NAME_CHARACTERS_MAX = 64; // More is refused by the API.
const fitting = /^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$/;

const allFit: ToolNames = Object.freeze({ sent: new Map(), callers: new Map() });

/** The name itself with what does not fit replaced, and a number behind it if that is taken. */
function freeName(name: string, taken: (candidate: string) => boolean): string {
  const replaced = name.replace(/[^a-zA-Z0-9_.:-]/g, "_");
  const plain = (/^[a-zA-Z_]/.test(replaced) ? replaced : `_${replaced}`).slice(0, NAME_CHARACTERS_MAX);
  if (!taken(plain)) return plain;
  for (let n = 2; ; n++) {
    const numbered = `${plain.slice(0, NAME_CHARACTERS_MAX - 1 - String(n).length)}_${n}`;
    if (!taken(numbered)) return numbered;
  }
}
