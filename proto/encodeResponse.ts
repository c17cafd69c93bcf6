/**
 * A whole answer as the bytes of a `CreateChatCompletionResponse`, straight-line: what nearly every unary call returns.
 *
 * Answers of text alone are written by hand; whatever else one can hold is left to protobuf-es. What comes out is the same, byte for byte,
 * which a property test holds to.
 */
import { toBinary } from "@bufbuild/protobuf";
import type { Allocate } from "./encodeEvents.ts";
import { CreateChatCompletionResponseSchema } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { Message } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatChoice, ChatResponse } from "./gen/outrigger/chat/v1/events_pb.ts";
import {
  fieldSize,
  fits,
  lengthDelimited,
  longSize,
  moneySize,
  numberSize,
  tag,
  textSize,
  usageFits,
  usageSize,
  writeLong,
  writeMoney,
  writeNumber,
  writeText,
  writeUsage,
  writeVarint,
} from "./protobufFields.ts";
import { utf8Length, writeUtf8 } from "./utf8.ts";

/**
 * Encodes an answer behind `headroom` bytes that are left for the caller to fill. `allocate` need not clear the bytes that it gives.
 */
export function encodeResponse(chat: ChatResponse, headroom: number, allocate: Allocate): Uint8Array {
  if (!isPlain(chat)) {
    const encoded = toBinary(CreateChatCompletionResponseSchema, { $typeName: CreateChatCompletionResponseSchema.typeName, chat });
    const bytes = allocate(headroom + encoded.byteLength);
    bytes.set(encoded, headroom);
    return bytes;
  }
  const { id, model, created, route, provider, choices, usage, cost } = chat;
  // How long the texts of all parts are, in their order: they are what is long, so each is looked through once.
  const lengths: number[] = [];
  for (const { message } of choices) {
    if (message === undefined) continue;
    for (const { content } of message.parts) if (content.case === "text") lengths.push(utf8Length(content.value.text));
  }
  const usageBytes = usage === undefined ? 0 : usageSize(usage);
  const costBytes = cost === undefined ? 0 : moneySize(cost);
  let inner = textSize(id) + textSize(model) + longSize(created) + textSize(route) + textSize(provider);
  let part = 0;
  for (const choice of choices) {
    inner += fieldSize(choiceSize(choice, lengths, part));
    part += choice.message?.parts.length ?? 0;
  }
  if (usage !== undefined) inner += fieldSize(usageBytes);
  if (cost !== undefined) inner += fieldSize(costBytes);

  const bytes = allocate(headroom + fieldSize(inner));
  bytes[headroom] = tag(1, lengthDelimited);
  let position = writeVarint(bytes, headroom + 1, inner);
  position = writeText(bytes, position, 1, id);
  position = writeText(bytes, position, 2, model);
  if (created !== 0n) position = writeLong(bytes, position, 3, created);
  position = writeText(bytes, position, 4, route);
  position = writeText(bytes, position, 5, provider);
  part = 0;
  for (const choice of choices) {
    bytes[position] = tag(6, lengthDelimited);
    position = writeChoice(bytes, writeVarint(bytes, position + 1, choiceSize(choice, lengths, part)), choice, lengths, part);
    part += choice.message?.parts.length ?? 0;
  }
  if (usage !== undefined) {
    bytes[position] = tag(7, lengthDelimited);
    position = writeUsage(bytes, writeVarint(bytes, position + 1, usageBytes), usage);
  }
  if (cost !== undefined) {
    bytes[position] = tag(10, lengthDelimited);
    position = writeMoney(bytes, writeVarint(bytes, position + 1, costBytes), cost);
  }
  return bytes;
}

/** Whether all of an answer can be written here. Negative numbers, which none of ours are, take ten bytes and are left to the library. */
function isPlain({ created, choices, usage, warnings, decisions, cost, $unknown }: ChatResponse): boolean {
  if (warnings.length > 0 || decisions.length > 0 || $unknown !== undefined || !fits(created)) return false;
  if ((usage !== undefined && !usageFits(usage)) || (cost !== undefined && !fits(cost.micros))) return false;
  for (const { index, finishReason, citations, logprobs, message } of choices) {
    if (index < 0 || finishReason < 0 || citations.length > 0 || logprobs !== undefined) return false;
    if (message === undefined || message.role < 0) return false;
    for (const { content, cache } of message.parts) if (content.case !== "text" || cache !== undefined) return false;
  }
  return true;
}

// Of the lengths of all texts, those of a choice begin at `from`.

function choiceSize(choice: ChatChoice, lengths: readonly number[], from: number): number {
  const { index, message, finishReason, nativeFinishReason, stopSequence, finishDetail } = choice;
  return (
    numberSize(index) +
    (message === undefined ? 0 : fieldSize(messageSize(message, lengths, from))) +
    numberSize(finishReason) +
    textSize(nativeFinishReason) +
    textSize(stopSequence) +
    textSize(finishDetail)
  );
}

function writeChoice(bytes: Uint8Array, start: number, choice: ChatChoice, lengths: readonly number[], from: number): number {
  const { index, message, finishReason, nativeFinishReason, stopSequence, finishDetail } = choice;
  let position = writeNumber(bytes, start, 1, index);
  if (message !== undefined) {
    bytes[position] = tag(2, lengthDelimited);
    position = writeVarint(bytes, position + 1, messageSize(message, lengths, from));
    position = writeMessage(bytes, position, message, lengths, from);
  }
  position = writeNumber(bytes, position, 3, finishReason);
  position = writeText(bytes, position, 4, nativeFinishReason);
  position = writeText(bytes, position, 5, stopSequence);
  return writeText(bytes, position, 6, finishDetail);
}

function messageSize({ role, parts, name }: Message, lengths: readonly number[], from: number): number {
  let size = numberSize(role) + textSize(name);
  // A part holds a text, which holds the characters.
  for (let index = 0; index < parts.length; index++) size += fieldSize(fieldSize(sizedText(lengths[from + index])));
  return size;
}

function writeMessage(bytes: Uint8Array, start: number, { role, parts, name }: Message, lengths: readonly number[], from: number): number {
  let position = writeNumber(bytes, start, 1, role);
  for (let index = 0; index < parts.length; index++) {
    const content = parts[index]?.content;
    if (content?.case !== "text") continue;
    const length = lengths[from + index] ?? 0;
    const inner = sizedText(length);
    bytes[position] = tag(2, lengthDelimited);
    position = writeVarint(bytes, position + 1, fieldSize(inner));
    bytes[position] = tag(1, lengthDelimited);
    position = writeVarint(bytes, position + 1, inner);
    if (length === 0) continue;
    bytes[position] = tag(1, lengthDelimited);
    position = writeUtf8(bytes, writeVarint(bytes, position + 1, length), content.value.text, length);
  }
  return writeText(bytes, position, 3, name);
}

/** What a text of this length takes, as `textSize` says it. */
function sizedText(length = 0): number {
  return length === 0 ? 0 : fieldSize(length);
}
