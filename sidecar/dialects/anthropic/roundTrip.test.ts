/** Properties: what is read is written again as it was, what is written is read again as it was, and no input is a crash. */
import { create, equals, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import {
  Collector,
  endEvent,
  event,
  finishEvent,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import { ChatRequestSchema, FinishReason, Role, UsageSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type ChatEvent, ChatResponseSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { cutAtRandom, seededRandom } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { anthropicClient, anthropicServer } from "./anthropic.ts";

/** An endpoint whose models take everything, so that nothing is left out or changed. */
const client = anthropicClient({
  version: "2023-06-01",
  betas: [],
  defaultMaxTokens: 4096,
  models: [{ pattern: "*", thinking: "budget", jsonSchema: "output_config", sampling: true, samplingPair: true, maxOutputTokens: 0 }],
});

/** Text that is not blank: blank text is left out, which other tests are about. */
const words = fc
  .string({ unit: "binary", minLength: 1, maxLength: 12 })
  .map((text) => (text.trim() === "" ? `${text}.` : text).toWellFormed());
const name = fc.stringMatching(/^[a-zA-Z0-9_-]{1,12}$/);
/** Members that nobody knows, under any name. */
const unknown = fc.dictionary(
  fc.oneof(
    fc.constantFrom("x", "__proto__", "a.b", "a[0]", "constructor", "é", '"'),
    words.map((text) => `u${text}`),
  ),
  fc
    .jsonValue({ maxDepth: 2 })
    .filter((value) => value !== null)
    .map(withoutZeros),
  { maxKeys: 2 },
);
const cache = fc.option(fc.constantFrom({ type: "ephemeral" }, { type: "ephemeral", ttl: "1h" }), { nil: undefined, freq: 9 });
const object = fc.dictionary(name, fc.jsonValue({ maxDepth: 2 }).map(withoutZeros), { maxKeys: 3 });

/** -0 is written as 0 by JSON itself. */
function withoutZeros(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** An object without the members that are undefined, with members that nobody knows. */
function block(members: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<Record<string, unknown>> {
  return fc.tuple(fc.record(members), unknown).map(([known, more]) => {
    const both = Object.entries({ ...known }).filter(([, value]) => value !== undefined);
    const rest = Object.entries(more).filter(([key]) => !Object.hasOwn(known, key));
    return Object.fromEntries([...both, ...rest]);
  });
}

const textBlock = block({ type: fc.constant("text"), text: words, cache_control: cache });
const imageBlock = block({
  type: fc.constant("image"),
  source: fc.oneof(
    fc.record({ type: fc.constant("url"), url: fc.webUrl() }),
    fc.record({
      type: fc.constant("base64"),
      media_type: fc.constantFrom("image/png", "image/jpeg"),
      data: fc.uint8Array({ minLength: 1, maxLength: 9 }).map((bytes) => Buffer.from(bytes).toString("base64")),
    }),
  ),
  cache_control: cache,
});
const documentBlock = block({
  type: fc.constant("document"),
  source: fc.record({ type: fc.constant("text"), media_type: fc.constant("text/plain"), data: words }),
  title: fc.option(words, { nil: undefined }),
});
const thinkingBlock = block({ type: fc.constant("thinking"), thinking: fc.string(), signature: fc.base64String({ minLength: 4 }) });
const sealedBlock = block({ type: fc.constant("redacted_thinking"), data: fc.base64String({ minLength: 4 }) });
const serverBlock = block({ type: fc.constantFrom("server_tool_use", "web_search_tool_result", "unheard_of"), id: name });

/** Turns that alternate, with results in the order of their calls: the one form in which they are written here. */
const turns = fc
  .array(
    fc.record({
      said: fc.array(fc.oneof(textBlock, imageBlock, documentBlock), { minLength: 1, maxLength: 3 }),
      thought: fc.array(fc.oneof(thinkingBlock, sealedBlock), { maxLength: 2 }),
      answered: fc.array(fc.oneof(textBlock, serverBlock), { minLength: 1, maxLength: 2 }),
      calls: fc.array(fc.record({ name, input: object, isError: fc.boolean(), content: fc.array(textBlock, { maxLength: 2 }) }), {
        maxLength: 3,
      }),
      mood: unknown,
    }),
    { minLength: 1, maxLength: 3 },
  )
  .map((all) => {
    const messages: { role: string; content: Record<string, unknown>[] }[] = [];
    let results: Record<string, unknown>[] = [];
    for (const [at, { said, thought, answered, calls, mood }] of all.entries()) {
      messages.push({ ...mood, role: "user", content: [...results, ...said] });
      const uses = calls.map((call, index) => ({ type: "tool_use", id: `t${at}_${index}`, name: call.name, input: call.input }));
      results = calls.map(({ content, isError }, index) => ({
        type: "tool_result",
        tool_use_id: `t${at}_${index}`,
        ...(content.length > 0 ? { content } : {}),
        ...(isError ? { is_error: true } : {}),
      }));
      messages.push({ role: "assistant", content: [...thought, ...answered, ...uses] });
    }
    messages.push({ role: "user", content: [...results, { type: "text", text: "end" }] });
    return messages;
  });

const request = block({
  model: fc.constant("m"),
  max_tokens: fc.integer({ min: 1, max: 99_999 }),
  system: fc.option(fc.array(textBlock, { minLength: 1, maxLength: 2 }), { nil: undefined }),
  messages: turns,
  // There is always a tool, since this API refuses calls where there is none.
  tools: fc.array(
    fc.oneof(
      block({
        name,
        description: fc.option(words, { nil: undefined }),
        input_schema: object,
        strict: fc.option(fc.boolean(), { nil: undefined }),
      }),
      block({ type: fc.constantFrom("web_search_20250305", "bash_20250124"), name }),
    ),
    { minLength: 1, maxLength: 3 },
  ),
  tool_choice: fc.option(
    fc.oneof(
      block({ type: fc.constantFrom("auto", "any"), disable_parallel_tool_use: fc.boolean() }),
      fc.record({ type: fc.constant("none") }),
      fc.record({ type: fc.constant("tool"), name }),
    ),
    { nil: undefined },
  ),
  stop_sequences: fc.option(fc.array(words, { minLength: 1, maxLength: 2 }), { nil: undefined }),
  temperature: fc.option(
    fc.double({ min: 0, max: 1, noNaN: true }).map((n) => n + 0),
    { nil: undefined },
  ),
  top_k: fc.option(fc.nat(), { nil: undefined }),
  metadata: fc.option(block({ user_id: words }), { nil: undefined }),
  service_tier: fc.option(fc.constantFrom("auto", "standard_only"), { nil: undefined }),
}).filter(({ messages, system, tools }) => JSON.stringify([messages, system, tools]).split('"cache_control"').length <= 5);

/** A result that is one plain text is a string here. */
function normal(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_key, each) => {
    if (each?.type !== "tool_result" || !Array.isArray(each.content) || each.content.length !== 1) return each;
    const [only] = each.content;
    return only.type === "text" && Object.keys(only).length === 2 ? { ...each, content: only.text } : each;
  });
}

it("a request that was read is written as it was", () => {
  fc.assert(
    fc.property(request, fc.boolean(), (asked, streaming) => {
      const read = anthropicServer.readRequest(Buffer.from(JSON.stringify({ ...asked, stream: streaming })));
      const written = client.writeRequest({ ...read, native: undefined, model: "m", dropUnsupported: false });
      expect(normal(JSON.parse(String(written.body)))).toEqual(normal({ ...asked, ...(streaming ? { stream: true } : {}) }));
      expect(written.warnings).toEqual([]);
      // What was written means the same conversation, extras included.
      const again = anthropicServer.readRequest(Buffer.from(String(written.body)));
      expect(toJsonString(ChatRequestSchema, again.request)).toBe(toJsonString(ChatRequestSchema, sorted(read.request, again.request)));
    }),
    { numRuns: 300 },
  );
});

/** The order of members is no part of the meaning, and extras come in it. */
function sorted(request: Parameters<typeof toJsonString<typeof ChatRequestSchema>>[1], like: typeof request): typeof request {
  const order = new Map(like.extras.map(({ path }, at) => [path, at]));
  return { ...request, extras: request.extras.toSorted((a, b) => (order.get(a.path) ?? 0) - (order.get(b.path) ?? 0)) };
}

it("a conversation that was written is read as it was", () => {
  const part = fc.oneof(
    words.map((text) => ({ content: { case: "text" as const, value: { text } } })),
    fc.webUrl().map((url) => ({ content: { case: "image" as const, value: { source: { case: "url" as const, value: url } } } })),
  );
  const conversation = fc.record({
    asked: fc.array(part, { minLength: 1, maxLength: 3 }),
    answered: words,
    calls: fc.array(object, { maxLength: 2 }),
    temperature: fc.option(
      fc.double({ min: 0, max: 1, noNaN: true }).map((n) => n + 0),
      { nil: undefined },
    ),
    user: fc.oneof(fc.constant(""), words),
    stop: fc.array(words, { maxLength: 2 }),
    parallel: fc.option(fc.boolean(), { nil: undefined }),
  });
  fc.assert(
    fc.property(conversation, ({ asked, answered, calls, temperature, user, stop, parallel }) => {
      const original = create(ChatRequestSchema, {
        model: "m",
        maxOutputTokens: 100n,
        user,
        stop,
        ...(temperature === undefined ? {} : { temperature }),
        tools: [{ name: "t", parametersJson: "{}" }],
        toolChoice: { choice: { case: "mode", value: 1 } },
        ...(parallel === undefined ? {} : { parallelToolCalls: parallel }),
        messages: [
          { role: Role.USER, parts: asked },
          {
            role: Role.ASSISTANT,
            parts: [
              { content: { case: "text", value: { text: answered } } },
              ...calls.map((input, at) => ({
                content: { case: "toolCall" as const, value: { id: `c${at}`, name: "t", argumentsJson: JSON.stringify(input) } },
              })),
            ],
          },
          ...calls.map((_, at) => ({
            role: Role.TOOL,
            parts: [{ content: { case: "toolResult" as const, value: { toolCallId: `c${at}`, parts: asked } } }],
          })),
          { role: Role.USER, parts: asked },
        ],
      });
      const written = client.writeRequest({ request: original, native: undefined, model: "m", streaming: false, dropUnsupported: false });
      const { request } = anthropicServer.readRequest(Buffer.from(String(written.body)));
      expect(toJsonString(ChatRequestSchema, request)).toBe(toJsonString(ChatRequestSchema, original));
      expect(equals(ChatRequestSchema, request, original)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

/** Events of one block each, in the order in which a provider would send them. */
const blockEvents = fc.array(
  fc.oneof(
    fc.array(words, { minLength: 1, maxLength: 3 }).map((texts) => ({ kind: "text" as const, texts })),
    fc.record({
      kind: fc.constant("reasoning" as const),
      texts: fc.array(words, { maxLength: 2 }),
      seal: fc.base64String({ minLength: 4 }),
    }),
    fc.record({ kind: fc.constant("redacted" as const), seal: fc.base64String({ minLength: 4 }) }),
    fc.record({ kind: fc.constant("tool" as const), name, input: object.map((value) => JSON.stringify(value)), cut: fc.nat(20) }),
    fc.record({ kind: fc.constant("extra" as const), id: name }),
  ),
  { maxLength: 6 },
);

const answer = fc
  .record({
    blocks: blockEvents,
    counts: fc.record({ input: fc.nat(999), cached: fc.nat(999), written: fc.nat(999), output: fc.nat(999) }),
    reason: fc.constantFrom(FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS, FinishReason.CONTENT_FILTER),
  })
  .map(({ blocks, counts, reason }) => {
    const events: ChatEvent[] = [startEvent("msg_1", "m", 0, "main", "there")];
    let thoughts = 0;
    let calls = 0;
    for (const block of blocks) {
      if (block.kind === "text") events.push(...block.texts.map((text) => textEvent(0, text)));
      else if (block.kind === "redacted") events.push(reasoningEvent(0, thoughts++, "", { redacted: block.seal, dialect: "anthropic" }));
      else if (block.kind === "reasoning") {
        const at = thoughts++;
        events.push(...block.texts.map((text) => reasoningEvent(0, at, text)));
        events.push(reasoningEvent(0, at, "", { signature: block.seal, dialect: "anthropic" }));
      } else if (block.kind === "tool") {
        events.push(toolCallEvent(0, calls, `t${calls}`, block.name, ""));
        for (const piece of [block.input.slice(0, block.cut), block.input.slice(block.cut)])
          events.push(toolCallEvent(0, calls, "", "", piece));
        calls++;
      } else {
        const json = JSON.stringify({ type: "unheard_of", id: block.id });
        const extra = { $typeName: "outrigger.chat.v1.Extra" as const, dialect: "anthropic", path: "content", json };
        events.push(event("extra", { $typeName: "outrigger.chat.v1.ExtraEvent", choice: 0, extra }));
      }
    }
    const usage = create(UsageSchema, {
      inputTokens: BigInt(counts.input + counts.cached + counts.written),
      cachedInputTokens: BigInt(counts.cached),
      cacheWriteTokens: BigInt(counts.written),
      outputTokens: BigInt(counts.output),
    });
    events.push(usageEvent(usage), finishEvent(0, reason, ""), endEvent());
    return events;
  });

it("an answer that was written is read as it was, whole or streamed, whatever the cuts", () => {
  fc.assert(
    fc.property(answer, fc.boolean(), fc.nat(), fc.nat(), (events, streaming, seed, split) => {
      const collector = new Collector();
      collector.add(events);
      const at = split % events.length;
      const written = writeBatches(anthropicServer, [events.slice(0, at), events.slice(at)], { streaming });
      const read = readPieces(client, cutAtRandom(Buffer.from(written), seed % 20, seededRandom(seed)), { streaming });
      expect(read.failure).toBeUndefined();
      const { response } = read;
      for (const choice of response.choices) choice.nativeFinishReason = "";
      if (response.usage !== undefined) response.usage.nativeJson = "";
      expect(toJsonString(ChatResponseSchema, response)).toBe(toJsonString(ChatResponseSchema, collector.response));
    }),
    { numRuns: 300 },
  );
});

it("a request of any form is read or refused", () => {
  const near = fc.dictionary(
    fc.constantFrom("model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "stream"),
    fc.oneof(
      fc.jsonValue(),
      fc.array(
        fc.dictionary(fc.constantFrom("type", "role", "content", "text", "source", "name", "input_schema", "input", "id"), fc.jsonValue()),
      ),
    ),
  );
  fc.assert(
    fc.property(fc.oneof(near, fc.jsonValue()), (body) => {
      try {
        anthropicServer.readRequest(Buffer.from(JSON.stringify(body)));
      } catch (caught) {
        expect(caught).toBeInstanceOf(Fault);
        expect((caught as Fault).kind.name).toBe("REQUEST_INVALID");
      }
    }),
    { numRuns: 500 },
  );
});

it("an answer of any form is read or fails, and only a whole one is complete", () => {
  const frame = fc
    .tuple(
      fc.constantFrom(
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
        "x",
      ),
      fc.dictionary(
        fc.constantFrom("index", "message", "content_block", "delta", "usage", "error"),
        fc.oneof(
          fc.jsonValue({ maxDepth: 2 }),
          fc.dictionary(
            fc.constantFrom(
              "type",
              "text",
              "id",
              "name",
              "input",
              "usage",
              "stop_reason",
              "partial_json",
              "thinking",
              "signature",
              "citation",
            ),
            fc.oneof(fc.jsonValue({ maxDepth: 1 }), fc.constantFrom("text", "tool_use", "thinking", "text_delta", "input_json_delta")),
          ),
        ),
      ),
    )
    .map(([type, members]) => `data: ${JSON.stringify({ type, ...members })}\n\n`);
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 12 }), fc.boolean(), (frames, streaming) => {
      const { complete, failure, batches } = readPieces(client, frames, { streaming });
      expect(complete).toBe(failure === undefined);
      if (complete) expect(frames.join("")).toContain('"message_stop"');
      expect(batches.flat().filter(({ event: { case: kind } }) => kind === "start").length).toBeLessThanOrEqual(1);
    }),
    { numRuns: 500 },
  );
});
