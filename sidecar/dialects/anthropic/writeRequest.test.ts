import { describe, expect, it } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { type AnthropicOptions, anthropicClient, anthropicServer } from "./anthropic.ts";

const options: AnthropicOptions = { version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] };

function write(init: Parameters<typeof chatRequest>[0], changes: { model?: string; drop?: boolean; own?: Partial<AnthropicOptions> } = {}) {
  const { model = "claude-sonnet-4-5", drop = false, own = {} } = changes;
  const written = anthropicClient({ ...options, ...own }).writeRequest({
    request: chatRequest(init),
    native: undefined,
    model,
    streaming: false,
    dropUnsupported: drop,
  });
  return { ...written, json: JSON.parse(String(written.body)), warned: written.warnings.map(({ code, field }) => `${code} ${field}`) };
}

function refusedField(init: Parameters<typeof chatRequest>[0], model?: string): string | undefined {
  try {
    write(init, model === undefined ? {} : { model });
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return `${caught.kind.name} ${caught.field}`;
  }
  return undefined;
}

describe("a request that came in this dialect", () => {
  const pass = (text: string, streaming: boolean, header?: string) => {
    const read = anthropicServer.readRequest(Buffer.from(text), () => header);
    return anthropicClient({ ...options, betas: ["own-1"] }).writeRequest({ ...read, model: 'n"1', streaming, dropUnsupported: false });
  };

  it("goes out as it came but for the model and the stream", () => {
    const text = ` { "x" : [ 1.0 ] , "model" : "a" , "max_tokens":1e2, "messages": [{"role":"user","content":"\\u0041","model":"b"}] , "é":2 } `;
    expect(pass(text, false).body).toBe(text.replace('"a"', '"n\\"1"'));
    expect(pass(text, true).body).toBe(text.replace('"a"', '"n\\"1"').replace('"é":2', '"é":2,"stream":true'));
    const streamed = text.replace('"é":2', '"stream":true');
    expect(pass(streamed, true).body).toBe(streamed.replace('"a"', '"n\\"1"'));
    expect(pass(streamed, false).body).toBe(streamed.replace('"a"', '"n\\"1"').replace('"stream":true', '"stream":false'));
  });

  it("asks for the beta features of the caller and of the endpoint", () => {
    const text = '{"model":"a","max_tokens":1,"messages":[{"role":"user","content":"x"}]}';
    const headers = pass(text, true, "theirs-1,own-1").headers;
    expect(headers[headers.indexOf("anthropic-beta") + 1]).toBe("own-1,theirs-1");
    expect(pass(text, true).headers).toContain("own-1");
    const read = anthropicServer.readRequest(Buffer.from(text), () => "theirs-1");
    const changed = anthropicClient(options).writeRequest({ ...read, native: undefined, model: "a", dropUnsupported: false });
    expect(changed.headers[changed.headers.indexOf("anthropic-beta") + 1]).toBe("theirs-1");
  });

  it("is written from the conversation if it came in another dialect", () => {
    const written = anthropicClient(options).writeRequest({
      request: chatRequest(),
      native: { dialect: "openai", text: '{"model":"a"}' },
      model: "m",
      streaming: true,
      dropUnsupported: false,
    });
    expect(JSON.parse(String(written.body))).toMatchObject({ model: "m", max_tokens: 4096, stream: true });
  });
});

describe("headers", () => {
  it("say what is sent and what is wanted", () => {
    expect(write({}).path).toBe("/v1/messages");
    expect(write({}).headers).toEqual([
      "content-type",
      "application/json",
      "accept",
      "application/json",
      "accept-encoding",
      "identity",
      "anthropic-version",
      "2023-06-01",
    ]);
  });
});

describe("limits on the answer", () => {
  it("are the caller's, lowered to the model's, or the endpoint's", () => {
    expect(write({}, { own: { defaultMaxTokens: 99 } }).json.max_tokens).toBe(99);
    expect(write({}, { own: { defaultMaxTokens: 99_999 }, model: "claude-3-5-haiku" })).toMatchObject({
      json: { max_tokens: 8192 },
      warned: [],
    });
    expect(write({ maxOutputTokens: 9000n }, { model: "claude-3-5-haiku" })).toMatchObject({
      json: { max_tokens: 8192 },
      warned: ["PARAMETER_CHANGED max_output_tokens"],
    });
    const own = { models: [{ pattern: "claude-3-5-*", maxOutputTokens: 10_000 }] };
    expect(write({ maxOutputTokens: 9000n }, { model: "claude-3-5-haiku", own }).json.max_tokens).toBe(9000);
  });
});

describe("thinking", () => {
  const effort = (value: string) => ({ reasoning: { amount: { case: "effort" as const, value } } });
  const budget = (value: bigint) => ({ reasoning: { amount: { case: "budgetTokens" as const, value } } });

  it("follows the word of effort", () => {
    for (const [word, tokens] of Object.entries({ minimal: 1024, low: 1024, medium: 2048, high: 4096, xhigh: 8192, max: 16_384 })) {
      expect(write(effort(word)).json).toMatchObject({ thinking: { type: "enabled", budget_tokens: tokens }, max_tokens: 4096 + tokens });
    }
    expect(write(effort("minimal"), { model: "claude-opus-4-6" }).json).toMatchObject({
      thinking: { type: "adaptive" },
      output_config: { effort: "low" },
    });
    expect(write(effort("none")).json.thinking).toEqual({ type: "disabled" });
    expect(write(effort("none"), { model: "claude-3-5-haiku" }).json).not.toHaveProperty("thinking");
    expect(refusedField(effort("extreme"))).toBe("PARAMETER_UNSUPPORTED reasoning.effort");
  });

  it("asks models that take words alone for the word that is near a number, or for the caller's own", () => {
    const near = (tokens: bigint) => write(budget(tokens), { model: "claude-opus-4-6" });
    expect(near(1024n)).toMatchObject({
      json: { output_config: { effort: "low" } },
      warned: ["PARAMETER_CHANGED reasoning.budget_tokens"],
    });
    expect(near(8000n).json.output_config.effort).toBe("medium");
    expect(near(32_000n).json.output_config.effort).toBe("high");
    const extras = [{ dialect: "anthropic", path: "output_config.effort", json: '"max"' }];
    expect(write({ ...budget(1024n), extras }, { model: "claude-opus-4-6" })).toMatchObject({
      json: { thinking: { type: "adaptive" }, output_config: { effort: "max" } },
      warned: [],
    });
  });

  it("leaves room for an answer", () => {
    expect(write({ ...budget(5000n), maxOutputTokens: 5000n })).toMatchObject({
      json: { max_tokens: 5000, thinking: { budget_tokens: 4999 } },
      warned: ["PARAMETER_CHANGED reasoning.budget_tokens"],
    });
    expect(write({ ...budget(5n), maxOutputTokens: 5000n })).toMatchObject({
      json: { thinking: { budget_tokens: 1024 } },
      warned: ["PARAMETER_CHANGED reasoning.budget_tokens"],
    });
    expect(refusedField({ ...effort("low"), maxOutputTokens: 1024n })).toBe("PARAMETER_UNSUPPORTED reasoning");
    expect(write({ ...effort("low"), maxOutputTokens: 1024n }, { drop: true })).toMatchObject({
      json: { max_tokens: 1024 },
      warned: ["PARAMETER_DROPPED reasoning"],
    });
  });

  it("is refused beside what excludes it", () => {
    const tools = [{ name: "a", parametersJson: "{}" }];
    const forced = { toolChoice: { choice: { case: "tool" as const, value: "a" } } };
    expect(refusedField({ ...effort("low"), tools, ...forced })).toBe("PARAMETER_UNSUPPORTED reasoning");
    const begun = {
      messages: [
        ...chatRequest().messages,
        { role: Role.ASSISTANT, parts: [{ content: { case: "text" as const, value: { text: "So" } } }] },
      ],
    };
    expect(refusedField({ ...effort("low"), ...begun })).toBe("PARAMETER_UNSUPPORTED reasoning");
    expect(refusedField({ ...effort("low"), temperature: 0.5 })).toBe("PARAMETER_UNSUPPORTED temperature");
    expect(refusedField({ ...effort("low"), topP: 0.5 })).toBe("PARAMETER_UNSUPPORTED top_p");
    expect(refusedField({ ...effort("low"), topK: 5n })).toBe("PARAMETER_UNSUPPORTED top_k");
    expect(write({ ...effort("low"), topP: 0.95 }).json.top_p).toBe(0.95);
    expect(write({ ...effort("low"), temperature: 1 }).json.temperature).toBe(1);
  });

  it("stops where the thinking before the last tool call is gone, and says so", () => {
    const call = { content: { case: "toolCall" as const, value: { id: "c", name: "a", argumentsJson: "{}" } } };
    const thought = { content: { case: "reasoning" as const, value: { text: "t", signature: "s", dialect: "anthropic" } } };
    const answer = { role: Role.TOOL, parts: [{ content: { case: "toolResult" as const, value: { toolCallId: "c", parts: [] } } }] };
    const tools = [{ name: "a", parametersJson: "{}" }];
    const turns = (...parts: (typeof call | typeof thought)[]) => [...chatRequest().messages, { role: Role.ASSISTANT, parts }, answer];
    expect(write({ ...effort("low"), tools, messages: turns(call) })).toMatchObject({ warned: ["PARAMETER_DROPPED reasoning"] });
    expect(write({ ...effort("low"), tools, messages: turns(call) }).json).not.toHaveProperty("thinking");
    expect(write({ ...effort("low"), tools, messages: turns(thought, call) }).json).toHaveProperty("thinking");
    expect(write({ ...effort("low"), tools, messages: turns(call) }, { model: "claude-opus-4-6" }).json).toHaveProperty("thinking");
  });

  describe("in the middle of the assistant's work", () => {
    const call = (id: string) => ({ content: { case: "toolCall" as const, value: { id, name: "a", argumentsJson: "{}" } } });
    const thought = { content: { case: "reasoning" as const, value: { text: "t", signature: "s", dialect: "anthropic" } } };
    const answered = (id: string, ...parts: (typeof thought)[]) => [
      { role: Role.ASSISTANT, parts: [...parts, call(id)] },
      { role: Role.TOOL, parts: [{ content: { case: "toolResult" as const, value: { toolCallId: id, parts: [] } } }] },
    ];
    const asked = { ...effort("low"), tools: [{ name: "a", parametersJson: "{}" }] };
    const go = chatRequest().messages;
    const typesOf = ({ json }: ReturnType<typeof write>): string[][] =>
      json.messages.map(({ content }: { content: { type: string }[] }) => content.map(({ type }) => type));

    it("goes on where its first turn thought, though a later one did not", () => {
      const written = write({ ...asked, messages: [...go, ...answered("1", thought), ...answered("2")] });
      expect(written.json).toHaveProperty("thinking");
      expect(written.warned).toEqual([]);
    });

    it("stays off where its first turn did not, and then no turn of it brings thinking", () => {
      const messages = [...go, ...answered("1", thought), ...go, ...answered("2"), ...answered("3", thought)];
      const written = write({ ...asked, messages });
      expect(written.json).not.toHaveProperty("thinking");
      expect(written.warned).toEqual(["PARAMETER_DROPPED reasoning", "PARAMETER_DROPPED messages"]);
      expect(typesOf(written).filter((_, at) => at % 2 === 1)).toEqual([["thinking", "tool_use"], ["tool_use"], ["tool_use"]]);
    });

    it("begins anew with the user's next words", () => {
      const written = write({ ...asked, messages: [...go, ...answered("1"), { role: Role.ASSISTANT, parts: [] }, ...go] });
      expect(written.json).not.toHaveProperty("thinking");
      const said = { role: Role.ASSISTANT, parts: [{ content: { case: "text" as const, value: { text: "So." } } }] };
      expect(write({ ...asked, messages: [...go, ...answered("1"), said, ...go] }).json).toHaveProperty("thinking");
    });

    it("is the caller's own affair where it asks for none", () => {
      const written = write({ tools: asked.tools, messages: [...go, ...answered("1", thought)] });
      expect(typesOf(written)[1]).toEqual(["thinking", "tool_use"]);
    });
  });
});

describe("sampling", () => {
  it("leaves out what is the default where the model takes nothing else", () => {
    expect(write({ temperature: 1, topP: 1 }, { model: "claude-newest" }).json).not.toHaveProperty("temperature");
    expect(refusedField({ temperature: 1.5 }, "claude-newest")).toBe("PARAMETER_UNSUPPORTED temperature");
    expect(refusedField({ topP: 0.5 }, "claude-newest")).toBe("PARAMETER_UNSUPPORTED top_p");
  });

  it("sends one of temperature and top_p to models that take one", () => {
    expect(refusedField({ temperature: 0.5, topP: 0.5 })).toBe("PARAMETER_UNSUPPORTED top_p");
    expect(write({ temperature: 0.5, topP: 1 }).json).toMatchObject({ temperature: 0.5 });
    expect(write({ temperature: 1, topP: 0.5 }).json).toMatchObject({ top_p: 0.5 });
    expect(write({ temperature: 0.5, topP: 0.5 }, { model: "claude-3-5-haiku" }).json).toMatchObject({ temperature: 0.5, top_p: 0.5 });
  });
});

describe("what callers say is JSON", () => {
  it("is refused if it is none, since it becomes a part of the request", () => {
    const bad = '{}}],"model":"other","x":[{"a":{}';
    expect(refusedField({ tools: [{ name: "a", parametersJson: bad }] })).toBe("REQUEST_INVALID tools[0].parameters_json");
    expect(refusedField({ extras: [{ dialect: "anthropic", path: "speed", json: '1,"model":"other"' }] })).toBe("REQUEST_INVALID speed");
    expect(
      refusedField({
        messages: [
          { role: Role.USER, parts: [{ content: { case: "extra", value: { dialect: "anthropic", path: "content", json: bad } } }] },
        ],
      }),
    ).toBe("REQUEST_INVALID messages[0].parts[0]");
    const format = { format: { case: "jsonSchema" as const, value: { name: "n", schemaJson: "[]" } } };
    expect(refusedField({ responseFormat: format })).toBe("REQUEST_INVALID response_format.json_schema.schema");
  });

  it("cannot take the place of what is modelled", () => {
    const extras = ["model", "max_tokens", "messages", "stream", "system", "tools[0].name", "messages[0].role"].map((path) => ({
      dialect: "anthropic",
      path,
      json: '"x"',
    }));
    for (const extra of extras) {
      expect(refusedField({ tools: [{ name: "a", parametersJson: "{}" }], extras: [extra] })).toBe(`PARAMETER_UNSUPPORTED ${extra.path}`);
    }
    const { json } = write({ tools: [{ name: "a", parametersJson: "{}" }], extras }, { drop: true });
    expect(json).toMatchObject({ model: "claude-sonnet-4-5", max_tokens: 4096, tools: [{ name: "a" }] });
  });

  it("reports extras whose place is gone", () => {
    const extras = [{ dialect: "anthropic", path: "messages[7].parts[0].x", json: "1" }];
    expect(refusedField({ extras })).toBe("PARAMETER_UNSUPPORTED messages[7].parts[0].x");
    expect(write({ extras }, { drop: true }).warned).toEqual(["PARAMETER_DROPPED messages[7].parts[0].x"]);
  });
});

describe("the rest", () => {
  it("needs something to be said", () => {
    const instructions = [{ role: Role.SYSTEM, parts: [{ content: { case: "text" as const, value: { text: "x" } } }] }];
    expect(refusedField({ messages: instructions })).toBe("REQUEST_INVALID messages");
    expect(refusedField({ toolChoice: { choice: { case: "tool", value: "a" } } })).toBe("REQUEST_INVALID tool_choice");
  });

  it("takes four cache markers and no more", () => {
    const marked = { content: { case: "text" as const, value: { text: "x" } }, cache: {} };
    const messages = [{ role: Role.USER, parts: [marked, marked, marked, marked, marked] }];
    expect(refusedField({ messages })).toBe("PARAMETER_UNSUPPORTED messages[0].parts[4].cache");
    expect(write({ messages }, { drop: true }).json.messages[0].content[4]).toEqual({ type: "text", text: "x" });
  });

  it("gives JSON by a tool back as text, and ends as an answer does", () => {
    const format = { format: { case: "jsonSchema" as const, value: { name: "n", schemaJson: '{"type":"object"}' } } };
    const request = chatRequest({ responseFormat: format });
    const client = anthropicClient(options);
    const sent = JSON.parse(
      String(client.writeRequest({ request, native: undefined, model: "claude-3-5-haiku", streaming: true, dropUnsupported: false }).body),
    );
    expect(sent.tool_choice).toEqual({ type: "tool", name: "json", disable_parallel_tool_use: true });
    expect(sent.tools[0].input_schema).toEqual({ type: "object" });
  });
});
