import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { embeddingEvent, endEvent, startEvent, usageEvent } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { UsageSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { EmbeddingPurpose, EmbeddingRequestSchema } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { decodeVector } from "../vectors.ts";
import { embeddingHalf, openAiEmbeddingServer } from "./embeddings.ts";
import type { OpenAiOptions } from "./options.ts";

const options: OpenAiOptions = { maxTokensField: "max_tokens", developerRole: false, streamUsage: true };

function readBody(body: unknown) {
  return openAiEmbeddingServer.readRequest(Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
}

function write(init: MessageInitShape<typeof EmbeddingRequestSchema>, changes: Partial<OpenAiOptions> = {}, dropUnsupported = false) {
  const request = create(EmbeddingRequestSchema, { model: "asked", inputs: [text("one")], ...init });
  const written = embeddingHalf({ ...options, ...changes }).writeRequest({ request, model: "m", dropUnsupported });
  return { ...written, json: JSON.parse(String(written.body)) };
}

const text = (value: string) => ({ content: { case: "text" as const, value } });
const tokens = (...ids: number[]) => ({ content: { case: "tokens" as const, value: { ids } } });

function faultOf(act: () => unknown): Fault {
  try {
    act();
  } catch (caught) {
    if (caught instanceof Fault) return caught;
    throw caught;
  }
  throw new Error("a fault was expected");
}

describe("a request for vectors", () => {
  test.each<[string, unknown, unknown[]]>([
    ["a text", "one", [text("one")]],
    ["a list of texts", ["one", "two"], [text("one"), text("two")]],
    ["a list of tokens, which is one input", [1, 2, 0], [tokens(1, 2, 0)]],
    ["a list of lists of tokens", [[1], [2, 3]], [tokens(1), tokens(2, 3)]],
  ])("has %s", (_, input, expected) => {
    const { request, streaming, native } = readBody({ model: "m", input });
    expect(request.inputs).toMatchObject(expected);
    expect({ streaming, native }).toEqual({ streaming: false, native: { dialect: "openai", text: JSON.stringify({ model: "m", input }) } });
  });

  test("keeps what the conversation knows, and the rest as it came", () => {
    const { request } = readBody('{"model":"m","input":"x","dimensions":8,"user":"u","truncate": "END","input_type":"query","other":null}');
    expect(request).toMatchObject({ dimensions: 8, user: "u", purpose: EmbeddingPurpose.QUERY });
    expect(request.extras.map(({ dialect, path, json }) => [dialect, path, json])).toEqual([
      ["openai", "truncate", '"END"'],
      ["openai", "input_type", '"query"'],
    ]);
  });

  test.each<[string, unknown, string]>([
    ["no model", { input: "x" }, "model"],
    ["no input", { model: "m" }, "input"],
    ["an empty text", { model: "m", input: "" }, "input"],
    ["an empty text in a list", { model: "m", input: ["a", ""] }, "input[1]"],
    ["an empty list", { model: "m", input: [] }, "input"],
    ["an empty list of tokens", { model: "m", input: [[1], []] }, "input[1]"],
    ["a token that is none", { model: "m", input: [1, -1] }, "input[1]"],
    ["too many inputs", { model: "m", input: new Array(2049).fill("a") }, "input"],
    ["an object", { model: "m", input: {} }, "input"],
    ["a strange encoding", { model: "m", input: "x", encoding_format: "hex" }, "encoding_format"],
    ["no dimensions", { model: "m", input: "x", dimensions: 0 }, "dimensions"],
  ])("with %s is refused by name", (_, body, field) => {
    expect(faultOf(() => readBody(body))).toMatchObject({ reason: FaultReason.REQUEST_INVALID, field });
  });

  test("that is no JSON is refused", () => {
    expect(faultOf(() => readBody("{")).reason).toBe(FaultReason.REQUEST_INVALID);
  });
});

describe("an answer of vectors", () => {
  const answer = [
    startEvent("e", "the-model", 0, "r", "p"),
    embeddingEvent(0, [0.1, -0.5]),
    embeddingEvent(1, [1, 2]),
    usageEvent(create(UsageSchema, { inputTokens: 7n })),
    endEvent(),
  ];

  function answered(encoding: object) {
    const writer = openAiEmbeddingServer.writeAnswer(readBody({ model: "m", input: ["a", "b"], ...encoding }), "id");
    expect(writer.write(answer)).toBeUndefined();
    return JSON.parse(String(writer.end()));
  }

  test("is written as numbers", () => {
    expect(answered({})).toEqual({
      object: "list",
      data: [
        { object: "embedding", index: 0, embedding: [0.1, -0.5] },
        { object: "embedding", index: 1, embedding: [1, 2] },
      ],
      model: "the-model",
      usage: { prompt_tokens: 7, total_tokens: 7 },
    });
  });

  test("is written as base64", () => {
    const { data } = answered({ encoding_format: "base64" });
    expect(data.map((entry: { embedding: string }) => decodeVector(entry.embedding))).toEqual([
      [Math.fround(0.1), -0.5],
      [1, 2],
    ]);
  });
});

describe("what goes to a provider", () => {
  test("is the inputs under the provider's own name for the model", () => {
    const { json, path, headers } = write({ inputs: [text("one"), text("two")], dimensions: 3, user: "u" });
    expect(json).toEqual({ model: "m", input: ["one", "two"], dimensions: 3, user: "u" });
    expect(path).toBe("/embeddings");
    expect(headers).toContain("application/json");
  });

  test("has the server's own names, form and path", () => {
    const own = write({ dimensions: 3 }, { dimensionsField: "output_dimension", base64Vectors: true, pathPrefix: "/deployments/{model}" });
    expect(own.json).toEqual({ model: "m", input: ["one"], output_dimension: 3, encoding_format: "base64" });
    expect(own.path).toBe("/deployments/m/embeddings");
  });

  test("is tokens as they came, but not beside texts", () => {
    expect(write({ inputs: [tokens(1, 2), tokens(3)] }).json.input).toEqual([[1, 2], [3]]);
    expect(faultOf(() => write({ inputs: [text("a"), tokens(3)] }))).toMatchObject({
      reason: FaultReason.REQUEST_INVALID,
      field: "inputs",
    });
  });

  test("is every extra of this dialect, and none of another", () => {
    const own = { dialect: "openai", path: "truncate", json: '"END"' };
    expect(write({ extras: [own] }).json.truncate).toBe("END");
    expect(faultOf(() => write({ extras: [{ ...own, dialect: "other" }] }))).toMatchObject({ field: "truncate" });
    expect(write({ extras: [{ ...own, dialect: "other" }] }, {}, true).warnings).toMatchObject([{ field: "truncate" }]);
  });

  test("is a purpose only in the caller's own word for it", () => {
    const purpose = EmbeddingPurpose.QUERY;
    expect(write({ purpose }).warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "purpose" }]);
    expect(write({ purpose, extras: [{ dialect: "openai", path: "input_type", json: '"query"' }] }).json.input_type).toBe("query");
  });
});

describe("what a provider answers", () => {
  function read(body: unknown, count: number) {
    const request = create(EmbeddingRequestSchema, { model: "m", inputs: Array.from({ length: count }, () => text("x")) });
    const reader = embeddingHalf(options).readAnswer({
      request,
      model: "m",
      route: "r",
      provider: "p",
      answerBytesMax: 1 << 20,
      header: () => undefined,
      newId: (prefix) => `${prefix}1`,
    });
    reader.read(Buffer.from(JSON.stringify(body)));
    const events = reader.end().flat();
    return {
      vectors: events.flatMap(({ event }) => (event.case === "embedding" ? [event.value.values] : [])),
      events,
      failure: reader.failure,
    };
  }

  test("stands in the order of its numbers, whatever the order of the list", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.infiniteStream(fc.nat()), (count, random) => {
        const data = Array.from({ length: count }, (_, index) => ({ index, embedding: [index + 0.5] }));
        const shuffled = data.map((entry) => ({ entry, at: random.next().value ?? 0 })).sort((a, b) => a.at - b.at);
        const { vectors } = read({ data: shuffled.map(({ entry }) => entry) }, count);
        expect(vectors).toEqual(data.map(({ embedding }) => embedding));
      }),
    );
  });

  test("has usage as it was told, and the model that answered", () => {
    const { events } = read({ model: "exact", data: [{ embedding: [1] }], usage: { prompt_tokens: 5, total_tokens: 5 } }, 1);
    expect(events.find(({ event }) => event.case === "start")?.event.value).toMatchObject({ model: "exact" });
    const usage = events.find(({ event }) => event.case === "usage")?.event.value;
    expect(usage).toMatchObject({ inputTokens: 5n, totalTokens: 5n, nativeJson: '{"prompt_tokens":5,"total_tokens":5}' });
  });

  test.each<[string, unknown]>([
    [
      "a number twice",
      {
        data: [
          { index: 0, embedding: [1] },
          { index: 0, embedding: [2] },
        ],
      },
    ],
    ["a huge number", { data: [{ index: 1e9, embedding: [1] }] }],
    ["no data", { object: "list" }],
  ])("with %s is no answer", (_, body) => {
    expect(read(body, 2).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
  });

  test("is an error under a good status", () => {
    expect(read({ error: { message: "too hot", type: "server_error" } }, 1).failure?.message).toContain("too hot");
  });
});
