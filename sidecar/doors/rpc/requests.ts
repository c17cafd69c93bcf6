/**
 * Reads request messages, as bytes or as JSON, and refuses what is not one in words that say where it is wrong.
 */
import { type DescField, type DescMessage, fromBinary, fromJson, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { Fault, FaultReason, type FieldViolation } from "../../../proto/fault.ts";
import {
  CreateChatCompletionRequestSchema,
  StreamChatCompletionRequestSchema,
} from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { validateEmbedding } from "../../../proto/validateEmbedding.ts";
import { ELEMENTS_MAX, jsonElementsWithin, protoElementsWithin, tooManyElements } from "../../framing/elements.ts";
import { decodeJson, isObject, JSON_DEPTH_MAX, JsonError, type JsonObject, parseObject } from "../../framing/json.ts";
import { askedFromJson } from "./chatJson.ts";
import { type Asked, readAsked } from "./chatReader.ts";

/** Messages within each other at most, in either form: deeper is no conversation, and whoever walks through them stays safe. */
export const messageDepthMax = JSON_DEPTH_MAX;

/** Reads the request of a chat method, as `readMessage` would: what is usual is read by hand, and only the rest by protobuf-es. */
export function readChat(bytes: Uint8Array, streaming: boolean, json: boolean): Asked {
  const schema = streaming ? StreamChatCompletionRequestSchema : CreateChatCompletionRequestSchema;
  if (!json) return readAsked(bytes) ?? readMessage(schema, bytes, false);
  if (!jsonElementsWithin(bytes, ELEMENTS_MAX)) throw tooManyElements();
  const parsed = parseJson(bytes);
  return askedFromJson(parsed) ?? readJson(schema, parsed);
}

/**
 * Reads one message. Throws `REQUEST_INVALID`, with the field's path where one is at fault, and `REQUEST_TOO_LARGE` for one that is made
 * of more than `ELEMENTS_MAX` pieces.
 */
export function readMessage<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array, json: boolean): MessageShape<Desc> {
  const bounded = json ? jsonElementsWithin(bytes, ELEMENTS_MAX) : protoElementsWithin<DescMessage>(bytes, schema, heldBy, ELEMENTS_MAX);
  if (!bounded) throw tooManyElements();
  return json ? readJson(schema, parseJson(bytes)) : readBinary(schema, bytes);
}

/** The conversation of a request, checked against the rules. Throws `REQUEST_INVALID` with the first fields that break them. */
export function checkedChat(chat: ChatRequest | undefined): ChatRequest {
  const violations = validateChat(chat, "chat");
  if (chat === undefined || violations.length > 0) throw broken(violations);
  return chat;
}

/** What vectors are asked of, checked in the same way. */
export function checkedEmbedding(embedding: EmbeddingRequest | undefined): EmbeddingRequest {
  const violations = validateEmbedding(embedding, "embedding");
  if (embedding === undefined || violations.length > 0) throw broken(violations);
  return embedding;
}

function readBinary<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes, binaryRead);
  } catch (caught) {
    // The reader's words say what is wrong with the bytes, and hold none of them.
    const what = caught instanceof Error ? caught.message : "it cannot be decoded";
    throw new Fault(FaultReason.REQUEST_INVALID, `The request is not a ${schema.typeName}: ${what.slice(0, 200)}.`);
  }
}

function parseJson(bytes: Uint8Array): JsonObject {
  try {
    return parseObject(decodeJson(bytes));
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `${caught.message} (at character ${caught.offset}).`);
  }
}

function readJson<Desc extends DescMessage>(schema: Desc, json: JsonObject): MessageShape<Desc> {
  try {
    return fromJson(schema, json as JsonValue, jsonRead);
  } catch {
    // The reader's own words may quote what the caller sent, and do not say where it stood.
    const found = whatIsWrong(schema, json, "");
    if (found === undefined) throw new Fault(FaultReason.REQUEST_INVALID, `The request is not the JSON of a ${schema.typeName}.`);
    throw broken([found]);
  }
}

// Fields of later versions are let pass, as protobuf has it, and not kept, since nothing is written back from them.
const binaryRead = Object.freeze({ recursionLimit: messageDepthMax, readUnknownFields: false });
const jsonRead = Object.freeze({ ignoreUnknownFields: false, recursionLimit: messageDepthMax });

/** The message that a field holds, in a list too. A map's entries hold scalars, and count as one field each. */
function heldBy(schema: DescMessage, number: number): DescMessage | undefined {
  const field = schema.fields.find((candidate) => candidate.number === number);
  return field?.fieldKind === "message" || (field?.fieldKind === "list" && field.listKind === "message") ? field.message : undefined;
}

function broken(violations: readonly FieldViolation[]): Fault {
  const [first] = violations;
  if (first === undefined) throw new Error("a request is refused for a reason");
  const more = violations.length === 1 ? "." : `, and ${violations.length - 1} more.`;
  return new Fault(FaultReason.REQUEST_INVALID, `${first.field} ${first.message}${more}`, { field: first.field, violations });
}

/** The first member, in the order of the text, that the schema has no place for; looked for only once reading has failed. */
function whatIsWrong(schema: DescMessage, json: JsonObject, at: string): FieldViolation | undefined {
  for (const [name, value] of Object.entries(json)) {
    const field = schema.fields.find((candidate) => candidate.jsonName === name || candidate.name === name);
    if (field === undefined) return { field: joined(at, shown(name)), message: `is not a field of ${schema.typeName}` };
    const found = wrongWithin(field, value, joined(at, field.name));
    if (found !== undefined) return found;
  }
  return undefined;
}

function wrongWithin(field: DescField, value: unknown, at: string): FieldViolation | undefined {
  if (field.fieldKind === "message" && isObject(value)) {
    const found = whatIsWrong(field.message, value, at);
    if (found !== undefined) return found;
  }
  if (field.fieldKind === "list" && field.listKind === "message" && Array.isArray(value)) {
    for (const [index, element] of value.entries()) {
      const place = `${at}[${index}]`;
      if (!isObject(element)) return { field: place, message: `must be an object, a ${field.message.typeName}` };
      const found = whatIsWrong(field.message, element, place);
      if (found !== undefined) return found;
    }
  }
  try {
    fromJson(field.parent, { [field.jsonName]: value } as JsonValue, jsonRead);
    return undefined;
  } catch {
    // Every member fits by itself, so it is the object that does not.
    if (field.fieldKind === "message" && isObject(value)) return { field: at, message: "has members that exclude each other" };
    return { field: at, message: `must be ${expected(field)}` };
  }
}

function expected(field: DescField): string {
  switch (field.fieldKind) {
    case "message":
      return `an object, a ${field.message.typeName}`;
    case "list":
      return "an array of values of its kind";
    case "map":
      return "an object with values of its kind";
    case "enum":
      return `the name of a value of ${field.enum.typeName}`;
    case "scalar":
      return `a value of the protobuf type ${scalarNames.get(field.scalar) ?? "given in the schema"}`;
  }
}

/** The names of protobuf's scalar types, by their numbers in `google.protobuf.FieldDescriptorProto.Type`. */
const scalarNames: ReadonlyMap<number, string> = new Map([
  [1, "double"],
  [3, "int64"],
  [5, "int32"],
  [8, "bool"],
  [9, "string"],
  [12, "bytes"],
  [13, "uint32"],
]);

function joined(at: string, name: string): string {
  return at === "" ? name : `${at}.${name}`;
}

/** A name that came from outside, so much of it that it can be recognised. */
function shown(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name) ? name : JSON.stringify(name.slice(0, 64));
}
