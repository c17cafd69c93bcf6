import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { recordingsAbsent, recordingsFolder } from "./recordings.ts";
import { type RecordedTest, recordedCases, recordingTable } from "./recordingTable.ts";

const cases = [
  { name: "a/one", api: "x", kinds: ["stream", "tools"] },
  { name: "a/two", api: "x", kinds: ["errors"] },
  { name: "b/three", api: "y", kinds: ["unary"] },
] as const;

const ran = (name: string, state: RecordedTest["state"] = "passed", note = ""): RecordedTest => ({
  names: ["some door", name],
  state,
  note,
});

describe("the table of recordings", () => {
  test("counts each case in its kinds and once in all", () => {
    const { text, wrong } = recordingTable(cases, [ran("a/one"), ran("a/one"), ran("a/two"), ran("b/three")]);
    expect(wrong).toEqual([]);
    expect(text.split("\n").map((line) => line.split(/ +/))).toEqual(
      expect.arrayContaining([
        ["a", "-", "1/0/0", "1/0/0", "-", "-", "1/0/0", "-", "2/0/0"],
        ["all", "1/0/0", "1/0/0", "1/0/0", "-", "-", "1/0/0", "-", "3/0/0"],
      ]),
    );
  });

  test("one failing test fails its case, whoever else passes it", () => {
    const { text, wrong } = recordingTable(cases, [ran("a/one"), ran("a/one", "failed"), ran("a/two"), ran("b/three")]);
    expect(wrong).toEqual(["a/one: fails in some door > a/one"]);
    expect(text).toMatch(/^all .* 2\/1\/0$/m);
  });

  test("a case that nobody reads is wrong, and one that is skipped without a reason too", () => {
    expect(recordingTable(cases, [ran("a/one"), ran("a/two", "skipped")]).wrong).toEqual([
      "a/two: its tests are skipped and do not say why",
      "b/three: no test is about it",
    ]);
  });

  test("a reason excuses a grammar and stands below the table, until somebody reads it", () => {
    const tests = [ran("a/one"), ran("a/two", "skipped", "not here")];
    const excused = recordingTable(cases, tests, { y: "not built" });
    expect(excused.wrong).toEqual([]);
    expect(excused.text).toContain("skipped: a/two: not here");
    expect(excused.text).toContain("excused: b/three: not built");
    expect(excused.text).not.toContain("news");
    expect(recordingTable(cases, [...tests, ran("b/three")], { y: "not built" }).text).toContain("news: y is read");
  });

  test("knows every folder that the recordings' own page counts, and no fewer", () => {
    const folder = mkdtempSync(join(tmpdir(), "outrigger-recordings-"));
    try {
      const meta = (name: string, text: object): void => {
        mkdirSync(join(folder, name), { recursive: true });
        writeFileSync(join(folder, name, "meta.json"), JSON.stringify(text));
      };
      meta("a/one", { api: "x", stream: true, tags: ["multimodal"], expect: { kind: "chat", tool_calls: [{}], reasoning_text: "hm" } });
      meta("a/two", { api: "x", stream: false, tags: [], expect: { kind: "embeddings" } });
      writeFileSync(join(folder, "README.md"), "| provider | cases |\n|---|---|\n| a | 2 |\n");
      expect(recordedCases(folder)).toEqual([
        { name: "a/one", api: "x", kinds: ["stream", "tools", "reasoning", "image"] },
        { name: "a/two", api: "x", kinds: ["embeddings"] },
      ]);
      writeFileSync(join(folder, "README.md"), "| a | 3 |\n");
      expect(() => recordedCases(folder)).toThrow("a has 2 recordings, and their README counts 3");
      writeFileSync(join(folder, "README.md"), "| a | 2 |\n| b | 1 |\n");
      expect(() => recordedCases(folder)).toThrow("no recordings of b");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("knows the recordings that are here", (context) => {
    const folder = recordingsFolder();
    if (folder === undefined) return context.skip(recordingsAbsent);
    expect(recordedCases(folder).length).toBeGreaterThanOrEqual(138);
  });
});
