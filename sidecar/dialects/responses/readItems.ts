/**
 * Items as messages. What the model gave, item by item, is one turn: its words, its calls and its thoughts, in order. What only shows what
 * an answer was like, such as an item's id or state, is not part of the conversation, since nothing here or elsewhere knows that answer.
 */
import { type ChatRequest, type Media, type Message, type Part, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Field } from "../field.ts";
import { audioMediaType, readBase64, readDataUrl } from "../media.ts";
import { extraPath } from "./extras.ts";
import { readSeal } from "./seal.ts";

/** Adds the messages of a request, and what the conversation does not model of them. */
export function readItems(instructions: Field, input: Field, request: ChatRequest): void {
  const reader = new ItemsReader(request);
  const instructed = instructions.given ? instructions.string("instructions as a string") : "";
  if (instructed !== "") reader.add(Role.SYSTEM, [textPart(instructed)]);
  if (typeof input.value === "string") reader.add(Role.USER, [textPart(input.value)]);
  else {
    const items = input.elements("a string or a list of items");
    if (items.length === 0) throw input.broken("must not be empty");
    for (const item of items) reader.item(item);
  }
}

class ItemsReader {
  readonly #request: ChatRequest;

  constructor(request: ChatRequest) {
    this.#request = request;
  }

  add(role: Role, parts: Part[]): Message {
    const message: Message = { $typeName: "outrigger.chat.v1.Message", role, parts, name: "" };
    this.#request.messages.push(message);
    return message;
  }

  item(item: Field): void {
    const type = item.member("type");
    switch (type.given ? type.string() : "message") {
      case "message":
        this.#message(item);
        break;
      case "function_call": {
        const argumentsJson = item.member("arguments").string() || "{}";
        const value = {
          $typeName: "outrigger.chat.v1.ToolCall" as const,
          id: item.member("call_id").string(),
          name: item.member("name").string(),
          argumentsJson,
        };
        const at = this.#ofModel(part({ case: "toolCall", value }));
        this.#keepRest(item, callMembers, `${at}.`);
        break;
      }
      case "function_call_output":
        this.#output(item);
        break;
      case "reasoning": {
        const sealed = item.member("encrypted_content");
        const value = {
          $typeName: "outrigger.chat.v1.Reasoning" as const,
          text: thoughts(item),
          ...readSeal(sealed.given ? sealed.string() : undefined),
        };
        const at = this.#ofModel(part({ case: "reasoning", value }));
        this.#keepRest(item, reasoningMembers, `${at}.`);
        break;
      }
      case "item_reference":
        throw type.broken("this door is stateless, and keeps no items between requests: send the item itself");
      default: {
        // An item of a kind that only this dialect has: what a caller answers with stands for itself, all else is the model's.
        const value = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "responses", path: "input", json: item.json() };
        if (type.string().endsWith("_output")) this.add(Role.TOOL, [part({ case: "extra", value })]);
        else this.#ofModel(part({ case: "extra", value }));
      }
    }
  }

  #message(item: Field): void {
    const role = item.member("role");
    const content = item.member("content");
    if (role.value === "assistant") {
      const parts = typeof content.value === "string" ? [undefined] : content.elements("a string or a list of parts");
      let first = true;
      for (const wire of parts) {
        const read = wire === undefined ? textPart(content.string()) : this.#part(wire);
        const at = this.#ofModel(read);
        if (first) this.#keepRest(item, answerMembers, `${at}.item.`);
        if (wire !== undefined && read.content.case !== "extra") this.#keepRest(wire, answerPartMembers, `${at}.`);
        first = false;
      }
      return;
    }
    const known = roles.get(String(role.value));
    if (known === undefined) throw role.unknownWord('"user", "system", "developer" or "assistant"');
    const at = `messages[${this.#request.messages.length}]`;
    this.add(known, this.#content(content, at));
    this.#keepRest(item, messageMembers, `${at}.`);
  }

  /** What one call returned. All of them come in messages of their own, as their items do. */
  #output(item: Field): void {
    const at = `messages[${this.#request.messages.length}].parts[0]`;
    const value = {
      $typeName: "outrigger.chat.v1.ToolResult" as const,
      toolCallId: item.member("call_id").string(),
      parts: this.#content(item.member("output"), at),
      isError: false,
    };
    this.add(Role.TOOL, [part({ case: "toolResult", value })]);
    this.#keepRest(item, outputMembers, `${at}.`);
  }

  #content(content: Field, at: string): Part[] {
    if (typeof content.value === "string") return [textPart(content.value)];
    return content.elements("a string or a list of parts").map((wire, index) => {
      const read = this.#part(wire);
      if (read.content.case !== "extra") this.#keepRest(wire, partMembers[read.content.case ?? ""] ?? [], `${at}.parts[${index}].`);
      return read;
    });
  }

  /** One part of a content; one of a kind that the conversation does not know as it is. */
  #part(wire: Field): Part {
    const content = partContent(wire);
    if (content !== undefined) return part(content);
    return part({
      case: "extra",
      value: { $typeName: "outrigger.chat.v1.Extra", dialect: "responses", path: "content", json: wire.json() },
    });
  }

  /** Adds a part to the model's turn, and begins one where the application spoke last. Returns the part's path. */
  #ofModel(added: Part): string {
    const { messages } = this.#request;
    const last = messages.at(-1);
    const turn = last?.role === Role.ASSISTANT ? last : this.add(Role.ASSISTANT, []);
    const place = turn.parts.push(added) - 1;
    return `messages[${messages.length - 1}].parts[${place}]`;
  }

  #keepRest(field: Field, known: readonly string[], container: string): void {
    for (const key of field.keys()) {
      if (known.includes(key)) continue;
      const path = extraPath(container, key);
      this.#request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "responses", path, json: field.member(key).json() });
    }
  }
}

const roles: ReadonlyMap<string, Role> = new Map([
  ["user", Role.USER],
  ["system", Role.SYSTEM],
  ["developer", Role.DEVELOPER],
]);

/** Members that are read, and those that only show what an answer was like. */
const messageMembers = ["type", "role", "content", "id", "status"];
const answerMembers = [...messageMembers, "phase"];
const answerPartMembers = ["type", "text", "refusal", "annotations", "logprobs"];
const callMembers = ["type", "id", "status", "call_id", "name", "arguments"];
const outputMembers = ["type", "id", "status", "call_id", "output"];
const reasoningMembers = ["type", "id", "status", "summary", "content", "encrypted_content"];
const partMembers: Readonly<Record<string, readonly string[]>> = {
  text: ["type", "text", "annotations", "logprobs"],
  refusal: ["type", "refusal"],
  image: ["type", "image_url", "file_id", "detail"],
  audio: ["type", "input_audio"],
  file: ["type", "file_data", "file_id", "file_url", "filename"],
};

/** What a part holds, or undefined for one that the conversation does not know. */
function partContent(wire: Field): Part["content"] | undefined {
  switch (wire.member("type").string()) {
    case "input_text":
    case "output_text":
    case "text":
      return { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: wire.member("text").string() } };
    case "refusal":
      return { case: "refusal", value: { $typeName: "outrigger.chat.v1.Refusal", text: wire.member("refusal").string() } };
    case "input_image": {
      const detail = wire.member("detail");
      const source = imageSource(wire);
      return source && { case: "image", value: media(source, { detail: detail.given ? detail.string() : "" }) };
    }
    case "input_file": {
      const filename = wire.member("filename");
      const name = filename.given ? filename.string() : "";
      return { case: "file", value: media(fileSource(wire, name), { filename: name }) };
    }
    case "input_audio": {
      const audio = wire.member("input_audio");
      const data = readBase64(audio.member("data").string());
      if (data === undefined) throw audio.member("data").refusal("base64");
      if (audio.keys().length > 2) return undefined;
      return { case: "audio", value: media({ mediaType: audioMediaType(audio.member("format").string()), data }, {}) };
    }
    default:
      return undefined;
  }
}

type MediaSource = { readonly url: string } | { readonly fileId: string } | { readonly mediaType: string; readonly data: Uint8Array };

/** A picture's source; undefined for a data URL in a form that the conversation cannot hold. */
function imageSource(wire: Field): MediaSource | undefined {
  if (!wire.member("image_url").given) return { fileId: wire.member("file_id").string("image_url or file_id") };
  const url = wire.member("image_url").string("an address or a data URL as a string");
  return /^data:/i.test(url) ? readDataUrl(url) : { url };
}

function fileSource(wire: Field, filename: string): MediaSource {
  const data = wire.member("file_data");
  if (data.given) {
    const written = data.string();
    if (/^data:/i.test(written)) {
      const inline = readDataUrl(written);
      if (inline === undefined) throw data.refusal("a data URL in base64");
      return inline;
    }
    const bytes = readBase64(written);
    if (bytes === undefined) throw data.refusal("base64");
    return { mediaType: /\.pdf$/i.test(filename) ? "application/pdf" : "application/octet-stream", data: bytes };
  }
  const url = wire.member("file_url");
  return url.given ? { url: url.string() } : { fileId: wire.member("file_id").string("file_data, file_url or file_id") };
}

function media(source: MediaSource, { detail = "", filename = "" }: { detail?: string; filename?: string }): Media {
  const named = { $typeName: "outrigger.chat.v1.Media" as const, detail, filename };
  if ("url" in source) return { ...named, source: { case: "url", value: source.url }, mediaType: "" };
  if ("fileId" in source) return { ...named, source: { case: "fileId", value: source.fileId }, mediaType: "" };
  return { ...named, source: { case: "data", value: source.data }, mediaType: source.mediaType };
}

/** The visible text of a thought: its summary, or the thinking itself where models show it. */
function thoughts(item: Field): string {
  const texts: string[] = [];
  for (const list of ["summary", "content"]) {
    if (!item.member(list).given) continue;
    for (const each of item.member(list).elements()) texts.push(each.member("text").string());
  }
  return texts.join("\n\n");
}

function part(content: Part["content"]): Part {
  return { $typeName: "outrigger.chat.v1.Part", content };
}

function textPart(text: string): Part {
  return part({ case: "text", value: { $typeName: "outrigger.chat.v1.Text", text } });
}
