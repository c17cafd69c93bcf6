/**
 * How much a body is made of, before anything is made of it.
 *
 * A decoder spends a hundred bytes and more on an empty object that took two to send, so that a body within its limit of bytes can ask
 * for a gigabyte of memory and seconds of work. Counting first costs a pass over large bodies only: a small one cannot hold many.
 */
import { Fault, FaultReason } from "../../proto/fault.ts";

/** Values, members and fields of one request at most. A conversation of 16,384 messages has about 100,000; these take about 60 MB. */
export const ELEMENTS_MAX = 262_144;

/** Whether JSON holds at most `max` values. What is not JSON may be counted wrongly; its reader refuses it anyway. */
export function jsonElementsWithin(json: Uint8Array, max: number): boolean {
  // Each but the first takes a comma or a bracket, and at least one byte of its own.
  if (json.byteLength <= 2 * max) return true;
  let count = 1;
  let within = false;
  for (let index = 0; index < json.byteLength; index++) {
    const byte = json[index];
    if (within) {
      if (byte === backslash) index++;
      else if (byte === quote) within = false;
    } else if (byte === quote) within = true;
    else if ((byte === comma || byte === brace || byte === bracket) && ++count > max) return false;
  }
  return true;
}

/**
 * Whether a protobuf message holds at most `max` fields, those of the messages in it included. `within` says which fields hold messages:
 * for the number of a field of a message of kind `kind`, the kind of message that it holds, or undefined for anything else. Bytes that
 * are no message may be counted wrongly; their reader refuses them anyway.
 */
export function protoElementsWithin<Kind>(
  message: Uint8Array,
  kind: Kind,
  within: (kind: Kind, field: number) => Kind | undefined,
  max: number,
): boolean {
  // A field takes at least a byte for its tag and one for its value.
  if (message.byteLength <= 2 * max) return true;
  let left = max;
  // A stack of its own: how deep messages lie within each other is for their reader to refuse.
  const ends = [message.byteLength];
  const kinds = [kind];
  let position = 0;
  for (;;) {
    while (ends.length > 0 && position >= (ends.at(-1) ?? 0)) {
      ends.pop();
      kinds.pop();
    }
    const inside = kinds.at(-1);
    if (inside === undefined) return true;
    if (left-- === 0) return false;
    const tag = readVarint(message, position);
    position = tag.end;
    if (tag.value % 8 === lengthDelimited) {
      const length = readVarint(message, position);
      position = length.end;
      const held = within(inside, Math.floor(tag.value / 8));
      if (held === undefined) position += length.value;
      else {
        ends.push(position + length.value);
        kinds.push(held);
      }
    } else position += fixedSize(message, position, tag.value % 8);
  }
}

/** The fault for a request that is made of more. */
export function tooManyElements(): Fault {
  const message = `The request is made of more than ${ELEMENTS_MAX} fields and values, which is the most that is read.`;
  return new Fault(FaultReason.REQUEST_TOO_LARGE, message, { facts: { elements_max: String(ELEMENTS_MAX) } });
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const brace = 0x7b;
const bracket = 0x5b;
const lengthDelimited = 2;

/** The size of a value that does not say its length: a varint, eight bytes, four, or nothing at the ends of a group. */
function fixedSize(message: Uint8Array, position: number, wireType: number): number {
  if (wireType === 0) return readVarint(message, position).end - position;
  return wireType === 1 ? 8 : wireType === 5 ? 4 : 0;
}

function readVarint(message: Uint8Array, start: number): { readonly value: number; readonly end: number } {
  let value = 0;
  let scale = 1;
  let position = start;
  for (;;) {
    const byte = message[position++];
    if (byte === undefined) return { value, end: position };
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: position };
    scale *= 128;
  }
}
