import { expect, it } from "vitest";
import type { Fault } from "../../../proto/fault.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { geminiClient } from "./gemini.ts";

const client = geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] });

function refused(status: number, error: unknown, headers: Readonly<Record<string, string>> = {}): Fault {
  const body = Buffer.from(typeof error === "string" ? error : JSON.stringify({ error }));
  return client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
}

const detail = (type: string, more: object): object => ({ "@type": `type.googleapis.com/google.rpc.${type}`, ...more });

it.each([
  [400, "INVALID_ARGUMENT", "PROVIDER_REQUEST_REFUSED", false],
  [400, "FAILED_PRECONDITION", "PROVIDER_REQUEST_REFUSED", false],
  [401, "UNAUTHENTICATED", "PROVIDER_CREDENTIAL_REFUSED", false],
  [403, "PERMISSION_DENIED", "PROVIDER_PERMISSION_DENIED", false],
  [404, "NOT_FOUND", "PROVIDER_MODEL_NOT_FOUND", false],
  [429, "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", true],
  [499, "CANCELLED", "PROVIDER_UNAVAILABLE", true],
  [500, "INTERNAL", "PROVIDER_FAILED", true],
  [503, "UNAVAILABLE", "PROVIDER_UNAVAILABLE", true],
  [504, "DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT", true],
])("%i %s is %s, before the answer and inside it", (code, status, reason, retryable) => {
  const error = { code, message: "Words.", status };
  const inside = readPieces(client, [`data: ${JSON.stringify({ error })}\r\n\r\n`]).failure;
  for (const fault of [refused(code, error), inside]) {
    expect(fault).toMatchObject({
      kind: { name: reason },
      retryable,
      facts: { provider_status: String(code), provider_code: status, provider_type: status },
    });
  }
});

it("a bad key comes as a bad request and is the platform's fault, of which the caller hears no word", () => {
  for (const reason of ["API_KEY_INVALID", "ACCESS_TOKEN_EXPIRED"]) {
    const fault = refused(400, {
      code: 400,
      message: "API key not valid: AIzaSyA1b2c3d4",
      status: "INVALID_ARGUMENT",
      details: [detail("ErrorInfo", { reason })],
    });
    expect(fault).toMatchObject({ kind: { name: "PROVIDER_CREDENTIAL_REFUSED" }, facts: { provider_code: "UNAUTHENTICATED" } });
    expect(JSON.stringify(fault) + fault.message).not.toMatch(/AIza|not valid/);
  }
});

it.each([
  ["48s", 48_000],
  ["34.4s", 34_400],
  ["0.000000001s", 1],
  ["999999999s", 604_800_000],
  ["-1s", undefined],
  ["soon", undefined],
])("RetryInfo %s says when to try again", (retryDelay, expected) => {
  const error = {
    code: 429,
    message: "Slow down.",
    status: "RESOURCE_EXHAUSTED",
    details: [detail("Help", {}), null, detail("RetryInfo", { retryDelay })],
  };
  expect(refused(429, error).retryAfterMs).toBe(expected);
  expect(readPieces(client, [JSON.stringify([{ error }])]).failure?.retryAfterMs).toBe(expected);
});

it("a header goes before RetryInfo", () => {
  const error = { code: 429, message: "m", status: "RESOURCE_EXHAUSTED", details: [detail("RetryInfo", { retryDelay: "48s" })] };
  expect(refused(429, error, { "retry-after": "3" }).retryAfterMs).toBe(3000);
});

it("the quota of a day is spent and will not be there again in seconds", () => {
  const violations = [{ quotaId: "GenerateRequestsPerDayPerProjectPerModel-FreeTier", quotaValue: "50" }];
  const details = [detail("QuotaFailure", { violations }), detail("RetryInfo", { retryDelay: "48s" })];
  const fault = refused(429, { code: 429, message: "You exceeded your current quota.", status: "RESOURCE_EXHAUSTED", details });
  expect(fault).toMatchObject({ kind: { name: "PROVIDER_QUOTA_SPENT" }, retryable: false, retryAfterMs: undefined, httpStatus: 429 });
  const perMinute = [detail("QuotaFailure", { violations: [{ quotaId: "GenerateRequestsPerMinutePerProject" }] })];
  expect(refused(429, { code: 429, status: "RESOURCE_EXHAUSTED", details: perMinute }).kind.name).toBe("PROVIDER_RATE_LIMITED");
});

it("a prompt that is too long is told apart, so that policy can ask a larger model", () => {
  const message = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).";
  expect(refused(400, { code: 400, message, status: "INVALID_ARGUMENT" })).toMatchObject({ kind: { name: "CONTEXT_TOO_LONG" }, message });
});

it("names of projects stay with the platform", () => {
  const message =
    "Publisher Model `projects/secret-project-17/locations/us/publishers/google/models/g` was not found for project_number:123456789012.";
  const fault = refused(404, { code: 404, message, status: "NOT_FOUND" });
  expect(fault.message).toBe(
    "Publisher Model `projects/***/locations/us/publishers/google/models/g` was not found for project_number:***.",
  );
});

it.each(["", "<html>Bad gateway AIzaSyA1b2c3d4</html>", "[]", "null", '"x"', '{"error":null}', "[[]]"])(
  "a body that is no error of the API says nothing: %s",
  (body) => {
    const fault = refused(502, body);
    expect(fault).toMatchObject({ kind: { name: "PROVIDER_UNAVAILABLE" }, httpStatus: 502 });
    expect(fault.message).not.toContain("AIza");
  },
);

it("an error without a status inside an answer is the provider's failure", () => {
  expect(readPieces(client, ['{"error":"overloaded"}']).failure).toMatchObject({
    kind: { name: "PROVIDER_FAILED" },
    message: "overloaded",
  });
  expect(readPieces(client, ['{"error":{"code":503}}']).failure).toMatchObject({ kind: { name: "PROVIDER_UNAVAILABLE" } });
});
