/**
 * JSON Schemas as this API takes them for answers: every object closed, and without the keywords that it refuses.
 */
import { isObject } from "../../framing/json.ts";

/** What became of a schema: its text, byte for byte as it was if nothing had to go, and the names of the keywords that went. */
export interface ClosedSchema {
  readonly text: string;
  readonly removed: readonly string[];
}

/** Closes a schema. The text must be a JSON object. */
export function closedSchema(text: string): ClosedSchema {
  const removed = new Set<string>();
  const state = { changed: false, removed };
  const closed = closeSchema(JSON.parse(text), state);
  return { text: state.changed ? JSON.stringify(closed) : text, removed: [...removed].sort() };
}

interface State {
  changed: boolean;
  readonly removed: Set<string>;
}

function closeSchema(schema: unknown, state: State): unknown {
  if (!isObject(schema)) return schema;
  const entries: [string, unknown][] = [];
  for (const [key, value] of Object.entries(schema)) {
    if (isRefused(key, value)) {
      state.removed.add(key);
      state.changed = true;
    } else if (key === "additionalProperties" && value !== false) {
      // Written as false below; it goes by name only if it allowed something.
      state.removed.add(key);
      state.changed = true;
    } else entries.push([key, closeMember(key, value, state)]);
  }
  const describesObject =
    schema.type === "object" || (Array.isArray(schema.type) && schema.type.includes("object")) || isObject(schema.properties);
  if (describesObject && schema.additionalProperties !== false) {
    entries.push(["additionalProperties", false]);
    state.changed = true;
  }
  return Object.fromEntries(entries);
}

/** What stands under a keyword: a schema, several, or a value that only looks like one, such as an example. */
function closeMember(key: string, value: unknown, state: State): unknown {
  if (schemaMaps.has(key) && isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, schema]) => [name, closeSchema(schema, state)]));
  }
  if (schemaLists.has(key) && Array.isArray(value)) return value.map((schema) => closeSchema(schema, state));
  return schemaMembers.has(key) ? closeSchema(value, state) : value;
}

function isRefused(key: string, value: unknown): boolean {
  return refused.has(key) || (key === "minItems" && value !== 0 && value !== 1);
}

const refused: ReadonlySet<string> = new Set([
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "pattern",
  "maxItems",
  "uniqueItems",
  "minContains",
  "maxContains",
  "minProperties",
  "maxProperties",
  "patternProperties",
  "propertyNames",
]);

const schemaMaps: ReadonlySet<string> = new Set(["properties", "$defs", "definitions"]);
const schemaLists: ReadonlySet<string> = new Set(["anyOf", "allOf", "oneOf", "prefixItems"]);
const schemaMembers: ReadonlySet<string> = new Set(["items", "not", "if", "then", "else", "contains"]);
