/** What a call consumed, for dialects that count input and output and no parts of them. */
import type { Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { memberSpans } from "../framing/json.ts";

/**
 * Usage of two counts, or undefined where neither is known. `json` is the text of the object that they stand in, of which `members` are
 * kept as the provider's own account, byte for byte.
 */
export function plainUsage(
  input: bigint | undefined,
  output: bigint | undefined,
  json: () => string,
  members: ReadonlySet<string>,
): Usage | undefined {
  if (input === undefined && output === undefined) return undefined;
  const text = json();
  const kept = memberSpans(text).filter(({ key }) => members.has(key));
  const usage: Usage = {
    $typeName: "outrigger.chat.v1.Usage",
    nativeJson: `{${kept.map(({ keyStart, valueEnd }) => text.slice(keyStart, valueEnd)).join(",")}}`,
  };
  if (input !== undefined) usage.inputTokens = input;
  if (output !== undefined) usage.outputTokens = output;
  return usage;
}

/** A count of tokens, or undefined for what is none: null, text, fractions, and numbers below zero. */
export function tokenCount(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}
