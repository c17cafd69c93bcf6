import { create } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  Health,
  HealthCheckRequestSchema,
  type HealthCheckResponse,
  HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { FakeHouse } from "../../test/kit/house.ts";
import { GrpcClient, grpcStream, type OpenDoor, openDoor, toldFault, transports } from "../../test/kit/rpc.ts";
import { request1, until } from "../../test/kit/sockets.ts";
import { rpcDoor } from "./connect.ts";

const chatService = "outrigger.chat.v1.ChatCompletionService";

describe("gRPC health", () => {
  let clock: ManualClock;
  let house: FakeHouse;
  let opened: OpenDoor;
  let client: GrpcClient;

  beforeEach(async () => {
    clock = new ManualClock();
    house = new FakeHouse(undefined, clock);
    opened = await openDoor(house, rpcDoor(house, { requestBytesMax: 1_000, reflection: false, generic: false }));
    client = new GrpcClient(opened.port);
  });

  afterEach(async () => {
    client.close();
    const closed = opened.close();
    clock.advance(60_000);
    await closed;
  });

  const check = (service: string) =>
    client.unary(
      "/grpc.health.v1.Health/Check",
      HealthCheckRequestSchema,
      HealthCheckResponseSchema,
      create(HealthCheckRequestSchema, { service }),
    );
  const watch = (service: string, metadata = {}) =>
    client.stream(
      "/grpc.health.v1.Health/Watch",
      HealthCheckRequestSchema,
      HealthCheckResponseSchema,
      create(HealthCheckRequestSchema, { service }),
      metadata,
    );

  test("serves under its names, and says so until it drains", async () => {
    for (const name of ["", chatService, "outrigger.chat.v1.ModelService"]) {
      expect((await check(name)).messages[0]?.status).toBe(Status.SERVING);
    }
    house.drains = true;
    expect((await check("")).messages[0]?.status).toBe(Status.NOT_SERVING);
  });

  test("does not know other services", async () => {
    expect(await check("x.Y")).toMatchObject({ code: 5, messages: [] });
  });

  test("is answered in every protocol, and to curl", async () => {
    for (const transport of Object.values(transports)) {
      expect((await createClient(Health, transport(opened.port)).check({})).status).toBe(Status.SERVING);
    }
    const answer = await request1(opened.port, "POST", "/grpc.health.v1.Health/Check", { "content-type": "application/json" }, "{}");
    expect(JSON.parse(answer.body)).toEqual({ status: "SERVING" });
  });

  test("lists all of them", async () => {
    const { statuses } = await createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${opened.port}` })).list({});
    expect(Object.entries(statuses).map(([name, { status }]) => [name, status])).toEqual([
      ["", Status.SERVING],
      [chatService, Status.SERVING],
      ["outrigger.chat.v1.EmbeddingService", Status.SERVING],
      ["outrigger.chat.v1.ModelService", Status.SERVING],
    ]);
  });

  test("a watcher hears of a change within a second, and no longer holds up the drain", async () => {
    const call = watch("");
    const heard: HealthCheckResponse[] = [];
    call.on("data", (message: HealthCheckResponse) => heard.push(message));
    const ended = grpcStream(call);
    await until(() => heard.length === 1);
    await until(() => clock.waiting >= 2);
    clock.advance(1_000);
    await until(() => clock.waiting >= 2);
    expect(heard).toHaveLength(1);
    house.drains = true;
    clock.advance(1_000);
    expect(await ended).toMatchObject({ code: 0, messages: [{ status: Status.SERVING }, { status: Status.NOT_SERVING }] });
  });

  test("a watcher of an unknown service waits for it, and leaves no timer when it goes", async () => {
    const call = watch("x.Y");
    const heard: HealthCheckResponse[] = [];
    call.on("data", (message: HealthCheckResponse) => heard.push(message));
    const ended = grpcStream(call);
    await until(() => heard.length === 1);
    expect(heard[0]?.status).toBe(Status.SERVICE_UNKNOWN);
    const waiting = clock.waiting;
    call.cancel();
    expect(await ended).toMatchObject({ code: 1 });
    await until(() => clock.waiting < waiting);
  });

  test("a deadline ends the watch", async () => {
    const client = createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${opened.port}` }));
    const messages = client.watch({}, { timeoutMs: 60_000 })[Symbol.asyncIterator]();
    expect((await messages.next()).value?.status).toBe(Status.SERVING);
    clock.advance(60_000);
    expect(await toldFault(messages.next())).toMatchObject({ code: Code.DeadlineExceeded, reason: "DEADLINE_EXCEEDED" });
  });

  test("refuses names longer than names are", async () => {
    expect(await check("x".repeat(20_000))).toMatchObject({ code: 8 });
  });
});

test("services that could not be loaded are loaded when they are asked for again", async () => {
  vi.doMock("./rpc/services.ts", () => {
    throw Object.assign(new Error("too many open files"), { code: "EMFILE" });
  });
  const house = new FakeHouse(undefined, new ManualClock());
  const { rpcDoor: door } = await import("./connect.ts");
  const opened = await openDoor(house, door(house, { requestBytesMax: 1_000, reflection: false, generic: false }));
  try {
    const check = () =>
      fetch(`http://127.0.0.1:${opened.port}/grpc.health.v1.Health/Check`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      });
    const first = await check();
    expect({ status: first.status, body: await first.json() }).toMatchObject({ status: 500, body: { code: "internal" } });
    vi.doUnmock("./rpc/services.ts");
    const second = await check();
    expect({ status: second.status, body: await second.json() }).toEqual({ status: 200, body: { status: "SERVING" } });
  } finally {
    vi.doUnmock("./rpc/services.ts");
    await opened.close();
  }
});
