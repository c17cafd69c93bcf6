/** `outrigger control`: the one place that says what the mesh does. */
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { isLoopback, startControl, tokensPath } from "../../main.ts";
import { readTokens } from "../../serve/tokens.ts";
import { type ControlSettings, controlSettings, type GivenControlSettings, storeSetting } from "../../settings.ts";
import { check } from "../check.ts";
import { listening } from "../sidecar.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, Failure, podFolder, type World } from "../world.ts";

/** What the command line says. */
export interface RunControlOptions {
  readonly settings: Omit<GivenControlSettings, "store">;
  /** `memory`, `sqlite:FILE`, `files:DIR` or `read-only:DIR`; undefined for an SQLite file in the data folder. */
  readonly store: string | undefined;
}

/** Runs until the process is asked to stop, then lets sidecars leave. */
export async function control(world: World, terminal: Terminal, options: RunControlOptions): Promise<number> {
  const stopped = world.stopped();
  const store = options.store === undefined ? null : storeSetting(options.store);
  if (store === undefined) {
    throw new Failure(
      `${options.store} is no store: expected memory, sqlite:FILE, files:DIR or read-only:DIR.`,
      "For example --store files:./policy.",
      ExitCode.usage,
    );
  }
  const settings = settingsOrFail({ ...options.settings, store });
  await checkCluster(settings.cluster);
  const host = settings.listen?.host;
  // Whoever tries it out on one machine needs nothing more; as soon as there is a token, nobody needs that help.
  const wantsLocal = (host === undefined || isLoopback(host)) && (await readTokens(tokensPath(settings.dataFolder))).length === 0;
  const running = await startOrFail(() =>
    startControl(
      { ...settings, localToken: settings.localToken || wantsLocal },
      {
        version: world.version,
        clock: world.clock,
        review: (policy) => check(policy, { exposed: false }),
        randomBytes: (count) => world.randomBytes(count),
        log: { write: (line) => void world.stderr.write(line) },
      },
    ),
  );
  const address =
    running.port === 0 || host === undefined ? null : `${running.secure ? "https" : "http"}://${listening(host, running.port)}`;
  const value = {
    address,
    socket: settings.socketPath,
    operations: running.opsPort === 0 ? null : `http://${listening(settings.ops?.host ?? "127.0.0.1", running.opsPort)}`,
    store: options.store ?? `sqlite:${join(settings.dataFolder, "policy.sqlite")}`,
    data: settings.dataFolder,
    revision: (await running.store.read()).revision,
    token: running.localToken ?? null,
  };
  const lines = [
    `${terminal.style("bold", `Outrigger control ${world.version}`)} listens on ${[value.address, value.socket].filter((one) => one !== null).join(" and ")}`,
    ...(value.operations === null ? [] : [`Operations on ${value.operations}`]),
    `Policy in ${value.store}, revision ${value.revision}; keys and tokens in ${value.data}`,
    ...(value.token === null
      ? []
      : [
          "",
          "A token for this machine, as long as this process runs; it is shown this once:",
          `  export OUTRIGGER_CONTROL_TOKEN=${value.token}`,
        ]),
  ];
  await terminal.result(value, lines.join("\n"));
  await stopped;
  await running.drain();
  return ExitCode.ok;
}

/** Throws if what the cluster's API server is asked with is not there: nobody could be let in, and only those who try would hear why. */
async function checkCluster(cluster: ControlSettings["cluster"]): Promise<void> {
  for (const [what, option, path] of [
    ["The certificate of the API server's authority", "--cluster-ca", cluster?.caPath],
    ["The token with which the API server is asked", "--cluster-token", cluster?.tokenPath],
  ] as const) {
    try {
      if (path !== undefined && path !== null) await access(path, constants.R_OK);
    } catch {
      throw new Failure(
        `${what} cannot be read: ${path}.`,
        path?.startsWith(podFolder) === true
          ? "This is no pod, or one whose service account's token is not mounted (automountServiceAccountToken). Run control in the cluster, or " +
              `name the API server and what it is asked with: --trust-cluster https://HOST:PORT --cluster-ca FILE --cluster-token FILE.`
          : `Name another file with ${option}.`,
        ExitCode.usage,
      );
    }
  }
}

function settingsOrFail(given: GivenControlSettings) {
  try {
    return controlSettings(given);
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), "See `outrigger control --help`.", ExitCode.usage);
  }
}

async function startOrFail<Result>(start: () => Promise<Result>): Promise<Result> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if ("code" in error && error.code === "EADDRINUSE") {
      const { address, port } = error as { readonly address?: string; readonly port?: number };
      const where = port === undefined || port < 0 ? address : `${address}:${port}`;
      throw new Failure(
        `${where} is in use, and control needs it.`,
        "Another one may be running. Stop it, or choose other ports with --port and --ops-port; 0 takes any free one.",
      );
    }
    throw new Failure(`Control cannot start: ${error.message}.`, "See `outrigger control --help`.");
  }
}
