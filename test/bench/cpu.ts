/** What processes use, read from Linux's /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** CPU time of processes since they started, user and system, all threads, in microseconds (scheduler statistics: nanosecond counters). */
export function cpuUs(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const task of list(`/proc/${pid}/task`)) {
      const text = read(`/proc/${pid}/task/${task}/schedstat`);
      ns += Number.parseInt(text, 10) || 0;
    }
  }
  return ns / 1e3;
}

/** Resident memory of processes together, in bytes. Pages that several of them share count for each. */
export function residentBytes(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) kib += Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
  return kib * 1024;
}

/** A process and all that it started and that still runs. */
export function family(pid: number): number[] {
  const found = [pid];
  for (const parent of found) {
    for (const task of list(`/proc/${parent}/task`)) {
      for (const child of read(`/proc/${parent}/task/${task}/children`).split(" ")) if (child !== "") found.push(Number(child));
    }
  }
  return found;
}

/** What a core did since the machine started, in microseconds (whole hundredths of a second). */
export interface CoreTimes {
  readonly busyUs: number;
  /** Time in which the machine below this virtual one ran something else. */
  readonly stolenUs: number;
}

/** Reads what a core did. */
export function coreTimes(core: number): CoreTimes {
  // Columns: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); ticks of 10 ms.
  const line = new RegExp(`^cpu${core} (.*)$`, "m").exec(read("/proc/stat"))?.[1] ?? "";
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line.split(" ").map(Number);
  return { busyUs: (user + nice + system + irq + softirq) * 1e4, stolenUs: steal * 1e4 };
}

// Processes and threads may end while they are read about: they then count nothing.
function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
