/**
 * The extras of a request on their way back into the dialect that they came from: members that this API has and the conversation does
 * not, such as `safetySettings`, `cachedContent` or `generationConfig.responseModalities`, and tools that the provider runs.
 *
 * Each is taken by the object it belongs to when that is written. What nobody takes, because it is another dialect's, is no member of a
 * known object, or would stand in the place of what the conversation says itself, is refused or reported: nothing is lost in silence.
 */
import type { Extra } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";

/** Members of one object, those that are undefined left out when it is written. */
export type Members = { readonly [key: string]: JsonValue | undefined };

/** The extras of one request. */
export class ExtraMembers {
  readonly #report: Report;
  readonly #waiting: Extra[];
  readonly #tools: { readonly at: number; readonly value: RawJson }[] = [];

  constructor(extras: readonly Extra[], report: Report) {
    this.#report = report;
    this.#waiting = [];
    for (const extra of extras) {
      const tool = extra.dialect === "gemini" ? /^tools\[(\d{1,4})\]$/.exec(extra.path) : null;
      if (tool === null) this.#waiting.push(extra);
      else this.#tools.push({ at: Number(tool[1]), value: this.raw(extra.json, extra.path) });
    }
  }

  /** Tools that the provider runs, in their order. */
  get tools(): readonly RawJson[] {
    return this.#tools.sort((a, b) => a.at - b.at).map(({ value }) => value);
  }

  /** An object with the members that only this dialect knows; `container` is where it stands, empty for the request itself. */
  complete(container: "" | "generationConfig" | "toolConfig" | "labels", known: Members): Members {
    if (this.#waiting.length === 0) return known;
    const members = new Map<string, JsonValue | undefined>(Object.entries(known));
    const prefix = container === "" ? "" : `${container}.`;
    for (let at = 0; at < this.#waiting.length; ) {
      const extra = this.#waiting[at];
      const member = extra?.dialect === "gemini" && extra.path.startsWith(prefix) ? extra.path.slice(prefix.length) : "";
      if (extra === undefined || !/^[A-Za-z_][\w-]*$/.test(member) || members.get(member) !== undefined || reserved.has(extra.path)) at++;
      else {
        members.set(member, this.raw(extra.json, extra.path));
        this.#waiting.splice(at, 1);
      }
    }
    // From entries, so that a member called __proto__ is a member and nothing more.
    return Object.fromEntries(members);
  }

  /** Refuses or reports all that was not taken. */
  reportRest(): void {
    for (const extra of this.#waiting) this.#report.unsupported(extra.path);
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
}

/** What the conversation says, or the writer of requests decides: no extra takes its place. */
const reserved: ReadonlySet<string> = new Set([
  "contents",
  "systemInstruction",
  "tools",
  "toolConfig",
  "generationConfig",
  "labels",
  "model",
]);
