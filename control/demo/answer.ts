/**
 * Makes up the whole answer to a request: what is thought, said and called, why it ends, and what it costs. How it is delivered is the
 * affair of others. The same request gives the same answer, whatever door and dialect it travelled through.
 */
import type { Json } from "./json.ts";
import type { PromptMemory } from "./memory.ts";
import { callsMax, pickTools } from "./pickTools.ts";
import { type Prompt, readPrompt } from "./prompt.ts";
import { longParagraph, writeProse, writeThoughts } from "./prose.ts";
import { type DemoRequest, Refusal } from "./request.ts";
import { SchemaRefused, writeValue } from "./schema.ts";
import { digest, Seeded } from "./seeded.ts";
import { countTokens, tokensOf } from "./tokens.ts";

/** A whole answer. */
export interface Answer {
  readonly id: string;
  readonly choices: readonly AnswerChoice[];
  readonly usage: AnswerUsage;
}

/** One of the answers. */
export interface AnswerChoice {
  readonly reasoning: string;
  /** Null where there are only tool calls or a refusal. */
  readonly content: RepeatedText | null;
  readonly refusal: string | null;
  readonly toolCalls: readonly { readonly id: string; readonly name: string; readonly argumentsText: string }[];
  readonly finish: "stop" | "length" | "tool_calls" | "function_call";
}

/** A text that need not be held whole: `unit`, `times` times. */
export interface RepeatedText {
  readonly unit: string;
  readonly times: number;
}

/** What an answer costs, in tokens of `tokens.ts`. */
export interface AnswerUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly reasoningTokens: number;
}

/** Answers a request. Throws `Refusal` for a prompt that is too long and for schemas that nothing fits. */
export function makeAnswer(request: DemoRequest, memory: PromptMemory, seed: string): Answer {
  const pieces = promptPieces(request);
  const promptTokens = pieces.reduce((sum, piece) => sum + piece.tokens, 0);
  const { contextTokens } = request.model.behaviour;
  if (promptTokens > contextTokens) {
    throw new Refusal(
      `This model's maximum context length is ${contextTokens} tokens. However, your messages resulted in ${promptTokens} tokens.`,
      "messages",
      "context_length_exceeded",
    );
  }
  const identity = digest(`${seed}\n${identityOf(request)}`);
  const prompt = readPrompt(lastUserText(request));
  const choices: AnswerChoice[] = [];
  let completionTokens = 0;
  let reasoningTokens = 0;
  for (let index = 0; index < request.choices; index += 1) {
    const written = limited(writeChoice(request, prompt, `${identity}/${index}`), request);
    choices.push(written.choice);
    completionTokens += written.tokens;
    reasoningTokens += countTokens(written.choice.reasoning);
  }
  return {
    id: `chatcmpl-demo${identity.slice(0, 24)}`,
    choices,
    usage: { promptTokens, cachedTokens: memory.cachedTokens(pieces), completionTokens, reasoningTokens },
  };
}

function writeChoice(request: DemoRequest, prompt: Prompt, seed: string): AnswerChoice {
  const random = new Seeded(seed);
  const { behaviour } = request.model;
  const steps = thinkingSteps(request);
  const reasoning = steps === 0 ? "" : writeThoughts(prompt, steps, random);
  const empty = { reasoning, content: null, refusal: null, toolCalls: [], finish: "stop" } as const;
  if (behaviour.refuses) return { ...empty, refusal: "I'm sorry, but this demo model declines everything that it is asked." };
  const tools = pickTools(request, prompt);
  if (tools.length > 0) {
    const calls = tools.flatMap((tool) =>
      argumentTexts(request, tool.name, tool.parameters, prompt, seed).map((text) => ({ name: tool.name, text })),
    );
    const toolCalls = calls.slice(0, callsMax).map(({ name, text }, at) => ({
      id: `call_${digest(`${seed}/${name}/${at}`).slice(0, 24)}`,
      name,
      argumentsText: text,
    }));
    return { ...empty, toolCalls, finish: request.legacyFunctions ? "function_call" : "tool_calls" };
  }
  if (behaviour.answerBytes > 0) return { ...empty, content: longText(behaviour.answerBytes, random) };
  const text =
    request.format.kind === "json_schema"
      ? JSON.stringify(schemaValue(request.format.schema, prompt, seed))
      : request.format.kind === "json_object"
        ? JSON.stringify({ answer: writeProse(prompt, occasionOf(request), random), topics: prompt.topics.slice(0, 5) })
        : writeProse(prompt, occasionOf(request), random);
  return { ...empty, content: { unit: text, times: 1 } };
}

/** The arguments of one tool's calls: one call, or one for each of several names in a row ("the weather in Paris and Rome"). */
function argumentTexts(request: DemoRequest, tool: string, parameters: Json, prompt: Prompt, seed: string): string[] {
  const write = (about: Prompt) => {
    try {
      return JSON.stringify(writeValue(parameters, about, `${seed}/${tool}`));
    } catch (error) {
      if (!(error instanceof SchemaRefused)) throw error;
      throw new Refusal(`Invalid schema for function '${tool}': ${error.message}`, "tools", "invalid_function_parameters");
    }
  };
  if (!request.parallelToolCalls || request.legacyFunctions || prompt.series.length < 2) return [write(prompt)];
  return [...new Set(prompt.series.slice(0, callsMax).map((name) => write({ ...prompt, names: [name], series: [] })))];
}

function schemaValue(schema: Json, prompt: Prompt, seed: string): Json {
  try {
    return writeValue(schema, prompt, seed);
  } catch (error) {
    if (!(error instanceof SchemaRefused)) throw error;
    throw new Refusal(`Invalid schema for response_format: ${error.message}`, "response_format", "invalid_json_schema");
  }
}

/** Ends an answer at a stop text and at the limit on tokens, whichever comes first. */
function limited(choice: AnswerChoice, request: DemoRequest): { choice: AnswerChoice; tokens: number } {
  let left = request.tokensMax;
  const take = (text: string): string => {
    const tokens = tokensOf(text);
    const taken = tokens.length <= left ? text : tokens.slice(0, left).join("");
    left -= Math.min(tokens.length, left);
    return taken;
  };
  const reasoning = take(choice.reasoning);
  let content = choice.content === null ? null : stopped(choice.content, request.stop);
  let cut = reasoning !== choice.reasoning;
  if (content !== null) {
    const each = countTokens(content.unit);
    if (each * content.times <= left) left -= each * content.times;
    else {
      const whole = Math.floor(left / each);
      const rest = tokensOf(content.unit)
        .slice(0, left - whole * each)
        .join("");
      content = { unit: content.unit.repeat(whole) + rest, times: 1 };
      left = 0;
      cut = true;
    }
  }
  const refusal = choice.refusal === null ? null : take(choice.refusal);
  cut ||= refusal !== choice.refusal;
  const toolCalls: { id: string; name: string; argumentsText: string }[] = [];
  for (const call of choice.toolCalls) {
    if (take(call.name) !== call.name || left === 0) {
      cut = true;
      break;
    }
    const argumentsText = take(call.argumentsText);
    cut ||= argumentsText !== call.argumentsText;
    toolCalls.push({ ...call, argumentsText });
  }
  // Thinking may eat the whole allowance; what is said then is empty, and not nothing.
  if (toolCalls.length === 0 && content === null && refusal === null) content = { unit: "", times: 1 };
  const tokens =
    countTokens(reasoning) +
    (content === null ? 0 : countTokens(content.unit) * content.times) +
    (refusal === null ? 0 : countTokens(refusal)) +
    toolCalls.reduce((sum, call) => sum + countTokens(call.name) + countTokens(call.argumentsText), 0);
  return { choice: { reasoning, content, refusal, toolCalls, finish: cut ? "length" : choice.finish }, tokens };
}

function stopped(text: RepeatedText, stop: readonly string[]): RepeatedText {
  if (stop.length === 0) return text;
  // Where the text repeats, a stop text may begin at the end of one turn and end in the next.
  const searched = text.times > 1 ? text.unit.repeat(2) : text.unit;
  const found = stop
    .filter((one) => one !== "")
    .map((one) => searched.indexOf(one))
    .filter((at) => at !== -1);
  return found.length === 0 ? text : { unit: searched.slice(0, Math.min(...found)), times: 1 };
}

function longText(bytes: number, random: Seeded): RepeatedText {
  const unit = longParagraph(random);
  return { unit, times: Math.ceil(bytes / Buffer.byteLength(unit)) };
}

/** Sentences of thinking, by the word of effort. */
function thinkingSteps(request: DemoRequest): number {
  const steps = { none: 0, minimal: 1, low: 2, medium: 4, high: 8, xhigh: 12, max: 16 }[request.reasoningEffort ?? ""];
  return steps ?? (request.model.behaviour.reasons ? 3 : 0);
}

function lastUserText(request: DemoRequest): string {
  return request.messages.findLast((message) => message.role === "user")?.text ?? request.messages.at(-1)?.text ?? "";
}

function occasionOf(request: DemoRequest): Parameters<typeof writeProse>[1] {
  const lastUser = request.messages.findLastIndex((message) => message.role === "user");
  const names = new Map(request.messages.flatMap((message) => message.toolCalls.map((call) => [call.id, call.name] as const)));
  return {
    attachments: request.messages[lastUser]?.attachments ?? [],
    toolResults: request.messages
      .slice(lastUser + 1)
      .filter((message) => message.role === "tool" || message.role === "function")
      .map((message) => ({ name: names.get(message.toolCallId) ?? "The tool", text: message.text })),
  };
}

/** The prompt in its parts: tools and schema first, as providers put them, then message by message. Each message costs four tokens more. */
function promptPieces(request: DemoRequest): { json: string; tokens: number }[] {
  const pieces: { json: string; tokens: number }[] = [];
  if (request.tools.length > 0) pieces.push(piece(JSON.stringify(request.tools)));
  if (request.format.kind === "json_schema") pieces.push(piece(JSON.stringify(request.format.schema)));
  for (const message of request.messages) {
    const calls = message.toolCalls.length === 0 ? 0 : countTokens(message.callsText);
    pieces.push({ json: message.json, tokens: 4 + countTokens(message.text) + calls + message.mediaTokens });
  }
  return pieces;
}

function piece(json: string): { json: string; tokens: number } {
  return { json, tokens: countTokens(json) };
}

/** What decides the answer: what is asked, not how it was written down or how it is delivered. */
function identityOf(request: DemoRequest): string {
  return JSON.stringify([
    request.model.name,
    request.messages.map((message) => [message.role, message.text, message.attachments, message.callsText]),
    request.tools,
    request.toolChoice,
    request.format,
    request.seed ?? null,
    request.reasoningEffort ?? null,
  ]);
}
