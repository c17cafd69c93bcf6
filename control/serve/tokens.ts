/**
 * Tokens of people and pipelines: who may read policy, and who may change it.
 *
 * They stand in one file of control's data folder, as hashes only: a token has 256 bits of chance, so its plain SHA-256 gives nothing
 * away and finds it quickly. The command changes the file, and a running control sees that within a second.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { z } from "zod";
import type { Clock } from "../clock.ts";
import { openPrivateFolder } from "../mesh/privateFolder.ts";

/** What a token is good for: readers read and plan, editors change. */
export type Role = "reader" | "editor";

/** What is known of a token. */
export interface TokenRecord {
  readonly name: string;
  readonly role: Role;
  /** The SHA-256 of the token, as 64 hexadecimal digits. */
  readonly sha256: string;
  readonly createdMs: number;
  /** When it ends; null for never. */
  readonly expiresMs: number | null;
}

/** Tokens, as a running control asks for them. */
export interface Tokens {
  /** Who a token belongs to, `expired`, or undefined for one that nobody issued. `address` is where it came from. */
  find(token: string, address: string): Promise<Pick<TokenRecord, "name" | "role"> | "expired" | undefined>;
}

/** How old what was read from the file may be: a revoked token is refused within a second. */
const freshMs = 1_000;
/** Tokens at most: one for each person and pipeline. */
const tokensMax = 1_000;

const schema = z.strictObject({
  tokens: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/),
        role: z.enum(["reader", "editor"]),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        createdMs: z.int(),
        expiresMs: z.int().nullable(),
      }),
    )
    .max(tokensMax),
});

/** Asks the file at a path, whose hashes were made by `newToken`. `local` is a token of this process alone, for callers of this machine. */
export function openTokens(path: string, clock: Pick<Clock, "wallMs" | "monotonicMs">, local?: string): Tokens {
  let read: { readonly atMs: number; readonly stamp: string; readonly tokens: readonly TokenRecord[] } | undefined;

  async function current(): Promise<readonly TokenRecord[]> {
    const nowMs = clock.monotonicMs();
    if (read !== undefined && nowMs - read.atMs < freshMs) return read.tokens;
    const stamp = await stampOf(path);
    read = { atMs: nowMs, stamp, tokens: read?.stamp === stamp ? read.tokens : await readTokens(path) };
    return read.tokens;
  }

  const localOnly = local === undefined ? undefined : openLocalToken(local);
  return {
    async find(token, address) {
      const near = await localOnly?.find(token, address);
      if (near !== undefined) return near;
      const hash = hashOf(token);
      // Each is compared, in constant time, so that the time taken tells nothing of which hashes there are.
      let found: TokenRecord | undefined;
      for (const record of await current()) if (timingSafeEqual(hash, Buffer.from(record.sha256, "hex"))) found = record;
      if (found === undefined) return undefined;
      return found.expiresMs !== null && found.expiresMs <= clock.wallMs() ? "expired" : found;
    },
  };
}

/** The one token of a process, in its memory alone: an editor's, for callers of this machine. */
export function openLocalToken(local: string): Tokens {
  const hash = hashOf(local);
  return {
    find: async (token, address) =>
      isNear(address) && timingSafeEqual(hashOf(token), hash) ? { name: "local", role: "editor" } : undefined,
  };
}

/** The text of a token of 32 unguessable bytes. */
export function tokenText(bytes: Uint8Array): string {
  // The prefix lets scanners of leaked secrets know what they found.
  return `opt_${Buffer.from(bytes).toString("base64url")}`;
}

/** A new token and its record. `bytes` are 32 unguessable ones. The token is in no file: who makes it shows it once. */
export function newToken(
  name: string,
  role: Role,
  bytes: Uint8Array,
  nowMs: number,
  expiresMs: number | null,
): { readonly token: string; readonly record: TokenRecord } {
  const token = tokenText(bytes);
  return { token, record: { name, role, sha256: hashOf(token).toString("hex"), createdMs: Math.trunc(nowMs), expiresMs } };
}

/** Reads the tokens of a file; none if there is no file. Throws if it is something else. */
export async function readTokens(path: string): Promise<readonly TokenRecord[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${path} is not JSON: expected the tokens that \`outrigger token create\` writes`);
  }
  const read = schema.safeParse(json);
  if (read.success) return read.data.tokens;
  throw new Error(`${path} holds no tokens: ${read.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ")}`);
}

/** Puts tokens in the place of a file's, whole or not at all. */
export async function writeTokens(path: string, tokens: readonly TokenRecord[]): Promise<void> {
  openPrivateFolder(dirname(path)).write(basename(path), `${JSON.stringify(schema.parse({ tokens }), null, 2)}\n`);
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

async function stampOf(path: string): Promise<string> {
  try {
    const { ino, size, mtimeNs } = await stat(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch (error) {
    if (isMissing(error)) return "";
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** Whether an address is this machine's own. */
function isNear(address: string): boolean {
  return address === "::1" || address.startsWith("127.") || address.startsWith("::ffff:127.");
}
