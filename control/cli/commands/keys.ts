/** `outrigger keys`: API keys for consumers. Policy holds their hashes, never the keys. */
import { createHash } from "node:crypto";
import type { Terminal } from "../terminal.ts";
import { Failure, type World } from "../world.ts";

/** Makes a key. It is shown once and kept nowhere. */
export async function createKey(world: World, terminal: Terminal): Promise<number> {
  // 32 bytes: as hard to guess as the hash that stands for it. The prefix lets scanners of leaked secrets know what they found.
  const key = `org_${Buffer.from(world.randomBytes(32)).toString("base64url")}`;
  const sha256 = hashOf(key);
  await terminal.result({ key, sha256 }, `${key}\n`);
  if (terminal.format === "table") {
    terminal.note(
      `Give the key to the application; it is not kept anywhere. Put its hash into the application's Consumer:\n${identity(sha256)}`,
    );
  }
  return 0;
}

/** Reads a key from standard input and gives its hash. Reading it from the command line would leave it in the shell's history. */
export async function hashKey(world: World, terminal: Terminal): Promise<number> {
  if (world.stdin.isTTY === true) terminal.note("Type or paste the key, then Enter and Ctrl-D:");
  let text = "";
  for await (const piece of world.stdin) {
    text += String(piece);
    // No key is that long: somebody piped a file.
    if (text.length > 65_536) throw new Failure("Standard input has more than 64 KiB, which is no key.", "Pipe the key alone.", 2);
  }
  const key = text.trim();
  if (key === "") throw new Failure("Standard input is empty: expected a key.", 'For example: printf %s "$KEY" | outrigger keys hash', 2);
  if (/\s/.test(key)) throw new Failure("Standard input has several words or lines: expected one key.", "Pipe the key alone.", 2);
  const sha256 = hashOf(key);
  await terminal.result({ sha256 }, `${sha256}\n`);
  return 0;
}

function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

function identity(sha256: string): string {
  return ["  spec:", "    identities:", "      - api_key:", `          sha256: ${sha256}`].join("\n");
}
