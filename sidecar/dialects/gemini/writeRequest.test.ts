import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { type ChatRequestSchema, Role, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { type GeminiOptions, geminiClient } from "./gemini.ts";

const studio: GeminiOptions = { version: "v1beta", project: undefined, callIds: true, models: [] };
const cloud: GeminiOptions = {
  version: "v1",
  project: { project: "example.com:p-1", location: "europe-west4" },
  callIds: false,
  models: [],
};

type Asked = MessageInitShape<typeof ChatRequestSchema>;

function write(init: Asked, { model = "gemini-3-flash", options = studio, drop = false, streaming = false } = {}) {
  const request = chatRequest(init);
  const written = geminiClient(options).writeRequest({ request, native: undefined, model, streaming, dropUnsupported: drop });
  return { ...written, body: JSON.parse(String(written.body)), text: String(written.body) };
}

/** The field for which a request is refused; with the unsupported left out, the same field is the only one reported. */
function refusedField(init: Asked, how: Parameters<typeof write>[1] = {}): string | undefined {
  expect(write(init, { ...how, drop: true }).warnings.map(({ code }) => code)).toEqual(["PARAMETER_DROPPED"]);
  const [warning] = write(init, { ...how, drop: true }).warnings;
  try {
    write(init, how);
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    expect(caught.kind.name).toBe("PARAMETER_UNSUPPORTED");
    expect(caught.facts).toEqual({ model: how.model ?? "gemini-3-flash" });
    expect(warning?.field).toBe(caught.field);
    return caught.field;
  }
  return undefined;
}

const text = (words: string) => ({ content: { case: "text" as const, value: { text: words } } });
const said = (role: Role, words: string) => ({ role, parts: [text(words)] });
const user = (words: string) => said(Role.USER, words);
const toolCall = (id: string, name = "look", argumentsJson = "{}") => ({
  content: { case: "toolCall" as const, value: { id, name, argumentsJson } },
});
const reasoning = (value: { text?: string; signature?: string; redacted?: string; dialect?: string }) => ({
  content: { case: "reasoning" as const, value },
});
const toolResult = (toolCallId: string, parts: object[] = [text(toolCallId)], isError = false) => ({
  role: Role.TOOL,
  parts: [{ content: { case: "toolResult" as const, value: { toolCallId, parts, isError } } }],
});
const tools = [
  { name: "look", description: "Looks.", parametersJson: '{"type":"object", "properties":{"a":{"type":"number","minimum":1.0}}}' },
];
const jsonSchema = (schemaJson: string) => ({ format: { case: "jsonSchema" as const, value: { name: "n", schemaJson } } });

describe("the address", () => {
  it("is a model's below the version at AI Studio, and below project and location at Vertex AI", () => {
    expect(write({}).path).toBe("/v1beta/models/gemini-3-flash:generateContent");
    expect(write({}, { model: "models/gemini-3-flash", streaming: true }).path).toBe(
      "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
    );
    const base = "/v1/projects/example.com:p-1/locations/europe-west4";
    expect(write({}, { options: cloud }).path).toBe(`${base}/publishers/google/models/gemini-3-flash:generateContent`);
    expect(write({}, { options: cloud, model: "publishers/google/models/g" }).path).toBe(
      `${base}/publishers/google/models/g:generateContent`,
    );
    expect(write({}, { options: cloud, model: "endpoints/123" }).path).toBe(`${base}/endpoints/123:generateContent`);
  });

  it("asks for events where the answer streams, and for nothing compressed", () => {
    const accept = (streaming: boolean) => write({}, { streaming }).headers.slice(2, 6);
    expect(accept(true)).toEqual(["accept", "text/event-stream", "accept-encoding", "identity"]);
    expect(accept(false)).toEqual(["accept", "application/json", "accept-encoding", "identity"]);
  });
});

describe("the conversation", () => {
  it("begins with all instructions, and says so of those that were moved", () => {
    const { body, warnings } = write({
      messages: [said(Role.SYSTEM, "one"), said(Role.DEVELOPER, "two"), user("a"), said(Role.SYSTEM, "three")],
    });
    expect(body.systemInstruction).toEqual({ parts: [{ text: "one" }, { text: "two" }, { text: "three" }] });
    expect(body.contents).toEqual([{ role: "user", parts: [{ text: "a" }] }]);
    expect(warnings).toMatchObject([{ code: "PARAMETER_CHANGED", field: "messages[3]" }]);
  });

  it("has a user's turn first, where there is none", () => {
    for (const messages of [[said(Role.SYSTEM, "one")], [said(Role.ASSISTANT, "hello"), user("a")]]) {
      const { body, warnings } = write({ messages });
      expect(body.contents[0]).toEqual({ role: "user", parts: [{ text: " " }] });
      expect(warnings).toMatchObject([{ code: "PARAMETER_CHANGED", field: "messages" }]);
    }
  });

  it("alternates, whatever neighbours there are", () => {
    const { body } = write({
      messages: [
        user("a"),
        user("b"),
        said(Role.ASSISTANT, "c"),
        said(Role.ASSISTANT, "d"),
        user(""),
        said(Role.ASSISTANT, "e"),
        user("f"),
      ],
    });
    expect(
      body.contents.map(({ role, parts }: { role: string; parts: { text: string }[] }) => [role, parts.map((part) => part.text).join("")]),
    ).toEqual([
      ["user", "ab"],
      ["model", "cde"],
      ["user", "f"],
    ]);
  });

  it("shows pictures, sounds and documents by value and by address", () => {
    const data = Buffer.from("bytes");
    const media = (value: object, kind: "image" | "audio" | "file" = "image") => ({ content: { case: kind, value } });
    const source = (kind: string, value: unknown) => ({ source: { case: kind, value } });
    const parts = [
      media({ ...source("data", data), mediaType: "image/png" }),
      media({ ...source("data", data), mediaType: "audio/wav" }, "audio"),
      media({ ...source("url", "data:application/pdf;name=a.pdf;base64,YQ==") }, "file"),
      media({ ...source("url", "https://example.org/a.JPG?x=1") }),
      media({ ...source("url", "gs://bucket/a.mp4") }, "file"),
      media({ ...source("fileId", "files/abc-1"), mediaType: "application/pdf" }, "file"),
    ] as unknown as NonNullable<Asked["messages"]>[number]["parts"];
    const written = write({ messages: [{ role: Role.USER, parts: parts ?? [] }] });
    expect(written.body.contents[0].parts).toEqual([
      { inlineData: { mimeType: "image/png", data: "Ynl0ZXM=" } },
      { inlineData: { mimeType: "audio/wav", data: "Ynl0ZXM=" } },
      { inlineData: { mimeType: "application/pdf", data: "YQ==" } },
      { fileData: { mimeType: "image/jpeg", fileUri: "https://example.org/a.JPG?x=1" } },
      { fileData: { mimeType: "video/mp4", fileUri: "gs://bucket/a.mp4" } },
      { fileData: { mimeType: "application/pdf", fileUri: "https://generativelanguage.googleapis.com/v1beta/files/abc-1" } },
    ]);
  });

  it("refuses what the provider cannot fetch", () => {
    const at = (kind: "url" | "fileId", value: string): Asked => ({
      messages: [{ role: Role.USER, parts: [text("a"), { content: { case: "image", value: { source: { case: kind, value } } } }] }],
    });
    expect(refusedField(at("url", "https://example.org/a.png"), { model: "gemini-2.0-flash" })).toBe("messages[0].parts[1]");
    expect(refusedField(at("fileId", "file-of-another"))).toBe("messages[0].parts[1]");
    expect(refusedField(at("fileId", "files/abc"), { options: cloud })).toBe("messages[0].parts[1]");
    expect(() => write(at("url", "data:text/plain,hello"))).toThrow(/base64/);
  });

  it("wraps what tools returned, and says whether they failed", () => {
    const messages = [
      user("a"),
      { role: Role.ASSISTANT, parts: [toolCall("1"), toolCall("2"), toolCall("3")] },
      toolResult("1", [text('{"x":1}')]),
      toolResult("2", [text("no"), text(" way")], true),
      toolResult("3", []),
    ];
    const responses = write({ messages }).body.contents[2].parts.map(
      (part: { functionResponse: { response: unknown } }) => part.functionResponse.response,
    );
    expect(responses).toEqual([{ output: '{"x":1}' }, { error: ["no", " way"] }, { output: "" }]);
  });

  it("puts a picture that a tool returned inside its result, or beside it for older models", () => {
    const image = {
      content: { case: "image" as const, value: { source: { case: "data" as const, value: Buffer.from("x") }, mediaType: "image/png" } },
    };
    const messages = [user("a"), { role: Role.ASSISTANT, parts: [toolCall("1")] }, toolResult("1", [text("see"), image])];
    const inline = { inlineData: { mimeType: "image/png", data: "eA==" } };
    expect(write({ messages }).body.contents[2].parts[0].functionResponse).toMatchObject({ response: { output: "see" }, parts: [inline] });
    const older = write({ messages }, { model: "gemini-2.5-flash" });
    expect(older.body.contents[2].parts[1]).toEqual(inline);
    expect(older.warnings).toMatchObject([{ code: "PARAMETER_CHANGED", field: "messages[2].parts[0].tool_result.parts[1]" }]);
  });

  it("leaves ids of calls out where the endpoint refuses them", () => {
    const messages = [user("a"), { role: Role.ASSISTANT, parts: [toolCall("1")] }, toolResult("1")];
    expect(write({ messages }).text.match(/"id":"1"/g)).toHaveLength(2);
    expect(write({ messages }, { options: cloud }).text).not.toContain('"id"');
  });
});

describe("thought signatures", () => {
  const skip = "skip_thought_signature_validator";
  const parts = (assistant: object[], model = "gemini-3-flash") =>
    write({ messages: [user("a"), { role: Role.ASSISTANT, parts: assistant as [] }] }, { model }).body.contents[1].parts;
  const signatures = (assistant: object[], model?: string) =>
    parts(assistant, model).map(({ thoughtSignature }: { thoughtSignature?: string }) => thoughtSignature);

  it("go back to the call they belong to, wherever in the message they came", () => {
    const sealed = (id: string, signature: string) => reasoning({ signature: `call:${id}:${signature}`, dialect: "gemini" });
    expect(signatures([sealed("x:1", "U0E="), toolCall("x:1"), toolCall("2")])).toEqual(["U0E=", undefined]);
    expect(signatures([sealed("1", "U0E="), sealed("2", "U0I="), toolCall("2"), toolCall("1")])).toEqual(["U0I=", "U0E="]);
    expect(signatures([toolCall("1"), sealed("1", "U0E=")])).toEqual(["U0E="]);
    // A door that has a place for redacted thinking alone carries the seal there.
    expect(signatures([reasoning({ redacted: "call:1:U0E=", dialect: "gemini" }), toolCall("1")])).toEqual(["U0E="]);
  });

  it("of words and of thinking go back to these", () => {
    expect(
      parts([
        reasoning({ text: "Hm.", signature: "thought:U0E=", dialect: "gemini" }),
        text("a"),
        text("b"),
        reasoning({ signature: "text:U0I=", dialect: "gemini" }),
      ]),
    ).toEqual([{ text: "Hm.", thought: true, thoughtSignature: "U0E=" }, { text: "a" }, { text: "b", thoughtSignature: "U0I=" }]);
    expect(parts([reasoning({ signature: "end:U0E=", dialect: "gemini" }), text("a")])).toEqual([
      { text: "a" },
      { text: "", thoughtSignature: "U0E=" },
    ]);
  });

  it("that are missing are made up for on the first call of a turn, where the model insists", () => {
    expect(signatures([text("a"), toolCall("1"), toolCall("2")])).toEqual([undefined, skip, undefined]);
    expect(signatures([toolCall("1"), toolCall("2")], "gemini-2.5-pro")).toEqual([undefined, undefined]);
    const messages = [user("a"), { role: Role.ASSISTANT, parts: [toolCall("1")] }, { role: Role.ASSISTANT, parts: [toolCall("2")] }];
    const merged = write({ messages }).body.contents[1].parts;
    expect(merged.map(({ thoughtSignature }: { thoughtSignature?: string }) => thoughtSignature)).toEqual([skip, undefined]);
  });

  it.each(["s3cret", "call:", "call:1", "call:1:no base64!", "other:U0E=", "call:1:a b"])(
    "that are none are left out and told: %s",
    (signature) => {
      const messages = [user("a"), { role: Role.ASSISTANT, parts: [reasoning({ signature, dialect: "gemini" }), toolCall("1")] }];
      const { text: body, warnings } = write({ messages });
      expect(body).not.toContain(signature);
      expect(warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "messages[1].parts[0]" }]);
    },
  );
});

describe("tools", () => {
  it("are declared in one, their schemas byte for byte", () => {
    const { body, text: whole } = write({ tools: [...tools, { name: "rest" }] });
    expect(body.tools).toHaveLength(1);
    expect(whole).toContain(`"parametersJsonSchema":${tools[0]?.parametersJson}`);
    expect(body.tools[0].functionDeclarations[1]).toEqual({ name: "rest" });
  });

  it("are declared in the subset to older models, which are told what they lose", () => {
    const { body, warnings } = write(
      {
        tools: [
          {
            name: "t",
            parametersJson: '{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"type":"string","format":"email"}}}',
          },
          { name: "u", parametersJson: '{"type":"object"}' },
        ],
      },
      { model: "gemini-2.0-flash" },
    );
    expect(body.tools[0].functionDeclarations).toEqual([
      { name: "t", parameters: { type: "object", properties: { a: { type: "string" } } } },
      { name: "u" },
    ]);
    expect(warnings).toMatchObject([
      { code: "PARAMETER_CHANGED", field: "tools[0].parameters_json", message: expect.stringContaining("format") },
    ]);
  });

  it.each<[string, Asked, unknown]>([
    ["auto", { toolChoice: { choice: { case: "mode", value: ToolMode.AUTO } } }, { mode: "AUTO" }],
    ["none", { toolChoice: { choice: { case: "mode", value: ToolMode.NONE } } }, { mode: "NONE" }],
    ["required", { toolChoice: { choice: { case: "mode", value: ToolMode.REQUIRED } } }, { mode: "ANY" }],
    ["one tool", { toolChoice: { choice: { case: "tool", value: "look" } } }, { mode: "ANY", allowedFunctionNames: ["look"] }],
    ["nothing", {}, undefined],
    ["strict", { tools: [{ ...tools[0], strict: true }] }, { mode: "VALIDATED" }],
  ])("are chosen: %s", (_, init, expected) => {
    expect(write({ tools, ...init }).body.toolConfig?.functionCallingConfig).toEqual(expected);
  });

  it("are not chosen where there are none", () => {
    expect(() => write({ toolChoice: { choice: { case: "mode", value: ToolMode.REQUIRED } } })).toThrow(/where there are none/);
    expect(() => write({ tools, toolChoice: { choice: { case: "tool", value: "other" } } })).toThrow(/not among the tools/);
  });
});

describe("the form of the answer", () => {
  const responseFormat = jsonSchema('{"type": "object", "properties":{"n":{"type":"number","exclusiveMinimum":0}}}');

  it("is a schema byte for byte, or in the subset for older models", () => {
    expect(write({ responseFormat }).text).toContain(
      `"responseMimeType":"application/json","responseJsonSchema":${responseFormat.format.value.schemaJson}`,
    );
    const { generationConfig } = write({ responseFormat }, { model: "gemini-1.5-pro" }).body;
    expect(generationConfig).toEqual({
      responseMimeType: "application/json",
      responseSchema: { type: "object", properties: { n: { type: "number" } } },
    });
    expect(write({ responseFormat: { format: { case: "jsonObject", value: {} } } }).body.generationConfig).toEqual({
      responseMimeType: "application/json",
    });
  });

  it("and tools exclude each other before the third generation", () => {
    expect(refusedField({ responseFormat, tools }, { model: "gemini-2.5-flash" })).toBe("response_format");
    expect(write({ responseFormat, tools }, { model: "gemini-2.5-flash", drop: true }).body.generationConfig).toBeUndefined();
    const none = write(
      { responseFormat, tools, toolChoice: { choice: { case: "mode", value: ToolMode.NONE } } },
      { model: "gemini-2.5-flash" },
    );
    expect([none.body.tools, none.body.toolConfig, none.warnings]).toEqual([undefined, undefined, []]);
    expect(write({ responseFormat, tools }).body).toMatchObject({
      tools: [{}],
      generationConfig: { responseMimeType: "application/json" },
    });
  });

  it("must be a JSON object", () => {
    for (const schemaJson of ["[]", '{"a":', "true"]) {
      expect(() => write({ responseFormat: jsonSchema(schemaJson) })).toThrow(
        expect.objectContaining({ field: "response_format.json_schema.schema" }),
      );
    }
  });
});

describe("thinking", () => {
  const effort = (value: string): Asked => ({ reasoning: { amount: { case: "effort", value } } });
  const budget = (value: number): Asked => ({ reasoning: { amount: { case: "budgetTokens", value: BigInt(value) } } });

  it.each<[Asked, string, object | undefined, string[]]>([
    [effort("high"), "gemini-3-flash", { thinkingLevel: "high", includeThoughts: true }, []],
    [effort("xhigh"), "gemini-3-flash", { thinkingLevel: "high", includeThoughts: true }, ["reasoning.effort"]],
    [effort("none"), "gemini-3-flash", { thinkingLevel: "minimal" }, ["reasoning.effort"]],
    [effort("medium"), "gemini-3-pro-preview", { thinkingLevel: "high", includeThoughts: true }, ["reasoning.effort"]],
    [effort("medium"), "gemini-3.1-pro-preview", { thinkingLevel: "medium", includeThoughts: true }, []],
    [budget(500), "gemini-3-flash", { thinkingBudget: 500, includeThoughts: true }, []],
    [effort("medium"), "gemini-2.5-flash", { thinkingBudget: 8192, includeThoughts: true }, []],
    [effort("max"), "gemini-2.5-flash", { thinkingBudget: 24_576, includeThoughts: true }, []],
    [effort("none"), "gemini-2.5-flash", { thinkingBudget: 0 }, []],
    [effort("none"), "gemini-2.5-pro", { thinkingBudget: 128 }, ["reasoning.effort"]],
    [budget(100), "gemini-2.5-flash-lite", { thinkingBudget: 512, includeThoughts: true }, ["reasoning.budget_tokens"]],
    [budget(99_999), "gemini-2.5-pro", { thinkingBudget: 32_768, includeThoughts: true }, ["reasoning.budget_tokens"]],
    [{ reasoning: {} }, "gemini-3-flash", { includeThoughts: true }, []],
    [{ reasoning: { ...effort("low").reasoning, thinking: false } }, "gemini-3-flash", { thinkingLevel: "low" }, []],
    [effort("none"), "gemini-2.0-flash", undefined, []],
    [{}, "gemini-3-flash", undefined, []],
  ])("is asked for in the model's own terms, row %#", (init, model, expected, changed) => {
    const { body, warnings } = write(init, { model });
    expect(body.generationConfig?.thinkingConfig).toEqual(expected);
    expect(warnings.map(({ code, field }) => [code, field])).toEqual(changed.map((field) => ["PARAMETER_CHANGED", field]));
  });

  it("is refused where the model does not think, and by words that nobody knows", () => {
    expect(refusedField(effort("low"), { model: "gemini-2.0-flash" })).toBe("reasoning");
    expect(refusedField(effort("huge"))).toBe("reasoning.effort");
  });
});

describe("parameters", () => {
  it("have their own names here", () => {
    const { body } = write({
      n: 2,
      stop: ["a", "b"],
      maxOutputTokens: 5n,
      temperature: 0.5,
      topP: 0.25,
      topK: 7n,
      seed: -1n,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logprobs: { top: 2 },
    });
    expect(body.generationConfig).toEqual({
      candidateCount: 2,
      stopSequences: ["a", "b"],
      maxOutputTokens: 5,
      temperature: 0.5,
      topP: 0.25,
      topK: 7,
      seed: -1,
      presencePenalty: 1,
      frequencyPenalty: -1,
      responseLogprobs: true,
      logprobs: 2,
    });
    expect(write({ logprobs: { top: 0 } }).body.generationConfig).toEqual({ responseLogprobs: true });
  });

  it.each<[string, Asked, Parameters<typeof write>[1]]>([
    ["logit_bias", { logitBias: { "1": 1 } }, {}],
    ["parallel_tool_calls", { tools, parallelToolCalls: false }, {}],
    ["service_tier", { serviceTier: "flex" }, {}],
    ["seed", { seed: 2n ** 31n }, {}],
    ["stop", { stop: ["1", "2", "3", "4", "5", "6"] }, {}],
    ["stop", { stop: ["", "a"] }, {}],
    ["tools.strict", { tools: [{ name: "t", strict: true }] }, { model: "gemini-2.0-flash" }],
    ["messages[0].name", { messages: [{ ...user("a"), name: "me" }] }, {}],
    ["top_a", { extras: [{ dialect: "openai", path: "top_a", json: "1" }] }, {}],
    ["contents", { extras: [{ dialect: "gemini", path: "contents", json: "[]" }] }, {}],
    [
      "generationConfig.temperature",
      { temperature: 1, extras: [{ dialect: "gemini", path: "generationConfig.temperature", json: "2" }] },
      {},
    ],
  ])("%s that it cannot carry is refused by name, or left out and reported", (field, init, how) => {
    expect(refusedField(init, how)).toBe(field);
  });

  it("says who the end user is where that has a place, and goes on without where not", () => {
    for (const how of [
      { request: { user: "me" }, options: undefined },
      { request: { user: "Me!" }, options: cloud },
    ]) {
      const { warnings } = write(how.request, how.options === undefined ? {} : { options: how.options });
      expect(warnings.map(({ code, field }) => `${code} ${field}`)).toEqual(["PARAMETER_DROPPED user"]);
    }
  });

  // Callers who mark every prompt for a cache could not be answered at all, though the answer is the same without the marks.
  it("that are hints for a cache are left out and reported, and refuse nothing", () => {
    const { warnings } = write({
      tools: [{ name: "t", cache: {} }],
      messages: [{ role: Role.USER, parts: [{ ...text("a"), cache: {} }] }],
    });
    expect(warnings.map(({ code, field }) => [code, field])).toEqual([
      ["PARAMETER_DROPPED", "messages[0].parts[0].cache"],
      ["PARAMETER_DROPPED", "tools[0].cache"],
    ]);
  });

  it("that mean what happens anyway are not refused", () => {
    const { warnings } = write({ parallelToolCalls: true, serviceTier: "auto", n: 1, tools });
    expect(warnings).toEqual([]);
    expect(write({ user: "me-1" }, { options: cloud }).body.labels).toEqual({ user: "me-1" });
  });

  it("beyond what the model takes are lowered and told", () => {
    const { body, warnings } = write({ temperature: 2.5 });
    expect(body.generationConfig).toEqual({ temperature: 2 });
    expect(warnings).toMatchObject([{ code: "PARAMETER_CHANGED", field: "temperature" }]);
  });

  it("that only this dialect knows are written where they belong, byte for byte", () => {
    const extra = (path: string, json: string) => ({ dialect: "gemini", path, json });
    const { body, text: whole } = write({
      temperature: 0,
      tools,
      extras: [
        extra("safetySettings", '[{"category":"X", "threshold":"Y"}]'),
        extra("cachedContent", '"cachedContents/1"'),
        extra("generationConfig.responseModalities", '["TEXT"]'),
        extra("tools[1]", '{"googleSearch":{}}'),
        extra("toolConfig.retrievalConfig", '{"languageCode":"de"}'),
      ],
    });
    expect(whole).toContain('"safetySettings":[{"category":"X", "threshold":"Y"}]');
    expect(body).toMatchObject({
      cachedContent: "cachedContents/1",
      generationConfig: { temperature: 0, responseModalities: ["TEXT"] },
      toolConfig: { retrievalConfig: { languageCode: "de" } },
    });
    expect(body.tools[1]).toEqual({ googleSearch: {} });
    expect(() => write({ extras: [extra("cachedContent", "{")] })).toThrow(/expected JSON/);
  });
});
