/**
 * What a process serves that is control and sidecar at once: policy and the state of its own sidecar, to people and programs of this
 * machine. Others cannot join it.
 */
import { Health } from "../../proto/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { PolicyService } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { healthService } from "../../proto/health.ts";
import { reflectionService } from "../../proto/reflection.ts";
import { makeRules } from "../../proto/resources/rules.ts";
import type { Clock } from "../clock.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { createSidecarService } from "../mesh/services.ts";
import type { PolicyStore } from "../store/store.ts";
import { authenticate, callerKey } from "./caller.ts";
import { controlFault } from "./fault.ts";
import { type ControlListener, createControlListener, messageBytesMax, peerKey } from "./listener.ts";
import { endRequests, type LogLevel, openLog, watchRequests } from "./log.ts";
import type { ChangeParts } from "./policyChanges.ts";
import { createPolicyService } from "./policyService.ts";
import { openLocalToken } from "./tokens.ts";

/** Questions about health and reflection are names. */
const questionBytesMax = 16 * 1024;

/** What the services are made of. */
export interface EmbeddedParts {
  readonly store: PolicyStore;
  readonly mesh: Mesh;
  readonly clock: Clock;
  /** The one token that is taken: an editor's. */
  readonly token: string;
  /** Where programs read it from, as a clause. */
  readonly whence: string;
  /** What is allowed and probably not meant in a policy. */
  readonly review: ChangeParts["review"];
  /** Web origins whose pages may call. */
  readonly corsOrigins: readonly string[];
  /** Where log lines go, and from when on. */
  readonly log: { write(line: string): void };
  readonly logLevel: LogLevel;
  /** Aborted when the process stops. */
  readonly stopping: AbortSignal;
}

/** Makes a listener of these services that listens nowhere yet. */
export function embeddedServices(parts: EmbeddedParts): ControlListener {
  const { store, mesh, clock, stopping } = parts;
  const log = openLog(parts.logLevel, parts.log, clock);
  const policyService = createPolicyService({
    store,
    rules: makeRules(),
    clock,
    hooks: mesh,
    review: parts.review,
    stopping,
    recorded: (record) => log.info({ ...record }, "Policy was changed."),
  });
  const closed = (): never => {
    throw controlFault("JOINING_CLOSED", "This process has one sidecar of its own and takes no other. Run `outrigger control` for more.");
  };
  const sidecarService = createSidecarService({
    mesh,
    clock,
    joining: { createToken: closed, join: closed, admit: closed },
    newId: closed,
    peerOf: (values) => values.get(peerKey),
    callerOf: (values) => values.get(callerKey)?.name ?? "",
  });
  return createControlListener({
    routes(router) {
      const services = [PolicyService, SidecarService];
      router.service(PolicyService, policyService, { readMaxBytes: messageBytesMax });
      router.service(SidecarService, sidecarService);
      const names = services.map(({ typeName }) => typeName);
      router.service(Health, healthService({ clock, draining: () => stopping.aborted }, names), { readMaxBytes: questionBytesMax });
      router.service(ServerReflection, reflectionService([...services, Health, ServerReflection]), { readMaxBytes: questionBytesMax });
    },
    interceptors: [watchRequests(endRequests(log, () => undefined)), authenticate(openLocalToken(parts.token), clock, parts.whence)],
    tls: undefined,
    corsOrigins: parts.corsOrigins,
    clock,
    warn: (message, error) => log.warn({ cause: error instanceof Error ? error.message : String(error) }, message),
  });
}
