/** Policy in memory: for tests, and for a control that reads its policy anew at every start. */
import { compareText } from "../../proto/resources/problem.ts";
import { type Effect, effectOf, isNothing, type Kept, keyText, storedOf } from "./change.ts";
import { makeFollowers } from "./followers.ts";
import { type PolicyStore, type RevisionRecord, revisionsKept, type StoredPolicy, type StoredResource } from "./store.ts";

/** What stands: the bytes tell whether a change changes anything, the resource is what is read. */
interface Standing extends Kept {
  readonly stored: StoredResource;
}

/** A revision, and what stood before it where it changed something: the way back. */
interface Step {
  readonly record: RevisionRecord;
  readonly before: ReadonlyMap<string, Standing | undefined>;
}

/** Opens an empty store. `keep` is how many revisions it remembers. */
export function openMemory(keep = revisionsKept): PolicyStore {
  const standing = new Map<string, Standing>();
  const steps: Step[] = [];
  const noted = new Map<string, Map<string, Uint8Array>>();
  let newest = 0;
  let cached: StoredPolicy | undefined;
  const followers = makeFollowers((after) => {
    const next = steps.find(({ record }) => record.revision > after);
    return next === undefined ? undefined : policyAt(next.record.revision);
  });

  function policyAt(revision: number): StoredPolicy | undefined {
    if (revision === newest) {
      cached ??= policyOf(newest, standing);
      return cached;
    }
    // The policy before the oldest step that is kept can be worked out too, but only the empty one at the very beginning is a revision.
    const oldest = steps[0]?.record.revision ?? 0;
    if (revision > newest || revision < (oldest === 1 ? 0 : oldest)) return undefined;
    const back = new Map(standing);
    for (const { record, before } of steps.toReversed()) {
      if (record.revision <= revision) break;
      for (const [key, value] of before) {
        if (value === undefined) back.delete(key);
        else back.set(key, value);
      }
    }
    return policyOf(revision, back);
  }

  function apply(effect: Effect, revision: number): Map<string, Standing | undefined> {
    const before = new Map<string, Standing | undefined>();
    for (const kept of [...effect.created, ...effect.updated]) {
      const key = keyText(kept.key);
      before.set(key, standing.get(key));
      standing.set(key, { ...kept, stored: storedOf(kept.key.kind, kept.bytes, kept.owner, revision) });
    }
    for (const removed of effect.deleted) {
      const key = keyText(removed);
      before.set(key, standing.get(key));
      standing.delete(key);
    }
    return before;
  }

  return {
    readOnly: false,
    read: async () => {
      cached ??= policyOf(newest, standing);
      return cached;
    },
    readAt: async (revision) => policyAt(revision),
    async write(change) {
      if (change.base !== newest) return { written: false, newest };
      const effect = effectOf(change, (key) => standing.get(key));
      if (isNothing(effect)) return { written: true, revision: newest };
      newest += 1;
      cached = undefined;
      const before = apply(effect, newest);
      const { atMs, author, reason, rolledBackTo } = change;
      const [created, updated] = [effect.created.map(({ key }) => key), effect.updated.map(({ key }) => key)];
      steps.push({ record: { revision: newest, atMs, author, reason, rolledBackTo, created, updated, deleted: effect.deleted }, before });
      if (steps.length > keep) steps.shift();
      followers.wake();
      return { written: true, revision: newest };
    },
    revisions: async (limit, before = Number.POSITIVE_INFINITY) =>
      steps
        .filter(({ record }) => record.revision < before)
        .toReversed()
        .slice(0, limit)
        .map(({ record }) => record),
    watch: followers.watch,
    notes: async (topic) => new Map(noted.get(topic)),
    async note(topic, changes) {
      const known = noted.get(topic) ?? new Map<string, Uint8Array>();
      noted.set(topic, known);
      for (const [key, content] of changes) {
        if (content === undefined) known.delete(key);
        else known.set(key, content.slice());
      }
    },
    close: async () => followers.close(),
  };
}

function policyOf(revision: number, standing: ReadonlyMap<string, Standing>): StoredPolicy {
  const resources = [...standing].sort(([a], [b]) => compareText(a, b)).map(([, { stored }]) => stored);
  return { revision, resources, problems: [] };
}
