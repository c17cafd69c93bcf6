import type { ClientHttp2Stream } from "node:http2";
import { afterEach, describe, expect, test } from "vitest";
import { type Batch, endEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { FakeHouse, HandAnswer, heartbeatBatch, testDialect, textBatch } from "../../test/kit/house.ts";
import { answer2, RawConnection, readAnswer, request1, request2, session2, settled, until } from "../../test/kit/sockets.ts";
import type { Call } from "../call.ts";
import type { Exchange } from "./exchange.ts";
import { bufferedBytesHigh, usualPatience } from "./keeper.ts";
import { createListener } from "./listener.ts";
import { type CallParts, pump, type Rendering } from "./pump.ts";

const cleanups: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A rendering in the words of the test dialect, with trailers, whose every part a test may replace. */
function rendering(streaming: boolean, changes: Partial<Rendering>): Rendering {
  const read = testDialect.readRequest(Buffer.from(JSON.stringify({ model: "small", stream: streaming })));
  const writer = testDialect.writeAnswer(read, "id");
  return {
    head: ({ notes }) => ({ status: 200, headers: ["x-route", notes.route], trailing: true }),
    write: (batch) => writer.write(batch),
    end: () => ({ data: writer.end(), trailers: ["x-end", "well"] }),
    refuse: (fault) => ({ status: fault.httpStatus, headers: [], data: `refused: ${fault.kind.name}` }),
    fail: (fault) => ({ data: writer.fault(fault), trailers: ["x-end", fault.kind.name] }),
    ...changes,
  };
}

/** Every request becomes a call; `/stream` is answered as it arrives, anything else whole. */
async function running(house: FakeHouse, parts: Partial<CallParts> = {}, changes: Partial<Rendering> = {}) {
  const exchanges: Exchange[] = [];
  const listener = createListener({
    doors: [
      {
        accepts: () => true,
        open(exchange) {
          exchanges.push(exchange);
          const streaming = exchange.path === "/stream";
          const read = testDialect.readRequest(Buffer.from(JSON.stringify({ model: "small", stream: streaming })));
          const given: CallParts = {
            id: house.random.id(),
            door: "openai",
            request: read.request,
            native: read.native,
            streaming,
            nativeStreamUsage: false,
            validateOnly: false,
            credential: undefined,
            traceparent: undefined,
            timeoutMs: Number.POSITIVE_INFINITY,
            ...parts,
          };
          exchange.body(1000, () => pump(house, exchange, given, rendering(streaming, changes)));
        },
      },
    ],
    turnAway: (exchange) => exchange.reset(),
    corsOrigins: [],
    house,
  });
  cleanups.push(async () => {
    let closed = false;
    listener.close(0).then(() => {
      closed = true;
    });
    await until(() => {
      if (house.clock instanceof ManualClock) house.clock.advance(1000);
      return closed;
    });
  });
  return { port: await listener.listen("127.0.0.1", 0), listener, exchanges };
}

const both = [
  ["HTTP/1.1", request1],
  ["HTTP/2", request2],
] as const;

describe.each(both)("over %s", (name, request) => {
  test("a unary answer comes whole, with its length", async () => {
    const house = new FakeHouse();
    const { port } = await running(house);
    const answer = await request(port, "POST", "/unary", {}, "x");
    expect(answer).toMatchObject({ status: 200, body: "hello" });
    expect(house.calls[0]?.signal.aborted).toBe(false);
    if (name === "HTTP/2") expect(answer.trailers["x-end"]).toBe("well");
    else expect(answer.headers["content-length"]).toBe("5");
  });

  test("a stream comes as it arrives; its head waits for its first bytes", async () => {
    const answer = new HandAnswer();
    const house = new FakeHouse(() => answer);
    const { port, exchanges } = await running(house);
    const whole = request(port, "POST", "/stream", {}, "x");
    await until(() => answer.pulls === 1);
    const call = house.calls[0];
    if (call === undefined) throw new Error("there is a call");
    answer.give([]);
    answer.give([{ $typeName: "outrigger.chat.v1.ChatEvent", event: { case: undefined } }]);
    await until(() => answer.pulls === 3);
    expect(exchanges[0]?.bufferedBytes).toBe(0);
    // What is found out before the first bytes still reaches the head.
    call.notes.route = "found";
    answer.text("a");
    answer.give(heartbeatBatch());
    answer.text("b");
    answer.finish();
    const received = await whole;
    expect(received.status).toBe(200);
    expect(received.headers["x-route"]).toBe("found");
    expect(received.body).toBe("data: a\n\ndata: b\n\ndone\n");
    expect(answer.left).toBe(false);
    expect(call.signal.aborted).toBe(false);
  });

  test("a fault before the first bytes is a refusal", async () => {
    const answer = new HandAnswer();
    answer.give([]);
    answer.give(new Fault(FaultReason.MODEL_NOT_FOUND, "There is none."));
    const { port } = await running(new FakeHouse(() => answer));
    expect(await request(port, "POST", "/stream", {}, "x")).toMatchObject({ status: 404, body: "refused: MODEL_NOT_FOUND" });
  });

  test("a fault after them is said in the answer's own words", async () => {
    const answer = new HandAnswer();
    answer.text("a");
    answer.give(new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "It broke off."));
    const { port } = await running(new FakeHouse(() => answer));
    const received = await request(port, "POST", "/stream", {}, "x");
    expect(received).toMatchObject({ status: 200, body: "data: a\n\nfault: PROVIDER_ANSWER_INCOMPLETE\n\n" });
    if (name === "HTTP/2") expect(received.trailers["x-end"]).toBe("PROVIDER_ANSWER_INCOMPLETE");
  });

  test("a unary answer that fails late is a refusal", async () => {
    const answer = new HandAnswer();
    answer.text("a");
    answer.give(new Fault(FaultReason.PROVIDER_TIMEOUT, "It took too long."));
    const { port } = await running(new FakeHouse(() => answer));
    expect(await request(port, "POST", "/unary", {}, "x")).toMatchObject({ status: 504, body: "refused: PROVIDER_TIMEOUT" });
  });

  test("an answer that ends without its last event is not taken for a whole one", async () => {
    const answer = new HandAnswer();
    answer.text("a");
    answer.give("end");
    const { port } = await running(new FakeHouse(() => answer));
    expect((await request(port, "POST", "/stream", {}, "x")).body).toBe("data: a\n\nfault: PROVIDER_ANSWER_INCOMPLETE\n\n");
    const unary = new HandAnswer();
    unary.give("end");
    const other = await running(new FakeHouse(() => unary));
    expect((await request(other.port, "POST", "/unary", {}, "x")).status).toBe(502);
  });

  test("an error that nobody foresaw is told without its words, and logged", async () => {
    const answer = new HandAnswer();
    answer.give(new Error("a secret of the house"));
    const house = new FakeHouse(() => answer);
    const { port } = await running(house);
    const received = await request(port, "POST", "/unary", {}, "x");
    expect(received).toMatchObject({ status: 500, body: "refused: INTERNAL" });
    expect(house.warnings.map(({ error }) => (error instanceof Error ? error.message : ""))).toEqual(["a secret of the house"]);
  });

  test("a policy that throws at once, and an answer that is none, are refusals", async () => {
    const thrower = new FakeHouse(() => {
      throw new Fault(FaultReason.OVERLOADED, "Busy.");
    });
    expect((await request((await running(thrower)).port, "POST", "/unary", {}, "x")).status).toBe(429);
    const broken = new FakeHouse(() => {
      throw new TypeError("broken");
    });
    expect((await request((await running(broken)).port, "POST", "/unary", {}, "x")).status).toBe(500);
    expect(broken.warnings).toHaveLength(1);
  });

  test("a rendering that fails ends the call, and the process goes on", async () => {
    const answer = new HandAnswer();
    answer.text("a");
    const house = new FakeHouse(() => answer);
    const { port } = await running(
      house,
      {},
      {
        write() {
          throw new Error("cannot be written");
        },
      },
    );
    expect((await request(port, "POST", "/stream", {}, "x")).status).toBe(500);
    expect(answer.left).toBe(true);
    expect(house.calls[0]?.signal.aborted).toBe(true);
  });

  test("a head that cannot be sent cuts the answer off instead of sending another", async () => {
    const house = new FakeHouse();
    const { port } = await running(house, {}, { head: () => ({ status: 200, headers: ["connection", "a\r\nb"] }) });
    await expect(request(port, "POST", "/stream", {}, "x")).rejects.toThrow();
    expect(house.warnings.length).toBeGreaterThan(0);
  });

  test("a sidecar that stops takes no new call", async () => {
    const house = new FakeHouse();
    house.drains = true;
    const { port } = await running(house);
    expect((await request(port, "POST", "/unary", {}, "x")).status).toBe(503);
    expect(house.calls).toHaveLength(0);
    expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual(["DRAINING"]);
  });

  test("a deadline that has passed is refused before anything is asked", async () => {
    const house = new FakeHouse();
    const { port } = await running(house, { timeoutMs: 0 });
    expect((await request(port, "POST", "/unary", {}, "x")).status).toBe(504);
    expect(house.calls).toHaveLength(0);
  });

  test("a deadline stops the call a little before the caller would, even if nobody listens to the signal", async () => {
    const clock = new ManualClock();
    const answer = new HandAnswer();
    const house = new FakeHouse(() => answer, clock);
    const { port } = await running(house, { timeoutMs: 1000 });
    const whole = request(port, "POST", "/stream", {}, "x");
    await until(() => answer.pulls === 1);
    const call = house.calls[0];
    expect(call?.deadlineAtMs).toBe((call?.startedAtMs ?? 0) + 995);
    answer.text("a");
    await until(() => answer.pulls === 2);
    clock.advance(994);
    expect(call?.signal.aborted).toBe(false);
    clock.advance(1);
    expect(call?.signal.reason).toMatchObject({ reason: FaultReason.DEADLINE_EXCEEDED });
    expect(answer.left).toBe(true);
    expect((await whole).body).toBe("data: a\n\nfault: DEADLINE_EXCEEDED\n\n");
  });

  test("a call without a deadline starts no timer, and one that ends in time leaves none", async () => {
    const clock = new ManualClock();
    const answers = [new HandAnswer(), new HandAnswer()];
    let next = 0;
    const house = new FakeHouse(() => answers[next++] ?? new HandAnswer(), clock);
    const { port, listener } = await running(house, { timeoutMs: 60_000 });
    const whole = request(port, "POST", "/unary", {}, "x");
    await until(() => answers[0]?.pulls === 1);
    const during = clock.waiting;
    answers[0]?.finish();
    await whole;
    await until(() => listener.openCount === 0);
    expect(clock.waiting).toBeLessThan(during);
    const free = await running(house);
    const timers = clock.waiting;
    const second = request(free.port, "POST", "/unary", {}, "x");
    await until(() => answers[1]?.pulls === 1);
    // The sweep of the keeper, and for HTTP/2 nothing else: its settings have come.
    expect(clock.waiting - timers).toBeLessThanOrEqual(1);
    answers[1]?.finish();
    await second;
  });
});

describe("a caller that leaves", () => {
  const kinds = [
    ["streaming, before the first bytes", "/stream", false],
    ["streaming, after them", "/stream", true],
    ["unary", "/unary", true],
  ] as const;

  async function begun(path: string, text: boolean) {
    const answer = new HandAnswer();
    const house = new FakeHouse(() => answer);
    const { port, listener } = await running(house);
    return {
      answer,
      house,
      port,
      listener,
      async waiting(): Promise<Call> {
        await until(() => answer.pulls === 1);
        if (text) {
          answer.text("a");
          await until(() => answer.pulls === 2);
        }
        const call = house.calls[0];
        if (call === undefined) throw new Error(`there is a call at ${path}`);
        return call;
      },
    };
  }

  function expectLeft(call: Call, answer: HandAnswer, house: FakeHouse): void {
    expect(call.signal.reason).toMatchObject({ reason: FaultReason.CANCELLED });
    expect(answer.left).toBe(true);
    expect(house.warnings).toHaveLength(0);
  }

  test.each(kinds)("over HTTP/1.1 by a reset: %s", async (_kind, path, text) => {
    const { answer, house, port, listener, waiting } = await begun(path, text);
    const connection = new RawConnection(port);
    connection.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const call = await waiting();
    connection.socket.resetAndDestroy();
    await until(() => call.signal.aborted);
    expectLeft(call, answer, house);
    await until(() => listener.openCount === 0);
  });

  test.each(kinds)("over HTTP/1.1 by closing its half: %s", async (_kind, path, text) => {
    const { answer, house, port, waiting } = await begun(path, text);
    const connection = new RawConnection(port);
    connection.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const call = await waiting();
    connection.socket.end();
    await until(() => call.signal.aborted);
    expectLeft(call, answer, house);
  });

  test.each(kinds)("over HTTP/2 by resetting the stream, and its neighbours stay: %s", async (_kind, path, text) => {
    const { answer, house, port, listener, waiting } = await begun(path, text);
    const session = session2(port);
    cleanups.push(() => session.destroy());
    const stream = session.request({ ":path": path });
    stream.on("error", () => {});
    const call = await waiting();
    stream.close(8);
    await until(() => call.signal.aborted);
    expectLeft(call, answer, house);
    await until(() => listener.openCount === 0);
    const next = new HandAnswer();
    next.text("still here");
    next.finish();
    house.answerWith(() => next);
    expect((await answer2(session.request({ ":path": "/unary" }))).body).toBe("still here");
  });

  test.each(kinds)("over HTTP/2 by closing the connection: %s", async (_kind, path, text) => {
    const { answer, house, port, waiting } = await begun(path, text);
    const session = session2(port);
    session.request({ ":path": path }).on("error", () => {});
    const call = await waiting();
    session.destroy();
    await until(() => call.signal.aborted);
    expectLeft(call, answer, house);
  });

  test("what the loop throws afterwards is not told, and only logged if it is no fault", async () => {
    const { answer, house, port, waiting } = await begun("/stream", true);
    const connection = new RawConnection(port);
    connection.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    const call = await waiting();
    connection.destroy();
    await until(() => call.signal.aborted);
    answer.give(new TypeError("late"));
    await until(() => house.warnings.length === 1);
  });
});

describe("a caller that reads slowly", () => {
  /** Gives batches of 32 KiB for as long as it is asked, and counts them. */
  function endless(limit: number) {
    const given = { batches: 0 };
    const text = "x".repeat(32 * 1024);
    return {
      given,
      async *answer(): AsyncGenerator<Batch> {
        while (given.batches < limit) {
          given.batches += 1;
          yield textBatch(text);
        }
        yield [endEvent()];
      },
    };
  }

  // 64 MiB: far more than any kernel keeps for one connection.
  const limit = 2048;

  test("over HTTP/1.1 stops the pulling, holds little, and gets everything once it reads", async () => {
    const { given, answer } = endless(limit);
    const { port, exchanges } = await running(new FakeHouse(answer));
    const connection = new RawConnection(port);
    cleanups.push(() => connection.destroy());
    connection.socket.pause();
    let bytes = 0;
    connection.socket.removeAllListeners("data");
    connection.send("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await until(() => given.batches > 1);
    const pulled = await settled(() => given.batches);
    expect(pulled).toBeLessThan(limit / 2);
    expect(exchanges[0]?.bufferedBytes).toBeLessThan(4 * bufferedBytesHigh);
    connection.socket.on("data", (piece: Buffer) => {
      bytes += piece.length;
    });
    connection.socket.resume();
    await connection.end();
    expect(given.batches).toBe(limit);
    expect(bytes).toBeGreaterThan(limit * 32 * 1024);
  });

  test("over HTTP/2 stops the pulling of its own stream only", async () => {
    const { given, answer } = endless(limit);
    const house = new FakeHouse(answer);
    const { port, exchanges } = await running(house);
    const session = session2(port);
    cleanups.push(() => session.destroy());
    const stream: ClientHttp2Stream = session.request({ ":path": "/stream" });
    stream.pause();
    await until(() => given.batches > 1);
    const pulled = await settled(() => given.batches);
    expect(pulled).toBeLessThan(20);
    expect(exchanges[0]?.bufferedBytes).toBeLessThan(4 * bufferedBytesHigh);
    house.answerWith(async function* () {
      yield textBatch("quick");
      yield [endEvent()];
    });
    expect((await answer2(session.request({ ":path": "/stream" }))).body).toContain("quick");
    const whole = answer2(stream);
    stream.resume();
    expect((await whole).body.length).toBeGreaterThan(limit * 32 * 1024);
  });

  test("that takes nothing at all aborts the call", async () => {
    const clock = new ManualClock();
    const { given, answer } = endless(limit);
    const house = new FakeHouse(answer, clock);
    const { port, listener } = await running(house);
    const connection = new RawConnection(port);
    cleanups.push(() => connection.destroy());
    connection.socket.pause();
    connection.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => given.batches > 1);
    await settled(() => given.batches);
    clock.advance(usualPatience.writeStallMs + 2 * usualPatience.sweepMs);
    expect(house.calls[0]?.signal.reason).toMatchObject({ reason: FaultReason.CALLER_STALLED });
    await until(() => listener.openCount === 0);
  });

  test.each(both)("over %s gets a large unary answer whole", async (_name, request) => {
    const { answer } = endless(100);
    const { port } = await running(new FakeHouse(answer));
    const whole = await request(port, "POST", "/unary", {}, "x");
    expect(whole.body.length).toBe(100 * 32 * 1024);
    expect(whole.headers["content-length"]).toBe(String(100 * 32 * 1024));
  });

  test("that takes nothing of a large unary answer is cut off, and one that takes it bit by bit is not", async () => {
    const clock = new ManualClock();
    const { answer } = endless(limit);
    const house = new FakeHouse(answer, clock);
    const { port, listener, exchanges } = await running(house);
    const connection = new RawConnection(port);
    cleanups.push(() => connection.destroy());
    connection.socket.pause();
    connection.send("GET /unary HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => (exchanges[0]?.bufferedBytes ?? 0) > 0);
    await settled(() => exchanges[0]?.bufferedBytes ?? 0);
    for (let step = 0; step < 5; step += 1) {
      clock.advance(usualPatience.writeStallMs - 2 * usualPatience.sweepMs);
      expect(listener.openCount).toBe(1);
      const before = connection.received.length;
      connection.socket.resume();
      await until(() => connection.received.length > before + 8 * 1024 * 1024);
      connection.socket.pause();
      await settled(() => exchanges[0]?.bufferedBytes ?? 0, 50);
    }
    expect(exchanges[0]?.bufferedBytes).toBeGreaterThan(0);
    clock.advance(usualPatience.writeStallMs + 2 * usualPatience.sweepMs);
    await until(() => listener.openCount === 0);
  });
});

test("when the sidecar goes away, a running stream is failed in its own words", async () => {
  const answer = new HandAnswer();
  const house = new FakeHouse(() => answer);
  const { port, listener } = await running(house);
  const connection = new RawConnection(port);
  connection.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  await until(() => answer.pulls === 1);
  answer.text("a");
  await connection.until("data: a");
  await listener.close(0);
  expect(readAnswer(await connection.end())?.body).toBe("data: a\n\nfault: DRAINING\n\n");
  expect(house.calls[0]?.signal.reason).toMatchObject({ reason: FaultReason.DRAINING });
  expect(answer.left).toBe(true);
});

test("batches that are there together leave together", async () => {
  const house = new FakeHouse(async function* () {
    for (let index = 0; index < 50; index += 1) yield textBatch(String(index));
    yield [endEvent()];
  });
  const { port } = await running(house);
  const connection = new RawConnection(port);
  cleanups.push(() => connection.destroy());
  let reads = 0;
  connection.socket.on("data", () => {
    reads += 1;
  });
  connection.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  await connection.until("done");
  expect(reads).toBeLessThan(5);
});
