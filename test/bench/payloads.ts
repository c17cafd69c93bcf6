/**
 * What is asked and answered while measuring, in every wire format: requests as callers send them, answers as providers do.
 *
 * Every piece of an answer's content is a stamp: `~t`, sixteen digits of microseconds on the machine's monotonic clock, and a blank.
 * Digits look the same in JSON and in protobuf, so that one scan counts the events of any door and tells how long each one took.
 */
import { create } from "@bufbuild/protobuf";
import type { ChatRequest } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ChatRequestSchema, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** What a stamp begins with. */
export const STAMP_MARK = "~t";
/** Digits of a stamp. */
export const STAMP_DIGITS = 16;
/** A stamp that tells no time, for answers that are prepared ahead. */
export const STAMP_NONE = `${STAMP_MARK}${"0".repeat(STAMP_DIGITS)} `;
/** Pieces of content in a streamed answer. */
export const EVENTS_PER_STREAM = 100;
/** What every answer claims to have consumed, so that a check can tell whether usage came through. */
export const USAGE = { input: 181, output: 100 };
/** The API key that callers show. */
export const CALLER_KEY = "bench-caller-key-0123456789abcdef";
/** The key that the sidecar shows to the provider. */
export const PROVIDER_KEY = "bench-provider-key-0123456789abcdef";

/** Whose model is asked for, and thus in which format its provider answers. */
export type Family = "gpt" | "claude" | "gemini";

/** Which model is asked for; the provider answers as its name says: `burst` all at once, `paced-20` an event every 20 ms. */
export function modelName(family: Family, pace: "burst" | number): string {
  return pace === "burst" ? `${family}-bench-burst` : `${family}-bench-paced-${pace}`;
}

/** The texts of a conversation of four messages that hold `promptBytes` bytes of text together. */
function turns(promptBytes: number): { system: string; user: string; assistant: string; last: string } {
  const share = Math.floor(promptBytes / 4);
  const fill = (bytes: number, from: number) => {
    const words = "The harbour master wrote down every ship, its cargo and the hour at which it came in, and never lost a line. ";
    return words.repeat(Math.ceil((bytes + from) / words.length) + 1).slice(from, from + bytes);
  };
  return { system: fill(share, 0), user: fill(share, 17), assistant: fill(share, 31), last: fill(promptBytes - 3 * share, 44) };
}

/** A request in OpenAI's format. */
export function openaiRequest(model: string, promptBytes: number, streaming: boolean): string {
  const { system, user, assistant, last } = turns(promptBytes);
  return JSON.stringify({
    model,
    messages: [
      { role: "system", content: system },
      { role: "user", content: user },
      { role: "assistant", content: assistant },
      { role: "user", content: last },
    ],
    temperature: 0.2,
    max_completion_tokens: 400,
    ...(streaming ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}

/** A request in Anthropic's format. */
export function anthropicRequest(model: string, promptBytes: number, streaming: boolean): string {
  const { system, user, assistant, last } = turns(promptBytes);
  return JSON.stringify({
    model,
    max_tokens: 400,
    system,
    messages: [
      { role: "user", content: user },
      { role: "assistant", content: assistant },
      { role: "user", content: last },
    ],
    temperature: 0.2,
    ...(streaming ? { stream: true } : {}),
  });
}

/** The same request in the conversation's own form. */
export function chatRequest(model: string, promptBytes: number): ChatRequest {
  const { system, user, assistant, last } = turns(promptBytes);
  const message = (role: Role, text: string) => ({ role, parts: [{ content: { case: "text" as const, value: { text } } }] });
  return create(ChatRequestSchema, {
    model,
    messages: [message(Role.SYSTEM, system), message(Role.USER, user), message(Role.ASSISTANT, assistant), message(Role.USER, last)],
    temperature: 0.2,
    maxOutputTokens: 400n,
  });
}

/** A whole answer is this long in every format, so that rows differ by what is read and not by how much. */
export const ANSWER_BYTES = 655;

/** A whole answer of that length: its content is a stamp and as many words as are missing. */
function sized(answer: (content: string) => string): string {
  const missing = ANSWER_BYTES - answer(STAMP_NONE).length;
  return answer(STAMP_NONE + "ship ".repeat(missing).slice(0, missing));
}

/** A whole answer as OpenAI writes it. */
export function openaiAnswer(): string {
  return sized((content) =>
    JSON.stringify({
      id: "chatcmpl-CbenchAnswer0123456789abcdef",
      object: "chat.completion",
      created: 1793059200,
      model: "gpt-bench-2026-11-01",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content, refusal: null, annotations: [] },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage: {
        prompt_tokens: USAGE.input,
        completion_tokens: USAGE.output,
        total_tokens: USAGE.input + USAGE.output,
        prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
      },
      service_tier: "default",
      system_fingerprint: "fp_bench0123",
    }),
  );
}

/** A whole answer as Anthropic writes it. */
export function anthropicAnswer(): string {
  return sized((text) =>
    JSON.stringify({
      id: "msg_01BenchAnswer0123456789",
      type: "message",
      role: "assistant",
      model: "claude-bench-2026-11-01",
      content: [{ type: "text", text }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: {
        input_tokens: USAGE.input,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
        output_tokens: USAGE.output,
        service_tier: "standard",
      },
    }),
  );
}

/** A whole answer as Gemini writes it: with a line for every member. */
export function geminiAnswer(): string {
  return sized((text) => JSON.stringify(geminiResponse(text, "STOP", USAGE.output), null, 2));
}

/** What a whole answer and every chunk of a stream are; usage counts what was written so far. */
function geminiResponse(text: string, finishReason: string | undefined, written: number): object {
  return {
    candidates: [{ content: { parts: [{ text }], role: "model" }, finishReason, index: 0 }],
    usageMetadata: {
      promptTokenCount: USAGE.input,
      candidatesTokenCount: written,
      totalTokenCount: USAGE.input + written,
      promptTokensDetails: [{ modality: "TEXT", tokenCount: USAGE.input }],
    },
    modelVersion: "gemini-bench-2026-11-01",
    responseId: "BenchAnswer0123456789ab",
  };
}

/** A streamed answer: what comes before the content, its pieces, and what comes after. */
export interface StreamTemplate {
  readonly first: readonly string[];
  /** As many as a stream has, each with one stamp. */
  readonly contents: readonly string[];
  readonly last: readonly string[];
}

/** A streamed answer as OpenAI writes it; a piece of content is about 300 bytes. */
export function openaiStream(): StreamTemplate {
  const chunk = (choices: unknown[], usage: unknown) =>
    `data: ${JSON.stringify({
      id: "chatcmpl-CbenchAnswer0123456789abcdef",
      object: "chat.completion.chunk",
      created: 1793059200,
      model: "gpt-bench-2026-11-01",
      service_tier: "default",
      system_fingerprint: "fp_bench0123",
      choices,
      usage,
    })}\n\n`;
  const delta = (value: unknown, finish: string | null) => [{ index: 0, delta: value, logprobs: null, finish_reason: finish }];
  return {
    first: [chunk(delta({ role: "assistant", content: "", refusal: null }, null), null)],
    contents: alike(chunk(delta({ content: STAMP_NONE }, null), null)),
    last: [
      chunk(delta({}, "stop"), null),
      chunk([], {
        prompt_tokens: USAGE.input,
        completion_tokens: USAGE.output,
        total_tokens: USAGE.input + USAGE.output,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0 },
      }),
      "data: [DONE]\n\n",
    ],
  };
}

/** A streamed answer as Anthropic writes it. */
export function anthropicStream(): StreamTemplate {
  const frame = (type: string, rest: object) => `event: ${type}\ndata: ${JSON.stringify({ type, ...rest })}\n\n`;
  return {
    first: [
      frame("message_start", {
        message: {
          id: "msg_01BenchAnswer0123456789",
          type: "message",
          role: "assistant",
          model: "claude-bench-2026-11-01",
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: USAGE.input, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 },
        },
      }),
      frame("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
      frame("ping", {}),
    ],
    contents: alike(frame("content_block_delta", { index: 0, delta: { type: "text_delta", text: STAMP_NONE } })),
    last: [
      frame("content_block_stop", { index: 0 }),
      frame("message_delta", { delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: USAGE.output } }),
      frame("message_stop", {}),
    ],
  };
}

/**
 * A streamed answer as Gemini writes it. Usage stands in every chunk and grows from one to the next; a piece of content is about 350
 * bytes. A last chunk without words says why the answer ended.
 */
export function geminiStream(): StreamTemplate {
  // It writes a blank after each colon, and ends lines as HTTP does.
  const chunk = (response: object) => `data: ${JSON.stringify(response).replaceAll('":', '": ')}\r\n\r\n`;
  return {
    first: [],
    contents: Array.from({ length: EVENTS_PER_STREAM }, (_, i) => chunk(geminiResponse(STAMP_NONE, undefined, i + 1))),
    last: [chunk(geminiResponse("", "STOP", USAGE.output))],
  };
}

/** The pieces of formats that write every piece as the one before. */
function alike(content: string): readonly string[] {
  return Array.from({ length: EVENTS_PER_STREAM }, () => content);
}
