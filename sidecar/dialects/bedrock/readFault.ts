/**
 * Refusals of the Bedrock runtime as faults (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, "Errors").
 *
 * What kind of error it is stands in a header, in the body or, inside a stream, in a header of the frame; it says more than the status.
 * Messages name accounts and resources of the platform, which are masked.
 */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { isObject } from "../../framing/json.ts";
import type { RefusedAnswer } from "../dialect.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "../refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const { status } = refused;
  const body = errorOf(bodyText(refused.body));
  return exceptionFault(status, refused.header("x-amzn-errortype") ?? body.type, body.message, retryAfter(refused));
}

/** The fault of an exception that came inside a stream: `type` such as `throttlingException`, `payload` its JSON text. */
export function faultInStream(type: string, payload: string): Fault {
  const { message } = errorOf(payload);
  return exceptionFault(exceptions.get(plainType(type))?.status ?? 500, type, message, undefined);
}

/** The fault of an error that came as the whole body with status 200. */
export function faultInBody(text: string): Fault {
  const { type, message } = errorOf(text);
  return exceptionFault(exceptions.get(plainType(type ?? ""))?.status ?? 500, type, message, undefined);
}

function exceptionFault(status: number, type: string | undefined, message: string | undefined, retryAfterMs: number | undefined): Fault {
  const name = type === undefined ? undefined : shortType(type);
  return refusalFault({
    status,
    refusal: classOf(status, plainType(name ?? ""), message ?? ""),
    message,
    type: name,
    retryAfterMs: status === 429 || status === 503 ? retryAfterMs : undefined,
  });
}

function classOf(status: number, type: string, message: string): RefusalClass {
  const known = exceptions.get(type);
  const meant = known?.refusal ?? classOfStatus(known?.status ?? status);
  // The only word for these is in the message. What a policy does about them, such as to ask a larger model, hangs on it.
  if (meant.code === "INVALID_ARGUMENT" && tooLong.test(message)) return contextTooLong;
  if (meant.reason === FaultReason.PROVIDER_RATE_LIMITED && perDay.test(message)) return quotaSpent;
  if (meant.reason === FaultReason.PROVIDER_PERMISSION_DENIED && keyRefused.test(message)) return classOfStatus(401);
  return meant;
}

const contextTooLong: RefusalClass = { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };
const quotaSpent: RefusalClass = { reason: FaultReason.PROVIDER_QUOTA_SPENT, code: "RESOURCE_EXHAUSTED" };
const notReady: RefusalClass = { reason: FaultReason.PROVIDER_UNAVAILABLE, code: "UNAVAILABLE" };

/** Each model has its own words: "Input is too long for requested model.", "prompt is too long", "Input Tokens Exceeded", ... */
const tooLong =
  /\b(?:input|prompt) is too long\b|\binput tokens exceeded\b|\btoo many input tokens\b|\bexceeds? (?:the )?(?:maximum (?:number of )?(?:input )?(?:tokens?|context|length)|context (?:limit|length|window))/i;
const perDay = /\btokens per day\b|\bdaily\b/i;
/** A refused API key has no class of its own. */
const keyRefused = /\bapi key\b[^.]*\b(?:valid|expired)\b|\bbearer token\b[^.]*\b(?:valid|expired)\b/i;

const credential: ExceptionKind = {
  status: 403,
  refusal: { reason: FaultReason.PROVIDER_CREDENTIAL_REFUSED, code: "UNAUTHENTICATED" },
};

/** What is known of an exception. */
interface ExceptionKind {
  readonly status: number;
  readonly refusal?: RefusalClass;
}

/** The status that each exception has outside a stream, and its class where that is not the status's. */
const exceptions: ReadonlyMap<string, ExceptionKind> = new Map<string, ExceptionKind>([
  ["validation", { status: 400 }],
  ["accessdenied", { status: 403 }],
  ["unrecognizedclient", credential],
  ["invalidsignature", credential],
  ["incompletesignature", credential],
  ["signaturedoesnotmatch", credential],
  ["expiredtoken", credential],
  ["invalidclienttokenid", credential],
  ["missingauthenticationtoken", credential],
  ["resourcenotfound", { status: 404 }],
  ["modeltimeout", { status: 408 }],
  ["modelerror", { status: 424 }],
  ["modelstreamerror", { status: 424 }],
  ["throttling", { status: 429 }],
  ["modelnotready", { status: 429, refusal: notReady }],
  ["servicequotaexceeded", { status: 400, refusal: quotaSpent }],
  ["internalserver", { status: 500 }],
  ["internalfailure", { status: 500 }],
  ["serviceunavailable", { status: 503 }],
]);

/** The name of an exception without what stands around it: `Name:http://...` in a header, `namespace#Name` in a body. */
function shortType(type: string): string {
  const name = type.split(":")[0] ?? "";
  return name.slice(name.lastIndexOf("#") + 1).trim();
}

/** The name as a key: headers write `ThrottlingException` and frames `throttlingException`. */
function plainType(type: string): string {
  return shortType(type)
    .toLowerCase()
    .replace(/(?:exception|error)$/, "");
}

function errorOf(body: string): { readonly type: string | undefined; readonly message: string | undefined } {
  try {
    const value: unknown = JSON.parse(body);
    if (isObject(value)) {
      const message = [value.message, value.Message, value.originalMessage].find((text) => typeof text === "string");
      const type = [value.__type, value.code].find((text) => typeof text === "string");
      return { type, message };
    }
  } catch {
    // A body that is no JSON comes from something between here and the provider; the status is all that it says.
  }
  return { type: undefined, message: undefined };
}
