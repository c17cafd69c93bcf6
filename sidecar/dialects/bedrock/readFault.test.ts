import { describe, expect, test } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { readFault } from "./readFault.ts";

function fault(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return readFault({ status, header: (name) => headers[name], body: Buffer.from(text), nowMs: 0 });
}

describe("a refusal", () => {
  test.each([
    [400, "ValidationException", "Malformed input request", FaultReason.PROVIDER_REQUEST_REFUSED, "INVALID_ARGUMENT"],
    [400, "ValidationException", "Input is too long for requested model.", FaultReason.CONTEXT_TOO_LONG, "INVALID_ARGUMENT"],
    [400, "ValidationException", "prompt is too long: 210000 tokens > 200000 maximum", FaultReason.CONTEXT_TOO_LONG, "INVALID_ARGUMENT"],
    [400, "ServiceQuotaExceededException", "Quota", FaultReason.PROVIDER_QUOTA_SPENT, "RESOURCE_EXHAUSTED"],
    [403, "AccessDeniedException", "You don't have access to the model.", FaultReason.PROVIDER_PERMISSION_DENIED, "PERMISSION_DENIED"],
    [403, "UnrecognizedClientException", "Invalid token", FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED"],
    [403, "InvalidSignatureException", "Signature expired", FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED"],
    [403, "ExpiredTokenException", "Expired", FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED"],
    [403, "AccessDeniedException", "Please make sure your API Key is valid.", FaultReason.PROVIDER_CREDENTIAL_REFUSED, "UNAUTHENTICATED"],
    [404, "ResourceNotFoundException", "No such model", FaultReason.PROVIDER_MODEL_NOT_FOUND, "NOT_FOUND"],
    [408, "ModelTimeoutException", "Slow", FaultReason.PROVIDER_TIMEOUT, "DEADLINE_EXCEEDED"],
    [424, "ModelErrorException", "Broke", FaultReason.PROVIDER_FAILED, "INTERNAL"],
    [429, "ThrottlingException", "Too many requests", FaultReason.PROVIDER_RATE_LIMITED, "RESOURCE_EXHAUSTED"],
    [429, "ThrottlingException", "Too many tokens per day", FaultReason.PROVIDER_QUOTA_SPENT, "RESOURCE_EXHAUSTED"],
    [429, "ModelNotReadyException", "Not ready", FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE"],
    [500, "InternalServerException", "Oh", FaultReason.PROVIDER_FAILED, "INTERNAL"],
    [503, "ServiceUnavailableException", "Down", FaultReason.PROVIDER_UNAVAILABLE, "UNAVAILABLE"],
    [404, "UnknownOperationException", "What", FaultReason.PROVIDER_MODEL_NOT_FOUND, "NOT_FOUND"],
  ])("%i %s: %s", (status, type, message, reason, code) => {
    const inHeader = fault(status, { message }, { "x-amzn-errortype": `${type}:http://internal.amazon.com/` });
    const inBody = fault(status, { Message: message, __type: `com.amazon.coral#${type}` });
    for (const { reason: seen, facts } of [inHeader, inBody]) {
      expect({ seen, facts }).toEqual({
        seen: reason,
        facts: { provider_status: String(status), provider_code: code, provider_type: type },
      });
    }
  });

  test("without a name is read by its status, whatever its body is", () => {
    expect(fault(400, { message: "No" })).toMatchObject({ reason: FaultReason.PROVIDER_REQUEST_REFUSED, message: "No" });
    expect(fault(503, "<html><body>Service Unavailable</body></html>")).toMatchObject({ reason: FaultReason.PROVIDER_UNAVAILABLE });
    expect(fault(413, "null")).toMatchObject({ reason: FaultReason.PROVIDER_REQUEST_REFUSED });
    expect(fault(403, "")).toMatchObject({ reason: FaultReason.PROVIDER_PERMISSION_DENIED });
  });

  test("names neither accounts nor resources nor people of the platform", () => {
    const message =
      "User: arn:aws:sts::123456789012:assumed-role/prod-admin/jane is not authorized to perform: bedrock:InvokeModel on resource: " +
      "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/x, account 123456789012";
    const { message: shown } = fault(403, { message }, { "x-amzn-errortype": "AccessDeniedException" });
    expect(shown).toBe("User: arn:*** is not authorized to perform: bedrock:InvokeModel on resource: arn:***, account ***");
  });

  test("of a credential says no word of the provider's, who repeats what was signed", () => {
    const message =
      "The request signature we calculated does not match. The Canonical String should have been 'POST /model x-amz-security-token:abc'";
    const { message: shown } = fault(403, { message }, { "x-amzn-errortype": "InvalidSignatureException" });
    expect(shown).toBe("The provider does not accept the credential that the platform holds for it.");
  });

  test("says when to try again only where that has a meaning", () => {
    expect(fault(429, {}, { "retry-after": "3" }).retryAfterMs).toBe(3000);
    expect(fault(400, {}, { "retry-after": "3" }).retryAfterMs).toBeUndefined();
  });
});
