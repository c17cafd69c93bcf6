/**
 * Refusals of the Cohere API as faults (https://docs.cohere.com/reference/errors): an object with `message`, and at times `id` and
 * `error_type`. The status says nearly everything.
 */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { isObject } from "../../framing/json.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const { status } = refused;
  const error = errorOf(bodyText(refused.body));
  const refusal = classOf(error, status);
  const limited = status === 429 || status === 503;
  const retryAfterMs = limited && refusal !== quotaSpent ? retryAfter(refused) : undefined;
  return refusalFault({ status, refusal, message: error.message, type: error.type, retryAfterMs });
}

/** The fault of a failure that came with status 200, as the whole body, inside a stream or as the way in which an answer ended. */
export function faultInAnswer(error: unknown, finishReason = ""): Fault {
  const words = wordsOf(error);
  const status = finishReason === "TIMEOUT" ? 504 : 500;
  return refusalFault({ status, refusal: classOf(words, status), message: words.message, type: words.type ?? finishReason });
}

interface ErrorWords {
  readonly type: string | undefined;
  readonly message: string | undefined;
}

function errorOf(body: string): ErrorWords {
  try {
    return wordsOf(JSON.parse(body));
  } catch {
    // A body that is no JSON comes from something between here and the provider; the status is all that it says.
    return noWords;
  }
}

/** The words of an error: an object with a message, one inside a member `error`, or the message alone. */
function wordsOf(error: unknown): ErrorWords {
  if (typeof error === "string") return { type: undefined, message: error };
  if (!isObject(error)) return noWords;
  if (typeof error.message !== "string" && (typeof error.error === "string" || isObject(error.error))) return wordsOf(error.error);
  return {
    type: typeof error.error_type === "string" ? error.error_type : undefined,
    message: typeof error.message === "string" ? error.message : undefined,
  };
}

function classOf({ type, message = "" }: ErrorWords, status: number): RefusalClass {
  // Both a key that is no key and a prompt that is not allowed come with this status; only the latter is said to be blocked.
  if (status === 498) return /\bblocked\b/i.test(message) ? blocked : classOfStatus(401);
  // The provider believes that the caller left. If someone still listens, another attempt may pass.
  if (status === 499) return callerGone;
  // Keys for trying the API out have a limit for each month, which no caller can wait for.
  if (status === 429 && /(?:\/|\bper)\s*month\b/i.test(message)) return quotaSpent;
  const meant = classOfStatus(status);
  if (meant.code === "INVALID_ARGUMENT" && (type === "TOO_MANY_TOKENS" || tooLong.test(message))) return contextTooLong;
  return meant;
}

const noWords: ErrorWords = Object.freeze({ type: undefined, message: undefined });
const blocked: RefusalClass = { reason: FaultReason.PROVIDER_CONTENT_FILTER, code: "INVALID_ARGUMENT" };
const callerGone: RefusalClass = { reason: FaultReason.PROVIDER_UNAVAILABLE, code: "CANCELLED" };
const quotaSpent: RefusalClass = { reason: FaultReason.PROVIDER_QUOTA_SPENT, code: "RESOURCE_EXHAUSTED" };
const contextTooLong: RefusalClass = { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };

/** "too many tokens: total number of tokens in the prompt cannot exceed 4081" */
const tooLong = /\btoo many tokens\b/i;
