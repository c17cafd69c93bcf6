/**
 * The same service written the usual way: connect-node's handlers, protobuf-es, undici's `request`, pino and prom-client. A process of
 * its own.
 *
 * It does what the sidecar does for a call (looks the key up, holds the request against the rules of the .proto files, translates,
 * forwards, gives up on a silent provider, takes usage, prices it, counts it, names the call in the answer's head, logs the same line), with
 * nothing hand-driven, and so tells what the sidecar's own way of driving the wire is worth. It has no routes, no policy and no way back
 * when a provider fails.
 */
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { pino } from "pino";
import { Counter, Histogram } from "prom-client";
import { Agent, request } from "undici";
import { endEvent, finishEvent, startEvent, textEvent, usageEvent } from "../../../../proto/chat.ts";
import {
  ChatCompletionService,
  CreateChatCompletionRequestSchema,
  CreateChatCompletionResponseSchema,
  StreamChatCompletionRequestSchema,
} from "../../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { ChatRequest, Usage } from "../../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { FinishReason, Role, UsageSchema } from "../../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { CALLER_KEY, PROVIDER_KEY } from "../../payloads.ts";

const [providerPort = "", logFile = ""] = process.argv.slice(2);
// Lines are gathered, as pino's page on asynchronous logging says for production and as the sidecar does.
const log = pino(pino.destination({ dest: logFile, sync: false, minLength: 64 * 1024, maxWrite: 128 * 1024, periodicFlush: 1000 }));
// The sidecar's own patience with a provider that says nothing: until the first content, and between two.
const agent = new Agent({ connections: 2048, headersTimeout: 60_000, bodyTimeout: 30_000 });
const consumers = new Map([[createHash("sha256").update(CALLER_KEY).digest("hex"), "bench"]]);
const roles: Partial<Record<Role, string>> = { [Role.SYSTEM]: "system", [Role.USER]: "user", [Role.ASSISTANT]: "assistant" };

const labelNames = ["door", "route", "provider"] as const;
const requests = new Counter({ name: "requests_total", help: "Calls.", labelNames: [...labelNames, "code", "reason"] });
const tokens = new Counter({ name: "tokens_total", help: "Tokens.", labelNames: ["route", "provider", "kind"] });
const cost = new Counter({ name: "cost_total", help: "Cost.", labelNames: ["currency", "route", "provider"] });
const durations = new Histogram({
  name: "request_duration_seconds",
  help: "Time to the end of an answer.",
  labelNames,
  buckets: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
});
const firstContents = new Histogram({
  name: "time_to_first_content_seconds",
  help: "Time to the first content of an answer.",
  labelNames,
  buckets: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
});
/** Micro-USD for a million tokens. */
const prices = { input: 2_500_000, output: 10_000_000 };

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

const validator = createValidator();

function validated<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): void {
  const result = validator.validate(schema, message);
  if (result.kind !== "valid")
    throw new ConnectError("the request breaks a rule", Code.InvalidArgument, undefined, undefined, result.error);
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

/** One call, for its record. */
class Recorded {
  readonly #door: string;
  readonly #consumer: string;
  readonly #stream: boolean;
  readonly #startedMs = performance.now();
  readonly #id = randomBytes(16).toString("hex");
  #firstMs = 0;

  constructor(context: HandlerContext, stream: boolean) {
    this.#door = context.protocolName;
    this.#stream = stream;
    this.#consumer = identify(context);
    context.responseHeader.set("x-request-id", this.#id);
  }

  /** The first content is here. */
  first(): void {
    if (this.#firstMs === 0) this.#firstMs = performance.now() - this.#startedMs;
  }

  /** The answer is whole. */
  end(model: string, finish: string, usage: Answer["usage"]): void {
    const totalMs = performance.now() - this.#startedMs;
    const of = { route: "gpt", provider: "fake-openai" };
    const used = { in: usage?.prompt_tokens ?? 0, out: usage?.completion_tokens ?? 0 };
    const micros = Math.ceil((used.in * prices.input + used.out * prices.output) / 1e6);
    requests.inc({ door: this.#door, ...of, code: "OK", reason: "ok" });
    durations.observe({ door: this.#door, ...of }, totalMs / 1e3);
    firstContents.observe({ door: this.#door, ...of }, this.#firstMs / 1e3);
    tokens.inc({ ...of, kind: "input" }, used.in);
    tokens.inc({ ...of, kind: "output" }, used.out);
    cost.inc({ currency: "USD", ...of }, micros / 1e6);
    log.info(
      {
        request_id: this.#id,
        door: this.#door,
        consumer: this.#consumer,
        ...of,
        model_served: model,
        stream: this.#stream,
        code: "OK",
        reason: "ok",
        attempts: 1,
        ttft_ms: this.#firstMs,
        total_ms: totalMs,
        tokens: used,
        finish,
        cost: { currency: "USD", micros },
      },
      "call",
    );
  }
}

function routes(router: ConnectRouter): void {
  router.service(ChatCompletionService, {
    async createChatCompletion(call, context) {
      const recorded = new Recorded(context, false);
      validated(CreateChatCompletionRequestSchema, call);
      const answer = (await (await ask(call.chat, false, context.signal)).json()) as Answer;
      recorded.first();
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
      recorded.end(answer.model, answer.choices[0]?.finish_reason ?? "", answer.usage);
      return response;
    },
    async *streamChatCompletion(call, context) {
      const recorded = new Recorded(context, true);
      validated(StreamChatCompletionRequestSchema, call);
      const body = await ask(call.chat, true, context.signal);
      let started = false;
      let usage: Answer["usage"];
      let finish = "";
      for await (const chunk of chunksOf(body)) {
        const events: ChatEvent[] = [];
        if (!started) {
          started = true;
          events.push(startEvent(chunk.id, chunk.model, chunk.created, "bench", "bench"));
        }
        for (const choice of chunk.choices) {
          if (choice.delta?.content) {
            recorded.first();
            events.push(textEvent(0, choice.delta.content));
          }
          if (choice.finish_reason === "stop") {
            finish = "stop";
            events.push(finishEvent(0, FinishReason.STOP, "stop"));
          }
        }
        if (chunk.usage) {
          usage = chunk.usage;
          events.push(usageEvent(usageOf(chunk.usage)));
        }
        if (events.length > 0) yield { events };
      }
      recorded.end(call.chat?.model ?? "", finish, usage);
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
