import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SecretReference, SecretReferenceSchema } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { Clock } from "../call.ts";
import type { SecretSource } from "../policy/compile.ts";
import { openSecrets, type Secrets } from "./secrets.ts";

let folder: string;
let timers: (() => void)[];
let warnings: string[];
let secrets: Secrets;

const clock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  after(_, then) {
    timers.push(then);
    return () => {
      timers = timers.filter((timer) => timer !== then);
    };
  },
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-secrets-"));
  timers = [];
  warnings = [];
  const environment = { KEY: "from-environment \n", EMPTY: " ", LINES: "a\nb" };
  secrets = openSecrets(environment, clock, (message, facts) => warnings.push(`${message} ${JSON.stringify(facts)}`));
});

afterEach(() => {
  secrets.close();
  rmSync(folder, { recursive: true });
});

function env(name: string): SecretReference {
  return create(SecretReferenceSchema, { source: { case: "env", value: name } });
}

function file(name: string): SecretReference {
  return create(SecretReferenceSchema, { source: { case: "file", value: join(folder, name) } });
}

function shownValue(source: SecretSource): string {
  return "missing" in source ? `missing: ${source.missing}` : source.read().reveal();
}

/** What a timer does in time, done now; resolves when it is done. */
async function fireTimer(): Promise<void> {
  const [timer] = timers.splice(0, 1);
  if (timer === undefined) throw new Error("no timer runs");
  timer();
  await secrets.refresh();
}

describe("environment variables", () => {
  test("are found, without blanks at their end", () => expect(shownValue(secrets.find(env("KEY")))).toBe("from-environment"));

  test.each([
    ["GONE", "missing: The environment variable GONE is not set."],
    ["EMPTY", "missing: The environment variable EMPTY is empty."],
    ["LINES", "missing: The environment variable LINES holds characters that a header cannot carry, such as a line end in its middle."],
    // A key written where its variable's name belongs is not repeated.
    ["sk_CANARY0123456789abcdef", "missing: The environment variable (not shown) is not set."],
    ["constructor", "missing: The environment variable constructor is not set."],
  ])("%s", (name, expected) => expect(shownValue(secrets.find(env(name)))).toBe(expected));

  test("need no timer", () => {
    secrets.find(env("KEY"));
    expect(timers).toEqual([]);
  });
});

describe("files", () => {
  test("are found, without blanks at their end, and do not show themselves", () => {
    writeFileSync(join(folder, "key"), "from-file\r\n");
    const source = secrets.find(file("key"));
    expect(shownValue(source)).toBe("from-file");
    if ("missing" in source) throw new Error("found above");
    expect(`${source.read()} ${JSON.stringify(source.read())} ${inspect(source.read())}`).not.toContain("from-file");
  });

  test("that are missing, empty, too large or no files are told by name", () => {
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "empty"), "\n\n");
    writeFileSync(join(folder, "large"), "x".repeat(16 * 1024 + 1));
    writeFileSync(join(folder, "binary"), "CANARY\u0000");
    const told = ["gone", "folder", "empty", "large", "binary", "empty/under"].map((name) =>
      shownValue(secrets.find(file(name))).replace(folder, ""),
    );
    expect(told).toEqual([
      "missing: The file /gone does not exist.",
      "missing: The file /folder is not a file.",
      "missing: The file /empty is empty.",
      "missing: The file /large is larger than 16384 bytes.",
      "missing: The file /binary holds characters that a header cannot carry, such as a line end in its middle.",
      "missing: The file /empty/under does not exist.",
    ]);
    expect(timers).toEqual([]);
  });

  test("are read again when they change, and until then the old value is there without waiting", async () => {
    writeFileSync(join(folder, "key"), "old");
    const source = secrets.find(file("key"));
    writeFileSync(join(folder, "key"), "new-and-longer");
    expect(shownValue(source)).toBe("old");
    await fireTimer();
    expect(shownValue(source)).toBe("new-and-longer");
    // The next look is planned.
    writeFileSync(join(folder, "key"), "third");
    await fireTimer();
    expect(shownValue(source)).toBe("third");
    expect(warnings).toEqual([]);
  });

  test("are followed when a mounted folder is swapped by its link", async () => {
    mkdirSync(join(folder, "..1"));
    mkdirSync(join(folder, "..2"));
    writeFileSync(join(folder, "..1", "key"), "first!");
    writeFileSync(join(folder, "..2", "key"), "second");
    symlinkSync("..1", join(folder, "..data"));
    symlinkSync("..data/key", join(folder, "key"));
    const source = secrets.find(file("key"));
    symlinkSync("..2", join(folder, "..data_tmp"));
    renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
    await fireTimer();
    expect(shownValue(source)).toBe("second");
  });

  test("that go bad keep their last value, are reported once, and recover", async () => {
    writeFileSync(join(folder, "key"), "good");
    const source = secrets.find(file("key"));
    unlinkSync(join(folder, "key"));
    await fireTimer();
    await fireTimer();
    expect(shownValue(source)).toBe("good");
    expect(warnings).toEqual([
      `The file of a secret does not exist. Its last value stays in use. ${JSON.stringify({ file: join(folder, "key") })}`,
    ]);
    writeFileSync(join(folder, "key"), "");
    await fireTimer();
    expect(warnings).toHaveLength(2);
    writeFileSync(join(folder, "key"), "good again");
    await fireTimer();
    expect(shownValue(source)).toBe("good again");
    expect(warnings).toHaveLength(2);
  });

  test("are looked at by one timer, however many there are and however often they are asked for", () => {
    writeFileSync(join(folder, "a"), "a");
    writeFileSync(join(folder, "b"), "b");
    const sources = [file("a"), file("b"), file("a")].map((reference) => secrets.find(reference));
    expect(timers).toHaveLength(1);
    expect(sources.map(shownValue)).toEqual(["a", "b", "a"]);
    secrets.close();
    expect(timers).toEqual([]);
  });
});

test("a reference to nothing is told", () => {
  expect(shownValue(secrets.find(create(SecretReferenceSchema)))).toContain("neither an environment variable");
});
