/**
 * The log's way to a file: lines are gathered and written together.
 *
 * Each write is handed to another thread and back, which costs more than all filters of ten calls, so lines wait until there are enough
 * of them, or for a second. Nothing here ever stops a call: a reader that stands still, a pipe that nobody reads any more and a disk that
 * is full cost lines, which are counted, and nothing else. (Hence this file: a library's stream waits without end for each of them.)
 */
import { write, writeSync } from "node:fs";
import type { Clock } from "../call.ts";

/** Takes whole lines, each with its line end. Who has nothing that waits needs no more than `write`. */
export interface LineWriter {
  write(line: string): void;
  /** Writes what waits, and calls `done` when it is written or lost. */
  flush?(done?: () => void): void;
  /** Resolves when all is written, or when that has taken too long: what is left then is lost. Later lines are written as ever. */
  settle?(): Promise<void>;
  /** Writes what waits before it returns: for the end of the process, when nothing else can. */
  writeRest?(): void;
  /** How many lines were lost since the start. */
  lost?(): number;
}

// Some 140 lines.
const pieceBytes = 64 * 1024;

/** What may wait for a reader: enough for a second and more at the highest rate that one core can serve. */
const waitingBytesMax = 16 * 1024 * 1024;

/** How long a line waits for others, in milliseconds. */
const gatherMs = 1000;

/** When a pipe that is full is tried again, in milliseconds: soon, as most readers are only slow, and each time later. */
const retryMsMin = 2;
const retryMsMax = 128;

/** How long the end waits for a reader, in milliseconds: about what one that is only slow needs for all that may wait. */
const settleMs = 2000;

/** Opens the way to an open file by its number, such as 2 for standard error. `put` writes to it: Node's own unless given. */
export function openLines(fd: number, clock: Clock, put: Put = write): Required<LineWriter> {
  return new GatheredLines(fd, clock, put);
}

/** Writes as much as there is room for, and tells how many bytes that were. */
export type Put = (fd: number, bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void) => void;

class GatheredLines implements LineWriter {
  readonly #fd: number;
  readonly #clock: Clock;
  readonly #put: Put;
  #piece = Buffer.allocUnsafeSlow(pieceBytes);
  #used = 0;
  /** What is to be written, in order. All but the last are full. */
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** Whether a write of the first in the queue has been handed to another thread. */
  #writing = false;
  /** Ends the wait for more lines. */
  #stopGathering: (() => void) | undefined;
  /** Ends the wait for room in a pipe. */
  #stopRetrying: (() => void) | undefined;
  #retryMs = retryMsMin;
  /** Whether what is gathered is to be written as soon as nothing is before it. */
  #flushing = false;
  #waiters: (() => void)[] = [];
  /** Whether what was written last ends in the middle of a line, whose rest is first in the queue. */
  #partial = false;
  /** Whether the file ends in the middle of a line whose rest is lost: what comes next begins with a line end. */
  #torn = false;
  #lost = 0;

  constructor(fd: number, clock: Clock, put: Put) {
    this.#fd = fd;
    this.#clock = clock;
    this.#put = put;
  }

  write(line: string): void {
    // A unit of UTF-16 takes three bytes at most.
    const bytesMax = 3 * line.length;
    if (this.#used + bytesMax > pieceBytes) {
      if (this.#queuedBytes + bytesMax > waitingBytesMax) {
        this.#lost += 1;
        return;
      }
      this.#handOn();
      if (bytesMax > pieceBytes) this.#enqueue(Buffer.from(line));
      this.#advance();
      if (bytesMax > pieceBytes) return;
    }
    this.#used += this.#piece.write(line, this.#used);
    this.#stopGathering ??= this.#clock.after(gatherMs, () => {
      this.#stopGathering = undefined;
      this.flush();
    });
  }

  flush(done?: () => void): void {
    if (done !== undefined) this.#waiters.push(done);
    this.#flushing = true;
    this.#advance();
  }

  lost(): number {
    return this.#lost;
  }

  settle(): Promise<void> {
    return new Promise((resolve) => {
      const stopWaiting = this.#clock.after(settleMs, () => {
        this.#abandon();
        resolve();
      });
      this.flush(() => {
        stopWaiting();
        resolve();
      });
    });
  }

  writeRest(): void {
    this.#stopRetrying?.();
    this.#stopRetrying = undefined;
    // What another thread has begun to write must not be written twice, and nothing tells how far it is. Mostly it needs no time at all.
    if (this.#writing) pause(inFlightMs);
    const rest = this.#writing ? this.#queue.slice(1) : this.#queue;
    const mend = this.#torn ? [Buffer.of(lineEnd)] : [];
    const pieces = [...mend, ...rest, this.#piece.subarray(0, this.#used)];
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#used = 0;
    // The pipe may be full for a moment only.
    let triesLeft = settleMs / retryMsMin;
    for (const piece of pieces) {
      for (let written = 0; written < piece.length; ) {
        try {
          written += writeSync(this.#fd, piece, written);
        } catch (error) {
          if (!isFull(error) || triesLeft === 0) return;
          triesLeft -= 1;
          pause(retryMsMin);
        }
      }
    }
  }

  /** Puts what is gathered in the queue. */
  #handOn(): void {
    this.#stopGathering?.();
    this.#stopGathering = undefined;
    if (this.#used === 0) return;
    const full = this.#piece.subarray(0, this.#used);
    this.#used = 0;
    // A little in a large piece would hold all of it.
    if (full.length < pieceBytes / 2) {
      this.#enqueue(Buffer.from(full));
      return;
    }
    this.#enqueue(full);
    this.#piece = Buffer.allocUnsafeSlow(pieceBytes);
  }

  #enqueue(bytes: Buffer): void {
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
  }

  /** Writes what is first, if nothing is being written. */
  #advance(): void {
    if (this.#writing || this.#stopRetrying !== undefined) return;
    // Not before the rest is written: pieces that wait for a reader are then full ones.
    if (this.#queue.length === 0 && this.#flushing) {
      this.#flushing = false;
      this.#handOn();
    }
    const [first] = this.#queue;
    if (first === undefined) {
      this.#tellWaiters();
      return;
    }
    this.#writing = true;
    const mends = this.#torn;
    const bytes = mends ? Buffer.concat([Buffer.of(lineEnd), first]) : first;
    this.#put(this.#fd, bytes, (error, written) => {
      this.#writing = false;
      if (error === null && written > 0) {
        this.#torn = false;
        this.#partial = bytes[written - 1] !== lineEnd;
      }
      if (this.#queue[0] === first) this.#written(first, error, mends && written > 0 ? written - 1 : written);
      // It was abandoned meanwhile, and so was its rest.
      else this.#tear();
      this.#advance();
    });
  }

  #tellWaiters(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const done of waiters) done();
  }

  #written(first: Buffer, error: NodeJS.ErrnoException | null, written: number): void {
    if (error === null) {
      this.#retryMs = retryMsMin;
      this.#queuedBytes -= written;
      if (written < first.length) this.#queue[0] = first.subarray(written);
      else this.#queue.shift();
      return;
    }
    if (isFull(error)) {
      this.#stopRetrying = this.#clock.after(this.#retryMs, () => {
        this.#stopRetrying = undefined;
        this.#advance();
      });
      this.#retryMs = Math.min(2 * this.#retryMs, retryMsMax);
      return;
    }
    // The disk may have room again later, so what comes next is tried again.
    this.#queuedBytes -= first.length;
    this.#queue.shift();
    this.#lost += linesIn(first);
    this.#tear();
  }

  /** Gives up what waits. */
  #abandon(): void {
    this.#stopRetrying?.();
    this.#stopRetrying = undefined;
    this.#stopGathering?.();
    this.#stopGathering = undefined;
    for (const bytes of this.#queue) this.#lost += linesIn(bytes);
    this.#lost += linesIn(this.#piece.subarray(0, this.#used));
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#used = 0;
    if (!this.#writing) this.#tear();
    this.#tellWaiters();
  }

  /** The rest of what was written last is lost. */
  #tear(): void {
    this.#torn ||= this.#partial;
    this.#partial = false;
  }
}

const lineEnd = 0x0a;

/** How long the end of the process waits for a write that another thread has begun, in milliseconds. */
const inFlightMs = 10;

/** Stops everything for so long: for the end of the process. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function linesIn(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(lineEnd); at !== -1; at = bytes.indexOf(lineEnd, at + 1)) lines += 1;
  return lines;
}

/** Whether a pipe had no room. */
function isFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "EAGAIN" || error.code === "EBUSY");
}
