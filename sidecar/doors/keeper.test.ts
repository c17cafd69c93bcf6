import fc from "fast-check";
import { expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { bufferedBytesHigh, Keeper, type Kept, usualPatience } from "./keeper.ts";

class Guest implements Kept {
  place = -1;
  looks: number[] = [];
  expelled = 0;

  check(nowMs: number): void {
    this.looks.push(nowMs);
  }

  expel(): void {
    this.expelled += 1;
  }
}

test("looks at whoever is here, and sleeps when nobody is", () => {
  const clock = new ManualClock();
  const keeper = new Keeper(clock, usualPatience);
  expect(clock.waiting).toBe(0);
  const guests = [new Guest(), new Guest()];
  for (const guest of guests) keeper.enter(guest);
  expect(clock.waiting).toBe(1);
  clock.advance(2 * usualPatience.sweepMs);
  expect(guests.map(({ looks }) => looks.length)).toEqual([2, 2]);
  for (const guest of guests) keeper.leave(guest);
  clock.advance(usualPatience.sweepMs);
  expect(guests.map(({ looks }) => looks.length)).toEqual([2, 2]);
  expect(clock.waiting).toBe(0);
  keeper.enter(new Guest());
  expect(clock.waiting).toBe(1);
});

test("one that leaves while all are looked at takes nobody with it", () => {
  const clock = new ManualClock();
  const keeper = new Keeper(clock, usualPatience);
  const last = new Guest();
  const leaver: Kept = { place: -1, check: () => keeper.leave(leaver), expel: () => {} };
  keeper.enter(leaver);
  keeper.enter(last);
  clock.advance(usualPatience.sweepMs);
  expect(last.looks).toHaveLength(1);
  expect(keeper.openCount).toBe(1);
});

test("has so much room and no more", () => {
  const keeper = new Keeper(new ManualClock(), { ...usualPatience, bodyBytesHeldMax: 10 });
  expect(keeper.hold(6)).toBe(true);
  expect(keeper.hold(5)).toBe(false);
  expect(keeper.hold(4)).toBe(true);
  keeper.release(6);
  expect(keeper.bodyBytesHeld).toBe(4);
  expect(keeper.hold(6)).toBe(true);
});

test("shares out what may wait for slow callers", () => {
  const keeper = new Keeper(new ManualClock(), { ...usualPatience, bufferedBytesMax: 4 * bufferedBytesHigh });
  const marks: number[] = [];
  for (let guests = 0; guests < 200; guests += 1) {
    marks.push(keeper.bufferedBytesHigh);
    keeper.enter(new Guest());
  }
  expect(marks.slice(0, 5)).toEqual(Array.from({ length: 5 }, () => bufferedBytesHigh));
  expect(marks[8]).toBe(bufferedBytesHigh / 2);
  expect(marks[199]).toBe(4096);
});

test("tells once when the last has left, and at once if nobody is here", () => {
  const keeper = new Keeper(new ManualClock(), usualPatience);
  let told = 0;
  const count = () => {
    told += 1;
  };
  keeper.whenEmpty(count);
  expect(told).toBe(1);
  const guests = [new Guest(), new Guest()];
  for (const guest of guests) keeper.enter(guest);
  keeper.whenEmpty(count);
  keeper.expelAll();
  expect(guests.map(({ expelled }) => expelled)).toEqual([1, 1]);
  for (const guest of guests) {
    expect(told).toBe(1);
    keeper.leave(guest);
  }
  expect(told).toBe(2);
  keeper.leave(new Guest());
  expect(told).toBe(2);
});

test("knows exactly who is here, whoever came and went before", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant("enter" as const), fc.nat(12)), { maxLength: 80, size: "max" }), (steps) => {
      const clock = new ManualClock();
      const keeper = new Keeper(clock, usualPatience);
      const all: Guest[] = [];
      const here = new Set<Guest>();
      for (const step of steps) {
        if (step === "enter") {
          const guest = new Guest();
          all.push(guest);
          here.add(guest);
          keeper.enter(guest);
        } else {
          const guest = all[step];
          // One that has left already may say so again, when somebody else has its place.
          if (guest === undefined) continue;
          here.delete(guest);
          keeper.leave(guest);
        }
        expect(keeper.openCount).toBe(here.size);
      }
      clock.advance(usualPatience.sweepMs);
      keeper.expelAll();
      expect(all.map(({ looks, expelled }) => [looks.length, expelled])).toEqual(all.map((guest) => (here.has(guest) ? [1, 1] : [0, 0])));
    }),
  );
});
