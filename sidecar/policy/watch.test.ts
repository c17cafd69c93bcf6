import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { ProviderSchema } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { groupResources } from "../../proto/resources/kinds.ts";
import type { Problem, Resources } from "../../proto/resources.ts";
import type { Clock, Policy } from "../call.ts";
import type { Compiled } from "./compile.ts";
import { type Offer, type Outcome, watchPolicy } from "./watch.ts";

let nowMs: number;
let timers: { delayMs: number; then: () => void }[];
let told: { outcome: Outcome; cause: unknown }[];
let compile: (resources: Resources, root: string) => Compiled;

const clock: Clock = {
  monotonicMs: () => nowMs,
  wallMs: () => 1_000_000 + nowMs,
  after(delayMs, then) {
    const timer = { delayMs, then };
    timers.push(timer);
    return () => {
      timers = timers.filter((other) => other !== timer);
    };
  },
};

beforeEach(() => {
  nowMs = 0;
  timers = [];
  told = [];
  compile = (_, root) => ({ policy: policyOf(root), problems: [] });
});

function watch() {
  return watchPolicy({
    compile: (resources, root) => compile(resources, root),
    clock,
    told: (outcome, cause) => told.push({ outcome, cause }),
  });
}

function policyOf(root: string): Policy {
  return {
    root,
    answer: () => {
      throw new Error("not called here");
    },
    models: () => [],
  };
}

function offerOf(root: string, problems: Problem[] = []): Offer {
  return { resources: groupResources([create(ProviderSchema, { metadata: { name: root } })]), root, problems };
}

function problemOf(message: string, severity: Problem["severity"] = "error"): Problem {
  return { id: "policy/rule", severity, kind: "Provider", name: "default/a", field: "spec.endpoint", message, hint: "" };
}

test("before the first policy every call is refused, and may be tried again", () => {
  const { current, status } = watch();
  expect(status()).toEqual({ root: undefined, appliedAtMs: 0, resources: 0, swaps: 0, refusal: undefined });
  const ask = () => current().models(undefined);
  expect(ask).toThrow(Fault);
  expect(ask).toThrow(expect.objectContaining({ reason: FaultReason.NO_HEALTHY_TARGET, retryable: true }));
});

test("a good offer is put in place whole, and the call that began before keeps its policy", () => {
  const { current, offer, status } = watch();
  offer(offerOf("one"));
  const begun = current();
  nowMs = 5;
  compile = (_, root) => {
    nowMs += 3;
    // While the new one is made the old one holds.
    expect(current()).toBe(begun);
    return { policy: policyOf(root), problems: [] };
  };
  expect(offer(offerOf("two", [problemOf("mind this", "warning")]))).toEqual({
    applied: true,
    root: "two",
    changed: true,
    warnings: [problemOf("mind this", "warning")],
    tookMs: 3,
  });
  expect(begun.root).toBe("one");
  expect(current().root).toBe("two");
  expect(status()).toEqual({ root: "two", appliedAtMs: 1_000_008, resources: 1, swaps: 2, refusal: undefined });
});

describe("the old policy keeps serving, and every reason is told, if", () => {
  test.each<[string, () => void, Offer, string[]]>([
    [
      "the reader found errors",
      () => {},
      offerOf("bad", [problemOf("first"), problemOf("second"), problemOf("third", "warning")]),
      ["first", "second", "third"],
    ],
    [
      "the compiler did",
      () => {
        compile = () => ({ policy: undefined, problems: [problemOf("no secret"), problemOf("no row")] });
      },
      offerOf("bad", [problemOf("mind this", "warning")]),
      ["no secret", "no row", "mind this"],
    ],
    [
      "the compiler fails",
      () => {
        compile = () => {
          throw new Error("CANARY");
        };
      },
      offerOf("bad"),
      ["This policy is in order, and yet no sidecar of this build can run it. The log has the cause."],
    ],
    [
      "what was compiled is another policy",
      () => {
        compile = () => ({ policy: policyOf("other"), problems: [] });
      },
      offerOf("bad"),
      ["This policy is in order, and yet no sidecar of this build can run it. The log has the cause."],
    ],
    [
      "what was compiled fails when it is asked",
      () => {
        compile = (_, root) => ({ policy: { ...policyOf(root), models: (() => missing.name) as never }, problems: [] });
      },
      offerOf("bad"),
      ["This policy is in order, and yet no sidecar of this build can run it. The log has the cause."],
    ],
  ])("%s", (_, arrange, bad, messages) => {
    const { current, offer, status } = watch();
    offer(offerOf("good"));
    arrange();
    nowMs = 7;
    const outcome = offer(bad);
    expect(outcome).toMatchObject({ applied: false, root: "bad" });
    expect(outcome.applied ? [] : outcome.problems.map(({ message }) => message)).toEqual(messages);
    expect(current().root).toBe("good");
    expect(status()).toMatchObject({ root: "good", appliedAtMs: 1_000_000, swaps: 1, refusal: { root: "bad", atMs: 1_000_007 } });
    expect(told.map(({ outcome: { applied } }) => applied)).toEqual([true, false]);
    expect(JSON.stringify(told.map((each) => each.outcome))).not.toContain("CANARY");
  });
});

/** Reading from this fails. */
const missing = undefined as unknown as { name: [] };

test("the cause of a failure goes to the log", () => {
  const cause = new Error("broken");
  compile = () => {
    throw cause;
  };
  watch().offer(offerOf("a"));
  expect(told[0]?.cause).toBe(cause);
});

test("a policy that refuses strangers is a good one", () => {
  compile = (_, root) => ({
    policy: {
      ...policyOf(root),
      models: () => {
        throw new Fault(FaultReason.CREDENTIAL_INVALID, "who?");
      },
    },
    problems: [],
  });
  expect(watch().offer(offerOf("a")).applied).toBe(true);
});

test("what the compiler finds is told with its line", () => {
  compile = () => ({ policy: undefined, problems: [problemOf("no secret")] });
  const locate = (kind: string, name: string, field: string) => ({ file: `${kind} ${name} ${field}`, line: 3, column: 5 });
  const outcome = watch().offer({ ...offerOf("a"), locate });
  expect(outcome).toMatchObject({ problems: [{ file: "Provider default/a spec.endpoint", line: 3, column: 5 }] });
});

test("an edit taken back clears the refusal, and nothing is compiled or swapped", () => {
  const { current, offer, status } = watch();
  offer(offerOf("one"));
  const held = current();
  offer(offerOf("bad", [problemOf("wrong")]));
  compile = () => {
    throw new Error("not compiled again");
  };
  expect(offer(offerOf("one"))).toMatchObject({ applied: true, changed: false });
  expect(current()).toBe(held);
  expect(status()).toMatchObject({ root: "one", swaps: 1, refusal: undefined });
});

describe("an offer refused for what stands outside of it", () => {
  const good = (_: Resources, root: string): Compiled => ({ policy: policyOf(root), problems: [] });
  const noSecret = (): Compiled => ({ policy: undefined, problems: [problemOf("no secret")] });

  function fire(): void {
    const [timer] = timers.splice(0, 1);
    if (timer === undefined) throw new Error("no timer runs");
    expect(timer.delayMs).toBe(5000);
    timer.then();
  }

  test("is tried again until it passes, and told only when something is new", () => {
    const { offer, current } = watch();
    compile = noSecret;
    offer(offerOf("one"));
    fire();
    fire();
    expect(told).toHaveLength(1);
    compile = () => ({ policy: undefined, problems: [problemOf("empty secret")] });
    fire();
    expect(told).toHaveLength(2);
    compile = good;
    fire();
    expect(current().root).toBe("one");
    expect(told.map(({ outcome }) => outcome.applied)).toEqual([false, false, true]);
    expect(timers).toEqual([]);
  });

  test("is forgotten once there is another offer, or at the end", () => {
    const watched = watch();
    compile = noSecret;
    watched.offer(offerOf("one"));
    compile = good;
    watched.offer(offerOf("two"));
    expect(timers).toEqual([]);
    compile = noSecret;
    watched.offer(offerOf("three"));
    expect(timers).toHaveLength(1);
    watched.close();
    expect(timers).toEqual([]);
    expect(watched.current().root).toBe("two");
  });

  test("an offer that is wrong in itself is not tried again", () => {
    watch().offer(offerOf("one", [problemOf("wrong")]));
    expect(timers).toEqual([]);
  });
});

test("a trial compiles and says what is wrong, and changes nothing", () => {
  const { offer, trial, status, current } = watch();
  offer(offerOf("one"));
  const before = status();
  expect(trial(offerOf("two"))).toEqual([]);
  compile = () => ({ policy: undefined, problems: [problemOf("wrong")] });
  expect(trial(offerOf("three"))).toEqual([problemOf("wrong")]);
  // Also what holds already is compiled anew: that it once could be says nothing of now.
  expect(trial(offerOf("one"))).toEqual([problemOf("wrong")]);
  expect(status()).toBe(before);
  expect(current().root).toBe("one");
  expect(timers).toEqual([]);
  expect(told).toHaveLength(1);
});

test("whoever offered what was refused hears when it takes hold after all", () => {
  const { offer } = watch();
  compile = () => ({ policy: undefined, problems: [problemOf("not there yet")] });
  const later: Outcome[] = [];
  offer(offerOf("one"), (outcome) => later.push(outcome));
  timers[0]?.then();
  expect(later).toEqual([]);
  compile = (_, root) => ({ policy: policyOf(root), problems: [] });
  timers.at(-1)?.then();
  expect(later).toMatchObject([{ applied: true, root: "one" }]);
});
