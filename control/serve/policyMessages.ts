/** Resources, revisions, problems and faults as PolicyService words them. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  ChangeKind,
  type Revision,
  RevisionSchema,
  type StoredResource as StoredMessage,
  StoredResourceSchema,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import {
  PolicyProblemSchema,
  ProblemSeverity,
  type Resource as ResourceMessage,
  type ResourceName,
  ResourceSchema,
} from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { defaultNamespace, isKindName, kindNames } from "../../proto/resources/kinds.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { Problem, Resource } from "../../proto/resources.ts";
import { wholeOnce } from "../encoded.ts";
import { sha256 } from "../sha256.ts";
import type { ResourceKey, RevisionRecord, StoredResource } from "../store/store.ts";
import { controlFault } from "./fault.ts";
import { type Owned, plannedChange } from "./plan.ts";

/** Problems that one answer tells: whoever has more begins with these. */
const problemsMax = 1_000;

/** Which resource a request means; a fault for a kind that there is not. */
export function keyOfName(name: ResourceName | undefined): ResourceKey {
  const kind = name?.kind ?? "";
  if (!isKindName(kind)) throw invalid("name.kind", `There is no kind ${JSON.stringify(kind)}; known: ${kindNames.join(", ")}.`);
  const namespace = name?.namespace ?? "";
  return { kind, namespace: namespace === "" ? defaultNamespace : namespace, name: name?.name ?? "" };
}

/** A key as a message. */
export function nameMessage({ kind, namespace, name }: ResourceKey): ResourceName {
  return { $typeName: "outrigger.policy.v1.ResourceName", kind, namespace, name };
}

/** A resource with its etag, revision and owner. */
export function storedMessage(stored: StoredResource): StoredMessage {
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
export function etagOf({ resource, owner }: Owned): string {
  // 128 bits of the hash are plenty to tell versions of one resource apart.
  return sha256(Buffer.concat([wholeOnce(resource), Buffer.from(`\n${owner}`)])).slice(0, 32);
}

/** A revision without the fields that it changed. */
export function revisionMessage(record: RevisionRecord): Revision {
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

/** Problems as messages; if there are too many, the first ones, errors before warnings, and how many are left out. */
export function problemMessages(problems: readonly Problem[]) {
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

/** The fault for a resource that is not there. */
export function notFound(key: ResourceKey) {
  const message = `There is no ${key.kind} ${key.name} in namespace ${key.namespace}.`;
  return controlFault("RESOURCE_NOT_FOUND", message, { facts: { ...key } });
}

/** The fault for a resource that is not what the change was made for. */
export function conflict(key: ResourceKey, why: string) {
  const message = `${key.kind} ${key.namespace}/${key.name} is not what the change was made for: ${why}. Nothing was changed; read it again.`;
  return controlFault("CONFLICT", message, { facts: { ...key } });
}

/** The fault for a field that breaks its rule. */
export function invalid(field: string, message: string) {
  return controlFault("REQUEST_INVALID", message, { violations: [{ field, description: message }] });
}
