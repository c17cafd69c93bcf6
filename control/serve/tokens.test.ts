import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { newToken, openTokens, readTokens, writeTokens } from "./tokens.ts";

let folder: string;
let path: string;
const clock = new ManualClock();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-tokens-"));
  path = join(folder, "data", "tokens.json");
});
afterEach(() => rmSync(folder, { recursive: true }));

const bytes = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);

test("a token is found by itself, and its file holds only its hash, for its owner alone", async () => {
  const { token, record } = newToken("ci", "editor", bytes(1), clock.wallMs(), null);
  await writeTokens(path, [record]);
  const tokens = openTokens(path, clock);
  expect(await tokens.find(token, "10.0.0.1")).toMatchObject({ name: "ci", role: "editor" });
  expect(await tokens.find(`${token}x`, "10.0.0.1")).toBeUndefined();
  expect(await tokens.find(record.sha256, "10.0.0.1")).toBeUndefined();
  expect(readFileSync(path, "utf8")).not.toContain(token.slice(4));
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a token ends when it says", async () => {
  const { token, record } = newToken("ci", "reader", bytes(2), clock.wallMs(), clock.wallMs() + 5_000);
  await writeTokens(path, [record]);
  const tokens = openTokens(path, clock);
  clock.advance(4_999);
  expect(await tokens.find(token, "")).toMatchObject({ name: "ci" });
  clock.advance(1);
  expect(await tokens.find(token, "")).toBe("expired");
});

test("what changes in the file is noticed within a second", async () => {
  const one = newToken("one", "reader", bytes(3), clock.wallMs(), null);
  const two = newToken("two", "reader", bytes(4), clock.wallMs(), null);
  const tokens = openTokens(path, clock);
  expect(await tokens.find(one.token, "")).toBeUndefined();
  await writeTokens(path, [one.record]);
  clock.advance(1_000);
  expect(await tokens.find(one.token, "")).toMatchObject({ name: "one" });
  await writeTokens(path, [two.record]);
  clock.advance(1_000);
  expect(await tokens.find(one.token, "")).toBeUndefined();
  expect(await tokens.find(two.token, "")).toMatchObject({ name: "two" });
});

test("the local token counts from this machine alone", async () => {
  const tokens = openTokens(path, clock, "opt_local");
  for (const near of ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    expect(await tokens.find("opt_local", near)).toEqual({ name: "local", role: "editor" });
  for (const far of ["10.0.0.1", "", "::ffff:10.0.0.1", "1270.0.0.1"]) expect(await tokens.find("opt_local", far)).toBeUndefined();
});

test("a file that holds something else is an error and not the lack of tokens", async () => {
  await writeTokens(path, []);
  for (const content of ["{", "[]", '{"tokens":[{"name":"A"}]}', '{"tokens":[],"more":1}']) {
    writeFileSync(path, content);
    await expect(readTokens(path)).rejects.toThrow(path);
    await expect(openTokens(path, clock).find("x", "")).rejects.toThrow(path);
  }
});
