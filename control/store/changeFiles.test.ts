import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { listResources, type Resource, readYaml } from "../../proto/resources.ts";
import { routeOf } from "../../test/kit/policy.ts";
import { keyOf } from "./change.ts";
import { changeFiles, isWritable } from "./changeFiles.ts";
import { openFiles } from "./files.ts";
import type { StoredPolicy } from "./store.ts";

const root = mkdtempSync(join(tmpdir(), "outrigger-change-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, "policy-"));
  path = join(folder, "all.yaml");
  writeFileSync(path, text("near", 1));
});

const text = (name: string, port: number) =>
  `apiVersion: outrigger.dev/v1alpha1\nkind: Provider\nmetadata: {name: ${name}}\nspec: {openai: {row: compatible}, endpoint: "http://127.0.0.1:${port}"} # ours\n`;

function provider(name: string): Resource {
  const [read] = readYaml(text(name, 7), "x.yaml").resources;
  if (read === undefined) throw new Error("there is a resource");
  return read.resource;
}

/** What stands in files, as a policy. */
async function standing(paths: readonly string[]): Promise<{ store: ReturnType<typeof openFiles>; base: StoredPolicy }> {
  const store = openFiles(paths, () => () => undefined);
  const { resources } = await store.read();
  const stored = listResources(resources).map((resource) => ({ resource, owner: "", revision: 1 }));
  return { store, base: { revision: 1, resources: stored, problems: [] } };
}

const upserts = (...resources: readonly Resource[]) => ({ upserts: resources.map((resource) => ({ resource, owner: "" })), removals: [] });
const namesIn = async (paths: readonly string[]) =>
  listResources((await openFiles(paths, () => () => undefined).read()).resources).map((one) => one.metadata?.name);

test("what is new gets a file of its own in the first folder, or stands at the end of the first file that is no JSON", async () => {
  const apart = mkdtempSync(join(root, "apart-"));
  const [json, alone] = [join(apart, "one.json"), join(apart, "alone.yaml")];
  writeFileSync(alone, text("alone", 1));
  const both = await standing([alone, folder]);
  expect(await changeFiles([alone, folder], both.store, both.base, upserts(provider("far")))).toBe(true);
  expect(existsSync(join(folder, "Provider/default.far.yaml"))).toBe(true);

  writeFileSync(
    json,
    JSON.stringify({
      apiVersion: "outrigger.dev/v1alpha1",
      kind: "Consumer",
      metadata: { name: "a" },
      spec: { identities: [{ anonymous: {} }] },
    }),
  );
  const single = await standing([json, alone]);
  expect(await changeFiles([json, alone], single.store, single.base, upserts(provider("far")))).toBe(true);
  expect(readFileSync(alone, "utf8")).toMatch(/^apiVersion[\s\S]*# ours\n---\napiVersion[\s\S]*name: far/);
  expect(await namesIn([json, alone])).toEqual(["alone", "far", "a"]);

  const onlyJson = await standing([json]);
  await expect(changeFiles([json], onlyJson.store, onlyJson.base, upserts(provider("far")))).rejects.toThrow(/no folder and no YAML/);
});

test("what somebody has written meanwhile is not overwritten", async () => {
  const { store, base } = await standing([folder]);
  const edited = text("near", 2);
  writeFileSync(path, edited);
  expect(await changeFiles([folder], store, base, upserts(provider("far")))).toBe(false);
  writeFileSync(path, "kind: Nothing\n");
  expect(await changeFiles([folder], store, base, upserts(provider("far")))).toBe(false);
  expect(readFileSync(path, "utf8")).toBe("kind: Nothing\n");
  expect(existsSync(join(folder, "Provider"))).toBe(false);
});

test("what would be no policy is not written", async () => {
  const { store, base } = await standing([folder]);
  await expect(
    changeFiles([folder], store, base, upserts(routeOf("r", { match: { models: ["m"] }, targets: [{ provider: "neer" }] }))),
  ).rejects.toThrow(/would be no policy/);
  expect(await namesIn([folder])).toEqual(["near"]);
});

test("files are put back if a later one cannot be written", async () => {
  // What should become a folder is a file, so that writing fails for root too.
  writeFileSync(join(folder, "Provider"), "in the way");
  const { store, base } = await standing([folder]);
  const before = readFileSync(path, "utf8");
  const change = {
    upserts: [
      { resource: provider("near"), owner: "" },
      { resource: provider("zed"), owner: "" },
    ],
    removals: [],
  };
  await expect(changeFiles([folder], store, base, change)).rejects.toThrow(/EEXIST|ENOTDIR/);
  expect(readFileSync(path, "utf8")).toBe(before);
});

test("all may go, and something come again", async () => {
  const { store, base } = await standing([folder]);
  expect(await changeFiles([folder], store, base, { upserts: [], removals: base.resources.map(({ resource }) => keyOf(resource)) })).toBe(
    true,
  );
  expect(existsSync(path)).toBe(false);
  const empty: StoredPolicy = { revision: 2, resources: [], problems: [] };
  expect(await changeFiles([folder], store, empty, upserts(provider("far")))).toBe(true);
  expect(await namesIn([folder])).toEqual(["far"]);
});

test("knows what it may write to", ({ skip }) => {
  expect(isWritable([folder, path])).toBe(true);
  expect(isWritable([join(folder, "missing.yaml")])).toBe(false);
  const kept = join(folder, "kept");
  mkdirSync(kept);
  writeFileSync(join(kept, "one.yaml"), text("one", 3));
  chmodSync(kept, 0o500);
  if (process.getuid?.() === 0) skip("root may write everywhere");
  expect(isWritable([join(kept, "one.yaml")])).toBe(false);
});
