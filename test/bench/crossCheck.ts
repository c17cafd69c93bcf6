/** The same saturated rows loaded by generators that others wrote, so that nobody has to believe ours: wrk for HTTP/1.1, h2load for HTTP/2. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { cpuUs } from "./cpu.ts";
import type { Wire } from "./job.ts";

/** What another generator found. */
export interface CrossCheck {
  readonly tool: "wrk" | "h2load";
  readonly calls: number;
  readonly callsPerS: number;
  readonly cpuUsPerCall: number;
}

/** What is loaded, and from where. */
export interface Target {
  readonly wire: Wire;
  readonly port: number;
  readonly pids: readonly number[];
  /** The core of the generator. */
  readonly core: number;
  readonly seconds: number;
  /** A folder for what the tools read. */
  readonly folder: string;
}

/** Loads a target with 64 calls at once. Undefined where the tool is not installed; fails where it counted anything but success. */
export async function crossCheck(target: Target): Promise<CrossCheck | undefined> {
  return target.wire.http === 1
    ? run("wrk", wrkArguments(target), target, /(\d+) requests in/, /Non-2xx|Socket errors/)
    : run(
        "h2load",
        h2loadArguments(target),
        target,
        /requests: \d+ total, \d+ started, (\d+) done/,
        // "0 failed, 0 errored" is what success looks like.
        /[1-9]\d* failed|[1-9]\d* errored|[1-9]\d* [45]xx/,
      );
}

async function run(
  tool: CrossCheck["tool"],
  args: string[],
  target: Target,
  count: RegExp,
  failure: RegExp,
): Promise<CrossCheck | undefined> {
  const before = cpuUs(target.pids);
  let output: string;
  try {
    output = (await promisify(execFile)("nice", ["-n", "-20", "taskset", "-c", String(target.core), tool, ...args])).stdout;
  } catch (error) {
    // 127 and 126 are what nice and taskset end with where there is no such program.
    const { code } = error as { code?: number };
    if (code === 127 || code === 126) return undefined;
    throw error;
  }
  const usedUs = cpuUs(target.pids) - before;
  const calls = Number(count.exec(output)?.[1] ?? 0);
  const failed = failure.exec(output);
  if (failed !== null || calls === 0) throw new Error(`${tool} counted failures: ${output.slice(0, 2000)}`);
  return { tool, calls, callsPerS: calls / target.seconds, cpuUsPerCall: usedUs / calls };
}

function wrkArguments({ wire, port, seconds, folder }: Target): string[] {
  const script = join(folder, "wrk.lua");
  const quoted = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  const headers: string[] = [];
  for (let i = 0; i < wire.headers.length; i += 2)
    headers.push(`wrk.headers[${quoted(wire.headers[i] ?? "")}] = ${quoted(wire.headers[i + 1] ?? "")}`);
  writeFileSync(script, `wrk.method = "POST"\nwrk.body = ${quoted(Buffer.from(wire.body).toString())}\n${headers.join("\n")}\n`);
  return ["-t", "1", "-c", "64", "-d", `${seconds}s`, "-s", script, `http://127.0.0.1:${port}${wire.path}`];
}

function h2loadArguments({ wire, port, seconds, folder }: Target): string[] {
  const body = join(folder, "h2load.body");
  writeFileSync(body, wire.body);
  const headers: string[] = [];
  for (let i = 0; i < wire.headers.length; i += 2) headers.push("-H", `${wire.headers[i]}: ${wire.headers[i + 1]}`);
  return ["-c", "4", "-m", "16", "-D", String(seconds), "-d", body, ...headers, `http://127.0.0.1:${port}${wire.path}`];
}
