/**
 * Pieces of text without parsing: nearly all of a stream is events that differ in three values only, which are the piece itself, its number
 * and padding. Once one was parsed, others are compared with what stands around these values. One that equals it everywhere else is the
 * same JSON value but for them; any other takes the way of all events.
 */
import { memberSpans } from "../../framing/json.ts";
import type { SseBlock } from "../../framing/sse.ts";

/** Recognises the events of one stream that are like the last one that was learnt. Its texts have one character for each byte. */
export class PlainDeltas {
  /** Which item of the output, and which part of it, the piece of the learnt event belongs to. */
  place = 0;
  content = 0;
  /** What stands before, between and behind the values that differ; one more than there are such values. Empty before the first lesson. */
  #around: readonly string[] = none;
  #kinds: readonly Kind[] = noKinds;
  #learned = 0;
  #matched = 0;

  /** The piece of text in an event's data, which stands in a block from `start` to `end`; undefined if it must be parsed. */
  match(block: SseBlock, start: number, end: number): string | undefined {
    const around = this.#around;
    const [first = ""] = around;
    const units = block.units();
    let at = start + first.length;
    if (first === "" || at > end || units.slice(start, at) !== first) return undefined;
    let piece: string | undefined;
    for (let i = 1; i < around.length; i++) {
      const from = at;
      const kind = this.#kinds[i - 1];
      if (kind === "number") {
        for (; at < end; at++) {
          const unit = units.charCodeAt(at);
          if (unit < ZERO || unit > NINE) break;
        }
        // A number has digits, and none of several begins with a zero.
        if (at === from || (at > from + 1 && units.charCodeAt(from) === ZERO)) return undefined;
      } else {
        let isEscaped = false;
        let isWide = false;
        for (; at < end; at++) {
          const unit = units.charCodeAt(at);
          if (unit === QUOTE) break;
          // A control character is no JSON, which the parser will say.
          if (unit < BLANK) return undefined;
          if (unit > ASCII_MAX) isWide = true;
          else if (unit === BACKSLASH) {
            isEscaped = true;
            at++;
          }
        }
        if (kind === "piece") {
          if (isEscaped) piece = unescaped(block.slice(from - 1, at + 1));
          else piece = isWide ? block.slice(from, at) : units.slice(from, at);
        } else if (isEscaped) return undefined;
      }
      const behind = around[i] ?? "";
      if (at + behind.length > end || units.slice(at, at + behind.length) !== behind) return undefined;
      at += behind.length;
    }
    if (at !== end) return undefined;
    this.#matched++;
    return piece;
  }

  /**
   * Keeps an event's data, which was parsed and said nothing but a piece of text, for others to be compared with. Streams in which
   * something else keeps changing are given up on, since learning costs as much as parsing.
   */
  learn(block: SseBlock, start: number, end: number, place: number, content: number): void {
    if (this.#learned > LEARNED_FREELY + this.#matched / MATCHES_PER_LESSON) return;
    this.#learned++;
    const json = block.unitsApart(start, end);
    const around: string[] = [];
    const kinds: Kind[] = [];
    let from = 0;
    for (const { key, valueStart, valueEnd } of memberSpans(json)) {
      const quoted = json.charCodeAt(valueStart) === QUOTE ? 1 : 0;
      const kind = kindOf(key);
      if (kind === undefined || (kind === "number") !== (quoted === 0)) continue;
      kinds.push(kind);
      around.push(json.slice(from, valueStart + quoted));
      from = valueEnd - quoted;
    }
    around.push(json.slice(from));
    this.#around = kinds.includes("piece") ? around : none;
    this.#kinds = kinds;
    this.place = place;
    this.content = content;
  }
}

/** A value that differs from event to event. */
type Kind = "piece" | "padding" | "number";

function kindOf(key: string): Kind | undefined {
  switch (key) {
    case "delta":
      return "piece";
    case "obfuscation":
      return "padding";
    case "sequence_number":
      return "number";
    default:
      return undefined;
  }
}

function unescaped(literal: string): string | undefined {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}

/** Learning this often costs nothing that anyone would notice. */
const LEARNED_FREELY = 16;
/** One more lesson for so many events that a lesson saved the parsing of. */
const MATCHES_PER_LESSON = 8;

const none: readonly string[] = Object.freeze([]);
const noKinds: readonly Kind[] = Object.freeze([]);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const BLANK = 0x20;
const ASCII_MAX = 0x7f;
const ZERO = 0x30;
const NINE = 0x39;
