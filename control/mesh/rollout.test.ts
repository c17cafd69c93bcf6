import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StatusSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { seededRandom } from "../../test/kit/random.ts";
import { add, type Evidence, judge, noCalls, rolloutDefaults as rules, stageSize, stages, type Tally, tallyOf } from "./rollout.ts";

const calls = (total: number, failed = 0, more: Partial<Tally> = {}): Tally => ({ ...noCalls, calls: total, failed, ...more });
const usual = calls(10_000, 50, { blocked: 100, firstContentMs: 10_000 * 400, firstContentCalls: 10_000, reports: 1_000, lateReports: 5 });
const evidence = (more: Partial<Evidence> = {}): Evidence => ({
  nowMs: 100_000,
  stageBeganMs: 0,
  members: 10,
  enforced: 10,
  refused: 0,
  crashed: 0,
  othersCrashed: 0,
  others: 990,
  calls: calls(500, 3),
  usual,
  ...more,
});
const verdict = (more: Partial<Evidence>) => judge(evidence(more), rules);

describe("a stage", () => {
  test("goes on when all is as usual, baked and busy enough", () => {
    expect(verdict({})).toEqual({ is: "advance" });
  });

  test.each<[string, Partial<Evidence>]>([
    ["it is young", { nowMs: rules.bakeMs - 1 }],
    ["it has seen too few calls", { calls: calls(rules.callsMin - 1) }],
    ["a member has not taken it yet", { enforced: 9, nowMs: rules.enforceMs }],
  ])("waits while %s", (_, more) => {
    expect(verdict(more)).toEqual({ is: "wait" });
  });

  test("goes on without calls once the night is long enough, and without the few that are stuck", () => {
    expect(verdict({ calls: noCalls, nowMs: rules.quietMs })).toEqual({ is: "advance" });
    expect(verdict({ enforced: 9, nowMs: rules.enforceMs + 1 })).toEqual({ is: "advance" });
  });

  test.each<[string, Partial<Evidence>]>([
    ["a member refuses it", { refused: 1 }],
    ["every call fails", { calls: calls(10, 10), nowMs: 1_000 }],
    ["many more calls fail", { calls: calls(300, 60) }],
    ["many more calls are blocked", { calls: calls(300, 0, { blocked: 60 }) }],
    ["the only member is lost", { members: 1, enforced: 1, crashed: 1, nowMs: 1_000 }],
    ["many members are lost", { members: 100, enforced: 100, crashed: 30 }],
    ["nobody takes it in time", { enforced: 0, nowMs: rules.enforceMs + 1 }],
    ["the first content comes much later", { calls: calls(100, 0, { firstContentMs: 100 * 1_500, firstContentCalls: 100 }) }],
    ["event loops are held up", { calls: calls(100, 0, { reports: 20, lateReports: 12 }) }],
  ])("is taken back when %s", (_, more) => {
    expect(verdict(more)).toMatchObject({ is: "breach", reason: expect.any(String) });
  });

  test("does not blame the change for what everybody suffers", () => {
    const bad = calls(10_000, 4_000);
    expect(verdict({ calls: calls(500, 200), usual: bad })).toEqual({ is: "advance" });
    expect(verdict({ members: 100, enforced: 100, crashed: 5, othersCrashed: 50, others: 900 })).toEqual({ is: "advance" });
  });

  test("raises a false alarm at most once in a hundred roll-outs, however often it looks", () => {
    const random = seededRandom(11);
    let alarms = 0;
    for (let rollout = 0; rollout < 2_000; rollout++) {
      let seen = noCalls;
      for (let look = 0; look < 400; look++) {
        seen = add(seen, calls(1, random.next() < 0.02 ? 1 : 0));
        if (verdict({ calls: seen, usual: calls(10_000, 200) }).is !== "breach") continue;
        alarms += 1;
        break;
      }
    }
    expect(alarms).toBeLessThanOrEqual(20);
  });
});

test("each stage contains the one before, the first is one sidecar, and the next at most one in a hundred, or one", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), (concerned) => {
      const sizes = stages.map((_, stage) => stageSize(stage, concerned));
      expect(sizes[0]).toBe(1);
      expect(sizes[1]).toBeLessThanOrEqual(Math.max(1, concerned / 100));
      expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
      expect(sizes.at(-1)).toBe(concerned);
    }),
  );
});

test("a report is counted once, and never with more bad calls than calls", () => {
  const status = create(StatusSchema, {
    calls: 10n,
    failedCalls: 20n,
    blockedCalls: 2n,
    firstContentP50: durationFromMs(300),
    loopDelayMax: durationFromMs(400),
  });
  expect(tallyOf(status)).toEqual({
    calls: 10,
    failed: 10,
    blocked: 2,
    firstContentMs: 3_000,
    firstContentCalls: 10,
    reports: 1,
    lateReports: 1,
  });
});
