/** `outrigger token`: tokens of people and pipelines, in control's data folder. */

import { join } from "node:path";
import { isoTime } from "../../clock.ts";
import { newToken, type Role, readTokens, type TokenRecord, writeTokens } from "../../serve/tokens.ts";
import { type Terminal, table } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface CreateTokenOptions {
  readonly dataFolder: string;
  readonly name: string;
  readonly role: Role;
  /** For how long it is good, in milliseconds; null for ever. */
  readonly lifetimeMs: number | null;
}

/** Makes a token. It is shown once and kept nowhere; a control that runs takes it within a second. */
export async function createToken(world: World, terminal: Terminal, options: CreateTokenOptions): Promise<number> {
  const { dataFolder, name, role, lifetimeMs } = options;
  if (!/^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/.test(name) || name === "local" || name === "files" || name === "control") {
    throw new Failure(
      `${JSON.stringify(name)} cannot be a token's name: expected up to 64 small letters, digits, dots, hyphens and underscores.`,
      "The names local, files and control stand for others in the record of changes.",
      ExitCode.usage,
    );
  }
  const path = pathIn(dataFolder);
  const tokens = await read(path);
  if (tokens.some((one) => one.name === name)) {
    throw new Failure(
      `There is a token ${name} already.`,
      `Revoke it first with \`outrigger token revoke ${name}\`, or choose another name.`,
    );
  }
  const nowMs = Math.trunc(world.clock.wallMs());
  const expiresMs = lifetimeMs === null ? null : nowMs + lifetimeMs;
  const { token, record } = newToken(name, role, world.randomBytes(32), nowMs, expiresMs);
  await write(path, [...tokens, record]);
  await terminal.result({ token, name, role, expires: expiresMs === null ? null : time(expiresMs) }, `${token}\n`);
  if (terminal.format === "table") {
    const until = expiresMs === null ? "for ever" : `until ${time(expiresMs)}`;
    terminal.note(
      `This is the token ${name}, with the role ${role}, good ${until}. It is shown this once: set OUTRIGGER_CONTROL_TOKEN to it.`,
    );
  }
  return ExitCode.ok;
}

/** Lists tokens, without the tokens themselves, which nobody has but their holders. */
export async function listTokens(world: World, terminal: Terminal, dataFolder: string): Promise<number> {
  const tokens = await read(pathIn(dataFolder));
  const nowMs = world.clock.wallMs();
  const value = tokens.map(({ name, role, createdMs, expiresMs }) => ({
    name,
    role,
    created: time(createdMs),
    expires: expiresMs === null ? null : time(expiresMs),
    expired: expiresMs !== null && expiresMs <= nowMs,
  }));
  const rows = value.map((one) => [
    one.name,
    one.role,
    one.created,
    one.expires === null ? "never" : one.expired ? `${one.expires} (expired)` : one.expires,
  ]);
  await terminal.result(
    value,
    rows.length === 0
      ? "There is no token. Make one with `outrigger token create NAME`."
      : table(["NAME", "ROLE", "CREATED", "EXPIRES"], rows),
  );
  return ExitCode.ok;
}

/** Takes a token back. A control that runs refuses it within a second. */
export async function revokeToken(_world: World, terminal: Terminal, dataFolder: string, name: string): Promise<number> {
  const path = pathIn(dataFolder);
  const tokens = await read(path);
  const rest = tokens.filter((one) => one.name !== name);
  if (rest.length === tokens.length)
    throw new Failure(`There is no token ${JSON.stringify(name)} in ${path}.`, "`outrigger token list` shows those that are there.");
  await write(path, rest);
  await terminal.result({ revoked: name }, `The token ${name} is revoked.`);
  return ExitCode.ok;
}

function pathIn(dataFolder: string): string {
  return join(dataFolder, "tokens.json");
}

async function read(path: string): Promise<readonly TokenRecord[]> {
  return inPlainWords(path, () => readTokens(path));
}

async function write(path: string, tokens: readonly TokenRecord[]): Promise<void> {
  await inPlainWords(path, () => writeTokens(path, tokens));
}

async function inPlainWords<Result>(path: string, act: () => Promise<Result>): Promise<Result> {
  try {
    return await act();
  } catch (error) {
    throw new Failure(
      `The tokens in ${path} cannot be used: ${error instanceof Error ? error.message : String(error)}.`,
      "Name control's data folder with --data, as the user that control runs as.",
    );
  }
}

function time(atMs: number): string {
  return isoTime(atMs).replace(/\.\d+Z$/, "Z");
}
