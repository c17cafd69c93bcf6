/**
 * Expected failures, as values from one list.
 *
 * `FaultReason` in `outrigger/chat/v1/faults.proto` is the list; the table here gives each reason its gRPC code, its HTTP status and
 * whether another attempt makes sense. How a fault looks in a caller's own format is the affair of that format's dialect.
 */
import { FaultReason } from "./gen/outrigger/chat/v1/faults_pb.ts";

export { FaultReason };

/** A reason that this build knows; the generated type also admits the numbers of later builds. */
export type KnownFaultReason = (typeof FaultReason)[keyof typeof FaultReason];

/** gRPC status codes by name (https://grpc.io/docs/guides/status-codes/). Connect uses the same ones in lower case. */
export const GrpcCode = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** The name of a gRPC status code, such as `RESOURCE_EXHAUSTED`. */
export type GrpcCodeName = keyof typeof GrpcCode;

/** What holds for every fault of one reason. */
export interface FaultKind {
  /** The reason's name for programs, as `google.rpc.ErrorInfo.reason`: the enum's name without its prefix. */
  readonly name: string;
  /** The gRPC and Connect status. */
  readonly code: GrpcCodeName;
  /** The HTTP status at doors that speak plain HTTP; a provider's own status takes its place where `Fault.httpStatus` is set. */
  readonly httpStatus: number;
  /** Whether the same call may succeed a little later. SDKs obey it as `x-should-retry`. */
  readonly retryable: boolean;
}

function kind(name: string, code: GrpcCodeName, httpStatus: number, retryable = false): FaultKind {
  return Object.freeze({ name, code, httpStatus, retryable });
}

/** Every reason's kind. The statuses are those of the fault table in `docs/faults.md`. */
export const faultKinds: Readonly<Record<KnownFaultReason, FaultKind>> = Object.freeze({
  [FaultReason.UNSPECIFIED]: kind("INTERNAL", "INTERNAL", 500),
  [FaultReason.CREDENTIAL_INVALID]: kind("CREDENTIAL_INVALID", "UNAUTHENTICATED", 401),
  [FaultReason.MODEL_NOT_ALLOWED]: kind("MODEL_NOT_ALLOWED", "PERMISSION_DENIED", 403),
  [FaultReason.MODEL_NOT_FOUND]: kind("MODEL_NOT_FOUND", "NOT_FOUND", 404),
  [FaultReason.PATH_NOT_FOUND]: kind("PATH_NOT_FOUND", "UNIMPLEMENTED", 404),
  [FaultReason.METHOD_NOT_ALLOWED]: kind("METHOD_NOT_ALLOWED", "UNIMPLEMENTED", 405),
  [FaultReason.REQUEST_INVALID]: kind("REQUEST_INVALID", "INVALID_ARGUMENT", 400),
  [FaultReason.REQUEST_TOO_LARGE]: kind("REQUEST_TOO_LARGE", "RESOURCE_EXHAUSTED", 413),
  [FaultReason.ENCODING_UNSUPPORTED]: kind("ENCODING_UNSUPPORTED", "UNIMPLEMENTED", 415),
  [FaultReason.PARAMETER_UNSUPPORTED]: kind("PARAMETER_UNSUPPORTED", "INVALID_ARGUMENT", 400),
  [FaultReason.OVERLOADED]: kind("OVERLOADED", "RESOURCE_EXHAUSTED", 429, true),
  [FaultReason.DRAINING]: kind("DRAINING", "UNAVAILABLE", 503, true),
  [FaultReason.NO_HEALTHY_TARGET]: kind("NO_HEALTHY_TARGET", "UNAVAILABLE", 503, true),
  [FaultReason.DEADLINE_EXCEEDED]: kind("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 504),
  [FaultReason.CANCELLED]: kind("CANCELLED", "CANCELLED", 499),
  [FaultReason.PROVIDER_REQUEST_REFUSED]: kind("PROVIDER_REQUEST_REFUSED", "INVALID_ARGUMENT", 400),
  [FaultReason.CONTEXT_TOO_LONG]: kind("CONTEXT_TOO_LONG", "INVALID_ARGUMENT", 400),
  [FaultReason.PROVIDER_CONTENT_FILTER]: kind("PROVIDER_CONTENT_FILTER", "INVALID_ARGUMENT", 400),
  [FaultReason.PROVIDER_CREDENTIAL_REFUSED]: kind("PROVIDER_CREDENTIAL_REFUSED", "UNAVAILABLE", 502),
  [FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE]: kind("PROVIDER_CREDENTIAL_UNAVAILABLE", "UNAVAILABLE", 503, true),
  [FaultReason.PROVIDER_PERMISSION_DENIED]: kind("PROVIDER_PERMISSION_DENIED", "PERMISSION_DENIED", 403),
  [FaultReason.PROVIDER_MODEL_NOT_FOUND]: kind("PROVIDER_MODEL_NOT_FOUND", "NOT_FOUND", 404),
  [FaultReason.PROVIDER_RATE_LIMITED]: kind("PROVIDER_RATE_LIMITED", "RESOURCE_EXHAUSTED", 429, true),
  [FaultReason.PROVIDER_QUOTA_SPENT]: kind("PROVIDER_QUOTA_SPENT", "RESOURCE_EXHAUSTED", 429),
  [FaultReason.PROVIDER_FAILED]: kind("PROVIDER_FAILED", "INTERNAL", 500, true),
  [FaultReason.PROVIDER_UNAVAILABLE]: kind("PROVIDER_UNAVAILABLE", "UNAVAILABLE", 503, true),
  [FaultReason.PROVIDER_TIMEOUT]: kind("PROVIDER_TIMEOUT", "DEADLINE_EXCEEDED", 504, true),
  [FaultReason.PROVIDER_ANSWER_INVALID]: kind("PROVIDER_ANSWER_INVALID", "INTERNAL", 502, true),
  [FaultReason.PROVIDER_ANSWER_INCOMPLETE]: kind("PROVIDER_ANSWER_INCOMPLETE", "UNAVAILABLE", 502, true),
  [FaultReason.CALLER_STALLED]: kind("CALLER_STALLED", "CANCELLED", 408),
  [FaultReason.INTERNAL]: kind("INTERNAL", "INTERNAL", 500),
  [FaultReason.PROVIDER_CONFLICT]: kind("PROVIDER_CONFLICT", "ABORTED", 409, true),
  [FaultReason.PROVIDER_UNIMPLEMENTED]: kind("PROVIDER_UNIMPLEMENTED", "UNIMPLEMENTED", 501),
  [FaultReason.MESSAGE_COUNT_INVALID]: kind("MESSAGE_COUNT_INVALID", "UNIMPLEMENTED", 400),
  [FaultReason.ORIGIN_NOT_ALLOWED]: kind("ORIGIN_NOT_ALLOWED", "PERMISSION_DENIED", 403),
});

/** A request field that breaks a rule. */
export interface FieldViolation {
  /** The field, as a path such as `messages[2].content`. */
  readonly field: string;
  /** What the field must be, as the end of a sentence that begins with its path: `must not be empty`. */
  readonly message: string;
}

/** What can be said of one fault beside its reason and message. */
export interface FaultDetails {
  /** The request field at fault, as a path such as `messages[2].content`; the first one where there are several. */
  readonly field?: string;
  /** Every field at fault, where more is known than one path; bounded by who found them. */
  readonly violations?: readonly FieldViolation[];
  /** Facts that the message names, for programs; they reach the caller. Never a secret, never content. */
  readonly facts?: Readonly<Record<string, string>>;
  /** When another attempt may pass, in milliseconds from now. */
  readonly retryAfterMs?: number;
  /** The status for doors that speak plain HTTP, where a provider's own status says more than the reason's. */
  readonly httpStatus?: number;
  /** Overrides the kind, where a provider said whether to retry. */
  readonly retryable?: boolean;
  /** What happened underneath, for the log only. */
  readonly cause?: unknown;
}

/** An expected failure. Its message is safe: it may be shown to the caller as it is. */
export class Fault extends Error {
  readonly reason: KnownFaultReason;
  readonly kind: FaultKind;
  readonly field: string | undefined;
  readonly violations: readonly FieldViolation[];
  readonly facts: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly httpStatus: number;
  readonly retryable: boolean;

  constructor(reason: KnownFaultReason, message: string, details: FaultDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "Fault";
    this.reason = reason;
    this.kind = faultKinds[reason];
    this.field = details.field;
    this.violations = details.violations ?? [];
    this.facts = details.facts ?? {};
    this.retryAfterMs = details.retryAfterMs;
    this.httpStatus = details.httpStatus ?? this.kind.httpStatus;
    this.retryable = details.retryable ?? this.kind.retryable;
  }
}

/**
 * The fault without secrets that its words may have quoted: a provider that repeats what it was sent repeats the platform's credential.
 * The fault itself if none is in it, as nearly always.
 */
export function withoutSecrets(fault: Fault, secrets: readonly string[]): Fault {
  const conceal = (text: string): string => secrets.reduce((seen, secret) => concealed(seen, secret), text);
  const { field, violations, facts, retryAfterMs, httpStatus, retryable, cause } = fault;
  const message = conceal(fault.message);
  const shown = Object.entries(facts).map(([name, value]) => [name, conceal(value)] as const);
  const shownField = field === undefined ? undefined : conceal(field);
  if (message === fault.message && shownField === field && shown.every(([name, value]) => value === facts[name])) return fault;
  return new Fault(fault.reason, message, {
    facts: Object.fromEntries(shown),
    violations,
    httpStatus,
    retryable,
    ...(shownField === undefined ? {} : { field: shownField }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Shorter values are words that a sentence may have for other reasons, and no secrets worth the name. */
const SECRET_CHARACTERS_MIN = 6;

function concealed(text: string, secret: string): string {
  if (secret.length < SECRET_CHARACTERS_MIN) return text;
  const whole = text.replaceAll(secret, "***");
  // A message that was cut may end within one.
  const body = whole.endsWith("…") ? whole.slice(0, -1) : whole;
  if (body === whole) return whole;
  for (let length = Math.min(secret.length - 1, body.length); length >= SECRET_CHARACTERS_MIN; length--) {
    if (body.endsWith(secret.slice(0, length))) return `${body.slice(0, -length)}***…`;
  }
  return whole;
}

/** The fault that a caught value is: itself, or an internal fault whose cause goes to the log and nowhere else. */
export function toFault(caught: unknown): Fault {
  if (caught instanceof Fault) return caught;
  return new Fault(FaultReason.INTERNAL, "Outrigger failed while it handled this call. The log has the cause.", { cause: caught });
}
