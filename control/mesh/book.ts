/**
 * Snapshots and what travels of them: each resource, each snapshot and each difference is kept, encoded and compressed once, however many
 * sidecars share it.
 */
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  DeltaContentSchema,
  EntryNameSchema,
  EntrySchema,
  ManifestContentSchema,
  ManifestEntrySchema,
  type SignedRoot,
  type SubscribeResponse,
  WantedContentSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import type { Resources } from "../../proto/resources/kinds.ts";
import { listResources } from "../../proto/resources/kinds.ts";
import { type Snapshot, type SnapshotEntry, snapshotOfEntries } from "../../proto/snapshot.ts";
import { entryOnce } from "../encoded.ts";
import { sha256 } from "../sha256.ts";

/** Roots that nobody should enforce any more and some still may: enough for those who were away during a busy day's changes. */
const oldRootsMax = 512;
/** Bytes of encoded contents that are kept for the next sidecar: a storm asks for the same few again and again. */
const packedBytesMax = 64 * 1024 * 1024;
/** Below this compression saves less than it says about itself. */
const gzipBytesMin = 1024;
/** Above this compression would hold up everybody for more than some 100 ms. */
const gzipBytesMax = 4 * 1024 * 1024;

/** A snapshot that control knows. */
export interface KeptSnapshot extends Snapshot {
  /** Bytes of all its resources. */
  readonly bytes: number;
}

/** Content as it travels: shared by all who are sent it, and never written to. */
export interface Packed {
  readonly bytes: Uint8Array;
  readonly gzip: boolean;
}

/** All that is known of snapshots. */
export interface SnapshotBook {
  /** The snapshot of resources: the same object for the same content. */
  snapshotOf(resources: Resources): KeptSnapshot;
  /** A snapshot by its root; undefined if it is not known (any more). The empty root is nothing at all. */
  find(root: string): KeptSnapshot | undefined;
  /** What leads from one to another. */
  delta(base: KeptSnapshot, target: KeptSnapshot): Packed;
  /** A message that many streams are sent: for one signed root and base the same object, so that it is encoded once. */
  shared(signed: SignedRoot, baseRoot: string, make: () => SubscribeResponse): SubscribeResponse;
  /** The hashes of all that a snapshot has. */
  manifest(target: KeptSnapshot): Packed;
  /** The resources of a snapshot with those hashes, in that order; undefined if it lacks one. */
  wanted(target: KeptSnapshot, hashes: readonly Uint8Array[]): Packed | undefined;
  /** Forgets old snapshots but those that `used` names. */
  tidy(used: ReadonlySet<string>): void;
  /** How many roots are known. */
  readonly size: number;
}

/** Opens an empty book. */
export function openBook(): SnapshotBook {
  const snapshots = new Map<string, KeptSnapshot>([["", nothing]]);
  const packed = new Map<string, Packed>();
  /** By signed root, then by base: they go with the root that they bring. */
  const messages = new WeakMap<SignedRoot, Map<string, SubscribeResponse>>();
  let packedBytes = 0;

  function pack(key: string, make: () => Uint8Array): Packed {
    const known = packed.get(key);
    if (known !== undefined) {
      // Used again: the last to be thrown out.
      packed.delete(key);
      packed.set(key, known);
      return known;
    }
    const fresh = compressed(make());
    packed.set(key, fresh);
    packedBytes += fresh.bytes.length;
    for (const [oldest, { bytes }] of packed) {
      if (packedBytes <= packedBytesMax || oldest === key) break;
      packed.delete(oldest);
      packedBytes -= bytes.length;
    }
    return fresh;
  }

  return {
    snapshotOf(resources) {
      const snapshot = snapshotOfEntries(listResources(resources).map(entryOnce), sha256);
      const known = snapshots.get(snapshot.root);
      if (known !== undefined) return known;
      const kept = { ...snapshot, bytes: snapshot.entries.reduce((sum, { bytes }) => sum + bytes.length, 0) };
      snapshots.set(kept.root, kept);
      return kept;
    },
    find: (root) => snapshots.get(root),
    delta: (base, target) => pack(`${base.root}>${target.root}`, () => encodeDelta(base, target)),
    shared(signed, baseRoot, make) {
      let ofRoot = messages.get(signed);
      if (ofRoot === undefined) {
        ofRoot = new Map();
        messages.set(signed, ofRoot);
      }
      const known = ofRoot.get(baseRoot);
      if (known !== undefined) return known;
      const fresh = make();
      ofRoot.set(baseRoot, fresh);
      return fresh;
    },
    manifest: (target) => pack(target.root, () => encodeManifest(target)),
    wanted(target, hashes) {
      const byHash = new Map(target.entries.map((one) => [one.hash, one.bytes]));
      const resources: Uint8Array[] = [];
      for (const hash of hashes) {
        const bytes = byHash.get(Buffer.from(hash).toString("hex"));
        if (bytes === undefined) return undefined;
        resources.push(bytes);
      }
      return compressed(toBinary(WantedContentSchema, create(WantedContentSchema, { resources })));
    },
    tidy(used) {
      let over = snapshots.size - used.size - oldRootsMax;
      for (const root of snapshots.keys()) {
        if (over <= 0) break;
        if (root === "" || used.has(root)) continue;
        snapshots.delete(root);
        over -= 1;
      }
    },
    get size() {
      return snapshots.size;
    },
  };
}

/** What a sidecar has that has nothing. */
export const nothing: KeptSnapshot = Object.freeze({ root: "", entries: Object.freeze([]), bytes: 0 });

/** What is new or other in the target, and what is gone; both in the order of snapshots. */
function encodeDelta(base: KeptSnapshot, target: KeptSnapshot): Uint8Array {
  const key = ({ type, name }: SnapshotEntry): string => `${type} ${name}`;
  const had = new Map(base.entries.map((one) => [key(one), one.hash]));
  const upserts = target.entries
    .filter((one) => had.get(key(one)) !== one.hash)
    .map(({ type, name, bytes }) => create(EntrySchema, { type, name, resource: bytes }));
  const has = new Set(target.entries.map(key));
  const removals = base.entries.filter((one) => !has.has(key(one))).map(({ type, name }) => create(EntryNameSchema, { type, name }));
  return toBinary(DeltaContentSchema, create(DeltaContentSchema, { upserts, removals }));
}

function encodeManifest(target: KeptSnapshot): Uint8Array {
  const entries = target.entries.map(({ type, name, hash }) =>
    create(ManifestEntrySchema, { type, name, hash: new Uint8Array(Buffer.from(hash, "hex")) }),
  );
  return toBinary(ManifestContentSchema, create(ManifestContentSchema, { entries }));
}

function compressed(bytes: Uint8Array): Packed {
  if (bytes.length < gzipBytesMin || bytes.length > gzipBytesMax) return { bytes, gzip: false };
  const smaller = new Uint8Array(gzipSync(bytes));
  return smaller.length < bytes.length ? { bytes: smaller, gzip: true } : { bytes, gzip: false };
}
