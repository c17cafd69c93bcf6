/**
 * Changes of policy as changes of files that a process follows, where the process keeps no history of its own on the disk: given files and
 * folders are edited in place. Each file is written whole; if one cannot be written, those before it are put back as they were. Only a
 * process that is killed in between leaves some written and some not.
 */
import { accessSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";
import { listResources, makeRules } from "../../proto/resources.ts";
import { contentOf } from "./change.ts";
import { checkEdits, digestOf, editFiles, type FileEdit, placeIn } from "./edit.ts";
import type { FileStore } from "./files.ts";
import { putText, textAt } from "./putText.ts";
import type { ResourceKey, StoreChange, StoredPolicy } from "./store.ts";

/** Whether a process may write to these files and folders, and put others beside the files. */
export function isWritable(paths: readonly string[]): boolean {
  try {
    for (const path of paths.flatMap((one) => [one, ...(isFolder(one) ? [] : [dirname(one)])])) accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Makes the files of given paths say what a change asks for. Returns false, and changes nothing, if they do not say what the change was made
 * from: somebody has edited them meanwhile. Throws if they cannot be written; then they say what they said.
 */
export async function changeFiles(
  paths: readonly string[],
  files: FileStore,
  base: StoredPolicy,
  change: Pick<StoreChange, "upserts" | "removals">,
): Promise<boolean> {
  const read = await files.read();
  const before = base.resources.map(({ resource }) => resource);
  // Files that say nothing are an error of their own, and where nothing holds just what the change was made from.
  const isBroken = read.problems.some(({ id, severity }) => severity === "error" && !(before.length === 0 && id === "policy/no-resources"));
  if (isBroken || digestOf(listResources(read.resources)) !== digestOf(before)) return false;
  const { upserts, removals } = contentOf(change, base);
  const edits = editFiles(placeAmong(paths), read.files, upserts, removals);
  checkEdits(read.files, edits, before, change, makeRules());
  // Since they were read: what somebody saves now must not be lost.
  if (edits.some((edit) => textAt(edit.path) !== edit.before)) return false;
  writeAll(edits);
  return true;
}

function writeAll(edits: readonly FileEdit[]): void {
  const done: FileEdit[] = [];
  try {
    for (const edit of edits) {
      putText(edit.path, edit.after);
      done.push(edit);
    }
  } catch (error) {
    for (const { path, before } of done.reverse()) putText(path, before);
    throw error;
  }
}

/** Where a new resource goes: into a file of its own in the first folder, or to the end of the first file. */
function placeAmong(paths: readonly string[]): (key: ResourceKey) => string {
  const folder = paths.find(isFolder);
  if (folder !== undefined) return placeIn(folder);
  return () => {
    const file = paths.find((path) => !/\.json$/i.test(path));
    if (file !== undefined) return file;
    throw new Error(`there is no folder and no YAML file among ${paths.join(", ")} for a resource that is new`);
  };
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
