import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CreateEmbeddingsRequestSchema,
  type EmbeddingRequest,
  EmbeddingRequestSchema,
} from "./gen/outrigger/chat/v1/embedding_service_pb.ts";
import { validateEmbedding } from "./validateEmbedding.ts";

type Init = MessageInitShape<typeof EmbeddingRequestSchema>;

const oracle = createValidator();

function oraclePaths(request: EmbeddingRequest): string[] {
  const result = oracle.validate(CreateEmbeddingsRequestSchema, create(CreateEmbeddingsRequestSchema, { embedding: request }));
  if (result.kind === "error") throw result.error;
  return result.kind === "valid" ? [] : [...new Set(result.violations.map(({ field }) => pathToString(field)))].sort();
}

function ourPaths(request: EmbeddingRequest): string[] {
  return [...new Set(validateEmbedding(request, "embedding").map(({ field }) => field))].sort();
}

/** Mostly fine, so that a whole request is often fine too. */
function mostly<T>(fine: T, ...others: T[]): fc.Arbitrary<T> {
  return fc.oneof({ weight: 8, arbitrary: fc.constant(fine) }, { weight: 1, arbitrary: fc.constantFrom(...others) });
}

const texts = (max: number): string[] => ["", "a".repeat(max), "a".repeat(max + 1), "é".repeat(max / 2), "漢".repeat(Math.ceil(max / 3))];
const input: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 6, arbitrary: mostly({ content: { case: "text", value: "words" } }, { content: { case: "text", value: "" } }) },
  {
    weight: 2,
    arbitrary: mostly({ content: { case: "tokens", value: { ids: [1, 0] } } }, { content: { case: "tokens", value: { ids: [] } } }),
  },
  { weight: 1, arbitrary: mostly({ content: { case: "text", value: "x" } }, { content: { case: undefined } } as never) },
);
const anyRequest = fc
  .record({
    model: mostly("m", ...texts(512)),
    inputs: fc.array(input, { minLength: 0, maxLength: 4 }),
    dimensions: mostly<number | undefined>(undefined, 0, 1, 65_536, 65_537, -1),
    purpose: mostly(0, 1, 5, 6, -1),
    user: mostly("", ...texts(1024)),
    extras: fc.array(fc.record({ dialect: mostly("openai", ...texts(64)), path: mostly("x", ...texts(1024)) }), { maxLength: 2 }),
  })
  .map((init) => create(EmbeddingRequestSchema, init as Init));

const small: Init = { model: "m", inputs: [{ content: { case: "text", value: "x" } }] };

describe("validateEmbedding", () => {
  test("finds the fields that protovalidate finds in the rules", () => {
    let valid = 0;
    let invalid = 0;
    fc.assert(
      fc.property(anyRequest, (request) => {
        const expected = oraclePaths(request);
        if (expected.length === 0) valid++;
        else invalid++;
        expect(ourPaths(request)).toEqual(expected);
      }),
      { numRuns: 600 },
    );
    // The property would say nothing if chance only made one sort.
    expect(Math.min(valid, invalid)).toBeGreaterThan(50);
  });

  test.each<[string, Init, string]>([
    ["no inputs", { ...small, inputs: [] }, "embedding.inputs"],
    ["inputs", { ...small, inputs: new Array(2_049).fill({ content: { case: "text", value: "x" } }) }, "embedding.inputs"],
    ["extras", { ...small, extras: new Array(1_025).fill({ dialect: "d" }) }, "embedding.extras"],
  ])("counts %s as protovalidate does", (_, init, path) => {
    const request = create(EmbeddingRequestSchema, init);
    expect(ourPaths(request)).toEqual([path]);
    expect(oraclePaths(request)).toEqual([path]);
  });

  test("stops after the first sixteen, and wants a request", () => {
    const broken = create(EmbeddingRequestSchema, { ...small, inputs: new Array(100).fill({ content: { case: "text", value: "" } }) });
    expect(validateEmbedding(broken, "embedding")).toHaveLength(16);
    expect(validateEmbedding(undefined, "embedding")).toEqual([{ field: "embedding", message: "is required" }]);
  });
});
