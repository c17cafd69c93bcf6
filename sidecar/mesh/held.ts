/**
 * A snapshot that a sidecar has whole, with what control vouched for; and what its bytes mean.
 *
 * Bytes count for nothing until their hashes add up to a root that a trusted key has signed, for this scope.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { SignedRoot } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { fullNameOf, groupResources, kindNames, type Resource, type Resources, schemaOf } from "../../proto/resources/kinds.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { Problem } from "../../proto/resources.ts";
import { rootOf, type SnapshotEntry } from "../../proto/snapshot.ts";

/** SHA-256 of bytes or text as 64 hexadecimal digits. */
export type Sha256 = (data: Uint8Array | string) => string;

/** A snapshot that a sidecar has whole. */
export interface Held {
  readonly root: string;
  readonly revision: number;
  readonly signed: SignedRoot;
  /** Sorted by type, then name. */
  readonly entries: readonly SnapshotEntry[];
}

/** Resources of one snapshot at most: what it may weigh leaves room for no more that say anything. */
export const entriesMax = 200_000;

/** A resource as it was sent, with its own hash. */
export function entryOf(type: string, name: string, bytes: Uint8Array, sha256: Sha256): SnapshotEntry {
  return { type, name, hash: sha256(bytes), bytes };
}

/** The key by which entries are told apart. Neither types nor names have blanks. */
export function keyOf({ type, name }: { readonly type: string; readonly name: string }): string {
  return `${type} ${name}`;
}

/** Puts entries in the order that roots are made of, and computes theirs. */
export function sealEntries(
  entries: Iterable<SnapshotEntry>,
  sha256: Sha256,
): { readonly root: string; readonly entries: readonly SnapshotEntry[] } {
  const sorted = [...entries].sort((a, b) => compareText(a.type, b.type) || compareText(a.name, b.name));
  return { root: rootOf(sorted, sha256), entries: sorted };
}

/** What a snapshot's bytes mean, and everything that cannot be read. Whether it makes a policy is for others to say. */
export function readHeld(held: Pick<Held, "entries">): { readonly resources: Resources; readonly problems: readonly Problem[] } {
  const problems: Problem[] = [];
  const list: Resource[] = [];
  for (const { type, name, bytes } of held.entries) {
    const kind = kindNames.find((candidate) => schemaOf(candidate).typeName === type);
    const refuse = (id: Problem["id"], message: string, hint: string): void => {
      problems.push({ id, severity: "error", kind: kind ?? type.slice(type.lastIndexOf(".") + 1), name, field: "", message, hint });
    };
    if (kind === undefined) {
      refuse(
        "policy/not-understood",
        "This sidecar knows no resources of this kind.",
        "Upgrade it, or leave this out until all are upgraded.",
      );
      continue;
    }
    try {
      const resource = fromBinary(schemaOf(kind), bytes) as Resource;
      if (fullNameOf(resource) === name) list.push(resource);
      else
        refuse(
          "policy/contradiction",
          "The resource has another name inside than outside.",
          "Please report this: it is a fault of control.",
        );
    } catch {
      refuse("policy/syntax", "The resource's bytes cannot be read.", "Please report this: it is a fault of control.");
    }
  }
  return { resources: groupResources(list), problems };
}
