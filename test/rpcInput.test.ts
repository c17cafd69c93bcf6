/** What callers of the RPC door may get wrong, byte by byte, against the hot path and against the generic stack. */
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { endEvent, textEvent, textOf } from "../proto/chat.ts";
import { Fault, FaultReason } from "../proto/fault.ts";
import {
  ChatCompletionService,
  CreateChatCompletionRequestSchema,
  CreateChatCompletionResponseSchema,
} from "../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { rpcDoor } from "../sidecar/doors/connect.ts";
import { onlyMessage, wrap } from "../sidecar/doors/rpc/envelope.ts";
import { chatRequest } from "./kit/call.ts";
import { FakeHouse, hello } from "./kit/house.ts";
import { outcomeOf } from "./kit/outcome.ts";
import { type OpenDoor, openDoor } from "./kit/rpc.ts";
import { request1, request2 } from "./kit/sockets.ts";

const requestBytesMax = 64 * 1024;

const service = "/outrigger.chat.v1.ChatCompletionService";
const unary = `${service}/CreateChatCompletion`;
const stream = `${service}/StreamChatCompletion`;
const message = create(CreateChatCompletionRequestSchema, { chat: chatRequest() });
const proto = toBinary(CreateChatCompletionRequestSchema, message);
const json = Buffer.from(JSON.stringify(toJson(CreateChatCompletionRequestSchema, message)));
const enveloped = wrap(0, proto);

/** The ways of sending a protobuf message in an envelope, and of reading how it went. */
const envelopedWires: readonly (readonly [name: string, path: string, contentType: string, http: "1" | "2"])[] = [
  ["gRPC unary", unary, "application/grpc", "2"],
  ["gRPC stream", stream, "application/grpc+proto", "2"],
  ["gRPC-Web unary", unary, "application/grpc-web+proto", "1"],
  ["gRPC-Web stream", stream, "application/grpc-web", "2"],
  ["Connect stream", stream, "application/connect+proto", "1"],
];

describe.each([
  ["by hand", false],
  ["by the generic stack", true],
])("%s", (_, generic) => {
  let house: FakeHouse;
  let opened: OpenDoor;

  beforeAll(async () => {
    house = new FakeHouse();
    opened = await openDoor(house, rpcDoor(house, { requestBytesMax, reflection: true, generic }));
  });

  beforeEach(() => {
    house.calls.length = 0;
    house.refusals.length = 0;
  });

  afterAll(async () => {
    // Whatever came, nothing surprised anybody.
    expect(house.warnings).toEqual([]);
    await opened.close();
  });

  const post = (http: "1" | "2", path: string, headers: Record<string, string>, body: Uint8Array) =>
    (http === "1" ? request1 : request2)(opened.port, "POST", path, headers, body);

  describe.each(envelopedWires)("%s", (__, path, contentType, http) => {
    const send = async (body: Uint8Array, headers: Record<string, string> = {}) =>
      outcomeOf(await post(http, path, { "content-type": contentType, ...headers }, body));

    test("a sound request is answered", async () => {
      expect(await send(enveloped)).toMatchObject({ code: 0 });
      expect(house.calls[0]?.request).toEqual(message.chat);
      expect(house.refusals).toEqual([]);
    });

    test.each<[string, Uint8Array, number, string, Record<string, string>?]>([
      ["nothing", Buffer.alloc(0), 12, "MESSAGE_COUNT_INVALID"],
      ["a head cut off", enveloped.subarray(0, 3), 3, "REQUEST_INVALID"],
      ["a message cut off", enveloped.subarray(0, enveloped.byteLength - 1), 3, "REQUEST_INVALID"],
      ["two messages", Buffer.concat([enveloped, enveloped]), 12, "MESSAGE_COUNT_INVALID"],
      ["a byte too many", Buffer.concat([enveloped, Buffer.of(0)]), 12, "MESSAGE_COUNT_INVALID"],
      ["an unknown flag", wrap(0b100, proto), 3, "REQUEST_INVALID"],
      ["the flag of an end", wrap(0b10, Buffer.from("{}")), 3, "REQUEST_INVALID"],
      ["the flag of trailers", wrap(0x80, proto), 3, "REQUEST_INVALID"],
      ["a compressed message that does not say how", wrap(1, gzipSync(proto)), 3, "REQUEST_INVALID"],
      ["a length beyond the limit", Buffer.of(0, 0xff, 0xff, 0xff, 0xff, 1), 8, "REQUEST_TOO_LARGE"],
      ["a message beyond the limit", wrap(0, Buffer.alloc(requestBytesMax + 1)), 8, "REQUEST_TOO_LARGE"],
      ["a timeout that is none", enveloped, 3, "REQUEST_INVALID", { "grpc-timeout": "soon", "connect-timeout-ms": "soon" }],
      ["a timeout of nine digits", enveloped, 3, "REQUEST_INVALID", { "grpc-timeout": "123456789S", "connect-timeout-ms": "12345678901" }],
      ["no time at all", enveloped, 4, "DEADLINE_EXCEEDED", { "grpc-timeout": "0S", "connect-timeout-ms": "0" }],
      ["an unknown compression", wrap(1, proto), 12, "ENCODING_UNSUPPORTED", { "grpc-encoding": "lzw", "connect-content-encoding": "lzw" }],
    ])("%s is refused with its status and reason", async (___, body, code, reason, headers = {}) => {
      expect(await send(body, headers)).toMatchObject({ code, reason });
      expect(house.calls).toEqual([]);
      expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual([reason]);
    });

    test.each<[string, Uint8Array]>([
      ["bytes that are no message", wrap(0, Buffer.of(0xff, 0xff, 0xff))],
      ["a message cut off within its envelope", wrap(0, proto.subarray(0, proto.byteLength - 3))],
      ["text that is not UTF-8", wrap(0, Buffer.of(10, 4, 10, 2, 0xc3, 0x28))],
      ["messages within messages without end", wrap(0, nested(500))],
    ])("%s is refused", async (___, body) => {
      expect(await send(body)).toEqual({ code: 3, reason: "REQUEST_INVALID" });
      expect(house.calls).toEqual([]);
      expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual(["REQUEST_INVALID"]);
    });

    test("says which compressions are understood", async () => {
      const answer = await post(
        http,
        path,
        { "content-type": contentType, "grpc-encoding": "lzw", "connect-content-encoding": "lzw" },
        enveloped,
      );
      const header = contentType.startsWith("application/grpc") ? "grpc-accept-encoding" : "connect-accept-encoding";
      expect(answer.headers[header]).toBe("gzip,br");
    });

    test("a compressed message is understood, and one that grows beyond reason is refused", async () => {
      const gzip = { "grpc-encoding": "gzip", "connect-content-encoding": "gzip" };
      expect(await send(wrap(1, gzipSync(proto)), gzip)).toMatchObject({ code: 0 });
      expect(await send(enveloped, gzip)).toMatchObject({ code: 0 });
      expect(house.calls.map(({ request }) => request)).toEqual([message.chat, message.chat]);
      expect(await send(wrap(1, gzipSync(Buffer.alloc(50 * 1024 * 1024))), gzip)).toEqual({ code: 8, reason: "REQUEST_TOO_LARGE" });
      expect(await send(wrap(1, proto), gzip)).toEqual({ code: 3, reason: "REQUEST_INVALID" });
    });
  });

  describe.each(["1", "2"] as const)("Connect unary over HTTP/%s", (http) => {
    const send = async (body: Uint8Array, headers: Record<string, string> = {}, path = unary) =>
      post(http, path, { "content-type": "application/json", ...headers }, body);

    test("a sound request is answered, in both codecs", async () => {
      const asJson = await send(json, { "content-type": "application/json; charset=utf-8" });
      expect(asJson.status).toBe(200);
      expect(asJson.headers["content-type"]).toBe("application/json");
      // HTTP/2 says itself where a body ends.
      expect(asJson.headers["content-length"]).toBe(http === "1" ? String(Buffer.byteLength(asJson.body)) : undefined);
      expect(JSON.parse(asJson.body)).toMatchObject({
        chat: { choices: [{ message: { role: "ROLE_ASSISTANT", parts: [{ text: { text: "hello" } }] } }] },
      });
      const asProto = await send(proto, { "content-type": "application/proto" });
      expect(asProto.status).toBe(200);
      expect(asProto.headers["content-type"]).toBe("application/proto");
      expect(asProto.body).toContain("hello");
    });

    test.each<[string, string, number, string, Record<string, string>?]>([
      ["an unknown member", '{"chat":{"model":"m","messages":[{"role":"ROLE_USER"}],"tempature":1}}', 400, "invalid_argument"],
      ["a wrong type", '{"chat":{"model":5}}', 400, "invalid_argument"],
      ["no JSON", "{", 400, "invalid_argument"],
      ["no object", "[]", 400, "invalid_argument"],
      ["text that is not UTF-8", "\xff", 400, "invalid_argument"],
      ["a rule broken", '{"chat":{"model":"m"}}', 400, "invalid_argument"],
      ["an empty body", "", 400, "invalid_argument"],
      ["an unknown compression", "{}", 501, "unimplemented", { "content-encoding": "lzw" }],
      ["a compression that it is not", "{}", 400, "invalid_argument", { "content-encoding": "gzip" }],
      ["a timeout that is none", "{}", 400, "invalid_argument", { "connect-timeout-ms": "1s" }],
      ["no time at all", json.toString(), 504, "deadline_exceeded", { "connect-timeout-ms": "0" }],
      ["too much", " ".repeat(requestBytesMax + 1), 429, "resource_exhausted"],
      ["nesting without end", `{"chat":{"x":${"[".repeat(100_000 / 4)}${"]".repeat(100_000 / 4)}}}`, 400, "invalid_argument"],
    ])("%s is refused with its status and code", async (__, body, status, code, headers = {}) => {
      const answer = await send(Buffer.from(body, "latin1"), headers);
      expect(answer.status).toBe(status);
      expect(answer.headers["content-type"]).toBe("application/json");
      expect(answer.headers["x-request-id"]).toMatch(/^id-/);
      expect(JSON.parse(answer.body)).toMatchObject({ code });
      expect(house.calls).toEqual([]);
      expect(house.refusals).toHaveLength(1);
    });

    test("compressed bodies are understood, and large answers compressed where that is accepted", async () => {
      const answer = await send(gzipSync(json), { "content-encoding": "gzip" });
      expect(answer.status).toBe(200);
      expect(JSON.parse(answer.body)).toMatchObject({ chat: { choices: [{}] } });
    });
  });

  test("a large answer is compressed for who accepts that", async () => {
    const long = "again and again ".repeat(1_000);
    house.answerWith(async function* () {
      yield [textEvent(0, long), endEvent()];
    });
    try {
      const acceptCompression = [compressionBrotli];
      const sendCompression = compressionGzip;
      for (const options of [{ httpVersion: "1.1" }, { httpVersion: "2" }] as const) {
        const baseUrl = `http://127.0.0.1:${opened.port}`;
        const common = { baseUrl, acceptCompression, sendCompression, compressMinBytes: 1, ...options };
        for (const transport of [
          createConnectTransport({ ...common, useBinaryFormat: false }),
          createGrpcWebTransport(common),
          createGrpcTransport({ baseUrl, acceptCompression, sendCompression, compressMinBytes: 1 }),
        ]) {
          const client = createClient(ChatCompletionService, transport);
          const encodings: (string | null)[] = [];
          const onHeader = (head: Headers) => {
            encodings.push(head.get("content-encoding") ?? head.get("connect-content-encoding") ?? head.get("grpc-encoding"));
          };
          const { chat } = await client.createChatCompletion({ chat: chatRequest() }, { onHeader });
          expect(chat === undefined ? "" : textOf(chat)).toBe(long);
          const texts: string[] = [];
          for await (const { events } of client.streamChatCompletion({ chat: chatRequest() }, { onHeader })) {
            for (const { event } of events) if (event.case === "text") texts.push(event.value.text);
          }
          expect(texts).toEqual([long]);
          expect(encodings).toEqual(["br", "br"]);
        }
      }
      expect(house.calls.every(({ request }) => request.model === "small")).toBe(true);
    } finally {
      house.answerWith(hello);
    }
  });

  test("says which JSON member is wrong", async () => {
    const chat = (member: string) => `{"chat":{"model":"m","messages":[{"role":"ROLE_USER","parts":[{"text":{"text":"hi"}}]}],${member}}}`;
    const wrongField = async (member: string) => {
      const answer = await request1(opened.port, "POST", unary, { "content-type": "application/json" }, chat(member));
      const { details } = JSON.parse(answer.body) as { details: { type: string; debug: unknown }[] };
      const found = details.find(({ type }) => type === "google.rpc.BadRequest")?.debug;
      return (found as { fieldViolations: { field: string; description: string }[] } | undefined)?.fieldViolations[0];
    };
    expect(await wrongField('"tempature":1')).toEqual({
      field: "chat.tempature",
      description: "is not a field of outrigger.chat.v1.ChatRequest",
    });
    expect(await wrongField('"temperature":"hot"')).toEqual({
      field: "chat.temperature",
      description: "must be a value of the protobuf type double",
    });
    expect(await wrongField('"tools":[{"name":"a"},{"name":"b","strict":1}]')).toMatchObject({ field: "chat.tools[1].strict" });
    expect(await wrongField('"tools":[5]')).toMatchObject({ field: "chat.tools[0]" });
    expect(await wrongField('"toolChoice":{"mode":"TOOL_MODE_NEVER"}')).toMatchObject({ field: "chat.tool_choice.mode" });
    expect(await wrongField('"__proto__":{}')).toMatchObject({ field: "chat.__proto__" });
    expect(await wrongField('"maxOutputTokens":"1.5"')).toMatchObject({ field: "chat.max_output_tokens" });
  });

  test("gRPC-Web's base64 form is understood, in pieces, and answered in pieces", async () => {
    const half = Math.floor(enveloped.byteLength / 2);
    const pieces = [enveloped.subarray(0, half), enveloped.subarray(half)].map((piece) => Buffer.from(piece).toString("base64"));
    const answer = await request1(opened.port, "POST", unary, { "content-type": "application/grpc-web-text+proto" }, pieces.join(""));
    expect(answer.headers["content-type"]).toBe("application/grpc-web-text+proto");
    const bytes = Buffer.concat((answer.body.match(/[^=]+=*/g) ?? []).map((piece) => Buffer.from(piece, "base64")));
    const length = bytes.readUInt32BE(1);
    const answered = fromBinary(CreateChatCompletionResponseSchema, onlyMessage(bytes.subarray(0, 5 + length), 1_000_000).message);
    expect(answered.chat?.choices).toHaveLength(1);
    expect(bytes.subarray(5 + length)).toEqual(wrap(0x80, Buffer.from("grpc-status: 0\r\n")));
    for (const body of ["AAAA=AAA", "not base64!!", "AAA"]) {
      const refused = await request1(opened.port, "POST", stream, { "content-type": "application/grpc-web-text" }, body);
      expect(Buffer.from(refused.body, "base64").toString()).toContain("grpc-status: 3");
    }
  });

  test("a large answer in base64 arrives whole", async () => {
    const long = "x".repeat(300_000);
    house.answerWith(async function* () {
      yield [textEvent(0, long), endEvent()];
    });
    try {
      for (const [path, http] of [
        [unary, request1],
        [unary, request2],
        [stream, request1],
      ] as const) {
        const headers = { "content-type": "application/grpc-web-text" };
        const answer = await http(opened.port, "POST", path, headers, Buffer.from(enveloped).toString("base64"));
        const bytes = Buffer.concat((answer.body.match(/[^=]+=*/g) ?? []).map((piece) => Buffer.from(piece, "base64")));
        expect(bytes.includes(long)).toBe(true);
        expect(bytes.subarray(-16).toString()).toBe("grpc-status: 0\r\n");
      }
    } finally {
      house.answerWith(hello);
    }
  });

  test.each<[string, string, string, Record<string, string>, "1" | "2", number, Record<string, string>]>([
    [
      "an unknown method over gRPC",
      "POST",
      `${service}/Nothing`,
      { "content-type": "application/grpc" },
      "2",
      200,
      { "grpc-status": "12" },
    ],
    ["an unknown service over gRPC", "POST", "/x.Y/Z", { "content-type": "application/grpc+proto" }, "2", 200, { "grpc-status": "12" }],
    ["an unknown method over Connect", "POST", `${service}/Nothing`, { "content-type": "application/json" }, "1", 404, {}],
    ["GET for a method with effects", "GET", unary, {}, "1", 405, { allow: "POST" }],
    ["PUT", "PUT", unary, { "content-type": "application/json" }, "2", 405, { allow: "POST" }],
    ["a content type that is none of ours", "POST", unary, { "content-type": "text/plain" }, "1", 415, {}],
    ["no content type", "POST", unary, {}, "2", 415, {}],
    ["Connect's streaming type for a unary method", "POST", unary, { "content-type": "application/connect+json" }, "1", 415, {}],
    ["Connect's unary type for a stream", "POST", stream, { "content-type": "application/json" }, "2", 415, {}],
    ["gRPC over HTTP/1.1", "POST", unary, { "content-type": "application/grpc" }, "1", 505, {}],
  ])("%s is refused for what it is", async (__, method, path, headers, http, status, expected) => {
    const answer = await (http === "1" ? request1 : request2)(opened.port, method, path, headers, method === "GET" ? "" : enveloped);
    expect(answer.status).toBe(status);
    expect(answer.headers).toMatchObject(expected);
    if (status !== 200) expect(JSON.parse(answer.body)).toMatchObject({ code: "unimplemented" });
    if (status === 415) expect(answer.headers["accept-post"]).toContain("application/grpc-web");
    expect(house.refusals).toHaveLength(1);
  });
});

test("over gRPC a fault before the first message is one block of headers that ends the stream", async () => {
  const house = new FakeHouse(async function* () {
    if (house.calls.length > 0) throw new Fault(FaultReason.MODEL_NOT_FOUND, "No route answers to 'small'.");
    yield [endEvent()];
  });
  const opened = await openDoor(house, rpcDoor(house, { requestBytesMax, reflection: true, generic: false }));
  try {
    for (const [path, body] of [
      [unary, enveloped],
      [stream, enveloped],
      [stream, wrap(0, Buffer.of(0xff))],
    ] as const) {
      const { headers, trailers } = await request2(opened.port, "POST", path, { "content-type": "application/grpc" }, body);
      expect(headers["grpc-status"]).toMatch(/^[35]$/);
      expect(headers["x-request-id"]).toMatch(/^id-/);
      expect(headers["content-type"]).toBe("application/grpc");
      expect(trailers).toEqual({});
    }
  } finally {
    await opened.close();
  }
});

/** A request whose tool results lie `depth` deep within each other. */
function nested(depth: number): Uint8Array {
  let part = Buffer.alloc(0);
  for (let level = 0; level < depth; level++) part = field(6, field(2, part));
  return field(1, Buffer.concat([field(1, Buffer.from("m")), field(2, field(2, part))]));
}

function field(number: number, content: Uint8Array): Buffer<ArrayBuffer> {
  const length: number[] = [];
  for (let rest = content.byteLength; ; rest >>>= 7) {
    length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) break;
  }
  return Buffer.concat([Buffer.of((number << 3) | 2, ...length), content]);
}
