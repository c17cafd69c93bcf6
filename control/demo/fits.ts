/**
 * Whether a value fits a JSON Schema. The generator asks this of everything it made, since it makes values by guessing well.
 *
 * Covers the keywords of draft 2020-12 that shape a value, and `nullable`. Formats and keywords that only annotate are not asked.
 */
import { isArray, isObject, type Json, type JsonObject, kindOf, member, same } from "./json.ts";
import { readPattern } from "./pattern.ts";

/** The work that one question may cost, so that a schema that refers to itself in every way cannot keep the process busy. */
const stepsMax = 200_000;

/** Whether `value` fits `schema`. References are looked up in `root`. */
export function fits(schema: Json, value: Json, root: Json): boolean {
  return new Check(root).fits(schema, value, 0);
}

/** The schema that a reference within the document names, such as `#/$defs/node`; undefined if there is none. */
export function lookUp(reference: string, root: Json): Json | undefined {
  if (reference !== "#" && !reference.startsWith("#/")) return byAnchor(reference, root);
  let found: Json | undefined = root;
  for (const escaped of reference.split("/").slice(1)) {
    // RFC 6901: ~1 is a slash and ~0 a tilde; in a URI fragment the percent encoding comes first.
    const name = decoded(escaped).replaceAll("~1", "/").replaceAll("~0", "~");
    if (isArray(found)) found = found[Number(name)];
    else if (isObject(found)) found = member(found, name);
    else return undefined;
  }
  return found;
}

function byAnchor(reference: string, root: Json): Json | undefined {
  if (!isObject(root)) return undefined;
  for (const definitions of [member(root, "$defs"), member(root, "definitions")]) {
    if (!isObject(definitions)) continue;
    for (const candidate of Object.values(definitions)) {
      if (!isObject(candidate)) continue;
      if (`#${String(member(candidate, "$anchor"))}` === reference || member(candidate, "$id") === reference) return candidate;
    }
  }
  return undefined;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

class Check {
  readonly #root: Json;
  #steps = 0;

  constructor(root: Json) {
    this.#root = root;
  }

  fits(schema: Json | undefined, value: Json, depth: number): boolean {
    this.#steps += 1;
    // A schema that only refers to itself never gets anywhere; no real one nests this deep.
    if (this.#steps > stepsMax || depth > 200) return false;
    if (schema === undefined || schema === true) return true;
    if (!isObject(schema)) return false;
    if (value === null && member(schema, "nullable") === true) return true;
    return this.#fitsCombined(schema, value, depth + 1) && this.#fitsPlain(schema, value, depth + 1);
  }

  #fitsCombined(schema: JsonObject, value: Json, depth: number): boolean {
    const reference = member(schema, "$ref");
    if (typeof reference === "string") {
      const target = lookUp(reference, this.#root);
      if (target === undefined || !this.fits(target, value, depth)) return false;
    }
    const all = member(schema, "allOf");
    if (isArray(all) && !all.every((part) => this.fits(part, value, depth))) return false;
    const any = member(schema, "anyOf");
    if (isArray(any) && !any.some((part) => this.fits(part, value, depth))) return false;
    const one = member(schema, "oneOf");
    if (isArray(one) && one.filter((part) => this.fits(part, value, depth)).length !== 1) return false;
    const not = member(schema, "not");
    if (not !== undefined && this.fits(not, value, depth)) return false;
    const condition = member(schema, "if");
    if (condition !== undefined) {
      const branch = this.fits(condition, value, depth) ? member(schema, "then") : member(schema, "else");
      if (!this.fits(branch, value, depth)) return false;
    }
    return true;
  }

  #fitsPlain(schema: JsonObject, value: Json, depth: number): boolean {
    const type = member(schema, "type");
    if (type !== undefined && !(isArray(type) ? type : [type]).some((wanted) => isOfType(value, wanted))) return false;
    const values = member(schema, "enum");
    if (isArray(values) && !values.some((allowed) => same(allowed, value))) return false;
    const constant = member(schema, "const");
    if (constant !== undefined && !same(constant, value)) return false;
    if (typeof value === "number") return fitsNumber(schema, value);
    if (typeof value === "string") return fitsString(schema, value);
    if (isArray(value)) return this.#fitsArray(schema, value, depth);
    return !isObject(value) || this.#fitsObject(schema, value, depth);
  }

  #fitsArray(schema: JsonObject, value: readonly Json[], depth: number): boolean {
    if (value.length < (numberOf(schema, "minItems") ?? 0) || value.length > (numberOf(schema, "maxItems") ?? Infinity)) return false;
    if (member(schema, "uniqueItems") === true && value.some((item, at) => value.slice(0, at).some((other) => same(item, other)))) {
      return false;
    }
    const contains = member(schema, "contains");
    if (contains !== undefined) {
      const count = value.filter((item) => this.fits(contains, item, depth)).length;
      if (count < (numberOf(schema, "minContains") ?? 1) || count > (numberOf(schema, "maxContains") ?? Infinity)) return false;
    }
    return value.every((item, at) => this.fits(itemSchema(schema, at), item, depth));
  }

  #fitsObject(schema: JsonObject, value: JsonObject, depth: number): boolean {
    const names = Object.keys(value);
    if (names.length < (numberOf(schema, "minProperties") ?? 0) || names.length > (numberOf(schema, "maxProperties") ?? Infinity))
      return false;
    if (requiredNames(schema).some((name) => !Object.hasOwn(value, name))) return false;
    const nameSchema = member(schema, "propertyNames");
    const dependents = member(schema, "dependentRequired");
    const dependentSchemas = member(schema, "dependentSchemas");
    for (const name of names) {
      if (nameSchema !== undefined && !this.fits(nameSchema, name, depth)) return false;
      const needed = isObject(dependents) ? member(dependents, name) : undefined;
      if (isArray(needed) && needed.some((other) => typeof other === "string" && !Object.hasOwn(value, other))) return false;
      if (isObject(dependentSchemas) && !this.fits(member(dependentSchemas, name), value, depth)) return false;
      const item = member(value, name) ?? null;
      if (!propertySchemas(schema, name).every((part) => this.fits(part, item, depth))) return false;
    }
    return true;
  }
}

/** The schemas that a property of this name must fit: its own, those of fitting patterns, or else the one for additional ones. */
export function propertySchemas(schema: JsonObject, name: string): Json[] {
  const found: Json[] = [];
  const properties = member(schema, "properties");
  const own = isObject(properties) ? member(properties, name) : undefined;
  if (own !== undefined) found.push(own);
  const patterns = member(schema, "patternProperties");
  if (isObject(patterns)) {
    for (const [pattern, part] of Object.entries(patterns)) if (readPattern(pattern)?.matches(name) === true) found.push(part);
  }
  const additional = member(schema, "additionalProperties");
  if (found.length === 0 && additional !== undefined) found.push(additional);
  return found;
}

/** The schema of the item at a place of an array; undefined if anything goes. */
export function itemSchema(schema: JsonObject, at: number): Json | undefined {
  const items = member(schema, "items");
  // Before draft 2020-12 a list of schemas stood under items, and what followed them under additionalItems.
  const prefix = member(schema, "prefixItems") ?? (isArray(items) ? items : undefined);
  if (isArray(prefix) && at < prefix.length) return prefix[at];
  return isArray(items) ? member(schema, "additionalItems") : items;
}

/** The names of the properties that must be there. */
export function requiredNames(schema: JsonObject): string[] {
  const required = member(schema, "required");
  return isArray(required) ? required.filter((name) => typeof name === "string") : [];
}

/** A keyword's value if it is a number. */
export function numberOf(schema: JsonObject, keyword: string): number | undefined {
  const value = member(schema, keyword);
  return typeof value === "number" ? value : undefined;
}

/** Whether a number obeys the keywords for numbers. */
export function fitsNumber(schema: JsonObject, value: number): boolean {
  const step = numberOf(schema, "multipleOf");
  return (
    value >= (numberOf(schema, "minimum") ?? -Infinity) &&
    value <= (numberOf(schema, "maximum") ?? Infinity) &&
    value > (numberOf(schema, "exclusiveMinimum") ?? -Infinity) &&
    value < (numberOf(schema, "exclusiveMaximum") ?? Infinity) &&
    (step === undefined || Number.isInteger(value / step))
  );
}

/** Whether a text obeys the keywords for text. Lengths count code points, as JSON Schema says. */
export function fitsString(schema: JsonObject, value: string): boolean {
  const length = [...value].length;
  if (length < (numberOf(schema, "minLength") ?? 0) || length > (numberOf(schema, "maxLength") ?? Infinity)) return false;
  const pattern = member(schema, "pattern");
  return typeof pattern !== "string" || readPattern(pattern)?.matches(value) === true;
}

function isOfType(value: Json, type: Json): boolean {
  const kind = kindOf(value);
  return kind === type || (kind === "integer" && type === "number");
}
