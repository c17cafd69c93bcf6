/** A caller that leaves closes the provider's socket: by every door, streaming and unary, wherever in the answer it leaves. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { callers } from "./kit/callers.ts";
import { type Leaving, leaveOnce, spread } from "./kit/leaving.ts";
import { seededRandom } from "./kit/random.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

/** Points over all doors together. */
const points = 1000;

/** Far beyond any delay that is not a failure, so that a busy machine fails nothing; how fast it really is, `test/bench/cancel.ts` tells. */
const patienceMs = 5_000;

let replay: Replay;
let house: TestSidecar;
beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin), { open: "a", ant: "b" }, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

test(`callers that leave at ${points} seeded points close the provider's socket every time`, { timeout: 120_000 }, async ({ annotate }) => {
  const random = seededRandom(5);
  const left: Leaving[] = [];
  for (let point = 0; point < points; point++) {
    const caller = callers[point % callers.length];
    if (caller === undefined) throw new Error("there are no callers");
    left.push(await leaveOnce(caller, house.port, replay, random, patienceMs));
  }
  expect(left.filter(({ closedAfterMs }) => closedAfterMs === Number.POSITIVE_INFINITY)).toEqual([]);
  expect(left.filter(({ cutShort }) => !cutShort)).toEqual([]);
  const asked = left.flatMap(({ closedAfterMs }) => closedAfterMs ?? []);
  // Most points lie after the provider was asked; if they did not, nothing would have been tested.
  expect(asked.length).toBeGreaterThan(points * 0.75);
  for (const { name } of callers)
    expect(left.filter(({ caller, closedAfterMs }) => caller === name && closedAfterMs !== undefined)).not.toEqual([]);
  const { p50, p99, max } = spread(asked);
  await annotate(
    `callers left at ${points} points by ${callers.length} ways in; the provider's socket closed after p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, max ${max.toFixed(1)} ms (all in one process; not asserted)`,
    "closing",
  );
  // Nothing is left over: the sidecar holds no connection to the provider that is still in use.
  expect(replay.openSockets()).toBeLessThanOrEqual(callers.length);
});
