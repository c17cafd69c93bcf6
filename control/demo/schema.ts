/**
 * Makes a value that fits a JSON Schema, and takes the words of the prompt where they fit.
 *
 * How: references and `allOf` are melted into one flat schema; of `anyOf`, `oneOf` and `if` a branch is drawn and melted in, too; then a
 * value is written down from the outside in. Past a certain size nothing optional is written any more, and the branch with the least
 * nesting is taken, so that a schema that contains itself comes to an end. What was made is checked against the schema as it came, and
 * made again, with other numbers and less that is optional, if it does not fit. A schema for which that fails is refused.
 */
import { fits, fitsNumber, fitsString, itemSchema, lookUp, numberOf, propertySchemas, requiredNames } from "./fits.ts";
import { isArray, isObject, type Json, type JsonObject, member, same } from "./json.ts";
import { readPattern } from "./pattern.ts";
import type { Prompt } from "./prompt.ts";
import { wordsOfName } from "./prompt.ts";
import { Seeded } from "./seeded.ts";

/** No value was found; the message says so in the words of a refusal. */
export class SchemaRefused extends Error {}

/** A value that fits. The same schema, prompt and seed give the same value. Throws `SchemaRefused`. */
export function writeValue(schema: Json, prompt: Prompt, seed: string): Json {
  const attempts = 40; // schemas without `oneOf`, `not` and `if` take one; those contradict a first guess, and a few more settle it
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const writer = new Writer(schema, prompt, new Seeded(`${seed}/${attempt}`), attempt);
    const value = writer.write(schema, "", 0);
    if (value !== undefined && fits(schema, value, schema)) return value;
  }
  throw new SchemaRefused("No value was found that fits this schema: it contradicts itself, or it uses what the demo model does not know.");
}

/** A schema without references and combinations, and what is still to be chosen. */
interface Flat {
  readonly plain: JsonObject;
  readonly choices: readonly (readonly Json[])[];
}

const nodesFreely = 120; // an answer of this many values is as large as anyone wants to read
const nodesMax = 20_000; // beyond this a schema asks for more than an answer can hold
const depthMax = 48; // deeper nesting than any real answer
const lengthMax = 100_000; // characters that a schema may demand of one text

class Writer {
  readonly #root: Json;
  readonly #prompt: Prompt;
  readonly #random: Seeded;
  readonly #attempt: number;
  readonly #heights = new Map<Json, number>();
  #nodes = 0;
  #namesUsed = 0;

  constructor(root: Json, prompt: Prompt, random: Seeded, attempt: number) {
    this.#root = root;
    this.#prompt = prompt;
    this.#random = random;
    this.#attempt = attempt;
  }

  /** A value, or undefined if none was found. `name` is the property that it will stand under. */
  write(schema: Json, name: string, depth: number): Json | undefined {
    this.#nodes += 1;
    if (depth > depthMax || this.#nodes > nodesMax) return undefined;
    const plain = this.#settle(schema);
    if (plain === undefined) return undefined;
    const constant = member(plain, "const");
    if (constant !== undefined) return constant;
    const values = member(plain, "enum");
    if (isArray(values)) return this.#chosen(values, plain);
    switch (this.#type(plain)) {
      case "null":
        return null;
      case "boolean":
        return this.#attempt === 0 || this.#random.next() < 0.5;
      case "integer":
        return this.#number(plain, true);
      case "number":
        return this.#number(plain, false);
      case "string":
        return this.#string(plain, name);
      case "array":
        return this.#array(plain, name, depth);
      case "object":
        return this.#object(plain, depth);
      default:
        return undefined;
    }
  }

  /** Whether to write only what must be written. */
  #sparing(): boolean {
    return this.#nodes > nodesFreely || this.#attempt % 4 === 3;
  }

  /** Whether to leave something optional out. The first attempt writes all of it: what an author declared they want to see. */
  #leaves(): boolean {
    return this.#attempt > 0 && this.#random.next() < 0.25;
  }

  /** Chooses among all branches until a flat schema without choices is left. */
  #settle(schema: Json): JsonObject | undefined {
    let flat = this.#flatten(schema, 0);
    // Each round settles one choice; a chain of choices this long only comes from a schema that refers to itself.
    for (let round = 0; flat !== undefined && flat.choices.length > 0; round += 1) {
      if (round > 64) return undefined;
      const [branches = [], ...later] = flat.choices;
      const rest: Flat = { plain: flat.plain, choices: later };
      let settled: Flat | undefined;
      for (const branch of this.#ordered(branches)) {
        settled = melt(rest, this.#flatten(branch, 0));
        if (settled !== undefined) break;
      }
      flat = settled;
    }
    return flat?.plain;
  }

  #ordered(branches: readonly Json[]): Json[] {
    const rated = branches.map((branch) => ({
      branch,
      height: this.#height(branch, new Set()),
      // On the first attempt the first branch, except that null comes last: what the author named first is what they had in mind.
      draw: (this.#attempt === 0 ? 0 : this.#random.next()) + (isObject(branch) && member(branch, "type") === "null" ? 0.7 : 0),
    }));
    const possible = rated.filter((one) => one.height !== Number.POSITIVE_INFINITY);
    return (possible.length > 0 ? possible : rated)
      .sort((a, b) => (this.#sparing() ? a.height - b.height : 0) || a.draw - b.draw)
      .map((one) => one.branch);
  }

  /** How deep a value must at least nest to fit; infinite if it never ends. */
  #height(schema: Json | undefined, above: Set<Json>): number {
    if (!isObject(schema)) return schema === false ? Number.POSITIVE_INFINITY : 1;
    const known = this.#heights.get(schema);
    if (known !== undefined) return known;
    if (above.has(schema)) return Number.POSITIVE_INFINITY;
    above.add(schema);
    let height = 1;
    const reference = member(schema, "$ref");
    if (typeof reference === "string") height = Math.max(height, this.#height(lookUp(reference, this.#root), above));
    for (const part of listed(schema, "allOf")) height = Math.max(height, this.#height(part, above));
    for (const keyword of ["anyOf", "oneOf"]) {
      const branches = listed(schema, keyword);
      if (branches.length > 0) height = Math.max(height, Math.min(...branches.map((branch) => this.#height(branch, above))));
    }
    const types = typesOf(schema);
    if (types === undefined || types.every((type) => type === "object")) {
      for (const name of requiredNames(schema)) {
        for (const part of propertySchemas(schema, name)) height = Math.max(height, 1 + this.#height(part, above));
      }
    }
    if (types === undefined || types.every((type) => type === "array")) {
      const items = Math.min(numberOf(schema, "minItems") ?? 0, 8);
      for (let at = 0; at < items; at += 1) height = Math.max(height, 1 + this.#height(itemSchema(schema, at), above));
    }
    above.delete(schema);
    // An infinite height found below an unfinished schema may only mean that the way back was barred.
    if (height !== Number.POSITIVE_INFINITY || above.size === 0) this.#heights.set(schema, height);
    return height;
  }

  /** Melts references and `allOf` into one schema. Undefined if nothing can fit. */
  #flatten(schema: Json, depth: number): Flat | undefined {
    if (schema === true) return { plain: {}, choices: [] };
    if (!isObject(schema) || depth > 64) return undefined; // 64 references in a row lead in a circle
    const plain: Record<string, Json> = Object.create(null);
    const choices: (readonly Json[])[] = [];
    for (const [keyword, value] of Object.entries(schema)) {
      if (keyword === "anyOf" || keyword === "oneOf") {
        if (isArray(value)) choices.push(value);
      } else if (!combining.has(keyword)) plain[keyword] = value;
    }
    if (member(schema, "nullable") === true) {
      const types = typesOf(schema);
      if (types !== undefined) plain.type = [...types, "null"];
    }
    const condition = member(schema, "if");
    if (condition !== undefined) {
      choices.push([{ allOf: [condition, member(schema, "then") ?? true] }, member(schema, "else") ?? true]);
    }
    let flat: Flat | undefined = { plain, choices };
    const reference = member(schema, "$ref");
    if (typeof reference === "string") {
      const target = lookUp(reference, this.#root);
      flat = target === undefined ? undefined : melt(flat, this.#flatten(target, depth + 1));
    }
    for (const part of listed(schema, "allOf")) flat = flat === undefined ? undefined : melt(flat, this.#flatten(part, depth + 1));
    return flat;
  }

  #chosen(values: readonly Json[], plain: JsonObject): Json | undefined {
    const possible = values.filter((value) => fits({ ...plain, enum: values }, value, this.#root));
    if (possible.length === 0) return undefined;
    const text = this.#prompt.text.toLowerCase();
    const mentioned = possible.filter((value) => typeof value === "string" && value !== "" && text.includes(value.toLowerCase()));
    return this.#attempt === 0 && mentioned[0] !== undefined ? mentioned[0] : this.#random.pick(possible);
  }

  #type(plain: JsonObject): string {
    const types = typesOf(plain) ?? [impliedType(plain)];
    const first = types.find((type) => type !== "null") ?? "null";
    if (this.#attempt === 0) return first;
    // Null is a rare choice: a schema that allows it mostly hopes for the other thing.
    return types.includes("null") && this.#random.next() < 0.15
      ? "null"
      : this.#random.pick(types.filter((type) => type !== "null").concat(first));
  }

  #number(plain: JsonObject, whole: boolean): number | undefined {
    const asked = this.#prompt.numbers.find((number) => fitsNumber(plain, number) && (!whole || Number.isInteger(number)));
    if (this.#attempt === 0 && asked !== undefined) return asked;
    const step = numberOf(plain, "multipleOf") ?? (whole ? 1 : undefined);
    const above = numberOf(plain, "exclusiveMinimum");
    const below = numberOf(plain, "exclusiveMaximum");
    const lowest = Math.max(numberOf(plain, "minimum") ?? -Infinity, above ?? -Infinity);
    const highest = Math.min(numberOf(plain, "maximum") ?? Infinity, below ?? Infinity);
    const from = lowest !== -Infinity ? lowest : highest !== Infinity ? highest - 100 : 1;
    const to = highest !== Infinity ? highest : from + 100;
    const drawn = from + this.#random.next() * (to - from);
    const candidates = [drawn, from + (to - from) / 2, from, to, Number(drawn.toFixed(2)), 0];
    const grid = whole && step !== undefined && !Number.isInteger(step) ? [step, 1] : step === undefined ? [] : [step];
    const stepped = candidates.flatMap((candidate) =>
      grid.flatMap((size) => [
        Math.round(candidate / size) * size,
        Math.ceil(candidate / size) * size,
        Math.floor(candidate / size) * size,
      ]),
    );
    const rounded = step === undefined ? [Number(drawn.toFixed(1)), ...candidates] : stepped.flatMap((n) => [n, Number(n.toPrecision(12))]);
    return rounded
      .map((number) => (number === 0 ? 0 : number)) // JSON has no minus zero
      .find((number) => Number.isFinite(number) && fitsNumber(plain, number) && (!whole || Number.isInteger(number)));
  }

  #string(plain: JsonObject, name: string): string | undefined {
    const min = numberOf(plain, "minLength") ?? 0;
    const max = numberOf(plain, "maxLength") ?? Number.POSITIVE_INFINITY;
    if (min > lengthMax || min > max) return undefined;
    const pattern = member(plain, "pattern");
    if (typeof pattern === "string") return this.#patterned(plain, pattern, min);
    const format = member(plain, "format");
    if (typeof format === "string") {
      const formatted = this.#formatted(format).find((text) => fitsString(plain, text));
      if (formatted !== undefined) return formatted;
    }
    let text = this.#attempt === 0 ? this.#meant(name) : this.#random.pick([this.#meant(name), this.#random.pick(words), this.#word()]);
    while ([...text].length < min) text += ` ${this.#word()}`;
    return [...text].length > max ? [...text].slice(0, max).join("").trimEnd().padEnd(min, "x") : text;
  }

  #patterned(plain: JsonObject, source: string, min: number): string | undefined {
    const pattern = readPattern(source);
    if (pattern === undefined) return undefined;
    // Sizes from small to large: where a least length is asked for, only the large ones reach it.
    for (let size = 0; size < 24; size += 1) {
      const text = pattern.write(this.#random, min > 24 ? (size + 1) * (min / 200) : size / 24);
      if (fitsString(plain, text)) return text;
      const padded = text.padEnd(min, "a");
      if (fitsString(plain, padded)) return padded;
    }
    return undefined;
  }

  /** Texts of a format, the shortest last; none for a format that is not known here, which then is an annotation. */
  #formatted(format: string): string[] {
    const { topics } = this.#prompt;
    const handle = asciiWord(topics[0]) ?? this.#random.pick(words);
    const day = `2026-${this.#two(1, 12)}-${this.#two(1, 28)}`;
    const time = `${this.#two(0, 23)}:${this.#two(0, 59)}:${this.#two(0, 59)}Z`;
    const hex = (length: number) => Array.from({ length }, () => this.#random.pick([..."0123456789abcdef"])).join("");
    switch (format) {
      case "date":
        return [day];
      case "time":
        return [time];
      case "date-time":
        return [`${day}T${time}`];
      case "duration":
        return [`PT${1 + this.#random.below(59)}M`, "P1D"];
      case "email":
      case "idn-email":
        return [`${handle}@example.com`, "a@b.co"];
      case "hostname":
      case "idn-hostname":
        return [`${handle}.example.com`, "a.co"];
      case "ipv4":
        return [`192.0.2.${1 + this.#random.below(254)}`, "1.1.1.1"];
      case "ipv6":
        return [`2001:db8::${hex(4)}`, "::1"];
      case "uri":
      case "url":
      case "iri":
        return [`https://example.com/${handle}`, "a:b"];
      case "uri-reference":
      case "iri-reference":
        return [`/${handle}`, "/"];
      case "uuid":
        return [`${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`];
      case "json-pointer":
        return [`/${handle}`, ""];
      case "byte":
        return [btoa(handle), ""];
      default:
        return [];
    }
  }

  #two(from: number, to: number): string {
    return String(from + this.#random.below(to - from + 1)).padStart(2, "0");
  }

  /** What a property of this name is likely to hold. */
  #meant(name: string): string {
    const { names, topics, text } = this.#prompt;
    const parts = new Set(wordsOfName(name));
    const is = (...kinds: string[]) => kinds.some((kind) => parts.has(kind) || parts.has(`${kind}s`));
    const nextName = () => {
      this.#namesUsed += 1;
      return names[(this.#namesUsed - 1) % Math.max(names.length, 1)];
    };
    if (is("query", "question", "input", "prompt", "text", "message", "body")) return text.slice(0, 400) || "hello";
    if (is("city", "town", "location", "place", "destination", "origin", "address")) return nextName() ?? "Delft";
    if (is("country")) return nextName() ?? "Iceland";
    if (is("name", "person", "author", "customer", "user")) return nextName() ?? "Ada Lovelace";
    if (is("email", "mail")) return `${asciiWord(topics[0]) ?? "ada"}@example.com`;
    if (is("date", "day")) return `2026-${this.#two(1, 12)}-${this.#two(1, 28)}`;
    if (is("url", "link", "uri")) return `https://example.com/${asciiWord(topics[0]) ?? "page"}`;
    if (is("id", "key", "code")) return `${asciiWord(topics[0]) ?? "item"}-${100 + this.#random.below(900)}`;
    if (is("currency")) return "EUR";
    if (is("colour", "color")) return this.#random.pick(["green", "blue", "amber"]);
    if (is("title", "subject", "topic", "label")) return topics.slice(0, 3).join(" ") || "A small example";
    if (is("summary", "description", "reason", "explanation", "answer", "content", "note", "comment", "step")) {
      return `A few words about ${topics.slice(0, 3).join(", ") || "this"}.`;
    }
    return nextName() ?? topics[0] ?? this.#random.pick(words);
  }

  #word(): string {
    return this.#prompt.topics.length > 0 && this.#random.next() < 0.5 ? this.#random.pick(this.#prompt.topics) : this.#random.pick(words);
  }

  #array(plain: JsonObject, name: string, depth: number): Json[] | undefined {
    const min = numberOf(plain, "minItems") ?? 0;
    const max = numberOf(plain, "maxItems") ?? Number.POSITIVE_INFINITY;
    const contains = member(plain, "contains");
    const contained = contains === undefined ? 0 : (numberOf(plain, "minContains") ?? 1);
    const least = Math.max(min, contained);
    if (least > max || least > nodesMax) return undefined;
    const wanted = this.#sparing() || depth > 6 ? least : Math.min(max, Math.max(least, 1 + this.#random.below(3)));
    const unique = member(plain, "uniqueItems") === true;
    const items: Json[] = [];
    while (items.length < wanted) {
      const own = itemSchema(plain, items.length) ?? true;
      const schema = contains !== undefined && items.length < contained ? { allOf: [own, contains] } : own;
      const item = this.#item(schema, name, depth, unique ? items : undefined);
      if (item === undefined) break;
      items.push(item);
    }
    return items.length < least ? undefined : items;
  }

  /** An item that is not yet among `others`, if they are given. */
  #item(schema: Json, name: string, depth: number, others: readonly Json[] | undefined): Json | undefined {
    for (let draw = 0; draw < 30; draw += 1) {
      // Drawn again, it must come out differently; a writer of a later attempt takes more by chance and less from the prompt.
      const writer = draw === 0 ? this : new Writer(this.#root, this.#prompt, this.#random, this.#attempt + draw);
      const item = writer.write(schema, name, depth + 1);
      if (item === undefined || others === undefined || !others.some((other) => same(other, item))) return item;
    }
    return undefined;
  }

  #object(plain: JsonObject, depth: number): JsonObject | undefined {
    const object: Record<string, Json> = Object.create(null);
    const properties = member(plain, "properties");
    const declared = isObject(properties) ? Object.keys(properties) : [];
    const required = new Set(requiredNames(plain));
    const least = numberOf(plain, "minProperties") ?? 0;
    const most = numberOf(plain, "maxProperties") ?? Number.POSITIVE_INFINITY;
    const dependents = member(plain, "dependentRequired");
    const need = (name: string): void => {
      required.add(name);
      const others = isObject(dependents) ? member(dependents, name) : undefined;
      for (const other of isArray(others) ? others : []) if (typeof other === "string" && !required.has(other)) need(other);
    };
    for (const name of [...required]) need(name);
    // Declared names in their order, so that an answer reads as its author wrote it, then what is required beyond them.
    const names = [...declared, ...[...required].filter((name) => !declared.includes(name))];
    for (const name of names) {
      if (!required.has(name)) {
        const missing = [...required].filter((other) => !Object.hasOwn(object, other)).length;
        const count = Object.keys(object).length + missing;
        if (count >= most || (count >= least && (this.#sparing() || depth > 5 || this.#leaves()))) continue;
        if (isObject(dependents) && Object.hasOwn(dependents, name) && this.#attempt % 2 === 1) continue;
      }
      const value = this.write({ allOf: propertySchemas(plain, name) }, name, depth + 1);
      if (value !== undefined) object[name] = value;
      else if (required.has(name)) return undefined;
      if (value !== undefined) need(name);
    }
    for (const name of required) {
      if (Object.hasOwn(object, name)) continue;
      const value = this.write({ allOf: propertySchemas(plain, name) }, name, depth + 1);
      if (value === undefined) return undefined;
      object[name] = value;
    }
    return this.#filled(object, plain, least, depth) ? object : undefined;
  }

  /** Adds properties of other names until there are enough. */
  #filled(object: Record<string, Json>, plain: JsonObject, least: number, depth: number): boolean {
    if (least > nodesMax) return false;
    const patterns = member(plain, "patternProperties");
    const shapes = isObject(patterns) ? Object.keys(patterns) : [];
    const nameSchema = member(plain, "propertyNames");
    for (let number = 1; Object.keys(object).length < least; number += 1) {
      if (number > least + 30) return false;
      const shape = shapes.length === 0 ? undefined : this.#random.pick(shapes);
      let name: string | undefined = shape === undefined ? undefined : readPattern(shape)?.write(this.#random, 0.4);
      if (nameSchema !== undefined) {
        const drawn = new Writer(this.#root, this.#prompt, this.#random, this.#attempt + number).write(
          { allOf: [{ type: "string" }, nameSchema] },
          "",
          depth,
        );
        name = typeof drawn === "string" ? drawn : undefined;
      }
      name ??= `extra${number}`;
      if (Object.hasOwn(object, name)) continue;
      const value = this.write({ allOf: propertySchemas(plain, name) }, name, depth + 1);
      if (value !== undefined) object[name] = value;
    }
    return true;
  }
}

/** Two schemas in one: what fits the result fits both, as far as keywords can be joined; the final check sees to the rest. */
function melt(left: Flat, right: Flat | undefined): Flat | undefined {
  if (right === undefined) return undefined;
  const plain: Record<string, Json> = Object.assign(Object.create(null), left.plain);
  for (const [keyword, value] of Object.entries(right.plain)) {
    const before = member(left.plain, keyword);
    if (before === undefined) {
      plain[keyword] = value;
      continue;
    }
    if (lowerBounds.has(keyword)) plain[keyword] = Math.max(Number(before), Number(value));
    else if (upperBounds.has(keyword)) plain[keyword] = Math.min(Number(before), Number(value));
    else if (keyword === "multipleOf") plain[keyword] = Math.max(Number(before), Number(value));
    else if (keyword === "required") plain[keyword] = [...new Set([...requiredNames(left.plain), ...requiredNames(right.plain)])];
    else if (keyword === "enum" && isArray(before) && isArray(value)) {
      plain[keyword] = before.filter((one) => value.some((other) => same(one, other)));
    } else if (keyword === "const" && !same(before, value)) return undefined;
    else if (joinedByAll.has(keyword)) plain[keyword] = { allOf: [before, value] };
    else if (keyword === "uniqueItems") plain[keyword] = before === true || value === true;
    else if ((keyword === "patternProperties" || keyword === "dependentRequired") && isObject(before) && isObject(value)) {
      plain[keyword] = { ...before, ...value };
    }
  }
  const types = sharedTypes(typesOf(left.plain), typesOf(right.plain));
  if (types?.length === 0) return undefined;
  if (types !== undefined) plain.type = types;
  const properties = meltProperties(left.plain, right.plain);
  if (properties !== undefined) plain.properties = properties;
  const constant = member(plain, "const");
  const values = member(plain, "enum");
  if (constant !== undefined && isArray(values) && !values.some((value) => same(value, constant))) return undefined;
  return { plain, choices: [...left.choices, ...right.choices] };
}

/** Each property must fit what both sides say of its name, also where one side knows it only as an additional one. */
function meltProperties(left: JsonObject, right: JsonObject): JsonObject | undefined {
  const [ours, theirs] = [member(left, "properties"), member(right, "properties")];
  if (!isObject(ours) && !isObject(theirs)) return undefined;
  const properties: Record<string, Json> = Object.create(null);
  for (const name of new Set([...Object.keys(isObject(ours) ? ours : {}), ...Object.keys(isObject(theirs) ? theirs : {})])) {
    const parts = [...propertySchemas(left, name), ...propertySchemas(right, name)];
    properties[name] = parts.length === 1 ? (parts[0] ?? true) : { allOf: parts };
  }
  return properties;
}

function sharedTypes(left: readonly string[] | undefined, right: readonly string[] | undefined): string[] | undefined {
  if (left === undefined) return right === undefined ? undefined : [...right];
  if (right === undefined) return [...left];
  const shared = left.filter((type) => right.includes(type) || (type === "integer" && right.includes("number")));
  if (right.includes("integer") && left.includes("number") && !shared.includes("integer")) shared.push("integer");
  return shared;
}

function typesOf(schema: JsonObject): string[] | undefined {
  const type = member(schema, "type");
  if (typeof type === "string") return [type];
  return isArray(type) ? type.filter((one) => typeof one === "string") : undefined;
}

/** The type that a schema has in mind if it names none. */
function impliedType(schema: JsonObject): string {
  for (const [type, keywords] of implied) if (keywords.some((keyword) => Object.hasOwn(schema, keyword))) return type;
  return "string";
}

function listed(schema: JsonObject, keyword: string): readonly Json[] {
  const value = member(schema, keyword);
  return isArray(value) ? value : [];
}

function asciiWord(word: string | undefined): string | undefined {
  const plain = word?.toLowerCase().replace(/[^a-z0-9]/g, "");
  return plain === undefined || plain === "" ? undefined : plain.slice(0, 20);
}

const combining = new Set(["$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "not", "nullable"]);
const lowerBounds = new Set(["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"]);
const upperBounds = new Set(["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"]);
const joinedByAll = new Set(["items", "additionalProperties", "propertyNames", "contains"]);
const implied: readonly (readonly [string, readonly string[]])[] = [
  [
    "object",
    ["properties", "required", "additionalProperties", "minProperties", "patternProperties", "propertyNames", "dependentRequired"],
  ],
  ["array", ["items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"]],
  ["number", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]],
];
const words = [
  "amber",
  "anchor",
  "birch",
  "canvas",
  "delta",
  "ember",
  "harbour",
  "lantern",
  "meadow",
  "outrigger",
  "paddle",
  "quartz",
  "reef",
  "sail",
  "timber",
];
