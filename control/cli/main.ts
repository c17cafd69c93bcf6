#!/usr/bin/env node
/** The `outrigger` command: builds what commands may use of the machine, and leaves the rest to them. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, join } from "node:path";
import type { World } from "./world.ts";

const root = packageRoot();
// Reading our own sources takes as long as everything else at the start. Next to them there is a place where tools keep such things; in
// a folder that is not ours, or cannot be written to, Node does without.
if (existsSync(join(root, "node_modules"))) enableCompileCache(join(root, "node_modules/.cache/outrigger"));
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Whoever reads our output may stop early, as `head` does. That is no failure of ours.
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
// Remarks that nobody reads, or that a disk has no room for, are no reason to stop what serves calls.
process.stderr.on("error", () => {});
const { runWords } = await import("./words.ts");
process.exitCode = await runWords(process.argv.slice(2), openWorld());

function openWorld(): World {
  return {
    environment: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    clock: {
      monotonicMs: () => performance.now(),
      wallMs: () => Date.now(),
      after(delayMs, then) {
        const timer = setTimeout(then, delayMs);
        return () => clearTimeout(timer);
      },
    },
    version: version(),
    // From the sources it is a script of the package; what is built is its program.
    command: import.meta.filename.endsWith(".ts") ? "npm run -s outrigger --" : "npx outrigger",
    stopped: () =>
      new Promise((stop) => {
        let asked = false;
        for (const signal of ["SIGINT", "SIGTERM"] as const) {
          process.on(signal, () => {
            // Asked twice, it waits for nobody: 128 and the signal's number, as shells report it.
            if (asked) process.exit(signal === "SIGINT" ? 130 : 143);
            asked = true;
            stop();
          });
        }
      }),
    randomBytes: (length) => randomBytes(length),
  };
}

function version(): string {
  const manifest: { readonly version?: string } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return manifest.version ?? "0.0.0";
}

/** The folder of the nearest package.json: this file runs from the sources and from what is built of them. */
function packageRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, "package.json")) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}
