import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { ManualClock } from "../../../test/kit/clock.ts";
import { seededRandom } from "../../../test/kit/random.ts";
import { CredentialFailure } from "./failure.ts";
import { type Fetch, type Fresh, tokenSource } from "./tokenSource.ts";

const hourMs = 3_600_000;

/** A source whose fetches are answered by hand, in the order in which they were begun. */
function played(chance = 0) {
  const clock = new ManualClock();
  const asked: PromiseWithResolvers<Fresh<string>>[] = [];
  const warned: string[] = [];
  const stopping = new AbortController();
  const fetch: Fetch<string> = () => {
    const answer = Promise.withResolvers<Fresh<string>>();
    asked.push(answer);
    return answer.promise;
  };
  const source = tokenSource(fetch, {
    provider: "p",
    clock,
    random: { next: () => chance, id: () => "id" },
    stopping: stopping.signal,
    warn: (message, facts) => warned.push(`${message} ${JSON.stringify(facts)}`),
  });
  const last = () => {
    const answer = asked.at(-1);
    if (answer === undefined) throw new Error("nothing was asked");
    return answer;
  };
  return {
    clock,
    asked,
    warned,
    stopping,
    source,
    async give(value: string, lifeMs: number, refreshInMs?: number) {
      last().resolve(refreshInMs === undefined ? { value, lifeMs } : { value, lifeMs, refreshInMs });
      await settled();
    },
    async refuse(why = "it would not") {
      last().reject(new CredentialFailure(why));
      await settled();
    },
  };
}

/** Lets everything run that waits for a promise. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) await Promise.resolve();
}

describe("tokenSource", () => {
  test("does nothing until it starts, then fetches at once", () => {
    const { source, asked, clock } = played();
    expect([asked.length, clock.waiting]).toEqual([0, 0]);
    source.start();
    expect(asked).toHaveLength(1);
  });

  test("a hundred calls without a value share one attempt, and each goes on once it is there", async () => {
    const { source, asked, give } = played();
    const waits = Array.from({ length: 100 }, () => source.ready());
    expect(asked).toHaveLength(1);
    expect(source.current()).toBeUndefined();
    await give("a", hourMs);
    await Promise.all(waits);
    expect([source.current(), asked.length, source.ready()]).toEqual(["a", 1, undefined]);
  });

  test("a value is replaced ahead of its end, and no call waits for that", async () => {
    const { source, asked, give, clock } = played();
    source.start();
    await give("a", hourMs);
    // A quarter of the life, but 15 minutes at most, is left.
    clock.advance(45 * 60_000 - 1);
    expect(asked).toHaveLength(1);
    clock.advance(1);
    expect(asked).toHaveLength(2);
    expect([source.current(), source.ready()]).toEqual(["a", undefined]);
    await give("b", hourMs);
    expect([source.current(), asked.length]).toEqual(["b", 2]);
  });

  test("chance brings it forward by a fifth of what is left at most", async () => {
    const { source, asked, give, clock } = played(1);
    source.start();
    await give("a", hourMs);
    clock.advance(42 * 60_000 - 1);
    expect(asked).toHaveLength(1);
    clock.advance(1);
    expect(asked).toHaveLength(2);
  });

  test("a day's value is replaced a quarter of an hour before its end, or when whoever gave it wants", async () => {
    const { source, asked, give, clock } = played();
    source.start();
    await give("a", 24 * hourMs);
    clock.advance(23 * hourMs);
    expect(asked).toHaveLength(1);
    clock.advance(45 * 60_000);
    expect(asked).toHaveLength(2);
    await give("b", 24 * hourMs, 12 * hourMs);
    clock.advance(12 * hourMs);
    expect(asked).toHaveLength(3);
  });

  test("its life is counted from the question, however long the answer took", async () => {
    const { source, give, clock } = played();
    source.start();
    clock.advance(4_000);
    await give("a", 10_000);
    clock.advance(3_999);
    expect(source.current()).toBe("a");
    clock.advance(1);
    expect(source.current()).toBeUndefined();
  });

  test("while refreshing fails the value stays to its end, attempts follow at growing distances, and one line tells why", async () => {
    const { source, asked, give, refuse, clock, warned } = played(1);
    source.start();
    await give("a", hourMs);
    clock.advance(42 * 60_000);
    const begunAtMs: number[] = [];
    for (let attempt = 2; attempt <= 9; attempt++) {
      expect(asked).toHaveLength(attempt);
      begunAtMs.push(clock.monotonicMs());
      await refuse();
      expect([source.current(), source.ready()]).toEqual(["a", undefined]);
      while (asked.length === attempt) clock.advance(100);
    }
    const distances = begunAtMs.slice(1).map((atMs, index) => atMs - (begunAtMs[index] ?? 0));
    expect(distances).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    expect(warned).toEqual([
      'The credential for a provider cannot be refreshed: it would not. Another attempt follows. The last one stays in use while it holds. {"provider":"p"}',
    ]);
    clock.advance(18 * 60_000);
    expect(source.current()).toBeUndefined();
    await give("b", 2 * hourMs);
    expect(source.current()).toBe("b");
    expect(warned.slice(1)).toEqual(['The credential for a provider can be had again. {"provider":"p"}']);
  });

  test("without a value a failed attempt is a fault for all who waited, and until the next one for all who come", async () => {
    const { source, asked, refuse, give, clock } = played(1);
    source.start();
    const waits = [source.ready(), source.ready()];
    const refused = Promise.allSettled(waits);
    await refuse();
    for (const outcome of await refused) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: { reason: FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, retryable: true, retryAfterMs: 1000, facts: { provider: "p" } },
      });
    }
    clock.advance(600);
    await expect(source.ready()).rejects.toMatchObject({ retryAfterMs: 400 });
    expect(asked).toHaveLength(1);
    clock.advance(400);
    expect(asked).toHaveLength(2);
    const wait = source.ready();
    await give("a", hourMs);
    await wait;
  });

  test("a value that ends before it can be used is none", async () => {
    for (const lifeMs of [0, -5, 2_000, Number.NaN]) {
      const { source, give, warned } = played();
      source.start();
      await give("a", lifeMs);
      expect(source.current()).toBeUndefined();
      expect(warned[0]).toContain("had expired or was about to");
    }
  });

  test("a value without end holds for ever and is fetched again as often as it says", async () => {
    const { source, asked, give, clock } = played();
    source.start();
    await give("a", Number.POSITIVE_INFINITY, 5_000);
    clock.advance(5_000);
    expect(asked).toHaveLength(2);
    await give("b", Number.POSITIVE_INFINITY);
    clock.advance(365 * 24 * hourMs);
    expect([asked.length, source.current(), clock.waiting]).toEqual([2, "b", 0]);
  });

  test("a value that the provider refuses is fetched again, but not if it is new and not while attempts fail", async () => {
    const { source, asked, give, refuse, clock } = played();
    source.start();
    await give("a", hourMs);
    source.refused();
    expect(asked).toHaveLength(1);
    clock.advance(30_000);
    source.refused();
    source.refused();
    expect(asked).toHaveLength(2);
    await refuse();
    source.refused();
    expect(asked).toHaveLength(2);
    expect(source.current()).toBe("a");
  });

  test("at rest there is no timer, and a call still gets what it needs", async () => {
    const { source, asked, give, clock } = played();
    source.start();
    await give("a", hourMs);
    expect(clock.waiting).toBe(1);
    source.rest();
    expect(clock.waiting).toBe(0);
    clock.advance(hourMs);
    const wait = source.ready();
    expect(asked).toHaveLength(2);
    await give("b", hourMs);
    await wait;
    expect([source.current(), clock.waiting]).toEqual(["b", 0]);
  });

  test("once the sidecar stops nothing is scheduled and nothing is told", async () => {
    const { source, refuse, clock, warned, stopping } = played();
    source.start();
    stopping.abort();
    await refuse();
    source.start();
    expect([clock.waiting, warned]).toEqual([0, []]);
  });

  test("what no message was made for is not repeated in the log", async () => {
    const { source, asked, warned } = played();
    source.start();
    asked[0]?.reject(new TypeError("CANARY in the words of an error"));
    await settled();
    expect(warned.join()).toContain("it failed in a way that should not happen");
    expect(warned.join()).not.toContain("CANARY");
  });
});

/** A wall clock that can be set, beside the one that only goes forward. */
class SettableClock extends ManualClock {
  offsetMs = 0;

  override wallMs(): number {
    return super.wallMs() + this.offsetMs;
  }
}

test("under any schedule no value is given out that has ended, and there are never two attempts", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 4_000_000 }) }),
    fc.record({ kind: fc.constant("give" as const), ms: fc.integer({ min: -1000, max: 5_000_000 }) }),
    fc.record({ kind: fc.constant("set" as const), ms: fc.integer({ min: -4_000_000, max: 4_000_000 }) }),
    fc.record({
      kind: fc.constantFrom("call" as const, "fail" as const, "refused" as const, "rest" as const, "start" as const),
      ms: fc.nat(),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.nat(), async (steps, seed) => {
      const clock = new SettableClock();
      const random = seededRandom(seed);
      const running: { readonly answer: PromiseWithResolvers<Fresh<number>>; readonly atMs: number; readonly wallMs: number }[] = [];
      let most = 0;
      let count = 0;
      /** When each value ends, on both clocks. */
      const ends: { readonly atMs: number; readonly wallMs: number }[] = [];
      const source = tokenSource<number>(
        () => {
          const answer = Promise.withResolvers<Fresh<number>>();
          running.push({ answer, atMs: clock.monotonicMs(), wallMs: clock.wallMs() });
          most = Math.max(most, running.length);
          return answer.promise;
        },
        { provider: "p", clock, random: { next: random.next, id: () => "" }, stopping: new AbortController().signal, warn: () => {} },
      );
      const check = (): void => {
        const value = source.current();
        if (value === undefined) return;
        const end = ends[value];
        expect(end === undefined ? 0 : end.atMs).toBeGreaterThan(clock.monotonicMs());
        expect(end === undefined ? 0 : end.wallMs).toBeGreaterThan(clock.wallMs());
      };
      for (const { kind, ms } of steps) {
        if (kind === "pass") clock.advance(ms);
        else if (kind === "set") clock.offsetMs += ms;
        else if (kind === "refused") source.refused();
        else if (kind === "rest") source.rest();
        else if (kind === "start") source.start();
        else if (kind === "call") source.ready()?.then(check, () => {});
        else {
          const attempt = running.shift();
          if (kind === "fail") attempt?.answer.reject(new CredentialFailure("no"));
          else if (attempt !== undefined) {
            ends.push({ atMs: attempt.atMs + ms, wallMs: attempt.wallMs + ms });
            attempt.answer.resolve({ value: count++, lifeMs: ms });
          }
          await settled();
        }
        check();
        // One attempt and one timer: whatever happens, they do not add up.
        expect(most).toBeLessThanOrEqual(1);
        expect(clock.waiting).toBeLessThanOrEqual(1);
      }
    }),
  );
});
