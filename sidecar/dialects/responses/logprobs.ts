/** Token probabilities, in the form that they have in this API. */
import type { TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, type JsonValue } from "../../framing/json.ts";

/** Reads a list of tokens; what is none is passed over. */
export function readLogprobs(value: unknown): TokenLogprob[] {
  if (!Array.isArray(value)) return [];
  const tokens: TokenLogprob[] = [];
  for (const wire of value as readonly unknown[]) {
    if (!isObject(wire) || typeof wire.logprob !== "number") continue;
    const token: TokenLogprob = {
      $typeName: "outrigger.chat.v1.TokenLogprob",
      token: typeof wire.token === "string" ? wire.token : "",
      logprob: wire.logprob,
      top: readLogprobs(wire.top_logprobs),
    };
    if (Array.isArray(wire.bytes)) token.bytes = Uint8Array.from(wire.bytes as readonly number[]);
    tokens.push(token);
  }
  return tokens;
}

/** Writes tokens with their alternatives. */
export function writeLogprobs(tokens: readonly TokenLogprob[]): JsonValue[] {
  return tokens.map((token) => ({ ...alternative(token), top_logprobs: token.top.map(alternative) }));
}

function alternative({ token, logprob, bytes }: TokenLogprob): { readonly [key: string]: JsonValue } {
  return { token, logprob, bytes: Array.from(bytes ?? new TextEncoder().encode(token)) };
}
