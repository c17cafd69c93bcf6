/**
 * Whether a text from outside is JSON that every reader reads in the same way.
 */
import {
  BACKSLASH,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  expectAt,
  JsonError,
  OPEN_BRACE,
  OPEN_BRACKET,
  QUOTE,
  readKey,
  seenAt,
  skipBlanks,
  skipString,
} from "./jsonText.ts";

/** Objects and arrays within each other at most: deeper is no conversation, and readers that recurse stay safe. */
export const JSON_DEPTH_MAX = 64;

/**
 * One pass over a text: nesting, member names and what stands between values. It has a stack of its own, so that depth is a number and
 * not the engine's stack. The inside of strings and the spelling of numbers are left to `JSON.parse`, unless the check is exact.
 */
export class JsonChecker {
  readonly #text: string;
  readonly #exact: boolean;
  /** Where each member name of all objects that are open begins and ends, in turn; the innermost object's come last. */
  readonly #names: number[] = [];
  /** Where each open object's names begin in `#names`; -1 for an array. */
  readonly #opened: number[] = [];
  /** How much of `#names` holds; what stands behind it belonged to objects that are closed. */
  #count = 0;
  /** The names of open objects that have many members, by depth; undefined until there is one. */
  #sets: Map<number, Set<string>> | undefined;
  /** Whether any member's name is written with escapes. */
  sawEscapedKey = false;

  constructor(text: string, exact: boolean) {
    this.#text = text;
    this.#exact = exact;
  }

  check(): void {
    const text = this.#text;
    const opened = this.#opened;
    let position = skipBlanks(text, 0);
    expectAt(text, position, OPEN_BRACE, "an object");
    for (;;) {
      // Here a value begins.
      const code = text.charCodeAt(position);
      if (code === OPEN_BRACE || code === OPEN_BRACKET) {
        if (opened.length === JSON_DEPTH_MAX) throw new JsonError(`Nested deeper than ${JSON_DEPTH_MAX} levels`, position);
        const isArray = code === OPEN_BRACKET;
        opened.push(isArray ? -1 : this.#count);
        position = skipBlanks(text, position + 1);
        if (text.charCodeAt(position) !== (isArray ? CLOSE_BRACKET : CLOSE_BRACE)) {
          if (!isArray) position = this.#key(position);
          continue;
        }
        this.#close();
        position++;
      } else if (code === QUOTE) {
        position = this.#exact ? skipStringExactly(text, position) : skipString(text, position);
      } else {
        position = this.#exact ? skipWordExactly(text, position) : skipWord(text, position);
      }
      // Here a value has ended: close what ends with it, then go on behind a comma.
      for (;;) {
        position = skipBlanks(text, position);
        const inside = opened.at(-1);
        if (inside === undefined) {
          if (position < text.length) throw new JsonError(`Expected the end of the text and saw ${seenAt(text, position)}`, position);
          return;
        }
        const next = text.charCodeAt(position);
        if (next === COMMA) {
          position = skipBlanks(text, position + 1);
          if (inside !== -1) position = this.#key(position);
          break;
        }
        expectAt(text, position, inside === -1 ? CLOSE_BRACKET : CLOSE_BRACE, inside === -1 ? "a comma or ]" : "a comma or }");
        this.#close();
        position++;
      }
    }
  }

  /** A member's name and colon; returns where its value begins. */
  #key(start: number): number {
    const text = this.#text;
    let end = this.#exact ? -1 : shortNameEnd(text, start);
    if (end === -1) {
      end = this.#exact ? skipStringExactly(text, start) : skipString(text, start);
      if (text.slice(start, end).includes("\\")) this.sawEscapedKey = true;
    }
    this.#remember(start, end);
    const colon = skipBlanks(text, end);
    expectAt(text, colon, COLON, "a colon");
    return skipBlanks(text, colon + 1);
  }

  #remember(start: number, end: number): void {
    const names = this.#names;
    const depth = this.#opened.length;
    const first = this.#opened[depth - 1] ?? 0;
    const count = this.#count;
    const set = this.#sets?.get(depth);
    if (set !== undefined) {
      const name = readKey(this.#text, start, end);
      if (set.has(name)) throw twice(start);
      set.add(name);
    } else {
      for (let at = first; at < count; at += 2) {
        if (this.#isSame(names[at] as number, names[at + 1] as number, start, end)) throw twice(start);
      }
      // Comparing few names one by one is faster than a set; with many it would be quadratic.
      if (count - first === 2 * MEMBERS_COMPARED_MAX) {
        this.#sets ??= new Map();
        this.#sets.set(depth, this.#setFrom(first).add(readKey(this.#text, start, end)));
      }
    }
    names[count] = start;
    names[count + 1] = end;
    this.#count = count + 2;
  }

  /** Whether two names are the same. Without escapes they are where their characters are, so that no text is made of them. */
  #isSame(start: number, end: number, otherStart: number, otherEnd: number): boolean {
    const text = this.#text;
    if (this.sawEscapedKey) return readKey(text, start, end) === readKey(text, otherStart, otherEnd);
    if (end - start !== otherEnd - otherStart) return false;
    for (let at = start + 1, other = otherStart + 1; at < end; at++, other++) {
      if (text.charCodeAt(at) !== text.charCodeAt(other)) return false;
    }
    return true;
  }

  #setFrom(first: number): Set<string> {
    const set = new Set<string>();
    for (let at = first; at < this.#count; at += 2) {
      set.add(readKey(this.#text, this.#names[at] as number, this.#names[at + 1] as number));
    }
    return set;
  }

  #close(): void {
    this.#sets?.delete(this.#opened.length);
    const first = this.#opened.pop() ?? -1;
    if (first !== -1) this.#count = first;
  }
}

/** Up to here names are compared one by one: below, that is faster than making a set. */
export const MEMBERS_COMPARED_MAX = 16;

function twice(offset: number): JsonError {
  return new JsonError("An object has two members of the same name", offset);
}

/** Behind a name that is short and has no escapes, or -1: to look at each of few characters costs less than to search for the last. */
function shortNameEnd(text: string, start: number): number {
  if (text.charCodeAt(start) !== QUOTE) return -1;
  for (let position = start + 1; position < start + NAME_UNITS_MAX; position++) {
    const code = text.charCodeAt(position);
    if (code === QUOTE) return position + 1;
    if (code === BACKSLASH) return -1;
  }
  return -1;
}

const NAME_UNITS_MAX = 32; // longer than the names of any dialect; beyond it a search for the quote is faster

/** Behind a number or a word, which `JSON.parse` looks at more closely. */
function skipWord(text: string, from: number): number {
  let position = from;
  for (;;) {
    const code = text.charCodeAt(position);
    const isPart =
      (code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39) || code === 0x2d || code === 0x2b || code === 0x2e || code === 0x45;
    if (!isPart) break;
    position++;
  }
  if (position === from) throw new JsonError(`Expected a value and saw ${seenAt(text, from)}`, from);
  return position;
}

/** RFC 8259 section 6, and the three words of section 3. */
const word = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

function skipWordExactly(text: string, from: number): number {
  word.lastIndex = from;
  if (!word.test(text)) throw new JsonError(`Expected a value and saw ${seenAt(text, from)}`, from);
  return word.lastIndex;
}

/** RFC 8259 section 7: one piece of a string that is one character. */
const escapePiece = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

function skipStringExactly(text: string, from: number): number {
  expectAt(text, from, QUOTE, "a string");
  for (let position = from + 1; position < text.length; ) {
    const code = text.charCodeAt(position);
    if (code === QUOTE) return position + 1;
    if (code < 0x20) throw new JsonError(`A string holds ${seenAt(text, position)}, which must be escaped`, position);
    if (code !== BACKSLASH) {
      position++;
      continue;
    }
    escapePiece.lastIndex = position;
    if (!escapePiece.test(text)) throw new JsonError("Expected a string and saw a broken escape", position);
    position = escapePiece.lastIndex;
  }
  throw new JsonError("The string that begins here does not end", from);
}
