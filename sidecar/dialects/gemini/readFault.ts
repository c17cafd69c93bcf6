/**
 * Refusals of Google's APIs as faults (https://cloud.google.com/apis/design/errors).
 *
 * An error names its gRPC status, which is believed before the HTTP status: inside a stream there is none. Its details say what the status
 * does not: that a key is bad, which comes as a bad request; when to try again, which no header says; and that a day's quota is spent.
 */
import { type Fault, FaultReason, type GrpcCodeName } from "../../../proto/fault.ts";
import { isObject, type JsonObject } from "../../framing/json.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  return faultOf(errorOf(bodyText(refused.body)), refused.status, retryAfter(refused));
}

/** The fault of an error that came with status 200, as the whole body or inside a stream. `error` is the member of that name. */
export function faultInAnswer(error: unknown): Fault {
  const known = isObject(error) ? error : {};
  const named = typeof known.status === "string" ? codes.get(known.status)?.status : undefined;
  const given = Number(known.code);
  const status = named ?? (Number.isInteger(given) && given >= 400 && given <= 599 ? given : 500);
  return faultOf(isObject(error) ? error : { message: error }, status, undefined);
}

function faultOf(error: JsonObject, status: number, headerDelayMs: number | undefined): Fault {
  const message = typeof error.message === "string" ? withoutNames(error.message) : undefined;
  const type = typeof error.status === "string" ? error.status : undefined;
  const details: readonly unknown[] = Array.isArray(error.details) ? error.details : [];
  const refusal = classOf(type, status, message, details);
  return refusalFault({
    status,
    refusal,
    message,
    type,
    errorCode: typeof error.code === "number" || typeof error.code === "string" ? String(error.code) : undefined,
    // Of a day's quota the provider says "in a few seconds" too, which is not true.
    retryAfterMs: refusal.reason === FaultReason.PROVIDER_QUOTA_SPENT ? undefined : (headerDelayMs ?? delayIn(details)),
  });
}

/** The error of a body: a stream that was asked for as an array has it in an array. */
function errorOf(body: string): JsonObject {
  try {
    const value: unknown = JSON.parse(body);
    const answer: unknown = Array.isArray(value) ? value[0] : value;
    if (isObject(answer)) {
      if (isObject(answer.error)) return answer.error;
      if (typeof answer.error === "string") return { message: answer.error };
    }
  } catch {
    // A body that is no JSON comes from something between here and the provider; the status is all that it says.
  }
  return {};
}

function classOf(type: string | undefined, status: number, message: string | undefined, details: readonly unknown[]): RefusalClass {
  if (details.some((detail) => isObject(detail) && typeof detail.reason === "string" && badCredentials.has(detail.reason))) {
    return { reason: FaultReason.PROVIDER_CREDENTIAL_REFUSED, code: "UNAUTHENTICATED" };
  }
  const meant = (type === undefined ? undefined : codes.get(type)?.refusal) ?? classOfStatus(status);
  if (meant.code === "RESOURCE_EXHAUSTED" && details.some(isDaily)) {
    return { reason: FaultReason.PROVIDER_QUOTA_SPENT, code: "RESOURCE_EXHAUSTED" };
  }
  // The only word for it is in the message. What a policy does about it, such as to ask a larger model, hangs on this.
  if (meant.reason === FaultReason.PROVIDER_REQUEST_REFUSED && message !== undefined && tooLong.test(message)) {
    return { reason: FaultReason.CONTEXT_TOO_LONG, code: meant.code };
  }
  return meant;
}

/** "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)." */
const tooLong = /\binput token count\b.*\bexceeds the maximum\b/i;

/** Whether a detail says that the quota of a whole day is spent. */
function isDaily(detail: unknown): boolean {
  if (!isObject(detail) || !Array.isArray(detail.violations)) return false;
  return (detail.violations as readonly unknown[]).some(
    (violation) => isObject(violation) && typeof violation.quotaId === "string" && violation.quotaId.includes("PerDay"),
  );
}

/** When to try again by `google.rpc.RetryInfo`, a duration in JSON such as `34.4s`, in milliseconds. */
function delayIn(details: readonly unknown[]): number | undefined {
  for (const detail of details) {
    if (!isObject(detail) || typeof detail.retryDelay !== "string") continue;
    const seconds = /^(\d{1,9}(?:\.\d{1,9})?)s$/.exec(detail.retryDelay)?.[1];
    if (seconds !== undefined) return Math.min(Math.ceil(Number(seconds) * 1000), RETRY_MS_MAX);
  }
  return undefined;
}

/** A provider that says "in a year" means "not", and timers cannot hold more than 24 days. */
const RETRY_MS_MAX = 7 * 24 * 60 * 60 * 1000;

/** A message without the names of the platform's projects, which are no affair of a caller's. */
function withoutNames(message: string): string {
  return message
    .replace(/\b(projects\/)[^/\s"'`]+/g, "$1***")
    .replace(/\b(project(?:_number|_id)?[ :=]+["'`]?)(?:\d{6,}|[a-z][a-z0-9-]*-\d+)\b/gi, "$1***");
}

/** What a detail of type `google.rpc.ErrorInfo` gives as its reason where the credential is at fault. */
const badCredentials: ReadonlySet<string> = new Set([
  "API_KEY_INVALID",
  "API_KEY_EXPIRED",
  "API_KEY_SERVICE_BLOCKED",
  "API_KEY_HTTP_REFERRER_BLOCKED",
  "API_KEY_IP_ADDRESS_BLOCKED",
  "API_KEY_ANDROID_APP_BLOCKED",
  "API_KEY_IOS_APP_BLOCKED",
  "ACCESS_TOKEN_EXPIRED",
  "ACCESS_TOKEN_TYPE_UNSUPPORTED",
  "CREDENTIALS_MISSING",
  "ACCOUNT_STATE_INVALID",
]);

interface Code {
  /** The HTTP status that the code has outside a stream. */
  readonly status: number;
  readonly refusal: RefusalClass;
}

function code(status: number, name: GrpcCodeName): [string, Code] {
  return [name, { status, refusal: { reason: classOfStatus(status).reason, code: name } }];
}

/** gRPC statuses by name; what each means to a caller is what its HTTP status means. */
const codes: ReadonlyMap<string, Code> = new Map([
  code(400, "INVALID_ARGUMENT"),
  code(400, "FAILED_PRECONDITION"),
  code(400, "OUT_OF_RANGE"),
  code(401, "UNAUTHENTICATED"),
  code(403, "PERMISSION_DENIED"),
  code(404, "NOT_FOUND"),
  code(409, "ABORTED"),
  code(409, "ALREADY_EXISTS"),
  code(429, "RESOURCE_EXHAUSTED"),
  code(500, "INTERNAL"),
  code(500, "UNKNOWN"),
  code(500, "DATA_LOSS"),
  code(501, "UNIMPLEMENTED"),
  code(503, "UNAVAILABLE"),
  code(504, "DEADLINE_EXCEEDED"),
  // Nobody here cancelled: it is the provider that gave up.
  ["CANCELLED", { status: 499, refusal: { reason: FaultReason.PROVIDER_UNAVAILABLE, code: "CANCELLED" } }],
]);
