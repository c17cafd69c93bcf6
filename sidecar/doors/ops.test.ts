import { networkInterfaces } from "node:os";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RawConnection, request1 } from "../../test/kit/sockets.ts";
import { createOps, type Ops } from "./ops.ts";

let ops: Ops;
let port: number;
let notReady: string | undefined;
let metrics: () => Promise<string>;
let drains: number;
let warnings: unknown[];

beforeEach(async () => {
  notReady = undefined;
  metrics = () => Promise.resolve("calls_total 3\n");
  drains = 0;
  warnings = [];
  ops = createOps({
    notReady: () => notReady,
    metrics: () => metrics(),
    drain: () => {
      drains += 1;
    },
    house: { warn: (_message, _facts, error) => warnings.push(error) },
  });
  port = await ops.listen("0.0.0.0", 0);
});

afterEach(() => ops.close());

test("is healthy while it runs", async () => {
  expect(await request1(port, "GET", "/healthz")).toMatchObject({ status: 200, body: "ok\n" });
  expect(await request1(port, "HEAD", "/healthz?x=1")).toMatchObject({ status: 200, body: "" });
});

test("is ready unless it says why not", async () => {
  expect(await request1(port, "GET", "/readyz")).toMatchObject({ status: 200, body: "ready\n" });
  notReady = "draining";
  expect(await request1(port, "GET", "/readyz")).toMatchObject({ status: 503, body: "not ready: draining\n" });
});

test("shows the counters", async () => {
  const answer = await request1(port, "GET", "/metrics");
  expect(answer).toMatchObject({ status: 200, body: "calls_total 3\n" });
  expect(answer.headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
});

test("says that it failed, and to the log why", async () => {
  metrics = () => Promise.reject(new Error("a secret of the house"));
  const answer = await request1(port, "GET", "/metrics");
  expect(answer.status).toBe(500);
  expect(answer.body).not.toContain("secret");
  expect(warnings).toHaveLength(1);
});

test("drains for a program on the same machine", async () => {
  expect((await request1(port, "POST", "/drain")).status).toBe(202);
  expect(drains).toBe(1);
  expect((await request1(port, "GET", "/drain")).status).toBe(405);
  expect(drains).toBe(1);
});

test("does not drain for a page in a browser", async () => {
  expect((await request1(port, "POST", "/drain", { origin: "http://evil.example" })).status).toBe(403);
  expect((await request1(port, "POST", "/drain", { "sec-fetch-site": "cross-site" })).status).toBe(403);
  expect(drains).toBe(0);
});

const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address !== undefined && !address.internal && address.family === "IPv4")?.address;

test.skipIf(outside === undefined)("does not drain for another machine, and answers its probes", async () => {
  const { connect } = await import("node:net");
  const ask = (request: string) =>
    new Promise<string>((resolve) => {
      let received = "";
      const socket = connect({ port, host: outside });
      socket.on("data", (bytes) => {
        received += bytes.toString();
      });
      socket.on("close", () => resolve(received));
      socket.write(`${request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });
  expect(await ask("POST /drain")).toContain("403");
  expect(await ask("GET /healthz")).toContain("200 OK");
  expect(drains).toBe(0);
});

test("has nothing else", async () => {
  for (const path of ["/", "/v1/chat/completions", "/metrics/", "/debug"]) expect((await request1(port, "GET", path)).status).toBe(404);
  expect((await request1(port, "DELETE", "/healthz")).headers.allow).toBe("GET, HEAD");
});

test("closes at once, whoever is connected", async () => {
  const connection = new RawConnection(port);
  connection.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  await connection.until("ok\n");
  await ops.close();
  await connection.end();
});

test("says where it cannot listen", async () => {
  const second = createOps({ notReady: () => undefined, metrics, drain: () => {}, house: { warn: () => {} } });
  await expect(second.listen("0.0.0.0", port)).rejects.toThrow("EADDRINUSE");
});
