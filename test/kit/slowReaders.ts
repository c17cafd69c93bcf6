/** Callers that begin to read a large answer and then stop: what they cost the sidecar, and what they cost another caller. */
import { ask, type Caller, callers, faultIn, type Running, start } from "./callers.ts";
import type { Replay, ReplayAnswer } from "./replay.ts";
import type { SidecarProcess } from "./sidecarProcess.ts";
import { openAiBody, openAiStream } from "./wire.ts";

/** What was found. Both figures of memory are taken after everything that can be collected has been. */
export interface SlowReaders {
  readonly callers: number;
  /** Growth of the process while all of them are stopped, in bytes for each. */
  readonly rssEach: number;
  /** The same from before the first flood. */
  readonly rssEachCold: number;
  readonly heldEach: number;
  /** The most that the provider could send to any one of them. */
  readonly sentMaxBytes: number;
  /** Times of another caller's calls, in milliseconds: before, and while all of them are stopped. */
  readonly otherBeforeMs: readonly number[];
  readonly otherDuringMs: readonly number[];
}

const answerBytes = 20 << 20;

/** One event, as long as the long ones that providers send. */
const event = openAiStream({ text: "x".repeat(700) })[1] ?? "";
const [head = "", , finish = "", usage = "", done = ""] = openAiStream({ text: "x" });

/** A streamed answer of 20 MiB, in writes of about 64 KiB. */
function* largeAnswer(): Generator<string> {
  yield head;
  const piece = event.repeat(Math.ceil(65_536 / event.length));
  for (let sent = 0; sent < answerBytes; sent += piece.length) yield piece;
  yield finish + usage + done;
}

/** Brings `count` callers, has them stop reading, and looks; `otherCalls` calls of another caller are timed before and during. */
export async function measureSlowReaders(sidecar: SidecarProcess, replay: Replay, count: number, otherCalls: number): Promise<SlowReaders> {
  // The Responses format repeats the whole answer in its last event, so what was said is kept for as long as it streams.
  const streaming = callers.filter(({ streaming, name }) => streaming && !name.startsWith("responses"));
  const other = callers.find(({ name }) => name === "openai unary");
  if (other === undefined) throw new Error("there is no other caller");
  replay.answerWith(({ body }): ReplayAnswer => {
    const stream = JSON.parse(body.toString()).stream === true;
    return stream
      ? { pieces: largeAnswer(), headers: { "content-type": "text/event-stream" } }
      : { pieces: [openAiBody({ text: "quick" })], headers: { "content-type": "application/json" } };
  });

  // The first calls pay for compiling, and the first flood for the room that the allocator keeps from then on: what one that has run
  // for a while holds more while callers are stopped is what they cost.
  await timeCalls(other, sidecar.port, Math.max(50, otherCalls / 2));
  const cold = await sidecar.memory();
  await leaveAll(await stopAll(streaming, sidecar, replay, count));
  const otherBeforeMs = await timeCalls(other, sidecar.port, otherCalls);
  const before = await sidecar.memory();

  const stopped = await stopAll(streaming, sidecar, replay, count);
  const during = await sidecar.memory();
  const sentMaxBytes = Math.max(...replay.requests.map(({ progress }) => progress.bytes));
  const otherDuringMs = await timeCalls(other, sidecar.port, otherCalls);

  await leaveAll(stopped);
  return {
    callers: count,
    rssEach: (during.rss - before.rss) / count,
    rssEachCold: (during.rss - cold.rss) / count,
    heldEach: (during.held - before.held) / count,
    sentMaxBytes,
    otherBeforeMs,
    otherDuringMs,
  };
}

/** Brings `count` callers that begin to read and stop, and waits until nothing flows any more. */
async function stopAll(streaming: readonly Caller[], sidecar: SidecarProcess, replay: Replay, count: number): Promise<Running[]> {
  replay.forget();
  const stopped: Running[] = [];
  for (let at = 0; at < count; at++) {
    const caller = streaming[at % streaming.length];
    if (caller === undefined) throw new Error("nobody streams");
    const running = start(caller, sidecar.port, "open");
    stopped.push(running);
    await running.begun;
    running.stopReading();
  }
  await untilStill(() => replay.requests.reduce((sum, { progress }) => sum + progress.bytes, 0), sidecar);
  return stopped;
}

/** The callers are gone, and so are their calls at the provider. */
async function leaveAll(stopped: readonly Running[]): Promise<void> {
  for (const running of stopped) running.leave("connection");
  await Promise.all(stopped.map(({ over }) => over));
}

/** Waits until a count no longer changes, with the sidecar's own answers as the clock. */
async function untilStill(count: () => number, sidecar: SidecarProcess): Promise<void> {
  let last = -1;
  for (let still = 0; still < 5; ) {
    await sidecar.memory();
    const now = count();
    still = now === last ? still + 1 : 0;
    last = now;
  }
}

async function timeCalls(caller: Caller, port: number, times: number): Promise<number[]> {
  const took: number[] = [];
  for (let time = 0; time < times; time++) {
    const startedAtMs = performance.now();
    const answer = await ask(caller, port, "open");
    took.push(performance.now() - startedAtMs);
    if (answer.status !== 200 || faultIn(caller, answer) !== undefined) throw new Error(`a call failed: ${answer.status} ${answer.body}`);
  }
  return took;
}
