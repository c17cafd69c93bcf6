import { expect, it } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { faultInAnswer, readFault } from "./readFault.ts";

function refused(status: number, type: string, message = "No.", headers: Record<string, string> = {}) {
  const body = Buffer.from(JSON.stringify({ type: "error", error: { type, message }, request_id: "req_1" }));
  return readFault({ status, header: (name) => headers[name], body, nowMs: Date.parse("2026-01-01T00:00:00Z") });
}

const kinds: [number, string, number, string][] = [
  [400, "invalid_request_error", FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT"],
  [401, "authentication_error", FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED"],
  [402, "billing_error", FaultReason.PROVIDER_QUOTA_SPENT, "RESOURCE_EXHAUSTED"],
  [403, "permission_error", FaultReason.PROVIDER_PERMISSION_DENIED, "PERMISSION_DENIED"],
  [404, "not_found_error", FaultReason.PROVIDER_MODEL_NOT_FOUND, "NOT_FOUND"],
  [413, "request_too_large", FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT"],
  [429, "rate_limit_error", FaultReason.PROVIDER_RATE_LIMITED, "RESOURCE_EXHAUSTED"],
  [500, "api_error", FaultReason.PROVIDER_FAILED, "INTERNAL"],
  [504, "timeout_error", FaultReason.PROVIDER_TIMEOUT, "DEADLINE_EXCEEDED"],
  [529, "overloaded_error", FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE"],
];

it.each(kinds)("status %i, %s", (status, type, reason, code) => {
  const fault = refused(status, type);
  expect(fault.reason).toBe(reason);
  expect(fault.facts).toMatchObject({ provider_status: String(status), provider_code: code, provider_type: type });
  // Inside a stream there is no status, and the same type means the same.
  const inside = faultInAnswer({ type, message: "No." });
  expect(inside.reason).toBe(reason);
  expect(inside.facts).toEqual(fault.facts);
});

it("believes the type more than the status", () => {
  expect(refused(500, "overloaded_error").reason).toBe(FaultReason.PROVIDER_UNAVAILABLE);
  expect(refused(418, "unheard_of").reason).toBe(FaultReason.PROVIDER_REQUEST_REFUSED);
  expect(faultInAnswer(null).reason).toBe(FaultReason.PROVIDER_FAILED);
});

it("tells a prompt that is too long from other refusals", () => {
  expect(refused(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum").reason).toBe(
    FaultReason.CONTEXT_TOO_LONG,
  );
  expect(refused(400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000").reason).toBe(
    FaultReason.CONTEXT_TOO_LONG,
  );
  expect(refused(500, "api_error", "prompt is too long").reason).toBe(FaultReason.PROVIDER_FAILED);
});

it("looks at retry-after only where it has a meaning", () => {
  for (const [status, type] of [
    [429, "rate_limit_error"],
    [503, "api_error"],
    [529, "overloaded_error"],
  ] as const) {
    expect(refused(status, type, "x", { "retry-after": "7" }).retryAfterMs).toBe(7000);
  }
  expect(refused(400, "invalid_request_error", "x", { "retry-after": "7" }).retryAfterMs).toBeUndefined();
});

it("waits until the limits that are used up begin anew, where nothing else is said", () => {
  const limit = (name: string, remaining: string, reset: string) => ({
    [`anthropic-ratelimit-${name}-remaining`]: remaining,
    [`anthropic-ratelimit-${name}-reset`]: reset,
  });
  const headers = {
    ...limit("requests", "0", "2026-01-01T00:00:02Z"),
    ...limit("tokens", "0", "2026-01-01T00:00:05Z"),
    ...limit("output-tokens", "1", "2026-01-01T00:01:00Z"),
  };
  expect(refused(429, "rate_limit_error", "x", headers).retryAfterMs).toBe(5000);
  expect(refused(429, "rate_limit_error", "x", { ...headers, "retry-after": "1" }).retryAfterMs).toBe(1000);
  expect(refused(429, "rate_limit_error", "x", limit("requests", "0", "soon")).retryAfterMs).toBeUndefined();
});

it("obeys the provider on whether to retry", () => {
  expect(refused(400, "invalid_request_error", "x", { "x-should-retry": "true" }).retryable).toBe(true);
  expect(refused(529, "overloaded_error", "x", { "x-should-retry": "false" }).retryable).toBe(false);
  expect(refused(529, "overloaded_error").retryable).toBe(true);
});

it("says nothing of the platform's credential", () => {
  const fault = refused(401, "authentication_error", "invalid x-api-key sk-ant-abc");
  expect(fault.message).not.toContain("sk-ant");
  expect(fault.message).toMatch(/credential that the platform holds/);
});
