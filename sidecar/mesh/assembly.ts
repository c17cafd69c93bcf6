/**
 * Puts a snapshot together from what control sends: a difference to one that is held, or a list of hashes of which the missing ones are
 * asked for; either in one piece or in several.
 *
 * Nothing here is trusted but the root that the announcement names, which was signed: what comes out has exactly that root, or nothing
 * comes out.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  type Chunk,
  DeltaContentSchema,
  ManifestContentSchema,
  type SignedRoot,
  WantedContentSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { chunkBytesMax, snapshotBytesMax } from "../../proto/mesh.ts";
import type { SnapshotEntry } from "../../proto/snapshot.ts";
import { entriesMax, entryOf, type Held, keyOf, type Sha256, sealEntries } from "./held.ts";

/** What putting together takes. */
export interface AssemblyParts {
  readonly sha256: Sha256;
  /** Undoes gzip; throws if the result would have more than `bytesMax` bytes, or if the bytes are no gzip. */
  readonly gunzip: (bytes: Uint8Array, bytesMax: number) => Uint8Array;
}

/** A root that was announced, and that a trusted key has signed. */
export interface Announced {
  readonly root: string;
  readonly revision: number;
  readonly signed: SignedRoot;
}

/** What an announcement carries or promises. */
export interface Body {
  readonly content: Uint8Array;
  readonly chunkedBytes: bigint;
  readonly gzip: boolean;
}

/** How far it is. */
export type Progress =
  | { readonly is: "waiting" }
  /** Ask for these, 32 bytes each; none means that the base of a difference is not there. */
  | { readonly is: "wanting"; readonly hashes: readonly Uint8Array[] }
  | { readonly is: "whole"; readonly held: Held }
  /** What was sent is not what was announced. */
  | { readonly is: "broken"; readonly reason: string };

/** One snapshot on its way. */
export interface Assembly {
  readonly root: string;
  /** Takes a piece. */
  take(chunk: Chunk): Progress;
}

/** Hashes in one question at most: as many as fill a chunk. */
const hashesMax = 8192;
/** Of what is announced, a list or difference that names more than it may hold is refused before it is read. */
const contentBytesMax = snapshotBytesMax + 32 * 1024 * 1024; // names and hashes of as many entries as there may be

/** Begins with a difference. `base` is the snapshot that it starts from, undefined if it is not held. */
export function beginDelta(
  announced: Announced,
  base: readonly SnapshotEntry[] | undefined,
  body: Body,
  parts: AssemblyParts,
): { readonly assembly: Assembly; readonly progress: Progress } {
  // Its pieces may be on their way already. They are let go: the list of hashes that is asked for begins anew.
  if (base === undefined) return { assembly: { root: announced.root, take: () => waiting }, progress: { is: "wanting", hashes: [] } };
  return collect(announced.root, body, parts, (bytes) => {
    const { upserts, removals } = fromBinary(DeltaContentSchema, bytes);
    const entries = new Map(base.map((entry) => [keyOf(entry), entry]));
    for (const removal of removals) if (!entries.delete(keyOf(removal))) return broken("A resource goes that was not there.");
    for (const { type, name, resource } of upserts) entries.set(keyOf({ type, name }), entryOf(type, name, resource, parts.sha256));
    return finish(announced, entries.values(), parts);
  });
}

/** Begins with a list of hashes. `known` finds what is held already, whatever snapshot it belongs to. */
export function beginManifest(
  announced: Announced,
  known: (hash: string) => Uint8Array | undefined,
  body: Body,
  parts: AssemblyParts,
): { readonly assembly: Assembly; readonly progress: Progress } {
  let wanted: Wanted | undefined;
  const list = collect(announced.root, body, parts, (bytes) => {
    const { entries } = fromBinary(ManifestContentSchema, bytes);
    if (entries.length > entriesMax) return broken(`It has ${entries.length} resources; at most ${entriesMax} are taken.`);
    const listed = entries.map(({ type, name, hash }) => ({ type, name, hash: hexOf(hash), wire: hash }));
    const got = new Map<string, Uint8Array>();
    for (const { hash } of listed) {
      const bytesOfHash = known(hash);
      if (bytesOfHash !== undefined) got.set(hash, bytesOfHash);
    }
    const missing = new Map(listed.filter(({ hash }) => !got.has(hash)).map(({ hash, wire }) => [hash, wire]));
    wanted = openWanted(announced, listed, got, [...missing], parts);
    return wanted.next();
  });
  return {
    assembly: { root: announced.root, take: (chunk) => (wanted === undefined ? list.assembly.take(chunk) : wanted.take(chunk)) },
    progress: list.progress,
  };
}

interface Wanted {
  next(): Progress;
  take(chunk: Chunk): Progress;
}

/** Asks for what is missing, a part at a time, and checks each answer by its hash. */
function openWanted(
  announced: Announced,
  listed: readonly { readonly type: string; readonly name: string; readonly hash: string }[],
  got: Map<string, Uint8Array>,
  missing: readonly (readonly [hash: string, wire: Uint8Array])[],
  parts: AssemblyParts,
): Wanted {
  let asked: readonly (readonly [hash: string, wire: Uint8Array])[] = [];
  let at = 0;
  let pieces = openPieces(contentBytesMax);
  let total = 0;

  function next(): Progress {
    if (at === missing.length) {
      const entries = listed.map(({ type, name, hash }): SnapshotEntry => ({ type, name, hash, bytes: got.get(hash) ?? new Uint8Array() }));
      return finish(announced, entries, parts);
    }
    asked = missing.slice(at, at + hashesMax);
    at += asked.length;
    pieces = openPieces(contentBytesMax);
    return { is: "wanting", hashes: asked.map(([, wire]) => wire) };
  }

  return {
    next,
    take(chunk) {
      const joined = pieces.take(chunk);
      if (typeof joined === "string") return broken(joined);
      if (joined === undefined) return waiting;
      return reading(() => {
        const { resources } = fromBinary(WantedContentSchema, unpack(joined, chunk.gzip, parts));
        if (resources.length !== asked.length) return broken(`${asked.length} resources were asked for, and ${resources.length} came.`);
        for (const [index, bytes] of resources.entries()) {
          const hash = parts.sha256(bytes);
          if (hash !== asked[index]?.[0]) return broken("A resource came that was not asked for.");
          total += bytes.length;
          if (total > snapshotBytesMax) return broken(tooLarge);
          got.set(hash, bytes);
        }
        return next();
      });
    },
  };
}

/** Takes a body, in one piece or in several, and hands it on once it is whole. */
function collect(
  root: string,
  { content, chunkedBytes, gzip }: Body,
  parts: AssemblyParts,
  whole: (bytes: Uint8Array) => Progress,
): { readonly assembly: Assembly; readonly progress: Progress } {
  const read = (bytes: Uint8Array) => reading(() => whole(unpack(bytes, gzip, parts)));
  if (chunkedBytes === 0n)
    return { assembly: { root, take: () => broken("A piece came that was not announced.") }, progress: read(content) };
  if (chunkedBytes < 0n || chunkedBytes > BigInt(contentBytesMax)) {
    return { assembly: { root, take: () => waiting }, progress: broken(tooLarge) };
  }
  const pieces = openPieces(Number(chunkedBytes));
  const take = (chunk: Chunk): Progress => {
    const joined = pieces.take(chunk);
    if (typeof joined === "string") return broken(joined);
    if (joined === undefined) return waiting;
    if (BigInt(joined.length) !== chunkedBytes) return broken(`${chunkedBytes} bytes were announced, and ${joined.length} came.`);
    return read(joined);
  };
  return { assembly: { root, take }, progress: waiting };
}

/** Joins pieces. */
function openPieces(bytesMax: number): { take(chunk: Chunk): Uint8Array | string | undefined } {
  const taken: Uint8Array[] = [];
  let length = 0;
  return {
    take({ data, last }) {
      if (data.length > chunkBytesMax) return `A piece has ${data.length} bytes; at most ${chunkBytesMax} are taken.`;
      length += data.length;
      if (length > bytesMax) return `More than the ${bytesMax} bytes came that were announced.`;
      taken.push(data);
      if (!last) return undefined;
      const joined = new Uint8Array(length);
      let at = 0;
      for (const piece of taken) {
        joined.set(piece, at);
        at += piece.length;
      }
      return joined;
    },
  };
}

/** Checks that entries are what was announced, and closes them. */
function finish(announced: Announced, entries: Iterable<SnapshotEntry>, { sha256 }: AssemblyParts): Progress {
  const list = [...entries];
  if (list.length > entriesMax) return broken(`It has ${list.length} resources; at most ${entriesMax} are taken.`);
  if (new Set(list.map(keyOf)).size !== list.length) return broken("It has a resource twice.");
  if (list.reduce((sum, { bytes }) => sum + bytes.length, 0) > snapshotBytesMax) return broken(tooLarge);
  const sealed = sealEntries(list, sha256);
  if (sealed.root !== announced.root) return broken("What came does not add up to the root that was announced.");
  return { is: "whole", held: { ...announced, entries: sealed.entries } };
}

const tooLarge = `It is larger than ${snapshotBytesMax} bytes.`;
const waiting: Progress = Object.freeze({ is: "waiting" });

function broken(reason: string): Progress {
  return { is: "broken", reason };
}

/** Bytes of others may be anything: what cannot be read is broken and no reason to fail. */
function reading(read: () => Progress): Progress {
  try {
    return read();
  } catch {
    return broken("What came cannot be read.");
  }
}

function unpack(bytes: Uint8Array, gzip: boolean, { gunzip }: AssemblyParts): Uint8Array {
  return gzip ? gunzip(bytes, contentBytesMax) : bytes;
}

function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
