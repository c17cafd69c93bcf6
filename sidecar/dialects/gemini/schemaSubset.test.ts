import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isObject } from "../../framing/json.ts";
import { schemaSubset, subsetKeywords } from "./schemaSubset.ts";

function subset(schema: object): { schema: unknown; lost: readonly string[] } {
  const written = schemaSubset(JSON.stringify(schema));
  if (written === undefined) throw new Error("too large");
  return { schema: written.text === undefined ? undefined : JSON.parse(written.text), lost: written.lost };
}

const object = (properties: object, more: object = {}): object => ({ type: "object", properties, ...more });

describe("a schema in the subset", () => {
  it.each<[string, object, object | undefined, string[]]>([
    ["an object without properties is left out", { type: "object", properties: {}, additionalProperties: false }, undefined, []],
    [
      "what the subset has stays",
      object({ a: { type: "string", enum: ["x"], description: "d" } }, { required: ["a"] }),
      object({ a: { type: "string", enum: ["x"], description: "d" } }, { required: ["a"] }),
      [],
    ],
    [
      "types in capitals are the same types",
      { type: "OBJECT", properties: { a: { type: "STRING" } } },
      object({ a: { type: "string" } }),
      [],
    ],
    [
      "a reference is written out, and what stands beside it holds",
      object({ a: { $ref: "#/$defs/A", description: "own" } }, { $defs: { A: { type: "integer", description: "old" } } }),
      object({ a: { type: "integer", description: "own" } }),
      [],
    ],
    [
      "a pointer with escapes is found",
      object({ a: { $ref: "#/$defs/x~1y%20z" } }, { $defs: { "x/y z": { type: "boolean" } } }),
      object({ a: { type: "boolean" } }),
      [],
    ],
    [
      "a reference to nothing is an object",
      object({ a: { $ref: "#/nowhere" }, b: { $ref: "https://example.org/b" } }),
      object({ a: { type: "object" }, b: { type: "object" } }),
      ["$ref"],
    ],
    [
      "a null beside a type makes it nullable",
      object({ a: { type: ["string", "null"] } }),
      object({ a: { type: "string", nullable: true } }),
      [],
    ],
    [
      "several types are alternatives",
      object({ a: { type: ["string", "integer"], description: "d" } }),
      object({ a: { anyOf: [{ type: "string" }, { type: "integer" }], description: "d" } }),
      [],
    ],
    [
      "an alternative that is null makes it nullable",
      object({ a: { anyOf: [{ type: "number" }, { type: "null" }] } }),
      object({ a: { type: "number", nullable: true } }),
      [],
    ],
    [
      "oneOf becomes anyOf",
      object({ a: { oneOf: [{ type: "number" }, { type: "string" }] } }),
      object({ a: { anyOf: [{ type: "number" }, { type: "string" }] } }),
      ["oneOf"],
    ],
    [
      "allOf is merged",
      {
        allOf: [object({ a: { type: "string" } }, { required: ["a"] }), { $ref: "#/$defs/B" }],
        $defs: { B: object({ b: { type: "number" } }, { required: ["b"] }) },
      },
      object({ a: { type: "string" }, b: { type: "number" } }, { required: ["a", "b"] }),
      [],
    ],
    [
      "parts of allOf that disagree lose one",
      { allOf: [{ type: "string", maxLength: 3 }, { maxLength: 5 }] },
      { type: "string", maxLength: 5 },
      ["allOf"],
    ],
    ["a constant text is a choice of one", object({ a: { const: "x" } }), object({ a: { type: "string", enum: ["x"] } }), []],
    [
      "a choice of numbers is a number",
      object({ a: { enum: [1, 2] }, b: { const: true } }),
      object({ a: { type: "integer" }, b: { type: "boolean" } }),
      ["const", "enum"],
    ],
    [
      "an exclusive limit of whole numbers is the next one",
      object({ a: { type: "integer", exclusiveMinimum: 0, exclusiveMaximum: 10.5 }, b: { type: "number", exclusiveMinimum: 0 } }),
      object({ a: { type: "integer", minimum: 1, maximum: 10 }, b: { type: "number" } }),
      ["exclusiveMinimum"],
    ],
    [
      "a list of anything is one of texts",
      object({ a: { type: "array" } }),
      object({ a: { type: "array", items: { type: "string" } } }),
      ["items"],
    ],
    [
      "a list of fixed places is one of their kinds",
      object({ a: { type: "array", prefixItems: [{ type: "string" }, { type: "number" }] } }),
      object({ a: { type: "array", items: { anyOf: [{ type: "string" }, { type: "number" }] } } }),
      ["prefixItems"],
    ],
    [
      "required names that are no properties go",
      object({ a: { type: "string" } }, { required: ["a", "b"] }),
      object({ a: { type: "string" } }, { required: ["a"] }),
      [],
    ],
    [
      "what has no counterpart is named",
      object(
        { a: { type: "string", format: "email", not: {} } },
        { patternProperties: {}, additionalProperties: true, $schema: "x", $comment: "y" },
      ),
      object({ a: { type: "string" } }),
      ["additionalProperties", "format", "not", "patternProperties"],
    ],
    [
      "properties called like keywords are properties",
      object({ $ref: { type: "string" }, allOf: { type: "string" }, __proto__x: { type: "string" } }),
      object({ $ref: { type: "string" }, allOf: { type: "string" }, __proto__x: { type: "string" } }),
      [],
    ],
    [
      "properties stand before alternatives beside them",
      object({ a: { type: "string" } }, { anyOf: [{ required: ["a"] }] }),
      object({ a: { type: "string" } }),
      ["anyOf"],
    ],
    [
      "alternatives that leave the type to what is around them have it",
      object({ a: { type: "integer", anyOf: [{ minimum: 1 }, { maximum: -1 }] } }),
      object({
        a: {
          anyOf: [
            { type: "integer", minimum: 1 },
            { type: "integer", maximum: -1 },
          ],
        },
      }),
      [],
    ],
    [
      "anything and nothing become text",
      object({ a: true, b: {}, c: { type: "null" } }),
      object({ a: { type: "string" }, b: { type: "string" }, c: { type: "string", nullable: true } }),
      ["null", "type"],
    ],
  ])("%s", (_, given, expected, lost) => {
    expect(subset(given)).toEqual({ schema: expected, lost });
  });

  it("ends a reference that leads back to itself, by whichever way", () => {
    const tree = object({ children: { type: "array", items: { $ref: "#" } } });
    expect(subset(tree)).toEqual({
      schema: object({ children: { type: "array", items: object({ children: { type: "array", items: { type: "object" } } }) } }),
      lost: ["$ref"],
    });
    for (const loop of [
      { $ref: "#" },
      { allOf: [{ $ref: "#" }] },
      { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { allOf: [{ $ref: "#/$defs/a" }] } } },
    ]) {
      expect(subset(loop).lost).toContain("$ref");
    }
  });

  it("gives up where references make it huge", () => {
    const defs = Object.fromEntries(
      Array.from({ length: 30 }, (_, n) => [`d${n}`, object({ a: { $ref: `#/$defs/d${n + 1}` }, b: { $ref: `#/$defs/d${n + 1}` } })]),
    );
    expect(schemaSubset(JSON.stringify({ $ref: "#/$defs/d0", $defs: defs }))).toBeUndefined();
  });
});

/** Schemas as people and their libraries write them, well formed or nearly. */
const { schema: anySchema } = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.record(
      { type: fc.constantFrom("string", "integer", "number", "boolean", "null", "STRING"), description: fc.string() },
      { requiredKeys: ["type"] },
    ),
    fc.record({ enum: fc.array(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { minLength: 1, maxLength: 3 }) }),
    fc.record({ const: fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null)) }),
    fc.record({ $ref: fc.constantFrom("#", "#/$defs/a", "#/properties/a", "#/none", "other") }),
    fc.record({ type: fc.array(fc.constantFrom("string", "null", "object", "array"), { minLength: 1, maxLength: 3 }) }),
    fc.record(
      { type: fc.constant("integer"), exclusiveMinimum: fc.integer(), minimum: fc.integer(), multipleOf: fc.nat() },
      { requiredKeys: ["type"] },
    ),
    fc.record(
      {
        type: fc.constant("object"),
        properties: fc.dictionary(fc.constantFrom("a", "b", "__proto__", "type"), tie("schema"), { maxKeys: 3 }),
        required: fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 2 }),
        additionalProperties: fc.oneof(fc.boolean(), tie("schema")),
        $defs: fc.record({ a: tie("schema") }),
      },
      { requiredKeys: ["properties"] },
    ),
    fc.record(
      {
        type: fc.constant("array"),
        items: fc.oneof(tie("schema"), fc.array(tie("schema"), { maxLength: 2 })),
        prefixItems: fc.array(tie("schema"), { maxLength: 2 }),
      },
      { requiredKeys: ["type"] },
    ),
    fc.record(
      {
        anyOf: fc.array(tie("schema"), { minLength: 1, maxLength: 3 }),
        oneOf: fc.array(tie("schema"), { maxLength: 2 }),
        allOf: fc.array(tie("schema"), { maxLength: 2 }),
      },
      { requiredKeys: [] },
    ),
  ) as fc.Arbitrary<object>,
}));

/** What breaks the subset's own rules, by place. */
function violations(schema: unknown, at = "#"): string[] {
  if (!isObject(schema)) return [`${at} is no schema`];
  const found = Object.keys(schema)
    .filter((keyword) => !subsetKeywords.has(keyword))
    .map((keyword) => `${at} has ${keyword}`);
  if (typeof schema.type !== "string" && schema.anyOf === undefined) found.push(`${at} has no type`);
  if (schema.type === "array" && schema.items === undefined) found.push(`${at} has no items`);
  if (Array.isArray(schema.enum) && (schema.type !== "string" || schema.enum.some((value) => typeof value !== "string")))
    found.push(`${at} has other values`);
  if (isObject(schema.properties)) {
    for (const [name, property] of Object.entries(schema.properties)) found.push(...violations(property, `${at}/${name}`));
    for (const name of Array.isArray(schema.required) ? schema.required : []) {
      if (!Object.hasOwn(schema.properties, String(name))) found.push(`${at} requires ${name}`);
    }
  }
  if (schema.items !== undefined) found.push(...violations(schema.items, `${at}[]`));
  for (const alternative of Array.isArray(schema.anyOf) ? schema.anyOf : []) found.push(...violations(alternative, `${at}|`));
  return found;
}

it("ends a reference in an allOf where it leads back, however deep that is", () => {
  const tree = object({ child: { allOf: [{ $ref: "#" }, { description: "d" }] } });
  const end = { type: "object", description: "d" };
  expect(subset(tree)).toEqual({ schema: object({ child: object({ child: end }, { description: "d" }) }), lost: ["$ref"] });
  const list = { type: "array", prefixItems: [{ type: "array", prefixItems: [{ allOf: [{ $ref: "#" }] }] }] };
  const inner = { type: "array", items: { type: "array", items: { type: "object" } } };
  expect(subset(list)).toEqual({ schema: { type: "array", items: { type: "array", items: inner } }, lost: ["$ref", "prefixItems"] });
});

describe("properties", () => {
  it("whatever comes in, what goes out keeps to the subset", () => {
    fc.assert(
      fc.property(anySchema, (schema) => {
        const written = schemaSubset(JSON.stringify(schema));
        if (written?.text === undefined) return;
        expect(violations(JSON.parse(written.text))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it("what is in the subset stays as it is", () => {
    fc.assert(
      fc.property(anySchema, (schema) => {
        const text = schemaSubset(JSON.stringify(schema))?.text;
        if (text === undefined) return;
        const again = schemaSubset(text);
        expect([JSON.parse(again?.text ?? "null"), again?.lost]).toEqual([JSON.parse(text), []]);
      }),
      { numRuns: 500 },
    );
  });
});
