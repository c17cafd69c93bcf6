import { expect, it } from "vitest";
import { closedSchema } from "./closedSchema.ts";

it("leaves a schema that fits as it was, byte for byte", () => {
  const text = '{ "type":"object", "properties":{"a":{"enum":[1.0]}}, "additionalProperties":false }';
  expect(closedSchema(text)).toEqual({ text, removed: [] });
});

it("closes objects, takes away what is not enforced, and names it", () => {
  const schema = {
    type: "object",
    properties: {
      // Names of properties are no keywords.
      minimum: { type: "number", minimum: 1 },
      list: { type: "array", items: { type: ["object", "null"], properties: {} }, minItems: 2, maxItems: 3 },
      one: { type: "array", minItems: 1 },
      free: { type: "object", additionalProperties: { type: "string" } },
    },
    anyOf: [{ properties: { a: { pattern: "x" } } }],
    $defs: { d: { type: "object", examples: [{ minimum: 1 }] } },
    default: { maxLength: 1 },
  };
  const { text, removed } = closedSchema(JSON.stringify(schema));
  expect(removed).toEqual(["additionalProperties", "maxItems", "minItems", "minimum", "pattern"]);
  expect(JSON.parse(text)).toEqual({
    type: "object",
    properties: {
      minimum: { type: "number" },
      list: { type: "array", items: { type: ["object", "null"], properties: {}, additionalProperties: false } },
      one: { type: "array", minItems: 1 },
      free: { type: "object", additionalProperties: false },
    },
    anyOf: [{ properties: { a: {} }, additionalProperties: false }],
    $defs: { d: { type: "object", examples: [{ minimum: 1 }], additionalProperties: false } },
    default: { maxLength: 1 },
    additionalProperties: false,
  });
});
