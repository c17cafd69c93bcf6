/**
 * Keeps one short-lived value fresh: a token, or keys that sign.
 *
 * The value that holds is given out without waiting. Well before it ends another one is fetched, a little earlier in one sidecar than in
 * the next, so that a fleet that started together does not ask together. While fetching fails, the value that holds stays in use until its
 * end, and attempts follow at growing, random distances. A call waits only where there is no value at all, and all that wait share one
 * attempt: there is never a second one beside it.
 *
 * A value ends when either clock says so. The wall clock may be set back, and the monotonic one stands still while a machine sleeps.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { Clock, Random } from "../../call.ts";
import { reasonOf } from "./failure.ts";

/** A value that was just fetched. */
export interface Fresh<Value> {
  readonly value: Value;
  /** For how long it holds from the moment at which it was asked for, in milliseconds; `Infinity` for ever. */
  readonly lifeMs: number;
  /** When whoever gave it wants to be asked again, from the same moment, in milliseconds. */
  readonly refreshInMs?: number;
}

/** Fetches a value. Rejects with a reason that may be logged (`CredentialFailure`), and soon once `stopping` is aborted. */
export type Fetch<Value> = (stopping: AbortSignal) => Promise<Fresh<Value>>;

/** What a source needs. */
export interface TokenSourceParts {
  /** The provider whose credential this is, for faults and the log. */
  readonly provider: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Aborted when the sidecar stops: what is being fetched is given up, and nothing more is. */
  readonly stopping: AbortSignal;
  /** Hears why no value can be fetched, once for each reason, and when one could be again. The message is safe to log. */
  readonly warn: (message: string, facts: Readonly<Record<string, string>>) => void;
}

/** A value that is kept fresh. */
export interface TokenSource<Value> {
  /** The value that holds now, or undefined. */
  current(): Value | undefined;
  /** Undefined if a value holds now. Otherwise resolves once one does, or rejects with a fault; fetches one if nobody does yet. */
  ready(): Promise<void> | undefined;
  /** The value was refused where it was shown: another one is fetched, unless this one is new. */
  refused(): void;
  /** Begins to fetch ahead. */
  start(): void;
  /** Stops fetching ahead; there is no timer then. A call that still holds the source can still be given a value. */
  rest(): void;
}

/** A value must hold for at least this much longer to be given out: a request that carries it takes time to arrive. */
export const marginMs = 2_000;

/** Fetching begins when a quarter of the life is left, but no earlier than this before its end: an hour's token is not worth more. */
const leadMsMax = 15 * 60_000;

/** The longest life that is believed: ten years hold everything, and larger numbers would lose milliseconds. */
const lifeMsMax = 10 * 365 * 86_400_000;

/** The first distance between attempts, doubled with each; half of it is chance. */
const backoffMs = 1_000;
const backoffMsMax = 60_000;

/** A value that is younger than this and refused is not replaced: the next one would be refused as well, and whoever gives them flooded. */
const refusedAgainMs = 30_000;

/** Makes a source. Nothing runs until `start` or `ready`. */
export function tokenSource<Value>(obtain: Fetch<Value>, parts: TokenSourceParts): TokenSource<Value> {
  const { clock, random, provider, stopping } = parts;
  let held: { readonly value: Value; readonly takenAtMs: number; readonly endsAtMs: number; readonly endsAtWallMs: number } | undefined;
  /** Resolves when the attempt that runs is over, with the fault if it failed. */
  let attempt: Promise<Fault | undefined> | undefined;
  let failures = 0;
  /** Before this, on the monotonic clock, no attempt is made. */
  let notBeforeMs = Number.NEGATIVE_INFINITY;
  let lastReason = "";
  let ahead = false;
  let cancelTimer: (() => void) | undefined;

  function current(): Value | undefined {
    if (held === undefined) return undefined;
    const holds = clock.monotonicMs() < held.endsAtMs && clock.wallMs() < held.endsAtWallMs;
    return holds ? held.value : undefined;
  }

  function ready(): Promise<void> | undefined {
    if (current() !== undefined) return undefined;
    const waitMs = notBeforeMs - clock.monotonicMs();
    if (attempt === undefined && waitMs > 0) return Promise.reject(unavailable(waitMs, undefined));
    return begin().then((fault) => {
      if (fault !== undefined) throw fault;
    });
  }

  /** Makes an attempt, or joins the one that runs. What it resolves with never rejects. */
  function begin(): Promise<Fault | undefined> {
    if (attempt !== undefined) return attempt;
    cancelTimer?.();
    cancelTimer = undefined;
    const beganAtMs = clock.monotonicMs();
    const beganAtWallMs = clock.wallMs();
    attempt = obtain(stopping).then(
      (fresh) => take(fresh, beganAtMs, beganAtWallMs),
      (error: unknown) => fail(error),
    );
    return attempt;
  }

  function take({ value, lifeMs, refreshInMs }: Fresh<Value>, beganAtMs: number, beganAtWallMs: number): Fault | undefined {
    const usableMs = Math.min(lifeMs, lifeMsMax) - marginMs;
    // Not-a-number is no life either.
    if (!(beganAtMs + usableMs > clock.monotonicMs())) return fail(new ShortLived());
    attempt = undefined;
    failures = 0;
    notBeforeMs = Number.NEGATIVE_INFINITY;
    held = { value, takenAtMs: clock.monotonicMs(), endsAtMs: beganAtMs + usableMs, endsAtWallMs: beganAtWallMs + usableMs };
    if (lastReason !== "") parts.warn("The credential for a provider can be had again.", { provider });
    lastReason = "";
    schedule(beganAtMs + refreshAfterMs(lifeMs, refreshInMs) - clock.monotonicMs());
    return undefined;
  }

  function fail(error: unknown): Fault {
    attempt = undefined;
    const distanceMs = Math.min(backoffMsMax, backoffMs * 2 ** Math.min(failures, 16));
    const delayMs = distanceMs * (0.5 + random.next() / 2);
    failures += 1;
    notBeforeMs = clock.monotonicMs() + delayMs;
    const reason = error instanceof ShortLived ? "what was given had expired or was about to" : reasonOf(error);
    if (!stopping.aborted && reason !== lastReason) {
      lastReason = reason;
      const remains = current() === undefined ? "Calls to the provider fail until then." : "The last one stays in use while it holds.";
      parts.warn(`The credential for a provider cannot be refreshed: ${reason}. Another attempt follows. ${remains}`, { provider });
    }
    schedule(delayMs);
    return unavailable(delayMs, error);
  }

  /** When to fetch again, in milliseconds from when the value was asked for. */
  function refreshAfterMs(lifeMs: number, wantedMs = Number.POSITIVE_INFINITY): number {
    const leadMs = Math.min(lifeMs / 4, leadMsMax);
    return Math.min(wantedMs, lifeMs - leadMs * (1 + random.next() / 5));
  }

  function schedule(delayMs: number): void {
    if (!ahead || stopping.aborted || delayMs === Number.POSITIVE_INFINITY) return;
    // Whoever hands out the same value until shortly before its end is not asked in a tight loop.
    cancelTimer = clock.after(Math.max(delayMs, 500), () => {
      cancelTimer = undefined;
      void begin();
    });
  }

  function unavailable(retryAfterMs: number, cause: unknown): Fault {
    const message = `The credential for the provider ${provider} cannot be had at present.`;
    return new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, message, {
      facts: { provider },
      retryAfterMs: Math.ceil(retryAfterMs),
      ...(cause === undefined ? {} : { cause }),
    });
  }

  return {
    current,
    ready,
    refused() {
      const nowMs = clock.monotonicMs();
      if (held === undefined || nowMs < notBeforeMs || nowMs - held.takenAtMs < refusedAgainMs) return;
      void begin();
    },
    start() {
      if (ahead || stopping.aborted) return;
      ahead = true;
      void begin();
    },
    rest() {
      ahead = false;
      cancelTimer?.();
      cancelTimer = undefined;
    },
  };
}

/** A value that holds no longer than it takes to use it. */
class ShortLived extends Error {}
