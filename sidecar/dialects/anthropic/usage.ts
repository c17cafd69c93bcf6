/**
 * What a call consumed, in this API's disjoint counts and in the conversation's totals that include their parts.
 *
 * Here `input_tokens` leaves out what came from and went to the prompt cache. In a stream the counts come twice: the start has what is
 * known by then, and the end has running totals that stand for themselves, not increments.
 */
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonObject, type JsonValue, memberSpans } from "../../framing/json.ts";

/** Gathers the counts of one answer. */
export class UsageReader {
  /** The exact text of each member, in the order in which they first came. */
  readonly #texts = new Map<string, string>();
  readonly #values = new Map<string, unknown>();
  /** The provider's own text, as long as it said everything at once; undefined once it was merged from several. */
  #whole: string | undefined;

  /** Whether any count came. */
  get known(): boolean {
    return this.#texts.size > 0;
  }

  /**
   * Takes in a `usage` object: its value and its exact text. What it says replaces what was said before, with two exceptions that
   * servers of this API make true: null says nothing, and an input count of 0 does not replace a real one.
   */
  add(value: unknown, text: string): void {
    if (!isObject(value)) return;
    this.#whole = this.known ? undefined : text;
    for (const { key, valueStart, valueEnd } of memberSpans(text)) {
      const member = value[key];
      const before = this.#values.get(key);
      if (member === null && before !== undefined) continue;
      if (member === 0 && inputCounts.has(key) && typeof before === "number" && before > 0) continue;
      this.#texts.set(key, text.slice(valueStart, valueEnd));
      this.#values.set(key, member);
    }
  }

  usage(): Usage {
    const input = this.#count("input_tokens");
    const output = this.#count("output_tokens");
    const read = this.#count("cache_read_input_tokens");
    const written = this.#count("cache_creation_input_tokens");
    const details = this.#values.get("output_tokens_details");
    const reasoning = isObject(details) ? countOf(details, "thinking_tokens") : undefined;
    const usage: Usage = { $typeName: "outrigger.chat.v1.Usage", nativeJson: this.#whole ?? this.#merged() };
    if (input !== undefined) usage.inputTokens = input + (read ?? 0n) + (written ?? 0n);
    if (output !== undefined) usage.outputTokens = output;
    if (read !== undefined) usage.cachedInputTokens = read;
    if (written !== undefined) usage.cacheWriteTokens = written;
    if (reasoning !== undefined) usage.reasoningTokens = reasoning;
    return usage;
  }

  #merged(): string {
    return `{${[...this.#texts].map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(",")}}`;
  }

  #count(key: string): bigint | undefined {
    return count(this.#values.get(key));
  }
}

/** The counts as this API writes them; `usage` undefined writes the zeros that its clients expect. */
export function writeUsage(usage: Usage | undefined): { readonly [key: string]: JsonValue | undefined } {
  const { inputTokens, outputTokens, cachedInputTokens: read, cacheWriteTokens: written, reasoningTokens } = usage ?? {};
  return {
    input_tokens: inputTokens === undefined ? 0 : atLeast0(inputTokens - (read ?? 0n) - (written ?? 0n)),
    cache_creation_input_tokens: written,
    cache_read_input_tokens: read,
    output_tokens: outputTokens ?? 0,
    output_tokens_details: reasoningTokens === undefined ? undefined : { thinking_tokens: reasoningTokens },
  };
}

/** Servers other than the first send these as 0 at the end of a stream that began with the right numbers. */
const inputCounts: ReadonlySet<string> = new Set(["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]);

function countOf(object: JsonObject, key: string): bigint | undefined {
  return count(object[key]);
}

function count(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}

/** Reported numbers need not fit each other, and no client expects a negative count. */
function atLeast0(count: bigint): bigint {
  return count < 0n ? 0n : count;
}
