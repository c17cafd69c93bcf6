/** Builds one sidecar: every part is made here and handed what it needs. Nothing is decided here. */
import { hash } from "node:crypto";
import type { House } from "./call.ts";
import { anthropicServer } from "./dialects/anthropic/anthropic.ts";
import { openAiEmbeddingServer, openAiServer } from "./dialects/openai/openai.ts";
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
import { openIdentities } from "./io/credentials/identities.ts";
import { type LineWriter, openLines } from "./io/lines.ts";
import { meterLoad } from "./io/load.ts";
import { systemRandom } from "./io/random.ts";
import { openSecrets } from "./io/secrets.ts";
import { signer } from "./io/sign.ts";
import { openTelemetry } from "./io/telemetry.ts";
import { openUpstream } from "./io/upstream.ts";
import { compilePolicy } from "./policy/compile.ts";
import { findForeign } from "./policy/understand.ts";
import { type Offer, type Outcome, type PolicyStatus, watchPolicy } from "./policy/watch.ts";
import { SealedTurns } from "./sealedTurns.ts";
import type { SidecarSettings } from "./settings.ts";

/** Where policy comes from. */
export interface PolicySource {
  /**
   * Offers the policy that holds now, and again each time it changes, until the function returned is called. What becomes of an offer is
   * returned at once: whoever sent it may want to know.
   */
  subscribe(offer: (offer: Offer) => Outcome): () => void;
}

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

/** Starts a sidecar. Throws if an address cannot be listened on; then everything that was opened is closed again. */
export async function startSidecar(settings: SidecarSettings, source: PolicySource, parts: SidecarParts): Promise<Sidecar> {
  const clock = systemClock;
  const random = systemRandom();
  const { logLevel: level, logOneIn } = settings;
  const telemetry = openTelemetry({ level, logOneIn, version: parts.version, node: process.version }, parts.log ?? openLines(2), clock);
  const upstream = openUpstream();
  const load = meterLoad(clock, settings.lagMaxMs);
  const warn = (message: string, facts: Readonly<Record<string, string>>): void => telemetry.log.warn(facts, message);
  const secrets = openSecrets(parts.environment, clock, warn);
  const identities = openIdentities({ environment: parts.environment, upstream: upstream.send, clock, random, warn });
  const shedding = shed({ callsMax: settings.callsMax, saturated: load.saturated }, clock);
  const sealedTurns = new SealedTurns({ bytesMax: settings.sealedBytesMax, ...sealedLimits }, clock);
  const sha256 = (text: string): string => hash("sha256", text, "hex");
  const recalling = recall(sealedTurns, sha256);
  telemetry.watchSealedTurns(() => sealedTurns.counts());
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
        write: telemetry.write,
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
  const openAi = openAiDoor(house, { chat: openAiServer, embeddings: openAiEmbeddingServer }, settings.requestBytesMax);
  const listener = createListener({
    doors: [
      // First, because both formats list models at one address, and only this one's callers say that they mean it.
      anthropicDoor(house, anthropicServer, settings.requestBytesMax),
      openAi,
      responsesDoor(house, responsesServer, settings.requestBytesMax),
      rpcDoor(house, { requestBytesMax: settings.requestBytesMax, reflection: settings.reflection, generic: settings.genericRpc }),
    ],
    turnAway: openAi.turnAway,
    corsOrigins: settings.corsOrigins,
    house,
  });
  let stopping: Promise<void> | undefined;
  const stopped = Promise.withResolvers<void>();
  const ops = createOps({
    notReady: () => (draining ? "draining" : policies.status().root === undefined ? "no policy" : undefined),
    metrics: async () => (await telemetry.metrics()).text,
    drain: () => void stop(settings.drainGraceMs),
    house,
  });
  const unsubscribe = source.subscribe((offer) => policies.offer(offer));

  function stop(graceMs: number): Promise<void> {
    draining = true;
    // Whoever stops at once does not wait for the grace that somebody else gave before.
    const closed = listener.close(graceMs);
    stopping ??= (async () => {
      await closed;
      await ops.close();
      unsubscribe();
      policies.close();
      secrets.close();
      identities.close();
      load.close();
      await upstream.close();
      telemetry.log.flush();
      stopped.resolve();
    })();
    return stopping;
  }

  try {
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
