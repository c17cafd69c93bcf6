/** Where JSON that is no message of a schema goes wrong: protobuf-es says that, but not where, and may quote what stands there. */
import { type DescField, type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import type { FieldViolation } from "./fault.ts";

type JsonObject = { readonly [key: string]: unknown };

/**
 * The first member, in the order of the text, that a schema has no place for, with its path; undefined if every member fits by itself. For
 * JSON that could not be read. Looks no deeper than `depthMax` messages within each other.
 */
export function wrongJson(schema: DescMessage, json: JsonObject, depthMax: number): FieldViolation | undefined {
  return whatIsWrong(schema, json, "", depthMax);
}

function whatIsWrong(schema: DescMessage, json: JsonObject, at: string, depth: number): FieldViolation | undefined {
  if (depth === 0) return { field: at, message: "lies too deep" };
  for (const [name, value] of Object.entries(json)) {
    const field = schema.fields.find((candidate) => candidate.jsonName === name || candidate.name === name);
    if (field === undefined) return { field: joined(at, shown(name)), message: `is not a field of ${schema.typeName}` };
    const found = wrongWithin(field, value, joined(at, field.name), depth);
    if (found !== undefined) return found;
  }
  return undefined;
}

function wrongWithin(field: DescField, value: unknown, at: string, depth: number): FieldViolation | undefined {
  if (field.fieldKind === "message" && isObject(value)) {
    const found = whatIsWrong(field.message, value, at, depth - 1);
    if (found !== undefined) return found;
  }
  if (field.fieldKind === "list" && field.listKind === "message" && Array.isArray(value)) {
    for (const [index, element] of value.entries()) {
      const place = `${at}[${index}]`;
      if (!isObject(element)) return { field: place, message: `must be an object, a ${field.message.typeName}` };
      const found = whatIsWrong(field.message, element, place, depth - 1);
      if (found !== undefined) return found;
    }
  }
  try {
    fromJson(field.parent, { [field.jsonName]: value } as JsonValue, strictly);
    return undefined;
  } catch {
    // Every member fits by itself, so it is the object that does not.
    if (field.fieldKind === "message" && isObject(value)) return { field: at, message: "has members that exclude each other" };
    return { field: at, message: `must be ${expected(field)}` };
  }
}

function expected(field: DescField): string {
  switch (field.fieldKind) {
    case "message":
      return `an object, a ${field.message.typeName}`;
    case "list":
      return "an array of values of its kind";
    case "map":
      return "an object with values of its kind";
    case "enum":
      return `the name of a value of ${field.enum.typeName}`;
    case "scalar":
      return `a value of the protobuf type ${scalarNames.get(field.scalar) ?? "given in the schema"}`;
  }
}

/** The names of protobuf's scalar types, by their numbers in `google.protobuf.FieldDescriptorProto.Type`. */
const scalarNames: ReadonlyMap<number, string> = new Map([
  [1, "double"],
  [3, "int64"],
  [5, "int32"],
  [8, "bool"],
  [9, "string"],
  [12, "bytes"],
  [13, "uint32"],
]);

/** Any depth that could be walked can be read. */
const strictly = Object.freeze({ ignoreUnknownFields: false });

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function joined(at: string, name: string): string {
  return at === "" ? name : `${at}.${name}`;
}

/** A name that came from outside, so much of it that it can be recognised. */
function shown(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name) ? name : JSON.stringify(name.slice(0, 64));
}
