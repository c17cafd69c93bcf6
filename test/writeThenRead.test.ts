/**
 * What an application says arrives: any conversation is written by each dialect and read back by a reader that knows the provider's rules
 * and nothing of ours. Arguments and schemas are there byte for byte, and come back so in answers.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Role } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { anthropicClient } from "../sidecar/dialects/anthropic/anthropic.ts";
import { bedrockClient } from "../sidecar/dialects/bedrock/bedrock.ts";
import { cohereClient } from "../sidecar/dialects/cohere/cohere.ts";
import type { ClientHalf } from "../sidecar/dialects/dialect.ts";
import { geminiClient } from "../sidecar/dialects/gemini/gemini.ts";
import { ollamaClient } from "../sidecar/dialects/ollama/ollama.ts";
import { openAiClient } from "../sidecar/dialects/openai/openai.ts";
import { responsesClient } from "../sidecar/dialects/responses/responses.ts";
import { chatRequest } from "./kit/call.ts";
import { objectText } from "./kit/jsonText.ts";
import { cutAtRandom, seededRandom } from "./kit/random.ts";
import { readPieces } from "./kit/reading.ts";

// biome-ignore lint/suspicious/noExplicitAny: what is on the wire is looked into here, member by member, and may be anything.
type Wire = any;

/** What is said, in order, as a provider's reader hears it. */
type Heard = ["user" | "assistant", string] | ["call", string, unknown] | ["result", string, string];

interface Dialect {
  readonly client: ClientHalf;
  readonly model: string;
  /** Whether arguments are an object on the wire, and not its text. */
  readonly objects: boolean;
  /** Reads a request as the provider does. Throws for what the provider would refuse. */
  hear(body: Wire): Heard[];
  /** A whole answer that calls a tool with these arguments. */
  answer(args: string): string;
}

const ordinary = { maxTokensField: "max_tokens", developerRole: false, streamUsage: true } as const;

const dialects: Readonly<Record<string, Dialect>> = {
  openai: {
    client: openAiClient(ordinary),
    model: "m",
    objects: false,
    hear: ({ messages }) => hearOpenly(messages),
    answer: (args) =>
      `{"id":"i","choices":[{"index":0,"finish_reason":"tool_calls","message":{"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":${JSON.stringify(args)}}}]}}]}`,
  },
  responses: {
    client: responsesClient({ models: [] }),
    model: "gpt-5.2",
    objects: false,
    hear({ instructions, input }) {
      expect(instructions).toBeUndefined();
      const open = new Map<string, string>();
      return input.flatMap((item: Wire): Heard[] => {
        if (item.type === "function_call") {
          open.set(item.call_id, item.name);
          return [["call", item.name, JSON.parse(item.arguments)]];
        }
        if (item.type === "function_call_output") return [["result", take(open, item.call_id), item.output]];
        expect(open.size, "calls without their results").toBe(0);
        return [[item.role, typeof item.content === "string" ? item.content : item.content.map(({ text }: Wire) => text).join("")]];
      });
    },
    answer: (args) =>
      `{"id":"i","status":"completed","output":[{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":${JSON.stringify(args)},"status":"completed"}]}`,
  },
  anthropic: {
    client: anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 10, models: [] }),
    model: "claude-sonnet-4-5",
    objects: true,
    hear: ({ messages }) =>
      hearTurns(messages, (block) => {
        if (block.type === "text") return { text: block.text };
        if (block.type === "tool_use") return { call: [block.id, block.name, block.input] };
        expect(block.type).toBe("tool_result");
        return { result: [block.tool_use_id, typeof block.content === "string" ? block.content : joined(block.content ?? [])] };
      }),
    answer: (args) =>
      `{"id":"i","type":"message","role":"assistant","model":"m","content":[{"type":"tool_use","id":"c","name":"f","input":${args}}],"stop_reason":"tool_use"}`,
  },
  bedrock: {
    client: bedrockClient({ guardrail: undefined, models: [] }),
    model: "anthropic.claude-3-5-haiku-20241022-v1:0",
    objects: true,
    hear: ({ messages }) =>
      hearTurns(messages, (block) => {
        expect(Object.keys(block), "a block has one member").toHaveLength(1);
        const { text, toolUse, toolResult } = block;
        if (text !== undefined) return { text };
        if (toolUse !== undefined) return { call: [toolUse.toolUseId, toolUse.name, toolUse.input] };
        return { result: [toolResult.toolUseId, joined(toolResult.content.filter((piece: Wire) => piece.text !== undefined))] };
      }),
    answer: (args) =>
      `{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"c","name":"f","input":${args}}}]}},"stopReason":"tool_use"}`,
  },
  gemini: {
    client: geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] }),
    model: "gemini-2.5-flash",
    objects: true,
    hear: ({ contents }) =>
      hearTurns(
        contents.map(({ role, parts }: Wire) => ({ role: role === "model" ? "assistant" : role, content: parts })),
        ({ text, functionCall, functionResponse }) => {
          if (text !== undefined) return { text };
          if (functionCall !== undefined) return { call: [functionCall.id, functionCall.name, functionCall.args] };
          return { result: [functionResponse.id, functionResponse.response.output] };
        },
      ),
    answer: (args) =>
      `{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c","name":"f","args":${args}}}]},"finishReason":"STOP"}]}`,
  },
  cohere: {
    client: cohereClient({ models: [] }),
    model: "command-a-03-2025",
    objects: false,
    hear: ({ messages }) => hearOpenly(messages),
    answer: (args) =>
      `{"id":"i","message":{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":${JSON.stringify(args)}}}]},"finish_reason":"TOOL_CALL"}`,
  },
  ollama: {
    client: ollamaClient({ contextTokens: undefined, keepAlive: undefined, models: [] }),
    model: "llama3.2",
    objects: true,
    hear: ({ messages }) => hearOpenly(messages),
    answer: (args) =>
      `{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"id":"c","function":{"name":"f","arguments":${args}}}]},"done":true,"done_reason":"stop"}`,
  },
};

/** Reads a list of messages in which results of tools have a role of their own, straight behind their calls. */
function hearOpenly(messages: readonly Wire[]): Heard[] {
  const open = new Map<string, string>();
  return messages.flatMap((message): Heard[] => {
    if (message.role === "tool") return [["result", take(open, message.tool_call_id), message.content]];
    expect(open.size, "calls without their results").toBe(0);
    const heard: Heard[] = [];
    const words = message.tool_plan ?? message.content;
    if (typeof words === "string" && words !== "") heard.push([message.role, words]);
    for (const { id, function: called } of message.tool_calls ?? []) {
      open.set(id, called.name);
      heard.push(["call", called.name, typeof called.arguments === "string" ? JSON.parse(called.arguments) : called.arguments]);
    }
    return heard;
  });
}

interface Block {
  readonly text?: string;
  readonly call?: readonly [id: string, name: string, args: unknown];
  readonly result?: readonly [id: string, text: string];
}

/** Reads turns of blocks: they alternate, a user's is first, and all results of a turn's calls come first in the next one. */
function hearTurns(turns: readonly Wire[], read: (block: Wire) => Block): Heard[] {
  let open = new Map<string, string>();
  let last = "assistant";
  return turns.flatMap(({ role, content }): Heard[] => {
    expect(["user", "assistant"]).toContain(role);
    expect(role, "turns alternate").not.toBe(last);
    last = role;
    expect(content).not.toHaveLength(0);
    const asked = open;
    open = new Map();
    const heard = content.map((wire: Wire): Heard => {
      const { text, call, result } = read(wire);
      if (result !== undefined) return ["result", take(asked, result[0]), result[1]];
      expect(asked.size, "results come first").toBe(0);
      if (text !== undefined) {
        expect(text.trim(), "blank text").not.toBe("");
        return [role, text];
      }
      if (call === undefined) throw new Error("a block of no kind");
      expect(open.has(call[0]), "an id that is taken").toBe(false);
      open.set(call[0], call[1]);
      return ["call", call[1], call[2]];
    });
    expect(asked.size, "calls without their results").toBe(0);
    return heard;
  });
}

/** The tool of an open call, which its result closes. */
function take(open: Map<string, string>, id: string): string {
  const name = open.get(id);
  if (name === undefined) throw new Error(`a result of no call: ${id}`);
  open.delete(id);
  return name;
}

function joined(pieces: readonly { readonly text: string }[]): string {
  return pieces.map(({ text }) => text).join("");
}

const words = fc.string({ minLength: 1, maxLength: 12, unit: "binary" }).filter((text) => text.isWellFormed() && text.trim() === text);
const args = objectText([fc.constantFrom('"canary": 1.50', '"canary" :12345678901234567890', '"canary":"\\u0041\\/"')]);
const call = fc.record({ name: fc.constantFrom("one", "two", "three-3"), args, result: words });
const turn = fc.record({ user: words, said: fc.option(words), calls: fc.array(call, { maxLength: 3 }), seed: fc.nat() });
const conversation = fc.array(turn, { minLength: 1, maxLength: 3 });

type Turns = (typeof conversation extends fc.Arbitrary<infer T> ? T : never) extends readonly (infer E)[] ? readonly E[] : never;

/** The conversation as a request: results stand in an order of their own, and each of them in a message. */
function requestOf(turns: Turns) {
  const text = (value: string) => ({ content: { case: "text" as const, value: { text: value } } });
  const messages = turns.flatMap(({ user, said, calls, seed }, at) => {
    const ids = calls.map((_, index) => `call_${at}_${index}`);
    const results = calls.map(({ result }, index) => ({
      role: Role.TOOL,
      parts: [{ content: { case: "toolResult" as const, value: { toolCallId: ids[index] ?? "", parts: [text(result)] } } }],
    }));
    const called = calls.map(({ name, args: argumentsJson }, index) => ({
      content: { case: "toolCall" as const, value: { id: ids[index] ?? "", name, argumentsJson } },
    }));
    const parts = [...(said === null ? [] : [text(said)]), ...called];
    return [
      { role: Role.USER, parts: [text(user)] },
      ...(parts.length === 0 ? [] : [{ role: Role.ASSISTANT, parts }]),
      ...(seed % 2 === 0 ? results : results.reverse()),
    ];
  });
  const tools = [...new Set(turns.flatMap(({ calls }) => calls.map(({ name }) => name)))].map((name) => ({ name }));
  return chatRequest({ messages: [...messages, { role: Role.USER, parts: [text("And?")] }], tools });
}

/** What is said; of several users in a row the texts in one, since some turns hold both. Results of a turn's calls in any order. */
function plain(heard: readonly Heard[]): unknown[] {
  const said: Heard[] = [];
  for (const each of heard) {
    const before = said.at(-1);
    if (each[0] === "user" && before?.[0] === "user") said[said.length - 1] = ["user", `${before[1]}|${each[1]}`];
    else said.push(each);
  }
  const groups: unknown[] = [];
  let results: string[] = [];
  for (const each of said) {
    if (each[0] === "result") {
      results.push(`${each[1]}: ${each[2]}`);
      continue;
    }
    if (results.length > 0) groups.push(results.sort());
    results = [];
    groups.push(each);
  }
  return groups;
}

function said(turns: Turns): Heard[] {
  return [
    ...turns.flatMap(({ user, said: words, calls }): Heard[] => [
      ["user", user],
      ...(words === null ? [] : [["assistant", words] as Heard]),
      ...calls.map(({ name, args: text }): Heard => ["call", name, JSON.parse(text)]),
      ...calls.map(({ name, result }): Heard => ["result", name, result]),
    ]),
    ["user", "And?"],
  ];
}

describe.each(Object.entries(dialects))("%s", (_, { client, model, objects, hear, answer }) => {
  const write = (request: ReturnType<typeof chatRequest>): string =>
    String(client.writeRequest({ request, native: undefined, model, streaming: false, dropUnsupported: false }).body);

  test("what is said arrives, in order, each result with its call", () => {
    fc.assert(
      fc.property(conversation, (turns) => {
        const body = write(requestOf(turns));
        expect(plain(hear(JSON.parse(body)))).toEqual(plain(said(turns)));
        // Byte for byte: numbers keep their spelling, blanks their place.
        for (const { args: text } of turns.flatMap(({ calls }) => calls)) expect(body).toContain(objects ? text : JSON.stringify(text));
      }),
    );
  });

  test("schemas are sent byte for byte", () => {
    const known = ['"type": "object"', '"properties":{"n" : {"type":"number","minimum":1.0}}'].map((member) => fc.constant(member));
    fc.assert(
      fc.property(objectText(known), (parametersJson) => {
        expect(write(chatRequest({ tools: [{ name: "f", parametersJson }] }))).toContain(parametersJson);
      }),
    );
  });

  test("arguments come back byte for byte, however the answer is cut", () => {
    fc.assert(
      fc.property(args, fc.nat(), (text, seed) => {
        const random = seededRandom(seed);
        const bytes = Buffer.from(answer(text));
        const { response, failure } = readPieces(client, cutAtRandom(bytes, 1 + random.below(6), random), { streaming: false });
        expect(failure).toBeUndefined();
        const [part] = response.choices[0]?.message?.parts ?? [];
        expect(part?.content).toMatchObject({ case: "toolCall", value: { name: "f", argumentsJson: text } });
      }),
    );
  });
});
