/**
 * Batches of events as the bytes of a `StreamChatCompletionResponse`, straight-line.
 *
 * The events that make up nearly all of every stream are written by hand, in two passes: one that adds up sizes, one that writes.
 * Events that are rare are left to protobuf-es. What comes out decodes to the same message, which a property test holds to.
 */
import { toBinary } from "@bufbuild/protobuf";
import {
  type ChatEnd,
  type ChatEvent,
  ChatEventSchema,
  type ChatStart,
  type ChoiceFinish,
  type ReasoningDelta,
  type RefusalDelta,
  type TextDelta,
  type ToolCallDelta,
} from "./gen/outrigger/chat/v1/events_pb.ts";
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

/** Makes the bytes that an encoding is written to. */
export type Allocate = (length: number) => Uint8Array;

/**
 * Encodes a batch as one `StreamChatCompletionResponse`, behind `headroom` bytes that are left for the caller to fill. `allocate` need
 * not clear the bytes that it gives.
 */
export function encodeEvents(events: readonly ChatEvent[], headroom: number, allocate: Allocate): Uint8Array {
  if (events.length === 1) {
    // The commonest batch by far; it needs no list of sizes.
    const event = events[0] as ChatEvent;
    const strange = byHand(event) ? undefined : toBinary(ChatEventSchema, event);
    const inner = strange === undefined ? eventSize(event) : 0;
    const outer = strange === undefined ? fieldSize(inner) : strange.byteLength;
    const bytes = allocate(headroom + fieldSize(outer));
    writeEvent(bytes, headroom, event, strange, inner, outer);
    return bytes;
  }
  const sizes = new Array<number>(events.length);
  const strangers = new Array<Uint8Array | undefined>(events.length);
  let total = headroom;
  for (let index = 0; index < events.length; index++) {
    const event = events[index] as ChatEvent;
    const strange = byHand(event) ? undefined : toBinary(ChatEventSchema, event);
    const inner = strange === undefined ? eventSize(event) : 0;
    strangers[index] = strange;
    sizes[index] = inner;
    total += fieldSize(strange === undefined ? fieldSize(inner) : strange.byteLength);
  }
  const bytes = allocate(total);
  let position = headroom;
  for (let index = 0; index < events.length; index++) {
    const strange = strangers[index];
    const inner = sizes[index] as number;
    const outer = strange === undefined ? fieldSize(inner) : strange.byteLength;
    position = writeEvent(bytes, position, events[index] as ChatEvent, strange, inner, outer);
  }
  return bytes;
}

/** Writes one event of the batch: field 1 of the response, which holds the event, which holds what happened. */
function writeEvent(
  bytes: Uint8Array,
  start: number,
  { event }: ChatEvent,
  strange: Uint8Array | undefined,
  inner: number,
  outer: number,
): number {
  bytes[start] = tag(1, lengthDelimited);
  let position = writeVarint(bytes, start + 1, outer);
  if (strange !== undefined) {
    bytes.set(strange, position);
    return position + outer;
  }
  switch (event.case) {
    case "start":
      bytes[position] = tag(1, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeStart(bytes, position, event.value);
    case "text":
      bytes[position] = tag(2, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeTextDelta(bytes, position, event.value);
    case "reasoning":
      bytes[position] = tag(3, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeReasoning(bytes, position, event.value);
    case "refusal":
      bytes[position] = tag(4, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeTextDelta(bytes, position, event.value);
    case "toolCall":
      bytes[position] = tag(5, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeToolCall(bytes, position, event.value);
    case "finish":
      bytes[position] = tag(8, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeFinish(bytes, position, event.value);
    case "usage":
      bytes[position] = tag(9, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeUsage(bytes, position, event.value);
    case "heartbeat":
      bytes[position] = tag(11, lengthDelimited);
      return writeVarint(bytes, position + 1, 0);
    case "end":
      bytes[position] = tag(14, lengthDelimited);
      position = writeVarint(bytes, position + 1, inner);
      return writeEnd(bytes, position, event.value);
    default:
      throw new Error(`an event of kind ${event.case} is not written by hand`);
  }
}

/** Whether the event is one of those written here. Negative numbers, which none of ours are, take ten bytes and are left to the library. */
function byHand({ event }: ChatEvent): boolean {
  switch (event.case) {
    case "text":
    case "refusal":
      return event.value.choice >= 0;
    case "reasoning":
      return event.value.choice >= 0 && event.value.block >= 0;
    case "toolCall":
      return event.value.choice >= 0 && event.value.index >= 0;
    case "finish":
      return event.value.choice >= 0 && event.value.reason >= 0;
    case "start":
      return fits(event.value.created);
    case "usage":
      return usageFits(event.value);
    case "end":
      return event.value.cost === undefined || fits(event.value.cost.micros);
    case "heartbeat":
      return true;
    default:
      return false;
  }
}

/** The size of what happened, without its own tag and length. */
function eventSize({ event }: ChatEvent): number {
  switch (event.case) {
    case "start": {
      const { id, model, created, route, provider } = event.value;
      return textSize(id) + textSize(model) + longSize(created) + textSize(route) + textSize(provider);
    }
    case "text":
    case "refusal":
      return numberSize(event.value.choice) + textSize(event.value.text);
    case "reasoning": {
      const { choice, block, text, signature, redacted, dialect } = event.value;
      return numberSize(choice) + numberSize(block) + textSize(text) + textSize(signature) + textSize(redacted) + textSize(dialect);
    }
    case "toolCall": {
      const { choice, index, id, name, argumentsJson } = event.value;
      return numberSize(choice) + numberSize(index) + textSize(id) + textSize(name) + textSize(argumentsJson);
    }
    case "finish": {
      const { choice, reason, nativeReason, stopSequence, detail } = event.value;
      return numberSize(choice) + numberSize(reason) + textSize(nativeReason) + textSize(stopSequence) + textSize(detail);
    }
    case "usage":
      return usageSize(event.value);
    case "end":
      return event.value.cost === undefined ? 0 : fieldSize(moneySize(event.value.cost));
    default:
      return 0;
  }
}

// Each function below writes the fields of one message in the order of their numbers, leaving out those that have their default, as
// proto3 does; fields that are `optional` are left out only where they are absent.

function writeStart(bytes: Uint8Array, start: number, value: ChatStart): number {
  let position = writeText(bytes, start, 1, value.id);
  position = writeText(bytes, position, 2, value.model);
  if (value.created !== 0n) position = writeLong(bytes, position, 3, value.created);
  position = writeText(bytes, position, 4, value.route);
  return writeText(bytes, position, 5, value.provider);
}

function writeTextDelta(bytes: Uint8Array, start: number, value: TextDelta | RefusalDelta): number {
  return writeText(bytes, writeNumber(bytes, start, 1, value.choice), 2, value.text);
}

function writeReasoning(bytes: Uint8Array, start: number, value: ReasoningDelta): number {
  let position = writeNumber(bytes, start, 1, value.choice);
  position = writeNumber(bytes, position, 2, value.block);
  position = writeText(bytes, position, 3, value.text);
  position = writeText(bytes, position, 4, value.signature);
  position = writeText(bytes, position, 5, value.redacted);
  return writeText(bytes, position, 6, value.dialect);
}

function writeToolCall(bytes: Uint8Array, start: number, value: ToolCallDelta): number {
  let position = writeNumber(bytes, start, 1, value.choice);
  position = writeNumber(bytes, position, 2, value.index);
  position = writeText(bytes, position, 3, value.id);
  position = writeText(bytes, position, 4, value.name);
  return writeText(bytes, position, 5, value.argumentsJson);
}

function writeFinish(bytes: Uint8Array, start: number, value: ChoiceFinish): number {
  let position = writeNumber(bytes, start, 1, value.choice);
  position = writeNumber(bytes, position, 2, value.reason);
  position = writeText(bytes, position, 3, value.nativeReason);
  position = writeText(bytes, position, 4, value.stopSequence);
  return writeText(bytes, position, 5, value.detail);
}

function writeEnd(bytes: Uint8Array, start: number, { cost }: ChatEnd): number {
  if (cost === undefined) return start;
  bytes[start] = tag(1, lengthDelimited);
  return writeMoney(bytes, writeVarint(bytes, start + 1, moneySize(cost)), cost);
}
