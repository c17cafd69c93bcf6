/**
 * Protobuf's binary form for those who write messages by hand: sizes first, so that the bytes are allocated once, then fields in the order
 * of their numbers (https://protobuf.dev/programming-guides/encoding).
 */
import type { Money, Usage } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { utf8Length, writeUtf8 } from "./utf8.ts";

/** Writes the fields of a usage, those that are there. */
export function writeUsage(bytes: Uint8Array, start: number, value: Usage): number {
  let position = start;
  if (value.inputTokens !== undefined) position = writeLong(bytes, position, 1, value.inputTokens);
  if (value.outputTokens !== undefined) position = writeLong(bytes, position, 2, value.outputTokens);
  if (value.totalTokens !== undefined) position = writeLong(bytes, position, 3, value.totalTokens);
  if (value.cachedInputTokens !== undefined) position = writeLong(bytes, position, 4, value.cachedInputTokens);
  if (value.cacheWriteTokens !== undefined) position = writeLong(bytes, position, 5, value.cacheWriteTokens);
  if (value.reasoningTokens !== undefined) position = writeLong(bytes, position, 6, value.reasoningTokens);
  return writeText(bytes, position, 7, value.nativeJson);
}

/** What `writeUsage` takes. */
export function usageSize(usage: Usage): number {
  return (
    optionalLongSize(usage.inputTokens) +
    optionalLongSize(usage.outputTokens) +
    optionalLongSize(usage.totalTokens) +
    optionalLongSize(usage.cachedInputTokens) +
    optionalLongSize(usage.cacheWriteTokens) +
    optionalLongSize(usage.reasoningTokens) +
    textSize(usage.nativeJson)
  );
}

/** Whether a usage can be written here. */
export function usageFits(usage: Usage): boolean {
  return (
    fits(usage.inputTokens) &&
    fits(usage.outputTokens) &&
    fits(usage.totalTokens) &&
    fits(usage.cachedInputTokens) &&
    fits(usage.cacheWriteTokens) &&
    fits(usage.reasoningTokens)
  );
}

/** Writes the fields of an amount of money. */
export function writeMoney(bytes: Uint8Array, start: number, money: Money): number {
  const position = writeText(bytes, start, 1, money.currency);
  return money.micros === 0n ? position : writeLong(bytes, position, 2, money.micros);
}

/** What `writeMoney` takes. */
export function moneySize(money: Money): number {
  return textSize(money.currency) + longSize(money.micros);
}

/** The wire types that occur here (https://protobuf.dev/programming-guides/encoding). */
const varint = 0;
export const lengthDelimited = 2;

/** A field's number and wire type; all numbers here are below 16, so that the tag is one byte. */
export function tag(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

/** Writes a text field, which is left out if it is empty. Returns where it ends, as all of these do. */
export function writeText(bytes: Uint8Array, start: number, field: number, text: string): number {
  if (text.length === 0) return start;
  const length = utf8Length(text);
  bytes[start] = tag(field, lengthDelimited);
  return writeUtf8(bytes, writeVarint(bytes, start + 1, length), text, length);
}

/** Writes a field with a number from 0 to 2^31, which is left out if it is 0. */
export function writeNumber(bytes: Uint8Array, start: number, field: number, value: number): number {
  if (value === 0) return start;
  bytes[start] = tag(field, varint);
  return writeVarint(bytes, start + 1, value);
}

/** Writes a field with a number that `fits`, also if it is 0. */
export function writeLong(bytes: Uint8Array, start: number, field: number, value: bigint): number {
  bytes[start] = tag(field, varint);
  return writeVarint(bytes, start + 1, Number(value));
}

/** Writes a whole number from 0 to 2^53. */
export function writeVarint(bytes: Uint8Array, start: number, value: number): number {
  let position = start;
  let rest = value;
  // Above 31 bits the shift operators no longer see the whole number.
  while (rest > 0x7fffffff) {
    bytes[position++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest > 0x7f) {
    bytes[position++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[position++] = rest;
  return position;
}

function varintSize(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  let size = 3;
  for (let rest = Math.floor(value / 0x20_0000); rest > 0; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Tag, length and content of a field of `length` bytes. */
export function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

/** What `writeText` takes. */
export function textSize(text: string): number {
  return text.length === 0 ? 0 : fieldSize(utf8Length(text));
}

/** What `writeNumber` takes. */
export function numberSize(value: number): number {
  return value === 0 ? 0 : 1 + varintSize(value);
}

/** What `writeLong` takes, or nothing for 0. */
export function longSize(value: bigint): number {
  return value === 0n ? 0 : optionalLongSize(value);
}

function optionalLongSize(value: bigint | undefined): number {
  return value === undefined ? 0 : 1 + varintSize(Number(value));
}

const safeMax = BigInt(Number.MAX_SAFE_INTEGER);

/** Whether a number can be written as a plain one without losing any of it. */
export function fits(value: bigint | undefined): boolean {
  return value === undefined || (value >= 0n && value <= safeMax);
}
