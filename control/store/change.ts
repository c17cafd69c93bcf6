/** What a change does to what stands: the one place that decides what is new, what is another, and what is nothing at all. */
import { fromBinary } from "@bufbuild/protobuf";
import { type KindName, kindOf, nameOf, namespaceOf, type Resource, schemaOf } from "../../proto/resources/kinds.ts";
import { compareText } from "../../proto/resources/problem.ts";
import { wholeOnce } from "../encoded.ts";
import type { ResourceKey, StoreChange, StoredPolicy, StoredResource } from "./store.ts";

/** A resource as a store keeps it. */
export interface Kept {
  readonly key: ResourceKey;
  readonly owner: string;
  /** The whole resource, the same bytes for all that mean the same. */
  readonly bytes: Uint8Array;
}

/** What a change does. Each list is sorted by kind, namespace and name. */
export interface Effect {
  readonly created: readonly Kept[];
  readonly updated: readonly Kept[];
  readonly deleted: readonly ResourceKey[];
}

/** What a change does to what stands, where `standing` finds a resource by its key's text. */
export function effectOf(
  change: Pick<StoreChange, "upserts" | "removals">,
  standing: (key: string) => Pick<Kept, "owner" | "bytes"> | undefined,
): Effect {
  const upserts = new Map(change.upserts.map(({ resource, owner }) => [keyText(keyOf(resource)), keptOf(resource, owner)]));
  const removals = new Map(change.removals.map((key) => [keyText(key), key]));
  const created: Kept[] = [];
  const updated: Kept[] = [];
  for (const [text, kept] of upserts) {
    if (removals.has(text)) throw new Error(`a change both writes and removes ${text}`);
    const before = standing(text);
    if (before === undefined) created.push(kept);
    else if (before.owner !== kept.owner || !sameBytes(before.bytes, kept.bytes)) updated.push(kept);
  }
  const deleted = [...removals].filter(([text]) => standing(text) !== undefined).map(([, key]) => key);
  return { created: created.sort(byKey), updated: updated.sort(byKey), deleted: deleted.sort(compareKeys) };
}

/** What makes the resources that somebody wrote by hand hold, and no others. They do not say whose they are: each stays whose it was. */
export function changeByHand(base: StoredPolicy, resources: readonly Resource[], author: string, atMs: number): StoreChange {
  const standing = new Map(base.resources.map((one) => [keyText(keyOf(one.resource)), one]));
  const given = new Set(resources.map((resource) => keyText(keyOf(resource))));
  return {
    base: base.revision,
    upserts: resources.map((resource) => ({ resource, owner: standing.get(keyText(keyOf(resource)))?.owner ?? "" })),
    removals: base.resources.map(({ resource }) => keyOf(resource)).filter((key) => !given.has(keyText(key))),
    author,
    reason: "",
    atMs,
    rolledBackTo: 0,
  };
}

/** The resources whose content a change makes another, and the keys of those that it takes away; that only an owner changes is not in it. */
export function contentOf(
  change: Pick<StoreChange, "upserts" | "removals">,
  base: StoredPolicy,
): { readonly upserts: readonly Resource[]; readonly removals: readonly ResourceKey[] } {
  const standing = new Map(base.resources.map(({ resource }) => [keyText(keyOf(resource)), wholeOnce(resource)]));
  const isOther = (resource: Resource): boolean => {
    const before = standing.get(keyText(keyOf(resource)));
    return before === undefined || !sameBytes(before, wholeOnce(resource));
  };
  return {
    upserts: change.upserts.flatMap(({ resource }) => (isOther(resource) ? [resource] : [])),
    removals: change.removals.filter((key) => standing.has(keyText(key))),
  };
}

/** Whether it does nothing. */
export function isNothing({ created, updated, deleted }: Effect): boolean {
  return created.length + updated.length + deleted.length === 0;
}

/** Which resource this is. */
export function keyOf(resource: Resource): ResourceKey {
  return { kind: kindOf(resource), namespace: namespaceOf(resource), name: nameOf(resource) };
}

/** A key as a text that sorts as keys do: a blank comes before all that names are made of. */
export function keyText({ kind, namespace, name }: ResourceKey): string {
  return `${kind} ${namespace} ${name}`;
}

/** Orders keys by kind, namespace and name. */
export function compareKeys(a: ResourceKey, b: ResourceKey): number {
  return compareText(keyText(a), keyText(b));
}

/** A resource as a store keeps it. */
export function keptOf(resource: Resource, owner: string): Kept {
  return { key: keyOf(resource), owner, bytes: wholeOnce(resource) };
}

/** What is kept, as it is read. */
export function storedOf(kind: KindName, bytes: Uint8Array, owner: string, revision: number): StoredResource {
  return { resource: fromBinary(schemaOf(kind), bytes) as Resource, owner, revision };
}

function byKey(a: Kept, b: Kept): number {
  return compareKeys(a.key, b.key);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
