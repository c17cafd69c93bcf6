/**
 * Golden cases in one file each: a sentence on what the case shows, then sections that begin with `=== name`. Some sections are given and
 * the others are what must come of them. Dropping a file into the folder adds a test; `UPDATE_GOLDEN=1` writes what comes of it.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";

/** One case. */
export interface GoldenCase {
  readonly name: string;
  /** What the case shows. */
  readonly shows: string;
  /** The text of a section, without the line break at its end; undefined if there is none. */
  section(name: string): string | undefined;
  /** Compares what came of the case with its other sections, or writes it there. `given`: the sections that are input. */
  check(given: readonly string[], came: ReadonlyMap<string, string>): void;
}

/** The cases of a folder below `test/golden`, sorted by name. */
export function goldenCases(folder: string): GoldenCase[] {
  const path = join(import.meta.dirname, "../golden", folder);
  return readdirSync(path)
    .filter((file) => file.endsWith(".txt"))
    .sort()
    .map((file) => readCase(join(path, file), file.slice(0, -".txt".length)));
}

function readCase(path: string, name: string): GoldenCase {
  const [head = "", ...rest] = readFileSync(path, "utf8").split(/^=== /m);
  const sections = new Map<string, string>();
  for (const section of rest) {
    const lineEnd = section.indexOf("\n");
    sections.set(section.slice(0, lineEnd), section.slice(lineEnd + 1).replace(/\n+$/, ""));
  }
  return {
    name,
    shows: head.trim(),
    section: (wanted) => sections.get(wanted),
    check(given, came) {
      const expected = new Map([...sections].filter(([section]) => given.includes(section)));
      for (const [section, text] of came) expected.set(section, text.replace(/\n+$/, ""));
      if (process.env.UPDATE_GOLDEN === "1") {
        const texts = [...expected].map(([section, text]) => `=== ${section}\n${text}\n`);
        writeFileSync(path, `${head.trim()}\n\n${texts.join("\n")}`);
        return;
      }
      // As one text each, so that a difference is shown with what stands around it.
      expect(Object.fromEntries(expected)).toEqual(Object.fromEntries(sections));
    },
  };
}
