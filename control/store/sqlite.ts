/**
 * Policy in one SQLite file: the store that needs nothing beside the machine's disk.
 *
 * Every version of every resource is a row, so that the policy of any revision that is remembered can be read. A change is one
 * transaction that begins by taking the write lock, which is what makes compare-and-swap hold between several handles and processes;
 * it is on the disk when it is reported, because `synchronous` is FULL (https://www.sqlite.org/pragma.html#pragma_synchronous).
 */
import { chmodSync, closeSync, openSync } from "node:fs";
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import { isKindName, type KindName } from "../../proto/resources/kinds.ts";
import type { Clock } from "../clock.ts";
import { type Effect, effectOf, isNothing, type Kept, keyOf, keyText, storedOf } from "./change.ts";
import { makeFollowers } from "./followers.ts";
import {
  type PolicyStore,
  type ResourceKey,
  type RevisionRecord,
  revisionsKept,
  type StoreChange,
  type StoredPolicy,
  type StoredResource,
  type WriteOutcome,
} from "./store.ts";

/** How long a writer waits for another process to finish: a change of 10,000 resources takes about a second. */
const busyMs = 10_000;
/** Between looks for revisions of other processes while somebody follows: a change should be seen within a second, and a look is one read. */
const lookMs = 250;
/** The form of the tables. A file of another form is left alone. */
const formVersion = 1;

/** A store in one file, and what the store of files needs beyond the contract. */
export interface SqliteStore extends PolicyStore {
  /**
   * As `write`, and calls `alongside` inside the same transaction, after the revision is known; what it throws undoes everything. It is not
   * called if nothing is written.
   */
  writeAlongside(change: StoreChange, alongside: (revision: number) => void): WriteOutcome;
  /** The policy that holds now. */
  readNow(): StoredPolicy;
  readonly database: DatabaseSync;
}

/** What a store may be told. */
export interface SqliteOptions {
  readonly clock: Pick<Clock, "after">;
  /** How many revisions it remembers. */
  readonly keep?: number;
}

/** Opens the file, or makes it. Rejects if it is something else, or cannot be written to. */
export async function openSqlite(path: string, { clock, keep = revisionsKept }: SqliteOptions): Promise<SqliteStore> {
  // Loaded here, because not everybody who loads this file wants a database, and some versions of Node warn of it.
  const { DatabaseSync: Database } = await import("node:sqlite");
  // Policy names hosts, accounts and hashes of keys: nobody else on the machine needs to read it. SQLite gives the files beside it the
  // rights that this one has, so it must have them from the beginning.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const database = new Database(path, { timeout: busyMs });
  try {
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    prepareForm(database);
    // Beside the form that is numbered: a build that knows nothing of notes leaves them alone, and can still use the file.
    database.exec(
      "CREATE TABLE IF NOT EXISTS notes (topic TEXT, key TEXT, content BLOB NOT NULL, PRIMARY KEY (topic, key)) STRICT, WITHOUT ROWID",
    );
  } catch (error) {
    database.close();
    throw new Error(`${path} cannot be used as a store: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  return new Store(database, clock, keep);
}

function prepareForm(database: DatabaseSync): void {
  const version = Number(database.prepare("PRAGMA user_version").get()?.user_version);
  if (version > formVersion) {
    throw new Error(`the file was written by a later build: it has form ${version}, and this build knows ${formVersion}`);
  }
  if (version === formVersion) return;
  database.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS revisions (
      revision INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL, rolled_back_to INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS versions (
      kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
      change TEXT NOT NULL, owner TEXT NOT NULL, bytes BLOB,
      PRIMARY KEY (kind, namespace, name, revision)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS versions_by_revision ON versions (revision);
    CREATE TABLE IF NOT EXISTS standing (
      kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, owner TEXT NOT NULL, bytes BLOB NOT NULL,
      PRIMARY KEY (kind, namespace, name)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = ${formVersion};
    COMMIT;
  `);
}

class Store implements SqliteStore {
  readonly readOnly = false;
  readonly database: DatabaseSync;
  readonly #keep: number;
  readonly #followers;
  #cached: StoredPolicy | undefined;

  constructor(database: DatabaseSync, clock: Pick<Clock, "after">, keep: number) {
    this.database = database;
    this.#keep = keep;
    let cancel: (() => void) | undefined;
    // Other processes write to the same file, and nothing tells of that: while somebody follows, the counter is looked at.
    const look = (): void => {
      cancel?.();
      cancel = this.#followers.any ? clock.after(lookMs, look) : undefined;
      this.#followers.wake();
    };
    const changed = (): void => {
      if (this.#followers.any && cancel === undefined) cancel = clock.after(lookMs, look);
      if (this.#followers.any) return;
      cancel?.();
      cancel = undefined;
    };
    this.#followers = makeFollowers((after) => this.#next(after), changed);
  }

  async read(): Promise<StoredPolicy> {
    return this.readNow();
  }

  readNow(): StoredPolicy {
    if (this.#cached?.revision !== this.#newest()) {
      this.#cached = this.#atOnce(() => ({ revision: this.#newest(), resources: this.#standing(this.#cached?.resources), problems: [] }));
    }
    return this.#cached;
  }

  /** All that stands. What was read `before` is taken over, since a version of a resource never changes: a change of one costs one. */
  #standing(before: readonly StoredResource[] | undefined): readonly StoredResource[] {
    if (before === undefined) {
      return this.#all("SELECT kind, namespace, name, revision, owner, bytes FROM standing ORDER BY kind, namespace, name").map(resourceOf);
    }
    const known = new Map(before.map((stored) => [keyText(keyOf(stored.resource)), stored]));
    const bytes = this.database.prepare("SELECT bytes FROM standing WHERE kind = ? AND namespace = ? AND name = ?");
    return this.#all("SELECT kind, namespace, name, revision, owner FROM standing ORDER BY kind, namespace, name").map((row) => {
      const key = keyOfRow(row);
      const had = known.get(keyText(key));
      if (had !== undefined && had.revision === Number(row.revision)) return had;
      return resourceOf({ ...row, ...bytes.get(key.kind, key.namespace, key.name) });
    });
  }

  async readAt(revision: number): Promise<StoredPolicy | undefined> {
    return this.#atOnce(() => this.#readAt(revision));
  }

  async write(change: StoreChange): Promise<WriteOutcome> {
    return this.writeAlongside(change, () => undefined);
  }

  writeAlongside(change: StoreChange, alongside: (revision: number) => void): WriteOutcome {
    const { database } = this;
    database.exec("BEGIN IMMEDIATE");
    try {
      const outcome = this.#write(change, alongside);
      database.exec("COMMIT");
      this.#followers.wake();
      return outcome;
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      // It may have been read inside of what is undone, and another change may get the same revision.
      this.#cached = undefined;
      throw error;
    }
  }

  async revisions(limit: number, before = Number.MAX_SAFE_INTEGER): Promise<readonly RevisionRecord[]> {
    return this.#atOnce(() =>
      this.#all("SELECT * FROM revisions WHERE revision < ? ORDER BY revision DESC LIMIT ?", before, limit).map((row): RevisionRecord => {
        const revision = Number(row.revision);
        const changed = this.#all(
          "SELECT kind, namespace, name, change FROM versions WHERE revision = ? ORDER BY kind, namespace, name",
          revision,
        );
        const keysOf = (change: string): ResourceKey[] => changed.filter((one) => one.change === change).map(keyOfRow);
        return {
          revision,
          atMs: Number(row.at_ms),
          author: String(row.author),
          reason: String(row.reason),
          rolledBackTo: Number(row.rolled_back_to),
          created: keysOf("created"),
          updated: keysOf("updated"),
          deleted: keysOf("deleted"),
        };
      }),
    );
  }

  watch(from: number, told: (policy: StoredPolicy) => void, failed: (reason: string) => void): () => void {
    return this.#followers.watch(from, told, failed);
  }

  async notes(topic: string): Promise<ReadonlyMap<string, Uint8Array>> {
    return new Map(
      this.#all("SELECT key, content FROM notes WHERE topic = ?", topic).map(({ key, content }) => [String(key), bytesOf(content)]),
    );
  }

  async note(topic: string, changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    const { database } = this;
    database.exec("PRAGMA busy_timeout = 0");
    try {
      database.exec("BEGIN IMMEDIATE");
      const keep = database.prepare("INSERT OR REPLACE INTO notes (topic, key, content) VALUES (?, ?, ?)");
      const forget = database.prepare("DELETE FROM notes WHERE topic = ? AND key = ?");
      for (const [key, content] of changes) {
        if (content === undefined) forget.run(topic, key);
        else keep.run(topic, key, content);
      }
      database.exec("COMMIT");
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    } finally {
      database.exec(`PRAGMA busy_timeout = ${busyMs}`);
    }
  }

  async close(): Promise<void> {
    this.#followers.close();
    this.database.close();
  }

  #write(change: StoreChange, alongside: (revision: number) => void): WriteOutcome {
    const newest = this.#newest();
    if (change.base !== newest) return { written: false, newest };
    const find = this.database.prepare("SELECT owner, bytes FROM standing WHERE kind = ? AND namespace = ? AND name = ?");
    const standing = new Map(
      [...change.upserts.map(({ resource }) => keyOf(resource)), ...change.removals].map((key) => {
        const row = find.get(key.kind, key.namespace, key.name);
        return [keyText(key), row === undefined ? undefined : { owner: String(row.owner), bytes: bytesOf(row.bytes) }];
      }),
    );
    const effect = effectOf(change, (key) => standing.get(key));
    if (isNothing(effect)) return { written: true, revision: newest };
    const revision = newest + 1;
    this.database
      .prepare("INSERT INTO revisions (revision, at_ms, author, reason, rolled_back_to) VALUES (?, ?, ?, ?, ?)")
      .run(revision, Math.trunc(change.atMs), change.author, change.reason, change.rolledBackTo);
    this.#keepEffect(effect, revision);
    this.#forget(revision);
    alongside(revision);
    return { written: true, revision };
  }

  #keepEffect({ created, updated, deleted }: Effect, revision: number): void {
    const version = this.database.prepare(
      "INSERT INTO versions (kind, namespace, name, revision, change, owner, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    const stand = this.database.prepare(
      "INSERT OR REPLACE INTO standing (kind, namespace, name, revision, owner, bytes) VALUES (?, ?, ?, ?, ?, ?)",
    );
    const gone = this.database.prepare("DELETE FROM standing WHERE kind = ? AND namespace = ? AND name = ?");
    const write = ({ key, owner, bytes }: Kept, change: string): void => {
      version.run(key.kind, key.namespace, key.name, revision, change, owner, bytes);
      stand.run(key.kind, key.namespace, key.name, revision, owner, bytes);
    };
    for (const kept of created) write(kept, "created");
    for (const kept of updated) write(kept, "updated");
    for (const key of deleted) {
      version.run(key.kind, key.namespace, key.name, revision, "deleted", "", null);
      gone.run(key.kind, key.namespace, key.name);
    }
  }

  /** Forgets the revisions beyond those that are remembered, and the versions that only they had. */
  #forget(newest: number): void {
    const oldest = newest - this.#keep + 1;
    if (oldest <= 1) return;
    this.#run("DELETE FROM revisions WHERE revision < ?", oldest);
    // Of what the oldest revision has, each resource's last version up to it is needed, and the one before is not; nor is a removal.
    this.#run(
      `DELETE FROM versions WHERE revision <= ?1 AND EXISTS (SELECT 1 FROM versions AS later WHERE later.kind = versions.kind
       AND later.namespace = versions.namespace AND later.name = versions.name
       AND later.revision > versions.revision AND later.revision <= ?1)`,
      oldest,
    );
    this.#run("DELETE FROM versions WHERE revision < ? AND change = 'deleted'", oldest);
  }

  #readAt(revision: number): StoredPolicy | undefined {
    const known = this.#all("SELECT 1 FROM revisions WHERE revision = ?", revision).length > 0;
    if (!known && !(revision === 0 && this.#oldest() <= 1)) return undefined;
    const rows = this.#all(
      `SELECT kind, namespace, name, revision, owner, bytes FROM versions WHERE change <> 'deleted' AND revision =
       (SELECT MAX(v.revision) FROM versions AS v WHERE v.kind = versions.kind AND v.namespace = versions.namespace
        AND v.name = versions.name AND v.revision <= ?) ORDER BY kind, namespace, name`,
      revision,
    );
    return { revision, resources: rows.map(resourceOf), problems: [] };
  }

  #next(after: number): StoredPolicy | undefined {
    // Without a look at anything else when there is nothing new, which is nearly always.
    if (this.#newest() <= after) return undefined;
    return this.#atOnce(() => {
      const next = this.#all("SELECT MIN(revision) AS next FROM revisions WHERE revision > ?", after)[0]?.next;
      if (next === null || next === undefined) return undefined;
      return Number(next) === this.#newest() ? this.readNow() : this.#readAt(Number(next));
    });
  }

  #newest(): number {
    return Number(this.#all("SELECT MAX(revision) AS newest FROM revisions")[0]?.newest ?? 0);
  }

  #oldest(): number {
    return Number(this.#all("SELECT MIN(revision) AS oldest FROM revisions")[0]?.oldest ?? 0);
  }

  /** Reads several times as of one moment, whoever writes meanwhile. */
  #atOnce<Result>(read: () => Result): Result {
    if (this.database.isTransaction) return read();
    this.database.exec("BEGIN");
    try {
      return read();
    } finally {
      this.database.exec("COMMIT");
    }
  }

  #all(sql: string, ...values: SQLInputValue[]): Record<string, unknown>[] {
    return this.database.prepare(sql).all(...values);
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.database.prepare(sql).run(...values);
  }
}

function resourceOf(row: Record<string, unknown>): StoredResource {
  return storedOf(keyOfRow(row).kind, bytesOf(row.bytes), String(row.owner), Number(row.revision));
}

function keyOfRow(row: Record<string, unknown>): ResourceKey {
  return { kind: kindOfText(String(row.kind)), namespace: String(row.namespace), name: String(row.name) };
}

function kindOfText(text: string): KindName {
  if (isKindName(text)) return text;
  throw new Error(`the store has a resource of the kind ${text}, which this build does not know: run a later build`);
}

function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new Error("the store has a resource or a note without content");
}
