/** `outrigger run`: one sidecar with policy from files, which are watched. */
import type { GivenSettings } from "../../../sidecar/settings.ts";
import { openFiles } from "../../store/files.ts";
import { callLines } from "../callLines.ts";
import { controlOf } from "../oneProcess.ts";
import { listening, refuseWrong, startWithPolicy } from "../sidecar.ts";
import { type Terminal, table } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface RunOptions {
  readonly files: readonly string[];
  readonly settings: GivenSettings;
  /** Whether log lines are for people or for machines. */
  readonly logFormat: "text" | "json";
}

/** Runs until the process is asked to stop, then lets running calls end. */
export async function run(world: World, terminal: Terminal, options: RunOptions): Promise<number> {
  if (options.settings.listen === null && (options.settings.socketPath ?? null) === null) {
    throw new Failure("There is nowhere to listen: expected --socket with --no-listen.", undefined, ExitCode.usage);
  }
  // Whoever stops it while it starts has it started and stopped in order.
  const stopped = world.stopped();
  const store = openFiles(options.files, world.clock.after);
  const first = await store.read();
  refuseWrong(first.problems);
  const log = options.logFormat === "text" ? callLines(terminal) : undefined;
  const sidecar = await startWithPolicy(world, options.settings, await controlOf(world, first, store), log);
  const host = options.settings.listen?.host ?? "127.0.0.1";
  const status = sidecar.status();
  const value = {
    address: sidecar.port === 0 ? null : `http://${listening(host, sidecar.port)}`,
    socket: options.settings.socketPath ?? null,
    operations: sidecar.opsPort === 0 ? null : `http://${listening(options.settings.ops?.host ?? "127.0.0.1", sidecar.opsPort)}`,
    root: status.root,
    routes: first.resources.routes.map((route) => ({
      route: route.metadata?.name ?? "",
      models: route.spec?.match?.models ?? [],
      providers: [...new Set((route.spec?.targets ?? []).map((target) => target.provider))],
    })),
  };
  const lines = [
    `${terminal.style("bold", `Outrigger ${world.version}`)} listens on ${[value.address, value.socket].filter((one) => one !== null).join(" and ")}`,
    value.operations === null ? "" : `Operations on ${value.operations}`,
    `Policy ${shortRoot(status.root)} from ${options.files.join(", ")}; changes are applied as they are saved.`,
    "",
    table(
      ["ROUTE", "MODELS", "PROVIDERS"],
      value.routes.map(({ route, models, providers }) => [route, models.join(", "), providers.join(", ")]),
      "  ",
    ),
  ];
  await terminal.result(value, `${lines.filter((line, at) => line !== "" || at > 2).join("\n")}`);
  const ended = await Promise.race([stopped.then(() => false), sidecar.closed.then(() => true)]);
  if (!ended && options.logFormat === "text")
    terminal.note("Stopping: no new calls are taken, running ones may end. Once more to stop at once.");
  await sidecar.drain();
  return 0;
}

/** Enough of a root to tell two apart by eye. */
function shortRoot(root: string | undefined): string {
  return root === undefined ? "none" : root.slice(0, 12);
}
