/** The object that says in plain HTTP what failed, in words that SDKs know. */
import { type Fault, FaultReason, type KnownFaultReason } from "../../proto/fault.ts";

/** What failed, as the value of a member `error`. */
export interface ErrorObject {
  readonly message: string;
  readonly type: string;
  /** The request field at fault. */
  readonly param: string | null;
  readonly code: string | null;
}

/** A fault as that object. What a provider said of its own request is more exact than what we could say of it. */
export function errorObject(fault: Fault): ErrorObject {
  const { type, code } = words[fault.reason];
  const said = fault.reason === FaultReason.PROVIDER_REQUEST_REFUSED ? fault.facts : {};
  return {
    message: fault.message,
    type: said.provider_type ?? type,
    param: fault.field ?? null,
    code: said.provider_error_code ?? code,
  };
}

interface Words {
  readonly type: string;
  readonly code: string | null;
}

function invalidRequest(code: string | null): Words {
  return { type: "invalid_request_error", code };
}

function serverError(code: string): Words {
  return { type: "server_error", code };
}

/** The API's own words where it has some for the fact; otherwise its type and our own code. */
const words: Readonly<Record<KnownFaultReason, Words>> = Object.freeze({
  [FaultReason.UNSPECIFIED]: serverError("internal"),
  [FaultReason.CREDENTIAL_INVALID]: { type: "authentication_error", code: "invalid_api_key" },
  [FaultReason.MODEL_NOT_ALLOWED]: { type: "permission_error", code: "model_not_found" },
  [FaultReason.MODEL_NOT_FOUND]: invalidRequest("model_not_found"),
  [FaultReason.PATH_NOT_FOUND]: invalidRequest("unknown_url"),
  [FaultReason.METHOD_NOT_ALLOWED]: invalidRequest("method_not_supported"),
  [FaultReason.REQUEST_INVALID]: invalidRequest("invalid_value"),
  [FaultReason.REQUEST_TOO_LARGE]: invalidRequest("request_too_large"),
  [FaultReason.ENCODING_UNSUPPORTED]: invalidRequest("unsupported_media_type"),
  [FaultReason.PARAMETER_UNSUPPORTED]: invalidRequest("unsupported_parameter"),
  [FaultReason.OVERLOADED]: { type: "rate_limit_error", code: "rate_limit_exceeded" },
  [FaultReason.DRAINING]: serverError("service_unavailable"),
  [FaultReason.NO_HEALTHY_TARGET]: serverError("service_unavailable"),
  [FaultReason.DEADLINE_EXCEEDED]: { type: "timeout_error", code: "deadline_exceeded" },
  [FaultReason.CANCELLED]: serverError("cancelled"),
  [FaultReason.PROVIDER_REQUEST_REFUSED]: invalidRequest(null),
  [FaultReason.CONTEXT_TOO_LONG]: invalidRequest("context_length_exceeded"),
  [FaultReason.PROVIDER_CONTENT_FILTER]: invalidRequest("content_filter"),
  [FaultReason.PROVIDER_CREDENTIAL_REFUSED]: serverError("provider_credential_refused"),
  [FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE]: serverError("provider_credential_unavailable"),
  [FaultReason.PROVIDER_PERMISSION_DENIED]: { type: "permission_error", code: "provider_permission_denied" },
  [FaultReason.PROVIDER_MODEL_NOT_FOUND]: invalidRequest("model_not_found"),
  [FaultReason.PROVIDER_RATE_LIMITED]: { type: "rate_limit_error", code: "rate_limit_exceeded" },
  [FaultReason.PROVIDER_QUOTA_SPENT]: { type: "insufficient_quota", code: "insufficient_quota" },
  [FaultReason.PROVIDER_FAILED]: serverError("provider_failed"),
  [FaultReason.PROVIDER_UNAVAILABLE]: serverError("provider_unavailable"),
  [FaultReason.PROVIDER_TIMEOUT]: { type: "timeout_error", code: "provider_timeout" },
  [FaultReason.PROVIDER_ANSWER_INVALID]: serverError("provider_answer_invalid"),
  [FaultReason.PROVIDER_ANSWER_INCOMPLETE]: serverError("provider_answer_incomplete"),
  [FaultReason.CALLER_STALLED]: invalidRequest("caller_stalled"),
  [FaultReason.INTERNAL]: serverError("internal"),
  [FaultReason.PROVIDER_CONFLICT]: serverError("provider_conflict"),
  [FaultReason.PROVIDER_UNIMPLEMENTED]: serverError("provider_unimplemented"),
  [FaultReason.MESSAGE_COUNT_INVALID]: invalidRequest("invalid_value"),
  [FaultReason.ORIGIN_NOT_ALLOWED]: { type: "permission_error", code: "origin_not_allowed" },
});
