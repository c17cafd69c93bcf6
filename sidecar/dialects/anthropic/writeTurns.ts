/**
 * Messages of the conversation as the turns of this API, which are stricter than the conversation:
 *
 * Instructions stand before all turns. Turns alternate between user and assistant, so neighbours of one side become one turn. The
 * results of the tools that one assistant's turn called stand at the beginning of the user's turn behind it, in the order of the calls.
 * Blank text is refused, except between blocks of thinking, whose place must stay as it was. Ids have few characters and are not used
 * twice. Thinking goes back only to the dialect that sealed it.
 */
import { type ChatRequest, type Media, type Message, type Part, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import { argumentsObject } from "../toolArguments.ts";
import type { ToolNames } from "../toolNames.ts";
import type { ExtraMembers } from "./extraMembers.ts";
import { writeCacheMarker } from "./writeCacheMarker.ts";

/** One turn. */
export interface Turn {
  readonly role: "user" | "assistant";
  readonly blocks: readonly JsonValue[];
  /** Members of the message that only this dialect knows. */
  readonly extras: { readonly [key: string]: JsonValue };
  /** Whether it is an assistant's turn that calls tools and does not begin with thinking. */
  readonly callsUnthought: boolean;
  /** Whether it is a user's turn that says something beside what tools returned. */
  readonly speaks: boolean;
}

/**
 * Where the work of the assistant's that is going on begins: at its first turn behind the user's last words. What tools returned is no
 * word of the user's. If it has no turn yet, its last one before counts. Thinking is switched on or off for all of this work, and its
 * first turn is the one that must begin with thinking: models that think once before they act go on without.
 */
export function workStart(turns: readonly Turn[]): number {
  const spoke = turns.findLastIndex(({ role, speaks }) => role === "user" && speaks);
  const first = turns.findIndex(({ role }, at) => at > spoke && role === "assistant");
  return first === -1 ? turns.findLastIndex(({ role }) => role === "assistant") : first;
}

/** The turns of the work that is going on without their thinking, which is refused where the model does not think. */
export function withoutThinking(turns: readonly Turn[]): { readonly turns: readonly Turn[]; readonly left: boolean } {
  const start = workStart(turns);
  let left = false;
  const fitted = turns.map((turn, at) => {
    if (start === -1 || at < start) return turn;
    const blocks = turn.blocks.filter((block) => !isThinking(block));
    // A turn of thinking alone is better than an empty one, which is always refused.
    if (blocks.length === turn.blocks.length || blocks.length === 0) return turn;
    left = true;
    return { ...turn, blocks };
  });
  return { turns: left ? fitted : turns, left };
}

function isThinking(block: JsonValue): boolean {
  return isObject(block) && (block.type === "thinking" || block.type === "redacted_thinking");
}

/** All that a request says, turn by turn. */
export interface WrittenTurns {
  /** Instructions, a block for each piece, so that cache markers stay where they were. */
  readonly system: readonly JsonValue[];
  readonly turns: readonly Turn[];
  /** Whether any turn calls a tool or reports on one. */
  readonly usesTools: boolean;
}

/** Writes the messages of a request. `markers` counts cache markers. */
export function writeTurns(
  request: ChatRequest,
  names: ToolNames,
  extras: ExtraMembers,
  markers: { count: number },
  report: Report,
): WrittenTurns {
  return new TurnWriter(names, extras, markers, report).write(request);
}

type Block = { [key: string]: JsonValue | undefined };

interface OpenTurn {
  readonly role: "user" | "assistant";
  readonly blocks: (Block | RawJson)[];
  /** The results of a user's turn, with the place of the call that each answers. */
  readonly results: { readonly block: Block; readonly order: number }[];
  extras: { readonly [key: string]: JsonValue };
  callsUnthought: boolean;
}

class TurnWriter {
  readonly #names: ToolNames;
  readonly #extras: ExtraMembers;
  readonly #markers: { count: number };
  readonly #report: Report;
  readonly #ids = new CallIds();
  readonly #system: (Block | RawJson)[] = [];
  readonly #turns: OpenTurn[] = [];
  #usesTools = false;
  #saidForeign = false;

  constructor(names: ToolNames, extras: ExtraMembers, markers: { count: number }, report: Report) {
    this.#names = names;
    this.#extras = extras;
    this.#markers = markers;
    this.#report = report;
  }

  write(request: ChatRequest): WrittenTurns {
    for (const [at, message] of request.messages.entries()) this.#message(message, at);
    this.#endWithoutBlanks();
    return {
      system: this.#system,
      turns: this.#turns.map(({ role, blocks, results, extras, callsUnthought }) => {
        // Sorting keeps the order of those that answer no call.
        const first = results.sort((a, b) => a.order - b.order).map(({ block }) => block);
        return { role, blocks: [...first, ...blocks], extras, callsUnthought, speaks: role === "user" && blocks.length > 0 };
      }),
      usesTools: this.#usesTools,
    };
  }

  #message(message: Message, at: number): void {
    const path = `messages[${at}]`;
    this.#report.speaker(message, path);
    switch (message.role) {
      case Role.SYSTEM:
      case Role.DEVELOPER:
        this.#instructions(message, path);
        break;
      case Role.ASSISTANT:
        this.#assistant(message, path);
        break;
      default:
        for (const [index, part] of message.parts.entries()) this.#userPart(part, `${path}.parts[${index}]`);
    }
    const turn = this.#turns.at(-1);
    const extras = this.#extras.take(`${path}.`, turnMembers);
    if (turn !== undefined) turn.extras = { ...turn.extras, ...extras };
  }

  /** Instructions lose their place among the turns, which the caller hears of. */
  #instructions(message: Message, path: string): void {
    if (this.#turns.length > 0) {
      this.#report.changed(
        path,
        "Instructions in the middle of the conversation were moved to its beginning, where this provider takes them.",
      );
    }
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      if (part.content.case === "text") this.#put(this.#system, part, field, { type: "text", text: part.content.value.text });
      else if (part.content.case === "extra") this.#extra(this.#system, part.content.value, field);
      else this.#report.unsupported(field, " among instructions");
    });
  }

  #assistant(message: Message, path: string): void {
    const { parts } = message;
    if (this.#turns.at(-1)?.role !== "assistant") this.#ids.newBatch();
    const lastReasoning = parts.findLastIndex((part) => part.content.case === "reasoning");
    const blocks: (Block | RawJson)[] = [];
    let thought = false;
    let calls = false;
    parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      const { content } = part;
      switch (content.case) {
        case "text":
          if (content.value.text.trim() === "" && thought && index < lastReasoning) blocks.push({ type: "text", text: content.value.text });
          else this.#put(blocks, part, field, { type: "text", text: content.value.text });
          break;
        case "refusal":
          this.#put(blocks, part, field, { type: "text", text: content.value.text });
          break;
        case "reasoning": {
          const block = this.#reasoning(content.value, field);
          if (block === undefined) break;
          if (part.cache !== undefined) this.#report.unsupported(`${field}.cache`, " on thinking");
          thought = true;
          blocks.push({ ...block, ...this.#extras.take(`${field}.`, block) });
          break;
        }
        case "toolCall": {
          const { id, name, argumentsJson } = content.value;
          calls = true;
          this.#put(blocks, part, field, {
            type: "tool_use",
            id: this.#ids.ofCall(id),
            name: this.#names.sent.get(name) ?? name,
            input: argumentsObject(argumentsJson),
          });
          break;
        }
        case "extra":
          this.#extra(blocks, content.value, field);
          break;
        default:
          this.#report.unsupported(field, " in an assistant's turn");
      }
    });
    if (blocks.length === 0) return;
    if (calls) this.#usesTools = true;
    const turn = this.#turn("assistant");
    // Within one turn a second message goes on with what the first one thought.
    if (calls && !thought && turn.blocks.length === 0) turn.callsUnthought = true;
    turn.blocks.push(...blocks);
  }

  #userPart(part: Part, field: string): void {
    const { content } = part;
    switch (content.case) {
      case "toolResult": {
        const { toolCallId, parts, isError } = content.value;
        const { id, order } = this.#ids.ofResult(toolCallId);
        const block: Block = {
          type: "tool_result",
          tool_use_id: id,
          content: this.#resultContent(parts, field),
          is_error: isError || undefined,
        };
        this.#usesTools = true;
        this.#turn("user").results.push({ block: this.#finished(block, part, field), order });
        break;
      }
      case "text":
        if (content.value.text.trim() === "") this.#blank(this.#lastBlocks(), part, field);
        else this.#put(this.#turn("user").blocks, part, field, { type: "text", text: content.value.text });
        break;
      case "image":
      case "file": {
        const block = this.#media(content.value, content.case, field);
        if (block !== undefined) this.#put(this.#turn("user").blocks, part, field, block);
        break;
      }
      case "extra": {
        const blocks: RawJson[] = [];
        this.#extra(blocks, content.value, field);
        if (blocks.length > 0) this.#turn("user").blocks.push(...blocks);
        break;
      }
      default:
        this.#report.unsupported(`${field}.${content.case ?? "content"}`);
    }
  }

  /** What a tool returned: a plain string if that is all, blocks otherwise, and nothing for nothing. */
  #resultContent(parts: readonly Part[], field: string): JsonValue | undefined {
    const blocks: (Block | RawJson)[] = [];
    parts.forEach((part, index) => {
      const inner = `${field}.parts[${index}]`;
      const { content } = part;
      if (content.case === "text") this.#put(blocks, part, inner, { type: "text", text: content.value.text });
      else if (content.case === "image" || content.case === "file") {
        const block = this.#media(content.value, content.case, inner);
        if (block !== undefined) this.#put(blocks, part, inner, block);
      } else if (content.case === "extra") this.#extra(blocks, content.value, inner);
      else this.#report.unsupported(`${inner}.${content.case ?? "content"}`, " in what a tool returned");
    });
    const [only] = blocks;
    if (only === undefined) return undefined;
    if (blocks.length > 1 || only instanceof RawJson || only.type !== "text" || Object.keys(only).length !== 2) return blocks;
    return only.text;
  }

  /** Adds a block with its marker and its extra members; blank text is left out, and its marker goes to the block before. */
  #put(blocks: (Block | RawJson)[], part: Part, field: string, block: Block): void {
    if (block.type === "text" && String(block.text).trim() === "") this.#blank(blocks, part, field);
    else blocks.push(this.#finished(block, part, field));
  }

  /** A marker on blank text asks to keep all that stands before it, which the block before can say as well. */
  #blank(blocks: readonly (Block | RawJson)[], part: Part, field: string): void {
    const before = blocks.at(-1);
    if (part.cache === undefined || before === undefined || before instanceof RawJson || before.cache_control !== undefined) return;
    before.cache_control = writeCacheMarker(part.cache, `${field}.cache`, this.#markers, this.#report);
  }

  #finished(block: Block, part: Part, field: string): Block {
    const cache = writeCacheMarker(part.cache, `${field}.cache`, this.#markers, this.#report);
    const extras = this.#extras.take(`${field}.`, block);
    const finished: Block = cache === undefined ? { ...block, ...extras } : { ...block, ...extras, cache_control: cache };
    // Undefined members would make a plain text block look like more than one.
    for (const key of Object.keys(finished)) if (finished[key] === undefined) delete finished[key];
    return finished;
  }

  #lastBlocks(): readonly (Block | RawJson)[] {
    const turn = this.#turns.at(-1);
    if (turn?.role !== "user") return [];
    return turn.blocks.length > 0 ? turn.blocks : turn.results.map(({ block }) => block);
  }

  #turn(role: "user" | "assistant"): OpenTurn {
    const last = this.#turns.at(-1);
    if (last?.role === role) return last;
    const turn: OpenTurn = { role, blocks: [], results: [], extras: {}, callsUnthought: false };
    this.#turns.push(turn);
    return turn;
  }

  /** Thinking goes back as it was sealed. Unsealed or foreign thinking would be refused; the model goes on without it. */
  #reasoning(reasoning: { text: string; signature: string; redacted: string; dialect: string }, field: string): Block | undefined {
    const { text, signature, redacted, dialect } = reasoning;
    if (dialect === "anthropic" && redacted !== "") return { type: "redacted_thinking", data: redacted };
    if (dialect === "anthropic" && signature !== "") return { type: "thinking", thinking: text, signature };
    if (!this.#saidForeign) {
      this.#saidForeign = true;
      this.#report.dropped(field, "Thinking that this provider has not sealed was not sent back to it.");
    }
    return undefined;
  }

  #extra(blocks: (Block | RawJson)[], extra: { dialect: string; json: string }, field: string): void {
    if (extra.dialect === "anthropic") blocks.push(this.#extras.raw(extra.json, field));
    else this.#report.unsupported(field);
  }

  #media(media: Media, kind: "image" | "file", field: string): Block | undefined {
    if (media.detail !== "" && media.detail !== "auto") {
      this.#report.dropped(`${field}.image.detail`, "This provider decides for itself how closely to look at a picture.");
    }
    const { source } = media;
    const extras = this.#extras.take(`${field}.source.`, sourceMembers);
    const isImage = kind === "image" || media.mediaType.startsWith("image/");
    const type = isImage ? "image" : "document";
    const title = isImage || media.filename === "" ? {} : { title: media.filename };
    switch (source.case) {
      case "url": {
        const inline = /^data:([^;,]*);base64,/.exec(source.value);
        if (inline === null) return { type, source: { type: "url", url: source.value, ...extras }, ...title };
        return this.#inline(type, inline[1] ?? "", source.value.slice(inline[0].length), extras, title, field);
      }
      case "fileId":
        return { type, source: { type: "file", file_id: source.value, ...extras }, ...title };
      case "data": {
        const { mediaType } = media;
        if (!isImage && mediaType.startsWith("text/")) {
          return { type, source: { type: "text", media_type: "text/plain", data: decoder.decode(source.value), ...extras }, ...title };
        }
        const { buffer, byteOffset, byteLength } = source.value;
        return this.#inline(type, mediaType, Buffer.from(buffer, byteOffset, byteLength).toString("base64"), extras, title, field);
      }
      default:
        throw this.#report.invalid(field, "a picture or document needs a source");
    }
  }

  #inline(
    type: "image" | "document",
    mediaType: string,
    base64: string,
    extras: { [key: string]: JsonValue },
    title: Block,
    field: string,
  ): Block | undefined {
    if (type === "image" ? !pictures.has(mediaType) : mediaType !== "application/pdf") {
      this.#report.unsupported(`${field}.media_type`, ` with the value ${JSON.stringify(mediaType)}`);
      return undefined;
    }
    return { type, source: { type: "base64", media_type: mediaType, data: base64, ...extras }, ...title };
  }

  /** An answer that the application begins must not end in blanks. */
  #endWithoutBlanks(): void {
    const turn = this.#turns.at(-1);
    const last = turn?.blocks.at(-1);
    if (turn?.role !== "assistant" || last === undefined || last instanceof RawJson || last.type !== "text") return;
    const text = String(last.text);
    const trimmed = text.trimEnd();
    if (trimmed === text) return;
    this.#report.changed(
      "messages",
      "Blanks at the end of the answer that the application began were left out: this provider refuses them.",
    );
    last.text = trimmed;
  }
}

/**
 * Ids of calls as they are sent. The API takes letters, digits, `_` and `-`, and no id twice; some models begin again from the same id
 * in every turn, and some give none, so an id means the latest call that has it and was not answered yet.
 */
class CallIds {
  readonly #sent = new Set<string>();
  /** The ids under which the calls of one turn were sent, by the id they had; those not answered yet come first. */
  #batch = new Map<string, { readonly id: string; readonly order: number; answered: boolean }[]>();
  #order = 0;

  /** A new assistant's turn begins. */
  newBatch(): void {
    this.#batch = new Map();
    this.#order = 0;
  }

  ofCall(id: string): string {
    const plain = plainId(id);
    let free = plain;
    for (let n = 2; this.#sent.has(free); n++) free = `${plain}_${n}`;
    this.#sent.add(free);
    const call = { id: free, order: this.#order++, answered: false };
    const calls = this.#batch.get(id);
    if (calls === undefined) this.#batch.set(id, [call]);
    else calls.push(call);
    return free;
  }

  /** The id for a result, and the place of its call; a result of no call stands last and says which id it meant. */
  ofResult(id: string): { readonly id: string; readonly order: number } {
    const calls = this.#batch.get(id);
    const call = calls?.find(({ answered }) => !answered) ?? calls?.at(-1);
    if (call === undefined) return { id: plainId(id), order: Number.MAX_SAFE_INTEGER };
    call.answered = true;
    return call;
  }
}

function plainId(id: string): string {
  return id.replace(/[^a-zA-Z0-9_-]/g, "_") || "call";
}

/** What is written here in every turn, and in the sources of media: no extra takes its place. */
const turnMembers = { role: undefined, content: undefined };
const sourceMembers = { type: undefined, media_type: undefined, data: undefined, url: undefined, file_id: undefined };

const pictures: ReadonlySet<string> = new Set(["image/jpeg", "image/png", "image/gif", "image/webp"]);

const decoder = new TextDecoder("utf-8");
