/** What single models take and do not, and how that is said. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { ChatRequestSchema, Role, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { bedrockClient } from "./bedrock.ts";

const client = bedrockClient({ guardrail: undefined, models: [] });

const haiku = "anthropic.claude-3-5-haiku-20241022-v1:0";
const sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0";
const oss = "openai.gpt-oss-120b-1:0";
const titan = "amazon.titan-text-express-v1";

const text = (value: string, cache?: { ttl: string }) => ({
  content: { case: "text" as const, value: { text: value } },
  ...(cache === undefined ? {} : { cache: { $typeName: "outrigger.chat.v1.CacheMarker" as const, ...cache } }),
});
const call = (id: string) => ({ content: { case: "toolCall" as const, value: { id, name: "f", argumentsJson: "{}" } } });
const result = (id: string) => ({ content: { case: "toolResult" as const, value: { toolCallId: id, parts: [text(id)] } } });
const asked = [{ role: Role.USER, parts: [text("Go")] }];
const tools = [{ name: "f" }];

/** The body and the warnings as `code field`; or the fault as `reason field`. */
function write(model: string, init: MessageInitShape<typeof ChatRequestSchema>, dropUnsupported = false) {
  const request = create(ChatRequestSchema, { model: "m", messages: asked, ...init });
  try {
    const { body, warnings } = client.writeRequest({ request, native: undefined, model, streaming: false, dropUnsupported });
    return { body: JSON.parse(String(body)), said: warnings.map(({ code, field }) => `${code} ${field}`) };
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return { refused: `${caught.kind.name} ${caught.field}` };
  }
}

describe("tools", () => {
  test("that must be called must be there", () => {
    expect(write(sonnet, { toolChoice: { choice: { case: "mode", value: ToolMode.REQUIRED } } }).refused).toBe(
      "REQUEST_INVALID tool_choice",
    );
    expect(write(sonnet, { tools, toolChoice: { choice: { case: "tool", value: "g" } } }).refused).toBe("REQUEST_INVALID tool_choice");
  });

  test("are refused by name where the model takes none, and left out with all their uses where policy says so", () => {
    expect(write(titan, { tools }).refused).toBe("PARAMETER_UNSUPPORTED tools");
    const messages = [...asked, { role: Role.ASSISTANT, parts: [text("Hm"), call("1")] }, { role: Role.TOOL, parts: [result("1")] }];
    expect(write(titan, { messages }).refused).toBe("PARAMETER_UNSUPPORTED messages[1].parts[1]");
    expect(write(titan, { messages, tools }, true)).toEqual({
      body: {
        messages: [
          { role: "user", content: [{ text: "Go" }] },
          { role: "assistant", content: [{ text: "Hm" }] },
        ],
      },
      said: ["PARAMETER_DROPPED tools", "PARAMETER_DROPPED messages[1].parts[1]", "PARAMETER_DROPPED messages[2].parts[0]"],
    });
  });

  test("of one turn that came in two messages have their results in one turn, in order", () => {
    const messages = [
      ...asked,
      { role: Role.ASSISTANT, parts: [call("1")] },
      { role: Role.ASSISTANT, parts: [call("2")] },
      { role: Role.TOOL, parts: [result("2"), result("1")] },
    ];
    const [, calls, results] = write(sonnet, { messages, tools }).body.messages;
    expect(calls.content).toHaveLength(2);
    expect(results.content.map((block: { toolResult: { toolUseId: string } }) => block.toolResult.toolUseId)).toEqual(["1", "2"]);
  });
});

describe("instructions", () => {
  test("are refused where the model takes none", () => {
    const messages = [{ role: Role.SYSTEM, parts: [text("Be brief")] }, ...asked];
    expect(write(titan, { messages }).refused).toBe("PARAMETER_UNSUPPORTED messages[0]");
    expect(write(titan, { messages }, true)).toEqual({
      body: { messages: [{ role: "user", content: [{ text: "Go" }] }] },
      said: ["PARAMETER_DROPPED messages[0]"],
    });
  });

  test("keep their markers on blank text, once", () => {
    const messages = [
      { role: Role.SYSTEM, parts: [text("", { ttl: "" }), text("Be brief"), text(" ", { ttl: "5m" }), text("\n", { ttl: "" })] },
      { role: Role.USER, parts: [text("Go"), text(" ", { ttl: "" })] },
    ];
    const { body, said } = write(sonnet, { messages });
    expect(body.system).toEqual([{ text: "Be brief" }, { cachePoint: { type: "default", ttl: "5m" } }]);
    expect(body.messages[0].content).toEqual([{ text: "Go" }, { cachePoint: { type: "default" } }]);
    expect(said).toEqual([]);
  });
});

describe("limits and thinking", () => {
  test("a limit is lowered to the model's", () => {
    expect(write(haiku, { maxOutputTokens: 9000n })).toMatchObject({
      body: { inferenceConfig: { maxTokens: 8192 } },
      said: ["PARAMETER_CHANGED max_output_tokens"],
    });
    expect(write(haiku, { maxOutputTokens: 8192n }).said).toEqual([]);
  });

  test("a number of tokens to think with is raised to the least, and lowered below the limit", () => {
    const budget = (budgetTokens: bigint, maxOutputTokens: bigint) =>
      write(sonnet, { reasoning: { amount: { case: "budgetTokens", value: budgetTokens } }, maxOutputTokens });
    expect(budget(10n, 4000n)).toMatchObject({
      body: { additionalModelRequestFields: { thinking: { budget_tokens: 1024 } } },
      said: ["PARAMETER_CHANGED reasoning.budget_tokens"],
    });
    expect(budget(5000n, 4000n)).toMatchObject({
      body: { inferenceConfig: { maxTokens: 4000 }, additionalModelRequestFields: { thinking: { budget_tokens: 3999 } } },
      said: ["PARAMETER_CHANGED reasoning.budget_tokens"],
    });
    expect(budget(2000n, 1024n).refused).toBe("PARAMETER_UNSUPPORTED reasoning");
  });

  test("goes with no tool that must be called, and with no answer that is begun", () => {
    const reasoning = { amount: { case: "effort" as const, value: "low" } };
    const toolChoice = { choice: { case: "mode" as const, value: ToolMode.REQUIRED } };
    expect(write(sonnet, { reasoning, tools, toolChoice }).refused).toBe("PARAMETER_UNSUPPORTED reasoning");
    const messages = [...asked, { role: Role.ASSISTANT, parts: [text("{")] }];
    expect(write(sonnet, { reasoning, messages }).refused).toBe("PARAMETER_UNSUPPORTED reasoning");
    expect(write(sonnet, { reasoning, tools }).said).toEqual([]);
  });

  test("by a word is one of the words that are known", () => {
    const effort = (model: string, value: string) => write(model, { reasoning: { amount: { case: "effort", value } } });
    expect(effort(sonnet, "enormous").refused).toBe("PARAMETER_UNSUPPORTED reasoning.effort");
    expect(effort(oss, "none").refused).toBe("PARAMETER_UNSUPPORTED reasoning.effort");
    expect(effort(oss, "max")).toMatchObject({
      body: { additionalModelRequestFields: { reasoning_effort: "high" } },
      said: ["PARAMETER_CHANGED reasoning.effort"],
    });
    expect(effort("us.amazon.nova-2-lite-v1:0", "none").body.additionalModelRequestFields).toEqual({
      reasoningConfig: { type: "disabled" },
    });
  });

  test("some models take no sampling at all, save the value that changes nothing", () => {
    const newest = "anthropic.claude-opus-9-v1:0";
    expect(write(newest, { temperature: 1, topP: 1 })).toEqual({ body: { messages: expect.anything() }, said: [] });
    expect(write(newest, { temperature: 0 }).refused).toBe("PARAMETER_UNSUPPORTED temperature");
    expect(write(newest, { topK: 1n }).refused).toBe("PARAMETER_UNSUPPORTED top_k");
  });
});

test("names of messages, and parts in the wrong place, are refused with their path", () => {
  expect(write(sonnet, { messages: [{ role: Role.USER, name: "ann", parts: [text("Go")] }] }).refused).toBe(
    "PARAMETER_UNSUPPORTED messages[0].name",
  );
  expect(write(sonnet, { messages: [...asked, { role: Role.ASSISTANT, parts: [result("1")] }] }).refused).toBe(
    "PARAMETER_UNSUPPORTED messages[1].parts[0]",
  );
  const image = { content: { case: "image" as const, value: { source: { case: "data" as const, value: new Uint8Array() } } } };
  expect(write(sonnet, { messages: [{ role: Role.SYSTEM, parts: [image] }, ...asked] }).refused).toBe(
    "PARAMETER_UNSUPPORTED messages[0].parts[0]",
  );
});

test("schemas and extras that are no JSON are refused before they are sent", () => {
  expect(write(sonnet, { tools: [{ name: "f", parametersJson: "{" }] }).refused).toBe("REQUEST_INVALID tools[0].parameters_json");
  expect(write(sonnet, { extras: [{ dialect: "bedrock", path: "performanceConfig", json: "{" }] }).refused).toBe(
    "REQUEST_INVALID performanceConfig",
  );
});

describe("thinking by a number of tokens, in the middle of the assistant's work", () => {
  const thought = { content: { case: "reasoning" as const, value: { text: "t", signature: "s", dialect: "bedrock" } } };
  const answered = (id: string, ...parts: (typeof thought)[]) => [
    { role: Role.ASSISTANT, parts: [...parts, call(id)] },
    { role: Role.TOOL, parts: [result(id)] },
  ];
  const wish = { tools, reasoning: { amount: { case: "effort" as const, value: "low" } } };

  test("goes on where its first turn thought, though a later one did not", () => {
    const { body, said } = write(sonnet, { ...wish, messages: [...asked, ...answered("1", thought), ...answered("2")] });
    expect(body.additionalModelRequestFields).toMatchObject({ thinking: { type: "enabled" } });
    expect(said).toEqual([]);
  });

  test("stays off where its first turn did not, and then no turn of it brings thinking", () => {
    // A marker behind what a tool returned is no word of the user's.
    const marked = { role: Role.USER, parts: [text(" ", { ttl: "" })] };
    const messages = [...asked, ...answered("1", thought), ...asked, ...answered("2"), marked, ...answered("3", thought)];
    const { body, said } = write(sonnet, { ...wish, messages });
    expect(body).not.toHaveProperty("additionalModelRequestFields");
    expect(said).toEqual(["PARAMETER_DROPPED reasoning", "PARAMETER_DROPPED messages"]);
    const blocks = body.messages
      .filter(({ role }: { role: string }) => role === "assistant")
      .map(({ content }: { content: object[] }) => content.map((block) => Object.keys(block)[0]));
    expect(blocks).toEqual([["reasoningContent", "toolUse"], ["toolUse"], ["toolUse"]]);
  });

  test("is the caller's own affair where it asks for none", () => {
    const { body } = write(sonnet, { tools, messages: [...asked, ...answered("1", thought)] });
    expect(body.messages[1].content[0]).toHaveProperty("reasoningContent");
  });
});
