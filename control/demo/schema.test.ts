import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fits } from "./fits.ts";
import type { Json } from "./json.ts";
import { readPrompt } from "./prompt.ts";
import { SchemaRefused, writeValue } from "./schema.ts";

const prompt = readPrompt("Book 3 rooms in Paris and Rome for Ada Lovelace, in green.");

/** Whether somebody else's validator accepts the value. */
function accepted(schema: Json, value: Json): boolean {
  // Without ownProperties a property that is called constructor would be found in every object.
  const ajv = new Ajv2020({ strict: false, allErrors: true, logger: false, ownProperties: true });
  addFormats.default(ajv);
  const validate = ajv.compile(schema as object | boolean);
  return validate(JSON.parse(JSON.stringify(value)));
}

function written(schema: Json, seed = "seed"): Json {
  const value = writeValue(schema, prompt, seed);
  expect(accepted(schema, value), `${JSON.stringify(schema)} got ${JSON.stringify(value)}`).toBe(true);
  return value;
}

const formats = [
  "date",
  "time",
  "date-time",
  "duration",
  "email",
  "hostname",
  "ipv4",
  "ipv6",
  "uri",
  "uri-reference",
  "uuid",
  "json-pointer",
];

// Schemas of which each is satisfiable by construction, so that a refusal is a failure of the generator.
const names = fc.constantFrom("city", "name", "count", "id", "items", "query", "x", "y_z", "constructor", "ü");
const { schema } = fc.letrec<{ schema: Json; object: Json }>((tie) => ({
  object: fc
    .tuple(
      fc.uniqueArray(fc.tuple(names, tie("schema"), fc.boolean()), { selector: ([name]) => name, maxLength: 4 }),
      fc.constantFrom<Json[]>([false], [true], []),
      fc.boolean(),
    )
    .map(([members, additional, dependent]) => ({
      type: "object",
      properties: Object.fromEntries(members.map(([name, part]) => [name, part])),
      required: members.filter(([, , required]) => required).map(([name]) => name),
      ...(additional[0] === undefined ? {} : { additionalProperties: additional[0] }),
      ...(dependent && members[0] !== undefined && members[1] !== undefined
        ? { dependentRequired: { [members[0][0]]: [members[1][0]] } }
        : {}),
    })),
  schema: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom<Json>(true, {}, { type: "boolean" }, { type: "null" }, { type: ["string", "null"] }, { const: { a: [1] } }),
    fc
      .uniqueArray(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { minLength: 1, maxLength: 4 })
      .map((values) => ({ enum: values })),
    fc
      .tuple(fc.integer({ min: -50, max: 50 }), fc.nat(30))
      .map(([from, size]) => ({ type: "integer", minimum: from, maximum: from + size })),
    fc
      .tuple(fc.integer({ min: -50, max: 50 }), fc.constantFrom(2, 5, 7))
      .map(([from, step]) => ({ type: "integer", exclusiveMinimum: from, multipleOf: step })),
    fc.tuple(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.double({ min: 0, max: 10, noNaN: true })).map(([from, size]) => ({
      type: "number",
      minimum: from === 0 ? 0 : from,
      maximum: from + size === 0 ? 0 : from + size,
    })),
    fc.tuple(fc.nat(40), fc.nat(20)).map(([least, more]) => ({ type: "string", minLength: least, maxLength: least + more })),
    fc
      .constantFrom("^[A-Z]{3}-\\d{4}$", "^(red|blue)$", "^\\S+@\\S+\\.[a-z]{2,}$", "[0-9]+", "^#[0-9a-f]{6}$")
      .map((pattern) => ({ type: "string", pattern })),
    fc.constantFrom(...formats).map((format) => ({ type: "string", format })),
    tie("object"),
    fc
      .tuple(tie("schema"), fc.nat(3), fc.nat(3))
      .map(([items, least, more]) => ({ type: "array", items, minItems: least, maxItems: least + more })),
    fc
      .tuple(tie("schema"), tie("schema"))
      .map(([first, second]) => ({ type: "array", prefixItems: [first, second], items: false, minItems: 2 })),
    fc
      .tuple(fc.constantFrom("string", "integer"), fc.integer({ min: 1, max: 5 }))
      .map(([type, least]) => ({ type: "array", items: { type }, uniqueItems: true, minItems: least })),
    fc.tuple(tie("schema"), tie("schema")).map((branches) => ({ anyOf: branches })),
    tie("schema").map((part) => ({ allOf: [part, {}] })),
    tie("object").map((part) => ({ allOf: [part], description: "wrapped" })),
  ),
}));

describe("a value that fits", () => {
  test("any schema that has one, by the word of another validator", () => {
    fc.assert(
      fc.property(schema, fc.string(), (one, seed) => {
        written(one, seed);
      }),
      { numRuns: 250 },
    );
  });

  test("the same every time", () => {
    fc.assert(
      fc.property(schema, fc.string(), (one, seed) => {
        expect(writeValue(one, prompt, seed)).toEqual(writeValue(one, prompt, seed));
      }),
    );
  });

  // The other validator takes the number 1e21 for 1 where it asks for multiples.
  const value = fc.jsonValue().filter((one) => !/\de[+-]?\d/.test(JSON.stringify(one)));

  test("our reading of a schema and the other validator's are the same, for values that fit and values that do not", () => {
    fc.assert(
      fc.property(schema, value, fc.string(), (one, other, seed) => {
        for (const value of [other as Json, writeValue(one, prompt, seed)]) {
          // Formats only annotate for us; where one is asserted, the two may differ.
          if (!JSON.stringify(one).includes('"format"'))
            expect(fits(one, value, one), JSON.stringify([one, value])).toBe(accepted(one, value));
        }
      }),
      { numRuns: 150 },
    );
  });

  const cases: Readonly<Record<string, Json>> = {
    "a tree that contains itself": {
      $defs: {
        node: {
          type: "object",
          properties: {
            left: { $ref: "#/$defs/node" },
            right: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] },
            value: { type: "integer" },
          },
          required: ["value", "right"],
          additionalProperties: false,
        },
      },
      $ref: "#/$defs/node",
    },
    "a list of itself": { type: "object", properties: { children: { type: "array", items: { $ref: "#" } } }, required: ["children"] },
    "two that need each other": {
      $defs: {
        a: { type: "object", properties: { b: { $ref: "#/$defs/b" } }, required: ["b"] },
        b: { oneOf: [{ $ref: "#/$defs/a" }, { type: "string" }] },
      },
      $ref: "#/$defs/a",
    },
    "exactly one of several objects": {
      oneOf: [
        {
          type: "object",
          properties: { kind: { const: "circle" }, radius: { type: "number", exclusiveMinimum: 0 } },
          required: ["kind", "radius"],
          additionalProperties: false,
        },
        {
          type: "object",
          properties: { kind: { const: "square" }, side: { type: "number", exclusiveMinimum: 0 } },
          required: ["kind", "side"],
          additionalProperties: false,
        },
      ],
    },
    "exactly one of overlapping ranges": {
      oneOf: [
        { type: "integer", minimum: 0, maximum: 10 },
        { type: "integer", minimum: 5, maximum: 20 },
      ],
    },
    "all of several": {
      allOf: [
        { type: "object", properties: { a: { type: "string" } }, required: ["a"] },
        { properties: { a: { minLength: 40 }, b: { type: "number" } }, required: ["b"] },
      ],
    },
    // Written as text, since an object with a member "then" is easily taken for a promise.
    "something, if something": JSON.parse(
      '{"type":"object","properties":{"kind":{"enum":["a","b"]}},"required":["kind"],"if":{"properties":{"kind":{"const":"a"}}},' +
        '"then":{"required":["extra"]},"else":{"required":["other"]}}',
    ),
    "nothing of a kind": { type: "string", not: { enum: ["Paris"] } },
    "a nullable of OpenAPI": { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    "a required property nobody declared": { type: "object", required: ["surprise"], additionalProperties: { type: "integer" } },
    "so many properties, by the look of their names": {
      type: "object",
      minProperties: 3,
      patternProperties: { "^x-[a-z]{3}$": { type: "integer" } },
      additionalProperties: false,
    },
    "a name of a property": { type: "object", minProperties: 2, propertyNames: { pattern: "^[a-z]{4}$" } },
    "an array that contains": { type: "array", contains: { const: 7 }, minContains: 2, items: { type: "integer" } },
    "different items": { type: "array", items: { enum: ["a", "b", "c", "d"] }, uniqueItems: true, minItems: 4 },
    "a least common multiple": {
      allOf: [
        { type: "integer", multipleOf: 4 },
        { minimum: 1, maximum: 50 },
      ],
    },
    "a fraction of a step": { type: "number", multipleOf: 0.25, minimum: 0.1, maximum: 0.9 },
    "an escaped reference": {
      definitions: { "a/b~c": { type: "integer" } },
      properties: { x: { $ref: "#/definitions/a~1b~0c" } },
      required: ["x"],
      type: "object",
    },
    "a schema of zod": {
      $schema: "http://json-schema.org/draft-07/schema#",
      type: "object",
      properties: {
        steps: {
          type: "array",
          items: {
            type: "object",
            properties: { explanation: { type: "string" }, output: { type: "string" } },
            required: ["explanation", "output"],
            additionalProperties: false,
          },
        },
        final_answer: { type: "string" },
      },
      required: ["steps", "final_answer"],
      additionalProperties: false,
    },
  };
  test.each(Object.entries(cases))("%s", (_, one) => {
    const plain = JSON.parse(JSON.stringify(one).replace('"$schema":"http://json-schema.org/draft-07/schema#",', ""));
    for (let seed = 0; seed < 8; seed += 1) written(plain, String(seed));
  });

  test("a property that is called like a trap of the language is a property like others", () => {
    const trap = JSON.parse('{"type":"object","properties":{"__proto__":{"type":"integer"}},"required":["__proto__"]}');
    expect(JSON.stringify(writeValue(trap, prompt, "seed"))).toBe('{"__proto__":3}');
  });

  test("nullable allows null, and mostly gives the other thing", () => {
    const nullable = { type: "string", nullable: true };
    const kinds = new Set(Array.from({ length: 60 }, (_, seed) => typeof writeValue(nullable, prompt, String(seed))));
    expect(kinds).toContain("string");
    expect(fits(nullable, null, nullable)).toBe(true);
  });

  test("takes names, numbers and listed values out of the prompt", () => {
    expect(
      written({
        type: "object",
        properties: { city: { type: "string" }, rooms: { type: "integer" }, colour: { enum: ["red", "green"] } },
        required: ["city", "rooms", "colour"],
        additionalProperties: false,
      }),
    ).toEqual({ city: "Paris", rooms: 3, colour: "green" });
  });
});

test.each<Json>([
  false,
  { type: "string", minLength: 5, maxLength: 4 },
  { enum: [] },
  { allOf: [{ type: "string" }, { type: "integer" }] },
  { $ref: "#/$defs/missing" },
  { $ref: "#" },
  { type: "object", properties: { self: { $ref: "#" } }, required: ["self"] },
  { type: "string", pattern: "(?=a)b" },
  { type: "array", minItems: 1_000_000_000, items: { type: "null" } },
  { type: "string", minLength: 1_000_000_000 },
  { anyOf: Array.from({ length: 30 }, () => ({ allOf: [{ $ref: "#" }, { $ref: "#" }] })) },
])("a schema that nothing fits, or nothing of bearable size, is refused: %j", (one) => {
  expect(() => writeValue(one, prompt, "seed")).toThrow(SchemaRefused);
});
