import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  equals,
  fromJson,
  type JsonValue,
  type Message,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { FieldRulesSchema } from "../gen/buf/validate/validate_pb.ts";
import { readDocuments } from "./document.ts";
import { kindNames, schemaOf } from "./kinds.ts";
import { isShowable } from "./secrecy.ts";
import { readShape, shortEnumName } from "./shape.ts";

// The rules of protovalidate are no policy, but they have a field of every scalar type, which policy does not yet.
const schemas: DescMessage[] = [...kindNames.map(schemaOf), FieldRulesSchema];

describe("a message, written as YAML or JSON and read again, is the same", () => {
  test.each(schemas.map((schema) => [schema.name, schema] as const))("%s", (_, schema) => {
    fc.assert(
      fc.property(messages(schema, 4), fc.constantFrom("yaml", "json", "snake"), (message, form) => {
        const json = toJson(schema, message, { useProtoFieldName: form === "snake" });
        const text = form === "json" ? JSON.stringify(json) : stringify(json);
        const { documents, flaws } = readDocuments(text);
        expect(flaws).toEqual([]);
        const { json: read, misfits } = readShape(schema, documents[0]?.root ?? { is: "mapping", at: 0, entries: [] });
        expect(misfits).toEqual([]);
        expect(equals(schema, fromJson(schema, read as JsonValue), message)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

test("every field of every kind can be read", () => {
  for (const kind of kindNames) {
    const seen = new Set<DescMessage>();
    const visit = (schema: DescMessage): void => {
      if (seen.has(schema)) return;
      seen.add(schema);
      // Throws for types that the walk does not know, and for maps whose keys are not text.
      for (const field of schema.fields) {
        const tree = field.fieldKind === "map" ? ({ is: "mapping", at: 0, entries: [] } as const) : ({ is: "nothing", at: 0 } as const);
        readShape(schema, { is: "mapping", at: 0, entries: [{ key: field.name, keyAt: 0, value: tree }] });
        if (field.message !== undefined && !field.message.typeName.startsWith("google.protobuf.")) visit(field.message);
      }
    };
    visit(schemaOf(kind));
    expect(seen.size).toBeGreaterThan(3);
  }
});

test.each([
  ["INT32", "int32: {const: 2147483648}", "Expected a whole number from -2147483648 to 2147483647, not 2147483648."],
  ["UINT32", "uint32: {const: -1}", "Expected a whole number from 0 to 4294967295, not -1."],
  ["UINT64", "uint64: {const: 18446744073709551616}", "Expected a whole number from 0 to 18446744073709551615, not 18446744073709551616."],
  [
    "SINT64",
    'sint64: {const: "9223372036854775808"}',
    "Expected a whole number from -9223372036854775808 to 9223372036854775807, not 9223372036854775808.",
  ],
  ["INT32 as text", 'int32: {const: "1"}', "Expected a whole number, not text."],
  ["DOUBLE", "double: {const: .nan}", "Expected a number of at most 1.7976931348623157e+308, not NaN."],
  ["FLOAT", "float: {const: 3.5e38}", "Expected a number of at most 3.4028234663852886e+38, not 3.5e+38."],
  ["BYTES", "bytes: {const: a}", "Expected base64 with its padding."],
  ["BOOL", "bool: {const: 1}", "Expected true or false, not a whole number."],
  ["TIMESTAMP", "timestamp: {const: 2024-02-30T00:00:00Z}", 'Expected a time such as 2026-01-31T00:00:00Z, not "2024-02-30T00:00:00Z".'],
  ["DURATION", "duration: {const: 315576000001s}", 'Expected seconds with the letter s, such as 30s or 0.5s, not "315576000001s".'],
])("%s out of its range is told", (_, text, message) => {
  const root = readDocuments(text).documents[0]?.root;
  if (root === undefined) throw new Error("nothing was read");
  expect(readShape(FieldRulesSchema, root).misfits.map((misfit) => misfit.message)).toEqual([message]);
});

test.each(["2024-02-29T23:59:59.123456789Z", "2026-12-31T00:00:00+14:00", "0001-01-01T00:00:00Z"])("the time %s is read", (time) => {
  const root = readDocuments(`timestamp: {const: "${time}"}`).documents[0]?.root;
  expect(root && readShape(FieldRulesSchema, root).misfits).toEqual([]);
});

/** The messages of Google's that policy uses. */
const readable = new Set(["google.protobuf.Duration", "google.protobuf.Timestamp"]);

/** Any message of a schema, its fields set or not. */
function messages(schema: DescMessage, depth: number): fc.Arbitrary<Message> {
  // Of a oneof one field is set; those of messages are left out where it gets too deep.
  const groups = schema.members.map((member): fc.Arbitrary<(target: Message) => void> => {
    const fields = (member.kind === "oneof" ? member.fields : [member]).filter(
      ({ message }) =>
        message === undefined || (depth > 0 && (readable.has(message.typeName) || !message.typeName.startsWith("google.protobuf."))),
    );
    const setters = fields.map((field) =>
      values(field, depth).map((value) => (target: Message) => reflect(schema, target).set(field, value)),
    );
    return fc.oneof(
      fc.constant(() => {}),
      ...setters,
    );
  });
  return fc.tuple(...groups).map((setters) => {
    const message = create(schema);
    for (const set of setters) set(message);
    return message;
  });
}

function values(field: DescField, depth: number): fc.Arbitrary<unknown> {
  switch (field.fieldKind) {
    case "list":
      return fc.array(element(field, depth), { maxLength: 3 }).map((items) => {
        const holder = reflect(field.parent, create(field.parent)).get(field);
        for (const item of items) holder.add(item as never);
        return holder;
      });
    case "map":
      return fc.uniqueArray(fc.tuple(texts, element(field, depth)), { maxLength: 3, selector: ([key]) => key }).map((entries) => {
        const holder = reflect(field.parent, create(field.parent)).get(field);
        for (const [key, value] of entries) holder.set(key, value as never);
        return holder;
      });
    default:
      return element(field, depth);
  }
}

function element(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message !== undefined) return inner(field.message, depth - 1).map((message) => reflect(field.message as DescMessage, message));
  if (field.enum !== undefined) return numbersOf(field.enum);
  return scalars(field.scalar ?? ScalarType.STRING);
}

function inner(schema: DescMessage, depth: number): fc.Arbitrary<Message> {
  const seconds = fc.bigInt({ min: -100_000n, max: 315_576_000n });
  if (schema.typeName === "google.protobuf.Duration") {
    return seconds.chain((whole) =>
      fc.nat(999_999_999).map((nanos) => create(schema, { seconds: whole, nanos: whole < 0n ? -nanos : nanos } as Record<string, unknown>)),
    );
  }
  if (schema.typeName === "google.protobuf.Timestamp") {
    return seconds.chain((whole) =>
      fc.nat(999_999_999).map((nanos) => create(schema, { seconds: whole, nanos } as Record<string, unknown>)),
    );
  }
  return messages(schema, depth);
}

function numbersOf(type: DescEnum): fc.Arbitrary<number> {
  return fc.constantFrom(...type.values.map(({ number }) => number));
}

const texts = fc
  .oneof(
    fc.string({ unit: "binary", maxLength: 12 }),
    fc.constantFrom(
      "yes",
      "null",
      "0x1f",
      "1e3",
      "~",
      "- a",
      "a: b",
      "# c",
      "*x",
      "&x",
      "!t",
      "2026-01-01",
      "__proto__",
      "<<",
      "\ufeff",
      "\u0085",
    ),
  )
  .filter((text) => isShowable(text));

function scalars(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return texts;
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 8 });
    case ScalarType.DOUBLE:
      return fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0));
    case ScalarType.FLOAT:
      return fc.float({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0));
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.integer({ min: 0, max: 2 ** 32 - 1 });
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    default:
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  }
}

test("an enum's values may be written short", () => {
  const schema = schemaOf("ModelRoute").fields.find(({ name }) => name === "spec")?.message;
  const type = schema?.fields.find(({ name }) => name === "unsupported_params")?.enum;
  if (type === undefined) throw new Error("the route has lost its enum");
  expect(type.values.map(({ name }) => shortEnumName(type, name))).toEqual(["unspecified", "reject", "drop"]);
});
