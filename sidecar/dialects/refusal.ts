/**
 * What every dialect does in the same way when a provider refuses: the class of a status, when to try again, and which of the
 * provider's words may reach a caller. Only a provider's own message is ever passed on, never a body, and only after this filter: bodies
 * hold markup, resource names and pieces of keys.
 */
import { Fault, type FaultDetails, FaultReason, type GrpcCodeName, type KnownFaultReason } from "../../proto/fault.ts";
import type { RefusedAnswer } from "./dialect.ts";

/** What kind of failure a provider reports. */
export interface RefusalClass {
  readonly reason: KnownFaultReason;
  /** The gRPC status by name that fits the provider's own view, for facts and records. */
  readonly code: GrpcCodeName;
}

/** The class of a status without any further word from the provider. */
export function classOfStatus(status: number): RefusalClass {
  const known = byStatus[status];
  if (known !== undefined) return known;
  // A redirect that was not followed, or a status of no known meaning, is the provider's failure and not the caller's.
  return status >= 400 && status < 500 ? refused : failed;
}

/** What a dialect understood of a refusal. */
export interface ReadRefusal {
  /** The provider's status, or the one that its words stand for inside a stream. */
  readonly status: number;
  readonly refusal: RefusalClass;
  /** The provider's own message, unfiltered, or undefined. */
  readonly message: string | undefined;
  /** The provider's word for the kind of error, or undefined. */
  readonly type?: string | undefined;
  /** The provider's code for the error, or undefined. */
  readonly errorCode?: string | undefined;
  /** The request field that the provider blames, or undefined. */
  readonly field?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  /** Whether another attempt makes sense, where the provider said so. */
  readonly retryable?: boolean | undefined;
}

/**
 * The fault that a caller gets. Facts: `provider_status`, `provider_code` (a gRPC code's name) and, where the provider gave them,
 * `provider_type` and `provider_error_code`. Of a credential that failed the caller hears no word of the provider's: the key is the
 * platform's, and so is the fault.
 */
export function refusalFault(read: ReadRefusal): Fault {
  const { status, refusal } = read;
  const facts: Record<string, string> = { provider_status: String(status), provider_code: refusal.code };
  const type = read.type === undefined ? "" : safeWord(read.type);
  if (type !== "") facts.provider_type = type;
  const errorCode = read.errorCode === undefined ? "" : safeWord(read.errorCode);
  if (errorCode !== "") facts.provider_error_code = errorCode;
  if (refusal.reason === FaultReason.PROVIDER_CREDENTIAL_REFUSED) {
    return new Fault(refusal.reason, "The provider does not accept the credential that the platform holds for it.", { facts });
  }
  const field = read.field === undefined ? "" : safeWord(read.field);
  const details: FaultDetails = {
    facts,
    ...(status >= 400 && status <= 599 ? { httpStatus: status } : {}),
    ...(field === "" ? {} : { field }),
    ...(read.retryAfterMs === undefined ? {} : { retryAfterMs: read.retryAfterMs }),
    ...(read.retryable === undefined ? {} : { retryable: read.retryable }),
  };
  return new Fault(refusal.reason, safeMessage(read.message, ownWords(refusal.reason, status)), details);
}

/**
 * A provider's sentence as it may be shown: one line, at most 1,000 characters, what looks like a key or a token masked. What is no
 * sentence at all, such as markup, becomes `fallback`.
 */
export function safeMessage(message: string | undefined, fallback: string): string {
  if (message === undefined) return fallback;
  // Cut first, so that the patterns never run over more than this; the rest is masked with its beginning or gone.
  const text = message
    .slice(0, MESSAGE_SCANNED_MAX)
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu, " ")
    .trim();
  if (text === "" || /<\s*(?:!doctype|html|head|body|title|div|script|svg|\?xml)\b/i.test(text)) return fallback;
  const masked = maskSecrets(text);
  return masked.length > MESSAGE_CHARACTERS_MAX ? `${masked.slice(0, MESSAGE_CHARACTERS_MAX - 1)}…` : masked;
}

/** When to try again, in milliseconds from now, by `retry-after-ms` or `retry-after` (RFC 9110 section 10.2.3), or undefined. */
export function retryAfter(refused: Pick<RefusedAnswer, "header" | "nowMs">): number | undefined {
  const exact = refused.header("retry-after-ms");
  const exactMs = exact !== undefined && /^\d+(?:\.\d+)?$/.test(exact.trim()) ? withinDays(Number(exact)) : undefined;
  // Some send 0 here and the real delay in the other.
  if (exactMs !== undefined && exactMs > 0) return exactMs;
  const header = refused.header("retry-after")?.trim();
  if (header === undefined || header === "") return exactMs;
  if (/^\d+(?:\.\d+)?$/.test(header)) return withinDays(Number(header) * 1000);
  const date = Date.parse(header);
  return Number.isNaN(date) ? exactMs : withinDays(date - refused.nowMs);
}

/** The text of a refusal's body, broken UTF-8 replaced. */
export function bodyText(body: Uint8Array): string {
  return lenient.decode(body);
}

/** Longer sentences say nothing more to a caller. */
const MESSAGE_CHARACTERS_MAX = 1_000;
/** The patterns look at this much: what is cut away behind it could not be shown anyway. */
const MESSAGE_SCANNED_MAX = 4_000;
/** Words for programs are short; a longer one is something else. */
const WORD_CHARACTERS_MAX = 128;
/** A provider that says "in a year" means "not", and timers cannot hold more than 24 days. */
const RETRY_MS_MAX = 7 * 24 * 60 * 60 * 1000;

const lenient = new TextDecoder("utf-8");

const refused: RefusalClass = { reason: FaultReason.PROVIDER_REQUEST_REFUSED, code: "INVALID_ARGUMENT" };
const failed: RefusalClass = { reason: FaultReason.PROVIDER_FAILED, code: "INTERNAL" };
const unavailable: RefusalClass = { reason: FaultReason.PROVIDER_UNAVAILABLE, code: "UNAVAILABLE" };
const unimplemented: RefusalClass = { reason: FaultReason.PROVIDER_UNIMPLEMENTED, code: "UNIMPLEMENTED" };
const timedOut: RefusalClass = { reason: FaultReason.PROVIDER_TIMEOUT, code: "DEADLINE_EXCEEDED" };

const byStatus: Readonly<Record<number, RefusalClass>> = Object.freeze({
  400: refused,
  401: { reason: FaultReason.PROVIDER_CREDENTIAL_REFUSED, code: "UNAUTHENTICATED" },
  402: { reason: FaultReason.PROVIDER_QUOTA_SPENT, code: "RESOURCE_EXHAUSTED" },
  403: { reason: FaultReason.PROVIDER_PERMISSION_DENIED, code: "PERMISSION_DENIED" },
  404: { reason: FaultReason.PROVIDER_MODEL_NOT_FOUND, code: "NOT_FOUND" },
  405: unimplemented,
  408: timedOut,
  409: { reason: FaultReason.PROVIDER_CONFLICT, code: "ABORTED" },
  413: refused,
  422: refused,
  // The model itself failed at a server that stands before it.
  424: failed,
  429: { reason: FaultReason.PROVIDER_RATE_LIMITED, code: "RESOURCE_EXHAUSTED" },
  500: failed,
  501: unimplemented,
  502: unavailable,
  503: unavailable,
  504: timedOut,
  // "Overloaded" at several providers.
  529: unavailable,
});

function ownWords(reason: KnownFaultReason, status: number): string {
  return `${sentences[reason] ?? "The provider refused the request"} (status ${status}).`;
}

const sentences: Partial<Record<KnownFaultReason, string>> = Object.freeze({
  [FaultReason.PROVIDER_REQUEST_REFUSED]: "The provider refused the request",
  [FaultReason.CONTEXT_TOO_LONG]: "The prompt is longer than the model can read",
  [FaultReason.PROVIDER_CONTENT_FILTER]: "The provider's content filter blocked the prompt",
  [FaultReason.PROVIDER_PERMISSION_DENIED]: "The provider does not permit this to the platform",
  [FaultReason.PROVIDER_MODEL_NOT_FOUND]: "The provider does not know the model",
  [FaultReason.PROVIDER_RATE_LIMITED]: "The provider limits the rate of calls",
  [FaultReason.PROVIDER_QUOTA_SPENT]: "The platform's account with the provider is spent",
  [FaultReason.PROVIDER_FAILED]: "The provider failed",
  [FaultReason.PROVIDER_UNAVAILABLE]: "The provider cannot serve at present",
  [FaultReason.PROVIDER_TIMEOUT]: "The provider took too long",
  [FaultReason.PROVIDER_CONFLICT]: "The provider reports a conflict with another request",
  [FaultReason.PROVIDER_UNIMPLEMENTED]: "The provider does not do what was asked",
});

function withinDays(milliseconds: number): number {
  return Math.min(Math.max(0, Math.ceil(milliseconds)), RETRY_MS_MAX);
}

/** A word for programs, or empty if it is none. */
function safeWord(word: string): string {
  if (word.length > WORD_CHARACTERS_MAX || !/^[A-Za-z0-9][\w.:/[\]-]*$/.test(word)) return "";
  return maskSecrets(word) === word ? word : "";
}

/**
 * Masks what looks like a secret: what follows "Bearer" or a word for a key, tokens with the usual beginnings of keys, signed web
 * tokens, and any long run of letters and digits that no person wrote. Names of models, dates and ids of calls stay.
 */
function maskSecrets(text: string): string {
  return maskPlaces(text)
    .replace(/\b(bearer|basic)\s+[\w.~+/=*-]{6,}/gi, "$1 ***")
    .replace(/\b((?:api[ _-]?key|secret|token|password|authorization)(?:\s+provided)?)(["']?\s*[:=]\s*["']?)[^\s"',;]{4,}/gi, "$1$2***")
    .replace(/\beyJ[\w-]{6,}\.[\w.-]+/g, "***")
    .replace(
      /\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|glpat|nvapi|r8|pplx|fw|csk|key|org|proj|AKIA|ASIA|AIza|ya29)[-_.]?[A-Za-z0-9*][\w.*-]{7,}/g,
      maskToken,
    )
    .replace(/[A-Za-z0-9+/_=-]{24,}/g, maskToken);
}

/**
 * Masks names of resources that lead to the platform's account: AWS resource names, with account, roles and people in them, and account
 * numbers on their own; subscriptions of Azure; projects of Google Cloud.
 */
function maskPlaces(text: string): string {
  return text
    .replace(/\barn:aws[\w-]*:[^\s"',;]+/g, "arn:***")
    .replace(/\b\d{12}\b/g, "***")
    .replace(/(\bsubscriptions\/)[0-9a-f]{8}-[0-9a-f-]{27}/gi, "$1***")
    .replace(/(\bprojects\/)[^\s/"'`,;]+/g, "$1***");
}

/** Masks a run if a stretch of it between separators is long and mixes digits with letters, or hides characters behind stars. */
function maskToken(token: string): string {
  if (/^(?:call|req|msg|resp|run|chatcmpl|toolu)[-_]/.test(token)) return token;
  if (token.includes("*")) return "***";
  for (const stretch of token.split(/[-_/.=+]/)) {
    if (stretch.length >= 16 && /\d/.test(stretch) && /[A-Za-z]/.test(stretch)) return "***";
  }
  // The usual beginnings of keys stand for themselves, digits or not, where what follows is no word.
  return /^(?:sk|pk|rk|gsk|hf|ghp|glpat|nvapi)[-_][\w-]{16,}$/.test(token) ? "***" : token;
}
