/**
 * The last good policy on disk, in two slots, so that a pod starts and serves while control is away.
 *
 * A slot is written beside itself, made durable and renamed, so it is whole or it is not there. It is believed only if everything about
 * it is right: its checksum, its scope, the signature over its root, and the root over its resources. What is torn, flipped, somebody
 * else's or forged is skipped, never half used; the other slot holds what was good before. It holds no secret.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Slot, SlotSchema } from "../../proto/gen/outrigger/mesh/v1/slot_pb.ts";
import type { SnapshotEntry } from "../../proto/snapshot.ts";

/** Where slots lie. */
export interface SlotDisk {
  /** The bytes under a name; undefined if there are none. Rejects if there are some and they cannot be read. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Puts bytes under a name, whole or not at all, and lasting once this resolves. */
  write(name: string, bytes: Uint8Array): Promise<void>;
}

/** What opening takes. */
export interface SlotParts<Signed> {
  readonly disk: SlotDisk;
  readonly scope: string;
  /** SHA-256 as 64 hexadecimal digits. */
  readonly sha256: (data: Uint8Array | string) => string;
  /** What a slot's statement says if it is signed by a trusted key for this scope; undefined otherwise. */
  readonly believe: (signed: Signed | undefined) => { readonly root: string; readonly revision: number } | undefined;
  /** The root of entries, and the entries in their order. */
  readonly seal: (entries: Iterable<SnapshotEntry>) => { readonly root: string; readonly entries: readonly SnapshotEntry[] };
  readonly note: (level: "info" | "warn", message: string, facts: Readonly<Record<string, unknown>>) => void;
}

/** A policy as a slot keeps it. */
export interface Kept {
  readonly root: string;
  readonly revision: number;
  readonly signed: NonNullable<Slot["target"]>;
  readonly entries: readonly SnapshotEntry[];
}

/** What was found, and where the next goes. */
export interface KeptSlots {
  /** What is valid, the newest first. */
  readonly found: readonly { readonly held: Kept; readonly confirmedMs: number }[];
  /** Keeps a policy in the slot that does not hold the newest other one. What comes while one is being written waits, the last of it alone. */
  keep(held: Kept, confirmedMs: number): void;
  settled(): Promise<void>;
}

/** The two slots' names. */
export const slotNames = ["policy-a", "policy-b"] as const;

/** What a slot begins with: another form gets another line. */
const firstLine = new TextEncoder().encode("outrigger slot 1\n");
const checksumBytes = 32; // SHA-256

/** Opens the slots. Rejects never: what cannot be read is skipped and noted. */
export async function openLastKnownGood(parts: SlotParts<Slot["target"]>): Promise<KeptSlots> {
  const { disk, note } = parts;
  const slots: ReadSlot[] = [];
  for (const name of slotNames) {
    const read = await readSlot(name, parts);
    if (typeof read !== "string") slots.push(read);
    else if (read !== absent) note("warn", "what is in a slot of the last good policy cannot be used", { slot: name, reason: read });
  }
  slots.sort((a, b) => b.sequence - a.sequence);
  let sequence = slots[0]?.sequence ?? 0;
  /** Where the newest policy is. */
  let newest: { readonly name: string; readonly root: string } | undefined = slots[0] && { name: slots[0].name, root: slots[0].held.root };
  let next: { readonly held: Kept; readonly confirmedMs: number } | undefined;
  let writing: Promise<void> | undefined;

  async function writeAll(): Promise<void> {
    for (let due = next; due !== undefined; due = next) {
      next = undefined;
      const { held, confirmedMs } = due;
      // The policy before stays in the other slot; of the same one only the date is new.
      const name = newest?.root === held.root ? newest.name : newest?.name === slotNames[0] ? slotNames[1] : slotNames[0];
      sequence += 1;
      try {
        await disk.write(name, slotBytes(held, sequence, parts.scope, confirmedMs, parts.sha256));
        newest = { name, root: held.root };
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        note("warn", "the policy could not be kept on disk; it holds all the same", { slot: name, code });
      }
    }
    writing = undefined;
  }

  return {
    found: slots.map(({ held, confirmedMs }) => ({ held, confirmedMs })),
    keep(held, confirmedMs) {
      next = { held, confirmedMs };
      writing ??= writeAll();
    },
    settled: async () => writing,
  };
}

interface ReadSlot {
  readonly name: string;
  readonly sequence: number;
  readonly held: Kept;
  readonly confirmedMs: number;
}

const absent = "There is nothing.";

/** Reads a slot, or says why it cannot be used. */
async function readSlot(name: string, { disk, scope, sha256, believe, seal }: SlotParts<Slot["target"]>): Promise<ReadSlot | string> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await disk.read(name);
  } catch {
    return "It cannot be read.";
  }
  if (bytes === undefined) return absent;
  const head = firstLine.length + checksumBytes;
  if (bytes.length < head || firstLine.some((byte, at) => bytes[at] !== byte)) return "It is no slot, or one of another form.";
  const content = bytes.subarray(head);
  if (sha256(content) !== hexOf(bytes.subarray(firstLine.length, head))) return "Its checksum is wrong.";
  let slot: Slot;
  try {
    slot = fromBinary(SlotSchema, content);
  } catch {
    return "It cannot be understood.";
  }
  if (slot.scope !== scope) return "It is of another scope.";
  const statement = believe(slot.target);
  if (statement === undefined || slot.target === undefined) return "Nobody who is trusted has vouched for it.";
  const sealed = seal(slot.entries.map(({ type, name: own, resource }) => ({ type, name: own, hash: sha256(resource), bytes: resource })));
  if (sealed.root !== statement.root) return "Its resources are not those that were vouched for.";
  if (slot.confirmed === undefined) return "It has no date.";
  const held = { ...statement, signed: slot.target, entries: sealed.entries };
  return { name, sequence: Number(slot.sequence), held, confirmedMs: timestampMs(slot.confirmed) };
}

function slotBytes(held: Kept, sequence: number, scope: string, confirmedMs: number, sha256: (data: Uint8Array) => string): Uint8Array {
  const entries = held.entries.map(({ type, name, bytes }) => ({ type, name, resource: bytes }));
  const slot = create(SlotSchema, {
    sequence: BigInt(sequence),
    scope,
    target: held.signed,
    entries,
    confirmed: timestampFromMs(confirmedMs),
  });
  const content = toBinary(SlotSchema, slot);
  const bytes = new Uint8Array(firstLine.length + checksumBytes + content.length);
  bytes.set(firstLine);
  bytes.set(bytesOf(sha256(content)), firstLine.length);
  bytes.set(content, firstLine.length + checksumBytes);
  return bytes;
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16));
}
