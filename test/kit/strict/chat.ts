/**
 * A provider that keeps the rules of Chat Completions to the letter: it refuses members that it does not know, and every call of a turn
 * must be answered right behind it, each once.
 */
import type { ReplayAnswer, SeenRequest } from "../replay.ts";
import { openAiBody, openAiStream } from "../wire.ts";
import type { Json } from "./messages.ts";
import { resultOf, type Script, toolNames, wordsOf } from "./toolLoop.ts";

const requestMembers = new Set(["model", "messages", "tools", "stream", "stream_options", "reasoning_effort", "max_completion_tokens"]);
const messageMembers = new Set(["role", "content", "tool_calls", "tool_call_id", "refusal"]);

/** The provider: one conversation, streamed or not, as it is asked for. `key` is the credential that it knows. */
export class StrictChat {
  readonly #script: Script;
  readonly #key: string;

  constructor(script: Script, key: string) {
    this.#script = script;
    this.#key = key;
  }

  answer({ body, headers }: Pick<SeenRequest, "body" | "headers">): ReplayAnswer & { readonly status: number } {
    const asked: Json = JSON.parse(body.toString());
    const wrong = headers.authorization === `Bearer ${this.#key}` ? wrongIn(asked) : "the key";
    if (wrong !== undefined) {
      const error = { message: `Wrong: ${wrong}`, type: "invalid_request_error", param: null, code: null };
      return { status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify({ error })] };
    }
    const turn = this.#script.next();
    const { number, kind } = turn;
    const argumentsJson = JSON.stringify({ turn: number });
    const toolCalls =
      kind === "calls" ? toolNames.map((name) => ({ id: `call_${this.#script.conversation}_${number}${name}`, name, argumentsJson })) : [];
    const said = { text: wordsOf(turn), toolCalls };
    return asked.stream === true
      ? { status: 200, headers: { "content-type": "text/event-stream" }, pieces: openAiStream(said) }
      : { status: 200, headers: { "content-type": "application/json" }, pieces: [openAiBody(said)] };
  }
}

function wrongIn(asked: Json): string | undefined {
  const unknown = Object.keys(asked).find((member) => !requestMembers.has(member));
  if (unknown !== undefined) return `the member ${unknown}`;
  const open = new Map<string, Json>();
  for (const [at, message] of asked.messages.entries()) {
    const strange = Object.keys(message).find((member) => !messageMembers.has(member));
    if (strange !== undefined) return `the member ${strange} of message ${at}`;
    if (message.role === "tool") {
      const call = open.get(message.tool_call_id);
      if (call === undefined) return `message ${at} answers no call`;
      if (message.content !== resultOf(call.function.name, call.function.arguments)) return `what message ${at} says`;
      open.delete(message.tool_call_id);
      continue;
    }
    if (open.size > 0) return `message ${at} comes before all calls are answered`;
    for (const call of message.tool_calls ?? []) open.set(call.id, call);
    if (message.role === "assistant" && message.tool_calls === undefined && !message.content) return `message ${at} says nothing`;
  }
  return open.size > 0 ? "calls without an answer" : undefined;
}
