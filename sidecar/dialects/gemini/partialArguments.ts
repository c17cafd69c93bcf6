/**
 * Arguments of a function call that come piece by piece, each with the place where it belongs (a small part of RFC 9535): Vertex AI does
 * so when it is asked to stream them, and some endpoints do without being asked.
 *
 * Places come from outside. Objects are maps here, so that a member called `__proto__` is a member; arrays grow by one element at a time,
 * so that an index cannot make a huge one; depth has a limit.
 */
import { isObject, JSON_DEPTH_MAX, type JsonObject } from "../../framing/json.ts";

/** Gathers the arguments of one call. */
export class PartialArguments {
  readonly #root: Tree = new Map();
  /** The place of the text that goes on, or undefined. */
  #open: string | undefined;

  /** Takes in one piece. Returns false for one that cannot be understood. */
  add(piece: unknown): boolean {
    if (!isObject(piece) || typeof piece.jsonPath !== "string") return false;
    const steps = stepsOf(piece.jsonPath);
    const value = scalarOf(piece);
    if (steps === undefined || value === undefined) return steps !== undefined;
    const goesOn = this.#open === piece.jsonPath && typeof value === "string";
    this.#open = piece.willContinue === true && typeof value === "string" ? piece.jsonPath : undefined;
    return put(this.#root, steps, value, goesOn);
  }

  /** The arguments so far as JSON text. */
  json(): string {
    return write(this.#root);
  }
}

type Step = string | number;
type Scalar = string | number | boolean | null;
type Tree = Map<string, Node>;
type Node = Scalar | Tree | Node[];

/** The value of a piece, or undefined if it has none. */
function scalarOf(piece: JsonObject): Scalar | undefined {
  if (typeof piece.stringValue === "string") return piece.stringValue;
  if (typeof piece.numberValue === "number") return piece.numberValue;
  if (typeof piece.boolValue === "boolean") return piece.boolValue;
  return piece.nullValue === undefined ? undefined : null;
}

/** `$.a.b[0]['c']` as its steps; undefined for what is no place below the top. */
function stepsOf(path: string): Step[] | undefined {
  if (!path.startsWith("$")) return undefined;
  const steps: Step[] = [];
  const step = /\.([^.[\]'"]+)|\[(?:(0|[1-9]\d{0,6})|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\]/y;
  step.lastIndex = 1;
  while (step.lastIndex < path.length) {
    const found = step.exec(path);
    if (found === null) return undefined;
    const [, name, index, single, double] = found;
    if (index !== undefined) steps.push(Number(index));
    else steps.push(name ?? (single ?? double ?? "").replace(/\\(.)/g, "$1"));
  }
  return steps.length === 0 || steps.length > JSON_DEPTH_MAX ? undefined : steps;
}

function put(root: Tree, steps: readonly Step[], value: Scalar, goesOn: boolean): boolean {
  let node: Tree | Node[] = root;
  for (let depth = 0; ; depth++) {
    const step = steps[depth];
    const next = steps[depth + 1];
    if (step === undefined) return false;
    const before: Node | undefined = child(node, step);
    if (next === undefined) return set(node, step, goesOn && typeof before === "string" ? before + String(value) : value);
    if (before instanceof Map || Array.isArray(before)) node = before;
    else if (before === undefined) {
      const made: Tree | Node[] = typeof next === "number" ? [] : new Map();
      if (!set(node, step, made)) return false;
      node = made;
    } else return false;
  }
}

function child(node: Tree | Node[], step: Step): Node | undefined {
  if (Array.isArray(node)) return typeof step === "number" ? node[step] : undefined;
  return typeof step === "string" ? node.get(step) : undefined;
}

function set(node: Tree | Node[], step: Step, value: Node): boolean {
  if (Array.isArray(node)) {
    if (typeof step !== "number" || step > node.length) return false;
    node[step] = value;
    return true;
  }
  if (typeof step !== "string") return false;
  node.set(step, value);
  return true;
}

function write(node: Node): string {
  if (Array.isArray(node)) return `[${node.map(write).join(",")}]`;
  if (node instanceof Map) return `{${[...node].map(([key, value]) => `${JSON.stringify(key)}:${write(value)}`).join(",")}}`;
  return JSON.stringify(node);
}
