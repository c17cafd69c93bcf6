import { describe, expect, it } from "vitest";
import { type Batch, endEvent, finishEvent, nativeBatch, startEvent, textEvent, usageEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { answerOf, batchesOf, faultOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { type CallRecord, record } from "./record.ts";

const usage = { $typeName: "outrigger.chat.v1.Usage", inputTokens: 10n, outputTokens: 5n, nativeJson: "" } as const;
const cost = { $typeName: "outrigger.chat.v1.Money", currency: "USD", micros: 42n } as const;

function recorder(price: typeof cost | undefined = undefined) {
  const records: CallRecord[] = [];
  const clock = new ManualClock();
  return {
    records,
    clock,
    filter: record(
      () => price,
      (entry) => records.push(entry),
      clock,
    ),
  };
}

async function* failing(batch: Batch, fault: Fault): AsyncGenerator<Batch> {
  yield batch;
  throw fault;
}

describe("record", () => {
  it("writes one record of a good call, with what it used and how it ended", async () => {
    const { records, filter } = recorder();
    const answer = [
      [startEvent("1", "m", 0, "r", "p"), textEvent(0, "hi")],
      [finishEvent(0, FinishReason.STOP, "stop"), usageEvent(usage)],
      [endEvent()],
    ];
    expect(await batchesOf(filter(makeCall(), () => answerOf(...answer)))).toEqual(answer);
    expect(records).toMatchObject([{ outcome: "ok", usage, finishReason: FinishReason.STOP, fault: undefined, cost: undefined }]);
  });

  it("writes one record of a call that failed half way, and lets the fault pass", async () => {
    const { records, filter } = recorder();
    const fault = new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "cut");
    expect(await faultOf(filter(makeCall(), () => failing([usageEvent(usage)], fault)))).toBe(fault);
    expect(records).toMatchObject([{ outcome: "PROVIDER_ANSWER_INCOMPLETE", fault, usage }]);
  });

  it("writes one record of a call that the door left, with what was known by then", async () => {
    const { records, filter } = recorder();
    for await (const _ of filter(makeCall(), () => answerOf([textEvent(0, "a")], [textEvent(0, "b")], [endEvent()]))) break;
    expect(records).toMatchObject([{ outcome: "CANCELLED", fault: { reason: FaultReason.CANCELLED } }]);
  });

  // A deadline that passed, and a caller that stalled, while a batch waited for a slow reader were counted as code OK, reason CANCELLED.
  it("says why a call was stopped that was left between two batches", async () => {
    const { records, filter } = recorder();
    const controller = new AbortController();
    for await (const _ of filter(makeCall({ signal: controller.signal }), () => answerOf([textEvent(0, "a")], [endEvent()]))) {
      controller.abort(new Fault(FaultReason.CALLER_STALLED, "slow"));
      break;
    }
    expect(records).toMatchObject([{ outcome: "CALLER_STALLED", fault: { reason: FaultReason.CALLER_STALLED } }]);
  });

  it("counts a call as gone well whose caller left only after the end", async () => {
    const { records, filter } = recorder();
    for await (const _ of filter(makeCall(), () => answerOf([textEvent(0, "a"), endEvent()]))) break;
    expect(records).toMatchObject([{ outcome: "ok", fault: undefined }]);
  });

  it("adds the price to the end and keeps native bytes, which cannot say it", async () => {
    const { records, filter } = recorder(cost);
    const native = { dialect: "plain", form: "body", bytes: Buffer.from("x") } as const;
    const [batch] = await batchesOf(filter(makeCall(), () => answerOf(nativeBatch([usageEvent(usage), endEvent()], native))));
    expect(batch?.native).toBe(native);
    expect(batch?.at(-1)?.event).toMatchObject({ case: "end", value: { cost } });
    expect(records).toMatchObject([{ cost }]);
  });

  it("holds the time to the first content, and none where there was none", async () => {
    const { records, filter, clock } = recorder();
    const call = makeCall({ startedAtMs: clock.monotonicMs() });
    clock.advance(30);
    call.notes.firstContentAtMs = clock.monotonicMs();
    clock.advance(70);
    await batchesOf(filter(call, () => answerOf([endEvent()])));
    await batchesOf(filter(makeCall(), () => answerOf([endEvent()])));
    expect(records).toMatchObject([{ firstContentMs: 30, totalMs: 100 }, { firstContentMs: undefined }]);
  });
});
