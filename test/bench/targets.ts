/** What we set out to reach, as ratios within one run, and whether a run reached it. Limits are promises: they are not tuned to results. */
import type { PipelineCosts } from "./pipeline/main.ts";
import type { RowResult } from "./report.ts";
import { cpuPerUnit } from "./report.ts";
import { pooled, quantile, ratios, spread } from "./statistic.ts";

/** Memory and start of one subject; what was not measured is undefined. */
export interface Footprint {
  readonly startMs: readonly number[];
  readonly idleBytes: number | undefined;
  readonly streamsBytes: number | undefined;
  readonly connectionsBytes: number | undefined;
  readonly loadedBytes: number | undefined;
}

/** A target and what was seen. */
export interface Verdict {
  readonly target: string;
  readonly limit: number;
  /** NaN if the run did not measure it. */
  readonly seen: number;
}

/** Compares a run with the targets. Figures below a limit reach it. */
export function verdicts(results: readonly RowResult[], ours: Footprint | undefined, filters: PipelineCosts | undefined): Verdict[] {
  const byId = new Map(results.map((result) => [result.row.id, result]));
  const ratio = (above: string, below: string): number => {
    const [a, b] = [byId.get(above), byId.get(below)];
    return a === undefined || b === undefined ? Number.NaN : ratios(cpuPerUnit(a), cpuPerUnit(b)).median;
  };
  const delay = (id: string): number => quantile(pooled(byId.get(id)?.rounds.map((round) => round.delays) ?? []), 0.5);
  const megabytes = (bytes: number | undefined): number => (bytes ?? Number.NaN) / 1e6;
  const found: Verdict[] = [
    {
      target: "OpenAI door, unary, saturated: CPU beside nginx",
      limit: 4.5,
      seen: ratio("unary/outrigger/openai/h1", "unary/nginx/openai/h1"),
    },
    {
      target: "OpenAI door, unary, saturated: CPU beside Portkey",
      limit: 1 / 8,
      seen: ratio("unary/outrigger/openai/h1", "unary/portkey/openai/h1"),
    },
    {
      target: "gRPC, unary, saturated: CPU beside nginx taking HTTP/2",
      limit: 3,
      seen: ratio("unary/outrigger/grpc/h2", "unary/nginx/openai/h2"),
    },
    {
      target: "gRPC, unary, saturated: CPU beside the connect-node stack",
      limit: 1 / 5,
      seen: ratio("unary/outrigger/grpc/h2", "unary/connect-node/grpc/h2"),
    },
    {
      target: "Connect JSON, unary: CPU beside the connect-node stack",
      limit: 1 / 3,
      seen: ratio("unary/outrigger/connect-json/h1", "unary/connect-node/connect-json/h1"),
    },
    {
      target: "Connect binary, unary: CPU beside the connect-node stack",
      limit: 1 / 3,
      seen: ratio("unary/outrigger/connect-proto/h1", "unary/connect-node/connect-proto/h1"),
    },
    {
      target: "OpenAI door, event in a burst: CPU beside nginx",
      limit: 2,
      seen: ratio("burst/outrigger/openai/h1", "burst/nginx/openai/h1"),
    },
    {
      target: "gRPC, event in a burst: CPU beside nginx taking HTTP/2",
      limit: 4,
      seen: ratio("burst/outrigger/grpc/h2", "burst/nginx/openai/h2"),
    },
    {
      target: "OpenAI door, event in a burst: CPU beside Portkey",
      limit: 1 / 6,
      seen: ratio("burst/outrigger/openai/h1", "burst/portkey/openai/h1"),
    },
  ];
  for (const [door, ours, beside] of [
    ["OpenAI door", "outrigger/openai/h1", "nginx/openai/h1"],
    ["gRPC", "outrigger/grpc/h2", "nginx/openai/h2"],
  ] as const) {
    found.push({ target: `${door}, 200 paced streams: CPU beside nginx`, limit: 2.5, seen: ratio(`paced/${ours}`, `paced/${beside}`) });
    found.push({
      target: `${door}, 200 paced streams: delay p50 over nginx, us`,
      limit: 100,
      seen: delay(`paced/${ours}`) - delay(`paced/${beside}`),
    });
    for (const rate of [300, 1000]) {
      found.push({
        target: `${door}, unary at ${rate} calls a second: CPU beside nginx`,
        limit: 4,
        seen: ratio(`rate-${rate}/${ours}`, `rate-${rate}/${beside}`),
      });
    }
  }
  found.push(
    { target: "the filters themselves, none with work to do, us a unary call", limit: 10, seen: filters?.callUs ?? Number.NaN },
    { target: "the filters themselves, us an event that comes alone", limit: 1, seen: filters?.batchUs ?? Number.NaN },
    { target: "resident memory when idle, MB", limit: 100, seen: megabytes(ours?.idleBytes) },
    { target: "resident memory with 1,000 live streams, MB", limit: 200, seen: megabytes(ours?.streamsBytes) },
    { target: "resident memory with 10,000 idle connections, MB", limit: 300, seen: megabytes(ours?.connectionsBytes) },
    { target: "spawn to first answer, ms", limit: 400, seen: spread(ours?.startMs ?? []).median },
  );
  return found;
}
