/** Reads refusals: `{"error":"text"}` with a status, and the same text alone in a line of a stream, where only its words tell what it is. */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { type ErrorWords, errorOfBody } from "../plainError.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const error = errorOfBody(bodyText(refused.body));
  const { status } = refused;
  return refusalFault({ ...error, status, refusal: classOf(status, error), retryAfterMs: retryAfter(refused) });
}

/** Reads an error that came inside an answer with a good status: maps it as if the status had been right. */
export function faultInAnswer(error: ErrorWords): Fault {
  const status = error.status ?? statusOfWords(error.message ?? "");
  return refusalFault({ ...error, status, refusal: classOf(status, error) });
}

function classOf(status: number, { message = "" }: ErrorWords): RefusalClass {
  const long =
    /(?:input|prompt)[^.]{0,40} exceeds? [^.]{0,40}context|exceeds? the (?:available |model's )?context|context length exceeded/i;
  // The runner's own failure to fit a prompt comes as a failure of the server.
  if ((status === 400 || status === 413 || status === 500) && long.test(message)) {
    return { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };
  }
  return classOfStatus(status);
}

function statusOfWords(message: string): number {
  return byWords.find(({ words }) => words.test(message))?.status ?? 500;
}

/** The status that goes with these sentences where the server still can give one. */
const byWords: readonly { readonly words: RegExp; readonly status: number }[] = [
  { words: /^model\b.{0,300}\bnot found|try pulling it first/i, status: 404 },
  { words: /server busy|maximum pending requests|overloaded/i, status: 503 },
  { words: /does not support|invalid|exceeds? [^.]{0,40}context/i, status: 400 },
  { words: /unauthorized/i, status: 401 },
];
