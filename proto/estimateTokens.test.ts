import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { estimateTokens } from "./estimateTokens.ts";
import { ChatRequestSchema, type MessageSchema, type PartSchema } from "./gen/outrigger/chat/v1/conversation_pb.ts";

function of(text: string, more: MessageInitShape<typeof ChatRequestSchema> = {}) {
  const part: MessageInitShape<typeof PartSchema> = { content: { case: "text", value: { text } } };
  return estimateTokens(create(ChatRequestSchema, { model: "m", messages: [{ role: 3, parts: [part] }], ...more }));
}

describe("the estimate of a conversation", () => {
  // What vendors' own counters make of these, in round numbers: 10, 19, 12 and 30.
  test.each([
    ["The quick brown fox jumps over the lazy dog.", 8, 16],
    ["function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }", 14, 24],
    ["海は広いな大きいな", 8, 16],
    ["Съешь же ещё этих мягких французских булок, да выпей чаю.", 22, 42],
  ])("of %s is near what models count", (text, least, most) => {
    const tokens = of(text);
    expect(tokens).toBeGreaterThanOrEqual(least);
    expect(tokens).toBeLessThanOrEqual(most);
  });

  test("grows with every word, and is a whole number", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme", minLength: 8 }), (text, more) => {
        const [before, after] = [of(text), of(text + more)];
        expect(Number.isInteger(before)).toBe(true);
        expect(before).toBeGreaterThan(0);
        expect(after).toBeGreaterThan(before);
      }),
    );
  });

  test("counts tools, schemas, results and pictures", () => {
    const plain = of("x");
    expect(of("x", { tools: [{ name: "look", description: "Looks", parametersJson: '{"type":"object"}' }] })).toBeGreaterThan(plain + 12);
    const schemaJson = `{"type":"object","properties":{${'"a":1,'.repeat(50)}}}`;
    expect(of("x", { responseFormat: { format: { case: "jsonSchema", value: { schemaJson } } } })).toBeGreaterThan(plain + 50);
    const image = { content: { case: "image" as const, value: { source: { case: "url" as const, value: "https://example.com/a.png" } } } };
    const result = { content: { case: "toolResult" as const, value: { toolCallId: "c", parts: [image] } } };
    const messages: MessageInitShape<typeof MessageSchema>[] = [{ role: 5, parts: [result] }];
    expect(of("", { messages })).toBeGreaterThan(1_000);
    expect(of("", { messages: [] })).toBe(1);
  });
});
