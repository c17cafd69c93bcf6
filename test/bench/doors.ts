/** The doors as callers use them: for each, the request as it stands on the wire. */
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import {
  ChatCompletionService,
  CreateChatCompletionRequestSchema,
  StreamChatCompletionRequestSchema,
} from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { Wire } from "./job.ts";
import type { Family } from "./payloads.ts";
import { anthropicRequest, CALLER_KEY, chatRequest, EVENTS_PER_STREAM, modelName, openaiRequest } from "./payloads.ts";

/** A way in, by the wire format spoken there. */
export type DoorKey = "openai" | "anthropic" | "grpc" | "grpc-web" | "connect-json" | "connect-proto";

/** What is asked through a door. */
export interface Asked {
  /** `unary` for a whole answer, `burst` for a stream all at once, a number for a stream with an event every so many milliseconds. */
  readonly answer: "unary" | "burst" | number;
  /** Bytes of text in the prompt. */
  readonly promptBytes: number;
  /** Which format the provider behind speaks. */
  readonly family: Family;
}

/** The door, and where the provider behind it speaks another format than is usual there, that format too: `openai-to-gemini`. */
export function wayOf(door: DoorKey, family: Family): string {
  return family === (door === "anthropic" ? "claude" : "gpt") ? door : `${door}-to-${formats[family]}`;
}

const formats: Readonly<Record<Family, string>> = { gpt: "openai", claude: "anthropic", gemini: "gemini" };

/** A call through a door, ready to be sent. */
export function wireOf(door: DoorKey, asked: Asked): Wire {
  const streaming = asked.answer !== "unary";
  const model = modelName(asked.family, asked.answer === "unary" ? "burst" : asked.answer);
  const stamps = streaming ? EVENTS_PER_STREAM : 1;
  const bearer = ["authorization", `Bearer ${CALLER_KEY}`];
  const method = streaming ? ChatCompletionService.method.streamChatCompletion : ChatCompletionService.method.createChatCompletion;
  const rpcPath = `/${ChatCompletionService.typeName}/${method.name}`;
  switch (door) {
    case "openai":
      return {
        http: 1,
        path: "/v1/chat/completions",
        headers: ["content-type", "application/json", "accept", "application/json", "user-agent", "OpenAI/JS 7.57.0", ...bearer],
        body: Buffer.from(openaiRequest(model, asked.promptBytes, streaming)),
        stamps,
      };
    case "anthropic":
      return {
        http: 1,
        path: "/v1/messages",
        headers: [
          ...["content-type", "application/json", "accept", "application/json", "user-agent", "Anthropic/JS 1.12.0"],
          ...["anthropic-version", "2023-06-01", "x-api-key", CALLER_KEY],
        ],
        body: Buffer.from(anthropicRequest(model, asked.promptBytes, streaming)),
        stamps,
      };
    case "grpc":
      return {
        http: 2,
        path: rpcPath,
        headers: ["content-type", "application/grpc", "te", "trailers", "user-agent", "grpc-node-js/1.14.7", ...bearer],
        body: envelope(messageBytes(model, asked, "proto")),
        stamps,
      };
    case "grpc-web":
      return {
        http: 1,
        path: rpcPath,
        headers: ["content-type", "application/grpc-web+proto", "x-grpc-web", "1", "x-user-agent", "connect-es/2.2.0", ...bearer],
        body: envelope(messageBytes(model, asked, "proto")),
        stamps,
      };
    case "connect-json":
    case "connect-proto": {
      const codec = door === "connect-json" ? "json" : "proto";
      const message = messageBytes(model, asked, codec);
      return {
        http: 1,
        path: rpcPath,
        headers: [
          ...["content-type", streaming ? `application/connect+${codec}` : `application/${codec}`],
          ...["connect-protocol-version", "1", "user-agent", "connect-es/2.2.0", ...bearer],
        ],
        body: streaming ? envelope(message) : message,
        stamps,
      };
    }
  }
}

/** The RPC's request message. */
function messageBytes(model: string, asked: Asked, codec: "json" | "proto"): Uint8Array {
  const schema = asked.answer === "unary" ? CreateChatCompletionRequestSchema : StreamChatCompletionRequestSchema;
  const message = create(schema, { chat: chatRequest(model, asked.promptBytes) });
  return codec === "json" ? Buffer.from(toJsonString(schema, message)) : toBinary(schema, message);
}

/** A message with the five bytes before it that gRPC and Connect streams use: no compression, and the length. */
function envelope(message: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  return bytes;
}
