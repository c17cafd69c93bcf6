/**
 * A provider that keeps the rules of the Messages API to the letter, with thinking: turns alternate and are not empty, results stand first
 * and answer every call of the turn before, ids are used once, and thinking comes back as it was given, first in its turn, or the request
 * is refused with 400. Whoever asks for no thinking in the middle of the assistant's work may not bring any of that work's either.
 */
import { isDeepStrictEqual } from "node:util";
import type { ReplayAnswer, SeenRequest } from "../replay.ts";
import { resultOf, type Script, type Turn, toolNames, wordsOf } from "./toolLoop.ts";

// biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
export type Json = any;

/** Whether the model thinks: at the beginning of its work, as it sees fit, or not at all. */
export type Thinks = "first" | "freely" | "never";

/** The rules, and what the provider gave, in the form of this API; another API with the same rules translates into it. */
export class MessageRules {
  readonly #script: Script;
  /** What was said in each turn. */
  readonly #given = new Map<number, Json[]>();
  /** Turns with thinking. */
  readonly sealed = new Set<number>();
  /** Turns whose thinking did not come back. */
  readonly lost = new Set<number>();
  /** Requests that asked for no thinking. */
  thoughtless = 0;

  constructor(script: Script) {
    this.#script = script;
  }

  /** What of the rules a conversation breaks, or undefined. */
  wrong(messages: readonly Json[], thinks: Thinks): string | undefined {
    if (messages[0]?.role !== "user" || messages.at(-1)?.role !== "user") return "who speaks first or last";
    const ids = new Set<string>();
    const work = workStart(messages);
    for (const [at, { role, content }] of messages.entries()) {
      if (at > 0 && role === messages[at - 1].role) return `message ${at} does not alternate`;
      const blocks = blocksOf(content);
      if (blocks.length === 0) return `message ${at} is empty`;
      if (blocks.some(({ type, text }) => type === "text" && text.trim() === "")) return `message ${at} has blank text`;
      const broken = role === "assistant" ? this.#assistant(at, blocks, ids, thinks, work) : userTurn(at, blocks, messages[at - 1]);
      if (broken !== undefined) return broken;
    }
    return undefined;
  }

  #assistant(at: number, blocks: Json[], ids: Set<string>, thinks: Thinks, work: number): string | undefined {
    const calls = blocks.filter(({ type }) => type === "tool_use");
    if (blocks.some(({ type }) => type === "tool_result")) return `message ${at} has results of tools`;
    for (const { id } of calls) {
      if (!/^[a-zA-Z0-9_-]+$/.test(id) || ids.has(id)) return `the id ${id}`;
      ids.add(id);
    }
    const number = calls[0]?.input.turn ?? Number(/^So far (\d+)\.$/.exec(blocks.find(({ type }) => type === "text")?.text)?.[1]);
    const given = this.#given.get(number) ?? [];
    const thoughts = blocks.filter(isThinking);
    if (thoughts.length > 0 && !isDeepStrictEqual(blocks, given)) return `thinking in message ${at} is not as it was given`;
    if (thoughts.length === 0 && given.some(isThinking)) this.lost.add(number);
    if (at < work) return undefined;
    // A model that thinks as it sees fit can go on without.
    if (thinks === "freely") return undefined;
    if (thinks === "never") return thoughts.length > 0 ? `message ${at} brings thinking, and none is asked for` : undefined;
    if (at === work && calls.length > 0 && !isThinking(blocks[0])) return `message ${at} does not begin with thinking`;
    return thoughts.length === 0 && given.some(isThinking) ? `message ${at} comes without its thinking` : undefined;
  }

  /** The next turn's blocks. A model that thinks does so at the beginning of its work, and mostly later, too. */
  next(messages: readonly Json[], thinking: Thinks): { readonly turn: Turn; readonly blocks: Json[] } {
    const thinks = thinking !== "never";
    if (!thinks) this.thoughtless += 1;
    const turn = this.#script.next();
    const { number, kind } = turn;
    const text = { type: "text", text: wordsOf(turn) };
    const calls = toolNames.map((name) => ({
      type: "tool_use",
      id: `toolu_${this.#script.conversation}_${number}_${name}`,
      name,
      input: { turn: number },
    }));
    const begins = blocksOf(messages.at(-1).content).some(({ type }) => type !== "tool_result");
    const thought = (part: number): Json => ({
      type: "thinking",
      thinking: `Thought ${part} of ${number}.`,
      signature: seal(number, part),
    });
    const blocks: Json[] = [];
    if (thinks && (begins || number % 3 !== 2)) {
      blocks.push(thought(1));
      if (number % 4 === 0) blocks.push({ type: "redacted_thinking", data: seal(number, 2) });
    }
    blocks.push(text);
    // Thinking between words and calls.
    if (blocks.length > 1 && number % 5 === 0 && kind === "calls") blocks.push(thought(3));
    if (kind === "calls") blocks.push(...calls);
    this.#given.set(number, blocks);
    if (blocks.some(isThinking)) this.sealed.add(number);
    return { turn, blocks };
  }
}

/** The provider: one conversation, streamed or not, as it is asked for. `key` is the credential that it knows. */
export class StrictMessages {
  readonly rules: MessageRules;
  readonly #key: string;

  constructor(script: Script, key: string) {
    this.rules = new MessageRules(script);
    this.#key = key;
  }

  answer({ body, headers, path }: Pick<SeenRequest, "body" | "headers" | "path">): ReplayAnswer & { readonly status: number } {
    const asked: Json = JSON.parse(body.toString());
    const { thinking, messages, max_tokens: most, tools, stream, model } = asked;
    const thinks = thinking?.type === "enabled" ? "first" : thinking?.type === "adaptive" ? "freely" : "never";
    const wrong =
      headers["x-api-key"] !== this.#key || headers["anthropic-version"] === undefined || path !== "/v1/messages"
        ? "the key, the version or the path"
        : thinking?.type === "enabled" && !(thinking.budget_tokens >= 1024 && thinking.budget_tokens < most)
          ? "the budget of thinking"
          : !(most > 0) || tools?.length !== toolNames.length
            ? "the limit or the tools"
            : this.rules.wrong(messages, thinks);
    if (wrong !== undefined) {
      const error = { type: "error", error: { type: "invalid_request_error", message: `Wrong: ${wrong}` } };
      return { status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify(error)] };
    }
    const { turn, blocks } = this.rules.next(messages, thinks);
    const stopReason = turn.kind === "calls" ? "tool_use" : "end_turn";
    const message = { id: `msg_${turn.number}`, type: "message", role: "assistant", model, stop_sequence: null };
    const usage = { input_tokens: 10, output_tokens: 5 };
    if (stream !== true) {
      const whole = { ...message, content: blocks, stop_reason: stopReason, usage };
      return { status: 200, headers: { "content-type": "application/json" }, pieces: [JSON.stringify(whole)] };
    }
    const events = [
      { type: "message_start", message: { ...message, content: [], stop_reason: null, usage } },
      ...blocks.flatMap(blockEvents),
      { type: "message_delta", delta: { stop_reason: stopReason, stop_sequence: null }, usage },
      { type: "message_stop" },
    ];
    const pieces = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    return { status: 200, headers: { "content-type": "text/event-stream" }, pieces };
  }
}

/** Where the assistant's work that is going on begins: behind the last words that are no results of tools. */
function workStart(messages: readonly Json[]): number {
  const spoke = messages.findLastIndex(
    ({ role, content }) => role === "user" && blocksOf(content).some(({ type }) => type !== "tool_result"),
  );
  return spoke + 1;
}

function userTurn(at: number, blocks: Json[], before: Json): string | undefined {
  const results = blocks.filter(({ type }) => type === "tool_result");
  if (blocks.slice(0, results.length).some(({ type }) => type !== "tool_result")) return `results stand not first in message ${at}`;
  const calls = before === undefined ? [] : blocksOf(before.content).filter(({ type }) => type === "tool_use");
  if (results.length !== calls.length) return `message ${at} has not one result for each call`;
  for (const { id, name, input } of calls) {
    const result = results.find(({ tool_use_id: answers }) => answers === id);
    if (result === undefined) return `message ${at} has no result for ${id}`;
    if (textOf(result.content) !== resultOf(name, JSON.stringify(input))) return `the result for ${id} says something else`;
  }
  return undefined;
}

function blocksOf(content: Json): Json[] {
  return typeof content === "string" ? [{ type: "text", text: content }] : content;
}

function textOf(content: Json): string {
  return typeof content === "string" ? content : content.map(({ text }: Json) => text).join("");
}

function isThinking(block: Json): boolean {
  return block?.type === "thinking" || block?.type === "redacted_thinking";
}

/** What looks like a signature. */
function seal(number: number, part: number): string {
  return Buffer.from(`the seal of thought ${part} of turn ${number}, which nobody can make up`).toString("base64");
}

/** One block as events of a stream. */
function blockEvents(block: Json, index: number): Json[] {
  const delta = (value: Json): Json => ({ type: "content_block_delta", index, delta: value });
  const stop = { type: "content_block_stop", index };
  const start = (content_block: Json): Json => ({ type: "content_block_start", index, content_block });
  switch (block.type) {
    case "thinking":
      return [
        start({ type: "thinking", thinking: "", signature: "" }),
        ...halves(block.thinking).map((thinking) => delta({ type: "thinking_delta", thinking })),
        delta({ type: "signature_delta", signature: block.signature }),
        stop,
      ];
    case "text":
      return [start({ type: "text", text: "" }), ...halves(block.text).map((text) => delta({ type: "text_delta", text })), stop];
    case "tool_use":
      return [
        start({ ...block, input: {} }),
        ...halves(JSON.stringify(block.input)).map((partial_json) => delta({ type: "input_json_delta", partial_json })),
        stop,
      ];
    default:
      return [start(block), stop];
  }
}

function halves(text: string): string[] {
  return [text.slice(0, text.length >> 1), text.slice(text.length >> 1)];
}
