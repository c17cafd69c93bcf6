/** What stands around the sidecar and tells it who it is: environment and files, each read where and when it is needed. */
import { readFileSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CredentialFailure, nameShown } from "./failure.ts";

/** Environment variables of the process, as it was started. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A variable's value, or undefined if it is not set or empty, which means the same to all tools. */
export function variable(environment: Environment, name: string): string | undefined {
  return (Object.hasOwn(environment, name) ? environment[name] : undefined) || undefined;
}

/** A variable's value where policy leaves it to the environment. Throws a `CredentialFailure` if it is not set. */
export function neededVariable(environment: Environment, name: string): string {
  const value = variable(environment, name);
  if (value === undefined) throw new CredentialFailure(`the environment variable ${name} is not set, and policy says nothing in its place`);
  return value;
}

/** A file below the home folder, or undefined where there is none. */
export function homeFile(environment: Environment, ...parts: string[]): string | undefined {
  const home = variable(environment, "HOME") ?? variable(environment, "USERPROFILE");
  return home === undefined ? undefined : join(home, ...parts);
}

/** The most of a file that is read: key files have 3 KiB, and config files of many profiles some 100. */
const bytesMax = 1024 * 1024;

/** A file's text. Rejects with a `CredentialFailure`. */
export async function fileText(path: string): Promise<string> {
  try {
    const facts = await stat(path);
    if (!facts.isFile() || facts.size > bytesMax) throw new CredentialFailure(tooOdd(path));
    return await readFile(path, "utf8");
  } catch (error) {
    throw error instanceof CredentialFailure ? error : new CredentialFailure(unreadable(path, error));
  }
}

/** A file's text, read at once and not later: for checks while a policy is made. Throws a `CredentialFailure`. */
export function fileTextNow(path: string): string {
  try {
    const facts = statSync(path);
    if (!facts.isFile() || facts.size > bytesMax) throw new CredentialFailure(tooOdd(path));
    return readFileSync(path, "utf8");
  } catch (error) {
    throw error instanceof CredentialFailure ? error : new CredentialFailure(unreadable(path, error));
  }
}

/** A file's text, or undefined if there is no such file. Rejects with a `CredentialFailure` if there is and it cannot be read. */
export async function fileTextIfThere(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    await stat(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return undefined;
  }
  return fileText(path);
}

/** The token that a file holds, without blanks around it. Rejects with a `CredentialFailure` if it holds something else. */
export async function tokenIn(path: string): Promise<string> {
  const token = (await fileText(path)).trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw new CredentialFailure(`the file ${nameShown(path)} holds no token`);
  return token;
}

/**
 * An address from the environment or a file, to which a secret may go. Over http only this machine and hosts that the platform documents
 * may be asked: whoever can set a variable should not be able to have keys sent across a network in the clear.
 */
export function trustedAddress(text: string, whence: string, plainHosts: (host: string) => boolean = () => false): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url?.protocol === "http:" && (isThisMachine(url.hostname) || plainHosts(url.hostname));
  if (url === undefined || (url.protocol !== "https:" && !plain) || url.username !== "" || url.password !== "")
    throw new CredentialFailure(`the address in ${whence} is neither https nor http at an address that is documented for it`);
  return url;
}

function isThisMachine(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(\.[0-9]{1,3}){3}$/.test(host);
}

function tooOdd(path: string): string {
  return `the file ${nameShown(path)} is not a file, or is larger than ${bytesMax} bytes`;
}

function unreadable(path: string, error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
  return `the file ${nameShown(path)} cannot be read (${nameShown(code)})`;
}
