import { describe, expect, it } from "vitest";
import { endEvent } from "../../proto/chat.ts";
import { FaultReason } from "../../proto/fault.ts";
import { answerOf, batchesOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { shed } from "./shed.ts";

const end = () => answerOf([endEvent()]);

describe("shed", () => {
  it("refuses the call above the limit, and takes the next once one is over", async () => {
    const filter = shed({ callsMax: 1, saturated: () => false }, new ManualClock());
    const first = filter(makeCall(), end)[Symbol.asyncIterator]();
    await first.next();
    expect(() => filter(makeCall(), end)).toThrow(expect.objectContaining({ reason: FaultReason.OVERLOADED, retryAfterMs: 1000 }));
    await first.next();
    expect(await batchesOf(filter(makeCall(), end))).toHaveLength(1);
  });

  it("gives the place back when the door leaves early", async () => {
    const filter = shed({ callsMax: 1, saturated: () => false }, new ManualClock());
    for (let round = 0; round < 3; round += 1) for await (const _ of filter(makeCall(), end)) break;
  });

  it("refuses while calls saturate the process, and never when there are none to make room for", async () => {
    const filter = shed({ callsMax: 10, saturated: () => true }, new ManualClock());
    const first = filter(makeCall(), end)[Symbol.asyncIterator]();
    await first.next();
    expect(() => filter(makeCall(), end)).toThrow(expect.objectContaining({ reason: FaultReason.OVERLOADED }));
    await first.next();
    expect(await batchesOf(filter(makeCall(), end))).toHaveLength(1);
  });

  it("sends nothing whose deadline has passed", () => {
    const clock = new ManualClock();
    const filter = shed({ callsMax: 10, saturated: () => false }, clock);
    const call = makeCall({ deadlineAtMs: clock.monotonicMs() });
    expect(() => filter(call, end)).toThrow(expect.objectContaining({ reason: FaultReason.DEADLINE_EXCEEDED }));
  });
});
