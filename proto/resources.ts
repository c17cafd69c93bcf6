/**
 * Policy as text: YAML and JSON to resources, with everything that is wrong with them.
 *
 * Reading is strict and complete. Unknown keys, wrong types, broken rules and names that lead nowhere are errors with file, line and
 * column, all of them at once; a resource with an error is not read at all, so that none is ever half of what was meant.
 *
 * Importing this file loads the YAML parser and the rule checker, some 100 ms; whoever only needs the types imports those.
 */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { closest } from "./resources/closest.ts";
import { findConflicts } from "./resources/consistency.ts";
import { type Documents, isRefusedWhole, readDocuments, type Tree } from "./resources/document.ts";
import {
  fullNameOf,
  groupResources,
  isKindName,
  type KindName,
  kindNames,
  kindOf,
  nameOf,
  type Resource,
  type Resources,
  schemaOf,
} from "./resources/kinds.ts";
import { compareProblems, compareText, type Place, type Problem, type ProblemId } from "./resources/problem.ts";
import { cutDocuments, type SoundResource } from "./resources/remembered.ts";
import { type Breach, brokenRules, furtherBreaches, makeRules, type Rules } from "./resources/rules.ts";
import { isShowable, shown } from "./resources/secrecy.ts";
import { readShape, type Shape } from "./resources/shape.ts";

export {
  fullNameOf,
  groupResources,
  type KindName,
  kindOf,
  listResources,
  nameOf,
  namespaceOf,
  type Resource,
  type Resources,
} from "./resources/kinds.ts";
export { type Problem, type ProblemId, problemText } from "./resources/problem.ts";
export { makeRules, type Rules } from "./resources/rules.ts";

/** Problems told of one file at most. Someone who has a thousand has given the wrong file. */
const problemsMax = 1000;

/** A file's path, as it is to stand in messages, and its text. */
export interface PolicyFile {
  readonly path: string;
  readonly text: string;
}

/** A resource, and where each part of it stands. */
export interface Located {
  readonly resource: Resource;
  /** Its namespace and name, as they may be shown. */
  readonly name: string;
  /** The file's path; empty if it came from none. */
  readonly file: string;
  /** Where a field such as `spec.targets[1].provider` stands, or if it is not there what would hold it. */
  placeOf(field: string): Place;
}

/** What one file holds. */
export interface ReadFile {
  /** The resources without an error, in the order of the file. */
  readonly resources: readonly Located[];
  readonly problems: readonly Problem[];
  /** What is there and has an error, as far as it could be read, and the fields that could not be. */
  readonly broken: readonly (Located & { readonly isSpoiled: (field: string) => boolean })[];
  /** Whether the name of everything in the file is known. */
  readonly whole: boolean;
}

/** What a set of files holds. */
export interface ReadResources {
  /** The resources without an error of their own. Only a set without any error is policy. */
  readonly resources: Resources;
  /** Everything that is wrong, in the order of files, lines and columns. */
  readonly problems: readonly Problem[];
  /** Where a field of a resource stands; undefined if the resource is not in these files. `name` has the namespace: `default/fast`. */
  locate(kind: string, name: string, field: string): (Place & { readonly file: string }) | undefined;
}

/** Reads a set of files that together are the policy. Their order does not matter. Whoever reads often keeps `rules` and passes them in. */
export function readResources(files: readonly PolicyFile[], rules = makeRules()): ReadResources {
  return joinFiles(files.toSorted((a, b) => compareText(a.path, b.path)).map((file) => readYaml(file.text, file.path, rules)));
}

/**
 * Puts together what several files hold, and looks whether all of it fits. `standing` is policy beside the files: what they hold too
 * takes the place of what stands.
 */
export function joinFiles(read: readonly ReadFile[], standing: readonly Resource[] = []): ReadResources {
  const problems = read.flatMap((file) => file.problems);
  const found = new Map<string, Located>();
  for (const located of read.flatMap((file) => file.resources)) {
    const key = `${kindOf(located.resource)} ${fullNameOf(located.resource)}`;
    const earlier = found.get(key);
    if (earlier === undefined) found.set(key, located);
    else {
      const message =
        earlier.file === ""
          ? "The same kind and name are given twice."
          : `The same kind and name stand in ${earlier.file}, line ${earlier.placeOf("").line}.`;
      const breach = { field: "metadata.name", message, hint: "Remove one of the two, or give it another name or namespace." };
      problems.push(problemOf(located, { id: "policy/duplicate-resource", ...breach }));
    }
  }
  const broken = read.flatMap((file) => file.broken);
  const given = new Set([...found.keys(), ...broken.map(({ resource }) => `${kindOf(resource)} ${fullNameOf(resource)}`)]);
  const others = standing.filter((resource) => !given.has(`${kindOf(resource)} ${fullNameOf(resource)}`));
  const resources = groupResources([...[...found.values()].map(({ resource }) => resource), ...others]);
  const whole = read.every((file) => file.whole);
  const locatedOf = new Map([...found.values(), ...broken].map((located) => [located.resource, located]));
  const spoiledOf = new Map(broken.map(({ resource, isSpoiled }) => [resource, isSpoiled]));
  for (const conflict of findConflicts(
    resources,
    broken.map(({ resource }) => resource),
    whole,
  )) {
    const { resource } = conflict;
    const located = locatedOf.get(resource) ?? { resource, name: shownNameOf(resource), file: "", placeOf: nowhere };
    if (!spoiledOf.get(conflict.resource)?.(conflict.field)) problems.push(problemOf(located, conflict));
  }
  return {
    resources,
    problems: problems.sort(compareProblems),
    locate: (kind, name, field) => {
      const located = found.get(`${kind} ${name}`);
      return located === undefined ? undefined : { file: located.file, ...located.placeOf(field) };
    },
  };
}

/** Reads one file, without a look at others: names that lead nowhere are not found out. */
export function readYaml(text: string, file: string, rules = makeRules()): ReadFile {
  return readSound(text, file, rules) ?? readParsed(readDocuments(text), file, rules);
}

/**
 * Reads a file document by document, those that are remembered from memory; undefined if anything is wrong with it, which is for the
 * parser of the whole to tell: what it says of one document depends on the others, and places are those of the file.
 */
function readSound(text: string, file: string, rules: Rules): ReadFile | undefined {
  const { remembered } = rules;
  if (remembered === undefined || isRefusedWhole(text)) return undefined;
  const documents = cutDocuments(text);
  if (documents === undefined) return undefined;
  const resources: Located[] = [];
  for (const document of documents) {
    let sound = remembered.find(document.text);
    if (sound === undefined) {
      const read = readParsed(readDocuments(document.text), "", rules);
      if (read.problems.length > 0 || read.broken.length > 0 || !read.whole) return undefined;
      sound = read.resources.map(({ resource, name }) => ({ resource, name }));
      remembered.keep(document.text, sound);
    }
    resources.push(...located(sound, document, file, rules));
  }
  return { resources, problems: [], broken: [], whole: true };
}

/** Resources of a document as those of a file. Where their fields stand is found out when somebody asks, which is when something is wrong. */
function located(
  sound: readonly SoundResource[],
  document: { readonly text: string; readonly linesBefore: number },
  file: string,
  rules: Rules,
): Located[] {
  let again: ReadFile | undefined;
  return sound.map(({ resource, name }, index) => ({
    resource,
    name,
    file,
    placeOf(field) {
      again ??= readParsed(readDocuments(document.text), "", rules);
      const { line, column } = again.resources[index]?.placeOf(field) ?? nowhere();
      return { line: line + document.linesBefore, column };
    },
  }));
}

/** Holds a resource that did not come as text against the same rules as text. Whether it has fields that this build does not know is not looked at. */
export function readMessage(resource: Resource, rules = makeRules()): ReadFile {
  const kind = kindOf(resource);
  let json: JsonValue;
  try {
    json = toJson(schemaOf(kind), resource);
  } catch {
    const message = "A time or duration is outside of what can be written, or a text is not Unicode.";
    const name = shownNameOf(resource);
    const problem: Problem = { id: "policy/bad-text", severity: "error", kind, name, field: "", message, hint: "Send valid values." };
    return { resources: [], problems: [problem], broken: [], whole: false };
  }
  return readParsed({ documents: [{ root: treeOf(json), flawed: false }], flaws: [], placeOf: nowhere }, "", rules);
}

/** Proto JSON as the tree that reading it as text would make, without places. */
function treeOf(json: JsonValue): Tree {
  const at = 0;
  if (json === null) return { is: "nothing", at };
  if (Array.isArray(json)) return { is: "list", at, items: json.map(treeOf) };
  switch (typeof json) {
    case "string":
      return { is: "text", at, value: json };
    case "boolean":
      return { is: "truth", at, value: json };
    case "number":
      return Number.isInteger(json) ? { is: "whole", at, value: BigInt(json) } : { is: "fraction", at, value: json };
    default:
      return { is: "mapping", at, entries: Object.entries(json).map(([key, value]) => ({ key, keyAt: at, value: treeOf(value) })) };
  }
}

function readParsed({ documents, flaws, placeOf }: Documents, file: string, rules: Rules): ReadFile {
  const resources: Located[] = [];
  const broken: ReadFile["broken"][number][] = [];
  const problems: Problem[] = flaws.map(({ id, at, message, hint }) => {
    return { id, severity: "error", kind: "", name: "", field: "", message, hint, ...placed(file, placeOf(at)) };
  });
  let whole = flaws.length === 0;
  for (const { root, flawed } of documents) {
    const kind = readKind(root, (id, at, field, message, hint) => {
      problems.push({ id, severity: "error", kind: "", name: "", field, message, hint, ...placed(file, placeOf(at)) });
    });
    if (kind === undefined) {
      whole = false;
      continue;
    }
    const schema = schemaOf(kind);
    const shape = readShape(schema, root);
    // What does not fit was left out, so that the rules are checked for the rest; the resource is not used then.
    const resource = fromJson(schema, shape.json as JsonValue) as Resource;
    const name = shownNameOf(resource);
    const placeOfField = (field: string): Place => placeOf(offsetOf(shape, field));
    const problem = (breach: Breach, place: Place): Problem => {
      const { id, field, message, hint } = breach;
      return { id, severity: "error", kind, name, field, message, hint, ...placed(file, place) };
    };
    const found = shape.misfits.map((misfit) => problem(misfit, placeOf(misfit.at)));
    for (const breach of [
      ...brokenRules(rules, schema, resource, (field) => shape.places.get(field)?.value),
      ...furtherBreaches(resource),
    ]) {
      if (!isSpoiled(shape, breach.field)) found.push(problem(breach, placeOfField(breach.field)));
    }
    problems.push(...found);
    const located = { resource, name, file, placeOf: placeOfField };
    if (found.length === 0 && !flawed) resources.push(located);
    else if (nameOf(resource) === "") whole = false;
    else broken.push({ ...located, isSpoiled: (field) => isSpoiled(shape, field) });
  }
  return { resources, problems: atMost(problems, file), broken, whole };
}

/** The kind that a document says it is of. `tell` hears why it is none. */
function readKind(
  root: Tree,
  tell: (id: ProblemId, at: number, field: string, message: string, hint: string) => void,
): KindName | undefined {
  const names = kindNames.join(", ");
  if (root.is !== "mapping") {
    tell(
      "policy/wrong-type",
      root.at,
      "",
      "A document of policy is a mapping with apiVersion, kind, metadata and spec.",
      "Write one, or remove this document.",
    );
    return undefined;
  }
  const entry = root.entries.find(({ key }) => key === "kind");
  if (entry === undefined) {
    const meant = root.entries.find(({ key }) => closest(key, ["kind"]) !== undefined);
    const hint = meant === undefined ? "Add it." : `Did you mean kind where ${shown(meant.key)} stands?`;
    tell("policy/missing-field", meant?.keyAt ?? root.at, "kind", `kind is missing; known: ${names}.`, hint);
    return undefined;
  }
  if (entry.value.is !== "text") {
    tell("policy/wrong-type", entry.value.at, "kind", `Expected the name of a kind: ${names}.`, "Write one of these.");
    return undefined;
  }
  if (isKindName(entry.value.value)) return entry.value.value;
  const meant = closest(entry.value.value, kindNames);
  const message = `Unknown kind ${shown(entry.value.value)}; known: ${names}.`;
  tell("policy/unknown-kind", entry.value.at, "kind", message, meant === undefined ? "Write one of these." : `Did you mean ${meant}?`);
  return undefined;
}

/** What a resource is called, as it may be shown; empty if it has no name, or one that may be a secret. */
function shownNameOf(resource: Resource): string {
  const name = fullNameOf(resource);
  return nameOf(resource) !== "" && isShowable(name) ? name : "";
}

/** Where a field stands; if it is not there, the key of what would hold it. */
function offsetOf(shape: Shape, field: string): number {
  const exact = shape.places.get(field);
  if (exact !== undefined) return exact.value.at;
  for (let path = parentOf(field); path !== ""; path = parentOf(path)) {
    const place = shape.places.get(path);
    if (place !== undefined) return place.keyAt;
  }
  return shape.places.get("")?.keyAt ?? 0;
}

/** The path of what holds a field; empty at the top. */
function parentOf(path: string): string {
  const entry = /^(.*)\["(?:[^"\\]|\\.)*"\]$/s.exec(path);
  if (entry !== null) return entry[1] ?? "";
  return path.slice(0, Math.max(path.lastIndexOf("."), path.lastIndexOf("["), 0));
}

/** Whether a field, or something that holds it, is known not to fit: then a broken rule is nothing new. */
function isSpoiled(shape: Shape, field: string): boolean {
  for (let path = field; path !== ""; path = parentOf(path)) if (shape.spoiled.has(path)) return true;
  return false;
}

function problemOf(located: Located, breach: Breach): Problem {
  const { resource, name, file } = located;
  const { id, field, message, hint } = breach;
  return {
    id,
    severity: "error",
    kind: kindOf(resource),
    name,
    field,
    message,
    hint,
    ...placed(file, located.placeOf(field)),
  };
}

/** The place of a problem, for what came from a file. */
function placed(file: string, place: Place): Pick<Problem, "file" | "line" | "column"> {
  return file === "" ? {} : { file, ...place };
}

/** The place of what came from no text. */
function nowhere(): Place {
  return { line: 0, column: 0 };
}

function atMost(problems: readonly Problem[], file: string): Problem[] {
  const sorted = problems.toSorted(compareProblems);
  if (sorted.length <= problemsMax) return sorted;
  const message = `${sorted.length - problemsMax} more problems are in this file.`;
  const rest: Problem = {
    id: "policy/too-many",
    severity: "error",
    kind: "",
    name: "",
    field: "",
    message,
    hint: "Correct the first ones and check again.",
    file,
  };
  return [...sorted.slice(0, problemsMax), rest];
}
