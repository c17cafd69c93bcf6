/**
 * Protobuf's JSON (https://protobuf.dev/programming-guides/json) to the request of either chat method, straight-line: what nearly every
 * Connect call in JSON sends.
 *
 * As with bytes (`chatReader.ts`), what is written as every writer of protobuf's JSON writes it is read here. What is strange (null, the
 * names of the proto file where they differ, numbers as text where they need not be, a wrong kind of value) is left to protobuf-es, and so
 * is every refusal.
 */
import { type DescMessage, fromJson, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import {
  type CacheMarker,
  CacheMarkerSchema,
  type ChatRequest,
  type Extra,
  LogprobsRequestSchema,
  MediaSchema,
  type Message,
  type Part,
  ReasoningRequestSchema,
  ResponseFormatSchema,
  Role,
  type Tool,
  type ToolCall,
  ToolChoiceSchema,
  type ToolResult,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, JSON_DEPTH_MAX, type JsonObject } from "../../framing/json.ts";
import { type Asked, newChat } from "./chatReader.ts";

/**
 * Makes a request of JSON that was parsed, or returns undefined for one that is strange or wrong. The JSON must be at most
 * `JSON_DEPTH_MAX` deep, and no object have two members of one name.
 */
export function askedFromJson(json: JsonObject): Asked | undefined {
  try {
    let chat: ChatRequest | undefined;
    let validateOnly = false;
    for (const name in json) {
      const value = json[name];
      if (name === "chat") chat = chatFrom(value);
      else if (name === "validateOnly") validateOnly = truth(value);
      else throw strange;
    }
    return { chat, validateOnly };
  } catch (caught) {
    if (caught === strange) return undefined;
    throw caught;
  }
}

/** Thrown from wherever something is strange. Made once, since a stack would cost more than all the reading. */
const strange = new Error("JSON that protobuf-es shall read");

// Only the names that protobuf's JSON gives to fields are known below, so that a field cannot come by both its names.

function chatFrom(json: unknown): ChatRequest {
  const chat = newChat();
  const members = object(json);
  for (const name in members) {
    const value = members[name];
    switch (name) {
      case "model":
        chat.model = text(value);
        break;
      case "messages":
        chat.messages = list(value, messageFrom);
        break;
      case "tools":
        chat.tools = list(value, toolFrom);
        break;
      case "toolChoice":
        chat.toolChoice = rare(ToolChoiceSchema, value);
        break;
      case "parallelToolCalls":
        chat.parallelToolCalls = truth(value);
        break;
      case "responseFormat":
        chat.responseFormat = rare(ResponseFormatSchema, value);
        break;
      case "maxOutputTokens":
        chat.maxOutputTokens = long(value);
        break;
      case "temperature":
        chat.temperature = double(value);
        break;
      case "topP":
        chat.topP = double(value);
        break;
      case "topK":
        chat.topK = long(value);
        break;
      case "stop":
        chat.stop = list(value, text);
        break;
      case "n":
        chat.n = whole(value);
        break;
      case "seed":
        chat.seed = long(value);
        break;
      case "presencePenalty":
        chat.presencePenalty = double(value);
        break;
      case "frequencyPenalty":
        chat.frequencyPenalty = double(value);
        break;
      case "logitBias":
        chat.logitBias = biases(value);
        break;
      case "logprobs":
        chat.logprobs = rare(LogprobsRequestSchema, value);
        break;
      case "reasoning":
        chat.reasoning = rare(ReasoningRequestSchema, value);
        break;
      case "user":
        chat.user = text(value);
        break;
      case "serviceTier":
        chat.serviceTier = text(value);
        break;
      case "extras":
        chat.extras = list(value, extraFrom);
        break;
      case "rawPrompt":
        chat.rawPrompt = truth(value);
        break;
      default:
        throw strange;
    }
  }
  return chat;
}

function messageFrom(json: unknown): Message {
  let role: Role = Role.UNSPECIFIED;
  let parts: Part[] = [];
  let name = "";
  const members = object(json);
  for (const member in members) {
    const value = members[member];
    if (member === "role") role = roleFrom(value);
    else if (member === "parts") parts = list(value, partFrom);
    else if (member === "name") name = text(value);
    else throw strange;
  }
  return { $typeName: "outrigger.chat.v1.Message", role, parts, name };
}

function roleFrom(json: unknown): Role {
  switch (json) {
    case "ROLE_USER":
      return Role.USER;
    case "ROLE_ASSISTANT":
      return Role.ASSISTANT;
    case "ROLE_SYSTEM":
      return Role.SYSTEM;
    case "ROLE_DEVELOPER":
      return Role.DEVELOPER;
    case "ROLE_TOOL":
      return Role.TOOL;
    default:
      throw strange;
  }
}

function partFrom(json: unknown): Part {
  let content: Part["content"] = { case: undefined };
  let cache: CacheMarker | undefined;
  const members = object(json);
  for (const name in members) {
    const value = members[name];
    if (name === "cache") cache = rare(CacheMarkerSchema, value);
    else if (content.case !== undefined) throw strange;
    else content = contentFrom(name, value);
  }
  return { $typeName: "outrigger.chat.v1.Part", content, cache };
}

function contentFrom(name: string, json: unknown): Part["content"] {
  switch (name) {
    case "text":
      return { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: onlyText(json) } };
    case "toolCall":
      return { case: "toolCall", value: toolCallFrom(json) };
    case "toolResult":
      return { case: "toolResult", value: toolResultFrom(json) };
    case "reasoning": {
      const { text, signature, redacted, dialect } = texts(json, { text: "", signature: "", redacted: "", dialect: "" });
      return { case: "reasoning", value: { $typeName: "outrigger.chat.v1.Reasoning", text, signature, redacted, dialect } };
    }
    case "refusal":
      return { case: "refusal", value: { $typeName: "outrigger.chat.v1.Refusal", text: onlyText(json) } };
    case "extra":
      return { case: "extra", value: extraFrom(json) };
    case "image":
    case "audio":
    case "file":
      return { case: name, value: rare(MediaSchema, json) };
    default:
      throw strange;
  }
}

function toolCallFrom(json: unknown): ToolCall {
  const { id, name, argumentsJson } = texts(json, { id: "", name: "", argumentsJson: "" });
  return { $typeName: "outrigger.chat.v1.ToolCall", id, name, argumentsJson };
}

function toolResultFrom(json: unknown): ToolResult {
  let toolCallId = "";
  let parts: Part[] = [];
  let isError = false;
  const members = object(json);
  for (const name in members) {
    const value = members[name];
    if (name === "toolCallId") toolCallId = text(value);
    else if (name === "parts") parts = list(value, partFrom);
    else if (name === "isError") isError = truth(value);
    else throw strange;
  }
  return { $typeName: "outrigger.chat.v1.ToolResult", toolCallId, parts, isError };
}

function toolFrom(json: unknown): Tool {
  let name = "";
  let description = "";
  let parametersJson = "";
  let strict: boolean | undefined;
  let cache: CacheMarker | undefined;
  const members = object(json);
  for (const member in members) {
    const value = members[member];
    if (member === "name") name = text(value);
    else if (member === "description") description = text(value);
    else if (member === "parametersJson") parametersJson = text(value);
    else if (member === "strict") strict = truth(value);
    else if (member === "cache") cache = rare(CacheMarkerSchema, value);
    else throw strange;
  }
  return { $typeName: "outrigger.chat.v1.Tool", name, description, parametersJson, strict, cache };
}

function extraFrom(value: unknown): Extra {
  const { dialect, path, json } = texts(value, { dialect: "", path: "", json: "" });
  return { $typeName: "outrigger.chat.v1.Extra", dialect, path, json };
}

/** An object whose one member is a text of that name. */
function onlyText(json: unknown): string {
  let found = "";
  const members = object(json);
  for (const name in members) {
    if (name === "text") found = text(members[name]);
    else throw strange;
  }
  return found;
}

/** An object of texts alone, put into the one given, which holds all the names that there are. */
function texts<T extends Record<string, string>>(json: unknown, into: T): T {
  const members = object(json);
  for (const name in members) {
    if (!Object.hasOwn(into, name)) throw strange;
    (into as Record<string, string>)[name] = text(members[name]);
  }
  return into;
}

function biases(json: unknown): { [key: string]: number } {
  const found: { [key: string]: number } = {};
  const members = object(json);
  for (const name in members) {
    // The one name that no assignment may be made to, and names that are no text.
    if (name === "__proto__" || !name.isWellFormed()) throw strange;
    found[name] = double(members[name]);
  }
  return found;
}

/** A message that calls seldom hold, which protobuf-es reads. */
function rare<Desc extends DescMessage>(schema: Desc, json: unknown): MessageShape<Desc> {
  try {
    return fromJson(schema, object(json) as JsonValue, rareRead);
  } catch {
    throw strange;
  }
}

// No message lies deeper than the JSON that holds it, so that the limit of one is that of the other.
const rareRead = Object.freeze({ ignoreUnknownFields: false, recursionLimit: JSON_DEPTH_MAX });

function list<T>(json: unknown, from: (item: unknown) => T): T[] {
  if (!Array.isArray(json)) throw strange;
  return json.map(from);
}

function object(json: unknown): JsonObject {
  if (!isObject(json)) throw strange;
  return json;
}

/** Half a pair of surrogates, which JSON can write, is no text. */
function text(json: unknown): string {
  if (typeof json !== "string" || !json.isWellFormed()) throw strange;
  return json;
}

function truth(json: unknown): boolean {
  if (typeof json !== "boolean") throw strange;
  return json;
}

function double(json: unknown): number {
  if (typeof json !== "number" || !Number.isFinite(json)) throw strange;
  return json;
}

/** A whole number of 32 bits. */
function whole(json: unknown): number {
  if (typeof json !== "number" || json !== (json | 0)) throw strange;
  return json;
}

/** A whole number of 64 bits, which is written as text; as a number too, where that is exact. */
function long(json: unknown): bigint {
  if (typeof json === "number" ? Number.isSafeInteger(json) : typeof json === "string" && /^(?:0|-?[1-9]\d{0,17})$/.test(json)) {
    return BigInt(json as number | string);
  }
  throw strange;
}
