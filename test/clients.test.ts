/**
 * Real clients over real sockets: the packages that applications use, unmodified, against a real sidecar and a provider that writes
 * each dialect. What an SDK makes of an answer is the promise; what bytes we sent is only how we kept it.
 */
import Anthropic from "@anthropic-ai/sdk";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Collector, textOf } from "../proto/chat.ts";
import { GrpcCode } from "../proto/fault.ts";
import { ErrorInfoSchema } from "../proto/gen/google/rpc/error_details_pb.ts";
import {
  ChatCompletionService,
  CreateChatCompletionRequestSchema,
  CreateChatCompletionResponseSchema,
  StreamChatCompletionRequestSchema,
  StreamChatCompletionResponseSchema,
} from "../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ModelService } from "../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import { chatRequest } from "./kit/call.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { anthropicBody, anthropicStream, openAiBody, openAiStream, type Said, saidUsage } from "./kit/wire.ts";

let replay: Replay;
let house: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin), { open: "sk-open-secret", ant: "sk-ant-secret" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});
beforeEach(() => replay.forget());

/** The provider says the same in whichever dialect it is asked, streamed if asked to; one answer after the other. */
function providerSays(...said: readonly Said[]): void {
  let turn = 0;
  replay.answerWith(({ path, body }) => {
    const next = said[Math.min(turn++, said.length - 1)] ?? {};
    const stream = JSON.parse(body.toString()).stream === true;
    const anthropic = path.endsWith("/messages");
    const pieces = stream ? (anthropic ? anthropicStream(next) : openAiStream(next)) : [anthropic ? anthropicBody(next) : openAiBody(next)];
    return { pieces, headers: { "content-type": stream ? "text/event-stream" : "application/json" } };
  });
}

/** The provider begins a streamed answer and then says nothing more until its socket is closed. */
function providerHangs(): void {
  replay.answerWith(({ path }) => {
    const frames = path.endsWith("/messages") ? anthropicStream({ text: "Once upon" }) : openAiStream({ text: "Once upon" });
    return { pieces: frames.slice(0, 4), ending: "hang", headers: { "content-type": "text/event-stream" } };
  });
}

function providerRefuses(status: number, headers: Record<string, string> = {}, type = "some_error", code: string | null = null): void {
  replay.answerWith(({ path }) => ({
    status,
    headers: { "content-type": "application/json", ...headers },
    pieces: [
      JSON.stringify(
        path.endsWith("/messages")
          ? { type: "error", error: { type, message: "It will not do." } }
          : { error: { message: "It will not do.", type, param: null, code } },
      ),
    ],
  }));
}

/** What the provider was asked, as JSON. */
function asked(turn = 0) {
  return JSON.parse(replay.requests[turn]?.body.toString() ?? "null");
}

/** Resolves once the provider saw the first request end before all of its answer was sent. */
async function providerWasLeft(): Promise<void> {
  const over = await replay.requests[0]?.over;
  expect(over?.finished).toBe(false);
}

const weather = { city: "Lagos", days: 1.5 };
const toolCalls = [
  { id: "call_a1", name: "get_weather", argumentsJson: JSON.stringify(weather) },
  { id: "call_b2", name: "get_time", argumentsJson: "{}" },
];
const pieces = ["Hel", "lo, ", "wörld 🚣"];
const text = pieces.join("");
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** Statuses of providers and the status that a caller of the same format sees: the platform's own credential is not the caller's affair. */
const statuses: readonly (readonly [provider: number, caller: number])[] = [
  [400, 400],
  [401, 502],
  [403, 403],
  [404, 404],
  [409, 409],
  [422, 422],
  [429, 429],
  [500, 500],
  [503, 503],
];

describe("the openai package", () => {
  const client = (): OpenAI => new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
  const messages = [{ role: "user" as const, content: "Greet me" }];

  describe.each(["open", "ant"])("asking a provider by the route %s", (model) => {
    test("gets a whole answer", async () => {
      providerSays({ text });
      const answer = await client().chat.completions.create({ model, messages });
      expect(answer.choices[0]?.message.content).toBe(text);
      expect(answer.choices[0]?.finish_reason).toBe("stop");
      expect(answer.usage).toMatchObject({ prompt_tokens: saidUsage.input, completion_tokens: saidUsage.output });
      expect(answer.object).toBe("chat.completion");
      expect(asked().model).toBe("upstream-model");
    });

    test("gets a streamed answer piece by piece, with usage if it asks", async () => {
      providerSays({ pieces });
      const stream = await client().chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } });
      const chunks: OpenAI.ChatCompletionChunk[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      const contents = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content)).filter((piece) => piece);
      expect(contents).toEqual(pieces);
      expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
      expect(chunks.at(-1)?.usage).toMatchObject({ prompt_tokens: saidUsage.input, completion_tokens: saidUsage.output });
    });

    test("gets no usage in a stream if it does not ask", async () => {
      providerSays({ text });
      const stream = await client().chat.completions.create({ model, messages, stream: true });
      for await (const chunk of stream) expect(chunk.usage ?? undefined).toBeUndefined();
    });

    test("runs its tool loop to the end", async () => {
      providerSays({ toolCalls }, { text: "22 degrees" });
      const ran: unknown[] = [];
      const tool = (name: string) => ({
        type: "function" as const,
        function: {
          name,
          parameters: { type: "object", properties: { city: { type: "string" } } },
          description: "Tells what is asked.",
          parse: (written: string): unknown => JSON.parse(written),
          function: (args: unknown) => {
            ran.push([name, args]);
            return `${name} says 22`;
          },
        },
      });
      const runner = client().chat.completions.runTools({ model, messages, tools: [tool("get_weather"), tool("get_time")] });
      expect(await runner.finalContent()).toBe("22 degrees");
      expect(ran).toEqual([
        ["get_weather", weather],
        ["get_time", {}],
      ]);
      expect(JSON.stringify(asked(1))).toContain("get_weather says 22");
      expect(JSON.stringify(asked(1))).toContain("get_time says 22");
      expect(JSON.stringify(asked(1))).toContain("call_a1");
    });

    test("assembles parallel tool calls from a stream", async () => {
      providerSays({ text: "Let me look.", toolCalls });
      const stream = client().chat.completions.stream({
        model,
        messages,
        tools: [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } }],
      });
      const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0] ?? {};
      expect(finish_reason).toBe("tool_calls");
      expect(message?.content).toBe("Let me look.");
      expect(
        message?.tool_calls?.map((call) =>
          call.type === "function" ? [call.id, call.function.name, JSON.parse(call.function.arguments)] : [],
        ),
      ).toEqual([
        ["call_a1", "get_weather", weather],
        ["call_b2", "get_time", {}],
      ]);
    });

    test("shows pictures", async () => {
      providerSays({ text });
      const content = [
        { type: "text" as const, text: "What is this?" },
        { type: "image_url" as const, image_url: { url: `data:image/png;base64,${pixel}` } },
      ];
      await client().chat.completions.create({ model, messages: [{ role: "user", content }] });
      expect(JSON.stringify(asked())).toContain(pixel);
    });

    test("asks for JSON that fits a schema, and parses it", async () => {
      providerSays(
        model === "open"
          ? { text: JSON.stringify(weather) }
          : // Which way an Anthropic model is asked is a property of the model; either answer must come out as text.
            { text: JSON.stringify(weather) },
      );
      const schema = {
        type: "object",
        properties: { city: { type: "string" }, days: { type: "number" } },
        required: ["city", "days"],
        additionalProperties: false,
      };
      const answer = await client().chat.completions.parse({
        model,
        messages,
        response_format: { type: "json_schema", json_schema: { name: "weather", strict: true, schema } },
      });
      expect(answer.choices[0]?.message.parsed).toEqual(weather);
      expect(JSON.stringify(asked())).toContain('"additionalProperties":false');
    });

    test("leaves a stream, and the provider's socket closes", async () => {
      providerHangs();
      const controller = new AbortController();
      const stream = await client().chat.completions.create({ model, messages, stream: true }, { signal: controller.signal });
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
      controller.abort();
      await providerWasLeft();
    });

    test("leaves a whole answer, and the provider's socket closes", async () => {
      const controller = new AbortController();
      replay.answerWith(() => ({ pieces: [], ending: "hang", written: () => controller.abort() }));
      await expect(client().chat.completions.create({ model, messages }, { signal: controller.signal })).rejects.toThrow(
        OpenAI.APIUserAbortError,
      );
      await providerWasLeft();
    });

    test.each(statuses)("raises its own error class for a provider's %i", async (provider, caller) => {
      providerRefuses(provider);
      const failure = await client()
        .chat.completions.create({ model, messages })
        .catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(OpenAI.APIError);
      const expected = OpenAI.APIError.generate(caller, {}, "", new Headers()).constructor;
      expect(failure).toBeInstanceOf(expected);
      expect(failure).toMatchObject({ status: caller });
      expect(failure instanceof OpenAI.APIError && failure.headers?.get("x-outrigger-provider-status")).toBe(String(provider));
    });

    test("raises an error when a stream breaks off", async () => {
      replay.answerWith(({ path }) => {
        const frames = path.endsWith("/messages") ? anthropicStream({ pieces }) : openAiStream({ pieces });
        return { pieces: frames.slice(0, 4), ending: "cut", headers: { "content-type": "text/event-stream" } };
      });
      const stream = await client().chat.completions.create({ model, messages, stream: true });
      const drain = async (): Promise<void> => {
        for await (const _ of stream);
      };
      await expect(drain()).rejects.toThrow(OpenAI.APIError);
    });
  });

  test("lists models", async () => {
    const ids: string[] = [];
    for await (const { id } of client().models.list()) ids.push(id);
    expect(ids.sort()).toEqual(["ant", "open"]);
    expect((await client().models.retrieve("open")).id).toBe("open");
  });

  test("raises NotFoundError for a model that no route has", async () => {
    const failure = await client()
      .chat.completions.create({ model: "nobody", messages })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OpenAI.NotFoundError);
    expect(failure).toMatchObject({ code: "model_not_found" });
    expect(replay.requests).toHaveLength(0);
  });

  test("raises BadRequestError for what is no request", async () => {
    const wrong = [{ role: "user" as const, content: 7 as unknown as string }];
    const failure = await client()
      .chat.completions.create({ model: "open", messages: wrong })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OpenAI.BadRequestError);
    expect(failure).toMatchObject({ param: "messages[0].content" });
  });

  test("tries again what may pass, and nothing else", async () => {
    const retrying = new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 2 });
    const attempts = async (): Promise<number> => {
      replay.forget();
      await retrying.chat.completions.create({ model: "open", messages }).catch(() => {});
      return replay.requests.length;
    };
    providerRefuses(503, { "retry-after-ms": "1" });
    expect(await attempts()).toBe(3);
    providerRefuses(429, { "retry-after-ms": "1" });
    expect(await attempts()).toBe(3);
    providerRefuses(429, { "retry-after-ms": "1" }, "insufficient_quota", "insufficient_quota");
    expect(await attempts()).toBe(1);
    providerRefuses(400);
    expect(await attempts()).toBe(1);
  });
});

describe("the @anthropic-ai/sdk package", () => {
  const client = (): Anthropic => new Anthropic({ baseURL: house.origin, apiKey: "none", maxRetries: 0 });
  const messages = [{ role: "user" as const, content: "Greet me" }];
  const max_tokens = 100;

  describe.each(["ant", "open"])("asking a provider by the route %s", (model) => {
    test("gets a whole answer", async () => {
      providerSays({ text });
      const answer = await client().messages.create({ model, messages, max_tokens });
      expect(answer.content).toMatchObject([{ type: "text", text }]);
      expect(answer).toMatchObject({ type: "message", role: "assistant", stop_reason: "end_turn" });
      expect(answer.usage).toMatchObject({ input_tokens: saidUsage.input, output_tokens: saidUsage.output });
      expect(asked().model).toBe("upstream-model");
    });

    test("gets a streamed answer piece by piece", async () => {
      providerSays({ pieces });
      const stream = client().messages.stream({ model, messages, max_tokens });
      const seen: string[] = [];
      stream.on("text", (piece) => seen.push(piece));
      const answer = await stream.finalMessage();
      // What one read of the provider brought may come as one piece; nothing is held back for longer (see the streams that are left).
      expect(seen.join("")).toBe(text);
      expect(answer.usage).toMatchObject({ output_tokens: saidUsage.output });
      expect(answer.stop_reason).toBe("end_turn");
    });

    test("assembles parallel tool calls, and gives their results back", async () => {
      providerSays({ text: "Let me look.", toolCalls }, { text: "22 degrees" });
      const tools = [{ name: "get_weather", input_schema: { type: "object" as const, properties: { city: { type: "string" } } } }];
      const first = await client().messages.stream({ model, messages, max_tokens, tools }).finalMessage();
      expect(first.stop_reason).toBe("tool_use");
      const uses = first.content.filter((block) => block.type === "tool_use");
      expect(uses.map(({ id, name, input }) => [id, name, input])).toEqual([
        ["call_a1", "get_weather", weather],
        ["call_b2", "get_time", {}],
      ]);
      const results = uses.map(({ id, name }) => ({ type: "tool_result" as const, tool_use_id: id, content: `${name} says 22` }));
      const second = await client().messages.create({
        model,
        max_tokens,
        tools,
        messages: [...messages, { role: "assistant", content: first.content }, { role: "user", content: results }],
      });
      expect(second.content).toMatchObject([{ type: "text", text: "22 degrees" }]);
      expect(JSON.stringify(asked(1))).toContain("get_weather says 22");
      expect(JSON.stringify(asked(1))).toContain("get_time says 22");
    });

    test("shows pictures", async () => {
      providerSays({ text });
      const source = { type: "base64" as const, media_type: "image/png" as const, data: pixel };
      await client().messages.create({ model, max_tokens, messages: [{ role: "user", content: [{ type: "image", source }] }] });
      expect(JSON.stringify(asked())).toContain(pixel);
    });

    test("leaves a stream, and the provider's socket closes", async () => {
      providerHangs();
      const stream = client().messages.stream({ model, messages, max_tokens });
      stream.on("text", () => stream.abort());
      await expect(stream.done()).rejects.toThrow(Anthropic.APIUserAbortError);
      await providerWasLeft();
    });

    test("leaves a whole answer, and the provider's socket closes", async () => {
      const controller = new AbortController();
      replay.answerWith(() => ({ pieces: [], ending: "hang", written: () => controller.abort() }));
      const answer = client().messages.create({ model, messages, max_tokens }, { signal: controller.signal });
      await expect(answer).rejects.toThrow(Anthropic.APIUserAbortError);
      await providerWasLeft();
    });

    test.each(statuses)("raises its own error class for a provider's %i", async (provider, caller) => {
      providerRefuses(provider);
      const failure = await client()
        .messages.create({ model, messages, max_tokens })
        .catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(Anthropic.APIError);
      const expected = Anthropic.APIError.generate(caller, {}, "", new Headers()).constructor;
      expect(failure).toBeInstanceOf(expected);
      expect(failure).toMatchObject({ status: caller });
    });

    test("raises an error when a stream breaks off", async () => {
      replay.answerWith(({ path }) => {
        const frames = path.endsWith("/messages") ? anthropicStream({ pieces }) : openAiStream({ pieces });
        return { pieces: frames.slice(0, 4), ending: "cut", headers: { "content-type": "text/event-stream" } };
      });
      await expect(client().messages.stream({ model, messages, max_tokens }).done()).rejects.toThrow(Anthropic.APIError);
    });
  });

  test("lists models", async () => {
    const ids: string[] = [];
    for await (const { id } of client().models.list()) ids.push(id);
    expect(ids.sort()).toEqual(["ant", "open"]);
  });

  test("raises NotFoundError for a model that no route has", async () => {
    const failure = await client()
      .messages.create({ model: "nobody", messages, max_tokens })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(Anthropic.NotFoundError);
    expect(failure).toMatchObject({ type: "not_found_error" });
  });

  test("tries again what may pass, and nothing else", async () => {
    const retrying = new Anthropic({ baseURL: house.origin, apiKey: "none", maxRetries: 2 });
    const attempts = async (): Promise<number> => {
      replay.forget();
      await retrying.messages.create({ model: "ant", messages, max_tokens }).catch(() => {});
      return replay.requests.length;
    };
    providerRefuses(529, { "retry-after-ms": "1" }, "overloaded_error");
    expect(await attempts()).toBe(3);
    providerRefuses(400, {}, "invalid_request_error");
    expect(await attempts()).toBe(1);
  });
});

describe("the @connectrpc/connect-node package", () => {
  const transports: Record<string, () => Transport> = {};
  for (const httpVersion of ["1.1", "2"] as const) {
    for (const useBinaryFormat of [true, false]) {
      const how = `over HTTP/${httpVersion}, ${useBinaryFormat ? "proto" : "JSON"}`;
      transports[`Connect ${how}`] = () => createConnectTransport({ baseUrl: house.origin, httpVersion, useBinaryFormat });
      transports[`gRPC-Web ${how}`] = () => createGrpcWebTransport({ baseUrl: house.origin, httpVersion, useBinaryFormat });
      // gRPC needs trailers, which connect-node reads over HTTP/1.1 as well; the protocol wants HTTP/2.
      if (httpVersion === "2") transports[`gRPC ${how}`] = () => createGrpcTransport({ baseUrl: house.origin, useBinaryFormat });
    }
  }

  describe.each(Object.entries(transports))("%s", (_, transport) => {
    const client = () => createClient(ChatCompletionService, transport());

    test.each(["open", "ant"])("gets a whole answer by the route %s", async (model) => {
      providerSays({ text, toolCalls });
      const { chat } = await client().createChatCompletion({ chat: chatRequest({ model }) });
      if (chat === undefined) throw new Error("the answer is empty");
      expect(textOf(chat)).toBe(text);
      const calls = chat.choices[0]?.message?.parts.flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
      expect(calls?.map(({ id, name, argumentsJson }) => [id, name, argumentsJson])).toEqual(toolCalls.map((call) => Object.values(call)));
      expect(chat.choices[0]?.finishReason).toBe(FinishReason.TOOL_CALLS);
      expect(chat.usage).toMatchObject({ inputTokens: BigInt(saidUsage.input), outputTokens: BigInt(saidUsage.output) });
    });

    test.each(["open", "ant"])("gets a streamed answer by the route %s", async (model) => {
      providerSays({ pieces });
      const collector = new Collector();
      const seen: string[] = [];
      for await (const { events } of client().streamChatCompletion({ chat: chatRequest({ model }) })) {
        collector.add(events);
        for (const { event } of events) if (event.case === "text") seen.push(event.value.text);
      }
      expect(collector.complete).toBe(true);
      expect(seen.filter((piece) => piece !== "")).toEqual(pieces);
      expect(collector.response.usage).toMatchObject({ outputTokens: BigInt(saidUsage.output) });
    });

    test("leaves a stream, and the provider's socket closes", async () => {
      providerHangs();
      const controller = new AbortController();
      const drain = async (): Promise<void> => {
        for await (const { events } of client().streamChatCompletion(
          { chat: chatRequest({ model: "open" }) },
          { signal: controller.signal },
        )) {
          if (events.some(({ event }) => event.case === "text")) controller.abort();
        }
      };
      await expect(drain()).rejects.toMatchObject({ code: Code.Canceled });
      await providerWasLeft();
    });

    test("leaves a whole answer, and the provider's socket closes", async () => {
      const controller = new AbortController();
      replay.answerWith(() => ({ pieces: [], ending: "hang", written: () => controller.abort() }));
      const answer = client().createChatCompletion({ chat: chatRequest({ model: "open" }) }, { signal: controller.signal });
      await expect(answer).rejects.toMatchObject({ code: Code.Canceled });
      await providerWasLeft();
    });

    test("its deadline reaches the provider", async () => {
      replay.answerWith(() => ({ pieces: [], ending: "hang" }));
      const answer = client().createChatCompletion({ chat: chatRequest({ model: "open" }) }, { timeoutMs: 150 });
      await expect(answer).rejects.toMatchObject({ code: Code.DeadlineExceeded });
      await providerWasLeft();
    });

    test("raises an error with its reason, unary and streaming", async () => {
      const failures = [
        client().createChatCompletion({ chat: chatRequest({ model: "nobody" }) }),
        (async () => {
          for await (const _ of client().streamChatCompletion({ chat: chatRequest({ model: "nobody" }) }));
        })(),
      ];
      for (const failing of failures) {
        const failure = ConnectError.from(await failing.catch((error: unknown) => error));
        expect(failure.code).toBe(Code.NotFound);
        expect(failure.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "MODEL_NOT_FOUND", domain: "outrigger.dev" }]);
      }
    });

    test("raises an error when a stream breaks off", async () => {
      replay.answerWith({ pieces: openAiStream({ pieces }).slice(0, 4), ending: "cut", headers: { "content-type": "text/event-stream" } });
      const collector = new Collector();
      const drain = async (): Promise<void> => {
        for await (const { events } of client().streamChatCompletion({ chat: chatRequest({ model: "open" }) })) collector.add(events);
      };
      await expect(drain()).rejects.toMatchObject({ code: Code.Unavailable });
      expect(textOf(collector.response)).toBe(text);
      expect(collector.complete).toBe(false);
    });

    test("lists models", async () => {
      const { models } = await createClient(ModelService, transport()).listModels({});
      expect(models.map(({ name, route }) => [name, route])).toEqual([
        ["ant", "ant-route"],
        ["open", "open-route"],
      ]);
    });
  });
});

describe("the @grpc/grpc-js package", () => {
  const path = (method: string): string => `/outrigger.chat.v1.ChatCompletionService/${method}`;
  let client: grpc.Client;
  beforeAll(() => {
    client = new grpc.Client(`127.0.0.1:${house.port}`, grpc.credentials.createInsecure());
  });
  afterAll(() => client.close());

  const create = (model: string, done: (error: grpc.ServiceError | null, text?: string) => void): grpc.ClientUnaryCall =>
    client.makeUnaryRequest(
      path("CreateChatCompletion"),
      (chat: ReturnType<typeof chatRequest>) =>
        Buffer.from(
          toBinary(CreateChatCompletionRequestSchema, {
            $typeName: "outrigger.chat.v1.CreateChatCompletionRequest",
            chat,
            validateOnly: false,
          }),
        ),
      (bytes) => fromBinary(CreateChatCompletionResponseSchema, bytes),
      chatRequest({ model }),
      (error, answer) => done(error, answer?.chat === undefined ? undefined : textOf(answer.chat)),
    );
  const stream = (model: string) =>
    client.makeServerStreamRequest(
      path("StreamChatCompletion"),
      (chat: ReturnType<typeof chatRequest>) =>
        Buffer.from(
          toBinary(StreamChatCompletionRequestSchema, {
            $typeName: "outrigger.chat.v1.StreamChatCompletionRequest",
            chat,
            validateOnly: false,
          }),
        ),
      (bytes) => fromBinary(StreamChatCompletionResponseSchema, bytes),
      chatRequest({ model }),
    );

  test.each(["open", "ant"])("gets a whole answer by the route %s", async (model) => {
    providerSays({ text });
    const answer = await new Promise((resolve, reject) => create(model, (error, answered) => (error ? reject(error) : resolve(answered))));
    expect(answer).toBe(text);
  });

  test.each(["open", "ant"])("gets a streamed answer by the route %s", async (model) => {
    providerSays({ pieces });
    const collector = new Collector();
    for await (const { events } of stream(model)) collector.add(events);
    expect(textOf(collector.response)).toBe(text);
    expect(collector.complete).toBe(true);
  });

  test("leaves a stream, and the provider's socket closes", async () => {
    providerHangs();
    const call = stream("open");
    const failure = new Promise<grpc.ServiceError>((resolve) => call.on("error", resolve));
    call.on("data", () => call.cancel());
    expect((await failure).code).toBe(GrpcCode.CANCELLED);
    await providerWasLeft();
  });

  test("leaves a whole answer, and the provider's socket closes", async () => {
    const failure = await new Promise<grpc.ServiceError | null>((resolve) => {
      const call = create("open", resolve);
      replay.answerWith(() => ({ pieces: [], ending: "hang", written: () => call.cancel() }));
    });
    expect(failure?.code).toBe(GrpcCode.CANCELLED);
    await providerWasLeft();
  });

  test("raises an error with its reason", async () => {
    const failure = await new Promise<grpc.ServiceError | null>((resolve) => create("nobody", resolve));
    expect(failure?.code).toBe(GrpcCode.NOT_FOUND);
    expect(failure?.metadata.get("grpc-status-details-bin")).toHaveLength(1);
    expect(failure?.details).toContain("nobody");
  });

  test.each(statuses)("has a status for a provider's %i", async (provider) => {
    providerRefuses(provider);
    const failure = await new Promise<grpc.ServiceError | null>((resolve) => create("open", resolve));
    const expected: Readonly<Record<number, number>> = {
      400: GrpcCode.INVALID_ARGUMENT,
      401: GrpcCode.UNAVAILABLE,
      403: GrpcCode.PERMISSION_DENIED,
      404: GrpcCode.NOT_FOUND,
      409: GrpcCode.ABORTED,
      422: GrpcCode.INVALID_ARGUMENT,
      429: GrpcCode.RESOURCE_EXHAUSTED,
      500: GrpcCode.INTERNAL,
      503: GrpcCode.UNAVAILABLE,
    };
    expect(failure?.code).toBe(expected[provider]);
  });
});
