/** Tables that people read, made of what rounds measured. */
import { wayOf } from "./doors.ts";
import type { Measured } from "./measure.ts";
import type { Row, TableKey } from "./rows.ts";
import { TABLES } from "./rows.ts";
import type { Spread } from "./statistic.ts";
import { pooled, quantile, ratios, spread } from "./statistic.ts";

/** A row and its rounds. */
export interface RowResult {
  readonly row: Row;
  readonly rounds: readonly Measured[];
}

/** CPU time per unit of work in each round, in microseconds: per event of a stream, per call otherwise. */
export function cpuPerUnit({ row, rounds }: RowResult): number[] {
  const events = row.asked.answer !== "unary";
  return rounds.map((round) => round.cpuUs / (events ? round.events : round.calls));
}

/** Units of work a second in each round. */
export function unitsPerS({ row, rounds }: RowResult): number[] {
  const events = row.asked.answer !== "unary";
  return rounds.map((round) => ((events ? round.events : round.calls) / round.windowUs) * 1e6);
}

/** The tables of calls and events. */
export function tables(results: readonly RowResult[]): string {
  const byId = new Map(results.map((result) => [result.row.id, result]));
  return (Object.keys(TABLES) as TableKey[])
    .flatMap((key) => {
      const rows = results.filter(({ row }) => row.table === key);
      return rows.length === 0
        ? []
        : [
            `${TABLES[key]}\n${table(
              headings[key],
              rows.map((result) => lines[key](result, byId)),
            )}`,
          ];
    })
    .join("\n\n");
}

type ById = ReadonlyMap<string, RowResult>;

const headings: Readonly<Record<TableKey, readonly string[]>> = {
  unary: ["subject", "door", "CPU us/call", "least-most", "calls/s", "/ nginx", "least-most"],
  prompt: ["subject", "door", "CPU us/call", "least-most", "calls/s", "/ nginx", "least-most"],
  burst: ["subject", "door", "CPU us/event", "least-most", "events/s", "/ nginx", "least-most"],
  paced: ["subject", "door", "CPU us/event", "least-most", "/ nginx", "least-most", "delay p50 us", "p99", "added p50", "added p99"],
  rate: ["rate", "subject", "door", "CPU us/call", "/ nginx", "p50 us", "p99", "p99.9", "added p50", "added p99", "added p99.9"],
};

const lines: Readonly<Record<TableKey, (result: RowResult, byId: ById) => string[]>> = {
  unary: saturatedLine,
  prompt: saturatedLine,
  burst: saturatedLine,
  paced: (result, byId) => {
    const delays = pooled(result.rounds.map((round) => round.delays));
    const plain = pooled(byId.get("paced/direct/openai/h1")?.rounds.map((round) => round.delays) ?? []);
    const added = (share: number) => (result.row.subject === "direct" ? "" : us(quantile(delays, share) - quantile(plain, share)));
    return [
      ...names(result),
      ...cpuCells(result),
      ...ratioCells(result, byId),
      us(quantile(delays, 0.5)),
      us(quantile(delays, 0.99)),
      added(0.5),
      added(0.99),
    ];
  },
  rate: (result, byId) => {
    const { row } = result;
    const rate = row.load.kind === "rate" ? row.load.ratePerS : "";
    const latencies = pooled(result.rounds.map((round) => round.latencies));
    // Half of saturation is another rate for every subject: it is compared with the direct call at the greatest rate that all share.
    const besides = byId.get(`rate-${rate === "half" ? 1000 : rate}/direct/openai/h1`);
    const plain = pooled(besides?.rounds.map((round) => round.latencies) ?? []);
    const added = (share: number) => (row.subject === "direct" ? "" : us(quantile(latencies, share) - quantile(plain, share)));
    const [ratio = ""] = ratioCells(result, byId);
    return [
      rate === "half" ? `half: ${whole(spread(result.rounds.map((round) => round.ratePerS)).median)}` : String(rate),
      ...names(result),
      us(spread(cpuPerUnit(result)).median) + marks(result),
      ratio,
      ...[0.5, 0.99, 0.999].map((share) => us(quantile(latencies, share))),
      ...[0.5, 0.99, 0.999].map(added),
    ];
  },
};

function saturatedLine(result: RowResult, byId: ById): string[] {
  return [...names(result), ...cpuCells(result), whole(spread(unitsPerS(result)).median), ...ratioCells(result, byId)];
}

function names({ row }: RowResult): string[] {
  const plain = row.subject === "direct" || row.subject === "nginx";
  const through = row.http === 2 ? "HTTP/2" : "HTTP/1.1";
  return [row.subject, plain ? `${through}${row.door === "openai" ? "" : ` (${row.door})`}` : wayOf(row.door, row.asked.family)];
}

function cpuCells(result: RowResult): string[] {
  const found = spread(cpuPerUnit(result));
  return [us(found.median) + marks(result), range(found, us)];
}

function ratioCells(result: RowResult, byId: ById): string[] {
  const beside = result.row.beside === undefined ? undefined : byId.get(result.row.beside);
  if (beside === undefined) return ["", ""];
  const found = ratios(cpuPerUnit(result), cpuPerUnit(beside));
  return [found.median.toFixed(2), range(found, (value) => value.toFixed(2))];
}

/** `~`: other processes disturbed a round even when it was repeated. `*`: the generator's core was full, so that it was the limit. */
function marks({ rounds }: RowResult): string {
  const full = rounds.some((round) => round.loadBusyUs / round.windowUs > 0.97);
  return `${rounds.some((round) => round.disturbed) ? "~" : ""}${full ? "*" : ""}`;
}

/** The sidecar of another checkout beside this one's: ratios of CPU below 1 are gains. */
export function comparison(results: readonly RowResult[]): string {
  const byId = new Map(results.map((result) => [result.row.id, result]));
  const found = results.flatMap((before) => {
    const after = byId.get(before.row.id.replace("/before/", "/outrigger/"));
    if (before.row.subject !== "before" || after === undefined) return [];
    const ratio = ratios(cpuPerUnit(after), cpuPerUnit(before));
    const p50 = (result: RowResult) => us(quantile(pooled(result.rounds.map((round) => round.latencies)), 0.5));
    return [
      [
        after.row.id,
        us(spread(cpuPerUnit(before)).median) + marks(before),
        us(spread(cpuPerUnit(after)).median) + marks(after),
        ratio.median.toFixed(3),
        // What disturbs only ever adds: the least of many rounds is the steadiest figure.
        (spread(cpuPerUnit(after)).min / spread(cpuPerUnit(before)).min).toFixed(3),
        range(ratio, (value) => value.toFixed(2)),
        p50(before),
        p50(after),
      ],
    ];
  });
  return table(["row", "CPU us before", "after", "ratio", "of the least", "least-most", "p50 us before", "after"], found);
}

/** A table with columns as wide as their content; the first columns are words, numbers stand to the right. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const isNumber = (column: number) => rows.every((row) => /^(-?[\d~*].*|-|)$/.test(row[column] ?? "")) && column > 0;
  return all
    .map((row) =>
      `  ${row.map((cell, i) => (isNumber(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join("  ")}`.trimEnd(),
    )
    .join("\n");
}

function range(found: Spread, format: (value: number) => string): string {
  return `${format(found.min)}-${format(found.max)}`;
}

/** Microseconds: with two digits below 10, one below 100. */
export function us(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}

function whole(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : "-";
}
