/**
 * What a recording means, compared with what was made of it.
 *
 * The meaning of an answer is the same whichever way it took: the reader alone, a door's own format, gRPC. So a test turns what it got
 * into a `ChatResponse` and a fault, and asks here for the differences.
 */
import type { Fault } from "../../proto/fault.ts";
import { FinishReason, type Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatChoice, ChatResponse } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { RecordedMeaning } from "./recordings.ts";

/** What came of one recorded exchange. */
export interface Outcome {
  /** What had arrived: whole if nothing failed. */
  readonly response: ChatResponse;
  /** Whether the answer's end event was seen. */
  readonly complete: boolean;
  /** Why the exchange failed, or undefined. */
  readonly fault: Fault | undefined;
}

/** What a comparison leaves out, for formats that cannot say everything. */
export interface Lenience {
  /** The native finish reason and the native usage are not compared: a door writes its own. */
  readonly native?: boolean;
  /** Thinking is not compared. */
  readonly reasoning?: boolean;
}

/** How what came differs from what the recording means; empty if it does not. Each line says what was expected and what was seen. */
export function differences(expected: RecordedMeaning, got: Outcome, lenience: Lenience = {}): string[] {
  if (expected.kind === "error") return errorDifferences(expected, got);
  if (expected.kind !== "chat") return [`a recording of kind ${expected.kind} is no chat`];
  return chatDifferences(expected as unknown as ExpectedChat, got, lenience);
}

interface ExpectedChat {
  readonly choices: number;
  readonly text: string;
  readonly texts?: readonly string[];
  readonly finish_reasons?: readonly (string | null)[];
  readonly reasoning_text?: string;
  /** What the model says before tool calls in a place of its own, which is thinking here. */
  readonly tool_plan?: string;
  readonly refusal?: string;
  readonly citations?: number;
  readonly tool_calls: readonly ExpectedCall[];
  readonly finish_reason: string | null;
  readonly finish_reason_native: string | null;
  readonly finish_reason_alternatives?: readonly string[];
  readonly usage: Readonly<Record<string, number>> | null;
  readonly usage_native?: unknown;
  readonly complete: boolean;
  readonly stream_error?: { readonly class: string; readonly class_alternatives?: readonly string[] };
}

interface ExpectedCall {
  /** Some servers number their calls. */
  readonly id?: string | number;
  readonly name: string;
  /** Parsed; null where the stream broke off inside them. */
  readonly arguments: unknown;
  readonly arguments_raw?: string;
}

function chatDifferences(expected: ExpectedChat, got: Outcome, lenience: Lenience): string[] {
  const found: string[] = [];
  const compare = (what: string, want: unknown, seen: unknown): void => {
    if (!same(want, seen)) found.push(`${what}: expected ${show(want)} and saw ${show(seen)}`);
  };
  const { choices } = got.response;
  // An answer that broke off before its first choice has none to show.
  // One that withheld its only answer has none on some wires; why it did is told as a choice's end all the same.
  const told = expected.complete && expected.finish_reason !== null ? Math.max(expected.choices, 1) : expected.choices;
  compare("number of choices", told, expected.complete ? choices.length : Math.max(choices.length, told));
  const first = choices.find((choice) => choice.index === 0);
  compare("text", expected.text, textIn(first));
  expected.texts?.forEach((text, index) => {
    compare(`text of choice ${index}`, text, textIn(choices.find((choice) => choice.index === index)));
  });
  expected.finish_reasons?.forEach((reason, index) => {
    compare(`finish reason of choice ${index}`, reason, finishOf(choices.find((choice) => choice.index === index)));
  });
  if (lenience.reasoning !== true)
    compare("thinking", (expected.reasoning_text ?? "") + (expected.tool_plan ?? ""), joined(first, "reasoning"));
  compare("refusal", expected.refusal ?? "", joined(first, "refusal"));
  if (expected.citations !== undefined) compare("citations", expected.citations, first?.citations.length ?? 0);
  found.push(...callDifferences(expected.tool_calls, first));
  const finish = finishOf(first);
  const finishes = [expected.finish_reason, ...(expected.finish_reason_alternatives ?? [])];
  if (!finishes.includes(finish)) compare("finish reason", finishes, finish);
  if (lenience.native !== true) compare("native finish reason", expected.finish_reason_native ?? "", first?.nativeFinishReason ?? "");
  compare("usage", expected.usage, usageOf(got.response.usage));
  if (lenience.native !== true && expected.usage_native !== undefined) {
    const native = got.response.usage?.nativeJson ?? "";
    compare("native usage", expected.usage_native, native === "" ? null : JSON.parse(native));
  }
  compare("complete", expected.complete, got.complete);
  compare("failed", !expected.complete, got.fault !== undefined);
  if (expected.stream_error !== undefined) {
    const { class: code, class_alternatives: others = [] } = expected.stream_error;
    const seen = got.fault?.facts.provider_code;
    if (![code, ...others].includes(seen ?? "")) compare("class of the error", code, seen);
  }
  return found;
}

function errorDifferences({ error }: RecordedMeaning, { fault }: Outcome): string[] {
  if (error === undefined) return ["the recording says nothing of its error"];
  if (fault === undefined) return ["expected a fault and saw none"];
  const found: string[] = [];
  const compare = (what: string, want: unknown, seen: unknown): void => {
    if (!same(want, seen)) found.push(`${what}: expected ${show(want)} and saw ${show(seen)}`);
  };
  // An error under a good status is told by the status that it stands for.
  if (error.status >= 300) compare("status", String(error.status), fault.facts.provider_status);
  if (![error.class, ...(error.class_alternatives ?? [])].includes(fault.facts.provider_code ?? "")) {
    compare("class", error.class, fault.facts.provider_code);
  }
  // Of the platform's own credential a caller hears nothing of the provider's.
  if (error.class !== "UNAUTHENTICATED") compare("message", error.message, fault.message);
  if (typeof error.native_type === "string") compare("type", error.native_type, fault.facts.provider_type);
  if (error.native_code !== undefined && error.native_code !== null) {
    compare("code", String(error.native_code), fault.facts.provider_error_code);
  }
  if (error.retry_after !== undefined) compare("retry after", Number(error.retry_after) * 1000, fault.retryAfterMs);
  return found;
}

function callDifferences(expected: readonly ExpectedCall[], choice: ChatChoice | undefined): string[] {
  const calls = (choice?.message?.parts ?? []).flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
  if (calls.length !== expected.length) return [`tool calls: expected ${show(expected)} and saw ${show(calls)}`];
  return expected.flatMap((want, index) => {
    const seen = calls[index];
    if (seen === undefined) return [];
    const found: string[] = [];
    if (want.id !== undefined && String(want.id) !== seen.id)
      found.push(`id of tool call ${index}: expected ${want.id} and saw ${seen.id}`);
    if (seen.id === "") found.push(`tool call ${index} has no id`);
    if (want.name !== seen.name) found.push(`name of tool call ${index}: expected ${want.name} and saw ${seen.name}`);
    const argumentsOf = want.arguments === null ? want.arguments_raw : want.arguments;
    const seenArguments = want.arguments === null ? seen.argumentsJson : parsed(seen.argumentsJson);
    if (!same(argumentsOf, seenArguments)) {
      found.push(`arguments of tool call ${index}: expected ${show(argumentsOf)} and saw ${seen.argumentsJson}`);
    }
    return found;
  });
}

function joined(choice: ChatChoice | undefined, kind: "text" | "reasoning" | "refusal"): string {
  return (choice?.message?.parts ?? []).map(({ content }) => (content.case === kind ? content.value.text : "")).join("");
}

function textIn(choice: ChatChoice | undefined): string {
  return joined(choice, "text");
}

/** The finish reason in the words that recordings use, or null if none arrived. */
function finishOf(choice: ChatChoice | undefined): string | null {
  switch (choice?.finishReason) {
    case FinishReason.STOP:
      return "stop";
    case FinishReason.LENGTH:
      return "length";
    case FinishReason.TOOL_CALLS:
      return "tool_calls";
    case FinishReason.CONTENT_FILTER:
      return "content_filter";
    default:
      return null;
  }
}

const usageMembers = {
  input_tokens: "inputTokens",
  output_tokens: "outputTokens",
  total_tokens: "totalTokens",
  cached_input_tokens: "cachedInputTokens",
  cache_write_tokens: "cacheWriteTokens",
  reasoning_tokens: "reasoningTokens",
} as const;

/** Usage in the words that recordings use; absent members are absent. */
function usageOf(usage: Usage | undefined): Record<string, number> | null {
  if (usage === undefined) return null;
  return Object.fromEntries(
    Object.entries(usageMembers).flatMap(([name, member]) => {
      const count = usage[member];
      return count === undefined ? [] : [[name, Number(count)]];
    }),
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Whether two JSON values are the same, whatever the order of their members. */
function same(one: unknown, other: unknown): boolean {
  return show(one) === show(other);
}

function show(value: unknown): string {
  return (
    JSON.stringify(value, (_key, inner: unknown) => {
      if (typeof inner === "bigint") return Number(inner);
      if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
      return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
    }) ?? "nothing"
  );
}
