/** Log records as short lines for a person who watches, in place of the JSON that machines read. */
import type { Terminal } from "./terminal.ts";

/**
 * Where a sidecar's log goes: each record it writes becomes a line. What is not a record is passed on as it is. `quietly` leaves out
 * what went well and is no call, such as that policy was applied.
 */
export function callLines(terminal: Pick<Terminal, "note" | "noteStyle">, quietly = false): { write(text: string): void } {
  return {
    write(text) {
      for (const line of text.split("\n")) {
        if (line === "" || (quietly && isGoodNews(line))) continue;
        terminal.note(humanLine(line, terminal.noteStyle));
      }
    },
  };
}

/** One record in a few words, such as `12:01:03  openai  smart > demo?gap=12  12 in, 40 out  310 ms`. */
export function humanLine(line: string, style: Terminal["noteStyle"]): string {
  const record = read(line);
  if (record === undefined) return line;
  const text = (name: string) => (record[name] === undefined || record[name] === "" ? undefined : String(record[name]));
  const time = text("time")?.slice(11, 19) ?? "";
  if (record.message !== "call" && record.message !== "refused") return eventLine(time, record, style);
  const failed = record.severity !== "info";
  const parts = [
    style("dim", time),
    text("door") ?? "",
    [text("route"), text("model_served") ?? text("provider")].filter((part) => part !== undefined).join(" > "),
    tokens(record.tokens),
    text("total_ms") === undefined ? "" : `${Math.round(Number(text("total_ms")))} ms`,
    failed ? style("red", text("reason") ?? "failed") : "",
  ];
  return parts.filter((part) => part !== "").join("  ");
}

/** Something other than a call, such as a change of policy. */
function eventLine(time: string, record: Readonly<Record<string, unknown>>, style: Terminal["noteStyle"]): string {
  const facts = Object.entries(record).filter(([name]) => !["time", "severity", "message", "problems", "took_ms"].includes(name));
  const words = [String(record.message ?? ""), ...facts.map(([name, value]) => `${name}=${String(value)}`)].join(" ");
  const colour = record.severity === "error" ? "red" : record.severity === "warn" ? "yellow" : "dim";
  const problems = Array.isArray(record.problems) ? record.problems.map((problem) => `\n  ${String(problem)}`) : [];
  return `${style("dim", time)}  ${style(colour, words)}${problems.join("")}`;
}

function tokens(value: unknown): string {
  if (typeof value !== "object" || value === null) return "";
  const { in: input, out: output } = value as { readonly in?: unknown; readonly out?: unknown };
  return `${String(input ?? "?")} in, ${String(output ?? "?")} out`;
}

function isGoodNews(line: string): boolean {
  const record = read(line);
  return record?.severity === "info" && record.message !== "call";
}

function read(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
