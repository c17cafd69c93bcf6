/** `outrigger demo` answers through every door with the same words, and no door or dialect on the way adds or loses any. */
import Anthropic from "@anthropic-ai/sdk";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, textOf } from "../proto/chat.ts";
import { ChatCompletionService } from "../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { FinishReason, Role } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ModelService } from "../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import { type Running, startCommand } from "./kit/command.ts";

let demo: Running;
let address: string;

beforeAll(async () => {
  const running = startCommand(["-o", "json", "demo", "--port", "0", "--ops-port", "0"]);
  [, address = ""] = await running.wrote("stdout", /"address": "(http:\S+)"/);
  demo = running;
});
afterAll(async () => {
  const { code, stderr } = await demo.stop();
  expect(code).toBe(0);
  expect(stderr).not.toMatch(/INTERNAL/);
});

const question = "Why do sailors tie knots?";
const weather = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false } as const;

/** Asks by each door, whole and as a stream; gives the words, and why they end. */
const doors: Readonly<Record<string, (model: string, streaming: boolean) => Promise<{ text: string; end: string }>>> = {
  async openai(model, streaming) {
    const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "outrigger", maxRetries: 0 });
    const request = { model, messages: [{ role: "user" as const, content: question }] };
    if (!streaming) {
      const { choices } = await client.chat.completions.create(request);
      return { text: choices[0]?.message.content ?? "", end: choices[0]?.finish_reason ?? "" };
    }
    const answer = { text: "", end: "" };
    for await (const { choices } of await client.chat.completions.create({ ...request, stream: true })) {
      answer.text += choices[0]?.delta.content ?? "";
      answer.end = choices[0]?.finish_reason ?? answer.end;
    }
    return answer;
  },
  async anthropic(model, streaming) {
    const client = new Anthropic({ baseURL: address, apiKey: "outrigger", maxRetries: 0 });
    const request = { model, max_tokens: 1000, messages: [{ role: "user" as const, content: question }] };
    const message = streaming ? await client.messages.stream(request).finalMessage() : await client.messages.create(request);
    const text = message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
    return { text, end: message.stop_reason === "end_turn" ? "stop" : String(message.stop_reason) };
  },
  async responses(model, streaming) {
    const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "outrigger", maxRetries: 0 });
    const request = { model, input: question };
    const answer = streaming ? await client.responses.stream(request).finalResponse() : await client.responses.create(request);
    return { text: answer.output_text, end: answer.status === "completed" ? "stop" : String(answer.status) };
  },
  grpc: (model, streaming) => askRpc(createGrpcTransport({ baseUrl: address }), model, streaming),
  "grpc-web": (model, streaming) => askRpc(createGrpcWebTransport({ baseUrl: address, httpVersion: "1.1" }), model, streaming),
  connect: (model, streaming) => askRpc(createConnectTransport({ baseUrl: address, httpVersion: "1.1" }), model, streaming),
  "connect as JSON over HTTP/2": (model, streaming) =>
    askRpc(createConnectTransport({ baseUrl: address, httpVersion: "2", useBinaryFormat: false }), model, streaming),
};

async function askRpc(transport: Transport, model: string, streaming: boolean): Promise<{ text: string; end: string }> {
  const client = createClient(ChatCompletionService, transport);
  const chat = { model, messages: [{ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: question } } }] }] };
  if (!streaming) {
    const response = (await client.createChatCompletion({ chat })).chat;
    if (response === undefined) throw new Error("there is no answer in the response");
    return { text: textOf(response), end: response.choices[0]?.finishReason === FinishReason.STOP ? "stop" : "" };
  }
  async function* batches() {
    for await (const { events } of client.streamChatCompletion({ chat })) yield events;
  }
  const { response, complete } = await collect(batches());
  return { text: textOf(response), end: complete && response.choices[0]?.finishReason === FinishReason.STOP ? "stop" : "" };
}

describe.each(Object.keys(doors))("%s", (door) => {
  test.each([false, true])("gives the answer that the demo provider gives to everyone (streaming: %s)", async (streaming) => {
    const ask = doors[door];
    const answer = await ask?.("demo", streaming);
    expect(answer?.end).toBe("stop");
    expect(answer).toEqual(await doors.openai?.("demo", false));
    expect(answer?.text).toMatch(/sailors|tie|knots/);
  });

  test("fails in its own words where the provider does", async () => {
    await expect(doors[door]?.("demo:429?retry=70000", false)).rejects.toThrow(/[Rr]ate/);
    await expect(doors[door]?.("demo:cut", true)).rejects.toThrow();
    await expect(doors[door]?.("nothing-here", false)).rejects.toThrow(/nothing-here/);
  });
});

test("calls tools by OpenAI's and by Anthropic's door", async () => {
  const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "outrigger" });
  const completion = await openai.chat.completions.create({
    model: "demo",
    messages: [{ role: "user", content: "What is the weather in Paris and Oslo?" }],
    tools: [{ type: "function", function: { name: "get_weather", parameters: weather } }],
  });
  const calls = completion.choices[0]?.message.tool_calls ?? [];
  expect(calls.map((call) => call.type === "function" && call.function.arguments)).toEqual(['{"city":"Paris"}', '{"city":"Oslo"}']);
  const anthropic = new Anthropic({ baseURL: address, apiKey: "outrigger" });
  const tools = [{ name: "get_weather", input_schema: { ...weather, required: ["city"] } }];
  const ask = { role: "user" as const, content: "What is the weather in Paris and Oslo?" };
  const message = await anthropic.messages.create({ model: "demo", max_tokens: 500, messages: [ask], tools });
  expect(message.stop_reason).toBe("tool_use");
  const uses = message.content.filter((block) => block.type === "tool_use");
  expect(uses.map((use) => use.input)).toEqual([{ city: "Paris" }, { city: "Oslo" }]);
  const results = uses.map((use, at) => ({ type: "tool_result" as const, tool_use_id: use.id, content: `${20 - at} degrees` }));
  const answer = await anthropic.messages.create({
    model: "demo",
    max_tokens: 500,
    messages: [ask, { role: "assistant", content: message.content }, { role: "user", content: results }],
    tools,
  });
  expect(answer.content).toMatchObject([{ type: "text", text: expect.stringMatching(/20 degrees.*19 degrees/) }]);
});

test.each([false, true])("thinks, calls tools and goes on by the Responses door (streaming: %s)", async (streaming) => {
  const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "outrigger", maxRetries: 0 });
  const tools = [{ type: "function" as const, name: "get_weather", parameters: weather, strict: true }];
  const input: OpenAI.Responses.ResponseInput = [{ role: "user", content: "What is the weather in Paris and Oslo?" }];
  const ask = async (): Promise<OpenAI.Responses.Response> => {
    const request = { model: "demo", input, tools, reasoning: { effort: "low" as const } };
    return streaming ? await client.responses.stream(request).finalResponse() : await client.responses.create(request);
  };
  const first = await ask();
  const calls = first.output.filter((item) => item.type === "function_call");
  expect(calls.map((call) => call.arguments)).toEqual(['{"city":"Paris"}', '{"city":"Oslo"}']);
  expect(first.output[0]).toMatchObject({ type: "reasoning", summary: [{ type: "summary_text", text: expect.stringMatching(/\w{4}/) }] });
  expect(first.usage?.output_tokens_details.reasoning_tokens).toBeGreaterThan(0);
  // As the package's users do it: the answer's own items go back, and what the calls returned behind them.
  input.push(...(first.output as OpenAI.Responses.ResponseInput));
  calls.forEach(({ call_id }, at) => {
    input.push({ type: "function_call_output", call_id, output: `${20 - at} degrees` });
  });
  const second = await ask();
  expect(second.output_text).toMatch(/20 degrees.*19 degrees/);
  expect(second.status).toBe("completed");
});

test("lists its models by every door", async () => {
  const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "outrigger" });
  expect((await openai.models.list()).data.map((model) => model.id)).toEqual(expect.arrayContaining(["demo:flaky", "smart"]));
  const client = createClient(ModelService, createGrpcTransport({ baseUrl: address }));
  expect((await client.listModels({})).models.map((model) => model.name)).toContain("smart");
});

// Warnings stood behind the end of whole answers, which were refused for it as incomplete.
describe("what the demo cannot obey is left out", () => {
  test.each([false, true])("by the Anthropic door, and named in a header (streaming: %j)", async (streaming) => {
    const client = new Anthropic({ baseURL: address, apiKey: "outrigger", maxRetries: 0 });
    const request = { model: "demo", max_tokens: 1000, top_k: 5, messages: [{ role: "user" as const, content: "What is 6 * 7?" }] };
    const { data, response } = streaming
      ? await client.messages.stream(request).withResponse()
      : await client.messages.create(request).withResponse();
    const message = "finalMessage" in data ? await data.finalMessage() : data;
    expect(message).toMatchObject({ content: [{ type: "text", text: "6 * 7 = 42." }], stop_reason: "end_turn" });
    expect(response.headers.get("x-outrigger-dropped-params")).toBe("top_k");
  });

  test("by gRPC, and told as a warning", async () => {
    const client = createClient(ChatCompletionService, createGrpcTransport({ baseUrl: address }));
    const messages = [{ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: "What is 6 * 7?" } } }] }];
    const { chat } = await client.createChatCompletion({ chat: { model: "demo", topK: 5n, messages } });
    expect(chat?.warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "top_k" }]);
    expect(chat?.choices[0]?.finishReason).toBe(FinishReason.STOP);
  });
});
