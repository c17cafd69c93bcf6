/** What is measured: each subject as a running thing with ports and processes, and how to start it. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { join } from "node:path";
import { Child } from "../child.ts";
import { family } from "../cpu.ts";
import { envoyConfig } from "./envoy.ts";
import { liteLlmConfig } from "./litellm.ts";
import { nginxConfig } from "./nginx.ts";
import { PEER_VERSIONS, type PeerKey } from "./peers.ts";

/** The subjects, in the order of tables. */
export type SubjectKey = "direct" | "nginx" | "bare" | "envoy" | "before" | "outrigger" | "connect-node" | "portkey" | "litellm";

/** A subject that runs. */
export interface Subject {
  readonly key: SubjectKey;
  readonly version: string;
  readonly port: { readonly http1: number; readonly http2: number };
  /** Whether its callers' key must have been exchanged for the provider's. */
  readonly exchangesKeys: boolean;
  /** Whether it writes answers anew that it could pass on as they came. */
  readonly rewrites: boolean;
  /** How many times as long its saturated windows last: one must hold several times the calls that are in flight. */
  readonly patience: number;
  /** Headers that its callers add. */
  readonly headers: readonly string[];
  pids(): readonly number[];
  /** Lines that it has logged for calls so far, or undefined if it logs none. */
  logged(): number | undefined;
  /** The process, if it answers messages. */
  readonly child: Child | undefined;
  stop(): Promise<void>;
}

/** Where and for whom a subject is started. */
export interface Place {
  /** A folder for its files. */
  readonly folder: string;
  readonly core: number;
  readonly providerPort: number;
  /** Where other gateways were installed, those that are there. */
  readonly peers: Peers;
  /** Where subjects of ours are, compiled or as they were written, and those of another checkout whose sidecar stands beside this one's. */
  readonly built: string;
  readonly builtBefore: string | undefined;
}

/** Folders of other gateways, by name; one that is not there was not asked for or cannot be had. */
export type Peers = Readonly<Partial<Record<PeerKey, string>>>;

/** Starts a subject. Says why it cannot, as an error. */
export async function startSubject(key: Exclude<SubjectKey, "direct">, place: Place): Promise<Subject> {
  mkdirSync(place.folder, { recursive: true });
  switch (key) {
    case "nginx":
      return startNginx(place);
    case "outrigger":
      return startOurs(key, place.built, "outrigger", place);
    case "before":
      if (place.builtBefore === undefined) throw new Error("no other checkout was given");
      return startOurs(key, place.builtBefore, "outrigger", place);
    case "connect-node":
      return startOurs(key, place.built, "connect-node", place);
    case "bare":
      return { ...(await startOurs(key, place.built, "bare", place)), logged: () => undefined };
    case "envoy":
      return startEnvoy(place);
    case "portkey":
      return startPortkey(place);
    case "litellm":
      return startLiteLlm(place);
  }
}

/** No subject at all: callers talk to the provider. */
export function direct(providerPort: number, provider: Child): Subject {
  return {
    key: "direct",
    version: "",
    port: { http1: providerPort, http2: 0 },
    exchangesKeys: false,
    rewrites: false,
    patience: 1,
    headers: [],
    pids: () => [provider.pid],
    logged: () => undefined,
    child: undefined,
    stop: async () => {},
  };
}

/** The version of nginx on this machine, or undefined. */
export function nginxVersion(): string | undefined {
  const found = spawnSync("nginx", ["-v"], { encoding: "utf8" });
  return /nginx\/([\d.]+)/.exec(found.stderr ?? "")?.[1];
}

async function startNginx(place: Place): Promise<Subject> {
  const ports = { http1: await freePort(), http2: await freePort() };
  const config = join(place.folder, "nginx.conf");
  writeFileSync(config, nginxConfig(place.folder, ports, place.providerPort));
  const log = join(place.folder, "access.log");
  const child = new Child("nginx", {
    command: "nginx",
    args: ["-p", place.folder, "-e", join(place.folder, "error.log"), "-c", config],
    core: place.core,
    output: join(place.folder, "output.log"),
    messages: false,
  });
  await accepting(ports.http1, child);
  return {
    key: "nginx",
    version: nginxVersion() ?? "",
    port: ports,
    exchangesKeys: false,
    rewrites: false,
    patience: 1,
    headers: [],
    pids: () => family(child.pid),
    logged: () => linesOf(log),
    child: undefined,
    stop: () => child.stop(),
  };
}

async function startOurs(key: SubjectKey, folder: string, name: string, place: Place): Promise<Subject> {
  const log = join(place.folder, "calls.log");
  const compiled = join(folder, name, "main.js");
  const child = new Child(key, {
    command: process.execPath,
    args: [existsSync(compiled) ? compiled : join(folder, name, "main.ts"), String(place.providerPort), log],
    core: place.core,
    // The sidecar logs to standard error; the connect-node service is told the file.
    output: log,
    messages: true,
    env: { NODE_ENV: "production" },
  });
  const port = await child.reply<{ http1: number; http2: number }>();
  return {
    key,
    version: `Node ${process.versions.node}`,
    port,
    exchangesKeys: true,
    rewrites: false,
    patience: 1,
    headers: [],
    pids: () => family(child.pid),
    logged: () => linesOf(log),
    child,
    stop: () => child.stop(),
  };
}

async function startEnvoy(place: Place): Promise<Subject> {
  const at = installed(place, "envoy");
  const ports = { http1: await freePort(), http2: await freePort() };
  const config = join(place.folder, "envoy.json");
  const log = join(place.folder, "access.log");
  writeFileSync(config, envoyConfig(log, ports, place.providerPort));
  const child = new Child("envoy", {
    command: join(at, "bin/envoy"),
    // One worker for the one core, and as quiet as nginx is about itself.
    args: ["-c", config, "--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"],
    core: place.core,
    output: join(place.folder, "output.log"),
    messages: false,
  });
  await accepting(ports.http1, child);
  return {
    key: "envoy",
    version: PEER_VERSIONS.envoy,
    port: ports,
    exchangesKeys: false,
    rewrites: false,
    patience: 1,
    headers: [],
    pids: () => family(child.pid),
    logged: () => linesOf(log),
    child: undefined,
    stop: () => child.stop(),
  };
}

async function startPortkey(place: Place): Promise<Subject> {
  const port = await freePort();
  const child = new Child("portkey", {
    command: process.execPath,
    args: [join(installed(place, "portkey"), "node_modules/@portkey-ai/gateway/build/start-patched.js"), "--headless", `--port=${port}`],
    core: place.core,
    output: join(place.folder, "output.log"),
    messages: false,
    env: { NODE_ENV: "production", TRUSTED_CUSTOM_HOSTS: "127.0.0.1,localhost" },
  });
  await accepting(port, child);
  return {
    key: "portkey",
    version: `${PEER_VERSIONS.portkey} on Node ${process.versions.node}`,
    port: { http1: port, http2: 0 },
    exchangesKeys: false,
    rewrites: false,
    patience: 1,
    headers: ["x-portkey-provider", "openai", "x-portkey-custom-host", `http://127.0.0.1:${place.providerPort}/v1`],
    pids: () => family(child.pid),
    logged: () => undefined,
    child: undefined,
    stop: () => child.stop(),
  };
}

async function startLiteLlm(place: Place): Promise<Subject> {
  const at = installed(place, "litellm");
  const port = await freePort();
  const config = join(place.folder, "config.json");
  writeFileSync(config, liteLlmConfig(place.providerPort));
  const child = new Child("litellm", {
    command: join(at, "bin/litellm"),
    args: ["--config", config, "--host", "127.0.0.1", "--port", String(port), "--num_workers", "1", "--telemetry", "False"],
    core: place.core,
    output: join(place.folder, "output.log"),
    messages: false,
    env: { LITELLM_MODE: "PRODUCTION", LITELLM_LOG: "ERROR", LITELLM_LOCAL_MODEL_COST_MAP: "True", PYTHONUNBUFFERED: "1" },
  });
  // It imports for half a minute on one slow core.
  await accepting(port, child, 60_000);
  return {
    key: "litellm",
    version: PEER_VERSIONS.litellm,
    port: { http1: port, http2: 0 },
    exchangesKeys: true,
    rewrites: true,
    // It answers some hundred calls a second, and streams more slowly.
    patience: 8,
    headers: [],
    pids: () => family(child.pid),
    logged: () => undefined,
    child: undefined,
    stop: () => child.stop(),
  };
}

function installed({ peers }: Place, key: PeerKey): string {
  const at = peers[key];
  if (at === undefined) throw new Error("not installed: run with --peers");
  return at;
}

/** A port that nothing listened on a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until a port answers anything at all over HTTP, at most that many milliseconds. */
async function accepting(port: number, child: Child, patienceMs = 10_000): Promise<void> {
  const givenUpMs = performance.now() + patienceMs;
  while (performance.now() < givenUpMs) {
    if (child.exited) throw new Error("ended while starting");
    try {
      await (await fetch(`http://127.0.0.1:${port}/`)).arrayBuffer();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
  throw new Error(`did not listen on port ${port} within ${patienceMs / 1000} s`);
}

const counted = new Map<string, { bytes: number; lines: number }>();

/** Lines of a growing file; what was counted before is not read again. */
function linesOf(file: string): number {
  if (!existsSync(file)) return 0;
  const before = counted.get(file) ?? { bytes: 0, lines: 0 };
  const size = statSync(file).size;
  if (size < before.bytes) throw new Error(`${file} became shorter`);
  const bytes = readFileSync(file).subarray(before.bytes, size);
  let lines = before.lines;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  counted.set(file, { bytes: size, lines });
  return lines;
}
