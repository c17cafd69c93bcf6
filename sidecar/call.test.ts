import { describe, expect, it } from "vitest";
import { type Batch, endEvent, textEvent } from "../proto/chat.ts";
import { answerOf, batchesOf } from "../test/kit/call.ts";
import { type AnswerWatcher, Secret, watchAnswer } from "./call.ts";

/** A watcher that remembers what it saw. */
function remembering(change: (batch: Batch) => Batch = (batch) => batch) {
  const seen: unknown[] = [];
  const watcher: AnswerWatcher = {
    pass(batch) {
      seen.push(batch.length);
      return change(batch);
    },
    over: (failure) => seen.push(failure === undefined ? "over" : `over: ${String(failure)}`),
  };
  return { seen, watcher };
}

/** An answer that is driven by hand, and says whether it was left. */
function byHand() {
  const asked: { resolve(result: IteratorResult<Batch>): void; reject(failure: unknown): void }[] = [];
  const state = { left: false };
  const answer: AsyncIterable<Batch> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise((resolve, reject) => asked.push({ resolve, reject })),
      return: async () => {
        state.left = true;
        return { done: true, value: undefined };
      },
    }),
  };
  return { answer, asked, state };
}

const text: Batch = [textEvent(0, "a")];

describe("watching an answer", () => {
  it("shows every batch, gives what the watcher returns, and tells the end once", async () => {
    const other: Batch = [textEvent(0, "b"), textEvent(0, "c")];
    const { seen, watcher } = remembering((batch) => (batch === text ? other : batch));
    const answer = watchAnswer(() => answerOf(text, [endEvent()]), watcher);
    const batches = await batchesOf(answer);
    expect(batches[0]).toBe(other);
    expect(batches).toHaveLength(2);
    expect(seen).toEqual([1, 1, "over"]);
    expect(await answer[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined });
    expect(seen).toEqual([1, 1, "over"]);
  });

  it("begins only when it is asked, and tells a failure of the beginning", async () => {
    const { seen, watcher } = remembering();
    let begun = 0;
    const begin = (): AsyncIterable<Batch> => {
      begun += 1;
      throw new Error("cannot begin");
    };
    const iterator = watchAnswer(begin, watcher)[Symbol.asyncIterator]();
    expect(begun).toBe(0);
    await expect(iterator.next()).rejects.toThrow("cannot begin");
    expect(seen).toEqual(["over: Error: cannot begin"]);
  });

  it("tells nothing of an answer that was left before it began", async () => {
    const { seen, watcher } = remembering();
    const iterator = watchAnswer(() => answerOf(text), watcher)[Symbol.asyncIterator]();
    await iterator.return?.();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(seen).toEqual([]);
  });

  it("tells at once that an answer was left between batches", async () => {
    const { seen, watcher } = remembering();
    const { answer, asked, state } = byHand();
    const iterator = watchAnswer(() => answer, watcher)[Symbol.asyncIterator]();
    const first = iterator.next();
    asked[0]?.resolve({ done: false, value: text });
    await first;
    await iterator.return?.();
    expect(state.left).toBe(true);
    expect(seen).toEqual([1, "over"]);
  });

  it("tells how an answer ended that was left while a batch was asked for", async () => {
    const { seen, watcher } = remembering();
    const { answer, asked } = byHand();
    const iterator = watchAnswer(() => answer, watcher)[Symbol.asyncIterator]();
    const first = iterator.next();
    const left = iterator.return?.();
    asked[0]?.reject("too late");
    await expect(first).rejects.toBe("too late");
    await left;
    expect(seen).toEqual(["over: too late"]);
  });

  it("leaves an answer whose watcher fails", async () => {
    const { answer, asked, state } = byHand();
    const { seen, watcher } = remembering(() => {
      throw new Error("cannot look");
    });
    const iterator = watchAnswer(() => answer, watcher)[Symbol.asyncIterator]();
    const first = iterator.next();
    asked[0]?.resolve({ done: false, value: text });
    await expect(first).rejects.toThrow("cannot look");
    expect(state.left).toBe(true);
    expect(seen).toEqual([1, "over: Error: cannot look"]);
  });

  // Watchers of one answer look from one place, which must not be noticed: a bare iterable between them keeps them apart.
  const apart = (answer: AsyncIterable<Batch>): AsyncIterable<Batch> => ({ [Symbol.asyncIterator]: () => answer[Symbol.asyncIterator]() });
  const together = (answer: AsyncIterable<Batch>): AsyncIterable<Batch> => answer;
  const failing = ["nothing", "the beginning", "the answer", "the inner watcher", "the middle watcher", "the outer watcher"] as const;
  it.each(failing)("tells each of several watchers the same as if it were alone: %s fails", async (fails) => {
    const outcomes: unknown[] = [];
    for (const between of [apart, together]) {
      const log: string[] = [];
      const watcher = (name: string): AnswerWatcher => ({
        pass(batch) {
          log.push(`${name} sees ${batch.length}`);
          if (fails === `the ${name} watcher`) throw new Error(name);
          return [...batch, textEvent(0, name)];
        },
        over: (failure) => log.push(`${name} over: ${failure}`),
      });
      const begin = (): AsyncIterable<Batch> => {
        log.push("begun");
        if (fails === "the beginning") throw new Error("no beginning");
        return fails === "the answer" ? broken() : answerOf(text, text);
      };
      async function* broken(): AsyncGenerator<Batch> {
        yield text;
        throw new Error("broken");
      }
      const inner = between(watchAnswer(begin, watcher("inner")));
      const middle = between(watchAnswer(() => inner, watcher("middle")));
      const iterator = watchAnswer(() => middle, watcher("outer"))[Symbol.asyncIterator]();
      for (let turn = 0; turn < 4; turn++) {
        log.push(await iterator.next().then(({ done, value }) => `${done} ${value?.length}`, String));
      }
      // In which order several hear that the answer was left is nobody's business.
      outcomes.push(
        ["begun", "inner", "middle", "outer", "Error", "false", "true"].map((name) => log.filter((line) => line.startsWith(name))),
      );
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[0]).toContainEqual(["begun"]);
  });

  it("tells every watcher the end, also beside one that fails to hear it", async () => {
    const outer = remembering();
    const deaf: AnswerWatcher = {
      pass: (batch) => batch,
      over: () => {
        throw new Error("cannot hear");
      },
    };
    const watched = watchAnswer(() => answerOf(text), deaf);
    const iterator = watchAnswer(() => watched, outer.watcher)[Symbol.asyncIterator]();
    await iterator.next();
    await expect(iterator.next()).rejects.toThrow("cannot hear");
    expect(outer.seen).toEqual([1, "over"]);
  });

  it("tells each of several watchers once that the answer was left", async () => {
    const [inner, outer] = [remembering(), remembering()];
    const { answer, asked, state } = byHand();
    const watched = watchAnswer(() => answer, inner.watcher);
    const iterator = watchAnswer(() => watched, outer.watcher)[Symbol.asyncIterator]();
    const first = iterator.next();
    asked[0]?.resolve({ done: false, value: text });
    await first;
    await iterator.return?.();
    await iterator.return?.();
    expect(state.left).toBe(true);
    expect([inner.seen, outer.seen]).toEqual([
      [1, "over"],
      [1, "over"],
    ]);
  });
});

describe("a secret", () => {
  it("shows itself nowhere that text is made", () => {
    const secret = new Secret("sk-very-secret");
    expect([`${secret}`, JSON.stringify({ secret }), String(secret)].join()).not.toContain("very");
    expect(secret.reveal()).toBe("sk-very-secret");
  });
});
