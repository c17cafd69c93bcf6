/** Resources as people write them: what stands in files, in dumps, and in the fields of a plan. */
import { type DescField, type DescMessage, ScalarType, toJson } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect, type ScalarValue } from "@bufbuild/protobuf/reflect";
import { base64Encode } from "@bufbuild/protobuf/wire";
import { defaultNamespace, kindOf, type Resource, schemaOf } from "./kinds.ts";
import { compareText } from "./problem.ts";
import { isSensitive, isShowable } from "./secrecy.ts";
import { entryPath, itemPath, type Json, memberPath, shortEnumName, shownName } from "./shape.ts";

/** A resource as it is written. */
export interface Written {
  /** The document: keys as the proto names them, in the proto's order; what is not set is left out, and so is the default namespace. */
  readonly form: { [key: string]: Json };
  /** By the path of each field that holds no further one, such as `spec.targets[0].weight`: what stands there. */
  readonly leaves: ReadonlyMap<string, Leaf>;
}

/** What stands in a field. */
export interface Leaf {
  readonly json: Json;
  /** Whether it may be shown. */
  readonly showable: boolean;
}

/** Writes a resource. Reading what was written gives the same resource. */
export function writeForm(resource: Resource): Written {
  const writer = new Writer();
  const schema = schemaOf(kindOf(resource));
  const form = writer.message(schema, reflect(schema, resource), "");
  const metadata = form.metadata;
  if (typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) && metadata.namespace === defaultNamespace) {
    delete metadata.namespace;
    writer.leaves.delete("metadata.namespace");
  }
  return { form, leaves: writer.leaves };
}

class Writer {
  readonly leaves = new Map<string, Leaf>();

  message(schema: DescMessage, message: ReflectMessage, path: string): { [key: string]: Json } {
    const form: { [key: string]: Json } = {};
    for (const field of schema.fields) {
      if (!message.isSet(field)) continue;
      const name = shownName(field);
      form[name] = this.#field(field, message, memberPath(path, name));
    }
    if (Object.keys(form).length === 0) this.leaves.set(path, { json: {}, showable: true });
    return form;
  }

  #field(field: DescField, message: ReflectMessage, path: string): Json {
    switch (field.fieldKind) {
      case "list":
        return [...message.get(field)].map((item, index) => this.#value(field, field.listKind, item, itemPath(path, index)));
      case "map": {
        // Without a prototype: a key may be called __proto__.
        const entries: { [key: string]: Json } = Object.create(null);
        for (const [key, value] of [...message.get(field)].sort(([a], [b]) => compareText(String(a), String(b)))) {
          entries[String(key)] = this.#value(field, field.mapKind, value, entryPath(path, String(key)));
        }
        return entries;
      }
      default:
        return this.#value(field, field.fieldKind, message.get(field), path);
    }
  }

  #value(field: DescField, kind: "scalar" | "enum" | "message", value: unknown, path: string): Json {
    if (kind === "message" && field.message !== undefined) {
      const message = value as ReflectMessage;
      // Durations and times are texts in proto JSON; nothing else of that package stands in policy.
      if (!field.message.typeName.startsWith("google.protobuf.")) return this.message(field.message, message, path);
      return this.#leaf(field, toJson(field.message, message.message) as Json, path);
    }
    if (kind === "enum" && field.enum !== undefined) {
      const known = field.enum.value[value as number];
      return this.#leaf(field, known === undefined ? (value as number) : shortEnumName(field.enum, known.name), path);
    }
    return this.#leaf(field, scalarJson(field.scalar, value as ScalarValue), path);
  }

  #leaf(field: DescField, json: Json, path: string): Json {
    this.leaves.set(path, { json, showable: typeof json !== "string" ? !isSensitive(field) : isShowable(json, isSensitive(field)) });
    return json;
  }
}

function scalarJson(type: ScalarType | undefined, value: ScalarValue): Json {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (value instanceof Uint8Array) return base64Encode(value);
  // 64 bits may come as text, which is written as a number where that is exact.
  if (typeof value === "string" && type !== ScalarType.STRING && Number.isSafeInteger(Number(value))) return Number(value);
  return value;
}
