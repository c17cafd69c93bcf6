/**
 * The one mutable reference to policy: what holds now, and what became of what was offered since.
 *
 * An offer is compiled beside the policy that runs, checked, and swapped in by one assignment; or it is refused with every reason and
 * nothing changes. A door takes the policy once for a call, so a call that has begun keeps the one it began with.
 */
import { Fault, FaultReason } from "../../proto/fault.ts";
import { listResources } from "../../proto/resources/kinds.ts";
import type { Problem, Resources } from "../../proto/resources.ts";
import type { Clock, Policy } from "../call.ts";
import type { Compiled } from "./compile.ts";

/** After how long an offer is tried again that was refused for what stands outside of it, such as a secret that is not there yet. */
const tryAgainMs = 5_000;

/** Policy as someone read it. */
export interface Offer {
  readonly resources: Resources;
  /** The hash of the resources' content. */
  readonly root: string;
  /** What the reader found wrong; one error refuses the offer. */
  readonly problems: readonly Problem[];
  /** Where a resource's field was read, if it is known, so that what the compiler finds is told with its line. */
  readonly locate?: (kind: string, name: string, field: string) => Pick<Problem, "file" | "line" | "column"> | undefined;
}

/** What became of an offer. */
export type Outcome =
  | {
      readonly applied: true;
      readonly root: string;
      readonly changed: boolean;
      readonly warnings: readonly Problem[];
      readonly tookMs: number;
    }
  | { readonly applied: false; readonly root: string; readonly problems: readonly Problem[]; readonly tookMs: number };

/** What holds, and since when. Times are in milliseconds since 1970. */
export interface PolicyStatus {
  /** The root of the policy that holds, or undefined if none does yet. */
  readonly root: string | undefined;
  /** When it was applied; 0 if none was. */
  readonly appliedAtMs: number;
  /** How many resources it has. */
  readonly resources: number;
  /** How often another policy was put in place. */
  readonly swaps: number;
  /** The last offer if it was refused; undefined once one is applied. */
  readonly refusal: { readonly root: string; readonly atMs: number; readonly problems: readonly Problem[] } | undefined;
}

/** What watching takes. */
export interface WatchParts {
  readonly compile: (resources: Resources, root: string) => Compiled;
  readonly clock: Clock;
  /** Hears what became of each offer; of a repeated attempt only if that is something new. `cause` is for the log only. */
  readonly told: (outcome: Outcome, cause?: unknown) => void;
}

/** Holds the policy. */
export interface PolicyWatch {
  /** The policy that holds now. Before the first it is one that refuses every call. */
  current(): Policy;
  /**
   * Takes an offer or refuses it. Never throws. `later` hears if an offer that was refused for what stands outside of it takes hold after
   * all.
   */
  offer(offer: Offer, later?: (outcome: Outcome) => void): Outcome;
  /** Compiles an offer beside what holds, and says what is wrong with it. Nothing else comes of it. */
  trial(offer: Offer): readonly Problem[];
  status(): PolicyStatus;
  /** Stops trying again. The policy stays. */
  close(): void;
}

/** Begins without a policy. */
export function watchPolicy({ compile, clock, told }: WatchParts): PolicyWatch {
  let current = noPolicy;
  let status: PolicyStatus = { root: undefined, appliedAtMs: 0, resources: 0, swaps: 0, refusal: undefined };
  let cancelRetry: (() => void) | undefined;

  function offer(offered: Offer, later?: (outcome: Outcome) => void): Outcome {
    cancelRetry?.();
    cancelRetry = undefined;
    return decide(offered, undefined, later);
  }

  function decide(offered: Offer, before: Outcome | undefined, later: ((outcome: Outcome) => void) | undefined): Outcome {
    const beganMs = clock.monotonicMs();
    const { policy, problems, cause, mayPass } = prepare(offered, current, compile);
    const tookMs = clock.monotonicMs() - beganMs;
    let outcome: Outcome;
    if (policy === undefined) {
      outcome = { applied: false, root: offered.root, problems, tookMs };
      status = { ...status, refusal: { root: offered.root, atMs: clock.wallMs(), problems } };
      if (mayPass) {
        cancelRetry = clock.after(tryAgainMs, () => {
          cancelRetry = undefined;
          const again = decide(offered, outcome, later);
          if (again.applied) later?.(again);
        });
      }
    } else {
      const changed = policy !== current;
      outcome = { applied: true, root: offered.root, changed, warnings: problems, tookMs };
      const count = listResources(offered.resources).length;
      status = changed
        ? { root: offered.root, appliedAtMs: clock.wallMs(), resources: count, swaps: status.swaps + 1, refusal: undefined }
        : { ...status, refusal: undefined };
      current = policy;
    }
    if (before === undefined || before.applied || !sameProblems(before.problems, problems) || outcome.applied) told(outcome, cause);
    return outcome;
  }

  return {
    current: () => current,
    offer,
    trial(offered) {
      // Nothing holds that could be the same, so that it is compiled in any case.
      const { policy, problems } = prepare(offered, noPolicy, compile);
      return policy === undefined ? problems : problems.filter(({ severity }) => severity === "error");
    },
    status: () => status,
    close() {
      cancelRetry?.();
      cancelRetry = undefined;
    },
  };
}

interface Prepared {
  /** What shall hold: a new policy, or the current one if it is the same. */
  readonly policy: Policy | undefined;
  readonly problems: readonly Problem[];
  readonly cause?: unknown;
  /** Whether the same offer may pass later. */
  readonly mayPass: boolean;
}

/** Makes a policy of an offer and tries it out, or says why not. */
function prepare(offered: Offer, current: Policy, compile: WatchParts["compile"]): Prepared {
  const { resources, root, problems } = offered;
  if (problems.some(({ severity }) => severity === "error")) return { policy: undefined, problems, mayPass: false };
  if (root === current.root) return { policy: current, problems, mayPass: false };
  try {
    const compiled = compile(resources, root);
    if (compiled.policy === undefined) {
      const found = compiled.problems.map((problem) => ({ ...problem, ...offered.locate?.(problem.kind, problem.name, problem.field) }));
      return { policy: undefined, problems: [...found, ...problems], mayPass: true };
    }
    checkPolicy(compiled.policy, root);
    return { policy: compiled.policy, problems, mayPass: false };
  } catch (cause) {
    const message = "This policy is in order, and yet no sidecar of this build can run it. The log has the cause.";
    const hint = "Please report this: it is a fault of Outrigger.";
    const problem: Problem = { id: "policy/not-compiled", severity: "error", kind: "", name: "", field: "", message, hint };
    return { policy: undefined, problems: [problem, ...problems], cause, mayPass: false };
  }
}

/** Throws if a compiled policy is not what was asked for, or fails at the first thing that a door asks of it. */
function checkPolicy(policy: Policy, root: string): void {
  if (policy.root !== root) throw new Error(`the compiled policy has root ${policy.root} and should have ${root}`);
  try {
    policy.models(undefined);
  } catch (refusal) {
    // To be refused without a credential is how most policies answer.
    if (!(refusal instanceof Fault)) throw refusal;
  }
}

function sameProblems(a: readonly Problem[], b: readonly Problem[]): boolean {
  return a.length === b.length && a.every((problem, index) => problem.field === b[index]?.field && problem.message === b[index]?.message);
}

function refuseEveryCall(): never {
  throw new Fault(
    FaultReason.NO_HEALTHY_TARGET,
    "This sidecar has no policy yet, so it cannot tell where a call may go. Try again shortly.",
  );
}

const noPolicy: Policy = Object.freeze({ root: "", answer: refuseEveryCall, models: refuseEveryCall });
