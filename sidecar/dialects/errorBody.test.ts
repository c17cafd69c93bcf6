import { describe, expect, test } from "vitest";
import { FaultReason, type KnownFaultReason } from "../../proto/fault.ts";
import type { JsonObject } from "../framing/json.ts";
import { faultInAnswer, readError, readFault } from "./errorBody.ts";

function read(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return readFault({ status, header: (name) => headers[name], body: Buffer.from(text), nowMs: 0 });
}

const error = (members: Record<string, unknown>) => ({ error: { message: "Said so.", type: null, param: null, code: null, ...members } });

describe("refusals", () => {
  test.each<[string, number, unknown, KnownFaultReason, string, number]>([
    ["an invalid request", 400, error({ type: "invalid_request_error" }), FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT", 400],
    ["a wrong value", 422, error({}), FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT", 422],
    ["too large", 413, error({}), FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT", 413],
    ["a long prompt by code", 400, error({ code: "context_length_exceeded" }), FaultReason.CONTEXT_TOO_LONG, "INVALID_ARGUMENT", 400],
    [
      "a long prompt by words",
      400,
      { object: "error", message: "This model's maximum context length is 10 tokens.", code: 400 },
      FaultReason.CONTEXT_TOO_LONG,
      "INVALID_ARGUMENT",
      400,
    ],
    ["a filtered prompt", 400, error({ code: "content_filter" }), FaultReason.PROVIDER_CONTENT_FILTER, "INVALID_ARGUMENT", 400],
    [
      "a prompt against policy",
      400,
      error({ code: "content_policy_violation" }),
      FaultReason.PROVIDER_CONTENT_FILTER,
      "INVALID_ARGUMENT",
      400,
    ],
    ["a wrong key", 401, error({ code: "invalid_api_key" }), FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED", 502],
    [
      "a wrong key under another status",
      400,
      error({ code: "invalid_api_key" }),
      FaultReason.PROVIDER_CREDENTIAL_REFUSED,
      "UNAUTHENTICATED",
      502,
    ],
    [
      "a wrong key as forbidden",
      403,
      error({ type: "authentication_error" }),
      FaultReason.PROVIDER_CREDENTIAL_REFUSED,
      "UNAUTHENTICATED",
      502,
    ],
    ["no credits", 402, { error: "Payment required" }, FaultReason.PROVIDER_QUOTA_SPENT, "RESOURCE_EXHAUSTED", 402],
    [
      "a spent account",
      429,
      error({ type: "insufficient_quota", code: "insufficient_quota" }),
      FaultReason.PROVIDER_QUOTA_SPENT,
      "RESOURCE_EXHAUSTED",
      429,
    ],
    ["a spent rate", 429, error({ code: "rate_limit_exceeded" }), FaultReason.PROVIDER_RATE_LIMITED, "RESOURCE_EXHAUSTED", 429],
    ["no permission", 403, error({}), FaultReason.PROVIDER_PERMISSION_DENIED, "PERMISSION_DENIED", 403],
    ["an unknown model", 404, error({ code: "model_not_found" }), FaultReason.PROVIDER_MODEL_NOT_FOUND, "NOT_FOUND", 404],
    [
      "an unknown model under another status",
      400,
      error({ code: "model_not_found" }),
      FaultReason.PROVIDER_MODEL_NOT_FOUND,
      "NOT_FOUND",
      400,
    ],
    ["a wrong method", 405, "", FaultReason.PROVIDER_UNIMPLEMENTED, "UNIMPLEMENTED", 405],
    ["a conflict", 409, error({}), FaultReason.PROVIDER_CONFLICT, "ABORTED", 409],
    ["a timeout", 408, error({}), FaultReason.PROVIDER_TIMEOUT, "DEADLINE_EXCEEDED", 408],
    ["a failed generation", 424, { error: "x", error_type: "generation" }, FaultReason.PROVIDER_FAILED, "INTERNAL", 424],
    ["a failure", 500, error({ type: "server_error" }), FaultReason.PROVIDER_FAILED, "INTERNAL", 500],
    ["a bad gateway", 502, "<html><h1>502</h1></html>", FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE", 502],
    ["a loading model", 503, { error: "Model is loading", estimated_time: 20 }, FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE", 503],
    ["a gateway's timeout", 504, "upstream request timeout", FaultReason.PROVIDER_TIMEOUT, "DEADLINE_EXCEEDED", 504],
    ["overload", 529, "", FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE", 529],
    ["a redirect", 302, "", FaultReason.PROVIDER_FAILED, "INTERNAL", 500],
  ])("%s", (_, status, body, reason, code, httpStatus) => {
    const fault = read(status, body);
    expect(fault.reason).toBe(reason);
    expect(fault.httpStatus).toBe(httpStatus);
    expect(fault.facts).toMatchObject({ provider_status: String(status), provider_code: code });
    expect(fault.message).toMatch(/^[^<>]+$/);
  });

  test.each<[string, unknown, string]>([
    ["an object", error({}), "Said so."],
    ["text", { error: "Said so." }, "Said so."],
    ["a list of texts", { error: ["Said so.", "Twice."] }, "Said so. Twice."],
    ["members without an object around them", { object: "error", message: "Said so.", type: "BadRequestError", code: 400 }, "Said so."],
    ["an object in a list", [error({})], "Said so."],
    ["a detail", { detail: "Said so." }, "Said so."],
    ["details of validation", { detail: [{ loc: ["body", "n"], msg: "Said so.", type: "x" }, { msg: "Twice." }] }, "Said so.; Twice."],
    ["a message that is an object", { object: "error", message: { detail: [{ msg: "Said so." }] } }, "Said so."],
    ["plain text", "Said so.", "Said so."],
    ["JSON text", '"Said so."', "Said so."],
  ])("say what the provider said: %s", (_, body, message) => {
    expect(read(400, body).message).toBe(message);
  });

  test.each<[string, unknown]>([
    ["markup", "<!DOCTYPE html><html><body>secret host</body></html>"],
    ["nothing", ""],
    ["a number", "42"],
    ["nothing in an object", {}],
    ["broken JSON markup", '<html>{"error"'],
    ["a message that is no text", error({ message: 42 })],
  ])("say our own words for %s", (_, body) => {
    expect(read(400, body).message).toBe("The provider refused the request (status 400).");
  });

  // A code that is a number broke an error parser, and every 4xx became a 500 (lesson 32).
  test.each<[unknown, string | undefined]>([
    [400, "400"],
    ["unsupported_parameter", "unsupported_parameter"],
    [null, undefined],
    [{}, undefined],
    [1.5e300, undefined],
  ])("take the code %j", (code, expected) => {
    const fault = read(400, error({ code }));
    expect(fault.reason).toBe(FaultReason.PROVIDER_REQUEST_REFUSED);
    expect(fault.facts.provider_error_code).toBe(expected);
  });

  test("name the field that the provider blames, and its words for the kind", () => {
    const fault = read(400, error({ param: "messages[0].content", type: "invalid_request_error" }));
    expect(fault.field).toBe("messages[0].content");
    expect(fault.facts.provider_type).toBe("invalid_request_error");
  });

  test("of a credential say nothing of the provider's", () => {
    const fault = read(401, error({ message: "Incorrect API key provided: sk-abc***xyz", code: "invalid_api_key", param: "key" }));
    expect(fault.message).not.toContain("sk-");
    expect(fault.field).toBeUndefined();
    expect(fault.retryable).toBe(false);
  });

  test.each<[string, Record<string, string>, number | undefined]>([
    ["as said in milliseconds", { "retry-after-ms": "120", "retry-after": "9" }, 120],
    ["as said in seconds", { "retry-after": "2" }, 2000],
    [
      "when the spent window begins anew",
      {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0.5s",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "6h",
      },
      60_500,
    ],
    [
      "when the later window begins anew",
      {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
      },
      360_000,
    ],
    ["when a window has passed whose end is not told", { "x-ratelimit-remaining-tokens-minute": "0" }, 60_000],
    [
      "when the longest of them has passed",
      { "x-ratelimit-remaining-req-10-second": "0", "x-ratelimit-remaining-req-minute": "0" },
      60_000,
    ],
    ["when a short window has passed", { "x-ratelimit-remaining-req-10-second": "0", "x-ratelimit-remaining-req-minute": "4" }, 10_000],
    ["not after a month", { "x-ratelimit-remaining-tokens-month": "0" }, undefined],
    ["not by what is no duration", { "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon" }, undefined],
    ["not at all", {}, undefined],
  ])("are tried again %s", (_, headers, expected) => {
    expect(read(429, error({}), headers).retryAfterMs).toBe(expected);
  });

  test("of a model that is being loaded are tried again when it is there", () => {
    const body = { error: "Model org/name is currently loading", estimated_time: 20.3 };
    expect(read(503, body).retryAfterMs).toBe(20_300);
    expect(read(503, body, { "retry-after": "2" }).retryAfterMs).toBe(2000);
    for (const estimated_time of [-1, 0, "20", 1e9, null]) expect(read(503, { ...body, estimated_time }).retryAfterMs).toBeUndefined();
    expect(read(500, body).retryAfterMs).toBeUndefined();
  });

  test.each<[unknown, string | undefined]>([
    [{ detail: [{ loc: ["body", "messages", 2, "tool_calls", 0, "id"], msg: "Bad." }] }, "messages[2].tool_calls[0].id"],
    [{ object: "error", message: { detail: [{ loc: ["body", "top_k"], msg: "Extra.", type: "extra_forbidden" }] } }, "top_k"],
    [{ detail: [{ loc: "top_k", msg: "Bad." }] }, undefined],
    [{ detail: [{ loc: ["body"], msg: "Bad." }] }, undefined],
    [{ detail: [] }, undefined],
    [{ detail: [null] }, undefined],
  ])("name the field that validation blames: %j", (body, field) => {
    expect(read(422, body).field).toBe(field);
  });

  test("are tried again, or not, by what was spent", () => {
    expect(read(429, error({ code: "rate_limit_exceeded" })).retryable).toBe(true);
    expect(read(429, error({ code: "insufficient_quota" })).retryable).toBe(false);
    expect(read(500, error({})).retryable).toBe(true);
    expect(read(400, error({})).retryable).toBe(false);
  });
});

describe("errors inside an answer", () => {
  test.each<[string, unknown, KnownFaultReason, number]>([
    ["overloaded", { error: "Model is overloaded", error_type: "overloaded" }, FaultReason.PROVIDER_RATE_LIMITED, 429],
    ["generation", { error: "Request failed", error_type: "generation" }, FaultReason.PROVIDER_FAILED, 424],
    ["incomplete", { error: "Incomplete", error_type: "incomplete_generation" }, FaultReason.PROVIDER_FAILED, 500],
    ["validation", { error: "Too long", error_type: "validation" }, FaultReason.PROVIDER_REQUEST_REFUSED, 422],
    ["template", { error: "Bad template", error_type: "template_error" }, FaultReason.PROVIDER_REQUEST_REFUSED, 422],
    ["tools", { error: "Bad tool", error_type: "tool_error" }, FaultReason.PROVIDER_REQUEST_REFUSED, 422],
    ["a gateway before the server", { statusCode: 404, message: "Resource not found" }, FaultReason.PROVIDER_MODEL_NOT_FOUND, 404],
    ["a deployment", { error: { code: "DeploymentNotFound", message: "None." } }, FaultReason.PROVIDER_MODEL_NOT_FOUND, 404],
    ["a rate", { error: { code: "RateLimitReached", message: "Slow." } }, FaultReason.PROVIDER_RATE_LIMITED, 429],
    [
      "a filtered prompt",
      {
        error: {
          message: "Filtered.",
          type: null,
          code: "content_filter",
          status: 400,
          innererror: { code: "ResponsibleAIPolicyViolation" },
        },
      },
      FaultReason.PROVIDER_CONTENT_FILTER,
      400,
    ],
  ])("%s means what its status would", (_, body, reason, status) => {
    const error = readError(body as JsonObject);
    if (error === undefined) throw new Error("this is an error");
    const fault = faultInAnswer(error);
    expect([fault.reason, fault.httpStatus]).toEqual([reason, status]);
  });
});
