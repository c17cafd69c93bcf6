/**
 * Finds the blocks of an answer in its events.
 *
 * Blocks stand one after the other here, and events need not: another provider's tool calls may come in pieces of several at once. One
 * call is open at a time; pieces of the next one wait until the arguments of the open one are complete, which in the usual case is when
 * the next one begins. So do words that come between the pieces of a call's arguments.
 */
import type { ChatEvent, Citation, ReasoningDelta, ToolCallDelta } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type JsonValue, RawJson } from "../../framing/json.ts";
import { argumentsObject, isJsonObject } from "../toolArguments.ts";
import { showSeal } from "./seal.ts";

/** What becomes of blocks. */
export interface BlockSink {
  /**
   * Whether `close` reads the whole block. Otherwise a block keeps only what decides where it ends, since a stream may go on for hours
   * and all of it would be held to the end.
   */
  readonly whole: boolean;
  open(block: Block): void;
  /** A piece of the open block, as this API's delta. */
  piece(delta: { readonly [key: string]: JsonValue | undefined }): void;
  close(block: Block): void;
}

/** A block that is being written. */
export class Block {
  readonly kind: "text" | "thinking" | "tool" | "raw";
  /** The number of the tool call or of the block of thinking. */
  readonly number: number;
  readonly id: string;
  readonly name: string;
  /** Of a raw block: its JSON. */
  readonly raw: string;
  text = "";
  /** Whether there was any text. */
  begun = false;
  signature = "";
  readonly citations: JsonValue[] = [];

  constructor(kind: Block["kind"], facts: { number?: number; id?: string; name?: string; raw?: string } = {}) {
    this.kind = kind;
    this.number = facts.number ?? 0;
    this.id = facts.id ?? "";
    this.name = facts.name ?? "";
    this.raw = facts.raw ?? "";
  }

  /** The block as it begins in a stream. */
  head(): JsonValue {
    switch (this.kind) {
      case "text":
        return { type: "text", text: "" };
      case "thinking":
        return { type: "thinking", thinking: "", signature: "" };
      case "tool":
        return { type: "tool_use", id: this.id, name: this.name, input: {} };
      default:
        return new RawJson(this.raw);
    }
  }

  /** The block as it stands in a whole answer. */
  whole(): JsonValue {
    switch (this.kind) {
      case "text":
        return { type: "text", text: this.text, citations: this.citations.length > 0 ? this.citations : undefined };
      case "thinking":
        return { type: "thinking", thinking: this.text, signature: this.signature };
      case "tool":
        return { type: "tool_use", id: this.id, name: this.name, input: argumentsObject(this.text) };
      default:
        return new RawJson(this.raw);
    }
  }
}

/** A tool call whose turn has not come. */
interface WaitingCall {
  readonly index: number;
  id: string;
  name: string;
  text: string;
}

/** Feeds a sink with blocks. Only choice 0 is written: this API has no others. */
export class BlockWriter {
  readonly #sink: BlockSink;
  #open: Block | undefined;
  /** The open block if it was begun in bytes passed on before, so that only a part of its text is known. */
  #resumed: Block | undefined;
  #waiting: WaitingCall[] = [];
  /** What was said in the middle of a call: a block that is left cannot be gone on with. */
  #later: ChatEvent[] = [];
  #lost: Set<string> | undefined;

  constructor(sink: BlockSink) {
    this.#sink = sink;
  }

  /** What had no place in any block: other choices than the first, and parts that only another dialect knows. */
  get lost(): ReadonlySet<string> | undefined {
    return this.#lost;
  }

  /** Goes on with a block that is open already. */
  resume(block: Block): void {
    this.#open = block;
    this.#resumed = block;
  }

  /** Takes in one event. Text may stand at `at` in a batch with more text behind it: the number of further events that were taken is returned. */
  take(taken: ChatEvent, batch: readonly ChatEvent[] = [], at = 0): number {
    if (this.#open?.kind === "tool" && isSaid(taken) && this.#isInTheMiddle(this.#open)) {
      this.#later.push(taken);
      return 0;
    }
    const { event } = taken;
    if (isOfAnotherChoice(event)) {
      this.#lose("choices beyond the first");
      return 0;
    }
    switch (event.case) {
      case "text": {
        let { text } = event.value;
        let more = 0;
        for (let next = batch[at + 1]?.event; next?.case === "text" && next.value.choice === 0; next = batch[at + more + 1]?.event) {
          text += next.value.text;
          more++;
        }
        this.#text(text);
        return more;
      }
      case "refusal":
        this.#text(event.value.text);
        return 0;
      case "reasoning":
        this.#reasoning(event.value);
        return 0;
      case "toolCall":
        this.#toolCall(event.value);
        return 0;
      case "citation":
        this.#citation(event.value);
        return 0;
      case "extra":
        if (event.value.extra?.dialect === "anthropic") this.#raw(event.value.extra.json);
        else if (event.value.extra !== undefined) this.#lose(`${event.value.extra.dialect} ${event.value.extra.path}`);
        return 0;
      case "finish":
        if (event.value.choice === 0) this.closeAll();
        return 0;
      default:
        return 0;
    }
  }

  #lose(what: string): void {
    this.#lost ??= new Set();
    this.#lost.add(what);
  }

  /** Closes what is open and writes what waits. */
  closeAll(): void {
    this.#close();
    for (const call of this.#waiting.splice(0)) {
      this.#openCall(call);
      this.#close();
    }
    this.#sayLater();
    this.#close();
  }

  /** Whether a call's arguments go on, as far as is known. */
  #isInTheMiddle(call: Block): boolean {
    return call !== this.#resumed && !isJsonObject(call.text);
  }

  #sayLater(): void {
    for (const said of this.#later.splice(0)) this.take(said);
  }

  #text(text: string): void {
    // An empty piece says nothing, and must not become an empty block.
    if (text === "") return;
    const block = this.#open?.kind === "text" ? this.#open : this.#begin(new Block("text"));
    this.#keep(block, text);
    this.#sink.piece({ type: "text_delta", text });
  }

  #reasoning(delta: ReasoningDelta): void {
    if (delta.redacted !== "") {
      const data = showSeal({ dialect: delta.dialect, text: delta.redacted });
      this.#begin(new Block("raw", { raw: `{"type":"redacted_thinking","data":${JSON.stringify(data)}}` }));
      this.#close();
      return;
    }
    if (delta.text === "" && delta.signature === "") return;
    const open = this.#open;
    const block =
      open?.kind === "thinking" && open.number === delta.block ? open : this.#begin(new Block("thinking", { number: delta.block }));
    if (delta.text !== "") {
      this.#keep(block, delta.text);
      this.#sink.piece({ type: "thinking_delta", thinking: delta.text });
    }
    if (delta.signature !== "") {
      const signature = showSeal({ dialect: delta.dialect, text: delta.signature });
      if (this.#sink.whole) block.signature += signature;
      this.#sink.piece({ type: "signature_delta", signature });
    }
  }

  #toolCall(delta: ToolCallDelta): void {
    const open = this.#open;
    if (open?.kind === "tool" && open.number === delta.index) {
      this.#arguments(open, delta.argumentsJson);
      if ((this.#waiting.length > 0 || this.#later.length > 0) && isJsonObject(open.text)) this.#openWaiting();
      return;
    }
    const waiting = this.#waiting.find(({ index }) => index === delta.index);
    if (waiting !== undefined) {
      waiting.id ||= delta.id;
      waiting.name ||= delta.name;
      waiting.text += delta.argumentsJson;
      return;
    }
    // The call was complete and is closed: behind a whole object nothing can come but blanks.
    if (delta.id === "" && delta.name === "") return;
    const call = { index: delta.index, id: delta.id, name: delta.name, text: delta.argumentsJson };
    if (open?.kind === "tool" && !isJsonObject(open.text)) this.#waiting.push(call);
    else this.#openCall(call);
  }

  /** The open call is complete: those that waited come one after the other, as far as they are complete. */
  #openWaiting(): void {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#openCall(next);
      if (!isJsonObject(next.text)) return;
    }
    this.#sayLater();
  }

  #openCall(call: WaitingCall): void {
    const block = this.#begin(new Block("tool", { number: call.index, id: call.id, name: call.name }));
    this.#arguments(block, call.text);
  }

  #keep(block: Block, text: string): void {
    block.begun = true;
    if (this.#sink.whole) block.text += text;
  }

  #arguments(block: Block, piece: string): void {
    if (piece === "") return;
    block.text += piece;
    this.#sink.piece({ type: "input_json_delta", partial_json: piece });
  }

  /** Sources stand before their text here, so one that comes behind text of a block of its own dialect begins the next block. */
  #citation(citation: Citation): void {
    const own = citation.native?.dialect === "anthropic" ? citation.native.json : undefined;
    const open = this.#open;
    const goesOn = open?.kind === "text" && (own === undefined || !open.begun);
    const block = goesOn ? open : this.#begin(new Block("text"));
    const written =
      own !== undefined
        ? new RawJson(own)
        : {
            type: "web_search_result_location",
            url: citation.url,
            title: citation.title === "" ? null : citation.title,
            cited_text: citation.quote,
            encrypted_index: "",
          };
    if (this.#sink.whole) block.citations.push(written);
    this.#sink.piece({ type: "citations_delta", citation: written });
  }

  #raw(json: string): void {
    // A block that was begun in bytes passed on before is written already.
    if (this.#open?.kind === "raw") {
      this.#close();
      return;
    }
    this.#begin(new Block("raw", { raw: json }));
    this.#close();
  }

  #begin(block: Block): Block {
    this.#close();
    this.#open = block;
    this.#sink.open(block);
    return block;
  }

  #close(): void {
    const block = this.#open;
    this.#open = undefined;
    if (block !== undefined) this.#sink.close(block);
  }
}

/** Whether an event says something outside of calls, for which a block must be open. */
function isSaid({ event }: ChatEvent): boolean {
  switch (event.case) {
    case "text":
    case "refusal":
      return event.value.choice === 0 && event.value.text !== "";
    case "reasoning":
    case "citation":
    case "extra":
      return event.value.choice === 0;
    default:
      return false;
  }
}

/** Whether content belongs to a choice that this API has no place for. */
function isOfAnotherChoice(event: ChatEvent["event"]): boolean {
  switch (event.case) {
    case "text":
    case "refusal":
    case "reasoning":
    case "toolCall":
    case "citation":
    case "extra":
      return event.value.choice !== 0;
    default:
      return false;
  }
}
