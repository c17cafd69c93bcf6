/**
 * Names of tools on their way to a provider and back.
 *
 * Each API takes names of its own form; callers, other providers and models that invent tools are freer. A name that does not fit is sent
 * under another one for the length of a request, and its own comes back in the answer. Both ways follow from the request alone, so the
 * reader of an answer needs nothing from the writer of the request.
 */
import type { ChatRequest } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** How the names of one request's tools are sent. Names that fit are in neither map. */
export interface ToolNames {
  /** The name to send, by the caller's. */
  readonly sent: ReadonlyMap<string, string>;
  /** The caller's name, by the one that was sent. */
  readonly callers: ReadonlyMap<string, string>;
}

/** Which names an API takes. */
export interface NameForm {
  /** A whole name that is taken. */
  readonly fits: RegExp;
  /** Every character that no name may have; global. `_` is put in its place, so that must be allowed. */
  readonly odd: RegExp;
  /** What a name may begin with; anything, of what is allowed, if left out. */
  readonly begins?: RegExp;
  readonly charactersMax: number;
}

/** Letters, digits, `_` and `-`, at most 64: what the strictest APIs take, and so what every one takes. */
export const strictNames: NameForm = Object.freeze({ fits: /^[a-zA-Z0-9_-]{1,64}$/, odd: /[^a-zA-Z0-9_-]/g, charactersMax: 64 });

/** Finds names for all tools that a request declares, chooses or has called. */
export function toolNames(request: ChatRequest, form: NameForm): ToolNames {
  let unfit: Set<string> | undefined;
  const see = (name: string): void => {
    if (form.fits.test(name)) return;
    unfit ??= new Set();
    unfit.add(name);
  };
  for (const tool of request.tools) see(tool.name);
  if (request.toolChoice?.choice.case === "tool") see(request.toolChoice.choice.value);
  for (const { parts } of request.messages) {
    for (const { content } of parts) if (content.case === "toolCall") see(content.value.name);
  }
  if (unfit === undefined) return allFit;
  const taken = takenNames(request);
  const sent = new Map<string, string>();
  const callers = new Map<string, string>();
  for (const name of unfit) {
    const free = freeName(name, taken, form);
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
export function answerToolName(request: ChatRequest, form: NameForm): string | undefined {
  if (request.responseFormat?.format.case !== "jsonSchema") return undefined;
  const taken = takenNames(request);
  for (const name of toolNames(request, form).callers.keys()) taken.add(name);
  return freeName("json", taken, form);
}

const allFit: ToolNames = Object.freeze({ sent: new Map(), callers: new Map() });

/** Every name that the caller uses, none of which may be given to another tool. */
function takenNames(request: ChatRequest): Set<string> {
  const taken = new Set<string>();
  for (const tool of request.tools) taken.add(tool.name);
  if (request.toolChoice?.choice.case === "tool") taken.add(request.toolChoice.choice.value);
  for (const { parts } of request.messages) {
    for (const { content } of parts) if (content.case === "toolCall") taken.add(content.value.name);
  }
  return taken;
}

/** The name itself with what does not fit replaced, and a number behind it if that is taken. */
function freeName(name: string, taken: ReadonlySet<string>, { odd, begins, charactersMax }: NameForm): string {
  const replaced = name.replace(odd, "_");
  const plain = (begins === undefined || begins.test(replaced) ? replaced : `_${replaced}`).slice(0, charactersMax) || "tool";
  if (!taken.has(plain)) return plain;
  for (let n = 2; ; n++) {
    const numbered = `${plain.slice(0, charactersMax - 1 - String(n).length)}_${n}`;
    if (!taken.has(numbered)) return numbered;
  }
}
