/** Writes an answer as OpenAI's Chat Completions API would: as one body, or as the chunks of a stream. */
import type { Answer, AnswerChoice } from "./answer.ts";
import type { Json } from "./json.ts";
import type { DemoRequest } from "./request.ts";
import { digest } from "./seeded.ts";
import { tokensOf } from "./tokens.ts";

/** A unary answer as JSON. `created` is in seconds since 1970. */
export function writeBody(answer: Answer, request: DemoRequest, created: number): string {
  return JSON.stringify({
    id: answer.id,
    object: "chat.completion",
    created,
    model: request.model.name,
    choices: answer.choices.map((choice, index) => ({
      index,
      message: writeMessage(choice),
      logprobs: request.logprobs === undefined ? null : { content: logprobs(textOf(choice), request.logprobs), refusal: null },
      finish_reason: choice.finish,
    })),
    usage: writeUsage(answer),
    service_tier: "default",
    system_fingerprint: fingerprint,
  });
}

/** One chunk of a stream, and whether it carries something of the answer, before which a slow model makes its caller wait. */
export interface Chunk {
  readonly json: string;
  readonly content: boolean;
}

/** The chunks of a streamed answer, without the `[DONE]` that follows them. */
export function* writeChunks(answer: Answer, request: DemoRequest, created: number): Generator<Chunk> {
  const usage = request.includeUsage ? { usage: null } : {};
  const envelope = (choices: readonly Json[], extra: object) =>
    JSON.stringify({
      id: answer.id,
      object: "chat.completion.chunk",
      created,
      model: request.model.name,
      service_tier: "default",
      system_fingerprint: fingerprint,
      choices,
      ...extra,
    });
  // The choices of one answer take turns, as they do at a provider that makes them at the same time.
  let running = answer.choices.map((choice, index) => deltasOf(choice, index, request));
  while (running.length > 0) {
    const still: typeof running = [];
    for (const deltas of running) {
      const next = deltas.next();
      if (next.done === true) continue;
      yield { json: envelope([next.value.choice], usage), content: next.value.content };
      still.push(deltas);
    }
    running = still;
  }
  if (request.includeUsage) yield { json: envelope([], { usage: writeUsage(answer) }), content: false };
}

interface Delta {
  readonly choice: Json;
  readonly content: boolean;
}

function* deltasOf(choice: AnswerChoice, index: number, request: DemoRequest): Generator<Delta> {
  const top = request.logprobs;
  const delta = (delta: Json, content: boolean, text?: string): Delta => ({
    choice: {
      index,
      delta,
      logprobs: top === undefined || text === undefined ? null : { content: logprobs([text], top), refusal: null },
      finish_reason: null,
    },
    content,
  });
  const first = choice.content === null ? { role: "assistant", content: null } : { role: "assistant", content: "" };
  yield delta(choice.refusal === null ? { ...first, refusal: null } : { ...first, refusal: "" }, false);
  for (const piece of tokensOf(choice.reasoning)) yield delta({ reasoning_content: piece }, true);
  for (const piece of textOf(choice)) yield delta({ content: piece }, true, piece);
  for (const piece of tokensOf(choice.refusal ?? "")) yield delta({ refusal: piece }, true);
  for (const [at, call] of choice.toolCalls.entries()) {
    if (request.legacyFunctions) {
      yield delta({ function_call: { name: call.name, arguments: "" } }, true);
      for (const piece of tokensOf(call.argumentsText)) yield delta({ function_call: { arguments: piece } }, true);
      continue;
    }
    yield delta({ tool_calls: [{ index: at, id: call.id, type: "function", function: { name: call.name, arguments: "" } }] }, true);
    for (const piece of tokensOf(call.argumentsText)) yield delta({ tool_calls: [{ index: at, function: { arguments: piece } }] }, true);
  }
  yield { choice: { index, delta: {}, logprobs: null, finish_reason: choice.finish }, content: false };
}

/** The pieces of a text: its tokens, or whole paragraphs where it is so long that tokens would drown it in frames. */
function* textOf(choice: AnswerChoice): Generator<string> {
  if (choice.content === null) return;
  if (choice.content.times === 1) yield* tokensOf(choice.content.unit);
  else for (let turn = 0; turn < choice.content.times; turn += 1) yield choice.content.unit;
}

function writeMessage(choice: AnswerChoice): Json {
  const calls = choice.toolCalls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.argumentsText },
  }));
  const [first] = calls;
  return {
    role: "assistant",
    content: choice.content === null ? null : choice.content.unit.repeat(choice.content.times),
    refusal: choice.refusal,
    annotations: [],
    ...(choice.reasoning === "" ? {} : { reasoning_content: choice.reasoning }),
    ...(first === undefined ? {} : choice.finish === "function_call" ? { function_call: first.function } : { tool_calls: calls }),
  };
}

function writeUsage(answer: Answer): Json {
  const { promptTokens, cachedTokens, completionTokens, reasoningTokens } = answer.usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: reasoningTokens,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

/** Made-up probabilities: they depend on the token alone, and alternatives are less likely than what was said. */
function logprobs(tokens: Iterable<string>, top: number): Json[] {
  return Array.from(tokens, (token) => {
    const likely = -(Number.parseInt(digest(token).slice(0, 4), 16) % 2_000) / 1_000;
    const entry = (text: string, logprob: number) => ({ token: text, logprob, bytes: [...Buffer.from(text)] });
    const alternatives = Array.from({ length: top }, (_, rank) => entry(rank === 0 ? token : `${token}${rank}`, likely - rank));
    return { ...entry(token, likely), top_logprobs: alternatives };
  });
}

const fingerprint = "fp_demo";
