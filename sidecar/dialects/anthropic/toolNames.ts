/**
 * Names of tools on their way to a provider and back.
 *
 * The Anthropic API takes names of letters, digits, `_` and `-`, at most 128 of them; callers and other providers are freer. A name
 * that does not fit is sent under another one for the length of a request, and its own comes back in the answer. Both ways follow
 * from the request alone, so the reader of an answer needs nothing from the writer of the request.
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
  let unfit: Set<string> | undefined;
  const see = (name: string): void => {
    if (!fitting.test(name)) {
      unfit ??= new Set();
      unfit.add(name);
    }
  };
  for (const tool of request.tools) see(tool.name);
  if (request.toolChoice?.choice.case === "tool") see(request.toolChoice.choice.value);
  for (const message of request.messages) {
    for (const part of message.parts) if (part.content.case === "toolCall") see(part.content.value.name);
  }
  if (unfit === undefined) return allFit;
  const taken = takenNames(request);
  const sent = new Map<string, string>();
  const callers = new Map<string, string>();
  for (const name of unfit) {
    const free = freeName(name, taken);
    taken.add(free);
    sent.set(name, free);
    callers.set(free, name);
  }
  return { sent, callers };
}

/**
 * The name of the tool by which a model that knows no JSON schemas answers with JSON, or undefined where the request asks for none.
 * Calls of it are the answer's text.
 */
export function answerToolName(request: ChatRequest): string | undefined {
  if (request.responseFormat?.format.case !== "jsonSchema") return undefined;
  const taken = takenNames(request);
  for (const name of toolNames(request).callers.keys()) taken.add(name);
  return freeName("json", taken);
}

const fitting = /^[a-zA-Z0-9_-]{1,128}$/;

const allFit: ToolNames = Object.freeze({ sent: new Map(), callers: new Map() });

/** Every name that goes out as it is. */
function takenNames(request: ChatRequest): Set<string> {
  const taken = new Set<string>();
  for (const tool of request.tools) taken.add(tool.name);
  for (const message of request.messages) {
    for (const part of message.parts) if (part.content.case === "toolCall") taken.add(part.content.value.name);
  }
  return taken;
}

/** The name itself with what does not fit replaced, and a number behind it if that is taken. */
function freeName(name: string, taken: ReadonlySet<string>): string {
  const plain = name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, 128) || "tool";
  if (!taken.has(plain)) return plain;
  for (let n = 2; ; n++) {
    const numbered = `${plain.slice(0, 120)}_${n}`;
    if (!taken.has(numbered)) return numbered;
  }
}
