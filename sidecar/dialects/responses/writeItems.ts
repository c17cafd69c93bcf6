/**
 * Messages as items. A turn of the model becomes several: one for each stretch of words, each call and each thought, in order. What tools
 * returned stands in items of its own, and instructions at the very beginning in a member of the request.
 */
import { type Media, type Message, type Part, Role, type ToolResult } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { JsonValue } from "../../framing/json.ts";
import { audioFormat, writeBase64, writeDataUrl } from "../media.ts";
import type { Report } from "../report.ts";
import { argumentsText } from "../toolArguments.ts";
import type { Extras, Members } from "./extras.ts";
import { showSeal } from "./seal.ts";

/** What the writing of items must know. */
export interface ItemsInput {
  readonly messages: readonly Message[];
  readonly extras: Extras;
  readonly report: Report;
  /** The names and ids to send for those that do not fit. */
  readonly toolNames: ReadonlyMap<string, string>;
  readonly callIds: ReadonlyMap<string, string>;
  /** Whether the model takes thinking back. */
  readonly thinking: boolean;
}

/** The items of a conversation, and the instructions that stand beside them. */
export function writeItems(input: ItemsInput): { readonly instructions: string | undefined; readonly items: readonly JsonValue[] } {
  const writer = new ItemsWriter(input);
  return { instructions: writer.write(), items: writer.items };
}

class ItemsWriter {
  readonly items: JsonValue[] = [];
  readonly #input: ItemsInput;

  constructor(input: ItemsInput) {
    this.#input = input;
  }

  /** Writes all items; returns the instructions, if there are any. */
  write(): string | undefined {
    const { messages, extras } = this.#input;
    const [first] = messages;
    const only = first?.parts.length === 1 ? first.parts[0] : undefined;
    const apart =
      first?.role === Role.SYSTEM && first.name === "" && only?.content.case === "text" && only.cache === undefined
        ? only.content.value.text
        : undefined;
    // An empty list of items is refused, so instructions on their own are an item.
    const alone = messages.length === 1;
    const instructions = alone || extras.has("messages[0].") || extras.has("messages[0].parts[0].") ? undefined : apart;
    for (const [index, message] of messages.entries()) {
      if (index > 0 || instructions === undefined) this.#message(message, `messages[${index}]`);
    }
    return instructions;
  }

  #message(message: Message, path: string): void {
    const { report } = this.#input;
    report.speaker(message, path);
    switch (message.role) {
      case Role.ASSISTANT:
        this.#assistant(message.parts, path);
        return;
      case Role.SYSTEM:
        this.#spoken("system", message.parts, path);
        return;
      case Role.DEVELOPER:
        this.#spoken("developer", message.parts, path);
        return;
      case Role.USER:
      case Role.TOOL:
        this.#spoken("user", message.parts, path);
        return;
      default:
        throw report.invalid(`${path}.role`, "the role is not known");
    }
  }

  /** A message of the application. What tools returned comes before the rest of it. */
  #spoken(role: string, parts: readonly Part[], path: string): void {
    const { extras } = this.#input;
    const content: JsonValue[] = [];
    let others = parts.length === 0;
    parts.forEach((part, index) => {
      const at = `${path}.parts[${index}]`;
      if (part.content.case === "toolResult") {
        this.#unmarked(part, at);
        this.#toolResult(part.content.value, at);
      } else if (part.content.case === "extra" && itemPath.test(part.content.value.path)) {
        this.#unmarked(part, at);
        this.#extraItem(part.content.value, at);
      } else {
        others = true;
        const written = this.#part(part, at);
        if (written !== undefined) content.push(written);
      }
    });
    if (!others) return;
    const item: Members = { role, content: extras.has(`${path}.`) ? content : plainContent(content) };
    extras.addTo(item, `${path}.`);
    this.items.push(item as JsonValue);
  }

  #toolResult(result: ToolResult, path: string): void {
    const { callIds, extras, report } = this.#input;
    const output: JsonValue[] = [];
    result.parts.forEach((part, index) => {
      const { case: kind } = part.content;
      const at = `${path}.tool_result.parts[${index}]`;
      if (kind === "text" || kind === "image" || kind === "file" || kind === "extra") {
        const written = this.#part(part, at, `${path}.parts[${index}].`);
        if (written !== undefined) output.push(written);
      } else report.unsupported(at, ", since what a tool returns is text, pictures and documents in this API");
    });
    // The API has no mark for a failed tool, so the model must read it.
    if (result.isError) output.unshift({ type: "input_text", text: "Error: " });
    const item: Members = {
      type: "function_call_output",
      call_id: callIds.get(result.toolCallId) ?? result.toolCallId,
      output: joinedText(output) ?? output,
    };
    extras.addTo(item, `${path}.`);
    this.items.push(item as JsonValue);
  }

  #assistant(parts: readonly Part[], path: string): void {
    const { callIds, extras, report, thinking, toolNames } = this.#input;
    const lastThought = parts.findLastIndex(({ content }) => content.case === "reasoning");
    const calls = parts.some(({ content }) => content.case === "toolCall");
    const isFollowed = parts.slice(lastThought + 1).some(({ content }) => !calls || content.case !== "text" || content.value.text !== "");
    let words: JsonValue[] | undefined;
    let kept = true;
    parts.forEach((part, index) => {
      const at = `${path}.parts[${index}]`;
      this.#unmarked(part, at);
      const { content } = part;
      // Clients of other formats send a text beside calls even where there was none; it would part thinking from the call that came of it.
      if (calls && content.case === "text" && content.value.text === "" && !extras.has(`${at}.`)) return;
      if (content.case === "text" || content.case === "refusal" || (content.case === "extra" && content.value.path === "content")) {
        if (words === undefined || extras.has(`${at}.item.`)) {
          words = [];
          const item: Members = { role: "assistant", content: words };
          extras.addTo(item, `${at}.item.`);
          this.items.push(item as JsonValue);
        }
        const written = this.#word(content, at);
        if (written !== undefined) words.push(written);
        return;
      }
      words = undefined;
      switch (content.case) {
        case "toolCall": {
          const { id, name, argumentsJson } = content.value;
          const item: Members = {
            type: "function_call",
            call_id: callIds.get(id) ?? id,
            name: toolNames.get(name) ?? name,
            arguments: argumentsText(argumentsJson),
          };
          extras.addTo(item, `${at}.`);
          this.items.push(item as JsonValue);
          break;
        }
        case "reasoning": {
          const { text, signature, redacted, dialect } = content.value;
          const seal = dialect === "responses" ? showSeal(content.value) : undefined;
          // The API wants thinking together with what came of it, and takes it back only sealed and by its own kind of model.
          if (seal === undefined || !thinking || (index === lastThought && !isFollowed)) kept = kept && text + signature + redacted === "";
          else {
            const item: Members = {
              type: "reasoning",
              summary: text === "" ? [] : [{ type: "summary_text", text }],
              encrypted_content: seal,
            };
            extras.addTo(item, `${at}.`);
            this.items.push(item as JsonValue);
          }
          break;
        }
        case "extra":
          this.#extraItem(content.value, at);
          break;
        default:
          report.unsupported(at, ", which the API does not take from the model");
      }
    });
    if (!kept) {
      const message = "Thinking is given back only to the dialect that sealed it, with what came of it; the rest was left out.";
      report.dropped(`${path}.reasoning`, message);
    }
  }

  /** A part of what the model said. */
  #word(content: Part["content"], path: string): JsonValue | undefined {
    const { extras, report } = this.#input;
    let written: Members;
    if (content.case === "text") written = { type: "output_text", text: content.value.text };
    else if (content.case === "refusal") written = { type: "refusal", refusal: content.value.text };
    else {
      if (content.case === "extra" && content.value.dialect === "responses") return extras.raw(content.value.json, path);
      report.unsupported(path, ", which belongs to another API");
      return undefined;
    }
    extras.addTo(written, `${path}.`);
    return written as JsonValue;
  }

  #extraItem({ dialect, json }: { readonly dialect: string; readonly json: string }, path: string): void {
    const { extras, report } = this.#input;
    if (dialect === "responses") this.items.push(extras.raw(json, path));
    else report.unsupported(path, ", which belongs to another API");
  }

  #part(part: Part, path: string, container = `${path}.`): JsonValue | undefined {
    const { extras, report } = this.#input;
    this.#unmarked(part, path);
    const { content } = part;
    let written: Members | undefined;
    switch (content.case) {
      case "text":
        written = { type: "input_text", text: content.value.text };
        break;
      case "image":
        written = image(content.value);
        break;
      case "file":
        written = file(content.value);
        break;
      case "audio": {
        const { source, mediaType } = content.value;
        const format = audioFormat(mediaType);
        if (source.case === "data" && format !== undefined) {
          written = { type: "input_audio", input_audio: { data: writeBase64(source.value), format } };
        } else report.unsupported(path, ": sounds are taken by value only");
        break;
      }
      case "extra":
        if (content.value.dialect === "responses") return extras.raw(content.value.json, path);
        report.unsupported(path, ", which belongs to another API");
        break;
      default:
        report.unsupported(path, ", which the API does not take here");
    }
    if (written === undefined) return undefined;
    extras.addTo(written, container);
    return written as JsonValue;
  }

  #unmarked({ cache }: Part, path: string): void {
    if (cache !== undefined) this.#input.report.dropped(`${path}.cache`, "The API decides for itself what it keeps in its prompt cache.");
  }
}

/** An extra that stands for a whole item and not for a part of a message. */
const itemPath = /^input(?:$|[.[])/;

function image({ source, mediaType, detail }: Media): Members | undefined {
  const more = detail === "" ? {} : { detail };
  switch (source.case) {
    case "url":
      return { type: "input_image", image_url: source.value, ...more };
    case "data":
      return { type: "input_image", image_url: writeDataUrl({ mediaType, data: source.value }), ...more };
    case "fileId":
      return { type: "input_image", file_id: source.value, ...more };
    default:
      return undefined;
  }
}

function file({ source, mediaType, filename }: Media): Members | undefined {
  const more = filename === "" ? {} : { filename };
  switch (source.case) {
    case "url":
      return { type: "input_file", file_url: source.value, ...more };
    case "data":
      return { type: "input_file", file_data: writeDataUrl({ mediaType, data: source.value }), ...more };
    case "fileId":
      return { type: "input_file", file_id: source.value, ...more };
    default:
      return undefined;
  }
}

/** A single text as a string, as most callers write it. */
function plainContent(parts: readonly JsonValue[]): JsonValue {
  if (parts.length === 0) return "";
  return parts.length === 1 ? (joinedText(parts) ?? parts) : parts;
}

/** The text of parts that are nothing but text, joined verbatim; undefined if there is anything else. */
function joinedText(parts: readonly JsonValue[]): string | undefined {
  let joined = "";
  for (const part of parts as readonly Members[]) {
    if (part.type !== "input_text" || typeof part.text !== "string" || Object.keys(part).length > 2) return undefined;
    joined += part.text;
  }
  return joined;
}
