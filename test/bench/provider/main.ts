/**
 * A provider that costs next to nothing: bytes prepared ahead, written to plain sockets. A process of its own, started by `main.ts`.
 *
 * It speaks OpenAI's format at `/v1/chat/completions`, Anthropic's at `/v1/messages` and Gemini's below `/v1beta/models/`, and answers as
 * the model's name says (see `modelName`). It counts what it answered, so that a subject's calls can be compared with what reached the provider.
 */

import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { monotonicClock } from "../clock.ts";
import type { StreamTemplate } from "../payloads.ts";
import {
  anthropicAnswer,
  anthropicStream,
  EVENTS_PER_STREAM,
  geminiAnswer,
  geminiStream,
  openaiAnswer,
  openaiStream,
  PROVIDER_KEY,
  STAMP_DIGITS,
  STAMP_MARK,
  STAMP_NONE,
} from "../payloads.ts";
import { randomFrom } from "../random.ts";

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
  readonly contents: readonly Content[];
  readonly streamTail: Buffer;
}

/** A piece of content, and where in it the digits of its stamp begin. */
interface Content {
  readonly bytes: Buffer;
  readonly stampAt: number;
}

const openai = prepare(openaiAnswer(), openaiStream());
const anthropic = prepare(anthropicAnswer(), anthropicStream());
const gemini = prepare(geminiAnswer(), geminiStream());

function prepare(answer: string, stream: StreamTemplate): Prepared {
  const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
  const head = `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n`;
  const first = stream.first.map(chunk).join("");
  const contents = stream.contents.map(chunk);
  const last = `${stream.last.map(chunk).join("")}0\r\n\r\n`;
  return {
    unary: Buffer.from(
      `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: ${Buffer.byteLength(answer)}\r\n\r\n${answer}`,
    ),
    burst: Buffer.from(head + first + contents.join("") + last),
    streamHead: Buffer.from(head + first),
    contents: contents.map((content) => ({
      bytes: Buffer.from(content),
      stampAt: content.indexOf(STAMP_NONE) + STAMP_MARK.length,
    })),
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

function answer(socket: Socket, head: string, body: Buffer): void {
  counts.requests++;
  if (head.includes(PROVIDER_KEY)) counts.withProviderKey++;
  const asked = readAsked(head, body);
  if (asked === undefined) {
    socket.write("HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    return;
  }
  const { format, streaming, gapMs } = asked;
  if (!streaming) {
    socket.write(format.unary);
    return;
  }
  counts.streams++;
  if (gapMs === undefined) {
    counts.events += EVENTS_PER_STREAM;
    socket.write(format.burst);
    return;
  }
  pace(socket, format, gapMs);
}

/** What a request asks for; without a gap everything comes at once. */
interface AskedHere {
  readonly format: Prepared;
  readonly streaming: boolean;
  readonly gapMs: number | undefined;
}

const STREAMING = Buffer.from('"stream":true');
const PACED = "-bench-paced-";
const PACED_BYTES = Buffer.from(PACED);
// Where model and kind of answer stand in the path. Without `alt=sse` the stream would be an array, which nobody here asks for.
const GEMINI = /^POST \/v1beta\/models\/([^/: ]+):(generateContent|streamGenerateContent\?alt=sse) /;

function readAsked(head: string, body: Buffer): AskedHere | undefined {
  const format = head.startsWith("POST /v1/chat/completions ") ? openai : head.startsWith("POST /v1/messages ") ? anthropic : undefined;
  if (format !== undefined) {
    const streaming = body.includes(STREAMING);
    const at = streaming ? body.indexOf(PACED_BYTES) : -1;
    const gap = at < 0 ? "" : body.toString("latin1", at + PACED.length, at + PACED.length + 6);
    return { format, streaming, gapMs: at < 0 ? undefined : Number.parseInt(gap, 10) };
  }
  const found = GEMINI.exec(head);
  if (found === null) return undefined;
  const [, model = "", method = ""] = found;
  const at = model.indexOf(PACED);
  const gapMs = at < 0 ? undefined : Number.parseInt(model.slice(at + PACED.length), 10);
  return { format: gemini, streaming: method.startsWith("stream"), gapMs };
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
/** Nothing ever wakes who waits for it. */
const never = new Int32Array(new SharedArrayBuffer(4));
let random = randomFrom(1);
let turning = false;
let turnedTo = 0;
let pacedCount = 0;

function pace(socket: Socket, format: Prepared, gapMs: number): void {
  const gapTicks = (gapMs * 1e3) / TICK_US;
  if (!(gapTicks > 0 && gapTicks < WHEEL_TICKS)) throw new Error(`a gap of ${gapMs} ms`);
  socket.write(format.streamHead);
  const tick = Math.floor(nowUs() / TICK_US);
  if (!turning) {
    turning = true;
    // So that every subject's streams speak at the same moments.
    random = randomFrom(1);
    turnedTo = tick;
    setImmediate(turn);
  }
  pacedCount++;
  // Streams that began in one moment would speak in one moment to their end, and who serves them would see ten events and then nothing.
  const dueTick = tick + 1 + Math.floor(random() * gapTicks);
  const stream: Paced = { socket, format, gapTicks, dueTick, written: 0 };
  wheel[stream.dueTick % WHEEL_TICKS]?.push(stream);
}

/**
 * Serves every tick that has passed, and sleeps until the next one: the event loop's own timers know whole milliseconds only. Who asks
 * meanwhile waits a tick at most.
 */
function turn(): void {
  const tick = Math.floor(nowUs() / TICK_US);
  while (turnedTo < tick) {
    const slot = ++turnedTo % WHEEL_TICKS;
    const due = wheel[slot];
    if (due === undefined || due.length === 0) continue;
    wheel[slot] = [];
    for (const stream of due) speak(stream);
  }
  if (pacedCount === 0) {
    turning = false;
    return;
  }
  const waitUs = (turnedTo + 1) * TICK_US - nowUs();
  if (waitUs > 0) Atomics.wait(never, 0, 0, waitUs / 1e3);
  setImmediate(turn);
}

/** Writes one event, stamped with the moment of its writing. */
function speak(stream: Paced): void {
  const { socket, format } = stream;
  const content = format.contents[stream.written];
  if (socket.destroyed || content === undefined) {
    pacedCount--;
    counts.cut++;
    return;
  }
  const bytes = Buffer.from(content.bytes);
  bytes.write(String(Math.round(nowUs())).padStart(STAMP_DIGITS, "0"), content.stampAt, "latin1");
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
