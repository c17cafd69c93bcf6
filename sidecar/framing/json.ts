/**
 * JSON by position, so that tool schemas, tool arguments, number text and members that nobody models travel byte for byte.
 *
 * Reading: `decodeJson` makes text of bytes, `parseObject` checks it and makes a value of it, and a `JsonPlace` finds the exact text
 * of any part of that value, when someone asks. Editing: `spliceMember` replaces or adds one member and leaves every other byte
 * alone. Writing: `stringify` writes a value in which `RawJson` stands for text that is JSON already.
 *
 * `__proto__` is a key like any other: values come from `JSON.parse`, which makes own members of it, and nothing here assigns to a
 * member whose name came from outside.
 */
import { JSON_DEPTH_MAX, JsonChecker, MEMBERS_COMPARED_MAX } from "./jsonChecker.ts";
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
  skipBlanks,
  skipString,
  skipValue,
} from "./jsonText.ts";

export { JSON_DEPTH_MAX, JsonError };

/** What `JSON.parse` makes of an object. */
export type JsonObject = { readonly [key: string]: unknown };

/** Bytes to text. Throws a `JsonError` if they are not UTF-8 (RFC 8259 section 8.1); a byte order mark is left out. */
export function decodeJson(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes);
  } catch {
    throw new JsonError("The body is not valid UTF-8", 0);
  }
}

/**
 * Makes a value of text that comes from outside: JSON as RFC 8259 has it, an object at its top, at most `JSON_DEPTH_MAX` deep, and no
 * object with two members of one name, since two readers could take different ones. Throws a `JsonError` that says where and what.
 */
export function parseObject(text: string): JsonObject {
  // First, because it bounds the depth of what is then built.
  const checker = new JsonChecker(text, false);
  checker.check();
  try {
    return checker.sawEscapedKey ? buildObject(text) : (JSON.parse(text) as JsonObject);
  } catch {
    // The engine's message does not always say where, so the place is looked for once more, byte by byte.
    checkJson(text);
    throw new JsonError("The body is not JSON", 0);
  }
}

/**
 * Checks text in the way of `parseObject` without making a value of it: slower than that, since it looks at every character itself.
 */
export function checkJson(text: string): void {
  new JsonChecker(text, true).check();
}

/** Whether a value is what JSON calls an object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A member of an object by position. Offsets are of the whole text. */
export interface MemberSpan {
  readonly key: string;
  /** Where the key's opening quote stands. */
  readonly keyStart: number;
  readonly valueStart: number;
  /** Where the value ends, blanks behind it not counted. */
  readonly valueEnd: number;
}

/** An element of an array by position. */
export interface ElementSpan {
  readonly start: number;
  readonly end: number;
}

/** The members of the object that begins at `offset`, blanks before it allowed, in their order. The text must be valid JSON. */
export function memberSpans(text: string, offset = 0): MemberSpan[] {
  const spans: MemberSpan[] = [];
  let position = skipBlanks(text, offset);
  expectAt(text, position, OPEN_BRACE, "an object");
  position = skipBlanks(text, position + 1);
  while (text.charCodeAt(position) !== CLOSE_BRACE) {
    const keyStart = position;
    const keyEnd = skipString(text, keyStart);
    position = skipBlanks(text, keyEnd);
    expectAt(text, position, COLON, "a colon");
    const valueStart = skipBlanks(text, position + 1);
    const valueEnd = skipValue(text, valueStart);
    spans.push({ key: readKey(text, keyStart, keyEnd), keyStart, valueStart, valueEnd });
    position = skipBlanks(text, valueEnd);
    if (text.charCodeAt(position) === COMMA) position = skipBlanks(text, position + 1);
    else expectAt(text, position, CLOSE_BRACE, "a comma or the object's end");
  }
  return spans;
}

/** The elements of the array that begins at `offset`, blanks before it allowed. The text must be valid JSON. */
export function elementSpans(text: string, offset = 0): ElementSpan[] {
  const spans: ElementSpan[] = [];
  let position = skipBlanks(text, offset);
  expectAt(text, position, OPEN_BRACKET, "an array");
  position = skipBlanks(text, position + 1);
  while (text.charCodeAt(position) !== CLOSE_BRACKET) {
    const end = skipValue(text, position);
    spans.push({ start: position, end });
    position = skipBlanks(text, end);
    if (text.charCodeAt(position) === COMMA) position = skipBlanks(text, position + 1);
    else expectAt(text, position, CLOSE_BRACKET, "a comma or the array's end");
  }
  return spans;
}

/**
 * A place in a JSON text: it can name its path, such as `messages[2].content`, and give its exact text. Making one costs nothing but
 * itself; the text is searched when someone asks, once for each object and array on the way.
 */
export class JsonPlace {
  readonly #text: string;
  readonly #parent: JsonPlace | undefined;
  readonly #step: string | number;
  #members: readonly MemberSpan[] | undefined;
  /** The members by their names, where they are many. */
  #byName: ReadonlyMap<string, MemberSpan> | undefined;
  #elements: ElementSpan[] | undefined;

  private constructor(text: string, parent: JsonPlace | undefined, step: string | number) {
    this.#text = text;
    this.#parent = parent;
    this.#step = step;
  }

  /** The whole of a text that is valid JSON. */
  static root(text: string): JsonPlace {
    return new JsonPlace(text, undefined, "");
  }

  /** A member of the object here. */
  member(key: string): JsonPlace {
    return new JsonPlace(this.#text, this, key);
  }

  /** An element of the array here. */
  element(index: number): JsonPlace {
    return new JsonPlace(this.#text, this, index);
  }

  /** The path from the top, empty for the top itself. */
  get path(): string {
    if (this.#parent === undefined) return "";
    const above = this.#parent.path;
    const step = this.#step;
    if (typeof step === "number") return `${above}[${step}]`;
    // A name that would read as more than one step is quoted.
    if (step === "" || /[.[\]"]/.test(step)) return `${above}[${JSON.stringify(step)}]`;
    return above === "" ? step : `${above}.${step}`;
  }

  /** The value's exact text. Throws a `JsonError` if there is nothing here. */
  json(): string {
    const { start, end } = this.span();
    return this.#text.slice(start, end);
  }

  /** Where the value stands. Throws a `JsonError` if there is nothing here. */
  span(): ElementSpan {
    const parent = this.#parent;
    if (parent === undefined) {
      const start = skipBlanks(this.#text, 0);
      return { start, end: skipValue(this.#text, start) };
    }
    const step = this.#step;
    if (typeof step === "number") {
      parent.#elements ??= elementSpans(this.#text, parent.#start());
      const element = parent.#elements[step];
      if (element === undefined) throw new JsonError(`There is nothing at ${this.path}`, 0);
      return element;
    }
    const member = parent.#memberSpan(step);
    if (member === undefined) throw new JsonError(`There is nothing at ${this.path}`, 0);
    return { start: member.valueStart, end: member.valueEnd };
  }

  /** Where the value begins, for those to whom its end does not matter. */
  #start(): number {
    return this.#parent === undefined ? skipBlanks(this.#text, 0) : this.span().start;
  }

  /** The member of that name in the object here; of several the last, as `JSON.parse` has it. */
  #memberSpan(name: string): MemberSpan | undefined {
    this.#members ??= memberSpans(this.#text, this.#start());
    if (this.#members.length <= MEMBERS_COMPARED_MAX) return this.#members.findLast(({ key }) => key === name);
    this.#byName ??= new Map(this.#members.map((span) => [span.key, span]));
    return this.#byName.get(name);
  }
}

/**
 * The exact text of a top-level member that mostly stands near the end, such as the usage of an answer: it is looked for from there, and
 * from the beginning only where that is not certain. The text must be valid JSON with an object at its top; `name` must be of plain
 * letters. Throws a `JsonError` if there is no such member.
 */
export function lateMember(text: string, name: string): string {
  return memberNearEnd(text, name) ?? JsonPlace.root(text).member(name).json();
}

function memberNearEnd(text: string, name: string): string | undefined {
  const keyStart = text.lastIndexOf(`"${name}"`);
  // A quote that is escaped is one inside a longer name.
  if (keyStart === -1 || text.charCodeAt(keyStart - 1) === BACKSLASH) return undefined;
  const colon = skipBlanks(text, keyStart + name.length + 2);
  if (text.charCodeAt(colon) !== COLON) return undefined;
  const valueStart = skipBlanks(text, colon + 1);
  const valueEnd = skipValue(text, valueStart);
  // Behind it come whole members and the end of everything: no object but the outermost ends there.
  let position = skipBlanks(text, valueEnd);
  while (text.charCodeAt(position) === COMMA) {
    const start = skipBlanks(text, position + 1);
    const end = skipString(text, start);
    // Of two members of one name the last one counts, and this may be one.
    if (readKey(text, start, end) === name) return undefined;
    position = skipBlanks(text, skipValue(text, skipBlanks(text, skipBlanks(text, end) + 1)));
  }
  const isOutermost = text.charCodeAt(position) === CLOSE_BRACE && skipBlanks(text, position + 1) === text.length;
  return isOutermost ? text.slice(valueStart, valueEnd) : undefined;
}

/**
 * Replaces the value at a path of member names with other JSON text, and leaves everything else as it was. A member that is missing
 * is added as the last one, with the objects on the way to it; so is one below a `null`. Throws a `JsonError` if a value on the way
 * is no object. The text must be valid JSON with an object at its top.
 */
export function spliceMember(text: string, path: readonly string[], valueText: string): string {
  let offset = skipBlanks(text, 0);
  for (let depth = 0; depth < path.length; depth++) {
    const key = path[depth] ?? "";
    const below = path.slice(depth + 1);
    const members = memberSpans(text, offset);
    const member = members.find((candidate) => candidate.key === key);
    if (member === undefined) {
      const last = members.at(-1);
      const at = last === undefined ? offset + 1 : last.valueEnd;
      return `${text.slice(0, at)}${last === undefined ? "" : ","}${JSON.stringify(key)}:${wrap(below, valueText)}${text.slice(at)}`;
    }
    if (below.length === 0 || text.startsWith("null", member.valueStart)) {
      return text.slice(0, member.valueStart) + wrap(below, valueText) + text.slice(member.valueEnd);
    }
    offset = member.valueStart;
  }
  return valueText;
}

/**
 * Replaces or adds several top-level members in one pass and leaves everything else as it was. Each function gets the value's present
 * text, or undefined where there is none, and returns the new one.
 */
export function spliceMembers(text: string, edits: ReadonlyMap<string, (current: string | undefined) => string>): string {
  const members = memberSpans(text);
  let edited = "";
  let copied = 0;
  for (const member of members) {
    const edit = edits.get(member.key);
    if (edit === undefined) continue;
    edited += text.slice(copied, member.valueStart) + edit(text.slice(member.valueStart, member.valueEnd));
    copied = member.valueEnd;
  }
  const last = members.at(-1);
  const end = last === undefined ? text.indexOf("{") + 1 : last.valueEnd;
  edited += text.slice(copied, end);
  let separator = last === undefined ? "" : ",";
  for (const [key, edit] of edits) {
    if (members.some((member) => member.key === key)) continue;
    edited += `${separator}${JSON.stringify(key)}:${edit(undefined)}`;
    separator = ",";
  }
  return edited + text.slice(end);
}

/** The steps of a path as `JsonPlace` writes it, or undefined for text that is none. */
export function pathSteps(path: string): (string | number)[] | undefined {
  const steps: (string | number)[] = [];
  const step = /(?:^|\.)([^.[\]"]+)|\[(?:(0|[1-9]\d{0,8})|("(?:[^"\\]|\\.)*"))\]/y;
  while (step.lastIndex < path.length) {
    const found = step.exec(path);
    if (found === null) return undefined;
    const [, name, index, quoted] = found;
    if (name !== undefined) steps.push(name);
    else if (index !== undefined) steps.push(Number(index));
    else {
      try {
        steps.push(JSON.parse(quoted ?? "") as string);
      } catch {
        return undefined;
      }
    }
  }
  return steps.length === 0 ? undefined : steps;
}

/** Takes away a top-level member, with the comma that it needed; text without that member is returned as it is. */
export function removeMember(text: string, key: string): string {
  const members = memberSpans(text);
  const index = members.findIndex((member) => member.key === key);
  const member = members[index];
  if (member === undefined) return text;
  const after = members[index + 1];
  if (after !== undefined) return text.slice(0, member.keyStart) + text.slice(after.keyStart);
  const before = members[index - 1];
  return text.slice(0, before === undefined ? member.keyStart : before.valueEnd) + text.slice(member.valueEnd);
}

/** Gives a top-level member another name; text without that member is returned as it is. */
export function renameMember(text: string, key: string, name: string): string {
  const member = memberSpans(text).find((candidate) => candidate.key === key);
  if (member === undefined) return text;
  return text.slice(0, member.keyStart) + JSON.stringify(name) + text.slice(skipString(text, member.keyStart));
}

/** JSON text inside a value that is written: it appears exactly as it is, so it must be valid. */
export class RawJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What `stringify` writes. Members that are undefined are left out. */
export type JsonValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | RawJson
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/** Writes a value as JSON without blanks. Integers of any size are written in full; a number that is not finite is an error. */
export function stringify(value: JsonValue): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw new RangeError("JSON has no number that is not finite");
      return JSON.stringify(value);
    case "bigint":
    case "boolean":
      return String(value);
    default:
      break;
  }
  if (value === null) return "null";
  if (value instanceof RawJson) return value.text;
  let text = "";
  if (isList(value)) {
    for (let index = 0; index < value.length; index++) {
      const item = stringify(value[index] as JsonValue);
      text = index === 0 ? item : `${text},${item}`;
    }
    return `[${text}]`;
  }
  for (const name in value) {
    const member = value[name];
    if (member === undefined) continue;
    const written = stringify(member);
    text = text === "" ? `${nameText(name)}:${written}` : `${text},${nameText(name)}:${written}`;
  }
  return `{${text}}`;
}

/** A name as JSON: nearly all are words, which need nothing but quotes. */
function nameText(name: string): string {
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index);
    if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return JSON.stringify(name);
  }
  return `"${name}"`;
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

const strict = new TextDecoder("utf-8", { fatal: true });

function wrap(path: readonly string[], valueText: string): string {
  return path.reduceRight((inner, key) => `{${JSON.stringify(key)}:${inner}}`, valueText);
}

/**
 * Makes a value of a text whose structure was checked, for texts in which a member's name is written with escapes: the `JSON.parse` of
 * V8 12.8 and later can take such a name for another one that it saw before (https://github.com/nodejs/node/issues/63785), and a name
 * that is read differently in two places is how policy is walked around. Single values have no names and are left to `JSON.parse`.
 */
function buildObject(text: string): JsonObject {
  let position = skipBlanks(text, 0);
  const build = (): unknown => {
    const code = text.charCodeAt(position);
    if (code !== OPEN_BRACE && code !== OPEN_BRACKET) {
      const start = position;
      position = skipValue(text, start);
      return JSON.parse(text.slice(start, position)) as unknown;
    }
    const entries: [string, unknown][] = [];
    const elements: unknown[] = [];
    const isArray = code === OPEN_BRACKET;
    position = skipBlanks(text, position + 1);
    while (text.charCodeAt(position) !== (isArray ? CLOSE_BRACKET : CLOSE_BRACE)) {
      if (isArray) elements.push(build());
      else {
        const keyStart = position;
        position = skipString(text, keyStart);
        const key = JSON.parse(text.slice(keyStart, position)) as string;
        position = skipBlanks(text, skipBlanks(text, position) + 1);
        entries.push([key, build()]);
      }
      position = skipBlanks(text, position);
      if (text.charCodeAt(position) === COMMA) position = skipBlanks(text, position + 1);
    }
    position++;
    return isArray ? elements : Object.fromEntries(entries);
  };
  return build() as JsonObject;
}
