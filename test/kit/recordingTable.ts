/**
 * What became of every recorded case, by provider and kind.
 *
 * A test is about a case if the case's name, such as `openai/chat-basic`, is the name of the test or of a group around it, in whichever
 * file it stands: who reads more recordings names tests so, and the table counts them. A case that no test is about is a failure, unless
 * `unread` says why nobody reads its grammar.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A test that ran, or did not. */
export interface RecordedTest {
  /** Its name after those of the groups around it, outermost first. */
  readonly names: readonly string[];
  readonly state: "passed" | "failed" | "skipped";
  /** Why it was skipped, or empty. */
  readonly note: string;
}

/** What all cases came to. */
export interface RecordingTable {
  /** The table and what is to be said below it, in lines. */
  readonly text: string;
  /** What is wrong, each a line; none if every case passed or has a reason. */
  readonly wrong: readonly string[];
}

/** A case as far as the table looks at it. */
export interface RecordedCase {
  /** Such as `openai/chat-basic`. */
  readonly name: string;
  /** Its grammar, such as `openai.chat`. */
  readonly api: string;
  readonly kinds: readonly Kind[];
}

type Kind = (typeof kinds)[number];

/** Makes the table. `unread`: why nobody reads a grammar, by its name; a reason that no longer holds is said below the table. */
export function recordingTable(
  cases: readonly RecordedCase[],
  tests: readonly RecordedTest[],
  unread: Readonly<Record<string, string>> = {},
): RecordingTable {
  const outcomes = new Map(cases.map(({ name, api }) => [name, outcomeOf(name, tests, unread[api])]));
  const wrong = [...outcomes].flatMap(([name, { state, why }]) => (state === "failed" || state === "missing" ? [`${name}: ${why}`] : []));
  const providers = [...new Set(cases.map(({ name }) => providerOf(name)))];
  const row = (title: string, some: readonly RecordedCase[]): string[] => [
    title,
    ...kinds.map((kind) =>
      cell(
        some.filter((each) => each.kinds.includes(kind)),
        outcomes,
      ),
    ),
    cell(some, outcomes),
  ];
  const rows = [
    ["provider", ...kinds, "cases"],
    ...providers.map((provider) =>
      row(
        provider,
        cases.filter(({ name }) => providerOf(name) === provider),
      ),
    ),
    row("all", cases),
  ];
  const reasons = [...outcomes].flatMap(([name, { state, why }]) => (state === "passed" ? [] : [`${state}: ${name}: ${why}`]));
  for (const api of Object.keys(unread)) {
    const excused = cases.some((each) => each.api === api && outcomes.get(each.name)?.state === "excused");
    if (!excused) reasons.push(`news: ${api} is read, or is nowhere, and need not be excused`);
  }
  const legend = "passed/failed/skipped or missing; a case counts in every column that it belongs to, and once in the last";
  return { text: [...aligned(rows), legend, ...reasons].join("\n"), wrong };
}

/** All cases of a folder of recordings, by name. Throws if they are not those that its README counts. */
export function recordedCases(folder: string): RecordedCase[] {
  const counted = new Map(
    [...readFileSync(join(folder, "README.md"), "utf8").matchAll(/^\| ([a-z-]+) \| (\d+) \|$/gm)].map(([, provider = "", count]) => [
      provider,
      Number(count),
    ]),
  );
  const cases: RecordedCase[] = [];
  for (const provider of readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
    const names = readdirSync(join(folder, provider.name)).sort();
    if (names.length !== counted.get(provider.name)) {
      throw new Error(`${provider.name} has ${names.length} recordings, and their README counts ${counted.get(provider.name)}`);
    }
    for (const name of names) {
      const meta = JSON.parse(readFileSync(join(folder, provider.name, name, "meta.json"), "utf8")) as Meta;
      cases.push({ name: `${provider.name}/${name}`, api: meta.api, kinds: kindsOf(meta) });
    }
    counted.delete(provider.name);
  }
  if (counted.size > 0) throw new Error(`there are no recordings of ${[...counted.keys()].join(", ")}`);
  return cases.sort((a, b) => (a.name < b.name ? -1 : 1));
}

const kinds = ["unary", "stream", "tools", "reasoning", "image", "errors", "embeddings"] as const;

interface Meta {
  readonly api: string;
  readonly stream: boolean;
  readonly tags: readonly string[];
  readonly expect: {
    readonly kind: string;
    readonly tool_calls?: readonly unknown[];
    readonly reasoning_text?: string;
    readonly usage?: { readonly reasoning_tokens?: number };
    readonly stream_error?: unknown;
    readonly complete?: boolean;
  };
}

function kindsOf({ stream, tags, expect }: Meta): Kind[] {
  if (expect.kind === "error") return ["errors"];
  if (expect.kind === "embeddings") return ["embeddings"];
  const found: Kind[] = [stream ? "stream" : "unary"];
  if ((expect.tool_calls ?? []).length > 0 || tags.includes("tools") || tags.includes("tool-result")) found.push("tools");
  if (expect.reasoning_text !== undefined || (expect.usage?.reasoning_tokens ?? 0) > 0) found.push("reasoning");
  if (tags.includes("multimodal")) found.push("image");
  if (expect.stream_error !== undefined || expect.complete === false) found.push("errors");
  return found;
}

type State = "passed" | "failed" | "skipped" | "missing" | "excused";

function outcomeOf(name: string, tests: readonly RecordedTest[], excuse: string | undefined): { state: State; why: string } {
  const about = tests.filter(({ names }) => names.includes(name));
  const failed = about.filter(({ state }) => state === "failed");
  if (failed.length > 0) return { state: "failed", why: `fails in ${failed.map(({ names }) => names.join(" > ")).join(", ")}` };
  if (about.some(({ state }) => state === "passed")) return { state: "passed", why: "" };
  if (excuse !== undefined) return { state: "excused", why: excuse };
  const notes = [...new Set(about.map(({ note }) => note).filter((note) => note !== ""))];
  if (about.length === 0) return { state: "missing", why: "no test is about it" };
  return notes.length === 0
    ? { state: "missing", why: "its tests are skipped and do not say why" }
    : { state: "skipped", why: notes.join("; ") };
}

function cell(some: readonly RecordedCase[], outcomes: ReadonlyMap<string, { readonly state: State }>): string {
  if (some.length === 0) return "-";
  const count = (...states: State[]): number => some.filter(({ name }) => states.includes(outcomes.get(name)?.state ?? "missing")).length;
  return `${count("passed")}/${count("failed")}/${count("skipped", "missing", "excused")}`;
}

function providerOf(name: string): string {
  return name.slice(0, name.indexOf("/"));
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row.map((text, column) => (column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0))).join("  "),
  );
}
