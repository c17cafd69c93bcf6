import { create, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { anyEvent, anyResponse } from "../test/kit/anyAnswer.ts";
import {
  CreateChatCompletionResponseSchema,
  StreamChatCompletionResponseSchema,
} from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { ChatResponseSchema } from "./gen/outrigger/chat/v1/events_pb.ts";
import { eventsJson, responseJson } from "./responseJson.ts";

test("an answer is the JSON that protobuf-es makes of it, character for character", () => {
  fc.assert(
    fc.property(anyResponse, (chat) => {
      expect(responseJson(chat)).toBe(
        toJsonString(CreateChatCompletionResponseSchema, create(CreateChatCompletionResponseSchema, { chat })),
      );
    }),
    { numRuns: process.env.OUTRIGGER_LONG === undefined ? 2_000 : 20_000 },
  );
});

test("so is a batch of events", () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { minLength: 1, maxLength: 3 }), (events) => {
      const message = create(StreamChatCompletionResponseSchema, { events });
      expect(eventsJson(events)).toBe(toJsonString(StreamChatCompletionResponseSchema, message));
    }),
    { numRuns: process.env.OUTRIGGER_LONG === undefined ? 2_000 : 20_000 },
  );
});

test("half a pair of surrogates, and an answer of nothing", () => {
  const chat = create(ChatResponseSchema, { id: "\ud800" });
  expect(responseJson(chat)).toBe(String.raw`{"chat":{"id":"\ud800"}}`);
  expect(responseJson(create(ChatResponseSchema))).toBe('{"chat":{}}');
});
