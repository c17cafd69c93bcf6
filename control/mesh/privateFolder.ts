/** A folder that only its owner can read, in which control keeps keys and tokens' hashes: each file is whole or not there. */
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";

/** A private folder. */
export interface PrivateFolder {
  pathOf(name: string): string;
  /** The text of a file, or undefined if there is none. Throws if it is there and cannot be read. */
  read(name: string): string | undefined;
  /** Writes a file whole; it lasts once this returns. Throws if that fails; then the old one stands. */
  write(name: string, text: string): void;
}

/** Opens a folder, and makes it if it is not there. */
export function openPrivateFolder(path: string): PrivateFolder {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  // Made earlier, perhaps by hand: keys in it must not be readable by others.
  chmodSync(path, 0o700);
  const pathOf = (name: string): string => join(path, name);
  return {
    pathOf,
    read(name) {
      try {
        return readFileSync(pathOf(name), "utf8");
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
        throw error;
      }
    },
    write(name, text) {
      const beside = pathOf(`.${name}.new`);
      const file = openSync(beside, "w", 0o600);
      try {
        writeSync(file, text);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(beside, pathOf(name));
      // The name lasts only once the folder does.
      const folder = openSync(path, "r");
      try {
        fsyncSync(folder);
      } finally {
        closeSync(folder);
      }
    },
  };
}

/** What a file of JSON holds, or undefined if there is none. Throws, naming the file, if it is no JSON. */
export function readJsonFile(folder: PrivateFolder, name: string): unknown {
  const text = folder.read(name);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${folder.pathOf(name)} is no JSON; restore it from a backup, or move it away to begin anew`);
  }
}
