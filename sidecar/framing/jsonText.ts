/**
 * The text of JSON by position (RFC 8259): where what begins somewhere ends, and what is said of text that is none.
 */

/** Text that is not what it should be. `offset` counts UTF-16 units of the text; the message is safe to show. */
export class JsonError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = "JsonError";
    this.offset = offset;
  }
}

/** Behind the blanks that begin at `from`, or `from` itself. */
export function skipBlanks(text: string, from: number): number {
  let position = from;
  for (;;) {
    const code = text.charCodeAt(position);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return position;
    position++;
  }
}

/** Behind the closing quote of the string that begins at `from`. Jumps from quote to quote, so long strings cost little. */
export function skipString(text: string, from: number): number {
  expectAt(text, from, QUOTE, "a string");
  for (let position = from + 1; ; position++) {
    position = text.indexOf('"', position);
    if (position === -1) throw new JsonError("The string that begins here does not end", from);
    let slashes = position;
    while (text.charCodeAt(slashes - 1) === BACKSLASH) slashes--;
    // An even number of backslashes before a quote escape each other and not the quote.
    if ((position - slashes) % 2 === 0) return position + 1;
  }
}

/** Behind the value that begins at `from`. */
export function skipValue(text: string, from: number): number {
  let depth = 0;
  let position = from;
  while (position < text.length) {
    switch (text.charCodeAt(position)) {
      case QUOTE:
        position = skipString(text, position);
        if (depth === 0) return position;
        continue;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        depth++;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--;
        if (depth === 0) return position + 1;
        if (depth < 0) return position;
        break;
      case COMMA:
      case 0x20:
      case 0x0a:
      case 0x0d:
      case 0x09:
        if (depth === 0) return position;
        break;
      default:
        break;
    }
    position++;
  }
  if (depth > 0) throw new JsonError("The value that begins here does not end", from);
  return position;
}

/** The name that stands between two places, quotes included. */
export function readKey(text: string, start: number, end: number): string {
  const inner = text.slice(start + 1, end - 1);
  return inner.includes("\\") ? parseString(text.slice(start, end), start) : inner;
}

function parseString(literal: string, offset: number): string {
  try {
    return JSON.parse(literal) as string;
  } catch {
    throw new JsonError("Expected a string and saw a broken escape", offset);
  }
}

/** Throws a `JsonError` unless that character stands there; `what` says what was expected. */
export function expectAt(text: string, position: number, code: number, what: string): void {
  if (text.charCodeAt(position) !== code) throw new JsonError(`Expected ${what} and saw ${seenAt(text, position)}`, position);
}

/** What stands at a position, for a message: one character, or the text's end. */
export function seenAt(text: string, position: number): string {
  const point = text.codePointAt(position);
  if (point === undefined) return "the end of the text";
  if (point < 0x20 || (point >= 0x7f && point < 0xa0))
    return `the control character U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
  return `"${String.fromCodePoint(point)}"`;
}

// Characters that structure a text, as UTF-16 units.
export const QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;
export const OPEN_BRACKET = 0x5b;
export const CLOSE_BRACKET = 0x5d;
export const COLON = 0x3a;
export const COMMA = 0x2c;
