/** What callers of control's port may get wrong, byte by byte, in every protocol: each is told the reason that the page promises. */
import { gzipSync } from "node:zlib";
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ControlListener, createControlListener } from "../control/serve/listener.ts";
import {
  ApplyResourcesRequestSchema,
  PolicyService,
  WatchResourcesRequestSchema,
  WatchResourcesResponseSchema,
} from "../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { ManualClock } from "./kit/clock.ts";
import { outcomeOf } from "./kit/outcome.ts";
import { request1, request2 } from "./kit/sockets.ts";

const bytesMax = 64 * 1024;
const service = "/outrigger.policy.v1.PolicyService";
const [apply, watch, list] = [`${service}/ApplyResources`, `${service}/WatchResources`, `${service}/ListResources`];
let listener: ControlListener;
let port: number;
/** What reached the methods. */
let reached: string[];

beforeAll(async () => {
  listener = createControlListener({
    routes: (router) =>
      router.service(
        PolicyService,
        {
          applyResources(request) {
            reached.push(request.reason);
            return {};
          },
          listResources(request) {
            reached.push(request.namespace);
            return {};
          },
          async *watchResources(request) {
            reached.push(request.namespace);
            yield create(WatchResourcesResponseSchema);
          },
        },
        { readMaxBytes: bytesMax },
      ),
    interceptors: [],
    tls: undefined,
    corsOrigins: [],
    clock: new ManualClock(),
    warn: () => undefined,
  });
  port = await listener.listen("127.0.0.1", 0);
});
beforeEach(() => {
  reached = [];
});
afterAll(() => listener.close(0));

const unary = {
  proto: toBinary(ApplyResourcesRequestSchema, create(ApplyResourcesRequestSchema, { reason: "sound" })),
  json: '{"reason":"sound"}',
};
const stream = {
  proto: toBinary(WatchResourcesRequestSchema, create(WatchResourcesRequestSchema, { namespace: "sound" })),
  json: '{"namespace":"sound"}',
};
const wrap = (flags: number, message: Uint8Array) => {
  const head = Buffer.from([flags, 0, 0, 0, 0]);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
};
const post = (http: "1" | "2", path: string, headers: Readonly<Record<string, string>>, body: Uint8Array) =>
  (http === "1" ? request1 : request2)(port, "POST", path, headers, body);

const wires: readonly (readonly [string, string, string, "1" | "2", { readonly proto: Uint8Array; readonly json: string }])[] = [
  ["gRPC unary", apply, "application/grpc", "2", unary],
  ["gRPC stream", watch, "application/grpc+proto", "2", stream],
  ["gRPC unary, JSON", apply, "application/grpc+json", "2", unary],
  ["gRPC-Web unary", apply, "application/grpc-web+proto", "1", unary],
  ["gRPC-Web stream", watch, "application/grpc-web", "2", stream],
  ["gRPC-Web stream, JSON", watch, "application/grpc-web+json", "1", stream],
  ["Connect stream", watch, "application/connect+proto", "1", stream],
  ["Connect stream, JSON", watch, "application/connect+json; charset=utf-8", "2", stream],
];

/** What a detail of an error says of itself. */
interface Told {
  readonly reason?: string;
  readonly metadata?: object;
  readonly fieldViolations?: readonly { readonly field: string }[];
}

describe.each(wires)("%s", (_, path, contentType, http, sound) => {
  const isJson = contentType.includes("json");
  const message = isJson ? Buffer.from(sound.json) : Buffer.from(sound.proto);
  const send = async (body: Uint8Array, headers: Readonly<Record<string, string>> = {}) =>
    outcomeOf(await post(http, path, { "content-type": contentType, ...headers }, body));

  test("a sound request is answered, compressed or not", async () => {
    const gzip = { "grpc-encoding": "gzip", "connect-content-encoding": "gzip" };
    expect(await send(wrap(0, message))).toEqual({ code: 0, reason: undefined });
    expect(await send(wrap(1, gzipSync(message)), gzip)).toEqual({ code: 0, reason: undefined });
    expect(await send(wrap(0, message), gzip)).toEqual({ code: 0, reason: undefined });
    expect(reached).toEqual(["sound", "sound", "sound"]);
  });

  test.each<[string, Uint8Array, number, string, Record<string, string>?]>([
    ["a message beyond the limit", wrap(0, Buffer.alloc(bytesMax + 1, " ")), 8, "REQUEST_TOO_LARGE"],
    ["a length beyond the limit", Buffer.of(0, 0xff, 0xff, 0xff, 0xff, 1), 8, "REQUEST_TOO_LARGE"],
    ["much more than is taken", wrap(0, Buffer.alloc(4_000_000, " ")), 8, "REQUEST_TOO_LARGE"],
    [
      "one that grows beyond the limit",
      wrap(1, gzipSync(Buffer.alloc(20_000_000, " "))),
      8,
      "REQUEST_TOO_LARGE",
      { "grpc-encoding": "gzip", "connect-content-encoding": "gzip" },
    ],
    ["bytes that are no message", wrap(0, Buffer.of(0xff, 0xff, 0xff)), 3, "REQUEST_INVALID"],
    ["a message cut off", wrap(0, message).subarray(0, -1), 3, "REQUEST_INVALID"],
    ["a head cut off", wrap(0, message).subarray(0, 3), 3, "REQUEST_INVALID"],
    ["an unknown flag", wrap(0b100, message), 3, "REQUEST_INVALID"],
    ["a compressed message that does not say how", wrap(1, gzipSync(message)), 3, "REQUEST_INVALID"],
    [
      "one that is not compressed as it says",
      wrap(1, message),
      3,
      "REQUEST_INVALID",
      { "grpc-encoding": "br", "connect-content-encoding": "br" },
    ],
  ])("%s is refused with its status and reason", async (__, body, code, reason, headers = {}) => {
    expect(await send(body, headers)).toEqual({ code, reason });
    expect(reached).toEqual([]);
  });
});

describe.each(["1", "2"] as const)("Connect unary over HTTP/%s", (http) => {
  const send = async (body: Uint8Array | string, headers: Readonly<Record<string, string>> = {}, path = apply) => {
    const answer = await post(http, path, { "content-type": "application/json", ...headers }, Buffer.from(body));
    const {
      code,
      message,
      details = [],
    } = JSON.parse(answer.status === 200 ? "{}" : answer.body) as {
      readonly code?: string;
      readonly message?: string;
      readonly details?: readonly {
        readonly debug: Told;
      }[];
    };
    const debug: Told = Object.assign({}, ...details.map((one) => one.debug));
    return { status: answer.status, code, message, reason: debug.reason, facts: debug.metadata, fields: debug.fieldViolations };
  };

  test("a sound request is answered, in both codecs, compressed or not", async () => {
    expect(await send(unary.json)).toMatchObject({ status: 200 });
    expect(await send(gzipSync(unary.json), { "content-encoding": "gzip" })).toMatchObject({ status: 200 });
    expect(await send(unary.proto, { "content-type": "application/proto" })).toMatchObject({ status: 200 });
    expect(await send("", { "content-type": "application/proto" })).toMatchObject({ status: 200 });
    expect(reached).toEqual(["sound", "sound", "sound", ""]);
  });

  test("what is too large is told with its limit, and the connection lives on", async () => {
    const told = { status: 429, code: "resource_exhausted", reason: "REQUEST_TOO_LARGE", facts: { limit: "65536" } };
    expect(await send(Buffer.alloc(bytesMax + 1, " "))).toMatchObject(told);
    expect(await send(Buffer.alloc(4_000_000, " "), { "content-type": "application/proto" })).toMatchObject(told);
    expect(await send(gzipSync(Buffer.alloc(20_000_000, " ")), { "content-encoding": "gzip" })).toMatchObject(told);
    expect((await send(" ".repeat(bytesMax + 1))).message).toBe(
      "The request's message has more than 65536 bytes, which is the most that is taken.",
    );
  });

  test.each<[string, string | Uint8Array, RegExp, (string | undefined)?, Record<string, string>?]>([
    [
      "an unknown member",
      '{"texts":[{"path":"a"},{"pth":"b"}]}',
      /^texts\[1\]\.pth is not a field of outrigger\.policy\.v1\.\w+\.$/,
      "texts[1].pth",
    ],
    ["a wrong type", '{"texts":[{"path":5}]}', /^texts\[0\]\.path must be a value of the protobuf type string\.$/, "texts[0].path"],
    ["no JSON", '{"reason":"secret"', /^The request is no JSON in UTF-8( \(at character \d+\))?\.$/],
    ["text that is not UTF-8", Buffer.of(0x22, 0xc3, 0x28, 0x22), /^The request is no JSON in UTF-8\.$/],
    ["no object", "[]", /^The request is not the JSON of a outrigger/],
    ["an empty body", "", /^The request is no JSON/],
    ["nesting without end", `{"resources":${"[".repeat(20_000)}`, /^The request is no JSON/],
    [
      "bytes that are no message",
      Buffer.of(0xff, 0xff),
      /^The request is not a outrigger\.policy\.v1\.ApplyResourcesRequest: /,
      undefined,
      { "content-type": "application/proto" },
    ],
    ["what is not compressed as it says", "{}", /not compressed as the request says/, undefined, { "content-encoding": "gzip" }],
  ])("%s is refused and named, and nothing of it is quoted", async (_, body, message, field, headers = {}) => {
    const answer = await send(body, headers);
    expect(answer).toMatchObject({
      status: 400,
      code: "invalid_argument",
      reason: "REQUEST_INVALID",
      message: expect.stringMatching(message),
    });
    expect(answer.message).not.toContain("secret");
    expect(answer.fields?.map((one) => one.field)).toEqual(field === undefined ? undefined : [field]);
    expect(reached).toEqual([]);
  });

  test("requests by GET are held to the same", async () => {
    const get = async (query: string) => {
      const answer = await (http === "1" ? request1 : request2)(port, "GET", `${list}?connect=v1&${query}`);
      return { status: answer.status, body: answer.body };
    };
    expect(await get(`encoding=json&message=${encodeURIComponent('{"namespace":"sound"}')}`)).toMatchObject({ status: 200 });
    expect(reached).toEqual(["sound"]);
    for (const query of [
      "encoding=json&message=%7B%22nam%22%3A1%7D",
      "encoding=proto&base64=1&message=____",
      "encoding=proto&base64=1&message=!",
    ]) {
      expect(await get(query)).toEqual({ status: 400, body: expect.stringMatching(/"reason":"REQUEST_INVALID"/) });
    }
    expect(reached).toHaveLength(1);
  });
});

test("the JSON of a message is the one that its schema writes", () => {
  expect(JSON.stringify(toJson(ApplyResourcesRequestSchema, create(ApplyResourcesRequestSchema, { reason: "sound" })))).toBe(unary.json);
});
