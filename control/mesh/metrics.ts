/** What control counts of its mesh. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { SubscribeResponse } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";

/** Counts what happens. */
export interface MeshMetrics {
  /** A new revision goes out: what was sent for the one before is that one's. */
  committed(): void;
  /** A sidecar enforces what it should, so long after it should. */
  acked(afterMs: number): void;
  refused(): void;
  /** A stream was opened by a sidecar whose root is known, or by one that needs everything. */
  opened(resume: boolean): void;
  turnedAway(resume: boolean): void;
  sent(message: SubscribeResponse): void;
  streams(count: number): void;
  roots(count: number): void;
  /** Gives a way to look at the fleet, which is used each time that somebody reads. */
  fleet(look: () => FleetFigures): void;
}

/** How a fleet is. */
export interface FleetFigures {
  /** Sidecars that are connected and enforce what they should. */
  readonly current: number;
  /** Sidecars that are connected and do not. */
  readonly behind: number;
  /** Sidecars that are missed. */
  readonly away: number;
  /** For how long the one of those behind that is so for the longest has been; 0 if there is none. */
  readonly behindMs: number;
}

/** Counts in a registry. */
export function countMesh(registry: Registry): MeshMetrics {
  const registers = [registry];
  const toAck = new Histogram({
    name: "outrigger_control_commit_to_ack_seconds",
    help: "From when a sidecar should enforce a root to when it says that it does.",
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    registers,
  });
  const bytesPerCommit = new Histogram({
    name: "outrigger_control_commit_bytes",
    help: "Bytes of content that were sent to sidecars between one revision and the next.",
    buckets: [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
    registers,
  });
  const refused = new Counter({ name: "outrigger_control_roots_refused_total", help: "Roots that sidecars refused.", registers });
  const opened = new Counter({
    name: "outrigger_control_streams_opened_total",
    help: "Streams of sidecars, by whether the root that the sidecar had was known.",
    labelNames: ["start"],
    registers,
  });
  const turnedAway = new Counter({
    name: "outrigger_control_streams_turned_away_total",
    help: "Streams that were to come again later, by whether the root that the sidecar had was known.",
    labelNames: ["start"],
    registers,
  });
  const streams = new Gauge({ name: "outrigger_control_streams", help: "Sidecars that are connected.", registers });
  const roots = new Gauge({ name: "outrigger_control_live_roots", help: "Roots that sidecars should enforce.", registers });
  let look: (() => FleetFigures) | undefined;
  const sidecars = new Gauge({
    name: "outrigger_control_sidecars",
    help: "Sidecars, by whether they are connected and enforce what they should.",
    labelNames: ["state"],
    registers,
    collect() {
      if (look === undefined) return;
      const { current, behind, away } = look();
      sidecars.set({ state: "current" }, current);
      sidecars.set({ state: "behind" }, behind);
      sidecars.set({ state: "away" }, away);
    },
  });
  const behindSeconds = new Gauge({
    name: "outrigger_control_behind_seconds",
    help: "For how long the sidecar that is behind for the longest has been, of those that are connected.",
    registers,
    collect() {
      behindSeconds.set((look?.().behindMs ?? 0) / 1000);
    },
  });
  let sentBytes = 0;
  const start = (resume: boolean) => ({ start: resume ? "resume" : "cold" });
  return {
    committed() {
      bytesPerCommit.observe(sentBytes);
      sentBytes = 0;
    },
    acked: (afterMs) => toAck.observe(afterMs / 1000),
    refused: () => refused.inc(),
    opened: (resume) => opened.inc(start(resume)),
    turnedAway: (resume) => turnedAway.inc(start(resume)),
    sent({ message }) {
      switch (message.case) {
        case "delta":
        case "manifest":
        case "trial":
          sentBytes += message.value.content.length;
          break;
        case "chunk":
          sentBytes += message.value.data.length;
          break;
        default:
          break;
      }
    },
    streams: (count) => streams.set(count),
    roots: (count) => roots.set(count),
    fleet(given) {
      look = given;
    },
  };
}
