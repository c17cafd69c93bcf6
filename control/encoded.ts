/**
 * The bytes of resources, made once for each: resources are never changed after they are read, and a change of policy looks at all of
 * them several times.
 */
import type { Resource } from "../proto/resources/kinds.ts";
import { entryOf, type SnapshotEntry, wholeBytes } from "../proto/snapshot.ts";
import { sha256 } from "./sha256.ts";

// Forgotten with the resources themselves.
const entries = new WeakMap<Resource, SnapshotEntry>();
const wholes = new WeakMap<Resource, Uint8Array>();

/** The entry of a resource in snapshots. */
export function entryOnce(resource: Resource): SnapshotEntry {
  const known = entries.get(resource);
  if (known !== undefined) return known;
  const fresh = entryOf(resource, sha256);
  entries.set(resource, fresh);
  return fresh;
}

/** The whole of a resource, as stores keep it. */
export function wholeOnce(resource: Resource): Uint8Array {
  const known = wholes.get(resource);
  if (known !== undefined) return known;
  const fresh = wholeBytes(resource);
  wholes.set(resource, fresh);
  return fresh;
}
