/**
 * Faults in the words of gRPC, gRPC-Web and Connect: the status, and google.rpc's details of it.
 */
import { create, type DescMessage, type Message, toBinary, toJson } from "@bufbuild/protobuf";
import { anyPack, DurationSchema } from "@bufbuild/protobuf/wkt";
import { type Fault, FaultReason, GrpcCode, type GrpcCodeName } from "../../../proto/fault.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../../proto/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../../proto/gen/google/rpc/status_pb.ts";

/** One detail of a status: a message and what it is. */
export interface StatusDetail {
  readonly desc: DescMessage;
  readonly value: Message;
}

/** What `google.rpc.ErrorInfo` says of every reason: whose list of reasons it is from. */
export const faultDomain = "outrigger.dev";

/** The trailers of a call that succeeded. */
export const okTrailers: readonly string[] = Object.freeze(["grpc-status", "0"]);

/** The trailers of a call that failed, for gRPC and gRPC-Web: names and values, in turn. */
export function faultTrailers(fault: Fault, requestId: string): readonly string[] {
  const message = upTo(headerMessageBytesMax, fault.message);
  const code = GrpcCode[fault.kind.code];
  const status = create(StatusSchema, {
    code,
    message,
    details: faultDetails(fault, requestId).map(({ desc, value }) => anyPack(desc, value)),
  });
  return [
    "grpc-status",
    String(code),
    "grpc-message",
    percentEncode(message),
    "grpc-status-details-bin",
    base64(toBinary(StatusSchema, status)),
  ];
}

/** A fault as Connect's JSON (https://connectrpc.com/docs/protocol, "Error"): the body of a refusal, or part of a stream's end. */
export function connectErrorJson(fault: Fault, requestId: string): string {
  return JSON.stringify(connectError(fault, requestId));
}

/** The last message of a Connect stream: `{}` if it succeeded. */
export function connectEndJson(fault: Fault | undefined, requestId: string): string {
  return fault === undefined ? "{}" : JSON.stringify({ error: connectError(fault, requestId) });
}

/** The HTTP status of a refused Connect call (https://connectrpc.com/docs/protocol, "Error Codes"). */
export function connectHttpStatus(code: GrpcCodeName): number {
  return httpStatuses[code];
}

/** A status code in Connect's words. */
export function connectCode(code: GrpcCodeName): string {
  // Connect writes this one with a single l, as Americans do.
  return code === "CANCELLED" ? "canceled" : code.toLowerCase();
}

/** All that google.rpc can say of a fault: the reason always, the rest where it is known. */
export function faultDetails(fault: Fault, requestId: string): StatusDetail[] {
  const info = create(ErrorInfoSchema, { reason: fault.kind.name, domain: faultDomain, metadata: boundedFacts(fault.facts) });
  const details: StatusDetail[] = [{ desc: ErrorInfoSchema, value: info }];
  const fieldViolations = boundedViolations(fault);
  if (fieldViolations.length > 0) details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  if (fault.reason === FaultReason.PROVIDER_QUOTA_SPENT || fault.reason === FaultReason.PROVIDER_RATE_LIMITED) {
    const subject = `provider:${fault.facts.provider ?? ""}`;
    const value = create(QuotaFailureSchema, { violations: [{ subject, description: upTo(descriptionBytesMax, fault.message) }] });
    details.push({ desc: QuotaFailureSchema, value });
  }
  if (fault.retryAfterMs !== undefined) {
    const seconds = Math.floor(fault.retryAfterMs / 1_000);
    const nanos = Math.round((fault.retryAfterMs - seconds * 1_000) * 1e6);
    const retryDelay = create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.min(nanos, 999_999_999) });
    details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  if (requestId !== "") details.push({ desc: RequestInfoSchema, value: create(RequestInfoSchema, { requestId }) });
  return details;
}

/**
 * A status message as a header value: UTF-8, with all but printable ASCII, and the percent sign itself, as percent and two
 * hexadecimal digits (gRPC PROTOCOL-HTTP2, "Status-Message").
 */
export function percentEncode(text: string): string {
  if (/^[\x20-\x24\x26-\x7e]*$/.test(text)) return text;
  let encoded = "";
  for (const byte of Buffer.from(text)) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}

/** A text's beginning, so much of it that it takes at most `bytesMax` bytes; what is cut ends in an ellipsis. */
export function upTo(bytesMax: number, text: string): string {
  if (text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax) return text;
  // The cut may fall within a character, which then decodes to replacement characters.
  return `${Buffer.from(text)
    .subarray(0, bytesMax - 3)
    .toString()
    .replace(/\ufffd+$/, "")}…`;
}

// Trailers go as one block of headers, which some clients limit to 8 KiB with all their names: the message may take 3 KiB of it in
// percent signs and 1.4 KiB in base64, the details 3.5 KiB.
const headerMessageBytesMax = 1_024;
const bodyMessageBytesMax = 8_192; // Connect's JSON has room; longer than this no message of ours is, and nobody would read it
const factsBytesMax = 1_024;
const violationsBytesMax = 1_024;
const descriptionBytesMax = 256;

const httpStatuses: Readonly<Record<GrpcCodeName, number>> = Object.freeze({
  CANCELLED: 499,
  UNKNOWN: 500,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 400,
  ABORTED: 409,
  OUT_OF_RANGE: 400,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
});

function connectError(fault: Fault, requestId: string) {
  return {
    code: connectCode(fault.kind.code),
    message: upTo(bodyMessageBytesMax, fault.message),
    details: faultDetails(fault, requestId).map(({ desc, value }) => ({
      type: desc.typeName,
      value: base64(toBinary(desc, value)),
      debug: toJson(desc, value),
    })),
  };
}

/** Facts up to the limit: what no longer fits is left out whole, since half a fact misleads. */
function boundedFacts(facts: Readonly<Record<string, string>>): Record<string, string> {
  const bounded: Record<string, string> = {};
  let bytes = 0;
  for (const [name, fact] of Object.entries(facts)) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(fact);
    if (bytes > factsBytesMax) break;
    bounded[name] = fact;
  }
  return bounded;
}

/** The fields at fault up to the limit: a person mends the first ones first. */
function boundedViolations(fault: Fault): { field: string; description: string }[] {
  const { field, message } = fault;
  const all = fault.violations.length > 0 ? fault.violations : field === undefined ? [] : [{ field, message }];
  const bounded: { field: string; description: string }[] = [];
  let bytes = 0;
  for (const violation of all) {
    const described = { field: violation.field, description: upTo(descriptionBytesMax, violation.message) };
    bytes += Buffer.byteLength(described.field) + Buffer.byteLength(described.description);
    if (bytes > violationsBytesMax) break;
    bounded.push(described);
  }
  return bounded;
}

/** Binary header values and Connect's details are base64 without padding. */
function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64").replace(/=+$/, "");
}
