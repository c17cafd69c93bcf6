/**
 * The conversation as this API takes it: one text for each message, pictures beside it, arguments of tools as objects, and results of
 * tools as messages of their own.
 *
 * Older servers know no ids of calls and match results by their order, so the results that follow a turn of the model are given in the
 * order of its calls, whatever order they came in.
 */
import { type Media, type Message, type Part, Role, type ToolResult } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue } from "../../framing/json.ts";
import type { Members } from "../placeExtras.ts";
import type { Report } from "../report.ts";
import { argumentsObject } from "../toolArguments.ts";

/** Writes all messages. */
export function writeMessages(messages: readonly Message[], report: Report): JsonValue[] {
  return new MessageWriter(report).write(messages);
}

class MessageWriter {
  readonly #report: Report;
  readonly #written: Members[] = [];
  /** Results since the model's last turn, with their calls' places in it. */
  #results: { readonly place: number; readonly members: Members }[] = [];
  /** The calls of the model's last turn by id: place and tool. */
  #calls = new Map<string, { readonly place: number; readonly name: string }>();

  constructor(report: Report) {
    this.#report = report;
  }

  write(messages: readonly Message[]): JsonValue[] {
    messages.forEach((message, index) => {
      const path = `messages[${index}]`;
      this.#report.speaker(message, path);
      if (message.role === Role.ASSISTANT) this.#assistant(message, path);
      else if (message.role === Role.SYSTEM || message.role === Role.DEVELOPER) this.#spoken("system", message, path);
      else if (message.role === Role.USER || message.role === Role.TOOL) this.#spoken("user", message, path);
      else throw this.#report.invalid(`${path}.role`, "the role is not known");
    });
    this.#flushResults();
    return this.#written;
  }

  /** A message of the application: what tools returned stands in messages of their own, before the rest. */
  #spoken(role: string, message: Message, path: string): void {
    let text = "";
    const images: string[] = [];
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      this.#noteCache(part, field);
      const { content } = part;
      if (content.case === "text") text += content.value.text;
      else if (content.case === "image") images.push(...this.#image(content.value, field));
      else if (content.case === "toolResult") this.#result(content.value, field);
      else this.#report.unsupported(field, ", a part that is neither text nor a picture");
    });
    const onlyResults = message.parts.length > 0 && message.parts.every(({ content }) => content.case === "toolResult");
    if (onlyResults) return;
    this.#flushResults();
    this.#written.push({ role, content: text, images: images.length === 0 ? undefined : images });
  }

  #assistant(message: Message, path: string): void {
    this.#flushResults();
    this.#calls = new Map();
    let text = "";
    let thinking = "";
    let foreign = false;
    const calls: JsonValue[] = [];
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      this.#noteCache(part, field);
      const { content } = part;
      switch (content.case) {
        case "text":
        case "refusal":
          text += content.value.text;
          break;
        case "reasoning":
          if (content.value.dialect === "ollama") thinking += content.value.text;
          else foreign = true;
          break;
        case "toolCall": {
          const { id, name, argumentsJson } = content.value;
          this.#calls.set(id, { place: calls.length, name });
          calls.push({ id, function: { name, arguments: this.#argumentsOf(argumentsJson, `${field}.tool_call.arguments_json`) } });
          break;
        }
        default:
          this.#report.unsupported(field, ", a part that the model is not known to give");
      }
    });
    if (foreign) this.#report.dropped(`${path}.reasoning`, "Thinking is given back only to the dialect that made it.");
    this.#written.push({
      role: "assistant",
      content: text,
      thinking: thinking === "" ? undefined : thinking,
      tool_calls: calls.length === 0 ? undefined : calls,
    });
  }

  /** Arguments as an object. Models write broken ones and callers give them back, which must not end the conversation. */
  #argumentsOf(json: string, field: string): JsonValue {
    const object = argumentsObject(json);
    if (isObject(object) && object.value === json) {
      this.#report.changed(field, "The arguments are no JSON object, so they were sent as the member value of one.");
    }
    return object;
  }

  #result(result: ToolResult, path: string): void {
    // The API has no mark for a failed tool, so the model must read it.
    let text = result.isError ? "Error: " : "";
    result.parts.forEach((part, index) => {
      const field = `${path}.tool_result.parts[${index}]`;
      this.#noteCache(part, field);
      if (part.content.case === "text") text += part.content.value.text;
      else this.#report.unsupported(field, ", since what a tool returns is text there");
    });
    const call = this.#calls.get(result.toolCallId);
    const members: Members = { role: "tool", content: text, tool_name: call?.name, tool_call_id: result.toolCallId };
    this.#results.push({ place: call?.place ?? Number.POSITIVE_INFINITY, members });
  }

  #flushResults(): void {
    // Sorting keeps the order of those that answer no call of the last turn.
    this.#results.sort((one, other) => (one.place === other.place ? 0 : one.place - other.place));
    for (const { members } of this.#results) this.#written.push(members);
    this.#results = [];
  }

  /** A picture as bare base64, or nothing for one that is somewhere else: neither the server nor the sidecar fetches. */
  #image({ source, detail }: Media, field: string): string[] {
    if (source.case !== "data") {
      this.#report.unsupported(field, ", a picture that is not given by value");
      return [];
    }
    if (detail !== "" && detail !== "auto") this.#report.dropped(`${field}.image.detail`, "This provider looks at pictures in one way.");
    const { buffer, byteOffset, byteLength } = source.value;
    return [Buffer.from(buffer, byteOffset, byteLength).toString("base64")];
  }

  #noteCache(part: Part, field: string): void {
    if (part.cache !== undefined) this.#report.dropped(`${field}.cache`, "This provider has no cache markers.");
  }
}
