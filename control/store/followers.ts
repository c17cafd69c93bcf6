/** Tells several listeners of revisions in order, each at its own pace, from a store that can say which comes next. */
import type { StoredPolicy } from "./store.ts";

/** Those who follow a store. */
export interface Followers {
  /** Tells of each revision after `from`, those that are there in the next turn. Returns what ends it. */
  watch(from: number, told: (policy: StoredPolicy) => void, failed: (reason: string) => void): () => void;
  /** Says that there may be a new revision. */
  wake(): void;
  /** Says to everybody that the store cannot be followed for now. */
  fail(reason: string): void;
  /** Whether anybody follows. */
  readonly any: boolean;
  /** Tells nobody anything from now on. */
  close(): void;
}

/** `next` gives the earliest policy after a revision, or undefined if that is the newest; what it throws is told as a failure. */
export function makeFollowers(next: (after: number) => StoredPolicy | undefined, changed: () => void = () => undefined): Followers {
  const followers = new Set<() => void>();
  const failures = new Map<() => void, (reason: string) => void>();
  return {
    watch(from, told, failed) {
      let at = from;
      let planned = false;
      const pump = (): void => {
        if (planned) return;
        planned = true;
        // In a turn of its own: whoever follows has the function that ends it by then, and whoever wrote is not kept waiting.
        queueMicrotask(() => {
          planned = false;
          tell();
        });
      };
      const tell = (): void => {
        while (followers.has(pump)) {
          let policy: StoredPolicy | undefined;
          try {
            policy = next(at);
          } catch (error) {
            failed(error instanceof Error ? error.message : String(error));
            return;
          }
          if (policy === undefined) return;
          at = policy.revision;
          told(policy);
        }
      };
      followers.add(pump);
      failures.set(pump, failed);
      changed();
      pump();
      return () => {
        followers.delete(pump);
        failures.delete(pump);
        changed();
      };
    },
    wake() {
      for (const pump of [...followers]) pump();
    },
    fail(reason) {
      for (const failed of [...failures.values()]) failed(reason);
    },
    get any() {
      return followers.size > 0;
    },
    close() {
      followers.clear();
      failures.clear();
      changed();
    },
  };
}
