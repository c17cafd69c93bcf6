import { createServer } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { Caller, Exchange } from "./caller.ts";
import { openHttp1 } from "./http1.ts";
import { openHttp2 } from "./http2.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function listen(server: Server): Promise<number> {
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** What came of one exchange. */
interface Outcome {
  readonly status: number;
  readonly payload: string;
  readonly failure: string | undefined;
}

function call(caller: Caller, request: Buffer): Promise<Outcome> {
  return new Promise((resolve) => {
    let payload = "";
    const exchange: Exchange = {
      request,
      status: 0,
      payload: (bytes, start, end) => {
        payload += bytes.toString("latin1", start, end);
      },
      done: (_, failure) => resolve({ status: exchange.status, payload, failure }),
    };
    caller.send(exchange);
    caller.flush();
  });
}

const buffer = Buffer.alloc(64 * 1024);
const now = () => 0;
const get = Buffer.from("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");

test("an HTTP/1.1 caller reads sized, chunked and empty answers on one connection", async () => {
  let count = 0;
  const port = await listen(
    createServer((request, response) => {
      request.resume().on("end", () => {
        count++;
        if (count === 1) response.end("sized");
        else if (count === 2) {
          response.write("a chunk, ");
          response.write("x".repeat(100_000));
          response.end("the last");
        } else response.writeHead(503, { "content-length": 0 }).end();
      });
    }),
  );
  const caller = openHttp1(port, buffer, now);
  open.push(caller);
  expect(await call(caller, get)).toEqual({ status: 200, payload: "sized", failure: undefined });
  expect(await call(caller, get)).toEqual({ status: 200, payload: `a chunk, ${"x".repeat(100_000)}the last`, failure: undefined });
  expect(await call(caller, get)).toEqual({ status: 503, payload: "", failure: undefined });
});

test("an answer that is cut is a failure", async () => {
  const port = await listen(
    createServer((_, response) => {
      response.write("half");
      setImmediate(() => response.destroy());
    }),
  );
  const caller = openHttp1(port, buffer, now);
  expect((await call(caller, get)).failure).toBeDefined();
  expect(caller.closed).toBe(true);
});

test("an HTTP/2 caller indexes its headers, sends bodies in frames and reads many streams at once", async () => {
  const server = createHttp2Server();
  const seen: string[] = [];
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    seen.push(`${headers[":method"]} ${headers[":path"]} ${headers["x-a"]}`);
    let bytes = 0;
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.on("end", () => {
      stream.respond({ ":status": 200 });
      stream.end(`${bytes}${"y".repeat(200_000)}`);
    });
  });
  const port = await listen(server as unknown as Server);
  const caller = openHttp2(port, "/p", ["x-a", "b".repeat(150)], 50, buffer, now);
  open.push(caller);
  // Together more than the connection's window, each more than a frame.
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => call(caller, Buffer.alloc(20_000, 1))));
  expect(outcomes).toEqual(outcomes.map(() => ({ status: 0, payload: `20000${"y".repeat(200_000)}`, failure: undefined })));
  expect(seen).toEqual(seen.map(() => `POST /p ${"b".repeat(150)}`));
  expect(caller.active).toBe(0);
});

test("a stream that is reset is a failure, and the connection goes on", async () => {
  const server = createHttp2Server();
  let count = 0;
  server.on("stream", (stream: ServerHttp2Stream) => {
    if (count++ === 0) stream.close(8);
    else stream.end("fine");
  });
  const port = await listen(server as unknown as Server);
  const caller = openHttp2(port, "/p", [], 10, buffer, now);
  open.push(caller);
  expect((await call(caller, Buffer.from("a"))).failure).toBe("stream reset with code 8");
  expect((await call(caller, Buffer.from("a"))).payload).toBe("fine");
});
