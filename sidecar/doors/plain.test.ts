import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { FakeHouse, HandAnswer, testDialect } from "../../test/kit/house.ts";
import { RawConnection, request1, request2, until } from "../../test/kit/sockets.ts";
import type { ServerHalf } from "../dialects/dialect.ts";
import { openAiEmbeddingServer } from "../dialects/openai/openai.ts";
import { anthropicDoor } from "./anthropic.ts";
import { createListener, type Listener } from "./listener.ts";
import { openAiDoor } from "./openai.ts";

const bytesMax = 100_000;
const json = { "content-type": "application/json", authorization: "Bearer key" };
const unary = JSON.stringify({ model: "small" });
const stream = JSON.stringify({ model: "small", stream: true });

let house: FakeHouse;
let listener: Listener;
let port: number;

beforeEach(async () => {
  house = new FakeHouse();
  const openai = openAiDoor(
    house,
    { chat: { ...testDialect, dialect: "first" }, texts: testDialect, embeddings: openAiEmbeddingServer },
    bytesMax,
  );
  const second: ServerHalf = { ...testDialect, writeFault: (fault) => `second ${fault.kind.name}` };
  const anthropic = anthropicDoor(house, { chat: second, count: second }, bytesMax);
  listener = createListener({
    doors: [anthropic, openai],
    turnAway: openai.turnAway,
    corsOrigins: ["https://chat.example.com"],
    house,
  });
  port = await listener.listen("127.0.0.1", 0);
});

afterEach(() => listener.close(0));

const both = [
  ["HTTP/1.1", request1],
  ["HTTP/2", request2],
] as const;

const doors = [
  ["/v1/chat/completions", "openai"],
  ["/v1/messages", "anthropic"],
] as const;

describe.each(both)("over %s", (_name, request) => {
  test.each(doors)("%s answers whole", async (path, door) => {
    const answer = await request(port, "POST", path, json, unary);
    expect(answer).toMatchObject({ status: 200, body: "hello" });
    expect(answer.headers).toMatchObject({ "content-type": "application/json", "x-request-id": "id-1", "request-id": "id-1" });
    expect(house.calls[0]).toMatchObject({ door, id: "id-1", streaming: false, nativeStreamUsage: false, native: { text: unary } });
    expect(house.calls[0]?.credential?.reveal()).toBe("key");
  });

  test.each(doors)("%s streams", async (path, door) => {
    const answer = await request(port, "POST", path, json, stream);
    expect(answer).toMatchObject({ status: 200, body: "data: hello\n\ndone\n" });
    expect(answer.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    });
    expect(house.calls[0]).toMatchObject({ door, streaming: true, nativeStreamUsage: true });
  });

  test("what was found out stands in the head", async () => {
    house.answerWith((call) => {
      Object.assign(call.notes, { route: "fast", provider: "größe\r\n", droppedParams: ["seed", "logit_bias"] });
      return new HandAnswerOf("x");
    });
    const { headers } = await request(port, "POST", "/v1/messages", json, stream);
    expect(headers).toMatchObject({
      "x-outrigger-route": "fast",
      "x-outrigger-provider": "gr%C3%B6%C3%9Fe%0D%0A",
      "x-outrigger-dropped-params": "seed, logit_bias",
    });
  });

  test("a fault carries what SDKs obey and what people look for", async () => {
    house.answerWith((call) => {
      Object.assign(call.notes, { route: "fast", provider: "far" });
      throw new Fault(FaultReason.PROVIDER_RATE_LIMITED, "Slow down.", { retryAfterMs: 1234.5, facts: { provider_status: "429" } });
    });
    const answer = await request(port, "POST", "/v1/chat/completions", json, unary);
    expect(answer.status).toBe(429);
    expect(answer.headers).toMatchObject({
      "x-outrigger-reason": "PROVIDER_RATE_LIMITED",
      "x-should-retry": "true",
      "retry-after-ms": "1235",
      "retry-after": "2",
      "x-outrigger-provider-status": "429",
      "x-outrigger-route": "fast",
      "x-outrigger-provider": "far",
      "x-request-id": "id-1",
    });
    expect(JSON.parse(answer.body)).toEqual({ fault: "PROVIDER_RATE_LIMITED", message: "Slow down.", requestId: "id-1" });
  });

  test("a fault that is final says so", async () => {
    house.answerWith(() => {
      throw new Fault(FaultReason.MODEL_NOT_FOUND, "There is none.");
    });
    const { headers } = await request(port, "POST", "/v1/chat/completions", json, unary);
    expect(headers["x-should-retry"]).toBe("false");
    expect(headers["retry-after-ms"]).toBeUndefined();
  });

  test("after the first bytes a fault is part of the stream", async () => {
    const answer = new HandAnswer();
    answer.text("a");
    answer.give(new Fault(FaultReason.PROVIDER_FAILED, "It failed."));
    house.answerWith(() => answer);
    expect(await request(port, "POST", "/v1/messages", json, stream)).toMatchObject({
      status: 200,
      body: "data: a\n\nfault: PROVIDER_FAILED\n\n",
    });
  });

  test("a body that cannot be read is refused, and recorded", async () => {
    for (const body of ["", "{", "[]", '{"model":7}', Buffer.from([0x7b, 0xff, 0x7d])]) {
      const answer = await request(port, "POST", "/v1/chat/completions", json, body);
      expect(answer.status).toBe(400);
      expect(answer.headers["x-outrigger-reason"]).toBe("REQUEST_INVALID");
    }
    expect(house.calls).toHaveLength(0);
    expect(house.refusals).toHaveLength(5);
    expect(house.refusals[0]).toMatchObject({ door: "openai", id: "id-1" });
  });

  test("a body that is too large is refused with the limit", async () => {
    const answer = await request(port, "POST", "/v1/messages", json, "a".repeat(bytesMax + 1));
    expect(answer).toMatchObject({ status: 413, body: "second REQUEST_TOO_LARGE" });
    expect(house.refusals[0]?.fault.message).toContain(String(bytesMax));
  });

  test.each([
    [undefined, "It has none"],
    ["text/plain", "'text/plain'"],
    ["application/jsonp", "'application/jsonp'"],
    ["application/x-www-form-urlencoded", "'application/x-www-form-urlencoded'"],
  ])("the content type %s is refused by name", async (type, seen) => {
    const headers = type === undefined ? {} : { "content-type": type };
    const answer = await request(port, "POST", "/v1/chat/completions", headers, unary);
    expect(answer.status).toBe(415);
    expect(JSON.parse(answer.body).message).toContain(seen);
  });

  test.each(["application/json", "Application/JSON; charset=utf-8", "application/json ;charset=utf-8"])(
    "the content type %s is taken",
    async (type) => {
      expect((await request(port, "POST", "/v1/chat/completions", { "content-type": type }, unary)).status).toBe(200);
    },
  );

  test.each([
    ["gzip", gzipSync],
    ["x-gzip", gzipSync],
    ["GZIP", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
    ["zstd", zstdCompressSync],
    ["identity", (body: Buffer) => body],
  ])("a body in %s is taken", async (coding, encode) => {
    const body = encode(Buffer.from(unary));
    expect((await request(port, "POST", "/v1/chat/completions", { ...json, "content-encoding": coding }, body)).status).toBe(200);
    expect(house.calls[0]?.native?.text).toBe(unary);
  });

  test.each(["compress", "gzip, br", "gzip, gzip", "aws-chunked"])("the coding %s is refused by name", async (coding) => {
    const answer = await request(port, "POST", "/v1/chat/completions", { ...json, "content-encoding": coding }, gzipSync(unary));
    expect(answer.status).toBe(415);
    expect(JSON.parse(answer.body).message).toContain(`'${coding}'`);
  });

  test("a body that is not in its coding is refused", async () => {
    for (const coding of ["gzip", "deflate", "br", "zstd"]) {
      const answer = await request(port, "POST", "/v1/chat/completions", { ...json, "content-encoding": coding }, unary);
      expect(answer.status).toBe(400);
      expect(JSON.parse(answer.body).message).toContain(coding);
    }
  });

  test.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
    ["zstd", zstdCompressSync],
  ])("a bomb in %s is refused before it grows beyond the limit", async (coding, encode) => {
    const bomb = encode(Buffer.alloc(50_000_000, "a"));
    expect(bomb.length).toBeLessThan(bytesMax);
    const answer = await request(port, "POST", "/v1/chat/completions", { ...json, "content-encoding": coding }, bomb);
    expect(answer.status).toBe(413);
    expect(house.calls).toHaveLength(0);
  });
});

describe("what a caller shows", () => {
  const shown = async (headers: Record<string, string>) => {
    await request1(port, "POST", "/v1/messages", { "content-type": "application/json", ...headers }, unary);
    return house.calls[0]?.credential?.reveal();
  };

  test.each([
    ["a bearer token", { authorization: "Bearer abc" }, "abc"],
    ["whatever its case", { authorization: "bearer abc" }, "abc"],
    ["a key", { "x-api-key": "abc" }, "abc"],
    ["the token before the key", { authorization: "Bearer abc", "x-api-key": "def" }, "abc"],
    ["the key beside something else", { authorization: "Basic abc", "x-api-key": "def" }, "def"],
    ["nothing", {}, undefined],
    ["an empty token", { authorization: "Bearer " }, undefined],
    ["an empty key", { "x-api-key": "" }, undefined],
  ])("is %s", async (_name, headers, expected) => {
    expect(await shown(headers)).toBe(expected);
  });

  test("never stands in a fault", async () => {
    house.answerWith(() => {
      throw new TypeError("broken");
    });
    const answer = await request1(port, "POST", "/v1/messages", { ...json, authorization: "Bearer top-secret" }, unary);
    expect(JSON.stringify([answer, house.warnings, house.refusals])).not.toContain("top-secret");
  });
});

describe("other headers", () => {
  test("a deadline is taken over, and a wrong one refused", async () => {
    await request1(port, "POST", "/v1/messages", { ...json, "x-outrigger-timeout-ms": "60000" }, unary);
    const call = house.calls[0];
    expect((call?.deadlineAtMs ?? 0) - (call?.startedAtMs ?? 0)).toBeCloseTo(59_995);
    for (const wrong of ["-1", "1.5", "soon", "12345678901", ""]) {
      const answer = await request1(port, "POST", "/v1/chat/completions", { ...json, "x-outrigger-timeout-ms": wrong }, unary);
      expect(answer.status).toBe(400);
      expect(house.refusals.at(-1)?.fault.field).toBe("x-outrigger-timeout-ms");
    }
    expect(house.calls).toHaveLength(1);
  });

  test("trace context is taken only if it is one", async () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await request1(port, "POST", "/v1/messages", { ...json, traceparent }, unary);
    await request1(port, "POST", "/v1/messages", { ...json, traceparent: `${traceparent}-x` }, unary);
    expect(house.calls.map((call) => call.traceparent)).toEqual([traceparent, undefined]);
  });

  test("what only we may say is not believed: ids, routes, addresses", async () => {
    const forged = {
      "x-request-id": "forged",
      "x-outrigger-route": "forged",
      "x-outrigger-provider": "forged",
      "x-forwarded-for": "10.0.0.1",
    };
    const answer = await request1(port, "POST", "/v1/messages", { ...json, ...forged }, unary);
    expect(JSON.stringify(answer)).not.toContain("forged");
    expect(house.calls[0]?.id).toBe("id-1");
  });
});

describe("models", () => {
  beforeEach(() => {
    house.models = ["a", "b/c d", "e", "f"].map((name) => ({ name, route: `route-${name}` }));
  });

  const version = { "anthropic-version": "2023-06-01" };

  test.each(both)("over %s are listed as either format does", async (_name, request) => {
    expect(JSON.parse((await request(port, "GET", "/v1/models")).body)).toEqual({
      object: "list",
      data: ["a", "b/c d", "e", "f"].map((id) => ({ id, object: "model", created: 0, owned_by: `route-${id}` })),
    });
    expect(JSON.parse((await request(port, "GET", "/v1/models", version)).body)).toEqual({
      data: ["a", "b/c d", "e", "f"].map((id) => ({ type: "model", id, display_name: id, created_at: "1970-01-01T00:00:00Z" })),
      has_more: false,
      first_id: "a",
      last_id: "f",
    });
  });

  test.each([
    ["limit=2", ["a", "b/c d"], true],
    ["limit=2&after_id=b/c d", ["e", "f"], false],
    ["limit=1&after_id=b/c d", ["e"], true],
    ["limit=2&before_id=f", ["b/c d", "e"], true],
    ["limit=5&before_id=e", ["a", "b/c d"], false],
    ["after_id=f", [], false],
    ["before_id=a", [], false],
  ])("are paged by %s", async (query, ids, more) => {
    const page = JSON.parse((await request1(port, "GET", `/v1/models?${query.replaceAll(" ", "%20")}`, version)).body);
    expect(page.data.map(({ id }: { id: string }) => id)).toEqual(ids);
    expect(page.has_more).toBe(more);
    expect([page.first_id, page.last_id]).toEqual([ids[0] ?? null, ids.at(-1) ?? null]);
  });

  test("a limit that is none is refused", async () => {
    for (const limit of ["0", "1001", "x", "-1"]) {
      expect((await request1(port, "GET", `/v1/models?limit=${limit}`, version)).status).toBe(400);
    }
  });

  test("are found by name, encoded or not, and the list is named where one is not", async () => {
    for (const path of ["/v1/models/b%2Fc%20d", "/v1/models/b/c%20d"]) {
      expect(JSON.parse((await request1(port, "GET", path)).body)).toMatchObject({ id: "b/c d" });
      expect(JSON.parse((await request1(port, "GET", path, version)).body)).toMatchObject({ id: "b/c d", type: "model" });
    }
    const missing = await request1(port, "GET", "/v1/models/g%zz");
    expect(missing.status).toBe(404);
    expect(missing.headers["x-outrigger-reason"]).toBe("MODEL_NOT_FOUND");
    expect(JSON.parse(missing.body).message).toContain("'a', 'b/c d', 'e', 'f'");
    expect((await request1(port, "GET", "/v1/models/g", version)).body).toBe("second MODEL_NOT_FOUND");
  });

  test("are not shown to whoever has a wrong key", async () => {
    const answer = await request1(port, "GET", "/v1/models", { "x-api-key": "wrong" });
    expect(answer.status).toBe(401);
    expect(house.refusals[0]?.fault.kind.name).toBe("CREDENTIAL_INVALID");
  });

  test.each(both)("over %s have a head without a body too", async (_name, request) => {
    const head = await request(port, "HEAD", "/v1/models");
    const get = await request(port, "GET", "/v1/models");
    expect(head.status).toBe(200);
    expect(head.body).toBe("");
    expect(head.headers["content-type"]).toBe(get.headers["content-type"]);
  });
});

describe("where there is nothing", () => {
  test.each(both)("over %s an unknown path is refused, and what there is is named", async (_name, request) => {
    for (const path of ["/", "/v1", "/v1/images", "/v1/chat/completions/", "/V1/chat/completions", "/v1/v1/messages"]) {
      const answer = await request(port, "POST", path, json, unary);
      expect(answer.status).toBe(404);
      expect(JSON.parse(answer.body)).toMatchObject({ fault: "PATH_NOT_FOUND" });
      expect(JSON.parse(answer.body).message).toContain(`POST ${path}. There is POST /v1/chat/completions`);
    }
    expect((await request(port, "POST", "/v1/messages/batches", json, unary)).body).toBe("second PATH_NOT_FOUND");
    expect(house.refusals).toHaveLength(7);
  });

  test.each([
    ["GET", "/v1/chat/completions", "POST, OPTIONS"],
    ["PUT", "/v1/messages", "POST, OPTIONS"],
    ["DELETE", "/v1/models", "GET, HEAD, OPTIONS"],
    ["POST", "/v1/models/a", "GET, HEAD, OPTIONS"],
  ])("%s %s says which methods there are", async (method, path, allow) => {
    const answer = await request1(port, method, path, json, method === "GET" ? "" : unary);
    expect(answer.status).toBe(405);
    expect(answer.headers.allow).toBe(allow);
    const options = await request1(port, "OPTIONS", path);
    expect(options.status).toBe(204);
    expect(options.headers.allow).toBe(allow);
    expect(options.headers["content-length"]).toBeUndefined();
  });
});

test("a connection is used again after every kind of answer", async () => {
  const connection = new RawConnection(port);
  const send = async (request: string, sign: string) => {
    connection.received = "";
    connection.send(request);
    await connection.until(sign);
  };
  const head = "Host: x\r\nContent-Type: application/json\r\n";
  await send(`POST /v1/chat/completions HTTP/1.1\r\n${head}Content-Length: ${unary.length}\r\n\r\n${unary}`, "hello");
  await send(`POST /v1/messages HTTP/1.1\r\n${head}Content-Length: ${stream.length}\r\n\r\n${stream}`, "0\r\n\r\n");
  await send(`POST /v1/messages HTTP/1.1\r\n${head}Content-Length: 1\r\n\r\n{`, "second REQUEST_INVALID");
  await send(`POST /v1/else HTTP/1.1\r\n${head}Content-Length: 1\r\n\r\n{`, "PATH_NOT_FOUND");
  await send("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "small-route");
  await send(`POST /v1/chat/completions HTTP/1.1\r\n${head}Content-Length: ${unary.length}\r\n\r\n${unary}`, "hello");
  connection.destroy();
  await until(() => listener.openCount === 0);
});

/** An answer that is there already. */
class HandAnswerOf extends HandAnswer {
  constructor(text: string) {
    super();
    this.text(text);
    this.finish();
  }
}

/** Ten megabytes of empty objects became half a gigabyte before any rule was looked at. */
test("a body made of very many values is refused before anything is made of it", async () => {
  const openai = openAiDoor(house, { chat: testDialect, texts: testDialect, embeddings: openAiEmbeddingServer }, 10_000_000);
  const large = createListener({ doors: [openai], turnAway: openai.turnAway, corsOrigins: [], house });
  try {
    const body = `{"model":"small","messages":[${"{},".repeat(400_000)}{}]}`;
    const answer = await request1(await large.listen("127.0.0.1", 0), "POST", "/v1/chat/completions", json, body);
    expect(answer.status).toBe(413);
    expect(answer.headers["x-outrigger-reason"]).toBe("REQUEST_TOO_LARGE");
    expect(house.calls).toEqual([]);
  } finally {
    await large.close(0);
  }
});
