import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { Fault } from "../../proto/fault.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { answer2, RawConnection, readAnswer, request1, request2, session2, settled, until } from "../../test/kit/sockets.ts";
import type { Clock } from "../call.ts";
import { systemClock } from "../io/clock.ts";
import type { Door, Exchange } from "./exchange.ts";
import { usualPatience } from "./keeper.ts";
import { createListener, type Limits, type Listener, usualLimits } from "./listener.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const cleanups: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Answers with what it was asked, and remembers every exchange. */
class EchoDoor implements Door {
  readonly exchanges: Exchange[] = [];
  bytesMax = 1000;

  accepts(exchange: Exchange): boolean {
    return exchange.path !== "/nowhere";
  }

  open(exchange: Exchange): void {
    this.exchanges.push(exchange);
    if (exchange.path === "/hold") return;
    if (exchange.path === "/throws") throw new Error("a door that fails");
    exchange.body(this.bytesMax, (fault, body) => {
      const text = fault === undefined ? Buffer.from(body).toString() : fault.kind.name;
      exchange.head(fault?.httpStatus ?? 200, ["content-type", "text/plain"]);
      exchange.end(`${exchange.protocol} ${exchange.method} ${exchange.path} [${exchange.query}] ${text}`);
    });
  }
}

interface Running {
  readonly listener: Listener;
  readonly port: number;
  readonly door: EchoDoor;
  readonly warnings: string[];
}

async function running(
  changes: { limits?: Partial<Limits>; clock?: Clock; patience?: Partial<typeof usualPatience>; corsOrigins?: string[] } = {},
): Promise<Running> {
  const door = new EchoDoor();
  const warnings: string[] = [];
  const listener = createListener({
    doors: [door],
    turnAway(exchange, fault) {
      exchange.head(fault.httpStatus, ["x-outrigger-reason", fault.kind.name]);
      exchange.end(fault.message);
    },
    corsOrigins: changes.corsOrigins ?? [],
    house: { clock: changes.clock ?? systemClock, warn: (message) => warnings.push(message) },
    limits: { ...usualLimits, ...changes.limits },
    patience: { ...usualPatience, ...changes.patience },
  });
  cleanups.push(async () => {
    let closed = false;
    listener.close(0).then(() => {
      closed = true;
    });
    await until(() => {
      if (changes.clock instanceof ManualClock) changes.clock.advance(1000);
      return closed;
    });
  });
  return { listener, port: await listener.listen("127.0.0.1", 0), door, warnings };
}

function opened(where: number | string): RawConnection {
  const connection = new RawConnection(where);
  cleanups.push(() => connection.destroy());
  return connection;
}

function openedSession(where: number | string): ClientHttp2Session {
  const session = session2(where);
  cleanups.push(() => session.destroy());
  return session;
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The bytes with up to five of them changed. */
function changed(bytes: Buffer): fc.Arbitrary<Buffer> {
  return fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 }).map((changes) => {
    const copy = Buffer.from(bytes);
    for (const [at, value] of changes) copy[at] = value;
    return copy;
  });
}

const post = "POST /echo?q=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";

describe("one port", () => {
  test("answers HTTP/1.1 and HTTP/2", async () => {
    const { port } = await running();
    expect((await request1(port, "POST", "/echo?q=1", {}, "hi")).body).toBe("http1 POST /echo [q=1] hi");
    expect((await request2(port, "POST", "/echo?q=1", {}, "hi")).body).toBe("http2 POST /echo [q=1] hi");
  });

  test.each(Array.from({ length: preface.length - 1 }, (_, index) => index + 1))(
    "knows HTTP/2 when its preface is cut after byte %i",
    async (at) => {
      const { port } = await running();
      const connection = opened(port);
      await connection.sent(preface.subarray(0, at));
      // The second half follows only once the first was looked at, or the kernel would join them.
      await settled(() => 0, 20);
      await connection.sent(Buffer.concat([preface.subarray(at), emptySettings]));
      // The first frame of the answer is a SETTINGS frame: type 4 at the fourth byte.
      await connection.until("\x04\x00\x00\x00\x00\x00");
      expect(connection.received.charCodeAt(3)).toBe(4);
    },
  );

  test.each(Array.from({ length: 30 }, (_, index) => index + 1))(
    "knows HTTP/1.1 when its first bytes are cut after byte %i",
    async (at) => {
      const { port } = await running();
      const connection = opened(port);
      await connection.sent(post.slice(0, at));
      await settled(() => 0, 20);
      await connection.sent(post.slice(at));
      await connection.until("http1 POST /echo [q=1] hi");
    },
  );

  test("refuses what begins like HTTP/2 and is not", async () => {
    const { port } = await running();
    const connection = opened(port);
    connection.send("PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n");
    expect(readAnswer(await connection.end())?.status).toBe(400);
  });

  test("serves the same doors on a Unix socket, and replaces what a dead process left", async () => {
    const folder = mkdtempSync(join(tmpdir(), "outrigger-"));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "s");
    const { listener } = await running();
    // A socket that was never closed leaves its file behind; a listening one whose handle is dropped by force does just that.
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${path}.dead`, resolve));
    const { renameSync } = await import("node:fs");
    renameSync(`${path}.dead`, path);
    await new Promise((resolve) => dead.close(resolve));
    expect(existsSync(path)).toBe(true);

    await listener.listenUnix(path);
    expect((await request1(path, "POST", "/echo", {}, "hi")).body).toBe("http1 POST /echo [] hi");
    expect((await request2(path, "POST", "/echo", {}, "hi")).body).toBe("http2 POST /echo [] hi");

    const { listener: other } = await running();
    await expect(other.listenUnix(path)).rejects.toThrow("EADDRINUSE");
    expect((await request1(path, "GET", "/echo")).status).toBe(200);
  });

  // A file or link whose path was given as that of the socket was deleted.
  test("leaves a file at the path of its Unix socket as it is, and says so", async () => {
    const folder = mkdtempSync(join(tmpdir(), "outrigger-"));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const { listener } = await running();
    const path = join(folder, "notes.txt");
    writeFileSync(path, "precious");
    await expect(listener.listenUnix(path)).rejects.toMatchObject({ code: "ENOTSOCK", address: path });
    expect(readFileSync(path, "utf8")).toBe("precious");
    await expect(listener.listenUnix(folder)).rejects.toMatchObject({ code: "ENOTSOCK", address: folder });
  });

  test("answers requests that were sent without waiting, in their order, and keeps the connection", async () => {
    const { port, door } = await running();
    const connection = opened(port);
    connection.send(`GET /hold HTTP/1.1\r\nHost: x\r\n\r\n${post}${post}`);
    await until(() => door.exchanges.length === 3);
    expect(await settled(() => connection.received.length)).toBe(0);
    door.exchanges[0]?.head(200, []);
    door.exchanges[0]?.end("first");
    const received = await connection.until("[q=1] hi");
    expect(received.indexOf("first")).toBeLessThan(received.indexOf("[q=1] hi"));
    connection.send(post);
    await until(() => connection.received.split("[q=1] hi").length === 4);
  });

  test("takes the address form that proxies are sent, and strips it", async () => {
    const { port } = await running();
    expect((await request1(port, "GET", "http://else.example/echo?a=b")).body).toBe("http1 GET /echo [a=b] ");
  });

  test("turns away what no door takes, and survives a door that fails", async () => {
    const { port, warnings } = await running();
    const answer = await request1(port, "GET", "/nowhere");
    expect(answer.status).toBe(404);
    expect(answer.headers["x-outrigger-reason"]).toBe("PATH_NOT_FOUND");
    const connection = opened(port);
    connection.send("GET /throws HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await connection.end()).toBe("");
    await expect(request2(port, "GET", "/throws")).rejects.toThrow();
    expect(warnings).toHaveLength(2);
    expect((await request1(port, "GET", "/echo")).status).toBe(200);
  });
});

describe("HTTP/1.1 is read strictly", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["length and chunks", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a header line that goes on", "GET /echo HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n"],
    ["line feeds alone", "GET /echo HTTP/1.1\nHost: x\n\n"],
    ["one line feed alone", "GET /echo HTTP/1.1\r\nHost: x\r\nA: b\n\r\n"],
    ["two lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    ["the same length twice", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"],
    ["a list of lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na"],
    ["a signed length", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"],
    ["a blank before the colon", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\na"],
    ["chunked not last", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"],
    ["chunked twice", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["chunked behind a tab", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"],
    ["chunked in HTTP/1.0", "POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a broken chunk extension", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\nb\r\na\r\n0\r\n\r\n"],
    ["a negative chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n"],
    ["a chunk length in C", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"],
    ["chunks with line feeds", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n"],
    ["a length in trailers", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n"],
    ["no host", "GET /echo HTTP/1.1\r\n\r\n"],
    ["two hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
    ["a zero byte", "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"],
    ["a carriage return alone", "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"],
    ["a blank in a header name", "GET /echo HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n"],
    ["a blank before the first header", "GET /echo HTTP/1.1\r\n Host: a\r\n\r\n"],
    ["a blank in the path", "GET /ec ho HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["bytes beyond ASCII in the path", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a version that is not", "GET /echo HTTP/1.2\r\nHost: a\r\n\r\n"],
    ["a method that is not", "FETCH /echo HTTP/1.1\r\nHost: a\r\n\r\n"],
  ];

  test.each(cases)("%s: 400, and the connection is closed", async (_name, bytes) => {
    const { port, door } = await running();
    const connection = opened(port);
    // What follows must never be taken for a request of its own.
    connection.send(`${bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
    const received = await connection.end();
    const answer = readAnswer(received);
    expect(answer?.status).toBe(400);
    expect(answer?.headers.connection).toBe("close");
    expect(JSON.parse(answer?.body ?? "")).toMatchObject({ error: { type: "invalid_request_error" } });
    expect(received.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
    expect(door.exchanges.filter(({ path }) => path === "/smuggled")).toHaveLength(0);
  });

  test.each(["gzip, chunked", "identity", "xchunked"])("the coding %s: 501, and the connection is closed", async (coding) => {
    const { port, door } = await running();
    const connection = opened(port);
    connection.send(`POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ${coding}\r\n\r\n0\r\n\r\n${post}`);
    const received = await connection.end();
    expect(readAnswer(received)?.status).toBe(501);
    expect(received.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
    expect(door.exchanges).toHaveLength(0);
  });

  test("nonsense behind a request that is still being answered cuts the answer, and is never written into it", async () => {
    const { port, door } = await running();
    const connection = opened(port);
    connection.send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => door.exchanges.length === 1);
    door.exchanges[0]?.head(200, []);
    door.exchanges[0]?.write("begun");
    await connection.until("begun");
    connection.send("nonsense\r\n\r\n");
    expect(await connection.end()).not.toContain("nonsense");
    expect(connection.received.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
  });

  test("CONNECT: 405, and the connection is closed", async () => {
    const { port } = await running();
    const connection = opened(port);
    connection.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    expect(readAnswer(await connection.end())?.status).toBe(405);
  });
});

describe("two readers that disagree about where a request ends", () => {
  const codings = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: CHUNKED",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding : chunked",
    " Transfer-Encoding: chunked",
    "X: y\n Transfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer_Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Transfer-Encoding\x00: chunked",
    "TE: chunked",
  ];
  const lengths = (length: number) => [
    `Content-Length: ${length}`,
    `Content-Length : ${length}`,
    `Content-Length: ${length}\r\nContent-Length: 0`,
    `Content-Length: 0\r\nContent-Length: ${length}`,
    `Content-Length: ${length}, 0`,
    `Content-Length: +${length}`,
    `Content-Length: 0x${length.toString(16)}`,
    `Content-Length: ${length}\x00`,
    `Content-Length:\r\n ${length}`,
    ` Content-Length: ${length}`,
    `content-length:${length}`,
    `Content-Length: 1${"0".repeat(25)}`,
  ];
  const hidden = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

  test.each(codings)("the length beside '%s' never lets a second request through", async (coding) => {
    const { port, door } = await running();
    for (const length of lengths(hidden.length)) {
      for (const lines of [`${coding}\r\n${length}`, `${length}\r\n${coding}`]) {
        const connection = opened(port);
        await connection.sent(`POST /echo HTTP/1.1\r\nHost: x\r\n${lines}\r\n\r\n${hidden}`);
        connection.socket.end();
        await connection.end();
      }
    }
    expect(door.exchanges.filter(({ path }) => path !== "/echo")).toEqual([]);
  });
});

describe("whatever comes", () => {
  const good = Buffer.concat([Buffer.from(post), Buffer.from(post)]);
  const goodFrames = Buffer.concat([
    preface,
    emptySettings,
    frame(1, 4, 1, Buffer.concat([Buffer.from([0x83, 0x86, 0x04, 5]), Buffer.from("/echo"), Buffer.from([0x01, 1]), Buffer.from("x")])),
    frame(0, 1, 1, Buffer.from("hi")),
  ]);

  test.each([
    ["noise", fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))],
    [
      "noise behind the preface of HTTP/2",
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([preface, emptySettings, bytes])),
    ],
    ["requests with a few bytes changed", changed(good)],
    ["frames with a few bytes changed", changed(goodFrames)],
  ])("%s leaves the next caller well served", async (_name, arbitrary) => {
    const { port, listener } = await running();
    await fc.assert(
      fc.asyncProperty(arbitrary, async (bytes) => {
        const connection = opened(port);
        await connection.sent(bytes);
        connection.socket.end();
        await connection.end();
      }),
      { numRuns: 150 },
    );
    expect((await request1(port, "POST", "/echo", {}, "hi")).status).toBe(200);
    expect((await request2(port, "POST", "/echo", {}, "hi")).status).toBe(200);
    await until(() => listener.openCount === 0);
  });
});

describe("limits of HTTP/1.1", () => {
  test("a head that is too large: 431", async () => {
    const { port } = await running();
    const connection = opened(port);
    connection.send(`GET /echo HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(usualLimits.headBytesMax)}\r\n\r\n`);
    expect(readAnswer(await connection.end())?.status).toBe(431);
  });

  test("a hundred headers pass, one more: 431, and none is left out silently", async () => {
    const { port, door } = await running();
    const headers = (count: number) => Array.from({ length: count }, (_, index) => `X-${index}: ${index}\r\n`).join("");
    const good = opened(port);
    good.send(`GET /echo HTTP/1.1\r\nHost: a\r\n${headers(99)}\r\n`);
    await good.until("http1 GET /echo");
    expect(door.exchanges[0]?.header("x-98")).toBe("98");
    const bad = opened(port);
    bad.send(`GET /echo HTTP/1.1\r\nHost: a\r\n${headers(100)}\r\n`);
    expect(readAnswer(await bad.end())?.status).toBe(431);
    expect(door.exchanges).toHaveLength(1);
  });

  test("a head that does not come: 408", async () => {
    const { port } = await running({ limits: { headersMs: 100, headersSweepMs: 20 } });
    const connection = opened(port);
    connection.send("GET /echo HTTP/1.1\r\nHost: a\r\n");
    expect(readAnswer(await connection.end())?.status).toBe(408);
  });

  test("a second head that does not come on a kept connection: 408", async () => {
    const { port } = await running({ limits: { headersMs: 100, headersSweepMs: 20 } });
    const connection = opened(port);
    connection.send(post);
    await connection.until("[q=1] hi");
    connection.received = "";
    connection.send("GET /echo HTTP/1.1\r\n");
    expect(readAnswer(await connection.end())?.status).toBe(408);
  });

  test("a connection that says nothing is closed", async () => {
    const clock = new ManualClock();
    const { port } = await running({ clock });
    const connection = opened(port);
    await until(() => clock.waiting > 0);
    clock.advance(usualLimits.prefaceMs - 1);
    expect(connection.closed).toBe(false);
    clock.advance(1);
    expect(await connection.end()).toBe("");
  });

  test("an idle connection is closed after its time", async () => {
    const { port } = await running({ limits: { keepAliveMs: 50 } });
    const connection = opened(port);
    connection.send(post);
    await connection.until("[q=1] hi");
    await connection.end();
  });

  test("more connections than allowed are dropped, and those that are there still served", async () => {
    const { port } = await running({ limits: { connectionsMax: 2 } });
    const first = opened(port);
    const second = opened(port);
    first.send(post);
    second.send(post);
    await first.until("hi");
    await second.until("hi");
    const third = opened(port);
    expect(await third.end()).toBe("");
    first.received = "";
    first.send(post);
    await first.until("hi");
  });

  test("a caller that asks before it sends a body is told to go on, or refused at once", async () => {
    const { port } = await running();
    const good = opened(port);
    good.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    await good.until("100 Continue\r\n\r\n");
    good.send("hi");
    await good.until("http1 POST /echo [] hi");
    const large = opened(port);
    large.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n");
    await large.until("REQUEST_TOO_LARGE");
    expect(large.received).not.toContain("100 Continue");
    expect(readAnswer(await large.end())?.headers.connection).toBe("close");
  });
});

describe("bodies, over both", () => {
  const both = [
    ["HTTP/1.1", request1],
    ["HTTP/2", request2],
  ] as const;

  test.each(both)("%s: a body of the largest size passes, one byte more does not", async (_name, request) => {
    const { port } = await running();
    expect((await request(port, "POST", "/echo", {}, "a".repeat(1000))).status).toBe(200);
    const answer = await request(port, "POST", "/echo", {}, "a".repeat(1001));
    expect(answer.status).toBe(413);
    expect(answer.body).toContain("REQUEST_TOO_LARGE");
  });

  test("a body without a declared length is counted", async () => {
    const { port } = await running();
    const connection = opened(port);
    connection.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(`3e8\r\n${"a".repeat(1000)}\r\n`);
    connection.send("1\r\na\r\n");
    expect((await connection.until("REQUEST_TOO_LARGE")).startsWith("HTTP/1.1 413")).toBe(true);
    // The rest is read and thrown away, so that the connection can be used again.
    connection.received = "";
    connection.send(`0\r\n\r\n${post}`);
    await connection.until("[q=1] hi");
  });

  test("a connection that is refused again and again gathers nothing", async () => {
    const { port, listener, door } = await running();
    const connection = opened(port);
    // Node warns of listeners that gather.
    const warnings: Error[] = [];
    const hear = (warning: Error) => warnings.push(warning);
    process.on("warning", hear);
    cleanups.push(() => void process.off("warning", hear));
    for (let round = 1; round <= 30; round += 1) {
      connection.received = "";
      connection.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\na");
      await connection.until("REQUEST_TOO_LARGE");
      expect(listener.openCount).toBe(1);
      connection.send("a".repeat(1999));
      await until(() => listener.openCount === 0);
    }
    expect(door.exchanges).toHaveLength(30);
    expect(warnings).toEqual([]);
  });

  test("what follows a refusal is thrown away only for a while", async () => {
    const clock = new ManualClock();
    const { port } = await running({ clock });
    const connection = opened(port);
    connection.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\naaa");
    await connection.until("REQUEST_TOO_LARGE");
    clock.advance(2 * usualPatience.sweepMs);
    expect(connection.closed).toBe(false);
    clock.advance(usualPatience.lingerMs + usualPatience.sweepMs);
    await connection.end();
  });

  test("a body that comes too slowly is refused, one that keeps the pace is not", async () => {
    const clock = new ManualClock();
    const { port, door } = await running({ clock });
    door.bytesMax = 1_000_000;
    const slow = opened(port);
    const steady = opened(port);
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    steady.send("POST /steady HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    await until(() => door.exchanges.length === 2);
    await steady.sent("a".repeat(50_000));
    await settled(() => 0);
    clock.advance(usualPatience.bodyGraceMs + 2 * usualPatience.sweepMs);
    await slow.until("CALLER_STALLED");
    expect(slow.received.startsWith("HTTP/1.1 408")).toBe(true);
    steady.send("a".repeat(50_000));
    await steady.until("/steady [] aaaa");
  });

  test("bodies beyond what the process may hold are refused, and the room is given back", async () => {
    const { port, door } = await running({ patience: { bodyBytesHeldMax: 1_000 } });
    door.bytesMax = 10_000;
    const holder = opened(port);
    holder.send(`POST /holder HTTP/1.1\r\nHost: a\r\nContent-Length: 901\r\n\r\n${"a".repeat(900)}`);
    await until(() => door.exchanges.length === 1);
    await settled(() => 0);
    expect((await request2(port, "POST", "/echo", {}, "a".repeat(101))).body).toContain("OVERLOADED");
    holder.send("a");
    await holder.until("/holder [] aaa");
    expect((await request2(port, "POST", "/echo", {}, "a".repeat(1000))).status).toBe(200);
  });

  test("a caller that leaves in the middle of its body leaves nothing behind", async () => {
    const { port, door, listener } = await running();
    const connection = opened(port);
    connection.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    const session = openedSession(port);
    const stream = session.request({ ":method": "POST", ":path": "/echo" });
    stream.on("error", () => {});
    stream.write("abc");
    await until(() => door.exchanges.length === 2);
    connection.destroy();
    session.destroy();
    await until(() => listener.openCount === 0);
  });
});

describe("limits of HTTP/2", () => {
  test("says its limits in its settings", async () => {
    const { port } = await running();
    const session = openedSession(port);
    const settings = await new Promise<{ maxConcurrentStreams?: number; maxHeaderListSize?: number }>((resolve) =>
      session.once("remoteSettings", resolve),
    );
    expect(settings.maxConcurrentStreams).toBe(100);
    expect(settings.maxHeaderListSize).toBe(16 * 1024);
  });

  test("a stream beyond the limit is refused, the others go on", async () => {
    const { port, door } = await running({ limits: { streamsMax: 3 } });
    // Raw, since Node's client keeps to the limit: four HEADERS frames at once, `:method GET`, `:scheme http`, `:path /hold`.
    const block = Buffer.concat([Buffer.from([0x82, 0x86, 0x04, 5]), Buffer.from("/hold"), Buffer.from([0x01, 1]), Buffer.from("x")]);
    const connection = opened(port);
    connection.send(Buffer.concat([preface, emptySettings]));
    // Settings that were not acknowledged do not bind a client yet (RFC 9113 section 6.5.3), so this one means no harm.
    for (const stream of [1, 3, 5, 7]) connection.send(frame(1, 5, stream, block));
    // RST_STREAM of stream 7 with REFUSED_STREAM.
    await connection.until("\x00\x00\x04\x03\x00\x00\x00\x00\x07\x00\x00\x00\x07");
    expect(door.exchanges).toHaveLength(3);
    expect(door.exchanges.every(({ writable }) => writable)).toBe(true);
  });

  test("streams that are opened only to be reset end the connection", async () => {
    const { port, listener } = await running({ limits: { resetsBurst: 20, resetsPerSecond: 1 } });
    const block = Buffer.concat([Buffer.from([0x82, 0x86, 0x04, 5]), Buffer.from("/hold"), Buffer.from([0x01, 1]), Buffer.from("x")]);
    const connection = opened(port);
    const pieces: Buffer[] = [preface, emptySettings];
    for (let stream = 1; stream < 100; stream += 2) {
      pieces.push(frame(1, 5, stream, block), frame(3, 0, stream, Buffer.from([0, 0, 0, 8])));
    }
    connection.send(Buffer.concat(pieces));
    await connection.end();
    await until(() => listener.openCount === 0);
    expect((await request2(port, "GET", "/echo")).status).toBe(200);
  });

  test("too many headers, or too large ones, end the stream and not the connection", async () => {
    const { port, door } = await running();
    const session = openedSession(port);
    const many = Object.fromEntries(Array.from({ length: 110 }, (_, index) => [`x-${index}`, "a"]));
    await expect(answer2(session.request({ ":path": "/echo", ...many }))).rejects.toThrow();
    const large = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`x-${index}`, "a".repeat(2000)]));
    await expect(answer2(session.request({ ":path": "/echo", ...large }))).rejects.toThrow();
    expect(door.exchanges).toHaveLength(0);
    expect((await answer2(session.request({ ":path": "/echo" }))).status).toBe(200);
  });

  test("a preface without settings is closed after its time", async () => {
    const clock = new ManualClock();
    const { port } = await running({ clock });
    const connection = opened(port);
    connection.send(preface);
    await connection.until("\x04\x00\x00\x00\x00\x00");
    clock.advance(usualLimits.prefaceMs);
    await connection.end();
  });

  test("a client with its settings said stays", async () => {
    const clock = new ManualClock();
    const { port } = await running({ clock });
    const session = openedSession(port);
    await answer2(session.request({ ":path": "/echo" }));
    clock.advance(10 * usualLimits.prefaceMs);
    expect((await answer2(session.request({ ":path": "/echo" }))).status).toBe(200);
  });

  test.each([
    ["a frame that is too large", frame(0, 0, 1, Buffer.alloc(20_000))],
    ["data on no stream", frame(0, 0, 0, Buffer.from("a"))],
    ["settings of a wrong size", frame(4, 0, 0, Buffer.alloc(5))],
    ["a continuation of nothing", frame(9, 4, 1, Buffer.alloc(4))],
    ["headers that cannot be decoded", frame(1, 5, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))],
    ["a window of zero more", frame(8, 0, 0, Buffer.alloc(4))],
    ["a window that overflows", frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
  ])("%s ends the connection, though it goes on talking", async (_name, bytes) => {
    const clock = new ManualClock();
    const { port } = await running({ clock });
    const connection = opened(port);
    connection.send(Buffer.concat([preface, emptySettings, bytes]));
    // GOAWAY is type 7; whoever does not leave then is cut off.
    await connection.until("\x07\x00\x00\x00\x00\x00");
    for (let more = 0; more < 50; more += 1) connection.send(frame(8, 0, 0, Buffer.from([0, 0, 0, 1])));
    await settled(() => 0);
    clock.advance(usualLimits.prefaceMs);
    await connection.end();
    expect((await request2(port, "GET", "/echo")).status).toBe(200);
  });

  test("endless continuations end the connection", async () => {
    const { port } = await running();
    const connection = opened(port);
    connection.send(Buffer.concat([preface, emptySettings, frame(1, 1, 1, Buffer.from([0x82, 0x86, 0x84]))]));
    for (let more = 0; more < 100; more += 1) {
      // A header literal without indexing, `a: ` and 4,000 letters.
      const literal = Buffer.concat([Buffer.from([0x00, 1]), Buffer.from("a"), Buffer.from([0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, "b")]);
      connection.send(frame(9, 0, 1, literal));
    }
    await connection.end();
    expect((await request2(port, "GET", "/echo")).status).toBe(200);
  });

  test("a caller that asks before it sends a body is told to go on", async () => {
    const { port } = await running();
    const session = openedSession(port);
    const stream = session.request({ ":method": "POST", ":path": "/echo", expect: "100-continue" });
    const answered = answer2(stream);
    await new Promise((resolve) => stream.once("continue", resolve));
    stream.end("hi");
    expect((await answered).body).toBe("http2 POST /echo [] hi");
  });
});

describe("a caller that does not read", () => {
  async function stalledAnswer(write: (exchange: Exchange) => void) {
    const clock = new ManualClock();
    const { port, door, listener } = await running({ clock });
    const connection = opened(port);
    connection.socket.pause();
    connection.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => door.exchanges.length === 1);
    const exchange = door.exchanges[0];
    if (exchange === undefined) throw new Error("there is an exchange");
    const faults: Fault[] = [];
    exchange.gone((fault) => faults.push(fault));
    exchange.head(200, []);
    write(exchange);
    await settled(() => exchange.bufferedBytes);
    expect(exchange.bufferedBytes).toBeGreaterThan(0);
    return { clock, connection, exchange, faults, listener };
  }

  const more = Buffer.alloc(32 * 1024 * 1024);

  test("is cut off after its time, in the middle", async () => {
    const { clock, connection, faults, listener } = await stalledAnswer((exchange) => expect(exchange.write(more)).toBe(false));
    clock.advance(usualPatience.writeStallMs);
    expect(faults).toHaveLength(0);
    clock.advance(2 * usualPatience.sweepMs);
    expect(faults.map(({ kind }) => kind.name)).toEqual(["CALLER_STALLED"]);
    await until(() => listener.openCount === 0);
    connection.socket.resume();
    await connection.end();
    expect(connection.received.endsWith("0\r\n\r\n")).toBe(false);
  });

  test("is cut off after its time, at the end", async () => {
    const { clock, connection, listener } = await stalledAnswer((exchange) => exchange.end(more));
    clock.advance(usualPatience.writeStallMs + 2 * usualPatience.sweepMs);
    await until(() => listener.openCount === 0);
    connection.socket.resume();
    await connection.end();
  });

  test("is told apart by HTTP/2 from its neighbours on the same connection", async () => {
    const clock = new ManualClock();
    const { port, door } = await running({ clock });
    const session = openedSession(port);
    const stalled = session.request({ ":path": "/hold" });
    stalled.on("error", () => {});
    stalled.pause();
    const moving = session.request({ ":path": "/hold" });
    const answered = answer2(moving);
    await until(() => door.exchanges.length === 2);
    const [first, second] = door.exchanges;
    if (first === undefined || second === undefined) throw new Error("there are two exchanges");
    const faults: Fault[] = [];
    first.gone((fault) => faults.push(fault));
    first.head(200, []);
    first.write(Buffer.alloc(1024 * 1024));
    second.head(200, []);
    await settled(() => first.bufferedBytes);
    for (let second_ = 0; second_ < 40; second_ += 1) {
      expect(second.write("tick ")).toBe(true);
      await settled(() => second.bufferedBytes, 5);
      clock.advance(1000);
    }
    expect(faults.map(({ kind }) => kind.name)).toEqual(["CALLER_STALLED"]);
    second.end("end");
    expect((await answered).body.endsWith("tick end")).toBe(true);
  });
});

test("hundreds of slow callers of every kind are cut off, and nobody else is slowed or refused", async () => {
  const clock = new ManualClock();
  const { port, door, listener } = await running({ clock, limits: { headersMs: 300, headersSweepMs: 50 } });
  door.bytesMax = 1_000_000;
  const each = 100;
  const slow: RawConnection[] = [];
  const many = (bytes: string | Buffer) => {
    for (let index = 0; index < each; index += 1) {
      const connection = opened(port);
      if (bytes.length > 0) connection.send(bytes);
      slow.push(connection);
    }
  };
  many(""); // says nothing
  many("PRI * HTTP/2.0\r\n"); // half a preface
  many("POST /echo HTTP/1.1\r\nHost: x\r\nX: "); // half a head
  many("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\na"); // half a body
  many(Buffer.concat([preface, emptySettings.subarray(0, 5)])); // half of its settings
  await until(() => door.exchanges.length === each);
  for (let step = 0; step < 60; step += 1) {
    expect((await request1(port, "POST", "/echo", {}, "hi")).status).toBe(200);
    expect((await request2(port, "POST", "/echo", {}, "hi")).status).toBe(200);
    clock.advance(1000);
  }
  await Promise.all(slow.slice(3 * each, 4 * each).map((connection) => connection.until("CALLER_STALLED")));
  await Promise.all(slow.map((connection) => connection.end()));
  await until(() => listener.openCount === 0);
});

describe("closing", () => {
  test("idle connections go at once", async () => {
    const { port, listener } = await running();
    const connection = opened(port);
    connection.send(post);
    await connection.until("hi");
    const session = openedSession(port);
    await answer2(session.request({ ":path": "/echo" }));
    const unspoken = opened(port);
    await until(() => !unspoken.socket.connecting);
    await listener.close(60_000);
    await connection.end();
    await unspoken.end();
    await until(() => session.destroyed);
  });

  test("running answers end in peace; their connections say that they close; nothing new begins", async () => {
    const { port, listener, door } = await running();
    const connection = opened(port);
    connection.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    const session = openedSession(port);
    const stream = session.request({ ":path": "/hold" });
    const answered = answer2(stream);
    let goneAway = false;
    session.on("goaway", () => {
      goneAway = true;
    });
    await until(() => door.exchanges.length === 2);
    const closed = listener.close(60_000);
    await until(() => goneAway);
    await expect(request1(port, "GET", "/echo")).rejects.toThrow();
    for (const exchange of door.exchanges) {
      exchange.head(200, []);
      exchange.end("whole");
    }
    const answer = readAnswer(await connection.end());
    expect(answer?.headers.connection).toBe("close");
    expect(answer?.body).toBe("whole");
    expect((await answered).body).toBe("whole");
    await closed;
  });

  test("whoever is in a hurry may shorten the wait", async () => {
    const clock = new ManualClock();
    const { port, listener, door } = await running({ clock });
    const connection = opened(port);
    connection.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => door.exchanges.length === 1);
    const reasons: string[] = [];
    door.exchanges[0]?.gone((fault) => reasons.push(fault.kind.name));
    const first = listener.close(600_000);
    const second = listener.close(5_000);
    await settled(() => 0, 20);
    clock.advance(4_999);
    await settled(() => 0, 20);
    expect(reasons).toEqual([]);
    clock.advance(1);
    await until(() => reasons.length === 1);
    clock.advance(usualLimits.lastWordsMs);
    await Promise.all([first, second]);
    expect(clock.waiting).toBe(0);
  });

  test("what does not end in time is told so, and then cut", async () => {
    const clock = new ManualClock();
    const { port, listener, door } = await running({ clock });
    const polite = opened(port);
    polite.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    const stubborn = opened(port);
    stubborn.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => door.exchanges.length === 2);
    const reasons: string[] = [];
    const [first, second] = door.exchanges;
    first?.gone((fault) => {
      reasons.push(fault.kind.name);
      first.head(503, []);
      first.end("stopping");
    });
    second?.gone((fault) => reasons.push(fault.kind.name));
    const closed = listener.close(10_000);
    await settled(() => 0, 20);
    clock.advance(10_000);
    expect((await polite.end()).startsWith("HTTP/1.1 503")).toBe(true);
    expect(reasons).toEqual(["DRAINING", "DRAINING"]);
    await until(() => listener.openCount === 1);
    clock.advance(usualLimits.lastWordsMs);
    await closed;
    expect(await stubborn.end()).toBe("");
  });

  test.each(["as they come", "when they were read", "a moment later"])(
    "answers over HTTP/2 that end as it begins %s arrive whole",
    async (when) => {
      for (let attempt = 0; attempt < 10; attempt++) {
        const due: (() => void)[] = [];
        let opened = 0;
        let closed: Promise<void> | undefined;
        const listener = createListener({
          doors: [
            {
              accepts: () => true,
              open(exchange) {
                const close = () => {
                  closed ??= listener.close(10_000);
                };
                if (++opened === 3 && when === "as they come") queueMicrotask(close);
                setImmediate(() =>
                  exchange.body(1_000, () => {
                    due.push(() => {
                      exchange.head(200, []);
                      exchange.end(Buffer.alloc(700, "x"));
                    });
                    if (due.length < 3) return;
                    if (when === "when they were read") close();
                    setImmediate(() => {
                      close();
                      for (const answer of due) answer();
                    });
                  }),
                );
              },
            },
          ],
          turnAway: () => {},
          corsOrigins: [],
          house: { clock: systemClock, warn: () => {} },
        });
        const session = session2(await listener.listen("127.0.0.1", 0));
        cleanups.push(() => session.destroy());
        const answers = [0, 1, 2].map(() => {
          const stream = session.request({ ":path": "/", ":method": "POST" });
          stream.end("{}");
          return answer2(stream);
        });
        for (const { status, body } of await Promise.all(answers)) expect([status, body.length]).toEqual([200, 700]);
        await closed;
      }
    },
  );
});
