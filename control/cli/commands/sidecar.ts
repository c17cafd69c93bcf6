/** `outrigger sidecar`: one sidecar whose policy comes from a control in another process. */
import { readFile } from "node:fs/promises";
import { remoteControl } from "../../../sidecar/main.ts";
import { type GivenMeshSettings, type GivenSettings, meshSettings } from "../../../sidecar/settings.ts";
import { callLines } from "../callLines.ts";
import { listening, startOrFail } from "../sidecar.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface SidecarOptions {
  readonly settings: GivenSettings;
  readonly mesh: GivenMeshSettings;
  /** A file with the join token, or undefined. */
  readonly joinTokenFile: string | undefined;
  /** Whether log lines are for people or for machines. */
  readonly logFormat: "text" | "json";
}

/** Runs until the process is asked to stop, then lets running calls end. */
export async function sidecar(world: World, terminal: Terminal, options: SidecarOptions): Promise<number> {
  if (options.settings.listen === null && (options.settings.socketPath ?? null) === null) {
    throw new Failure("There is nowhere to listen: expected --socket with --no-listen.", undefined, ExitCode.usage);
  }
  const stopped = world.stopped();
  const token = options.joinTokenFile === undefined ? options.mesh.joinToken : await readTokenFile(options.joinTokenFile);
  const settings = settingsOrFail({ ...options.mesh, joinToken: token });
  const log = options.logFormat === "text" ? callLines(terminal) : undefined;
  const running = await startOrFail(world, options.settings, await openOrFail(() => remoteControl(settings)), log);
  const host = options.settings.listen?.host ?? "127.0.0.1";
  const value = {
    address: running.port === 0 ? null : `http://${listening(host, running.port)}`,
    socket: options.settings.socketPath ?? null,
    operations: running.opsPort === 0 ? null : `http://${listening(options.settings.ops?.host ?? "127.0.0.1", running.opsPort)}`,
    control: settings.control,
    state: settings.stateFolder,
  };
  const lines = [
    `${terminal.style("bold", `Outrigger ${world.version}`)} listens on ${[value.address, value.socket].filter((one) => one !== null).join(" and ")}`,
    ...(value.operations === null ? [] : [`Operations on ${value.operations}; /readyz says when there is policy, and why not`]),
    `Policy from ${value.control}, ${value.state === null ? "kept nowhere" : `kept in ${value.state}`}`,
  ];
  await terminal.result(value, lines.join("\n"));
  const ended = await Promise.race([stopped.then(() => false), running.closed.then(() => true)]);
  if (!ended && options.logFormat === "text")
    terminal.note("Stopping: no new calls are taken, running ones may end. Once more to stop at once.");
  await running.drain();
  return ExitCode.ok;
}

async function readTokenFile(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
    throw new Failure(`The join token's file ${path} cannot be read${code}.`, "`outrigger join-token create` makes a token.");
  }
}

function settingsOrFail(given: GivenMeshSettings) {
  try {
    return meshSettings(given);
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), "See `outrigger sidecar --help`.", ExitCode.usage);
  }
}

async function openOrFail<Result>(open: () => Promise<Result>): Promise<Result> {
  try {
    return await open();
  } catch (error) {
    throw new Failure(
      `The state folder cannot be used: ${error instanceof Error ? error.message : String(error)}.`,
      "Choose another with --state, or use --no-state.",
    );
  }
}
