import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nameOf } from "../../proto/resources.ts";
import { type FileStore, type FilesRead, openFiles } from "./files.ts";

let folder: string;
let timers: { delayMs: number; then: () => void }[];
let watched: Map<string, { changed: () => void; lost: () => void }>;
let reads: FilesRead[];
let unsubscribe: () => void;
let store: FileStore;
let heard: (() => void) | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-files-"));
  timers = [];
  watched = new Map();
  reads = [];
  unsubscribe = () => {};
});

afterEach(() => {
  unsubscribe();
  rmSync(folder, { recursive: true });
});

function open(...names: string[]): FileStore {
  store = openFiles(
    names.map((name) => join(folder, name)),
    (delayMs, then) => {
      const timer = { delayMs, then };
      timers.push(timer);
      heard?.();
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    (path, changed, lost) => {
      watched.set(path.replace(folder, "."), { changed, lost });
      return () => watched.delete(path.replace(folder, "."));
    },
  );
  return store;
}

/** Subscribes, and resolves once the store waits for something to happen. */
async function begin(): Promise<void> {
  unsubscribe = store.subscribe((read) => reads.push(read));
  await store.read();
  await passTime(100);
}

/** Lets the next timer fire, and resolves once the store waits again; what it found is told by then, in the same turn. */
async function passTime(delayMs: number): Promise<void> {
  const [timer] = timers.splice(0, 1);
  expect(timer?.delayMs).toBe(delayMs);
  const waits = new Promise<void>((resolve) => {
    heard = resolve;
  });
  timer?.then();
  await waits;
  heard = undefined;
}

function provider(name: string): string {
  return `apiVersion: outrigger.dev/v1alpha1\nkind: Provider\nmetadata: {name: ${name}}\nspec: {openai: {}}\n`;
}

function write(name: string, text: string): void {
  writeFileSync(join(folder, name), text);
}

const names = ({ resources }: FilesRead): string[] => resources.providers.map(nameOf);
const messages = ({ problems }: FilesRead): string[] => problems.map(({ file, message }) => `${file?.replace(folder, ".")}: ${message}`);

describe("what is read", () => {
  test("a folder is read whole: policy files at any depth, nothing hidden, nothing else, in one order", async () => {
    mkdirSync(join(folder, "p/team/deep"), { recursive: true });
    mkdirSync(join(folder, "p/.git"));
    write("p/b.yaml", provider("b"));
    write("p/a.yml", provider("a"));
    write(
      "p/c.json",
      JSON.stringify({ apiVersion: "outrigger.dev/v1alpha1", kind: "Provider", metadata: { name: "c" }, spec: { openai: {} } }),
    );
    write("p/team/deep/d.yaml", provider("d"));
    write("p/.b.yaml.swp", "{");
    write("p/.hidden.yaml", provider("hidden"));
    write("p/.git/x.yaml", "{");
    write("p/b.yaml~", "{");
    write("p/README.md", "# {");
    const read = await open("p").read();
    expect(read.problems).toEqual([]);
    expect(names(read)).toEqual(["a", "b", "c", "d"]);
    expect(read.files.map(({ path }) => path.replace(folder, "."))).toEqual([
      "./p/a.yml",
      "./p/b.yaml",
      "./p/c.json",
      "./p/team/deep/d.yaml",
    ]);
    expect(read.locate("Provider", "default/d", "spec")).toMatchObject({ file: join(folder, "p/team/deep/d.yaml"), line: 4 });
  });

  test("files and folders together are one policy; a file that is named twice is read once", async () => {
    mkdirSync(join(folder, "p"));
    write("p/a.yaml", provider("a"));
    write("b", provider("b"));
    const read = await open("p", "b", "p/a.yaml", "./b").read();
    expect([names(read), read.problems]).toEqual([["a", "b"], []]);
  });

  test("the root is that of the content, not of the files", async () => {
    write("one.yaml", `${provider("a")}---\n${provider("b")}`);
    write("b.yaml", `# other\n${provider("b")}`);
    write("a.yaml", provider("a"));
    expect((await open("one.yaml").read()).root).toBe((await open("b.yaml", "a.yaml").read()).root);
  });

  test("a folder that leads back into itself ends", async () => {
    mkdirSync(join(folder, "p"));
    write("p/a.yaml", provider("a"));
    symlinkSync("..", join(folder, "p", "back"));
    const read = await open("p").read();
    expect([names(read), read.problems]).toEqual([["a"], []]);
  });
});

describe("what cannot be read is a problem", () => {
  test("of its own for each path", async () => {
    mkdirSync(join(folder, "empty"));
    write("binary.yaml", "");
    writeFileSync(join(folder, "binary.yaml"), Buffer.from([0x61, 0xff, 0xfe]));
    write("large.yaml", "");
    truncateSync(join(folder, "large.yaml"), 16 * 1024 * 1024 + 1);
    symlinkSync("nowhere", join(folder, "dangling.yaml"));
    const read = await open("gone.yaml", "empty", "binary.yaml", "large.yaml", "dangling.yaml").read();
    expect(messages(read).sort()).toEqual([
      "./binary.yaml: The file is not text in UTF-8.",
      "./dangling.yaml: The file or folder does not exist.",
      "./empty: There is no file in this folder that ends in .yaml, .yml or .json.",
      "./gone.yaml: The file or folder does not exist.",
      "./large.yaml: The file has 16777217 bytes; at most 16777216 are read.",
    ]);
  });

  test("no resource at all is one too: a file cut to nothing is no wish to allow nothing", async () => {
    write("a.yaml", "# nothing\n");
    expect(messages(await open("a.yaml").read())).toEqual(["./a.yaml: There is no resource in here."]);
  });

  test("so is a file that may not be read", async ({ skip }) => {
    if (process.getuid?.() === 0) skip("root may read every file: run the tests as another user to try this");
    write("a.yaml", provider("a"));
    chmodSync(join(folder, "a.yaml"), 0);
    expect(messages(await open("a.yaml").read())).toEqual(["./a.yaml: The file may not be read by this process."]);
  });
});

describe("changes are offered", () => {
  test("once each, a little after the watch tells", async () => {
    write("a.yaml", provider("one"));
    open("a.yaml");
    await begin();
    expect(reads.map(names)).toEqual([["one"]]);
    write("a.yaml", provider("two"));
    for (let event = 0; event < 5; event++) watched.get(".")?.changed();
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([100]);
    await passTime(100);
    expect(reads.map(names)).toEqual([["one"], ["two"]]);
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([5000]);
  });

  test("also if no watch tells: the files are looked at again and again", async () => {
    write("a.yaml", provider("one"));
    open("a.yaml");
    await begin();
    await passTime(5000);
    await passTime(5000);
    expect(reads).toHaveLength(1);
    write("a.yaml", provider("two"));
    await passTime(5000);
    expect(reads.map(names)).toEqual([["one"], ["two"]]);
  });

  test("but not if only the time of a file changed, or an unrelated file", async () => {
    write("a.yaml", provider("one"));
    open("a.yaml");
    await begin();
    utimesSync(join(folder, "a.yaml"), 1, 1);
    write("b.txt", "x");
    await passTime(5000);
    expect(reads).toHaveLength(1);
  });

  test("when a file is half written the offer holds the problem, and then the whole file", async () => {
    write("a.yaml", provider("one"));
    open("a.yaml");
    await begin();
    write("a.yaml", provider("two").slice(0, -4));
    await passTime(5000);
    write("a.yaml", "");
    await passTime(5000);
    write("a.yaml", provider("two"));
    await passTime(5000);
    expect(reads.map(messages)).toEqual([
      [],
      [`./a.yaml: The text ends where more is expected, such as a closing quote or bracket.`],
      ["./a.yaml: There is no resource in here."],
      [],
    ]);
    expect(reads.map(names)).toEqual([["one"], [], [], ["two"]]);
  });

  test("when an editor puts another file in the old one's place", async () => {
    write("a.yaml", provider("one"));
    open("a.yaml");
    await begin();
    write(".a.yaml.new", provider("two"));
    renameSync(join(folder, ".a.yaml.new"), join(folder, "a.yaml"));
    watched.get(".")?.changed();
    await passTime(100);
    expect(reads.map(names)).toEqual([["one"], ["two"]]);
  });

  test("when a mounted ConfigMap is swapped, all its files at once", async () => {
    mkdirSync(join(folder, "p/..1"), { recursive: true });
    mkdirSync(join(folder, "p/..2"));
    for (const [version, suffix] of [
      ["..1", "old"],
      ["..2", "new"],
    ]) {
      write(`p/${version}/a.yaml`, provider(`a-${suffix}`));
      write(`p/${version}/b.yaml`, provider(`b-${suffix}`));
    }
    symlinkSync("..1", join(folder, "p/..data"));
    symlinkSync("..data/a.yaml", join(folder, "p/a.yaml"));
    symlinkSync("..data/b.yaml", join(folder, "p/b.yaml"));
    open("p");
    await begin();
    symlinkSync("..2", join(folder, "p/..data_tmp"));
    renameSync(join(folder, "p/..data_tmp"), join(folder, "p/..data"));
    watched.get("./p")?.changed();
    await passTime(100);
    expect(reads.map(names)).toEqual([
      ["a-old", "b-old"],
      ["a-new", "b-new"],
    ]);
  });

  test("when files and folders come and go, and new folders are watched", async () => {
    mkdirSync(join(folder, "p"));
    write("p/a.yaml", provider("a"));
    open("p");
    await begin();
    expect([...watched.keys()].sort()).toEqual([".", "./p"]);
    mkdirSync(join(folder, "p/sub"));
    write("p/sub/b.yaml", provider("b"));
    watched.get("./p")?.changed();
    await passTime(100);
    expect([...watched.keys()].sort()).toEqual([".", "./p", "./p/sub"]);
    // A watch is new, so what happened before it was set is looked for soon.
    await passTime(100);
    unlinkSync(join(folder, "p/a.yaml"));
    rmSync(join(folder, "p/sub"), { recursive: true });
    await passTime(5000);
    expect([...watched.keys()].sort()).toEqual([".", "./p"]);
    expect(reads.map((read) => [names(read), messages(read)])).toEqual([
      [["a"], []],
      [["a", "b"], []],
      [[], ["./p: There is no file in this folder that ends in .yaml, .yml or .json."]],
    ]);
  });

  test("a watch that is lost, or whose folder is another one, is set again", async () => {
    mkdirSync(join(folder, "p"));
    write("p/a.yaml", provider("a"));
    open("p");
    await begin();
    const first = watched.get("./p");
    watched.get(".")?.lost();
    watched.delete(".");
    renameSync(join(folder, "p"), join(folder, "old"));
    mkdirSync(join(folder, "p"));
    write("p/a.yaml", provider("b"));
    await passTime(5000);
    expect([...watched.keys()].sort()).toEqual([".", "./p"]);
    expect(watched.get("./p")).not.toBe(first);
    expect(reads.map(names)).toEqual([["a"], ["b"]]);
  });
});

test("a subscriber gets at once what was read before", async () => {
  write("a.yaml", provider("one"));
  await open("a.yaml").read();
  unsubscribe = store.subscribe((read) => reads.push(read));
  expect(reads.map(names)).toEqual([["one"]]);
  write("a.yaml", provider("two"));
  await store.read();
});

test("once nobody is subscribed nothing is watched and no timer runs", async () => {
  write("a.yaml", provider("one"));
  open("a.yaml");
  await begin();
  unsubscribe();
  expect([timers, [...watched.keys()]]).toEqual([[], []]);
  write("a.yaml", provider("two"));
  expect(names(await store.read())).toEqual(["two"]);
  expect(reads.map(names)).toEqual([["one"]]);
  expect(timers).toEqual([]);
});

test("the system's own watch tells of a change", async () => {
  write("a.yaml", provider("one"));
  let soon: (() => void) | undefined;
  store = openFiles([join(folder, "a.yaml")], (delayMs, then) => {
    const timer = { delayMs, then };
    timers.push(timer);
    heard?.();
    if (delayMs === 100) soon?.();
    return () => {
      timers = timers.filter((other) => other !== timer);
    };
  });
  await begin();
  const told = new Promise<void>((resolve) => {
    soon = resolve;
  });
  write("a.yaml", provider("two"));
  await told;
  await passTime(100);
  expect(reads.map(names)).toEqual([["one"], ["two"]]);
});
