/** Faults in the words of the Anthropic API (https://docs.anthropic.com/en/api/errors). */
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { stringify } from "../../framing/json.ts";

/** A fault as the body of an answer that never began, and as the data of the event that ends a stream. */
export function writeFault(fault: Fault, requestId: string): string {
  return stringify({ type: "error", error: { type: typeOf(fault), message: fault.message }, request_id: requestId });
}

/**
 * This API's own word for a fault. It goes by what the reason means here and not by a provider's status: the platform's key failing is
 * no authentication error of the caller's.
 */
function typeOf({ reason, kind }: Fault): string {
  if (reason === FaultReason.PROVIDER_QUOTA_SPENT) return "billing_error";
  return types[kind.httpStatus] ?? (kind.httpStatus < 500 ? "invalid_request_error" : "api_error");
}

const types: Readonly<Record<number, string>> = Object.freeze({
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  408: "timeout_error",
  413: "request_too_large",
  429: "rate_limit_error",
  499: "api_error",
  503: "overloaded_error",
  504: "timeout_error",
});
