/**
 * Reads refusals: `{"error","error_type"}` of the server, `{"error","estimated_time"}` of a host whose model is not loaded yet, plain
 * text of whatever reads the request first; and the first of these as an event of a stream, where the type stands for the status.
 */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { isObject } from "../../framing/json.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { type ErrorWords, errorOfBody } from "../plainError.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const text = bodyText(refused.body);
  const error = errorOfBody(text);
  const { status } = refused;
  return refusalFault({
    ...error,
    status,
    refusal: classOf(status, error),
    retryAfterMs: retryAfter(refused) ?? (status === 503 ? loadingMs(text) : undefined),
  });
}

/** Reads an error that came inside an answer with a good status: maps it as if the status had been right. */
export function faultInAnswer(error: ErrorWords): Fault {
  const status = error.status ?? statusByType.get(error.type ?? "") ?? 500;
  return refusalFault({ ...error, status, refusal: classOf(status, error) });
}

/** The server's own words for its errors, with the statuses that go with them. */
const statusByType: ReadonlyMap<string, number> = new Map([
  ["validation", 422],
  ["generation", 424],
  ["overloaded", 429],
  ["incomplete_generation", 500],
  ["template_error", 422],
  ["tool_error", 422],
]);

function classOf(status: number, { message = "" }: ErrorWords): RefusalClass {
  const long = /`?inputs`? tokens \+ `?max_new_tokens`? must be <=|`?inputs`? must have less than \d+ tokens/i;
  if ((status === 400 || status === 413 || status === 422) && long.test(message)) {
    return { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };
  }
  return classOfStatus(status);
}

/** How long the host thinks that loading takes, in milliseconds; it says so in seconds. */
function loadingMs(text: string): number | undefined {
  try {
    const body = JSON.parse(text) as unknown;
    const seconds = isObject(body) ? body.estimated_time : undefined;
    // Loading that takes hours is none that a caller can wait for.
    return typeof seconds === "number" && seconds > 0 && seconds <= 3600 ? Math.ceil(seconds * 1000) : undefined;
  } catch {
    return undefined;
  }
}
