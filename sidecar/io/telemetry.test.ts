import { describe, expect, it } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { Secret } from "../call.ts";
import type { CallRecord } from "../filters/record.ts";
import { openTelemetry, type TelemetrySettings } from "./telemetry.ts";

function opened(changes: Partial<TelemetrySettings> = {}) {
  const lines: string[] = [];
  const telemetry = openTelemetry(
    { level: "info", logOneIn: 1, version: "1.2.3", node: "v26.0.0", ...changes },
    { write: (line) => lines.push(line) },
    new ManualClock(),
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

  it("writes a call's line in the form of all other lines, with nothing in it that is not known", () => {
    const { telemetry, text } = opened();
    const call = makeCall({ door: "openai" });
    call.notes.model = 'a "quoted" name\n';
    telemetry.write(recordOf({ call, usage: undefined, cost: undefined, firstContentMs: undefined }));
    telemetry.log.info({ any: 1 }, "other");
    const [line = "", other = ""] = text().split("\n");
    expect(Object.keys(JSON.parse(line)).slice(0, 2)).toEqual(Object.keys(JSON.parse(other)).slice(0, 2));
    expect(JSON.parse(line)).toMatchObject({ time: "2026-09-21T14:13:21.000Z", model_served: 'a "quoted" name\n', message: "call" });
    expect(Object.keys(JSON.parse(line)).at(-1)).toBe("message");
    expect(line).not.toMatch(/ttft|tokens|cost|null|undefined/);
  });

  it("writes nothing of a call that its level leaves out", () => {
    const fault = new Fault(FaultReason.PROVIDER_FAILED, "broken");
    const wrote = (level: TelemetrySettings["level"]) => {
      const { telemetry, parsed } = opened({ level });
      telemetry.write(recordOf());
      telemetry.write(recordOf({ outcome: "PROVIDER_FAILED", fault }));
      return parsed().map(({ severity }) => severity);
    };
    expect(wrote("info")).toEqual(["info", "warn"]);
    expect(wrote("warn")).toEqual(["warn"]);
    expect(wrote("error")).toEqual([]);
    expect(wrote("silent")).toEqual([]);
  });

  it("keeps counting from one scrape to the next, apart for each door, route and provider", async () => {
    const { telemetry, metric } = opened();
    const anthropic = makeCall({ door: "anthropic" });
    Object.assign(anthropic.notes, { route: "small", provider: "here" });
    for (let scrape = 1; scrape <= 3; scrape += 1) {
      telemetry.write(recordOf());
      telemetry.write(recordOf());
      telemetry.write(recordOf({ call: anthropic }));
      expect((await metric("outrigger_requests_total{")).map((line) => line.replace(/.*door="(\w+)".* /, "$1 "))).toEqual([
        `openai ${2 * scrape}`,
        `anthropic ${scrape}`,
      ]);
      expect((await metric("outrigger_tokens_total{")).map((line) => line.replace(/.*kind="(\w+)"} /, "$1 "))).toEqual([
        `input ${30 * scrape}`,
        `output ${15 * scrape}`,
      ]);
      const [cost] = await metric("outrigger_cost_total{");
      expect(Number(cost?.split(" ").at(-1))).toBeCloseTo(0.0045 * scrape, 9);
    }
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

  // Whoever took a wrong edit back saw the refusal as the last word for ever.
  it("says that a refused policy is gone, once, and nothing of one that is offered again", () => {
    const { telemetry, parsed } = opened();
    const applied = { applied: true, root: "a", changed: true, warnings: [], tookMs: 1 } as const;
    const again = { ...applied, changed: false };
    telemetry.policyOffered(applied);
    telemetry.policyOffered(again);
    telemetry.policyOffered({ applied: false, root: "b", problems: [], tookMs: 1 });
    telemetry.policyOffered(again);
    telemetry.policyOffered(again);
    expect(parsed().map(({ message }) => message)).toEqual([
      "policy applied",
      "policy refused; what held before still holds",
      "policy unchanged; what was refused is gone",
    ]);
  });

  it("says which build it is", async () => {
    const { metric } = opened();
    expect(await metric("outrigger_build_info{")).toEqual(['outrigger_build_info{version="1.2.3",node="v26.0.0"} 1']);
  });
});
