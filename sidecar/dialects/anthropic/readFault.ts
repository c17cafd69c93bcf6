/**
 * Refusals of the Anthropic API as faults (https://docs.anthropic.com/en/api/errors).
 *
 * The type of an error says more than the status, and inside a stream there is no status of its own: an error there means what the same
 * error means before the stream.
 */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { isObject } from "../../framing/json.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const { status } = refused;
  const { type, message } = errorOf(bodyText(refused.body));
  return refusalFault({
    status,
    refusal: classOf(type, message, status),
    message,
    type,
    // Successful answers carry retry-after too, so it is believed only where it has a meaning.
    retryAfterMs: status === 429 || status === 503 || status === 529 ? (retryAfter(refused) ?? whenReset(refused)) : undefined,
    retryable: shouldRetry(refused.header("x-should-retry")),
  });
}

/** The fault of an error that came with status 200, as the whole body or inside a stream. `error` is the member of that name. */
export function faultInAnswer(error: unknown): Fault {
  const { type, message } = memberTexts(error);
  const status = statuses.get(type ?? "") ?? 500;
  return refusalFault({ status, refusal: classOf(type, message, status), message, type });
}

function errorOf(body: string): { readonly type: string | undefined; readonly message: string | undefined } {
  try {
    const value: unknown = JSON.parse(body);
    if (isObject(value)) return memberTexts(value.error);
  } catch {
    // A body that is no JSON comes from something between here and the provider; the status is all that it says.
  }
  return { type: undefined, message: undefined };
}

function memberTexts(error: unknown): { readonly type: string | undefined; readonly message: string | undefined } {
  if (typeof error === "string") return { type: undefined, message: error };
  if (!isObject(error)) return { type: undefined, message: undefined };
  return {
    type: typeof error.type === "string" ? error.type : undefined,
    message: typeof error.message === "string" ? error.message : undefined,
  };
}

function classOf(type: string | undefined, message: string | undefined, status: number): RefusalClass {
  const meant = classOfStatus(statuses.get(type ?? "") ?? status);
  // The only word for it is in the message. What a policy does about it, such as to ask a larger model, hangs on this.
  if (meant.code === "INVALID_ARGUMENT" && message !== undefined && tooLong.test(message)) return contextTooLong;
  return meant;
}

const contextTooLong: RefusalClass = { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };

/** "prompt is too long: 210000 tokens > 200000 maximum", and the sum of prompt and max_tokens that older models refuse. */
const tooLong = /\bprompt is too long\b|\bexceed context limit\b/i;

/** The status that each type of error has outside a stream. */
const statuses: ReadonlyMap<string, number> = new Map([
  ["invalid_request_error", 400],
  ["authentication_error", 401],
  ["billing_error", 402],
  ["permission_error", 403],
  ["not_found_error", 404],
  ["request_too_large", 413],
  ["rate_limit_error", 429],
  ["api_error", 500],
  ["timeout_error", 504],
  ["overloaded_error", 529],
]);

function shouldRetry(header: string | undefined): boolean | undefined {
  if (header === "true") return true;
  return header === "false" ? false : undefined;
}

/** When the limits that are used up begin anew, which is said by RFC 3339 times, in milliseconds from now. */
function whenReset(refused: RefusedAnswer): number | undefined {
  let latest: number | undefined;
  for (const limit of ["requests", "tokens", "input-tokens", "output-tokens"]) {
    if (refused.header(`anthropic-ratelimit-${limit}-remaining`)?.trim() !== "0") continue;
    const reset = Date.parse(refused.header(`anthropic-ratelimit-${limit}-reset`) ?? "");
    if (!Number.isNaN(reset)) latest = Math.max(latest ?? 0, reset - refused.nowMs);
  }
  return latest;
}
