import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStateFolder } from "./stateFolder.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "outrigger-state-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test("what was written is read back, by its user alone, and nothing else lies about", async () => {
  const folder = await openStateFolder(join(root, "a", "b"));
  expect(await folder.read("policy")).toBeUndefined();
  await folder.write("policy", Uint8Array.of(1));
  await folder.write("policy", Uint8Array.of(2, 3));
  expect(await folder.read("policy")).toEqual(Uint8Array.of(2, 3));
  expect(readdirSync(join(root, "a", "b"))).toEqual(["policy"]);
  expect(statSync(join(root, "a", "b")).mode & 0o777).toBe(0o700);
  expect(statSync(join(root, "a", "b", "policy")).mode & 0o777).toBe(0o600);
});

test("a folder that was open to others is closed", async () => {
  mkdirSync(join(root, "open"), { mode: 0o777 });
  await openStateFolder(join(root, "open"));
  expect(statSync(join(root, "open")).mode & 0o777).toBe(0o700);
});

test("what is left of a write that was cut is written over", async () => {
  const folder = await openStateFolder(root);
  writeFileSync(join(root, "policy.new"), "half");
  expect(await folder.read("policy")).toBeUndefined();
  await folder.write("policy", Uint8Array.of(1));
  expect(await folder.read("policy")).toEqual(Uint8Array.of(1));
});

test("where a file stands, no folder is", async () => {
  writeFileSync(join(root, "file"), "");
  await expect(openStateFolder(join(root, "file"))).rejects.toThrow();
  const folder = await openStateFolder(root);
  mkdirSync(join(root, "policy"));
  await expect(folder.read("policy")).rejects.toThrow();
});
