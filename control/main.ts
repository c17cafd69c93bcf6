/** Builds one control: every part is made here and handed what it needs. Nothing is decided here. */
import { readFileSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { Health } from "../proto/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { MeshService } from "../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { PolicyService } from "../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { healthService } from "../proto/health.ts";
import { reflectionService } from "../proto/reflection.ts";
import { type Problem, problemText } from "../proto/resources/problem.ts";
import { makeRules } from "../proto/resources/rules.ts";
import type { Clock } from "./clock.ts";
import { admissionDefaults } from "./mesh/admission.ts";
import type { Authority } from "./mesh/authority.ts";
import { createMesh } from "./mesh/createMesh.ts";
import type { Mesh } from "./mesh/mesh.ts";
import { makeMessageEncoder } from "./mesh/messages.ts";
import { meshMessageBytesMax } from "./mesh/services.ts";
import { type SubscribeParts, serveSubscribe } from "./mesh/subscribe.ts";
import { authenticate, callerKey } from "./serve/caller.ts";
import { createControlListener, messageBytesMax, peerKey, type TlsIdentity } from "./serve/listener.ts";
import { endRequests, openLog, watchRequests } from "./serve/log.ts";
import { createOps } from "./serve/ops.ts";
import type { ChangeParts } from "./serve/policyChanges.ts";
import { createPolicyService } from "./serve/policyService.ts";
import { openTokens, tokenText } from "./serve/tokens.ts";
import type { ControlSettings } from "./settings.ts";
import { sha256 } from "./sha256.ts";
import { openFolder } from "./store/folder.ts";
import { openMemory } from "./store/memory.ts";
import { openSqlite } from "./store/sqlite.ts";
import type { PolicyStore } from "./store/store.ts";

/** Questions about health and reflection are names. */
const questionBytesMax = 16 * 1024;

/** Problems in one line of the log at most: whoever has more begins with these, and `outrigger status` shows a thousand. */
const problemsLogged = 100;

/** What a control may be given beside its settings. */
export interface ControlParts {
  /** This build's version, for metrics and the log. */
  readonly version: string;
  readonly clock: Clock;
  /** That many unguessable bytes. */
  readonly randomBytes: (count: number) => Uint8Array;
  /** What is allowed and probably not meant in a policy, for those who change it; nothing unless given. */
  readonly review?: ChangeParts["review"];
  /** Where log lines go. */
  readonly log: { write(line: string): void };
}

/** A running control. */
export interface Control {
  /** The port of the services, or 0 without TCP. */
  readonly port: number;
  /** The port of operations, or 0 without. */
  readonly opsPort: number;
  /** Whether the services are behind TLS. */
  readonly secure: boolean;
  /** The token for this machine alone, if one was asked for. It is kept nowhere. */
  readonly localToken: string | undefined;
  readonly store: PolicyStore;
  /** What the sidecars have. */
  readonly mesh: Mesh;
  /** Sends sidecars elsewhere, lets what runs end within the grace of the settings, and stops. */
  drain(): Promise<void>;
  /** Stops at once. */
  close(): Promise<void>;
}

/** The file of the data folder that holds the tokens' hashes. */
export function tokensPath(dataFolder: string): string {
  return join(dataFolder, "tokens.json");
}

/** Starts a control. Throws if something cannot be opened or listened on; then everything that was opened is closed again. */
export async function startControl(settings: ControlSettings, parts: ControlParts): Promise<Control> {
  const { clock, version } = parts;
  const log = openLog(settings.logLevel, parts.log, clock);
  const warn = (message: string, error: unknown): void =>
    log.warn({ cause: error instanceof Error ? error.message : String(error) }, message);
  await mkdir(settings.dataFolder, { recursive: true, mode: 0o700 });
  // Made earlier, perhaps by hand: what is in it must not be readable by others.
  await chmod(settings.dataFolder, 0o700);

  const store = await openStore(settings, clock);
  const localToken = settings.localToken ? tokenText(parts.randomBytes(32)) : undefined;
  const metrics = makeMetrics(version);
  let draining = false;

  const {
    mesh,
    meshService,
    sidecarService,
    authority,
    close: closeMesh,
  } = await createMesh({
    store,
    dataFolder: settings.dataFolder,
    secretsFolder: settings.secretsFolder ?? join(settings.dataFolder, "secrets"),
    clock,
    randomBytes: parts.randomBytes,
    registry: metrics.registry,
    cluster: settings.cluster,
    log: (level, message, facts) => log[level](facts, message),
    server: hostname(),
    rollout: settings.rollout,
    acceptRollback: settings.acceptRollback,
    admission: { ...admissionDefaults, coldStarts: settings.coldStartsPerSecond },
    peerOf: (values) => values.get(peerKey),
    callerOf: (values) => values.get(callerKey)?.name ?? "",
  });
  const tls = await tlsOf(settings, authority, clock);
  const stopping = new AbortController();
  const policyService = createPolicyService({
    store,
    rules: makeRules(),
    clock,
    hooks: mesh,
    review: parts.review ?? (() => []),
    stopping: stopping.signal,
    recorded: (record) => {
      metrics.changes.inc({ action: record.action });
      log.info({ ...record }, "Policy was changed.");
    },
  });
  const ended = endRequests(log, (service, method, code) => metrics.requests.inc({ service, method, code }));
  const subscribe = { service: MeshService.typeName, method: MeshService.method.subscribe.name };
  const subscribeParts: SubscribeParts = {
    mesh,
    clock,
    encoder: makeMessageEncoder(),
    ended: (error, { address }) => ended({ ...subscribe, peer: address }, error),
  };
  const listener = createControlListener({
    routes: (router) => {
      router.service(PolicyService, policyService, { readMaxBytes: messageBytesMax });
      router.service(SidecarService, sidecarService);
      // What is large is compressed once for all streams; compressing each message again would cost more than it saves.
      router.service(MeshService, meshService, { readMaxBytes: meshMessageBytesMax, compressMinBytes: Number.MAX_SAFE_INTEGER });
      const services = [PolicyService, SidecarService, MeshService];
      const names = services.map(({ typeName }) => typeName);
      router.service(Health, healthService({ clock, draining: () => draining }, names), { readMaxBytes: questionBytesMax });
      router.service(ServerReflection, reflectionService([...services, Health, ServerReflection]), { readMaxBytes: questionBytesMax });
    },
    interceptors: [
      watchRequests(ended),
      authenticate(openTokens(tokensPath(settings.dataFolder), clock, localToken), clock, "`outrigger token create` makes one"),
    ],
    // Thousands have it open: what Connect's stack would do for each message is most of what it would cost.
    byHand: new Map([
      [
        `/${subscribe.service}/${subscribe.method}`,
        { bytesMax: meshMessageBytesMax, serve: (stream) => serveSubscribe(stream, subscribeParts) },
      ],
    ]),
    tls,
    corsOrigins: settings.corsOrigins,
    clock,
    warn,
  });
  const ops = createOps({
    notReady: () => (draining ? "stopping" : undefined),
    metrics: () => metrics.registry.metrics(),
    warn,
  });
  const first = await store.read();
  metrics.revision.set(first.revision);
  const unwatch = store.watch(
    first.revision,
    ({ revision }) => metrics.revision.set(revision),
    // What holds goes on to hold, so control stays ready.
    (reason, problems) => {
      if (problems === undefined) log.warn({ cause: reason }, "The store cannot be followed for now.");
      else log.error({ problems: problemTexts(problems) }, "What stands in the store is no policy; what held before still holds.");
    },
  );

  let stopped: Promise<void> | undefined;
  function stop(graceMs: number): Promise<void> {
    draining = true;
    stopping.abort();
    // With time left to arrive elsewhere before what has not left is cut.
    if (graceMs > 0) mesh.sendAway("this control stops", graceMs * 0.8);
    else void closeMesh();
    const closed = listener.close(graceMs);
    stopped ??= (async () => {
      await closed;
      await closeMesh();
      await ops.close();
      unwatch();
      await store.close();
      log.info({}, "Control has stopped.");
    })();
    return stopped;
  }

  try {
    const port = settings.listen === null ? 0 : await listener.listen(settings.listen.host, settings.listen.port);
    if (settings.socketPath !== null) await listener.listenUnix(settings.socketPath);
    const opsPort = settings.ops === null ? 0 : await ops.listen(settings.ops.host, settings.ops.port);
    log.info({ version, port, ops: opsPort, store: settings.store?.in ?? "sqlite", revision: first.revision }, "Control has started.");
    const drain = (): Promise<void> => stop(settings.drainGraceMs);
    return { port, opsPort, secure: tls !== undefined, localToken, store, mesh, drain, close: () => stop(0) };
  } catch (error) {
    await stop(0);
    throw error;
  }
}

function openStore({ store, dataFolder }: ControlSettings, clock: Clock): Promise<PolicyStore> {
  switch (store?.in) {
    case "memory":
      return Promise.resolve(openMemory());
    case "files":
      // Each folder that is only read has a history of its own beside the keys.
      return openFolder(store.path, {
        clock,
        ...(store.readOnly ? { readOnlyHistory: join(dataFolder, `files-${sha256(resolve(store.path)).slice(0, 16)}`) } : {}),
      });
    default:
      return openSqlite(store?.path ?? join(dataFolder, "policy.sqlite"), { clock });
  }
}

/** What the services are served with. In the clear only where nobody else can listen, or where it is asked for. */
async function tlsOf(
  { tls, tlsHosts, listen, plaintext }: ControlSettings,
  authority: Authority,
  clock: Clock,
): Promise<TlsIdentity | undefined> {
  // Sidecars that have joined show certificates of control's own authority, whoever vouches for control itself.
  const clientAuthorities = [authority.pem];
  if (tls !== null) {
    const [certificate, key] = [readFileSync(tls.certificatePath, "utf8"), readFileSync(tls.keyPath, "utf8")];
    return { certificate, key, clientAuthorities };
  }
  if (plaintext || (tlsHosts.length === 0 && (listen === null || isLoopback(listen.host)))) return undefined;
  const hosts = new Set([...tlsHosts, hostname(), "localhost", "127.0.0.1", "::1"]);
  if (listen !== null && !["0.0.0.0", "::"].includes(listen.host)) hosts.add(listen.host);
  return { ...(await authority.serve([...hosts], clock.wallMs())), clientAuthorities };
}

/** Whether only this machine can reach a host. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Problems as the log has them. */
function problemTexts(problems: readonly Problem[]): string[] {
  const told = problems.slice(0, problemsLogged).map(problemText);
  return problems.length > told.length ? [...told, `and ${problems.length - told.length} more`] : told;
}

function makeMetrics(version: string) {
  const registry = new Registry();
  const registers = [registry];
  // It would ask every 10 ms how late the event loop is, which wakes the process as often. Seldom asked it sees nothing of use.
  collectDefaultMetrics({ register: registry, prefix: "outrigger_control_", eventLoopMonitoringPrecision: 1000 });
  for (const kind of ["min", "max", "mean", "stddev", "p50", "p90", "p99"])
    registry.removeSingleMetric(`outrigger_control_nodejs_eventloop_lag_${kind}_seconds`);
  new Gauge({ name: "outrigger_control_build_info", help: "1, with the version of this build.", labelNames: ["version"], registers }).set(
    { version },
    1,
  );
  return {
    registry,
    requests: new Counter({
      name: "outrigger_control_requests_total",
      help: "Requests to control's services, by how they ended.",
      labelNames: ["service", "method", "code"],
      registers,
    }),
    changes: new Counter({
      name: "outrigger_control_policy_changes_total",
      help: "Changes of policy that were made through the service.",
      labelNames: ["action"],
      registers,
    }),
    revision: new Gauge({ name: "outrigger_control_revision", help: "The newest revision of the store.", registers }),
  };
}
