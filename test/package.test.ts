/** What the published package holds, made and unpacked as npm does it: JavaScript that runs without a build, and nothing that is not meant for it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string; bin: { outrigger: string } };
const folder = mkdtempSync(join(tmpdir(), "outrigger-package-"));
const unpacked = join(folder, "node_modules/outrigger");
let files: string[] = [];

beforeAll(() => {
  const packed = execFileSync("npm", ["pack", "--json", "--pack-destination", folder], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  // npm's scripts may speak before the list; the list is the last thing said.
  const [made] = JSON.parse(packed.slice(packed.indexOf("[\n"))) as { filename: string; files: { path: string }[] }[];
  if (made === undefined) throw new Error(`npm packed nothing: ${packed}`);
  files = made.files.map(({ path }) => path);
  execFileSync("mkdir", ["-p", unpacked]);
  execFileSync("tar", ["-xzf", join(folder, made.filename), "-C", unpacked, "--strip-components=1"]);
  symlinkSync(join(root, "node_modules"), join(unpacked, "node_modules"));
}, 60_000);

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(join(root, "dist"), { recursive: true, force: true });
});

describe("the package", () => {
  test("runs its command", () => {
    const said = execFileSync(process.execPath, [join(unpacked, manifest.bin.outrigger), "--version"], { encoding: "utf8" });
    expect(said.trim()).toBe(manifest.version);
  });

  test("gives applications its client by name", () => {
    const script = 'import * as client from "outrigger/client"; console.log(typeof client.createChatClient);';
    const said = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder, encoding: "utf8" });
    expect(said.trim()).toBe("function");
  });

  test("holds what it needs, and no tests, recordings or settings of ours", () => {
    expect(files).toEqual(expect.arrayContaining(["package.json", "LICENSE", "proto/outrigger/chat/v1/conversation.proto"]));
    expect(files.filter((path) => /\.test\.|^test\/|^\.|fixtures|biome|vitest/.test(path))).toEqual([]);
  });
});
