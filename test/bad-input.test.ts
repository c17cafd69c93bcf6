/**
 * Bad input at every door: the fault of the right kind in that door's own form, a process that goes on, and memory that stays flat
 * however often it comes.
 */
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, type Caller, callers, envelope, type Form, faultIn, type Unusual } from "./kit/callers.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { callerKey, policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { startSidecarProcess } from "./kit/sidecarProcess.ts";
import { openAiBody, openAiStream } from "./kit/wire.ts";

let replay: Replay;
let house: TestSidecar;
/** The same, for callers with a key only. */
let closedHouse: TestSidecar;
const secrets = { open: "a", ant: "b" };
beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin), secrets, { logLevel: "silent" });
  closedHouse = await startTestSidecar(policyFor(replay.origin, { closed: true }), secrets, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await closedHouse.close();
  await replay.close();
});
beforeEach(() => replay.forget());

/** What a fault is, as each form says it. A member that is left out says that this badness cannot be had at that door. */
interface Badness {
  readonly name: string;
  /** The request for one way in, or undefined where it cannot be had. */
  make(caller: Caller): (Unusual & { readonly model?: string }) | undefined;
  /** HTTP status at doors that speak plain HTTP, and Connect's word; a gRPC status follows from the word. */
  readonly status: number;
  readonly openai: string;
  readonly anthropic: string;
  readonly connect: keyof typeof connectWords;
  /** Whether it is asked of the sidecar that wants a key. */
  readonly closed?: boolean;
}

/** Connect's words with their gRPC numbers and HTTP statuses (https://connectrpc.com/docs/protocol/#error-codes). */
const connectWords = {
  invalid_argument: [3, 400],
  not_found: [5, 404],
  resource_exhausted: [8, 429],
  unimplemented: [12, 501],
  internal: [13, 500],
  unauthenticated: [16, 401],
} as const;

const isJson = ({ headers }: Caller): boolean => headers["content-type"]?.includes("json") ?? false;
const isFramed = ({ form }: Caller): boolean => form === "grpc" || form === "grpc-web" || form === "connect-stream";

/** A body for a caller: framed where messages are framed. */
function bodyOf(caller: Caller, message: Uint8Array): Buffer {
  return isFramed(caller) ? envelope(message) : Buffer.from(message);
}

/** JSON of the caller's request with one thing changed; `said` is the member that holds the conversation. */
function changed(caller: Caller, change: (request: Record<string, unknown>, said: string) => void): Buffer | undefined {
  if (!isJson(caller)) return undefined;
  const request = JSON.parse(caller.body("open").toString());
  change(caller.form === "connect" ? request.chat : request, caller.form === "responses" ? "input" : "messages");
  return Buffer.from(JSON.stringify(request));
}

function withBody(body: Buffer | undefined): Unusual | undefined {
  return body === undefined ? undefined : { body };
}

const badRequest = {
  status: 400,
  openai: "invalid_value",
  anthropic: "invalid_request_error",
  connect: "invalid_argument",
} as const;
const tooLarge = { status: 413, openai: "request_too_large", anthropic: "request_too_large", connect: "resource_exhausted" } as const;
const badEncoding = {
  status: 415,
  openai: "unsupported_media_type",
  anthropic: "invalid_request_error",
  connect: "unimplemented",
} as const;

const badnesses: readonly Badness[] = [
  {
    name: "what is no JSON",
    ...badRequest,
    make: (caller) => (isJson(caller) ? { body: Buffer.from('{"model": "open", "messages"') } : undefined),
  },
  {
    name: "nothing at all",
    ...badRequest,
    make: (caller) => (isFramed(caller) ? undefined : { body: Buffer.alloc(0) }),
  },
  {
    // The protocols want this told from a message that cannot be read (https://connectrpc.com/docs/protocol/#error-codes).
    name: "no message where one is framed",
    ...badRequest,
    connect: "unimplemented",
    make: (caller) => (isFramed(caller) ? { body: Buffer.alloc(0) } : undefined),
  },
  { name: "JSON that is no object", ...badRequest, make: (caller) => (isJson(caller) ? { body: Buffer.from("[1, 2]") } : undefined) },
  { name: "wrong types", ...badRequest, make: (caller) => withBody(changed(caller, (request, said) => (request[said] = 7))) },
  {
    name: "a wrong type deep inside",
    ...badRequest,
    make: (caller) => withBody(changed(caller, (request, said) => (request[said] = [{ role: "user", content: { a: 1 }, parts: 3 }]))),
  },
  { name: "a number where a name should be", ...badRequest, make: (caller) => withBody(changed(caller, (request) => (request.model = 7))) },
  { name: "no messages", ...badRequest, make: (caller) => withBody(changed(caller, (request, said) => (request[said] = []))) },
  {
    name: "nesting without end",
    ...badRequest,
    make: (caller) =>
      isJson(caller) ? { body: Buffer.from(`{"model":"open","messages":${"[".repeat(50_000)}${"]".repeat(50_000)}}`) } : undefined,
  },
  {
    name: "a member twice",
    ...badRequest,
    make: (caller) =>
      caller.form === "openai" || caller.form === "responses" || caller.form === "anthropic"
        ? { body: Buffer.from('{"model":"open","model":"ant","max_tokens":1,"messages":[]}') }
        : undefined,
  },
  {
    name: "bytes that are no UTF-8",
    ...badRequest,
    make: (caller) => {
      if (!isJson(caller)) return undefined;
      const body = caller.body("open");
      body.writeUInt8(0xff, body.indexOf("something"));
      return { body };
    },
  },
  {
    name: "a message that is no protobuf",
    ...badRequest,
    make: (caller) => (isJson(caller) ? undefined : { body: bodyOf(caller, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f, 1, 2])) }),
  },
  {
    name: "text that is no UTF-8 in a message",
    ...badRequest,
    make: (caller) => {
      if (isJson(caller)) return undefined;
      const body = caller.body("open");
      body.writeUInt8(0xff, body.indexOf("something"));
      return { body };
    },
  },
  {
    name: "a frame that says it is longer than it is",
    ...badRequest,
    make: (caller) => {
      if (!isFramed(caller)) return undefined;
      const body = caller.body("open");
      body.writeUInt32BE(body.length + 100, 1);
      return { body };
    },
  },
  {
    name: "a frame that is cut in its head",
    ...badRequest,
    make: (caller) => (isFramed(caller) ? { body: Buffer.from([0, 0, 0]) } : undefined),
  },
  {
    name: "a frame that says it has 4 GiB",
    ...tooLarge,
    make: (caller) => (isFramed(caller) ? { body: Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]) } : undefined),
  },
  {
    name: "a model that nobody has",
    status: 404,
    openai: "model_not_found",
    anthropic: "not_found_error",
    connect: "not_found",
    make: () => ({ model: "nobody" }),
  },
  {
    name: "no key where one is needed",
    status: 401,
    openai: "invalid_api_key",
    anthropic: "authentication_error",
    connect: "unauthenticated",
    closed: true,
    make: () => ({}),
  },
  {
    name: "a wrong key",
    status: 401,
    openai: "invalid_api_key",
    anthropic: "authentication_error",
    connect: "unauthenticated",
    closed: true,
    make: () => ({ headers: { authorization: `Bearer ${callerKey}x` } }),
  },
  { name: "an encoding that nobody knows", ...badEncoding, make: (caller) => ({ headers: encodingHeader(caller, "snappy-ish") }) },
  {
    name: "bytes that are not what their encoding says",
    ...badRequest,
    make: (caller) =>
      isFramed(caller)
        ? { headers: encodingHeader(caller, "gzip"), body: envelope(Buffer.from("no gzip"), 1) }
        : { headers: encodingHeader(caller, "gzip") },
  },
  {
    name: "a few bytes that swell to a flood",
    ...tooLarge,
    make: (caller) => {
      const bomb = gzipSync(Buffer.alloc(12 << 20, 0x20));
      return { headers: encodingHeader(caller, "gzip"), body: isFramed(caller) ? envelope(bomb, 1) : bomb };
    },
  },
  { name: "more than is taken", ...tooLarge, make: (caller) => ({ body: bodyOf(caller, Buffer.alloc(11 << 20, 0x20)) }) },
];

function encodingHeader({ form }: Caller, coding: string): Record<string, string> {
  if (form === "grpc" || form === "grpc-web") return { "grpc-encoding": coding };
  if (form === "connect-stream") return { "connect-content-encoding": coding };
  return { "content-encoding": coding };
}

/** What is expected of a form: its status and the fault's code. */
function expected(form: Form, { status, openai, anthropic, connect }: Badness): { status: number; codes: string[] } {
  const [number, http] = connectWords[connect];
  switch (form) {
    case "openai":
    case "responses":
      return { status, codes: [openai] };
    case "anthropic":
      return { status, codes: [anthropic] };
    case "grpc":
    case "grpc-web":
      return { status: 200, codes: [String(number)] };
    case "connect":
      return { status: http, codes: [connect] };
    case "connect-stream":
      return { status: 200, codes: [connect] };
  }
}

async function meet(badness: Badness, caller: Caller, unusual: Unusual & { readonly model?: string }): Promise<void> {
  const { port } = badness.closed ? closedHouse : house;
  const answer = await ask(caller, port, unusual.model ?? "open", unusual);
  const { status, codes } = expected(caller.form, badness);
  const fault = faultIn(caller, answer);
  expect({ status: answer.status, code: fault?.code, message: fault?.message }).toMatchObject({
    status,
    code: expect.toSatisfy((code: string) => codes.includes(code), `one of ${codes}`),
    message: expect.stringMatching(/.{10}/),
  });
}

/** The house still answers, properly, after what it just met. */
async function stillServes(caller: Caller): Promise<void> {
  replay.answerWith({
    pieces: caller.streaming ? openAiStream({ text: "up" }) : [openAiBody({ text: "up" })],
    headers: { "content-type": caller.streaming ? "text/event-stream" : "application/json" },
  });
  const answer = await ask(caller, house.port, "open");
  expect(answer.status).toBe(200);
  expect(faultIn(caller, answer)).toBeUndefined();
}

describe.each(callers)("at the door for $name", (caller) => {
  for (const badness of badnesses) {
    const unusual = badness.make(caller);
    if (unusual === undefined) continue;
    test(`${badness.name} is refused in the door's own form`, async () => {
      await meet(badness, caller, unusual);
      expect(replay.requests).toHaveLength(0);
      await stillServes(caller);
    });
  }
});

test("every kind of badness is met at more than one door", () => {
  for (const badness of badnesses)
    expect(callers.filter((caller) => badness.make(caller) !== undefined).length, badness.name).toBeGreaterThan(1);
});

test("a path and a method that nobody takes are refused in words", async () => {
  const [caller] = callers;
  if (caller === undefined) throw new Error("there are no callers");
  const nowhere = await ask(caller, house.port, "open", { path: "/v1/nothing" });
  expect(nowhere.status).toBe(404);
  expect(faultIn(caller, nowhere)?.message).toContain("/v1/nothing");
  const wrongMethod = await ask(caller, house.port, "open", { method: "PUT" });
  expect(wrongMethod.status).toBe(405);
  expect(faultIn(caller, wrongMethod)?.message).toContain("PUT");
});

/** Repeats of each kind: ten thousand with `--long`, enough to see a leak of a few kilobytes a request otherwise. */
const repeats = process.env.OUTRIGGER_LONG ? 10_000 : 400;

/** A leak of a kilobyte a repeat would be more than this in the long run; what collectors and pools keep back is less. */
const growthMaxBytes = 2 << 20;

test(`memory stays flat over ${repeats} repeats of each kind`, { timeout: 30 * 60_000 }, async ({ annotate }) => {
  // A process of its own, so that nothing that callers hold is counted.
  const sidecar = await startSidecarProcess(policyFor(replay.origin, { closed: true }), secrets);
  const key = { authorization: `Bearer ${callerKey}` };
  const large = new Set(["more than is taken", "a few bytes that swell to a flood"]);
  const round = async (badness: Badness, times: number): Promise<void> => {
    const asked = callers.flatMap((caller) => {
      const unusual = badness.make(caller);
      return unusual === undefined
        ? []
        : [{ caller, unusual: badness.closed ? unusual : { ...unusual, headers: { ...key, ...unusual.headers } } }];
    });
    for (let time = 0; time < times; time += 8) {
      // Eight at a time, as callers do not wait for each other.
      await Promise.all(
        Array.from({ length: 8 }, (_, beside) => {
          const { caller, unusual } = asked[(time + beside) % asked.length] ?? {};
          if (caller === undefined || unusual === undefined) throw new Error(`${badness.name} can be had nowhere`);
          return ask(caller, sidecar.port, unusual.model ?? "open", unusual);
        }),
      );
    }
  };
  try {
    // What is made once, and what the runtime compiles while it warms up, is there before the counting begins.
    for (const badness of badnesses) await round(badness, 40);
    const rows: string[] = [];
    for (const badness of badnesses) {
      const times = large.has(badness.name) ? repeats / 20 : repeats;
      const before = await sidecar.memory();
      await round(badness, times);
      const grown = (await sidecar.memory()).held - before.held;
      rows.push(`${badness.name} x ${times}: ${(grown / 1024).toFixed(0)} KiB`);
      expect(grown, rows.at(-1)).toBeLessThan(growthMaxBytes);
    }
    await annotate(`what the sidecar held more after each kind of bad input: ${rows.join("; ")}`, "closing");
  } finally {
    await sidecar.close();
  }
});
