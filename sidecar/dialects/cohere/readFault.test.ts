import { expect, it } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { faultInAnswer, readFault } from "./readFault.ts";

function refused(status: number, body: unknown = { id: "1", message: "No." }, headers: Record<string, string> = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return readFault({ status, header: (name) => headers[name], body: Buffer.from(text), nowMs: 0 });
}

const kinds: [number, number, string, boolean][] = [
  [400, FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT", false],
  [401, FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED", false],
  [402, FaultReason.PROVIDER_QUOTA_SPENT, "RESOURCE_EXHAUSTED", false],
  [403, FaultReason.PROVIDER_PERMISSION_DENIED, "PERMISSION_DENIED", false],
  [404, FaultReason.PROVIDER_MODEL_NOT_FOUND, "NOT_FOUND", false],
  [422, FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT", false],
  [429, FaultReason.PROVIDER_RATE_LIMITED, "RESOURCE_EXHAUSTED", true],
  [498, FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED", false],
  [499, FaultReason.PROVIDER_UNAVAILABLE, "CANCELLED", true],
  [500, FaultReason.PROVIDER_FAILED, "INTERNAL", true],
  [501, FaultReason.PROVIDER_UNIMPLEMENTED, "UNIMPLEMENTED", false],
  [503, FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE", true],
  [504, FaultReason.PROVIDER_TIMEOUT, "DEADLINE_EXCEEDED", true],
];

it.each(kinds)("status %i", (status, reason, code, retryable) => {
  const fault = refused(status);
  expect([fault.reason, fault.retryable]).toEqual([reason, retryable]);
  expect(fault.facts).toEqual({ provider_status: String(status), provider_code: code });
  if (code !== "UNAUTHENTICATED") expect([fault.message, fault.httpStatus]).toEqual(["No.", status]);
  else expect(fault.message).not.toContain("No.");
});

it("tells a prompt that is too long from other refusals, by its type or its words", () => {
  const message = "too many tokens: total number of tokens in the prompt cannot exceed 4081";
  expect(refused(400, { message }).reason).toBe(FaultReason.CONTEXT_TOO_LONG);
  const typed = refused(400, { message: "size limit exceeded", error_type: "TOO_MANY_TOKENS" });
  expect([typed.reason, typed.facts.provider_type]).toEqual([FaultReason.CONTEXT_TOO_LONG, "TOO_MANY_TOKENS"]);
  expect(refused(500, { message }).reason).toBe(FaultReason.PROVIDER_FAILED);
});

it("tells the limit of a month, which nobody can wait for, from that of a minute", () => {
  const trial = "You are using a Trial key, which is limited to ";
  const month = refused(429, { message: `${trial}1000 API calls / month.` }, { "retry-after": "5" });
  expect([month.reason, month.retryable, month.retryAfterMs]).toEqual([FaultReason.PROVIDER_QUOTA_SPENT, false, undefined]);
  const minute = refused(429, { message: `${trial}20 API calls / minute.` }, { "retry-after": "5" });
  expect([minute.reason, minute.retryable, minute.retryAfterMs]).toEqual([FaultReason.PROVIDER_RATE_LIMITED, true, 5000]);
});

it("tells what was blocked from a key that is none", () => {
  expect(refused(498, { message: "blocked input: toxicity" }).reason).toBe(FaultReason.PROVIDER_CONTENT_FILTER);
  expect(refused(498, { message: "invalid token" }).reason).toBe(FaultReason.PROVIDER_CREDENTIAL_REFUSED);
});

it("looks at retry-after only where it has a meaning", () => {
  for (const status of [400, 404, 500]) expect(refused(status, {}, { "retry-after": "5" }).retryAfterMs).toBeUndefined();
  expect(refused(503, {}, { "retry-after": "5" }).retryAfterMs).toBe(5000);
});

it("32: takes any body for what it is, numbers in the place of words included", () => {
  const bodies = [
    "",
    "<html><body>502 Bad Gateway</body></html>",
    "null",
    "[]",
    '"x',
    { message: 7, error_type: 8 },
    { error: null },
    { error: 5 },
  ];
  for (const body of bodies) {
    const fault = refused(400, body);
    expect(fault.reason).toBe(FaultReason.PROVIDER_REQUEST_REFUSED);
    expect(fault.message).toBe("The provider refused the request (status 400).");
    expect(fault.facts).toEqual({ provider_status: "400", provider_code: "INVALID_ARGUMENT" });
  }
  expect(refused(400, { error: "in words" }).message).toBe("in words");
  expect(refused(400, { error: { message: "inside" } }).message).toBe("inside");
});

it("shows no secret that the provider repeats", () => {
  const key = "Zx81kQp0Lm5vN2cR7tYh3wGd9sBf6jKa4eUi";
  for (const [status] of kinds) {
    for (const message of [`Incorrect API key provided: ${key}.`, `Bearer ${key} is not valid`, `token=${key}`]) {
      const fault = refused(status, { id: key, message, error_type: key });
      expect(JSON.stringify([fault.message, fault.facts, fault.field])).not.toContain(key);
    }
  }
  expect(JSON.stringify(faultInAnswer({ message: `key ${key}`, error_type: key }).message)).not.toContain(key);
});

it("reads failures under a good status", () => {
  expect(faultInAnswer(undefined, "TIMEOUT").facts).toEqual({
    provider_status: "504",
    provider_code: "DEADLINE_EXCEEDED",
    provider_type: "TIMEOUT",
  });
  expect(faultInAnswer("broke", "ERROR").message).toBe("broke");
  expect(faultInAnswer({ error_type: "TOO_MANY_TOKENS" }).facts).toMatchObject({
    provider_status: "500",
    provider_type: "TOO_MANY_TOKENS",
  });
});
