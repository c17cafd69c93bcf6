import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import OpenAI, { APIConnectionError, BadRequestError, InternalServerError, NotFoundError, RateLimitError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DemoClock, type DemoProvider, startDemoProvider } from "./server.ts";
import { countTokens } from "./tokens.ts";

/** A clock that stands still until it is told to go on. */
class HandClock implements DemoClock {
  readonly delays: number[] = [];
  #waiting: (() => void)[] = [];
  #told: (() => void) | undefined;

  wallMs(): number {
    return 1_800_000_000_000;
  }

  after(delayMs: number, then: () => void): () => void {
    this.delays.push(delayMs);
    this.#waiting.push(then);
    this.#told?.();
    return () => {
      this.#waiting = this.#waiting.filter((one) => one !== then);
    };
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Lets the next timer run out, as soon as there is one. */
  async next(): Promise<void> {
    if (this.#waiting.length === 0) {
      await new Promise<void>((told) => {
        this.#told = told;
      });
    }
    this.#told = undefined;
    this.#waiting.shift()?.();
  }
}

const clock = new HandClock();
let demo: DemoProvider;
let openai: OpenAI;

beforeAll(async () => {
  demo = await startDemoProvider({ host: "127.0.0.1", port: 0, seed: "test", clock });
  openai = new OpenAI({ baseURL: demo.endpoint, apiKey: "none", maxRetries: 0 });
});
afterAll(() => demo.close());

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Tells the weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  },
} as const;

function ask(model: string, content: string, more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) {
  return openai.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });
}

async function whole(model: string, content: string, more: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}) {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  const stream = await openai.chat.completions.create({ model, messages: [{ role: "user", content }], ...more, stream: true });
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe("through the official client", () => {
  test("answers what was asked, and the same again", async () => {
    const first = await ask("demo", "What is a tide?");
    expect(first.choices[0]?.message.content).toMatch(/tide/);
    expect(first.choices[0]?.finish_reason).toBe("stop");
    expect(await ask("demo", "What is a tide?")).toEqual(first);
    const other = await ask("demo", "What is a tide?", { seed: 7 });
    expect(other.choices[0]?.message.content).not.toBe(first.choices[0]?.message.content);
  });

  test("streams the words of the unary answer", async () => {
    const chunks = await whole("demo", "What is a tide?", { stream_options: { include_usage: true } });
    const unary = await ask("demo", "What is a tide?");
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(unary.choices[0]?.message.content);
    expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: unary.usage });
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
    expect((await whole("demo", "What is a tide?")).every((chunk) => chunk.usage === undefined)).toBe(true);
  });

  test("usage is what its tokenizer counts", async () => {
    const answer = await ask("demo", "What is a tide?");
    expect(answer.usage?.prompt_tokens).toBe(4 + countTokens("What is a tide?"));
    expect(answer.usage?.completion_tokens).toBe(countTokens(answer.choices[0]?.message.content ?? ""));
    expect(answer.usage?.total_tokens).toBe((answer.usage?.prompt_tokens ?? 0) + (answer.usage?.completion_tokens ?? 0));
  });

  test("a prompt that begins like an earlier one is counted as cached", async () => {
    const system = { role: "system" as const, content: `Long instructions: ${"keep it short and plain. ".repeat(60)}` };
    const send = (content: string) => openai.chat.completions.create({ model: "demo", messages: [system, { role: "user", content }] });
    expect((await send("One?")).usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect((await send("Two?")).usage?.prompt_tokens_details?.cached_tokens).toBe(4 + countTokens(system.content));
  });

  test("ends at the limit on tokens and at a stop text", async () => {
    const cut = await ask("demo", "Write 80 words about rope.", { max_tokens: 10 });
    expect(cut.choices[0]?.finish_reason).toBe("length");
    expect(cut.usage?.completion_tokens).toBe(10);
    const full = (await ask("demo", "Write 80 words about rope.")).choices[0]?.message.content ?? "";
    const stopped = await ask("demo", "Write 80 words about rope.", { stop: [".", "never"] });
    expect(stopped.choices[0]).toMatchObject({ finish_reason: "stop", message: { content: full.slice(0, full.indexOf(".")) } });
  });

  test("gives several answers at once, which differ", async () => {
    const answer = await ask("demo", "Write 40 words about rope.", { n: 3 });
    expect(new Set(answer.choices.map((choice) => choice.message.content)).size).toBe(3);
    const chunks = await whole("demo", "Write 40 words about rope.", { n: 3 });
    const texts = [0, 1, 2].map((index) =>
      chunks
        .flatMap((chunk) => chunk.choices.filter((choice) => choice.index === index))
        .map((choice) => choice.delta.content ?? "")
        .join(""),
    );
    expect(texts).toEqual(answer.choices.map((choice) => choice.message.content));
  });

  test("calls a tool that fits the prompt, and answers from what it returned", async () => {
    const question = { role: "user" as const, content: "What is the weather in Paris and Oslo?" };
    const called = await openai.chat.completions.create({ model: "demo", messages: [question], tools: [weather] });
    const message = called.choices[0]?.message;
    expect(called.choices[0]?.finish_reason).toBe("tool_calls");
    expect(message?.content).toBeNull();
    const calls = message?.tool_calls?.filter((call) => call.type === "function") ?? [];
    expect(calls.map((call) => JSON.parse(call.function.arguments))).toEqual([{ city: "Paris" }, { city: "Oslo" }]);
    const results = calls.map((call, at) => ({ role: "tool" as const, tool_call_id: call.id, content: `${20 - at} degrees` }));
    const answer = await openai.chat.completions.create({
      model: "demo",
      messages: [question, { role: "assistant", content: null, tool_calls: calls }, ...results],
      tools: [weather],
    });
    expect(answer.choices[0]?.message.content).toMatch(/get_weather says: 20 degrees\. get_weather says: 19 degrees\./);
  });

  test("one call where parallel calls are off, none where no tool fits or may be called, and always where it must", async () => {
    const names = async (model: string, content: string, more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>) =>
      (await ask(model, content, { tools: [weather], ...more })).choices[0]?.message.tool_calls?.length ?? 0;
    expect(await names("demo", "What is the weather in Paris and Oslo?", { parallel_tool_calls: false })).toBe(1);
    expect(await names("demo", "Tell me a joke", {})).toBe(0);
    expect(await names("demo", "What is the weather in Paris?", { tool_choice: "none" })).toBe(0);
    expect(await names("demo", "Tell me a joke", { tool_choice: "required" })).toBe(1);
    expect(await names("demo", "Tell me a joke", { tool_choice: { type: "function", function: { name: "get_weather" } } })).toBe(1);
    expect(await names("demo:tools", "Tell me a joke", {})).toBe(1);
  });

  test("streams tool calls in pieces that join to the unary arguments", async () => {
    const chunks = await whole("demo", "What is the weather in Paris and Oslo?", { tools: [weather] });
    const calls: { id: string; name: string; text: string }[] = [];
    for (const delta of chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? [])) {
      if (delta.id !== undefined) calls[delta.index] = { id: delta.id, name: delta.function?.name ?? "", text: "" };
      const call = calls[delta.index];
      if (call !== undefined) call.text += delta.function?.arguments ?? "";
    }
    const unary = (await ask("demo", "What is the weather in Paris and Oslo?", { tools: [weather] })).choices[0]?.message.tool_calls ?? [];
    expect(calls).toEqual(
      unary.flatMap((call) => (call.type === "function" ? [{ id: call.id, name: call.function.name, text: call.function.arguments }] : [])),
    );
  });

  test("the deprecated functions are answered in their own form", async () => {
    const answer = await ask("demo", "What is the weather in Paris?", { functions: [weather.function] });
    expect(answer.choices[0]).toMatchObject({
      finish_reason: "function_call",
      message: { function_call: { name: "get_weather", arguments: '{"city":"Paris"}' } },
    });
  });

  test("fills a schema", async () => {
    const answer = await ask("demo", "Ada Lovelace is 36", {
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "person",
          strict: true,
          schema: {
            type: "object",
            properties: { name: { type: "string" }, age: { type: "integer" } },
            required: ["name", "age"],
            additionalProperties: false,
          },
        },
      },
    });
    expect(JSON.parse(answer.choices[0]?.message.content ?? "")).toEqual({ name: "Ada Lovelace", age: 36 });
    const object = await ask("demo", "What is a tide? Answer in JSON.", { response_format: { type: "json_object" } });
    expect(JSON.parse(object.choices[0]?.message.content ?? "")).toMatchObject({ topics: expect.arrayContaining(["tide"]) });
  });

  test("thinks when asked to, and counts it", async () => {
    const thought = await ask("demo", "What is a tide?", { reasoning_effort: "high" });
    const reasoning = (thought.choices[0]?.message as { reasoning_content?: string } | undefined)?.reasoning_content ?? "";
    expect(reasoning).toMatch(/tide/);
    expect(thought.usage?.completion_tokens_details?.reasoning_tokens).toBe(countTokens(reasoning));
    const streamed = await whole("demo:reasoning", "What is a tide?");
    const kinds = streamed
      .map((chunk) => Object.keys(chunk.choices[0]?.delta ?? {})[0])
      .filter((kind) => kind !== "role" && kind !== undefined);
    expect(kinds.lastIndexOf("reasoning_content")).toBe(kinds.indexOf("content") - 1);
    expect((await ask("demo:reasoning", "What is a tide?", { reasoning_effort: "none" })).choices[0]?.message).not.toHaveProperty(
      "reasoning_content",
    );
    const eaten = await ask("demo:reasoning", "What is a tide?", { max_completion_tokens: 3 });
    expect(eaten.choices[0]).toMatchObject({ finish_reason: "length", message: { content: "" } });
  });

  test("declines in the form of a refusal", async () => {
    const answer = await ask("demo:refusal", "What is a tide?");
    expect(answer.choices[0]).toMatchObject({
      finish_reason: "stop",
      message: { content: null, refusal: expect.stringMatching(/declines/) },
    });
    const chunks = await whole("demo:refusal", "What is a tide?");
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.refusal ?? "").join("")).toBe(answer.choices[0]?.message.refusal);
  });

  test("acknowledges pictures", async () => {
    const answer = await openai.chat.completions.create({
      model: "demo",
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "What is this?" },
            { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
          ],
        },
      ],
    });
    expect(answer.choices[0]?.message.content).toMatch(/an image \(image\/png, 3 bytes\)/);
  });

  test("shows probabilities for every token", async () => {
    const answer = await ask("demo", "What is a tide?", { logprobs: true, top_logprobs: 2 });
    const content = answer.choices[0]?.logprobs?.content ?? [];
    expect(content.map((one) => one.token).join("")).toBe(answer.choices[0]?.message.content);
    expect(content.every((one) => one.logprob <= 0 && one.top_logprobs.length === 2)).toBe(true);
  });

  test("adds up, and repeats what it is told to", async () => {
    expect((await ask("demo", "What is 12 * 7?")).choices[0]?.message.content).toBe("12 * 7 = 84.");
    expect((await ask("demo", "Reply with exactly: all good")).choices[0]?.message.content).toBe("all good");
  });

  test("lists its models, and finds one by its name with settings", async () => {
    const names = (await openai.models.list()).data.map((model) => model.id);
    expect(names).toContain("demo:flaky");
    expect((await openai.models.retrieve("demo:slow?gap=1")).id).toBe("demo:slow?gap=1");
    await expect(openai.models.retrieve("gpt-5")).rejects.toThrow(NotFoundError);
  });

  test("refusals are the client's own error classes", async () => {
    await expect(ask("demo", "x", { temperature: 9 })).rejects.toThrow(BadRequestError);
    await expect(ask("gpt-5", "x")).rejects.toThrow(NotFoundError);
    await expect(ask("demo?context=3", "This is too long.")).rejects.toMatchObject({ code: "context_length_exceeded", status: 400 });
    const contradictory = {
      type: "json_schema" as const,
      json_schema: { name: "x", schema: { allOf: [{ type: "string" }, { type: "null" }] } },
    };
    await expect(ask("demo", "x", { response_format: contradictory })).rejects.toMatchObject({ code: "invalid_json_schema", status: 400 });
  });
});

describe("trouble by the model's name", () => {
  test("429 says when to come back", async () => {
    const error = await ask("demo:429?retry=1500", "x").catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({ code: "rate_limit_exceeded" });
    const headers = (error as RateLimitError).headers;
    expect([headers?.get("retry-after"), headers?.get("retry-after-ms")]).toEqual(["2", "1500"]);
  });

  test("500 fails", () => expect(ask("demo:500", "x")).rejects.toThrow(InternalServerError));

  test("a cut stream ends without its end, a cut body before its length", async () => {
    const texts: string[] = [];
    const stream = await openai.chat.completions.create({
      model: "demo:cut?after=5",
      messages: [{ role: "user", content: "What is a tide?" }],
      stream: true,
    });
    const read = async () => {
      for await (const chunk of stream) texts.push(chunk.choices[0]?.delta.content ?? "");
    };
    await expect(read()).rejects.toThrow();
    expect(texts.filter((text) => text !== "")).toHaveLength(5);
    await expect(ask("demo:cut", "What is a tide?")).rejects.toThrow();
  });

  test("timeout says nothing at all, or goes silent on the way", async () => {
    const silent = openai.chat.completions.create({ model: "demo:timeout", messages: [{ role: "user", content: "x" }] }, { timeout: 50 });
    await expect(silent).rejects.toThrow(APIConnectionError);
    const texts: string[] = [];
    const controller = new AbortController();
    const stream = await openai.chat.completions.create(
      { model: "demo:timeout?after=3", messages: [{ role: "user", content: "What is a tide?" }], stream: true },
      { signal: controller.signal },
    );
    for await (const chunk of stream) {
      texts.push(chunk.choices[0]?.delta.content ?? "");
      if (texts.filter((text) => text !== "").length === 3) setImmediate(() => controller.abort());
    }
    expect(texts.filter((text) => text !== "")).toHaveLength(3);
  });

  test("flaky fails for its share of requests, in an order that a seed decides", async () => {
    const outcomes = async () => {
      const one = await startDemoProvider({ host: "127.0.0.1", port: 0, seed: "luck", clock });
      const client = new OpenAI({ baseURL: one.endpoint, apiKey: "none", maxRetries: 0 });
      const seen: string[] = [];
      for (let at = 0; at < 40; at += 1) {
        await client.chat.completions.create({ model: "demo:flaky", messages: [{ role: "user", content: "x" }] }).then(
          () => seen.push("answer"),
          (error: unknown) => seen.push(error instanceof InternalServerError ? "500" : "cut"),
        );
      }
      await one.close();
      return seen;
    };
    const first = await outcomes();
    expect(new Set(first)).toEqual(new Set(["answer", "500", "cut"]));
    expect(first.filter((one) => one !== "answer").length).toBeGreaterThan(4);
    expect(await outcomes()).toEqual(first);
  });

  test("slow waits before the first token and between tokens", async () => {
    clock.delays.length = 0;
    const stream = await Promise.all([
      openai.chat.completions.create({
        model: "demo:slow?ttft=700&gap=40",
        messages: [{ role: "user", content: "What is 1+1?" }],
        stream: true,
      }),
      clock.next(),
    ]).then(([opened]) => opened);
    const texts: string[] = [];
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta.content;
      if (text === undefined || text === "" || text === null) continue;
      texts.push(text);
      await clock.next();
    }
    expect(clock.delays).toEqual([700, ...texts.map(() => 40)]);
    expect(texts.length).toBeGreaterThan(3);
  });

  test("a caller that leaves takes the timers with it", async () => {
    const stream = await Promise.all([
      openai.chat.completions.create({ model: "demo:slow", messages: [{ role: "user", content: "What is a tide?" }], stream: true }),
      clock.next(),
    ]).then(([opened]) => opened);
    for await (const _ of stream) break;
    await until(() => clock.waiting === 0);
  });
});

describe("long answers", () => {
  const body = JSON.stringify({ model: "demo:long?bytes=3000000", messages: [{ role: "user", content: "x" }], stream: true });

  function post(): Promise<IncomingMessage> {
    const request = httpRequest(`${demo.endpoint}/chat/completions`, { method: "POST", headers: { "content-type": "application/json" } });
    request.end(body);
    return once(request, "response").then(([response]) => response);
  }

  test("have the size that the name asks for", async () => {
    let text = "";
    for (const chunk of await whole("demo:long?bytes=3000000", "x")) text += chunk.choices[0]?.delta.content ?? "";
    expect(text.length).toBeGreaterThanOrEqual(3_000_000);
    expect(text.length).toBeLessThan(3_010_000);
    const unary = await ask("demo:long?bytes=3000000", "x");
    expect(unary.choices[0]?.message.content).toBe(text);
    expect(unary.usage?.completion_tokens).toBe(countTokens(text));
  });

  test("can be limited and stopped like short ones", async () => {
    const cut = await ask("demo:long", "x", { max_tokens: 5_000 });
    expect(cut.usage?.completion_tokens).toBe(5_000);
    const stopped = await ask("demo:long", "x", { stop: "\n" });
    expect(stopped.choices[0]?.message.content).not.toContain("\n");
  });

  test("wait for a caller that reads slowly", async () => {
    const slow = await post();
    // Nothing is read. Somebody else's long answer passes meanwhile, and this one still comes whole afterwards.
    const other = await post();
    const drain = async (response: IncomingMessage) => {
      let bytes = 0;
      let tail = "";
      for await (const piece of response) {
        bytes += piece.length;
        tail = (tail + piece.toString()).slice(-20);
      }
      return { bytes, tail };
    };
    const quick = await drain(other);
    expect(quick.tail).toMatch(/\[DONE\]\n\n$/);
    expect(await drain(slow)).toEqual(quick);
  });
});

describe("plain HTTP", () => {
  test.each([
    ["GET", "/v1/chat/completions", 405],
    ["POST", "/v1/models", 405],
    ["GET", "/", 404],
    ["POST", "/v1/images", 404],
    ["GET", "/v1/models/%zz", 404],
  ])("%s %s is refused with %i, in OpenAI's form", async (method, path, status) => {
    const response = await fetch(new URL(path, demo.endpoint), { method });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", message: expect.any(String) } });
  });

  test("a body that is not declared as JSON is refused", async () => {
    const response = await fetch(`${demo.endpoint}/chat/completions`, { method: "POST", body: "model=demo" });
    expect(response.status).toBe(415);
  });
});

/** Looks at something again after each turn of the event loop, until it holds. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((turn) => setImmediate(turn));
}
