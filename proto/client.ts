/**
 * The client for applications: asks models over whatever transport Connect has, in browsers as in servers.
 *
 * ```ts
 * const client = createChatClient(createConnectTransport({ baseUrl: "http://127.0.0.1:7410" }));
 * for await (const event of client.stream({ model: "fast", messages: [user("Say hello")] })) {
 *   if (event.event.case === "text") show(event.event.value.text);
 * }
 * ```
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { ChatCompletionService } from "./gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { type ChatRequestSchema, type MessageSchema, Role } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { type EmbeddingRequestSchema, type EmbeddingResponse, EmbeddingService } from "./gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { ChatEvent, ChatResponse, Decision } from "./gen/outrigger/chat/v1/events_pb.ts";
import { type Model, ModelService } from "./gen/outrigger/chat/v1/model_service_pb.ts";

export { collect, textOf } from "./chat.ts";

/** What an application asks; what is left out has its default. */
export type ChatInit = MessageInitShape<typeof ChatRequestSchema>;

/** What an application wants vectors of; what is left out has its default. */
export type EmbeddingInit = MessageInitShape<typeof EmbeddingRequestSchema>;

/** One turn of a conversation. */
export type MessageInit = MessageInitShape<typeof MessageSchema>;

/** Asks models. Every function takes Connect's options: `signal`, `timeoutMs`, `headers` and those that hear of headers and trailers. */
export interface ChatClient {
  /** Asks and waits for the whole answer. Throws a `ConnectError`; see `faultIn`. */
  chat(request: ChatInit, options?: CallOptions): Promise<ChatResponse>;
  /**
   * Asks and yields each event as it arrives. Throws a `ConnectError`, also after events; one that ends without throwing is complete.
   * Leaving the loop cancels the call.
   */
  stream(request: ChatInit, options?: CallOptions): AsyncIterable<ChatEvent>;
  /** The same, in the batches in which events became known: cheaper where there are many, and what `collect` takes. */
  streamBatches(request: ChatInit, options?: CallOptions): AsyncIterable<readonly ChatEvent[]>;
  /** Decides everything and sends nothing: what each filter would do with this request. */
  explain(request: ChatInit, options?: CallOptions): Promise<readonly Decision[]>;
  /** Makes one vector of each input, in their order. Throws a `ConnectError`; there is never a part of an answer. */
  embed(request: EmbeddingInit, options?: CallOptions): Promise<EmbeddingResponse>;
  /** The models that the caller may use, by name. */
  models(options?: CallOptions): Promise<readonly Model[]>;
}

/** Makes a client. The transport decides the wire: Connect, gRPC or gRPC-Web. */
export function createChatClient(transport: Transport): ChatClient {
  const chats = createClient(ChatCompletionService, transport);
  const vectors = createClient(EmbeddingService, transport);
  const models = createClient(ModelService, transport);

  async function whole(chat: ChatInit, validateOnly: boolean, options: CallOptions | undefined): Promise<ChatResponse> {
    const response = await chats.createChatCompletion({ chat, validateOnly }, options);
    if (response.chat === undefined) throw cutShort();
    return response.chat;
  }

  async function* streamBatches(chat: ChatInit, options?: CallOptions): AsyncGenerator<readonly ChatEvent[]> {
    // Connect's iterators cannot be left: without this, a loop that breaks would leave the provider sending, and the bill growing.
    const leaving = new AbortController();
    const signal = options?.signal === undefined ? leaving.signal : AbortSignal.any([options.signal, leaving.signal]);
    let complete = false;
    let ended = false;
    try {
      for await (const { events } of chats.streamChatCompletion({ chat }, { ...options, signal })) {
        complete = events.at(-1)?.event.case === "end";
        yield events;
      }
      ended = true;
    } finally {
      if (!ended) leaving.abort();
    }
    if (!complete) throw cutShort();
  }

  return {
    chat: (request, options) => whole(request, false, options),

    async *stream(request, options) {
      for await (const events of streamBatches(request, options)) yield* events;
    },

    streamBatches,

    async explain(request, options) {
      const { decisions } = await whole(request, true, options);
      return decisions;
    },

    async embed(embedding, options) {
      const answer = await vectors.createEmbeddings({ embedding }, options);
      if (answer.embedding === undefined) throw cutShort();
      return answer.embedding;
    },

    async models(options) {
      const listed: Model[] = [];
      let pageToken = "";
      do {
        const page = await models.listModels({ pageToken }, options);
        listed.push(...page.models);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      return listed;
    },
  };
}

/** A message of the person who asks. */
export function user(text: string): MessageInit {
  return textMessage(Role.USER, text);
}

/** A message of the model, to give a conversation its history. */
export function assistant(text: string): MessageInit {
  return textMessage(Role.ASSISTANT, text);
}

/** Instructions of the application. */
export function system(text: string): MessageInit {
  return textMessage(Role.SYSTEM, text);
}

/** Why a call failed, as Outrigger tells it. */
export interface ToldFault {
  /** The name of one of `FaultReason`'s values without its prefix, such as `BUDGET_SPENT`. */
  readonly reason: string;
  /** The facts that the message names. */
  readonly facts: Readonly<Record<string, string>>;
  /** The request's fields at fault, such as `chat.messages[2].role`, and what is wrong with each. */
  readonly fields: readonly { readonly field: string; readonly description: string }[];
  /** When another attempt may pass, in milliseconds from when it was told; undefined if that is not known. */
  readonly retryAfterMs: number | undefined;
  /** Names the call in the platform's logs, or empty. */
  readonly requestId: string;
}

/** What a caught error tells of a fault; undefined for errors that are not Outrigger's, such as a connection that broke. */
export function faultIn(caught: unknown): ToldFault | undefined {
  if (!(caught instanceof ConnectError)) return undefined;
  const info = caught.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "outrigger.dev");
  if (info === undefined) return undefined;
  const delay = caught.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info.reason,
    facts: info.metadata,
    fields: caught.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations),
    retryAfterMs: delay === undefined ? undefined : Number(delay.seconds) * 1_000 + delay.nanos / 1e6,
    requestId: caught.findDetails(RequestInfoSchema)[0]?.requestId ?? "",
  };
}

function textMessage(role: Role, text: string): MessageInit {
  return { role, parts: [{ content: { case: "text", value: { text } } }] };
}

/** A server that keeps its word never lets this happen; a proxy between may. */
function cutShort(): ConnectError {
  return new ConnectError("The answer ended before it was complete.", Code.DataLoss);
}
