import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chatRequest } from "../../test/kit/call.ts";
import { answerToolName, type NameForm, strictNames, toolNames } from "./toolNames.ts";

const beginning: NameForm = { fits: /^[a-z_][a-z0-9_.]{0,9}$/, odd: /[^a-z0-9_.]/g, begins: /^[a-z_]/, charactersMax: 10 };
const requestWith = (names: readonly string[]) => chatRequest({ tools: names.map((name) => ({ name })) });

describe("names of tools", () => {
  test("any are sent in a form that fits, told apart, and restored", () => {
    // Names that become one another when they are put right are what this could go wrong with.
    const name = fc.oneof(
      fc.string({ minLength: 1, maxLength: 70 }),
      fc.stringMatching(/^[ab_./]{1,4}(_[23])?$/),
      fc.constantFrom("a".repeat(64), "a".repeat(65), `${"a".repeat(62)}_2`, "json"),
    );
    fc.assert(
      fc.property(fc.uniqueArray(name, { maxLength: 8 }), fc.constantFrom(strictNames, beginning), (names, form) => {
        const { sent, callers } = toolNames(requestWith(names), form);
        const wire = names.map((each) => sent.get(each) ?? each);
        expect(new Set(wire).size).toBe(names.length);
        for (const each of wire) expect(each).toMatch(form.fits);
        expect(wire.map((each) => callers.get(each) ?? each)).toEqual(names);
      }),
    );
  });

  test("those that fit go as they are, and nothing is made for them", () => {
    const { sent, callers } = toolNames(requestWith(["a", "B-2_c", "x".repeat(64)]), strictNames);
    expect([sent.size, callers.size]).toEqual([0, 0]);
  });

  test("names that are chosen and names that were called count, too", () => {
    const request = chatRequest({
      tools: [{ name: "a_b" }],
      toolChoice: { choice: { case: "tool", value: "a/b" } },
      messages: [{ role: 4, parts: [{ content: { case: "toolCall", value: { id: "1", name: "a.b", argumentsJson: "{}" } } }] }],
    });
    expect([...toolNames(request, strictNames).sent]).toEqual([
      ["a/b", "a_b_2"],
      ["a.b", "a_b_3"],
    ]);
  });

  test("a name may have to begin otherwise", () => {
    expect(toolNames(requestWith(["ü", ".x"]), beginning).sent).toEqual(
      new Map([
        ["ü", "_"],
        [".x", "_.x"],
      ]),
    );
  });

  test("the tool by which a model answers has a name that no other has", () => {
    const schema = { responseFormat: { format: { case: "jsonSchema" as const, value: { name: "", schemaJson: "{}" } } } };
    expect(answerToolName(requestWith(["json"]), strictNames)).toBeUndefined();
    expect(answerToolName(chatRequest({ ...schema }), strictNames)).toBe("json");
    expect(answerToolName(chatRequest({ ...schema, tools: [{ name: "json" }, { name: "json_2" }] }), strictNames)).toBe("json_3");
  });
});
