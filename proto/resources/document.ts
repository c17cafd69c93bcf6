/**
 * YAML and JSON text to trees whose every part knows its place.
 *
 * The trees hold only what policy can be made of: mappings with text keys, lists, and the scalars of the YAML 1.2 core schema.
 * Everything else that YAML can say (tags, merge keys, other versions, the same key twice) is refused here, so that nothing later
 * has to wonder what a text might have meant. Messages are our own words and hold no piece of the text: it may be a secret.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type ParsedNode,
  parseAllDocuments,
  type YAMLError,
  type YAMLMap,
  type YAMLSeq,
} from "yaml";
import type { Place, ProblemId } from "./problem.ts";

/** Characters of one file at most: a full price book of 10,000 rows fits, and reading it takes about a second. */
const charactersMax = 2 * 1024 * 1024;
/** Brackets, or hyphens in a row, that are open at once before the parser is not even asked: it makes an error of each, and takes minutes. */
const openMax = 1000;
/** Levels at most: no resource has more than a dozen, and every later step walks without counting again. */
const depthMax = 32;
/** Parts of one document at most, aliases counted each time: a full price book of 10,000 rows has 170,000. */
const partsMax = 400_000;
/** Syntax errors told for one document: the later ones mostly follow from the first. */
const syntaxErrorsMax = 10;

/** A part of a document. `at` is where it begins, in UTF-16 units from the start of the text. */
export type Tree =
  | { readonly is: "mapping"; readonly at: number; readonly entries: readonly Entry[] }
  | { readonly is: "list"; readonly at: number; readonly items: readonly Tree[] }
  | { readonly is: "text"; readonly at: number; readonly value: string }
  | { readonly is: "whole"; readonly at: number; readonly value: bigint }
  | { readonly is: "fraction"; readonly at: number; readonly value: number }
  | { readonly is: "truth"; readonly at: number; readonly value: boolean }
  | { readonly is: "nothing"; readonly at: number };

/** A key and its value. */
export interface Entry {
  readonly key: string;
  readonly keyAt: number;
  readonly value: Tree;
}

/** What one file holds. */
export interface Documents {
  /** The documents that can be understood, each with whether a flaw was found in it. Empty ones are left out. */
  readonly documents: readonly { readonly root: Tree; readonly flawed: boolean }[];
  readonly flaws: readonly Flaw[];
  /** Line and column of an offset. */
  placeOf(at: number): Place;
}

/** Something that the text may not say. */
export interface Flaw {
  readonly id: ProblemId;
  readonly at: number;
  readonly message: string;
  readonly hint: string;
}

/** Reads all documents of a text. JSON is read as what it is in YAML 1.2: the same thing. */
export function readDocuments(text: string): Documents {
  const flaws: Flaw[] = [];
  const lines = new LineCounter();
  const placeOf = (at: number): Place => {
    const { line, col } = lines.linePos(at);
    // The counter answers 0 for a text without any line; a reader's first line is 1.
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  if (text.length > charactersMax) {
    const message = `The file has ${text.length} characters; at most ${charactersMax} are read.`;
    flaws.push({ id: "policy/too-large", at: 0, message, hint: "Split it into several files." });
    return { documents: [], flaws, placeOf };
  }
  const hopeless = findHopeless(text);
  if (hopeless >= 0) {
    lines.addNewLine(0);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", end + 1)) lines.addNewLine(end + 1);
    return { documents: [], flaws: [tooDeep(hopeless)], placeOf };
  }
  const parsed = parseAllDocuments(text, {
    lineCounter: lines,
    version: "1.2",
    schema: "core",
    // Whole numbers keep every digit: an int64 does not fit into a double.
    intAsBigInt: true,
    resolveKnownTags: false,
    merge: false,
    // Looked for below: the parser compares each key with each.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "silent",
  });
  const documents: { root: Tree; flawed: boolean }[] = [];
  const end = text.trimEnd().length;
  for (const document of parsed) {
    const flawsBefore = flaws.length;
    const understood = addSyntaxFlaws(document, end, flaws);
    if (!understood || document.contents === null) continue;
    if (isScalar(document.contents) && document.contents.value === null && document.contents.source === "") continue;
    const root = new TreeMaker(flaws).make(document.contents);
    documents.push({ root, flawed: flaws.length > flawsBefore });
  }
  return { documents, flaws, placeOf };
}

/** Whether a text is refused as a whole, whatever its documents hold. */
export function isRefusedWhole(text: string): boolean {
  return text.length > charactersMax || findHopeless(text) >= 0;
}

/** Where so much is open at once that it cannot be policy; -1 if nowhere. Brackets in quotes count too: no text has a thousand. */
function findHopeless(text: string): number {
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === 0x5b || character === 0x7b) open += 1;
    else if (character === 0x5d || character === 0x7d) open -= 1;
    if (open > openMax) return at;
  }
  return text.search(hyphensInARow);
}

const hyphensInARow = new RegExp(`(?:[-?:] +){${openMax}}`);

/** Adds what the parser found. Returns whether the document's shape is certain enough to look further. */
function addSyntaxFlaws(document: Document.Parsed, end: number, flaws: Flaw[]): boolean {
  const told = new Set<string>();
  let understood = true;
  for (const error of [...document.errors, ...document.warnings]) {
    understood = false;
    const flaw = flawOf(error, end);
    const key = `${flaw.at} ${flaw.message}`;
    if (told.has(key) || told.size === syntaxErrorsMax) continue;
    told.add(key);
    flaws.push(flaw);
  }
  const version = document.directives?.yaml;
  if (version?.explicit && version.version !== "1.2") {
    const message = "The document says that it is YAML of another version; only YAML 1.2 is read.";
    flaws.push({ id: "policy/syntax", at: document.contents?.range[0] ?? 0, message, hint: "Remove the %YAML line." });
    understood = false;
  }
  return understood;
}

function flawOf(error: YAMLError, end: number): Flaw {
  const at = error.pos[0];
  if (error.code === "RESOURCE_EXHAUSTION") return tooDeep(at);
  if (at >= end) {
    const message = "The text ends where more is expected, such as a closing quote or bracket.";
    return { id: "policy/syntax", at, message, hint: "Close what is open; the file may not be complete." };
  }
  const [message, hint] = syntaxWords[error.code] ?? syntaxWordsOtherwise;
  return { id: "policy/syntax", at, message, hint };
}

/** What was seen and what to do, by the parser's code. The parser's own messages quote the text, which may be a secret. */
const syntaxWords: Readonly<Partial<Record<YAMLError["code"], readonly [message: string, hint: string]>>> = {
  BAD_INDENT: ["The indentation does not fit what stands around it.", "Align keys of one mapping in one column, with spaces."],
  TAB_AS_INDENT: ["A tab stands where indentation is expected.", "Indent with spaces."],
  MISSING_CHAR: ["A character is missing, such as a closing quote or bracket, a comma, or a blank after a colon.", "Add it."],
  BAD_DQ_ESCAPE: ["A text in double quotes has an escape that does not exist.", "Use single quotes, or write \\\\ for a backslash."],
  BAD_SCALAR_START: ["A text without quotes begins with a character that needs them.", "Put the text in quotes."],
  BLOCK_AS_IMPLICIT_KEY: [
    "A mapping begins inside a line that already holds one.",
    "Put texts with a colon in quotes, or begin a new line.",
  ],
  BLOCK_IN_FLOW: ["A list or mapping by indentation stands inside brackets.", "Write it with brackets too."],
  MULTILINE_IMPLICIT_KEY: ["A key goes over several lines.", "Write the key on one line; a colon may be missing before."],
  KEY_OVER_1024_CHARS: ["A key is longer than 1024 characters.", "Shorten it; a colon may be missing before."],
  BAD_ALIAS: ["An alias is written wrongly.", "Write *name, or put texts that begin with * in quotes."],
  ALIAS_PROPS: ["An alias has a tag or an anchor of its own.", "Remove it."],
  MULTIPLE_ANCHORS: ["A value has two anchors.", "Keep one of them."],
  MULTIPLE_TAGS: ["A value has two tags.", "Remove them: policy uses none."],
  TAG_RESOLVE_FAILED: ["A value has a tag that policy does not use.", "Remove the tag, or put texts that begin with ! in quotes."],
  BAD_COLLECTION_TYPE: ["A value has a tag that does not fit it.", "Remove the tag."],
  BAD_DIRECTIVE: ["A line that begins with % is not a directive of YAML 1.2.", "Remove it, or put the text in quotes."],
};
const syntaxWordsOtherwise = [
  "Something stands here that YAML does not allow.",
  "Look for a missing quote, bracket, colon or indentation at this line or above.",
] as const;

function tooDeep(at: number): Flaw {
  return { id: "policy/too-deep", at, message: `More than ${depthMax} levels are nested here.`, hint: "No resource needs that many." };
}

/** Makes the tree of one document. */
class TreeMaker {
  readonly #flaws: Flaw[];
  /** What each anchor met so far stands for. The parser's own search for it walks the whole document for every alias. */
  readonly #anchors = new Map<string, ParsedNode>();
  readonly #anchored = new Set<ParsedNode>();
  /** Collections that the current part is in. */
  readonly #open = new Set<ParsedNode>();
  #parts = 0;

  constructor(flaws: Flaw[]) {
    this.#flaws = flaws;
  }

  make(node: ParsedNode): Tree {
    return this.#part(node, node.range[0], 1);
  }

  /** One part. `at` is where it is written, which for what an alias stands for is the alias. */
  #part(node: ParsedNode | null, at: number, depth: number): Tree {
    this.#parts += 1;
    if (this.#parts > partsMax) {
      if (this.#parts === partsMax + 1) {
        const message = `The document has more than ${partsMax} parts, counting what aliases repeat.`;
        this.#flaws.push({ id: "policy/too-large", at, message, hint: "Split it, or use fewer aliases." });
      }
      return { is: "nothing", at };
    }
    if (depth > depthMax) {
      this.#flaws.push(tooDeep(at));
      return { is: "nothing", at };
    }
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target !== undefined && this.#open.has(target)) {
        const message = "An alias stands inside the value that it repeats.";
        this.#flaws.push({ id: "policy/syntax", at, message, hint: "Write the value out." });
        return { is: "nothing", at };
      }
      if (target === undefined) {
        const message = "An alias has no anchor before it.";
        this.#flaws.push({ id: "policy/syntax", at, message, hint: "Define the anchor above, or put texts that begin with * in quotes." });
        return { is: "nothing", at };
      }
      return this.#part(target, at, depth + 1);
    }
    if (node?.anchor !== undefined && !this.#anchored.has(node)) {
      this.#anchored.add(node);
      if (this.#anchors.has(node.anchor)) {
        const message = "The same anchor is defined twice in one document.";
        this.#flaws.push({ id: "policy/duplicate-key", at, message, hint: "Give the two anchors different names." });
      }
      this.#anchors.set(node.anchor, node);
    }
    if (isMap(node) || isSeq(node)) {
      this.#open.add(node);
      const tree = isMap(node) ? this.#mapping(node, at, depth) : this.#list(node, at, depth);
      this.#open.delete(node);
      return tree;
    }
    return this.#scalar(node === null ? null : node.value, at);
  }

  #mapping(node: YAMLMap.Parsed, at: number, depth: number): Tree {
    const entries: Entry[] = [];
    const keys = new Set<string>();
    for (const pair of node.items) {
      const keyNode = pair.key as ParsedNode;
      const keyAt = keyNode.range[0];
      const valueNode = pair.value as ParsedNode | null;
      const value = this.#part(valueNode, valueNode === null ? keyAt : startOf(valueNode), depth + 1);
      const key = isScalar(keyNode) ? keyNode.value : undefined;
      if (typeof key !== "string") {
        this.#flaws.push({ id: "policy/wrong-type", at: keyAt, message: "A key is not text.", hint: "Put the key in quotes." });
      } else if (keys.has(key)) {
        const message = "The same key stands twice in one mapping.";
        this.#flaws.push({ id: "policy/duplicate-key", at: keyAt, message, hint: "Keep one of the two." });
      } else {
        keys.add(key);
        entries.push({ key, keyAt, value });
      }
    }
    return { is: "mapping", at, entries };
  }

  #list(node: YAMLSeq.Parsed, at: number, depth: number): Tree {
    return { is: "list", at, items: node.items.map((item) => this.#part(item as ParsedNode, startOf(item as ParsedNode), depth + 1)) };
  }

  #scalar(value: unknown, at: number): Tree {
    switch (typeof value) {
      case "string":
        return { is: "text", at, value };
      case "bigint":
        return { is: "whole", at, value };
      case "number":
        return { is: "fraction", at, value };
      case "boolean":
        return { is: "truth", at, value };
      default:
        return { is: "nothing", at };
    }
  }
}

function startOf(node: ParsedNode): number {
  return node.range[0];
}
