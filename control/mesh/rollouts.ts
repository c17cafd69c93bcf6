/**
 * Carries a new revision to the sidecars: tries it, hands it out in stages, watches, and takes it back when it does harm. What a stage has
 * shown is judged in `rollout.ts`; here it is gathered.
 */
import type { PolicyProblem } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { RolloutState } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { compareText } from "../../proto/resources/problem.ts";
import { sha256 } from "../sha256.ts";
import { add, judge, noCalls, type RolloutRules, stageSize, stages, type Tally } from "./rollout.ts";

/** Roll-outs that are remembered, for people who ask what happened. */
const rolloutsKept = 200;
/** Sidecars of one capability level that are asked to try a change, one after the other, until one has answered. */
const triersPerLevel = 3;
/** How long each may take to answer. What nobody could try is watched all the more closely at the first stage. */
const trierMs = 2_000;

/** How a change reaches the sidecars after the dry run. */
export type RolloutMode = "at once" | "staged";

/** A sidecar that a change concerns. */
export interface Concerned {
  readonly key: string;
  readonly capabilityLevel: number;
  /** What it gets. */
  readonly root: string;
  /** Whether it can be asked to try. One in control's own process is not: trying there is the same as doing. */
  readonly canTry: boolean;
  /** Whether it is not connected, and may come back. */
  readonly isAway: boolean;
}

/** What roll-outs need of the mesh. */
export interface RolloutWorld {
  /** Milliseconds since 1970. */
  readonly nowMs: () => number;
  /** Milliseconds on a clock that only goes forward. */
  readonly steadyMs: () => number;
  readonly newId: () => string;
  readonly rules: RolloutRules;
  /** Hears of one that goes out in stages, before the first sidecar does. */
  readonly begun: (id: string, revision: number) => void;
  /** Asks a sidecar to try the change. */
  readonly try: (key: string) => void;
  /** Hands the change to those who are members by now and were not before. */
  readonly handOut: (keys: readonly string[]) => void;
  /** Everybody has it from now on. */
  readonly promote: () => void;
  /** Nobody has it from now on. */
  readonly takeBack: (rollout: RolloutFacts, members: readonly string[]) => void;
  /** How calls usually go, and how many sidecars are connected. */
  readonly usual: () => { readonly calls: Tally; readonly connected: number };
  /** Those that are remembered from before, the newest first. */
  readonly past: readonly RolloutFacts[];
}

/** What people see of a roll-out. Times are in milliseconds since 1970. */
export interface RolloutFacts {
  readonly id: string;
  readonly revision: number;
  readonly fromRevision: number;
  readonly state: RolloutState;
  /** The share of the sidecars concerned that have it, in millionths. */
  readonly shareMillionths: number;
  readonly enforced: number;
  readonly refused: number;
  readonly reason: string;
  readonly begunMs: number;
  readonly endedMs: number | undefined;
}

interface Member {
  readonly key: string;
  readonly root: string;
  enforced: boolean;
  refused: boolean;
  lostAtMs: number | undefined;
  losses: number;
}

interface Running {
  readonly id: string;
  readonly revision: number;
  readonly fromRevision: number;
  readonly mode: RolloutMode;
  readonly begunMs: number;
  /** All that it concerned when it began, in the order in which they get it: those that were connected, and those that were not. */
  readonly order: readonly Concerned[];
  readonly orderAway: readonly Concerned[];
  /** Those that are not connected now. */
  readonly away: Set<string>;
  readonly members: Map<string, Member>;
  /** What became of trying it, by capability level: one sidecar at a time, since one may be lost by it. */
  readonly trials: Map<number, { problems: readonly PolicyProblem[] | undefined; readonly waiting: string[] }>;
  /** Who tries it, and since when. */
  trying: { readonly key: string; readonly level: number; readonly sinceMs: number } | undefined;
  /** -1 while it is tried. */
  stage: number;
  stageBeganMs: number;
  calls: Tally;
  /** Sidecars beside the members that were lost since the stage began, and since when. */
  readonly othersLost: Map<string, number>;
}

/** The roll-outs of one control: one at a time. */
export class Rollouts {
  readonly #world: RolloutWorld;
  #running: Running | undefined;
  readonly #past: RolloutFacts[];

  constructor(world: RolloutWorld) {
    this.#world = world;
    this.#past = [...world.past];
  }

  /**
   * Begins one and returns its name. If another one runs it ends here: the new revision has what it had. What concerns nobody is promoted
   * at once and has no name.
   */
  begin(change: {
    readonly revision: number;
    readonly fromRevision: number;
    readonly mode: RolloutMode;
    readonly concerned: readonly Concerned[];
    /** Its name, if it goes on from before a restart: then the same sidecars get it in the same order. */
    readonly id: string | undefined;
  }): string {
    if (this.#running !== undefined) this.#end(RolloutState.ROLLED_BACK, `revision ${change.revision} took its place`);
    if (change.concerned.length === 0) {
      this.#world.promote();
      return "";
    }
    const id = change.id ?? this.#world.newId();
    if (change.mode === "staged") this.#world.begun(id, change.revision);
    const drawn = change.concerned.map((concerned) => ({ concerned, lot: sha256(`${id} ${concerned.key}`) }));
    const all = drawn.sort((a, b) => compareText(a.lot, b.lot)).map(({ concerned }) => concerned);
    const [order, orderAway] = [all.filter(({ isAway }) => !isAway), all.filter(({ isAway }) => isAway)];
    const running: Running = {
      id,
      revision: change.revision,
      fromRevision: change.fromRevision,
      mode: change.mode,
      begunMs: this.#world.nowMs(),
      order,
      orderAway,
      away: new Set(orderAway.map(({ key }) => key)),
      members: new Map(),
      trials: new Map(),
      trying: undefined,
      stage: -1,
      stageBeganMs: this.#world.steadyMs(),
      calls: noCalls,
      othersLost: new Map(),
    };
    this.#running = running;
    for (const { key, capabilityLevel, canTry } of order) {
      if (!canTry) continue;
      const trial = running.trials.get(capabilityLevel);
      if (trial === undefined) running.trials.set(capabilityLevel, { problems: undefined, waiting: [key] });
      else if (trial.waiting.length < triersPerLevel) trial.waiting.push(key);
    }
    this.#tryNext(running);
    return id;
  }

  /** Whether a sidecar has the change that is being rolled out. */
  isMember(key: string): boolean {
    return this.#running?.members.has(key) ?? false;
  }

  /** Those that have the change that is being rolled out. */
  members(): string[] {
    return [...(this.#running?.members.keys() ?? [])];
  }

  /** What a trial found. */
  tried(key: string, root: string, problems: readonly PolicyProblem[]): void {
    const running = this.#running;
    if (running === undefined || running.stage >= 0) return;
    const trier = running.order.find((one) => one.key === key);
    const trial = trier === undefined || trier.root !== root ? undefined : running.trials.get(trier.capabilityLevel);
    if (trial === undefined || trial.problems !== undefined) return;
    trial.problems = problems;
    if (running.trying?.level === trier?.capabilityLevel) this.#tryNext(running);
  }

  /** A sidecar enforces a root. */
  enforced(key: string, root: string): void {
    const member = this.#running?.members.get(key);
    if (member?.root === root) member.enforced = true;
  }

  /** A sidecar refused a root. */
  refused(key: string, root: string): void {
    const member = this.#running?.members.get(key);
    if (member?.root !== root) return;
    member.refused = true;
    this.#look();
  }

  /** A sidecar told how its calls went under a root. Returns whether that belongs to the roll-out. */
  reported(key: string, root: string, tally: Tally): boolean {
    const running = this.#running;
    if (running?.members.get(key)?.root !== root) return false;
    running.calls = add(running.calls, tally);
    this.#look();
    return true;
  }

  /** A stream was lost that nobody had asked to end. */
  lost(key: string): void {
    const running = this.#running;
    if (running === undefined) return;
    const nowMs = this.#world.steadyMs();
    if (running.stage < 0 && running.trying?.key === key) {
      this.#takeBack(`sidecar ${key} was lost while it tried it`);
      return;
    }
    running.away.add(key);
    const member = running.members.get(key);
    if (member === undefined) {
      running.othersLost.set(key, nowMs);
      return;
    }
    member.lostAtMs = nowMs;
    if (member.enforced) member.losses += 1;
  }

  /** A sidecar stopped because it was told to. What it showed of the change counts on; if it had not taken it, nobody waits for it. */
  left(key: string): void {
    const member = this.#running?.members.get(key);
    if (member !== undefined && !member.enforced) member.lostAtMs = this.#world.steadyMs();
  }

  /** A sidecar is there again. */
  back(key: string): void {
    const member = this.#running?.members.get(key);
    if (member !== undefined) member.lostAtMs = undefined;
    this.#running?.away.delete(key);
    this.#running?.othersLost.delete(key);
  }

  /** Looks what has become of the stage; to be called about once a second. */
  tick(): void {
    const running = this.#running;
    if (running === undefined) return;
    if (running.stage >= 0) this.#look();
    else if (running.trying !== undefined && this.#world.steadyMs() - running.trying.sinceMs >= trierMs) this.#tryNext(running);
  }

  /** Ends the one that runs, as somebody asks. Returns undefined if it does not run. */
  decide(id: string, promote: boolean, by: string): RolloutFacts | undefined {
    if (this.#running?.id !== id) return undefined;
    if (promote) this.#promote(`${by} gave it to everybody`);
    else this.#takeBack(`${by} took it back`);
    return this.#past[0];
  }

  /** The newest first. */
  list(limit: number): readonly RolloutFacts[] {
    const running = this.#running === undefined ? [] : [this.#factsOf(this.#running)];
    return [...running, ...this.#past].slice(0, limit);
  }

  /** Asks the next sidecar to try, or goes on once every level has answered or has nobody left to ask. */
  #tryNext(running: Running): void {
    for (const [level, trial] of running.trials) {
      const key = trial.problems === undefined ? trial.waiting.shift() : undefined;
      if (key === undefined) continue;
      running.trying = { key, level, sinceMs: this.#world.steadyMs() };
      this.#world.try(key);
      return;
    }
    running.trying = undefined;
    // In stages a refusal stops it. At once it goes on: a sidecar that refuses keeps what it has, and may take it when a file is in place.
    const refusal = [...running.trials].find(([, { problems }]) => (problems?.length ?? 0) > 0);
    if (running.mode === "staged" && refusal !== undefined) {
      const [level, { problems = [] }] = refusal;
      const [problem] = problems;
      const what = problem === undefined ? "" : `: ${problem.kind} ${problem.name} ${problem.field}: ${problem.message}`;
      this.#takeBack(`a sidecar of capability level ${level} could not enforce it${what}`);
      return;
    }
    this.#beginStage(running, 0);
  }

  #beginStage(running: Running, stage: number): void {
    const share = running.mode === "at once" ? stages.length - 1 : stage;
    if (share >= stages.length - 1) {
      this.#promote("");
      return;
    }
    running.stage = share;
    running.stageBeganMs = this.#world.steadyMs();
    running.othersLost.clear();
    const fresh: string[] = [];
    for (const { key, root } of stageOf(share, running)) {
      if (running.members.has(key)) continue;
      // Of whoever is away nothing is expected before it is back, and then it counts.
      const lostAtMs = running.away.has(key) ? running.stageBeganMs : undefined;
      running.members.set(key, { key, root, enforced: false, refused: false, lostAtMs, losses: 0 });
      fresh.push(key);
    }
    this.#world.handOut(fresh);
  }

  #look(): void {
    const running = this.#running;
    if (running === undefined || running.stage < 0) return;
    const { rules } = this.#world;
    const nowMs = this.#world.steadyMs();
    const usual = this.#world.usual();
    const isGone = (lostAtMs: number | undefined): boolean => lostAtMs !== undefined && nowMs - lostAtMs >= rules.goneMs;
    // Whoever left before the change reached it has nothing to say about it.
    const members = [...running.members.values()].filter(({ enforced, lostAtMs }) => enforced || lostAtMs === undefined);
    const verdict = judge(
      {
        nowMs,
        stageBeganMs: running.stageBeganMs,
        members: members.length,
        enforced: members.filter(({ enforced }) => enforced).length,
        refused: members.filter(({ refused }) => refused).length,
        crashed: members.filter(({ enforced, lostAtMs, losses }) => enforced && (losses > 1 || isGone(lostAtMs))).length,
        othersCrashed: [...running.othersLost.values()].filter(isGone).length,
        others: Math.max(usual.connected - members.length, 0),
        calls: running.calls,
        usual: usual.calls,
      },
      rules,
    );
    if (verdict.is === "breach") this.#takeBack(verdict.reason);
    if (verdict.is === "advance") this.#beginStage(running, running.stage + 1);
  }

  #promote(reason: string): void {
    this.#end(RolloutState.DONE, reason);
    this.#world.promote();
  }

  #takeBack(reason: string): void {
    const members = this.members();
    const facts = this.#end(RolloutState.ROLLED_BACK, reason);
    if (facts !== undefined) this.#world.takeBack(facts, members);
  }

  #end(state: RolloutState, reason: string): RolloutFacts | undefined {
    const running = this.#running;
    if (running === undefined) return undefined;
    const share = state === RolloutState.DONE ? 1_000_000 : 0;
    const facts = { ...this.#factsOf(running), state, reason, shareMillionths: share, endedMs: this.#world.nowMs() };
    this.#running = undefined;
    this.#past.unshift(facts);
    this.#past.length = Math.min(this.#past.length, rolloutsKept);
    return facts;
  }

  #factsOf(running: Running): RolloutFacts {
    const members = [...running.members.values()];
    return {
      id: running.id,
      revision: running.revision,
      fromRevision: running.fromRevision,
      state: running.stage < 0 ? RolloutState.DRY_RUN : RolloutState.STAGED,
      shareMillionths: Math.round((members.length / (running.order.length + running.orderAway.length)) * 1_000_000),
      enforced: members.filter(({ enforced }) => enforced).length,
      refused: members.filter(({ refused }) => refused).length,
      reason: "",
      begunMs: running.begunMs,
      endedMs: undefined,
    };
  }
}

/**
 * Who has a stage. A share of those that were connected, and the same share of those that were away: many that never come back must not
 * make one stage of all that are there.
 */
function stageOf(stage: number, { order, orderAway }: Pick<Running, "order" | "orderAway">): readonly Concerned[] {
  if (order.length === 0) return orderAway.slice(0, stageSize(stage, orderAway.length));
  const away = Math.floor((stages[stage] ?? 1) * orderAway.length);
  return [...order.slice(0, stageSize(stage, order.length)), ...orderAway.slice(0, away)];
}
