import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { consumerOf } from "../../test/kit/policy.ts";
import { sha256 } from "../sha256.ts";
import { keyOf } from "./change.ts";
import { openFolder } from "./folder.ts";
import type { PolicyStore, StoreChange } from "./store.ts";

let folder: string;
let clock: ManualClock;
let store: PolicyStore;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-folder-"));
  clock = new ManualClock();
  store = await openFolder(folder, { clock });
});

afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

const thing = (name: string, team: string) =>
  consumerOf(name, { team, identities: [{ kind: { case: "apiKey", value: { sha256: sha256(name) } } }] });
const text = (name: string, team: string) =>
  `# ${name} is ours.\napiVersion: outrigger.dev/v1alpha1\nkind: Consumer\nmetadata: {name: ${name}}\nspec:\n  team: ${team}\n  identities: [{api_key: {sha256: ${sha256(name)}}}]\n`;
const put = (path: string, content: string) => writeFileSync(join(folder, path), content);
const get = (path: string) => readFileSync(join(folder, path), "utf8");

function change(base: number, upserts: readonly ReturnType<typeof thing>[], rest: Partial<StoreChange> = {}): StoreChange {
  const owned = upserts.map((resource) => ({ resource, owner: "team" }));
  return { base, upserts: owned, removals: [], author: "ada", reason: "", atMs: 1, rolledBackTo: 0, ...rest };
}

async function teams(): Promise<Record<string, string | undefined>> {
  const { resources } = await store.read();
  return Object.fromEntries(
    resources.map(({ resource }) => [
      keyOf(resource).name,
      resource.$typeName === "outrigger.policy.v1.Consumer" ? resource.spec?.team : "",
    ]),
  );
}

test("what stands in the files when the folder is opened is a revision of theirs", async () => {
  put("a.yaml", text("a", "one"));
  mkdirSync(join(folder, "sub"));
  put("sub/b.yaml", text("b", "two"));
  expect(await teams()).toEqual({ a: "one", b: "two" });
  expect(await store.revisions(10)).toMatchObject([{ revision: 1, author: "files", reason: "", created: [{ name: "a" }, { name: "b" }] }]);
  expect(get(".outrigger/.gitignore")).toBe("*\n");
});

test("a change by hand is a revision, also before what is written next", async () => {
  put("a.yaml", text("a", "one"));
  expect((await store.read()).revision).toBe(1);
  put("a.yaml", text("a", "two"));
  // Whoever planned on the revision before learns that it is not the newest any more.
  expect(await store.write(change(1, [thing("b", "x")]))).toEqual({ written: false, newest: 2 });
  expect(await store.write(change(2, [thing("b", "x")]))).toEqual({ written: true, revision: 3 });
  expect((await store.revisions(10)).map(({ author }) => author)).toEqual(["ada", "files", "files"]);
  expect(get("a.yaml")).toBe(text("a", "two"));
  expect(readdirSync(join(folder, "Consumer"))).toEqual(["default.b.yaml"]);
});

test("a wrong edit changes nothing and is told with its place, and nothing can be written until it is mended", async () => {
  put("a.yaml", text("a", "one"));
  await store.read();
  put("a.yaml", text("a", "two").replace("team:", "taem:"));
  const broken = await store.read();
  expect(broken.revision).toBe(1);
  expect(broken.problems.map(({ id, file, line, column }) => [id, file, line, column])).toEqual([
    ["policy/unknown-field", join(folder, "a.yaml"), 6, 3],
  ]);
  expect(await teams()).toEqual({ a: "one" });
  await expect(store.write(change(1, [thing("b", "x")]))).rejects.toThrow("the files have errors");
  expect(existsSync(join(folder, "Consumer"))).toBe(false);
  put("a.yaml", text("a", "two"));
  expect((await store.read()).problems).toEqual([]);
  expect(await teams()).toEqual({ a: "two" });
});

test("files that were all removed by hand do not count as the wish to allow nothing", async () => {
  put("a.yaml", text("a", "one"));
  await store.read();
  rmSync(join(folder, "a.yaml"));
  const { revision, problems } = await store.read();
  expect(revision).toBe(1);
  expect(problems.map(({ id }) => id)).toContain("policy/no-resources");
  expect(await teams()).toEqual({ a: "one" });
});

test("the last resource can be removed through the store", async () => {
  await store.write(change(0, [thing("a", "x")]));
  expect(await store.write(change(1, [], { removals: [keyOf(thing("a", ""))] }))).toEqual({ written: true, revision: 2 });
  expect(await store.read()).toEqual({ revision: 2, resources: [], problems: [] });
  expect(readdirSync(join(folder, "Consumer"))).toEqual([]);
});

test("a link stays a link, and what it leads to keeps its rights", async () => {
  mkdirSync(join(folder, ".kept"));
  put(".kept/a.txt", text("a", "one"));
  chmodSync(join(folder, ".kept/a.txt"), 0o640);
  symlinkSync(".kept/a.txt", join(folder, "a.yaml"));
  expect(await teams()).toEqual({ a: "one" });
  expect(await store.write(change(1, [thing("a", "two")]))).toEqual({ written: true, revision: 2 });
  expect(lstatSync(join(folder, "a.yaml")).isSymbolicLink()).toBe(true);
  expect(get(".kept/a.txt")).toContain("team: two");
  expect(statSync(join(folder, ".kept/a.txt")).mode & 0o777).toBe(0o640);
});

test("owners outlast changes by hand", async () => {
  await store.write(change(0, [thing("a", "x")]));
  put("Consumer/default.a.yaml", text("a", "y"));
  const { resources, revision } = await store.read();
  expect([revision, resources[0]?.owner]).toEqual([2, "team"]);
});

test("a change that was committed and not yet made in the files is made when the folder is opened, all of it", async () => {
  put("a.yaml", text("a", "one"));
  put("b.yaml", text("b", "one"));
  await store.read();
  await store.write(change(1, [thing("a", "two"), thing("b", "two")]));
  await store.close();
  const [a, b] = [get("a.yaml"), get("b.yaml")];
  // As if the process had ended after the commit: in one file nothing was done, in the other it was.
  put("a.yaml", text("a", "one"));
  const database = new DatabaseSync(join(folder, ".outrigger/history.sqlite"));
  const insert = database.prepare("INSERT INTO edits (path, sha256_before, content) VALUES (?, ?, ?)");
  insert.run(join(folder, "a.yaml"), sha256(text("a", "one")), a);
  insert.run(join(folder, "b.yaml"), sha256(text("b", "one")), b);
  insert.run(join(folder, "c.yaml"), "absent", text("c", "two"));
  database.close();
  put("c.yaml", text("c", "mine"));
  store = await openFolder(folder, { clock });
  expect([get("a.yaml"), get("b.yaml")]).toEqual([a, b]);
  // What somebody wrote in that moment is left as it is, and holds.
  expect(get("c.yaml")).toBe(text("c", "mine"));
  expect(await teams()).toEqual({ a: "two", b: "two", c: "mine" });
  expect((await store.revisions(1))[0]).toMatchObject({ revision: 3, author: "files", created: [{ name: "c" }], updated: [], deleted: [] });
});

test("a folder that is only read gets nothing, and its history is elsewhere", async () => {
  put("a.yaml", text("a", "one"));
  const history = join(folder, ".elsewhere");
  const only = join(folder, "only");
  mkdirSync(only);
  writeFileSync(join(only, "b.yaml"), text("b", "one"));
  const reading = await openFolder(only, { clock, readOnlyHistory: history });
  expect(reading.readOnly).toBe(true);
  await expect(reading.write(change(1, [thing("b", "x")]))).rejects.toThrow("only read");
  writeFileSync(join(only, "b.yaml"), text("b", "two"));
  expect((await reading.read()).revision).toBe(2);
  await reading.close();
  expect(readdirSync(only)).toEqual(["b.yaml"]);
  const again = await openFolder(only, { clock, readOnlyHistory: history });
  expect((await again.read()).revision).toBe(2);
  await again.close();
});

test("a change whose files cannot be written yet is made all the same, and written later", async () => {
  // A folder that is a file: nothing can be put into it, whoever tries.
  put("Consumer", "in the way");
  expect(await store.write(change(0, [thing("a", "x")]))).toEqual({ written: true, revision: 1 });
  await expect(store.read()).rejects.toThrow("ENOTDIR");
  rmSync(join(folder, "Consumer"));
  expect(await teams()).toEqual({ a: "x" });
  expect((await store.revisions(10)).map(({ author }) => author)).toEqual(["ada"]);
  expect(get("Consumer/default.a.yaml")).toContain("team: x");
});

test("whoever follows hears of changes by hand, and once of each wrong edit", async () => {
  put("a.yaml", text("a", "one"));
  const told: number[] = [];
  const failures: string[] = [];
  let heard: () => void = () => undefined;
  const next = (): Promise<void> =>
    new Promise((done) => {
      heard = done;
    });
  const stop = store.watch(
    0,
    ({ revision }) => {
      told.push(revision);
      heard();
    },
    (reason) => {
      failures.push(reason);
      heard();
    },
  );
  await next();
  let waiting = next();
  put("a.yaml", text("a", "two").replace("team:", "taem:"));
  put("b.yaml", text("b", "two").replace("team:", "meat:"));
  await until(waiting);
  // Whoever comes later hears of it too, as after a start with files that are wrong.
  const late: (string | undefined)[] = [];
  store.watch(
    1,
    () => undefined,
    (_, problems) => late.push(...(problems ?? []).map(({ file }) => file)),
  )();
  expect(late.map((file) => file?.slice(-6))).toEqual(["a.yaml", "b.yaml"]);
  waiting = next();
  put("b.yaml", text("b", "one"));
  put("a.yaml", text("a", "three"));
  await until(waiting);
  expect(told).toEqual([1, 2]);
  expect(failures).toEqual([expect.stringMatching(/a\.yaml:6:3.*b\.yaml:6:3/)]);
  stop();
  await store.read();
  expect(clock.waiting).toBe(0);
});

/** Lets time pass until something is told: the look at the files is due every few seconds, and reading them takes real time. */
async function until(told: Promise<void>): Promise<void> {
  let done = false;
  told.then(() => {
    done = true;
  });
  while (!done) {
    clock.advance(1_000);
    await new Promise((turn) => setImmediate(turn));
  }
}
