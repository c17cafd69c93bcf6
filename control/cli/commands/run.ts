/** `outrigger run`: one sidecar with policy from files, which are watched. */
import type { GivenSettings } from "../../../sidecar/settings.ts";
import { changeFiles, isWritable } from "../../store/changeFiles.ts";
import { openFiles } from "../../store/files.ts";
import { callLines } from "../callLines.ts";
import { controlOf } from "../oneProcess.ts";
import { apiLine, besideSidecar, openPolicyApi, type PolicyApiOptions } from "../policyApi.ts";
import { listening, refuseWrong, startWithPolicy } from "../sidecar.ts";
import { type Terminal, table } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface RunOptions {
  readonly files: readonly string[];
  readonly settings: GivenSettings;
  /** Whether log lines are for people or for machines. */
  readonly logFormat: "text" | "json";
  /** The Policy API, or null for none. */
  readonly api: PolicyApiOptions | null;
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
  const edited = {
    readOnly: () => !isWritable(options.files),
    change: changeFiles.bind(undefined, options.files, store),
    read: store.read,
  };
  const log = options.logFormat === "text" ? callLines(terminal) : undefined;
  const control = await controlOf(world, first, { subscribe: store.subscribe, edited });
  const sidecar = await startWithPolicy(world, options.settings, control.source, log);
  const lines = { write: (line: string) => void (log ?? world.stderr).write(line) };
  const api = await besideSidecar(sidecar, openPolicyApi(world, options.api, { ...control, log: lines }));
  const host = options.settings.listen?.host ?? "127.0.0.1";
  const status = sidecar.status();
  const value = {
    address: sidecar.port === 0 ? null : `http://${listening(host, sidecar.port)}`,
    socket: options.settings.socketPath ?? null,
    operations: sidecar.opsPort === 0 ? null : `http://${listening(options.settings.ops?.host ?? "127.0.0.1", sidecar.opsPort)}`,
    policyApi: api === undefined ? null : { address: api.address, tokenFile: api.tokenPath },
    root: status.root,
    routes: first.resources.routes.map((route) => ({
      route: route.metadata?.name ?? "",
      models: route.spec?.match?.models ?? [],
      providers: [...new Set((route.spec?.targets ?? []).map((target) => target.provider))],
    })),
  };
  const greeting = [
    `${terminal.style("bold", `Outrigger ${world.version}`)} listens on ${[value.address, value.socket].filter((one) => one !== null).join(" and ")}`,
    value.operations === null ? "" : `Operations on ${value.operations}`,
    `Policy ${shortRoot(status.root)} from ${options.files.join(", ")}; changes are applied as they are saved.`,
    ...(api === undefined ? [] : [apiLine(api, world.command)]),
    "",
    table(
      ["ROUTE", "MODELS", "PROVIDERS"],
      value.routes.map(({ route, models, providers }) => [route, models.join(", "), providers.join(", ")]),
      "  ",
    ),
  ];
  await terminal.result(value, `${greeting.filter((line, at) => line !== "" || at > 2).join("\n")}`);
  const ended = await Promise.race([stopped.then(() => false), sidecar.closed.then(() => true)]);
  if (!ended && options.logFormat === "text")
    terminal.note("Stopping: no new calls are taken, running ones may end. Once more to stop at once.");
  await api?.close();
  await sidecar.drain();
  return 0;
}

/** Enough of a root to tell two apart by eye. */
function shortRoot(root: string | undefined): string {
  return root === undefined ? "none" : root.slice(0, 12);
}
