import { cors as connectCors } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeHouse, testDialect } from "../../test/kit/house.ts";
import { request1, request2, type WholeAnswer } from "../../test/kit/sockets.ts";
import { openAiEmbeddingServer } from "../dialects/openai/openai.ts";
import { exposedHeaders } from "./cors.ts";
import { createListener, type Listener } from "./listener.ts";
import { openAiDoor } from "./openai.ts";

let house: FakeHouse;
let listener: Listener;
let port: number;

beforeEach(async () => {
  house = new FakeHouse();
  const door = openAiDoor(house, { chat: testDialect, texts: testDialect, embeddings: openAiEmbeddingServer }, 1000);
  listener = createListener({ doors: [door], turnAway: door.turnAway, corsOrigins: ["https://chat.example.com/"], house });
  port = await listener.listen("127.0.0.1", 0);
});

afterEach(() => listener.close(0));

const body = JSON.stringify({ model: "small" });

function post(headers: Record<string, string>, request = request1): Promise<WholeAnswer> {
  return request(port, "POST", "/v1/chat/completions", { "content-type": "application/json", ...headers }, body);
}

function preflight(headers: Record<string, string>): Promise<WholeAnswer> {
  return request1(port, "OPTIONS", "/v1/chat/completions", { "access-control-request-method": "POST", ...headers });
}

describe.each([
  "http://localhost",
  "http://localhost:5173",
  "http://127.0.0.1:3000",
  "http://127.1.2.3:3000",
  "http://[::1]:3000",
  "https://localhost:8443",
  "http://app.localhost:3000",
  "https://chat.example.com",
])("a page of %s", (origin) => {
  test.each([
    ["HTTP/1.1", request1],
    ["HTTP/2", request2],
  ] as const)("may call over %s and read the answer", async (_name, request) => {
    const answer = await post({ origin }, request);
    expect(answer.status).toBe(200);
    expect(answer.headers["access-control-allow-origin"]).toBe(origin);
    expect(answer.headers.vary).toBe("origin");
    expect(answer.headers["access-control-allow-credentials"]).toBeUndefined();
    expect(answer.headers["access-control-expose-headers"]?.split(", ")).toEqual(exposedHeaders);
  });

  test("may read refusals", async () => {
    const answer = await request1(port, "GET", "/v1/nothing", { origin });
    expect(answer.status).toBe(404);
    expect(answer.headers["access-control-allow-origin"]).toBe(origin);
  });

  test("is told what it may send", async () => {
    const wanted = "content-type, authorization, x-stainless-os, connect-protocol-version";
    const answer = await preflight({ origin, "access-control-request-headers": wanted });
    expect(answer.status).toBe(204);
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": origin,
      "access-control-allow-headers": wanted,
      "access-control-max-age": "7200",
    });
    expect(answer.headers["access-control-allow-methods"]).toContain("POST");
    expect(answer.headers["access-control-allow-private-network"]).toBeUndefined();
  });
});

test("a page of a public address is told that it may call a private one, if it asks", async () => {
  const answer = await preflight({ origin: "https://chat.example.com", "access-control-request-private-network": "true" });
  expect(answer.headers["access-control-allow-private-network"]).toBe("true");
});

describe.each([
  "https://evil.example",
  "http://chat.example.com",
  "https://chat.example.com.evil.example",
  "https://evilchat.example.com",
  "http://localhost.evil.example",
  "http://localhost:80.evil.example",
  "http://127.0.0.1.evil.example",
  "http://evil.example#localhost",
  "null",
])("a page of %s", (origin) => {
  test("is told nothing", async () => {
    for (const answer of [await post({ origin }), await preflight({ origin, "access-control-request-private-network": "true" })]) {
      expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
      expect(answer.headers.vary).toContain("origin");
    }
  });
});

test("what no page sent carries none of this", async () => {
  const answer = await post({});
  expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control") || name === "vary")).toEqual([]);
});

test("header names that are none are not sent back", async () => {
  const answer = await preflight({ origin: "http://localhost", "access-control-request-headers": "a\tb" });
  expect(answer.headers["access-control-allow-headers"]).toBeUndefined();
  const long = await preflight({ origin: "http://localhost", "access-control-request-headers": "a".repeat(5000) });
  expect(long.headers["access-control-allow-headers"]).toBeUndefined();
});

describe("a name that was made to point at this machine", () => {
  test("is refused, whether the page posts or looks", async () => {
    const posted = await post({ host: `evil.example:${port}`, origin: `http://evil.example:${port}` });
    expect(posted.status).toBe(403);
    expect(posted.headers["x-outrigger-reason"]).toBe("ORIGIN_NOT_ALLOWED");
    expect(posted.headers["access-control-allow-origin"]).toBeUndefined();
    const looked = await request1(port, "GET", "/v1/models", { host: `evil.example:${port}`, "sec-fetch-site": "same-origin" });
    expect(looked.status).toBe(403);
    const over2 = await request2(port, "GET", "/v1/models", { ":authority": `evil.example:${port}`, "sec-fetch-site": "same-origin" });
    expect(over2.status).toBe(403);
    expect(house.calls).toHaveLength(0);
    expect(house.refusals.map(({ fault }) => fault.facts.host)).toEqual([
      `evil.example:${port}`,
      `evil.example:${port}`,
      `evil.example:${port}`,
    ]);
  });

  test("is no trouble for programs, for names of this machine, and for names that are allowed", async () => {
    expect((await post({ host: "outrigger.internal:7410" })).status).toBe(200);
    expect((await post({ host: `localhost:${port}`, origin: `http://localhost:${port}`, "sec-fetch-site": "same-origin" })).status).toBe(
      200,
    );
    expect((await post({ host: "chat.example.com", origin: "https://chat.example.com", "sec-fetch-site": "same-origin" })).status).toBe(
      200,
    );
  });
});

test("whatever Connect's own list exposes, this one does", () => {
  for (const name of connectCors.exposedHeaders) expect(exposedHeaders).toContain(name.toLowerCase());
});
