/** What every store keeps, asked of each of them. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { groupResources, type Resource } from "../../proto/resources/kinds.ts";
import { readYaml } from "../../proto/resources.ts";
import { snapshotOf } from "../../proto/snapshot.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { consumerOf, routeOf } from "../../test/kit/policy.ts";
import { seededRandom } from "../../test/kit/random.ts";
import { sha256 } from "../sha256.ts";
import { keyOf } from "./change.ts";
import { openFolder } from "./folder.ts";
import { openMemory } from "./memory.ts";
import { openSqlite } from "./sqlite.ts";
import type { PolicyStore, StoreChange, StoredPolicy } from "./store.ts";

const nearProvider = {
  apiVersion: "outrigger.dev/v1alpha1",
  kind: "Provider",
  metadata: { name: "p" },
  spec: { openai: { row: "compatible" }, endpoint: "http://127.0.0.1:1/v1" },
};

interface Kind {
  readonly name: string;
  /** Whether two handles can be open on one store. */
  readonly several: boolean;
  readonly lasting: boolean;
  open(folder: string, clock: ManualClock, keep?: number): Promise<PolicyStore>;
}

const kinds: readonly Kind[] = [
  { name: "memory", several: false, lasting: false, open: async (_folder, _clock, keep) => openMemory(keep) },
  {
    name: "sqlite",
    several: true,
    lasting: true,
    open: (folder, clock, keep) => openSqlite(join(folder, "policy.sqlite"), { clock, ...(keep === undefined ? {} : { keep }) }),
  },
  {
    name: "folder",
    several: true,
    lasting: true,
    open: (folder, clock, keep) => openFolder(join(folder, "policy"), { clock, ...(keep === undefined ? {} : { keep }) }),
  },
];

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "outrigger-store-"));
  ends.push(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A resource that needs no other: stores that people can write to take only what is policy. `word` makes it another. */
function thing(name: string, word: string, namespace = "", annotations: Record<string, string> = {}): Resource {
  const key = sha256(`${namespace === "" ? "default" : namespace}/${name}`);
  const made = consumerOf(name, { team: word, identities: [{ kind: { case: "apiKey", value: { sha256: key } } }] }, namespace);
  if (made.metadata !== undefined) made.metadata.annotations = annotations;
  return made;
}

function change(base: number, upserts: readonly (Resource | [Resource, owner: string])[], rest: Partial<StoreChange> = {}): StoreChange {
  return {
    base,
    upserts: upserts.map((one) => (Array.isArray(one) ? { resource: one[0], owner: one[1] } : { resource: one, owner: "" })),
    removals: [],
    author: "somebody",
    reason: "",
    atMs: 1_790_000_000_000,
    rolledBackTo: 0,
    ...rest,
  };
}

/** What stands, in a form that can be compared. */
function seen(policy: StoredPolicy | undefined) {
  if (policy === undefined) return undefined;
  const { revision, resources, problems } = policy;
  return {
    revision,
    problems,
    root: snapshotOf(groupResources(resources.map(({ resource }) => resource)), sha256).root,
    resources: resources.map(({ resource, owner, revision: changed }) => ({ ...keyOf(resource), owner, changed, resource })),
  };
}

/** Notes in a form that can be compared. */
const plain = (notes: ReadonlyMap<string, Uint8Array>) => Object.fromEntries([...notes].map(([name, content]) => [name, [...content]]));

const key = (name: string, namespace = "default") => ({ kind: "Consumer" as const, namespace, name });

describe.each(kinds)("$name", ({ name, open, several, lasting }) => {
  async function opened(keep?: number): Promise<{ store: PolicyStore; clock: ManualClock; folder: string }> {
    const [folder, clock] = [newFolder(), new ManualClock()];
    const store = await open(folder, clock, keep);
    ends.push(() => store.close());
    return { store, clock, folder };
  }

  test("begins empty, at revision 0", async () => {
    const { store } = await opened();
    expect(await store.read()).toEqual({ revision: 0, resources: [], problems: [] });
    expect(await store.readAt(0)).toEqual({ revision: 0, resources: [], problems: [] });
    expect(await store.readAt(1)).toBeUndefined();
    expect(await store.revisions(10)).toEqual([]);
  });

  test("keeps what is written, sorted, with owner and the revision of its last change", async () => {
    const { store } = await opened();
    expect(await store.write(change(0, [thing("b", "m"), [thing("a", "m"), "team"], thing("z", "m", "apart")]))).toEqual({
      written: true,
      revision: 1,
    });
    expect(await store.write(change(1, [thing("b", "other")], { removals: [key("z", "apart")] }))).toEqual({ written: true, revision: 2 });
    const { revision, resources } = await store.read();
    expect(revision).toBe(2);
    expect(resources.map((one) => ({ ...keyOf(one.resource), owner: one.owner, revision: one.revision }))).toEqual([
      { ...key("a"), owner: "team", revision: 1 },
      { ...key("b"), owner: "", revision: 2 },
    ]);
    // The namespace is written out, whoever wrote it.
    expect(resources.map(({ resource }) => resource.metadata?.namespace)).toEqual(["default", "default"]);
  });

  test("notes by topic, all of a change or nothing, and makes no revision of it", async () => {
    const { store } = await opened();
    const [one, two, three] = [new Uint8Array([1]), new Uint8Array([2, 0, 255]), new Uint8Array()];
    const told: number[] = [];
    store.watch(
      0,
      ({ revision }) => told.push(revision),
      () => told.push(-1),
    );
    expect(await store.notes("some")).toEqual(new Map());
    await store.note(
      "some",
      new Map([
        ["a", one],
        ["b", two],
      ]),
    );
    await store.note("other", new Map([["a", three]]));
    await store.note(
      "some",
      new Map([
        ["a", undefined],
        ["b", one],
        ["not there", undefined],
        ["c", two],
      ]),
    );
    expect(plain(await store.notes("some"))).toEqual({ b: [1], c: [2, 0, 255] });
    expect(plain(await store.notes("other"))).toEqual({ a: [] });
    // What was given stays the giver's: it may be used again.
    one[0] = 9;
    expect(plain(await store.notes("some"))).toEqual({ b: [1], c: [2, 0, 255] });
    await settled();
    expect(told).toEqual([]);
    expect((await store.read()).revision).toBe(0);
  });

  test("keeps its notes when it is opened again", async ({ skip }) => {
    if (!lasting) skip(`${name} keeps nothing beyond its process`);
    const { store, clock, folder } = await opened();
    await store.note("some", new Map([["a", new Uint8Array([7])]]));
    await store.close();
    ends.pop();
    const again = await open(folder, clock);
    ends.push(() => again.close());
    expect(plain(await again.notes("some"))).toEqual({ a: [7] });
  });

  test("notes nothing, and waits for nobody, while somebody else writes", async ({ skip }) => {
    if (!lasting) skip(`${name} has one handle`);
    const { store, folder } = await opened();
    await store.note("some", new Map([["a", new Uint8Array([7])]]));
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
    const other = new DatabaseSync(join(folder, files.find((file) => file.endsWith(".sqlite")) ?? ""));
    other.exec("BEGIN IMMEDIATE");
    await expect(
      store.note(
        "some",
        new Map([
          ["a", undefined],
          ["b", new Uint8Array()],
        ]),
      ),
    ).rejects.toThrow("locked");
    other.exec("ROLLBACK");
    other.close();
    expect(plain(await store.notes("some"))).toEqual({ a: [7] });
    await store.note("some", new Map([["a", undefined]]));
    expect(plain(await store.notes("some"))).toEqual({});
    // Whoever writes policy still waits for the other one.
    expect(await store.write(change(0, [thing("a", "m")]))).toEqual({ written: true, revision: 1 });
  });

  test("keeps annotations", async () => {
    const { store } = await opened();
    await store.write(change(0, [thing("a", "m", "", { why: "because" })]));
    expect((await store.read()).resources[0]?.resource.metadata?.annotations).toEqual({ why: "because" });
    expect(await store.write(change(1, [thing("a", "m", "", { why: "otherwise" })]))).toEqual({ written: true, revision: 2 });
  });

  test("remembers who, when, why and what", async () => {
    const { store } = await opened();
    await store.write(change(0, [thing("a", "m"), thing("b", "m")], { author: "ada", reason: "first", atMs: 5_000 }));
    await store.write(change(1, [thing("b", "n"), thing("c", "m")], { removals: [key("a")], rolledBackTo: 7 }));
    expect(await store.revisions(10)).toEqual([
      {
        revision: 2,
        atMs: 1_790_000_000_000,
        author: "somebody",
        reason: "",
        rolledBackTo: 7,
        created: [key("c")],
        updated: [key("b")],
        deleted: [key("a")],
      },
      {
        revision: 1,
        atMs: 5_000,
        author: "ada",
        reason: "first",
        rolledBackTo: 0,
        created: [key("a"), key("b")],
        updated: [],
        deleted: [],
      },
    ]);
    expect((await store.revisions(1)).map(({ revision }) => revision)).toEqual([2]);
    expect((await store.revisions(10, 2)).map(({ revision }) => revision)).toEqual([1]);
  });

  test("refuses a change that was made from another revision, and says which holds", async () => {
    const { store } = await opened();
    await store.write(change(0, [thing("a", "m")]));
    const before = seen(await store.read());
    expect(await store.write(change(0, [thing("b", "m")]))).toEqual({ written: false, newest: 1 });
    expect(await store.write(change(2, [thing("b", "m")]))).toEqual({ written: false, newest: 1 });
    expect(seen(await store.read())).toEqual(before);
  });

  test("makes no revision of a change that changes nothing", async () => {
    const { store } = await opened();
    await store.write(change(0, [[thing("a", "m"), "team"]]));
    expect(await store.write(change(1, [[thing("a", "m", "default"), "team"]], { removals: [key("gone")] }))).toEqual({
      written: true,
      revision: 1,
    });
    expect(await store.revisions(10)).toHaveLength(1);
    // Another owner is a change.
    expect(await store.write(change(1, [[thing("a", "m"), "others"]]))).toEqual({ written: true, revision: 2 });
  });

  test("reads every revision that it remembers, and forgets the oldest", async () => {
    const { store } = await opened(3);
    const policies = [seen(await store.read())];
    for (let at = 0; at < 5; at++) {
      const removals = at === 2 ? [key("r0")] : [];
      await store.write(change(at, [thing(`r${at}`, "m"), thing("same", `m${at}`)], { removals }));
      policies.push(seen(await store.read()));
      // All that is remembered still reads as it did when it was new.
      for (const [revision, policy] of policies.entries()) {
        const kept = revision > at - 2 || (revision === 0 && at < 3);
        expect(seen(await store.readAt(revision)), `revision ${revision} at ${at + 1}`).toEqual(kept ? policy : undefined);
      }
    }
    expect((await store.revisions(10)).map(({ revision }) => revision)).toEqual([5, 4, 3]);
  });

  test("tells of every revision in order, of those that are there first", async () => {
    const { store, clock } = await opened();
    for (let at = 0; at < 3; at++) await store.write(change(at, [thing(`r${at}`, "m")]));
    const told: (readonly [revision: number, resources: number])[] = [];
    const stop = store.watch(
      1,
      ({ revision, resources }) => told.push([revision, resources.length]),
      () => told.push([-1, -1]),
    );
    expect(told).toEqual([]);
    await settled();
    expect(told).toEqual([
      [2, 2],
      [3, 3],
    ]);
    await store.write(change(3, [thing("r3", "m")]));
    await store.write(change(4, [], { removals: [key("r0"), key("r1")] }));
    await settled();
    expect(told.slice(2)).toEqual([
      [4, 4],
      [5, 2],
    ]);
    stop();
    await store.write(change(5, [thing("r5", "m")]));
    clock.advance(10_000);
    await settled();
    expect(told).toHaveLength(4);
    expect(clock.waiting).toBe(0);
  });

  test("begins with the oldest that it remembers for somebody who has been away for long", async () => {
    const { store } = await opened(2);
    for (let at = 0; at < 5; at++) await store.write(change(at, [thing(`r${at}`, "m")]));
    const told: number[] = [];
    ends.push(
      store.watch(
        0,
        ({ revision }) => told.push(revision),
        () => told.push(-1),
      ),
    );
    await settled();
    expect(told).toEqual([4, 5]);
  });

  test("is as it was when it is opened again", async ({ skip }) => {
    if (!lasting) skip(`${name} keeps nothing beyond its process`);
    const { store, clock, folder } = await opened();
    const route = routeOf("r", { match: { models: ["m"] }, targets: [{ provider: "p" }] });
    const provider = readYaml(JSON.stringify(nearProvider), "p.json").resources[0]?.resource;
    if (provider === undefined) throw new Error("the provider is sound");
    await store.write(change(0, [[thing("a", "m"), "team"], route, provider]));
    await store.write(change(1, [thing("a", "n")], { removals: [key("nothing")] }));
    const [now, first, records] = [seen(await store.read()), seen(await store.readAt(1)), await store.revisions(10)];
    await store.close();
    ends.pop();
    const again = await open(folder, clock);
    ends.push(() => again.close());
    expect(seen(await again.read())).toEqual(now);
    expect(seen(await again.readAt(1))).toEqual(first);
    expect(await again.revisions(10)).toEqual(records);
    expect(await again.write(change(2, [thing("b", "m")]))).toEqual({ written: true, revision: 3 });
  });

  test("holds compare-and-swap between two handles, and tells each of the other's revisions", async ({ skip }) => {
    if (!several) skip(`${name} has one handle`);
    const { store: one, clock, folder } = await opened();
    const other = await open(folder, clock);
    ends.push(() => other.close());
    const told: number[] = [];
    ends.push(
      one.watch(
        0,
        ({ revision }) => told.push(revision),
        () => told.push(-1),
      ),
    );
    expect(await other.write(change(0, [thing("a", "m")]))).toEqual({ written: true, revision: 1 });
    expect(await one.write(change(0, [thing("b", "m")]))).toEqual({ written: false, newest: 1 });
    expect(await one.write(change(1, [thing("b", "m")]))).toEqual({ written: true, revision: 2 });
    expect(await other.write(change(2, [thing("c", "m")]))).toEqual({ written: true, revision: 3 });
    clock.advance(5_000);
    await settled();
    expect(told).toEqual([1, 2, 3]);
    expect(seen(await one.read())).toEqual(seen(await other.read()));
  });
});

/** Opens a store and writes for as long as it lives: each change makes three resources the same word, and is told once it is made. */
function writerScript(name: string, folder: string): string {
  const here = import.meta.dirname;
  return `
    import { openSqlite } from ${JSON.stringify(join(here, "sqlite.ts"))};
    import { openFolder } from ${JSON.stringify(join(here, "folder.ts"))};
    import { readYaml, makeRules } from ${JSON.stringify(join(here, "../../proto/resources.ts"))};
    import { writeSync } from "node:fs";
    const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now(), after: () => () => undefined };
    const rules = makeRules();
    const thing = (name, word) => readYaml(JSON.stringify({ apiVersion: "outrigger.dev/v1alpha1", kind: "Consumer",
      metadata: { name }, spec: { team: word, identities: [{ api_key: { sha256: name.charCodeAt(0).toString(16).repeat(32) } }] } }), "x", rules).resources[0].resource;
    const folder = ${JSON.stringify(folder)};
    const store = ${name === "sqlite"} ? await openSqlite(folder + "/policy.sqlite", { clock }) : await openFolder(folder + "/policy", { clock });
    for (;;) {
      const { revision } = await store.read();
      const upserts = ["a", "b", "c"].map((name) => ({ resource: thing(name, "word " + revision), owner: "" }));
      const outcome = await store.write({ base: revision, upserts, removals: [], author: "writer", reason: "", atMs: Date.now(), rolledBackTo: 0 });
      if (outcome.written) writeSync(1, outcome.revision + "\\n");
    }`;
}

test.each(kinds.filter(({ lasting }) => lasting))(
  "$name: a writer that is killed at any moment leaves nothing torn, and revisions only rise",
  async ({ name, open }) => {
    const folder = newFolder();
    const random = seededRandom(7);
    let acknowledged = 0;
    for (let round = 0; round < 4; round++) {
      const enough = acknowledged + 1 + random.below(12);
      const writer = spawn(process.execPath, ["--input-type=module", "--eval", writerScript(name, folder)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const ended = new Promise((done) => writer.on("close", done));
      let rest = "";
      writer.stdout.setEncoding("utf8").on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          // Told only once it lasts, and one after the other.
          expect(Number(line)).toBe(acknowledged + 1);
          acknowledged = Number(line);
        }
        // By now it is in the middle of the next one.
        if (acknowledged >= enough) writer.kill("SIGKILL");
      });
      await ended;
      expect(acknowledged).toBeGreaterThanOrEqual(enough);
      const store = await open(folder, new ManualClock());
      const policy = await store.read();
      // At most one more was made than was told of.
      expect([acknowledged, acknowledged + 1]).toContain(policy.revision);
      acknowledged = policy.revision;
      expect(policy.problems).toEqual([]);
      const words = policy.resources.map(({ resource }) =>
        resource.$typeName === "outrigger.policy.v1.Consumer" ? resource.spec?.team : "",
      );
      expect(words).toEqual(Array.from({ length: 3 }, () => `word ${policy.revision - 1}`));
      // Nobody but the writer made a revision: what it wrote to files says the same as what it committed.
      expect((await store.revisions(1000)).map(({ author }) => author)).toEqual(Array.from({ length: policy.revision }, () => "writer"));
      await store.close();
    }
  },
  60_000,
);

test("sqlite: a file that is something else, or of a later build, is left as it is", async () => {
  const path = join(newFolder(), "policy.sqlite");
  writeFileSync(path, "This is a letter and no database, and long enough to be told from one.\n".repeat(20));
  await expect(openSqlite(path, { clock: new ManualClock() })).rejects.toThrow(`${path} cannot be used as a store: file is not a database`);
  expect(readFileSync(path, "utf8")).toMatch(/^This is a letter/);
  rmSync(path);
  const store = await openSqlite(path, { clock: new ManualClock() });
  store.database.exec("PRAGMA user_version = 99");
  await store.close();
  await expect(openSqlite(path, { clock: new ManualClock() })).rejects.toThrow("later build");
});

test("sqlite: what did not change is the same object as before, and nothing that was undone is remembered", async () => {
  const store = await openSqlite(join(newFolder(), "policy.sqlite"), { clock: new ManualClock() });
  ends.push(() => store.close());
  await store.write(change(0, [thing("a", "m"), thing("b", "m")]));
  const [before, bBefore] = (await store.read()).resources;
  await store.write(change(1, [thing("a", "m"), thing("b", "n")]));
  const [after, bAfter] = (await store.read()).resources;
  expect(after).toBe(before);
  expect([bBefore?.revision, bAfter?.revision]).toEqual([1, 2]);
  const undone = (): void => {
    store.writeAlongside(change(2, [thing("b", "undone")]), () => {
      expect(store.readNow().revision).toBe(3);
      throw new Error("undo");
    });
  };
  expect(undone).toThrow("undo");
  await store.write(change(2, [thing("a", "o"), thing("b", "p")]));
  const words = (await store.read()).resources.map(({ resource }) =>
    resource.$typeName === "outrigger.policy.v1.Consumer" ? resource.spec?.team : "",
  );
  expect(words).toEqual(["o", "p"]);
});

/** One step of a script: what is written from which revision. */
const stepArbitrary = fc.record({
  stale: fc.boolean(),
  upserts: fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 2 }), fc.constantFrom("", "team", "others")), {
    maxLength: 4,
    selector: ([name]) => name,
  }),
  removals: fc.uniqueArray(fc.integer({ min: 6, max: 11 }), { maxLength: 2 }),
});

test("every store answers the same script the same way, with the same roots", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 12 }), async (steps) => {
      const stores = await Promise.all(kinds.map((kind) => kind.open(newFolder(), new ManualClock(), 5)));
      try {
        const told: number[][] = stores.map(() => []);
        for (const [at, store] of stores.entries())
          store.watch(
            0,
            ({ revision }) => told[at]?.push(revision),
            () => told[at]?.push(-1),
          );
        for (const { stale, upserts, removals } of steps) {
          // Names from 6 on stand for those below them, so that what is removed was often written before; never both in one change.
          const gone = removals.map((name) => name - 6).filter((name) => !upserts.some(([written]) => written === name));
          const outcomes = await Promise.all(
            stores.map(async (store) =>
              store.write(
                change(
                  (await store.read()).revision - (stale ? 1 : 0),
                  upserts.map(([name, model, owner]) => [thing(`r${name}`, `m${model}`, name % 2 === 0 ? "" : "apart"), owner]),
                  { removals: gone.map((name) => key(`r${name}`, name % 2 === 0 ? "default" : "apart")) },
                ),
              ),
            ),
          );
          for (const outcome of outcomes) expect(outcome).toEqual(outcomes[0]);
        }
        await settled();
        const reads = await Promise.all(
          stores.map(async (store, at) => {
            const now = await store.read();
            const past = await Promise.all(Array.from({ length: now.revision + 1 }, (_, revision) => store.readAt(revision)));
            return { now: seen(now), past: past.map(seen), records: await store.revisions(100), told: told[at] };
          }),
        );
        for (const read of reads) expect(read).toEqual(reads[0]);
      } finally {
        for (const store of stores) await store.close();
      }
    }),
    { numRuns: process.env.OUTRIGGER_LONG === undefined ? 12 : 300 },
  );
}, 600_000);

/** Lets everything that is due in this turn happen. */
function settled(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}
