import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLines } from "./lines.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-lines-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("lines are written whole and in order, gathered or flushed", async () => {
  const file = join(folder, "log");
  const lines = openLines(file);
  const written: string[] = [];
  // Some megabytes, and characters of several bytes that no cut may break.
  for (let i = 0; i < 20_000; i++) {
    const line = `{"n":${i},"text":"${"größe ✓ ".repeat(i % 17)}"}\n`;
    written.push(line);
    lines.write(line);
  }
  await new Promise<void>((resolve, reject) => lines.flush?.((error) => (error ? reject(error) : resolve())));
  expect(readFileSync(file, "utf8")).toBe(written.join(""));
  lines.write("the last\n");
  await new Promise<void>((resolve) => lines.flush?.(() => resolve()));
  expect(readFileSync(file, "utf8")).toBe(`${written.join("")}the last\n`);
});

const program = (body: string) => [
  "--input-type=module",
  "--eval",
  `import { openLines } from ${JSON.stringify(new URL("lines.ts", import.meta.url).href)}; const lines = openLines(1); ${body}`,
];

test("what is gathered is written when the process ends", () => {
  const ended = spawnSync(process.execPath, program('lines.write("one\\n"); lines.write("two\\n"); process.exit(3);'), {
    encoding: "utf8",
  });
  expect(ended).toMatchObject({ status: 3, stderr: "", stdout: "one\ntwo\n" });
});

test("a line larger than a piece is written whole, in its place", () => {
  const body = 'lines.write("one\\n"); lines.write("ß".repeat(100_000) + "\\n"); lines.write("two\\n"); process.exit();';
  const ended = spawnSync(process.execPath, program(body), { encoding: "utf8" });
  expect(ended.stdout).toBe(`one\n${"ß".repeat(100_000)}\ntwo\n`);
});

test("what a reader that stands still leaves no room for is lost in whole lines, and counted", async () => {
  const body = `
    for (let n = 0; n < 60_000; n++) lines.write(n + " " + "x".repeat(500) + "\\n");
    process.send(lines.lost());
    process.once("message", () => lines.flush(() => process.exit()));`;
  const child = spawn(process.execPath, program(body), { stdio: ["ignore", "pipe", "inherit", "ipc"] });
  const lost = await new Promise<number>((resolve) => child.once("message", resolve));
  expect(lost).toBeGreaterThan(10_000);
  child.send("read");
  const { stdout } = child;
  if (stdout === null) throw new Error("its output is a pipe");
  const written = (await text(stdout)).split("\n").slice(0, -1);
  expect(written).toHaveLength(60_000 - lost);
  expect(written.every((line) => /^\d+ x{500}$/.test(line))).toBe(true);
});
