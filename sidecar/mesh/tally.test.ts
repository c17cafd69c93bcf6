import { durationMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { CallRecord } from "../filters/record.ts";
import { openTally } from "./tally.ts";

function record(more: { readonly fault?: Fault; readonly firstContentMs?: number }): CallRecord {
  return { fault: undefined, firstContentMs: undefined, ...more } as CallRecord;
}

test("calls are counted by whose fault it was that they failed, and begin anew each time", () => {
  const tally = openTally();
  tally.count(record({}));
  tally.count(record({ fault: new Fault(FaultReason.REQUEST_INVALID, "the caller's") }));
  tally.count(record({ fault: new Fault(FaultReason.NO_HEALTHY_TARGET, "ours") }));
  tally.count(record({ fault: new Fault(FaultReason.INTERNAL, "ours") }));
  expect(tally.take()).toEqual({ calls: 4n, failedCalls: 2n, blockedCalls: 0n });
  expect(tally.take()).toEqual({ calls: 0n, failedCalls: 0n, blockedCalls: 0n });
});

test.each([
  [[100], 100],
  [[10, 20, 5000], 20],
  [[3, 3, 3, 900, 900], 3],
  [[1e9], 60_000],
])("the median of %j is right within a fifth, or the longest that is told apart", (times, median) => {
  const tally = openTally();
  for (const firstContentMs of times) tally.count(record({ firstContentMs }));
  const { firstContentP50 } = tally.take();
  const told = firstContentP50 === undefined ? Number.NaN : durationMs(firstContentP50);
  expect(told).toBeGreaterThanOrEqual(median);
  if (median < 60_000) expect(told).toBeLessThanOrEqual(median * 1.2 + 1);
});
