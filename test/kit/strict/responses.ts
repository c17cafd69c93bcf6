/**
 * A provider that keeps the rules of the Responses API without state to the letter: every call has its output right behind the calls,
 * thinking comes back as it was sealed and with the item that came of it, and nothing may be stored. It answers 400 to anything else.
 */
import { isDeepStrictEqual } from "node:util";
import type { ReplayAnswer, SeenRequest } from "../replay.ts";
import type { Json } from "./messages.ts";
import { resultOf, type Script, toolNames, wordsOf } from "./toolLoop.ts";

/** The provider: one conversation, streamed or not, as it is asked for. `key` is the credential that it knows. */
export class StrictResponses {
  readonly #script: Script;
  readonly #key: string;
  /** What was said in each turn, as it may be sent again. */
  readonly #given = new Map<number, Json[]>();
  /** Turns with thinking. */
  readonly sealed = new Set<number>();
  /** Turns whose thinking did not come back. */
  readonly lost = new Set<number>();

  constructor(script: Script, key: string) {
    this.#script = script;
    this.#key = key;
  }

  answer({ body, headers }: Pick<SeenRequest, "body" | "headers">): ReplayAnswer & { readonly status: number } {
    const asked: Json = JSON.parse(body.toString());
    const wrong =
      headers.authorization !== `Bearer ${this.#key}`
        ? "the key"
        : asked.store !== false || !asked.include?.includes("reasoning.encrypted_content") || asked.tools?.length !== toolNames.length
          ? "what is stored, included or offered"
          : this.#wrong(asked.input);
    if (wrong !== undefined) {
      const error = { message: `Wrong: ${wrong}`, type: "invalid_request_error", param: "input", code: null };
      return { status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify({ error })] };
    }
    const turn = this.#script.next();
    const { number, kind } = turn;
    const seal = Buffer.from(`encrypted thought of turn ${number} of ${this.#script.conversation}`).toString("base64");
    const summary = number % 2 === 0 ? [] : [{ type: "summary_text", text: `About ${number}.` }];
    const calls = toolNames.map((name) => ({
      type: "function_call",
      call_id: `call_${this.#script.conversation}_${number}${name}`,
      name,
      arguments: JSON.stringify({ turn: number }),
    }));
    const output = [
      { id: `rs_${number}`, type: "reasoning", summary, encrypted_content: seal },
      ...(kind === "calls" && number % 3 === 0 ? [] : [message(`msg_${number}`, wordsOf(turn))]),
      ...(kind === "calls" ? calls.map((call) => ({ id: `fc_${call.call_id}`, status: "completed", ...call })) : []),
    ];
    this.sealed.add(number);
    this.#given.set(number, output.map(asInput));
    const response = {
      id: `resp_${number}`,
      object: "response",
      created_at: 1,
      model: asked.model,
      status: "completed",
      error: null,
      incomplete_details: null,
      output,
      usage: { input_tokens: 10, output_tokens: 5, total_tokens: 15 },
    };
    if (asked.stream !== true) return { status: 200, headers: { "content-type": "application/json" }, pieces: [JSON.stringify(response)] };
    const events = [
      { type: "response.created", response: { ...response, status: "in_progress", output: [], usage: null } },
      ...output.flatMap(itemEvents),
      { type: "response.completed", response },
    ];
    const pieces = events.map(
      (event, sequence_number) => `event: ${event.type}\ndata: ${JSON.stringify({ ...event, sequence_number })}\n\n`,
    );
    return { status: 200, headers: { "content-type": "text/event-stream" }, pieces };
  }

  /** What of the rules the items of a conversation break, or undefined. */
  #wrong(items: readonly Json[]): string | undefined {
    const open = new Map<string, Json>();
    for (const [at, item] of items.entries()) {
      if (item.type === "function_call_output") {
        const call = open.get(item.call_id);
        if (call === undefined) return `item ${at} answers no call`;
        if (item.output !== resultOf(call.name, call.arguments)) return `what item ${at} says`;
        open.delete(item.call_id);
        continue;
      }
      if (item.role === "user" && open.size > 0) return `item ${at} comes before all calls are answered`;
      if (item.type === "function_call") open.set(item.call_id, item);
      if (item.type === "reasoning") {
        const given = [...this.#given.values()].find(([first]) => first.encrypted_content === item.encrypted_content);
        if (given === undefined) return `item ${at} is sealed by somebody else`;
        if (!isDeepStrictEqual(given.slice(0, 2), [item, items[at + 1]].map(asInput))) return `item ${at} comes without what came of it`;
      }
    }
    if (open.size > 0) return "calls without an output";
    for (const [number, [first, second]] of this.#given) {
      const at = items.findIndex((item) => isDeepStrictEqual(asInput(item), second));
      if (at !== -1 && !isDeepStrictEqual(asInput(items[at - 1]), first)) this.lost.add(number);
    }
    return undefined;
  }
}

/** An item without what only an answer tells. */
function asInput(item: Json): Json {
  if (item === undefined) return undefined;
  const { id: _id, status: _status, ...rest } = item;
  if (rest.role === "assistant") {
    const text = typeof rest.content === "string" ? rest.content : rest.content.map((part: Json) => part.text).join("");
    return { role: "assistant", text };
  }
  return rest;
}

function message(id: string, text: string): Json {
  return {
    id,
    type: "message",
    status: "completed",
    role: "assistant",
    content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
  };
}

/** One item as events of a stream. */
function itemEvents(item: Json, output_index: number): Json[] {
  const place = { output_index, item_id: item.id };
  const done = { type: "response.output_item.done", output_index, item };
  const added = (bare: Json): Json => ({ type: "response.output_item.added", output_index, item: { ...item, ...bare } });
  switch (item.type) {
    case "reasoning":
      return [
        added({ summary: [], encrypted_content: "" }),
        ...item.summary.flatMap(({ text }: Json, summary_index: number) => [
          { type: "response.reasoning_summary_part.added", ...place, summary_index, part: { type: "summary_text", text: "" } },
          { type: "response.reasoning_summary_text.delta", ...place, summary_index, delta: text },
          { type: "response.reasoning_summary_text.done", ...place, summary_index, text },
        ]),
        done,
      ];
    case "message": {
      const [part] = item.content;
      return [
        added({ content: [], status: "in_progress" }),
        { type: "response.content_part.added", ...place, content_index: 0, part: { ...part, text: "" } },
        { type: "response.output_text.delta", ...place, content_index: 0, delta: part.text },
        { type: "response.output_text.done", ...place, content_index: 0, text: part.text },
        { type: "response.content_part.done", ...place, content_index: 0, part },
        done,
      ];
    }
    default:
      return [
        added({ arguments: "", status: "in_progress" }),
        { type: "response.function_call_arguments.delta", ...place, delta: item.arguments },
        { type: "response.function_call_arguments.done", ...place, arguments: item.arguments },
        done,
      ];
  }
}
