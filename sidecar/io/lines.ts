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
  /** How many lines there was no room for since the start. */
  lost?(): number;
}

// Some 140 lines.
const pieceBytes = 64 * 1024;

/**
 * What may wait for a reader that stands still; lines that come then are lost, and counted. Enough for a second and more at the highest
 * rate that one core can serve.
 */
const waitingBytesMax = 16 * 1024 * 1024;

/** Opens a file by its number, such as 2 for standard error, or by its path. */
export function openLines(file: number | string): LineWriter {
  const sink = pino.destination({
    dest: file,
    // A reader of our log that stands still must not stop us.
    sync: false,
    // Pieces come gathered, and none of them waits for more. Zero would say that there is nothing to flush.
    minLength: 1,
    maxWrite: 2 * pieceBytes,
    maxLength: waitingBytesMax,
    periodicFlush: 1000,
    contentMode: "buffer",
  });
  let piece = Buffer.allocUnsafeSlow(pieceBytes);
  let used = 0;
  let gathered = 0;
  let lost = 0;
  // Also called by pino, every second and when the process ends: what is gathered here goes first.
  const { flush, flushSync } = sink;
  sink.flush = (done) => {
    handOn();
    flush.call(sink, done);
  };
  sink.flushSync = () => {
    handOn();
    flushSync.call(sink);
  };
  sink.on("drop", () => {
    lost += gathered;
  });

  /** Gives the sink what is gathered. */
  function handOn(): void {
    if (used === 0) return;
    send(piece.subarray(0, used));
    piece = Buffer.allocUnsafeSlow(pieceBytes);
    used = 0;
    gathered = 0;
  }

  function send(bytes: Buffer): void {
    // Its type knows texts only, which is what it takes in its other mode.
    (sink as unknown as { write(bytes: Buffer): void }).write(bytes);
  }

  return {
    write(line) {
      // A unit of UTF-16 takes three bytes at most.
      const bytesMax = 3 * line.length;
      if (used + bytesMax > pieceBytes) handOn();
      gathered += 1;
      if (bytesMax <= pieceBytes) {
        used += piece.write(line, used);
        return;
      }
      send(Buffer.from(line));
      gathered = 0;
    },
    flush: (done) => sink.flush(done),
    lost: () => lost,
  };
}
