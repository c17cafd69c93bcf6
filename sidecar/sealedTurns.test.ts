import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type SealedTurn, type SealedTurnLimits, SealedTurns, type TurnKeys } from "./sealedTurns.ts";

const roomy: SealedTurnLimits = { bytesMax: 1_000_000, turnsMax: 100, idleMs: 1000 };

function turnOf(signature: string): SealedTurn {
  const block = { text: "", signature, redacted: "", dialect: "d", textBefore: 0, callsBefore: 0 };
  return { provider: "p", model: "m", dialect: "d", blocks: [block] };
}

function keys(calls: string | undefined, place: string | undefined): TurnKeys {
  return { calls, repeated: false, place: () => place };
}

function store(limits: Partial<SealedTurnLimits> = {}): {
  readonly turns: SealedTurns;
  readonly time: { nowMs: number };
  found(consumer: string, calls: string | undefined, place: string | undefined): string | undefined;
  keep(consumer: string, calls: string | undefined, place: string | undefined, signature: string): void;
} {
  const time = { nowMs: 0 };
  const turns = new SealedTurns({ ...roomy, ...limits }, { monotonicMs: () => time.nowMs });
  return {
    turns,
    time,
    found: (consumer, calls, place) => turns.find(consumer, keys(calls, place))?.blocks[0]?.signature,
    keep: (consumer, calls, place, signature) => turns.keep(consumer, keys(calls, place), turnOf(signature)),
  };
}

describe("a turn is found", () => {
  it("by its calls wherever it stands, and its place is not even asked for", () => {
    const { turns, found, keep } = store();
    keep("a", "calls", "here", "one");
    expect(found("a", "calls", "elsewhere")).toBe("one");
    const unasked: TurnKeys = {
      calls: "calls",
      repeated: false,
      place() {
        throw new Error("the place was asked for");
      },
    };
    expect(turns.find("a", unasked)).toEqual(turnOf("one"));
  });

  it("by its place where its conversation has other turns with the same calls", () => {
    const { turns, keep } = store();
    keep("a", "calls", "here", "one");
    expect(turns.find("a", { calls: "calls", repeated: true, place: () => "elsewhere" })).toBeUndefined();
    expect(turns.find("a", { calls: "calls", repeated: true, place: () => "here" })).toEqual(turnOf("one"));
  });

  it("by its place where it has no calls", () => {
    const { found, keep, turns } = store();
    keep("a", undefined, "here", "one");
    expect(found("a", undefined, "here")).toBe("one");
    expect(found("a", undefined, "elsewhere")).toBeUndefined();
    expect(found("a", undefined, undefined)).toBeUndefined();
    expect(turns.holdingsOf("a")).toEqual({ turns: 1, talks: 1 });
  });

  it("by calls and place where the same calls were seen at two, and still when one of the two is gone", () => {
    const { found, keep, time } = store();
    keep("a", "same", "first", "one");
    time.nowMs = 500;
    keep("a", "same", "second", "two");
    expect(found("a", "same", "second")).toBe("two");
    expect(found("a", "same", "third")).toBeUndefined();
    time.nowMs = 1100;
    expect(found("a", "same", "second")).toBe("two");
    keep("a", "other", "x", "three");
    expect(found("a", "same", "first")).toBeUndefined();
    expect(found("a", "same", "third")).toBeUndefined();
    // Made anew at the one place that is left, it is still not the only one that ever was.
    keep("a", "same", "second", "two again");
    expect(found("a", "same", "third")).toBeUndefined();
    expect(found("a", "same", "second")).toBe("two again");
  });

  it("not at all where neither calls nor place tell it from others", () => {
    const { found, keep } = store();
    keep("a", "same", undefined, "one");
    expect(found("a", "same", undefined)).toBe("one");
    keep("a", "same", undefined, "two");
    expect(found("a", "same", undefined)).toBeUndefined();
    keep("a", undefined, undefined, "three");
    expect(found("a", undefined, undefined)).toBeUndefined();
  });

  it("by no other consumer, whatever their names", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), fc.string(), (one, other, calls, place) => {
        fc.pre(one !== other);
        const { turns, found, keep } = store();
        keep(one, calls, place, "one's");
        keep(one, undefined, place, "one's");
        expect(found(one, calls, place)).toBe("one's");
        // What stands before and behind must not make up for a difference between the names.
        for (const text of [calls, place, one.slice(other.length) + calls, ` calls ${calls}`, ` place ${place}`]) {
          expect(found(other, text, text)).toBeUndefined();
          expect(found(other, undefined, text)).toBeUndefined();
        }
        expect(turns.holdingsOf(other)).toEqual({ turns: 0, talks: 0 });
      }),
    );
  });
});

describe("what is kept has limits", () => {
  it("in age since the last use", () => {
    const { turns, time, found, keep } = store();
    keep("a", "one", "1", "one");
    keep("a", "two", "2", "two");
    time.nowMs = 900;
    expect(found("a", "one", undefined)).toBe("one");
    time.nowMs = 1100;
    expect(turns.holdingsOf("a")).toEqual({ turns: 1, talks: 0 });
    expect(found("a", "two", undefined)).toBeUndefined();
    expect(found("a", "one", undefined)).toBe("one");
    expect(turns.counts()).toMatchObject({ turns: 1, kept: 2, forgotten: 1 });
  });

  it("in turns, and what was used last stays", () => {
    const { found, keep } = store({ turnsMax: 2 });
    keep("a", "one", "1", "one");
    keep("a", "two", "2", "two");
    expect(found("a", "one", undefined)).toBe("one");
    keep("b", "three", "3", "three");
    expect(found("a", "two", undefined)).toBeUndefined();
    expect(found("a", "one", undefined)).toBe("one");
    expect(found("b", "three", undefined)).toBe("three");
  });

  it("in bytes, none of which is lost from sight", () => {
    const operation = fc.record({
      consumer: fc.constantFrom("a", "b"),
      calls: fc.option(fc.constantFrom("x", "y", "z"), { nil: undefined }),
      place: fc.option(fc.constantFrom("1", "2", "3"), { nil: undefined }),
      size: fc.nat(6000),
      afterMs: fc.nat(400),
      keeps: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const { turns, time, found, keep } = store({ bytesMax: 20_000, turnsMax: 4 });
        for (const { consumer, calls, place, size, afterMs, keeps } of operations) {
          time.nowMs += afterMs;
          if (keeps) keep(consumer, calls, place, "s".repeat(size));
          else found(consumer, calls, place);
          const counts = turns.counts();
          expect(counts.bytes).toBeLessThanOrEqual(20_000);
          expect(counts.turns).toBeLessThanOrEqual(4);
          const [a, b] = [turns.holdingsOf("a"), turns.holdingsOf("b")];
          expect(a.turns + b.turns).toBe(turns.counts().turns);
        }
        time.nowMs += 2000;
        expect(turns.holdingsOf("a")).toEqual({ turns: 0, talks: 0 });
        expect(turns.counts()).toMatchObject({ turns: 0, bytes: 0 });
      }),
    );
  });

  it("so that none is kept that is larger than all may be together", () => {
    const { turns, found, keep } = store({ bytesMax: 0 });
    keep("a", "one", "1", "one");
    expect(found("a", "one", undefined)).toBeUndefined();
    expect(turns.counts()).toEqual({ turns: 0, bytes: 0, kept: 0, forgotten: 0 });
    const large = store({ bytesMax: 100_000_000 });
    large.keep("a", "one", "1", "s".repeat(1_100_000));
    expect(large.found("a", "one", undefined)).toBeUndefined();
  });
});
