/** What the pages show is true: their examples run, their output is real, their lists are whole, and their links lead somewhere. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Running, runCommand, startCommand } from "./kit/command.ts";

const root = join(import.meta.dirname, "..");
const pages = ["README.md", "CHANGELOG.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)];

function read(page: string): string {
  return readFileSync(join(root, page), "utf8");
}

/** The blocks of code in one language. */
function blocks(page: string, language: string): string[] {
  return [...read(page).matchAll(/^```(\w*)\n(.*?)^```$/gms)].flatMap(([, found, text = ""]) => (found === language ? [text] : []));
}

let demo: Running;
let address = "";
let greeting = "";

beforeAll(async () => {
  const running = startCommand(["demo", "--port", "0", "--ops-port", "0"]);
  const [text, found = ""] = await running.wrote("stdout", /^.*listens on (http:\S+),.*Ctrl-C stops everything\.$/ms);
  [greeting, address, demo] = [text, found, running];
});
afterAll(() => demo.stop());

/** An example as it is shown, with the address of this test's own demo. */
function here(text: string): string {
  return text.replaceAll("http://127.0.0.1:7410", address);
}

describe("examples", () => {
  const programs = ["README.md", "docs/doors.md"].flatMap((page) => blocks(page, "ts").map((text) => [page, text] as const));

  test("there are some", () => {
    expect(programs.length).toBeGreaterThan(3);
  });

  test.each(programs)("of %s: %s", (_, text) => {
    const ended = spawnSync(process.execPath, ["--input-type=module-typescript", "--eval", here(text)], {
      cwd: root,
      encoding: "utf8",
      timeout: 20_000,
      env: {
        PATH: process.env.PATH,
        OPENAI_BASE_URL: `${address}/v1`,
        OPENAI_API_KEY: "outrigger",
        ANTHROPIC_BASE_URL: address,
        ANTHROPIC_API_KEY: "outrigger",
      },
    });
    expect({ status: ended.status, stderr: ended.stderr }).toEqual({ status: 0, stderr: "" });
    expect(ended.stdout).toMatch(/sea|salt|door/);
  });

  const calls = pages.flatMap((page) => blocks(page, "sh").flatMap((text) => text.split("\n").filter((line) => line.startsWith("curl "))));

  test.each(calls)("%s", async (line) => {
    const [, url = "", body = ""] = /^curl (\S+) -H 'content-type: application\/json' -d '(.*)'$/.exec(here(line)) ?? [];
    const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
    // An answer speaks of the question; vectors have no words.
    const text = expect.stringMatching(url.endsWith("/embeddings") ? /"embedding":\[-?0\.\d+,/ : /door/);
    expect({ status: response.status, text: await response.text() }).toEqual({ status: 200, text });
  });
});

describe("what the README shows", () => {
  const shown = blocks("README.md", "text");

  test("is how the demo greets", () => {
    const lines = (shown.find((text) => text.startsWith("Outrigger ")) ?? "").split("\n  …")[0] ?? "";
    expect(lines.length).toBeGreaterThan(100);
    expect(greeting.replace(/:\d+, operations on .*/, ":7410, operations on http://127.0.0.1:7412")).toContain(lines);
  });

  test("is what chat answers", async () => {
    const [, words = "", answer = "", footer = ""] =
      /^\$ npm run -s outrigger -- chat "(.*)"\n(.*)\n(.*)\n$/.exec(shown.find((text) => text.startsWith("$")) ?? "") ?? [];
    const ended = await runCommand(["chat", "--address", address, words]);
    const untimed = (text: string) => text.replaceAll(/[\d.]+ (ms|s)\b/g, "T");
    expect({ answer: ended.stdout, footer: untimed(ended.stderr) }).toEqual({ answer: `${answer}\n`, footer: untimed(`${footer}\n`) });
  });
});

describe("the page of the command", () => {
  const sections = new Map(
    read("docs/command.md")
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf("\n")), section] as const),
  );

  test("has every command", async () => {
    const { stdout } = await runCommand(["--help"]);
    const names = [...(stdout.split("Commands:")[1] ?? "").matchAll(/^ {2}([\w-]+)/gm)]
      .map(([, name = ""]) => name)
      .filter((name) => name !== "help");
    expect([...sections.keys()].toSorted()).toEqual(names.toSorted());
  });

  test.each([...sections.keys()])("says of %s what its help says", async (name) => {
    const { stdout } = await runCommand([name, "--help"]);
    const options = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)]
      .map(([, option = ""]) => option)
      .filter((option) => option !== "--help");
    const section = sections.get(name) ?? "";
    for (const option of options) expect(section, option).toContain(option);
    for (const [option] of section.matchAll(/(?<![\w-])--[a-z][\w-]+/g))
      expect(options, `${name} is said to have ${option}`).toContain(option);
  });
});

test.each(pages)("the links of %s lead somewhere", (page) => {
  for (const [, target = ""] of read(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? page : join(dirname(page), path);
    expect(existsSync(join(root, file)), `${page}: ${target}`).toBe(true);
    if (anchor === undefined) continue;
    const anchors = [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(" ", "-")
        .replace(/[^\w-]/g, ""),
    );
    expect(anchors, `${page}: ${target}`).toContain(anchor);
  }
});
