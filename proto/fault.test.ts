import { describe, expect, test } from "vitest";
import { Fault, FaultReason, withoutSecrets } from "./fault.ts";

describe("a fault without secrets", () => {
  const secret = "correct-horse-battery-staple";
  const faultOf = (message: string, facts: Record<string, string> = {}) =>
    new Fault(FaultReason.PROVIDER_FAILED, message, {
      facts,
      field: "x",
      retryAfterMs: 5,
      httpStatus: 503,
      retryable: false,
      cause: secret,
    });

  test("is the fault itself where none is in it", () => {
    const fault = faultOf("No.", { provider: "p" });
    expect(withoutSecrets(fault, [secret])).toBe(fault);
    expect(withoutSecrets(faultOf("short"), ["short"]).message).toBe("short");
    expect(withoutSecrets(faultOf("x"), []).message).toBe("x");
  });

  test("hides them in message, field and facts, and keeps all else", () => {
    const fault = withoutSecrets(faultOf(`${secret} and ${secret} may not`, { provider_type: secret, other: "o" }), ["abcdefgh", secret]);
    expect(fault).toMatchObject({
      reason: FaultReason.PROVIDER_FAILED,
      message: "*** and *** may not",
      field: "x",
      facts: { provider_type: "***", other: "o" },
      retryAfterMs: 5,
      httpStatus: 503,
      retryable: false,
      cause: secret,
    });
  });

  test("hides the beginning of one at which a message was cut", () => {
    expect(withoutSecrets(faultOf(`The key ${secret.slice(0, 12)}…`), [secret]).message).toBe("The key ***…");
    expect(withoutSecrets(faultOf("The key corr…"), [secret]).message).toBe("The key corr…");
  });
});
