/** The link over real connections: HTTP/2, HTTP/1.1 behind what knows no better, Unix sockets, TLS with an authority known by its hash. */
import { createHash } from "node:crypto";
import { createServer as createHttp1, type Server } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, expect, test } from "vitest";
import { RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { MeshService, type SubscribeRequest, SubscribeRequestSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import type { Link, LinkEnd } from "../mesh/link.ts";
import { dialControl } from "./control.ts";

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

interface Heard {
  readonly link: Link;
  /** The next thing that comes, as a word: a heartbeat's root, or how the link ended. */
  next(): Promise<string>;
}

function dialling(url: string): () => Heard {
  const dial = dialControl(() => ({ url, authority: undefined, own: undefined }));
  return () => {
    const words: string[] = [];
    const waiting: ((word: string) => void)[] = [];
    const say = (word: string): void => {
      const first = waiting.shift();
      if (first === undefined) words.push(word);
      else first(word);
    };
    const link = dial({
      received: ({ message }) => say(message.case === "heartbeat" ? message.value.root : (message.case ?? "nothing")),
      ended: ({ code, retryAfterMs }: LinkEnd) => say(`ended ${code}${retryAfterMs === undefined ? "" : ` ${retryAfterMs}`}`),
    });
    closing.push(async () => link.close());
    link.send(create(SubscribeRequestSchema, { message: { case: "opening", value: { instance: "me" } } }));
    return {
      link,
      next: () => {
        const word = words.shift();
        return word === undefined ? new Promise((then) => waiting.push(then)) : Promise.resolve(word);
      },
    };
  };
}

/** Answers each message with a heartbeat that names it. */
function echo(router: ConnectRouter): void {
  const wordOf = ({ message }: SubscribeRequest): string => (message.case === "opening" ? message.value.instance : (message.case ?? ""));
  let polled = 0;
  router.service(MeshService, {
    async *subscribe(requests) {
      for await (const request of requests) yield { message: { case: "heartbeat", value: { root: wordOf(request) } } };
    },
    poll: ({ session, messages }) => {
      polled += 1;
      if (session === "" && messages[0]?.message.case !== "opening") throw new ConnectError("no opening", Code.InvalidArgument);
      return {
        session: session === "" ? "s" : session,
        messages: messages.map((one) => ({
          message: { case: "heartbeat" as const, value: { root: `polled ${polled > 0} ${wordOf(one)}` } },
        })),
      };
    },
  });
}

async function serve(server: Server | ReturnType<typeof createHttp2>, path?: string): Promise<string> {
  const sessions = new Set<{ destroy(): void }>();
  server.on("session", (session: { destroy(): void }) => sessions.add(session));
  server.on("connection", (socket: { destroy(): void }) => sessions.add(socket));
  await new Promise<void>((done) => {
    if (path === undefined) server.listen(0, "127.0.0.1", done);
    else server.listen(path, done);
  });
  closing.push(
    () =>
      new Promise((done) => {
        server.close(() => done());
        for (const session of sessions) session.destroy();
      }),
  );
  return path === undefined ? `http://127.0.0.1:${(server.address() as AddressInfo).port}` : `unix:${path}`;
}

const adapter = (routes: (router: ConnectRouter) => void) => connectNodeAdapter({ routes });

test("messages go both ways over HTTP/2", async () => {
  const dial = dialling(await serve(createHttp2(adapter(echo))));
  const { link, next } = dial();
  expect(await next()).toBe("me");
  link.send(create(SubscribeRequestSchema, { message: { case: "ack", value: {} } }));
  expect(await next()).toBe("ack");
});

test("messages go both ways over a Unix socket", async () => {
  const path = join(
    tmpdir(),
    `outrigger-${process.pid}-${createHash("sha256")
      .update(import.meta.url)
      .digest("hex")
      .slice(0, 8)}.sock`,
  );
  const { next } = dialling(await serve(createHttp2(adapter(echo)), path))();
  expect(await next()).toBe("me");
});

test("where only HTTP/1.1 passes, the next link polls", async () => {
  const dial = dialling(await serve(createHttp1(adapter(echo))));
  expect(await dial().next()).toMatch(/^ended /);
  const { link, next } = dial();
  expect(await next()).toBe("polled true me");
  link.send(create(SubscribeRequestSchema, { message: { case: "ack", value: {} } }));
  expect(await next()).toBe("polled true ack");
});

test("where nobody listens, nothing polls: the next link is a stream again", async () => {
  const server = createHttp2(adapter(echo));
  const url = await serve(server);
  const port = Number(new URL(url).port);
  await closing.pop()?.();
  const dial = dialling(url);
  expect(await dial().next()).toBe("ended unavailable");
  const again = createHttp2(adapter(echo));
  await new Promise<void>((done) => {
    again.listen(port, "127.0.0.1", done);
  });
  const sessions = new Set<{ destroy(): void }>();
  again.on("session", (session) => sessions.add(session));
  closing.push(
    () =>
      new Promise((done) => {
        again.close(() => done());
        for (const session of sessions) session.destroy();
      }),
  );
  expect(await dial().next()).toBe("me");
});

test("what control asks for on refusing is told", async () => {
  const refuse = (router: ConnectRouter): void => {
    router.service(MeshService, {
      // biome-ignore lint/correctness/useYield: it refuses before it says a word
      async *subscribe() {
        const detail = { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(7000) } };
        throw new ConnectError("later", Code.ResourceExhausted, undefined, [detail]);
      },
    });
  };
  const { next } = dialling(await serve(createHttp2(adapter(refuse))))();
  expect(await next()).toBe("ended resource_exhausted 7000");
});

test("a link that is closed tells nothing any more, and its connection ends", async () => {
  const server = createHttp2(adapter(echo));
  const ended = new Promise<void>((done) => server.on("session", (session) => session.on("close", done)));
  const { link, next } = dialling(await serve(server))();
  expect(await next()).toBe("me");
  link.close();
  await ended;
});
