/**
 * What the counting of tokens has in common in all dialects that have it: a request that is already written is asked for its size
 * instead of for an answer, and what comes back is one number.
 */
import { startEvent, usageEvent } from "../../proto/chat.ts";
import type { Fault } from "../../proto/fault.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, memberSpans } from "../framing/json.ts";
import type { AnswerInput, AnswerReader, WrittenRequest } from "./dialect.ts";
import { type AnswerEvents, notUnderstood, readBody } from "./plainReader.ts";
import { tokenCount } from "./plainUsage.ts";

/** Reads an answer that is an object in which `member` is the number of input tokens. */
export function readTokenCount(input: AnswerInput, member: string): AnswerReader {
  return readBody(input, new CountEvents(input, member));
}

class CountEvents implements AnswerEvents {
  failure: Fault | undefined;
  complete = false;
  readonly #input: AnswerInput;
  readonly #member: string;

  constructor(input: AnswerInput, member: string) {
    this.#input = input;
    this.#member = member;
  }

  /** A body shows no sign of life. */
  ping(): void {}

  add(value: unknown, json: string, out: ChatEvent[]): void {
    const inputTokens = isObject(value) ? tokenCount(value[this.#member]) : undefined;
    if (inputTokens === undefined) {
      this.failure = notUnderstood(this.#input);
      return;
    }
    const { newId, model, route, provider } = this.#input;
    out.push(startEvent(newId("count-"), model, 0, route, provider));
    out.push(usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens, nativeJson: json.trim() }));
    this.complete = true;
  }
}

/** The body of a written request, with those of its members alone that `kept` names, byte for byte. */
export function bodyOf({ body }: WrittenRequest, kept: ReadonlySet<string>): string {
  const text = typeof body === "string" ? body : Buffer.from(body).toString();
  const members = memberSpans(text).filter(({ key }) => kept.has(key));
  return `{${members.map(({ keyStart, valueEnd }) => text.slice(keyStart, valueEnd)).join(",")}}`;
}
