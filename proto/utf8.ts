/**
 * Text as UTF-8, for codecs that write straight into their own bytes.
 */

/** How many bytes a text takes. A surrogate that stands alone counts as the replacement character, which is what is written for it. */
export function utf8Length(text: string): number {
  return text.length <= countedByHandMax ? countedByHand(text) : countedNatively(text);
}

function countedByHand(text: string): number {
  let length = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    if (unit < 0x800) {
      length += 1;
      continue;
    }
    length += 2;
    if (unit < 0xd800 || unit >= 0xdc00) continue;
    const next = text.charCodeAt(index + 1);
    // A pair is four bytes together, which its two units and the two added above make.
    if (next >= 0xdc00 && next < 0xe000) index++;
  }
  return length;
}

/** Writes a text of `length` bytes, as `utf8Length` counts them, and returns the position behind it. */
export function writeUtf8(target: Uint8Array, position: number, text: string, length: number): number {
  const end = position + length;
  if (length === text.length && length <= byHandMax) {
    for (let index = 0; index < length; index++) target[position + index] = text.charCodeAt(index);
  } else {
    encoder.encodeInto(text, target.subarray(position, end));
  }
  return end;
}

const countedByHandMax = 16; // calling the native count takes as long as this loop
const byHandMax = 64; // beyond this the encoder's native loop repays the cost of calling it
// Browsers, where clients of ours run too, have no such function.
const countedNatively: (text: string) => number = typeof Buffer === "undefined" ? countedByHand : Buffer.byteLength;
const encoder = new TextEncoder();
