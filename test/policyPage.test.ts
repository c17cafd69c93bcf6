/** The examples on the policy page are what they say: one policy without a finding, and one with just the errors that are shown. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { check } from "../control/cli/check.ts";
import { kindNames } from "../proto/resources/kinds.ts";
import { kindOf, listResources, problemText, readResources } from "../proto/resources.ts";

const page = readFileSync(new URL("../docs/policy.md", import.meta.url), "utf8");
const refused = page.indexOf("## What is refused");

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, block]) => block ?? "");
}

test("the examples are one policy, of every kind, without a finding", () => {
  const read = readResources(blocks(page.slice(0, refused), "yaml").map((text, index) => ({ path: `block-${index}.yaml`, text })));
  expect(check(read, { exposed: true }).map(problemText)).toEqual([]);
  expect(new Set(listResources(read.resources).map(kindOf))).toEqual(new Set(kindNames));
});

test("beside them, what is refused is refused with the lines that are shown", () => {
  const examples = blocks(page.slice(0, refused), "yaml").map((text, index) => ({ path: `block-${index}.yaml`, text }));
  const [text, ...more] = blocks(page.slice(refused), "yaml");
  expect([text, more.length]).toEqual([expect.any(String), 0]);
  const { problems } = readResources([...examples, { path: "policy.yaml", text: text ?? "" }]);
  expect(problems.map((problem) => `${problemText(problem)}\n`).join("")).toBe(blocks(page.slice(refused), "text")[0]);
});

test("every kind has its section", () => {
  for (const kind of kindNames) expect(page).toContain(`\n## ${kind}\n`);
});
