/**
 * The same service written the usual way: connect-node's handlers, protobuf-es, and undici's `request`. A process of its own.
 *
 * It does what the sidecar does for a call (looks the key up, translates, forwards, takes usage, logs a line), with nothing hand-driven,
 * and so tells what the sidecar's own way of driving the wire is worth.
 */
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { pino } from "pino";
import { Agent, request } from "undici";
import { endEvent, finishEvent, startEvent, textEvent, usageEvent } from "../../../../proto/chat.ts";
import {
  ChatCompletionService,
  CreateChatCompletionResponseSchema,
} from "../../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { ChatRequest, Usage } from "../../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { FinishReason, Role, UsageSchema } from "../../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { CALLER_KEY, PROVIDER_KEY } from "../../payloads.ts";

const [providerPort = "", logFile = ""] = process.argv.slice(2);
const log = pino(pino.destination({ dest: logFile, sync: true }));
const agent = new Agent({ connections: 2048, bodyTimeout: 0, headersTimeout: 0 });
const consumers = new Map([[createHash("sha256").update(CALLER_KEY).digest("hex"), "bench"]]);
const roles: Partial<Record<Role, string>> = { [Role.SYSTEM]: "system", [Role.USER]: "user", [Role.ASSISTANT]: "assistant" };

/** As much of a provider's answer as is looked at. */
interface Answer {
  id: string;
  model: string;
  created: number;
  choices: { message?: { content: string }; delta?: { content?: string }; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
}

function identify(context: HandlerContext): string {
  const key = context.requestHeader.get("authorization")?.replace(/^Bearer /, "") ?? "";
  const consumer = consumers.get(createHash("sha256").update(key).digest("hex"));
  if (consumer === undefined) throw new ConnectError("unknown key", Code.Unauthenticated);
  return consumer;
}

async function ask(chat: ChatRequest | undefined, stream: boolean, signal: AbortSignal) {
  if (chat === undefined) throw new ConnectError("chat is required", Code.InvalidArgument);
  const body = JSON.stringify({
    model: chat.model,
    messages: chat.messages.map((message) => ({
      role: roles[message.role],
      content: message.parts.map((part) => (part.content.case === "text" ? part.content.value.text : "")).join(""),
    })),
    temperature: chat.temperature,
    max_completion_tokens: Number(chat.maxOutputTokens),
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
  const answer = await request(`http://127.0.0.1:${providerPort}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${PROVIDER_KEY}` },
    body,
    dispatcher: agent,
    signal,
  });
  if (answer.statusCode !== 200) throw new ConnectError(`provider answered ${answer.statusCode}`, Code.Unavailable);
  return answer.body;
}

function usageOf(usage: NonNullable<Answer["usage"]>): Usage {
  return create(UsageSchema, {
    inputTokens: BigInt(usage.prompt_tokens),
    outputTokens: BigInt(usage.completion_tokens),
    totalTokens: BigInt(usage.total_tokens),
  });
}

function routes(router: ConnectRouter): void {
  router.service(ChatCompletionService, {
    async createChatCompletion(call, context) {
      const startedMs = performance.now();
      const consumer = identify(context);
      const answer = (await (await ask(call.chat, false, context.signal)).json()) as Answer;
      const response = create(CreateChatCompletionResponseSchema, {
        chat: {
          id: answer.id,
          model: answer.model,
          created: BigInt(answer.created),
          choices: answer.choices.map((choice) => ({
            message: {
              role: Role.ASSISTANT,
              parts: [{ content: { case: "text" as const, value: { text: choice.message?.content ?? "" } } }],
            },
            finishReason: choice.finish_reason === "stop" ? FinishReason.STOP : FinishReason.UNSPECIFIED,
          })),
        },
      });
      if (response.chat !== undefined && answer.usage) response.chat.usage = usageOf(answer.usage);
      log.info({ consumer, model: answer.model, usage: answer.usage, ms: performance.now() - startedMs }, "call");
      return response;
    },
    async *streamChatCompletion(call, context) {
      const startedMs = performance.now();
      const consumer = identify(context);
      const body = await ask(call.chat, true, context.signal);
      let started = false;
      let usage: Answer["usage"];
      for await (const chunk of chunksOf(body)) {
        const events: ChatEvent[] = [];
        if (!started) {
          started = true;
          events.push(startEvent(chunk.id, chunk.model, chunk.created, "bench", "bench"));
        }
        for (const choice of chunk.choices) {
          if (choice.delta?.content) events.push(textEvent(0, choice.delta.content));
          if (choice.finish_reason === "stop") events.push(finishEvent(0, FinishReason.STOP, "stop"));
        }
        if (chunk.usage) {
          usage = chunk.usage;
          events.push(usageEvent(usageOf(chunk.usage)));
        }
        if (events.length > 0) yield { events };
      }
      log.info({ consumer, model: call.chat?.model, usage, ms: performance.now() - startedMs }, "call");
      yield { events: [endEvent()] };
    },
  });
}

async function* chunksOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<Answer> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of body) {
    text += decoder.decode(bytes, { stream: true });
    const frames = text.split("\n\n");
    text = frames.pop() ?? "";
    for (const frame of frames) {
      const data = frame.slice("data: ".length);
      if (data !== "[DONE]") yield JSON.parse(data) as Answer;
    }
  }
}

const handler = connectNodeAdapter({ routes });
const http1 = createServer(handler);
const http2 = createHttp2Server({ settings: { maxConcurrentStreams: 1000 } }, handler);
http1.listen(0, "127.0.0.1", 4096, () =>
  http2.listen(0, "127.0.0.1", 4096, () =>
    process.send?.({ http1: (http1.address() as AddressInfo).port, http2: (http2.address() as AddressInfo).port }),
  ),
);
process.on("disconnect", () => process.exit(0));
