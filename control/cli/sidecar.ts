/** Starts a sidecar in the command's own process, and says in plain words why it could not. */
import { type Problem, problemText } from "../../proto/resources/problem.ts";
import type { PolicySource, Sidecar } from "../../sidecar/main.ts";
import type { GivenSettings } from "../../sidecar/settings.ts";
import { Failure, type World } from "./world.ts";

/** Starts it with a policy that is there. Throws a `Failure` also if that is refused. */
export async function startWithPolicy(
  world: World,
  given: GivenSettings,
  source: PolicySource,
  log?: { write(text: string): void },
): Promise<Sidecar> {
  const sidecar = await startOrFail(world, given, source, log);
  const { refusal } = sidecar.status();
  if (refusal !== undefined) await sidecar.close();
  refuseWrong(refusal?.problems ?? []);
  return sidecar;
}

/** Starts it. Throws a `Failure` if an address is taken or the settings are wrong. */
export async function startOrFail(
  world: World,
  given: GivenSettings,
  source: PolicySource,
  log?: { write(text: string): void },
): Promise<Sidecar> {
  const [{ startSidecar }, { sidecarSettings }] = await Promise.all([import("../../sidecar/main.ts"), import("../../sidecar/settings.ts")]);
  const settings = settingsOrFail(() => sidecarSettings(given));
  const parts = { version: world.version, environment: world.environment, ...(log === undefined ? {} : { log }) };
  try {
    return await startSidecar(settings, source, parts);
  } catch (error) {
    throw addressFailure(error) ?? error;
  }
}

/** Throws a `Failure` with all problems if one of them is an error. */
export function refuseWrong(problems: readonly Problem[]): void {
  if (!problems.some(({ severity }) => severity === "error")) return;
  const reasons = problems.length === 1 ? "this reason" : `these ${problems.length} reasons`;
  throw new Failure(
    `The policy is refused, for ${reasons}:\n${problems.map((problem) => `  ${problemText(problem)}`).join("\n")}`,
    "Correct these and start again. `outrigger check -f FILE` looks for mistakes without starting, and not for secrets.",
  );
}

/** An address for people and URLs. */
export function listening(host: string, port: number): string {
  const shown = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "[::1]" : host.includes(":") ? `[${host}]` : host;
  return `${shown}:${port}`;
}

function settingsOrFail<Settings>(read: () => Settings): Settings {
  try {
    return read();
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), "See `outrigger run --help`.", 2);
  }
}

/** What the system says about an address, in plain words; undefined if it is about something else. */
function addressFailure(error: unknown): Failure | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  const { port, address, hostname } = error as { readonly port?: number; readonly address?: string; readonly hostname?: string };
  // Of a Unix socket the system says its path as the address, and no port or one below zero.
  const isPath = port === undefined || port < 0;
  const where = isPath ? String(address ?? "The address") : `${address}:${port}`;
  if (error.code === "EADDRINUSE") {
    return new Failure(
      `${where} is in use, and Outrigger needs it.`,
      isPath
        ? "Another Outrigger may be running. Stop it, or choose another path with --socket."
        : "Another Outrigger may be running. Stop it, or choose other ports with --port and --ops-port; 0 takes any free one.",
    );
  }
  if (error.code === "ENOTSOCK") {
    return new Failure(`${where} is there already and is no socket, so it stays as it is.`, "Choose another path with --socket.");
  }
  if (error.code === "EACCES") {
    return isPath
      ? new Failure(
          `The socket ${where} cannot be made.`,
          "Choose with --socket a path in a folder that is there and that this user may write to.",
        )
      : new Failure(`${where} may not be used by this user.`, "Choose a port above 1023 with --port and --ops-port.");
  }
  if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN") {
    return new Failure(
      `${hostname ?? "The host"} is not known as an address.`,
      "Choose another with --host: 127.0.0.1 for this machine alone.",
    );
  }
  if (error.code === "EADDRNOTAVAIL") {
    return new Failure(`${where} is no address of this machine.`, "Choose another with --host: 127.0.0.1 for this machine alone.");
  }
  return undefined;
}
