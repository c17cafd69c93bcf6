/**
 * PolicyService: policy as people and pipelines read and change it.
 *
 * A change is planned against what stands, checked whole together with it, tried out, and only then written, with the revision that it
 * was planned against as its condition. Nothing is ever changed in part; whoever is refused hears everything that is wrong.
 */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { capabilityLevel, findExcess } from "../../proto/capability.ts";
import {
  type ApplyResourcesRequest,
  ApplyResourcesRequestSchema,
  ApplyResourcesResponseSchema,
  ChangeKind,
  DeleteResourceRequestSchema,
  DeleteResourceResponseSchema,
  DiffRevisionsRequestSchema,
  DiffRevisionsResponseSchema,
  GetResourceRequestSchema,
  GetResourceResponseSchema,
  ListResourcesRequestSchema,
  ListResourcesResponseSchema,
  ListRevisionsRequestSchema,
  ListRevisionsResponseSchema,
  type PolicyService,
  type Precondition,
  type Revision,
  RevisionSchema,
  RollBackRequestSchema,
  RollBackResponseSchema,
  RolloutMode,
  type StoredResource as StoredMessage,
  StoredResourceSchema,
  WatchResourcesRequestSchema,
  type WatchResourcesResponse,
  WatchResourcesResponseSchema,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import {
  PolicyProblemSchema,
  ProblemSeverity,
  type Resource as ResourceMessage,
  type ResourceName,
  ResourceSchema,
} from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { defaultNamespace, groupResources, isKindName, kindNames } from "../../proto/resources/kinds.ts";
import { compareText } from "../../proto/resources/problem.ts";
import {
  fullNameOf,
  joinFiles,
  kindOf,
  type Problem,
  type ReadFile,
  type Resource,
  type Rules,
  readMessage,
  readYaml,
} from "../../proto/resources.ts";
import { wholeBytes } from "../../proto/snapshot.ts";
import type { Clock } from "../clock.ts";
import { emptyGrantProblem, scopePolicy } from "../scope.ts";
import { sha256 } from "../sha256.ts";
import { keyOf, keyText } from "../store/change.ts";
import type { PolicyStore, ResourceKey, RevisionRecord, StoreChange, StoredPolicy, StoredResource, WriteOutcome } from "../store/store.ts";
import { callerKey } from "./caller.ts";
import { controlFault } from "./fault.ts";
import { type Owned, plannedChange, planOf, type Standing, standingOf } from "./plan.ts";

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

/** What the service is made of. */
export interface PolicyParts {
  readonly store: PolicyStore;
  readonly rules: Rules;
  readonly clock: Pick<Clock, "wallMs">;
  readonly hooks: PolicyHooks;
  /** Hears of each change that was made. */
  readonly recorded: (record: PolicyRecord) => void;
  /** Aborted when control stops: watchers go elsewhere then. */
  readonly stopping: AbortSignal;
}

/** Resources at most in one control: planning and checking all of them takes some seconds, and each sidecar gets only its own. */
const resourcesMax = 20_000;
/** Bytes of one page or one message of a watch: clients of gRPC take 4 MiB unless they are set otherwise. */
const pageBytesMax = 3 * 1024 * 1024;
/** Revisions that are read from the store in one go. */
const revisionsAtOnce = 10;
/** Problems that one answer tells: whoever has more begins with these. */
const problemsMax = 1_000;
/** Attempts to write while other controls write to the same store. */
const attemptsMax = 5;
/** Revisions that wait for a slow watcher; beyond them it gets several in one. */
const waitingMax = 64;

/** Messages that are held against their rules in one go: some ten milliseconds. */
const resourcesPerTurn = 50;

/** Makes the service. */
export function createPolicyService(parts: PolicyParts): ServiceImpl<typeof PolicyService> {
  const { store } = parts;
  const check = makeChecker();
  const changer = new Changer(parts);

  return {
    async getResource(request) {
      check(GetResourceRequestSchema, request);
      const key = keyOfName(request.name);
      const found = standingOf((await readStore(store)).resources).get(keyText(key));
      if (found === undefined) throw notFound(key);
      return create(GetResourceResponseSchema, { resource: storedMessage(found) });
    },

    async listResources(request) {
      check(ListResourcesRequestSchema, request);
      return list(store, request);
    },

    async applyResources(request, context) {
      // The resources are held against their rules below, where what is wrong becomes a problem with a place and not a fault.
      check(ApplyResourcesRequestSchema, { ...request, resources: [] });
      return changer.apply(request, authorOf(context));
    },

    async deleteResource(request, context) {
      check(DeleteResourceRequestSchema, request);
      const key = keyOfName(request.name);
      const done = await changer.change({
        action: "delete",
        author: authorOf(context),
        reason: request.reason,
        validateOnly: request.validateOnly,
        rollout: RolloutMode.UNSPECIFIED,
        rolledBackTo: 0,
        propose: (base) => {
          const standing = standingOf(base.resources);
          const found = standing.get(keyText(key));
          if (found === undefined) throw notFound(key);
          if (request.etag !== "" && request.etag !== etagOf(found)) throw conflict(key, "it has changed since it was read");
          return { upserts: [], removals: [key], mentioned: [key], read: [] };
        },
      });
      const { revision, applied, problems } = done;
      return create(DeleteResourceResponseSchema, { revision: BigInt(revision), applied, problems: problemMessages(problems) });
    },

    async listRevisions(request) {
      check(ListRevisionsRequestSchema, request);
      const size = request.pageSize === 0 ? 50 : request.pageSize;
      const before = request.pageToken === "" ? undefined : revisionOfToken(request.pageToken);
      return listRevisions(store, size, before);
    },

    async diffRevisions(request) {
      check(DiffRevisionsRequestSchema, request);
      const newest = await readStore(store);
      const from = await policyAt(store, Number(request.from));
      const to = request.to === 0n ? newest : await policyAt(store, Number(request.to));
      return create(DiffRevisionsResponseSchema, { plan: { changes: differences(from, to) } });
    },

    async rollBack(request, context) {
      check(RollBackRequestSchema, request);
      const done = await changer.change({
        action: "roll back",
        author: authorOf(context),
        reason: request.reason,
        validateOnly: request.validateOnly,
        // Whoever takes a change back is in a hurry: everybody gets it at once, after the dry run.
        rollout: RolloutMode.AT_ONCE,
        rolledBackTo: request.revision === 0n ? "the one before" : Number(request.revision),
        propose: async (base, rolledBackTo) => {
          const target = standingOf((await policyAt(store, rolledBackTo)).resources);
          const removals = base.resources.map(({ resource }) => keyOf(resource)).filter((key) => !target.has(keyText(key)));
          const upserts = [...target.values()].map(({ resource, owner }) => ({ resource, owner }));
          const mentioned = [...upserts.map(({ resource }) => keyOf(resource)), ...removals];
          return { upserts, removals, mentioned, read: upserts.map(({ resource }) => readMessage(resource, parts.rules)), quiet: true };
        },
      });
      return create(RollBackResponseSchema, {
        plan: { changes: done.changes },
        revision: BigInt(done.revision),
        applied: done.applied,
        problems: problemMessages(done.problems),
      });
    },

    async *watchResources(request, context) {
      check(WatchResourcesRequestSchema, request);
      yield* watch(store, request, context.signal, parts.stopping);
    },
  };
}

/** What is to change, as far as it can be said before what stands is known. */
interface Wish {
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
interface Proposed {
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
interface Done {
  readonly revision: number;
  readonly applied: boolean;
  readonly changes: ReturnType<typeof planOf>;
  readonly problems: readonly Problem[];
  readonly rollout: string;
}

/** Changes policy, one wish after another. */
class Changer {
  readonly #parts: PolicyParts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: PolicyParts) {
    this.#parts = parts;
  }

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
    const problems = [...warnings, ...joinFiles(read, [...resources]).problems];
    if (hasError(problems)) return refused(problems);
    const changes = planOf(before, after, mentioned.map(keyText), { unchanged: !quiet });
    const changed = changes.filter(({ change }) => change !== ChangeKind.UNCHANGED);
    if (changed.length === 0) return { revision: base.revision, applied: false, changes, problems, rollout: "" };
    // Only where something changes: what others left as it is, is not this caller's to hear each time.
    const touched = new Set(changed.flatMap(({ name }) => (name === undefined ? [] : name.namespace || defaultNamespace)));
    problems.push(...scopePolicy(groupResources(resources)).emptyGrants(touched).map(emptyGrantProblem));
    // What stands in files and is broken would be mixed with what is written now, and nobody could say what holds.
    if (hasError(base.problems)) return refused([...problems, ...base.problems]);

    const proposal: Proposal = { base, resources: resources.toSorted(byKey), rollout: wish.rollout };
    problems.push(...(await hooks.beforeCommit(proposal)));
    if (hasError(problems)) return refused(problems);
    if (wish.validateOnly) return { revision: base.revision, applied: false, changes, problems, rollout: "" };

    const { author, reason } = wish;
    const change: StoreChange = { base: base.revision, upserts, removals, author, reason, atMs: clock.wallMs(), rolledBackTo };
    const outcome = await writing(() => store.write(change));
    if (!outcome.written) return undefined;
    const rollout = hooks.committed(outcome.revision, proposal);
    const count = (kind: ChangeKind): number => changed.filter(({ change }) => change === kind).length;
    const [created, updated, deleted] = [count(ChangeKind.CREATE), count(ChangeKind.UPDATE), count(ChangeKind.DELETE)];
    recorded({ action: wish.action, author, reason, revision: outcome.revision, created, updated, deleted });
    return { revision: outcome.revision, applied: true, changes, problems, rollout };
  }
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

async function list(store: PolicyStore, request: MessageShape<typeof ListResourcesRequestSchema>) {
  const size = request.pageSize === 0 ? 100 : request.pageSize;
  const filter = sha256(JSON.stringify([request.kind, request.namespace, Object.entries(request.labels).sort(), request.owner])).slice(
    0,
    16,
  );
  const newest = await readStore(store);
  let policy = newest;
  let after = "";
  if (request.pageToken !== "") {
    const token = readPageToken(request.pageToken);
    if (token.filter !== filter || typeof token.revision !== "number" || typeof token.after !== "string") {
      throw invalid("page_token", "The page token belongs to another list. Begin again without one.");
    }
    // All pages show one revision, so that a list is never half of one policy and half of another.
    policy = token.revision === newest.revision ? newest : await policyAt(store, token.revision);
    after = token.after;
  }
  const page: StoredMessage[] = [];
  let bytes = 0;
  let last = "";
  let more = false;
  for (const stored of policy.resources) {
    const key = keyText(keyOf(stored.resource));
    if (key <= after || !fits(stored, request)) continue;
    const message = storedMessage(stored);
    const size_ = toBinary(StoredResourceSchema, message).length;
    if (page.length === size || (page.length > 0 && bytes + size_ > pageBytesMax)) {
      more = true;
      break;
    }
    page.push(message);
    bytes += size_;
    last = key;
  }
  return create(ListResourcesResponseSchema, {
    resources: page,
    nextPageToken: more ? pageToken({ revision: policy.revision, after: last, filter }) : "",
    revision: BigInt(policy.revision),
    problems: problemMessages(newest.problems),
  });
}

async function listRevisions(store: PolicyStore, size: number, from: number | undefined) {
  const revisions: Revision[] = [];
  let bytes = 0;
  // A few at a time: one revision may tell of thousands of resources.
  for (let before = from; ; before = Number(revisions.at(-1)?.revision)) {
    const found = await reading(() => store.revisions(revisionsAtOnce, before));
    for (const record of found) {
      const message = revisionMessage(record);
      bytes += toBinary(RevisionSchema, message).length;
      if (revisions.length === size || (revisions.length > 0 && bytes > pageBytesMax)) {
        const nextPageToken = pageToken({ before: Number(revisions.at(-1)?.revision) });
        return create(ListRevisionsResponseSchema, { revisions, nextPageToken });
      }
      revisions.push(message);
    }
    if (found.length < revisionsAtOnce) return create(ListRevisionsResponseSchema, { revisions });
  }
}

function fits(
  { resource, owner }: StoredResource,
  wanted: Pick<MessageShape<typeof ListResourcesRequestSchema>, "kind" | "namespace"> & {
    readonly labels?: Readonly<Record<string, string>>;
    readonly owner?: string;
  },
): boolean {
  const { kind, namespace } = keyOf(resource);
  if (wanted.kind !== "" && wanted.kind !== kind) return false;
  if (wanted.namespace !== "" && wanted.namespace !== namespace) return false;
  if (wanted.owner !== undefined && wanted.owner !== "" && wanted.owner !== owner) return false;
  return Object.entries(wanted.labels ?? {}).every(([label, value]) => resource.metadata?.labels[label] === value);
}

async function* watch(
  store: PolicyStore,
  wanted: MessageShape<typeof WatchResourcesRequestSchema>,
  signal: AbortSignal,
  stopping: AbortSignal,
): AsyncGenerator<WatchResourcesResponse> {
  const first = await readStore(store);
  const waiting: StoredPolicy[] = [];
  let wake: (() => void) | undefined;
  const stop = store.watch(
    first.revision,
    (policy) => {
      // A slow watcher misses no state, only the steps between: what it is told is the difference to what it has.
      if (waiting.length === waitingMax) waiting.shift();
      waiting.push(policy);
      wake?.();
    },
    // Why the store cannot be followed is the log's affair; the next revision shows that it can be again.
    () => undefined,
  );
  const left = (): void => wake?.();
  signal.addEventListener("abort", left, { once: true });
  stopping.addEventListener("abort", left, { once: true });
  try {
    let sent: Standing<StoredResource> = new Map();
    for (let policy: StoredPolicy | undefined = first, begin = true; ; begin = false) {
      const now = standingOf(policy.resources.filter((one) => fits(one, wanted)));
      yield* differenceMessages(sent, now, policy.revision, begin);
      sent = now;
      while (waiting.length === 0 && !signal.aborted && !stopping.aborted) {
        await new Promise<void>((woken) => {
          wake = woken;
        });
        wake = undefined;
      }
      policy = waiting.shift();
      if (stopping.aborted) throw controlFault("STOPPING", "This control stops. Watch again; another one, or this one again, will answer.");
      if (policy === undefined || signal.aborted) return;
    }
  } finally {
    stop();
    signal.removeEventListener("abort", left);
    stopping.removeEventListener("abort", left);
  }
}

/** What a watcher that has `sent` needs to know of what is `now`, in messages that every client takes. */
function* differenceMessages(
  sent: Standing<StoredResource>,
  now: Standing<StoredResource>,
  revision: number,
  begin: boolean,
): Generator<WatchResourcesResponse> {
  const upserts = [...now].filter(([key, one]) => sent.get(key)?.revision !== one.revision).map(([, one]) => storedMessage(one));
  const removals = [...sent].filter(([key]) => !now.has(key)).map(([, { resource }]) => nameMessage(keyOf(resource)));
  let message = create(WatchResourcesResponseSchema, { revision: BigInt(revision), removals });
  let bytes = 0;
  for (const upsert of upserts) {
    const size = toBinary(StoredResourceSchema, upsert).length;
    if (bytes > 0 && bytes + size > pageBytesMax) {
      yield message;
      message = create(WatchResourcesResponseSchema, { revision: BigInt(revision) });
      bytes = 0;
    }
    message.upserts.push(upsert);
    bytes += size;
  }
  message.synchronized = true;
  // A revision that changes nothing of what is watched is no news.
  if (begin || message.upserts.length + message.removals.length > 0) yield message;
}

function differences(from: StoredPolicy, to: StoredPolicy) {
  const [before, after] = [standingOf(from.resources), standingOf(to.resources)];
  return planOf(before, after, [...before.keys(), ...after.keys()], { unchanged: false });
}

async function policyAt(store: PolicyStore, revision: number): Promise<StoredPolicy> {
  const policy = await reading(() => store.readAt(revision));
  if (policy !== undefined) return policy;
  const message = `Revision ${revision} is not known: it never was, or is no longer remembered. \`outrigger revisions\` lists those that are.`;
  throw controlFault("REVISION_NOT_FOUND", message, { facts: { revision: String(revision) } });
}

function readStore(store: PolicyStore): Promise<StoredPolicy> {
  return reading(() => store.read());
}

async function reading<Result>(read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (cause) {
    throw controlFault("STORE_UNAVAILABLE", "The store of policy cannot be read now. Control's log has the cause.", { cause });
  }
}

async function writing(write: () => Promise<WriteOutcome>): Promise<WriteOutcome> {
  try {
    return await write();
  } catch (cause) {
    throw controlFault("STORE_UNAVAILABLE", "The store of policy cannot be written to now. Control's log has the cause.", { cause });
  }
}

/** Holds requests against the rules in their protos. */
function makeChecker(): <Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>) => void {
  const validator = createValidator();
  return (schema, message) => {
    const result = validator.validate(schema, message);
    if (result.kind === "valid") return;
    const violations = result.kind === "invalid" ? result.violations.slice(0, 20).map(violationOf) : [];
    const first = violations[0];
    const text =
      first === undefined ? "The request cannot be checked." : `${first.field === "" ? "The request" : first.field} ${first.description}.`;
    throw controlFault("REQUEST_INVALID", text, { violations });
  };
}

function violationOf(violation: Violation): { field: string; description: string } {
  const field = violation.field
    .map((part) => (part.kind === "field" ? part.name : part.kind === "list_sub" ? `[${part.index}]` : ""))
    .join(".");
  return { field: field.replaceAll(".[", "["), description: violation.message };
}

function keyOfName(name: ResourceName | undefined): ResourceKey {
  const kind = name?.kind ?? "";
  if (!isKindName(kind)) throw invalid("name.kind", `There is no kind ${JSON.stringify(kind)}; known: ${kindNames.join(", ")}.`);
  const namespace = name?.namespace ?? "";
  return { kind, namespace: namespace === "" ? defaultNamespace : namespace, name: name?.name ?? "" };
}

function nameMessage({ kind, namespace, name }: ResourceKey): ResourceName {
  return { $typeName: "outrigger.policy.v1.ResourceName", kind, namespace, name };
}

function storedMessage(stored: StoredResource): StoredMessage {
  return create(StoredResourceSchema, {
    resource: resourceMessage(stored.resource),
    etag: etagOf(stored),
    revision: BigInt(stored.revision),
    owner: stored.owner,
  });
}

function resourceMessage(resource: Resource): ResourceMessage {
  switch (resource.$typeName) {
    case "outrigger.policy.v1.Provider":
      return create(ResourceSchema, { kind: { case: "provider", value: resource } });
    case "outrigger.policy.v1.ModelRoute":
      return create(ResourceSchema, { kind: { case: "modelRoute", value: resource } });
    case "outrigger.policy.v1.Consumer":
      return create(ResourceSchema, { kind: { case: "consumer", value: resource } });
    case "outrigger.policy.v1.PriceBook":
      return create(ResourceSchema, { kind: { case: "priceBook", value: resource } });
    case "outrigger.policy.v1.SidecarGrant":
      return create(ResourceSchema, { kind: { case: "sidecarGrant", value: resource } });
  }
}

/** Changes whenever the resource or its owner does. */
function etagOf({ resource, owner }: Owned): string {
  // 128 bits of the hash are plenty to tell versions of one resource apart.
  return sha256(Buffer.concat([wholeBytes(resource), Buffer.from(`\n${owner}`)])).slice(0, 32);
}

function revisionMessage(record: RevisionRecord): Revision {
  const changes = [
    ...record.created.map((key) => plannedChange(key, ChangeKind.CREATE)),
    ...record.updated.map((key) => plannedChange(key, ChangeKind.UPDATE)),
    ...record.deleted.map((key) => plannedChange(key, ChangeKind.DELETE)),
  ];
  return create(RevisionSchema, {
    revision: BigInt(record.revision),
    time: timestampFromMs(record.atMs),
    author: record.author,
    reason: record.reason,
    rolledBackTo: BigInt(record.rolledBackTo),
    changes,
  });
}

function problemMessages(problems: readonly Problem[]) {
  if (problems.length <= problemsMax) return problems.map(problemMessage);
  // Errors first: a warning that is left out is no loss beside them.
  const sorted = problems.toSorted((a, b) => compareText(a.severity, b.severity));
  const message = `${problems.length - problemsMax} more problems are left out.`;
  const severity = sorted[problemsMax]?.severity ?? "warning";
  const rest: Problem = {
    id: "policy/too-many",
    severity,
    kind: "",
    name: "",
    field: "",
    message,
    hint: "Correct the first ones and try again.",
  };
  return [...sorted.slice(0, problemsMax), rest].map(problemMessage);
}

function problemMessage(problem: Problem) {
  const { id, kind, name, field, message, hint, file = "", line = 0, column = 0 } = problem;
  const severity = problem.severity === "error" ? ProblemSeverity.ERROR : ProblemSeverity.WARNING;
  return create(PolicyProblemSchema, { id, severity, kind, name, field, message, hint, path: file, line, column });
}

/** Lets others go on: reading thousands of resources takes seconds, and sidecars wait for their heartbeats meanwhile. */
function turn(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === "error");
}

function authorOf(context: HandlerContext): string {
  return context.values.get(callerKey)?.name ?? "local";
}

function byKey(a: Resource, b: Resource): number {
  return compareText(keyText(keyOf(a)), keyText(keyOf(b)));
}

function notFound(key: ResourceKey) {
  const message = `There is no ${key.kind} ${key.name} in namespace ${key.namespace}.`;
  return controlFault("RESOURCE_NOT_FOUND", message, { facts: { ...key } });
}

function conflict(key: ResourceKey, why: string) {
  const message = `${key.kind} ${key.namespace}/${key.name} is not what the change was made for: ${why}. Nothing was changed; read it again.`;
  return controlFault("CONFLICT", message, { facts: { ...key } });
}

function invalid(field: string, message: string) {
  return controlFault("REQUEST_INVALID", message, { violations: [{ field, description: message }] });
}

/** Where a list goes on. Not a secret and not signed: it says nothing that its holder may not read anyway. */
function pageToken(content: Readonly<Record<string, string | number>>): string {
  return Buffer.from(JSON.stringify(content)).toString("base64url");
}

function readPageToken(text: string): Readonly<Record<string, unknown>> {
  try {
    const read: unknown = JSON.parse(Buffer.from(text, "base64url").toString());
    if (typeof read === "object" && read !== null && !Array.isArray(read)) return { ...read };
  } catch {
    // Told below, as for everything else that is none.
  }
  throw invalid("page_token", "The page token is none of this control's. Begin again without one.");
}

function revisionOfToken(text: string): number {
  const { before } = readPageToken(text);
  if (typeof before === "number" && Number.isSafeInteger(before) && before > 0) return before;
  throw invalid("page_token", "The page token belongs to another list. Begin again without one.");
}
