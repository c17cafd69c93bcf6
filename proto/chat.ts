/**
 * Helpers on the conversation that need nothing but its messages: batches of events, and the fold of a stream to a whole answer.
 */
import type { ChatRequest, Usage } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { FinishReason, Role } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest, EmbeddingResponse } from "./gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { ChatChoice, ChatEvent, ChatResponse } from "./gen/outrigger/chat/v1/events_pb.ts";

/** All that a call can ask. What a request is for is told by `$typeName`; every kind names its model. */
export type AnyRequest = ChatRequest | EmbeddingRequest;

/**
 * Events that became known together: all that one read decoded.
 *
 * A batch that is passed on as it came still carries the bytes it was decoded from, so that a door of the same dialect can write
 * those and lose nothing that the conversation does not model. A filter that changes an event makes a new batch, which carries none.
 */
export interface Batch extends ReadonlyArray<ChatEvent> {
  readonly native?: NativeBytes;
}

/** The bytes that a batch was decoded from. */
export interface NativeBytes {
  /** The dialect that they are in. */
  readonly dialect: string;
  /** A whole unary body, or whole frames of a stream. */
  readonly form: "body" | "frames";
  readonly bytes: Uint8Array;
}

/** A caller's request as it came, for a provider that speaks the same dialect. A filter that changes the request leaves it out. */
export interface NativeRequest {
  /** The dialect that it is in. */
  readonly dialect: string;
  /** The whole body, as text; checked to be JSON, an object at its top, at most 64 levels deep, without duplicate members. */
  readonly text: string;
}

type EventOf<Case extends ChatEvent["event"]["case"]> = Extract<ChatEvent["event"], { case: Case }>;
type ValueOf<Case> = Case extends ChatEvent["event"]["case"] ? (EventOf<Case> extends { value: infer Value } ? Value : never) : never;

/** Wraps a value as an event. Proto3 messages are plain objects, so the literals below need no factory on the path of a call. */
export function event<Case extends Exclude<ChatEvent["event"]["case"], undefined>>(name: Case, value: ValueOf<Case>): ChatEvent {
  return { $typeName: "outrigger.chat.v1.ChatEvent", event: { case: name, value } as ChatEvent["event"] };
}

/** The first event of an answer. `created` is in seconds since 1970. */
export function startEvent(id: string, model: string, created: number, route: string, provider: string): ChatEvent {
  return event("start", {
    $typeName: "outrigger.chat.v1.ChatStart",
    id,
    model,
    created: BigInt(Math.trunc(created)),
    route,
    provider,
  });
}

/** A piece of text of one choice. */
export function textEvent(choice: number, text: string): ChatEvent {
  return event("text", { $typeName: "outrigger.chat.v1.TextDelta", choice, text });
}

/** A piece of visible thinking, or its seal: `signature` and `redacted` are the dialect's own. */
export function reasoningEvent(
  choice: number,
  block: number,
  text: string,
  seal: { readonly signature?: string; readonly redacted?: string; readonly dialect?: string } = {},
): ChatEvent {
  return event("reasoning", {
    $typeName: "outrigger.chat.v1.ReasoningDelta",
    choice,
    block,
    text,
    signature: seal.signature ?? "",
    redacted: seal.redacted ?? "",
    dialect: seal.dialect ?? "",
  });
}

/** A piece of the words with which the model declines. */
export function refusalEvent(choice: number, text: string): ChatEvent {
  return event("refusal", { $typeName: "outrigger.chat.v1.RefusalDelta", choice, text });
}

/** A piece of a tool call; `id` and `name` on the first piece only. */
export function toolCallEvent(choice: number, index: number, id: string, name: string, argumentsJson: string): ChatEvent {
  return event("toolCall", { $typeName: "outrigger.chat.v1.ToolCallDelta", choice, index, id, name, argumentsJson });
}

/** The end of one choice. */
export function finishEvent(choice: number, reason: FinishReason, nativeReason: string, stopSequence = "", detail = ""): ChatEvent {
  return event("finish", { $typeName: "outrigger.chat.v1.ChoiceFinish", choice, reason, nativeReason, stopSequence, detail });
}

/** The vector of one input. */
export function embeddingEvent(index: number, values: number[]): ChatEvent {
  return event("embedding", { $typeName: "outrigger.chat.v1.Embedding", index, values });
}

/** What was consumed so far. */
export function usageEvent(usage: Usage): ChatEvent {
  return event("usage", usage);
}

/** Something that the caller should know and that did not stop the call. */
export function warningEvent(code: string, field: string, message: string): ChatEvent {
  return event("warning", { $typeName: "outrigger.chat.v1.Warning", code, field, message });
}

/** A sign of life. */
export function heartbeatEvent(): ChatEvent {
  return event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" });
}

/** The end of an answer that did not fail. */
export function endEvent(): ChatEvent {
  return event("end", { $typeName: "outrigger.chat.v1.ChatEnd" });
}

/** A batch that still carries the bytes it was decoded from. */
export function nativeBatch(events: ChatEvent[], native: NativeBytes): Batch {
  return Object.assign(events, { native });
}

/**
 * Folds events into a whole answer: what a unary call returns, and what a client makes of a stream.
 *
 * Pieces of text, of thinking and of tool calls are joined; parts stand in the order in which each began. A later usage replaces
 * an earlier one. `complete` tells whether the last event was seen, without which an answer is not one.
 */
export class Collector {
  readonly response: ChatResponse = {
    $typeName: "outrigger.chat.v1.ChatResponse",
    id: "",
    model: "",
    created: 0n,
    route: "",
    provider: "",
    choices: [],
    warnings: [],
    decisions: [],
  };
  complete = false;

  /** Takes in one batch. */
  add(batch: readonly ChatEvent[]): void {
    for (const { event } of batch) this.#addEvent(event);
  }

  #addEvent(event: ChatEvent["event"]): void {
    const response = this.response;
    switch (event.case) {
      case "start":
        response.id = event.value.id;
        response.model = event.value.model;
        response.created = event.value.created;
        response.route = event.value.route;
        response.provider = event.value.provider;
        break;
      case "text": {
        const part = this.#partOf(event.value.choice, "text");
        part.value.text += event.value.text;
        break;
      }
      case "refusal": {
        const part = this.#partOf(event.value.choice, "refusal");
        part.value.text += event.value.text;
        break;
      }
      case "reasoning":
        this.#addReasoning(event.value);
        break;
      case "toolCall":
        this.#addToolCall(event.value);
        break;
      case "citation":
        this.#choice(event.value.choice).citations.push(event.value);
        break;
      case "logprobs": {
        const choice = this.#choice(event.value.choice);
        if (choice.logprobs === undefined) choice.logprobs = { ...event.value };
        else {
          choice.logprobs.content = [...choice.logprobs.content, ...event.value.content];
          choice.logprobs.refusal = [...choice.logprobs.refusal, ...event.value.refusal];
        }
        break;
      }
      case "finish": {
        const choice = this.#choice(event.value.choice);
        choice.finishReason = event.value.reason;
        choice.nativeFinishReason = event.value.nativeReason;
        choice.stopSequence = event.value.stopSequence;
        choice.finishDetail = event.value.detail;
        break;
      }
      case "usage":
        response.usage = event.value;
        break;
      case "warning":
        response.warnings.push(event.value);
        break;
      case "extra":
        this.#parts(event.value.choice).push({
          $typeName: "outrigger.chat.v1.Part",
          content: { case: "extra", value: event.value.extra ?? { $typeName: "outrigger.chat.v1.Extra", dialect: "", path: "", json: "" } },
        });
        break;
      case "decision":
        response.decisions.push(event.value);
        break;
      case "end":
        this.complete = true;
        if (event.value.cost !== undefined) response.cost = event.value.cost;
        break;
      case "embedding":
      case "heartbeat":
      case undefined:
        break;
    }
  }

  /** The last part of a choice if it is of this kind, so that pieces join; a new one otherwise. */
  #partOf(choice: number, kind: "text" | "refusal"): { value: { text: string } } {
    const parts = this.#parts(choice);
    const last = parts.at(-1);
    if (last?.content.case === kind) return last.content;
    const content =
      kind === "text"
        ? { case: kind, value: { $typeName: "outrigger.chat.v1.Text" as const, text: "" } }
        : { case: kind, value: { $typeName: "outrigger.chat.v1.Refusal" as const, text: "" } };
    parts.push({ $typeName: "outrigger.chat.v1.Part", content });
    return content;
  }

  // Made when they are needed: most answers have neither, and maps are dear.
  #reasoningBlocks: Map<string, { text: string; signature: string; redacted: string; dialect: string }> | undefined;
  #toolCalls: Map<string, { id: string; name: string; argumentsJson: string }> | undefined;

  #addReasoning(delta: ValueOf<"reasoning">): void {
    const key = `${delta.choice}/${delta.block}`;
    this.#reasoningBlocks ??= new Map();
    let block = this.#reasoningBlocks.get(key);
    if (block === undefined) {
      const value = { $typeName: "outrigger.chat.v1.Reasoning" as const, text: "", signature: "", redacted: "", dialect: "" };
      this.#parts(delta.choice).push({ $typeName: "outrigger.chat.v1.Part", content: { case: "reasoning", value } });
      this.#reasoningBlocks.set(key, value);
      block = value;
    }
    block.text += delta.text;
    block.signature += delta.signature;
    block.redacted += delta.redacted;
    if (delta.dialect !== "") block.dialect = delta.dialect;
  }

  #addToolCall(delta: ValueOf<"toolCall">): void {
    const key = `${delta.choice}/${delta.index}`;
    this.#toolCalls ??= new Map();
    let call = this.#toolCalls.get(key);
    if (call === undefined) {
      const value = { $typeName: "outrigger.chat.v1.ToolCall" as const, id: "", name: "", argumentsJson: "" };
      this.#parts(delta.choice).push({ $typeName: "outrigger.chat.v1.Part", content: { case: "toolCall", value } });
      this.#toolCalls.set(key, value);
      call = value;
    }
    if (delta.id !== "") call.id = delta.id;
    if (delta.name !== "") call.name = delta.name;
    call.argumentsJson += delta.argumentsJson;
  }

  #parts(choice: number): ChatChoiceParts {
    const message = this.#choice(choice).message;
    if (message === undefined) throw new Error("a collected choice always has a message");
    return message.parts;
  }

  #choice(index: number): ChatChoice {
    const { choices } = this.response;
    const found = choices.find((choice) => choice.index === index);
    if (found !== undefined) return found;
    const choice: ChatChoice = {
      $typeName: "outrigger.chat.v1.ChatChoice",
      index,
      message: { $typeName: "outrigger.chat.v1.Message", role: Role.ASSISTANT, parts: [], name: "" },
      finishReason: FinishReason.UNSPECIFIED,
      nativeFinishReason: "",
      stopSequence: "",
      finishDetail: "",
      citations: [],
    };
    choices.push(choice);
    choices.sort((a, b) => a.index - b.index);
    return choice;
  }
}

type ChatChoiceParts = NonNullable<ChatChoice["message"]>["parts"];

/** Folds the events of an answer to a request for vectors. */
export class EmbeddingCollector {
  readonly response: EmbeddingResponse = {
    $typeName: "outrigger.chat.v1.EmbeddingResponse",
    id: "",
    model: "",
    route: "",
    provider: "",
    embeddings: [],
    warnings: [],
    decisions: [],
  };

  /** Takes in one batch. */
  add(batch: readonly ChatEvent[]): void {
    const { response } = this;
    for (const { event } of batch) {
      switch (event.case) {
        case "start": {
          const { id, model, route, provider } = event.value;
          Object.assign(response, { id, model, route, provider });
          break;
        }
        case "embedding":
          response.embeddings.push(event.value);
          break;
        case "usage":
          response.usage = event.value;
          break;
        case "warning":
          response.warnings.push(event.value);
          break;
        case "decision":
          response.decisions.push(event.value);
          break;
        case "end":
          if (event.value.cost !== undefined) response.cost = event.value.cost;
          break;
        default:
          // Nothing else is an answer to such a request.
          break;
      }
    }
  }
}

/** Folds a whole stream. Throws what the stream throws; an answer that ends without its last event is returned with `complete` false. */
export async function collect(
  batches: AsyncIterable<readonly ChatEvent[]>,
): Promise<{ readonly response: ChatResponse; readonly complete: boolean }> {
  const collector = new Collector();
  for await (const batch of batches) collector.add(batch);
  return { response: collector.response, complete: collector.complete };
}

/** The text of one choice of a whole answer, its parts joined without a separator. */
export function textOf(response: ChatResponse, choice = 0): string {
  let text = "";
  for (const part of response.choices.find((candidate) => candidate.index === choice)?.message?.parts ?? []) {
    if (part.content.case === "text") text += part.content.value.text;
  }
  return text;
}
