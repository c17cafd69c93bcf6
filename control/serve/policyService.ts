/**
 * PolicyService: policy as people and pipelines read and change it. How it is read stands in `policyReads.ts`, how it is changed in
 * `policyChanges.ts`.
 */
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  ApplyResourcesRequestSchema,
  DeleteResourceRequestSchema,
  DeleteResourceResponseSchema,
  DiffRevisionsRequestSchema,
  DiffRevisionsResponseSchema,
  GetResourceRequestSchema,
  GetResourceResponseSchema,
  ListResourcesRequestSchema,
  ListRevisionsRequestSchema,
  type PolicyService,
  RollBackRequestSchema,
  RollBackResponseSchema,
  RolloutMode,
  WatchResourcesRequestSchema,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { readMessage } from "../../proto/resources.ts";
import { keyOf, keyText } from "../store/change.ts";
import { callerKey } from "./caller.ts";
import { controlFault } from "./fault.ts";
import { standingOf } from "./plan.ts";
import { type ChangeParts, Changer } from "./policyChanges.ts";
import { conflict, etagOf, keyOfName, notFound, problemMessages, storedMessage } from "./policyMessages.ts";
import { differences, list, listRevisions, policyAt, readStore, revisionOfToken, watch } from "./policyReads.ts";

/** What the service is made of. */
export interface PolicyParts extends ChangeParts {
  /** Aborted when control stops: watchers go elsewhere then. */
  readonly stopping: AbortSignal;
}

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
      // First the later one: of a revision that is not there yet, whoever asks what it changed must hear its own number.
      const to = request.to === 0n ? newest : await policyAt(store, Number(request.to));
      const from = await policyAt(store, Number(request.from));
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

function authorOf(context: HandlerContext): string {
  return context.values.get(callerKey)?.name ?? "local";
}
