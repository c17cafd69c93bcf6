/**
 * Finds the items of an answer in its events, and tells a stream's reader of every step: each item begins and ends, so does each part of it,
 * and at every end what came in pieces is said again as a whole.
 *
 * Items may stand open side by side here, as another provider's tool calls come in pieces of several at once: a call is ended when
 * something else begins and its arguments are whole, or at the end of the answer. Only choice 0 is written: this API has no others.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent, Citation, ReasoningDelta, ToolCallDelta } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonValue, RawJson, stringify } from "../../framing/json.ts";
import { writeLogprobs } from "./logprobs.ts";
import { showSeal } from "./seal.ts";

/**
 * Characters of an answer at most. The last event of a stream repeats the whole of it, so all of it is kept until then; the limit is that of
 * whole answers by default, far beyond what any model says and too little to fill a machine with one call.
 */
export const answerCharsMax = 64 * 1024 * 1024;

/** The fault for an answer that is longer. */
export function tooLong(): Fault {
  const message = `The answer is longer than ${answerCharsMax} characters, and this format repeats all of it at the end.`;
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, message);
}

/** Takes what is to be said in a stream: the event's type and its members, as JSON without the braces. */
export type Say = (type: string, members: string) => void;

/** A message of the answer. */
export interface MessageItem {
  readonly kind: "message";
  readonly id: string;
  readonly place: number;
  readonly parts: MessagePart[];
}

/** A part of a message; the last one of an open message is the one that is being written. */
export interface MessagePart {
  readonly type: "output_text" | "refusal";
  text: string;
  readonly annotations: JsonValue[];
  readonly logprobs: JsonValue[];
}

/** A call. */
export interface CallItem {
  readonly kind: "call";
  readonly id: string;
  readonly place: number;
  /** Its number among the calls. */
  readonly number: number;
  readonly callId: string;
  readonly name: string;
  text: string;
}

/** A thought. */
export interface ThoughtItem {
  readonly kind: "thought";
  readonly id: string;
  readonly place: number;
  /** Its number among the thoughts. */
  readonly number: number;
  readonly dialect: string;
  text: string;
  signature: string;
  redacted: string;
}

/** An item that is not at its end yet. */
export type OpenItem = MessageItem | CallItem | ThoughtItem;

/** Writes the items of one answer. */
export class ItemWriter {
  /** The items that are at their end, by place. */
  readonly #output: JsonValue[] = [];
  readonly #idEnd: string;
  readonly #say: Say | undefined;
  #open: OpenItem[] = [];
  #chars = 0;
  #places = 0;
  #lost: Set<string> | undefined;
  /** The part that is being written: the type of its deltas, and what stands in each before the piece. */
  #deltaType = "";
  #deltaHead = "";

  /** `idEnd` makes the ids of items unique. `say` hears every step of a stream; a whole answer has none. */
  constructor(idEnd: string, say?: Say) {
    this.#idEnd = idEnd;
    this.#say = say;
  }

  /** Goes on behind items that were written elsewhere: those that are at their end, and those that are open. */
  resume(done: ReadonlyMap<number, JsonValue>, open: readonly OpenItem[], places: number): void {
    for (const [place, item] of done) this.#output[place] = item;
    this.#open = [...open];
    this.#places = places;
    for (const item of open) if (item.kind === "message" && item.parts.length > 0) this.#aim(item);
  }

  /** What had no place in any item: other choices than the first, and parts that only another dialect knows. */
  get lost(): ReadonlySet<string> | undefined {
    return this.#lost;
  }

  /** Takes in one event. `next` is the one that follows in its batch: returns whether that was taken, too. */
  take({ event }: ChatEvent, next?: ChatEvent): boolean {
    switch (event.case) {
      case "text":
      case "refusal":
      case "logprobs":
      case "reasoning":
      case "toolCall":
      case "citation":
      case "extra":
        if (event.value.choice === 0) return this.#take(event, next);
        this.#lose("choices beyond the first");
        return false;
      default:
        return false;
    }
  }

  #take(event: ChatEvent["event"], next: ChatEvent | undefined): boolean {
    switch (event.case) {
      case "text": {
        // Token probabilities belong to the piece that they are of.
        const tokens = next?.event.case === "logprobs" && next.event.value.choice === 0 ? next.event.value.content : undefined;
        this.#words("output_text", event.value.text, tokens ?? none);
        return tokens !== undefined;
      }
      case "refusal":
        this.#words("refusal", event.value.text, none);
        return false;
      case "logprobs":
        this.#words("output_text", "", event.value.content);
        return false;
      case "reasoning":
        this.#thought(event.value);
        return false;
      case "toolCall":
        this.#call(event.value);
        return false;
      case "citation":
        this.#citation(event.value);
        return false;
      case "extra": {
        const { extra } = event.value;
        if (extra?.dialect === "responses") this.#raw(extra.json);
        else if (extra !== undefined) this.#lose(`${extra.dialect} ${extra.path}`);
        return false;
      }
      default:
        return false;
    }
  }

  #lose(what: string): void {
    this.#lost ??= new Set();
    this.#lost.add(what);
  }

  /** Ends every open item and returns all of them. `status` is the answer's: of one that is cut short the last item is so, too. */
  end(status: "completed" | "incomplete"): readonly JsonValue[] {
    const open = this.#open;
    this.#open = [];
    for (const [at, item] of open.entries()) this.#close(item, at === open.length - 1 ? status : "completed");
    return this.#output;
  }

  /** All items as they are, those that are open cut short, without a word of it in the stream: for an answer that fails. */
  soFar(): readonly JsonValue[] {
    const output = [...this.#output];
    for (const item of this.#open) output[item.place] = writeItem(item, "incomplete");
    return output.filter((item) => item !== undefined);
  }

  #words(type: MessagePart["type"], text: string, tokens: readonly TokenLogprob[]): void {
    // An empty piece says nothing, and must not become an empty part.
    if (text === "" && tokens.length === 0) return;
    const part = this.#part(type);
    part.text += text;
    this.#count(text.length);
    const piece = this.#deltaHead + JSON.stringify(text);
    if (type === "refusal") {
      this.#say?.(this.#deltaType, piece);
      return;
    }
    const logprobs = writeLogprobs(tokens);
    part.logprobs.push(...logprobs);
    this.#say?.(this.#deltaType, `${piece},"logprobs":${stringify(logprobs)}`);
  }

  #count(chars: number): void {
    this.#chars += chars;
    if (this.#chars > answerCharsMax) throw tooLong();
  }

  /** Sources stand with the text that leans on them. */
  #citation(citation: Citation): void {
    const part = this.#part("output_text");
    const annotation = writeAnnotation(citation, part.text.length);
    const number = part.annotations.push(annotation) - 1;
    this.#say?.(
      "response.output_text.annotation.added",
      `${this.#deltaPlace()},"annotation_index":${number},"annotation":${stringify(annotation)}`,
    );
  }

  /** The open part of the open message, if it is of this type; otherwise a new one, in a new message where none is open. */
  #part(type: MessagePart["type"]): MessagePart {
    let message = this.#open.find((item) => item.kind === "message");
    if (message === undefined) {
      this.#closeBefore();
      message = { kind: "message", id: this.#newId("msg"), place: this.#places++, parts: [] };
      this.#begin(message);
    }
    const last = message.parts.at(-1);
    if (last?.type === type) return last;
    if (last !== undefined) this.#closePart(message, last);
    const part: MessagePart = { type, text: "", annotations: [], logprobs: [] };
    message.parts.push(part);
    this.#aim(message);
    this.#say?.("response.content_part.added", `${this.#deltaPlace()},"part":${stringify(writePart(part))}`);
    return part;
  }

  #thought(delta: ReasoningDelta): void {
    const { block, text, signature, redacted, dialect } = delta;
    if (text === "" && signature === "" && redacted === "") return;
    let thought = this.#open.find((item) => item.kind === "thought");
    if (thought === undefined || thought.number !== block) {
      this.#closeBefore();
      thought = {
        kind: "thought",
        id: this.#newId("rs"),
        place: this.#places++,
        number: block,
        dialect,
        text: "",
        signature: "",
        redacted: "",
      };
      this.#begin(thought);
    }
    thought.signature += signature;
    thought.redacted += redacted;
    this.#count(text.length + signature.length + redacted.length);
    if (text === "") return;
    const at = `"item_id":${JSON.stringify(thought.id)},"output_index":${thought.place},"summary_index":0`;
    if (thought.text === "") this.#say?.("response.reasoning_summary_part.added", `${at},"part":{"type":"summary_text","text":""}`);
    thought.text += text;
    this.#say?.("response.reasoning_summary_text.delta", `${at},"delta":${JSON.stringify(text)}`);
  }

  #call(delta: ToolCallDelta): void {
    let call = this.#open.find((item) => item.kind === "call" && item.number === delta.index);
    if (call === undefined) {
      // The call was complete and is closed: behind a whole object nothing can come but blanks.
      if (delta.id === "" && delta.name === "") return;
      this.#closeBefore();
      call = {
        kind: "call",
        id: this.#newId("fc"),
        place: this.#places++,
        number: delta.index,
        callId: delta.id,
        name: delta.name,
        text: "",
      } satisfies CallItem;
      this.#begin(call);
    }
    if (delta.argumentsJson === "" || call.kind !== "call") return;
    call.text += delta.argumentsJson;
    this.#count(delta.argumentsJson.length);
    const at = `"item_id":${JSON.stringify(call.id)},"output_index":${call.place}`;
    this.#say?.("response.function_call_arguments.delta", `${at},"delta":${JSON.stringify(delta.argumentsJson)}`);
  }

  /** An item that only this dialect knows, whole. */
  #raw(json: string): void {
    this.#closeBefore();
    const item = rawLine(json);
    const place = this.#places++;
    this.#say?.("response.output_item.added", `"output_index":${place},"item":${item.text}`);
    this.#say?.("response.output_item.done", `"output_index":${place},"item":${item.text}`);
    this.#output[place] = item;
  }

  #newId(kind: string): string {
    return `${kind}_${this.#idEnd}_${this.#places}`;
  }

  #begin(item: OpenItem): void {
    this.#open.push(item);
    this.#say?.(
      "response.output_item.added",
      `"output_index":${item.place},"item":${stringify(writeItem(beginning(item), "in_progress"))}`,
    );
  }

  /** Something else begins: ends what is open, but for calls whose arguments are not whole, since their pieces may still come. */
  #closeBefore(): void {
    if (this.#open.length === 0) return;
    const open = this.#open;
    this.#open = open.filter((item) => item.kind === "call" && !isWholeObject(item.text));
    for (const item of open) if (!this.#open.includes(item)) this.#close(item, "completed");
  }

  #close(item: OpenItem, status: "completed" | "incomplete"): void {
    const at = `"item_id":${JSON.stringify(item.id)},"output_index":${item.place}`;
    if (item.kind === "message") {
      const last = item.parts.at(-1);
      if (last !== undefined) this.#closePart(item, last);
    } else if (item.kind === "call") {
      // No arguments are an empty object: anything else breaks the next turn.
      item.text ||= "{}";
      const done = `${at},"name":${JSON.stringify(item.name)},"arguments":${JSON.stringify(item.text)}`;
      this.#say?.("response.function_call_arguments.done", done);
    } else if (item.text !== "") {
      const text = JSON.stringify(item.text);
      this.#say?.("response.reasoning_summary_text.done", `${at},"summary_index":0,"text":${text}`);
      this.#say?.("response.reasoning_summary_part.done", `${at},"summary_index":0,"part":{"type":"summary_text","text":${text}}`);
    }
    const whole = writeItem(item, status);
    this.#output[item.place] = whole;
    this.#say?.("response.output_item.done", `"output_index":${item.place},"item":${stringify(whole)}`);
  }

  #closePart(message: MessageItem, part: MessagePart): void {
    if (this.#say === undefined) return;
    this.#aim(message);
    const at = this.#deltaPlace();
    const text = JSON.stringify(part.text);
    if (part.type === "refusal") this.#say("response.refusal.done", `${at},"refusal":${text}`);
    else this.#say("response.output_text.done", `${at},"text":${text},"logprobs":${stringify(part.logprobs)}`);
    this.#say("response.content_part.done", `${at},"part":${stringify(writePart(part))}`);
  }

  /** Makes ready for pieces of a message's last part. */
  #aim({ id, place, parts }: MessageItem): void {
    this.#deltaType = parts.at(-1)?.type === "refusal" ? "response.refusal.delta" : "response.output_text.delta";
    this.#deltaHead = `"item_id":${JSON.stringify(id)},"output_index":${place},"content_index":${parts.length - 1},"delta":`;
  }

  #deltaPlace(): string {
    return this.#deltaHead.slice(0, -',"delta":'.length);
  }
}

const none: readonly TokenLogprob[] = [];

/** An item before any piece of it. */
function beginning(item: OpenItem): OpenItem {
  return item.kind === "message" ? { ...item, parts: [] } : { ...item, text: "" };
}

function writeItem(item: OpenItem, status: "in_progress" | "completed" | "incomplete"): JsonValue {
  switch (item.kind) {
    case "message":
      return { id: item.id, type: "message", status, role: "assistant", content: item.parts.map(writePart) };
    case "call":
      return { id: item.id, type: "function_call", status, call_id: item.callId, name: item.name, arguments: item.text };
    case "thought":
      return {
        id: item.id,
        type: "reasoning",
        summary: item.text === "" ? [] : [{ type: "summary_text", text: item.text }],
        // What is sealed is known at the end.
        encrypted_content: status === "in_progress" ? undefined : showSeal(item),
      };
  }
}

function writePart({ type, text, annotations, logprobs }: MessagePart): JsonValue {
  return type === "refusal" ? { type, refusal: text } : { type, text, annotations: [...annotations], logprobs: [...logprobs] };
}

/** A citation in this dialect; where another dialect brought it, it stands for the text up to there. */
function writeAnnotation({ native, url, title }: Citation, characters: number): JsonValue {
  if (native?.dialect === "responses") return rawLine(native.json);
  return { type: "url_citation", url, title, start_index: characters, end_index: characters };
}

/** JSON text in one line: in a frame a line end would end the data, and in JSON line ends are blanks. */
export function rawLine(json: string): RawJson {
  return new RawJson(json.replace(/[\r\n]+/g, " "));
}

function isWholeObject(text: string): boolean {
  if (!text.trimEnd().endsWith("}")) return false;
  try {
    return isObject(JSON.parse(text));
  } catch {
    return false;
  }
}
