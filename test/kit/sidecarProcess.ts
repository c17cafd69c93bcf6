/** A sidecar in a process of its own, so that its memory is its own: what a test's provider and callers hold is not counted. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { collectedHeapBytes } from "./heap.ts";
import { startTestSidecar } from "./sidecar.ts";

/** The running process. */
export interface SidecarProcess {
  readonly port: number;
  readonly pid: number;
  /** What the process holds after everything that can be collected has been. */
  memory(): Promise<HeldMemory>;
  /** Processor time that the process has used, user and system, in milliseconds. */
  cpuMs(): Promise<number>;
  close(): Promise<void>;
}

/** Memory of a process, in bytes. */
export interface HeldMemory {
  /** As the operating system counts it. */
  readonly rss: number;
  /** Heap and buffers. */
  readonly held: number;
}

type Asked = "memory" | "cpu" | { readonly policy: string; readonly secrets: Readonly<Record<string, string>> };
type Told = { readonly port: number } | HeldMemory | { readonly cpuMs: number };

/** Starts it. Its log is off: what is measured is calls, not a terminal. */
export async function startSidecarProcess(policy: string, secrets: Readonly<Record<string, string>>): Promise<SidecarProcess> {
  const child = fork(fileURLToPath(import.meta.url), { execArgv: [], env: { ...process.env, OUTRIGGER_TEST_SIDECAR: "1" } });
  const { port } = (await tell(child, { policy, secrets })) as { port: number };
  return {
    port,
    pid: child.pid ?? 0,
    memory: async () => (await tell(child, "memory")) as HeldMemory,
    cpuMs: async () => ((await tell(child, "cpu")) as { cpuMs: number }).cpuMs,
    async close() {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    },
  };
}

function tell(child: ChildProcess, asked: Asked): Promise<Told> {
  return new Promise((resolve, reject) => {
    const died = (code: number | null): void => reject(new Error(`the sidecar's process ended with ${code}`));
    child.once("exit", died);
    child.once("message", (told: Told) => {
      child.off("exit", died);
      resolve(told);
    });
    child.send(asked);
  });
}

if (process.env.OUTRIGGER_TEST_SIDECAR !== undefined && process.send !== undefined) {
  const answer = (told: Told): void => void process.send?.(told);
  process.on("message", (asked: Asked) => {
    if (asked === "memory") answer({ held: collectedHeapBytes(), rss: process.memoryUsage.rss() });
    else if (asked === "cpu") {
      const { user, system } = process.cpuUsage();
      answer({ cpuMs: (user + system) / 1000 });
    } else void startTestSidecar(asked.policy, asked.secrets, { logLevel: "silent" }).then(({ port }) => answer({ port }));
  });
}
