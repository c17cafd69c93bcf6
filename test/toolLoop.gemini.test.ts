/**
 * Twenty turns of tool calls through the plain OpenAI SDK, against a provider that keeps the rules of Gemini's newest models to the
 * letter: contents alternate, results stand alone behind their calls, in their order and under their names, and the first call of every
 * turn carries the thought signature that was given with it, or the value that stands for a lost one. It answers 400 to anything else.
 */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

const turns = 20;
const skip = "skip_thought_signature_validator";

let replay: Replay;
let house: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: gem-provider}
spec: {gemini: {}, endpoint: "${replay.origin}", credential: {header: {secret: {file: SECRETS/gem}}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: gem-route}
spec: {match: {models: [gem]}, targets: [{provider: gem-provider, model: gemini-3-flash}]}
`;
  house = await startTestSidecar(policyFor(replay.origin, { more }), { open: "a", ant: "b", gem: "c" }, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

// biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
type Json = any;

/** A provider for one conversation. It gives two calls a turn, under one id or none, and remembers their signatures. */
class StrictProvider {
  readonly #signatures = new Map<string, string>();
  readonly lost: string[] = [];
  #turn = 0;

  answer({ body, headers }: SeenRequest): { readonly status: number; readonly headers: Record<string, string>; readonly pieces: string[] } {
    const asked: Json = JSON.parse(body.toString());
    const wrong = headers["x-goog-api-key"] === "c" ? this.#wrong(asked.contents) : "the key";
    if (wrong !== undefined) {
      const error = { code: 400, status: "INVALID_ARGUMENT", message: `Wrong: ${wrong}` };
      return { status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify({ error })] };
    }
    const turn = ++this.#turn;
    const signature = Buffer.from(`signature of turn ${turn}`).toString("base64");
    this.#signatures.set(`${turn}`, signature);
    const call = (name: string): object => ({ name, args: { turn } });
    const parts =
      turn > turns
        ? [{ text: "Done." }]
        : [
            { text: "I go on. " },
            // Half of the time the provider gives ids, and always the same ones.
            { functionCall: { ...call("down"), ...(turn % 2 === 0 ? { id: "a" } : {}) }, thoughtSignature: signature },
            { functionCall: { ...call("up"), ...(turn % 2 === 0 ? { id: "b" } : {}) } },
          ];
    const chunks = [
      ...parts.map((part) => ({ candidates: [{ content: { role: "model", parts: [part] } }] })),
      { candidates: [{ finishReason: "STOP" }] },
    ];
    const pieces = chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`);
    return { status: 200, headers: { "content-type": "text/event-stream" }, pieces };
  }

  /** What of the rules a conversation breaks, or undefined. */
  #wrong(contents: Json[]): string | undefined {
    if (contents[0]?.role !== "user" || contents.at(-1)?.role !== "user") return "who speaks first or last";
    for (const [at, { role, parts }] of contents.entries()) {
      if (parts.length === 0) return `content ${at} is empty`;
      if (at > 0 && role === contents[at - 1].role) return `content ${at} does not alternate`;
      const calls = parts.filter((part: Json) => part.functionCall !== undefined);
      const results = parts.filter((part: Json) => part.functionResponse !== undefined);
      if (role === "model" ? results.length > 0 : calls.length > 0) return `content ${at} has parts of the other side`;
      if (results.length > 0 && results.length < parts.length) return `content ${at} has results beside other things`;
      const before = (contents[at - 1]?.parts ?? []).filter((part: Json) => part.functionCall !== undefined);
      if (results.length !== (role === "user" ? before.length : 0)) return `content ${at} has not one result for each call`;
      for (const [index, { functionResponse }] of results.entries()) {
        const { functionCall } = before[index];
        if (functionResponse.name !== functionCall.name || functionResponse.id !== functionCall.id)
          return `result ${index} of content ${at}`;
        if (functionResponse.response.output !== `${functionCall.name} ${functionCall.args.turn}`)
          return `what result ${index} of content ${at} says`;
      }
      if (calls.length === 0) continue;
      const [{ functionCall, thoughtSignature }, ...others] = calls;
      if (others.some((part: Json) => part.thoughtSignature !== undefined)) return `content ${at} has a signature too many`;
      if (thoughtSignature === skip) this.lost.push(`${functionCall.args.turn}`);
      else if (thoughtSignature !== this.#signatures.get(`${functionCall.args.turn}`)) return `the signature of content ${at}`;
    }
    return undefined;
  }
}

const tools: OpenAI.ChatCompletionTool[] = ["up", "down"].map((name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { turn: { type: "integer" } } } },
}));

/** One conversation to its end. `keep` is what the client keeps of an assistant's message. */
async function converse(
  stream: boolean,
  keep: (message: OpenAI.ChatCompletionMessage) => OpenAI.ChatCompletionMessageParam,
): Promise<number> {
  const sdk = new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: "system", content: "Go up and down." },
    { role: "user", content: "Begin." },
  ];
  for (let turn = 1; ; turn++) {
    const asked = { model: "gem", messages, tools };
    const answer = stream ? await sdk.chat.completions.stream(asked).finalChatCompletion() : await sdk.chat.completions.create(asked);
    const choice = answer.choices[0];
    if (choice === undefined) throw new Error("there is no answer");
    if (choice.finish_reason === "stop") {
      expect(choice.message.content).toBe("Done.");
      return turn;
    }
    expect(choice.finish_reason).toBe("tool_calls");
    messages.push(keep(choice.message));
    // Results come back in another order than the calls.
    for (const call of (choice.message.tool_calls ?? []).toReversed()) {
      if (call.type !== "function") throw new Error("no function was called");
      messages.push({ role: "tool", tool_call_id: call.id, content: `${call.function.name} ${JSON.parse(call.function.arguments).turn}` });
    }
  }
}

test.each([true, false])("a client that knows nothing of signatures is never refused, streaming: %s", async (stream) => {
  const provider = new StrictProvider();
  replay.answerWith((request) => provider.answer(request));
  const plain = ({ content, tool_calls }: OpenAI.ChatCompletionMessage): OpenAI.ChatCompletionMessageParam => ({
    role: "assistant",
    content,
    ...(tool_calls === undefined ? {} : { tool_calls }),
  });
  expect(await converse(stream, plain)).toBe(turns + 1);
  expect(new Set(provider.lost).size).toBe(turns);
});

test("a client that gives messages back as it got them loses no signature", async () => {
  const provider = new StrictProvider();
  replay.answerWith((request) => provider.answer(request));
  expect(await converse(false, (message) => message)).toBe(turns + 1);
  expect(provider.lost).toEqual([]);
});
