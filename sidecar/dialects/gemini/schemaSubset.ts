/**
 * JSON Schemas in the subset of OpenAPI 3.0 that older Gemini models take (https://ai.google.dev/api/caching#Schema).
 *
 * The subset has no references, so they are written out where they stand, and one that leads back to itself ends as a plain object. It
 * has no `allOf`, whose parts are merged; `oneOf` becomes `anyOf`, `const` an `enum` of one, and a type that may be null `nullable`.
 * Enums hold texts alone, and an object that has properties has a type. What has no counterpart goes, and its keyword is named.
 */
import { isObject, JSON_DEPTH_MAX, type JsonObject } from "../../framing/json.ts";

/** What became of a schema. */
export interface SchemaSubset {
  /** The schema as JSON text, or undefined for an object without properties, which the API takes only when it is left out. */
  readonly text: string | undefined;
  /** The keywords that had to go, or that say less than they did; sorted. */
  readonly lost: readonly string[];
}

/** References written out can make a small schema huge; more nodes than this no model reads. */
const SCHEMA_NODES_MAX = 10_000;

/** Rewrites a schema. The text must be a JSON object. Returns undefined for one that gets too large once its references are written out. */
export function schemaSubset(text: string): SchemaSubset | undefined {
  const root = JSON.parse(text) as JsonObject;
  const state: State = { root, lost: new Set(), open: [], nodes: 0, depth: 0 };
  const written = subset(root, state);
  if (state.nodes > SCHEMA_NODES_MAX) return undefined;
  const empty = written.type === "object" && written.properties === undefined && written.anyOf === undefined;
  return { text: empty ? undefined : JSON.stringify(written), lost: [...state.lost].sort() };
}

interface State {
  readonly root: JsonObject;
  readonly lost: Set<string>;
  /** The references that are being written out, outermost first. */
  readonly open: string[];
  nodes: number;
  /** Schemas within each other that are being written. */
  depth: number;
}

type Schema = { [keyword: string]: unknown };

function subset(given: unknown, state: State): Schema {
  if (++state.nodes > SCHEMA_NODES_MAX) return {};
  state.depth++;
  const written = writeAny(given, state);
  state.depth--;
  return written;
}

function writeAny(given: unknown, state: State): Schema {
  if (!isObject(given)) {
    // true allows anything and false nothing; the subset can say neither.
    state.lost.add("type");
    return { type: "string" };
  }
  const reference = typeof given.$ref === "string" ? given.$ref : undefined;
  if (reference === undefined) {
    const opened = state.open.length;
    const passed: string[] = [];
    const merged = mergedParts(given, state, passed);
    // What was merged in is written out here, and may lead back from within.
    state.open.push(...passed);
    const written = writeSchema(merged, state);
    state.open.length = opened;
    return written;
  }
  const target = found(state.root, reference);
  // References can nest what no caller could; deeper than any JSON that is taken in, they end as one that leads back does.
  if (target === undefined || state.open.includes(reference) || state.depth > JSON_DEPTH_MAX) {
    state.lost.add("$ref");
    return described({ type: "object" }, given);
  }
  state.open.push(reference);
  const { $ref: _, ...beside } = given;
  // What stands beside a reference goes before what it leads to.
  const written = subset(isObject(target) ? merge(target, beside, state) : target, state);
  state.open.pop();
  return written;
}

/** A copy of a schema with the parts of its `allOf` merged into it. The references that led to them are added to `passed`. */
function mergedParts(given: JsonObject, state: State, passed: string[]): JsonObject {
  if (!Array.isArray(given.allOf)) return given;
  const { allOf, ...beside } = given;
  let merged: JsonObject = {};
  for (const part of allOf as readonly unknown[]) {
    if (++state.nodes > SCHEMA_NODES_MAX) return beside;
    if (!isObject(part)) continue;
    const opened = state.open.length;
    merged = merge(merged, mergedParts(resolved(part, state), state, passed), state);
    passed.push(...state.open.slice(opened));
    state.open.length = opened;
  }
  return merge(merged, beside, state);
}

/**
 * What a part of an `allOf` refers to. Such a part is merged before it is written, so its own references are written out here; they stay
 * open, for the caller to close.
 */
function resolved(part: JsonObject, state: State): JsonObject {
  let schema = part;
  while (typeof schema.$ref === "string") {
    const { $ref, ...beside } = schema;
    const target = found(state.root, $ref);
    if (state.open.includes($ref) || state.open.length > JSON_DEPTH_MAX || state.depth > JSON_DEPTH_MAX || !isObject(target)) {
      state.lost.add("$ref");
      // As where a reference stands by itself.
      return { type: "object", ...beside };
    }
    state.open.push($ref);
    schema = merge(target, beside, state);
  }
  return schema;
}

/** One schema that asks for what two ask for, as far as that can be said; where they disagree the later one holds. */
function merge(one: JsonObject, other: JsonObject, state: State): JsonObject {
  const merged = new Map<string, unknown>(Object.entries(one));
  for (const [keyword, value] of Object.entries(other)) {
    const before = merged.get(keyword);
    if (before === undefined || same(before, value)) merged.set(keyword, value);
    else if (keyword === "properties" && isObject(before) && isObject(value)) {
      merged.set(keyword, mergeProperties(before, value, state));
    } else if (keyword === "required" && Array.isArray(before) && Array.isArray(value)) {
      merged.set(keyword, [...new Set([...before, ...value])]);
    } else {
      if (!annotations.has(keyword)) state.lost.add("allOf");
      merged.set(keyword, value);
    }
  }
  return Object.fromEntries(merged);
}

function mergeProperties(one: JsonObject, other: JsonObject, state: State): JsonObject {
  const merged = new Map<string, unknown>(Object.entries(one));
  for (const [name, schema] of Object.entries(other)) {
    const before = merged.get(name);
    merged.set(name, isObject(before) && isObject(schema) ? merge(before, schema, state) : schema);
  }
  return Object.fromEntries(merged);
}

/** Writes a schema that has neither `$ref` nor `allOf`. */
function writeSchema(given: JsonObject, state: State): Schema {
  for (const keyword of Object.keys(given)) {
    if (!carried.has(keyword) && !silent.has(keyword) && given[keyword] !== undefined) state.lost.add(keyword);
  }
  const written: Schema = {};
  const { types, nullable } = typesOf(given);
  const alternatives = hasBody(given, state) ? noAlternatives : alternativesOf(given, types, state);
  const nullInEnum = types.length === 0 && Array.isArray(given.enum) && given.enum.includes(null);
  const isNullable = nullable || nullInEnum || alternatives.nullable || given.nullable === true;
  const [only] = alternatives.schemas;

  if (alternatives.schemas.length === 1 && only !== undefined) Object.assign(written, only);
  else if (alternatives.schemas.length > 0) written.anyOf = alternatives.schemas;
  else if (types.length > 1) {
    written.anyOf = types.map((type) => typed(given, type, state));
  }
  if (written.anyOf === undefined && written.type === undefined) {
    Object.assign(written, typed(given, types[0] ?? inferredType(given, nullable, state), state));
  }
  if (isNullable) written.nullable = true;
  return described(written, given);
}

/** The names of the types that a schema allows, null apart. */
function typesOf(given: JsonObject): { readonly types: readonly string[]; readonly nullable: boolean } {
  const named = (Array.isArray(given.type) ? given.type : [given.type]).filter((type) => typeof type === "string");
  const types = [...new Set(named.map((type) => type.toLowerCase()))];
  return { types: types.filter((type) => type !== "null"), nullable: types.includes("null") };
}

/** Whether a schema says what stands in its value, beside which alternatives cannot be said: these are lost then. */
function hasBody(given: JsonObject, state: State): boolean {
  if (!isObject(given.properties) && given.items === undefined && given.enum === undefined && given.const === undefined) return false;
  for (const keyword of ["anyOf", "oneOf"]) if (Array.isArray(given[keyword])) state.lost.add(keyword);
  return true;
}

const noAlternatives = { schemas: [], nullable: false } as const;

/** What `anyOf` or `oneOf` allow, without the alternative that is null. */
function alternativesOf(
  given: JsonObject,
  types: readonly string[],
  state: State,
): { readonly schemas: readonly Schema[]; readonly nullable: boolean } {
  if (Array.isArray(given.oneOf) && given.oneOf.length > 1) {
    // Of several that fit, the subset cannot ask for just one.
    const withNull = given.oneOf.filter(isNull).length;
    if (given.oneOf.length - withNull > 1) state.lost.add("oneOf");
  }
  const both = [given.anyOf, given.oneOf].filter((each) => Array.isArray(each));
  if (both.length > 1) state.lost.add("oneOf");
  const all: readonly unknown[] = both[0] ?? [];
  const schemas = all.filter((schema) => !isNull(schema)).map((schema) => subset(withType(schema, types), state));
  return { schemas, nullable: schemas.length < all.length };
}

/** An alternative that leaves the type to the schema around it. */
function withType(schema: unknown, types: readonly string[]): unknown {
  const leavesIt = isObject(schema) && !["type", "$ref", "anyOf", "oneOf", "allOf"].some((keyword) => schema[keyword] !== undefined);
  return leavesIt && types.length === 1 ? { ...schema, type: types[0] } : schema;
}

/** A schema of one type with the keywords that hold for it. */
function typed(given: JsonObject, type: string, state: State): Schema {
  const written: Schema = { type };
  switch (type) {
    case "object":
      writeProperties(given, written, state);
      break;
    case "array":
      written.items = itemsOf(given, state);
      copyNumbers(given, written, ["minItems", "maxItems"]);
      break;
    case "string":
      copyNumbers(given, written, ["minLength", "maxLength"]);
      if (typeof given.pattern === "string") written.pattern = given.pattern;
      break;
    case "integer":
    case "number":
      copyNumbers(given, written, ["minimum", "maximum"]);
      writeExclusive(given, written, type === "integer", state);
      break;
    default:
      break;
  }
  writeEnum(given, written, type, state);
  if (typeof given.format === "string" && given.format !== "enum") {
    if (formats[type]?.includes(given.format) === true) written.format = given.format;
    else state.lost.add("format");
  }
  if (given.default !== undefined) written.default = given.default;
  return written;
}

function writeProperties(given: JsonObject, written: Schema, state: State): void {
  // What is not named is not written by the model anyway; only what would allow more is lost.
  if (given.additionalProperties !== undefined && given.additionalProperties !== false) state.lost.add("additionalProperties");
  if (!isObject(given.properties) || Object.keys(given.properties).length === 0) return;
  const { properties } = given;
  // From entries, so that a property called __proto__ is a property and nothing more.
  written.properties = Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, subset(schema, state)]));
  const named = (list: unknown): unknown[] =>
    Array.isArray(list) ? list.filter((name) => typeof name === "string" && Object.hasOwn(properties, name)) : [];
  const required = named(given.required);
  if (required.length > 0) written.required = required;
  const ordering = named(given.propertyOrdering);
  if (ordering.length > 0) written.propertyOrdering = ordering;
}

/** What an array holds, which must be said. */
function itemsOf(given: JsonObject, state: State): Schema {
  const tuple = Array.isArray(given.prefixItems) ? given.prefixItems : Array.isArray(given.items) ? given.items : undefined;
  if (tuple !== undefined) {
    state.lost.add(Array.isArray(given.prefixItems) ? "prefixItems" : "items");
    const kinds = tuple.map((schema: unknown) => subset(schema, state));
    const distinct = [...new Map(kinds.map((kind) => [JSON.stringify(kind), kind])).values()];
    const [only] = distinct;
    if (only !== undefined) return distinct.length === 1 ? only : { anyOf: distinct };
  }
  if (isObject(given.items)) return subset(given.items, state);
  state.lost.add("items");
  return { type: "string" };
}

/** The limits that a value must not reach: of whole numbers, the next one is the limit that it may reach. */
function writeExclusive(given: JsonObject, written: Schema, whole: boolean, state: State): void {
  for (const [exclusive, inclusive, step] of exclusives) {
    const limit = given[exclusive];
    if (limit === undefined || limit === false) continue;
    if (typeof limit !== "number" || !whole) {
      state.lost.add(exclusive);
      continue;
    }
    const next = step > 0 ? Math.floor(limit) + 1 : Math.ceil(limit) - 1;
    const before = written[inclusive];
    written[inclusive] = typeof before !== "number" ? next : step > 0 ? Math.max(before, next) : Math.min(before, next);
  }
}

/** A choice of texts; one of other values cannot be said, and the type alone remains. */
function writeEnum(given: JsonObject, written: Schema, type: string, state: State): void {
  const values = given.const !== undefined ? [given.const] : given.enum;
  if (!Array.isArray(values)) return;
  const texts = values.filter((value) => value !== null);
  if (type === "string" && texts.length > 0 && texts.every((value) => typeof value === "string")) {
    written.enum = texts;
    if (given.format === "enum") written.format = "enum";
  } else state.lost.add(given.const !== undefined ? "const" : "enum");
}

/** The type of a schema that names none, by what it speaks of. */
function inferredType(given: JsonObject, nullable: boolean, state: State): string {
  if (isObject(given.properties) || given.required !== undefined || given.additionalProperties !== undefined) return "object";
  if (given.items !== undefined || given.prefixItems !== undefined) return "array";
  const value: unknown = given.const ?? (Array.isArray(given.enum) ? given.enum.find((each) => each !== null) : undefined);
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  if (typeof value === "boolean") return "boolean";
  if (typeof value !== "string" && !hasAny(given, textKeywords)) {
    if (hasAny(given, numberKeywords)) return "number";
    // Nothing is said, or nothing but null: a type must be named all the same.
    state.lost.add(nullable ? "null" : "type");
  }
  return "string";
}

function described(written: Schema, given: JsonObject): Schema {
  for (const keyword of ["title", "description"]) {
    if (typeof given[keyword] === "string") written[keyword] = given[keyword];
  }
  return written;
}

function copyNumbers(given: JsonObject, written: Schema, keywords: readonly string[]): void {
  for (const keyword of keywords) if (typeof given[keyword] === "number") written[keyword] = given[keyword];
}

function hasAny(given: JsonObject, keywords: readonly string[]): boolean {
  return keywords.some((keyword) => given[keyword] !== undefined);
}

function isNull(schema: unknown): boolean {
  return isObject(schema) && (schema.type === "null" || schema.const === null);
}

/** What a reference within the schema leads to (RFC 6901), or undefined. */
function found(root: JsonObject, reference: string): unknown {
  if (reference === "#") return root;
  if (!reference.startsWith("#/")) return undefined;
  let value: unknown = root;
  for (const step of reference.slice(2).split("/")) {
    const key = decoded(step).replaceAll("~1", "/").replaceAll("~0", "~");
    if (Array.isArray(value)) value = value[Number(key)];
    else if (isObject(value) && Object.hasOwn(value, key)) value = value[key];
    else return undefined;
  }
  return value;
}

function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

const exclusives = [
  ["exclusiveMinimum", "minimum", 1],
  ["exclusiveMaximum", "maximum", -1],
] as const;

const textKeywords = ["minLength", "maxLength", "pattern", "format"];
const numberKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

const formats: Readonly<Record<string, readonly string[]>> = {
  string: ["date-time"],
  integer: ["int32", "int64"],
  number: ["float", "double"],
};

/** Keywords that say something to people and ask for nothing. */
const annotations: ReadonlySet<string> = new Set(["title", "description", "default", "$comment", "$id", "$schema"]);

/** Keywords that mean nothing once the schema is written. */
const silent: ReadonlySet<string> = new Set(["$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "deprecated"]);

/** Keywords that are written, in one form or another; what of them is lost is found where they are. */
const carried: ReadonlySet<string> = new Set([
  "type",
  "format",
  "title",
  "description",
  "nullable",
  "enum",
  "const",
  "items",
  "prefixItems",
  "properties",
  "required",
  "propertyOrdering",
  "additionalProperties",
  "anyOf",
  "oneOf",
  "default",
  "minItems",
  "maxItems",
  "minLength",
  "maxLength",
  "pattern",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
]);

/** What the subset has, for those who check it. */
export const subsetKeywords: ReadonlySet<string> = new Set(
  [...carried].filter(
    (keyword) => !["const", "prefixItems", "additionalProperties", "oneOf", "exclusiveMinimum", "exclusiveMaximum"].includes(keyword),
  ),
);
