/**
 * Control's end of the mesh: brings every sidecar the policy that it may use, and knows which one each enforces.
 *
 * A revision of the store becomes a distribution, a distribution the targets of streams; what a stream then sends is its own affair
 * (`stream.ts`), and how far a new revision goes is that of the roll-outs (`rollouts.ts`). Nothing here waits for a sidecar: all that
 * happens is that targets change, messages come in, and time passes.
 */
import { capabilityLevel } from "../../proto/capability.ts";
import type { Opening } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { RolloutMode as RolloutWish } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { scopeOf, snapshotBytesMax } from "../../proto/mesh.ts";
import { fullNameOf, groupResources, kindOf, type Resource, type Resources } from "../../proto/resources/kinds.ts";
import type { Problem } from "../../proto/resources/problem.ts";
import type { Clock } from "../clock.ts";
import { entryOnce } from "../encoded.ts";
import { controlFault } from "../serve/fault.ts";
import type { PolicyStore, StoredPolicy } from "../store/store.ts";
import { type AdmissionRates, admissionDefaults, openBucket } from "./admission.ts";
import { openBook } from "./book.ts";
import { type Asker, type Distribution, type DistributionParts, distribute, type Part } from "./distribution.ts";
import { countFleet, keyOf, openFleet, type SidecarRecord } from "./fleet.ts";
import { readFleet, rememberFleet } from "./fleetMemory.ts";
import type { MeshMetrics } from "./metrics.ts";
import { checkClaims, checkOpening } from "./opening.ts";
import { readProgress, rememberProgress } from "./progress.ts";
import { add, noCalls, type RolloutRules, rolloutDefaults } from "./rollout.ts";
import { type Concerned, type RolloutFacts, type RolloutMode, Rollouts } from "./rollouts.ts";
import { type MeshPeer, type MeshSession, type Proven, Session, type SessionHouse } from "./session.ts";
import type { Signer } from "./signing.ts";
import type { StreamTarget } from "./stream.ts";

export type { MeshPeer, MeshSession, Proven } from "./session.ts";

/** How often streams are looked at for heartbeats and deadlines. */
const tickMs = 500;
/** Streams that say something because of the time in one turn of the loop. */
const turnWakes = 64;
/** Streams that get another target in one turn of the loop: others are heard in between. */
const turnStreams = 512;
/** Streams at most: what one process holds in 1.5 GB. */
const streamsMax = 20_000;
/** Within this time of a revision it is told how it should reach the sidecars; what comes from outside is not told of at all. */
const wishMs = 50;
/** Between looks for sidecars and snapshots that can be forgotten. */
const tidyMs = 60_000;

/** What a mesh is made with. */
export interface MeshParts {
  readonly store: PolicyStore;
  readonly signer: Signer;
  readonly clock: Clock;
  /** Numbers from 0 up to but not including 1, and names that nobody can guess. */
  readonly random: { next(): number; id(): string };
  /** Finds out who opens a stream; throws a ConnectError that says what to do. `credential` is the opening's, or a fresh one. */
  readonly identify: (opening: Opening, credential: string, peer: MeshPeer) => Promise<Proven>;
  readonly metrics: MeshMetrics;
  /** Hears what people should know. */
  readonly log: (level: "info" | "warn", message: string, facts: Readonly<Record<string, unknown>>) => void;
  /** This server's name. */
  readonly server: string;
  /** How a change reaches the sidecars that says nothing about it. */
  readonly rollout: RolloutMode;
  readonly rolloutRules?: RolloutRules;
  readonly admission?: AdmissionRates;
  /** Whether sidecars that have a higher revision than the store are asked to go back, because it was restored from a backup. */
  readonly acceptRollback: boolean;
  /** What seals the secrets that a policy refers to and control delivers; undefined if control has none. */
  readonly secretsOf?: DistributionParts["secretsOf"];
}

/** A change of policy before it is written. */
export interface Proposed {
  readonly resources: readonly Resource[];
  readonly rollout: RolloutWish;
}

/** Control's end of the mesh. */
export interface Mesh {
  /** Opens a stream for a sidecar elsewhere, or refuses it with a ConnectError. */
  open(opening: Opening, peer: MeshPeer): Promise<MeshSession>;
  /** Opens a stream for the sidecar in this process: it gets all policy, and is waited for by nobody. */
  openInProcess(opening: Opening): MeshSession;
  /** What sidecars could not take in a change; an error refuses it. */
  beforeCommit(proposed: Proposed): Promise<readonly Problem[]>;
  /** Takes a change that has just been written to the sidecars. Returns the name of its roll-out, or an empty text. */
  committed(revision: number, proposed: Proposed): string;
  /** All that is known of sidecars, sorted by namespace, account and instance. */
  sidecars(): readonly SidecarRecord[];
  /** The newest revision of the store. */
  readonly revision: number;
  rollouts(limit: number): readonly RolloutFacts[];
  /** Gives a roll-out to everybody or takes it back; undefined if it does not run. */
  decide(id: string, promote: boolean, by: string): RolloutFacts | undefined;
  /** Sends the secrets that control delivers again, to all whose policy refers to one. */
  deliverAgain(): void;
  /** Asks all sidecars to leave within a time, each at a moment of its own, and lets in no more. */
  sendAway(reason: string, withinMs: number): void;
  /** Ends all streams and follows the store no longer. Resolves when what is to be remembered is in the store, which may then be closed. */
  close(): Promise<void>;
}

/** Opens the mesh of one control: reads the store, and follows it. Rejects if the store cannot be read. */
export async function openMesh(parts: MeshParts): Promise<Mesh> {
  const { store, signer, clock, random, metrics, log } = parts;
  /** What people are told and what credentials say; whoever sets the clock moves it. */
  const nowMs = (): number => clock.wallMs();
  /** By what is waited: it only goes forward, and at one speed. */
  const steadyMs = (): number => clock.monotonicMs();
  const book = openBook();
  const remembered = await readFleet(store);
  const memory = rememberFleet(remembered, {
    store,
    clock,
    failed: (error) => log("warn", "What sidecars enforce cannot be remembered for a restart now.", { cause: String(error) }),
  });
  const fleet = openFleet(remembered, nowMs(), memory.changed);
  metrics.fleet(() => countFleet(fleet.list(), nowMs()));
  const sessions = new Map<string, Session>();
  const distributionParts: DistributionParts = { book, signer, nowMs, acceptRollback: parts.acceptRollback, secretsOf: parts.secretsOf };
  const rates = parts.admission ?? admissionDefaults;
  const resumes = openBucket(rates.resumes, steadyMs(), random.next);
  const coldStarts = openBucket(rates.coldStarts, steadyMs(), random.next);
  /** By scope: what sidecars of that scope should enforce that understand what everybody has. */
  const accepted = new Map<string, StreamTarget>();
  const timers = new Set<() => void>();
  let closed = false;
  let leaving = false;
  let tidiedMs = steadyMs();

  const first = await store.read();
  const unsettled = await readProgress(store, first, parts.rollout);
  const progress = rememberProgress(store, (error) =>
    log("warn", "How far policy has come cannot be remembered for a restart.", { cause: String(error) }),
  );
  const everybodys = unsettled?.before ?? first;
  // As of the newest revision: some may have that already, and go back to no lower one.
  let stable = distribute(groupStored(everybodys), everybodys.revision, distributionParts).asOf(first.revision);
  /** When that became what everybody should have. */
  let stableSinceMs = nowMs();
  /** What is being rolled out. */
  let candidate: Distribution | undefined;
  let newest = first.revision;
  /** What was looked at last before it was written. */
  let tried: { readonly resources: readonly Resource[]; readonly distribution: Distribution } | undefined;
  /** A revision whose wish is not known yet. */
  let waiting: { readonly policy: StoredPolicy; readonly cancel: () => void } | undefined;

  const rollouts = new Rollouts({
    nowMs,
    steadyMs,
    newId: random.id,
    rules: parts.rolloutRules ?? rolloutDefaults,
    begun: (id, revision) => progress.staged(stable.madeFrom, revision, id),
    try(key) {
      const session = sessions.get(key);
      if (session === undefined || candidate === undefined) return;
      session.stream.try(candidate.partFor(session.asker).target);
      session.wake();
    },
    handOut: (keys) => retarget(keys.flatMap((key) => sessions.get(key) ?? [])),
    promote() {
      if (candidate !== undefined) stable = candidate;
      stableSinceMs = nowMs();
      candidate = undefined;
      progress.settled(stable.madeFrom);
      retarget([...sessions.values()]);
    },
    takeBack(facts, members) {
      // As of the revision that is taken back, since members have that and go back to no lower one.
      stable = stable.asOf(facts.revision);
      candidate = undefined;
      progress.takenBack(stable.madeFrom, facts);
      retarget([...sessions.values()], new Set(members));
      log("warn", "A change of policy was taken back.", { rollout: facts.id, revision: facts.revision, reason: facts.reason });
      void rollBackStore(facts);
    },
    usual() {
      let calls = noCalls;
      for (const { record } of sessions.values()) calls = add(calls, record.usual);
      return { calls, connected: sessions.size };
    },
    past: unsettled?.takenBack === undefined ? [] : [unsettled.takenBack],
  });

  const house: SessionHouse = {
    signer,
    book,
    fleet,
    rollouts,
    metrics,
    server: parts.server,
    nowMs,
    steadyMs,
    random: random.next,
    count: () => sessions.size,
    identify: parts.identify,
    gone(session, how) {
      const { record } = session;
      if (sessions.get(record.key) !== session) return;
      sessions.delete(record.key);
      // The one in this process ends with it.
      if (how === "done" || session.inProcess) fleet.forget(record);
      else fleet.disconnect(record, nowMs());
      metrics.streams(sessions.size);
      if (how === "done") rollouts.left(record.key);
      else if (how === "lost" && !leaving && !closed) rollouts.lost(record.key);
    },
  };

  /** Makes the store hold what the sidecars have again, so that the next revision does not bring the bad one back. */
  async function rollBackStore(facts: RolloutFacts): Promise<void> {
    try {
      const [before, now] = await Promise.all([store.readAt(facts.fromRevision), store.read()]);
      if (before === undefined || now.revision !== facts.revision) return;
      const nameOfStored = (resource: Resource): string => `${kindOf(resource)} ${fullNameOf(resource)}`;
      const had = new Map(before.resources.map((stored) => [nameOfStored(stored.resource), stored.revision]));
      const has = new Map(now.resources.map((stored) => [nameOfStored(stored.resource), stored.revision]));
      await store.write({
        base: now.revision,
        upserts: before.resources.filter(({ resource, revision }) => has.get(nameOfStored(resource)) !== revision),
        removals: now.resources
          .filter(({ resource }) => !had.has(nameOfStored(resource)))
          .map(({ resource }) => {
            const [namespace = "", name = ""] = fullNameOf(resource).split("/");
            return { kind: kindOf(resource), namespace, name };
          }),
        author: "control",
        reason: `roll-out ${facts.id} was taken back: ${facts.reason}`.slice(0, 1024),
        atMs: nowMs(),
        rolledBackTo: facts.fromRevision,
      });
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      log("warn", "The store still holds the change that was taken back from the sidecars; change or delete it.", { cause });
    }
  }

  function publish(fresh: Distribution, mode: RolloutMode, goesOn?: string): string {
    const { revision } = fresh;
    newest = revision;
    metrics.committed();
    // Those that have a change which is still being rolled out go back at once, or get the new one as members of its own roll-out.
    const orphans = rollouts.members();
    if (candidate !== undefined) stable = stable.asOf(candidate.revision);
    const concerned: Concerned[] = [];
    const concern = (asker: Asker, { key, capabilityLevel }: SidecarRecord, about: Pick<Concerned, "canTry" | "isAway">): void => {
      const { target, problems } = fresh.partFor(asker);
      if (problems.length > 0 || target.snapshot === stable.partFor(asker).target.snapshot) return;
      concerned.push({ key, capabilityLevel, root: target.snapshot.root, ...about });
    };
    for (const { asker, record, inProcess } of sessions.values()) concern(asker, record, { canTry: !inProcess, isAway: false });
    if (mode === "staged") {
      // Those that are away come back in the middle of it: right after control's own start that is everybody.
      for (const record of fleet.list())
        if (!record.connected) concern({ ...record, whole: false }, record, { canTry: false, isAway: true });
    }
    candidate = fresh;
    const id = rollouts.begin({ revision, fromRevision: stable.madeFrom, mode, concerned, id: goesOn });
    retarget(orphans.flatMap((key) => sessions.get(key) ?? []));
    return id;
  }

  function heard(policy: StoredPolicy): void {
    if (closed || policy.revision <= newest) return;
    flush();
    const cancel = clock.after(wishMs, flush);
    waiting = { policy, cancel };
  }

  /** Publishes what was written by somebody who told nothing about it. */
  function flush(): void {
    if (waiting === undefined) return;
    const { policy, cancel } = waiting;
    cancel();
    waiting = undefined;
    if (policy.revision > newest) publish(distribute(groupStored(policy), policy.revision, distributionParts), parts.rollout);
  }

  /** What a sidecar should enforce. */
  function partFor(session: Session): { readonly part: Part; readonly target: StreamTarget | undefined } {
    const isNew = candidate !== undefined && rollouts.isMember(session.record.key);
    const part = (isNew && candidate !== undefined ? candidate : stable).partFor(session.asker);
    if (part.problems.length === 0) {
      if (!isNew) accepted.set(part.scope, part.target);
      return { part, target: part.target };
    }
    // It keeps what it has; what it does not understand may be a limit. Only whoever has nothing gets what is left without it.
    const held = accepted.get(part.scope);
    return { part, target: held ?? (session.stream.applied.root === "" ? part.reduced : undefined) };
  }

  function aim(session: Session): void {
    const { part, target } = partFor(session);
    const { record, stream } = session;
    const { snapshot, revision } = part.target;
    if (record.wanted.root !== snapshot.root) session.aimedMs = steadyMs();
    fleet.want(record, snapshot.root, revision, nowMs());
    if (part.problems.length > 0) fleet.refuse(record, snapshot.root, part.problems);
    stream.retarget(target);
    session.wake();
  }

  /** Gives sessions their targets, those in `hurry` first, and lets others be heard in between. */
  function retarget(all: readonly Session[], hurry: ReadonlySet<string> = new Set()): void {
    const order = hurry.size === 0 ? all : [...all].sort((a, b) => Number(hurry.has(b.record.key)) - Number(hurry.has(a.record.key)));
    inTurns(
      order,
      turnStreams,
      (session) => {
        if (!session.isClosed) aim(session);
      },
      () => metrics.roots(new Set([...sessions.values()].map(({ record }) => record.wanted.root)).size),
    );
  }

  /** Does something with each of many sessions, so many in a turn of the loop, so that acknowledgements and heartbeats are not kept waiting. */
  function inTurns(all: readonly Session[], perTurn: number, act: (session: Session) => void, then: () => void = () => undefined): void {
    const step = (from: number): void => {
      for (let at = from; at < all.length && at < from + perTurn; at++) {
        const session = all[at];
        if (session !== undefined) act(session);
      }
      if (from + perTurn >= all.length) {
        then();
        return;
      }
      setImmediate(() => {
        if (!closed) step(from + perTurn);
      });
    };
    step(0);
  }

  function tick(): void {
    const now = steadyMs();
    const wallMs = nowMs();
    const due: Session[] = [];
    for (const session of sessions.values()) if (session.tick(now, wallMs)) due.push(session);
    inTurns(due, turnWakes, (session) => session.wake());
    rollouts.tick();
    if (now - tidiedMs < tidyMs) return;
    tidiedMs = now;
    fleet.tidy(nowMs());
    const used = new Set<string>();
    const scopes = new Set<string>();
    for (const { record, asker } of sessions.values()) {
      used.add(record.root).add(record.wanted.root);
      scopes.add(scopeOf(asker));
    }
    for (const [scope, { snapshot }] of accepted) {
      if (scopes.has(scope)) used.add(snapshot.root);
      else accepted.delete(scope);
    }
    book.tidy(used);
  }

  function repeat(): void {
    const cancel = clock.after(tickMs, () => {
      timers.delete(cancel);
      if (closed) return;
      tick();
      repeat();
    });
    timers.add(cancel);
  }

  function begin(opening: Opening, proven: Proven, peer: MeshPeer | undefined): Session {
    const { namespace, account } = proven;
    const asker: Asker = { namespace, account, capabilityLevel: opening.capabilityLevel, whole: proven.whole };
    const now = nowMs();
    const name = { namespace, account, instance: opening.instance };
    // The same instance again: its old stream is dead, though nobody has noticed yet.
    sessions.get(keyOf(name))?.end(controlFault("STREAM_REPLACED", "The same instance has opened another stream."));
    const record = fleet.connect(name, now);
    record.build = opening.build;
    record.capabilityLevel = opening.capabilityLevel;
    record.bootedFrom = opening.bootedFrom;
    fleet.enforce(record, opening.appliedRoot, Number(opening.appliedRevision), now);
    const session = new Session({ record, asker, opening, proven, peer }, house);
    sessions.set(record.key, session);
    metrics.streams(sessions.size);
    rollouts.back(record.key);
    aim(session);
    return session;
  }

  /** Whether a root is one that control can tell the difference to. */
  function isKnown(root: string, { capabilityLevel }: Opening, { namespace, account, whole }: Proven): boolean {
    if (root === "") return false;
    if (book.find(root) !== undefined) return true;
    // After a restart nothing is known of a scope before somebody asks, and its sidecars have just that: found out once for each scope.
    stable.partFor({ namespace, account, capabilityLevel, whole });
    return book.find(root) !== undefined;
  }

  // Whoever runs this control follows the store too, and logs why it cannot be.
  const unwatch = store.watch(first.revision, heard, () => undefined);
  repeat();
  if (unsettled === undefined) progress.settled(first.revision);
  else if (unsettled.takenBack === undefined) {
    log("info", "Policy that was not everybody's yet goes out in stages, from the first.", { revision: first.revision });
    publish(distribute(groupStored(first), first.revision, distributionParts), "staged", unsettled.rollout);
  } else {
    const { id, revision, reason } = unsettled.takenBack;
    log("warn", "What stands in the store was taken back from the sidecars, and stays so.", { revision, rollout: id, reason });
    void rollBackStore(unsettled.takenBack);
  }

  return {
    async open(opening, peer) {
      checkOpening(opening);
      if (leaving || closed)
        throw controlFault("STOPPING", "This control stops. Try another one, or this one again shortly.", { retryAfterMs: 1_000 });
      if (sessions.size >= streamsMax) {
        throw controlFault("TOO_MANY_SIDECARS", `This control has ${streamsMax} sidecars, which is its limit. Try another one.`, {
          retryAfterMs: 30_000,
        });
      }
      const proven = await parts.identify(opening, opening.credential, peer);
      checkClaims(opening, proven);
      const known = opening.appliedRoot !== "" ? opening.appliedRoot : opening.diskRoot;
      const isResume = isKnown(known, opening, proven);
      const waitMs = (isResume ? resumes : coldStarts).take(steadyMs());
      if (waitMs > 0) {
        metrics.turnedAway(isResume);
        throw controlFault("TOO_MANY_SIDECARS", "Too many sidecars come at once. Try again when the delay is over.", {
          retryAfterMs: waitMs,
        });
      }
      await proven.confirm?.();
      metrics.opened(isResume);
      return begin(opening, proven, peer);
    },
    openInProcess: (opening) =>
      begin(
        opening,
        { namespace: opening.namespace, account: opening.account, instance: opening.instance, notAfterMs: undefined, whole: true },
        undefined,
      ),
    async beforeCommit({ resources }) {
      const grouped = groupResources(resources);
      let bytes = 0;
      for (const resource of resources) if (kindOf(resource) !== "SidecarGrant") bytes += entryOnce(resource).bytes.length;
      if (bytes > snapshotBytesMax) {
        const message = `All resources have ${bytes} bytes; a sidecar holds at most ${snapshotBytesMax}. Nothing was changed.`;
        return [problem("policy/too-large", "error", "", "", "", message, "Leave out what nobody uses.")];
      }
      const proposed = distribute(grouped, newest + 1, distributionParts);
      tried = { resources, distribution: proposed };
      const told = new Map<string, Problem>();
      for (const { asker } of sessions.values()) {
        if (asker.capabilityLevel >= capabilityLevel) continue;
        for (const { id, kind, name, field, message } of proposed.partFor(asker).problems) {
          const hint = `Sidecars of capability level ${asker.capabilityLevel} keep the policy that they have.`;
          told.set(
            `${id} ${kind} ${name} ${field} ${message}`,
            problem("policy/not-understood", "warning", kind, name, field, message, hint),
          );
        }
      }
      return [...told.values()];
    },
    committed(revision, { resources, rollout }) {
      if (revision <= newest) return "";
      waiting?.cancel();
      waiting = undefined;
      const mode = rollout === RolloutWish.STAGED ? "staged" : rollout === RolloutWish.AT_ONCE ? "at once" : parts.rollout;
      // What was made for the look beforehand serves now, if it is the same policy under the same revision.
      const made = tried?.resources === resources && tried.distribution.revision === revision ? tried.distribution : undefined;
      tried = undefined;
      return publish(made ?? distribute(groupResources(resources), revision, distributionParts), mode);
    },
    sidecars() {
      // Of those that are away nobody keeps what they should enforce, since they are not told: it is found out when somebody asks.
      for (const record of fleet.list()) {
        if (record.connected) continue;
        const { snapshot, revision } = stable.partFor({ ...record, whole: false }).target;
        fleet.want(record, snapshot.root, revision, Math.max(record.lastHeardMs, stableSinceMs));
      }
      return fleet.list();
    },
    get revision() {
      return newest;
    },
    rollouts: (limit) => rollouts.list(limit),
    decide: (id, promote, by) => rollouts.decide(id, promote, by),
    deliverAgain() {
      // The same policy in new targets: what is sealed belongs to a target.
      stable = stable.asOf(stable.revision);
      retarget([...sessions.values()]);
    },
    sendAway(reason, withinMs) {
      leaving = true;
      // 500 a second is what those that they go to take in beside their own.
      const spreadMs = Math.min(Math.ceil((sessions.size / 500) * 1000), withinMs);
      for (const session of sessions.values()) session.sendAway(spreadMs, reason);
    },
    close() {
      closed = true;
      unwatch();
      waiting?.cancel();
      for (const cancel of timers) cancel();
      for (const session of [...sessions.values()]) session.end(controlFault("STOPPING", "This control stops.", { retryAfterMs: 1_000 }));
      return progress.written().then(memory.close);
    },
  };
}

function groupStored(policy: StoredPolicy): Resources {
  return groupResources(policy.resources.map(({ resource }) => resource));
}

function problem(
  id: Problem["id"],
  severity: Problem["severity"],
  kind: string,
  name: string,
  field: string,
  message: string,
  hint: string,
): Problem {
  return { id, severity, kind, name, field, message, hint };
}
