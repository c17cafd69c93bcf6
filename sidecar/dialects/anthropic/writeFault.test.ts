import { expect, it } from "vitest";
import { Fault, FaultReason, faultKinds, type KnownFaultReason } from "../../../proto/fault.ts";
import { anthropicServer } from "./anthropic.ts";

/** The types that this API documents. */
const documented = [
  "invalid_request_error",
  "authentication_error",
  "billing_error",
  "permission_error",
  "not_found_error",
  "request_too_large",
  "rate_limit_error",
  "api_error",
  "timeout_error",
  "overloaded_error",
];

const typeOf = (reason: KnownFaultReason): string => JSON.parse(anthropicServer.writeFault(new Fault(reason, "No."), "r")).error.type;

it("gives every fault one of this API's own types", () => {
  for (const reason of Object.keys(faultKinds)) expect(documented).toContain(typeOf(Number(reason) as KnownFaultReason));
});

it("says what happened in the API's words", () => {
  expect(typeOf(FaultReason.CREDENTIAL_INVALID)).toBe("authentication_error");
  expect(typeOf(FaultReason.MODEL_NOT_FOUND)).toBe("not_found_error");
  expect(typeOf(FaultReason.REQUEST_INVALID)).toBe("invalid_request_error");
  expect(typeOf(FaultReason.REQUEST_TOO_LARGE)).toBe("request_too_large");
  expect(typeOf(FaultReason.OVERLOADED)).toBe("rate_limit_error");
  expect(typeOf(FaultReason.NO_HEALTHY_TARGET)).toBe("overloaded_error");
  expect(typeOf(FaultReason.DEADLINE_EXCEEDED)).toBe("timeout_error");
  expect(typeOf(FaultReason.PROVIDER_QUOTA_SPENT)).toBe("billing_error");
  // The platform's key failed, not the caller's.
  expect(typeOf(FaultReason.PROVIDER_CREDENTIAL_REFUSED)).toBe("api_error");
});

it("has the shape of this API's errors, as a body and at the end of a stream", () => {
  const fault = new Fault(FaultReason.PROVIDER_FAILED, 'It "failed"\n.', { httpStatus: 401 });
  const body = { type: "error", error: { type: "api_error", message: 'It "failed"\n.' }, request_id: "req-1" };
  expect(JSON.parse(anthropicServer.writeFault(fault, "req-1"))).toEqual(body);
  const read = { ...anthropicServer.readRequest(Buffer.from('{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}')) };
  const frame = anthropicServer.writeAnswer({ ...read, streaming: true }, "req-1").fault(fault);
  expect(frame).toBe(`event: error\ndata: ${JSON.stringify(body)}\n\n`);
});
