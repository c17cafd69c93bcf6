/**
 * One suite over every way in which a sidecar's stream is served: by hand and by Connect's own stack, over gRPC and over Connect. What a
 * sidecar hears, and how its stream ends, may not depend on the way.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { endStreamFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  AckSchema,
  ChunkSchema,
  HeartbeatSchema,
  MeshService,
  OpeningSchema,
  type SubscribeRequest,
  SubscribeRequestSchema,
  type SubscribeResponse,
  SubscribeResponseSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { anyPeer, MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";
import { controlFault, controlFaultName } from "../serve/fault.ts";
import { type ControlListener, createControlListener } from "../serve/listener.ts";
import { lingerMs } from "../serve/rpcStream.ts";
import { openBook } from "./book.ts";
import { openFleet } from "./fleet.ts";
import type { Joining } from "./joining.ts";
import type { Mesh } from "./mesh.ts";
import { makeMessageEncoder, readRequest } from "./messages.ts";
import { createMeshService } from "./services.ts";
import { type MeshSession, Session, type SessionHouse } from "./session.ts";
import { makeSigner } from "./signing.ts";
import { openingMs, serveSubscribe } from "./subscribe.ts";

const path = `/${MeshService.typeName}/${MeshService.method.subscribe.name}`;
const bytesMax = 1024 * 1024;
const protocols = ["application/grpc", "application/connect+proto"] as const;
const ways = [true, false].flatMap((byHand) => protocols.map((protocol) => ({ byHand, protocol })));
const signer = makeSigner();

type Way = (typeof ways)[number];

const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

/** Control's end behind a real port; the clock is the test's. */
async function serve(way: Way, mesh: Pick<Mesh, "open">, clock: ManualClock) {
  let handled = 0;
  const listenerClock = new ManualClock();
  const service = createMeshService({
    mesh: mesh as Mesh,
    joining: {} as Joining,
    clock,
    newId: () => "id",
    peerOf: () => ({ address: "", certificate: () => undefined }),
    callerOf: () => "",
  });
  const ended = (error: unknown): ConnectError | undefined => (error === undefined ? undefined : ConnectError.from(error));
  const parts = { mesh, clock, encoder: makeMessageEncoder(), ended };
  const listener: ControlListener = createControlListener({
    routes: (router) => router.service(MeshService, service, { readMaxBytes: bytesMax, compressMinBytes: Number.MAX_SAFE_INTEGER }),
    interceptors: [],
    tls: undefined,
    corsOrigins: [],
    // Its own, so that nothing but the opening's time is over when the test's clock goes on.
    clock: listenerClock,
    warn: () => undefined,
    ...(way.byHand
      ? {
          byHand: new Map([
            [
              path,
              {
                bytesMax,
                serve(stream) {
                  handled += 1;
                  serveSubscribe(stream, parts);
                },
              },
            ],
          ]),
        }
      : {}),
  });
  const port = await listener.listen("127.0.0.1", 0);
  opened.push(async () => {
    const closed = listener.close(0);
    listenerClock.advance(0);
    await closed;
  });
  return { port, handled: () => handled, elapse: (ms: number) => listenerClock.advance(ms) };
}

/** Serves a whole world of virtual time. */
async function serveWorld(way: Way, options: Parameters<typeof MeshWorld.open>[0] = {}) {
  const world = await MeshWorld.open({ signer, ...options });
  opened.push(async () => world.close());
  await world.apply(policyFor({ chat: 1 }));
  return { world, ...(await serve(way, world.mesh, world.clock)) };
}

/** A stream as its caller sees it, byte for byte. */
class Caller {
  readonly heard: SubscribeResponse[] = [];
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #ended = Promise.withResolvers<ConnectError | undefined>();
  #rest: Buffer = Buffer.alloc(0);
  #fault: ConnectError | undefined;
  #isEnded = false;
  isClosed = false;
  #wake: (() => void) | undefined;

  constructor(port: number, protocol: string, more: Record<string, string> = {}) {
    this.#session = connect(`http://127.0.0.1:${port}`);
    this.#session.on("error", () => undefined);
    const headers = { ":method": "POST", ":path": path, "content-type": protocol, te: "trailers", ...more };
    this.#stream = this.#session.request(headers, { endStream: false });
    const told = (headers: NodeJS.Dict<string | string[] | number>): void => {
      const status = headers["grpc-status"];
      if (status === undefined) return;
      this.#end(findTrailerError(new Headers(Object.entries(headers).map(([name, value]) => [name, String(value)]))));
    };
    this.#stream.on("response", (head) => told(Object.fromEntries(Object.entries(head).filter(([name]) => !name.startsWith(":")))));
    this.#stream.on("trailers", told);
    this.#stream.on("data", (bytes: Buffer) => this.#read(bytes));
    this.#stream.on("error", () => undefined);
    this.#stream.on("close", () => {
      this.isClosed = true;
      this.#end(new ConnectError("the stream was cut", Code.Aborted));
    });
    opened.push(async () => this.#session.destroy());
  }

  /** How the stream ended: undefined if well. */
  get ended(): Promise<ConnectError | undefined> {
    return this.#ended.promise;
  }

  say(request: SubscribeRequest, flags = 0): void {
    this.bytes(enveloped(toBinary(SubscribeRequestSchema, request), flags));
  }

  bytes(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  finish(): void {
    this.#stream.end();
  }

  leave(): void {
    this.#session.destroy();
  }

  stall(): void {
    this.#stream.pause();
  }

  goOn(): void {
    this.#stream.resume();
  }

  /** Resolves once something holds; looked at whenever something came. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (this.#isEnded) throw this.#fault ?? new Error("the stream has ended");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #read(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= 5) {
      const end = 5 + this.#rest.readUInt32BE(1);
      if (this.#rest.length < end) break;
      const [flags, message] = [this.#rest.readUInt8(0), this.#rest.subarray(5, end)];
      this.#rest = this.#rest.subarray(end);
      if (flags === 2) this.#end(endStreamFromJson(message.toString()).error);
      else this.heard.push(fromBinary(SubscribeResponseSchema, message));
    }
    this.#wake?.();
  }

  #end(fault: ConnectError | undefined): void {
    this.#fault ??= fault;
    this.#isEnded = true;
    this.#ended.resolve(fault);
    this.#wake?.();
  }
}

function enveloped(message: Uint8Array, flags = 0): Uint8Array {
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt8(flags);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  return bytes;
}

function request(message: SubscribeRequest["message"]): SubscribeRequest {
  return create(SubscribeRequestSchema, { message });
}

const openingOf = (sidecar: LightSidecar): SubscribeRequest => request({ case: "opening", value: sidecar.opening() });
const anAck = request({ case: "ack", value: create(AckSchema, { root: "0".repeat(64) }) });
/** A field of two bytes of which one came. */
const noMessage = Uint8Array.of(0x0a, 0x02, 0x00);

describe("the same messages", () => {
  test("a life from opening to goaway is the same text on every way", async () => {
    const lives: string[][] = [];
    for (const way of ways) {
      const { world, port, handled } = await serveWorld(way);
      const sidecar = new LightSidecar("a");
      const caller = new Caller(port, way.protocol);
      let answered = 0;
      const until = async (holds: () => boolean): Promise<void> =>
        caller.until(() => {
          for (; answered < caller.heard.length; answered++) {
            const message = caller.heard[answered];
            if (message !== undefined) sidecar.hear(message);
          }
          for (const said of sidecar.say()) caller.say(said);
          return holds();
        });
      const enforced = (revision: number): boolean =>
        world.mesh.sidecars().some((record) => record.root === sidecar.root && record.revision === revision);
      caller.say(openingOf(sidecar));
      await until(() => sidecar.revision === 1);
      await turnUntil(() => enforced(1));
      await world.apply(policyFor({ chat: 2 }));
      await until(() => sidecar.revision === 2);
      await turnUntil(() => enforced(2));
      // The first one comes within a period, and no second.
      world.clock.advance(5_000);
      await until(() => sidecar.heartbeats >= 1);
      world.mesh.sendAway("test", 1_000);
      await until(() => sidecar.goaway !== undefined);
      lives.push(caller.heard.map((message) => toJsonString(SubscribeResponseSchema, message)));
      expect(handled()).toBe(way.byHand ? 1 : 0);
      caller.leave();
      await turnUntil(() => world.mesh.sidecars().every(({ connected }) => !connected));
    }
    expect(new Set(lives.map((life) => life.join("\n"))).size).toBe(1);
    expect(lives[0]?.length).toBeGreaterThanOrEqual(5);
  });

  test("heartbeats that are written by hand have the bytes that the runtime writes", () => {
    const encoder = makeMessageEncoder();
    const number = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(fc.record({ root: fc.string({ unit: "grapheme" }), revision: number, sequence: number }), (facts) => {
        const message = create(SubscribeResponseSchema, { message: { case: "heartbeat", value: create(HeartbeatSchema, facts) } });
        expect(Buffer.from(encoder.envelope(message))).toEqual(Buffer.from(enveloped(toBinary(SubscribeResponseSchema, message))));
      }),
    );
  });

  test("a delta for many streams of one scope is made and encoded once", async () => {
    const world = await MeshWorld.open({ signer });
    opened.push(async () => world.close());
    await world.apply(policyFor({ chat: 1 }));
    const deltas: SubscribeResponse[] = [];
    for (const instance of ["a", "b", "c"]) {
      const sidecar = new LightSidecar(instance);
      await world.connect(sidecar);
      const session = world.sessions.get(sidecar);
      for (let message = session?.take(); message !== undefined; message = session?.take()) {
        sidecar.hear(message);
        if (message.message.case === "delta") deltas.push(message);
      }
    }
    const encoder = makeMessageEncoder();
    expect(deltas.length).toBe(3);
    expect(new Set(deltas).size).toBe(1);
    expect(new Set(deltas.map((message) => encoder.envelope(message))).size).toBe(1);
  });
});

describe.each(ways)("by hand: $byHand, $protocol", (way) => {
  test.each<[name: string, send: (caller: Caller) => void, code: Code, reason: string]>([
    ["something else than an opening", (caller) => caller.say(anAck), Code.InvalidArgument, "REQUEST_INVALID"],
    ["nothing at all", (caller) => caller.finish(), Code.InvalidArgument, "REQUEST_INVALID"],
    ["a compressed message without a word about it", (caller) => caller.say(anAck, 1), Code.InvalidArgument, "REQUEST_INVALID"],
    [
      "a message that is too long",
      (caller) => caller.bytes(enveloped(new Uint8Array(bytesMax + 1))),
      Code.ResourceExhausted,
      "REQUEST_TOO_LARGE",
    ],
    [
      "an opening with a field that is not in order",
      (caller) => caller.say(request({ case: "opening", value: create(OpeningSchema, { instance: "a b", capabilityLevel: 1 }) })),
      Code.InvalidArgument,
      "REQUEST_INVALID",
    ],
    [
      "a second opening",
      (caller) => {
        caller.say(openingOf(new LightSidecar("a")));
        caller.say(openingOf(new LightSidecar("a")));
      },
      Code.InvalidArgument,
      "REQUEST_INVALID",
    ],
    [
      "a request that ends within a message",
      (caller) => {
        caller.say(openingOf(new LightSidecar("a")));
        caller.bytes(Uint8Array.of(0, 0, 0));
        caller.finish();
      },
      Code.InvalidArgument,
      "REQUEST_INVALID",
    ],
  ])("%s ends the stream with why", async (_, send, code, reason) => {
    const { port } = await serveWorld(way);
    const caller = new Caller(port, way.protocol);
    send(caller);
    const fault = await caller.ended;
    expect([fault?.code, controlFaultName(fault)]).toEqual([code, reason]);
  });

  test("bytes that are no message end the stream with a fault", async () => {
    const { port, world } = await serveWorld(way);
    const caller = new Caller(port, way.protocol);
    caller.say(openingOf(new LightSidecar("a")));
    await caller.until(() => caller.heard.length > 0);
    caller.bytes(enveloped(noMessage));
    expect([Code.InvalidArgument, Code.Internal]).toContain((await caller.ended)?.code);
    expect(world.mesh.sidecars()[0]?.connected).toBe(false);
  });

  test("whoever is refused hears why, with the delay that control asks for", async () => {
    const retryAfterMs = 1_500;
    const refuse = async (): Promise<never> => {
      throw controlFault("TOO_MANY_SIDECARS", "Not now.", { retryAfterMs });
    };
    const { port } = await serveWorld(way, { identify: refuse });
    const caller = new Caller(port, way.protocol);
    caller.say(openingOf(new LightSidecar("a")));
    const fault = await caller.ended;
    expect([fault?.code, fault?.rawMessage, controlFaultName(fault), fault?.details.length]).toEqual([
      Code.ResourceExhausted,
      "Not now.",
      "TOO_MANY_SIDECARS",
      2,
    ]);
  });

  test("who opens and says nothing is cut off when its time is over", async () => {
    const { port, world } = await serveWorld(way);
    const caller = new Caller(port, way.protocol);
    const before = world.clock.waiting;
    caller.bytes(Uint8Array.of(0));
    await turnUntil(() => world.clock.waiting > before);
    world.clock.advance(openingMs);
    expect(controlFaultName(await caller.ended)).toBe("SIDECAR_SILENT");
  });

  test("the end of a session is the end of its stream: replaced, or control stops", async () => {
    const { port, world } = await serveWorld(way);
    const first = new Caller(port, way.protocol);
    first.say(openingOf(new LightSidecar("a")));
    await first.until(() => first.heard.length > 0);
    const second = new Caller(port, way.protocol);
    second.say(openingOf(new LightSidecar("a")));
    expect(controlFaultName(await first.ended)).toBe("STREAM_REPLACED");
    await second.until(() => second.heard.length > 0);
    world.mesh.close();
    expect(controlFaultName(await second.ended)).toBe("STOPPING");
  });

  test("a sidecar that says all it has to say ends well, and one that is gone is gone", async () => {
    const { port, world } = await serveWorld(way);
    const caller = new Caller(port, way.protocol);
    caller.say(openingOf(new LightSidecar("a")));
    await caller.until(() => caller.heard.length > 0);
    caller.finish();
    expect(await caller.ended).toBeUndefined();
    const other = new Caller(port, way.protocol);
    other.say(openingOf(new LightSidecar("b")));
    await other.until(() => other.heard.length > 0);
    other.leave();
    await turnUntil(() => world.mesh.sidecars().every(({ connected }) => !connected));
  });

  test("what a session makes of a message may end its stream, and nothing else", async () => {
    const session = new HearingSession(() => {
      throw new Error("a session that fails");
    });
    const { port } = await serve(way, { open: async () => session }, new ManualClock());
    const caller = new Caller(port, way.protocol);
    caller.say(openingOf(new LightSidecar("a")));
    caller.say(anAck);
    expect(await caller.ended).toBeInstanceOf(ConnectError);
    expect(session.closed).toBe(true);
  });

  test("messages that come together with the end are heard before it", async () => {
    const heard: string[] = [];
    const session = new HearingSession(({ message }) => heard.push(message.case ?? ""));
    const opening = Promise.withResolvers<MeshSession>();
    const { port } = await serve(way, { open: () => opening.promise }, new ManualClock());
    const caller = new Caller(port, way.protocol);
    const all = [openingOf(new LightSidecar("a")), anAck, anAck].map((one) => enveloped(toBinary(SubscribeRequestSchema, one)));
    caller.bytes(Buffer.concat(all));
    caller.finish();
    // The end has come by now, and who opens is still being looked at.
    await turns(20);
    opening.resolve(session);
    expect(await caller.ended).toBeUndefined();
    expect(heard).toEqual(["ack", "ack"]);
  });

  test("for whoever does not read nothing is made, and its stream ends all the same", async () => {
    const chunk = create(SubscribeResponseSchema, {
      message: { case: "chunk", value: create(ChunkSchema, { data: new Uint8Array(256 * 1024) }) },
    });
    let taken = 0;
    const session = new EndlessSession(() => {
      taken += 1;
      return chunk;
    });
    const { port } = await serve(way, { open: async () => session }, new ManualClock());
    const caller = new Caller(port, way.protocol);
    caller.stall();
    caller.say(openingOf(new LightSidecar("a")));
    await turnUntil(() => taken > 0);
    // As long as anything may still be on its way.
    const settled = await settledAt(() => taken);
    expect(settled).toBeLessThan(20);
    caller.goOn();
    await caller.until(() => caller.heard.length > settled + 20);
    caller.stall();
    session.end();
    caller.goOn();
    await caller.ended;
    expect(session.closed).toBe(true);
  });

  test("compressed messages are read, by the stack that knows how", async () => {
    const { port, world, handled } = await serveWorld(way);
    const encodingHeader = way.protocol === "application/grpc" ? "grpc-encoding" : "connect-content-encoding";
    const caller = new Caller(port, way.protocol, { [encodingHeader]: "gzip" });
    caller.bytes(enveloped(gzipSync(toBinary(SubscribeRequestSchema, openingOf(new LightSidecar("a")))), 1));
    await caller.until(() => caller.heard.length > 0);
    expect(world.mesh.sidecars()[0]?.connected).toBe(true);
    expect(handled()).toBe(0);
  });

  test("messages may be cut anywhere, and come several at once", async () => {
    const { port, world } = await serveWorld(way);
    const sidecar = new LightSidecar("a");
    const root = "1".repeat(64);
    const acks = [1n, 2n, 3n, 4n, 5n].map((revision) => request({ case: "ack", value: create(AckSchema, { root, revision }) }));
    const all = Buffer.concat([openingOf(sidecar), ...acks].map((one) => enveloped(toBinary(SubscribeRequestSchema, one))));
    const whole = new Caller(port, way.protocol);
    whole.bytes(all);
    await turnUntil(() => world.mesh.sidecars()[0]?.revision === 5);
    const pieces = new Caller(port, way.protocol);
    sidecar.root = "";
    for (const byte of all) {
      pieces.bytes(Uint8Array.of(byte));
      await turns(1);
    }
    await turnUntil(() => world.mesh.sidecars()[0]?.revision === 5);
    expect(controlFaultName(await whole.ended)).toBe("STREAM_REPLACED");
  });
});

test.each(protocols)("by hand, %s: whoever goes on after its call has ended is let go after a while", async (protocol) => {
  const { port, elapse } = await serveWorld({ byHand: true, protocol });
  const caller = new Caller(port, protocol);
  caller.say(anAck);
  expect(controlFaultName(await caller.ended)).toBe("REQUEST_INVALID");
  await turns(20);
  expect(caller.isClosed).toBe(false);
  elapse(lingerMs);
  await turnUntil(() => caller.isClosed);
});

test.each([
  [10, 5n],
  [5_001, 10n],
])("among %d sidecars a heartbeat comes every %d seconds", (count, seconds) => {
  const sidecar = new LightSidecar("a");
  const { namespace, account, instance } = sidecar;
  const record = openFleet([], 0, () => undefined).connect({ namespace, account, instance }, 0);
  const asker = { namespace, account, capabilityLevel: 1, whole: false };
  const proven = { namespace, account, instance, notAfterMs: undefined, whole: false };
  const session = new Session({ record, asker, opening: sidecar.opening(), proven, peer: anyPeer }, quietHouse(count));
  expect(session.take()?.message).toMatchObject({ case: "hello", value: { heartbeat: { seconds } } });
});

/** What a session needs that is only opened. */
function quietHouse(count: number): SessionHouse {
  const nothing = (): never => {
    throw new Error("nothing is to happen");
  };
  return {
    signer,
    book: openBook(),
    fleet: { enforce: nothing, refuse: nothing },
    rollouts: { enforced: nothing, refused: nothing, tried: nothing, reported: nothing },
    metrics: { acked: nothing, refused: nothing, sent: () => undefined },
    server: "test",
    nowMs: () => 0,
    steadyMs: () => 0,
    random: () => 0.5,
    count: () => count,
    identify: nothing,
    gone: nothing,
  };
}

test("what a sidecar says is read as the runtime reads it", () => {
  expect(readRequest(toBinary(SubscribeRequestSchema, anAck))).toEqual(anAck);
  expect(() => readRequest(noMessage)).toThrow();
});

/** A session that always has something to say. */
class EndlessSession implements MeshSession {
  readonly #take: () => SubscribeResponse;
  #ended = false;
  #wake: (() => void) | undefined;
  closed = false;

  constructor(take: () => SubscribeResponse) {
    this.#take = take;
  }

  receive(): void {
    // Whatever it says changes nothing.
  }

  async next(): Promise<SubscribeResponse | undefined> {
    await turns(1);
    return this.take();
  }

  nextBefore(): Promise<SubscribeResponse | undefined> {
    return this.next();
  }

  take(): SubscribeResponse | undefined {
    return this.#ended ? undefined : this.#take();
  }

  drive(wake: () => void): void {
    this.#wake = wake;
  }

  check(): void {
    // It ends well.
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  close(): void {
    this.closed = true;
  }
}

/** A session that says nothing, and hears until it ends. */
class HearingSession implements MeshSession {
  readonly #hear: (request: SubscribeRequest) => unknown;
  readonly #over = Promise.withResolvers<undefined>();
  #wake: (() => void) | undefined;
  isEnded = false;
  closed = false;

  constructor(hear: (request: SubscribeRequest) => unknown) {
    this.#hear = hear;
  }

  receive(request: SubscribeRequest): void {
    this.#hear(request);
  }

  next(): Promise<undefined> {
    return this.#over.promise;
  }

  nextBefore(): Promise<undefined> {
    return this.next();
  }

  take(): undefined {
    // It never says anything.
  }

  drive(wake: () => void): void {
    this.#wake = wake;
  }

  check(): void {
    // It ends well.
  }

  end(fault?: ConnectError): void {
    this.isEnded = true;
    if (fault === undefined) this.#over.resolve(undefined);
    else this.#over.reject(fault);
    this.#wake?.();
  }

  close(): void {
    this.closed = true;
    this.#over.resolve(undefined);
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((next) => setImmediate(next));
}

/** Lets the loop turn until something holds. The test's own limit ends what never will. */
async function turnUntil(holds: () => boolean): Promise<void> {
  while (!holds()) await turns(1);
}

/** The value that stays the same for many turns of the loop, with sockets' work among them. */
async function settledAt(value: () => number): Promise<number> {
  for (let last = value(), same = 0; ; last = value()) {
    await turns(20);
    same = value() === last ? same + 1 : 0;
    if (same === 20) return last;
  }
}
