import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FaultReason } from "../../proto/fault.ts";
import { classOfStatus, refusalFault, retryAfter, safeMessage } from "./refusal.ts";

const fallback = "The provider refused the request.";

describe("safeMessage", () => {
  test.each([
    "The model `gpt-4.1-nano-wrong` does not exist or you do not have access to it.",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "Models: meta-llama/Llama-3.3-70B-Instruct-Turbo-Free, claude-sonnet-4-20250514, gpt-4o-mini-2024-07-18",
    "No tool output found for function call call_8fxy20OEu9ulvvaa5b5CzVA4.",
    "This model's maximum context length is 8192 tokens, you requested 10000.",
    "See https://platform.example.com/docs/guides/error-codes/api-errors for help.",
    "Der Prompt ist zu lang: 漢字 🦊",
  ])("passes on %j", (message) => {
    expect(safeMessage(message, fallback)).toBe(message);
  });

  test.each([
    "sk-proj-abcdEFGH1234567890abcdEFGH",
    "sk-abc12***************xyz9",
    "sk-abcd****************wxyz",
    "gsk_abcdefghijklmnopqrstuvwx",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyDa-1234567890abcdefghijklmnopqrst",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "0123456789abcdef0123456789abcdef",
    "org-AbCdEfGh1234567890abcdEF",
  ])("masks %s wherever it stands", (secret) => {
    for (const message of [`Incorrect API key provided: ${secret}. Try another.`, `key ${secret}`, `("${secret}")`, `Bearer ${secret}`]) {
      const shown = safeMessage(message, fallback);
      expect(shown).toContain("***");
      expect(shown).not.toContain(secret.slice(0, 8));
      expect(shown).not.toContain(secret.slice(-6));
    }
  });

  test.each([
    ["User: arn:aws:sts::123456789012:assumed-role/ops/jane is not authorized", "User: arn:*** is not authorized"],
    ["Account 123456789012 may not", "Account *** may not"],
    ["/subscriptions/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/resourceGroups/rg", "/subscriptions/***/resourceGroups/rg"],
    [
      "Publisher Model `projects/secret-plan-7/locations/eu/publishers/google/models/g` was not found",
      "Publisher Model `projects/***/locations/eu/publishers/google/models/g` was not found",
    ],
    ["you asked for 1234567890 tokens", "you asked for 1234567890 tokens"],
  ])("names no account of the platform's: %s", (message, shown) => {
    expect(safeMessage(message, fallback)).toBe(shown);
  });

  test("masks what is named a secret, whatever it looks like", () => {
    expect(safeMessage("bad api_key=hunter2 given", fallback)).toBe("bad api_key=*** given");
    expect(safeMessage('{"password": "opensesame"}', fallback)).toBe('{"password": "***"}');
  });

  test.each([
    "<html><body>502 Bad Gateway</body></html>",
    "  <!DOCTYPE html>\n<p>x",
    "oops <script>alert(1)</script>",
    "",
    "\u0000\n",
    undefined,
  ])("gives our own words for %j", (message) => {
    expect(safeMessage(message, fallback)).toBe(fallback);
  });

  test("is one short line without control characters, whatever comes", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 6000 }), (message) => {
        const shown = safeMessage(message, fallback);
        expect(shown.length).toBeLessThanOrEqual(1000);
        expect(shown).not.toBe("");
        expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
  });

  test("takes no longer for messages that are made to take long", () => {
    for (const piece of ["a", "sk-", "key=", "Bearer ", "<", "-_", "eyJaaaaaa."]) {
      expect(safeMessage(piece.repeat(200_000), fallback).length).toBeLessThanOrEqual(1000);
    }
  });
});

describe("retryAfter", () => {
  const nowMs = Date.UTC(2026, 0, 1, 12, 0, 0);
  const after = (headers: Record<string, string>) => retryAfter({ header: (name) => headers[name], nowMs });

  test.each([
    [{ "retry-after-ms": "1500.2", "retry-after": "9" }, 1501],
    [{ "retry-after-ms": "0", "retry-after": "1" }, 1000],
    [{ "retry-after-ms": "0" }, 0],
    [{ "retry-after": "2" }, 2000],
    [{ "retry-after": "0.5" }, 500],
    [{ "retry-after": "Thu, 01 Jan 2026 12:00:30 GMT" }, 30_000],
    [{ "retry-after": "Thu, 01 Jan 2026 11:00:00 GMT" }, 0],
    [{ "retry-after": "99999999" }, 7 * 24 * 3600 * 1000],
    [{ "retry-after": "soon" }, undefined],
    [{ "retry-after-ms": "-1" }, undefined],
    [{}, undefined],
  ])("%j is %s", (headers, expected) => {
    expect(after(headers as Record<string, string>)).toBe(expected);
  });
});

describe("refusalFault", () => {
  test("keeps the provider's status and words", () => {
    const fault = refusalFault({
      status: 400,
      refusal: classOfStatus(400),
      message: "Bad value",
      type: "invalid_request_error",
      errorCode: "invalid_value",
      field: "messages[0].content",
      retryAfterMs: 5,
    });
    expect(fault).toMatchObject({
      reason: FaultReason.PROVIDER_REQUEST_REFUSED,
      message: "Bad value",
      httpStatus: 400,
      field: "messages[0].content",
      retryAfterMs: 5,
      facts: {
        provider_status: "400",
        provider_code: "INVALID_ARGUMENT",
        provider_type: "invalid_request_error",
        provider_error_code: "invalid_value",
      },
    });
  });

  test("says nothing of the provider's when the platform's credential failed, and is no 401", () => {
    const fault = refusalFault({
      status: 401,
      refusal: classOfStatus(401),
      message: "Incorrect API key provided: sk-1",
      errorCode: "sk-1234567890abcdef1",
    });
    expect(fault.httpStatus).toBe(502);
    expect(fault.message).not.toContain("sk-1");
    expect(fault.facts).toEqual({ provider_status: "401", provider_code: "UNAUTHENTICATED" });
  });

  test.each([
    [301, FaultReason.PROVIDER_FAILED, 500],
    [402, FaultReason.PROVIDER_QUOTA_SPENT, 402],
    [418, FaultReason.PROVIDER_REQUEST_REFUSED, 418],
    [429, FaultReason.PROVIDER_RATE_LIMITED, 429],
    [500, FaultReason.PROVIDER_FAILED, 500],
    [503, FaultReason.PROVIDER_UNAVAILABLE, 503],
    [529, FaultReason.PROVIDER_UNAVAILABLE, 529],
    [599, FaultReason.PROVIDER_FAILED, 599],
  ])("status %i", (status, reason, httpStatus) => {
    const fault = refusalFault({ status, refusal: classOfStatus(status), message: undefined });
    expect(fault).toMatchObject({ reason, httpStatus });
    expect(fault.message).toContain(`status ${status}`);
  });
});
