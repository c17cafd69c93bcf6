/**
 * Regular expressions of JSON Schema, read into a tree: makes a text that fits one, and tells whether a text fits.
 *
 * Patterns come from whoever asks, and the engine of the language can be kept busy for minutes by a short one, so it is never used
 * here. Matching follows all ways at once and takes time in proportion to text times pattern. What is understood: literals, escapes,
 * classes, `.`, groups, alternation, anchors, and quantifiers. Anything else (looking around, back references, word borders) makes
 * `readPattern` return undefined.
 */
import type { Seeded } from "./seeded.ts";

/** A pattern that was understood. */
export interface Pattern {
  /** A text that fits. `generous` from 0 to 1 says how often open repetitions are repeated. */
  write(random: Seeded, generous: number): string;
  /** Whether some part of the text fits, as JSON Schema wants it: a pattern is not anchored. */
  matches(text: string): boolean;
}

/** Reads a pattern; undefined if it holds something that is not understood here. */
export function readPattern(source: string): Pattern | undefined {
  const reader = new Reader(source);
  const tree = reader.alternatives();
  if (tree === undefined || !reader.atEnd()) return undefined;
  const nodes: State[] = [];
  const accept = add(nodes, { kind: "accept" });
  const start = compile(tree, accept, nodes);
  if (nodes.length > statesMax) return undefined;
  return {
    write: (random, generous) => write(tree, random, generous),
    matches: (text) => run(nodes, start, text),
  };
}

const statesMax = 20_000; // a{1000}{1000} would fill the memory otherwise
const repeatsMax = 1_000; // the most that one quantifier may ask for

/** Code points from one to another, both included. */
type Range = readonly [from: number, to: number];

type Tree =
  | { readonly kind: "one"; readonly ranges: readonly Range[] }
  | { readonly kind: "sequence"; readonly parts: readonly Tree[] }
  | { readonly kind: "either"; readonly branches: readonly Tree[] }
  | { readonly kind: "repeat"; readonly part: Tree; readonly min: number; readonly max: number }
  | { readonly kind: "start" | "end" };

type State =
  | { readonly kind: "accept" }
  | { readonly kind: "one"; readonly ranges: readonly Range[]; readonly next: number }
  | { readonly kind: "split"; readonly nexts: number[] }
  | { readonly kind: "start" | "end"; readonly next: number };

const lastCodePoint = 0x10ffff;
const digits: readonly Range[] = [[48, 57]];
const wordCharacters: readonly Range[] = [
  [48, 57],
  [65, 90],
  [95, 95],
  [97, 122],
];
const spaces: readonly Range[] = [
  [9, 13],
  [32, 32],
  [160, 160],
];
const anyButBreaks = complement([
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
]);

function write(tree: Tree, random: Seeded, generous: number): string {
  switch (tree.kind) {
    case "one":
      return String.fromCodePoint(pleasant(tree.ranges, random));
    case "sequence":
      return tree.parts.map((part) => write(part, random, generous)).join("");
    case "either":
      return write(random.pick(tree.branches), random, generous);
    case "repeat": {
      const most = Math.min(tree.max, tree.min + Math.ceil(generous * 24));
      let text = "";
      for (let count = tree.min + random.below(most - tree.min + 1); count > 0; count -= 1) text += write(tree.part, random, generous);
      return text;
    }
    default:
      return "";
  }
}

/** A code point out of the ranges, one that people can read if there is any. */
function pleasant(ranges: readonly Range[], random: Seeded): number {
  const readable = [...intersection(ranges, [[97, 122]]), ...intersection(ranges, digits)];
  const visible = readable.length > 0 ? readable : intersection(ranges, [[33, 126]]);
  const [from, to] = random.pick(visible.length > 0 ? visible : ranges);
  const chosen = from + random.below(to - from + 1);
  // Halves of a surrogate pair are no text.
  return chosen >= 0xd800 && chosen <= 0xdfff ? from : chosen;
}

function run(states: readonly State[], start: number, text: string): boolean {
  const points = [...text];
  let current = new Set<number>();
  for (let at = 0; at <= points.length; at += 1) {
    follow(states, start, at, points.length, current);
    for (const index of current) if (states[index]?.kind === "accept") return true;
    const point = points[at]?.codePointAt(0);
    if (point === undefined) return false;
    const next = new Set<number>();
    for (const index of current) {
      const state = states[index];
      if (state?.kind === "one" && inRanges(point, state.ranges)) follow(states, state.next, at + 1, points.length, next);
    }
    current = next;
  }
  return false;
}

/** Adds a state and all that can be reached from it without reading. */
function follow(states: readonly State[], from: number, at: number, end: number, found: Set<number>): void {
  const open = [from];
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    if (found.has(index)) continue;
    const state = states[index];
    if (state === undefined) continue;
    if ((state.kind === "start" && at !== 0) || (state.kind === "end" && at !== end)) continue;
    found.add(index);
    if (state.kind === "split") open.push(...state.nexts);
    else if (state.kind === "start" || state.kind === "end") open.push(state.next);
  }
}

/** Adds the states of a tree that go on to `next`; returns the first of them. */
function compile(tree: Tree, next: number, states: State[]): number {
  if (states.length > statesMax) return next;
  switch (tree.kind) {
    case "one":
      return add(states, { kind: "one", ranges: tree.ranges, next });
    case "sequence":
      return tree.parts.reduceRight((after, part) => compile(part, after, states), next);
    case "either":
      return add(states, { kind: "split", nexts: tree.branches.map((branch) => compile(branch, next, states)) });
    case "repeat": {
      let after = next;
      if (tree.max === Number.POSITIVE_INFINITY) {
        const nexts: number[] = [next];
        after = add(states, { kind: "split", nexts });
        nexts.push(compile(tree.part, after, states));
      } else {
        for (let count = tree.min; count < tree.max; count += 1) {
          after = add(states, { kind: "split", nexts: [next, compile(tree.part, after, states)] });
        }
      }
      for (let count = 0; count < tree.min; count += 1) after = compile(tree.part, after, states);
      return after;
    }
    default:
      return add(states, { kind: tree.kind, next });
  }
}

function add(states: State[], state: State): number {
  states.push(state);
  return states.length - 1;
}

/** Reads a pattern from left to right. Every function returns undefined for what is not understood. */
class Reader {
  readonly #points: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#points = [...source];
  }

  atEnd(): boolean {
    return this.#at >= this.#points.length;
  }

  alternatives(): Tree | undefined {
    const branches: Tree[] = [];
    do {
      const branch = this.#sequence();
      if (branch === undefined) return undefined;
      branches.push(branch);
    } while (this.#takes("|"));
    return branches.length === 1 ? branches[0] : { kind: "either", branches };
  }

  #sequence(): Tree | undefined {
    const parts: Tree[] = [];
    while (!this.atEnd() && this.#peek() !== "|" && this.#peek() !== ")") {
      const part = this.#atom();
      const repeated = part === undefined ? undefined : this.#quantified(part);
      if (repeated === undefined) return undefined;
      parts.push(repeated);
    }
    return { kind: "sequence", parts };
  }

  #atom(): Tree | undefined {
    const point = this.#take();
    switch (point) {
      case "^":
        return { kind: "start" };
      case "$":
        return { kind: "end" };
      case ".":
        return { kind: "one", ranges: anyButBreaks };
      case "[":
        return this.#class();
      case "(":
        return this.#group();
      case "\\": {
        const ranges = this.#escape(false);
        return ranges === undefined ? undefined : { kind: "one", ranges };
      }
      case "*":
      case "+":
      case "?":
      case "{":
        return undefined;
      default:
        return { kind: "one", ranges: [single(point)] };
    }
  }

  #group(): Tree | undefined {
    if (this.#takes("?")) {
      if (this.#takes("<")) {
        if (this.#peek() === "=" || this.#peek() === "!") return undefined;
        while (!this.atEnd() && !this.#takes(">")) this.#at += 1;
      } else if (!this.#takes(":")) return undefined;
    }
    this.#depth += 1;
    if (this.#depth > 64) return undefined; // deeper than anyone writes by hand; the reader calls itself for each level
    const inner = this.alternatives();
    this.#depth -= 1;
    return this.#takes(")") ? inner : undefined;
  }

  #quantified(part: Tree): Tree | undefined {
    let tree = part;
    for (;;) {
      const bounds = this.#quantifier();
      if (bounds === "none") return tree;
      if (bounds === undefined) return undefined;
      this.#takes("?"); // Whether it is greedy changes what is captured, not what fits.
      tree = { kind: "repeat", part: tree, min: bounds[0], max: bounds[1] };
    }
  }

  #quantifier(): Range | "none" | undefined {
    if (this.#takes("*")) return [0, Number.POSITIVE_INFINITY];
    if (this.#takes("+")) return [1, Number.POSITIVE_INFINITY];
    if (this.#takes("?")) return [0, 1];
    if (this.#peek() !== "{") return "none";
    const rest = this.#points.slice(this.#at, this.#at + 16).join("");
    const bounds = /^\{(\d+)(,?)(\d*)\}/.exec(rest);
    if (bounds === null) return undefined;
    this.#at += bounds[0].length;
    const min = Number(bounds[1]);
    const max = bounds[3] !== "" ? Number(bounds[3]) : bounds[2] === "," ? Number.POSITIVE_INFINITY : min;
    if (min > repeatsMax || (max !== Number.POSITIVE_INFINITY && max > repeatsMax) || min > max) return undefined;
    return [min, max];
  }

  #class(): Tree | undefined {
    const negated = this.#takes("^");
    const ranges: Range[] = [];
    while (!this.#takes("]")) {
      if (this.atEnd()) return undefined;
      const from = this.#classMember();
      if (from === undefined) return undefined;
      const [first] = from;
      if (this.#peek() === "-" && this.#points[this.#at + 1] !== "]" && from.length === 1 && first !== undefined && first[0] === first[1]) {
        this.#at += 1;
        const [last, ...more] = this.#classMember() ?? [];
        if (last === undefined || more.length > 0 || last[0] < first[0]) return undefined;
        ranges.push([first[0], last[1]]);
      } else ranges.push(...from);
    }
    const result = negated ? complement(ranges) : ranges;
    return result.length === 0 ? undefined : { kind: "one", ranges: result };
  }

  #classMember(): readonly Range[] | undefined {
    const point = this.#take();
    return point === "\\" ? this.#escape(true) : [single(point)];
  }

  #escape(inClass: boolean): readonly Range[] | undefined {
    const point = this.#take();
    switch (point) {
      case "d":
        return digits;
      case "D":
        return complement(digits);
      case "w":
        return wordCharacters;
      case "W":
        return complement(wordCharacters);
      case "s":
        return spaces;
      case "S":
        return complement(spaces);
      case "n":
        return [[10, 10]];
      case "r":
        return [[13, 13]];
      case "t":
        return [[9, 9]];
      case "f":
        return [[12, 12]];
      case "v":
        return [[11, 11]];
      case "b":
        return inClass ? [[8, 8]] : undefined;
      case "x":
        return this.#hex(2);
      case "u":
        return this.#hex(4);
      default:
        // Letters and digits without a meaning of their own are the ones that are not understood here.
        return point === "" || /[A-Za-z0-9]/.test(point) ? undefined : [single(point)];
    }
  }

  #hex(length: number): readonly Range[] | undefined {
    const text = this.#points.slice(this.#at, this.#at + length).join("");
    if (text.length !== length || !/^[0-9a-f]+$/i.test(text)) return undefined;
    this.#at += length;
    const value = Number.parseInt(text, 16);
    return [[value, value]];
  }

  #peek(): string {
    return this.#points[this.#at] ?? "";
  }

  #take(): string {
    const point = this.#peek();
    this.#at += 1;
    return point;
  }

  #takes(wanted: string): boolean {
    if (this.#peek() !== wanted) return false;
    this.#at += 1;
    return true;
  }
}

function single(point: string): Range {
  const value = point.codePointAt(0) ?? 0;
  return [value, value];
}

function inRanges(point: number, ranges: readonly Range[]): boolean {
  return ranges.some(([from, to]) => point >= from && point <= to);
}

function intersection(left: readonly Range[], right: readonly Range[]): Range[] {
  const found: Range[] = [];
  for (const [from, to] of left) {
    for (const [start, end] of right) if (from <= end && start <= to) found.push([Math.max(from, start), Math.min(to, end)]);
  }
  return found;
}

function complement(ranges: readonly Range[]): Range[] {
  const found: Range[] = [];
  let free = 0;
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (from > free) found.push([free, from - 1]);
    free = Math.max(free, to + 1);
  }
  if (free <= lastCodePoint) found.push([free, lastCodePoint]);
  return found;
}
