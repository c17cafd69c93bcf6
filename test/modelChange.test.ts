/**
 * The model behind a route changes in the middle of a conversation with tool calls, by a change of policy: what one model sealed never
 * reaches another one, no provider refuses anything, and the caller is told what was left out. Every provider here keeps its own rules to
 * the letter, and refuses thinking that it did not seal.
 */
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { StrictChat } from "./kit/strict/chat.ts";
import { StrictContents } from "./kit/strict/contents.ts";
import { StrictConverse } from "./kit/strict/converse.ts";
import { StrictMessages } from "./kit/strict/messages.ts";
import { StrictResponses } from "./kit/strict/responses.ts";
import { converse, keepAll, keepPlain, resultOf, Script, toolNames } from "./kit/strict/toolLoop.ts";

const turns = 24;
const secrets = { open: "a", ant: "b", gem: "c", bed: "d", resp: "e" };

/** The targets, by what the tests call them. */
const targets = {
  sonnet: "{provider: ant-provider, model: claude-sonnet-4-5}",
  opus: "{provider: ant-provider, model: claude-opus-4-5}",
  free: "{provider: ant-provider, model: claude-opus-4-6}",
  gemini: "{provider: gem-provider, model: gemini-3-flash}",
  gpt: "{provider: open-provider, model: gpt-5}",
  responses: "{provider: resp-provider, model: gpt-5}",
  bedrock: "{provider: bed-provider, model: eu.anthropic.claude-sonnet-4-5-20250929-v1:0}",
} as const;
type Name = keyof typeof targets;

let replay: Replay;
let house: TestSidecar;

/** `unsupported`: what becomes of parameters that only some of the models know. */
function policy(target: Name, unsupported: "reject" | "drop" = "reject"): string {
  const provider = (name: string, spec: string, path = ""): string => `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: ${name}-provider}
spec: {${spec}, endpoint: "${replay.origin}${path}", credential: {header: {secret: {file: SECRETS/${name}}}}}
`;
  const route = `---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: any}
spec: {match: {models: [any]}, targets: [${targets[target]}], unsupported_params: ${unsupported}}
`;
  const providers = [
    provider("gem", "gemini: {}"),
    provider("bed", "bedrock: {region: eu-central-1}"),
    provider("resp", "responses: {}", "/v1"),
  ];
  return policyFor(replay.origin, { more: [...providers, route].join("") });
}

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policy("sonnet"), secrets, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

const messageModels: readonly (readonly [Name, string])[] = [
  ["opus", '"claude-opus-4-5"'],
  ["free", '"claude-opus-4-6"'],
];

/** All providers at one address, with one script. */
class Providers {
  readonly script = new Script(turns);
  readonly sonnet = new StrictMessages(this.script, "b");
  readonly opus = new StrictMessages(this.script, "b");
  readonly free = new StrictMessages(this.script, "b");
  readonly gemini = new StrictContents(this.script, "c");
  readonly gpt = new StrictChat(this.script, "a");
  readonly bedrock = new StrictConverse(this.script, "d");
  readonly responses = new StrictResponses(this.script, "e");
  readonly statuses: number[] = [];
  /** Whose turn each was. */
  readonly turns: Name[] = [];

  constructor() {
    replay.answerWith((request) => {
      const name: Name = request.path.startsWith("/v1/messages")
        ? (messageModels.find(([, model]) => request.body.includes(model))?.[0] ?? "sonnet")
        : request.path.startsWith("/model/")
          ? "bedrock"
          : request.path.startsWith("/v1/responses")
            ? "responses"
            : request.path.startsWith("/v1/chat/")
              ? "gpt"
              : "gemini";
      const answer = this[name].answer(request);
      this.statuses.push(answer.status);
      this.turns.push(name);
      return answer;
    });
  }

  /** Whether what one model sealed was in the conversation when the turn of another one came. */
  foreignBefore(turn: number): boolean {
    const sealed = {
      sonnet: this.sonnet.rules.sealed,
      opus: this.opus.rules.sealed,
      free: this.free.rules.sealed,
      bedrock: this.bedrock.rules.sealed,
    };
    const all: Partial<Record<Name, ReadonlySet<number>>> = { ...sealed, gemini: this.gemini.sealed, responses: this.responses.sealed };
    const asked = this.turns[turn - 1];
    return Object.entries(all).some(([name, turns]) => name !== asked && [...turns].some((earlier) => earlier < turn));
  }
}

const rings: readonly (readonly Name[])[] = [
  ["sonnet", "gemini", "gpt"],
  ["sonnet", "opus"],
  ["bedrock", "sonnet", "gemini"],
  ["gemini", "opus", "gpt", "bedrock"],
  ["responses", "free", "gpt", "sonnet"],
];

describe.each(rings.map((ring) => [ring.join(", "), ring] as const))("a route from one to the next: %s", (_, ring) => {
  test.each([
    [false, "plain"],
    [true, "plain"],
    [false, "all"],
    [true, "all"],
  ] as const)("streaming: %s, the client keeps: %s", async (stream, kept) => {
    const providers = new Providers();
    const left: (string | null)[] = [];
    let requests = 0;
    const origin = (): string => {
      // Every third request the next one's turn comes, in the middle of the work as well as between.
      if (requests % 3 === 0) house.offer(policy(ring[(requests / 3) % ring.length] ?? "sonnet"));
      requests += 1;
      return house.origin;
    };
    const seen = stream ? {} : { seen: (headers: Headers) => void left.push(headers.get("x-outrigger-dropped-params")) };
    const keep = kept === "plain" ? keepPlain : keepAll;
    expect(await converse({ model: "any", stream, keep, origin, effort: "low", ...seen })).toBe(turns + 1);
    expect(providers.statuses).toEqual(Array.from({ length: turns + 1 }, () => 200));
    expect(new Set(providers.turns)).toEqual(new Set(ring));
    // Signatures are never refused, so all of them go back to the model that made them, though others came between.
    expect([providers.gemini.lost, providers.responses.lost]).toEqual([new Set(), new Set()]);
    const foreign = left.map((_, at) => providers.foreignBefore(at + 1));
    expect(left.map((names) => names?.includes(".reasoning") || names?.includes(".parts[")).map(Boolean)).toEqual(foreign);
    expect(foreign.includes(true)).toBe(!stream);
  });
});

test("a client of the Messages API that carries all seals itself meets another model, and none of them is refused", async () => {
  const providers = new Providers();
  const ring: readonly Name[] = ["gemini", "sonnet", "opus", "gpt", "responses"];
  const client = new Anthropic({ baseURL: house.origin, apiKey: "none", maxRetries: 0 });
  const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Begin." }];
  for (let requests = 0; ; requests++) {
    if (requests % 3 === 0) house.offer(policy(ring[(requests / 3) % ring.length] ?? "sonnet", "drop"));
    const answer = await client.messages.create({
      model: "any",
      max_tokens: 4096,
      messages,
      thinking: { type: "enabled", budget_tokens: 1024 },
      tools: toolNames.map((name) => ({ name, input_schema: { type: "object", properties: { turn: { type: "integer" } } } })),
    });
    messages.push({ role: "assistant", content: answer.content });
    const calls = answer.content.filter((block) => block.type === "tool_use");
    if (answer.content.some((block) => block.type === "text" && block.text === "Done.")) break;
    const results = calls.map(({ id, name, input }) => ({
      type: "tool_result" as const,
      tool_use_id: id,
      content: resultOf(name, JSON.stringify(input)),
    }));
    messages.push({ role: "user", content: results.length > 0 ? results : "Go on." });
  }
  expect(providers.statuses).toEqual(Array.from({ length: turns + 1 }, () => 200));
});

/** The other providers' own tests are beside their tool loops. */
test("the provider of Chat Completions refuses what breaks its rules", () => {
  const provider = new StrictChat(new Script(turns), "a");
  const call = { id: "c", type: "function", function: { name: "up", arguments: '{"turn":1}' } };
  const messages: object[] = [
    { role: "user", content: "Begin." },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "c", content: "up 1" },
  ];
  const status = (changed: readonly object[], more: object = {}, key = "a"): number =>
    provider.answer({
      headers: { authorization: `Bearer ${key}` },
      body: Buffer.from(JSON.stringify({ model: "m", messages: changed, ...more })),
    }).status;
  const [asked, called, answered] = messages;
  const wrong: Readonly<Record<string, readonly (object | undefined)[]>> = {
    "a member that it does not know": [asked, { ...called, reasoning_details: [] }, answered],
    "a call without its result": [asked, called],
    "words before the result": [asked, called, asked, answered],
    "a result of no call": [asked, answered],
    "a result of another call": [asked, called, { ...answered, content: "down 1" }],
    "an empty turn": [asked, { role: "assistant", content: "" }, asked],
  };
  for (const [name, list] of Object.entries(wrong)) {
    expect([name, status(list.filter((message) => message !== undefined))]).toEqual([name, 400]);
  }
  expect(status(messages, { reasoning: {} })).toBe(400);
  expect(status(messages, {}, "another")).toBe(400);
  expect(status(messages)).toBe(200);
});
