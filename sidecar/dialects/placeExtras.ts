/**
 * Puts what only one dialect knows into its request: a caller that knows the provider gives members that the conversation has no word
 * for. What belongs to another dialect, has no place, or would replace what was written is refused or reported.
 */
import type { Extra } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue, pathSteps, RawJson } from "../framing/json.ts";
import type { Report } from "./report.ts";

/** An object under construction. */
export type Members = { [key: string]: JsonValue | undefined };

/** Adds the extras of `dialect` to a request that is otherwise written: paths are names of members, such as `options.mirostat`. */
export function placeExtras(root: Members, extras: readonly Extra[], dialect: string, report: Report): void {
  for (const [index, extra] of extras.entries()) {
    const field = extra.path === "" ? `extras[${index}]` : extra.path;
    if (extra.dialect !== dialect) report.unsupported(field, ", which belongs to another API");
    else if (!place(root, pathSteps(extra.path) ?? [], rawJson(extra.json, `extras[${index}].json`, report))) {
      report.unsupported(field, ", which has no place in the request");
    }
  }
}

/** JSON text of a caller, checked because broken text would change the meaning of what stands around it. */
export function rawJson(text: string, field: string, report: Report): RawJson {
  try {
    JSON.parse(text);
  } catch {
    throw report.invalid(field, "expected JSON text and saw something else");
  }
  return new RawJson(text);
}

function place(root: Members, steps: readonly (string | number)[], value: RawJson): boolean {
  const names = steps.filter((step): step is string => typeof step === "string");
  const last = names.at(-1);
  if (last === undefined || names.length !== steps.length) return false;
  // The whole way is looked at first, so that nothing is left behind of what has no place.
  let found: JsonValue | undefined = root;
  for (const name of names) {
    if (found === undefined) break;
    if (!isObject(found) || found instanceof RawJson) return false;
    found = Object.hasOwn(found, name) ? (found[name] as JsonValue | undefined) : undefined;
  }
  if (found !== undefined) return false;
  let members = root;
  for (const name of names.slice(0, -1)) {
    let inner: JsonValue | undefined = Object.hasOwn(members, name) ? members[name] : undefined;
    if (inner === undefined) {
      inner = {};
      define(members, name, inner);
    }
    members = inner as Members;
  }
  define(members, last, value);
  return true;
}

/** Adds a member whose name came from outside: an assignment to `__proto__` would do something else. */
function define(members: Members, key: string, value: JsonValue): void {
  Object.defineProperty(members, key, { value, enumerable: true, configurable: true, writable: true });
}
