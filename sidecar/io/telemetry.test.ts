import { describe, expect, it } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { makeCall } from "../../test/kit/call.ts";
import { Secret } from "../call.ts";
import type { CallRecord } from "../filters/record.ts";
import { openTelemetry, type TelemetrySettings } from "./telemetry.ts";

function opened(changes: Partial<TelemetrySettings> = {}) {
  const lines: string[] = [];
  const telemetry = openTelemetry(
    { level: "info", logOneIn: 1, version: "1.2.3", node: "v26.10.0", ...changes },
    { write: (line) => lines.push(line) },
  );
  const metric = async (name: string) => (await telemetry.metrics()).text.split("\n").filter((line) => line.startsWith(name));
  return { telemetry, metric, parsed: () => lines.map((line) => JSON.parse(line)), text: () => lines.join("") };
}

function recordOf(changes: Partial<CallRecord> = {}): CallRecord {
  const call = makeCall({ door: "openai" });
  Object.assign(call.notes, { consumer: "shop", route: "small", provider: "here", model: "m-1", attempts: 1 });
  return {
    call,
    outcome: "ok",
    fault: undefined,
    totalMs: 123.456,
    firstContentMs: 45.678,
    usage: { $typeName: "outrigger.chat.v1.Usage", inputTokens: 10n, outputTokens: 5n, cachedInputTokens: -3n, nativeJson: "{}" },
    finishReason: FinishReason.STOP,
    cost: { $typeName: "outrigger.chat.v1.Money", currency: "USD", micros: 1500n },
    ...changes,
  };
}

describe("telemetry", () => {
  it("writes one line of facts for a call, and counts it", async () => {
    const { telemetry, parsed, metric } = opened();
    telemetry.write(recordOf());
    expect(parsed()).toMatchObject([
      {
        severity: "info",
        message: "call",
        request_id: "call-1",
        door: "openai",
        consumer: "shop",
        route: "small",
        provider: "here",
        model_served: "m-1",
        code: "OK",
        reason: "ok",
        ttft_ms: 45.7,
        total_ms: 123.5,
        tokens: { in: 10, out: 5 },
        finish: "stop",
        cost: { currency: "USD", micros: 1500 },
      },
    ]);
    expect(await metric("outrigger_requests_total{")).toEqual([
      'outrigger_requests_total{door="openai",route="small",provider="here",code="OK",reason="ok"} 1',
    ]);
    expect(await metric("outrigger_cost_total{")).toEqual(['outrigger_cost_total{currency="USD",route="small",provider="here"} 0.0015']);
  });

  it("never counts down, whatever a provider reports", async () => {
    const { telemetry, metric } = opened();
    telemetry.write(recordOf());
    expect((await metric("outrigger_tokens_total{")).map((line) => line.replace(/.*kind="(\w+)"} /, "$1 "))).toEqual([
      "input 10",
      "output 5",
    ]);
  });

  it("writes every call that failed and one in N of the others", () => {
    const { telemetry, parsed } = opened({ logOneIn: 3 });
    const fault = new Fault(FaultReason.PROVIDER_FAILED, "broken");
    for (let round = 0; round < 6; round += 1) telemetry.write(recordOf());
    telemetry.write(recordOf({ outcome: "PROVIDER_FAILED", fault }));
    expect(parsed().map(({ reason }) => reason)).toEqual(["ok", "ok", "PROVIDER_FAILED"]);
  });

  it("shows no credential, no content and no message of a cause, only where a mistake of ours stands", async () => {
    const { telemetry, parsed, text, metric } = opened();
    const cause = new TypeError("canary-in-message");
    const fault = new Fault(FaultReason.INTERNAL, "canary-in-fault", { cause });
    const call = makeCall({ credential: new Secret("canary-credential") });
    telemetry.write(recordOf({ call, fault, outcome: "INTERNAL" }));
    telemetry.refused("anthropic", "call-2", new Fault(FaultReason.CREDENTIAL_INVALID, "canary-in-refusal"));
    expect(parsed()[0]).toMatchObject({ cause: "TypeError", reason: "INTERNAL" });
    expect(parsed()[0].at[0]).toMatch(/^at /);
    expect(parsed()[1]).toMatchObject({ request_id: "call-2", reason: "CREDENTIAL_INVALID" });
    expect(text() + (await metric("")).join("")).not.toMatch(/canary|Say hello/);
  });

  it("says which build it is", async () => {
    const { metric } = opened();
    expect(await metric("outrigger_build_info{")).toEqual(['outrigger_build_info{version="1.2.3",node="v26.10.0"} 1']);
  });
});
