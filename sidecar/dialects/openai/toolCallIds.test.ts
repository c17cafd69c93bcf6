import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { toolCallIds } from "./toolCallIds.ts";

/** A conversation with a call of each id, and its result. */
function calling(ids: readonly string[]) {
  return chatRequest({
    messages: [
      { role: Role.ASSISTANT, parts: ids.map((id) => ({ content: { case: "toolCall" as const, value: { id, name: "f" } } })) },
      { role: Role.TOOL, parts: ids.map((toolCallId) => ({ content: { case: "toolResult" as const, value: { toolCallId } } })) },
    ],
  });
}

const anyId = fc.oneof(fc.string({ minLength: 1 }), fc.stringMatching(/^[a-zA-Z0-9]{9}$/), fc.constantFrom("0", "call_1", "toolu_01"));

describe("ids of a server's own kind", () => {
  test("go on as they are", () => {
    expect(toolCallIds(calling(["g6fVbXS8K", "vAKGXGFZD"]), 9).size).toBe(0);
  });

  test("are made of all others, each of its own, and none that is taken", () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyId, { maxLength: 30 }), (ids) => {
        const sent = toolCallIds(calling(ids), 9);
        const all = ids.map((id) => sent.get(id) ?? id);
        expect(all.every((id) => /^[a-zA-Z0-9]{9}$/.test(id))).toBe(true);
        expect(new Set(all).size).toBe(ids.length);
      }),
    );
  });

  test("are the same in every turn, whatever came between", () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyId, { minLength: 2, maxLength: 8 }), (ids) => {
        const early = toolCallIds(calling(ids.slice(0, 1)), 9);
        const late = toolCallIds(calling(ids), 9);
        expect(late.get(ids[0] ?? "")).toBe(early.get(ids[0] ?? ""));
      }),
    );
  });

  test("spread: a hundred thousand numbered ids make hardly any twice", () => {
    const ids = Array.from({ length: 100_000 }, (_, index) => `call_${index}`);
    const seen = new Set<string>();
    let first = 0;
    for (const id of ids) {
      const made = toolCallIds(calling([id]), 9).get(id) ?? "";
      if (!seen.has(made)) first++;
      seen.add(made);
    }
    expect(first).toBeGreaterThan(99_990);
  });

  test("avoid an id that is there already", () => {
    const made = toolCallIds(calling(["call_1"]), 9).get("call_1") ?? "";
    const again = toolCallIds(calling([made, "call_1"]), 9).get("call_1") ?? "";
    expect(again).not.toBe(made);
    expect(again).toMatch(/^[a-zA-Z0-9]{9}$/);
  });

  test("have the length that is asked", () => {
    for (const length of [6, 9, 24, 64]) expect(toolCallIds(calling(["x"]), length).get("x")?.length).toBe(length);
  });
});
