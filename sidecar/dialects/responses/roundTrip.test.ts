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
  refusalEvent,
  startEvent,
  textEvent,
  toolCallEvent,
  usageEvent,
} from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import { ChatRequestSchema, FinishReason, UsageSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type ChatEvent, ChatResponseSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { foldResponsesEvents } from "../../../test/kit/meaning.ts";
import { cutAtRandom, seededRandom } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { responsesClient, responsesServer } from "./responses.ts";

const client = responsesClient({ models: [] });

const words = fc.string({ unit: "binary", minLength: 1, maxLength: 12 }).map((text) => text.toWellFormed());
const name = fc.stringMatching(/^[a-zA-Z0-9_-]{1,12}$/);

/** -0 is written as 0 by JSON itself. */
function withoutZeros(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Members that nobody knows, under any name. */
const unknown = fc.dictionary(
  fc.oneof(
    fc.constantFrom("x", "__proto__", "a.b", "a[0]", "constructor", "é", '"', "item.x"),
    words.map((text) => `u${text}`),
  ),
  fc
    .jsonValue({ maxDepth: 2 })
    .filter((value) => value !== null)
    .map(withoutZeros),
  { maxKeys: 2 },
);
const object = fc.dictionary(name, fc.jsonValue({ maxDepth: 2 }).map(withoutZeros), { maxKeys: 3 });

/** An object without the members that are undefined, with members that nobody knows. */
function withUnknown(members: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<Record<string, unknown>> {
  return fc.tuple(fc.record(members), unknown).map(([known, more]) => {
    const both = Object.entries({ ...known }).filter(([, value]) => value !== undefined);
    return Object.fromEntries([...both, ...Object.entries(more).filter(([key]) => !Object.hasOwn(known, key))]);
  });
}

const optional = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined });
const bytes = fc.uint8Array({ minLength: 1, maxLength: 9 }).map((data) => Buffer.from(data).toString("base64"));
const inputPart = fc.oneof(
  withUnknown({ type: fc.constant("input_text"), text: fc.string() }),
  withUnknown({
    type: fc.constant("input_image"),
    image_url: fc.oneof(
      fc.webUrl(),
      bytes.map((data) => `data:image/png;base64,${data}`),
    ),
    detail: optional(fc.constantFrom("low", "high", "auto")),
  }),
  withUnknown({ type: fc.constant("input_image"), file_id: name }),
  withUnknown({
    type: fc.constant("input_file"),
    file_data: bytes.map((data) => `data:application/pdf;base64,${data}`),
    filename: optional(words),
  }),
  withUnknown({ type: fc.constant("input_file"), file_url: fc.webUrl() }),
  withUnknown({ type: fc.constant("unheard_of"), text: words }),
);
const outputPart = fc.oneof(
  withUnknown({ type: fc.constant("output_text"), text: words }),
  withUnknown({ type: fc.constant("refusal"), refusal: words }),
);
/** Several parts, so that they are no single text, which is written as such. */
const content = fc.array(inputPart, { minLength: 2, maxLength: 3 });
const said = fc.oneof(
  withUnknown({ role: fc.constantFrom("user", "developer"), content }),
  fc.record({ role: fc.constantFrom("user", "system", "developer"), content: fc.string() }),
);

/** What the model said in one turn: thinking is followed by what came of it, and words of one message are not followed by another. */
const turn = fc
  .array(
    fc.record({
      thought: optional(
        withUnknown({
          type: fc.constant("reasoning"),
          summary: fc.array(fc.record({ type: fc.constant("summary_text"), text: words }), { maxLength: 1 }),
          encrypted_content: fc.base64String({ minLength: 4 }),
        }),
      ),
      words: optional(withUnknown({ role: fc.constant("assistant"), content: fc.array(outputPart, { minLength: 1, maxLength: 2 }) })),
      other: fc.oneof(
        withUnknown({
          type: fc.constant("function_call"),
          call_id: name,
          name,
          arguments: object.map((value) => JSON.stringify(value, null, 1)),
        }),
        withUnknown({ type: fc.constantFrom("custom_tool_call", "web_search_call"), id: name, input: words }),
      ),
    }),
    { minLength: 1, maxLength: 2 },
  )
  .map((steps) => steps.flatMap(({ thought, words, other }) => [thought, words, other].filter((item) => item !== undefined)));
const returned = fc.oneof(
  withUnknown({ type: fc.constant("function_call_output"), call_id: name, output: fc.oneof(fc.string(), content) }),
  withUnknown({ type: fc.constant("custom_tool_call_output"), call_id: name, output: words }),
);
const items = fc
  .array(fc.tuple(said, turn, fc.array(returned, { maxLength: 2 })), { minLength: 1, maxLength: 2 })
  .map((turns) => turns.flatMap(([before, between, after]) => [before, ...between, ...after]));

const request = withUnknown({
  model: fc.constant("m"),
  instructions: words,
  input: items,
  tools: optional(
    fc.array(
      fc.oneof(
        withUnknown({ type: fc.constant("function"), name, description: optional(words), parameters: object, strict: fc.boolean() }),
        withUnknown({ type: fc.constantFrom("custom", "local_shell"), name }),
      ),
      { minLength: 1, maxLength: 3 },
    ),
  ),
  tool_choice: optional(
    fc.oneof(
      fc.constantFrom("auto", "none", "required"),
      fc.record({ type: fc.constant("function"), name }),
      fc.record({ type: fc.constant("custom"), name }),
    ),
  ),
  text: optional(
    withUnknown({
      format: optional(
        fc.oneof(
          withUnknown({ type: fc.constant("json_object") }),
          withUnknown({ type: fc.constant("json_schema"), name, schema: object, strict: optional(fc.boolean()) }),
        ),
      ),
      verbosity: optional(fc.constantFrom("low", "high")),
    }),
  ),
  reasoning: optional(withUnknown({ effort: fc.constantFrom("none", "low", "high"), summary: optional(fc.constant("auto")) })),
  max_output_tokens: optional(fc.integer({ min: 16, max: 99_999 })),
  temperature: optional(fc.constantFrom(0, 0.5, 2)),
  top_p: optional(fc.constantFrom(0, 1)),
  user: optional(words),
  service_tier: optional(fc.constantFrom("auto", "flex")),
  metadata: optional(fc.dictionary(name, words, { maxKeys: 2 })),
  stream: optional(fc.constant(true)),
}).map((asked) => ({ ...asked, include: ["reasoning.encrypted_content"], store: false }));

it("what a request says is written again, whatever its members are called", () => {
  fc.assert(
    fc.property(request, (asked) => {
      const read = responsesServer.readRequest(Buffer.from(JSON.stringify(asked)));
      expect(validateChat(read.request, "chat")).toEqual([]);
      const written = client.writeRequest({ ...read, native: undefined, model: "m", dropUnsupported: false });
      expect(written.warnings).toEqual([]);
      expect(plain(JSON.parse(String(written.body)))).toEqual(plain(asked));
      // And what was written is the same request.
      const again = responsesServer.readRequest(Buffer.from(String(written.body)));
      expect(sorted(toJsonString(ChatRequestSchema, again.request))).toEqual(sorted(toJsonString(ChatRequestSchema, read.request)));
    }),
  );
});

/** Without what means the same as its absence: no members, and the order of tools among those of their kind. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, member) => {
      const isEmpty = typeof member === "object" && member !== null && Object.keys(member).length === 0;
      return isEmpty && (key === "text" || key === "reasoning") ? undefined : member;
    }),
  );
}

/** Extras stand in the order in which they were found. */
function sorted(json: string): unknown {
  const request = JSON.parse(json);
  request.extras?.sort((a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1));
  return request;
}

it("a request sent as it came keeps every byte but those of three members", () => {
  fc.assert(
    fc.property(request, (asked) => {
      const text = JSON.stringify(asked, null, 1);
      const read = responsesServer.readRequest(Buffer.from(text));
      const written = client.writeRequest({ ...read, model: "m", dropUnsupported: false });
      expect(String(written.body)).toBe(text);
    }),
  );
});

it("schemas and arguments keep every byte", () => {
  fc.assert(
    fc.property(object, object, fc.nat(3), (schema, args, indent) => {
      const [parameters, written] = [JSON.stringify(schema, null, indent), JSON.stringify(args, null, indent)];
      const text = `{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f","arguments":${JSON.stringify(written)}}],"tools":[{"type":"function","name":"f","parameters":${parameters}}],"text":{"format":{"type":"json_schema","name":"n","schema":${parameters}}}}`;
      const read = responsesServer.readRequest(Buffer.from(text));
      const body = String(client.writeRequest({ ...read, native: undefined, model: "m", dropUnsupported: false }).body);
      expect(body.split(parameters).length).toBeGreaterThanOrEqual(3);
      expect(body).toContain(`"arguments":${JSON.stringify(written)}`);
    }),
  );
});

/** Pieces of an answer with thinking, words and calls, their order as models have it. */
const answer = fc
  .array(
    fc.oneof(
      words.map((text) => ({ kind: "text" as const, text })),
      words.map((text) => ({ kind: "refusal" as const, text })),
      fc.record({
        kind: fc.constant("thought" as const),
        text: fc.string(),
        signature: fc.base64String({ minLength: 4 }),
        redacted: fc.base64String(),
      }),
      fc.record({ kind: fc.constant("call" as const), name, args: object.map((value) => JSON.stringify(value)) }),
    ),
    { maxLength: 6 },
  )
  .map((parts) => {
    const events: ChatEvent[] = [];
    let calls = 0;
    let thoughts = 0;
    for (const part of parts) {
      if (part.kind === "text") events.push(textEvent(0, part.text));
      else if (part.kind === "refusal") events.push(refusalEvent(0, part.text));
      else if (part.kind === "thought") {
        const block = thoughts++;
        if (part.text !== "") events.push(reasoningEvent(0, block, part.text, { dialect: "elsewhere" }));
        events.push(reasoningEvent(0, block, "", { signature: part.signature, redacted: part.redacted, dialect: "elsewhere" }));
      } else {
        const index = calls++;
        const middle = part.args.length >> 1;
        events.push(toolCallEvent(0, index, `call_${index}`, part.name, part.args.slice(0, middle)));
        events.push(toolCallEvent(0, index, "", "", part.args.slice(middle)));
      }
    }
    return { events, calls };
  });
const usage = fc
  .record({ input: optional(fc.nat()), output: optional(fc.nat()), cached: optional(fc.nat()), reasoning: optional(fc.nat()) })
  .map(({ input, output, cached, reasoning }) =>
    create(UsageSchema, {
      ...(input === undefined ? {} : { inputTokens: BigInt(input) }),
      ...(output === undefined ? {} : { outputTokens: BigInt(output) }),
      ...(input === undefined || output === undefined ? {} : { totalTokens: BigInt(input + output) }),
      ...(cached === undefined ? {} : { cachedInputTokens: BigInt(cached) }),
      ...(reasoning === undefined ? {} : { reasoningTokens: BigInt(reasoning) }),
    }),
  );

it("an answer that is written is read again as it was, streamed or whole, however it is cut", () => {
  fc.assert(
    fc.property(
      answer,
      usage,
      fc.constantFrom("stop", "length", "filter"),
      fc.boolean(),
      fc.nat(),
      (said, counted, end, streaming, seed) => {
        const stopped = said.calls > 0 ? FinishReason.TOOL_CALLS : FinishReason.STOP;
        const reason = { stop: stopped, length: FinishReason.LENGTH, filter: FinishReason.CONTENT_FILTER }[end];
        const nativeReason = { stop: "completed", length: "max_output_tokens", filter: "content_filter" }[end];
        const events = [
          startEvent("resp_1", "m", 17, "main", "there"),
          ...said.events,
          usageEvent(counted),
          finishEvent(0, reason, nativeReason),
          endEvent(),
        ];
        const random = seededRandom(seed);
        const text = writeBatches(responsesServer, chunksOf(events, random), { streaming });
        if (streaming) expect(foldResponsesEvents(framesOf(text)).complete).toBe(true);
        const { response, failure } = readPieces(client, cutAtRandom(Buffer.from(text), random.below(6), random), { streaming });
        expect(failure).toBeUndefined();

        const collector = new Collector();
        collector.add(events.map((each) => (each.event.case === "reasoning" ? sealedAsShown(each) : each)));
        const expected = collector.response;
        if (response.usage !== undefined) response.usage.nativeJson = "";
        // Which thoughts of others these are stands in their seals.
        for (const choice of expected.choices) {
          for (const { content } of choice.message?.parts ?? [])
            if (content.case === "reasoning") content.value.signature = shown(content.value);
          for (const { content } of choice.message?.parts ?? [])
            if (content.case === "reasoning") Object.assign(content.value, { redacted: "", dialect: "responses" });
        }
        expect(toJsonString(ChatResponseSchema, response)).toBe(toJsonString(ChatResponseSchema, expected));
        expect(equals(ChatResponseSchema, response, expected)).toBe(true);
      },
    ),
  );
});

function sealedAsShown(each: ChatEvent): ChatEvent {
  return each.event.case === "reasoning" ? event("reasoning", { ...each.event.value }) : each;
}

function shown({ signature, redacted }: { signature: string; redacted: string }): string {
  return `outrigger.elsewhere.${signature.length}:${signature}${redacted}`;
}

function chunksOf(events: readonly ChatEvent[], random: { below(limit: number): number }): ChatEvent[][] {
  const batches: ChatEvent[][] = [];
  for (let at = 0; at < events.length; ) {
    const end = at + 1 + random.below(3);
    batches.push(events.slice(at, end));
    at = end;
  }
  return batches;
}

function framesOf(text: string): unknown[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("data: "))
    .map((line) => JSON.parse(line.slice("data: ".length)));
}

it("thinking of any dialect comes back as it went out", () => {
  const sealed = fc.record({ signature: fc.string(), redacted: fc.string(), dialect: fc.constantFrom("", "responses", "openai", "a-b-9") });
  fc.assert(
    fc.property(sealed, fc.string(), (seal, text) => {
      // Of this dialect there is one seal and no other kind.
      fc.pre(seal.dialect !== "responses" || (seal.redacted === "" && seal.signature !== "" && !seal.signature.startsWith("outrigger.")));
      fc.pre(text !== "" || seal.signature !== "" || seal.redacted !== "");
      const events = [startEvent("r", "m", 0, "", ""), reasoningEvent(0, 0, text, seal), finishEvent(0, FinishReason.STOP, ""), endEvent()];
      const body = JSON.parse(writeBatches(responsesServer, [events], { streaming: false }));
      const { request } = responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "m", input: body.output })));
      expect(request.messages[0]?.parts[0]?.content).toEqual({
        case: "reasoning",
        value: { $typeName: "outrigger.chat.v1.Reasoning", text, ...seal },
      });
    }),
  );
});

it("no body is a crash, and what is refused is refused with a fault", () => {
  const odd = fc.oneof(
    fc.json(),
    fc.string(),
    request.map((asked) => JSON.stringify(asked)).chain((text) => fc.nat(text.length).map((at) => text.slice(0, at))),
  );
  fc.assert(
    fc.property(odd, (text) => {
      try {
        responsesServer.readRequest(Buffer.from(text));
      } catch (caught) {
        expect(caught).toBeInstanceOf(Fault);
      }
    }),
  );
});

it("no member of a request in any wrong shape is a crash", () => {
  const members = [
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "include",
    "stream",
    "stream_options",
    "max_output_tokens",
  ];
  fc.assert(
    fc.property(fc.constantFrom(...members), fc.jsonValue({ maxDepth: 4 }), (member, value) => {
      try {
        responsesServer.readRequest(Buffer.from(JSON.stringify({ model: "m", input: "q", [member]: value })));
      } catch (caught) {
        expect(caught).toBeInstanceOf(Fault);
      }
    }),
  );
});

it("no answer is a crash", () => {
  const frame = fc.oneof(
    fc.json().map((data) => `data: ${data}\n\n`),
    fc
      .tuple(
        fc.constantFrom("output_item.added", "output_item.done", "completed", "failed", "output_text.delta", "incomplete"),
        fc.object({ maxDepth: 3 }),
      )
      .map(
        ([type, members]) =>
          `data: ${JSON.stringify({ ...members, type: `response.${type}`, item: members, response: { output: [members] } })}\n\n`,
      ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 5 }), fc.boolean(), (frames, streaming) => {
      const { complete, failure } = readPieces(client, frames, { streaming });
      expect(complete).toBe(failure === undefined);
    }),
  );
});
