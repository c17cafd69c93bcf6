/**
 * Thought signatures on their way through callers that know nothing of them.
 *
 * A signature is the model's own thinking, sealed. It belongs to one part of the answer, and newer models refuse a conversation in which
 * a function call of the current turn comes back without its own. The conversation has seals on thinking alone, so a signature travels
 * as the seal of a block of thinking, and says itself to what it belongs: callers may put all thinking before all calls.
 */

/** To what a signature belongs: a call by its id, the text before it, an empty text of its own, or the visible thinking it seals. */
export type SealedPart = { readonly kind: "call"; readonly id: string } | { readonly kind: "text" | "end" | "thought" };

/** A signature and its part. */
export interface Seal {
  readonly part: SealedPart;
  readonly signature: string;
}

/** The seal as the conversation carries it. */
export function showSeal({ part, signature }: Seal): string {
  return part.kind === "call" ? `call:${part.id}:${signature}` : `${part.kind}:${signature}`;
}

/** The seal that the conversation carried, or undefined if it is none of ours. An id may hold colons, a signature holds none. */
export function readSeal(shown: string): Seal | undefined {
  const kindEnd = shown.indexOf(":");
  const signatureStart = shown.lastIndexOf(":") + 1;
  const signature = shown.slice(signatureStart);
  // Bytes in JSON are base64, of either alphabet.
  if (kindEnd === -1 || !/^[A-Za-z0-9+/_-]+={0,2}$/.test(signature)) return undefined;
  const kind = shown.slice(0, kindEnd);
  if (kind === "call") {
    return signatureStart > kindEnd + 1 ? { part: { kind, id: shown.slice(kindEnd + 1, signatureStart - 1) }, signature } : undefined;
  }
  if (signatureStart !== kindEnd + 1) return undefined;
  return kind === "text" || kind === "end" || kind === "thought" ? { part: { kind }, signature } : undefined;
}

/**
 * What stands in the place of a signature that was never made or got lost, so that a model goes on without it
 * (https://ai.google.dev/gemini-api/docs/thought-signatures).
 */
export const skipSignature = "skip_thought_signature_validator";
