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

const secrets = { open: "a", ant: "b", gem: "c" };

function policy(): string {
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
  return policyFor(replay.origin, { more });
}

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policy(), secrets, { logLevel: "silent" });
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

/** One conversation to its end. `keep` is what the client keeps of an assistant's message, `origin` where the sidecar is. */
async function converse(
  stream: boolean,
  keep: (message: OpenAI.ChatCompletionMessage) => OpenAI.ChatCompletionMessageParam,
  origin: () => string | Promise<string> = () => house.origin,
): Promise<number> {
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: "system", content: "Go up and down." },
    { role: "user", content: "Begin." },
  ];
  for (let turn = 1; ; turn++) {
    const sdk = new OpenAI({ baseURL: `${await origin()}/v1`, apiKey: "none", maxRetries: 0 });
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

const plain = ({ content, tool_calls }: OpenAI.ChatCompletionMessage): OpenAI.ChatCompletionMessageParam => ({
  role: "assistant",
  content,
  ...(tool_calls === undefined ? {} : { tool_calls }),
});

test.each([true, false])("a client that knows nothing of signatures is never refused and loses none, streaming: %s", async (stream) => {
  const provider = new StrictProvider();
  replay.answerWith((request) => provider.answer(request));
  expect(await converse(stream, plain)).toBe(turns + 1);
  expect(provider.lost).toEqual([]);
});

test("where nothing is kept, the value for lost signatures goes in their place, and no request is refused", async () => {
  const forgetful = await startTestSidecar(policy(), secrets, { logLevel: "silent", sealedBytesMax: 0 });
  try {
    const provider = new StrictProvider();
    replay.answerWith((request) => provider.answer(request));
    expect(await converse(false, plain, () => forgetful.origin)).toBe(turns + 1);
    expect(new Set(provider.lost).size).toBe(turns);
  } finally {
    await forgetful.close();
  }
});

test("a sidecar that starts again in the middle has lost what was before, and the conversation goes on", async () => {
  const provider = new StrictProvider();
  replay.answerWith((request) => provider.answer(request));
  const halves = [await startTestSidecar(policy(), secrets, { logLevel: "silent" })];
  try {
    let asked = 0;
    const origin = async (): Promise<string> => {
      asked += 1;
      if (asked === turns / 2 + 1) {
        await halves[0]?.close();
        halves.push(await startTestSidecar(policy(), secrets, { logLevel: "silent" }));
      }
      return halves.at(-1)?.origin ?? "";
    };
    expect(await converse(false, plain, origin)).toBe(turns + 1);
    expect([...new Set(provider.lost)].map(Number)).toEqual(Array.from({ length: turns / 2 }, (_, at) => at + 1));
  } finally {
    await halves.at(-1)?.close();
  }
});

test("a client that gives messages back as it got them loses no signature", async () => {
  const provider = new StrictProvider();
  replay.answerWith((request) => provider.answer(request));
  expect(await converse(false, (message) => message)).toBe(turns + 1);
  expect(provider.lost).toEqual([]);
});

/** Real conversations, each then broken in one way: the provider must see it, or it proves nothing. */
test("the provider refuses what breaks its rules", async () => {
  const provider = new StrictProvider();
  const requests: SeenRequest[] = [];
  replay.answerWith((request) => {
    requests.push(request);
    return provider.answer(request);
  });
  await converse(false, plain);
  const asked: Json = JSON.parse(requests[4]?.body.toString() ?? "");
  const answer = (change: (contents: Json[]) => void): number => {
    const broken = structuredClone(asked);
    change(broken.contents);
    const request = requests[4];
    if (request === undefined) throw new Error("there were too few requests");
    return provider.answer({ ...request, body: Buffer.from(JSON.stringify(broken)) }).status;
  };
  expect(answer(() => {})).toBe(200);
  const wrong: Readonly<Record<string, (contents: Json[]) => void>> = {
    "no signature": ([, model]) => delete model.parts[1].thoughtSignature,
    "another turn's signature": (contents) => {
      contents[1].parts[1].thoughtSignature = contents[3].parts[1].thoughtSignature;
    },
    "results in another order": (contents) => contents[2].parts.reverse(),
    "a result less": (contents) => contents[2].parts.pop(),
    "two contents of one side": (contents) => contents.splice(2, 1),
    "words beside results": (contents) => contents[2].parts.push({ text: "and" }),
  };
  for (const [name, change] of Object.entries(wrong)) expect([name, answer(change)]).toEqual([name, 400]);
});
