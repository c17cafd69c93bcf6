/** The page of providers says of the table what the table says, and its examples are policy without a finding. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { check } from "../control/cli/check.ts";
import { problemText, readResources } from "../proto/resources.ts";
import type { Capability } from "../sidecar/dialects/capabilities.ts";
import { type ProviderRow, providerRows } from "../sidecar/providers.ts";

const path = new URL("../docs/providers.md", import.meta.url);
const begin = "<!-- rows: begin -->\n";
const end = "<!-- rows: end -->\n";

test("the rows on the page are those of the table", () => {
  const page = readFileSync(path, "utf8");
  const [from, to] = [page.indexOf(begin) + begin.length, page.indexOf(end)];
  expect(to).toBeGreaterThan(from - 1);
  const generated = `\n${written(Object.entries(providerRows))}\n`;
  if (process.env.UPDATE_GOLDEN === "1") writeFileSync(path, page.slice(0, from) + generated + page.slice(to));
  else expect(page.slice(from, to)).toBe(generated);
});

test("the examples are policy without a finding", () => {
  const blocks = [...readFileSync(path, "utf8").matchAll(/^```yaml\n(.*?)^```/gms)].map(([, block]) => block ?? "");
  const route = `apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: { name: own }
spec: { match: { models: ["small-*"] }, targets: [{ provider: own-gpus }] }`;
  const sources = [...blocks, route].map((text, index) => ({ path: `block-${index}.yaml`, text }));
  const findings = check(readResources(sources), { exposed: false }).map(problemText);
  // The example keeps to one place: a house's own network needs neither key nor TLS.
  expect(findings.filter((finding) => !finding.includes("[policy/plain-http]"))).toEqual([]);
  expect(blocks.length).toBe(4);
});

test("a row's lines are to be read in its table", () => {
  const row: ProviderRow = {
    dialect: "openai",
    endpoint: "",
    keyVariable: undefined,
    keyHeader: "x-key",
    keyPrefix: "",
    maxTokensField: "max_tokens",
    developerRole: false,
    streamUsage: false,
    openai: { toolCallIdLength: 9, query: { v: "1" } },
    capabilities: [
      { parameter: "stop", support: "unsupported", how: "no", models: "a*" },
      { parameter: "stop", support: "unsupported", how: "no", models: "b*" },
      ...["a*", "b*"].map((models): Capability => ({ parameter: "n", support: "unsupported", how: "no", models })),
      { parameter: "seed", support: "mapped", how: "" },
    ],
    modelPatterns: [],
  };
  expect(written([["r", row]]).split("\n")).toEqual(
    [
      "| row | dialect   | address     | key                       |",
      "| --- | --------- | ----------- | ------------------------- |",
      "| `r` | openai    | yours       | `x-key`                   |",
      "",
      "### `r`",
      "",
      "Limit in `max_tokens`. Developers speak as system. Usage in streams is not asked for. `tool_call_id_length`: 9. `query`: v=1.",
      "",
      "| parameters | models | support | how |",
      "| --------- | ------------ | ----------- | --- |",
      "| `stop`, `n`    | `a*`, `b*`   | unsupported | no  |",
      "| `seed`    | all          | mapped      |     |",
    ].map((line) => (line.startsWith("|") ? expect.stringMatching(cells(line)) : line)),
  );
});

/** A row of a table whatever its columns' widths. */
function cells(line: string): RegExp {
  const texts = line.split("|").slice(1, -1);
  const escaped = texts.map((text) => (/^ -+ $/.test(text) ? "-+" : text.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
  return new RegExp(`^\\|${escaped.map((text) => ` ${text} *\\|`).join("")}$`);
}

/** All tables, as Markdown. */
function written(rows: readonly (readonly [string, ProviderRow])[]): string {
  const overview = rows.map(([name, row]) => [
    `\`${name}\``,
    row.dialect,
    row.endpoint === "" ? "yours" : `\`${row.endpoint}\``,
    `\`${row.keyHeader}\`${row.keyVariable === undefined ? "" : `, by custom in \`${row.keyVariable}\``}`,
  ]);
  const sections = rows.flatMap(([name, row]) => {
    const differences = differencesOf(row);
    const capabilities = linesOf(row.capabilities ?? []);
    if (differences === "" && capabilities.length === 0) return [];
    const parts = [
      `### \`${name}\``,
      differences,
      capabilities.length === 0 ? "" : table(["parameters", "models", "support", "how"], capabilities),
    ];
    return [parts.filter((part) => part !== "").join("\n\n")];
  });
  return [table(["row", "dialect", "address", "key"], overview), ...sections].join("\n\n");
}

/** How a row differs from the dialect, in a line. */
function differencesOf(row: ProviderRow): string {
  const properties = (own: object): string[] =>
    Object.entries(own).map(([property, value]) => `\`${asInPolicy(property)}\`: ${shown(value)}.`);
  if (row.dialect === "responses") return properties(row.responses ?? {}).join(" ");
  if (row.dialect !== "openai") return "";
  const said = [`Limit in \`${row.maxTokensField}\`.`];
  if (!row.developerRole) said.push("Developers speak as system.");
  if (!row.streamUsage) said.push("Usage in streams is not asked for.");
  return [...said, ...properties(row.openai ?? {})].join(" ");
}

/** A property's name as policy has it. */
function asInPolicy(property: string): string {
  return property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([key, member]) => `${key}=${String(member)}`)
    .join(", ");
}

/** One line for all parameters of which the same holds for the same models. */
function linesOf(capabilities: readonly Capability[]): string[][] {
  const models = new Map<string, { readonly capability: Capability; readonly models: string[] }>();
  for (const capability of capabilities) {
    const key = JSON.stringify([capability.parameter, capability.support, capability.how]);
    const line = models.get(key) ?? { capability, models: [] };
    models.set(key, line);
    line.models.push(capability.models === undefined ? "all" : `\`${capability.models}\``);
  }
  const lines = new Map<string, { readonly parameters: string[]; readonly rest: string[] }>();
  for (const { capability, models: patterns } of models.values()) {
    const rest = [patterns.join(", "), capability.support, capability.how];
    const line = lines.get(rest.join("|")) ?? { parameters: [], rest };
    lines.set(rest.join("|"), line);
    line.parameters.push(`\`${capability.parameter}\``);
  }
  return [...lines.values()].map(({ parameters, rest }) => [parameters.join(", "), ...rest]);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)));
  const line = (texts: readonly string[]): string =>
    `| ${widths.map((width, column) => (texts[column] ?? "").padEnd(width)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map((row) => line(row))].join("\n");
}
