/**
 * What an answer means, read from the bytes that a door wrote, by readers of our tests' own: they share nothing with the dialects, so
 * that a mistake there cannot hide behind the same mistake here.
 */
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { readEventStream } from "./eventStream.ts";
import type { RecordedMeaning } from "./recordings.ts";

/** The meaning of a whole answer, whatever format it came in. */
export interface Meaning {
  /** One for each choice. */
  texts: string[];
  reasoning: string;
  refusal: string;
  toolCalls: { id: string; name: string; argumentsJson: string }[];
  /** In OpenAI's words, one for each choice; null where none arrived. */
  finishReasons: (string | null)[];
  /** Totals that include their parts; a member is absent where the format or the provider did not say. */
  usage: MeantUsage | undefined;
  /** Whether the format's own end was seen. */
  complete: boolean;
  /** The error that the answer carried, in the format's own form; undefined if there was none. */
  error: { type: string; message: string; code?: string | number | null } | undefined;
}

export interface MeantUsage {
  input?: number;
  output?: number;
  total?: number;
  cached?: number;
  cacheWrite?: number;
  reasoning?: number;
}

// biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote, looked at member by member; a type would be a wish.
type Json = any;

function emptyMeaning(): Meaning {
  return { texts: [], reasoning: "", refusal: "", toolCalls: [], finishReasons: [], usage: undefined, complete: false, error: undefined };
}

/** Reads what the OpenAI door wrote. */
export function readOpenAi(body: string, stream: boolean): Meaning {
  if (stream) {
    const events = readEventStream(body);
    const done = events.at(-1)?.data === "[DONE]";
    const chunks = events.filter(({ data }) => data !== "[DONE]").map(({ data }) => JSON.parse(data));
    return { ...foldOpenAiChunks(chunks), complete: done };
  }
  const answer: Json = JSON.parse(body);
  const meaning = emptyMeaning();
  if (answer.error !== undefined) {
    meaning.error = answer.error;
    return meaning;
  }
  for (const choice of answer.choices) {
    const { message } = choice;
    meaning.texts[choice.index] = message.content ?? "";
    meaning.finishReasons[choice.index] = finishReason(choice.finish_reason);
    meaning.reasoning += message.reasoning_content ?? message.reasoning ?? "";
    meaning.refusal += message.refusal ?? "";
    for (const call of message.tool_calls ?? []) {
      meaning.toolCalls.push({ id: call.id, name: call.function.name, argumentsJson: call.function.arguments });
    }
    if (message.function_call != null) {
      meaning.toolCalls.push({ id: "", name: message.function_call.name, argumentsJson: message.function_call.arguments });
    }
  }
  meaning.usage = readOpenAiUsage(answer.usage);
  meaning.complete = true;
  return meaning;
}

/** Folds the chunks of a stream, as an application would; `complete` is left false, since chunks alone do not tell. */
export function foldOpenAiChunks(chunks: readonly Json[]): Meaning {
  const meaning = emptyMeaning();
  const calls = new Map<string, Meaning["toolCalls"][number]>();
  for (const chunk of chunks) {
    if (chunk.error !== undefined) {
      meaning.error = chunk.error;
      continue;
    }
    if (chunk.usage != null) meaning.usage = readOpenAiUsage(chunk.usage);
    for (const { index, delta = {}, finish_reason } of chunk.choices ?? []) {
      meaning.texts[index] = (meaning.texts[index] ?? "") + (delta.content ?? "");
      meaning.finishReasons[index] ??= null;
      if (finish_reason != null) meaning.finishReasons[index] = finishReason(finish_reason);
      meaning.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
      meaning.refusal += delta.refusal ?? "";
      for (const piece of delta.tool_calls ?? []) {
        const key = `${index}/${piece.index}`;
        let call = calls.get(key);
        if (call === undefined) {
          call = { id: "", name: "", argumentsJson: "" };
          calls.set(key, call);
          meaning.toolCalls.push(call);
        }
        call.id ||= piece.id ?? "";
        call.name ||= piece.function?.name ?? "";
        call.argumentsJson += piece.function?.arguments ?? "";
      }
    }
  }
  return meaning;
}

/** The word of the deprecated function calls means the same as the present one. */
function finishReason(written: string | null | undefined): string | null {
  return written === "function_call" ? "tool_calls" : (written ?? null);
}

function readOpenAiUsage(usage: Json): MeantUsage | undefined {
  if (usage == null) return undefined;
  return withoutUndefined({
    input: usage.prompt_tokens,
    output: usage.completion_tokens,
    total: usage.total_tokens,
    cached: usage.prompt_tokens_details?.cached_tokens ?? undefined,
    reasoning: usage.completion_tokens_details?.reasoning_tokens ?? undefined,
  });
}

/** Reads what the Anthropic door wrote. */
export function readAnthropic(body: string, stream: boolean): Meaning {
  if (stream) return foldAnthropicEvents(readEventStream(body).map(({ data }) => JSON.parse(data)));
  const answer: Json = JSON.parse(body);
  const meaning = emptyMeaning();
  if (answer.type === "error") {
    meaning.error = answer.error;
    return meaning;
  }
  meaning.texts[0] = "";
  for (const block of answer.content) {
    if (block.type === "text") meaning.texts[0] += block.text;
    else if (block.type === "thinking") meaning.reasoning += block.thinking;
    else if (block.type === "tool_use") {
      meaning.toolCalls.push({ id: block.id, name: block.name, argumentsJson: JSON.stringify(block.input) });
    }
  }
  meaning.finishReasons[0] = stopReasons[answer.stop_reason] ?? answer.stop_reason;
  meaning.usage = readAnthropicUsage(answer.usage);
  meaning.complete = true;
  return meaning;
}

/** Folds the events of a stream, as an application would. */
export function foldAnthropicEvents(events: readonly Json[]): Meaning {
  const meaning = emptyMeaning();
  meaning.texts[0] = "";
  meaning.finishReasons[0] = null;
  let usage: Json;
  const calls = new Map<number, Meaning["toolCalls"][number]>();
  for (const event of events) {
    switch (event.type) {
      case "message_start":
        usage = { ...event.message.usage };
        break;
      case "content_block_start":
        if (event.content_block.type === "text") meaning.texts[0] += event.content_block.text;
        if (event.content_block.type === "tool_use") {
          const call = { id: event.content_block.id, name: event.content_block.name, argumentsJson: "" };
          calls.set(event.index, call);
          meaning.toolCalls.push(call);
        }
        break;
      case "content_block_delta":
        if (event.delta.type === "text_delta") meaning.texts[0] += event.delta.text;
        else if (event.delta.type === "thinking_delta") meaning.reasoning += event.delta.thinking;
        else if (event.delta.type === "input_json_delta") {
          const call = calls.get(event.index);
          if (call !== undefined) call.argumentsJson += event.delta.partial_json;
        }
        break;
      case "message_delta":
        if (event.delta.stop_reason != null) meaning.finishReasons[0] = stopReasons[event.delta.stop_reason] ?? event.delta.stop_reason;
        // Later numbers replace earlier ones member by member: that is what the SDKs do.
        for (const [name, value] of Object.entries(event.usage ?? {})) if (value != null) usage = { ...usage, [name]: value };
        break;
      case "message_stop":
        meaning.complete = true;
        break;
      case "error":
        meaning.error = event.error;
        break;
    }
  }
  meaning.usage = readAnthropicUsage(usage);
  return meaning;
}

const stopReasons: Readonly<Record<string, string>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  max_tokens: "length",
  tool_use: "tool_calls",
  refusal: "content_filter",
  pause_turn: "stop",
};

/** Reads what the Responses door wrote. */
export function readResponses(body: string, stream: boolean): Meaning {
  if (stream) return foldResponsesEvents(readEventStream(body).map(({ data }) => JSON.parse(data)));
  const answer: Json = JSON.parse(body);
  if (answer.object !== "response") return { ...emptyMeaning(), error: answer.error };
  return { ...meaningOfResponse(answer), complete: true };
}

/**
 * Folds the events of a stream, as an application would: pieces are put together, and what is said again as a whole must be what they
 * came to. Numbers must count up without a gap.
 */
export function foldResponsesEvents(events: readonly Json[]): Meaning {
  const items: Json[] = [];
  let last: Json;
  let error: Meaning["error"];
  const partOf = ({ output_index, content_index }: Json): Json => items[output_index].content[content_index];
  events.forEach((event, number) => {
    if (event.sequence_number !== number) throw new Error(`event ${number} has the number ${event.sequence_number}`);
    switch (event.type) {
      case "response.output_item.added":
        if (event.output_index !== items.length) throw new Error(`item ${event.output_index} came after ${items.length} others`);
        items.push(event.item);
        break;
      case "response.content_part.added":
        items[event.output_index].content[event.content_index] = event.part;
        break;
      case "response.output_text.delta":
        partOf(event).text += event.delta;
        break;
      case "response.refusal.delta":
        partOf(event).refusal += event.delta;
        break;
      case "response.function_call_arguments.delta":
        items[event.output_index].arguments += event.delta;
        break;
      case "response.reasoning_summary_part.added":
        items[event.output_index].summary[event.summary_index] = event.part;
        break;
      case "response.reasoning_summary_text.delta":
        items[event.output_index].summary[event.summary_index].text += event.delta;
        break;
      case "response.output_item.done": {
        const { arguments: written, content, summary } = items[event.output_index];
        same({ arguments: written, content: textsOf(content), summary }, { ...event.item, content: textsOf(event.item.content) });
        items[event.output_index] = event.item;
        break;
      }
      case "response.completed":
      case "response.incomplete":
      case "response.failed":
        last = event.response;
        if (event.type !== "response.failed") same(meaningOfResponse({ ...last, output: items }), meaningOfResponse(last));
        break;
      case "error":
        error = event.error ?? event;
        break;
    }
  });
  const complete = last?.status === "completed" || last?.status === "incomplete";
  const meaning = { ...meaningOfResponse({ ...last, output: items }), complete };
  // One that did not end has no reason why.
  return complete ? meaning : { ...meaning, finishReasons: [null], error };
}

function meaningOfResponse(response: Json): Meaning {
  const meaning = emptyMeaning();
  meaning.texts[0] = "";
  for (const item of response.output) {
    if (item.type === "reasoning") for (const { text } of item.summary) meaning.reasoning += text;
    if (item.type === "function_call") meaning.toolCalls.push({ id: item.call_id, name: item.name, argumentsJson: item.arguments });
    for (const part of item.type === "message" ? item.content : []) {
      meaning.texts[0] += part.text ?? "";
      meaning.refusal += part.refusal ?? "";
    }
  }
  const cut = { max_output_tokens: "length", content_filter: "content_filter" }[response.incomplete_details?.reason as string];
  meaning.finishReasons[0] = cut ?? (meaning.toolCalls.length > 0 ? "tool_calls" : "stop");
  const { usage } = response;
  if (usage != null) {
    meaning.usage = withoutUndefined({
      input: usage.input_tokens,
      output: usage.output_tokens,
      total: usage.total_tokens,
      cached: usage.input_tokens_details.cached_tokens,
      cacheWrite: usage.input_tokens_details.cache_write_tokens,
      reasoning: usage.output_tokens_details.reasoning_tokens,
    });
  }
  return meaning;
}

function textsOf(content: Json[] | undefined): string[] | undefined {
  return content?.map(({ text, refusal }) => text ?? refusal);
}

/** What came in pieces must be in the whole: members that the pieces do not have are not compared. */
function same(pieces: Json, whole: Json): void {
  for (const [name, value] of Object.entries(pieces)) {
    if (value === undefined || name === "encrypted_content") continue;
    const [put, said] = [JSON.stringify(value), JSON.stringify(whole[name])];
    if (put !== said) throw new Error(`${name} came in pieces as ${put} and whole as ${said}`);
  }
}

/** Reads what a gRPC caller makes of an answer. */
export function readChatResponse(response: ChatResponse, complete: boolean): Meaning {
  const meaning = emptyMeaning();
  for (const { index, message, finishReason } of response.choices) {
    meaning.texts[index] = "";
    meaning.finishReasons[index] = finishWords[finishReason] ?? null;
    for (const { content } of message?.parts ?? []) {
      if (content.case === "text") meaning.texts[index] += content.value.text;
      else if (content.case === "refusal") meaning.refusal += content.value.text;
      else if (content.case === "reasoning") meaning.reasoning += content.value.text;
      else if (content.case === "toolCall") {
        const { id, name, argumentsJson } = content.value;
        meaning.toolCalls.push({ id, name, argumentsJson });
      }
    }
  }
  const { usage } = response;
  if (usage !== undefined) {
    meaning.usage = withoutUndefined({
      input: plain(usage.inputTokens),
      output: plain(usage.outputTokens),
      total: plain(usage.totalTokens),
      cached: plain(usage.cachedInputTokens),
      cacheWrite: plain(usage.cacheWriteTokens),
      reasoning: plain(usage.reasoningTokens),
    });
  }
  meaning.complete = complete;
  return meaning;
}

const finishWords: Readonly<Record<number, string>> = {
  [FinishReason.STOP]: "stop",
  [FinishReason.LENGTH]: "length",
  [FinishReason.TOOL_CALLS]: "tool_calls",
  [FinishReason.CONTENT_FILTER]: "content_filter",
};

function plain(count: bigint | undefined): number | undefined {
  return count === undefined ? undefined : Number(count);
}

/** Anthropic's parts are disjoint; ours are not, so the input is the sum. */
function readAnthropicUsage(usage: Json): MeantUsage | undefined {
  if (usage == null) return undefined;
  const cached = usage.cache_read_input_tokens ?? undefined;
  const cacheWrite = usage.cache_creation_input_tokens ?? undefined;
  return withoutUndefined({
    input: (usage.input_tokens ?? 0) + (cached ?? 0) + (cacheWrite ?? 0),
    output: usage.output_tokens,
    cached,
    cacheWrite,
  });
}

function withoutUndefined(usage: { [member in keyof MeantUsage]: number | undefined }): MeantUsage {
  return Object.fromEntries(Object.entries(usage).filter(([, value]) => value !== undefined));
}

/** What a door's format can say of an answer; what it cannot say is not compared, and the suite counts it as refused with this reason. */
export interface Carries {
  readonly choices: boolean;
  readonly refusal: boolean;
  readonly usageParts: readonly (keyof MeantUsage)[];
}

/** Compares what a recording means with what was read at a door. Returns one line for each difference. */
export function differences(expect: RecordedMeaning, meaning: Meaning, carries: Carries): string[] {
  const found: string[] = [];
  const compare = (what: string, expected: unknown, seen: unknown): void => {
    if (JSON.stringify(expected) !== JSON.stringify(seen))
      found.push(`${what}: expected ${JSON.stringify(expected)}, saw ${JSON.stringify(seen)}`);
  };
  const expected = expect as Json;
  const texts: string[] = expected.texts ?? [expected.text];
  const refusal: string = expected.refusal ?? "";
  if (carries.refusal) {
    compare("refusal", refusal, meaning.refusal);
    // An answer that failed before its first word has no choice that could have a text.
    const seen = !expected.complete && meaning.texts.length === 0 ? [""] : fill(meaning.texts, "");
    compare("texts", carries.choices ? texts : texts.slice(0, 1), seen);
  } else {
    // Where the format has no place of its own for a refusal's words, they are its text: nothing that was said may be lost.
    compare("text and refusal", (texts[0] ?? "") + refusal, fill(meaning.texts, "").join(""));
  }
  // What stands in a place of its own before tool calls is thinking, too.
  compare("reasoning", (expected.reasoning_text ?? "") + (expected.tool_plan ?? ""), meaning.reasoning);

  const calls: Json[] = expected.tool_calls;
  compare(
    "tool names",
    calls.map(({ name }) => name),
    meaning.toolCalls.map(({ name }) => name),
  );
  calls.forEach((call, at) => {
    const seen = meaning.toolCalls[at];
    if (call.id !== undefined) compare(`tool call ${at}: id`, String(call.id), seen?.id);
    if (call.arguments === null) compare(`tool call ${at}: arguments`, call.arguments_raw, seen?.argumentsJson);
    else compare(`tool call ${at}: arguments`, sorted(call.arguments), sorted(parseArguments(seen?.argumentsJson)));
  });

  if (expected.complete) {
    const reasons: string[] = expected.finish_reasons ?? [expected.finish_reason];
    const allowed = new Set([expected.finish_reason, ...(expected.finish_reason_alternatives ?? [])]);
    if (refusal !== "" && !carries.refusal) allowed.add("content_filter");
    const seen = fill<string | null>(meaning.finishReasons, null);
    compare("number of finish reasons", carries.choices ? reasons.length : 1, seen.length);
    if (!allowed.has(seen[0])) compare("finish reason", [...allowed], seen[0]);
    if (carries.choices && reasons.length > 1) compare("finish reasons", reasons, seen);
    const usage = expected.usage ?? {};
    const names = {
      input: "input_tokens",
      output: "output_tokens",
      total: "total_tokens",
      cached: "cached_input_tokens",
      cacheWrite: "cache_write_tokens",
      reasoning: "reasoning_tokens",
    } as const;
    for (const part of carries.usageParts) {
      if (usage[names[part]] !== undefined) compare(`usage ${part}`, usage[names[part]], meaning.usage?.[part]);
    }
    compare("error", undefined, meaning.error);
  }
  compare("complete", expected.complete, meaning.complete);
  return found;
}

/** Arguments as tools get them: nothing written means no arguments. */
function parseArguments(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  return text === "" || text === "null" ? {} : JSON.parse(text);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, member]) => [name, sorted(member)]),
  );
}

function fill<T>(sparse: readonly (T | undefined)[], otherwise: T): T[] {
  return Array.from(sparse, (value) => value ?? otherwise);
}
