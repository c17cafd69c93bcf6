/**
 * Reads a request of Chat Completions into the conversation.
 *
 * One `JSON.parse`, one pass over what came of it. What the conversation models becomes that; everything else becomes an extra with its
 * path and exact text, so that a provider of this dialect gets it back and another refuses or reports it by name. Members that are null
 * count as absent, as the API has it for all that may be left out.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import {
  type CacheMarker,
  type ChatRequest,
  type Extra,
  type Media,
  type Message,
  type Part,
  type ResponseFormat,
  Role,
  type Tool,
  type ToolChoice,
  ToolMode,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { decodeJson, isObject, JsonError, type JsonObject, JsonPlace, parseObject } from "../../framing/json.ts";
import type { ReadRequest } from "../dialect.ts";
import { audioMediaType, readBase64, readDataUrl } from "../media.ts";
import { readReasoningDetails } from "./reasoningDetails.ts";

/** What was read, with what the writing of the answer must know beside. */
export interface OpenAiRequest extends ReadRequest {
  /** The caller asked with the deprecated `functions`, so it understands `function_call` and not `tool_calls`. */
  readonly functionCalls: boolean;
}

/** Reads a body. Throws a fault with reason `REQUEST_INVALID` that names the field, what was expected and what was seen. */
export function readRequest(body: Uint8Array): OpenAiRequest {
  let text: string;
  let root: JsonObject;
  try {
    text = decodeJson(body);
    root = parseObject(text);
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `The request body cannot be read: ${caught.message}, at character ${caught.offset}.`, {
      facts: { offset: String(caught.offset) },
    });
  }
  return new RequestReader(text, root).read();
}

class RequestReader {
  readonly #text: string;
  readonly #root: JsonObject;
  readonly #place: JsonPlace;
  readonly #request: ChatRequest = {
    $typeName: "outrigger.chat.v1.ChatRequest",
    model: "",
    messages: [],
    tools: [],
    stop: [],
    logitBias: {},
    user: "",
    serviceTier: "",
    extras: [],
  };
  #streaming = false;
  #streamUsage = false;
  #functionCalls = false;
  /** Ids that were made up for calls of the deprecated form, by function name, so that results find them. */
  readonly #functionIds = new Map<string, string>();

  constructor(text: string, root: JsonObject) {
    this.#text = text;
    this.#root = root;
    this.#place = JsonPlace.root(text);
  }

  read(): OpenAiRequest {
    const root = this.#root;
    const request = this.#request;
    for (const key of Object.keys(root)) {
      const value = root[key];
      if (value !== null) this.#member(key, value);
    }
    if (root.model === undefined || root.model === null) throw missing("model", "the name of a model");
    if (root.messages === undefined || root.messages === null) throw missing("messages", "a list of messages");
    this.#limits();
    return {
      request,
      native: { dialect: "openai", text: this.#text },
      streaming: this.#streaming,
      streamUsage: this.#streaming && this.#streamUsage,
      functionCalls: this.#functionCalls,
    };
  }

  #member(key: string, value: unknown): void {
    const request = this.#request;
    const at = this.#place.member(key);
    switch (key) {
      case "model":
        request.model = shortString(value, at, 512);
        if (request.model === "") throw invalid(at, "the name of a model", "an empty string");
        break;
      case "messages":
        this.#messages(value, at);
        break;
      case "tools":
        list(value, at, 1024).forEach((tool, index) => {
          this.#tool(tool, at.element(index));
        });
        break;
      case "functions":
        this.#functionCalls = true;
        list(value, at, 1024).forEach((definition, index) => {
          request.tools.push(this.#function(object(definition, at.element(index)), at.element(index)));
        });
        break;
      case "tool_choice":
        this.#toolChoice(value, at);
        break;
      case "function_call":
        this.#functionChoice(value, at);
        break;
      case "parallel_tool_calls":
        request.parallelToolCalls = boolean(value, at);
        break;
      case "response_format":
        this.#responseFormat(object(value, at), at);
        break;
      case "max_completion_tokens":
      case "max_tokens":
        // Of the two the newer one holds; an older one that says otherwise is not modelled.
        if (key === "max_completion_tokens" || !given(this.#root.max_completion_tokens)) {
          request.maxOutputTokens = atLeast(integer(value, at), 0n, at);
        } else if (integer(value, at) !== integer(this.#root.max_completion_tokens, this.#place.member("max_completion_tokens"))) {
          this.#extra(at);
        }
        break;
      case "temperature":
        request.temperature = between(value, at, 0, Number.MAX_VALUE);
        break;
      case "top_p":
        request.topP = between(value, at, 0, 1);
        break;
      case "top_k":
        request.topK = atLeast(integer(value, at), 0n, at);
        break;
      case "stop":
        request.stop =
          typeof value === "string"
            ? [value]
            : list(value, at, 64, "a string or a list of strings").map((stop, index) => string(stop, at.element(index)));
        break;
      case "n":
        request.n = between(value, at, 1, 128);
        if (!Number.isInteger(request.n)) throw invalid(at, "a whole number", String(value));
        break;
      case "seed":
        request.seed = integer(value, at);
        break;
      case "presence_penalty":
        request.presencePenalty = number(value, at);
        break;
      case "frequency_penalty":
        request.frequencyPenalty = number(value, at);
        break;
      case "logit_bias":
        this.#logitBias(object(value, at), at);
        break;
      case "logprobs":
        if (boolean(value, at)) {
          const top = this.#root.top_logprobs;
          const topAt = this.#place.member("top_logprobs");
          const count = given(top) ? between(top, topAt, 0, 20) : 0;
          if (!Number.isInteger(count)) throw invalid(topAt, "a whole number", String(count));
          request.logprobs = { $typeName: "outrigger.chat.v1.LogprobsRequest", top: count };
        }
        break;
      case "top_logprobs":
        // Read with logprobs; without them it asks for nothing that the conversation could say.
        if (this.#root.logprobs !== true) this.#extra(at);
        break;
      case "reasoning_effort":
        request.reasoning = {
          $typeName: "outrigger.chat.v1.ReasoningRequest",
          amount: { case: "effort", value: shortString(value, at, 32) },
        };
        break;
      case "user":
        request.user = shortString(value, at, 1024);
        break;
      case "service_tier":
        request.serviceTier = shortString(value, at, 64);
        break;
      case "stream":
        this.#streaming = boolean(value, at);
        break;
      case "stream_options":
        this.#streamOptions(object(value, at), at);
        break;
      default:
        this.#extra(at);
    }
  }

  #messages(value: unknown, at: JsonPlace): void {
    const messages = list(value, at, 16_384);
    if (messages.length === 0) throw invalid(at, "at least one message", "an empty list");
    for (let i = 0; i < messages.length; i++) this.#request.messages.push(this.#message(messages[i], at.element(i), i));
  }

  #message(value: unknown, at: JsonPlace, index: number): Message {
    const wire = object(value, at);
    const role = wire.role;
    switch (role) {
      case "user":
      case "system":
      case "developer":
        this.#others(wire, at, plainMembers);
        return message(roles[role], this.#content(wire.content, at.member("content")), this.#name(wire, at));
      case "assistant":
        return this.#assistant(wire, at, index);
      case "tool": {
        this.#others(wire, at, toolMembers);
        const id = shortString(wire.tool_call_id, at.member("tool_call_id"), 4096);
        if (id === "") throw invalid(at.member("tool_call_id"), "the id of a tool call", "an empty string");
        return message(Role.TOOL, [toolResult(id, this.#content(wire.content, at.member("content")))], this.#name(wire, at));
      }
      case "function": {
        this.#others(wire, at, plainMembers);
        const name = string(wire.name, at.member("name"));
        const id = this.#functionIds.get(name) ?? `function_${index}`;
        const content = given(wire.content) ? this.#content(wire.content, at.member("content")) : [];
        return message(Role.TOOL, [toolResult(id, content)], name);
      }
      default:
        throw invalid(
          at.member("role"),
          "one of system, developer, user, assistant, tool",
          typeof role === "string" ? `"${role.slice(0, 40)}"` : kindOf(role),
        );
    }
  }

  #assistant(wire: JsonObject, at: JsonPlace, index: number): Message {
    this.#others(wire, at, assistantMembers);
    const parts: Part[] = this.#reasoning(wire, at);
    if (given(wire.content)) parts.push(...this.#content(wire.content, at.member("content")));
    if (given(wire.refusal)) parts.push(part({ case: "refusal", value: refusal(string(wire.refusal, at.member("refusal"))) }));
    if (given(wire.tool_calls)) {
      const callsAt = at.member("tool_calls");
      list(wire.tool_calls, callsAt, 4096).forEach((call, position) => {
        parts.push(this.#toolCall(object(call, callsAt.element(position)), callsAt.element(position)));
      });
    }
    if (given(wire.function_call)) {
      this.#functionCalls = true;
      const callAt = at.member("function_call");
      const { name, argumentsJson } = this.#called(object(wire.function_call, callAt), callAt);
      const id = `function_${index}`;
      this.#functionIds.set(name, id);
      parts.push(toolCall(id, name, argumentsJson));
    }
    return message(Role.ASSISTANT, parts, this.#name(wire, at));
  }

  /** Thinking that the caller gives back: ours with its seals if it is there, otherwise the text that compatible servers speak of. */
  #reasoning(wire: JsonObject, at: JsonPlace): Part[] {
    if (given(wire.reasoning_details)) {
      const details = readReasoningDetails(wire.reasoning_details);
      if (details !== undefined) return details.map((value) => part({ case: "reasoning", value }));
      this.#extra(at.member("reasoning_details"));
    }
    const key = given(wire.reasoning_content) ? "reasoning_content" : "reasoning";
    if (key === "reasoning_content" && given(wire.reasoning)) this.#extra(at.member("reasoning"));
    const text = wire[key];
    if (!given(text)) return [];
    if (typeof text !== "string") {
      this.#extra(at.member(key));
      return [];
    }
    if (text === "") return [];
    const value = { $typeName: "outrigger.chat.v1.Reasoning" as const, text, signature: "", redacted: "", dialect: "openai" };
    return [part({ case: "reasoning", value })];
  }

  #toolCall(wire: JsonObject, at: JsonPlace): Part {
    if (given(wire.type) && wire.type !== "function") {
      return part({ case: "extra", value: extra(at.path, at.json()) });
    }
    this.#others(wire, at, toolCallMembers);
    const id = shortString(wire.id, at.member("id"), 4096);
    if (id === "") throw invalid(at.member("id"), "the id of a tool call", "an empty string");
    const { name, argumentsJson } = this.#called(object(wire.function, at.member("function")), at.member("function"));
    return toolCall(id, name, argumentsJson);
  }

  #called(wire: JsonObject, at: JsonPlace): { name: string; argumentsJson: string } {
    this.#others(wire, at, calledMembers);
    const given = wire.arguments ?? "";
    return { name: this.#toolName(wire, at), argumentsJson: string(given, at.member("arguments")) || "{}" };
  }

  #name(wire: JsonObject, at: JsonPlace): string {
    return given(wire.name) ? shortString(wire.name, at.member("name"), 256) : "";
  }

  #toolName(wire: JsonObject, at: JsonPlace): string {
    const name = shortString(wire.name, at.member("name"), 256);
    if (name === "") throw invalid(at.member("name"), "a tool's name", "an empty string");
    return name;
  }

  #content(value: unknown, at: JsonPlace): Part[] {
    if (typeof value === "string") return [part({ case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: value } })];
    const wires = list(value, at, 4096, "a string or a list of parts");
    const parts: Part[] = [];
    for (let i = 0; i < wires.length; i++) parts.push(this.#part(object(wires[i], at.element(i)), at.element(i)));
    return parts;
  }

  #part(wire: JsonObject, at: JsonPlace): Part {
    const content = this.#partContent(wire, at);
    if (content === undefined) return part({ case: "extra", value: extra(at.path, at.json()) });
    const made = part(content);
    for (const key of Object.keys(wire)) {
      if (key === "type" || key === wire.type || wire[key] === null) continue;
      const cache = key === "cache_control" ? cacheMarker(wire[key]) : undefined;
      if (cache === undefined) this.#extra(at.member(key));
      else made.cache = cache;
    }
    return made;
  }

  /** What a part holds, or undefined for a kind that the conversation does not know. */
  #partContent(wire: JsonObject, at: JsonPlace): Part["content"] | undefined {
    const type = string(wire.type, at.member("type"));
    const inner = at.member(type);
    switch (type) {
      case "text":
        return { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: string(wire.text, inner) } };
      case "refusal":
        return { case: "refusal", value: refusal(string(wire.refusal, inner)) };
      case "image_url": {
        // Some servers, and so some callers, write the address without the object around it.
        const image: JsonObject = typeof wire.image_url === "string" ? { url: wire.image_url } : object(wire.image_url, inner);
        const url = string(image.url, inner.member("url"));
        const detail = given(image.detail) ? shortString(image.detail, inner.member("detail"), 16) : "";
        const source = mediaSource(url);
        if (source === undefined) return undefined;
        if (image !== wire.image_url) return { case: "image", value: media(source, { detail }) };
        this.#others(image, inner, imageMembers);
        return { case: "image", value: media(source, { detail }) };
      }
      case "input_audio": {
        const audio = object(wire.input_audio, inner);
        const data = readBase64(string(audio.data, inner.member("data")));
        const format = shortString(audio.format, inner.member("format"), 64);
        if (data === undefined) throw invalid(inner.member("data"), "base64", "something else");
        this.#others(audio, inner, audioMembers);
        return { case: "audio", value: media({ mediaType: audioMediaType(format), data }, {}) };
      }
      case "file": {
        const file = object(wire.file, inner);
        const filename = given(file.filename) ? shortString(file.filename, inner.member("filename"), 512) : "";
        const source = given(file.file_data)
          ? fileSource(string(file.file_data, inner.member("file_data")), filename)
          : { fileId: string(file.file_id, inner.member("file_id")) };
        if (source === undefined) throw invalid(inner.member("file_data"), "a data URL in base64", "something else");
        this.#others(file, inner, given(file.file_data) ? fileDataMembers : fileIdMembers);
        return { case: "file", value: media(source, { filename }) };
      }
      default:
        return undefined;
    }
  }

  #tool(value: unknown, at: JsonPlace): void {
    const wire = object(value, at);
    // A tool of a kind that only this dialect has keeps its place in the list.
    if (string(wire.type, at.member("type")) !== "function") {
      this.#extra(at);
      return;
    }
    const tool = this.#function(object(wire.function, at.member("function")), at.member("function"));
    for (const key of Object.keys(wire)) {
      if (key === "type" || key === "function" || wire[key] === null) continue;
      const cache = key === "cache_control" ? cacheMarker(wire[key]) : undefined;
      if (cache === undefined) this.#extra(at.member(key));
      else tool.cache = cache;
    }
    this.#request.tools.push(tool);
  }

  #function(wire: JsonObject, at: JsonPlace): Tool {
    this.#others(wire, at, functionMembers);
    const tool: Tool = {
      $typeName: "outrigger.chat.v1.Tool",
      name: this.#toolName(wire, at),
      description: given(wire.description) ? string(wire.description, at.member("description")) : "",
      parametersJson: "",
    };
    if (given(wire.parameters)) {
      object(wire.parameters, at.member("parameters"));
      tool.parametersJson = at.member("parameters").json();
    }
    if (given(wire.strict)) tool.strict = boolean(wire.strict, at.member("strict"));
    return tool;
  }

  #toolChoice(value: unknown, at: JsonPlace): void {
    if (typeof value === "string") {
      this.#request.toolChoice = toolChoice({ case: "mode", value: toolMode(value, at) });
      return;
    }
    const wire = object(value, at);
    const type = string(wire.type, at.member("type"));
    if (type !== "function") {
      this.#extra(at);
      return;
    }
    const named = at.member("function");
    const target = object(wire.function, named);
    this.#others(wire, at, toolChoiceMembers);
    this.#others(target, named, nameMembers);
    this.#request.toolChoice = toolChoice({ case: "tool", value: this.#toolName(target, named) });
  }

  #functionChoice(value: unknown, at: JsonPlace): void {
    this.#functionCalls = true;
    if (typeof value === "string") {
      this.#request.toolChoice = toolChoice({ case: "mode", value: toolMode(value, at) });
      return;
    }
    const wire = object(value, at);
    this.#others(wire, at, nameMembers);
    this.#request.toolChoice = toolChoice({ case: "tool", value: this.#toolName(wire, at) });
  }

  #responseFormat(wire: JsonObject, at: JsonPlace): void {
    const type = string(wire.type, at.member("type"));
    switch (type) {
      case "text":
        this.#others(wire, at, typeMembers);
        this.#request.responseFormat = responseFormat({ case: "text", value: { $typeName: "outrigger.chat.v1.TextFormat" } });
        return;
      case "json_object":
        this.#others(wire, at, typeMembers);
        this.#request.responseFormat = responseFormat({ case: "jsonObject", value: { $typeName: "outrigger.chat.v1.JsonObjectFormat" } });
        return;
      case "json_schema": {
        const inner = at.member("json_schema");
        const schema = object(wire.json_schema, inner);
        if (!given(schema.schema)) break;
        this.#others(wire, at, jsonSchemaMembers);
        this.#others(schema, inner, schemaMembers);
        this.#request.responseFormat = responseFormat({
          case: "jsonSchema",
          value: {
            $typeName: "outrigger.chat.v1.JsonSchemaFormat",
            name: given(schema.name) ? shortString(schema.name, inner.member("name"), 256) : "",
            description: given(schema.description) ? string(schema.description, inner.member("description")) : "",
            schemaJson: inner.member("schema").json(),
            ...(given(schema.strict) ? { strict: boolean(schema.strict, inner.member("strict")) } : {}),
          },
        });
        return;
      }
      default:
        break;
    }
    // A form that only some servers of this dialect know, such as a grammar.
    this.#extra(at);
  }

  #logitBias(wire: JsonObject, at: JsonPlace): void {
    const tokens = Object.keys(wire);
    if (tokens.length > 1024) throw invalid(at, "at most 1024 tokens", String(tokens.length));
    const bias: [string, number][] = [];
    for (const token of tokens) {
      if (!/^\d{1,19}$/.test(token)) throw invalid(at, "token ids as decimal text", `"${token.slice(0, 40)}"`);
      bias.push([token, number(wire[token], at.member(token))]);
    }
    this.#request.logitBias = Object.fromEntries(bias);
  }

  #streamOptions(wire: JsonObject, at: JsonPlace): void {
    if (given(wire.include_usage)) this.#streamUsage = boolean(wire.include_usage, at.member("include_usage"));
    this.#others(wire, at, streamOptionMembers);
  }

  /** Members that nobody here knows. */
  #others(wire: JsonObject, at: JsonPlace, known: ReadonlySet<string>): void {
    for (const key of Object.keys(wire)) if (!known.has(key) && wire[key] !== null) this.#extra(at.member(key));
  }

  #extra(at: JsonPlace): void {
    const { extras } = this.#request;
    if (extras.length === EXTRAS_MAX) throw invalid(at, `at most ${EXTRAS_MAX} members that are not part of the API`, "more");
    const { path } = at;
    if (Buffer.byteLength(path) > 1024) throw invalid(at, "a path of at most 1024 bytes", "a longer one");
    extras.push(extra(path, at.json()));
  }

  /** What can only be said of the whole. */
  #limits(): void {
    if (this.#request.tools.length > 1024)
      throw invalid(this.#place.member("tools"), "at most 1024 tools", String(this.#request.tools.length));
  }
}

/** More unknown members than this are no request but an attack on memory; the conversation's own limit. */
const EXTRAS_MAX = 1024;

const roles = { user: Role.USER, system: Role.SYSTEM, developer: Role.DEVELOPER } as const;

const plainMembers: ReadonlySet<string> = new Set(["role", "content", "name"]);
const toolMembers: ReadonlySet<string> = new Set(["role", "content", "name", "tool_call_id"]);
const assistantMembers: ReadonlySet<string> = new Set([
  "role",
  "content",
  "name",
  "refusal",
  "tool_calls",
  "function_call",
  "reasoning",
  "reasoning_content",
  "reasoning_details",
]);
const toolCallMembers: ReadonlySet<string> = new Set(["id", "type", "function"]);
const calledMembers: ReadonlySet<string> = new Set(["name", "arguments"]);
const imageMembers: ReadonlySet<string> = new Set(["url", "detail"]);
const audioMembers: ReadonlySet<string> = new Set(["data", "format"]);
const fileDataMembers: ReadonlySet<string> = new Set(["file_data", "filename"]);
const fileIdMembers: ReadonlySet<string> = new Set(["file_id", "filename"]);
const functionMembers: ReadonlySet<string> = new Set(["name", "description", "parameters", "strict"]);
const toolChoiceMembers: ReadonlySet<string> = new Set(["type", "function"]);
const nameMembers: ReadonlySet<string> = new Set(["name"]);
const typeMembers: ReadonlySet<string> = new Set(["type"]);
const jsonSchemaMembers: ReadonlySet<string> = new Set(["type", "json_schema"]);
const schemaMembers: ReadonlySet<string> = new Set(["name", "description", "schema", "strict"]);
const streamOptionMembers: ReadonlySet<string> = new Set(["include_usage"]);

/** Whether a member is there: null counts as absent. */
function given(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function invalid(at: JsonPlace, expected: string, seen: string): Fault {
  const { path } = at;
  // A member's name can be as long as the request.
  const field = path.length > PATH_SHOWN_MAX ? `${path.slice(0, PATH_SHOWN_MAX - 1)}…` : path;
  return new Fault(FaultReason.REQUEST_INVALID, `Expected ${expected} at ${field} and saw ${seen}.`, {
    field,
    violations: [{ field, message: `must be ${expected}` }],
  });
}

/** Longer paths help nobody, and would stand in logs and answers. */
const PATH_SHOWN_MAX = 200;

function missing(field: string, expected: string): Fault {
  return new Fault(FaultReason.REQUEST_INVALID, `The request has no ${field}: expected ${expected}.`, {
    field,
    violations: [{ field, message: `must be ${expected}` }],
  });
}

/** What a value is, for a message; never the value itself, which may be content. */
function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function object(value: unknown, at: JsonPlace): JsonObject {
  if (!isObject(value)) throw invalid(at, "an object", kindOf(value));
  return value;
}

function list(value: unknown, at: JsonPlace, max: number, expected = "a list"): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(at, expected, kindOf(value));
  if (value.length > max) throw invalid(at, `at most ${max} elements`, String(value.length));
  return value;
}

function string(value: unknown, at: JsonPlace): string {
  if (typeof value !== "string") throw invalid(at, "a string", kindOf(value));
  return value;
}

/** A string of at most so many bytes of UTF-8, the conversation's limit. */
function shortString(value: unknown, at: JsonPlace, bytesMax: number): string {
  const text = string(value, at);
  // A UTF-16 unit is at most three bytes, so most strings need no counting.
  if (text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax)
    throw invalid(at, `a string of at most ${bytesMax} bytes`, "a longer one");
  return text;
}

function boolean(value: unknown, at: JsonPlace): boolean {
  if (typeof value !== "boolean") throw invalid(at, "true or false", kindOf(value));
  return value;
}

function number(value: unknown, at: JsonPlace): number {
  if (typeof value !== "number") throw invalid(at, "a number", kindOf(value));
  if (!Number.isFinite(value)) throw invalid(at, "a number that a double can hold", "a larger one");
  return value;
}

function between(value: unknown, at: JsonPlace, least: number, most: number): number {
  const found = number(value, at);
  if (found < least || found > most) {
    throw invalid(at, most === Number.MAX_VALUE ? `a number of at least ${least}` : `a number from ${least} to ${most}`, String(found));
  }
  return found;
}

/** A whole number in 64 bits; one that a double cannot hold is read from its text. */
function integer(value: unknown, at: JsonPlace): bigint {
  const found = number(value, at);
  if (Number.isSafeInteger(found)) return BigInt(found);
  const text = at.json();
  const exact = Number.isInteger(found) && /^-?\d+$/.test(text) ? BigInt(text) : undefined;
  if (exact === undefined || BigInt.asIntN(64, exact) !== exact) throw invalid(at, "a whole number of 64 bits", text.slice(0, 40));
  return exact;
}

function atLeast(value: bigint, least: bigint, at: JsonPlace): bigint {
  if (value < least) throw invalid(at, `a whole number of at least ${least}`, String(value));
  return value;
}

function toolMode(word: string, at: JsonPlace): ToolMode {
  switch (word) {
    case "none":
      return ToolMode.NONE;
    case "auto":
      return ToolMode.AUTO;
    case "required":
      return ToolMode.REQUIRED;
    default:
      throw invalid(at, "one of none, auto, required, or an object", `"${word.slice(0, 40)}"`);
  }
}

/** An ephemeral cache marker as it became customary, or undefined for anything else. */
function cacheMarker(value: unknown): CacheMarker | undefined {
  if (!isObject(value) || value.type !== "ephemeral") return undefined;
  const ttl = value.ttl ?? "";
  const others = Object.keys(value).some((key) => key !== "type" && key !== "ttl");
  if (others || typeof ttl !== "string" || ttl.length > 16) return undefined;
  return { $typeName: "outrigger.chat.v1.CacheMarker", ttl };
}

type MediaSource = { readonly url: string } | { readonly fileId: string } | { readonly mediaType: string; readonly data: Uint8Array };

/** An address or inline bytes; undefined for data URLs in a form that the conversation cannot hold. */
function mediaSource(url: string): MediaSource | undefined {
  return /^data:/i.test(url) ? readDataUrl(url) : { url };
}

/** A document's bytes: a data URL, or base64 alone as some callers send it. */
function fileSource(text: string, filename: string): MediaSource | undefined {
  if (/^data:/i.test(text)) return readDataUrl(text);
  const data = readBase64(text);
  const mediaType = /\.pdf$/i.test(filename) ? "application/pdf" : "application/octet-stream";
  return data === undefined ? undefined : { mediaType, data };
}

function media(source: MediaSource, { detail = "", filename = "" }: { detail?: string; filename?: string }): Media {
  const named = { $typeName: "outrigger.chat.v1.Media" as const, detail, filename };
  if ("url" in source) return { ...named, source: { case: "url", value: source.url }, mediaType: "" };
  if ("fileId" in source) return { ...named, source: { case: "fileId", value: source.fileId }, mediaType: "" };
  return { ...named, source: { case: "data", value: source.data }, mediaType: source.mediaType };
}

function message(role: Role, parts: Part[], name: string): Message {
  return { $typeName: "outrigger.chat.v1.Message", role, parts, name };
}

function part(content: Part["content"]): Part {
  return { $typeName: "outrigger.chat.v1.Part", content };
}

function refusal(text: string): { $typeName: "outrigger.chat.v1.Refusal"; text: string } {
  return { $typeName: "outrigger.chat.v1.Refusal", text };
}

function toolCall(id: string, name: string, argumentsJson: string): Part {
  return part({ case: "toolCall", value: { $typeName: "outrigger.chat.v1.ToolCall", id, name, argumentsJson } });
}

function toolResult(toolCallId: string, parts: Part[]): Part {
  return part({ case: "toolResult", value: { $typeName: "outrigger.chat.v1.ToolResult", toolCallId, parts, isError: false } });
}

function toolChoice(choice: ToolChoice["choice"]): ToolChoice {
  return { $typeName: "outrigger.chat.v1.ToolChoice", choice };
}

function responseFormat(format: ResponseFormat["format"]): ResponseFormat {
  return { $typeName: "outrigger.chat.v1.ResponseFormat", format };
}

function extra(path: string, json: string): Extra {
  return { $typeName: "outrigger.chat.v1.Extra", dialect: "openai", path, json };
}
