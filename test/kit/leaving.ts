/**
 * Callers that leave: at a seeded point of an answer, by every door, and how long it then takes until the provider's socket is closed.
 * The test asserts that it always closes; the bench prints how fast.
 */
import { type Caller, start } from "./callers.ts";
import type { SeededRandom } from "./random.ts";
import type { Replay } from "./replay.ts";
import { openAiStream } from "./wire.ts";

/** What came of one caller that left. */
export interface Leaving {
  readonly caller: string;
  /** Milliseconds from leaving to the provider's socket being closed; `undefined` if the provider had not been asked yet. */
  readonly closedAfterMs: number | undefined;
  /** Whether the provider was still answering when its socket closed; anything else means that the call was not cut short. */
  readonly cutShort: boolean;
}

/** How an answer stands when its caller leaves. */
type Moment = "request sent" | "provider asked" | "head received" | "in the middle";

const moments: readonly Moment[] = ["request sent", "provider asked", "head received", "in the middle", "in the middle", "in the middle"];

/** Frames that can be left between. */
const frames = openAiStream({ pieces: Array.from({ length: 40 }, (_, at) => `piece ${at} `) });

/**
 * One caller comes and leaves. Resolves when the provider's socket has closed, or after `patienceMs` with `closedAfterMs` infinite.
 * Nothing else may be asked of `replay` meanwhile.
 */
export async function leaveOnce(caller: Caller, port: number, replay: Replay, random: SeededRandom, patienceMs: number): Promise<Leaving> {
  replay.forget();
  const moment = moments[random.below(moments.length)] ?? "in the middle";
  const shown = moment === "in the middle" ? 1 + random.below(frames.length - 4) : 0;
  let asked = (): void => {};
  const wasAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  // A unary caller sees nothing of a half answer, so what decides the moment is what the provider has sent.
  replay.answerWith({
    pieces: caller.streaming ? frames.slice(0, shown) : shown === 0 ? [] : ['{"id":"x","object":"chat.completion",', '"choices":['],
    headers: { "content-type": caller.streaming ? "text/event-stream" : "application/json" },
    ending: "hang",
    written: asked,
  });
  const running = start(caller, port, "open");
  if (moment === "request sent") await turns(random.below(6));
  else {
    await wasAsked;
    if (moment === "in the middle" && caller.streaming) await running.begun;
    await turns(random.below(4));
  }
  const leftAtMs = performance.now();
  running.leave(random.next() < 0.5 ? "stream" : "connection");
  await running.over;
  // A request that was on its way when its caller left may still reach the provider; it must then be closed as well.
  if (moment === "request sent") await settle(replay);
  const request = replay.requests[0];
  if (request === undefined) return { caller: caller.name, closedAfterMs: undefined, cutShort: true };
  const over = await within(request.over, patienceMs);
  return {
    caller: caller.name,
    closedAfterMs: over === undefined ? Number.POSITIVE_INFINITY : Math.max(0, over.atMs - leftAtMs),
    cutShort: over !== undefined && !over.finished,
  };
}

/** Lets the loop turn a few times: a moment that depends on nothing but the order of events. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits until a request that is on its way has either arrived or been given up: all sockets of the exchange are quiet by then. */
async function settle(replay: Replay): Promise<void> {
  for (let turn = 0; turn < 50 && replay.requests.length === 0; turn++) await turns(1);
}

async function within<T>(promise: Promise<T>, limitMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Percentiles of times in milliseconds, for a table. */
export function spread(times: readonly number[]): { p50: number; p99: number; max: number } {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? Number.NaN };
}
