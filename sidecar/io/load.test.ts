import { describe, expect, it } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { meterLoad, processGauges } from "./load.ts";

describe("the load meter", () => {
  it("finds an idle process free, looks every second, and leaves no timer behind", () => {
    const clock = new ManualClock();
    const meter = meterLoad(clock, 50);
    clock.advance(5_000);
    expect(clock.waiting).toBe(1);
    meter.close();
    expect(clock.waiting).toBe(0);
  });

  it("calls a process saturated after two bad seconds in a row, and free after one good one", () => {
    const clock = new ManualClock();
    let lagMs = 0;
    const meter = meterLoad(clock, 50, { lagMs: () => lagMs, busyShare: () => 0.8, heapShare: () => 0.1, close: () => {} });
    const second = (ms: number) => {
      lagMs = ms;
      clock.advance(1_000);
      return meter.saturated();
    };
    expect([second(200), second(10), second(200), second(51), second(50), second(200)]).toEqual([false, false, false, true, false, false]);
  });

  // A sidecar without a single call in flight refused the first one, because the machine was busy with something else.
  it("does not call a process saturated that is late for want of a processor", () => {
    const clock = new ManualClock();
    const meter = meterLoad(clock, 50, { lagMs: () => 500, busyShare: () => 0.79, heapShare: () => 0.1, close: () => {} });
    clock.advance(5_000);
    expect(meter.saturated()).toBe(false);
  });

  it("calls a process saturated while its heap is nearly full", () => {
    const clock = new ManualClock();
    let heapShare = 0.81;
    const meter = meterLoad(clock, 50, { lagMs: () => 0, busyShare: () => 1, heapShare: () => heapShare, close: () => {} });
    clock.advance(1_000);
    expect(meter.saturated()).toBe(true);
    heapShare = 0.8;
    clock.advance(1_000);
    expect(meter.saturated()).toBe(false);
  });

  // Of a loop whose turns take 110 ms, a gauge that asks every 100 ms sees a tenth of the delay.
  it("sees how late a busy event loop is", async () => {
    const gauges = processGauges();
    const turns = async (count: number, ms: number): Promise<void> => {
      for (let turn = 0; turn < count; turn += 1) {
        const endMs = performance.now() + ms;
        while (performance.now() < endMs);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    gauges.busyShare();
    await turns(3, 30);
    expect(gauges.busyShare()).toBeGreaterThan(0.8);
    await turns(5, 110);
    expect(gauges.lagMs()).toBeGreaterThan(50);
    gauges.close();
  });
});
