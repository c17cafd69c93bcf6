/**
 * The extras of a request on their way back into the dialect that they came from.
 *
 * Each is taken by the object it belongs to when that is written. What nobody takes, because it is another dialect's or its place is
 * gone, is refused or reported: nothing is lost in silence.
 */
import type { Extra } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import { splitExtraPath } from "./extraPath.ts";

/** The extras of one request. */
export class ExtraMembers {
  readonly #report: Report;
  /** By container, then by member. */
  readonly #waiting = new Map<string, Map<string, Extra>>();
  readonly #tools = new Map<number, Extra>();
  readonly #foreign: Extra[] = [];
  /** Whether there were tools that the provider runs. */
  readonly hadTools: boolean;

  constructor(extras: readonly Extra[], report: Report) {
    this.#report = report;
    for (const extra of extras) this.#sort(extra);
    this.hadTools = this.#tools.size > 0;
  }

  /** The extra members of the object at a container. Members that the dialect writes itself, be they undefined, are not for extras. */
  take(container: string, known: { readonly [key: string]: JsonValue | undefined }): { [key: string]: JsonValue } {
    const members = this.#waiting.get(container);
    if (members === undefined) return {};
    const taken: [string, JsonValue][] = [];
    for (const [member, extra] of members) {
      if (Object.hasOwn(known, member)) continue;
      members.delete(member);
      taken.push([member, this.raw(extra.json, extra.path)]);
    }
    // From entries, so that a member called __proto__ is a member and nothing more.
    return Object.fromEntries(taken);
  }

  /** Whether an extra waits for its object. */
  has(container: string, member: string): boolean {
    return this.#waiting.get(container)?.has(member) ?? false;
  }

  /** The text of one extra that is a JSON string. */
  takeText(path: string): string | undefined {
    const place = splitExtraPath(path);
    const extra = place === undefined ? undefined : this.#waiting.get(place.container)?.get(place.member);
    if (place === undefined || extra === undefined) return undefined;
    const value: unknown = JSON.parse(this.raw(extra.json, path).text);
    if (typeof value !== "string") return undefined;
    this.#waiting.get(place.container)?.delete(place.member);
    return value;
  }

  /** Tools that the provider runs, by their place among all tools. */
  takeTools(): Map<number, JsonValue> {
    const tools = new Map<number, JsonValue>();
    for (const [index, extra] of this.#tools) tools.set(index, this.raw(extra.json, extra.path));
    this.#tools.clear();
    return tools;
  }

  /** Refuses or reports all that was not taken. */
  reportRest(): void {
    for (const extra of this.#foreign) this.#report.unsupported(extra.path);
    for (const members of this.#waiting.values()) for (const extra of members.values()) this.#report.unsupported(extra.path);
  }

  /** Text that a caller says is JSON; it becomes a part of the request as it is, so it must be. */
  raw(json: string, path: string): RawJson {
    try {
      JSON.parse(json);
    } catch {
      throw this.#report.invalid(path, "expected JSON as text");
    }
    return new RawJson(json);
  }

  #sort(extra: Extra): void {
    const tool = /^tools\[(\d{1,4})\]$/.exec(extra.path);
    const place = splitExtraPath(extra.path);
    if (extra.dialect === "anthropic" && tool !== null) this.#tools.set(Number(tool[1]), extra);
    else if (extra.dialect === "anthropic" && place !== undefined) {
      let members = this.#waiting.get(place.container);
      if (members === undefined) {
        members = new Map();
        this.#waiting.set(place.container, members);
      }
      members.set(place.member, extra);
    } else this.#foreign.push(extra);
  }
}
