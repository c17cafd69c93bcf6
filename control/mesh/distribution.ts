/**
 * One revision of policy as sidecars get it: by scope, each part made once, and what a capability level cannot take told beforehand.
 */
import { create } from "@bufbuild/protobuf";
import { type Excess, findExcess } from "../../proto/capability.ts";
import type { SignedRoot } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type PolicyProblem, PolicyProblemSchema, ProblemSeverity } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { type SidecarIdentity, scopeOf } from "../../proto/mesh.ts";
import { findConflicts } from "../../proto/resources/consistency.ts";
import {
  fullNameOf,
  groupResources,
  type KindName,
  kindOf,
  listResources,
  type Resource,
  type Resources,
} from "../../proto/resources/kinds.ts";
import { type ScopedPolicy, scopePolicy } from "../scope.ts";
import type { SnapshotBook } from "./book.ts";
import type { Signer } from "./signing.ts";
import type { StreamTarget } from "./stream.ts";

/** A statement is signed anew when it is this old, so that whoever comes gets one that is good for days. */
const signAgainMs = 60 * 60 * 1000;

/**
 * Kinds without which a sidecar permits no more than with them, so that one which it does not understand may be left out. What limits or
 * prices calls is not among them: without it more would be permitted.
 */
export const mayBeLeftOut: Readonly<Record<KindName, boolean>> = Object.freeze({
  Provider: true,
  ModelRoute: true,
  Consumer: true,
  PriceBook: false,
  SidecarGrant: false,
});

/** Who asks for a part. */
export interface Asker extends SidecarIdentity {
  /** Whether it gets everything, because it shares control's process. */
  readonly whole: boolean;
}

/** What a scope gets of a revision. */
export interface Part {
  readonly scope: string;
  /** What it should enforce. */
  readonly target: StreamTarget;
  /** What sidecars of its level do not understand in that. */
  readonly problems: readonly PolicyProblem[];
  /** What it may get instead if it has nothing yet: the part without what is not understood; undefined if something needs that. */
  readonly reduced: StreamTarget | undefined;
}

/** What a distribution is made with. */
export interface DistributionParts {
  readonly book: SnapshotBook;
  readonly signer: Signer;
  /** Milliseconds since 1970. */
  readonly nowMs: () => number;
  /** Whether sidecars are asked to go back to a lower revision, because the store was restored from a backup. */
  readonly acceptRollback: boolean;
  /** What seals the secrets that a scope's policy refers to and control delivers; undefined if it refers to none. */
  readonly secretsOf: ((resources: Resources, scope: string, root: string) => StreamTarget["secrets"]) | undefined;
}

/** One revision of policy, ready to be handed out. */
export interface Distribution {
  /** What its statements say: the revision that it was made from, or a later one that was taken back. */
  readonly revision: number;
  /** The revision that holds this policy. */
  readonly madeFrom: number;
  partFor(asker: Asker): Part;
  /** The same policy as of a later revision, for sidecars that had another one meanwhile. */
  asOf(revision: number): Distribution;
}

/** Makes a revision ready. Nothing is encoded or signed before somebody asks. */
export function distribute(resources: Resources, revision: number, parts: DistributionParts): Distribution {
  return make(scopePolicy(resources), revision, revision, parts);
}

function make(scoped: ScopedPolicy, madeFrom: number, revision: number, parts: DistributionParts): Distribution {
  const known = new Map<string, Part>();
  /** By level and resource: what is shared by many scopes is searched once. */
  const excess = new Map<number, Map<Resource, readonly Excess[]>>();
  const excessOf = (resource: Resource, level: number): readonly Excess[] => {
    const ofLevel = excess.get(level) ?? new Map<Resource, readonly Excess[]>();
    excess.set(level, ofLevel);
    const found = ofLevel.get(resource) ?? findExcess(resource, level);
    ofLevel.set(resource, found);
    return found;
  };
  return {
    revision,
    madeFrom,
    partFor(asker) {
      const scope = scopeOf(asker);
      const key = asker.whole ? `whole ${scope}` : scope;
      const found = known.get(key);
      if (found !== undefined) return found;
      const part = asker.whole ? scoped.whole : scoped.partOf(asker);
      const fresh = partOf(part, scope, (resource) => excessOf(resource, asker.capabilityLevel), revision, parts);
      known.set(key, fresh);
      return fresh;
    },
    asOf: (later) => make(scoped, madeFrom, later, parts),
  };
}

function partOf(
  resources: Resources,
  scope: string,
  excessOf: (resource: Resource) => readonly Excess[],
  revision: number,
  parts: DistributionParts,
): Part {
  const unfit = new Set<Resource>();
  const problems: PolicyProblem[] = [];
  for (const resource of listResources(resources)) {
    for (const { field, message } of excessOf(resource)) {
      unfit.add(resource);
      problems.push(problemOf(resource, field, message));
    }
  }
  const target = targetOf(resources, scope, revision, parts);
  if (unfit.size === 0) return { scope, target, problems, reduced: undefined };
  const rest = groupResources(listResources(resources).filter((resource) => !unfit.has(resource)));
  const spared = [...unfit].every((resource) => mayBeLeftOut[kindOf(resource)]) && findConflicts(rest, [], true).length === 0;
  return { scope, target, problems, reduced: spared ? targetOf(rest, scope, revision, parts) : undefined };
}

function targetOf(resources: Resources, scope: string, revision: number, parts: DistributionParts): StreamTarget {
  const snapshot = parts.book.snapshotOf(resources);
  const signed = new Map<boolean, { readonly atMs: number; readonly root: SignedRoot }>();
  return {
    snapshot,
    revision,
    signed(appliedRevision) {
      const rollback = appliedRevision > revision;
      if (rollback && !parts.acceptRollback) return undefined;
      const nowMs = parts.nowMs();
      const known = signed.get(rollback);
      if (known !== undefined && nowMs - known.atMs < signAgainMs) return known.root;
      const root = parts.signer.sign({ root: snapshot.root, revision, scope, rollback }, nowMs);
      signed.set(rollback, { atMs: nowMs, root });
      return root;
    },
    secrets: parts.secretsOf?.(resources, scope, snapshot.root),
  };
}

function problemOf(resource: Resource, field: string, message: string): PolicyProblem {
  return create(PolicyProblemSchema, {
    id: "policy/not-understood",
    severity: ProblemSeverity.ERROR,
    kind: kindOf(resource),
    name: fullNameOf(resource),
    field,
    message,
    hint: "Upgrade this sidecar, or leave this out until all are upgraded.",
  });
}
