/**
 * A document's tree, held against the schema of its kind.
 *
 * The walk is over descriptors, so a new kind or field needs nothing here. It finds everything that does not fit, and makes the
 * proto JSON of what does; where each field stands is kept, so that what later steps find can be told with its line.
 */
import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { closest } from "./closest.ts";
import type { Entry, Tree } from "./document.ts";
import type { ProblemId } from "./problem.ts";
import { holdsKey, isSensitive, isShowable, looksRandom, shown } from "./secrecy.ts";

/** Proto JSON. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** What the walk found. */
export interface Shape {
  /** Proto JSON of all that fits. What does not is left out, or stands as an empty value in a list so that indexes stay. */
  readonly json: { [key: string]: Json };
  readonly misfits: readonly Misfit[];
  /** The paths where something does not fit: rules about these and below would only repeat it. */
  readonly spoiled: ReadonlySet<string>;
  /** Where each path stands: the key if it has one, else the value. */
  readonly places: ReadonlyMap<string, FieldPlace>;
}

/** Where a field stands, in UTF-16 units from the start of the text, and what stands there. */
export interface FieldPlace {
  readonly keyAt: number;
  readonly value: Tree;
}

/** Something that does not fit. */
export interface Misfit {
  readonly id: ProblemId;
  /** The path of the field, such as `spec.targets[1].provider`. */
  readonly field: string;
  readonly at: number;
  readonly message: string;
  readonly hint: string;
}

/** Holds a tree against a message's schema. */
export function readShape(message: DescMessage, root: Tree): Shape {
  const walk = new Walk();
  walk.places.set("", { keyAt: root.at, value: root });
  const json = walk.message(message, root, "");
  return { json: isObject(json) ? json : {}, misfits: walk.misfits, spoiled: walk.spoiled, places: walk.places };
}

/** The path of a member of what stands at a path. */
export function memberPath(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

/** The path of an item of a list. */
export function itemPath(path: string, index: number): string {
  return `${path}[${index}]`;
}

/** The path of an entry of a map. */
export function entryPath(path: string, key: string): string {
  return `${path}[${JSON.stringify(safeName(key))}]`;
}

/** The name under which a field stands in paths and messages: that of the proto, save for the one key that everyone knows otherwise. */
export function shownName(field: DescField): string {
  return field.name === "api_version" ? field.jsonName : field.name;
}

class Walk {
  readonly misfits: Misfit[] = [];
  readonly spoiled = new Set<string>();
  readonly places = new Map<string, FieldPlace>();

  /** A message. Returns undefined if it is none. */
  message(message: DescMessage, tree: Tree, path: string): Json | undefined {
    const text = textTypes.get(message.typeName);
    if (text !== undefined) return this.#textType(text, tree, path);
    if (message.typeName.startsWith("google.protobuf.")) throw new Error(`policy cannot be read into ${message.typeName} yet`);
    if (tree.is === "text" && holdsKey(tree.value)) return this.#inlineSecret(tree.at, path);
    if (tree.is !== "mapping") {
      const hint =
        tree.is === "nothing" && message.fields.length === 0
          ? "Write {}."
          : `Write a mapping with ${listOf(message.fields.map(shownName))}.`;
      return this.#misfit(
        tree.is === "nothing" ? "policy/empty-value" : "policy/wrong-type",
        tree.at,
        path,
        expected("a mapping", tree),
        hint,
      );
    }
    const known = new Map<string, DescField>();
    for (const field of message.fields) known.set(field.name, field).set(field.jsonName, field);
    const json: { [key: string]: Json } = {};
    const seen = new Map<DescField, string>();
    const chosen = new Map<string, string>();
    for (const entry of tree.entries) {
      const field = known.get(entry.key);
      if (field === undefined) {
        this.#unknownField(message, entry, path, known);
        continue;
      }
      const fieldPath = memberPath(path, shownName(field));
      const earlier = seen.get(field);
      if (earlier !== undefined) {
        // The parser has told of keys that are the same letter by letter.
        if (earlier !== entry.key) {
          const text = `${entry.key} is the same field as ${earlier}, which stands above.`;
          this.#misfit("policy/duplicate-key", entry.keyAt, fieldPath, text, "Keep one of the two.");
        }
        continue;
      }
      seen.set(field, entry.key);
      this.places.set(fieldPath, { keyAt: entry.keyAt, value: entry.value });
      if (field.oneof !== undefined) {
        const other = chosen.get(field.oneof.name);
        if (other !== undefined) {
          const names = listOf(field.oneof.fields.map(shownName));
          const text = `Only one of ${names} can be given; ${other} stands above.`;
          this.#misfit("policy/more-than-one", entry.keyAt, fieldPath, text, "Remove one of the two.");
          this.spoiled.add(memberPath(path, field.oneof.name));
          continue;
        }
        chosen.set(field.oneof.name, shownName(field));
      }
      const value = this.#field(field, entry.value, fieldPath);
      if (value !== undefined) json[field.jsonName] = value;
      else if (field.oneof !== undefined) this.spoiled.add(memberPath(path, field.oneof.name));
    }
    return json;
  }

  #unknownField(message: DescMessage, entry: Entry, path: string, known: ReadonlyMap<string, DescField>): void {
    const names = message.fields.map(shownName);
    const meant = closest(entry.key, names);
    const name = shown(entry.key);
    const text = `Unknown field ${name}; known here: ${names.length === 0 ? "nothing" : listOf(names)}.`;
    const hint =
      entry.key === "<<"
        ? "Merge keys are not part of YAML 1.2: write the fields out, or use an alias for a whole value."
        : meant === undefined
          ? "Remove it, or move it to where it belongs."
          : `Did you mean ${meant}?`;
    this.misfits.push({ id: "policy/unknown-field", field: memberPath(path, safeName(entry.key)), at: entry.keyAt, message: text, hint });
    // Where the name is a slip of the pen, that the right field is missing need not be told as well.
    const field =
      meant === undefined ? undefined : (known.get(meant) ?? message.fields.find((candidate) => shownName(candidate) === meant));
    if (field === undefined) return;
    this.spoiled.add(memberPath(path, shownName(field)));
    if (field.oneof !== undefined) this.spoiled.add(memberPath(path, field.oneof.name));
  }

  #field(field: DescField, tree: Tree, path: string): Json | undefined {
    switch (field.fieldKind) {
      case "scalar":
        if (tree.is === "text" && isSensitive(field) && looksLikeKey(field, tree.value)) return this.#inlineSecret(tree.at, path);
        return this.#scalar(field.scalar, tree, path, isSensitive(field));
      case "enum":
        return this.#enum(field.enum, tree, path);
      case "message":
        return this.message(field.message, tree, path);
      case "list":
        return this.#list(field, tree, path);
      case "map":
        return this.#map(field, tree, path);
    }
  }

  #list(field: DescField & { fieldKind: "list" }, tree: Tree, path: string): Json | undefined {
    if (tree.is !== "list") {
      const hint = tree.is === "nothing" ? "Write [] or remove the key." : "Begin each item on its own line with a hyphen and a blank.";
      return this.#misfit(
        tree.is === "nothing" ? "policy/empty-value" : "policy/wrong-type",
        tree.at,
        path,
        expected("a list", tree),
        hint,
      );
    }
    return tree.items.map((item, index) => {
      const place = itemPath(path, index);
      this.places.set(place, { keyAt: item.at, value: item });
      return this.#element(field, field.listKind, item, place) ?? emptyOf(field, field.listKind);
    });
  }

  #map(field: DescField & { fieldKind: "map" }, tree: Tree, path: string): Json | undefined {
    if (tree.is !== "mapping") {
      const hint = tree.is === "nothing" ? "Write {} or remove the key." : "Write one key and its value on each line.";
      return this.#misfit(
        tree.is === "nothing" ? "policy/empty-value" : "policy/wrong-type",
        tree.at,
        path,
        expected("a mapping", tree),
        hint,
      );
    }
    if (field.mapKey !== ScalarType.STRING)
      throw new Error(`policy cannot be read into ${field.parent.typeName}.${field.name}: its keys are not text`);
    // Without a prototype: a key may be called __proto__.
    const json: { [key: string]: Json } = Object.create(null);
    for (const entry of tree.entries) {
      const place = entryPath(path, entry.key);
      this.places.set(place, { keyAt: entry.keyAt, value: entry.value });
      const value = this.#element(field, field.mapKind, entry.value, place);
      if (this.#text(entry.key, entry.keyAt, place) === undefined) continue;
      if (value !== undefined) json[entry.key] = value;
    }
    return json;
  }

  #element(
    field: DescField & { fieldKind: "list" | "map" },
    kind: "scalar" | "enum" | "message",
    tree: Tree,
    path: string,
  ): Json | undefined {
    if (kind === "scalar" && field.scalar !== undefined) return this.#scalar(field.scalar, tree, path, isSensitive(field));
    if (kind === "enum" && field.enum !== undefined) return this.#enum(field.enum, tree, path);
    if (kind === "message" && field.message !== undefined) return this.message(field.message, tree, path);
    throw new Error(`${field.parent.typeName}.${field.name} has no type`);
  }

  #enum(type: DescEnum, tree: Tree, path: string): Json | undefined {
    const names = type.values.map((value) => shortEnumName(type, value.name));
    if (tree.is === "text") {
      const found = type.values.find((value) => value.name === tree.value || shortEnumName(type, value.name) === tree.value);
      if (found !== undefined) return found.name;
      const meant = closest(tree.value, names);
      const text = `Unknown value ${shown(tree.value)}; expected ${choiceOf(names)}.`;
      return this.#misfit(
        "policy/unknown-value",
        tree.at,
        path,
        text,
        meant === undefined ? "Write one of these." : `Did you mean ${meant}?`,
      );
    }
    const id = tree.is === "nothing" ? "policy/empty-value" : "policy/wrong-type";
    return this.#misfit(id, tree.at, path, expected(choiceOf(names), tree), "Write one of these.");
  }

  #scalar(type: ScalarType, tree: Tree, path: string, sensitive: boolean): Json | undefined {
    switch (type) {
      case ScalarType.BOOL:
        if (tree.is === "truth") return tree.value;
        return this.#wrongScalar("true or false", tree, path, "Write true or false, without quotes.");
      case ScalarType.STRING:
        if (tree.is === "text") return this.#text(tree.value, tree.at, path);
        return this.#wrongScalar("text", tree, path, tree.is === "nothing" ? 'Write "" or remove the key.' : "Put the value in quotes.");
      case ScalarType.BYTES:
        // Proto JSON takes the standard alphabet (RFC 4648, section 4).
        if (tree.is !== "text") return this.#wrongScalar("text in base64", tree, path, "Put the value in quotes.");
        if (base64.test(tree.value) && tree.value.length % 4 === 0) return tree.value;
        return this.#misfit("policy/bad-text", tree.at, path, "Expected base64 with its padding.", "Encode the bytes as base64.");
      case ScalarType.DOUBLE:
        return this.#fraction(Number.MAX_VALUE, tree, path);
      case ScalarType.FLOAT:
        return this.#fraction(floatMax, tree, path);
      default:
        return this.#whole(type, tree, path, sensitive);
    }
  }

  #text(value: string, at: number, path: string): Json | undefined {
    if (holdsKey(value)) return this.#inlineSecret(at, path);
    // Half of a surrogate pair is no character: protobuf cannot carry it.
    if (value.isWellFormed()) return value;
    return this.#misfit("policy/bad-text", at, path, "The text has half of a character, such as \\ud800.", "Write the character itself.");
  }

  #fraction(most: number, tree: Tree, path: string): Json | undefined {
    if (tree.is !== "fraction" && tree.is !== "whole") return this.#wrongScalar("a number", tree, path, "Write a number, without quotes.");
    const value = Number(tree.value);
    if (Math.abs(value) <= most) return value;
    return this.#misfit(
      "policy/bad-number",
      tree.at,
      path,
      `Expected a number of at most ${most}, not ${value}.`,
      "Write a finite number.",
    );
  }

  /** A whole number, exactly. Text is taken too where proto JSON writes it so, which is for 64 bits. */
  #whole(type: ScalarType, tree: Tree, path: string, sensitive: boolean): Json | undefined {
    const [least, most, wide] = wholeRange(type);
    let value: bigint | undefined;
    if (tree.is === "whole") value = tree.value;
    else if (tree.is === "fraction" && Number.isSafeInteger(tree.value)) value = BigInt(tree.value);
    else if (tree.is === "text" && wide && /^-?[0-9]{1,20}$/.test(tree.value)) value = BigInt(tree.value);
    if (value === undefined) {
      if (tree.is === "fraction") {
        return this.#misfit(
          "policy/bad-number",
          tree.at,
          path,
          `Expected a whole number, not ${tree.value}.`,
          "Write it with all its digits.",
        );
      }
      return this.#wrongScalar("a whole number", tree, path, "Write digits only, without quotes or unit.");
    }
    if (value < least || value > most) {
      const seen = sensitive ? "the number" : `${value}`;
      return this.#misfit(
        "policy/bad-number",
        tree.at,
        path,
        `Expected a whole number from ${least} to ${most}, not ${seen}.`,
        "Write a number in that range.",
      );
    }
    return wide ? value.toString() : Number(value);
  }

  #textType(type: TextType, tree: Tree, path: string): Json | undefined {
    if (tree.is !== "text") return this.#wrongScalar(type.expected, tree, path, type.hint(""));
    const wrong = type.check(tree.value);
    if (!wrong) return tree.value;
    return this.#misfit(type.id, tree.at, path, `Expected ${type.expected}, not ${shown(tree.value)}.`, type.hint(tree.value));
  }

  #inlineSecret(at: number, path: string): undefined {
    const message = "This looks like a key or token itself. Policy is copied and shown, so it names secrets and never holds them.";
    const hint =
      "Name an environment variable (env) or a file that holds it, or for a caller's key its SHA-256, and replace the key: it has been written down.";
    return this.#misfit("policy/inline-secret", at, path, message, hint);
  }

  #wrongScalar(wanted: string, tree: Tree, path: string, hint: string): undefined {
    return this.#misfit(tree.is === "nothing" ? "policy/empty-value" : "policy/wrong-type", tree.at, path, expected(wanted, tree), hint);
  }

  #misfit(id: ProblemId, at: number, field: string, message: string, hint: string): undefined {
    this.misfits.push({ id, at, field, message, hint });
    this.spoiled.add(field);
  }
}

/** A message that proto JSON writes as text. */
interface TextType {
  readonly id: ProblemId;
  readonly expected: string;
  /** A text that fits, to stand for one that does not. */
  readonly empty: string;
  /** Whether a text is wrong. */
  check(text: string): boolean;
  hint(text: string): string;
}

const textTypes: ReadonlyMap<string, TextType> = new Map([
  [
    "google.protobuf.Duration",
    {
      id: "policy/bad-duration",
      expected: "seconds with the letter s, such as 30s or 0.5s",
      empty: "0s",
      // https://protobuf.dev/programming-guides/json/: at most nine digits after the point; about 10,000 years either way.
      check: (text) => !/^-?[0-9]{1,12}(\.[0-9]{1,9})?s$/.test(text) || Math.abs(Number.parseFloat(text)) > 315_576_000_000,
      hint: durationHint,
    },
  ],
  [
    "google.protobuf.Timestamp",
    {
      id: "policy/bad-time",
      expected: "a time such as 2026-01-31T00:00:00Z",
      empty: "1970-01-01T00:00:00Z",
      check: (text) => !isTime(text),
      hint: (text) =>
        /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(text) && isTime(`${text}T00:00:00Z`)
          ? `Write ${text}T00:00:00Z.`
          : "Write year, month, day, T, time of day, and Z or an offset (RFC 3339).",
    },
  ],
]);

/** Says how to write what other tools write as `500ms`, `1m30s` or a bare number. */
function durationHint(text: string): string {
  const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
  const parts = [...text.matchAll(/([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)/g)];
  if (parts.length > 0 && parts.map(([part]) => part).join("") === text) {
    const totalMs = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (unitsMs[unit ?? ""] ?? 0), 0);
    return `Write ${Math.round(totalMs) / 1000}s.`;
  }
  return "Write the number of seconds and the letter s.";
}

/** Whether a text is a time of RFC 3339, of a day that exists, in the years 1 to 9999. */
function isTime(text: string): boolean {
  const parts = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$/.exec(text);
  if (parts === null || parts[1] === "0000" || Number.isNaN(Date.parse(text))) return false;
  // Date.parse takes 30 February for 2 March; the 1st of the next month less a day does not.
  const lastDay = Date.UTC(Number(parts[1]), Number(parts[2]), 1) - 24 * 3_600_000;
  return Date.UTC(Number(parts[1]), Number(parts[2]) - 1, Number(parts[3])) <= lastDay;
}

/** The largest number of 32 bits (IEEE 754): two to the power of 128, less what the last digit is worth there. */
const floatMax = 2 ** 128 - 2 ** 104;

const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** The range of a whole number's type, and whether it has 64 bits. */
function wholeRange(type: ScalarType): readonly [least: bigint, most: bigint, wide: boolean] {
  switch (type) {
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return [-(2n ** 31n), 2n ** 31n - 1n, false];
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return [0n, 2n ** 32n - 1n, false];
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return [0n, 2n ** 64n - 1n, true];
    default:
      return [-(2n ** 63n), 2n ** 63n - 1n, true];
  }
}

/** What stands in a list for an item that does not fit, so that those after it keep their indexes. */
function emptyOf(field: DescField & { fieldKind: "list" }, kind: "scalar" | "enum" | "message"): Json {
  if (kind === "message") return textTypes.get(field.message?.typeName ?? "")?.empty ?? {};
  if (kind === "enum") return field.enum?.values[0]?.name ?? 0;
  switch (field.scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return "";
    case ScalarType.BOOL:
      return false;
    default:
      return 0;
  }
}

/** An enum's value as people write it: without the prefix that proto wants, in small letters. */
export function shortEnumName(type: DescEnum, name: string): string {
  const prefix = type.sharedPrefix?.toUpperCase() ?? "";
  return (name.startsWith(prefix) ? name.slice(prefix.length) : name).toLowerCase();
}

/** Whether a text in a field where keys are easily written by mistake looks like one. */
function looksLikeKey(field: DescField, text: string): boolean {
  // Hashes are random by nature, and so may folders of a path be.
  if (field.name.endsWith("sha256") || text.includes("/")) return false;
  return looksRandom(text);
}

/** A key as it may stand in a path. */
function safeName(key: string): string {
  return isShowable(key) ? key : "(not shown)";
}

function expected(wanted: string, tree: Tree): string {
  return `Expected ${wanted}, not ${treeWords[tree.is]}.`;
}

const treeWords: Readonly<Record<Tree["is"], string>> = {
  mapping: "a mapping",
  list: "a list",
  text: "text",
  whole: "a whole number",
  fraction: "a number with a fraction",
  truth: "true or false",
  nothing: "nothing",
};

function listOf(names: readonly string[]): string {
  return names.join(", ");
}

function choiceOf(names: readonly string[]): string {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function isObject(json: Json | undefined): json is { [key: string]: Json } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
