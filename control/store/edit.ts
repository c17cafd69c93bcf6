/**
 * Changes of policy as changes of files that people keep: a resource is replaced where it stands, and everything else in its file stays
 * byte for byte; a new one gets a file of its own.
 */
import { join } from "node:path";
import { type Document, isMap, isScalar, parseAllDocuments } from "yaml";
import { defaultNamespace, type Resource } from "../../proto/resources/kinds.ts";
import { writeForm } from "../../proto/resources/written.ts";
import { listResources, type PolicyFile, problemText, type Rules, readResources } from "../../proto/resources.ts";
import { sha256 } from "../sha256.ts";
import { yamlOf } from "../yaml.ts";
import { keptOf, keyOf, keyText } from "./change.ts";
import type { ResourceKey, StoreChange } from "./store.ts";

/** A change of one file. */
export interface FileEdit {
  readonly path: string;
  /** What stands in it; undefined if it is not there. */
  readonly before: string | undefined;
  /** What shall stand in it; undefined if it goes. */
  readonly after: string | undefined;
}

/**
 * What makes `upserts` stand in the files, and `removals` not. The files are policy without an error. `placeOf` names the file for a
 * resource that none of them has; one that is there already gets it at its end.
 */
export function editFiles(
  placeOf: (key: ResourceKey) => string,
  files: readonly PolicyFile[],
  upserts: readonly Resource[],
  removals: readonly ResourceKey[],
): FileEdit[] {
  const wanted = new Map(upserts.map((resource) => [keyText(keyOf(resource)), resource]));
  const gone = new Set(removals.map(keyText));
  const edits: FileEdit[] = [];
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  for (const { path, text } of files) {
    const after = editText(path, text, wanted, gone);
    if (after === text) continue;
    edits.push({ path, before: text, after });
  }
  for (const resource of wanted.values()) {
    const path = placeOf(keyOf(resource));
    const edited = edits.findIndex((edit) => edit.path === path);
    const standing = edited >= 0 ? edits[edited]?.after : texts.get(path);
    // Somebody may have put another resource into the file that this one would get.
    const after = standing === undefined ? yamlOf(resource) : `${withLineEnd(standing)}---\n${yamlOf(resource)}`;
    const edit = { path, before: texts.get(path), after };
    if (edited >= 0) edits[edited] = edit;
    else edits.push(edit);
  }
  return edits;
}

/** The file that a resource gets in a folder. */
export function placeIn(folder: string): (key: ResourceKey) => string {
  return ({ kind, namespace, name }) => join(folder, kind, `${namespace}.${name}.yaml`);
}

/** Reads what edited files would say, and throws if it is anything but the policy before with the change: such an edit must not be made. */
export function checkEdits(
  files: readonly PolicyFile[],
  edits: readonly FileEdit[],
  before: readonly Resource[],
  change: Pick<StoreChange, "upserts" | "removals">,
  rules: Rules,
): void {
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  for (const { path, after } of edits) {
    if (after === undefined) texts.delete(path);
    else texts.set(path, after);
  }
  const { resources, problems } = readResources(
    [...texts].map(([path, text]) => ({ path, text })),
    rules,
  );
  const expected = new Map(before.map((resource) => [keyText(keyOf(resource)), resource]));
  for (const key of change.removals) expected.delete(keyText(key));
  for (const { resource } of change.upserts) expected.set(keyText(keyOf(resource)), resource);
  const [found, wanted] = [digestOf(listResources(resources)), digestOf([...expected.values()])];
  const wrong = problems.find(({ severity }) => severity === "error");
  if (wrong !== undefined) throw new Error(`the files would be no policy: ${problemText(wrong)}`);
  if (found !== wanted) throw new Error("the files could not be edited so that they say what was asked for");
}

/** A hash of what resources say, in whatever order they come. */
export function digestOf(resources: readonly Resource[]): string {
  const lines = resources.map((resource) => `${keyText(keyOf(resource))} ${sha256(keptOf(resource, "").bytes)}`);
  return sha256(lines.sort().join("\n"));
}

/** The text of a file with its resources replaced or removed; undefined if none is left. What was found is taken out of `wanted`. */
function editText(path: string, text: string, wanted: Map<string, Resource>, gone: ReadonlySet<string>): string | undefined {
  const documents = parseAllDocuments(text, { version: "1.2", schema: "core", intAsBigInt: true, uniqueKeys: false, logLevel: "silent" });
  let edited = text;
  let left = 0;
  let removed = 0;
  // From the end, so that places before it hold.
  for (const document of [...documents].reverse()) {
    const key = keyOfDocument(document);
    if (key === undefined) continue;
    const resource = wanted.get(key);
    if (gone.has(key)) {
      edited = cut(edited, document);
      removed += 1;
      continue;
    }
    left += 1;
    if (resource === undefined) continue;
    wanted.delete(key);
    edited = replace(edited, document, path, resource);
  }
  return left === 0 && removed > 0 ? undefined : edited;
}

/** Which resource a document holds; undefined if it is empty. */
function keyOfDocument(document: Document.Parsed): string | undefined {
  const { contents } = document;
  if (!isMap(contents)) return undefined;
  const kind = textAt(document, ["kind"]);
  const namespace = textAt(document, ["metadata", "namespace"]);
  return `${kind} ${namespace === "" ? defaultNamespace : namespace} ${textAt(document, ["metadata", "name"])}`;
}

function textAt(document: Document.Parsed, path: readonly string[]): string {
  let node: unknown = document.contents;
  for (const key of path) {
    const map = isMap(node) ? node : undefined;
    const pair = map?.items.find((item) => isScalar(item.key) && item.key.value === key);
    const value = pair?.value;
    node =
      typeof value === "object" && value !== null && "resolve" in value && typeof value.resolve === "function"
        ? value.resolve(document)
        : value;
  }
  return isScalar(node) && typeof node.value === "string" ? node.value : "";
}

function replace(text: string, document: Document.Parsed, path: string, resource: Resource): string {
  const [start, end] = rangeOf(document);
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  // What was indented as a whole is not any more: what is written here begins at the first column.
  const from = text.slice(lineStart, start).trim() === "" ? lineStart : start;
  const isBlock = text.slice(start, end).endsWith("\n");
  const written = /\.json$/i.test(path) ? JSON.stringify(writeForm(resource).form, null, 2) : yamlOf(resource).trimEnd();
  // Behind the line that begins a document nothing of several lines can stand.
  const head = from === start && lineStart !== start ? "\n" : "";
  return `${text.slice(0, from)}${head}${written}${isBlock ? "\n" : ""}${text.slice(end)}`;
}

/** Takes a document out, and the line that begins it if nothing else depends on that. */
function cut(text: string, document: Document.Parsed): string {
  const [start, end] = rangeOf(document);
  const marker = document.range[0];
  const isBare = /^---[ \t]*\r?\n?\s*$/.test(text.slice(marker, start));
  // A line with a version belongs to the marker that follows it.
  const from = isBare && !document.directives.yaml.explicit ? marker : start;
  return `${text.slice(0, from)}${text.slice(end)}`;
}

function rangeOf(document: Document.Parsed): readonly [start: number, end: number] {
  const range = document.contents?.range;
  if (range === undefined || range === null) throw new Error("a document with content has a place");
  return [range[0], range[1]];
}

function withLineEnd(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}
