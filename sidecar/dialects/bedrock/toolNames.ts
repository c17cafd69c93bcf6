/**
 * Names of tools on their way to a provider and back.
 *
 * The Converse API takes names of letters, digits, `_` and `-`, at most 64 of them; callers, other providers and models that invent tools
 * are freer. A name that does not fit is sent under another one for the length of a request, and its own comes back in the answer. Both
 * ways follow from the request alone, so the reader of an answer needs nothing from the writer of the request.
 */
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** How the names of one request's tools are sent. */
export interface ToolNames {
  /** The name to send for one of the caller's. */
  sent(name: string): string;
  /** The caller's name for one that came back. */
  restored(name: string): string;
  /** The name of the tool by which a model answers with JSON, where the request asks for JSON by schema; undefined elsewhere. */
  readonly answerTool: string | undefined;
}

/** Finds names for all tools that a request declares, chooses or has called. */
export function toolNames(request: ChatRequest): ToolNames {
  const asked = new Set(namesIn(request));
  const taken = new Set([...asked].filter((name) => fitting.test(name)));
  const sent = new Map<string, string>();
  const restored = new Map<string, string>();
  for (const name of asked) {
    if (fitting.test(name)) continue;
    const free = freeName(name, taken);
    taken.add(free);
    sent.set(name, free);
    restored.set(free, name);
  }
  const answerTool = request.responseFormat?.format.case === "jsonSchema" ? freeName("json", taken) : undefined;
  return { sent: (name) => sent.get(name) ?? name, restored: (name) => restored.get(name) ?? name, answerTool };
}

function* namesIn(request: ChatRequest): Generator<string> {
  for (const tool of request.tools) yield tool.name;
  if (request.toolChoice?.choice.case === "tool") yield request.toolChoice.choice.value;
  for (const message of request.messages) {
    for (const part of message.parts) if (part.content.case === "toolCall") yield part.content.value.name;
  }
}

const fitting = /^[a-zA-Z0-9_-]{1,64}$/;

/** The name itself with what does not fit replaced, and a number behind it if that is taken. */
function freeName(name: string, taken: ReadonlySet<string>): string {
  const plain = name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, 64) || "tool";
  if (!taken.has(plain)) return plain;
  for (let n = 2; ; n++) {
    const numbered = `${plain.slice(0, 58)}_${n}`;
    if (!taken.has(numbered)) return numbered;
  }
}
