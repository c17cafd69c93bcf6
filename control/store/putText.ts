/** Files of policy that people edit, written whole or not at all. */
import {
  closeSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

/** What stands in a file; undefined if it is not there. */
export function textAt(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Puts a text in the place of a file, or nothing; lasting once this returns. */
export function putText(path: string, text: string | undefined): void {
  if (text === undefined) {
    rmSync(path, { force: true });
    syncFolder(dirname(path));
    return;
  }
  const isThere = existsSync(path);
  // A link stays a link: what it leads to gets the text, and keeps its rights.
  const target = isThere ? realpathSync(path) : path;
  const folder = dirname(target);
  mkdirSync(folder, { recursive: true });
  // A name with a dot in front is not read as policy.
  const beside = join(folder, `.${basename(target)}.outrigger-new`);
  const file = openSync(beside, "w", 0o644);
  try {
    if (isThere) fchmodSync(file, statSync(target).mode & 0o777);
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(beside, target);
  syncFolder(folder);
}

/** A file's name lasts only once its folder does. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
