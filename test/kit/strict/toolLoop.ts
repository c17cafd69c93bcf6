/**
 * A conversation of many turns that call tools, as an application has it that knows OpenAI's SDK and nothing else: it keeps of an answer
 * what the SDK's types name, runs the tools, reports their results in another order, and now and then says a word itself.
 */
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

/** What a provider says in its turn: two calls of tools, a few words, or that it is done. */
export interface Turn {
  readonly number: number;
  readonly kind: "calls" | "words" | "done";
}

/** What providers say, turn by turn; several can take turns with one script. */
export class Script {
  /** Stands in ids of calls, which no two conversations share. */
  readonly conversation: string;
  readonly #turns: number;
  #number = 0;

  constructor(turns: number) {
    this.conversation = randomUUID().slice(0, 8);
    this.#turns = turns;
  }

  next(): Turn {
    const number = ++this.#number;
    return { number, kind: number > this.#turns ? "done" : number % 7 === 0 ? "words" : "calls" };
  }
}

/** The names of the tools, in the order in which they are called. */
export const toolNames = ["down", "up"] as const;

/** What a provider says in words. */
export function wordsOf({ number, kind }: Turn): string {
  return kind === "done" ? "Done." : kind === "words" ? `So far ${number}.` : `I go on to ${number}. `;
}

/** What a tool returns. */
export function resultOf(name: string, argumentsJson: string): string {
  return `${name} ${JSON.parse(argumentsJson).turn}`;
}

/** What an application keeps of an answer. */
export type Keep = (message: OpenAI.ChatCompletionMessage) => OpenAI.ChatCompletionMessageParam;

/** Keeps what every client knows. */
export function keepPlain({ content, tool_calls }: OpenAI.ChatCompletionMessage): OpenAI.ChatCompletionMessageParam {
  return { role: "assistant", content, ...(tool_calls === undefined ? {} : { tool_calls }) };
}

/** Keeps the message as it came, members that the SDK does not know included. */
export function keepAll(message: OpenAI.ChatCompletionMessage): OpenAI.ChatCompletionMessageParam {
  return message;
}

/** How to converse. */
export interface Application {
  readonly model: string;
  readonly stream: boolean;
  readonly keep: Keep;
  /** Where the sidecar is; asked before every request. */
  origin(): string | Promise<string>;
  readonly effort?: OpenAI.ReasoningEffort;
  /** The caller's key; asked before every request. */
  apiKey?(): string;
  /** Sees the headers of each answer that is not streamed. */
  readonly seen?: (headers: Headers) => void;
}

/** Converses until the provider is done, and returns the number of requests. Throws what the SDK throws: a refusal ends the conversation. */
export async function converse({ model, stream, keep, origin, effort, apiKey = () => "none", seen }: Application): Promise<number> {
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: "system", content: "Go up and down." },
    { role: "user", content: "Begin." },
  ];
  for (let requests = 1; ; requests++) {
    const sdk = new OpenAI({ baseURL: `${await origin()}/v1`, apiKey: apiKey(), maxRetries: 0 });
    const asked = { model, messages, tools, ...(effort === undefined ? {} : { reasoning_effort: effort }) };
    const choice = stream ? await streamed(sdk, asked, seen) : await whole(sdk, asked, seen);
    if (choice === undefined) throw new Error("there is no answer");
    messages.push(keep(choice.message));
    if (choice.finish_reason === "stop") {
      if (choice.message.content === "Done.") return requests;
      messages.push({ role: "user", content: "Go on." });
      continue;
    }
    if (choice.finish_reason !== "tool_calls") throw new Error(`the answer ended with ${choice.finish_reason}`);
    for (const call of (choice.message.tool_calls ?? []).toReversed()) {
      if (call.type !== "function") throw new Error("no function was called");
      messages.push({ role: "tool", tool_call_id: call.id, content: resultOf(call.function.name, call.function.arguments) });
    }
  }
}

/** A sidecar that a test may start again. */
interface Started {
  readonly origin: string;
  close(): Promise<void>;
}

/** Converses by a sidecar that is replaced by a fresh one before the request numbered `at`, counted from 1; returns the number of requests. */
export async function converseWithRestart(
  start: () => Promise<Started>,
  at: number,
  application: Omit<Application, "origin">,
): Promise<number> {
  let house = await start();
  let requests = 0;
  try {
    return await converse({
      ...application,
      async origin() {
        requests += 1;
        if (requests === at) {
          await house.close();
          house = await start();
        }
        return house.origin;
      },
    });
  } finally {
    await house.close();
  }
}

type Asked = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, "stream">;

async function whole(sdk: OpenAI, asked: Asked, seen: Application["seen"]): Promise<OpenAI.ChatCompletion.Choice | undefined> {
  const { data, response } = await sdk.chat.completions.create(asked).withResponse();
  seen?.(response.headers);
  return data.choices[0];
}

async function streamed(sdk: OpenAI, asked: Asked, seen: Application["seen"]): Promise<OpenAI.ChatCompletion.Choice | undefined> {
  if (seen !== undefined) throw new Error("the SDK's streaming helper does not show headers");
  return (await sdk.chat.completions.stream(asked).finalChatCompletion()).choices[0];
}

const tools: OpenAI.ChatCompletionTool[] = toolNames.map((name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { turn: { type: "integer" } } } },
}));
