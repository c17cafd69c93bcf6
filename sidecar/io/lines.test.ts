import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { openLines } from "./lines.ts";

let folder = "";
let fd = -1;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-lines-"));
  fd = openSync(join(folder, "log"), "a");
});
afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true, force: true });
});

const written = () => readFileSync(join(folder, "log"), "utf8");
const flushed = (lines: { flush(done: () => void): void }) => new Promise<void>((resolve) => lines.flush(resolve));

test("lines are written whole and in order, gathered or flushed", async () => {
  const lines = openLines(fd, new ManualClock());
  const all: string[] = [];
  // Some megabytes, and characters of several bytes that no cut may break.
  for (let i = 0; i < 20_000; i++) {
    const line = `{"n":${i},"text":"${"größe ✓ ".repeat(i % 17)}"}\n`;
    all.push(line);
    lines.write(line);
  }
  await flushed(lines);
  expect(written()).toBe(all.join(""));
  lines.write("the last\n");
  await lines.settle();
  expect(written()).toBe(`${all.join("")}the last\n`);
  expect(lines.lost()).toBe(0);
});

test("a line larger than a piece is written whole, in its place", async () => {
  const lines = openLines(fd, new ManualClock());
  lines.write("one\n");
  lines.write(`${"ß".repeat(100_000)}\n`);
  lines.write("two\n");
  await flushed(lines);
  expect(written()).toBe(`one\n${"ß".repeat(100_000)}\ntwo\n`);
});

test("a line waits for others for a second, and without lines nothing waits", async () => {
  const clock = new ManualClock();
  const lines = openLines(fd, clock);
  expect(clock.waiting).toBe(0);
  lines.write("one\n");
  clock.advance(500);
  lines.write("two\n");
  expect(written()).toBe("");
  clock.advance(500);
  expect(clock.waiting).toBe(0);
  await flushed(lines);
  expect(written()).toBe("one\ntwo\n");
});

test("whoever flushes while lines come is told, and does not make each of them a write of its own", async () => {
  const lines = openLines(fd, new ManualClock());
  let told = 0;
  const end = new Promise<void>((resolve) => {
    lines.write("0\n");
    lines.flush(() => {
      told += 1;
      resolve();
    });
    // Comes while the first is being written.
    lines.write("1\n");
  });
  await end;
  expect(told).toBe(1);
  expect(written()).toBe("0\n");
  await flushed(lines);
  expect(written()).toBe("0\n1\n");
});

test("what waits at the process' end is written at once", () => {
  const lines = openLines(fd, new ManualClock());
  lines.write("one\n");
  lines.write("two\n");
  lines.writeRest();
  expect(written()).toBe("one\ntwo\n");
});

test("whoever waits for a flush is told when its lines are given up, too", async () => {
  const clock = new ManualClock();
  const lines = openLines(fd, clock);
  lines.write("one\n");
  let told = false;
  lines.flush(() => {
    told = true;
  });
  const settled = lines.settle();
  clock.advance(60_000);
  await settled;
  expect(told).toBe(true);
});

describe("a full disk", () => {
  /** A file with room for so many bytes, which may change; beyond that writes fail as on a disk that is full. */
  function disk(room: number) {
    const clock = new ManualClock();
    const held = { text: "", room, failed: 0 };
    const lines = openLines(-1, clock, (_fd, bytes, done) => {
      const written = Math.min(held.room - held.text.length, bytes.length);
      held.text += bytes.toString("latin1", 0, written);
      if (written > 0) return done(null, written);
      held.failed += 1;
      done(Object.assign(new Error("no space left on device"), { code: "ENOSPC" }), 0);
    });
    return { clock, held, lines };
  }

  test("costs the lines that it has no room for, and whoever flushes is told", async () => {
    const { lines } = disk(0);
    for (let n = 0; n < 1000; n++) lines.write(`${"x".repeat(500)}\n`);
    await flushed(lines);
    await lines.settle();
    expect(lines.lost()).toBe(1000);
  });

  test("tears one line, and what is written once there is room again stands by itself", async () => {
    const { held, lines } = disk(6);
    lines.write("one\ntwo\n");
    await flushed(lines);
    expect(held.text).toBe("one\ntw");
    // Still full: neither this line nor the end of the torn one can be written.
    lines.write("three\n");
    await flushed(lines);
    expect(held).toMatchObject({ text: "one\ntw", failed: 2 });
    held.room = 100;
    lines.write("four\n");
    lines.write("five\n");
    await flushed(lines);
    expect(held.text).toBe("one\ntw\nfour\nfive\n");
    expect(lines.lost()).toBe(2);
  });
});

/** A program that has `lines` on its standard output, which is a pipe without waiting, as a sidecar's standard error mostly is. */
const program = (body: string) => [
  "--input-type=module",
  "--eval",
  `import { openLines } from ${JSON.stringify(new URL("lines.ts", import.meta.url).href)};
   import { systemClock } from ${JSON.stringify(new URL("clock.ts", import.meta.url).href)};
   // Node makes it a pipe without waiting when somebody looks at it.
   process.stdout.on("error", () => {});
   ${body}`,
];

describe("a pipe", () => {
  async function numbersFrom(body: string, whenToRead: (child: ReturnType<typeof spawn>) => Promise<unknown>) {
    const child = spawn(process.execPath, program(body), { stdio: ["ignore", "pipe", "inherit", "ipc"] });
    const { stdout } = child;
    if (stdout === null) throw new Error("its output is a pipe");
    const told = await whenToRead(child);
    const all = (await text(stdout)).split("\n").slice(0, -1);
    expect(all.filter((line) => !/^\d+ x{500}$/.test(line))).toEqual([]);
    return { told, numbers: all.map((line) => Number.parseInt(line, 10)) };
  }
  const message = (child: ReturnType<typeof spawn>) => new Promise<unknown>((resolve) => child.once("message", resolve));
  const open = "const lines = openLines(1, systemClock);";
  const write = (count: number) => `for (let n = 0; n < ${count}; n++) lines.write(n + " " + "x".repeat(500) + "\\n");`;

  test("whose reader stands still costs lines beyond what may wait, which are counted", async () => {
    const body = `${open} ${write(60_000)} process.send(lines.lost()); process.once("message", () => lines.flush(() => process.exit()));`;
    const { told, numbers } = await numbersFrom(body, async (child) => {
      const lost = await message(child);
      child.send("read");
      return lost;
    });
    expect(told).toBeGreaterThan(10_000);
    expect(numbers).toEqual([...Array(60_000 - Number(told)).keys()]);
  });

  test("that is full when the process ends is waited for", async () => {
    // More than a pipe holds, and a reader that begins when the process is in its last function.
    const body = `${open} ${write(1000)} process.on("exit", () => { process.send("now"); lines.writeRest(); }); process.exit();`;
    const { numbers } = await numbersFrom(body, message);
    expect(numbers).toEqual([...Array(1000).keys()]);
  });

  test("that nobody reads holds up the end for a while only", async () => {
    // Time goes faster there.
    const body = `const quick = { ...systemClock, after: (ms, then) => systemClock.after(ms / 20, then) };
      const lines = openLines(1, quick); ${write(1000)} await lines.settle(); process.send(lines.lost()); process.disconnect();`;
    const child = spawn(process.execPath, program(body), { stdio: ["ignore", "pipe", "inherit", "ipc"] });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    expect(await message(child)).toBeGreaterThan(0);
    expect(await ended).toBe(0);
  });
});
