/**
 * `npm test`: everything that must hold, on a fresh machine as on a developer's, in one command.
 *
 * Checks of the whole tree (types, lint, protos, generated code) run first and beside each other, then every test. It ends by saying
 * what did not run and why, and its very last line counts all of it. `--long` adds the suites that take longer; any other words are
 * given to vitest as names of the test files to run.
 */
import { type ExecFileException, execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import type { Reporter, TestModule } from "vitest/node";
import { startVitest } from "vitest/node";
import { chromiumPath } from "./kit/chromium.ts";
import { recordingsFolder } from "./kit/recordings.ts";
import { recordedCases, recordingTable } from "./kit/recordingTable.ts";
import { testsOf, unread } from "./kit/unread.ts";

const root = join(import.meta.dirname, "..");
const words = process.argv.slice(2);
const long = words.includes("--long");
const only = words.filter((word) => !word.startsWith("--"));
if (long) process.env.OUTRIGGER_LONG = "1";

/** What became of one check: `undefined` is a pass, otherwise why it failed or did not run. */
type Outcome = { readonly state: "passed" } | { readonly state: "failed" | "skipped"; readonly why: string };

const passed: Outcome = { state: "passed" };
const tally = { passed: 0, failed: 0, skipped: 0 };
/** What did not run, and what tests wanted said at the end. */
const closing: string[] = [];

const work = mkdtempSync(join(tmpdir(), "outrigger-test-"));
try {
  if (only.length === 0) {
    await Promise.all([
      check("chromium for browser tests", installChromium),
      (async () => {
        await check("types (tsc)", () => tool("tsc", ["-p", "."]));
        await check("lint and format (biome)", () => tool("biome", ["check", "."]));
        // The protos of others are laid out once, before anything that reads protos.
        await check("protos of others laid out", () => tool(process.execPath, ["proto/dependencies.ts"]));
        await check("protos linted (buf)", () => tool("buf", ["lint"]));
        await check("protos formatted (buf)", () => tool("buf", ["format", "--diff", "--exit-code", "proto"]));
        await check("generated code is up to date", compareGenerated);
        await check("protos break no caller (buf)", checkBreaking);
      })(),
    ]);
  }
  await runVitest();
} finally {
  rmSync(work, { recursive: true, force: true });
}

if (closing.length > 0) console.log(`\nTo know:\n${closing.map((line) => `  ${line.replaceAll("\n", "\n  ")}`).join("\n")}`);
console.log(`\n${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
// Whatever a test left open is its own failure; it must not keep a CI machine waiting.
process.exit(tally.failed === 0 ? 0 : 1);

async function check(name: string, run: () => Promise<Outcome>): Promise<void> {
  const startedMs = performance.now();
  const outcome = await run();
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  tally[outcome.state]++;
  const mark = { passed: "ok  ", failed: "FAIL", skipped: "skip" }[outcome.state];
  console.log(`${mark} ${name} (${seconds} s)${outcome.state === "passed" ? "" : `\n${outcome.why}`}`);
  if (outcome.state !== "passed") closing.push(`${outcome.state}: ${name}: ${outcome.why.split("\n", 1)[0]}`);
}

/** Runs a program of ours or of node_modules in the repository; its exit code decides. */
async function tool(command: string, args: readonly string[], cwd = root): Promise<Outcome> {
  const { code, output } = await run(command, args, cwd);
  return code === 0 ? passed : { state: "failed", why: output.trim() || `${command} ended with ${code}` };
}

async function run(command: string, args: readonly string[], cwd = root): Promise<{ code: number | string; output: string }> {
  const PATH = `${join(root, "node_modules/.bin")}:${process.env.PATH ?? ""}`;
  return new Promise((resolve) => {
    // A compiler that finds much wrong writes much; past 64 MiB nobody reads on.
    execFile(
      command,
      args,
      { cwd, env: { ...process.env, PATH }, maxBuffer: 64 << 20 },
      (error: ExecFileException | null, stdout, stderr) => {
        resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? 1), output: stdout + stderr });
      },
    );
  });
}

/** Generates to a temporary folder and compares every byte with what is committed. */
async function compareGenerated(): Promise<Outcome> {
  const generated = await run("buf", ["generate", "--output", work]);
  if (generated.code !== 0) return { state: "failed", why: generated.output };
  const fresh = readTree(join(work, "proto/gen"));
  const committed = readTree(join(root, "proto/gen"));
  const differing = [...new Set([...fresh.keys(), ...committed.keys()])].filter((path) => fresh.get(path) !== committed.get(path)).sort();
  if (fresh.size === 0) return { state: "failed", why: "nothing was generated" };
  return differing.length === 0 ? passed : { state: "failed", why: `run npm run generate; these differ: ${differing.join(", ")}` };
}

function readTree(folder: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(relative(folder, path), readFileSync(path, "utf8"));
  }
  return files;
}

/** Compares the protos with those of the last release: what was published must still be understood. */
async function checkBreaking(): Promise<Outcome> {
  if ((await run("git", ["rev-parse", "--git-dir"])).code !== 0)
    return { state: "skipped", why: "this is no git clone, so no release is known" };
  const described = await run("git", ["describe", "--tags", "--abbrev=0", "--match", "v*"]);
  if (described.code !== 0) return { state: "skipped", why: "no release is tagged yet, so nothing can be broken" };
  const tag = described.output.trim();
  const old = join(work, "released");
  mkdirSync(join(old, "node_modules"), { recursive: true });
  const archive = join(work, "released.tar");
  for (const [command, args] of [
    ["git", ["archive", "--output", archive, tag, "proto", "buf.yaml"]],
    ["tar", ["-xf", archive, "-C", old]],
  ] as const) {
    const step = await tool(command, args);
    if (step.state !== "passed") return step;
  }
  cpSync(join(root, "node_modules/.proto"), join(old, "node_modules/.proto"), { recursive: true });
  return tool("buf", ["breaking", "--against", old]);
}

/** Debian's Chromium, where this is Debian, we may install, and it is missing. */
async function installChromium(): Promise<Outcome> {
  if (chromiumPath() !== undefined) return passed;
  const missing = "there is no Chromium at the usual places (CHROMIUM_PATH names another)";
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    return { state: "skipped", why: `${missing}, and it can only be installed here by root with apt-get` };
  }
  console.log("     installing Debian's chromium for the browser tests");
  const env = "DEBIAN_FRONTEND=noninteractive";
  await run("env", [env, "apt-get", "update", "-qq"]);
  const installed = await run("env", [env, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]);
  if (chromiumPath() !== undefined) return passed;
  return { state: "skipped", why: `${missing}, and apt-get could not install it: ${installed.output.trim().split("\n").at(-1) ?? ""}` };
}

async function runVitest(): Promise<void> {
  const counter: Reporter = { onTestRunEnd: (modules, errors) => countTests(modules, errors.length) };
  const vitest = await startVitest("test", only, { root, watch: false, run: true, reporters: ["default", counter] });
  await vitest.close();
}

function countTests(modules: readonly TestModule[], errorCount: number): void {
  const skips = new Map<string, number>();
  for (const module of modules) {
    // A file that could not be read, and an error that no test caught, are failures of their own.
    tally.failed += module.errors().length;
    for (const error of module.errors()) closing.push(`failed: ${module.relativeModuleId}: ${error.message.split("\n", 1)[0]}`);
    for (const test of module.children.allTests()) {
      const result = test.result();
      if (result.state === "passed") tally.passed++;
      else if (result.state === "skipped") {
        tally.skipped++;
        const why = `skipped: ${module.relativeModuleId}: ${result.note ?? `${test.fullName} (marked so)`}`;
        skips.set(why, (skips.get(why) ?? 0) + 1);
      } else {
        tally.failed++;
        closing.push(`failed: ${module.relativeModuleId}: ${test.fullName}`);
      }
      for (const { type, message } of test.annotations()) if (type === "closing") closing.push(message);
    }
  }
  if (errorCount > 0) closing.push(`failed: ${errorCount} errors outside any test`);
  tally.failed += errorCount;
  for (const [why, count] of skips) closing.push(count === 1 ? why : `${why} (${count} tests)`);
  // A runner that found nothing to run must not look like one that found nothing wrong.
  if (!modules.some((module) => [...module.children.allTests()].length > 0)) {
    tally.failed++;
    closing.push("failed: no test ran");
  }
  const folder = recordingsFolder();
  if (folder !== undefined && only.length === 0) {
    const { text, wrong } = recordingTable(recordedCases(folder), modules.flatMap(testsOf), unread);
    closing.push(`recorded cases by provider and kind:\n${text}`, ...wrong.map((line) => `failed: ${line}`));
    tally.failed += wrong.length;
  }
  if (!long) closing.push("not run: suites that take longer (npm run test:long)");
}
