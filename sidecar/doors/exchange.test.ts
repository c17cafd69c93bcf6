/** What an answer over HTTP/1.1 is on the wire, beside what Node alone writes of the same pieces. */
import { createServer, type RequestListener, type Server } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { systemClock } from "../io/clock.ts";
import type { Exchange } from "./exchange.ts";
import { createListener, type Listener } from "./listener.ts";

type Piece = Uint8Array | string;
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** Listens and opens every exchange in this way. */
function opening(open: (exchange: Exchange) => void): Listener {
  const listener = createListener({
    doors: [{ accepts: () => true, open }],
    turnAway: () => {},
    corsOrigins: [],
    house: { clock: systemClock, warn: () => {} },
  });
  cleanups.push(() => listener.close(0));
  return listener;
}

/** Answers every request with the pieces, so many in each turn of the event loop, as fast as they are taken. */
async function ours(pieces: readonly Piece[], inTurn: number): Promise<number> {
  const listener = opening((exchange) => {
    exchange.head(200, headers);
    const rest = [...pieces];
    const write = (): void => {
      for (let i = 0; i < inTurn; i++) {
        const piece = rest.shift();
        if (piece === undefined || exchange.write(piece)) continue;
        exchange.drained(write);
        return;
      }
      if (rest.length === 0) exchange.end();
      else setImmediate(write);
    };
    write();
  });
  return listener.listen("127.0.0.1", 0);
}

/** The same by Node alone. */
async function nodes(pieces: readonly Piece[]): Promise<number> {
  const answer: RequestListener = (_request, response) => {
    response.writeHead(200, headers);
    for (const piece of pieces) response.write(piece);
    response.end();
  };
  const server: Server = createServer({ keepAliveTimeout: 75_000 }, answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

const headers = ["content-type", "text/event-stream", "date", "Sun, 22 Nov 2026 00:00:00 GMT"];

/** Everything that comes back, until the other side closes. */
function exchanged(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const pieces: Buffer[] = [];
    socket.on("data", (piece: Buffer) => pieces.push(piece));
    socket.on("error", reject);
    socket.on("end", () => socket.end());
    socket.on("close", () => resolve(Buffer.concat(pieces).toString("latin1")));
    socket.write(request);
  });
}

const piece = fc.oneof(
  { weight: 4, arbitrary: fc.string({ unit: "binary", minLength: 1, maxLength: 300 }) },
  { weight: 4, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 300 }) },
  // Both sides of the length up to which a chunk is framed by hand, and of the mark from which a caller is waited for.
  { weight: 1, arbitrary: fc.integer({ min: 16_000, max: 17_000 }).map((length) => new Uint8Array(length).fill(0x61)) },
  { weight: 1, arbitrary: fc.integer({ min: 30_000, max: 80_000 }).map((length) => "\u00e9".repeat(length)) },
);
// An answer without a piece has a length, which Node alone cannot know.
const pieces = fc.array(piece, { minLength: 1, maxLength: 12 });

test.each([
  ["one request", "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
  [
    "requests that do not wait for answers",
    `${"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2)}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`,
  ],
  ["a caller that knows no chunks", "GET / HTTP/1.0\r\n\r\n"],
  ["a question for the head alone", "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
])("pieces stand on the wire as Node alone would write them: %s", async (_name, request) => {
  await fc.assert(
    fc.asyncProperty(pieces, fc.integer({ min: 1, max: 3 }), async (all, inTurn) => {
      const [seen, expected] = await Promise.all([ours(all, inTurn), nodes(all)].map(async (port) => exchanged(await port, request)));
      expect(answers(seen ?? "")).toEqual(answers(expected ?? ""));
    }),
    { numRuns: 25 },
  );
});

test("an empty piece is no end", async () => {
  const port = await ours(["a", "", "b", new Uint8Array(0), "c"], 1);
  const [answer] = answers(await exchanged(port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
  expect(answer?.body).toBe("abc");
});

/** The answers of a connection, one after the other, each byte a character. How a body was cut into chunks is nobody's business. */
function answers(text: string): { head: string; body: string }[] {
  const found: { head: string; body: string }[] = [];
  for (let rest = text; rest !== ""; ) {
    const headEnd = rest.indexOf("\r\n\r\n") + 4;
    const head = rest.slice(0, headEnd);
    rest = rest.slice(headEnd);
    let body = "";
    if (head.includes("chunked") && rest !== "") {
      for (let length = -1; length !== 0; ) {
        const [, hex = ""] = /^([0-9a-f]+)\r\n/.exec(rest) ?? [];
        length = Number.parseInt(hex, 16);
        const from = hex.length + 2;
        if (rest.slice(from + length, from + length + 2) !== "\r\n") throw new Error(`a chunk of ${hex} does not end`);
        body += rest.slice(from, from + length);
        rest = rest.slice(from + length + 2);
      }
    } else {
      body = rest;
      rest = "";
    }
    found.push({ head, body });
  }
  return found;
}

test("an answer over HTTP/2 whose head cannot be written is cut off and not waited for", async () => {
  let failed = false;
  const listener = opening((exchange) => {
    exchange.head(200, ["no name", "x"]);
    expect(() => exchange.end("the end")).toThrow("no name");
    failed = true;
  });
  const session = connectHttp2(`http://127.0.0.1:${await listener.listen("127.0.0.1", 0)}`);
  cleanups.push(async () => session.destroy());
  const stream = session.request({ ":path": "/" });
  stream.resume();
  await new Promise((resolve) => stream.on("error", resolve));
  expect(failed).toBe(true);
  expect(listener.openCount).toBe(0);
});

test("an answer over HTTP/2 arrives whole and with its trailers, however it was written and however little room its caller gives", async () => {
  let next: readonly Piece[] = [];
  const listener = opening((exchange) => {
    exchange.head(200, ["content-type", "application/grpc"], true);
    const last = next.at(-1);
    const rest = next.slice(0, -1);
    const write = (): void => {
      for (let piece = rest.shift(); piece !== undefined; piece = rest.shift()) {
        if (exchange.write(piece)) continue;
        exchange.drained(write);
        return;
      }
      exchange.end(last, ["grpc-status", "0"]);
    };
    write();
  });
  const url = `http://127.0.0.1:${await listener.listen("127.0.0.1", 0)}`;
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 3 }), fc.constantFrom(65_535, 1_000, 1), async (all, room) => {
      next = all;
      const expected = Buffer.concat(all.map((each) => Buffer.from(each as Uint8Array)));
      const wanted = room === 1 ? Math.max(1, Math.ceil(expected.length / 50)) : room;
      const session = connectHttp2(url, { settings: { initialWindowSize: wanted } });
      const stream = session.request({ ":path": "/" });
      let trailers: unknown;
      stream.on("trailers", (given: Record<string, unknown>) => {
        trailers = given["grpc-status"];
      });
      const came: Buffer[] = [];
      for await (const bytes of stream) came.push(bytes as Buffer);
      session.close();
      expect(Buffer.concat(came).equals(expected)).toBe(true);
      expect(trailers).toBe("0");
    }),
    { numRuns: 60 },
  );
  expect(listener.openCount).toBe(0);
});

test("a caller that leaves while a whole answer waits for room leaves nothing behind", async () => {
  const reasons: string[] = [];
  const listener = opening((exchange) => {
    exchange.gone((fault) => reasons.push(fault.message));
    exchange.head(200, ["content-type", "application/grpc"], true);
    exchange.end(new Uint8Array(500_000), ["grpc-status", "0"]);
  });
  const session = connectHttp2(`http://127.0.0.1:${await listener.listen("127.0.0.1", 0)}`);
  cleanups.push(async () => session.destroy());
  const stream = session.request({ ":path": "/" });
  stream.on("error", () => {});
  await new Promise((resolve) => stream.once("response", resolve));
  expect(listener.openCount).toBe(1);
  stream.close(constants.NGHTTP2_CANCEL);
  await vi.waitFor(() => expect(listener.openCount).toBe(0));
  expect(reasons).toHaveLength(1);
});
