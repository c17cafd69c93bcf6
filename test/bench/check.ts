/**
 * Real clients that decode answers while a subject is measured, so that no figure is had by leaving work out: content, usage and finish
 * must be what the provider gave.
 */
import { isDeepStrictEqual } from "node:util";
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Collector } from "../../proto/chat.ts";
import { ChatCompletionService } from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatResponse } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { Asked, DoorKey } from "./doors.ts";
import type { Wire } from "./job.ts";
import { anthropicAnswer, CALLER_KEY, chatRequest, EVENTS_PER_STREAM, modelName, openaiAnswer, USAGE } from "./payloads.ts";

/** What an answer comes down to, whatever the door. */
interface Essence {
  readonly text: string;
  readonly input: number;
  readonly output: number;
  readonly finished: boolean;
}

/**
 * Asks once with a real client, and throws an error that says what was seen where the answer is not the provider's. `rewrites` says that a
 * subject may write an answer anew that it could have passed on; content, usage and finish must be the provider's all the same.
 */
export async function checkAnswer(door: DoorKey, asked: Asked, wire: Wire, port: number, rewrites = false): Promise<void> {
  const essence = await (door === "openai" || door === "anthropic"
    ? overHttp(door, asked, wire, port, rewrites)
    : overRpc(door, asked, port));
  const streaming = asked.answer !== "unary";
  const stamps = new RegExp(`^(~t\\d{16} ){${streaming ? EVENTS_PER_STREAM : 1}}(ship )*s?h?i?p?$`);
  const wrong = (what: string, seen: unknown) => new Error(`${door}: ${what}, seen ${JSON.stringify(seen)?.slice(0, 200)}`);
  if (!stamps.test(essence.text)) throw wrong("the content is not the provider's", essence.text);
  if (essence.input !== USAGE.input || essence.output !== USAGE.output) throw wrong("usage is not the provider's", essence);
  if (!essence.finished) throw wrong("no normal finish", essence);
}

/** As much of an OpenAI answer or chunk as is looked at. */
interface OpenAIPiece {
  choices: { message?: { content: string }; delta?: { content?: string }; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
}

/** As much of an Anthropic answer or event as is looked at. */
interface AnthropicPiece {
  type: string;
  content?: { text: string }[];
  delta?: { text?: string; stop_reason?: string };
  message?: { usage: { input_tokens: number } };
  usage?: { input_tokens?: number; output_tokens: number };
  stop_reason?: string;
}

async function overHttp(door: "openai" | "anthropic", asked: Asked, wire: Wire, port: number, rewrites: boolean): Promise<Essence> {
  const headers: [string, string][] = [];
  for (let i = 0; i < wire.headers.length; i += 2) headers.push([wire.headers[i] ?? "", wire.headers[i + 1] ?? ""]);
  const answer = await fetch(`http://127.0.0.1:${port}${wire.path}`, { method: "POST", headers, body: Buffer.from(wire.body) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`${door}: status ${answer.status}: ${text.slice(0, 300)}`);
  if (asked.answer !== "unary") {
    const data = text.split("\n").flatMap((line) => (line.startsWith("data: ") ? [line.slice("data: ".length)] : []));
    if (door === "openai" && data.pop() !== "[DONE]") throw new Error("openai: a stream without its [DONE]");
    const pieces = data.map((json) => JSON.parse(json) as unknown);
    return door === "openai" ? openaiEssence(pieces as OpenAIPiece[]) : anthropicEssence(pieces as AnthropicPiece[]);
  }
  const parsed: unknown = JSON.parse(text);
  // The door and the provider speak the same language here: nothing may be lost on the way.
  const given: unknown = JSON.parse(door === "openai" ? openaiAnswer() : anthropicAnswer());
  if (!rewrites && asked.family === (door === "openai" ? "gpt" : "claude") && !isDeepStrictEqual(parsed, given)) {
    throw new Error(`${door}: the answer differs from the provider's: ${text.slice(0, 1000)}`);
  }
  return door === "openai" ? openaiEssence([parsed as OpenAIPiece]) : anthropicEssence([parsed as AnthropicPiece]);
}

function openaiEssence(pieces: readonly OpenAIPiece[]): Essence {
  let [text, input, output, finished] = ["", 0, 0, false];
  for (const piece of pieces) {
    for (const choice of piece.choices) {
      text += choice.message?.content ?? choice.delta?.content ?? "";
      if (choice.finish_reason === "stop") finished = true;
    }
    if (piece.usage) [input, output] = [piece.usage.prompt_tokens, piece.usage.completion_tokens];
  }
  return { text, input, output, finished };
}

function anthropicEssence(pieces: readonly AnthropicPiece[]): Essence {
  let [text, input, output, finished] = ["", 0, 0, false];
  for (const piece of pieces) {
    text += piece.content?.map((part) => part.text).join("") ?? piece.delta?.text ?? "";
    input = piece.message?.usage.input_tokens ?? piece.usage?.input_tokens ?? input;
    output = piece.usage?.output_tokens ?? output;
    if ((piece.stop_reason ?? piece.delta?.stop_reason) === "end_turn") finished = true;
  }
  return { text, input, output, finished };
}

async function overRpc(door: Exclude<DoorKey, "openai" | "anthropic">, asked: Asked, port: number): Promise<Essence> {
  const baseUrl = `http://127.0.0.1:${port}`;
  const transport =
    door === "grpc"
      ? createGrpcTransport({ baseUrl })
      : door === "grpc-web"
        ? createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })
        : createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: door === "connect-proto" });
  const client: Client<typeof ChatCompletionService> = createClient(ChatCompletionService, transport);
  const options = { headers: { authorization: `Bearer ${CALLER_KEY}` } };
  const chat = chatRequest(modelName(asked.family, asked.answer === "unary" ? "burst" : asked.answer), asked.promptBytes);
  if (asked.answer === "unary") {
    const response = (await client.createChatCompletion({ chat }, options)).chat;
    if (response === undefined) throw new Error(`${door}: an answer without content`);
    return rpcEssence(response);
  }
  const collector = new Collector();
  for await (const { events } of client.streamChatCompletion({ chat }, options)) collector.add(events);
  if (!collector.complete) throw new Error(`${door}: a stream without its end event`);
  return rpcEssence(collector.response);
}

function rpcEssence(response: ChatResponse): Essence {
  const [choice] = response.choices;
  const text = choice?.message?.parts.map((part) => (part.content.case === "text" ? part.content.value.text : "")).join("") ?? "";
  return {
    text,
    input: Number(response.usage?.inputTokens ?? 0n),
    output: Number(response.usage?.outputTokens ?? 0n),
    finished: choice?.finishReason === FinishReason.STOP,
  };
}
