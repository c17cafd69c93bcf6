/**
 * What builds of different ages understand of policy.
 *
 * Sidecars and control are released apart, so a sidecar may be sent a field that it has never heard of. It must not pass over it: what
 * it does not understand may be a limit. Each release that adds to policy raises the capability level by one and adds a line below; a
 * field or value that came later says so in its proto with the option `since`. A sidecar refuses what is above its level, by name, and
 * control asks the same question beforehand for each level that it knows to be out there.
 */
import { type DescEnum, type DescField, type DescMessage, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { ResourceSchema } from "./gen/outrigger/policy/v1/resource_pb.ts";
import { since, value_since } from "./gen/outrigger/policy/v1/since_pb.ts";
import { kindOf, type Resource, schemaOf } from "./resources/kinds.ts";
import { entryPath, itemPath, memberPath, shownName } from "./resources/shape.ts";

/** What a build of each level understands, the oldest first. The level is the place in the list, from 1. */
export const capabilityHistory: readonly string[] = Object.freeze([
  "providers, routes, consumers and price books, with credentials by reference to environment and files",
  "secrets that control delivers; grants, which control alone reads; credentials by identity; the Responses dialect",
]);

/** The level of this build: it understands all that stands in its protos. */
export const capabilityLevel: number = capabilityHistory.length;

/** Something in a resource that a build does not understand. */
export interface Excess {
  /** Where it stands, such as `spec.credential.header.secret.delivered`; a field without a known name by its number, as `spec.#77`. */
  readonly field: string;
  /** What was seen and what was expected, as a whole sentence that repeats no value. */
  readonly message: string;
}

/**
 * Finds all that a build of a level does not understand in a resource; nothing if it understands it whole. Levels above this build's own
 * count as its own: what it does not know itself it cannot judge.
 */
export function findExcess(resource: Resource, level: number): Excess[] {
  const search: Search = { level: Math.min(level, capabilityLevel), found: [] };
  const schema = schemaOf(kindOf(resource));
  const kindField = ResourceSchema.fields.find((field) => field.message?.typeName === resource.$typeName);
  if (kindField !== undefined && levelOf(kindField) > search.level) {
    search.found.push({ field: "", message: needs(`The kind ${kindOf(resource)}`, levelOf(kindField), search.level) });
    return search.found;
  }
  searchMessage(reflect(schema, resource), "", search);
  return search.found;
}

/** The first level that understands a field. */
function levelOf(field: DescField): number {
  return hasOption(field, since) ? getOption(field, since) : 1;
}

interface Search {
  readonly level: number;
  readonly found: Excess[];
}

function searchMessage(message: ReflectMessage, path: string, search: Search): void {
  searchUnknown(message.desc, message.message, path, search);
  for (const field of message.sortedFields) {
    if (!message.isSet(field)) continue;
    const fieldPath = memberPath(path, shownName(field));
    if (levelOf(field) > search.level) {
      search.found.push({ field: fieldPath, message: needs("This field", levelOf(field), search.level) });
      continue;
    }
    switch (field.fieldKind) {
      case "message":
        searchMessage(message.get(field), fieldPath, search);
        break;
      case "enum":
        searchValue(field.enum, message.get(field), fieldPath, search);
        break;
      case "list":
        searchItems(field, message.get(field), (at) => itemPath(fieldPath, at), search);
        break;
      case "map":
        for (const [key, value] of message.get(field)) searchItem(field, value, entryPath(fieldPath, String(key)), search);
        break;
      case "scalar":
        break;
    }
  }
}

function searchItems(field: DescField, items: Iterable<unknown>, pathOf: (at: number) => string, search: Search): void {
  let at = 0;
  for (const item of items) searchItem(field, item, pathOf(at++), search);
}

/** An item of a list or a value of a map. */
function searchItem(field: DescField, value: unknown, path: string, search: Search): void {
  if (field.message !== undefined) searchMessage(value as ReflectMessage, path, search);
  else if (field.enum !== undefined) searchValue(field.enum, value as number, path, search);
}

function searchValue(type: DescEnum, number: number, path: string, search: Search): void {
  const value = type.value[number];
  if (value === undefined) {
    search.found.push({ field: path, message: `This field has the value ${number}, which ${ofLater(search.level)}.` });
  } else if (hasOption(value, value_since) && getOption(value, value_since) > search.level) {
    search.found.push({ field: path, message: needs(`The value ${value.name}`, getOption(value, value_since), search.level) });
  }
}

/** Fields that the runtime kept as bytes because the message's descriptor has none of that number. */
function searchUnknown(type: DescMessage, message: Message, path: string, search: Search): void {
  const numbers = new Set((message.$unknown ?? []).map(({ no }) => no));
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const text = `Field ${number} of ${type.name} ${ofLater(search.level)}.`;
    search.found.push({ field: memberPath(path, `#${number}`), message: text });
  }
}

function needs(what: string, level: number, has: number): string {
  return `${what} needs capability level ${level}, this sidecar has ${has}.`;
}

function ofLater(has: number): string {
  return `needs a later capability level; this sidecar has ${has} and does not know it`;
}
