/**
 * The Policy API of a process that is control and sidecar at once. Its port is there from the start, which costs next to nothing; what
 * serves it is loaded for the first connection, so that whoever never asks waits for nothing and pays no memory.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { Sidecar } from "../../sidecar/main.ts";
import { isoTime } from "../clock.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { ControlListener } from "../serve/listener.ts";
import type { LogLevel } from "../serve/log.ts";
import { tokenText } from "../serve/tokens.ts";
import type { PolicyStore } from "../store/store.ts";
import { dropLocalToken, keepLocalToken, localTokenPaths } from "./localToken.ts";
import { Failure, type World } from "./world.ts";

/** What the command line says of it. */
export interface PolicyApiOptions {
  /** The port on 127.0.0.1; 0 takes any free one. */
  readonly port: number;
  /** Whether somebody asked for this port, so that it is a failure not to get it. */
  readonly isWanted: boolean;
  /** Web origins whose pages may call. */
  readonly corsOrigins: readonly string[];
  readonly logLevel: LogLevel;
}

/** What it serves. */
export interface PolicyApiParts {
  readonly store: PolicyStore;
  readonly mesh: Mesh;
  /** Where log lines go. */
  readonly log: { write(line: string): void };
}

/** A Policy API that is there. */
export interface PolicyApi {
  /** Such as `http://127.0.0.1:7411`. */
  readonly address: string;
  /** The file with the token, as long as it is there. */
  readonly tokenPath: string;
  /** Lets running requests end for a moment. */
  close(): Promise<void>;
}

/** Only this machine: policy is powerful, and there is no certificate. */
const host = "127.0.0.1";
/** Connections that wait while what serves them is loaded: more than the commands and the console of one person. */
const waitingMax = 64;
/** How long running requests may take to end: a change takes milliseconds, and watchers are sent away at once. */
const graceMs = 1_000;

/** Opens it; null for none. Where nobody asked for it and it cannot be had, the log says why, and there is none either. */
export async function openPolicyApi(world: World, options: PolicyApiOptions | null, parts: PolicyApiParts): Promise<PolicyApi | undefined> {
  if (options === null) return undefined;
  const missing = (message: string): void => {
    if (options.logLevel === "silent" || options.logLevel === "error") return;
    parts.log.write(`${JSON.stringify({ severity: "warn", time: isoTime(world.clock.wallMs()), message })}\n`);
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  try {
    return await open(world, options, parts, server, missing);
  } catch (error) {
    if (server.listening) server.close();
    const failure = failureOf(error, options.port);
    if (options.isWanted) throw failure;
    missing(`${failure.message} ${failure.next ?? ""}`.trim());
    return undefined;
  }
}

async function open(
  world: World,
  options: PolicyApiOptions,
  parts: PolicyApiParts,
  server: Server,
  missing: (why: string) => void,
): Promise<PolicyApi> {
  const pathOf = localTokenPaths(world);
  const name = `${host}:${await listen(server, options.port)}`;
  const [token, tokenPath] = [tokenText(world.randomBytes(32)), pathOf(name)];
  keepLocalToken(tokenPath, token);
  const stopping = new AbortController();
  let loading: Promise<ControlListener | undefined> | undefined;
  const waiting = new Set<Socket>();

  async function load(): Promise<ControlListener> {
    const [{ embeddedServices }, { check }] = await Promise.all([import("../serve/embeddedServices.ts"), import("./check.ts")]);
    const listener = embeddedServices({
      ...parts,
      ...options,
      clock: world.clock,
      review: (policy) => check(policy, { exposed: false }),
      token,
      whence: "commands of the same user on this machine find it by themselves, and others in the file that the start has named",
      stopping: stopping.signal,
    });
    await listener.takeOver(server, [...waiting]);
    waiting.clear();
    return listener;
  }

  server.maxConnections = waitingMax;
  server.on("connection", (socket) => {
    waiting.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => waiting.delete(socket));
    loading ??= load().catch((error: unknown) => {
      // Calls to models go on without it, and the next connection tries again.
      missing(failureOf(error, options.port).message);
      for (const one of waiting) one.destroy();
      loading = undefined;
      return undefined;
    });
  });

  return {
    address: `http://${name}`,
    tokenPath,
    async close() {
      // While the address is still ours: whoever gets it next keeps a token of its own there.
      dropLocalToken(tokenPath);
      stopping.abort();
      const listener = await loading;
      if (listener === undefined) server.close();
      else await listener.close(graceMs);
    },
  };
}

/** Waits for what goes with a sidecar, which stops if it cannot be had. */
export async function besideSidecar<Part>(sidecar: Pick<Sidecar, "close">, part: Promise<Part>): Promise<Part> {
  try {
    return await part;
  } catch (error) {
    await sidecar.close();
    throw error;
  }
}

/** Where it is and how it is used, in one line for people. The token itself is shown nowhere. */
export function apiLine({ address, tokenPath }: Pick<PolicyApi, "address" | "tokenPath">, command: string): string {
  const named = address.endsWith(":7411") ? "" : ` --control ${address.replace("http://", "")}`;
  return `Policy API on ${address}: try \`${command} status${named}\`; its token is in ${tokenPath}`;
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      const address = server.address();
      if (address !== null && typeof address !== "string") resolve(address.port);
    });
  });
}

function failureOf(error: unknown, port: number): Failure {
  const [why, next] =
    error instanceof Error && "code" in error && error.code === "EADDRINUSE"
      ? [`${host}:${port} is in use, perhaps by another Outrigger`, "Choose another port with --api-port, where 0 takes any free one"]
      : [error instanceof Error ? error.message : String(error), "Set XDG_STATE_HOME to a folder that can be written to"];
  return new Failure(`The Policy API is not served: ${why}.`, `${next}, or leave it out with --no-api.`);
}
