import { describe, expect, it } from "vitest";
import { endEvent } from "../proto/chat.ts";
import { Fault, FaultReason } from "../proto/fault.ts";
import { answerOf, batchesOf, faultOf, makeCall } from "../test/kit/call.ts";
import type { Filter } from "./call.ts";
import { compose, inOrder } from "./pipeline.ts";

describe("the pipeline", () => {
  it("takes a call through the filters from first to last, and its answer back", async () => {
    const log: string[] = [];
    const noted = (name: string): Filter =>
      async function* (call, next) {
        log.push(`${name} in`);
        yield* next(call);
        log.push(`${name} out`);
      };
    const names = ["identify", "record", "shed", "route", "failover", "recall"] as const;
    const filters = Object.fromEntries(names.map((name) => [name, noted(name)]));
    await batchesOf(compose(inOrder(filters as never), () => answerOf([endEvent()]))(makeCall()));
    expect(log).toEqual([...names.map((name) => `${name} in`), ...names.toReversed().map((name) => `${name} out`)]);
  });

  it("throws a filter's fault from the answer, never from the call", async () => {
    const fault = new Fault(FaultReason.MODEL_NOT_FOUND, "none");
    const answer = compose(
      [
        () => {
          throw fault;
        },
      ],
      () => answerOf(),
    )(makeCall());
    expect(await faultOf(answer)).toBe(fault);
  });
});
