import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Batch } from "../../proto/chat.ts";
import { ChatRequestSchema, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type Call, newNotes } from "../../sidecar/call.ts";

/** A request that asks for a greeting. */
export function chatRequest(init: MessageInitShape<typeof ChatRequestSchema> = {}) {
  return create(ChatRequestSchema, {
    model: "small",
    messages: [{ role: Role.USER, parts: [{ content: { case: "text", value: { text: "Say hello" } } }] }],
    ...init,
  });
}

/** A call as a door makes it, with what a test wants otherwise. */
export function makeCall(changes: Partial<Call> = {}): Call {
  return {
    id: "call-1",
    door: "grpc",
    request: chatRequest(),
    native: undefined,
    streaming: true,
    nativeStreamUsage: false,
    validateOnly: false,
    countOnly: false,
    credential: undefined,
    traceparent: undefined,
    signal: new AbortController().signal,
    startedAtMs: 0,
    deadlineAtMs: Number.POSITIVE_INFINITY,
    consumer: undefined,
    target: undefined,
    warnings: [],
    watch: undefined,
    notes: newNotes(changes.validateOnly ?? false),
    ...changes,
  };
}

/** An answer from batches that are there already. */
export async function* answerOf(...batches: readonly Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

/** All batches of an answer. */
export async function batchesOf(answer: AsyncIterable<Batch>): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of answer) batches.push(batch);
  return batches;
}

/** What an answer throws; fails if it ends well. */
export async function faultOf(answer: AsyncIterable<Batch>): Promise<unknown> {
  try {
    for await (const _ of answer);
  } catch (caught) {
    return caught;
  }
  throw new Error("the answer was expected to fail and ended well");
}
