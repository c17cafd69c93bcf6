/** Reads V8's CPU profiles: where a subject's time goes, by function and by part. */
import { mkdirSync, writeFileSync } from "node:fs";
import type { Profiler } from "node:inspector";
import { join } from "node:path";
import type { Bench, Lengths } from "./measure.ts";
import { instanceOf } from "./measure.ts";
import { table } from "./report.ts";
import type { Row } from "./rows.ts";

/** Everything hot is compiled after this. */
const WARM_UP: Lengths = { warmMs: 0, windowMs: 2000, pacedWindowMs: 2000, rateWindowMs: 2000 };
/** Long enough for thousands of samples. */
const LENGTHS: Lengths = { warmMs: 0, windowMs: 3000, pacedWindowMs: 3000, rateWindowMs: 3000 };
const FUNCTIONS_SHOWN = 30;
const PARTS_SHOWN = 15;

/** Profiles the sidecar under each of its rows, prints where the time goes, and leaves the profiles in `folder` for browsers to open. */
export async function profileRows(bench: Bench, rows: readonly Row[], root: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const row of rows.filter(({ subject }) => subject === "outrigger")) {
    // A process of its own for each row, so that nothing is compiled for another row's calls.
    const name = instanceOf(row);
    await bench.startSubject("outrigger", name, row);
    const child = bench.subjects.get(name)?.child;
    if (child === undefined) throw new Error("the sidecar does not run");
    const ratePerS = row.load.kind === "rate" ? (row.load.ratePerS === "half" ? 2000 : row.load.ratePerS) : 0;
    await bench.measure(row, ratePerS, 1, WARM_UP, 1);
    await child.reply({});
    const measured = await bench.measure(row, ratePerS, 1, LENGTHS, 1);
    const { found } = await child.reply<{ found: Profiler.Profile }>({});
    const file = join(folder, `${row.id.replaceAll("/", "-")}.cpuprofile`);
    writeFileSync(file, JSON.stringify(found));
    const report = readProfile(found, root);
    const units = row.asked.answer === "unary" ? measured.calls : measured.events;
    const lines = (from: readonly ProfileLine[], count: number) =>
      from.slice(0, count).map(({ name, share, us }) => [`${(share * 100).toFixed(1)} %`, (us / units).toFixed(2), name]);
    const unit = row.asked.answer === "unary" ? "us/call" : "us/event";
    console.log(`\n${row.id}: ${(measured.cpuUs / units).toFixed(2)} ${unit} under the profiler; ${file}`);
    console.log(table(["share", unit, "part"], lines(report.parts, PARTS_SHOWN)));
    console.log(table(["share", unit, "function (self time)"], lines(report.functions, FUNCTIONS_SHOWN)));
  }
  for (const line of bench.findings.problems) console.log(`PROBLEM: ${line}`);
}

/** Time by name, greatest first; shares are of the time in which the process was busy. */
export interface ProfileLine {
  readonly name: string;
  readonly share: number;
  readonly us: number;
}

/** What a profile says. */
export interface ProfileReport {
  readonly busyUs: number;
  readonly functions: readonly ProfileLine[];
  readonly parts: readonly ProfileLine[];
}

/** Sums self time. `root` is cut from the addresses of our own files. */
export function readProfile(profile: Profiler.Profile, root: string): ProfileReport {
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const functions = new Map<string, number>();
  const parts = new Map<string, number>();
  let busyUs = 0;
  const add = (to: Map<string, number>, name: string, us: number) => to.set(name, (to.get(name) ?? 0) + us);
  for (const [i, id] of (profile.samples ?? []).entries()) {
    const node = byId.get(id);
    const us = profile.timeDeltas?.[i] ?? 0;
    // Starting and stopping the profile are no part of what is measured.
    if (node === undefined || node.callFrame.functionName === "(idle)" || node.callFrame.url === "node:inspector") continue;
    busyUs += us;
    const { functionName, url, lineNumber } = node.callFrame;
    const place = url.replace(/^file:\/\//, "").replace(`${root}/`, "");
    // Lines count from 0 in profiles and from 1 in editors.
    add(functions, `${functionName || "(anonymous)"}${place === "" ? "" : ` ${place}:${lineNumber + 1}`}`, us);
    add(parts, partOf(place, functionName), us);
  }
  const lines = (from: Map<string, number>) =>
    [...from].map(([name, us]) => ({ name, us, share: us / busyUs })).sort((a, b) => b.us - a.us);
  return { busyUs, functions: lines(functions), parts: lines(parts) };
}

/** What a place belongs to: a file of ours, a package, a module of Node, or the engine itself. */
function partOf(place: string, functionName: string): string {
  const pack = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(place)?.[1];
  if (pack !== undefined) return pack;
  if (place.startsWith("node:")) return place.replace(/^node:internal\//, "node:").replace(/^(node:[^/]+).*$/, "$1");
  return place === "" ? functionName : place;
}
