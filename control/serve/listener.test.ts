import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PolicyService, WatchResourcesResponseSchema } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { type ControlListener, createControlListener, peerKey } from "./listener.ts";

let clock: ManualClock;
let listener: ControlListener;
let folder: string;
/** What the handlers saw: the address of each caller. */
let addresses: string[];
/** Resolves when a watch begins, and when it ends because its caller has left. */
let begun: PromiseWithResolvers<void>;
let left: PromiseWithResolvers<void>;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-listener-"));
  clock = new ManualClock();
  addresses = [];
  [begun, left] = [Promise.withResolvers(), Promise.withResolvers()];
  listener = createControlListener({
    routes: (router) =>
      router.service(PolicyService, {
        listResources: (_request, context) => {
          addresses.push(context.values.get(peerKey).address);
          return {};
        },
        async *watchResources(_request, context) {
          yield create(WatchResourcesResponseSchema);
          begun.resolve();
          await new Promise<void>((done) => context.signal.addEventListener("abort", () => done(), { once: true }));
          left.resolve();
        },
      }),
    interceptors: [],
    tls: undefined,
    corsOrigins: [],
    clock,
    warn: () => undefined,
  });
});

afterEach(async () => {
  const closed = listener.close(0);
  clock.advance(0);
  await closed;
  // Nothing is left that would go off later; the last sockets say some turns after the server that they are closed.
  while (clock.waiting > 0) await new Promise((turn) => setImmediate(turn));
  rmSync(folder, { recursive: true });
});

test("many connections at one moment are all taken, more than become sessions in one turn", async () => {
  const port = await listener.listen("127.0.0.1", 0);
  const pings = Array.from(
    { length: 150 },
    () =>
      new Promise<void>((done, failed) => {
        const session = connectHttp2(`http://127.0.0.1:${port}`);
        session.on("error", failed);
        session.ping(() => {
          session.destroy();
          done();
        });
      }),
  );
  await Promise.all(pings);
});

test("one port takes HTTP/1.1 and HTTP/2, and says where callers are", async () => {
  const port = await listener.listen("127.0.0.1", 0);
  const baseUrl = `http://127.0.0.1:${port}`;
  for (const transport of [
    createConnectTransport({ baseUrl, httpVersion: "1.1" }),
    createConnectTransport({ baseUrl, httpVersion: "2" }),
    createGrpcTransport({ baseUrl }),
  ])
    await createClient(PolicyService, transport).listResources({});
  expect(addresses).toEqual(["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
});

test("the first bytes may come one by one", async () => {
  const port = await listener.listen("127.0.0.1", 0);
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  const answered = new Promise<Buffer>((done) => socket.once("data", done));
  // The preface of HTTP/2 and empty settings (RFC 9113, sections 3.4 and 6.5).
  const greeting = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]);
  for (const byte of greeting) await new Promise((written) => socket.write(Buffer.of(byte), written));
  // Settings are the first frame of an answer in HTTP/2.
  expect((await answered)[3]).toBe(4);
  socket.destroy();
});

// A sidecar that was killed was shown as connected until its connection was cut: the server kept its own half open.
test("a caller of HTTP/2 that closes its half has left", async () => {
  const port = await listener.listen("127.0.0.1", 0);
  const socket = connect(port, "127.0.0.1");
  const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
  session.on("error", () => undefined);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${PolicyService.typeName}/WatchResources`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => undefined);
  stream.end(Buffer.alloc(5));
  await begun.promise;
  // What the system does for a process that was killed.
  socket.destroy();
  await left.promise;
});

test("a socket that a dead process left is replaced, one that answers is not, and neither is a file", async () => {
  const path = join(folder, "control.sock");
  await listener.listenUnix(path);
  const client = createClient(
    PolicyService,
    createConnectTransport({ baseUrl: "http://localhost", httpVersion: "1.1", nodeOptions: { socketPath: path } }),
  );
  await client.listResources({});
  expect(addresses).toEqual([""]);
  await expect(listener.listenUnix(path)).rejects.toMatchObject({ code: "EADDRINUSE" });
  expect(existsSync(path)).toBe(true);
});

test("whoever says nothing is cut off in time, and closing waits for what runs until the grace is over", async () => {
  const port = await listener.listen("127.0.0.1", 0);
  const silent = connect(port, "127.0.0.1");
  const cut = new Promise((done) => silent.on("close", done));
  await new Promise((done) => silent.on("connect", done));
  // The server takes the connection in its own turn.
  while (clock.waiting === 0) await new Promise((turn) => setImmediate(turn));
  clock.advance(5_000);
  await cut;
  const abort = new AbortController();
  const client = createClient(PolicyService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
  const watching = (async () => {
    for await (const _ of client.watchResources({}, { signal: abort.signal }));
  })().catch(() => "ended");
  await begun.promise;
  let closed = false;
  const closing = listener.close(10_000).then(() => {
    closed = true;
  });
  clock.advance(9_999);
  await new Promise((turn) => setImmediate(turn));
  expect(closed).toBe(false);
  clock.advance(1);
  await closing;
  expect(await watching).toBe("ended");
});
