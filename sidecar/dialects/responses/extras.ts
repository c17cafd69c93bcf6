/**
 * What this API knows and the conversation does not: where it stood, and how it comes back there.
 *
 * A path consists of a container and a member, such as `messages[2].parts[0].` and `prompt_cache_breakpoint`. Messages and parts are
 * counted as the conversation counts them, since a part here can be an item of its own or a piece of one. What belongs to an item that
 * several parts make up stands at the first of them, below `item.`.
 */
import type { Extra } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue, pathSteps, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";

/** An object under construction. Members whose names come from outside are added with `define` only. */
export type Members = { [key: string]: JsonValue | undefined };

/** The path of a member in a container; containers end in a dot, and the top's is empty. */
export function extraPath(container: string, member: string): string {
  // A name with other characters could be taken for a container of its own.
  return plain.test(member) ? container + member : `${container.replace(/\.$/, "")}[${JSON.stringify(member)}]`;
}

/** The extras of one request on their way back. */
export class Extras {
  readonly #report: Report;
  readonly #placed: Extra[] = [];
  readonly #tools: { readonly at: number; readonly json: RawJson }[] = [];
  /** By container. */
  readonly #members = new Map<string, { readonly member: string; readonly extra: Extra }[]>();

  constructor(extras: readonly Extra[], report: Report) {
    this.#report = report;
    for (const [index, extra] of extras.entries()) {
      const field = extra.path === "" ? `extras[${index}]` : extra.path;
      const [top] = pathSteps(extra.path) ?? [];
      const tool = /^tools\[(\d{1,4})\]$/.exec(extra.path);
      const inner = innerMember.exec(extra.path);
      if (extra.dialect !== "responses") report.unsupported(field, ", which belongs to another API");
      else if (stateful.has(String(top))) report.denied(field, ", since nothing is kept between requests");
      else if (tool !== null) this.#tools.push({ at: Number(tool[1]), json: this.raw(extra.json, field) });
      else if (inner !== null) this.#sort(`${inner[1]}.`, inner[2] ?? inner[3] ?? "", extra);
      else this.#placed.push(extra);
    }
  }

  /** Whether anything waits for the object at a container. */
  has(container: string): boolean {
    return this.#members.has(container);
  }

  /** Adds what belongs to the object at a container. A member that is there already, be it undefined, is not for extras. */
  addTo(members: Members, container: string): void {
    const waiting = this.#members.get(container);
    if (waiting === undefined) return;
    this.#members.delete(container);
    for (const { member, extra } of waiting) {
      if (Object.hasOwn(members, member)) this.#noPlace(extra);
      else define(members, member, this.raw(extra.json, extra.path));
    }
  }

  /** Tools of other kinds than functions, put among those in their places. */
  withTools(functions: readonly JsonValue[]): readonly JsonValue[] {
    if (this.#tools.length === 0) return functions;
    const tools = [...functions];
    for (const { at, json } of this.#tools.sort((a, b) => a.at - b.at)) tools.splice(at, 0, json);
    return tools;
  }

  /** Adds all that stands at the top of the request or below it, and refuses or reports what has no place. */
  finish(root: Members): void {
    for (const extra of this.#placed) {
      const value = this.raw(extra.json, extra.path);
      if (extra.path === "include" ? !addInclude(root, extra.json) : !place(root, pathSteps(extra.path) ?? [], value)) this.#noPlace(extra);
    }
    for (const waiting of this.#members.values()) for (const { extra } of waiting) this.#noPlace(extra);
  }

  /** JSON text from a caller, embedded as it is: checked, because broken text would change the meaning of what stands around it. */
  raw(json: string, field: string): RawJson {
    try {
      JSON.parse(json);
    } catch {
      throw this.#report.invalid(field, "expected JSON text and saw something else");
    }
    return new RawJson(json);
  }

  #sort(container: string, written: string, extra: Extra): void {
    const member = memberName(written);
    const waiting = this.#members.get(container);
    if (member === undefined) this.#noPlace(extra);
    else if (waiting === undefined) this.#members.set(container, [{ member, extra }]);
    else waiting.push({ member, extra });
  }

  #noPlace({ path }: Extra): void {
    this.#report.unsupported(path, ", which has no place in the request");
  }
}

/** Members by which a caller asks for state that is kept between requests. */
const stateful: ReadonlySet<string> = new Set(["previous_response_id", "conversation", "background", "store"]);

const plain = /^[A-Za-z0-9_-]+$/;
const innerMember = /^(messages\[\d+\](?:\.parts\[\d+\]){0,2}(?:\.item)?|tools\[\d+\])(?:\.([A-Za-z0-9_-]+)|(\[".*"\]))$/s;

function memberName(written: string): string | undefined {
  if (plain.test(written)) return written;
  if (!written.startsWith('["') || !written.endsWith('"]')) return undefined;
  try {
    const name: unknown = JSON.parse(written.slice(1, -1));
    return typeof name === "string" ? name : undefined;
  } catch {
    return undefined;
  }
}

/** What a caller wants included comes on top of what is included anyway. */
function addInclude(root: Members, json: string): boolean {
  const wanted: unknown = JSON.parse(json);
  if (!Array.isArray(wanted)) return false;
  const names = (wanted as readonly unknown[]).filter((name) => typeof name === "string");
  const before = Array.isArray(root.include) ? (root.include as readonly JsonValue[]) : [];
  root.include = [...before, ...names.filter((name) => !before.includes(name))];
  return names.length === wanted.length;
}

/** Puts a value at a path of names. False if that place is taken, or something on the way is no object: nothing that was decided is overruled. */
function place(root: Members, steps: readonly (string | number)[], value: RawJson): boolean {
  const names = steps.filter((step) => typeof step === "string");
  const last = names.at(-1);
  if (last === undefined || names.length !== steps.length) return false;
  let found: JsonValue | undefined = root;
  for (const name of names) {
    if (found === undefined) break;
    if (!isObject(found) || found instanceof RawJson) return false;
    found = Object.hasOwn(found, name) ? (found[name] as JsonValue | undefined) : undefined;
  }
  if (found !== undefined) return false;
  let members = root;
  for (const name of names.slice(0, -1)) {
    if (!Object.hasOwn(members, name) || members[name] === undefined) define(members, name, {});
    members = members[name] as Members;
  }
  define(members, last, value);
  return true;
}

/** Adds a member whose name came from outside: an assignment to `__proto__` would do something else. */
function define(members: Members, key: string, value: JsonValue): void {
  Object.defineProperty(members, key, { value, enumerable: true, configurable: true, writable: true });
}
