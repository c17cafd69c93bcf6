import { describe, expect, test } from "vitest";
import { Fault, FaultReason, faultKinds, type KnownFaultReason } from "../../../proto/fault.ts";
import { writeFault, writeStreamFault } from "./writeFault.ts";

describe("faults", () => {
  test("have this API's own words where it has some", () => {
    const codes: [KnownFaultReason, string, string | null][] = [
      [FaultReason.CREDENTIAL_INVALID, "authentication_error", "invalid_api_key"],
      [FaultReason.MODEL_NOT_FOUND, "invalid_request_error", "model_not_found"],
      [FaultReason.REQUEST_INVALID, "invalid_request_error", "invalid_value"],
      [FaultReason.PARAMETER_UNSUPPORTED, "invalid_request_error", "unsupported_parameter"],
      [FaultReason.OVERLOADED, "rate_limit_error", "rate_limit_exceeded"],
      [FaultReason.CONTEXT_TOO_LONG, "invalid_request_error", "context_length_exceeded"],
      [FaultReason.PROVIDER_CONTENT_FILTER, "invalid_request_error", "content_filter"],
      [FaultReason.PROVIDER_RATE_LIMITED, "rate_limit_error", "rate_limit_exceeded"],
      [FaultReason.PROVIDER_QUOTA_SPENT, "insufficient_quota", "insufficient_quota"],
      [FaultReason.PROVIDER_REQUEST_REFUSED, "invalid_request_error", null],
      [FaultReason.INTERNAL, "server_error", "internal"],
    ];
    for (const [reason, type, code] of codes) {
      expect(JSON.parse(writeFault(new Fault(reason, "m")))).toEqual({ error: { message: "m", type, param: null, code } });
    }
  });

  test("of every reason have the four members that SDKs read", () => {
    for (const reason of Object.keys(faultKinds)) {
      const { error } = JSON.parse(writeFault(new Fault(Number(reason) as KnownFaultReason, 'a "b"\n', { field: "messages[0]" })));
      expect(Object.keys(error)).toEqual(["message", "type", "param", "code"]);
      expect(error).toMatchObject({ message: 'a "b"\n', param: "messages[0]" });
      expect(error.type).toMatch(/^[a-z_]+$/);
    }
  });

  test("keep what the provider said of its own request", () => {
    const facts = { provider_type: "invalid_request_error", provider_error_code: "unsupported_value" };
    const { error } = JSON.parse(writeFault(new Fault(FaultReason.PROVIDER_REQUEST_REFUSED, "m", { facts, field: "temperature" })));
    expect(error).toMatchObject({ code: "unsupported_value", param: "temperature" });
    expect(JSON.parse(writeFault(new Fault(FaultReason.PROVIDER_FAILED, "m", { facts }))).error.code).toBe("provider_failed");
  });

  test("in a stream are one frame, and no closing word follows", () => {
    const text = writeStreamFault(new Fault(FaultReason.PROVIDER_FAILED, "two\nlines"));
    expect(text).toMatch(/^data: \{"error":\{.*\}\}\n\n$/);
  });
});
