/**
 * Thinking that a provider sealed, kept beside the callers who cannot carry it themselves.
 *
 * A turn is found again in two ways. By the ids and names of its tool calls: that survives a client that shortens or rewrites what came
 * before. And by its place, which is a hash of the visible conversation before it: for turns without calls, and where a model gives the
 * same ids again and again. Ids that were ever seen at two places find nothing alone, so that no turn gets another one's thinking.
 *
 * Turns belong to one consumer and are never found by another. What is not used goes: by age, and beyond the limits the turn that was
 * not used for longest goes first. A lost turn costs thinking and never an answer.
 */
import type { Clock } from "./call.ts";

/** One block of thinking, and where in its turn it stood. */
export interface SealedBlock {
  readonly text: string;
  readonly signature: string;
  readonly redacted: string;
  /** The dialect that stands on the seal. */
  readonly dialect: string;
  /** How many units of text, as JavaScript counts them, and how many tool calls of the turn came before it. */
  readonly textBefore: number;
  readonly callsBefore: number;
}

/** The sealed thinking of one turn, and who made it. */
export interface SealedTurn {
  readonly provider: string;
  /** The model's name at the provider. */
  readonly model: string;
  readonly dialect: string;
  /** In the order in which they were made; at least one. */
  readonly blocks: readonly SealedBlock[];
}

/** By what a turn is found. */
export interface TurnKeys {
  /** The turn's tool calls, or undefined if it has none. */
  readonly calls: string | undefined;
  /** Whether its conversation has other turns with the same calls, so that these do not tell which is meant. */
  readonly repeated: boolean;
  /** The turn's place, or undefined if that is not known. Asked only where it is needed, since to know it means to read what came before. */
  place(): string | undefined;
}

/** How much is kept. */
export interface SealedTurnLimits {
  /** Bytes of all turns together; 0 keeps nothing. */
  readonly bytesMax: number;
  readonly turnsMax: number;
  /** How long a turn is kept after its last use, in milliseconds. */
  readonly idleMs: number;
}

/** What the store came to since it was made, and what it holds now. */
export interface SealedTurnCounts {
  readonly turns: number;
  readonly bytes: number;
  readonly kept: number;
  /** Turns that went because of a limit or their age. */
  readonly forgotten: number;
}

/** More than this for one turn is no thinking of one answer: 128,000 tokens with their seals stay below it. */
const turnBytesMax = 2 * 1024 * 1024;

/** What a turn costs beside its texts: two map entries and their objects, roughly. */
const turnOverheadBytes = 512;

/** The store. One for each sidecar: conversations outlive policies. */
export class SealedTurns {
  readonly #limits: SealedTurnLimits;
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** By place, the one that was not used for longest first. */
  readonly #turns = new Map<string, Held>();
  readonly #byCalls = new Map<string, SameCalls>();
  readonly #holders = new Map<string, { turns: number; talks: number }>();
  #bytes = 0;
  #kept = 0;
  #forgotten = 0;

  constructor(limits: SealedTurnLimits, clock: Pick<Clock, "monotonicMs">) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** How many turns a consumer has here, and how many of these are without calls. */
  holdingsOf(consumer: string): { readonly turns: number; readonly talks: number } {
    if (this.#turns.size === 0) return nothing;
    this.#forgetOld();
    return this.#holders.get(consumer) ?? nothing;
  }

  /** Keeps a turn. One that was kept at the same place before is replaced. */
  keep(consumer: string, keys: TurnKeys, turn: SealedTurn): void {
    this.#forgetOld();
    const place = keys.place();
    const calls = keys.calls === undefined ? undefined : key(consumer, "calls", keys.calls);
    const same = calls === undefined ? undefined : this.#byCalls.get(calls);
    if (place === undefined && (calls === undefined || same !== undefined)) {
      // Without its place it cannot be told from the others with these calls, nor they from it.
      if (same !== undefined) same.alone = false;
      return;
    }
    const at = key(consumer, keys.calls === undefined ? "talk" : "place", place ?? keys.calls ?? "");
    const bytes = bytesOf(turn) + 2 * (at.length + (calls?.length ?? 0)) + turnOverheadBytes;
    const before = this.#turns.get(at);
    if (before !== undefined) this.#forget(at, before);
    if (bytes > turnBytesMax || bytes > this.#limits.bytesMax) return;
    this.#add(at, { consumer, calls, turn, bytes, usedAtMs: this.#clock.monotonicMs() }, same?.alone ?? true);
    this.#kept += 1;
    for (const [oldest, held] of this.#turns) {
      if (this.#bytes <= this.#limits.bytesMax && this.#turns.size <= this.#limits.turnsMax) break;
      this.#forget(oldest, held);
      this.#forgotten += 1;
    }
  }

  /** Finds a turn, or undefined. */
  find(consumer: string, keys: TurnKeys): SealedTurn | undefined {
    let at: string | undefined;
    if (keys.calls !== undefined) {
      const same = this.#byCalls.get(key(consumer, "calls", keys.calls));
      if (same === undefined) return undefined;
      if (same.alone && !keys.repeated) [at] = same.places;
    }
    if (at === undefined) {
      const place = keys.place();
      if (place === undefined) return undefined;
      at = key(consumer, keys.calls === undefined ? "talk" : "place", place);
    }
    const held = this.#turns.get(at);
    if (held === undefined) return undefined;
    held.usedAtMs = this.#clock.monotonicMs();
    // A map keeps the order of insertion, so what is used goes to the end.
    this.#turns.delete(at);
    this.#turns.set(at, held);
    return held.turn;
  }

  counts(): SealedTurnCounts {
    return { turns: this.#turns.size, bytes: this.#bytes, kept: this.#kept, forgotten: this.#forgotten };
  }

  /** `alone`: whether nothing is known of another place with these calls. */
  #add(at: string, held: Held, alone: boolean): void {
    this.#turns.set(at, held);
    this.#bytes += held.bytes;
    const holder = this.#holders.get(held.consumer) ?? { turns: 0, talks: 0 };
    holder.turns += 1;
    if (held.calls === undefined) holder.talks += 1;
    this.#holders.set(held.consumer, holder);
    if (held.calls === undefined) return;
    const same = this.#byCalls.get(held.calls);
    if (same === undefined) this.#byCalls.set(held.calls, { places: new Set([at]), alone });
    else {
      same.places.add(at);
      same.alone = alone && same.places.size === 1;
    }
  }

  #forget(at: string, held: Held): void {
    this.#turns.delete(at);
    this.#bytes -= held.bytes;
    const holder = this.#holders.get(held.consumer);
    if (holder !== undefined) {
      holder.turns -= 1;
      if (held.calls === undefined) holder.talks -= 1;
      if (holder.turns === 0) this.#holders.delete(held.consumer);
    }
    const same = held.calls === undefined ? undefined : this.#byCalls.get(held.calls);
    if (same === undefined || held.calls === undefined) return;
    same.places.delete(at);
    if (same.places.size === 0) this.#byCalls.delete(held.calls);
  }

  /** The order of use is the order of age, so the look ends at the first turn that is young enough. */
  #forgetOld(): void {
    const until = this.#clock.monotonicMs() - this.#limits.idleMs;
    for (const [at, held] of this.#turns) {
      if (held.usedAtMs > until) return;
      this.#forget(at, held);
      this.#forgotten += 1;
    }
  }
}

interface Held {
  readonly consumer: string;
  readonly calls: string | undefined;
  readonly turn: SealedTurn;
  readonly bytes: number;
  usedAtMs: number;
}

/** The places of turns with the same calls. Once there were two, the calls alone no longer tell which is meant. */
interface SameCalls {
  readonly places: Set<string>;
  alone: boolean;
}

const nothing = Object.freeze({ turns: 0, talks: 0 });

/** The consumer's name in front is what keeps one from another, so no name may run into what follows. */
function key(consumer: string, kind: "calls" | "place" | "talk", text: string): string {
  return `${consumer.length}:${consumer} ${kind} ${text}`;
}

/** Texts take up to two bytes a unit. */
function bytesOf({ blocks }: SealedTurn): number {
  let units = 0;
  for (const { text, signature, redacted } of blocks) units += text.length + signature.length + redacted.length;
  return 2 * units + 64 * blocks.length;
}
