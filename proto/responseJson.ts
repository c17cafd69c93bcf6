/**
 * Whole answers, and batches of events, as protobuf's JSON (https://protobuf.dev/programming-guides/json), straight-line.
 *
 * What nearly every answer holds is written by hand; messages that are rare are left to protobuf-es, each by itself. What comes out is the
 * same, character for character, which a property test holds to.
 */
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import {
  FinishReasonSchema,
  type Message,
  type Money,
  type Part,
  PartSchema,
  RoleSchema,
  type Usage,
} from "./gen/outrigger/chat/v1/conversation_pb.ts";
import {
  type ChatChoice,
  type ChatEvent,
  ChatEventSchema,
  type ChatResponse,
  CitationSchema,
  DecisionSchema,
  LogprobsDeltaSchema,
  WarningSchema,
} from "./gen/outrigger/chat/v1/events_pb.ts";

/** An answer as the JSON of a `CreateChatCompletionResponse`. */
export function responseJson(chat: ChatResponse): string {
  let members = withText("", "id", chat.id);
  members = withText(members, "model", chat.model);
  if (chat.created !== 0n) members = withLong(members, "created", chat.created);
  members = withText(members, "route", chat.route);
  members = withText(members, "provider", chat.provider);
  members = withList(members, "choices", chat.choices, choiceJson);
  if (chat.usage !== undefined) members = withMember(members, "usage", usageJson(chat.usage));
  members = withList(members, "warnings", chat.warnings, (warning) => rareJson(WarningSchema, warning));
  members = withList(members, "decisions", chat.decisions, (decision) => rareJson(DecisionSchema, decision));
  if (chat.cost !== undefined) members = withMember(members, "cost", moneyJson(chat.cost));
  return `{"chat":{${members}}}`;
}

/** A batch of events as the JSON of a `StreamChatCompletionResponse`. A batch is never empty. */
export function eventsJson(events: readonly ChatEvent[]): string {
  return `{${withList("", "events", events, eventJson)}}`;
}

function eventJson(event: ChatEvent): string {
  const happened = event.event;
  switch (happened.case) {
    case "text":
    case "refusal":
      return `{"${happened.case}":{${withText(withNumber("", "choice", happened.value.choice), "text", happened.value.text)}}}`;
    case "toolCall": {
      const { choice, index, id, name, argumentsJson } = happened.value;
      let members = withNumber(withNumber("", "choice", choice), "index", index);
      members = withText(withText(members, "id", id), "name", name);
      return `{"toolCall":{${withText(members, "argumentsJson", argumentsJson)}}}`;
    }
    default:
      return rareJson(ChatEventSchema, event);
  }
}

function choiceJson(choice: ChatChoice): string {
  let members = withNumber("", "index", choice.index);
  if (choice.message !== undefined) members = withMember(members, "message", messageJson(choice.message));
  members = withEnum(members, "finishReason", choice.finishReason, FinishReasonSchema.value);
  members = withText(members, "nativeFinishReason", choice.nativeFinishReason);
  members = withText(members, "stopSequence", choice.stopSequence);
  members = withText(members, "finishDetail", choice.finishDetail);
  members = withList(members, "citations", choice.citations, (citation) => rareJson(CitationSchema, citation));
  if (choice.logprobs !== undefined) members = withMember(members, "logprobs", rareJson(LogprobsDeltaSchema, choice.logprobs));
  return `{${members}}`;
}

function messageJson({ role, parts, name }: Message): string {
  return `{${withText(withList(withEnum("", "role", role, RoleSchema.value), "parts", parts, partJson), "name", name)}}`;
}

function partJson(part: Part): string {
  const { content, cache } = part;
  if (cache === undefined) {
    if (content.case === "text") return `{"text":{${withText("", "text", content.value.text)}}}`;
    if (content.case === "toolCall") {
      const { id, name, argumentsJson } = content.value;
      return `{"toolCall":{${withText(withText(withText("", "id", id), "name", name), "argumentsJson", argumentsJson)}}}`;
    }
  }
  return rareJson(PartSchema, part);
}

function usageJson(usage: Usage): string {
  let members = withLong("", "inputTokens", usage.inputTokens);
  members = withLong(members, "outputTokens", usage.outputTokens);
  members = withLong(members, "totalTokens", usage.totalTokens);
  members = withLong(members, "cachedInputTokens", usage.cachedInputTokens);
  members = withLong(members, "cacheWriteTokens", usage.cacheWriteTokens);
  members = withLong(members, "reasoningTokens", usage.reasoningTokens);
  return `{${withText(members, "nativeJson", usage.nativeJson)}}`;
}

function moneyJson({ currency, micros }: Money): string {
  const members = withText("", "currency", currency);
  return `{${micros === 0n ? members : withLong(members, "micros", micros)}}`;
}

/** A message that answers seldom hold. */
function rareJson<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): string {
  return JSON.stringify(toJson(schema, message));
}

// Each function below adds a member to those of an object, and leaves out what has its default, as protobuf's JSON does.

function withText(members: string, name: string, text: string): string {
  return text === "" ? members : withMember(members, name, JSON.stringify(text));
}

function withNumber(members: string, name: string, value: number): string {
  return value === 0 ? members : withMember(members, name, String(value));
}

/** Numbers of 64 bits are text in JSON, whose readers would lose some of them. One that is there is written, also if it is 0. */
function withLong(members: string, name: string, value: bigint | undefined): string {
  if (value === undefined) return members;
  // A number that is exact is the same text, and sooner made.
  const exact = Number(value);
  return withMember(members, name, Number.isSafeInteger(exact) ? `"${exact}"` : `"${value}"`);
}

/** Values by their names; one that this build has no name for is a number. */
function withEnum(members: string, name: string, value: number, values: Record<number, { readonly jsonName: string } | undefined>): string {
  if (value === 0) return members;
  const known = values[value];
  return withMember(members, name, known === undefined ? String(value) : `"${known.jsonName}"`);
}

function withList<T>(members: string, name: string, list: readonly T[], json: (item: T) => string): string {
  if (list.length === 0) return members;
  let items = "";
  for (const item of list) items += items === "" ? json(item) : `,${json(item)}`;
  return withMember(members, name, `[${items}]`);
}

function withMember(members: string, name: string, json: string): string {
  return members === "" ? `"${name}":${json}` : `${members},"${name}":${json}`;
}
