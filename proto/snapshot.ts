/**
 * Resources to snapshots: the same policy always has the same bytes and the same root, whoever computes it.
 */
import { clone, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { fullNameOf, kindOf, listResources, namespaceOf, type Resource, type Resources, schemaOf } from "./resources/kinds.ts";
import { compareText } from "./resources/problem.ts";

/** SHA-256 as 64 hexadecimal digits, of bytes or of text in UTF-8. */
export type Sha256 = (data: Uint8Array | string) => string;

/** All the policy that one sidecar may use. */
export interface Snapshot {
  /** SHA-256 over the list of entries, as 64 hexadecimal digits. Two snapshots with the same root are the same. */
  readonly root: string;
  /** Sorted by type, then name. */
  readonly entries: readonly SnapshotEntry[];
}

/** One resource of a snapshot. */
export interface SnapshotEntry {
  /** The full name of the message, such as `outrigger.policy.v1.Provider`. */
  readonly type: string;
  /** Namespace and name, such as `default/fast`. */
  readonly name: string;
  /** SHA-256 of the bytes, as 64 hexadecimal digits. */
  readonly hash: string;
  /** The resource in canonical encoding. */
  readonly bytes: Uint8Array;
}

/** Makes the snapshot of a set of resources. Neither their order nor anything about their files matters. */
export function snapshotOf(resources: Resources, sha256: Sha256): Snapshot {
  return snapshotOfEntries(
    listResources(resources).map((resource) => entryOf(resource, sha256)),
    sha256,
  );
}

/** Makes the snapshot of entries in any order, for whoever keeps them. */
export function snapshotOfEntries(entries: readonly SnapshotEntry[], sha256: Sha256): Snapshot {
  const sorted = entries.toSorted((a, b) => compareText(a.type, b.type) || compareText(a.name, b.name));
  return { root: rootOf(sorted, sha256), entries: sorted };
}

/** The entry of one resource. */
export function entryOf(resource: Resource, sha256: Sha256): SnapshotEntry {
  const bytes = canonicalBytes(resource);
  return { type: resource.$typeName, name: fullNameOf(resource), hash: sha256(bytes), bytes };
}

/** The root of entries that are sorted by type, then name. */
export function rootOf(entries: readonly Pick<SnapshotEntry, "type" | "name" | "hash">[], sha256: Sha256): string {
  // The first line sets these hashes apart from any other that Outrigger makes. Types, names and hashes have neither blanks nor line ends.
  return sha256(`outrigger snapshot 1\n${entries.map(({ type, name, hash }) => `${type} ${name} ${hash}\n`).join("")}`);
}

/**
 * The bytes that stand for a resource: its binary form, made the same for all that mean the same. The namespace is written out, maps
 * are sorted, and annotations are left out, because they are without effect and tools change them all the time.
 */
export function canonicalBytes(resource: Resource): Uint8Array {
  return orderedBytes(resource, false);
}

/** The canonical bytes and the annotations with them: what a store keeps, and what tells whether a resource was changed at all. */
export function wholeBytes(resource: Resource): Uint8Array {
  return orderedBytes(resource, true);
}

function orderedBytes(resource: Resource, annotations: boolean): Uint8Array {
  const schema = schemaOf(kindOf(resource));
  const copy = clone(schema, resource) as Resource;
  if (copy.metadata !== undefined) {
    copy.metadata.namespace = namespaceOf(copy);
    if (!annotations) copy.metadata.annotations = {};
  }
  sortMaps(reflect(schema, copy));
  return toBinary(schema, copy);
}

/**
 * Puts the entries of every map in order. Protobuf leaves their order open, and this runtime writes them in that of the object's
 * keys: as inserted, save that keys which are whole numbers come first, by size. Sorting before inserting fixes both.
 */
function sortMaps(message: ReflectMessage): void {
  for (const field of message.sortedFields) {
    if (!message.isSet(field)) continue;
    if (field.fieldKind === "message") sortMaps(message.get(field));
    else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const item of message.get(field)) sortMaps(item as ReflectMessage);
    } else if (field.fieldKind === "map") {
      const map = message.get(field);
      const sorted = [...map].sort(([a], [b]) => compareText(String(a), String(b)));
      map.clear();
      for (const [key, value] of sorted) {
        if (field.mapKind === "message") sortMaps(value as ReflectMessage);
        map.set(key, value);
      }
    }
  }
}
