import { readdirSync, readFileSync } from "node:fs";
import { create, equals, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isDocument, LineCounter, parseAllDocuments } from "yaml";
import { ModelRouteSchema } from "./gen/outrigger/policy/v1/model_route_pb.ts";
import { PriceBookSchema } from "./gen/outrigger/policy/v1/price_book_pb.ts";
import { schemaOf } from "./resources/kinds.ts";
import { fullNameOf, kindOf, listResources, makeRules, problemText, readResources, readYaml } from "./resources.ts";

const golden = new URL("../test/golden/policy/", import.meta.url);
const cases = readdirSync(golden)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => ({ name, text: readFileSync(new URL(name, golden), "utf8") }));

const rules = makeRules();

/** A policy without a flaw that uses most of what there is. */
const sound = `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: demo, labels: {tier: "1"}}
spec:
  openai: {row: vllm, max_tokens_field: max_tokens, developer_role: false}
  endpoint: http://127.0.0.1:9000/v1
  credential: {header: {name: authorization, prefix: "Bearer ", secret: {env: DEMO_KEY}}}
  timeouts: {connect: 0.5s, call: 90s}
  limits: {connections: 10, answer_bytes: 1073741824}
  headers: {x-team: blue}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: fast}
spec:
  match: {models: [fast, "demo-*"], consumers: [me]}
  targets:
    - {provider: demo, model: big, weight: 3}
    - {provider: demo}
  unsupportedParams: UNSUPPORTED_PARAMS_DROP
  timeout: 30s
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: me}
spec:
  team: blue
  identities:
    - api_key: {sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
---
apiVersion: outrigger.dev/v1alpha1
kind: PriceBook
metadata: {name: list}
spec:
  currency: USD
  rows:
    - {model: big, input: 9007199254740993, output: "9223372036854775807", from: 2026-01-31T00:00:00+01:00}
    - {provider: demo, model: "*", input: 1, output: 2, cached_input: 0, reasoning: 1e3}
`;

describe("each flawed policy is refused with everything that is wrong", () => {
  test("there are cases", () => expect(cases.length).toBeGreaterThan(12));

  test.each(cases)("$name", async ({ name, text }) => {
    const { problems } = readResources([{ path: name, text }], rules);
    const lines = problems.map((problem) => `${problemText(problem)}\n`).join("");
    expect(problems.length).toBeGreaterThan(0);
    expect(lines).not.toContain("CANARY");
    await expect(lines).toMatchFileSnapshot(new URL(name.replace(".yaml", ".txt"), golden).pathname);
  });
});

describe("a sound policy", () => {
  const { resources, problems, locate } = readResources([{ path: "sound.yaml", text: sound }]);

  test("has no problems", () => expect(problems).toEqual([]));

  test("says what it says, whole numbers to the last digit", () => {
    const [book] = resources.priceBooks;
    const expected: MessageInitShape<typeof PriceBookSchema> = {
      apiVersion: "outrigger.dev/v1alpha1",
      kind: "PriceBook",
      metadata: { name: "list" },
      spec: {
        currency: "USD",
        rows: [
          { model: "big", input: 9007199254740993n, output: 9223372036854775807n, from: { seconds: 1769814000n } },
          { provider: "demo", model: "*", input: 1n, output: 2n, cachedInput: 0n, reasoning: 1000n },
        ],
      },
    };
    expect(book).toEqual(create(PriceBookSchema, expected));
  });

  test("may be spread over files in any order", () => {
    const documents = sound.split("---\n").map((text, index) => ({ path: `${index}.yaml`, text }));
    expect(readResources(documents.toReversed()).resources).toEqual(resources);
  });

  test("may be JSON", () => {
    const route = resources.routes[0];
    const text = `{"apiVersion": "outrigger.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": "fast"}, "spec": {
\t"match": {"models": ["fast", "demo-*"], "consumers": ["me"]}, "timeout": "30s", "unsupported_params": "drop",
\t"targets": [{"provider": "demo", "model": "big", "weight": 3}, {"provider": "demo"}]}}`;
    expect(readYaml(text, "a.json").resources.map(({ resource }) => resource)).toEqual([route]);
  });

  test("tells where each of its fields stands", () => {
    expect(locate("ModelRoute", "default/fast", "spec.targets[1].provider")).toEqual({ file: "sound.yaml", line: 20, column: 18 });
    expect(locate("ModelRoute", "default/fast", "spec.targets[1].model")).toEqual({ file: "sound.yaml", line: 20, column: 7 });
    expect(locate("Provider", "default/demo", 'spec.headers["x-team"]')).toEqual({ file: "sound.yaml", line: 11, column: 21 });
    expect(locate("Provider", "default/other", "spec")).toBeUndefined();
  });
});

test("nothing at all is an empty policy", () => {
  for (const text of ["", "# nothing\n", "---\n---\n", "\ufeff"])
    expect(readYaml(text, "a")).toMatchObject({ resources: [], problems: [] });
});

test("a file that is too large is refused by its size", () => {
  const { problems } = readYaml(`# ${"x".repeat(2 * 1024 * 1024)}`, "a.yaml");
  expect(problems.map(({ id, line }) => [id, line])).toEqual([["policy/too-large", 1]]);
});

test("nesting without end is refused", () => {
  const nested = [
    "[".repeat(1_000_000),
    "- ".repeat(900_000),
    `${"[".repeat(500)}${"]".repeat(500)}`,
    "a: {a: ".repeat(200_000),
    "? ".repeat(900),
  ];
  for (const text of nested)
    expect(readYaml(`# policy\n${text}`, "a.yaml", rules).problems[0]).toMatchObject({ severity: "error", line: 2 });
});

test("a mapping of very many keys is read in the time that it takes to read them", () => {
  const keys = Array.from({ length: 30_000 }, (_, index) => `k${index}: 1\n`).join("");
  expect(readYaml(`${keys}k7: 2\n`, "a.yaml", rules).problems.map(({ id, line }) => [id, line])).toEqual([
    ["policy/missing-field", 1],
    ["policy/duplicate-key", 30_001],
  ]);
});

test("of very many problems the first thousand are told, and how many more there are", () => {
  const rows = Array.from({ length: 1500 }, () => "    - {modle: x}\n").join("");
  const text = `apiVersion: outrigger.dev/v1alpha1\nkind: PriceBook\nmetadata: {name: p}\nspec:\n  currency: USD\n  rows:\n${rows}`;
  const { problems } = readYaml(text, "a.yaml");
  expect(problems).toHaveLength(1001);
  expect(problems.at(-1)?.message).toBe("3500 more problems are in this file.");
});

describe("whatever becomes of the text", () => {
  const intact = new Map(readResources([{ path: "a", text: sound }]).resources.routes.map((route) => [fullNameOf(route), route]));

  test("a mutated policy never throws, and a resource that is read is one that the text says in full", () => {
    const edit = fc.record({
      at: fc.nat(sound.length - 1),
      remove: fc.nat(6),
      insert: fc.oneof(
        fc.constant(""),
        fc.string({ maxLength: 4, unit: "binary" }),
        fc.constantFrom('"\\ud800"', ":", " ", "\n", "- ", "{", "]", "*a", "&a ", "'", '"', "#", "\t"),
      ),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let text = sound;
        for (const { at, remove, insert } of edits) text = text.slice(0, at) + insert + text.slice(at + remove);
        const read = readYaml(text, "a.yaml", rules);
        for (const problem of read.problems) {
          expect(problem.line).toBeGreaterThan(0);
          expect(problem.column).toBeGreaterThan(0);
        }
        // Another reader of the same text finds as many facts in the document as the message holds: none was dropped on the way.
        if (read.resources.length === 0) return;
        const lines = new LineCounter();
        const documents = new Map<string, unknown>();
        for (const document of parseAllDocuments(text, { lineCounter: lines, logLevel: "silent" })) {
          const { line, col } = lines.linePos(document.contents?.range[0] ?? 0);
          documents.set(`${line}:${col}`, document);
        }
        for (const { resource, placeOf } of read.resources) {
          const { line, column } = placeOf("");
          const document = documents.get(`${line}:${column}`);
          if (!isDocument(document)) throw new Error("no document begins where a resource does");
          expect(factsOf(toJson(schemaOf(kindOf(resource)), resource))).toBe(factsOf(document.toJS()));
        }
      }),
      { numRuns: 300 },
    );
  });

  test("removing any line of a resource changes what is read, or is a problem: none is silently without effect", () => {
    const lines = sound.split("\n");
    const whole = readResources([{ path: "a", text: sound }]);
    for (const [index, line] of lines.entries()) {
      if (line.trim() === "") continue;
      const read = readResources([{ path: "a", text: lines.toSpliced(index, 1).join("\n") }], rules);
      const same = listResources(read.resources).every((resource, at) => {
        const other = listResources(whole.resources)[at];
        return other !== undefined && other.$typeName === resource.$typeName && equals(schemaOf(kindOf(resource)), resource, other);
      });
      expect(same && read.problems.length === 0 && listResources(read.resources).length === 4, line).toBe(false);
    }
  });

  test("the intact policy has its route", () => expect(intact.get("default/fast")?.$typeName).toBe(ModelRouteSchema.typeName));
});

/** How many scalars a tree has that are not what an absent one would be. */
function factsOf(value: unknown): number {
  if (value === null || value === undefined || value === false || value === "" || value === 0 || value === "0") return 0;
  if (typeof value !== "object") return 1;
  return Object.values(value).reduce((sum: number, part) => sum + factsOf(part), 0);
}
