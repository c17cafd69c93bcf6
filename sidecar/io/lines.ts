/**
 * The log's way to a file: lines are gathered and written together.
 *
 * Each write is handed to another thread and back, which costs more than all filters of ten calls, so lines wait until there are enough
 * of them, or for a second. What waits is written when the process ends, unless it is killed.
 */
import { pino } from "pino";

/** Takes whole lines, each with its line end. */
export interface LineWriter {
  write(line: string): void;
  /** Writes what waits, and calls `done` when it is written. */
  flush?(done?: (error?: Error) => void): void;
}

// Some 140 lines.
const gatheredBytesMin = 64 * 1024;

/** Opens a file by its number, such as 2 for standard error, or by its path. */
export function openLines(file: number | string): LineWriter {
  const settings = {
    dest: file,
    // A reader of our log that stands still must not stop us.
    sync: false,
    minLength: gatheredBytesMin,
    maxWrite: 2 * gatheredBytesMin,
    periodicFlush: 1000,
    // As texts, all that waits would be joined and measured anew for each line.
    contentMode: "buffer" as const,
  };
  const stream = pino.destination(settings);
  return {
    write(line) {
      // Its type knows texts only, which is what it takes in its other mode.
      (stream as unknown as { write(bytes: Buffer): void }).write(Buffer.from(line));
    },
    flush: (done) => stream.flush(done),
  };
}
