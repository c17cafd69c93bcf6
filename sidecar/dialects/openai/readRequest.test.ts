import { describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { readRequest } from "./readRequest.ts";

const question = { role: "user", content: "q" };

function read(members: object): ChatRequest {
  return readRequest(Buffer.from(JSON.stringify({ model: "m", messages: [question], ...members }))).request;
}

function faultOf(act: () => unknown): Fault {
  try {
    act();
  } catch (caught) {
    if (caught instanceof Fault) return caught;
    throw caught;
  }
  throw new Error("nothing was refused");
}

describe("requests (more cases are in test/golden/openai/reads)", () => {
  test("that are no UTF-8 are refused", () => {
    const fault = faultOf(() => readRequest(Buffer.concat([Buffer.from('{"model":"'), Buffer.from([0xff]), Buffer.from('"}')])));
    expect(fault.reason).toBe(FaultReason.REQUEST_INVALID);
    expect(fault.message).toContain("not valid UTF-8");
  });

  test.each<[string, object, string]>([
    ["unknown members", Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`x${i}`, 1])), "x1024"],
    ["messages", { messages: Array.from({ length: 16_385 }, () => question) }, "messages"],
    [
      "parts",
      { messages: [{ role: "user", content: Array.from({ length: 4097 }, () => ({ type: "text", text: "" })) }] },
      "messages[0].content",
    ],
    ["tools", { tools: Array.from({ length: 1025 }, () => ({ type: "function", function: { name: "f" } })) }, "tools"],
    ["stop texts", { stop: Array.from({ length: 65 }, () => "x") }, "stop"],
    ["biased tokens", { logit_bias: Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [i, 1])) }, "logit_bias"],
    ["bytes of a model's name", { model: "é".repeat(257) }, "model"],
    ["bytes of a speaker's name", { messages: [{ ...question, name: "x".repeat(257) }] }, "messages[0].name"],
  ])("with too many %s are refused", (_, members, field) => {
    const fault = faultOf(() => read(members));
    expect(fault.reason).toBe(FaultReason.REQUEST_INVALID);
    expect(fault.field).toBe(field);
    expect(fault.violations).toMatchObject([{ field }]);
  });

  test("at the limits are taken", () => {
    expect(read({ model: "é".repeat(256), stop: Array.from({ length: 64 }, () => "x") }).stop.length).toBe(64);
    expect(read(Object.fromEntries(Array.from({ length: 1024 }, (_, i) => [`x${i}`, 1]))).extras.length).toBe(1024);
  });

  test("never show content in a refusal", () => {
    const secret = "my very secret words";
    for (const messages of [
      [{ role: "user", content: { secret } }],
      [{ role: "user", content: [{ type: "text", text: [secret] }] }],
      secret,
    ]) {
      expect(faultOf(() => read({ messages })).message).not.toContain("secret words");
    }
  });

  test("with large tool lists and many unknown members are read in time that grows with their size", () => {
    const tools = Array.from({ length: 1000 }, (_, i) => ({
      type: "function",
      function: { name: `f${i}`, parameters: { type: "object", properties: { x: { description: "d".repeat(500) } } } },
      ...(i < 500 ? { unknown: i } : {}),
    }));
    const request = read({ tools });
    expect(request.tools[999]?.parametersJson).toBe(JSON.stringify(tools[999]?.function.parameters));
    expect(request.extras.length).toBe(500);
  });

  test("know a result of the deprecated form by the name of its function", () => {
    const messages = [
      question,
      { role: "assistant", content: null, function_call: { name: "f", arguments: "{}" } },
      { role: "function", name: "f", content: "r" },
      { role: "function", name: "g", content: "without a call" },
    ];
    const read = readRequest(Buffer.from(JSON.stringify({ model: "m", messages })));
    expect(read.functionCalls).toBe(true);
    const ids = read.request.messages.flatMap(({ parts }) =>
      parts.map(({ content }) =>
        content.case === "toolCall" ? content.value.id : content.case === "toolResult" ? content.value.toolCallId : "",
      ),
    );
    expect(ids).toEqual(["", "function_1", "function_1", "function_3"]);
  });
});
