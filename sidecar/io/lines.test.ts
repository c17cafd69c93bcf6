import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
