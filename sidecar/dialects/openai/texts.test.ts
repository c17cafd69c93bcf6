/** Both halves of the older form, and the reader of requests for vectors, held against whatever callers may send. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { reasoningEvent, startEvent, textEvent, toolCallEvent } from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import { openAiEmbeddingServer } from "./embeddings.ts";
import type { OpenAiOptions } from "./options.ts";
import { readTexts, textWriter } from "./textClient.ts";
import { openAiTextServer } from "./textServer.ts";

const options: OpenAiOptions = { maxTokensField: "max_tokens", developerRole: false, streamUsage: true };

const prompt = fc.oneof(
  fc.string(),
  fc.array(fc.string(), { minLength: 2, maxLength: 4 }),
  fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
  fc.array(fc.array(fc.nat(), { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 4 }),
);
const request = fc.record(
  {
    model: fc.constant("m"),
    prompt,
    max_tokens: fc.nat(),
    temperature: fc.constantFrom(0, 0.4, 2),
    top_p: fc.constantFrom(0, 0.9, 1),
    n: fc.integer({ min: 1, max: 128 }),
    stop: fc.array(fc.string(), { minLength: 1, maxLength: 4 }),
    seed: fc.maxSafeInteger(),
    presence_penalty: fc.constantFrom(-2, 0, 1.5),
    frequency_penalty: fc.constantFrom(-2, 0, 1.5),
    logit_bias: fc.dictionary(fc.oneof(fc.nat().map(String), fc.constant("__proto__")), fc.integer({ min: -100, max: 100 }), {
      minKeys: 1,
    }),
    logprobs: fc.integer({ min: 0, max: 20 }),
    user: fc.string({ minLength: 1 }),
    echo: fc.constant(true),
    best_of: fc.integer({ min: 2, max: 20 }),
    suffix: fc.string({ minLength: 1 }),
    guided_json: fc.jsonValue().filter((value) => value !== null),
  },
  { requiredKeys: ["model", "prompt"] },
);

test("what this form says is sent as it was said", () => {
  fc.assert(
    fc.property(request, (given) => {
      const read = openAiTextServer.readRequest(Buffer.from(JSON.stringify(given)));
      const { body, path, warnings } = textWriter(options)({
        request: read.request,
        native: read.native,
        model: "m",
        streaming: false,
        dropUnsupported: false,
      });
      expect(JSON.parse(String(body))).toEqual(JSON.parse(JSON.stringify(given)));
      expect({ path, warnings }).toEqual({ path: "/completions", warnings: [] });
    }),
  );
});

describe("whatever callers send", () => {
  const names = ["model", "prompt", "input", "n", "stop", "seed", "logit_bias", "logprobs", "stream", "stream_options", "dimensions"];
  const anything = fc.dictionary(fc.oneof(fc.constantFrom(...names, "encoding_format", "input_type", "user"), fc.string()), fc.jsonValue());

  test.each([
    ["a text to go on with", openAiTextServer],
    ["vectors", openAiEmbeddingServer],
  ])("is a request for %s, or is refused by a fault", (_, { readRequest }) => {
    fc.assert(
      fc.property(anything, (given) => {
        try {
          const { request: read } = readRequest(Buffer.from(JSON.stringify({ model: "m", prompt: "x", input: "x", ...given })));
          expect(read.model).not.toBe("");
        } catch (caught) {
          if (!(caught instanceof Fault)) throw caught;
          expect(caught.httpStatus).toBe(400);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("fields have the names that callers gave them", () => {
  test.each([
    [openAiTextServer, "messages", { prompt: ["a", "b"] }, "prompt"],
    [openAiTextServer, "messages[1].parts[0]", { prompt: ["a", [1]] }, "prompt[1]"],
    [openAiTextServer, "messages[0].parts[0]", { prompt: [1, 2] }, "prompt"],
    [openAiTextServer, "max_output_tokens", { prompt: "a" }, "max_tokens"],
    [openAiTextServer, "echo", { prompt: "a" }, "echo"],
    [openAiEmbeddingServer, "inputs[1].tokens", { input: ["a", [1]] }, "input[1]"],
    [openAiEmbeddingServer, "inputs[0].tokens", { input: [1, 2] }, "input"],
    [openAiEmbeddingServer, "inputs.tokens", { input: [[1, 2]] }, "input"],
    [openAiEmbeddingServer, "purpose", { input: "a" }, "input_type"],
    [openAiEmbeddingServer, "dimensions", { input: "a" }, "dimensions"],
  ])("%#: %s.%s", ({ ownField }, field, body, own) => {
    expect(ownField?.(field, JSON.stringify(body))).toBe(own);
  });
});

test.each([true, false])("what has no place is told to whoever runs the sidecar, streamed: %s", (stream) => {
  const read = openAiTextServer.readRequest(Buffer.from(JSON.stringify({ model: "m", prompt: "x", stream })));
  const writer = openAiTextServer.writeAnswer(read, "id");
  writer.write([startEvent("a", "m", 0, "r", "p"), textEvent(0, "words")]);
  expect(writer.lost).toBeUndefined();
  writer.write([reasoningEvent(0, 0, "hm"), toolCallEvent(0, 0, "c", "look", "{}")]);
  expect([...(writer.lost ?? [])]).toEqual(["thinking", "tool calls"]);
});

test("whatever servers send is an answer, or a failure that says so, whole and as a stream", () => {
  const choice = fc.record(
    {
      index: fc.oneof(fc.nat(3), fc.jsonValue()),
      text: fc.oneof(fc.string(), fc.jsonValue()),
      logprobs: fc.jsonValue(),
      finish_reason: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  const body = fc.oneof(fc.jsonValue(), fc.record({ choices: fc.array(choice), usage: fc.jsonValue() }, { requiredKeys: ["choices"] }));
  fc.assert(
    fc.property(body, fc.boolean(), (given, streaming) => {
      const read = openAiTextServer.readRequest(Buffer.from('{"model":"m","prompt":"x"}'));
      const reader = readTexts({
        request: read.request,
        streaming,
        model: "m",
        route: "r",
        provider: "p",
        nativeStreamUsage: true,
        answerBytesMax: 1 << 20,
        newId: (prefix) => prefix,
      });
      const text = JSON.stringify(given);
      const events = [...reader.read(Buffer.from(streaming ? `data: ${text}\n\n` : text)), ...reader.end()]
        .flat()
        .map(({ event }) => event.case);
      // Every choice that was seen has ended, or the answer is no whole one.
      expect(events.at(-1) === "end").toBe(reader.failure === undefined);
      if (reader.failure === undefined) expect(events).toContain("finish");
    }),
    { numRuns: 500 },
  );
});
