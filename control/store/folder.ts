/**
 * Policy in a folder that people edit and keep in Git: the files say what holds, and what was before stands beside them in `.outrigger`.
 *
 * What somebody changes by hand becomes a revision of the author `files`; an edit that is wrong changes nothing, and the policy before
 * holds on. What is written through the store edits files: all of them or none. The change is committed to the database of the hidden
 * folder together with the edits that it needs, and only then are they made, each by renaming. If the process ends in between, the next
 * one that opens the folder finds the edits and makes them. A file that somebody changed in that moment is left as it is: what it says
 * becomes the next revision.
 */
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Problem, problemText } from "../../proto/resources/problem.ts";
import { listResources, makeRules, type Rules } from "../../proto/resources.ts";
import type { Clock } from "../clock.ts";
import { sha256 } from "../sha256.ts";
import { changeByHand, contentOf, effectOf, isNothing, keptOf, keyOf, keyText } from "./change.ts";
import { checkEdits, editFiles, type FileEdit, placeIn } from "./edit.ts";
import { type FileStore, type FilesRead, openFiles } from "./files.ts";
import { putText, textAt } from "./putText.ts";
import { openSqlite, type SqliteStore } from "./sqlite.ts";
import type { Failed, PolicyStore, RevisionRecord, StoreChange, StoredPolicy, WriteOutcome } from "./store.ts";

/** Who a change by hand is recorded for. */
export const filesAuthor = "files";
/** The folder beside the files. Its name begins with a dot, so that nothing in it is taken for policy. */
const hiddenName = ".outrigger";
/** Attempts to read the files while other processes write them. */
const attemptsMax = 20;

/** What a store may be told. */
export interface FolderOptions {
  readonly clock: Clock;
  /** How many revisions it remembers. */
  readonly keep?: number;
  /** Where the history is, if the folder is only to be read, as one that a cluster or another program fills. */
  readonly readOnlyHistory?: string;
}

/** Opens a folder; one that may be written to is made if it is not there. Rejects if what it needs cannot be written. */
export async function openFolder(folder: string, { clock, keep, readOnlyHistory }: FolderOptions): Promise<PolicyStore> {
  const hidden = readOnlyHistory ?? join(folder, hiddenName);
  await mkdir(hidden, { recursive: true, mode: 0o700 });
  chmodSync(hidden, 0o700);
  // The history is this machine's own; what Git keeps is the policy.
  const ignore = join(hidden, ".gitignore");
  if (!existsSync(ignore)) writeFileSync(ignore, "*\n");
  const history = await openSqlite(join(hidden, "history.sqlite"), { clock, ...(keep === undefined ? {} : { keep }) });
  try {
    history.database.exec("CREATE TABLE IF NOT EXISTS edits (path TEXT PRIMARY KEY, sha256_before TEXT NOT NULL, content TEXT) STRICT");
    const store = new FolderStore(folder, history, clock, readOnlyHistory !== undefined);
    await store.read();
    return store;
  } catch (error) {
    await history.close();
    throw error;
  }
}

class FolderStore implements PolicyStore {
  readonly readOnly: boolean;
  readonly #folder: string;
  readonly #history: SqliteStore;
  readonly #clock: Clock;
  readonly #files: FileStore;
  readonly #rules: Rules;
  readonly #failed = new Set<Failed>();
  #last: Promise<unknown> = Promise.resolve();
  #unsubscribe: (() => void) | undefined;
  #problems: readonly Problem[] = [];
  /** Why the files cannot be followed now, as it was told. */
  #trouble: Parameters<Failed> | undefined;
  /** What was read last and is the policy of which revision: then there is nothing to take up. */
  #takenUp: { readonly read: FilesRead; readonly revision: number } | undefined;
  #closed = false;

  constructor(folder: string, history: SqliteStore, clock: Clock, readOnly: boolean) {
    this.readOnly = readOnly;
    this.#folder = folder;
    this.#history = history;
    this.#clock = clock;
    this.#files = openFiles([folder], (delayMs, then) => clock.after(delayMs, then));
    this.#rules = makeRules();
  }

  read(): Promise<StoredPolicy> {
    return this.#inTurn(async () => {
      await this.#takeUp();
      return { ...this.#history.readNow(), problems: this.#problems };
    });
  }

  readAt(revision: number): Promise<StoredPolicy | undefined> {
    return this.#history.readAt(revision);
  }

  write(change: StoreChange): Promise<WriteOutcome> {
    return this.#inTurn(() => this.#write(change));
  }

  revisions(limit: number, before?: number): Promise<readonly RevisionRecord[]> {
    return this.#history.revisions(limit, before);
  }

  watch(from: number, told: (policy: StoredPolicy) => void, failed: Failed): () => void {
    const stop = this.#history.watch(from, told, failed);
    this.#failed.add(failed);
    // Nobody followed when it was found out.
    if (this.#trouble !== undefined) failed(...this.#trouble);
    this.#unsubscribe ??= this.#files.subscribe(() => {
      // Whoever takes it up reads the files again, since others may write them at this moment.
      this.read().catch((error: unknown) => this.#fail(error instanceof Error ? error.message : String(error)));
    });
    return () => {
      stop();
      this.#failed.delete(failed);
      if (this.#failed.size > 0) return;
      this.#unsubscribe?.();
      this.#unsubscribe = undefined;
    };
  }

  notes(topic: string): Promise<ReadonlyMap<string, Uint8Array>> {
    return this.#history.notes(topic);
  }

  note(topic: string, changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    return this.#history.note(topic, changes);
  }

  async close(): Promise<void> {
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
    this.#failed.clear();
    await this.#last;
    this.#closed = true;
    await this.#history.close();
  }

  /** Does one thing after another: reading, taking up and writing must not see each other half done. */
  #inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const done = this.#last.then(() => {
      if (this.#closed) throw new Error("the store is closed");
      return act();
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Makes what stands in the files a revision, if it is policy and another one. Returns what was read. */
  async #takeUp(): Promise<FilesRead> {
    for (let attempt = 1; attempt <= attemptsMax; attempt++) {
      // In this order: a revision that another process committed before is in the files by the end of the second step, and one that it
      // commits later is noticed below.
      const base = this.#history.readNow();
      this.#finishEdits();
      const read = await this.#files.read();
      if (this.#takenUp?.read === read && this.#takenUp.revision === base.revision) return read;
      const problems = this.#problemsOf(read, base);
      const meanwhile = (): boolean => this.#history.readNow().revision !== base.revision || this.#editsWait();
      if (problems.some(({ severity }) => severity === "error")) {
        if (meanwhile()) continue;
        this.#problems = problems;
        this.#fail(`The files are no policy, so what held before holds on: ${problems.map(problemText).join("; ")}`, problems);
        return read;
      }
      const outcome = this.#history.writeAlongside(
        changeByHand(base, listResources(read.resources), filesAuthor, this.#clock.wallMs()),
        () => undefined,
      );
      if (!outcome.written) continue;
      this.#takenUp = { read, revision: outcome.revision };
      this.#problems = problems;
      this.#trouble = undefined;
      return read;
    }
    throw new Error("other processes write the files all the time");
  }

  /** What is wrong with the files. That there is none is no error where there was none before: a folder begins empty. */
  #problemsOf({ problems }: FilesRead, base: StoredPolicy): readonly Problem[] {
    return base.resources.length > 0 ? problems : problems.filter(({ id }) => id !== "policy/no-resources");
  }

  async #write(change: StoreChange): Promise<WriteOutcome> {
    if (this.readOnly) throw new Error("the folder is only read");
    const read = await this.#takeUp();
    if (this.#problems.some(({ severity }) => severity === "error")) throw new Error("the files have errors; they must be corrected first");
    const base = this.#history.readNow();
    if (change.base !== base.revision) return { written: false, newest: base.revision };
    const standing = new Map(base.resources.map(({ resource, owner }) => [keyText(keyOf(resource)), keptOf(resource, owner)]));
    const effect = effectOf(change, (key) => standing.get(key));
    if (isNothing(effect)) return { written: true, revision: base.revision };
    const { upserts, removals } = contentOf(change, base);
    const edits = editFiles(placeIn(this.#folder), read.files, upserts, removals);
    const before = base.resources.map(({ resource }) => resource);
    checkEdits(read.files, edits, before, change, this.#rules);
    const outcome = this.#history.writeAlongside(change, () => this.#keepEdits(edits));
    if (!outcome.written) return outcome;
    try {
      this.#finishEdits();
    } catch (error) {
      // It is committed and will be in the files as soon as they can be written; whoever was told otherwise would do it twice.
      this.#fail(`The change is made and the files cannot be written yet: ${error instanceof Error ? error.message : String(error)}`);
    }
    return outcome;
  }

  #keepEdits(edits: readonly FileEdit[]): void {
    const insert = this.#history.database.prepare("INSERT INTO edits (path, sha256_before, content) VALUES (?, ?, ?)");
    for (const { path, before, after } of edits) insert.run(path, contentHash(before), after ?? null);
  }

  #editsWait(): boolean {
    return this.#history.database.prepare("SELECT 1 FROM edits LIMIT 1").get() !== undefined;
  }

  /**
   * Makes the edits that a committed change still needs, whoever committed it. Within a transaction, so that two processes do not write the
   * same file at one time; and without waiting in between, since a transaction of this handle holds up all others.
   */
  #finishEdits(): void {
    if (!this.#editsWait()) return;
    const { database } = this.#history;
    database.exec("BEGIN IMMEDIATE");
    try {
      for (const { path, sha256_before: before, content } of database.prepare("SELECT * FROM edits ORDER BY path").all()) {
        if (typeof path !== "string") throw new Error("an edit has a path");
        if (contentHash(textAt(path)) === before) putText(path, typeof content === "string" ? content : undefined);
      }
      database.exec("DELETE FROM edits");
      database.exec("COMMIT");
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }

  #fail(...trouble: Parameters<Failed>): void {
    // Said once for each cause, not at every look.
    if (this.#trouble?.[0] === trouble[0]) return;
    this.#trouble = trouble;
    for (const failed of [...this.#failed]) failed(...trouble);
  }
}

/** The hash of what stands in a file; of one that is not there, a word that no hash is. */
function contentHash(text: string | undefined): string {
  return text === undefined ? "absent" : sha256(text);
}
