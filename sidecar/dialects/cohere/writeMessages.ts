/**
 * Messages of the conversation as this API has them: one role for instructions, wherever they stand; a message for each result of a tool;
 * and beside tool calls a plan in the place of text.
 */
import { type Media, type Message, Role, type ToolResult } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { checkJson, JsonError, type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import { argumentsObjectText } from "../toolArguments.ts";
import type { ToolNames } from "../toolNames.ts";
import type { CohereModel } from "./models.ts";
import { PLAN, THINKING } from "./seal.ts";

/** Writes the messages of a request. */
export function writeMessages(messages: readonly Message[], names: ToolNames, traits: CohereModel, report: Report): JsonValue[] {
  const writer = new MessageWriter(names, traits, report);
  for (const [at, message] of messages.entries()) writer.add(message, `messages[${at}]`);
  return writer.written;
}

class MessageWriter {
  readonly written: JsonValue[] = [];
  readonly #names: ToolNames;
  readonly #traits: CohereModel;
  readonly #report: Report;
  #saidUseless = false;

  constructor(names: ToolNames, traits: CohereModel, report: Report) {
    this.#names = names;
    this.#traits = traits;
    this.#report = report;
  }

  add(message: Message, path: string): void {
    this.#report.speaker(message, path);
    for (const [index, part] of message.parts.entries()) {
      if (part.cache !== undefined) {
        this.#report.dropped(`${path}.parts[${index}].cache`, "This provider decides for itself what it keeps in its prompt cache.");
      }
    }
    switch (message.role) {
      case Role.SYSTEM:
      case Role.DEVELOPER:
        this.#instructions(message, path);
        break;
      case Role.ASSISTANT:
        this.#assistant(message, path);
        break;
      default:
        this.#spoken(message, path);
    }
  }

  #instructions(message: Message, path: string): void {
    const blocks: JsonValue[] = [];
    for (const [index, { content }] of message.parts.entries()) {
      const field = `${path}.parts[${index}]`;
      if (content.case === "text") putText(blocks, content.value.text);
      else if (content.case === "extra") this.#extra(blocks, content.value, field);
      else this.#report.unsupported(field, " among instructions");
    }
    this.written.push({ role: "system", content: contentOf(blocks) });
  }

  /** What the application says: what tools returned stands in messages of their own, one for each call, before the rest. */
  #spoken(message: Message, path: string): void {
    const blocks: JsonValue[] = [];
    let results = 0;
    for (const [index, { content }] of message.parts.entries()) {
      const field = `${path}.parts[${index}]`;
      switch (content.case) {
        case "toolResult":
          results++;
          this.written.push(this.#toolResult(content.value, field));
          break;
        case "text":
          putText(blocks, content.value.text);
          break;
        case "image":
          this.#image(blocks, content.value, field);
          break;
        case "extra":
          this.#extra(blocks, content.value, field);
          break;
        default:
          this.#report.unsupported(`${field}.${content.case ?? "content"}`);
      }
    }
    if (blocks.length > 0 || results === 0) this.written.push({ role: "user", content: contentOf(blocks) });
  }

  #toolResult({ toolCallId, parts, isError }: ToolResult, path: string): JsonValue {
    // The API has no mark for a failed tool, so the model must read it.
    const blocks: JsonValue[] = isError ? [textBlock("Error: ")] : [];
    for (const [index, { content }] of parts.entries()) {
      const field = `${path}.tool_result.parts[${index}]`;
      if (content.case === "text") putText(blocks, content.value.text);
      else if (content.case === "extra") this.#extra(blocks, content.value, field);
      else this.#report.unsupported(`${field}.${content.case ?? "content"}`, " in what a tool returned");
    }
    return { role: "tool", tool_call_id: toolCallId, content: joinedText(blocks) ?? blocks };
  }

  #assistant(message: Message, path: string): void {
    const { parts } = message;
    const blocks: JsonValue[] = [];
    const calls: JsonValue[] = [];
    let plan = "";
    const hasCalls = parts.some(({ content }) => content.case === "toolCall");
    for (const [index, { content }] of parts.entries()) {
      const field = `${path}.parts[${index}]`;
      switch (content.case) {
        case "text":
        case "refusal":
          // Beside calls the API has no place for text but the plan, which is what such text mostly is.
          if (hasCalls) plan += content.value.text;
          else putText(blocks, content.value.text);
          break;
        case "reasoning": {
          const { text, signature, dialect } = content.value;
          if (dialect === "cohere" && signature === PLAN) {
            if (hasCalls) plan += text;
          } else if (dialect === "cohere" && signature === THINKING && this.#traits.thinking) {
            blocks.push({ type: "thinking", thinking: text });
          } else this.#uselessThinking(field);
          break;
        }
        case "toolCall": {
          const { id, name, argumentsJson } = content.value;
          const fn = { name: this.#names.sent.get(name) ?? name, arguments: argumentsObjectText(argumentsJson) };
          calls.push({ id, type: "function", function: fn });
          break;
        }
        case "extra":
          this.#extra(blocks, content.value, field);
          break;
        default:
          this.#report.unsupported(`${field}.${content.case ?? "content"}`, " in an assistant's turn");
      }
    }
    if (!hasCalls) {
      // Nothing at all is refused as a turn, and without it the conversation still holds.
      if (blocks.length > 0) this.written.push({ role: "assistant", content: contentOf(blocks) });
      return;
    }
    this.written.push({
      role: "assistant",
      tool_plan: plan === "" ? undefined : plan,
      tool_calls: calls,
      content: blocks.length === 0 ? undefined : blocks,
    });
  }

  /** Thinking of other providers means nothing to this one, nor any to a model that does not think; it goes on without. */
  #uselessThinking(field: string): void {
    if (this.#saidUseless) return;
    this.#saidUseless = true;
    this.#report.dropped(field, "Thinking that did not come from this provider, or that the model does not know, was not sent to it.");
  }

  #image(blocks: JsonValue[], { source, mediaType, detail }: Media, field: string): void {
    if (!this.#traits.images) {
      this.#report.unsupported(`${field}.image`);
      return;
    }
    const url = source.case === "url" ? source.value : source.case === "data" ? dataUrl(mediaType, source.value) : undefined;
    if (url === undefined) {
      this.#report.unsupported(`${field}.image`, " by an uploaded file's name");
      return;
    }
    blocks.push({ type: "image_url", image_url: { url, detail: detail === "" ? undefined : detail } });
  }

  #extra(blocks: JsonValue[], { dialect, json }: { readonly dialect: string; readonly json: string }, field: string): void {
    if (dialect === "cohere") blocks.push(rawJson(json, field, this.#report));
    else this.#report.unsupported(field);
  }
}

/** JSON text of the caller's, which must be JSON, since it becomes a part of the request as it is. */
export function rawJson(text: string, field: string, report: Report): RawJson {
  try {
    // The check wants an object at the top, and a caller's value may be anything.
    checkJson(`{"value":${text}}`);
    // What closes the object and opens another would pass as well.
    JSON.parse(text);
    return new RawJson(text);
  } catch (caught) {
    if (!(caught instanceof JsonError) && !(caught instanceof SyntaxError)) throw caught;
    throw report.invalid(field, "expected JSON as text");
  }
}

function textBlock(text: string): JsonValue {
  return { type: "text", text };
}

/** Empty text says nothing, and is refused among other blocks. */
function putText(blocks: JsonValue[], text: string): void {
  if (text !== "") blocks.push(textBlock(text));
}

/** A plain string where one text is all there is, blocks otherwise. */
function contentOf(blocks: readonly JsonValue[]): JsonValue {
  return blocks.length > 1 ? blocks : (joinedText(blocks) ?? blocks);
}

/** All blocks as one text; undefined if one of them is something else. */
function joinedText(blocks: readonly JsonValue[]): string | undefined {
  let joined = "";
  for (const block of blocks) {
    if (typeof block !== "object" || block === null || block instanceof RawJson || !("text" in block)) return undefined;
    joined += String(block.text);
  }
  return joined;
}

function dataUrl(mediaType: string, data: Uint8Array): string {
  return `data:${mediaType};base64,${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64")}`;
}
