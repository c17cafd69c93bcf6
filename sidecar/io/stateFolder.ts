/** The folder in which a sidecar keeps what outlives it: the last good policy, and who it is. Only its own user may look inside. */
import { access, chmod, constants, mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { snapshotBytesMax } from "../../proto/mesh.ts";

/** Bytes of a file at most: a policy, and as much again for names and what stands around it. */
const bytesMax = 2 * snapshotBytesMax;

/** Files by name, each whole. */
export interface StateFolder {
  read(name: string): Promise<Uint8Array | undefined>;
  write(name: string, bytes: Uint8Array): Promise<void>;
}

/** Opens a folder, and makes it if it is not there. Rejects if it cannot be made or written to. */
export async function openStateFolder(folder: string): Promise<StateFolder> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  try {
    await chmod(folder, 0o700);
  } catch (error) {
    // A volume that a pod is given belongs to somebody else. Each file is closed to others by itself, and what is signed cannot be forged.
    if (!(error instanceof Error && "code" in error && error.code === "EPERM")) throw error;
  }
  await access(folder, constants.W_OK);
  return {
    async read(name) {
      const path = join(folder, name);
      try {
        const { size } = await stat(path);
        if (size > bytesMax) throw new Error(`${name} is larger than ${bytesMax} bytes`);
        return new Uint8Array(await readFile(path));
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
        throw error;
      }
    },
    async write(name, bytes) {
      const path = join(folder, name);
      const beside = `${path}.new`;
      const file = await open(beside, "w", 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, path);
      // The name itself is only lasting once the folder is (fsync(2), "Notes").
      const directory = await open(folder, "r");
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    },
  };
}
