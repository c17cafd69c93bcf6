/**
 * Callers as bytes on real sockets, one for each way into the sidecar: what no SDK would do (leave at any moment, stop reading, send
 * nonsense) is done with these, and what is true for one door can be asked of all of them in one table.
 */
import { type ClientRequest, type IncomingMessage, request as openHttp1 } from "node:http";
import { connect, constants } from "node:http2";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import {
  CreateChatCompletionRequestSchema,
  StreamChatCompletionRequestSchema,
} from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** The format of a caller, which decides how a fault looks. */
export type Form = "openai" | "responses" | "anthropic" | "grpc" | "grpc-web" | "connect" | "connect-stream";

/** One way in. */
export interface Caller {
  /** Such as `grpc stream (HTTP/2)`. */
  readonly name: string;
  readonly form: Form;
  readonly http: 1 | 2;
  readonly streaming: boolean;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A well-formed request body that asks `model`. */
  body(model: string): Buffer;
}

/** A request on its way. */
export interface Running {
  /** Resolves when the first bytes of the answer's body came, or the answer is over. */
  readonly begun: Promise<void>;
  readonly over: Promise<Answered>;
  /** Leaves as a caller does that is killed: resets the stream, or the connection. */
  leave(how?: "stream" | "connection"): void;
  /** Stops reading for good. */
  stopReading(): void;
}

/** What came of a request. */
export interface Answered {
  /** 0 if no head came. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly trailers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Whether the answer ended as HTTP ends answers, rather than by a cut. */
  readonly whole: boolean;
}

/** What of a request is other than usual. */
export interface Unusual {
  readonly body?: Buffer;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | undefined>>;
}

const service = "/outrigger.chat.v1.ChatCompletionService";
const json = { "content-type": "application/json" };

/** Every way in, unary and streaming. */
export const callers: readonly Caller[] = [
  ...[false, true].map((streaming) => ({
    name: `openai ${kindOf(streaming)}`,
    form: "openai" as const,
    http: 1 as const,
    streaming,
    path: "/v1/chat/completions",
    headers: json,
    body: (model: string) =>
      Buffer.from(JSON.stringify({ model, stream: streaming, messages: [{ role: "user", content: "Say something" }] })),
  })),
  ...[false, true].map((streaming) => ({
    name: `responses ${kindOf(streaming)}`,
    form: "responses" as const,
    http: 1 as const,
    streaming,
    path: "/v1/responses",
    headers: json,
    body: (model: string) => Buffer.from(JSON.stringify({ model, stream: streaming, input: "Say something" })),
  })),
  ...[false, true].map((streaming) => ({
    name: `anthropic ${kindOf(streaming)}`,
    form: "anthropic" as const,
    http: 1 as const,
    streaming,
    path: "/v1/messages",
    headers: { ...json, "anthropic-version": "2023-06-01" },
    body: (model: string) =>
      Buffer.from(JSON.stringify({ model, max_tokens: 64, stream: streaming, messages: [{ role: "user", content: "Say something" }] })),
  })),
  ...[false, true].map((streaming) => ({
    name: `grpc ${kindOf(streaming)}`,
    form: "grpc" as const,
    http: 2 as const,
    streaming,
    path: `${service}/${methodOf(streaming)}`,
    headers: { "content-type": "application/grpc", te: "trailers" },
    body: (model: string) => envelope(encode(model, streaming)),
  })),
  ...[false, true].map((streaming) => ({
    name: `grpc-web ${kindOf(streaming)}`,
    form: "grpc-web" as const,
    http: 1 as const,
    streaming,
    path: `${service}/${methodOf(streaming)}`,
    headers: { "content-type": "application/grpc-web+proto" },
    body: (model: string) => envelope(encode(model, streaming)),
  })),
  ...([1, 2] as const).flatMap((http) => [
    {
      name: `connect unary (HTTP/${http})`,
      form: "connect" as const,
      http,
      streaming: false,
      path: `${service}/CreateChatCompletion`,
      headers: { "content-type": "application/proto", "connect-protocol-version": "1" },
      body: (model: string) => encode(model, false),
    },
    {
      name: `connect stream (HTTP/${http})`,
      form: "connect-stream" as const,
      http,
      streaming: true,
      path: `${service}/StreamChatCompletion`,
      headers: { "content-type": "application/connect+proto", "connect-protocol-version": "1" },
      body: (model: string) => envelope(encode(model, true)),
    },
  ]),
  {
    name: "connect unary, JSON",
    form: "connect",
    http: 1,
    streaming: false,
    path: `${service}/CreateChatCompletion`,
    headers: { ...json, "connect-protocol-version": "1" },
    body: (model) =>
      Buffer.from(toJsonString(CreateChatCompletionRequestSchema, create(CreateChatCompletionRequestSchema, { chat: chatOf(model) }))),
  },
];

/** Sends a request. It never rejects: what went wrong is part of what came of it. */
export function start(caller: Caller, port: number, model: string, unusual: Unusual = {}): Running {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries({ ...caller.headers, ...unusual.headers })) if (value !== undefined) headers[name] = value;
  const body = unusual.body ?? caller.body(model);
  const path = unusual.path ?? caller.path;
  const method = unusual.method ?? "POST";
  return caller.http === 1 ? startHttp1(port, method, path, headers, body) : startHttp2(port, method, path, headers, body);
}

function startHttp1(port: number, method: string, path: string, headers: Record<string, string>, body: Buffer): Running {
  const pieces: Buffer[] = [];
  let answer: IncomingMessage | undefined;
  let beginNow = (): void => {};
  const begun = new Promise<void>((resolve) => {
    beginNow = resolve;
  });
  let outgoing: ClientRequest | undefined;
  const over = new Promise<Answered>((resolve) => {
    outgoing = openHttp1({ port, host: "127.0.0.1", method, path, headers: { ...headers, "content-length": body.length }, agent: false });
    outgoing.on("response", (incoming) => {
      answer = incoming;
      incoming.on("data", (piece: Buffer) => {
        pieces.push(piece);
        beginNow();
      });
      incoming.on("error", () => {});
    });
    outgoing.on("error", () => {});
    outgoing.on("close", () => {
      beginNow();
      resolve({
        status: answer?.statusCode ?? 0,
        headers: flat(answer?.headers),
        trailers: flat(answer?.trailers),
        body: Buffer.concat(pieces),
        whole: answer?.complete ?? false,
      });
    });
    outgoing.end(body);
  });
  return {
    begun,
    over,
    leave: () => outgoing?.destroy(),
    stopReading: () => {
      if (answer === undefined) outgoing?.once("response", (incoming) => incoming.pause());
      else answer.pause();
    },
  };
}

function startHttp2(port: number, method: string, path: string, headers: Record<string, string>, body: Buffer): Running {
  const pieces: Buffer[] = [];
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const stream = session.request({ ":method": method, ":path": path, ...headers });
  let status = 0;
  let answered: Record<string, string> = {};
  let trailers: Record<string, string> = {};
  let whole = false;
  let beginNow = (): void => {};
  const begun = new Promise<void>((resolve) => {
    beginNow = resolve;
  });
  stream.on("response", (incoming) => {
    status = Number(incoming[":status"] ?? 0);
    answered = flat(incoming);
  });
  stream.on("trailers", (incoming) => {
    trailers = flat(incoming);
  });
  stream.on("data", (piece: Buffer) => {
    pieces.push(piece);
    beginNow();
  });
  stream.on("end", () => {
    whole = true;
  });
  stream.on("error", () => {});
  const over = new Promise<Answered>((resolve) => {
    stream.on("close", () => {
      beginNow();
      session.destroy();
      resolve({ status, headers: answered, trailers, body: Buffer.concat(pieces), whole: whole && stream.rstCode === 0 });
    });
  });
  stream.end(body);
  return {
    begun,
    over,
    leave: (how = "stream") => (how === "stream" ? stream.close(constants.NGHTTP2_CANCEL) : session.destroy()),
    stopReading: () => stream.pause(),
  };
}

/** Calls and waits for the end. */
export function ask(caller: Caller, port: number, model: string, unusual: Unusual = {}): Promise<Answered> {
  return start(caller, port, model, unusual).over;
}

/** The fault that an answer shows in its form, or undefined if it is none. Throws if the form is broken. */
export function faultIn(caller: Caller, answer: Answered): ShownFault | undefined {
  const text = answer.body.toString();
  switch (caller.form) {
    case "openai":
    case "responses":
    case "anthropic": {
      const shown = answer.headers["content-type"]?.startsWith("text/event-stream") ? lastError(text) : JSON.parse(text);
      // An answer of the Responses format says that it has none.
      if ((shown?.error ?? undefined) === undefined) return undefined;
      const { type, message, code } = shown.error;
      return { code: String(code ?? type), message, reason: answer.headers["x-outrigger-reason"] };
    }
    case "grpc":
      return grpcFault({ ...answer.headers, ...answer.trailers });
    case "grpc-web": {
      const framed = envelopes(answer.body).find(({ flags }) => (flags & 0x80) !== 0);
      if (framed === undefined) return grpcFault(answer.headers);
      const lines = framed.data.toString().split("\r\n").filter(Boolean);
      return grpcFault(
        Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])),
      );
    }
    case "connect":
      if (answer.status === 200) return undefined;
      return connectFault(JSON.parse(text));
    case "connect-stream": {
      if (answer.status !== 200) return connectFault(JSON.parse(text));
      const end = envelopes(answer.body).find(({ flags }) => (flags & 0x02) !== 0);
      if (end === undefined) throw new Error("a Connect stream ended without its end message");
      const { error } = JSON.parse(end.data.toString());
      return error === undefined ? undefined : connectFault(error);
    }
  }
}

/** A fault as a caller sees it. */
export interface ShownFault {
  /** OpenAI's `code`, or its type; Anthropic's type; the number of a gRPC status as text; Connect's word. */
  readonly code: string;
  readonly message: string;
  /** Our own name for it, where the form has a place for one that needs no decoding. */
  readonly reason: string | undefined;
}

function grpcFault(fields: Readonly<Record<string, string>>): ShownFault | undefined {
  const status = fields["grpc-status"];
  if (status === undefined) throw new Error(`a gRPC answer without a status: ${JSON.stringify(fields)}`);
  if (status === "0") return undefined;
  return { code: status, message: decodeURIComponent(fields["grpc-message"] ?? ""), reason: fields["x-outrigger-reason"] };
}

function connectFault(error: { code: string; message?: string; details?: { debug?: { reason?: string } }[] }): ShownFault {
  return {
    code: error.code,
    message: error.message ?? "",
    reason: error.details?.find(({ debug }) => debug?.reason !== undefined)?.debug?.reason,
  };
}

function lastError(body: string): { error: { type: string; message: string; code?: string | null } } | undefined {
  const frames = body.split("\n").filter((line) => line.startsWith("data: {"));
  return frames.map((line) => JSON.parse(line.slice(6))).findLast((value) => value.error !== undefined);
}

/** A message with the five bytes before it that gRPC, gRPC-Web and Connect streams frame messages with. */
export function envelope(message: Uint8Array, flags = 0): Buffer {
  const framed = Buffer.alloc(5 + message.length);
  framed[0] = flags;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** The framed messages of a body. Throws if the last one is cut. */
export function envelopes(body: Buffer): { flags: number; data: Buffer }[] {
  const found: { flags: number; data: Buffer }[] = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    if (at + 5 + length > body.length) throw new Error("a framed message is cut");
    found.push({ flags: body[at] ?? 0, data: body.subarray(at + 5, at + 5 + length) });
    at += 5 + length;
  }
  return found;
}

function chatOf(model: string) {
  return { model, messages: [{ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: "Say something" } } }] }] };
}

function encode(model: string, streaming: boolean): Buffer {
  const chat = chatOf(model);
  return Buffer.from(
    streaming
      ? toBinary(StreamChatCompletionRequestSchema, create(StreamChatCompletionRequestSchema, { chat }))
      : toBinary(CreateChatCompletionRequestSchema, create(CreateChatCompletionRequestSchema, { chat })),
  );
}

function kindOf(streaming: boolean): string {
  return streaming ? "stream" : "unary";
}

function methodOf(streaming: boolean): string {
  return streaming ? "StreamChatCompletion" : "CreateChatCompletion";
}

function flat(headers: object | undefined): Record<string, string> {
  const flattened: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) flattened[name] = String(value);
  return flattened;
}
