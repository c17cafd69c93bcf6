/**
 * What a request's bytes must be before a method sees them: no more than its limit, and a message of its kind. Connect's stack looks at that
 * too, and refuses in words of its own, without a reason that programs could go by and without the field that is wrong. So each message is
 * read here first, and handed on in plain form; what is wrong with it is thrown where the stack reads, which tells it in the protocol's way.
 *
 * A message is decoded twice so. None of this is on any call's way to a model, and streams that thousands have open are driven by hand.
 */
import { promisify } from "node:util";
import { brotliDecompress, gunzip } from "node:zlib";
import { type DescMessage, fromBinary, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import type { ConnectError } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import { wrongJson } from "../../proto/wrongJson.ts";
import { controlFault } from "./fault.ts";

/** Messages within each other at most, as protobuf-es has it. */
const depthMax = 100;
/** Flags and length before each message of a stream (gRPC over HTTP/2, "Length-Prefixed-Message"; Connect has the same). */
const envelopeHead = 5;
/** What is read and thrown away of a body that is too large, so that its sender comes to the answer: as much again as the largest. */
const drainedBytesMax = 32 * 1024 * 1024;

/** A handler that reads requests like this one, and refuses those that are no message, or one of more than `bytesMax` bytes. */
export function checkRequests(handler: UniversalHandler, bytesMax: number): UniversalHandler {
  return Object.assign((request: UniversalServerRequest) => handler(checked(request, handler.method.input, bytesMax)), handler);
}

function checked(request: UniversalServerRequest, schema: DescMessage, bytesMax: number): UniversalServerRequest {
  if (request.method === "GET") return checkedGet(request, schema);
  const [, streamed, codec] =
    /^application\/(connect\+|grpc(?:-web)?\+?)?(proto|json)?(?:;.*)?$/i.exec(request.header.get("content-type") ?? "") ?? [];
  // What is of no kind that is served, the stack says best.
  if ((streamed === undefined && codec === undefined) || !isPieces(request.body)) return request;
  const json = codec?.toLowerCase() === "json";
  const name = streamed === undefined ? "content-encoding" : /^connect/i.test(streamed) ? "connect-content-encoding" : "grpc-encoding";
  const encoding = request.header.get(name)?.trim() || "identity";
  const inflate = inflaters.get(encoding);
  if (inflate === undefined) return request;
  const read: Reading = { check: (message) => check(schema, message, json), inflate, bytesMax };
  if (streamed !== undefined) return { ...request, body: messages(request.body, read) };
  const header = new Headers(request.header);
  // Of what is handed on they would not be true.
  header.delete("content-encoding");
  header.delete("content-length");
  return { ...request, header, body: wholeBody(request.body, read) };
}

/** How a message is read. */
interface Reading {
  /** Throws if it is none. */
  readonly check: (message: Uint8Array) => void;
  readonly inflate: Inflate;
  readonly bytesMax: number;
}

async function identity(bytes: Uint8Array): Promise<Uint8Array> {
  return bytes;
}

type Inflate = (bytes: Uint8Array, bytesMax: number) => Promise<Uint8Array>;

/** By the name of an encoding, for those that connect-node takes. */
const inflaters: ReadonlyMap<string, Inflate> = new Map<string, Inflate>([
  ["identity", identity],
  ["gzip", (bytes, maxOutputLength) => promisify<Uint8Array, object, Uint8Array>(gunzip)(bytes, { maxOutputLength })],
  ["br", (bytes, maxOutputLength) => promisify<Uint8Array, object, Uint8Array>(brotliDecompress)(bytes, { maxOutputLength })],
]);

/** The one message of a body. */
async function* wholeBody(body: AsyncIterable<Uint8Array>, read: Reading): AsyncGenerator<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const source = body[Symbol.asyncIterator]();
  for (let next = await source.next(); next.done !== true; next = await source.next()) {
    bytes += next.value.byteLength;
    if (bytes > read.bytesMax) throw tooLarge(read.bytesMax, source);
    pieces.push(next.value);
  }
  yield await inflated(Buffer.concat(pieces), read);
}

/** The messages of a stream, each in its envelope. */
async function* messages(body: AsyncIterable<Uint8Array>, read: Reading): AsyncGenerator<Uint8Array> {
  const source = body[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const take = (count: number): Buffer => {
    const all = pieces.length === 1 ? Buffer.from(pieces[0] ?? new Uint8Array()) : Buffer.concat(pieces);
    pieces.length = 0;
    if (all.byteLength > count) pieces.push(all.subarray(count));
    bytes -= count;
    return all.subarray(0, count);
  };
  /** Reads until so many bytes are there; false if the body ends before. */
  const until = async (count: number): Promise<boolean> => {
    while (bytes < count) {
      const next = await source.next();
      if (next.done === true) return false;
      pieces.push(next.value);
      bytes += next.value.byteLength;
    }
    return true;
  };
  for (;;) {
    if (!(await until(envelopeHead))) break;
    const head = take(envelopeHead);
    const [flags, length] = [head.readUInt8(0), head.readUInt32BE(1)];
    if (length > read.bytesMax) throw tooLarge(read.bytesMax, source);
    if (!(await until(length))) {
      bytes += envelopeHead;
      break;
    }
    const message = take(length);
    if (flags > 1) throw controlFault("REQUEST_INVALID", `The request's message has flags that no request may have: ${flags}.`);
    if (flags === 1 && read.inflate === identity)
      throw controlFault("REQUEST_INVALID", "The request's message is compressed, and the request does not say how.");
    const plain = await inflated(message, flags === 1 ? read : { ...read, inflate: identity });
    const plainHead = Buffer.alloc(envelopeHead);
    plainHead.writeUInt32BE(plain.byteLength, 1);
    yield plainHead;
    yield plain;
  }
  if (bytes > 0) throw controlFault("REQUEST_INVALID", "The request's body ends within a message.");
}

async function inflated(bytes: Uint8Array, { inflate, bytesMax, check }: Reading): Promise<Uint8Array> {
  // A message of no bytes is one of no bytes, compressed or not.
  const plain =
    bytes.byteLength === 0 ? bytes : await inflate(bytes, bytesMax).catch((error: unknown) => Promise.reject(notInflated(error, bytesMax)));
  check(plain);
  return plain;
}

function notInflated(error: unknown, bytesMax: number): ConnectError {
  const isLarge = error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE";
  return isLarge ? tooLarge(bytesMax) : controlFault("REQUEST_INVALID", "The request's message is not compressed as the request says.");
}

/** Connect's requests by `GET` have their message in the address (https://connectrpc.com/docs/protocol, "Unary-Get-Request"). */
function checkedGet(request: UniversalServerRequest, schema: DescMessage): UniversalServerRequest {
  const asked = new URL(request.url).searchParams;
  const [message, codec] = [asked.get("message"), asked.get("encoding")];
  if (message === null || (codec !== "json" && codec !== "proto") || (asked.get("compression") ?? "identity") !== "identity")
    return request;
  try {
    check(schema, asked.get("base64") === "1" ? base64Decode(message) : Buffer.from(message), codec === "json");
    return request;
  } catch (error) {
    const fault =
      error instanceof Error && "rawMessage" in error ? error : controlFault("REQUEST_INVALID", "The message is not in base64.");
    // A body is where the stack hears what is wrong.
    const header = new Headers(request.header);
    header.set("content-type", `application/${codec}`);
    return { ...request, method: "POST", header, body: failing(fault) };
  }
}

// biome-ignore lint/correctness/useYield: it fails before there is anything.
async function* failing(fault: Error): AsyncGenerator<Uint8Array> {
  throw fault;
}

/** Throws if bytes are no message of a schema. */
function check(schema: DescMessage, bytes: Uint8Array, json: boolean): void {
  if (!json) {
    try {
      fromBinary(schema, bytes, { readUnknownFields: false, recursionLimit: depthMax });
    } catch (error) {
      // The reader's words say what is wrong with the bytes, and hold none of them.
      const what = error instanceof Error ? error.message.slice(0, 200) : "it cannot be decoded";
      throw controlFault("REQUEST_INVALID", `The request is not a ${schema.typeName}: ${what}.`);
    }
    return;
  }
  const value = parsed(bytes);
  try {
    fromJson(schema, value, { ignoreUnknownFields: false, recursionLimit: depthMax });
  } catch {
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    const wrong = isObject ? wrongJson(schema, value, depthMax) : undefined;
    if (wrong === undefined) throw controlFault("REQUEST_INVALID", `The request is not the JSON of a ${schema.typeName}.`);
    const violations = [{ field: wrong.field, description: wrong.message }];
    throw controlFault("REQUEST_INVALID", `${wrong.field} ${wrong.message}.`, { violations });
  }
}

function parsed(bytes: Uint8Array): JsonValue {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    // Its words may quote what was sent; only the place is taken from them.
    const [, at] = error instanceof SyntaxError ? (/at position (\d+)/.exec(error.message) ?? []) : [];
    throw controlFault("REQUEST_INVALID", `The request is no JSON in UTF-8${at === undefined ? "" : ` (at character ${at})`}.`);
  }
}

/** The fault for a body of more bytes than are taken. What is left of it is thrown away meanwhile: whoever still sends does not listen. */
function tooLarge(bytesMax: number, rest?: AsyncIterator<Uint8Array>): ConnectError {
  if (rest !== undefined) void drain(rest);
  const message = `The request's message has more than ${bytesMax} bytes, which is the most that is taken.`;
  return controlFault("REQUEST_TOO_LARGE", message, { facts: { limit: String(bytesMax) } });
}

async function drain(rest: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    for (let bytes = 0; bytes < drainedBytesMax; ) {
      const next = await rest.next();
      if (next.done === true) return;
      bytes += next.value.byteLength;
    }
  } catch {
    // Its sender has left.
  }
}

function isPieces(body: UniversalServerRequest["body"]): body is AsyncIterable<Uint8Array> {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
