/**
 * The openai package's Responses API over real sockets, before providers of three dialects: what the package makes of answers, what the
 * providers are sent, and that nothing is kept in between.
 */
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, callers } from "./kit/callers.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import {
  anthropicBody,
  anthropicStream,
  openAiBody,
  openAiStream,
  responsesBody,
  responsesStream,
  type Said,
  saidUsage,
} from "./kit/wire.ts";

let replay: Replay;
let house: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: resp-provider}
spec:
  responses: {}
  endpoint: ${replay.origin}/v1
  credential: {header: {secret: {file: SECRETS/open}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: resp-route}
spec:
  match: {models: [resp]}
  targets: [{provider: resp-provider, model: upstream-model}]
`;
  house = await startTestSidecar(policyFor(replay.origin, { more }), { open: "sk-open-secret", ant: "sk-ant-secret" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});
beforeEach(() => replay.forget());

const client = (): OpenAI => new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });

const formats = {
  "/v1/messages": { whole: anthropicBody, stream: anthropicStream },
  "/v1/responses": { whole: responsesBody, stream: responsesStream },
  "/v1/chat/completions": { whole: openAiBody, stream: openAiStream },
} as const;

function formatOf(path: string): (typeof formats)[keyof typeof formats] {
  const found = Object.entries(formats).find(([known]) => known === path);
  if (found === undefined) throw new Error(`no provider was to be asked at ${path}`);
  return found[1];
}

/** The provider says the same in whichever dialect it is asked, streamed if asked to; one answer after the other. */
function providerSays(...said: readonly Said[]): void {
  let turn = 0;
  replay.answerWith(({ path, body }) => {
    const next = said[Math.min(turn++, said.length - 1)] ?? {};
    const { whole, stream } = formatOf(path);
    const streaming = JSON.parse(body.toString()).stream === true;
    return {
      pieces: streaming ? stream(next) : [whole(next)],
      headers: { "content-type": streaming ? "text/event-stream" : "application/json" },
    };
  });
}

/** What the provider was asked, as JSON. */
function asked(turn = 0) {
  return JSON.parse(replay.requests[turn]?.body.toString() ?? "null");
}

const weather = { city: "Lagos", days: 1.5 };
const toolCalls = [
  { id: "call_a1", name: "get_weather", argumentsJson: JSON.stringify(weather) },
  { id: "call_b2", name: "get_time", argumentsJson: "{}" },
];
const tools = ["get_weather", "get_time"].map((name) => ({
  type: "function" as const,
  name,
  description: "Tells what is asked.",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
}));
const pieces = ["Hel", "lo, ", "wörld 🚣"];
const text = pieces.join("");
const input = "Greet me";

describe.each(["resp", "open", "ant"])("asking a provider by the route %s", (model) => {
  test("gets a whole answer", async () => {
    providerSays({ text });
    const answer = await client().responses.create({ model, input });
    expect(answer.output_text).toBe(text);
    expect(answer).toMatchObject({ object: "response", status: "completed", error: null, incomplete_details: null, store: false });
    expect(answer.usage).toMatchObject({ input_tokens: saidUsage.input, output_tokens: saidUsage.output });
    expect(asked().model).toBe("upstream-model");
  });

  test("gets a streamed answer piece by piece, every step in its order", async () => {
    providerSays({ pieces });
    const types: string[] = [];
    const deltas: string[] = [];
    for await (const event of await client().responses.create({ model, input, stream: true })) {
      expect(event.sequence_number).toBe(types.length);
      types.push(event.type);
      if (event.type === "response.output_text.delta") deltas.push(event.delta);
    }
    expect(deltas).toEqual(pieces);
    expect(types).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      ...pieces.map(() => "response.output_text.delta"),
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
  });

  test("puts calls together from a stream, as the package does it, and runs them to the end", async () => {
    providerSays({ text: "Let me look.", toolCalls }, { text: "22 degrees" });
    const talk: OpenAI.Responses.ResponseInput = [{ role: "user", content: input }];
    const first = await client().responses.stream({ model, input: talk, tools }).finalResponse();
    expect(first.output_text).toBe("Let me look.");
    const calls = first.output.filter((item) => item.type === "function_call");
    expect(calls.map((call) => [call.call_id, call.name, JSON.parse(call.arguments)])).toEqual([
      ["call_a1", "get_weather", weather],
      ["call_b2", "get_time", {}],
    ]);
    talk.push(...(first.output as OpenAI.Responses.ResponseInput));
    for (const { call_id, name } of calls) talk.push({ type: "function_call_output", call_id, output: `${name} says 22` });
    const second = await client().responses.create({ model, input: talk, tools });
    expect(second.output_text).toBe("22 degrees");
    const sent = JSON.stringify(asked(1));
    for (const word of ["Let me look.", "get_weather says 22", "get_time says 22", "call_a1", "call_b2"]) expect(sent).toContain(word);
  });

  test("asks for JSON that fits a schema, and parses it", async () => {
    providerSays({ text: JSON.stringify(weather) });
    const schema = {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "number" } },
      required: ["city", "days"],
      additionalProperties: false,
    };
    const answer = await client().responses.parse({
      model,
      input,
      text: { format: { type: "json_schema", name: "weather", strict: true, schema } },
    });
    expect(answer.output_parsed).toEqual(weather);
    expect(JSON.stringify(asked())).toContain('"additionalProperties":false');
  });

  test("shows pictures", async () => {
    providerSays({ text });
    const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const content = [
      { type: "input_text" as const, text: "What is this?" },
      { type: "input_image" as const, image_url: `data:image/png;base64,${pixel}`, detail: "auto" as const },
    ];
    await client().responses.create({ model, input: [{ role: "user", content }] });
    expect(JSON.stringify(asked())).toContain(pixel);
  });

  test("leaves a stream, and the provider's socket closes", async () => {
    replay.answerWith(({ path }) => ({
      pieces: formatOf(path).stream({ text: "Once upon" }).slice(0, 5),
      ending: "hang",
      headers: { "content-type": "text/event-stream" },
    }));
    const controller = new AbortController();
    const stream = await client().responses.create({ model, input, stream: true }, { signal: controller.signal });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    controller.abort();
    expect((await replay.requests[0]?.over)?.finished).toBe(false);
  });

  test("leaves a whole answer, and the provider's socket closes", async () => {
    const controller = new AbortController();
    replay.answerWith(() => ({ pieces: [], ending: "hang", written: () => controller.abort() }));
    await expect(client().responses.create({ model, input }, { signal: controller.signal })).rejects.toThrow(OpenAI.APIUserAbortError);
    expect((await replay.requests[0]?.over)?.finished).toBe(false);
  });

  test.each([
    [400, 400],
    [401, 502],
    [404, 404],
    [429, 429],
    [500, 500],
  ])("raises its own error class for a provider's %i", async (provider, caller) => {
    const error = { message: "It will not do.", type: "some_error", param: null, code: null };
    replay.answerWith({
      status: provider,
      headers: { "content-type": "application/json" },
      pieces: [JSON.stringify({ type: "error", error })],
    });
    const failure = await client()
      .responses.create({ model, input })
      .catch((caught: unknown) => caught);
    expect(failure).toBeInstanceOf(OpenAI.APIError.generate(caller, {}, "", new Headers()).constructor);
    expect(failure).toMatchObject({ status: caller });
    expect(failure instanceof OpenAI.APIError && failure.headers?.get("x-outrigger-provider-status")).toBe(String(provider));
  });

  test("raises an error when a stream breaks off, and what was said stays", async () => {
    replay.answerWith(({ path }) => ({
      pieces: formatOf(path).stream({ pieces }).slice(0, 6),
      ending: "cut",
      headers: { "content-type": "text/event-stream" },
    }));
    let said = "";
    const stream = client().responses.stream({ model, input });
    stream.on("response.output_text.delta", ({ delta }) => {
      said += delta;
    });
    await expect(stream.finalResponse()).rejects.toThrow(OpenAI.APIError);
    expect(said).toMatch(/^Hel/);
  });
});

describe("nothing is kept between requests", () => {
  test.each([
    ["previous_response_id", { previous_response_id: "resp_1" }],
    ["conversation", { conversation: "conv_1" }],
    ["background", { background: true }],
    ["store", { store: true }],
    ["input[0].type", { input: [{ type: "item_reference" as const, id: "msg_1" }] }],
  ])("%s is refused, and the message says why", async (param, members) => {
    const failure = await client()
      .responses.create({ model: "resp", input, ...members })
      .catch((caught: unknown) => caught);
    expect(failure).toBeInstanceOf(OpenAI.BadRequestError);
    expect(failure).toMatchObject({ param, message: expect.stringContaining("stateless") });
    expect(replay.requests).toHaveLength(0);
  });

  test("tools that a provider would run itself are refused by the field", async () => {
    const hosted = [...tools, { type: "web_search" as const }];
    const failure = await client()
      .responses.create({ model: "resp", input, tools: hosted })
      .catch((caught: unknown) => caught);
    expect(failure).toMatchObject({ status: 400, param: "tools[2].type", message: expect.stringContaining("web_search") });
    expect(replay.requests).toHaveLength(0);
  });

  test("answers cannot be got, deleted or cancelled later", async () => {
    for (const later of [client().responses.retrieve("resp_1"), client().responses.delete("resp_1"), client().responses.cancel("resp_1")]) {
      await expect(later).rejects.toThrow(OpenAI.NotFoundError);
    }
  });

  test("what is not said of storing is said to the provider, with the wish for sealed thinking", async () => {
    providerSays({ text });
    await client().responses.create({ model: "resp", input });
    expect(asked()).toMatchObject({ store: false, include: ["reasoning.encrypted_content"] });
  });
});

describe("between equals", () => {
  const [unary, stream] = ["responses unary", "responses stream"].map((name) => callers.find((caller) => caller.name === name));

  test("a request reaches the provider as it was written, but for the model, the storing and the sealed thinking", async () => {
    if (unary === undefined) throw new Error("there is such a caller");
    providerSays({ text });
    const body =
      '{ "model":"resp",\n"input" : [{"role":"user","content":[{"type":"input_text","text":"\\u0048i","x":1.0}],"y":{}}],"store":null, "zz":7e-1,"include":[ "x.y" ]}';
    await ask(unary, house.port, "resp", { body: Buffer.from(body) });
    const expected = body
      .replace('"resp"', '"upstream-model"')
      .replace("null", "false")
      .replace('[ "x.y" ]', '[ "x.y" ,"reasoning.encrypted_content"]');
    expect(replay.requests[0]?.body.toString()).toBe(expected);
  });

  test("an answer reaches the caller as the provider wrote it", async () => {
    if (unary === undefined || stream === undefined) throw new Error("there are such callers");
    providerSays({ text, toolCalls });
    expect((await ask(unary, house.port, "resp")).body.toString()).toBe(responsesBody({ text, toolCalls }));
    expect((await ask(stream, house.port, "resp")).body.toString()).toBe(responsesStream({ text, toolCalls }).join(""));
  });
});

test("thinking that another dialect sealed goes out and comes back by the same door", async () => {
  const sealed = [
    { type: "thinking", thinking: "A knot first.", signature: "c2VhbA==" },
    { type: "redacted_thinking", data: "aGlkZGVu" },
    { type: "tool_use", id: "toolu_1", name: "get_time", input: {} },
  ];
  replay.answerWith({
    headers: { "content-type": "application/json" },
    pieces: [
      JSON.stringify({
        id: "msg_1",
        type: "message",
        role: "assistant",
        model: "m",
        content: sealed,
        stop_reason: "tool_use",
        stop_sequence: null,
        usage: { input_tokens: 1, output_tokens: 1 },
      }),
    ],
  });
  const first = await client().responses.create({ model: "ant", input, tools, reasoning: { effort: "low" } });
  expect(first.output.map(({ type }) => type)).toEqual(["reasoning", "reasoning", "function_call"]);
  const talk: OpenAI.Responses.ResponseInput = [
    { role: "user", content: input },
    ...(first.output as OpenAI.Responses.ResponseInput),
    { type: "function_call_output", call_id: "toolu_1", output: "noon" },
  ];
  await client().responses.create({ model: "ant", input: talk, tools, reasoning: { effort: "low" } });
  const turn = asked(1).messages.find((message: { role: string }) => message.role === "assistant");
  expect(turn.content).toEqual(sealed);
});
