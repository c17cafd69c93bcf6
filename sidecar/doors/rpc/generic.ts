/**
 * Connect's generic stack behind our own exchange: serves every method in every form, at many times the cost of the hot path.
 *
 * What is not hot comes here, and in tests everything does, as the measure of the hot path. What can be refused before the stack sees
 * it (timeouts, envelopes, unknown compressions) is refused by the code that the hot path uses, so that callers are told the same.
 */
import {
  ConnectError,
  type ConnectRouter,
  type ContextKey,
  createConnectRouter,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { Fault, FaultReason, toFault } from "../../../proto/fault.ts";
import type { CallNotes, DoorName, House, Secret } from "../../call.ts";
import { credentialOf, traceparentOf } from "../caller.ts";
import type { Exchange } from "../exchange.ts";
import { inflateBody } from "../inflate.ts";
import { deadlineExceeded, untilDeadlineMs } from "../pump.ts";
import { compressions } from "./compression.ts";
import { connectErrorOf } from "./connectError.ts";
import { compressedFlag, type Envelope, envelopeHead, wrap } from "./envelope.ts";
import { answerMetadata } from "./metadata.ts";
import { encodingOf, refuse, requestMessage, timeoutOf } from "./reading.ts";
import { messageDepthMax, readMessage } from "./requests.ts";
import type { Wire } from "./wire.ts";

/** Who calls a method of the generic stack, and how. */
export interface RpcCaller {
  readonly id: string;
  readonly door: DoorName;
  readonly credential: Secret | undefined;
  readonly traceparent: string | undefined;
  /** How long the caller waits, in milliseconds, as it said; `Infinity` if it did not. */
  readonly timeoutMs: number;
  /** Aborted with a fault when the caller leaves, when the deadline passes and when the sidecar stops. */
  readonly signal: AbortSignal;
  /** The notes of the call, once there is one: from then on its filters record how it ends. */
  notes: CallNotes | undefined;
  /** Whether a method was reached: from then on the stack itself refuses nothing. */
  reached: boolean;
}

/** Serves methods generically. */
export interface GenericStack {
  /** The method at a path, or undefined. */
  find(path: string): UniversalHandler | undefined;
  /** Sees an exchange through whose head fits the handler. `wire` is undefined only for Connect's `GET`. */
  serve(exchange: Exchange, handler: UniversalHandler, wire: Wire | undefined, id: string): void;
}

/** `routes` registers services, which learn from `callerOf` who calls. `requestBytesMax` bounds one message, compressed or not. */
export function genericStack(
  house: House,
  requestBytesMax: number,
  routes: (router: ConnectRouter, callerOf: (context: HandlerContext) => RpcCaller) => void,
): GenericStack {
  const router = createConnectRouter({
    acceptCompression: compressions((fault) => connectErrorOf(fault, "", [])),
    compressMinBytes: 1_024, // as Connect has it: less does not repay its own header
    readMaxBytes: requestBytesMax,
    jsonOptions: { ignoreUnknownFields: false, recursionLimit: messageDepthMax },
    binaryOptions: { recursionLimit: messageDepthMax },
    interceptors: [faultInterceptor(house)],
  });
  routes(router, callerOf);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  return {
    find: (path) => handlers.get(path),

    serve(exchange, handler, wire, id) {
      let timeoutMs: number;
      let encoding = "identity";
      try {
        timeoutMs = timeoutOf(exchange, wire);
        if (wire !== undefined) encoding = encodingOf(exchange, wire);
      } catch (caught) {
        refuse(house, exchange, wire, id, toFault(caught));
        return;
      }
      const { methodKind } = handler.method;
      if (methodKind === "bidi_streaming" || methodKind === "client_streaming") {
        begin(exchange, handler, wire, id, timeoutMs, arriving(exchange));
        return;
      }
      exchange.body(requestBytesMax + (wire?.enveloped ? envelopeHead : 0), (fault, body) => {
        if (fault !== undefined) refuse(house, exchange, wire, id, fault);
        else if (wire === undefined) begin(exchange, handler, wire, id, timeoutMs, arrived(body));
        else {
          readWhole(handler, wire, encoding, body, (broken, whole) => {
            if (broken === undefined) begin(exchange, handler, wire, id, timeoutMs, arrived(whole));
            else refuse(house, exchange, wire, id, broken);
          });
        }
      });
    },
  };

  /**
   * Takes envelope and compression off a message, decodes it, and gives it back in plain form, as the stack shall have it. That decodes
   * twice what is decoded rarely; but the stack has only codes for what is wrong with a message, and not gRPC's own in every case.
   */
  function readWhole(
    { method }: UniversalHandler,
    wire: Wire,
    encoding: string,
    body: Uint8Array,
    done: (fault: Fault | undefined, plain: Uint8Array) => void,
  ): void {
    const check = (message: Uint8Array) => {
      try {
        readMessage(method.input, message, wire.json);
      } catch (caught) {
        if (!(caught instanceof Fault)) house.warn("A request could not be read for a reason that nobody foresaw.", {}, caught);
        return done(toFault(caught), message);
      }
      done(undefined, wire.enveloped ? wrap(0, message) : message);
    };
    let envelope: Envelope;
    try {
      envelope = requestMessage(wire, encoding, body, requestBytesMax);
    } catch (caught) {
      done(toFault(caught), body);
      return;
    }
    const { flags, message } = envelope;
    // A message of no bytes is one of no bytes, compressed or not.
    if ((flags & compressedFlag) === 0 || message.byteLength === 0) check(message);
    else {
      inflateBody(encoding, message, requestBytesMax, (fault, inflated) => {
        if (fault === undefined) check(inflated);
        else done(fault, message);
      });
    }
  }

  /** Runs the method. Returns at once. */
  function begin(
    exchange: Exchange,
    handler: UniversalHandler,
    wire: Wire | undefined,
    id: string,
    timeoutMs: number,
    body: AsyncIterable<Uint8Array>,
  ): void {
    const controller = new AbortController();
    const caller: RpcCaller = {
      id,
      door: wire?.door ?? "connect",
      credential: credentialOf(exchange),
      traceparent: traceparentOf(exchange),
      timeoutMs,
      signal: controller.signal,
      notes: undefined,
      reached: false,
    };
    exchange.gone((fault) => controller.abort(fault));
    const untilMs = untilDeadlineMs(timeoutMs);
    const cancelDeadline =
      untilMs === Number.POSITIVE_INFINITY
        ? undefined
        : house.clock.after(Math.max(0, untilMs), () => controller.abort(deadlineExceeded()));
    const request = {
      httpVersion: exchange.protocol === "http2" ? "2.0" : "1.1",
      // The stack looks at path and query only; who was meant by the rest is decided before anything comes here.
      url: `http://localhost${exchange.path}${exchange.query === "" ? "" : `?${exchange.query}`}`,
      method: exchange.method,
      header: headersOf(exchange),
      body,
      signal: controller.signal,
      contextValues: createContextValues().set(callerKey, caller),
    };
    handler(request)
      .then((response) => write(exchange, response, wire === undefined || !wire.enveloped, caller))
      .catch((caught: unknown) => {
        if (exchange.writable) house.warn("An answer could not be written.", { request: id }, caught);
        exchange.reset();
      })
      .finally(() => {
        cancelDeadline?.();
        if (!caller.reached) house.refused(caller.door, id, controller.signal.aborted ? toFault(controller.signal.reason) : unread());
      });
  }
}

const callerKey: ContextKey<RpcCaller | undefined> = { id: Symbol("who calls"), defaultValue: undefined };

function callerOf({ values }: HandlerContext): RpcCaller {
  const caller = values.get(callerKey);
  if (caller === undefined) throw new Error("every request of the generic stack says who calls");
  return caller;
}

/** Turns the faults that methods throw into errors that tell all of them, and records those that came before there was a call. */
function faultInterceptor(house: House): Interceptor {
  return (next) => async (request) => {
    const caller = request.contextValues.get(callerKey);
    if (caller === undefined) throw new Error("every request of the generic stack says who calls");
    caller.reached = true;
    const translated = (caught: unknown) => {
      // Connect's own errors are those of health and of the stack, which say all there is to say.
      if (caught instanceof ConnectError) return caught;
      const fault = toFault(caught);
      if (fault !== caught) house.warn("A call failed in a way that nobody foresaw.", { call: caller.id }, caught);
      if (caller.notes === undefined) house.refused(caller.door, caller.id, fault);
      return connectErrorOf(fault, caller.id, answerMetadata(caller.id, caller.notes));
    };
    try {
      const response = await next(request);
      response.header.set("x-request-id", caller.id);
      return response.stream ? { ...response, message: translating(response.message, translated) } : response;
    } catch (caught) {
      throw translated(caught);
    }
  };
}

async function* translating<T>(messages: AsyncIterable<T>, translated: (caught: unknown) => unknown): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (caught) {
    throw translated(caught);
  }
}

/**
 * The headers that the stack reads; nothing else of the request reaches it. Timeouts are kept here, where the clock is, and messages
 * come to it uncompressed.
 */
const readHeaders: readonly string[] = Object.freeze([
  "content-type",
  "connect-protocol-version",
  "accept-encoding",
  "connect-accept-encoding",
  "grpc-accept-encoding",
]);

function headersOf(exchange: Exchange): Headers {
  const headers = new Headers();
  for (const name of readHeaders) {
    const value = exchange.header(name);
    if (value !== undefined) headers.set(name, value);
  }
  return headers;
}

/** Writes an answer as the exchange takes it. A unary one goes as one piece, so that its length is known. */
async function write(exchange: Exchange, response: UniversalServerResponse, whole: boolean, caller: RpcCaller): Promise<void> {
  const headers = flat(response.header);
  // Where the stack refused a request by itself, no method has named it.
  if (!headers.includes("x-request-id")) headers.push("x-request-id", caller.id);
  const { body, trailer, status } = response;
  if (whole) {
    const pieces: Uint8Array[] = [];
    if (body !== undefined) for await (const piece of body) pieces.push(piece);
    exchange.head(status, headers);
    exchange.end(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces));
    return;
  }
  exchange.head(status, headers, trailer !== undefined);
  if (body !== undefined) {
    for await (const piece of body) {
      // Leaving the loop leaves the method too.
      if (!exchange.writable) return;
      if (!exchange.write(piece)) await drainedOrAborted(exchange, caller.signal);
    }
  }
  // Only now are the trailers what they will be.
  exchange.end(undefined, flat(trailer));
}

function drainedOrAborted(exchange: Exchange, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      signal.removeEventListener("abort", done);
      resolve();
    };
    exchange.drained(done);
    signal.addEventListener("abort", done);
  });
}

/** Names and values in turn; the length is left to the exchange, which knows it. */
function flat(headers: Headers | undefined): string[] {
  const list: string[] = [];
  headers?.forEach((value, name) => {
    if (name !== "content-length") list.push(name, value);
  });
  return list;
}

/** A body that is already there. */
async function* arrived(body: Uint8Array): AsyncGenerator<Uint8Array> {
  if (body.byteLength > 0) yield body;
}

/** A body as it comes, for methods whose callers wait for an answer before they ask on. */
function arriving(exchange: Exchange): AsyncIterable<Uint8Array> {
  const waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let over = false;
  let fault: Fault | undefined;
  let wake: (() => void) | undefined;
  exchange.pieces(
    (piece) => {
      waitingBytes += piece.byteLength;
      // Cannot be told to wait, so a caller that asks much faster than it is answered is sent away.
      if (waitingBytes > waitingBytesMax)
        fault ??= new Fault(FaultReason.REQUEST_TOO_LARGE, "The questions come faster than they are answered.");
      else waiting.push(piece);
      wake?.();
    },
    (failed) => {
      over = true;
      fault ??= failed;
      wake?.();
    },
  );
  return {
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const piece = waiting.shift();
        if (piece !== undefined) {
          waitingBytes -= piece.byteLength;
          yield piece;
        } else if (fault !== undefined) throw connectErrorOf(fault, "", []);
        else if (over) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    },
  };
}

const waitingBytesMax = 256 * 1024; // thousands of questions such as reflection's

/** What the stack itself could not read: a `GET`'s query, or questions that are no envelopes. It tells only the caller why. */
function unread(): Fault {
  return new Fault(FaultReason.REQUEST_INVALID, "The request's message could not be read.");
}
