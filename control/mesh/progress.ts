/**
 * Remembers how far policy has come on its way to the sidecars, across control's restarts. Without it a change that one sidecar was trying
 * out would be everybody's once control is started again, and one that was taken back would return.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type PolicyNote, PolicyNoteSchema } from "../../proto/gen/outrigger/mesh/v1/note_pb.ts";
import { RolloutState } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import type { PolicyStore, StoredPolicy } from "../store/store.ts";
import type { RolloutFacts, RolloutMode } from "./rollouts.ts";

const [topic, key] = ["policy", "progress"];

/** What everybody had when control ended, if what stands in the store is not everybody's. */
export interface Unsettled {
  /** What everybody had. */
  readonly before: StoredPolicy;
  /** How what stands in the store was taken back from the sidecars; undefined if it is to go out in stages, from the first. */
  readonly takenBack: RolloutFacts | undefined;
  /** The roll-out that goes on; undefined if there was none of it. */
  readonly rollout: string | undefined;
}

/** What is remembered. Each call takes the place of those before it. */
export interface Progress {
  /** Everybody should have this revision. */
  settled(revision: number): void;
  /** A revision goes out in stages, and everybody else should have `settled`. To be called before the first sidecar is told. */
  staged(settled: number, revision: number, rollout: string): void;
  /** A revision was taken back, and everybody should have `settled`, whatever stands in the store. */
  takenBack(settled: number, facts: RolloutFacts): void;
  /** Resolves when all that was said is in the store. */
  written(): Promise<void>;
}

/**
 * Finds out what everybody had before the policy that stands now, or undefined if that is everybody's: because it was, because it came while
 * control was away and changes go to all `at once`, or because what was before is not remembered any more.
 */
export async function readProgress(store: PolicyStore, now: StoredPolicy, way: RolloutMode): Promise<Unsettled | undefined> {
  const content = (await store.notes(topic)).get(key);
  if (content === undefined) return undefined;
  const note = fromBinary(PolicyNoteSchema, content);
  const [settled, newest] = [Number(note.settled), BigInt(now.revision)];
  // A store that was restored from a backup is behind what is remembered of it.
  if (settled >= now.revision) return undefined;
  const isTakenBack = note.takenBack === newest;
  if (!isTakenBack && note.staged !== newest && way !== "staged") return undefined;
  const before = await store.readAt(settled);
  return (
    before && { before, takenBack: isTakenBack ? factsOf(note) : undefined, rollout: note.staged === newest ? note.rollout : undefined }
  );
}

/** Begins to remember. `failed` hears what cannot be written. */
export function rememberProgress(store: PolicyStore, failed: (error: unknown) => void): Progress {
  let last = Promise.resolve();
  let noted = "";
  function note(fields: MessageInitShape<typeof PolicyNoteSchema>): void {
    const content = toBinary(PolicyNoteSchema, create(PolicyNoteSchema, fields));
    const text = Buffer.from(content).toString("latin1");
    if (text === noted) return;
    noted = text;
    last = last.then(() => store.note(topic, new Map([[key, content]]))).catch(failed);
  }
  return {
    settled: (revision) => note({ settled: BigInt(revision) }),
    staged: (settled, revision, rollout) => note({ settled: BigInt(settled), staged: BigInt(revision), rollout }),
    takenBack: (settled, { revision, id, reason, begunMs, endedMs = begunMs }) =>
      note({
        settled: BigInt(settled),
        takenBack: BigInt(revision),
        rollout: id,
        reason,
        begun: timestampFromMs(begunMs),
        ended: timestampFromMs(endedMs),
      }),
    written: () => last,
  };
}

/** A roll-out that was taken back, as people see it. Who enforced it then enforces something else now. */
function factsOf({ rollout: id, takenBack, settled, reason, begun, ended }: PolicyNote): RolloutFacts {
  const endedMs = ended === undefined ? 0 : timestampMs(ended);
  return {
    id,
    revision: Number(takenBack),
    fromRevision: Number(settled),
    state: RolloutState.ROLLED_BACK,
    shareMillionths: 0,
    enforced: 0,
    refused: 0,
    reason,
    begunMs: begun === undefined ? endedMs : timestampMs(begun),
    endedMs,
  };
}
