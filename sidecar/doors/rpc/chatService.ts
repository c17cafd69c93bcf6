/**
 * The methods that ask models, for the generic stack: the same calls by the same way, answered through iterators instead of by the pump.
 */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { type AnyRequest, type Batch, Collector, EmbeddingCollector } from "../../../proto/chat.ts";
import type {
  ChatCompletionService,
  CreateChatCompletionRequest,
  StreamChatCompletionRequest,
} from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { EmbeddingService } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { ModelService } from "../../../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import type { House } from "../../call.ts";
import { callOf, incomplete, turnedAway } from "../pump.ts";
import type { RpcCaller } from "./generic.ts";
import { answerMetadata } from "./metadata.ts";
import { listModels } from "./models.ts";
import { checkedChat, checkedEmbedding } from "./requests.ts";

type CallerOf = (context: HandlerContext) => RpcCaller;

/** Answers chats. What it throws are faults, for the stack to translate. */
export function chatService(house: House, callerOf: CallerOf): ServiceImpl<typeof ChatCompletionService> {
  const answer = answers(house, callerOf);
  return {
    async createChatCompletion({ chat, validateOnly }: CreateChatCompletionRequest, context) {
      const collector = new Collector();
      for await (const batch of answer(checkedChat(chat), validateOnly, context, false)) collector.add(batch);
      return { $typeName: "outrigger.chat.v1.CreateChatCompletionResponse", chat: collector.response };
    },

    async *streamChatCompletion({ chat, validateOnly }: StreamChatCompletionRequest, context) {
      for await (const batch of answer(checkedChat(chat), validateOnly, context, true)) {
        yield { $typeName: "outrigger.chat.v1.StreamChatCompletionResponse", events: [...batch] };
      }
    },
  };
}

/** Makes vectors. */
export function embeddingService(house: House, callerOf: CallerOf): ServiceImpl<typeof EmbeddingService> {
  const answer = answers(house, callerOf);
  return {
    async createEmbeddings({ embedding, validateOnly }, context) {
      const collector = new EmbeddingCollector();
      for await (const batch of answer(checkedEmbedding(embedding), validateOnly, context, false)) collector.add(batch);
      return { $typeName: "outrigger.chat.v1.CreateEmbeddingsResponse", embedding: collector.response };
    },
  };
}

type Answers = (request: AnyRequest, validateOnly: boolean, context: HandlerContext, streaming: boolean) => AsyncIterable<Batch>;

function answers(house: House, callerOf: CallerOf): Answers {
  return async function* answer(request, validateOnly, context, streaming) {
    const caller = callerOf(context);
    const { id, door, credential, traceparent, timeoutMs, signal } = caller;
    const parts = {
      id,
      door,
      request,
      native: undefined,
      streaming,
      nativeStreamUsage: false,
      validateOnly,
      credential,
      traceparent,
      timeoutMs,
    };
    const call = callOf(parts, signal, house.clock.monotonicMs());
    const fault = turnedAway(house, call);
    if (fault !== undefined) throw fault;
    caller.notes = call.notes;
    const batches = house.policy().answer(call)[Symbol.asyncIterator]();
    let ended = false;
    let complete = false;
    try {
      for (;;) {
        const result = await nextUnlessAborted(batches, signal);
        if (result.done === true) break;
        const batch = result.value;
        if (batch.length === 0) continue;
        complete = batch.at(-1)?.event.case === "end";
        setMetadata(context, call.notes, id);
        yield batch;
      }
      ended = true;
    } finally {
      // Not awaited: an answer that still waits for its provider would be waited for with it, and nobody wants it any more.
      if (!ended) batches.return?.().then(undefined, (error) => house.warn("An answer could not be left.", { call: id }, error));
    }
    if (!complete) throw incomplete();
  };
}

/** Lists models. */
export function modelService(house: House, callerOf: CallerOf): ServiceImpl<typeof ModelService> {
  return {
    listModels(request, context) {
      return listModels(house.policy().models(callerOf(context).credential), request);
    },
  };
}

function setMetadata({ responseHeader }: HandlerContext, notes: Parameters<typeof answerMetadata>[1], id: string): void {
  const metadata = answerMetadata(id, notes);
  for (let index = 0; index + 1 < metadata.length; index += 2) responseHeader.set(metadata[index] ?? "", metadata[index + 1] ?? "");
}

/** The next batch; throws the signal's reason at once when it is aborted, as a pending read may not notice. */
function nextUnlessAborted(batches: AsyncIterator<Batch>, signal: AbortSignal): Promise<IteratorResult<Batch>> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    batches
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", stop));
  });
}
