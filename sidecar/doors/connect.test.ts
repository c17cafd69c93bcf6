/** The whole door, by real clients over real sockets; every test runs against the hot path and against the generic stack. */
import { create } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Batch, endEvent, finishEvent, heartbeatEvent, reasoningEvent, startEvent, textEvent, usageEvent } from "../../proto/chat.ts";
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import {
  ChatCompletionService,
  CreateChatCompletionRequestSchema,
  CreateChatCompletionResponseSchema,
  StreamChatCompletionRequestSchema,
  StreamChatCompletionResponseSchema,
} from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason, Role, UsageSchema } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { chatRequest } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { FakeHouse, HandAnswer } from "../../test/kit/house.ts";
import { GrpcClient, grpcStream, type OpenDoor, openDoor, toldFault, toldOf, transports } from "../../test/kit/rpc.ts";
import { until } from "../../test/kit/sockets.ts";
import type { Call } from "../call.ts";
import { rpcDoor } from "./connect.ts";

const requestBytesMax = 10 * 1024 * 1024;

const createPath = "/outrigger.chat.v1.ChatCompletionService/CreateChatCompletion";
const streamPath = "/outrigger.chat.v1.ChatCompletionService/StreamChatCompletion";

/** An answer with something of every common kind, in several batches. */
const batches: readonly Batch[] = [
  [startEvent("chat-1", "small-2026", 1_790_000_000, "small-route", "main")],
  [reasoningEvent(0, 0, "Hm", { signature: "s", dialect: "test" }), textEvent(0, "Grüße, ")],
  [heartbeatEvent()],
  [textEvent(0, "😀".repeat(40)), textEvent(0, "")],
  [
    finishEvent(0, FinishReason.STOP, "stop"),
    usageEvent(create(UsageSchema, { inputTokens: 3n, outputTokens: 2n ** 40n, nativeJson: "{}" })),
    endEvent(),
  ],
];
const text = `Grüße, ${"😀".repeat(40)}`;

async function* whole(call: Call): AsyncGenerator<Batch> {
  call.notes.route = "small-route";
  call.notes.provider = "main";
  call.notes.droppedParams = ["top_k", "über\r\nx: y"];
  yield* batches;
}

describe.each([
  ["by hand", false],
  ["by the generic stack", true],
])("%s", (_, generic) => {
  let clock: ManualClock;
  let house: FakeHouse;
  let opened: OpenDoor;

  beforeEach(async () => {
    clock = new ManualClock();
    house = new FakeHouse(whole, clock);
    opened = await openDoor(house, rpcDoor(house, { requestBytesMax, reflection: true, generic }));
  });

  afterEach(async () => {
    const closed = opened.close();
    // The listener's own waits are the only ones left.
    clock.advance(60_000);
    await closed;
  });

  describe.each(Object.entries(transports))("%s", (name, transport) => {
    const door = name.startsWith("Connect") ? "connect" : name.startsWith("gRPC-Web") ? "grpc-web" : "grpc";
    const client = () => createClient(ChatCompletionService, transport(opened.port));
    const asked = { chat: chatRequest({ temperature: 0, maxOutputTokens: 2n ** 53n }) };

    test("a stream brings every event, batch by batch", async () => {
      const received: ChatEvent[][] = [];
      let head: Headers | undefined;
      const headers = { authorization: "Bearer key-1", traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01` };
      for await (const { events } of client().streamChatCompletion(asked, {
        headers,
        onHeader: (given) => {
          head = given;
        },
      })) {
        received.push(events);
      }
      expect(received).toEqual(batches);
      expect(head?.get("x-request-id")).toBe("id-1");
      expect(head?.get("x-outrigger-route")).toBe("small-route");
      expect(head?.get("x-outrigger-provider")).toBe("main");
      expect(head?.get("x-outrigger-dropped-params")).toBe("top_k,%C3%BCber%0D%0Ax: y");
      const [call] = house.calls;
      expect(call).toMatchObject({ id: "id-1", door, streaming: true, validateOnly: false, native: undefined });
      expect(call?.request).toEqual(asked.chat);
      expect(call?.credential?.reveal()).toBe("key-1");
      expect(call?.traceparent).toBe(headers.traceparent);
      expect(call?.deadlineAtMs).toBe(Number.POSITIVE_INFINITY);
      expect(house.refusals).toEqual([]);
      expect(house.warnings).toEqual([]);
    });

    test("a unary answer is the fold of the same events", async () => {
      let head: Headers | undefined;
      const { chat } = await client().createChatCompletion(
        { ...asked, validateOnly: true },
        {
          headers: { "x-api-key": "key-2" },
          onHeader: (given) => {
            head = given;
          },
        },
      );
      expect(chat?.id).toBe("chat-1");
      expect(chat?.choices[0]?.message?.parts.map(({ content }) => content)).toMatchObject([
        { case: "reasoning", value: { text: "Hm", signature: "s" } },
        { case: "text", value: { text } },
      ]);
      expect(chat?.usage).toMatchObject({ inputTokens: 3n, outputTokens: 2n ** 40n });
      expect(chat?.usage?.totalTokens).toBeUndefined();
      expect(head?.get("x-outrigger-route")).toBe("small-route");
      expect(house.calls[0]).toMatchObject({ door, streaming: false, validateOnly: true });
      expect(house.calls[0]?.notes.decisions).toEqual([]);
      expect(house.calls[0]?.credential?.reveal()).toBe("key-2");
    });

    test("a fault before the first event is told whole, as the unary one is", async () => {
      const fault = new Fault(FaultReason.PROVIDER_RATE_LIMITED, "Zu schnell: 100 %, später!", {
        field: "chat.model",
        facts: { provider: "main", provider_status: "429" },
        retryAfterMs: 1_250,
      });
      house.answerWith(() => failing([], fault));
      const expected = toldOf(fault, Code.ResourceExhausted, "id-1");
      expect(await toldFault(drained(client().streamChatCompletion(asked)))).toEqual(expected);
      expect(await toldFault(client().createChatCompletion(asked))).toEqual({ ...expected, requestId: "id-2" });
      // Once there is a call, its own filters record how it ends.
      expect(house.refusals).toEqual([]);
    });

    test("a fault after the first event comes after what came before it", async () => {
      const fault = new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "The answer broke off.");
      house.answerWith(() => failing(batches.slice(0, 2), fault));
      const received: ChatEvent[][] = [];
      const failed = (async () => {
        for await (const { events } of client().streamChatCompletion(asked)) received.push(events);
      })();
      expect(await toldFault(failed)).toEqual(toldOf(fault, Code.Unavailable, "id-1"));
      expect(received).toEqual(batches.slice(0, 2));
      expect(await toldFault(client().createChatCompletion(asked))).toEqual(toldOf(fault, Code.Unavailable, "id-2"));
    });

    test("an answer without its last event is a fault, streamed or whole", async () => {
      house.answerWith(() => failing(batches.slice(0, 4)));
      expect(await toldFault(drained(client().streamChatCompletion(asked)))).toMatchObject({ reason: "PROVIDER_ANSWER_INCOMPLETE" });
      expect(await toldFault(client().createChatCompletion(asked))).toMatchObject({ reason: "PROVIDER_ANSWER_INCOMPLETE" });
    });

    test("what nobody foresaw is told as no more than that, and logged", async () => {
      house.answerWith(() => failing([], new Error("secret path /etc/x")));
      const told = await toldFault(client().createChatCompletion(asked));
      expect(told).toMatchObject({ code: Code.Internal, reason: "INTERNAL" });
      expect(told.message).not.toContain("secret");
      expect(house.warnings.map(({ error }) => String(error))).toEqual(["Error: secret path /etc/x"]);
    });

    test("a request that breaks rules is refused with every field, before it is a call", async () => {
      const wrong = { chat: chatRequest({ messages: [{ role: Role.USER }, { role: 77 as Role, parts: [{}] }], topP: 2 }) };
      const fields = ["chat.messages[1].role", "chat.messages[1].parts[0].content", "chat.top_p"];
      const expected = { code: Code.InvalidArgument, reason: "REQUEST_INVALID", fields };
      expect(await toldFault(drained(client().streamChatCompletion(wrong)))).toMatchObject(expected);
      expect(await toldFault(client().createChatCompletion(wrong))).toMatchObject(expected);
      expect(await toldFault(client().createChatCompletion({}))).toMatchObject({ ...expected, fields: ["chat"] });
      expect(house.calls).toEqual([]);
      expect(house.refusals.map(({ door: told, id, fault }) => [told, id, fault.kind.name])).toEqual([
        [door, "id-1", "REQUEST_INVALID"],
        [door, "id-2", "REQUEST_INVALID"],
        [door, "id-3", "REQUEST_INVALID"],
      ]);
    });

    test("a deadline that passes ends the call, streamed or whole", async () => {
      const answers: HandAnswer[] = [];
      house.answerWith(() => {
        const answer = new HandAnswer();
        answers.push(answer);
        return answer;
      });
      const expected = { code: Code.DeadlineExceeded, reason: "DEADLINE_EXCEEDED" };
      const options = { timeoutMs: 60_000 };
      const streaming = toldFault(drained(client().streamChatCompletion(asked, options)));
      await until(() => answers.length === 1);
      answers[0]?.text("so far");
      await until(() => answers[0]?.pulls === 2);
      const unary = toldFault(client().createChatCompletion(asked, options));
      await until(() => answers.length === 2);
      for (const call of house.calls) expect(call.deadlineAtMs).toBe(clock.monotonicMs() + 59_995);
      clock.advance(59_994);
      expect(house.calls.map(({ signal }) => signal.aborted)).toEqual([false, false]);
      clock.advance(1);
      expect(await streaming).toMatchObject(expected);
      expect(await unary).toMatchObject(expected);
      expect(house.calls.map(({ signal }) => toFault(signal.reason).kind.name)).toEqual(["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
      await until(() => answers.every(({ left }) => left));
    });

    test("a caller that leaves aborts the call, streamed or whole", async () => {
      const answers: HandAnswer[] = [];
      house.answerWith(() => {
        const answer = new HandAnswer();
        answers.push(answer);
        return answer;
      });
      const leaving = new AbortController();
      const streaming = drained(client().streamChatCompletion(asked, { signal: leaving.signal })).catch(() => "left");
      await until(() => answers.length === 1);
      answers[0]?.text("so far");
      await until(() => answers[0]?.pulls === 2);
      const unary = client()
        .createChatCompletion(asked, { signal: leaving.signal })
        .catch(() => "left");
      await until(() => answers.length === 2);
      leaving.abort();
      expect(await Promise.all([streaming, unary])).toEqual(["left", "left"]);
      await until(() => house.calls.every(({ signal }) => signal.aborted));
      expect(house.calls.map(({ signal }) => toFault(signal.reason).kind.name)).toEqual(["CANCELLED", "CANCELLED"]);
      await until(() => answers.every(({ left }) => left));
      expect(house.warnings).toEqual([]);
    });

    test("a sidecar that stops takes no new calls, and says when to try again", async () => {
      house.drains = true;
      const expected = { code: Code.Unavailable, reason: "DRAINING", retryAfterMs: 1_000 };
      expect(await toldFault(drained(client().streamChatCompletion(asked)))).toMatchObject(expected);
      expect(await toldFault(client().createChatCompletion(asked))).toMatchObject(expected);
      expect(house.calls).toEqual([]);
      expect(house.refusals).toHaveLength(2);
    });

    test("an answer of thousands of batches and one of megabytes arrive whole", async () => {
      const count = 3_000;
      house.answerWith(async function* () {
        for (let index = 0; index < count; index++) yield [textEvent(0, `${index} `)];
        yield [textEvent(0, "x".repeat(3 * 1024 * 1024)), endEvent()];
      });
      const expected = Array.from({ length: count }, (_, index) => `${index} `).join("") + "x".repeat(3 * 1024 * 1024);
      const received: string[] = [];
      for await (const { events } of client().streamChatCompletion(asked)) {
        for (const { event } of events) if (event.case === "text") received.push(event.value.text);
      }
      expect(received.join("") === expected).toBe(true);
      const { chat } = await client().createChatCompletion(asked);
      const part = chat?.choices[0]?.message?.parts[0]?.content;
      expect(part?.case === "text" && part.value.text === expected).toBe(true);
    });
  });

  describe("grpc-js", () => {
    const asked = { chat: chatRequest(), validateOnly: false };
    let client: GrpcClient;

    beforeEach(() => {
      client = new GrpcClient(opened.port);
    });

    afterEach(() => client.close());

    const unary = (metadata = {}, chat = asked.chat) =>
      client.unary(
        createPath,
        CreateChatCompletionRequestSchema,
        CreateChatCompletionResponseSchema,
        create(CreateChatCompletionRequestSchema, { chat }),
        metadata,
      );
    const stream = (metadata = {}) =>
      client.stream(
        streamPath,
        StreamChatCompletionRequestSchema,
        StreamChatCompletionResponseSchema,
        create(StreamChatCompletionRequestSchema, asked),
        metadata,
      );

    test("is answered whole and streamed", async () => {
      const answer = await unary({ "x-api-key": "k" });
      expect(answer.code).toBe(0);
      expect(answer.messages[0]?.chat?.id).toBe("chat-1");
      expect(answer.metadata.get("x-outrigger-route")).toEqual(["small-route"]);
      expect(house.calls[0]?.credential?.reveal()).toBe("k");
      const streamed = await grpcStream(stream());
      expect(streamed.code).toBe(0);
      expect(streamed.messages.map(({ events }) => events)).toEqual(batches);
      expect(streamed.metadata.get("x-request-id")).toEqual(["id-2"]);
    });

    test("reads faults with their details, before and after the first message", async () => {
      const fault = new Fault(FaultReason.MODEL_NOT_FOUND, "No route answers to 'größer'.");
      house.answerWith(() => failing([], fault));
      expect(await unary()).toMatchObject({ code: 5, details: fault.message, reason: "MODEL_NOT_FOUND", messages: [] });
      house.answerWith(() => failing(batches.slice(0, 1), fault));
      expect(await grpcStream(stream())).toMatchObject({ code: 5, details: fault.message, reason: "MODEL_NOT_FOUND", messages: [{}] });
    });

    test("compresses its messages, and is answered", async () => {
      const zipping = new GrpcClient(opened.port, { "grpc.default_compression_algorithm": 2 });
      try {
        const content = "the same words again and again ".repeat(2_000);
        const chat = chatRequest({ messages: [{ role: Role.USER, parts: [{ content: { case: "text", value: { text: content } } }] }] });
        const answer = await zipping.unary(
          createPath,
          CreateChatCompletionRequestSchema,
          CreateChatCompletionResponseSchema,
          create(CreateChatCompletionRequestSchema, { chat }),
        );
        expect(answer.code).toBe(0);
        expect(answer.messages[0]?.chat?.choices[0]?.message?.parts).toHaveLength(2);
        expect(house.calls[0]?.request).toEqual(chat);
        expect(house.calls[0]?.door).toBe("grpc");
      } finally {
        zipping.close();
      }
    });

    test("leaves mid-stream, and the call is aborted", async () => {
      const answer = new HandAnswer();
      house.answerWith(() => answer);
      const call = stream();
      const ended = grpcStream(call);
      await until(() => answer.pulls === 1);
      answer.text("so far");
      await until(() => answer.pulls === 2);
      call.cancel();
      expect(await ended).toMatchObject({ code: 1 });
      await until(() => answer.left);
      expect(house.calls[0]?.signal.reason).toMatchObject({ kind: { name: "CANCELLED" } });
    });
  });
});

async function* failing(first: readonly Batch[], caught?: unknown): AsyncGenerator<Batch> {
  yield* first;
  if (caught !== undefined) throw caught;
}

async function drained(messages: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of messages) count++;
  return count;
}
