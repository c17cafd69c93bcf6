/** JSON as values, and the few questions about them that several files of the demo provider ask. */

/** Any JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** A JSON object. */
export type JsonObject = { readonly [name: string]: Json };

/** Whether a value is an object, and not an array or null. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is an array. The language's own test does not know read-only ones. */
export function isArray(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** A member of an object that is really there; names such as `__proto__` are names like others. */
export function member(object: JsonObject, name: string): Json | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** Whether two values are the same to JSON: the order of members does not count, 1.0 is 1. */
export function same(left: Json, right: Json): boolean {
  if (left === right) return true;
  if (isArray(left)) return isArray(right) && left.length === right.length && left.every((item, at) => same(item, right[at] ?? null));
  if (!isObject(left) || !isObject(right)) return false;
  const names = Object.keys(left);
  return (
    names.length === Object.keys(right).length &&
    names.every((name) => Object.hasOwn(right, name) && same(member(left, name) ?? null, member(right, name) ?? null))
  );
}

/** What kind of value it is, in JSON Schema's words. */
export function kindOf(value: Json): string {
  if (value === null) return "null";
  if (isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}
