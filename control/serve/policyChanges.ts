/**
 * Changes of policy: each is planned against what stands, checked whole together with it, tried out, and only then written, with the
 * revision that it was planned against as its condition. Nothing is ever changed in part; whoever is refused hears everything that is wrong.
 */
import { create } from "@bufbuild/protobuf";
import { capabilityLevel, findExcess } from "../../proto/capability.ts";
import {
  type ApplyResourcesRequest,
  ApplyResourcesResponseSchema,
  ChangeKind,
  type PlannedChange,
  type Precondition,
  type RolloutMode,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import type { Resource as ResourceMessage } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { defaultNamespace, groupResources, kindNames, listResources } from "../../proto/resources/kinds.ts";
import { compareText } from "../../proto/resources/problem.ts";
import {
  fullNameOf,
  joinFiles,
  kindOf,
  type Problem,
  type ReadFile,
  type ReadResources,
  type Resource,
  type Rules,
  readMessage,
  readYaml,
} from "../../proto/resources.ts";
import type { Clock } from "../clock.ts";
import { keyOf, keyText } from "../store/change.ts";
import type { PolicyStore, ResourceKey, StoreChange, StoredPolicy, StoredResource, WriteOutcome } from "../store/store.ts";
import { controlFault } from "./fault.ts";
import { isSame, type Owned, planOf, type Standing, standingOf } from "./plan.ts";
import { conflict, etagOf, invalid, keyOfName, problemMessages } from "./policyMessages.ts";
import { readStore } from "./policyReads.ts";

/** What a change would make of the policy, before it is written. */
export interface Proposal {
  /** The revision that it is made from. */
  readonly base: StoredPolicy;
  /** All resources as they would be, sorted by kind, namespace and name. */
  readonly resources: readonly Resource[];
  readonly rollout: RolloutMode;
}

/** Those who have a say in a change, and those who hear of it. */
export interface PolicyHooks {
  /** Tries a change out. An error among the problems refuses it; it may also throw a fault. Called for plans too, and must change nothing. */
  beforeCommit(proposal: Proposal): Promise<readonly Problem[]>;
  /**
   * Is told, before anybody else hears of it, that a change is about to be written and how it is to reach the sidecars; and once it is,
   * which revision it became. Returns the name of the roll-out that carries it, or an empty text.
   */
  committed(revision: number, proposal: Proposal): string;
}

/** What happened, for the log. Never holds the content of a resource. */
export interface PolicyRecord {
  readonly action: "apply" | "delete" | "roll back";
  readonly author: string;
  readonly reason: string;
  readonly revision: number;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
}

/** What changing policy is made of. */
export interface ChangeParts {
  readonly store: PolicyStore;
  readonly rules: Rules;
  readonly clock: Pick<Clock, "wallMs">;
  readonly hooks: PolicyHooks;
  /** What is allowed and probably not meant: the one that `outrigger check` asks. Places come from `locate`. */
  readonly review: (policy: ReadResources) => readonly Problem[];
  /** Hears of each change that was made. */
  readonly recorded: (record: PolicyRecord) => void;
}

/** Resources at most in one control: planning and checking all of them takes some seconds, and each sidecar gets only its own. */
const resourcesMax = 20_000;
/**
 * Resources up to which what is probably not meant is looked for: it is asked of pairs of routes and consumers, which beyond this takes
 * longer than sidecars should wait for their heartbeats.
 */
const reviewedMax = 4_000;
/** Attempts to write while other controls write to the same store. */
const attemptsMax = 5;
/** Messages that are held against their rules in one go: some ten milliseconds. */
const resourcesPerTurn = 50;

/** What is to change, as far as it can be said before what stands is known. */
export interface Wish {
  readonly action: PolicyRecord["action"];
  readonly author: string;
  readonly reason: string;
  readonly validateOnly: boolean;
  readonly rollout: RolloutMode;
  readonly rolledBackTo: number | "the one before";
  /** What changes, given what stands. Throws a fault if that cannot be. */
  propose(base: StoredPolicy, rolledBackTo: number): Proposed | Promise<Proposed>;
}

/** What is to change. */
export interface Proposed {
  readonly upserts: readonly Owned[];
  readonly removals: readonly ResourceKey[];
  /** What the plan tells of, changed or not. */
  readonly mentioned: readonly ResourceKey[];
  /** The texts and messages that the change came as: what is wrong with it is told by their places. */
  readonly read: readonly ReadFile[];
  /** What is allowed and worth a word. */
  readonly warnings?: readonly Problem[];
  /** Whether the plan leaves out what stays the same. */
  readonly quiet?: boolean;
}

/** What became of a wish. */
export interface Done {
  readonly revision: number;
  readonly applied: boolean;
  readonly changes: ReturnType<typeof planOf>;
  readonly problems: readonly Problem[];
  readonly rollout: string;
}

/** Changes policy, one wish after another. */
export class Changer {
  readonly #parts: ChangeParts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  /** Applies a set of resources, or plans it. Throws a fault for what is no set. */
  async apply(request: ApplyResourcesRequest, author: string) {
    const { rules } = this.#parts;
    const read: ReadFile[] = [];
    for (const { text, path } of request.texts.toSorted((a, b) => compareText(a.path, b.path))) {
      read.push(readYaml(text, path, rules));
      await turn();
    }
    for (const [index, message] of request.resources.entries()) {
      read.push(readResource(message, index, rules));
      if (index % resourcesPerTurn === 0) await turn();
    }
    if (request.prune && request.owner === "") {
      throw invalid("prune", "Pruning removes what an owner has and this set leaves out: name the owner.");
    }
    if (request.texts.length + request.resources.length === 0 && !request.prune) {
      throw invalid("resources", "There is nothing to apply: give resources or texts.");
    }
    const done = await this.change({
      action: "apply",
      author,
      reason: request.reason,
      validateOnly: request.validateOnly,
      rollout: request.rollout,
      rolledBackTo: 0,
      propose: (base) => {
        const standing = standingOf(base.resources);
        checkPreconditions(request.preconditions, standing);
        return proposeSet(read, standing, request.owner, request.prune);
      },
    });
    return create(ApplyResourcesResponseSchema, {
      plan: { changes: done.changes },
      revision: BigInt(done.revision),
      applied: done.applied,
      problems: problemMessages(done.problems),
      rollout: done.rollout,
    });
  }

  /** Grants a wish or tells why not. Wishes of this process wait for each other; those of others are noticed and planned around. */
  change(wish: Wish): Promise<Done> {
    const done = this.#last.then(() => this.#change(wish));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #change(wish: Wish): Promise<Done> {
    if (this.#parts.store.readOnly && !wish.validateOnly) {
      const message =
        "This control's policy comes from files that it only reads. Change them where they come from; a dry run works here too.";
      throw controlFault("STORE_READ_ONLY", message);
    }
    for (let attempt = 1; ; attempt++) {
      const done = await this.#attempt(wish);
      if (done !== undefined) return done;
      if (attempt === attemptsMax) {
        const message = `Policy was changed by others ${attemptsMax} times while this change was made. Nothing of it was written; try again.`;
        throw controlFault("CONFLICT", message, { retryAfterMs: 1_000 });
      }
    }
  }

  /** Undefined if somebody else wrote meanwhile. */
  async #attempt(wish: Wish): Promise<Done | undefined> {
    const { store, hooks, clock, recorded } = this.#parts;
    const base = await readStore(store);
    const rolledBackTo = wish.rolledBackTo === "the one before" ? Math.max(0, base.revision - 1) : wish.rolledBackTo;
    const { upserts, removals, mentioned, read, warnings = [], quiet = false } = await wish.propose(base, rolledBackTo);
    const refused = (problems: readonly Problem[]): Done => ({
      revision: base.revision,
      applied: false,
      changes: [],
      problems,
      rollout: "",
    });

    const before = standingOf(base.resources);
    const after = afterwards(before, upserts, removals);
    if (after.size > resourcesMax) {
      const message = `There would be ${after.size} resources; control keeps at most ${resourcesMax}. Nothing was changed.`;
      throw controlFault("REQUEST_TOO_LARGE", message, { facts: { limit: String(resourcesMax) } });
    }
    const resources = [...after.values()].map(({ resource }) => resource);
    const joined = joinFiles(read, [...resources]);
    const problems = [...warnings, ...stillNeeded(joined.problems, read)];
    if (hasError(problems)) return refused(problems);
    const changes = planOf(before, after, mentioned.map(keyText), { unchanged: !quiet });
    const changed = changes.filter(({ change }) => change !== ChangeKind.UNCHANGED);
    if (changed.length === 0) return { revision: base.revision, applied: false, changes, problems, rollout: "" };
    problems.push(...this.#findings(base, joined, changed));
    // What stands in files and is broken would be mixed with what is written now, and nobody could say what holds.
    if (hasError(base.problems)) return refused([...problems, ...base.problems]);

    const proposal: Proposal = { base, resources: resources.toSorted(byKey), rollout: wish.rollout };
    problems.push(...(await hooks.beforeCommit(proposal)));
    if (hasError(problems)) return refused(problems);
    if (wish.validateOnly) return { revision: base.revision, applied: false, changes, problems, rollout: "" };

    const { author, reason } = wish;
    // What stays the same is not written, and not even looked at again.
    const written = upserts.filter((one) => {
      const had = before.get(keyText(keyOf(one.resource)));
      return had === undefined || !isSame(had, one);
    });
    const change: StoreChange = { base: base.revision, upserts: written, removals, author, reason, atMs: clock.wallMs(), rolledBackTo };
    const outcome = await writing(() => store.write(change));
    if (!outcome.written) return undefined;
    const rollout = hooks.committed(outcome.revision, proposal);
    const count = (kind: ChangeKind): number => changed.filter(({ change }) => change === kind).length;
    const [created, updated, deleted] = [count(ChangeKind.CREATE), count(ChangeKind.UPDATE), count(ChangeKind.DELETE)];
    recorded({ action: wish.action, author, reason, revision: outcome.revision, created, updated, deleted });
    return { revision: outcome.revision, applied: true, changes, problems, rollout };
  }

  /**
   * What is probably not meant about what changes, and what this change makes of the rest: what others left as it is, is not this caller's
   * to hear each time. All of it are warnings: sidecars decide for themselves, and may be of a later build.
   */
  #findings(base: StoredPolicy, after: ReadResources, changed: readonly PlannedChange[]): Problem[] {
    const { review } = this.#parts;
    const before = groupResources(base.resources.map(({ resource }) => resource));
    if (Math.max(base.resources.length, listResources(after.resources).length) > reviewedMax) return [];
    const about = new Set(changed.map(({ name }) => `${name?.kind} ${name?.namespace || defaultNamespace}/${name?.name}`));
    const known = new Set(review({ resources: before, problems: [], locate: () => undefined }).map(sayingOf));
    return review({ ...after, problems: [] })
      .filter((one) => about.has(`${one.kind} ${one.name}`) || !known.has(sayingOf(one)))
      .map((one) => ({ ...one, severity: "warning" as const }));
  }
}

/** What a problem says, for telling whether it was said already. */
function sayingOf({ id, kind, name, field, message }: Problem): string {
  return [id, kind, name, field, message].join("\n");
}

/** What a set of resources changes: what it holds, and what its owner has and it leaves out. */
function proposeSet(read: readonly ReadFile[], standing: Standing<StoredResource>, owner: string, prune: boolean): Proposed {
  const given = read.flatMap(({ resources }) => resources.map(({ resource }) => resource));
  const warnings: Problem[] = [];
  const upserts = given.map((resource): Owned => {
    const before = standing.get(keyText(keyOf(resource)));
    if (before !== undefined && before.owner !== "" && owner !== "" && before.owner !== owner) {
      const message = `It belonged to ${before.owner}, and belongs to ${owner} once this is applied.`;
      const hint = "If two folders hold it, remove it from one of them.";
      const [kind, name] = [kindOf(resource), fullNameOf(resource)];
      warnings.push({ id: "policy/other-owner", severity: "warning", kind, name, field: "", message, hint });
    }
    // A set without an owner changes what a resource says, and not whose it is.
    return { resource, owner: owner === "" ? (before?.owner ?? "") : owner };
  });
  const kept = new Set(given.map((resource) => keyText(keyOf(resource))));
  const removals = prune
    ? [...standing.values()]
        .filter((one) => one.owner === owner && !kept.has(keyText(keyOf(one.resource))))
        .map(({ resource }) => keyOf(resource))
    : [];
  return { upserts, removals, mentioned: [...given.map(keyOf), ...removals], read, warnings };
}

/**
 * Problems in which each resource that stands already is told once of what it lacks, however many of its fields name that: it lacks
 * something only because this change removes it, and who removes it looks for the resource and not for a field.
 */
function stillNeeded(problems: readonly Problem[], read: readonly ReadFile[]): Problem[] {
  const given = new Set(read.flatMap(({ resources }) => resources.map(({ resource }) => `${kindOf(resource)} ${fullNameOf(resource)}`)));
  const told = new Set<string>();
  return problems.flatMap((problem) => {
    const { id, kind, name, message } = problem;
    if (id !== "policy/unknown-reference" || given.has(`${kind} ${name}`)) return [problem];
    const key = `${kind} ${name} ${message}`;
    if (told.has(key)) return [];
    told.add(key);
    return [{ ...problem, hint: "If it is to go, change or remove this first, or in the same set." }];
  });
}

function afterwards(before: Standing, upserts: readonly Owned[], removals: readonly ResourceKey[]): Standing {
  const after = new Map<string, Owned>(before);
  for (const key of removals) after.delete(keyText(key));
  for (const { resource, owner } of upserts) after.set(keyText(keyOf(resource)), { resource, owner });
  return after;
}

/** What a message of a request holds, held against the rules that texts are. */
function readResource({ kind }: ResourceMessage, index: number, rules: Rules): ReadFile {
  if (kind.case === undefined) {
    const message = `resources[${index}] is of no kind that this control knows; known: ${kindNames.join(", ")}.`;
    const problem: Problem = {
      id: "policy/unknown-kind",
      severity: "error",
      kind: "",
      name: "",
      field: "kind",
      message,
      hint: "Set one of them.",
    };
    return { resources: [], problems: [problem], broken: [], whole: false };
  }
  const resource = kind.value;
  const read = readMessage(resource, rules);
  const excess = findExcess(resource, capabilityLevel).map(({ field }): Problem => {
    const message = "This control does not know this field or value: it was made for a later build.";
    const [kindName, name] = [kindOf(resource), read.resources[0]?.name ?? ""];
    return {
      id: "policy/unknown-field",
      severity: "error",
      kind: kindName,
      name,
      field,
      message,
      hint: "Leave it out, or run a later control.",
    };
  });
  return { ...read, problems: [...read.problems, ...excess] };
}

function checkPreconditions(preconditions: readonly Precondition[], standing: Standing<StoredResource>): void {
  for (const { name, etag } of preconditions) {
    const key = keyOfName(name);
    const found = standing.get(keyText(key));
    if (etag === "" && found !== undefined) throw conflict(key, "it is there, and was expected not to be");
    if (etag !== "" && found === undefined) throw conflict(key, "it is not there any more");
    if (etag !== "" && found !== undefined && etagOf(found) !== etag) throw conflict(key, "it has changed since it was read");
  }
}

async function writing(write: () => Promise<WriteOutcome>): Promise<WriteOutcome> {
  try {
    return await write();
  } catch (cause) {
    throw controlFault("STORE_UNAVAILABLE", "The store of policy cannot be written to now. Control's log has the cause.", { cause });
  }
}

/** Lets others go on: reading thousands of resources takes seconds, and sidecars wait for their heartbeats meanwhile. */
function turn(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === "error");
}

function byKey(a: Resource, b: Resource): number {
  return compareText(keyText(keyOf(a)), keyText(keyOf(b)));
}
