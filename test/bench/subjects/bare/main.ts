/**
 * Node's own HTTP and undici's dispatch, and next to nothing between them: no callers, no policy, no log, no reading of requests. A process
 * of its own.
 *
 * It tells what of a call's cost is Node's, and so how near to the ground the sidecar is. Over HTTP/1.1 it passes bytes on. Over HTTP/2 it
 * answers gRPC callers of the two methods that the bench calls, with a request and an answer that were prepared ahead.
 */
import { createServer, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Dispatcher } from "undici";
import Pool from "undici/lib/dispatcher/pool.js";
import { endEvent, finishEvent, startEvent, textEvent, usageEvent } from "../../../../proto/chat.ts";
import {
  CreateChatCompletionResponseSchema,
  StreamChatCompletionResponseSchema,
} from "../../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason, Role, UsageSchema } from "../../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { modelName, openaiRequest, PROVIDER_KEY, STAMP_DIGITS, STAMP_MARK, STAMP_NONE, USAGE } from "../../payloads.ts";

const [providerPort = ""] = process.argv.slice(2);
const pool = new Pool(`http://127.0.0.1:${providerPort}`, { connections: 2048, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
const providerHeaders = ["content-type", "application/json", "authorization", `Bearer ${PROVIDER_KEY}`];
const path = "/v1/chat/completions";

/** Passes an answer's bytes on as they come, or whole. */
class Passing implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  readonly #streaming: boolean;
  #pieces: Buffer[] = [];

  constructor(response: ServerResponse, streaming: boolean) {
    this.#response = response;
    this.#streaming = streaming;
  }

  onRequestStart(): void {}

  onResponseStart(): void {
    if (this.#streaming) this.#response.writeHead(200, ["content-type", "text/event-stream; charset=utf-8", "cache-control", "no-cache"]);
  }

  onResponseData(_controller: Dispatcher.DispatchController, bytes: Buffer): void {
    if (this.#streaming) this.#response.write(bytes);
    else this.#pieces.push(bytes);
  }

  onResponseEnd(): void {
    if (this.#streaming) {
      this.#response.end();
      return;
    }
    const body = whole(this.#pieces);
    this.#response.writeHead(200, ["content-type", "application/json", "content-length", String(body.length)]);
    this.#response.end(body);
  }

  onResponseError(): void {
    this.#response.destroy();
  }
}

const STREAMING = Buffer.from('"stream":true');

const http1 = createServer((request, response) => {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => {
    const body = whole(pieces);
    pool.dispatch({ path, method: "POST", headers: providerHeaders, body }, new Passing(response, body.includes(STREAMING)));
  });
});

const grpcHead = { ":status": 200, "content-type": "application/grpc" };
const grpcTrailers = { "grpc-status": "0" };
const usage = create(UsageSchema, { inputTokens: BigInt(USAGE.input), outputTokens: BigInt(USAGE.output) });
const unaryAnswer = envelope(
  toBinary(
    CreateChatCompletionResponseSchema,
    create(CreateChatCompletionResponseSchema, {
      chat: {
        choices: [
          {
            message: { role: Role.ASSISTANT, parts: [{ content: { case: "text", value: { text: STAMP_NONE } } }] },
            finishReason: FinishReason.STOP,
          },
        ],
        usage,
      },
    }),
  ),
);
const firstEvents = streamed([startEvent("bench", "gpt-bench", 0, "gpt", "fake-openai")]);
const contentEvent = streamed([textEvent(0, STAMP_NONE)]);
const stampAt = contentEvent.indexOf(STAMP_NONE) + STAMP_MARK.length;
const lastEvents = streamed([finishEvent(0, FinishReason.STOP, "stop"), usageEvent(usage), endEvent()]);

/** Answers a gRPC call in messages that were prepared ahead; the stamp of each event is put into its place. */
class Translating implements Dispatcher.DispatchHandler {
  readonly #stream: ServerHttp2Stream;
  readonly #streaming: boolean;

  constructor(stream: ServerHttp2Stream, streaming: boolean) {
    this.#stream = stream;
    this.#streaming = streaming;
  }

  onRequestStart(): void {}

  onResponseStart(): void {
    if (!this.#streaming) return;
    this.#stream.respond(grpcHead, { waitForTrailers: true });
    this.#stream.write(firstEvents);
  }

  onResponseData(_controller: Dispatcher.DispatchController, bytes: Buffer): void {
    if (!this.#streaming) return;
    for (let at = bytes.indexOf(STAMP_MARK); at >= 0; at = bytes.indexOf(STAMP_MARK, at + 1)) {
      const message = Buffer.from(contentEvent);
      bytes.copy(message, stampAt, at + STAMP_MARK.length, at + STAMP_MARK.length + STAMP_DIGITS);
      this.#stream.write(message);
    }
  }

  onResponseEnd(): void {
    const stream = this.#stream;
    stream.once("wantTrailers", () => stream.sendTrailers(grpcTrailers));
    if (!this.#streaming) stream.respond(grpcHead, { waitForTrailers: true });
    stream.end(this.#streaming ? lastEvents : unaryAnswer);
  }

  onResponseError(): void {
    this.#stream.destroy();
  }
}

// As long as the prompts of the rows that it has.
const PROMPT_BYTES = 600;
const unaryBody = Buffer.from(openaiRequest(modelName("gpt", "burst"), PROMPT_BYTES, false));
const streamBody = Buffer.from(openaiRequest(modelName("gpt", 20), PROMPT_BYTES, true));

const http2 = createHttp2Server();
http2.on("stream", (stream: ServerHttp2Stream, headers) => {
  stream.on("error", () => {});
  stream.resume();
  stream.on("end", () => {
    const streaming = headers[":path"]?.endsWith("/StreamChatCompletion") === true;
    const body = streaming ? streamBody : unaryBody;
    pool.dispatch({ path, method: "POST", headers: providerHeaders, body }, new Translating(stream, streaming));
  });
});

function whole(pieces: readonly Buffer[]): Buffer {
  const [only] = pieces;
  return only !== undefined && pieces.length === 1 ? only : Buffer.concat(pieces);
}

function streamed(events: ChatEvent[]): Buffer {
  return envelope(toBinary(StreamChatCompletionResponseSchema, create(StreamChatCompletionResponseSchema, { events })));
}

/** A message with gRPC's five bytes before it: not compressed, and its length. */
function envelope(message: Uint8Array): Buffer {
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  return bytes;
}

http1.listen(0, "127.0.0.1", () =>
  http2.listen(0, "127.0.0.1", () =>
    process.send?.({ http1: (http1.address() as AddressInfo).port, http2: (http2.address() as AddressInfo).port }),
  ),
);
process.on("SIGTERM", () => process.exit(0));
process.on("disconnect", () => process.exit(0));
