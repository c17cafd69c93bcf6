/**
 * Remembers a fleet across control's restarts: whoever was there before must be missed after, or ninety-nine sidecars that did not come back
 * look like none.
 *
 * What is worth remembering changes when a sidecar comes, goes, enforces another root, falls behind or refuses; never with a heartbeat.
 * Changes are gathered by sidecar and written twice a second, so that a new policy for everybody is one row for each, and a crash forgets
 * half a second. When control itself was last alive is one more note, written once a minute: of sidecars that were connected at its
 * end, that is when they were last heard of.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { SidecarNoteSchema } from "../../proto/gen/outrigger/mesh/v1/note_pb.ts";
import type { PolicyProblem } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import type { Clock } from "../clock.ts";
import type { PolicyStore } from "../store/store.ts";
import { keyOf, type SidecarRecord } from "./fleet.ts";
import { noCalls } from "./rollout.ts";

/** Between two writes: a crash forgets that much. */
const writeMs = 500;
/** Sidecars in one write: what takes about 10 ms on a disk, since heartbeats wait for it. Ten thousand are written within five seconds. */
const writeMax = 1_000;
/** Between two notes that control is alive. */
const aliveMs = 60_000;
/** Problems of a refusal that are remembered: the first ones say what is wrong, and the sidecar says all of them again when it is back. */
const problemsMax = 10;
/** The topic of sidecars, by key, and of control itself. */
const [sidecarTopic, controlTopic, aliveKey] = ["sidecars", "control", "alive"];

/** What a memory is made with. */
export interface FleetMemoryParts {
  readonly store: PolicyStore;
  readonly clock: Clock;
  /** Hears that something cannot be remembered now, once until it can be again. */
  readonly failed: (error: unknown) => void;
}

/** A memory of a fleet. */
export interface FleetMemory {
  /** Something of a sidecar has changed, or nothing of it is to be remembered any more. Costs next to nothing. */
  changed(record: SidecarRecord, gone: boolean): void;
  /** Writes what is not written yet, and stops. */
  close(): Promise<void>;
}

/** Reads what is remembered, those that were heard of longest ago first. What a later build wrote and this one cannot read is left out. */
export async function readFleet(store: PolicyStore): Promise<SidecarRecord[]> {
  const alive = (await store.notes(controlTopic)).get(aliveKey);
  const aliveAtMs = alive === undefined ? 0 : Number(new TextDecoder().decode(alive));
  const records: SidecarRecord[] = [];
  for (const content of (await store.notes(sidecarTopic)).values()) {
    try {
      records.push(recordOf(content, aliveAtMs));
    } catch {
      // It comes back and says who it is, or nobody can say anything about it.
    }
  }
  return records.sort((a, b) => a.lastHeardMs - b.lastHeardMs);
}

/** Begins to remember. `remembered` are those that were read: that they are not connected is the first thing to be remembered. */
export function rememberFleet(remembered: readonly SidecarRecord[], { store, clock, failed }: FleetMemoryParts): FleetMemory {
  const changed = new Map<string, SidecarRecord | undefined>(remembered.map((record) => [record.key, record]));
  let aliveAtMs = Number.NEGATIVE_INFINITY;
  let isFailing = false;
  let closed = false;
  let cancel = clock.after(writeMs, step);
  let writing = Promise.resolve();

  async function write(most: number): Promise<void> {
    const taken = [...changed.entries().take(most)];
    for (const [key] of taken) changed.delete(key);
    try {
      if (taken.length > 0) await store.note(sidecarTopic, new Map(taken.map(([key, record]) => [key, record && noteOf(record)])));
      const nowMs = clock.monotonicMs();
      if (nowMs - aliveAtMs >= aliveMs || closed) {
        await store.note(controlTopic, new Map([[aliveKey, new TextEncoder().encode(String(Math.round(clock.wallMs())))]]));
        aliveAtMs = nowMs;
      }
      isFailing = false;
    } catch (error) {
      // What has changed again meanwhile is newer.
      for (const [key, record] of taken) if (!changed.has(key)) changed.set(key, record);
      if (!isFailing) failed(error);
      isFailing = true;
    }
  }

  function step(): void {
    writing = write(writeMax).then(() => {
      if (!closed) cancel = clock.after(writeMs, step);
    });
  }

  return {
    changed(record, gone) {
      changed.set(record.key, gone ? undefined : record);
    },
    close() {
      if (closed) return writing;
      closed = true;
      cancel();
      writing = writing.then(() => write(Number.POSITIVE_INFINITY));
      return writing;
    },
  };
}

function noteOf(record: SidecarRecord): Uint8Array {
  const { namespace, account, instance, build, capabilityLevel, connected, root, bootedFrom, wanted, behindSinceMs, refusal } = record;
  const note = create(SidecarNoteSchema, {
    namespace,
    account,
    instance,
    build,
    capabilityLevel,
    connected,
    lastHeard: timestampFromMs(record.lastHeardMs),
    root,
    revision: BigInt(record.revision),
    enforcedSince: timestampFromMs(record.enforcedSinceMs),
    wantedRoot: wanted.root,
    wantedRevision: BigInt(wanted.revision),
    ...(behindSinceMs === undefined ? {} : { behindSince: timestampFromMs(behindSinceMs) }),
    refusedRoot: refusal?.root ?? "",
    refusal: refusal?.problems.slice(0, problemsMax) ?? [],
    bootedFrom,
    applyUs: BigInt(record.applyUs),
  });
  return toBinary(SidecarNoteSchema, note);
}

function recordOf(content: Uint8Array, aliveAtMs: number): SidecarRecord {
  const note = fromBinary(SidecarNoteSchema, content);
  const { namespace, account, instance, build, capabilityLevel, root, revision, bootedFrom, wantedRoot, behindSince, refusedRoot } = note;
  const heardMs = note.lastHeard === undefined ? 0 : timestampMs(note.lastHeard);
  const problems: readonly PolicyProblem[] = note.refusal;
  return {
    key: keyOf(note),
    namespace,
    account,
    instance,
    build,
    capabilityLevel,
    connected: false,
    lastHeardMs: note.connected ? Math.max(heardMs, aliveAtMs) : heardMs,
    root,
    revision: Number(revision),
    enforcedSinceMs: note.enforcedSince === undefined ? 0 : timestampMs(note.enforcedSince),
    applyUs: Number(note.applyUs),
    wanted: { root: wantedRoot, revision: Number(note.wantedRevision) },
    behindSinceMs: behindSince === undefined ? undefined : timestampMs(behindSince),
    refusal: refusedRoot === "" ? undefined : { root: refusedRoot, problems },
    bootedFrom,
    usual: noCalls,
  };
}
