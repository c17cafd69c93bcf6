/** Reads refusals of servers that complete text: `{"error":{"code","message","type"}}`, `{"error":"text"}`, `{"message"}`, plain text. */
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
  const status = error.status ?? statusByType.get(error.type ?? "") ?? 500;
  return refusalFault({ ...error, status, refusal: classOf(status, error) });
}

/** The words of llama.cpp's server for its errors, with the statuses that go with them. */
const statusByType: ReadonlyMap<string, number> = new Map([
  ["invalid_request_error", 400],
  ["exceed_context_size_error", 400],
  ["authentication_error", 401],
  ["permission_error", 403],
  ["not_found_error", 404],
  ["server_error", 500],
  ["not_supported_error", 501],
  ["unavailable_error", 503],
]);

function classOf(status: number, { type, message = "" }: ErrorWords): RefusalClass {
  const long = /exceeds? (?:the )?(?:available |maximum |model's )?context (?:size|length|window)|too long[^.]{0,40}context/i;
  if ((status === 400 || status === 413 || status === 500) && (type === "exceed_context_size_error" || long.test(message))) {
    return { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };
  }
  return classOfStatus(status);
}
