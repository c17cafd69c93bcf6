/**
 * The token of a Policy API that runs inside `run` or `demo`, handed from that process to the commands of the same user on the same machine.
 *
 * It lies in a file that only this user can read, for as long as the process runs: nobody has to copy it, and it stands in no log, no
 * list of processes and no history of a shell. The file is named for the machine and the address, and its token is sent to exactly this
 * address: state folders may be shared between machines, and on another address of this one another user may listen.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { openPrivateFolder } from "../mesh/privateFolder.ts";
import { stateHome } from "./stateHome.ts";
import type { World } from "./world.ts";

/** A token that a process on this machine keeps for this user. */
export interface FoundToken {
  readonly token: string;
  /** The address that it is for, such as `http://127.0.0.1:7411`. */
  readonly address: string;
  readonly path: string;
}

/** Names the file for an address such as `127.0.0.1:7411`. Throws if this user has no place for any. */
export function localTokenPaths(world: Pick<World, "environment">): (address: string) => string {
  const home = stateHome(world);
  if (home === undefined) throw new Error("there is no home folder to keep its token in");
  return (address) => pathIn(home, address);
}

/** Keeps a token in a file, whole or not at all. Throws if that is not possible. */
export function keepLocalToken(path: string, token: string): void {
  openPrivateFolder(dirname(path));
  const beside = `${path}.new`;
  // What a process that was killed left here must not be written into: it could be a link.
  rmSync(beside, { force: true });
  // Without waiting for the disk: with the machine the process ends, and with it the token.
  writeFileSync(beside, `${token}\n`, { mode: 0o600, flag: "wx" });
  renameSync(beside, path);
}

/** Takes the file away; one that is gone already is no matter. */
export function dropLocalToken(path: string): void {
  rmSync(path, { force: true });
}

/** The token for an address as people write it, if a process on this machine keeps one there. */
export function findLocalToken(world: Pick<World, "environment">, control: string): FoundToken | undefined {
  const home = stateHome(world);
  const [, host = "", port = ""] = /^(?:http:\/\/)?(localhost|127(?:\.\d{1,3}){3}|\[::1\]):(\d{1,5})\/?$/.exec(control) ?? [];
  if (home === undefined || host === "") return undefined;
  // A name may lead to several addresses; the token goes to the one that it is for.
  const address = `${host === "localhost" ? "127.0.0.1" : host}:${Number(port)}`;
  const path = pathIn(home, address);
  try {
    const token = readFileSync(path, "utf8").trim();
    return isToken(token) ? { token, address: `http://${address}`, path } : undefined;
  } catch {
    // There is none, or it is somebody else's.
    return undefined;
  }
}

/** Whether a text can be a token: one word that may stand in a header. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text);
}

function pathIn(home: string, address: string): string {
  return join(home, "outrigger/local", `${hostname()}_${address}`.replaceAll(/[^A-Za-z0-9._-]/g, "_"));
}
