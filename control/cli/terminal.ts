/** Writes for people or for machines: tables and colour for the ones, JSON and YAML for the others. */
import type { Writable } from "node:stream";
import { styleText } from "node:util";
import type { World } from "./world.ts";

/** How results are written. */
export type OutputFormat = "table" | "json" | "yaml";

/** Where a command writes. */
export interface Terminal {
  readonly format: OutputFormat;
  /** Writes a result: `value` for machines, `human` for people. */
  result(value: unknown, human: string): Promise<void>;
  /** Writes a part of a result for people, as it becomes known. */
  out(text: string): void;
  /** Writes a remark, which is no part of the result, as a line. */
  note(text: string): void;
  /** Writes a part of a remark, without ending its line. */
  noteRaw(text: string): void;
  /** The text, styled if the remarks' stream is a terminal that shows colour. */
  noteStyle(style: Style, text: string): string;
  /** The text, styled if the results' stream is a terminal that shows colour. */
  style(style: Style, text: string): string;
}

/** What a text is, to the eye. */
export type Style = "bold" | "dim" | "red" | "yellow" | "green" | "cyan";

/** Opens the terminal of a command. */
export function openTerminal(world: Pick<World, "stdout" | "stderr">, format: OutputFormat): Terminal {
  const { stdout, stderr } = world;
  return {
    format,
    async result(value, human) {
      if (format === "json") stdout.write(`${JSON.stringify(value, null, 2)}\n`);
      else if (format === "yaml") stdout.write((await import("yaml")).stringify(value));
      else stdout.write(human.endsWith("\n") ? human : `${human}\n`);
    },
    out: (text) => void stdout.write(text),
    noteRaw: (text) => void stderr.write(text),
    note: (text) => void stderr.write(`${text}\n`),
    noteStyle: (style, text) => styled(stderr, style, text),
    style: (style, text) => styled(stdout, style, text),
  };
}

/** Columns of text under headings, two blanks apart; the last column is not padded. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[], indent = ""): string {
  const lines = headings.length === 0 ? rows : [headings, ...rows];
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) => indent + line.map((cell, column) => (column === line.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

function styled(stream: Writable & { readonly isTTY?: boolean }, style: Style, text: string): string {
  // The library looks at the stream and at NO_COLOR and FORCE_COLOR, so that nothing is coloured when piped.
  return stream.isTTY === true ? styleText(style, text, { stream }) : text;
}
