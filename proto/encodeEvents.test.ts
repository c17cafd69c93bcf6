import { create, fromBinary, isFieldSet, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anyEvent } from "../test/kit/anyAnswer.ts";
import { endEvent, heartbeatEvent, textEvent, usageEvent } from "./chat.ts";
import { encodeEvents } from "./encodeEvents.ts";
import { StreamChatCompletionResponseSchema } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { UsageSchema } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { type ChatEvent, ChatEventSchema } from "./gen/outrigger/chat/v1/events_pb.ts";

function decoded(bytes: Uint8Array) {
  return fromBinary(StreamChatCompletionResponseSchema, bytes);
}

function byLibrary(events: readonly ChatEvent[]): Uint8Array {
  return toBinary(StreamChatCompletionResponseSchema, create(StreamChatCompletionResponseSchema, { events: [...events] }));
}

describe("encodeEvents", () => {
  test("writes what protobuf-es writes, byte for byte, behind the headroom", () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 6 }), fc.nat(8), (events, headroom) => {
        // The allocated bytes are dirty, as pooled ones are: whatever is not written shows.
        const bytes = encodeEvents(events, headroom, (length) => new Uint8Array(length).fill(0xaa));
        expect(bytes.subarray(0, headroom)).toEqual(new Uint8Array(headroom).fill(0xaa));
        expect(bytes.subarray(headroom)).toEqual(byLibrary(events));
      }),
      { numRuns: 1_000 },
    );
  });

  test("each kind of event is among those the property tries", () => {
    const kinds = new Set<string | undefined>();
    fc.assert(
      fc.property(anyEvent, (event) => void kinds.add(event.event.case)),
      { numRuns: 1_000, seed: 1 },
    );
    const all = ChatEventSchema.oneofs[0]?.fields.map((field) => field.localName) ?? [];
    expect([...kinds].sort()).toEqual([...all].sort());
  });

  test("a batch of the usual events decodes to itself", () => {
    const usage = create(UsageSchema, { inputTokens: 12n, outputTokens: 0n, nativeJson: '{"prompt_tokens":12}' });
    const events = [textEvent(0, "Grüße"), heartbeatEvent(), usageEvent(usage), endEvent()];
    const response = decoded(encodeEvents(events, 0, (length) => new Uint8Array(length)));
    expect(response.events.map((event) => event.event.case)).toEqual(["text", "heartbeat", "usage", "end"]);
    const third = response.events[2]?.event;
    if (third?.case !== "usage") throw new Error("the third event should be usage");
    // Zero that was said is not the same as nothing said.
    expect(isFieldSet(third.value, UsageSchema.field.outputTokens)).toBe(true);
    expect(isFieldSet(third.value, UsageSchema.field.totalTokens)).toBe(false);
  });

  test("texts around every change in the size of a length are whole", () => {
    for (const around of [0x7f, 0x3fff, 0x1f_ffff]) {
      for (let length = around - 12; length <= around + 2; length++) {
        const event = textEvent(0, "x".repeat(length));
        const bytes = encodeEvents([event], 0, (size) => new Uint8Array(size));
        expect(bytes.byteLength).toBe(byLibrary([event]).byteLength);
        const [first] = decoded(bytes).events;
        expect(first?.event.case === "text" && first.event.value.text.length).toBe(length);
      }
    }
  });
});
