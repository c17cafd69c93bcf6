/**
 * What one listener keeps for all of its exchanges: patience with slow callers, the room for request bodies, and who is still here.
 *
 * One sweep a second looks at every open exchange, instead of a timer for each: an exchange that is served promptly costs one place in
 * an array, and nothing else. A set would cost more than it seems: V8 gives a set that is changed all the time a new table again and
 * again, and until its next full collection the old ones, dead themselves, keep all that they held from dying young.
 */
import type { Clock } from "../call.ts";

/** Bytes of one answer that may wait for a caller that reads slowly; then its provider is no longer read. */
export const bufferedBytesHigh = 16 * 1024; // about 50 events: enough to ride out a pause; a piece above it may be as large as a read

/** Bytes of a large body that are written, or read ahead, at once. */
export const pieceBytesMax = 64 * 1024; // what the system reads from a socket at once

/** With many answers open each may keep less, but never less than this: below, every event would stop and start its provider. */
const bufferedBytesLow = 4 * 1024;

/** How long callers may take, and how much they may hold. */
export interface Patience {
  /** How often open exchanges are looked at, and so how late a slow caller may be noticed. */
  readonly sweepMs: number;
  /** A body may be this slow at first, so that a caller on a bad network can begin. */
  readonly bodyGraceMs: number;
  /** Afterwards a body must have come at least this fast on average. */
  readonly bodyBytesPerSecondMin: number;
  /** A caller that takes none of the bytes waiting for it for this long is cut off. */
  readonly writeStallMs: number;
  /** After an answer that was given before the request was read, the rest of the request is read and thrown away for this long. */
  readonly lingerMs: number;
  /** Bytes of request bodies held at one time in the whole process. */
  readonly bodyBytesHeldMax: number;
  /** Bytes of answers that wait for slow callers at one time in the whole process. */
  readonly bufferedBytesMax: number;
}

/** What holds unless a listener is told otherwise. */
export const usualPatience: Patience = Object.freeze({
  sweepMs: 1_000, // a second more or less changes none of the waits below
  bodyGraceMs: 10_000, // as long as headers may take
  bodyBytesPerSecondMin: 1_024, // slower than the slowest modem, faster than an attacker with many sockets wants to be
  writeStallMs: 30_000, // a laptop that changes networks is back by then
  lingerMs: 5_000, // enough for the caller to read the refusal before its connection is cut, which would take the refusal with it
  bodyBytesHeldMax: 256 * 1024 * 1024, // 25 bodies of the largest size at once; more would press on the memory of the pod
  bufferedBytesMax: 64 * 1024 * 1024, // four thousand callers that read nothing have their whole share; more of them share what there is
});

/** An exchange, as its keeper sees it. */
export interface Kept {
  /** Where its keeper finds it again; the keeper's own to set. */
  place: number;
  /** Looks whether the caller is too slow. `nowMs` is monotonic. */
  check(nowMs: number): void;
  /** Ends the answer because the sidecar is going away. */
  expel(): void;
}

/** Knows every open exchange of one listener. */
export class Keeper {
  readonly patience: Patience;
  /** Whether the listener is closing: answers over HTTP/1.1 then say `connection: close`. */
  draining = false;
  readonly #clock: Clock;
  /** Every open exchange at its place. What is undefined is free, and named in `#free`. */
  readonly #open: (Kept | undefined)[] = [];
  readonly #free: number[] = [];
  #entered = 0;
  #bodyBytesHeld = 0;
  #stopSweep: (() => void) | undefined;
  #whenEmpty: (() => void) | undefined;

  constructor(clock: Clock, patience: Patience) {
    this.#clock = clock;
    this.patience = patience;
  }

  /** How many exchanges there have been. */
  get enteredCount(): number {
    return this.#entered;
  }

  /** How many exchanges are open. */
  get openCount(): number {
    return this.#open.length - this.#free.length;
  }

  /** How many bytes may wait for the caller of each exchange. */
  get bufferedBytesHigh(): number {
    const share = this.patience.bufferedBytesMax / this.openCount;
    return share >= bufferedBytesHigh ? bufferedBytesHigh : Math.max(bufferedBytesLow, share);
  }

  /** How many bytes of request bodies are held. */
  get bodyBytesHeld(): number {
    return this.#bodyBytesHeld;
  }

  /** An exchange begins. */
  enter(kept: Kept): void {
    const place = this.#free.pop() ?? this.#open.length;
    kept.place = place;
    this.#open[place] = kept;
    this.#entered += 1;
    if (this.#stopSweep === undefined) this.#sweepLater();
  }

  /** An exchange is over. */
  leave(kept: Kept): void {
    const { place } = kept;
    if (this.#open[place] !== kept) return;
    this.#open[place] = undefined;
    this.#free.push(place);
    if (this.openCount === 0) this.#tellEmpty();
  }

  /** Makes room for bytes of a request body. False if there is none; then nothing was taken. */
  hold(bytes: number): boolean {
    if (this.#bodyBytesHeld + bytes > this.patience.bodyBytesHeldMax) return false;
    this.#bodyBytesHeld += bytes;
    return true;
  }

  /** Gives back the room of a request body. */
  release(bytes: number): void {
    this.#bodyBytesHeld -= bytes;
  }

  /** Calls `then` as soon as no exchange is open, which may be now. */
  whenEmpty(then: () => void): void {
    this.#whenEmpty = then;
    if (this.openCount === 0) this.#tellEmpty();
  }

  /** Ends every open exchange. */
  expelAll(): void {
    for (const kept of [...this.#open]) kept?.expel();
  }

  /** Looks no more: everything is cut off anyway. */
  close(): void {
    this.#stopSweep?.();
    this.#stopSweep = undefined;
  }

  #tellEmpty(): void {
    const then = this.#whenEmpty;
    this.#whenEmpty = undefined;
    then?.();
  }

  #sweepLater(): void {
    this.#stopSweep = this.#clock.after(this.patience.sweepMs, () => this.#sweep());
  }

  #sweep(): void {
    this.#stopSweep = undefined;
    const nowMs = this.#clock.monotonicMs();
    // An exchange that is cut off leaves its place while they are walked, and others may come: both are well.
    for (const kept of this.#open) kept?.check(nowMs);
    if (this.openCount > 0) this.#sweepLater();
  }
}
