import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { type Batch, endEvent, event, finishEvent, startEvent, textEvent } from "./chat.ts";
import { assistant, collect, createChatClient, faultIn, system, textOf, user } from "./client.ts";
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { ChatCompletionService, type StreamChatCompletionRequest } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason, Role } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { ModelService } from "./gen/outrigger/chat/v1/model_service_pb.ts";

const decision = { $typeName: "outrigger.chat.v1.Decision" as const, filter: "route", outcome: "chosen", facts: { route: "r" } };
const batches: readonly Batch[] = [
  [startEvent("c-1", "m", 0, "r", "p"), textEvent(0, "Hel")],
  [textEvent(0, "lo"), finishEvent(0, FinishReason.STOP, "stop"), endEvent()],
];
const modelNames = ["a", "b", "c", "d", "e"];

/** A client of a server in the same process. */
function clientOf(answer: (request: StreamChatCompletionRequest) => AsyncIterable<Batch>) {
  const signals: AbortSignal[] = [];
  const asked: { model: string; validateOnly: boolean }[] = [];
  const transport = createRouterTransport((router) => {
    router.service(ChatCompletionService, {
      async createChatCompletion(request) {
        asked.push({ model: request.chat?.model ?? "", validateOnly: request.validateOnly });
        const explained = [[event("decision", decision), endEvent()]];
        const { response } = await collect(request.validateOnly ? from(explained) : answer({ ...request, $typeName: StreamName }));
        return { chat: response };
      },
      async *streamChatCompletion(request, { signal }) {
        signals.push(signal);
        asked.push({ model: request.chat?.model ?? "", validateOnly: request.validateOnly });
        for await (const events of answer(request)) yield { events: [...events] };
      },
    });
    router.service(ModelService, {
      listModels({ pageToken }) {
        const from = Number(pageToken);
        const next = from + 2;
        return {
          models: modelNames.slice(from, next).map((name) => ({ name, route: "r" })),
          nextPageToken: next < modelNames.length ? String(next) : "",
        };
      },
    });
  });
  return { client: createChatClient(transport), asked, signals };
}

const StreamName = "outrigger.chat.v1.StreamChatCompletionRequest";

async function* from(given: readonly Batch[], caught?: unknown): AsyncGenerator<Batch> {
  yield* given;
  if (caught !== undefined) throw caught;
}

describe("createChatClient", () => {
  test("asks for whole answers and streams, event by event or in batches", async () => {
    const { client, asked } = clientOf(() => from(batches));
    const request = { model: "m", messages: [system("Be brief."), user("Hello?"), assistant("Hello."), user("Again!")] };
    expect(textOf(await client.chat(request))).toBe("Hello");
    const events = [];
    for await (const one of client.stream(request)) events.push(one);
    expect(events).toEqual(batches.flat());
    const { response, complete } = await collect(client.streamBatches(request));
    expect([textOf(response), complete]).toEqual(["Hello", true]);
    expect(asked).toEqual(new Array(3).fill({ model: "m", validateOnly: false }));
  });

  test("explains without sending", async () => {
    const { client, asked } = clientOf(() => from([], new Error("nothing was to be sent")));
    expect(await client.explain({ model: "m", messages: [user("x")] })).toEqual([decision]);
    expect(asked).toEqual([{ model: "m", validateOnly: true }]);
  });

  test("lists all models, whatever the pages", async () => {
    const { client } = clientOf(() => from([]));
    expect((await client.models()).map(({ name }) => name)).toEqual(modelNames);
  });

  test("does not take an answer without its last event for a whole one", async () => {
    const { client } = clientOf(() => from(batches.slice(0, 1)));
    await expect(collect(client.streamBatches({ model: "m" }))).rejects.toMatchObject({ code: Code.DataLoss });
    const seen: string[] = [];
    const broken = (async () => {
      for await (const { event } of client.stream({ model: "m" })) seen.push(event.case ?? "");
    })();
    await expect(broken).rejects.toMatchObject({ code: Code.DataLoss });
    expect(seen).toEqual(["start", "text"]);
  });

  test("leaving the loop leaves the call", async () => {
    const { client, signals } = clientOf(async function* () {
      yield [textEvent(0, "and then nothing for a long time")];
      await new Promise(() => {});
    });
    for await (const _ of client.stream({ model: "m" })) break;
    const [signal] = signals;
    await new Promise((resolve) => (signal?.aborted ? resolve(undefined) : signal?.addEventListener("abort", resolve)));
    expect(signals).toHaveLength(1);
  });

  test("the caller's own signal still ends the call", async () => {
    const { client, signals } = clientOf(async function* () {
      yield [textEvent(0, "x")];
      await new Promise(() => {});
    });
    const leaving = new AbortController();
    const events = client.stream({ model: "m" }, { signal: leaving.signal })[Symbol.asyncIterator]();
    await events.next();
    leaving.abort();
    await expect(events.next()).rejects.toMatchObject({ code: Code.Canceled });
    expect(signals[0]?.aborted).toBe(true);
  });
});

test("messages are of the roles that they are named for", () => {
  expect([user("a").role, assistant("b").role, system("c").role]).toEqual([Role.USER, Role.ASSISTANT, Role.SYSTEM]);
});

test("faultIn reads all that a fault tells, and nothing into other errors", () => {
  const error = new ConnectError("no", Code.ResourceExhausted, undefined, [
    { desc: ErrorInfoSchema, value: { reason: "OVERLOADED", domain: "outrigger.dev", metadata: { calls: "5" } } },
    { desc: BadRequestSchema, value: { fieldViolations: [{ field: "chat.model", description: "is required" }] } },
    { desc: RetryInfoSchema, value: { retryDelay: { seconds: 2n, nanos: 500_000_000 } } },
    { desc: RequestInfoSchema, value: { requestId: "r-1" } },
  ]);
  expect(faultIn(error)).toMatchObject({
    reason: "OVERLOADED",
    facts: { calls: "5" },
    fields: [{ field: "chat.model", description: "is required" }],
    retryAfterMs: 2_500,
    requestId: "r-1",
  });
  const foreign = create(ErrorInfoSchema, { reason: "OVERLOADED", domain: "example.com" });
  expect(faultIn(new ConnectError("no", Code.Unavailable, undefined, [{ desc: ErrorInfoSchema, value: foreign }]))).toBeUndefined();
  expect(faultIn(new Error("no"))).toBeUndefined();
});
