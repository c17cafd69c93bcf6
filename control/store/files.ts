/**
 * Policy that stands in files: read whole, watched, and offered again whenever it changes.
 *
 * A file is read as it is, a folder with all that is in it and ends in .yaml, .yml or .json; names that begin with a dot are left out.
 * Those are editors' swap files, and the hidden folders behind a mounted ConfigMap, whose visible names are links into them.
 *
 * Whatever is read is offered, also with problems: whoever takes it decides, and keeps what it has. What was read while somebody was
 * writing is read again. Files that belong together are best changed together, by renaming a folder or swapping a link.
 */
import { createHash } from "node:crypto";
import { watch as watchPath } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { compareText } from "../../proto/resources/problem.ts";
import {
  listResources,
  makeRules,
  type PolicyFile,
  type Problem,
  type ReadResources,
  type Resources,
  type Rules,
  readResources,
} from "../../proto/resources.ts";
import { snapshotOf } from "../../proto/snapshot.ts";
import { sha256 } from "../sha256.ts";

/** From the first sign of a change to the reading: editors write, rename and touch in one go, and links are swapped in steps. */
const settleMs = 100;
/** Between looks at the files themselves: network and overlay file systems tell of nothing, and a watch can be lost. */
const lookAgainMs = 5_000;
/** Attempts to read while somebody is writing, before the next look is waited for. */
const attemptsMax = 5;
/** Files at most: reading more takes longer than the time between looks. */
const filesMax = 4096;
/** Bytes of a file at most; the reader of texts has a closer limit and says so with a place. */
const bytesMax = 16 * 1024 * 1024;
/** Folders below each other at most. */
const depthMax = 16;

/** All the policy in the files, or why there is none. */
export interface FilesRead {
  readonly resources: Resources;
  /** If one of these is an error, the files are no policy. */
  readonly problems: readonly Problem[];
  /** The hash of the resources' content. */
  readonly root: string;
  /** The texts that were read, in order. */
  readonly files: readonly PolicyFile[];
  readonly locate: ReadResources["locate"];
}

/** Calls `then` after a time; the function returned takes that back. */
export type After = (delayMs: number, then: () => void) => () => void;

/**
 * Tells of changes in a folder until the function returned is called, or until it says that it is `lost`. It may miss some, and throws
 * if it cannot watch.
 */
export type WatchFolder = (folder: string, changed: () => void, lost: () => void) => () => void;

/** Policy from files. */
export interface FileStore {
  /** Reads the files now. Never rejects: what goes wrong is a problem. */
  read(): Promise<FilesRead>;
  /**
   * Offers what was read last, or reads for the first time; then offers again whenever the content changes, until the function
   * returned is called. Files are watched only while somebody is subscribed.
   */
  subscribe(listener: (read: FilesRead) => void): () => void;
}

/** Opens files and folders as a store. Nothing is read yet. */
export function openFiles(paths: readonly string[], after: After, watchFolder: WatchFolder = watchFolderBySystem): FileStore {
  const rules = makeRules();
  const listeners = new Set<(read: FilesRead) => void>();
  /** By folder: which one it was, since another may take its name. */
  const watches = new Map<string, { readonly identity: string; readonly close: () => void }>();
  let last: { readonly gathered: Gathered; readonly read: FilesRead } | undefined;
  let reading: Promise<FilesRead> | undefined;
  let timer: { readonly soon: boolean; readonly cancel: () => void } | undefined;

  function read(): Promise<FilesRead> {
    reading ??= readNow().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  async function readNow(): Promise<FilesRead> {
    const gathered = await gatherSettled(paths);
    const isNew = last?.gathered.digest !== gathered.digest;
    last = { gathered, read: isNew || last === undefined ? interpret(gathered, paths, rules) : last.read };
    goOn(gathered.found);
    if (isNew) for (const listener of [...listeners]) listener(last.read);
    return last.read;
  }

  /** Looks whether the files are others than those that were read last, and reads them if so. */
  async function look(): Promise<void> {
    const found = await find(paths);
    if (listeners.size === 0) return;
    if (found.signature === last?.gathered.found.signature) goOn(found);
    else await read();
  }

  /** Watches what was found, and plans the next look: soon if a watch is new, since what changed before it was set went unseen. */
  function goOn(found: Found): void {
    if (listeners.size === 0) return;
    plan(watchAll(found.folders));
  }

  function plan(soon: boolean): void {
    if (timer !== undefined && (timer.soon || !soon)) return;
    timer?.cancel();
    const cancel = after(soon ? settleMs : lookAgainMs, () => {
      timer = undefined;
      void look();
    });
    timer = { soon, cancel };
  }

  /** Watches these folders and no others. Returns whether one is new. */
  function watchAll(folders: ReadonlyMap<string, string>): boolean {
    for (const [folder, { identity, close }] of watches) {
      if (folders.get(folder) === identity) continue;
      close();
      watches.delete(folder);
    }
    let isNew = false;
    for (const [folder, identity] of folders) {
      if (watches.has(folder)) continue;
      try {
        const close = watchFolder(
          folder,
          () => plan(true),
          () => watches.delete(folder),
        );
        watches.set(folder, { identity, close });
        isNew = true;
      } catch {
        // The folder may be gone, or the system has no watches left. Looking again finds every change, only later.
      }
    }
    return isNew;
  }

  return {
    read,
    subscribe(listener) {
      listeners.add(listener);
      if (last !== undefined) listener(last.read);
      // Also if something was read before: the files may have changed since, and nobody watched.
      if (listeners.size === 1) void read();
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0) return;
        timer?.cancel();
        timer = undefined;
        for (const { close } of watches.values()) close();
        watches.clear();
      };
    },
  };
}

function interpret({ files, problems }: Gathered, paths: readonly string[], rules: Rules): FilesRead {
  const { resources, problems: found, locate } = readResources(files, rules);
  const all = [...problems, ...found];
  // A file that was cut to nothing must not count as the wish to allow nothing.
  if (all.length === 0 && listResources(resources).length === 0) {
    all.push(fileProblem("policy/no-resources", paths.join(", "), "There is no resource in here.", "Write one, or name another file."));
  }
  return { resources, problems: all, root: snapshotOf(resources, sha256).root, files, locate };
}

/** What stands in the files, before it is understood. */
interface Gathered {
  readonly files: readonly PolicyFile[];
  /** What could not be read. */
  readonly problems: readonly Problem[];
  /** Hash of all of it; the same content has the same digest. */
  readonly digest: string;
  readonly found: Found;
}

/** Gathers until nothing changes meanwhile, or gives what it has. */
async function gatherSettled(paths: readonly string[]): Promise<Gathered> {
  let before = await find(paths);
  for (let attempt = 1; ; attempt++) {
    const gathered = await readAll(before);
    const found = await find(paths);
    if (found.signature === before.signature || attempt === attemptsMax) return gathered;
    before = found;
  }
}

/** The files that there are. */
interface Found {
  /** By absolute path: the path as it is shown. */
  readonly files: ReadonlyMap<string, string>;
  readonly problems: readonly Problem[];
  /** Folders in which a change matters, by absolute path, each with what tells it from another of that name. */
  readonly folders: ReadonlyMap<string, string>;
  /** Changes whenever a file does. */
  readonly signature: string;
}

async function find(paths: readonly string[]): Promise<Found> {
  const finder = new Finder();
  for (const path of paths) await finder.path(path);
  return finder.found();
}

/** Walks given paths. */
class Finder {
  readonly #files = new Map<string, string>();
  readonly #problems: Problem[] = [];
  readonly #folders = new Map<string, string>();
  readonly #signatures: string[] = [];
  /** Real paths of the folders that are being walked, so that a link back ends. */
  readonly #walked = new Set<string>();
  #tooMany = false;

  /** A path that was given. */
  async path(path: string): Promise<void> {
    // The folder around is watched: editors put another file in the place of the old one, and a folder may be swapped as a whole.
    await this.#watchable(dirname(resolve(path)));
    const facts = await this.#look(path);
    if (facts === undefined) return;
    if (!facts.isDirectory()) {
      this.#files.set(resolve(path), path);
      return;
    }
    const before = this.#files.size;
    await this.#folder(path, 1);
    if (this.#files.size === before) {
      this.#tell(
        "policy/no-resources",
        path,
        "There is no file in this folder that ends in .yaml, .yml or .json.",
        "Add one, or name another folder.",
      );
    }
  }

  found(): Found {
    return { files: this.#files, problems: this.#problems, folders: this.#folders, signature: this.#signatures.sort().join("\n") };
  }

  async #folder(folder: string, depth: number): Promise<void> {
    if (depth > depthMax)
      return this.#tell("policy/too-large", folder, `More than ${depthMax} folders lie in each other.`, "Name an inner folder.");
    try {
      const real = await realpath(folder);
      if (this.#walked.has(real)) return;
      this.#walked.add(real);
      await this.#watchable(folder);
      for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) => compareText(a.name, b.name))) {
        if (entry.name.startsWith(".")) continue;
        const path = join(folder, entry.name);
        const isPolicy = /\.(ya?ml|json)$/i.test(entry.name);
        if (!isPolicy && !entry.isDirectory() && !entry.isSymbolicLink()) continue;
        const facts = await this.#look(path);
        if (facts?.isDirectory()) await this.#folder(path, depth + 1);
        else if (facts !== undefined && isPolicy) this.#file(path);
      }
    } catch (error) {
      this.#unreadable(folder, error);
    }
  }

  #file(path: string): void {
    if (this.#files.size < filesMax) this.#files.set(resolve(path), path);
    else if (!this.#tooMany) {
      this.#tooMany = true;
      this.#tell("policy/too-large", path, `There are more than ${filesMax} files.`, "Put several resources into one file.");
    }
  }

  async #watchable(folder: string): Promise<void> {
    try {
      const { dev, ino } = await stat(folder, { bigint: true });
      this.#folders.set(resolve(folder), `${dev} ${ino}`);
    } catch {
      // What is not there cannot be watched; that it is missing is told where it is read.
    }
  }

  /** What is at a path, links followed; undefined if that cannot be found out. */
  async #look(path: string) {
    try {
      const facts = await stat(path, { bigint: true });
      if (!facts.isDirectory()) {
        this.#signatures.push(JSON.stringify([path, `${facts.dev} ${facts.ino} ${facts.size} ${facts.mtimeNs} ${facts.ctimeNs}`]));
      }
      return facts;
    } catch (error) {
      this.#unreadable(path, error);
      return undefined;
    }
  }

  #unreadable(path: string, error: unknown): void {
    this.#signatures.push(JSON.stringify([path, reasonOf(error)]));
    this.#tell(
      "policy/unreadable-file",
      path,
      `The file or folder ${reasonOf(error)}.`,
      "Correct the path, or make it readable for this process.",
    );
  }

  #tell(id: Problem["id"], path: string, message: string, hint: string): void {
    this.#problems.push(fileProblem(id, path, message, hint));
  }
}

async function readAll(found: Found): Promise<Gathered> {
  const files: PolicyFile[] = [];
  const problems = [...found.problems];
  const digest = createHash("sha256");
  for (const path of [...found.files.values()].sort(compareText)) {
    const text = await readText(path);
    if (typeof text === "string") files.push({ path, text });
    else problems.push(text);
  }
  for (const { path, text } of files) digest.update(JSON.stringify([path, text]));
  for (const { file, message } of problems) digest.update(JSON.stringify([file, message]));
  return { files, problems, digest: digest.digest("hex"), found };
}

async function readText(path: string): Promise<string | Problem> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax)
      return fileProblem(
        "policy/too-large",
        path,
        `The file has ${size} bytes; at most ${bytesMax} are read.`,
        "Split it into several files.",
      );
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (error instanceof TypeError)
      return fileProblem("policy/unreadable-file", path, "The file is not text in UTF-8.", "Save it as UTF-8.");
    return fileProblem("policy/unreadable-file", path, `The file ${reasonOf(error)}.`, "Make it readable for this process.");
  }
}

function fileProblem(id: Problem["id"], file: string, message: string, hint: string): Problem {
  return { id, severity: "error", kind: "", name: "", field: "", message, hint, file };
}

/** Why a file could not be read, as the end of a sentence. */
function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return "does not exist";
    case "EACCES":
    case "EPERM":
      return "may not be read by this process";
    default:
      return `cannot be read${code === "" ? "" : ` (${code})`}`;
  }
}

function watchFolderBySystem(folder: string, changed: () => void, lost: () => void): () => void {
  // A watch alone is no reason for a process to go on.
  const watcher = watchPath(folder, { persistent: false }, changed);
  watcher.on("error", () => {
    watcher.close();
    lost();
  });
  return () => watcher.close();
}
