/** Builds one sidecar: every part is made here and handed what it needs. Nothing is decided here. */
import { hash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { listResources } from "../proto/resources/kinds.ts";
import type { Problem, Resources } from "../proto/resources.ts";
import type { House } from "./call.ts";
import { anthropicCountServer, anthropicServer } from "./dialects/anthropic/anthropic.ts";
import { openAiEmbeddingServer, openAiServer, openAiTextServer } from "./dialects/openai/openai.ts";
import { responsesServer } from "./dialects/responses/responses.ts";
import { anthropicDoor } from "./doors/anthropic.ts";
import { rpcDoor } from "./doors/connect.ts";
import { createListener } from "./doors/listener.ts";
import { openAiDoor } from "./doors/openai.ts";
import { createOps } from "./doors/ops.ts";
import { responsesDoor } from "./doors/responses.ts";
import { recall } from "./filters/recall.ts";
import { shed } from "./filters/shed.ts";
import { systemClock } from "./io/clock.ts";
import type { ControlAddress } from "./io/control.ts";
import { openIdentities } from "./io/credentials/identities.ts";
import { gunzip, keyPem, makeOwnKey, makeSealKey, verifySignature } from "./io/keys.ts";
import { type LineWriter, openLines } from "./io/lines.ts";
import { meterLoad } from "./io/load.ts";
import { systemRandom } from "./io/random.ts";
import { openSecrets } from "./io/secrets.ts";
import { signer } from "./io/sign.ts";
import { openStateFolder } from "./io/stateFolder.ts";
import { openTelemetry } from "./io/telemetry.ts";
import { steerCollector, tidyAfterStart } from "./io/tidy.ts";
import { openUpstream } from "./io/upstream.ts";
import type { Dial } from "./mesh/link.ts";
import { prepareRemote, type RemoteAddress, type RemoteParts } from "./mesh/remote.ts";
import { meshSource } from "./mesh/source.ts";
import { openTally } from "./mesh/tally.ts";
import { compilePolicy } from "./policy/compile.ts";
import type { PolicySource } from "./policy/source.ts";
import { findForeign } from "./policy/understand.ts";
import { type PolicyStatus, watchPolicy } from "./policy/watch.ts";
import { SealedTurns } from "./sealedTurns.ts";
import type { MeshSettings, SidecarSettings } from "./settings.ts";

export type { Dial, Link } from "./mesh/link.ts";
export type { PolicySource } from "./policy/source.ts";
export type { Offer } from "./policy/watch.ts";

/** What a sidecar may be given beside its settings. */
export interface SidecarParts {
  /** This build's version, for metrics and the log. */
  readonly version: string;
  /** Where log lines go; standard error unless given. */
  readonly log?: LineWriter;
  /** The environment in which credentials are looked up. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A running sidecar. */
export interface Sidecar {
  /** The port of the doors, or 0 without TCP. */
  readonly port: number;
  /** The port of operations, or 0 without. */
  readonly opsPort: number;
  /** Which policy holds, since when, and what became of the last offer. */
  status(): PolicyStatus;
  /** Takes no new calls, lets those that run end within the grace of the settings, and stops. Resolves when everything is closed. */
  drain(): Promise<void>;
  /** Stops at once. Resolves when everything is closed. */
  close(): Promise<void>;
  /** Resolves when everything is closed, whoever asked for it: operations may, too. */
  readonly closed: Promise<void>;
}

/** Sealed thinking that is kept beside callers. */
const sealedLimits = {
  /** Each takes two places in tables: as many make tables of some megabytes, whatever little is in them. */
  turnsMax: 10_000,
  /** The longest that a provider keeps a prompt in its cache: a tool loop that waited longer begins anew in all but name. */
  idleMs: 3_600_000,
} as const;

/** A control in another process, as a source of policy. Nothing is asked of it before a sidecar subscribes. */
export async function remoteControl(settings: MeshSettings): Promise<PolicySource> {
  // A sidecar beside its control does without, and would wait some 30 ms for it.
  const { certificatePem, dialControl, endOf, fetchAuthority, joinControl } = await import("./io/control.ts");
  const disk = settings.stateFolder === null ? undefined : await openStateFolder(settings.stateFolder);
  const readText = (path: string | null): string => (path === null ? "" : readFileSync(path, "utf8").trim());
  const inPem = ({ url, authority, own }: RemoteAddress): ControlAddress => ({
    url,
    authority: typeof authority === "object" ? certificatePem(authority) : authority,
    own: own && { certificate: own.certificates.map(certificatePem).join(""), key: keyPem(own.privateKey) },
  });
  const parts: RemoteParts = {
    disk,
    verify: verifySignature,
    sha256: (data) => hash("sha256", data, "hex"),
    digest: (data) => new Uint8Array(hash("sha256", data, "buffer")),
    gunzip,
    sealKey: makeSealKey,
    makeKey: makeOwnKey,
    drawName: randomUUID,
    decode: (text) => Buffer.from(text, "base64url").toString("utf8"),
    readToken: () => readText(settings.tokenFile),
    readAuthority: () => (settings.authorityFile === null ? undefined : readText(settings.authorityFile)),
    fetchAuthority,
    ask: (address, request) => joinControl(inPem(address), request),
    dial: (address) => dialControl(() => inPem(address())),
    endOf,
    check: await ownRules(),
  };
  return meshSource({
    prepare: (desk) => prepareRemote({ ...settings, url: settings.control }, parts, desk),
    prompt: false,
    delivers: true,
  });
}

/** What finds out what is wrong with policy by its own rules, whatever control has said of it. Loads what reads policy, some 100 ms. */
async function ownRules(): Promise<(resources: Resources) => readonly Problem[]> {
  const { joinFiles, makeRules, readMessage } = await import("../proto/resources.ts");
  const rules = makeRules();
  return (resources) => joinFiles(listResources(resources).map((resource) => readMessage(resource, rules))).problems;
}

/** A control in this process, as a source of policy: by the same code, over what carries messages between the two. */
export function controlBeside(dial: Dial): PolicySource {
  return meshSource({
    prepare: async ({ version, capabilityLevel }) => ({
      identity: { instance: "beside", namespace: "default", account: "local", build: version, capabilityLevel },
      dial,
      sha256: (data) => hash("sha256", data, "hex"),
      gunzip,
      verify: verifySignature,
      sealKey: makeSealKey,
      keys: new Map(),
      credential: () => "",
      slots: { found: [], keep: () => undefined, settled: async () => undefined },
      // Whoever reads policy in this process has held it against its rules.
      check: () => [],
      trusted: () => undefined,
      times: { bootGraceMs: 0, maxStaleMs: 0 },
    }),
    prompt: true,
    delivers: false,
  });
}

/** Starts a sidecar. Throws if an address cannot be listened on; then everything that was opened is closed again. */
export async function startSidecar(settings: SidecarSettings, source: PolicySource, parts: SidecarParts): Promise<Sidecar> {
  const clock = systemClock;
  const random = systemRandom();
  const { logLevel: level, logOneIn } = settings;
  const lines = parts.log ?? openLines(2, clock);
  const writeRest = () => lines.writeRest?.();
  const telemetry = openTelemetry({ level, logOneIn, version: parts.version, node: process.version }, lines, clock);
  const upstream = openUpstream();
  const load = meterLoad(clock, settings.lagMaxMs);
  const warn = (message: string, facts: Readonly<Record<string, string>>): void => telemetry.log.warn(facts, message);
  const secrets = openSecrets(parts.environment, clock, warn, source.delivers);
  const identities = openIdentities({ environment: parts.environment, upstream: upstream.send, clock, random, warn });
  const shedding = shed({ callsMax: settings.callsMax, saturated: load.saturated }, clock);
  const sealedTurns = new SealedTurns({ bytesMax: settings.sealedBytesMax, ...sealedLimits }, clock);
  const sha256 = (text: string): string => hash("sha256", text, "hex");
  const recalling = recall(sealedTurns, sha256);
  telemetry.watchSealedTurns(() => sealedTurns.counts());
  const tally = openTally();
  let tallied = false;
  let draining = false;

  const policies = watchPolicy({
    compile(resources, root) {
      const problems = findForeign(resources, settings.capabilityLevel);
      if (problems.length > 0) return { policy: undefined, problems };
      const gathering = identities.gather();
      const compiled = compilePolicy(resources, root, {
        upstream: upstream.send,
        clock,
        random,
        sha256,
        secret: secrets.find,
        identities: gathering,
        signer: (scope, key) => signer(scope, key, clock),
        shed: shedding,
        recall: recalling,
        write(record) {
          telemetry.write(record);
          if (tallied) tally.count(record);
        },
        refused: (call, fault) => telemetry.refused(call.door, call.id, fault),
      });
      if (compiled.policy !== undefined) gathering.keep();
      return compiled;
    },
    clock,
    told: (outcome, cause) => telemetry.policyOffered(outcome, cause),
  });

  const house: House = {
    policy: policies.current,
    clock,
    random,
    draining: () => draining,
    refused: telemetry.refused,
    warn: (message, facts, error) => telemetry.log.warn({ ...facts, cause: error instanceof Error ? error.name : undefined }, message),
  };
  const openAi = openAiDoor(
    house,
    { chat: openAiServer, texts: openAiTextServer, embeddings: openAiEmbeddingServer },
    settings.requestBytesMax,
  );
  const listener = createListener({
    doors: [
      // First, because both formats list models at one address, and only this one's callers say that they mean it.
      anthropicDoor(house, { chat: anthropicServer, count: anthropicCountServer }, settings.requestBytesMax),
      openAi,
      responsesDoor(house, responsesServer, settings.requestBytesMax),
      rpcDoor(house, { requestBytesMax: settings.requestBytesMax, reflection: settings.reflection, generic: settings.genericRpc }),
    ],
    turnAway: openAi.turnAway,
    corsOrigins: settings.corsOrigins,
    house,
  });
  steerCollector(process.versions.v8);
  const stopTidying = tidyAfterStart(clock, { open: () => listener.openCount, begun: () => listener.requestCount });
  let stopping: Promise<void> | undefined;
  const stopped = Promise.withResolvers<void>();
  const ops = createOps({
    notReady() {
      if (draining) return "draining";
      if (policies.status().root !== undefined) return undefined;
      const waitingFor = source.waitingFor?.() ?? "";
      return waitingFor === "" ? "no policy" : `no policy: ${waitingFor}`;
    },
    metrics: async () => (await telemetry.metrics()).text,
    drain: () => void stop(settings.drainGraceMs),
    house,
  });
  const unsubscribe = source.subscribe(policies.offer, {
    clock,
    random,
    version: parts.version,
    capabilityLevel: settings.capabilityLevel,
    trial: policies.trial,
    health() {
      tallied = true;
      return { ...tally.take(), loopDelayMax: durationFromMs(Math.round(load.worstLagMs())) };
    },
    deliver: secrets.deliver,
    watchMesh: telemetry.watchMesh,
    note: (severity, message, facts) => telemetry.log[severity](facts, message),
  });

  function stop(graceMs: number): Promise<void> {
    draining = true;
    // Whoever stops at once does not wait for the grace that somebody else gave before.
    const closed = listener.close(graceMs);
    stopping ??= (async () => {
      await closed;
      await ops.close();
      await unsubscribe();
      policies.close();
      secrets.close();
      identities.close();
      load.close();
      stopTidying();
      await upstream.close();
      await lines.settle?.();
      process.off("exit", writeRest);
      stopped.resolve();
    })();
    return stopping;
  }

  if (lines.writeRest !== undefined) process.on("exit", writeRest);
  try {
    await source.begun;
    const port = settings.listen === null ? 0 : await listener.listen(settings.listen.host, settings.listen.port);
    if (settings.socketPath !== null) await listener.listenUnix(settings.socketPath);
    const opsPort = settings.ops === null ? 0 : await ops.listen(settings.ops.host, settings.ops.port);
    const drain = () => stop(settings.drainGraceMs);
    return { port, opsPort, status: policies.status, drain, close: () => stop(0), closed: stopped.promise };
  } catch (error) {
    await stop(0);
    throw error;
  }
}
