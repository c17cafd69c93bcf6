/**
 * Messages of the conversation as the turns of the Converse API, which are stricter than the conversation:
 *
 * Instructions stand before all turns. Turns alternate between user and assistant and begin with a user's. The results of the tools that
 * one assistant's turn called stand together at the beginning of the user's turn behind it, in the order of the calls. A block has
 * exactly one member, so a cache marker is a block of its own behind the one it belongs to. Blank text is refused, except between blocks
 * of thinking, whose place must stay as it was. Thinking goes back only where this API sealed it.
 */
import { type ChatRequest, type Message, type Part, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import { argumentsObject, isJsonObject } from "../toolArguments.ts";
import type { ToolNames } from "../toolNames.ts";
import { type CacheMarkers, isMarker } from "./cacheMarkers.ts";
import { CallIds } from "./callIds.ts";
import type { BedrockModel } from "./models.ts";
import { type Block, MediaWriter } from "./writeMedia.ts";

/** One turn. */
export interface Turn {
  readonly role: "user" | "assistant";
  readonly content: readonly JsonValue[];
}

/** All that a request says, turn by turn. */
export interface WrittenTurns {
  /** Instructions, a block for each piece, so that cache markers stay where they were. */
  readonly system: readonly JsonValue[];
  readonly turns: readonly Turn[];
  /** Whether any turn calls a tool or reports on one. */
  readonly usesTools: boolean;
  /** Whether the assistant's work that is going on begins with a call of tools that no thinking led to. */
  readonly callsUnthought: boolean;
  /** The same turns without the thinking of that work, which is refused where the model does not think. */
  readonly unthinking: readonly Turn[];
}

/** Writes the messages of a request. */
export function writeTurns(
  request: ChatRequest,
  model: BedrockModel,
  names: ToolNames,
  markers: CacheMarkers,
  report: Report,
): WrittenTurns {
  return new TurnWriter(model, names, markers, report).write(request);
}

interface OpenTurn {
  readonly role: "user" | "assistant";
  readonly blocks: (Block | RawJson)[];
  /** The results of a user's turn, each with its marker and the place of the call that it answers. */
  readonly results: { readonly blocks: Block[]; readonly order: number }[];
  callsUnthought: boolean;
}

class TurnWriter {
  readonly #model: BedrockModel;
  readonly #names: ToolNames;
  readonly #markers: CacheMarkers;
  readonly #report: Report;
  readonly #ids: CallIds;
  readonly #media: MediaWriter;
  readonly #system: (Block | RawJson)[] = [];
  readonly #turns: OpenTurn[] = [];
  #usesTools = false;
  #saidUnsealed = false;

  constructor(model: BedrockModel, names: ToolNames, markers: CacheMarkers, report: Report) {
    this.#model = model;
    this.#names = names;
    this.#markers = markers;
    this.#report = report;
    this.#ids = new CallIds(model.nineCharacterIds);
    this.#media = new MediaWriter(report);
  }

  write(request: ChatRequest): WrittenTurns {
    for (const [at, message] of request.messages.entries()) this.#message(message, at);
    if (this.#turns[0]?.role !== "user")
      throw this.#report.invalid("messages", "this provider needs a message of a user that is not empty before any other");
    this.#endWithoutBlanks();
    const turns = this.#turns.map((turn) => ({ role: turn.role, content: this.#content(turn) }));
    const start = this.#workStart();
    return {
      system: this.#system,
      turns,
      usesTools: this.#usesTools,
      callsUnthought: this.#turns[start]?.callsUnthought ?? false,
      unthinking: turns.map((turn, at) => {
        const content = start !== -1 && at >= start ? turn.content.filter((block) => !isThinking(block)) : turn.content;
        // A turn of thinking alone is better than an empty one, which is always refused.
        return content.length === 0 || content.length === turn.content.length ? turn : { ...turn, content };
      }),
    };
  }

  /**
   * Where the assistant's work that is going on begins: at its first turn behind the user's last words. What tools returned is no word of
   * the user's. If it has no turn yet, its last one before counts. Thinking is switched on or off for all of this work, and its first turn
   * is the one that must begin with thinking: models that think once before they act go on without.
   */
  #workStart(): number {
    const isWord = (block: Block | RawJson): boolean => block instanceof RawJson || !isMarker(block);
    const spoke = this.#turns.findLastIndex(({ role, blocks }) => role === "user" && blocks.some(isWord));
    const first = this.#turns.findIndex(({ role }, at) => at > spoke && role === "assistant");
    return first === -1 ? this.#turns.findLastIndex(({ role }) => role === "assistant") : first;
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
  }

  /** Instructions lose their place among the turns, which the caller hears of. */
  #instructions(message: Message, path: string): void {
    if (!this.#model.system) {
      this.#report.unsupported(path, " as instructions");
      return;
    }
    if (this.#turns.length > 0) {
      const moved = "Instructions in the middle of the conversation were moved to its beginning, where this provider takes them.";
      this.#report.changed(path, moved);
    }
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      if (part.content.case === "text") this.#text(this.#system, part, field, part.content.value.text);
      else if (part.content.case === "extra") this.#extra(this.#system, part.content.value, field);
      else this.#report.unsupported(field, " among instructions");
    });
  }

  #assistant({ parts }: Message, path: string): void {
    if (this.#turns.at(-1)?.role !== "assistant") this.#ids.newTurn();
    const lastReasoning = parts.findLastIndex((part) => part.content.case === "reasoning");
    const thinking: Block[] = [];
    const blocks: (Block | RawJson)[] = [];
    let calls = false;
    parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      const { content } = part;
      switch (content.case) {
        case "text":
          if (content.value.text.trim() === "" && thinking.length > 0 && index < lastReasoning) blocks.push({ text: content.value.text });
          else this.#text(blocks, part, field, content.value.text);
          break;
        case "refusal":
          this.#text(blocks, part, field, content.value.text);
          break;
        case "reasoning": {
          const block = this.#reasoning(content.value, field);
          if (block === undefined) break;
          thinking.push(block);
          blocks.push(block);
          break;
        }
        case "toolCall": {
          if (!this.#takesTools(field)) break;
          const { id, name, argumentsJson } = content.value;
          calls = true;
          blocks.push({
            toolUse: { toolUseId: this.#ids.ofCall(id), name: this.#names.sent.get(name) ?? name, input: argumentsObject(argumentsJson) },
          });
          this.#markers.add(blocks, part.cache, `${field}.cache`);
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
    if (calls && thinking.length === 0 && turn.blocks.length === 0) turn.callsUnthought = true;
    // Models think first. Thinking behind something else lost its place in a format that keeps it apart.
    const [first] = blocks;
    const misplaced = thinking.length > 0 && first !== thinking[0];
    turn.blocks.push(...(misplaced ? [...thinking, ...blocks.filter((block) => !(thinking as unknown[]).includes(block))] : blocks));
  }

  #userPart(part: Part, field: string): void {
    const { content } = part;
    switch (content.case) {
      case "toolResult": {
        if (!this.#takesTools(field)) break;
        const { toolCallId, parts, isError } = content.value;
        const { id, order } = this.#ids.ofResult(toolCallId);
        // That a tool succeeded is known only where someone said that it failed, and few models take the word at all.
        const status = isError ? "error" : undefined;
        const blocks: Block[] = [{ toolResult: { toolUseId: id, content: this.#resultContent(parts, field), status } }];
        this.#markers.add(blocks, part.cache, `${field}.cache`);
        this.#usesTools = true;
        this.#turn("user").results.push({ blocks, order });
        break;
      }
      case "text":
        // Blank text alone makes no turn.
        if (content.value.text.trim() === "")
          this.#markers.add(this.#turns.at(-1)?.role === "user" ? this.#turn("user").blocks : [], part.cache, `${field}.cache`);
        else this.#text(this.#turn("user").blocks, part, field, content.value.text);
        break;
      case "image":
      case "file": {
        const block = this.#media.write(content.value, content.case, field);
        if (block === undefined) break;
        const { blocks } = this.#turn("user");
        blocks.push(block);
        this.#markers.add(blocks, part.cache, `${field}.cache`);
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

  /** What a tool returned. Neither no block nor a blank one is taken, so nothing goes as an object without members. */
  #resultContent(parts: readonly Part[], field: string): JsonValue[] {
    const blocks: (Block | RawJson)[] = [];
    parts.forEach((part, index) => {
      const inner = `${field}.parts[${index}]`;
      const { content } = part;
      if (part.cache !== undefined)
        this.#report.dropped(`${inner}.cache`, "This provider takes no cache marker inside what a tool returned.");
      if (content.case === "text") {
        if (content.value.text.trim() !== "") blocks.push({ text: content.value.text });
      } else if (content.case === "image" || content.case === "file") {
        const block = this.#media.write(content.value, content.case, inner);
        if (block !== undefined) blocks.push(block);
      } else if (content.case === "extra") this.#extra(blocks, content.value, inner);
      else this.#report.unsupported(`${inner}.${content.case ?? "content"}`, " in what a tool returned");
    });
    return blocks.length > 0 ? blocks : [{ json: {} }];
  }

  /** Adds text with its marker; blank text is left out, and its marker stands behind the block before. */
  #text(blocks: (Block | RawJson)[], part: Part, field: string, text: string): void {
    if (text.trim() !== "") blocks.push({ text });
    this.#markers.add(blocks, part.cache, `${field}.cache`);
  }

  /** The blocks of a turn, results first. A document is taken only beside text. */
  #content({ blocks, results, role }: OpenTurn): JsonValue[] {
    // Sorting keeps the order of those that answer no call.
    const content = [...results.sort((a, b) => a.order - b.order).flatMap((result) => result.blocks), ...blocks];
    const document = content.find((block) => !(block instanceof RawJson) && block.document !== undefined);
    if (role !== "user" || document === undefined || content.some((block) => block instanceof RawJson || block.text !== undefined)) {
      return content;
    }
    this.#report.changed("messages", "This provider takes a document only beside text, so its name was put there as text.");
    const { document: named } = document as { document: { name: string } };
    return [...content, { text: named.name }];
  }

  #turn(role: "user" | "assistant"): OpenTurn {
    const last = this.#turns.at(-1);
    if (last?.role === role) return last;
    const turn: OpenTurn = { role, blocks: [], results: [], callsUnthought: false };
    this.#turns.push(turn);
    return turn;
  }

  #takesTools(field: string): boolean {
    if (!this.#model.tools) this.#report.unsupported(field, " as a use of tools");
    return this.#model.tools;
  }

  /** Thinking goes back as it was sealed. Unsealed or foreign thinking would be refused; the model goes on without it. */
  #reasoning(reasoning: { text: string; signature: string; redacted: string; dialect: string }, field: string): Block | undefined {
    const { text, signature, redacted, dialect } = reasoning;
    if (dialect === "bedrock" && redacted !== "") return { reasoningContent: { redactedContent: redacted } };
    if (dialect === "bedrock" && signature !== "") return { reasoningContent: { reasoningText: { text, signature } } };
    if (!this.#saidUnsealed) {
      this.#saidUnsealed = true;
      this.#report.dropped(field, "Thinking that this provider has not sealed was not sent back to it.");
    }
    return undefined;
  }

  /** A block that only this dialect knows, as its caller wrote it. */
  #extra(blocks: (Block | RawJson)[], extra: { dialect: string; json: string }, field: string): void {
    if (extra.dialect !== "bedrock") {
      this.#report.unsupported(field);
      return;
    }
    if (!isJsonObject(extra.json)) throw this.#report.invalid(field, "expected a JSON object as text");
    blocks.push(new RawJson(extra.json));
  }

  /** An answer that the application begins must not end in blanks. */
  #endWithoutBlanks(): void {
    const turn = this.#turns.at(-1);
    if (turn?.role !== "assistant") return;
    const at = turn.blocks.findLastIndex((block) => block instanceof RawJson || !isMarker(block));
    const last = turn.blocks[at];
    if (last === undefined || last instanceof RawJson || typeof last.text !== "string" || last.text.trimEnd() === last.text) return;
    const cut = "Blanks at the end of the answer that the application began were left out: this provider refuses them.";
    this.#report.changed("messages", cut);
    turn.blocks[at] = { text: last.text.trimEnd() };
  }
}

function isThinking(block: JsonValue): boolean {
  return isObject(block) && block.reasoningContent !== undefined;
}
