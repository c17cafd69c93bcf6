/**
 * Seals of thinking, which only the dialect that made them can read, on their way through callers that know none but this one.
 *
 * This API has one place for a seal, `encrypted_content`, which callers give back as they got it. This dialect's own seal stands there as
 * it is. That of another goes out with the dialect's name before it, and with the length of its signature, since thinking that is sealed
 * as a whole has its own kind of seal. Thinking of another dialect without any seal is marked in the same way: some APIs want it back.
 */
import type { Reasoning } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** What is told of thinking beside its text. */
export type Seal = Pick<Reasoning, "signature" | "redacted" | "dialect">;

/** The seal as a caller gave it back; undefined where it gave none. */
export function readSeal(shown: string | undefined): Seal {
  const foreign = shown === undefined ? null : foreignSeal.exec(shown);
  if (shown === undefined || foreign === null) return { signature: shown ?? "", redacted: "", dialect: "responses" };
  const [head, dialect = "", length = ""] = foreign;
  const end = head.length + Number(length);
  return { signature: shown.slice(head.length, end), redacted: shown.slice(end), dialect };
}

/** The seal as a caller is shown it, or undefined for none. */
export function showSeal({ signature, redacted, dialect }: Seal): string | undefined {
  if (dialect !== "responses") return `outrigger.${dialect}.${signature.length}:${signature}${redacted}`;
  return signature || redacted || undefined;
}

/** Seals of this API itself are base64 and have no dot. */
const foreignSeal = /^outrigger\.([a-z0-9-]{0,64})\.(\d{1,9}):/;
