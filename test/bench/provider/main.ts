/**
 * A provider that costs next to nothing: bytes prepared ahead, written to plain sockets. A process of its own, started by `main.ts`.
 *
 * It speaks OpenAI's format at `/v1/chat/completions` and Anthropic's at `/v1/messages`, and answers as the model's name says
 * (see `modelName`). It counts what it answered, so that a subject's calls can be compared with what reached the provider.
 */

import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { Worker } from "node:worker_threads";
import { monotonicClock } from "../clock.ts";
import type { MetronomeSettings } from "../metronome/main.ts";
import type { StreamTemplate } from "../payloads.ts";
import {
  anthropicAnswer,
  anthropicStream,
  EVENTS_PER_STREAM,
  openaiAnswer,
  openaiStream,
  PROVIDER_KEY,
  STAMP_DIGITS,
  STAMP_MARK,
  STAMP_NONE,
} from "../payloads.ts";

/** What the provider counted since it started. */
export interface ProviderCounts {
  requests: number;
  streams: number;
  events: number;
  /** Streams whose socket closed before their end. */
  cut: number;
  /** Requests that showed the key that a sidecar should show, and not the caller's. */
  withProviderKey: number;
  bytesIn: number;
}

const nowUs = monotonicClock();
const counts: ProviderCounts = { requests: 0, streams: 0, events: 0, cut: 0, withProviderKey: 0, bytesIn: 0 };

/** A wire format, prepared. */
interface Prepared {
  readonly unary: Buffer;
  readonly burst: Buffer;
  readonly streamHead: Buffer;
  readonly content: Buffer;
  readonly stampAt: number;
  readonly streamTail: Buffer;
}

const openai = prepare(openaiAnswer(), openaiStream());
const anthropic = prepare(anthropicAnswer(), anthropicStream());

function prepare(answer: string, stream: StreamTemplate): Prepared {
  const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
  const head = `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n`;
  const first = stream.first.map(chunk).join("");
  const content = chunk(stream.content);
  const last = `${stream.last.map(chunk).join("")}0\r\n\r\n`;
  return {
    unary: Buffer.from(
      `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: ${Buffer.byteLength(answer)}\r\n\r\n${answer}`,
    ),
    burst: Buffer.from(head + first + content.repeat(EVENTS_PER_STREAM) + last),
    streamHead: Buffer.from(head + first),
    content: Buffer.from(content),
    stampAt: content.indexOf(STAMP_NONE) + STAMP_MARK.length,
    streamTail: Buffer.from(last),
  };
}

const END_OF_HEAD = Buffer.from("\r\n\r\n");
const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;

/** Reads requests from one socket. Most come whole in one read; the rest are put together. */
function serve(socket: Socket): void {
  let pending: Buffer | undefined;
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    let bytes = pending === undefined ? chunk : Buffer.concat([pending, chunk]);
    pending = undefined;
    while (bytes.length > 0) {
      const headEnd = bytes.indexOf(END_OF_HEAD);
      if (headEnd < 0) break;
      const head = bytes.toString("latin1", 0, headEnd + 2);
      const length = Number(CONTENT_LENGTH.exec(head)?.[1] ?? 0);
      const whole = headEnd + 4 + length;
      if (bytes.length < whole) break;
      answer(socket, head, bytes.subarray(headEnd + 4, whole));
      counts.bytesIn += whole;
      bytes = bytes.subarray(whole);
    }
    if (bytes.length > 0) pending = bytes;
  });
}

const STREAMING = Buffer.from('"stream":true');
const PACED = Buffer.from("-bench-paced-");

function answer(socket: Socket, head: string, body: Buffer): void {
  counts.requests++;
  if (head.includes(PROVIDER_KEY)) counts.withProviderKey++;
  const format = head.startsWith("POST /v1/chat/completions ") ? openai : head.startsWith("POST /v1/messages ") ? anthropic : undefined;
  if (format === undefined) {
    socket.write("HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    return;
  }
  if (!body.includes(STREAMING)) {
    socket.write(format.unary);
    return;
  }
  counts.streams++;
  const pacedAt = body.indexOf(PACED);
  if (pacedAt < 0) {
    counts.events += EVENTS_PER_STREAM;
    socket.write(format.burst);
    return;
  }
  pace(socket, format, Number.parseInt(body.toString("latin1", pacedAt + PACED.length, pacedAt + PACED.length + 6), 10));
}

/** A stream that says something at a steady pace. */
interface Paced {
  readonly socket: Socket;
  readonly format: Prepared;
  readonly gapTicks: number;
  dueTick: number;
  written: number;
}

// 10,000 events a second are one a tick.
const TICK_US = 100;
// Streams by the tick at which each is due next, modulo the wheel's length, 6.5 s; no gap is longer than that. A timer for each stream
// would not do: timers of one length drift into each other, and then all streams speak at once.
const WHEEL_TICKS = 65_536;
const wheel: Paced[][] = Array.from({ length: WHEEL_TICKS }, () => []);
const pending = new Int32Array(new SharedArrayBuffer(4));
let metronome: Worker | undefined;
let turnedTo = 0;
let pacedCount = 0;

function pace(socket: Socket, format: Prepared, gapMs: number): void {
  const gapTicks = (gapMs * 1e3) / TICK_US;
  if (!(gapTicks > 0 && gapTicks < WHEEL_TICKS)) throw new Error(`a gap of ${gapMs} ms`);
  socket.write(format.streamHead);
  const tick = Math.floor(nowUs() / TICK_US);
  if (metronome === undefined) {
    turnedTo = tick;
    const settings: MetronomeSettings = { tickUs: TICK_US, pending };
    metronome = new Worker(new URL("../metronome/main.ts", import.meta.url), { workerData: settings });
    metronome.on("message", turn);
  }
  pacedCount++;
  const stream: Paced = { socket, format, gapTicks, dueTick: tick + gapTicks, written: 0 };
  wheel[stream.dueTick % WHEEL_TICKS]?.push(stream);
}

/** Serves every tick that has passed. */
function turn(): void {
  Atomics.store(pending, 0, 0);
  const tick = Math.floor(nowUs() / TICK_US);
  while (turnedTo < tick) {
    const slot = ++turnedTo % WHEEL_TICKS;
    const due = wheel[slot];
    if (due === undefined || due.length === 0) continue;
    wheel[slot] = [];
    for (const stream of due) speak(stream);
  }
  if (pacedCount > 0) return;
  metronome?.terminate();
  metronome = undefined;
}

/** Writes one event, stamped with the moment of its writing. */
function speak(stream: Paced): void {
  const { socket, format } = stream;
  if (socket.destroyed) {
    pacedCount--;
    counts.cut++;
    return;
  }
  const bytes = Buffer.allocUnsafe(format.content.length);
  format.content.copy(bytes);
  bytes.write(String(Math.round(nowUs())).padStart(STAMP_DIGITS, "0"), format.stampAt, "latin1");
  socket.write(bytes);
  counts.events++;
  if (++stream.written === EVENTS_PER_STREAM) {
    pacedCount--;
    socket.write(format.streamTail);
    return;
  }
  stream.dueTick += stream.gapTicks;
  wheel[stream.dueTick % WHEEL_TICKS]?.push(stream);
}

const server = createServer({ noDelay: true }, serve);
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => process.send?.({ port: (server.address() as AddressInfo).port }));
// The only question that main asks is what was counted.
process.on("message", () => process.send?.(counts));
process.on("disconnect", () => process.exit(0));
