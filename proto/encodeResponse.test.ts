import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { anyResponse } from "../test/kit/anyAnswer.ts";
import { encodeResponse } from "./encodeResponse.ts";
import { CreateChatCompletionResponseSchema } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { ChatResponseSchema } from "./gen/outrigger/chat/v1/events_pb.ts";

test("an answer is encoded as protobuf-es encodes it, byte for byte", () => {
  fc.assert(
    fc.property(anyResponse, fc.nat(8), (chat, headroom) => {
      const bytes = encodeResponse(chat, headroom, (length) => new Uint8Array(length).fill(0xee));
      expect([...bytes.subarray(0, headroom)]).toEqual(new Array(headroom).fill(0xee));
      const expected = toBinary(CreateChatCompletionResponseSchema, create(CreateChatCompletionResponseSchema, { chat }));
      expect(Buffer.from(bytes.subarray(headroom)).equals(Buffer.from(expected))).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("so are fields that this build does not know", () => {
  const chat = create(ChatResponseSchema, { id: "a" });
  chat.$unknown = [{ no: 99, wireType: 0, data: new Uint8Array([1]) }];
  const expected = toBinary(CreateChatCompletionResponseSchema, create(CreateChatCompletionResponseSchema, { chat }));
  expect(Buffer.from(encodeResponse(chat, 0, (length) => new Uint8Array(length))).equals(Buffer.from(expected))).toBe(true);
});
