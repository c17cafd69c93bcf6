/**
 * Turns an answer's objects into events: the events of a stream, or the one object that is the whole answer.
 *
 * Everything is said more than once in a stream of this API: in pieces, whole when a part ends, again when its item ends, and at last in
 * the answer as a whole. What counts is what comes first; whatever was not said in pieces is said from the first whole that has it, so that
 * servers which leave pieces out are understood, too.
 */
import {
  event,
  finishEvent,
  heartbeatEvent,
  reasoningEvent,
  refusalEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { FinishReason } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import type { AnswerInput } from "../dialect.ts";
import { type ErrorWords, faultInAnswer, noWords, readError } from "../errorBody.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import { readLogprobs } from "./logprobs.ts";
import { readUsage } from "./usage.ts";

/** One answer's events, made from its objects in order. */
export class AnswerEvents {
  /** Why the answer failed, once that is certain; the events before it were given. */
  failure: Fault | undefined;
  /** What an error event said. The answer's own object may follow, with what the failed answer consumed; without it this is the failure. */
  announced: Fault | undefined;
  /** Whether the provider's own end was seen. */
  complete = false;
  /** Whether the start event was given. */
  started = false;
  /** Whether the events say something else than the answer's own bytes, which from then on must not be passed on. */
  repaired = false;
  readonly #input: AnswerInput;
  readonly #callers: ReadonlyMap<string, string>;
  /** By their place in the output. */
  readonly #items = new Map<number, Item>();
  #calls = 0;
  #customCalls = 0;
  #thoughts = 0;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#callers = toolNames(input.request, strictNames).callers;
  }

  /** Adds what one event of a stream says; `json` is its text, `name` the name of its frame. Returns whether its bytes may be passed on. */
  add(wire: JsonObject, json: string, name: string, out: ChatEvent[]): boolean {
    const type = text(wire.type) || name;
    switch (type) {
      case "response.output_text.delta":
        this.#text(this.#item(wire, "message", out), wire, out);
        return true;
      case "response.function_call_arguments.delta":
        this.#arguments(this.#item(wire, "function_call", out), text(wire.delta), out);
        return true;
      case "response.refusal.delta":
        this.#refusal(this.#item(wire, "message", out), placeOf(wire.content_index), text(wire.delta), out);
        return true;
      case "response.reasoning_summary_text.delta":
        this.#thought(this.#item(wire, "reasoning", out), `summary ${placeOf(wire.summary_index)}`, text(wire.delta), out);
        return true;
      case "response.reasoning_text.delta":
        this.#thought(this.#item(wire, "reasoning", out), `text ${placeOf(wire.content_index)}`, text(wire.delta), out);
        return true;
      case "response.output_text.annotation.added": {
        const item = this.#item(wire, "message", out);
        if (isObject(wire.annotation)) {
          this.#citation(item, placeOf(wire.content_index), wire.annotation, () => JsonPlace.root(json).member("annotation").json(), out);
        }
        return true;
      }
      case "response.output_item.added":
        if (isObject(wire.item)) this.#begin(placeOf(wire.output_index), wire.item, out);
        return true;
      case "response.output_item.done":
        if (isObject(wire.item)) this.#whole(placeOf(wire.output_index), wire.item, () => JsonPlace.root(json).member("item"), out);
        return true;
      case "response.completed":
      case "response.incomplete":
      case "response.failed":
      case "response.cancelled": {
        if (!isObject(wire.response)) return this.#fail(noWords);
        this.#end(wire.response, () => JsonPlace.root(json).member("response"), type.slice("response.".length), out);
        return this.complete;
      }
      case "error":
        this.announced ??= faultInAnswer(wordsOf(readError(wire) ?? readError({ error: wire }) ?? noWords));
        return false;
      case "keepalive":
        if (this.started) out.push(heartbeatEvent());
        return true;
      default:
        if (isObject(wire.response)) this.#start(wire.response, out);
        else if (isObject(wire.error)) this.announced ??= faultInAnswer(wordsOf(readError(wire) ?? noWords));
        return this.announced === undefined;
    }
  }

  /** Adds a piece of text of an item that is known, which is all that most events say. */
  piece(place: number, content: number, piece: string, out: ChatEvent[]): void {
    if (piece === "") return;
    this.#items.get(place)?.said.add(content);
    out.push(textEvent(0, piece));
  }

  /** Adds what a whole answer says; `json` is its text. */
  addWhole(wire: JsonObject, json: string, out: ChatEvent[]): void {
    if (!Array.isArray(wire.output)) {
      const error = readError(wire);
      if (error !== undefined) this.#fail(error);
      else this.failure = this.#invalid("has no output");
      return;
    }
    this.#end(wire, () => JsonPlace.root(json), text(wire.status), out);
  }

  /** The answer as a whole, in which it ends: says what was not said yet. */
  #end(response: JsonObject, at: () => JsonPlace, status: string, out: ChatEvent[]): void {
    this.#start(response, out);
    // Servers number their items in ways of their own: one that was never announced is new only where none was.
    const announced = this.#items.size > 0;
    elements(response.output).forEach((item, place) => {
      if (announced && this.#items.get(place)?.kind !== item.type) return;
      this.#whole(place, item, () => at().member("output").element(place), out);
    });
    for (const item of this.#items.values()) this.#closeCall(item, out);
    if (isObject(response.usage)) out.push(usageEvent(readUsage(response.usage, at().member("usage").json())));
    if (this.failure !== undefined) return;
    // What the answer itself says of its state is more exact than the event that brings it.
    const told = text(response.status) || status;
    switch (told) {
      case "completed":
        out.push(finishEvent(0, this.#calls + this.#customCalls > 0 ? FinishReason.TOOL_CALLS : FinishReason.STOP, told));
        this.complete = true;
        break;
      case "incomplete": {
        const reason = isObject(response.incomplete_details) ? text(response.incomplete_details.reason) : "";
        out.push(finishEvent(0, reason === "content_filter" ? FinishReason.CONTENT_FILTER : FinishReason.LENGTH, reason || told));
        this.complete = true;
        break;
      }
      case "failed":
      case "cancelled":
        this.failure = this.announced;
        if (this.failure === undefined) this.#fail(readError({ error: response.error }) ?? noWords);
        break;
      default:
        // One that is still being made is no answer.
        break;
    }
  }

  #start(response: JsonObject, out: ChatEvent[]): void {
    if (this.started) return;
    this.started = true;
    const { newId, model, route, provider } = this.#input;
    const created = typeof response.created_at === "number" && Number.isFinite(response.created_at) ? response.created_at : 0;
    out.push(startEvent(text(response.id) || newId("resp_"), text(response.model) || model, created, route, provider));
  }

  /** The item that a piece belongs to. A server that does not announce its items has them announced here. */
  #item(wire: JsonObject, kind: string, out: ChatEvent[]): Item {
    const place = placeOf(wire.output_index);
    return this.#items.get(place) ?? this.#begin(place, { type: kind, id: wire.item_id }, out);
  }

  #begin(place: number, wire: JsonObject, out: ChatEvent[]): Item {
    this.#start(nothing, out);
    const known = this.#items.get(place);
    if (known !== undefined) return known;
    const kind = text(wire.type);
    const item = new Item(kind, kind === "function_call" ? this.#calls++ : kind === "reasoning" ? this.#thoughts++ : 0);
    this.#items.set(place, item);
    if (kind === "function_call") this.#name(item, wire, out);
    return item;
  }

  /** A whole item: says what its pieces did not say. */
  #whole(place: number, wire: JsonObject, at: () => JsonPlace, out: ChatEvent[]): void {
    const item = this.#begin(place, wire, out);
    if (item.whole) return;
    item.whole = true;
    switch (item.kind) {
      case "message":
        elements(wire.content).forEach((part, content) => {
          if (part.type === "refusal") {
            if (!item.said.has(content)) this.#refusal(item, content, text(part.refusal), out);
            return;
          }
          if (!item.said.has(content)) this.#text(item, { content_index: content, delta: part.text, logprobs: part.logprobs }, out);
          const annotations = elements(part.annotations);
          for (let number = item.cited.get(content) ?? 0; number < annotations.length; number++) {
            const place = (): JsonPlace => at().member("content").element(content).member("annotations").element(number);
            this.#citation(item, content, annotations[number] ?? nothing, () => place().json(), out);
          }
        });
        break;
      case "function_call":
        this.#name(item, wire, out);
        if (item.argumentsJson.trim() === "") this.#arguments(item, text(wire.arguments), out);
        this.#closeCall(item, out);
        break;
      case "reasoning": {
        if (item.lastPart === "") {
          elements(wire.summary).forEach((part, number) => {
            this.#thought(item, `summary ${number}`, text(part.text), out);
          });
          elements(wire.content).forEach((part, number) => {
            this.#thought(item, `text ${number}`, text(part.text), out);
          });
        }
        const signature = text(wire.encrypted_content);
        if (signature !== "") out.push(reasoningEvent(0, item.number, "", { signature, dialect: "responses" }));
        break;
      }
      default: {
        // A call that the caller must answer; other items are what the provider ran itself.
        if (item.kind === "custom_tool_call") this.#customCalls++;
        const extra = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "responses", path: "output", json: at().json() };
        out.push(event("extra", { $typeName: "outrigger.chat.v1.ExtraEvent", choice: 0, extra }));
      }
    }
  }

  #text(item: Item, { content_index, delta, logprobs }: JsonObject, out: ChatEvent[]): void {
    const piece = text(delta);
    if (piece !== "") {
      item.said.add(placeOf(content_index));
      out.push(textEvent(0, piece));
    }
    const content = readLogprobs(logprobs);
    if (content.length > 0) out.push(event("logprobs", { $typeName: "outrigger.chat.v1.LogprobsDelta", choice: 0, content, refusal: [] }));
  }

  #refusal(item: Item, content: number, piece: string, out: ChatEvent[]): void {
    if (piece === "") return;
    item.said.add(content);
    out.push(refusalEvent(0, piece));
  }

  #citation(item: Item, content: number, annotation: JsonObject, json: () => string, out: ChatEvent[]): void {
    item.cited.set(content, (item.cited.get(content) ?? 0) + 1);
    out.push(
      event("citation", {
        $typeName: "outrigger.chat.v1.Citation",
        choice: 0,
        url: text(annotation.url),
        title: text(annotation.title) || text(annotation.filename),
        quote: text(annotation.quote),
        native: { $typeName: "outrigger.chat.v1.Extra", dialect: "responses", path: "annotations", json: json() },
      }),
    );
  }

  /** A piece of thinking. Parts of a summary are paragraphs, and stand apart. */
  #thought(item: Item, part: string, piece: string, out: ChatEvent[]): void {
    if (piece === "") return;
    const apart = item.lastPart !== "" && item.lastPart !== part ? "\n\n" : "";
    item.lastPart = part;
    out.push(reasoningEvent(0, item.number, apart + piece, seal));
  }

  /** The call's name and id, with which its events begin. */
  #name(item: Item, wire: JsonObject, out: ChatEvent[]): void {
    const sent = text(wire.name);
    if (item.begun || sent === "") return;
    item.begun = true;
    const name = this.#callers.get(sent) ?? sent;
    const id = text(wire.call_id) || this.#input.newId("call_");
    if (name !== sent || text(wire.call_id) === "") this.repaired = true;
    out.push(toolCallEvent(0, item.number, id, name, item.argumentsJson));
  }

  #arguments(item: Item, piece: string, out: ChatEvent[]): void {
    if (piece === "") return;
    item.argumentsJson += piece;
    if (item.begun) out.push(toolCallEvent(0, item.number, "", "", piece));
  }

  #closeCall(item: Item, out: ChatEvent[]): void {
    if (item.kind !== "function_call" || item.closed) return;
    item.closed = true;
    if (!item.begun) {
      this.failure ??= this.#invalid("has a tool call without a name");
      return;
    }
    // No arguments are an empty object: anything else breaks the next turn.
    if (item.argumentsJson.trim() !== "") return;
    this.repaired = true;
    out.push(toolCallEvent(0, item.number, "", "", "{}"));
  }

  #fail(words: ErrorWords): false {
    this.failure = this.announced ?? faultInAnswer(wordsOf(words));
    return false;
  }

  #invalid(what: string): Fault {
    const { provider } = this.#input;
    return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, `The provider's answer ${what}.`, { facts: { provider } });
  }
}

/** What is known of one item of the output. */
class Item {
  readonly kind: string;
  /** Of a call or a thought: which one of its kind. */
  readonly number: number;
  /** Whether the item came whole. */
  whole = false;
  /** Of a message: the parts of its content that were said in pieces, and how many sources each of them had so far. */
  readonly said = new Set<number>();
  readonly cited = new Map<number, number>();
  /** Of a thought: the part to which its last piece belongs; empty before the first. */
  lastPart = "";
  /** Of a call: whether its first event was given, and whether its last. */
  begun = false;
  closed = false;
  argumentsJson = "";

  constructor(kind: string, number: number) {
    this.kind = kind;
    this.number = number;
  }
}

const nothing: JsonObject = Object.freeze({});
const seal = { dialect: "responses" } as const;

/** A string, or empty for anything else. */
function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A place in a list; the first where none is told. */
export function placeOf(value: unknown): number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 31 ? value : 0;
}

/** The elements of a list, what is no object left empty so that places stay. */
function elements(value: unknown): readonly JsonObject[] {
  return Array.isArray(value) ? (value as readonly unknown[]).map((element) => (isObject(element) ? element : nothing)) : [];
}

/** An error's words, with the status of codes that only this API has: what is wrong with a prompt or a picture is the request's fault. */
function wordsOf(words: ErrorWords): ErrorWords {
  const isRequest = /^(?:invalid_|image_|empty_image|unsupported_image|failed_to_download)/.test(words.errorCode ?? "");
  return words.status === undefined && isRequest && !/^invalid_(?:api_key|auth)/.test(words.errorCode ?? "")
    ? { ...words, status: 400 }
    : words;
}
