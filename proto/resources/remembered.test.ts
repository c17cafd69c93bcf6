import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { makeRules, type ReadFile, readYaml } from "../resources.ts";
import { rememberDocuments } from "./remembered.ts";

/** Remembers, and has seen whatever tests before have read. */
const remembering = makeRules();
/** Reads each text as a whole. */
const forgetful = makeRules(0);

const golden = new URL("../../test/golden/policy/", import.meta.url);
const flawed = readdirSync(golden)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => readFileSync(new URL(name, golden), "utf8"))
  .filter((text) => text.length < 4_000);

const resource = (kind: string, name: string, spec: string): string =>
  `apiVersion: outrigger.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n`;

/** Documents with and without flaws, and lines that look like the beginnings of documents and are, or are not. */
const pieces = [
  resource("Provider", "a", "{openai: {}}"),
  resource("Provider", "b", "{openai: {}, headers: {x-note: |\n  --- not a beginning\n  }}"),
  resource("Provider", "c", '\n  openai: {}\n  headers:\n    x-note: "first\n---\n    second"'),
  resource("Provider", "d", "\n  openai: {}\n  headers:\n    x-note: |\n      ---\n       ---\n"),
  resource("ModelRoute", "r", "\n  match: {models: [fast]}\n  targets: [{provider: a}]"),
  resource("ModelRoute", "wrong", "{targets: [], colour: red}"),
  "# nothing but a comment\n",
  "\n\n",
  "- a list\n",
  "kind: [1,\n---\n2]\n",
  "a: &x 1\nb: *x\n",
  "c: *x\n",
  "%YAML 1.2\n",
  "...\n",
  "\ufeff",
  "a: 1\r\nb: 2\r\n",
  "a: '\n",
];
const beginnings = ["---\n", "--- \n", "---\t\n", "---\r\n", "--- # said\n", "---- \n", "---x\n", " ---\n", "---", "", "\n"];
const text = fc
  .array(
    fc.tuple(fc.constantFrom(...beginnings), fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...pieces) }, fc.constantFrom(...flawed))),
    {
      maxLength: 6,
    },
  )
  .map((parts) => parts.flat().join(""));

/** All that a file was read as, with the places of some fields. */
function factsOf({ resources, problems, broken, whole }: ReadFile): unknown {
  return {
    resources: resources.map(({ resource, name, file, placeOf }) => ({
      resource,
      name,
      file,
      places: ["", "kind", "metadata.name", "spec", "spec.match.models[0]", "spec.nothing"].map(placeOf),
    })),
    problems,
    broken: broken.map(({ resource, name, file }) => ({ resource, name, file })),
    whole,
  };
}

describe("a file that is read document by document", () => {
  test("is read as the whole is: the same resources, problems and places, whatever was read before", () => {
    fc.assert(
      fc.property(text, (one) => {
        const whole = factsOf(readYaml(one, "f.yaml", forgetful));
        expect(factsOf(readYaml(one, "f.yaml", remembering))).toEqual(whole);
        expect(factsOf(readYaml(one, "f.yaml", remembering))).toEqual(whole);
      }),
      { numRuns: 2_000 },
    );
  });

  test("gives the same objects for documents that have not changed, and only those", () => {
    const rules = makeRules();
    const files = [1, 2].map((version) => [resource("Provider", "a", "{openai: {}}"), resource("Provider", `b${version}`, "{openai: {}}")]);
    const [before, after] = files.map((documents) =>
      readYaml(documents.join("---\n"), "f.yaml", rules).resources.map(({ resource }) => resource),
    );
    expect(before?.length).toBe(2);
    expect(after?.[0]).toBe(before?.[0]);
    expect(after?.[1]).not.toBe(before?.[1]);
  });

  test("with a flaw in one document tells the place in the file", () => {
    const good = resource("Provider", "a", "{openai: {}}");
    const bad = resource("Provider", "b", "{openai: {}, colour: red}");
    for (let round = 0; round < 2; round++) {
      const { problems } = readYaml(`${good}---\n${bad}`, "f.yaml", remembering);
      expect(problems.map(({ id, file, line }) => [id, file, line])).toEqual([["policy/unknown-field", "f.yaml", 9]]);
    }
  });
});

describe("the memory", () => {
  const documentOf = (size: number, at: number): string => `${at} `.padEnd(size, "x");

  test("keeps what was met last, within its limit", () => {
    const memory = rememberDocuments(10_000);
    for (let at = 0; at < 1_000; at++) {
      memory.keep(documentOf(100, at), []);
      expect(memory.find(documentOf(100, 0))).toEqual([]);
    }
    const kept = Array.from({ length: 1_000 }, (_, at) => memory.find(documentOf(100, at))).filter((found) => found !== undefined).length;
    expect(kept).toBeGreaterThan(25);
    expect(kept).toBeLessThanOrEqual(101);
  });

  test("keeps nothing of what is too large for it", () => {
    const memory = rememberDocuments(1_000);
    memory.keep(documentOf(900, 0), []);
    expect(memory.find(documentOf(900, 0))).toBeUndefined();
  });

  test("does not take a text for one that differs in what is no Unicode", () => {
    const memory = rememberDocuments(1_000);
    memory.keep("a: \ud800", []);
    expect([memory.find("a: \ufffd"), memory.find("a: \ud800")]).toEqual([undefined, undefined]);
  });
});
