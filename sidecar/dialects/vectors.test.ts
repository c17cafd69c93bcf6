import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { EmbeddingRequestSchema } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { EmbeddingAnswerInput } from "./dialect.ts";
import { decodeVector, encodeVector, readVectors } from "./vectors.ts";

const float = fc.float({ noNaN: true, noDefaultInfinity: true });

describe("vectors as base64", () => {
  test("are the same after both ways", () => {
    fc.assert(
      fc.property(fc.array(float, { maxLength: 40 }), (values) => {
        expect(decodeVector(encodeVector(values))).toEqual(values);
      }),
    );
  });

  test("are what a Float32Array has as bytes, little end first", () => {
    fc.assert(
      fc.property(fc.array(float, { minLength: 1, maxLength: 40 }), (values) => {
        const view = new DataView(new ArrayBuffer(values.length * 4));
        values.forEach((value, index) => {
          view.setFloat32(index * 4, value, true);
        });
        expect(encodeVector(values)).toBe(Buffer.from(view.buffer).toString("base64"));
      }),
    );
    expect(encodeVector([1, -2])).toBe("AACAPwAAAMA=");
  });

  test("round what is more exact than they are", () => {
    fc.assert(
      fc.property(fc.double({ min: -1, max: 1, noNaN: true }), (value) => {
        expect(decodeVector(encodeVector([value]))).toEqual([Math.fround(value)]);
      }),
    );
  });

  test.each([
    ["no base64", "!!!!"],
    ["cut base64", "AACAPw"],
    ["bytes that are no whole number of floats", "AACA"],
    ["not a number", Buffer.from([0, 0, 0xc0, 0x7f]).toString("base64")],
    ["infinity", Buffer.from([0, 0, 0x80, 0x7f]).toString("base64")],
  ])("are not read from %s", (_, text) => {
    expect(decodeVector(text)).toBeUndefined();
  });
});

function input(texts: number, changes: Partial<EmbeddingAnswerInput> = {}): EmbeddingAnswerInput {
  const inputs = Array.from({ length: texts }, (_, index) => ({ content: { case: "text" as const, value: `text ${index}` } }));
  return {
    request: create(EmbeddingRequestSchema, { model: "m", inputs }),
    model: "asked-model",
    route: "r",
    provider: "p",
    answerBytesMax: 10_000,
    header: () => undefined,
    newId: (prefix) => `${prefix}1`,
    ...changes,
  };
}

/** What came of a body in which the vectors are the body itself. */
function read(body: string, texts: number, changes: Partial<EmbeddingAnswerInput> = {}) {
  const reader = readVectors(input(texts, changes), (value) => ({ vectors: value, usage: undefined }));
  reader.read(Buffer.from(body));
  const events = reader.end().flat();
  return { events: events.map(({ event }) => event), failure: reader.failure };
}

describe("the reader of vectors", () => {
  test("gives one for each input, in either form, behind a start and before an end", () => {
    const { events, failure } = read(`[[0.5,-1],"${encodeVector([2, 3])}"]`, 2);
    expect(failure).toBeUndefined();
    expect(events.map((event) => event.case)).toEqual(["start", "embedding", "embedding", "end"]);
    expect(events[0]?.value).toMatchObject({ id: "embd-1", model: "asked-model", route: "r", provider: "p" });
    expect(events[1]?.value).toMatchObject({ index: 0, values: [0.5, -1] });
    expect(events[2]?.value).toMatchObject({ index: 1, values: [2, 3] });
  });

  test.each([
    ["fewer vectors than inputs", "[[1]]", 2],
    ["more vectors than inputs", "[[1],[2]]", 1],
    ["vectors of two lengths", "[[1],[2,3]]", 2],
    ["a vector of nothing", "[[]]", 1],
    ["something that is no number", '[[1,"2"]]', 1],
    ["a number that no double holds", "[[1e999]]", 1],
    ["base64 that is none", '["hello"]', 1],
    ["no list", "{}", 1],
    ["text that is no JSON", "<html>", 1],
  ])("takes %s for no answer", (_, body, texts) => {
    const { events, failure } = read(body, texts);
    expect(events).toEqual([]);
    expect(failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
  });

  test("takes nothing at all for an answer that is not complete, and stops at the limit", () => {
    expect(read("", 1).failure?.reason).toBe(FaultReason.PROVIDER_ANSWER_INCOMPLETE);
    expect(read("[[1,1,1,1]]", 1, { answerBytesMax: 5 }).failure?.message).toContain("larger than 5 bytes");
  });

  test("passes on the fault that a body turned out to be", () => {
    const fault = new Fault(FaultReason.PROVIDER_FAILED, "overheated");
    const reader = readVectors(input(1), () => fault);
    reader.read(Buffer.from("{}"));
    expect(reader.end()).toEqual([]);
    expect(reader.failure).toBe(fault);
  });
});
