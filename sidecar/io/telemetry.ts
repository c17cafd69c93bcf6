/**
 * Where records go: one log line a call, and the counters that Prometheus reads.
 *
 * Neither ever holds content, a credential or a caller's header: a record has none of them. Label values come from policy alone, so
 * the number of series is bounded by the policy and not by what callers send.
 */
import { type Logger, pino } from "pino";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { type Fault, FaultReason } from "../../proto/fault.ts";
import { FinishReasonSchema, type Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { problemText } from "../../proto/resources/problem.ts";
import type { Clock, DoorName } from "../call.ts";
import type { CallRecord } from "../filters/record.ts";
import type { MeshStatus } from "../mesh/client.ts";
import type { Outcome } from "../policy/watch.ts";
import type { SealedTurnCounts } from "../sealedTurns.ts";
import { isoTime } from "./clock.ts";
import { type Distribution, Distributions } from "./distribution.ts";
import type { LineWriter } from "./lines.ts";

/** What the telemetry of one sidecar is set to. */
export interface TelemetrySettings {
  readonly level: "debug" | "info" | "warn" | "error" | "silent";
  /** One of this many calls that went well gets a line; every call that failed does. */
  readonly logOneIn: number;
  readonly version: string;
  /** The version of Node, for metrics. */
  readonly node: string;
}

/** The places that records are put. */
export interface Telemetry {
  readonly log: Logger;
  write(record: CallRecord): void;
  refused(door: DoorName, requestId: string, fault: Fault): void;
  /** Writes and counts what became of an offer of policy. Problems are safe to write: none repeats a secret. */
  policyOffered(outcome: Outcome, cause?: unknown): void;
  /** Shows what is kept of sealed thinking, as it is whenever metrics are asked for. */
  watchSealedTurns(counts: () => SealedTurnCounts): void;
  /** Shows how policy comes from control, as it is whenever metrics are asked for. */
  watchMesh(status: () => MeshStatus): void;
  /** All metrics in Prometheus' text format, and its media type. */
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** Durations in seconds, doubling from 10 ms to 82 s: the buckets that OpenTelemetry gives for calls of models. */
const durationBuckets = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/** Times to first content in seconds: the buckets that OpenTelemetry gives for servers of models. */
const firstContentBuckets = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

/** Opens the places. `lines` is where log lines go. */
export function openTelemetry(settings: TelemetrySettings, lines: LineWriter, clock: Clock): Telemetry {
  const now = timeTeller(clock);
  const log = pino(
    {
      level: settings.level,
      messageKey: "message",
      base: null,
      formatters: { level: (label) => ({ severity: label }) },
      timestamp: () => `,"time":"${now()}"`,
    },
    lines,
  );
  // The levels are fixed for the life of the process.
  const writesInfo = log.isLevelEnabled("info");
  const writesWarn = log.isLevelEnabled("warn");
  const registry = new Registry();
  const registers = [registry];
  // It would ask every 10 ms how late the event loop is, which wakes the process as often. Seldom asked it sees nothing of use.
  collectDefaultMetrics({ register: registry, prefix: "outrigger_", eventLoopMonitoringPrecision: 1000 });
  for (const kind of ["min", "max", "mean", "stddev", "p50", "p90", "p99"])
    registry.removeSingleMetric(`outrigger_nodejs_eventloop_lag_${kind}_seconds`);
  const requests = new Counter({
    name: "outrigger_requests_total",
    help: "Calls, by how they ended.",
    labelNames: ["door", "route", "provider", "code", "reason"],
    registers,
  });
  const durations = new Distributions(
    {
      name: "outrigger_request_duration_seconds",
      help: "Time from the whole request to the end of its answer.",
      buckets: durationBuckets,
    },
    registry,
  );
  const firstContents = new Distributions(
    {
      name: "outrigger_time_to_first_content_seconds",
      help: "Time from the whole request to the provider's first content.",
      buckets: firstContentBuckets,
    },
    registry,
  );
  const tokens = new Counter({
    name: "outrigger_tokens_total",
    help: "Tokens that providers reported; cached, cache_write and reasoning are parts of input and output.",
    labelNames: ["route", "provider", "kind"],
    registers,
  });
  const cost = new Counter({
    name: "outrigger_cost_total",
    help: "Cost by the price book, in units of the currency.",
    labelNames: ["currency", "route", "provider"],
    registers,
  });
  const policies = new Counter({
    name: "outrigger_policy_apply_total",
    help: "Policies that were offered, by what became of them.",
    labelNames: ["result"],
    registers,
  });
  new Gauge({ name: "outrigger_build_info", help: "This build.", labelNames: ["version", "node"], registers }).set(
    { version: settings.version, node: settings.node },
    1,
  );
  if (lines.lost !== undefined) {
    totalled(
      "outrigger_log_lines_lost_total",
      "Lines of the log that were lost: nobody read them, or there was no room.",
      () => lines.lost?.() ?? 0,
    );
  }
  let good = 0;
  let refusedLast = false;
  /** By route. */
  const series = new Map<string, Series[]>();

  function seriesOf(door: DoorName, route: string, provider: string): Series {
    // A key of all three would be a text that is made and hashed for each call.
    let ofRoute = series.get(route);
    if (ofRoute === undefined) {
      ofRoute = [];
      series.set(route, ofRoute);
    }
    for (const one of ofRoute) if (one.labels.provider === provider && one.labels.door === door) return one;
    const labels = Object.freeze({ door, route, provider });
    const begun = { labels, answered: 0, tokens: new Map(), cost: new Map(), duration: durations.begin(labels), firstContent: undefined };
    ofRoute.push(begun);
    return begun;
  }

  function collected(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }

  /** A counter that somebody else keeps; this only shows what it came to. */
  function totalled(name: string, help: string, value: () => number): void {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }

  /** Brings the counters up to date. */
  function count(): void {
    for (const one of [...series.values()].flat()) {
      const { door, route, provider } = one.labels;
      if (one.answered > 0) requests.inc({ door, route, provider, code: "OK", reason: "ok" }, one.answered);
      for (const [kind, tokenCount] of one.tokens) tokens.inc({ route, provider, kind }, tokenCount);
      for (const [currency, micros] of one.cost) cost.inc({ currency, route, provider }, micros / 1e6);
      one.answered = 0;
      one.tokens.clear();
      one.cost.clear();
    }
  }

  /**
   * The line of a call, as `log` would write it. There is one for each call, and `log` would take as long to write it as all filters
   * together take for the call.
   */
  function writeLine(severity: "info" | "warn", record: CallRecord): void {
    lines.write(`${JSON.stringify(line(severity, now(), record))}\n`);
  }

  return {
    log,
    write(record) {
      const { call, fault } = record;
      const one = seriesOf(call.door, call.notes.route, call.notes.provider);
      one.duration.observe(record.totalMs / 1000);
      if (record.firstContentMs !== undefined) {
        one.firstContent ??= firstContents.begin(one.labels);
        one.firstContent.observe(record.firstContentMs / 1000);
      }
      if (record.usage !== undefined) addTokens(one.tokens, record.usage);
      if (record.cost !== undefined) add(one.cost, record.cost.currency, Number(record.cost.micros));
      if (record.outcome === "ok") {
        one.answered += 1;
        good += 1;
        if (writesInfo && good % settings.logOneIn === 0) writeLine("info", record);
      } else {
        requests.inc({ ...one.labels, code: fault?.kind.code ?? "OK", reason: record.outcome });
        if (writesWarn) writeLine("warn", record);
      }
    },
    refused(door, requestId, fault) {
      requests.inc({ door, route: "", provider: "", code: fault.kind.code, reason: fault.kind.name });
      log.warn({ request_id: requestId, door, code: fault.kind.code, reason: fault.kind.name, field: fault.field }, "refused");
    },
    policyOffered(outcome, cause) {
      policies.inc({ result: outcome.applied ? "applied" : "refused" });
      const root = outcome.root.slice(0, 12);
      if (outcome.applied) {
        if (outcome.changed) log.info({ root, took_ms: round(outcome.tookMs) }, "policy applied");
        // Whoever takes a wrong edit back waits for a word that it is gone.
        else if (refusedLast) log.info({ root }, "policy unchanged; what was refused is gone");
        refusedLast = false;
        for (const warning of outcome.warnings) log.warn({ root, problem: problemText(warning) }, "policy warning");
        return;
      }
      refusedLast = true;
      const kept = "policy refused; what held before still holds";
      log.error({ root, problems: outcome.problems.map(problemText), cause: cause instanceof Error ? cause.name : undefined }, kept);
    },
    watchSealedTurns(counts) {
      const gauge = (name: string, help: string, value: (counts: SealedTurnCounts) => number) =>
        collected(name, help, () => value(counts()));
      gauge("outrigger_sealed_turns", "Turns whose sealed thinking is kept for callers who cannot carry it.", ({ turns }) => turns);
      gauge("outrigger_sealed_bytes", "Bytes of sealed thinking that are kept.", ({ bytes }) => bytes);
      const counter = (name: string, help: string, value: (counts: SealedTurnCounts) => number) =>
        totalled(name, help, () => value(counts()));
      counter("outrigger_sealed_turns_kept_total", "Turns whose sealed thinking was kept.", ({ kept }) => kept);
      counter("outrigger_sealed_turns_forgotten_total", "Of these, turns that went by age or a limit.", ({ forgotten }) => forgotten);
    },
    watchMesh(status) {
      collected("outrigger_control_connected", "Whether there is a stream to control: 1 or 0.", () => (status().connected ? 1 : 0));
      collected("outrigger_policy_revision", "The revision of the policy that holds; 0 if none does.", () => status().revision);
      collected("outrigger_policy_age_seconds", "Since when control has not confirmed the policy that holds; -1 if none does.", () => {
        const { root, confirmedMs } = status();
        return root === undefined ? -1 : Math.max((clock.wallMs() - confirmedMs) / 1000, 0);
      });
      collected("outrigger_policy_booted_from_disk", "Whether the first policy came from the disk: 1 or 0.", () =>
        status().bootedFrom === BootSource.DISK ? 1 : 0,
      );
      collected("outrigger_policy_roots_received", "Policies that came whole from control since the start.", () => status().received.roots);
      collected(
        "outrigger_policy_resources_wanted",
        "Resources that were asked for by their hash since the start.",
        () => status().received.wanted,
      );
    },
    async metrics() {
      count();
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

/** What calls of one kind came to: finding a counter by its labels costs more than adding. */
interface Series {
  readonly labels: Readonly<{ door: DoorName; route: string; provider: string }>;
  readonly duration: Distribution;
  /** Begun with the first content that there ever was. */
  firstContent: Distribution | undefined;
  /** Calls that went well since the counters were last brought up to date, as what follows is. */
  answered: number;
  readonly tokens: Map<string, number>;
  /** Millionths by currency. */
  readonly cost: Map<string, number>;
}

function addTokens(sums: Map<string, number>, usage: Usage): void {
  addCount(sums, "input", usage.inputTokens);
  addCount(sums, "output", usage.outputTokens);
  addCount(sums, "cached", usage.cachedInputTokens);
  addCount(sums, "cache_write", usage.cacheWriteTokens);
  addCount(sums, "reasoning", usage.reasoningTokens);
}

function addCount(sums: Map<string, number>, kind: string, count: bigint | undefined): void {
  // A provider may report nonsense; a counter only goes up.
  if (count !== undefined && count > 0n) add(sums, kind, Number(count));
}

function add(sums: Map<string, number>, key: string, value: number): void {
  sums.set(key, (sums.get(key) ?? 0) + value);
}

/** Tells the time as text. Calls that end in the same millisecond share one text, since making it takes a microsecond. */
function timeTeller(clock: Clock): () => string {
  let atMs = Number.NaN;
  let text = "";
  return () => {
    const nowMs = clock.wallMs();
    if (nowMs !== atMs) {
      atMs = nowMs;
      text = isoTime(nowMs);
    }
    return text;
  };
}

/** Why answers end, in words. */
const finishNames: ReadonlyMap<number, string> = new Map(
  FinishReasonSchema.values.map(({ number, localName }) => [number, localName.toLowerCase()]),
);

/** What was asked where it was no answer in a conversation. */
function askedOf({ request, countOnly }: CallRecord["call"]): "vectors" | "count" | undefined {
  if (countOnly) return "count";
  return request.$typeName === "outrigger.chat.v1.EmbeddingRequest" ? "vectors" : undefined;
}

/** The log line of a call: metadata only. */
function line(severity: "info" | "warn", time: string, record: CallRecord): object {
  const { call, outcome, fault, totalMs, firstContentMs, usage, finishReason, cost } = record;
  const { notes } = call;
  return {
    severity,
    time,
    request_id: call.id,
    door: call.door,
    consumer: notes.consumer,
    team: notes.team || undefined,
    route: notes.route || undefined,
    provider: notes.provider || undefined,
    model_served: notes.model || undefined,
    stream: call.streaming,
    asked: askedOf(call),
    code: fault?.kind.code ?? "OK",
    reason: outcome,
    provider_status: fault?.facts.provider_status,
    attempts: notes.attempts,
    ttft_ms: firstContentMs === undefined ? undefined : round(firstContentMs),
    total_ms: round(totalMs),
    tokens:
      usage === undefined
        ? undefined
        : {
            in: plain(usage.inputTokens),
            out: plain(usage.outputTokens),
            cached: plain(usage.cachedInputTokens),
            reasoning: plain(usage.reasoningTokens),
          },
    finish: finishNames.get(finishReason),
    cost: cost === undefined ? undefined : { currency: cost.currency, micros: Number(cost.micros) },
    dropped_params: notes.droppedParams.length === 0 ? undefined : notes.droppedParams,
    trace_id: call.traceparent?.split("-")[1],
    cause: causeOf(fault),
    at: framesOf(fault),
    message: "call",
  };
}

/** What happened underneath, as the name and code of the error alone: its message might quote what a provider or caller said. */
function causeOf(fault: Fault | undefined): string | undefined {
  const { cause } = fault ?? {};
  if (!(cause instanceof Error)) return undefined;
  return "code" in cause && typeof cause.code === "string" ? `${cause.name} ${cause.code}` : cause.name;
}

/** Where Outrigger itself failed: the frames of the stack, without the message, which might quote a prompt. */
function framesOf(fault: Fault | undefined): string[] | undefined {
  if (fault?.reason !== FaultReason.INTERNAL || !(fault.cause instanceof Error)) return undefined;
  return fault.cause.stack
    ?.split("\n")
    .filter((text) => text.startsWith("    at "))
    .slice(0, 10)
    .map((text) => text.trim());
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

function plain(count: bigint | undefined): number | undefined {
  return count === undefined ? undefined : Number(count);
}
