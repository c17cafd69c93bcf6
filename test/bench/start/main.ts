/**
 * How long it takes from `npm start` to the first answer, and how much memory the process then has.
 *
 * `node test/bench/start/main.ts` starts the demo ten times, as a person would, and asks it through the OpenAI door until it answers. The
 * first start has no cache of compiled sources, as after `npm install`; the others find the one that it left.
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const root = join(import.meta.dirname, "../../..");
const starts = 10;
const port = 17_410;
const question = JSON.stringify({ model: "demo", messages: [{ role: "user", content: "hello" }] });

rmSync(join(root, "node_modules/.cache/outrigger"), { recursive: true, force: true });
const measured: { readonly ms: number; readonly cpuMs: number; readonly memoryMb: number }[] = [];
for (let start = 0; start < starts; start += 1) measured.push(await startOnce());
const [first, ...warm] = measured;
if (first === undefined) throw new Error("nothing was measured");
console.log(
  `first start:  ${first.ms.toFixed(0)} ms to the first answer, ${first.cpuMs} ms of CPU, ${first.memoryMb.toFixed(0)} MB resident`,
);
console.log(
  `later starts: ${median(warm.map(({ ms }) => ms)).toFixed(0)} ms to the first answer, ${median(warm.map(({ cpuMs }) => cpuMs))} ms of CPU, ` +
    `${median(warm.map(({ memoryMb }) => memoryMb)).toFixed(0)} MB resident (medians of ${warm.length})`,
);

async function startOnce(): Promise<{ ms: number; cpuMs: number; memoryMb: number }> {
  const beganMs = performance.now();
  const npm = spawn("npm", ["start", "--", "--port", String(port), "--ops-port", "0"], { cwd: root, stdio: "ignore", detached: true });
  const ended = new Promise((done) => npm.on("close", done));
  while (!(await answers())) await sleep(2);
  const ms = performance.now() - beganMs;
  const process = processOf(npm.pid ?? 0);
  if (npm.pid !== undefined) globalThis.process.kill(-npm.pid, "SIGTERM");
  await ended;
  return { ms, ...process };
}

function answers(): Promise<boolean> {
  return new Promise((done) => {
    const call = request({
      port,
      host: "127.0.0.1",
      path: "/v1/chat/completions",
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    call.on("response", (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode === 200));
    });
    call.on("error", () => done(false));
    call.end(question);
  });
}

/** CPU time and resident memory of the demo among the processes of a group, without npm's own. */
function processOf(group: number): { cpuMs: number; memoryMb: number } {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const [, , , , groupId = "", ...rest] = readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/\(.*\)/, "command")
        .split(" ");
      if (Number(groupId) !== group || !command.includes("control/cli/main.ts") || command[0] === "sh") continue;
      // The clock of these figures ticks a hundred times a second on every Linux.
      const cpuMs = (Number(rest[8]) + Number(rest[9])) * 10;
      const memoryMb = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN) / 1024;
      return { cpuMs, memoryMb };
    } catch {
      // It ended while it was looked at.
    }
  }
  return { cpuMs: Number.NaN, memoryMb: Number.NaN };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
