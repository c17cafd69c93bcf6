/**
 * Where policy is kept: the one contract that every store keeps, and nothing else of control knows which it is.
 *
 * A store does three things: it takes a change whole or not at all, guarded by the revision that the change was made from; it reads
 * everything as of one revision; and it tells of every revision in order. Revisions only ever rise, across restarts too, since a
 * sidecar refuses a lower one than it has. Whether policy is good is decided before it is written: a store keeps what it is given.
 */
import type { KindName, Resource } from "../../proto/resources/kinds.ts";
import type { Problem } from "../../proto/resources/problem.ts";

/**
 * Revisions that a store remembers, each with what changed: months of a busy platform, and few enough to keep even in memory. The policy
 * that holds is kept for as long as it holds.
 */
export const revisionsKept = 1000;

/** A store of policy. */
export interface PolicyStore {
  /** Whether nothing can be written through it, because its policy comes from elsewhere; `write` then rejects. */
  readonly readOnly: boolean;
  /** Reads all that holds now, as of one revision. Rejects if the store cannot be read. */
  read(): Promise<StoredPolicy>;
  /** Reads all that held at a revision, or undefined if the store does not have it (any more). Revision 0 is the empty beginning. */
  readAt(revision: number): Promise<StoredPolicy | undefined>;
  /**
   * Makes a change hold, whole or not at all, and lasting once this resolves. If the newest revision is not `change.base`, nothing is
   * changed and the outcome says which it is. A change that changes nothing makes no revision.
   */
  write(change: StoreChange): Promise<WriteOutcome>;
  /** Revisions from the one before `before` (or the newest) downwards, at most `limit`. */
  revisions(limit: number, before?: number): Promise<readonly RevisionRecord[]>;
  /**
   * Tells of each revision after `from` in order, those that are remembered at once; somebody may have made them from outside, by editing a
   * file or through another replica. Ends when the function returned is called. `failed` hears why the store cannot be followed for now,
   * once for each cause; it goes on by itself when it can. What holds goes on to hold meanwhile.
   */
  watch(from: number, told: (policy: StoredPolicy) => void, failed: Failed): () => void;
  /**
   * What control has noted about a topic, by key. Notes are what it must still know after a restart and is no policy: they belong to no
   * revision, nobody is told of them, and a store that policy cannot be written through keeps them all the same.
   */
  notes(topic: string): Promise<ReadonlyMap<string, Uint8Array>>;
  /**
   * Notes what is given, and forgets what is undefined: all of it or nothing, lasting once this resolves if the store lasts. Waits for no
   * other process that writes, since whoever notes has others to serve: it rejects, and the same can be noted again.
   */
  note(topic: string, changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void>;
  /** Closes files and databases. Nothing may be called after it. */
  close(): Promise<void>;
}

/** Hears why a store cannot be followed. If what people wrote into it is no policy, `problems` are all that is wrong with that. */
export type Failed = (reason: string, problems?: readonly Problem[]) => void;

/** All resources as of one revision. */
export interface StoredPolicy {
  /** 0 for a store that nothing was written to yet. */
  readonly revision: number;
  /** Sorted by kind, namespace and name. */
  readonly resources: readonly StoredResource[];
  /**
   * What is wrong with what stands in the store, where people can write past this contract, as in files. Resources are then those of
   * the last revision that had no error, and stay in force.
   */
  readonly problems: readonly Problem[];
}

/** A resource and what the store knows of it. */
export interface StoredResource {
  readonly resource: Resource;
  /** The revision that last changed it. */
  readonly revision: number;
  /** Who it was applied for, or empty. */
  readonly owner: string;
}

/** A change of policy. */
export interface StoreChange {
  /** The revision that the change was made from. */
  readonly base: number;
  /** Resources that are new or others. */
  readonly upserts: readonly Omit<StoredResource, "revision">[];
  /** Resources that go. */
  readonly removals: readonly ResourceKey[];
  /** Who makes it: the name of a token, or `control`. */
  readonly author: string;
  /** Why, as the author says. */
  readonly reason: string;
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** The earlier revision that it brings back, or 0. */
  readonly rolledBackTo: number;
}

/** Which resource. The namespace is written out. */
export interface ResourceKey {
  readonly kind: KindName;
  readonly namespace: string;
  readonly name: string;
}

/** What became of a change. */
export type WriteOutcome =
  | { readonly written: true; readonly revision: number }
  /** Somebody else was faster; nothing was changed. */
  | { readonly written: false; readonly newest: number };

/** What the store remembers of a revision. */
export interface RevisionRecord {
  readonly revision: number;
  readonly atMs: number;
  readonly author: string;
  readonly reason: string;
  readonly rolledBackTo: number;
  readonly created: readonly ResourceKey[];
  readonly updated: readonly ResourceKey[];
  readonly deleted: readonly ResourceKey[];
}
