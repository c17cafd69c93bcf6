import { createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import type { UpstreamExchange, UpstreamHandler, UpstreamRequest } from "../call.ts";
import { openUpstream } from "./upstream.ts";

/** A server on bare sockets, so that a test decides every byte and sees every socket close. */
async function bareServer(onRequest: (socket: Socket, request: string) => void) {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => onRequest(socket, bytes.toString("latin1")));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has a port");
  return {
    sockets,
    origin: `http://127.0.0.1:${address.port}`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** What came of one request, as a promise and as it came. */
function listen() {
  const heard: { status?: number; header?: string | undefined; text: string; error?: Error; sent?: boolean } = { text: "" };
  let settle: () => void = () => {};
  const over = new Promise<void>((resolve) => {
    settle = resolve;
  });
  const handler: UpstreamHandler = {
    wanting: true,
    begun() {},
    head(status, headers) {
      heard.status = status;
      heard.header = headers.get("x-test");
    },
    data(bytes) {
      heard.text += Buffer.from(bytes).toString();
    },
    end: () => settle(),
    error(error, sent) {
      heard.error = error;
      heard.sent = sent;
      settle();
    },
  };
  return { heard, handler, over };
}

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

function opened() {
  const upstream = openUpstream();
  closers.push(() => upstream.close());
  return upstream;
}

function requestTo(origin: string): UpstreamRequest {
  return {
    origin,
    path: "/v1/chat",
    headers: ["content-type", "application/json"],
    body: '{"a":"é"}',
    connectTimeoutMs: 2000,
    connections: 8,
  };
}

describe("the upstream", () => {
  it("sends a request as it was given and hears the whole answer", async () => {
    let seen = "";
    const server = await bareServer((socket, request) => {
      seen += request;
      socket.write("HTTP/1.1 201 Created\r\nx-test: one\r\nx-test: two\r\ncontent-length: 5\r\n\r\nhel");
      socket.write("lo");
    });
    closers.push(server.close);
    const { heard, handler, over } = listen();
    opened().send(requestTo(server.origin), handler);
    await over;
    expect(seen).toMatch(/^POST \/v1\/chat HTTP\/1\.1\r\n/);
    expect(seen.toLowerCase()).toContain("content-length: 10\r\n");
    expect(heard).toEqual({ status: 201, header: "two", text: "hello" });
  });

  it("asks by other methods, and sends no body with GET", async () => {
    const seen: string[] = [];
    const server = await bareServer((socket, request) => {
      seen.push(request);
      socket.write("HTTP/1.1 204 No Content\r\n\r\n");
    });
    closers.push(server.close);
    const upstream = opened();
    for (const method of ["GET", "PUT"] as const) {
      const { heard, handler, over } = listen();
      upstream.send({ ...requestTo(server.origin), method, headers: [], body: "" }, handler);
      await over;
      expect(heard.status).toBe(204);
    }
    expect(seen[0]).toMatch(/^GET \/v1\/chat HTTP\/1\.1\r\n/);
    expect(seen[0]).not.toMatch(/content-length|transfer-encoding/i);
    expect(seen[1]).toMatch(/^PUT .*content-length: 0\r\n/s);
  });

  it("closes the socket when a running answer is aborted, and says no more", async () => {
    const closed: Promise<void>[] = [];
    const server = await bareServer((socket) => {
      closed.push(new Promise((resolve) => socket.on("close", () => resolve())));
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    });
    closers.push(server.close);
    let exchange: UpstreamExchange | undefined;
    const { heard, handler } = listen();
    const first = new Promise<void>((resolve) => {
      const { data } = handler;
      handler.data = (bytes) => {
        data(bytes);
        exchange?.abort();
        resolve();
      };
    });
    exchange = opened().send(requestTo(server.origin), handler);
    await first;
    await closed[0];
    expect(heard).toMatchObject({ status: 200, text: "abc" });
    expect(heard.error).toBeUndefined();
  });

  it("never sends a request that was aborted while it waited for a connection", async () => {
    let requests = 0;
    const server = await bareServer(() => {
      requests += 1;
    });
    closers.push(server.close);
    const upstream = opened();
    const { heard, handler } = listen();
    upstream.send(requestTo(server.origin), handler).abort();
    const other = listen();
    const second = upstream.send(requestTo(server.origin), other.handler);
    while (requests === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(requests).toBe(1);
    expect(heard.error).toBeUndefined();
    second.abort();
  });

  it("reports a port on which nobody listens as not sent", async () => {
    const server = await bareServer(() => {});
    server.close();
    const { heard, handler, over } = listen();
    opened().send(requestTo(server.origin), handler);
    await over;
    expect(heard.sent).toBe(false);
    expect(heard.error).toBeInstanceOf(Error);
  });

  it("reports an answer that breaks off", async () => {
    const server = await bareServer((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"));
    closers.push(server.close);
    const { heard, handler, over } = listen();
    opened().send(requestTo(server.origin), handler);
    await over;
    expect(heard).toMatchObject({ status: 200, text: "abc", sent: true });
    expect(heard.error).toBeInstanceOf(Error);
  });

  it("hands on together what came together, and before what came after it", async () => {
    const server = await bareServer((socket) => {
      // Three chunks and the end, in the same segment as the head.
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n");
    });
    closers.push(server.close);
    const heard: string[] = [];
    await new Promise<void>((resolve) => {
      opened().send(requestTo(server.origin), {
        wanting: true,
        begun() {},
        head: (status) => heard.push(String(status)),
        data: (bytes) => heard.push(Buffer.from(bytes).toString()),
        end: () => resolve(),
        error: (error) => heard.push(String(error)),
      });
    });
    expect(heard).toEqual(["200", "abc"]);
  });

  it("hands on what came before an answer broke off", async () => {
    const server = await bareServer((socket) => {
      socket.end("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\nnot a chunk");
    });
    closers.push(server.close);
    const heard: string[] = [];
    await new Promise<void>((resolve) => {
      opened().send(requestTo(server.origin), {
        wanting: true,
        begun() {},
        head: (status) => heard.push(String(status)),
        data: (bytes) => heard.push(Buffer.from(bytes).toString()),
        end: () => heard.push("end"),
        error: (_, sent) => {
          heard.push(`broke off, ${sent}`);
          resolve();
        },
      });
    });
    expect(heard).toEqual(["200", "ab", "broke off, true"]);
  });

  it("stops reading while paused", async () => {
    const server = await bareServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n");
      socket.write(Buffer.alloc(50_000_000, "a"));
    });
    closers.push(server.close);
    const { heard, handler, over } = listen();
    let exchange: UpstreamExchange | undefined;
    const paused = new Promise<void>((resolve) => {
      const { data } = handler;
      handler.data = (bytes) => {
        const before = heard.text.length;
        data(bytes);
        if (before === 0) {
          exchange?.pause();
          resolve();
        }
      };
    });
    exchange = opened().send(requestTo(server.origin), handler);
    await paused;
    for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(heard.text.length).toBeLessThan(1_000_000);
    exchange.resume();
    await over;
    expect(heard.text.length).toBe(50_000_000);
  });
});
