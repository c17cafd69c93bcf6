/**
 * Reads request messages, as bytes or as JSON, and refuses what is not one in words that say where it is wrong.
 */
import { type DescMessage, fromBinary, fromJson, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { Fault, FaultReason, type FieldViolation } from "../../../proto/fault.ts";
import {
  CreateChatCompletionRequestSchema,
  StreamChatCompletionRequestSchema,
} from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { validateEmbedding } from "../../../proto/validateEmbedding.ts";
import { wrongJson } from "../../../proto/wrongJson.ts";
import { ELEMENTS_MAX, jsonElementsWithin, protoElementsWithin, tooManyElements } from "../../framing/elements.ts";
import { decodeJson, JSON_DEPTH_MAX, JsonError, type JsonObject, parseObject } from "../../framing/json.ts";
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
    const found = wrongJson(schema, json, messageDepthMax);
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
