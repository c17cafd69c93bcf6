/**
 * What the events of a provider that went out as they came leave behind, so that writing can go on in the middle of an item.
 *
 * Only the beginnings of lines are looked at, and items are kept as text; nothing is parsed unless someone takes over.
 */
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace, type JsonValue, RawJson } from "../../framing/json.ts";
import { answerCharsMax, type OpenItem, tooLong } from "./itemWriter.ts";

/** Follows events that are passed on. */
export class PassedEvents {
  /** Whether the answer has begun, and whether it is over. */
  begun = false;
  ended = false;
  /** Lines of the items that are at their end, and of what began or ended below the others since. */
  readonly #done: string[] = [];
  #open: string[] = [];
  #last: Uint8Array | undefined;
  /** What was said below the open items, piece joined to piece: an event for each token would be a hundred times the text. */
  #said: Said[] = [];
  /** Characters that are kept. */
  #chars = 0;

  /** Takes in whole frames and the events that they stand for. */
  pass(frames: Uint8Array, events: readonly ChatEvent[]): void {
    if (frames.length > 0) this.#last = frames;
    for (const { event } of events) {
      if (event.case === "start") this.begun = true;
      else if (event.case === "finish") this.ended = true;
      else this.#hear(event);
    }
    if (this.#chars > answerCharsMax) throw tooLong();
    const buffer = Buffer.from(frames.buffer, frames.byteOffset, frames.length);
    for (let at = buffer.indexOf(ITEM); at !== -1; at = buffer.indexOf(ITEM, at + 1)) {
      // The type stands first in every event that was ever seen; in a text its quotes would be escaped.
      const lineStart = buffer.lastIndexOf(LF, at) + 1;
      const lineEnd = buffer.indexOf(LF, at);
      if (at - lineStart <= HEAD_BYTES) this.#line(buffer.toString("utf8", lineStart, lineEnd === -1 ? frames.length : lineEnd));
    }
  }

  /** The number of the event that would come next. */
  nextNumber(): number {
    if (this.#last === undefined) return 0;
    const lines = decoder.decode(this.#last).split(/\r?\n/);
    const last = parseLine(lines.findLast((line) => line.startsWith("data:")) ?? "");
    return typeof last.sequence_number === "number" ? last.sequence_number + 1 : 0;
  }

  /** The items that are at their end, those that are open, and how many there are. */
  items(): { readonly done: ReadonlyMap<number, JsonValue>; readonly open: readonly OpenItem[]; readonly places: number } {
    const done = new Map<number, JsonValue>();
    let places = 0;
    for (const line of this.#done) {
      const place = placeOf(parseLine(line));
      done.set(place, new RawJson(JsonPlace.root(dataOf(line)).member("item").json()));
      places = Math.max(places, place + 1);
    }
    const open: OpenItem[] = [];
    for (const line of this.#open) {
      const data = parseLine(line);
      const place = placeOf(data);
      places = Math.max(places, place + 1);
      const item = isObject(data.item) && !done.has(place) ? openItem(data.item, place, this.#said) : undefined;
      if (item !== undefined) open.push(item);
    }
    return { done, open, places };
  }

  #hear(event: ChatEvent["event"]): void {
    const said = pieceOf(event);
    if (said === undefined) return;
    this.#chars += said.text.length;
    const last = this.#said.at(-1);
    if (last?.kind === said.kind && last.number === said.number && said.id === "") last.text += said.text;
    else this.#said.push(said);
  }

  #line(line: string): void {
    this.#chars += line.length;
    if (line.startsWith("added", line.indexOf(ITEM) + ITEM.length)) this.#open.push(line);
    else {
      this.#done.push(line);
      const place = placeOf(parseLine(line));
      this.#open = this.#open.filter((open) => placeOf(parseLine(open)) !== place);
      if (this.#open.length === 0) this.#said = [];
    }
  }
}

/** A piece of what was said. */
interface Said {
  readonly kind: "text" | "refusal" | "reasoning" | "toolCall";
  /** The number of the call or thought; 0 for others. */
  readonly number: number;
  /** The call's id, at its beginning; empty for others. */
  readonly id: string;
  text: string;
}

function pieceOf(event: ChatEvent["event"]): Said | undefined {
  switch (event.case) {
    case "text":
    case "refusal":
      return { kind: event.case, number: 0, id: "", text: event.value.text };
    case "reasoning":
      return { kind: "reasoning", number: event.value.block, id: "", text: event.value.text };
    case "toolCall":
      return { kind: "toolCall", number: event.value.index, id: event.value.id, text: event.value.argumentsJson };
    default:
      return undefined;
  }
}

/** An item that began, with what was said of it. Of a kind that only this dialect has nothing can be gone on with. */
function openItem(wire: JsonObject, place: number, said: readonly Said[]): OpenItem | undefined {
  const id = String(wire.id ?? "");
  switch (wire.type) {
    case "message": {
      const message = {
        kind: "message" as const,
        id,
        place,
        parts: [] as { type: "output_text" | "refusal"; text: string; annotations: JsonValue[]; logprobs: JsonValue[] }[],
      };
      for (const { kind, text } of said) {
        if (kind !== "text" && kind !== "refusal") continue;
        const type = kind === "text" ? "output_text" : "refusal";
        const last = message.parts.at(-1);
        if (last?.type === type) last.text += text;
        else message.parts.push({ type, text, annotations: [], logprobs: [] });
      }
      return message;
    }
    case "function_call": {
      const number = said.find(({ kind, id }) => kind === "toolCall" && id === wire.call_id)?.number ?? 0;
      const text = textOf(said, "toolCall", number);
      return { kind: "call", id, place, number, callId: String(wire.call_id ?? ""), name: String(wire.name ?? ""), text };
    }
    case "reasoning": {
      const number = said.findLast(({ kind }) => kind === "reasoning")?.number ?? 0;
      const text = textOf(said, "reasoning", number);
      return { kind: "thought", id, place, number, dialect: "responses", text, signature: "", redacted: "" };
    }
    default:
      return undefined;
  }
}

function textOf(said: readonly Said[], kind: Said["kind"], number: number): string {
  let text = "";
  for (const piece of said) if (piece.kind === kind && piece.number === number) text += piece.text;
  return text;
}

function placeOf({ output_index: place }: JsonObject): number {
  return typeof place === "number" ? place : 0;
}

function dataOf(line: string): string {
  return line.slice(line.indexOf("{"));
}

function parseLine(line: string): JsonObject {
  try {
    const value: unknown = JSON.parse(dataOf(line));
    return isObject(value) ? value : nothing;
  } catch {
    return nothing;
  }
}

const nothing: JsonObject = Object.freeze({});
const decoder = new TextDecoder("utf-8");
const LF = 0x0a;
const ITEM = '"response.output_item.';
/** Room for the field's name, the type's and a few blanks. */
const HEAD_BYTES = 64;
