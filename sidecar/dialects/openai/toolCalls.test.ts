import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Collector, startEvent } from "../../../proto/chat.ts";
import type { ToolCall } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type ToolCallPiece, ToolCalls } from "./toolCalls.ts";

function piece(given: Partial<ToolCallPiece>): ToolCallPiece {
  return { index: undefined, id: "", name: "", argumentsJson: "", exact: true, ...given };
}

/** Puts pieces together; checks on the way what holds for every stream of calls. */
function assemble(pieces: readonly Partial<ToolCallPiece>[]): {
  calls: readonly ToolCall[];
  named: boolean;
  repaired: boolean;
  events: ChatEvent[];
} {
  let made = 0;
  const toolCalls = new ToolCalls(0, (prefix) => `${prefix}${++made}`);
  const events: ChatEvent[] = [startEvent("id", "m", 0, "r", "p")];
  for (const given of pieces) toolCalls.add(piece(given), events);
  const named = toolCalls.finish(events);
  const seen = new Set<number>();
  for (const { event } of events.slice(1)) {
    if (event.case !== "toolCall") throw new Error("nothing else is made");
    const first = !seen.has(event.value.index);
    expect(event.value.index).toBeLessThanOrEqual(seen.size);
    seen.add(event.value.index);
    expect(event.value.id !== "").toBe(first);
    expect(event.value.name !== "").toBe(first);
  }
  const collector = new Collector();
  collector.add(events);
  const parts = collector.response.choices[0]?.message?.parts ?? [];
  const calls = parts.flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
  return { calls, named, repaired: toolCalls.repaired, events };
}

const brief = (calls: readonly ToolCall[]): string[] => calls.map(({ id, name, argumentsJson }) => `${id} ${name} ${argumentsJson}`);

describe("tool calls", () => {
  test("are what was cut into pieces, interleaved or not, and need no repair", () => {
    const call = fc.record({
      id: fc.uuid(),
      name: fc.stringMatching(/^[a-z]{1,8}$/),
      argumentsJson: fc.object({ maxDepth: 2 }).map((value) => JSON.stringify(value)),
    });
    fc.assert(
      fc.property(fc.uniqueArray(call, { maxLength: 4, selector: ({ id }) => id }), fc.infiniteStream(fc.nat()), (calls, draws) => {
        const rest = calls.map(({ argumentsJson }) => argumentsJson);
        const pieces: Partial<ToolCallPiece>[] = [];
        let opened = 0;
        while (opened < calls.length || rest.some((text) => text !== "")) {
          const [draw = 0, size = 0] = draws.take(2);
          const open = calls[opened];
          if (open !== undefined && (opened === 0 || draw % 3 === 0 || rest.slice(0, opened).every((text) => text === ""))) {
            pieces.push({ index: opened, id: open.id, name: open.name });
            opened++;
            continue;
          }
          const at = draw % opened;
          const text = rest[at] ?? "";
          const length = 1 + (size % 9);
          if (text !== "") pieces.push({ index: at, argumentsJson: text.slice(0, length) });
          rest[at] = text.slice(length);
        }
        const { calls: got, named, repaired } = assemble(pieces);
        expect(brief(got)).toEqual(calls.map(({ id, name, argumentsJson }) => `${id} ${name} ${argumentsJson}`));
        expect(named).toBe(true);
        expect(repaired).toBe(false);
      }),
    );
  });

  test("never break a rule, whatever pieces come", () => {
    const anyPiece = fc.record(
      {
        index: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
        id: fc.constantFrom("", "a", "b"),
        name: fc.constantFrom("", "f", "g"),
        argumentsJson: fc.constantFrom("", "n", "null", " ", "{", "}", '{"a":1}'),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(anyPiece, { maxLength: 12 }), (pieces) => {
        const { calls, named } = assemble(pieces.map((given) => given as Partial<ToolCallPiece>));
        for (const call of calls) expect(call.argumentsJson === "" && named).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  // Each of these crashed or merged calls somewhere (lesson 3, 6, 8).
  test.each<[string, Partial<ToolCallPiece>[], string[]]>([
    ["an index from 1", [{ index: 1, id: "a", name: "f", argumentsJson: "{}" }], ["a f {}"]],
    [
      "sparse indexes",
      [
        { index: 5, id: "a", name: "f", argumentsJson: "{}" },
        { index: 2, id: "b", name: "g", argumentsJson: "{}" },
      ],
      ["a f {}", "b g {}"],
    ],
    [
      "an index used again with a new id",
      [
        { index: 0, id: "a", name: "f", argumentsJson: "{}" },
        { index: 0, id: "b", name: "f", argumentsJson: '{"x":1}' },
      ],
      ["a f {}", 'b f {"x":1}'],
    ],
    [
      "no index, whole calls",
      [
        { name: "f", argumentsJson: "{}" },
        { name: "f", argumentsJson: "{}" },
      ],
      ["call_1 f {}", "call_2 f {}"],
    ],
    ["no index, pieces", [{ id: "a", name: "f" }, { argumentsJson: "{" }, { argumentsJson: "}" }], ["a f {}"]],
    [
      "no index, the id on every piece",
      [
        { id: "a", name: "f", argumentsJson: "{" },
        { id: "a", argumentsJson: "}" },
      ],
      ["a f {}"],
    ],
    [
      "id and name on every piece",
      [
        { index: 0, id: "0", name: "f", argumentsJson: "{" },
        { index: 0, id: "0", name: "f", argumentsJson: "}" },
      ],
      ["0 f {}"],
    ],
    [
      "empty id and name later",
      [
        { index: 0, id: "a", name: "f", argumentsJson: "{" },
        { index: 0, id: "", name: "", argumentsJson: "}" },
      ],
      ["a f {}"],
    ],
    [
      "the name after the first arguments",
      [
        { index: 0, id: "a", argumentsJson: "{" },
        { index: 0, name: "f", argumentsJson: "}" },
      ],
      ["a f {}"],
    ],
    [
      "the id after the name",
      [
        { index: 0, name: "f" },
        { index: 0, id: "a" },
        { index: 0, argumentsJson: "{}" },
      ],
      ["a f {}"],
    ],
    [
      "the id after the first arguments",
      [
        { index: 0, name: "f", argumentsJson: "{" },
        { index: 0, id: "late", argumentsJson: "}" },
      ],
      ["call_1 f {}"],
    ],
    [
      "no id at all",
      [
        { index: 0, name: "f" },
        { index: 0, argumentsJson: "{}" },
      ],
      ["call_1 f {}"],
    ],
    ["no arguments", [{ index: 0, id: "a", name: "f" }], ["a f {}"]],
    [
      "the word null for none, in pieces",
      [
        { index: 0, id: "a", name: "f", argumentsJson: "nu" },
        { index: 0, argumentsJson: "ll" },
      ],
      ["a f {}"],
    ],
    [
      "arguments that begin like null and are not",
      [
        { index: 0, id: "a", name: "f", argumentsJson: "nul" },
        { index: 0, argumentsJson: "x" },
      ],
      ["a f nulx"],
    ],
    [
      "a prefix that could be parsed",
      [
        { index: 0, id: "a", name: "f", argumentsJson: "{}" },
        { index: 0, argumentsJson: " " },
        { index: 0, argumentsJson: "{}" },
      ],
      ["a f {} {}"],
    ],
  ])("%s", (_, pieces, expected) => {
    expect(brief(assemble(pieces).calls)).toEqual(expected);
  });

  test("that had to be put right say so, before the wire's own pieces could be passed on", () => {
    const first = { index: 0, id: "a", name: "f" };
    const repaired = (...pieces: Partial<ToolCallPiece>[]): boolean => {
      const toolCalls = new ToolCalls(0, (prefix) => prefix);
      for (const given of pieces) toolCalls.add(piece(given), []);
      return toolCalls.repaired;
    };
    expect(repaired(first, { index: 0, argumentsJson: "{}" })).toBe(false);
    expect(repaired(first, { index: 0, argumentsJson: "nul" })).toBe(true);
    expect(repaired(first, { index: 0, argumentsJson: " " })).toBe(true);
    expect(repaired(first, { ...first, argumentsJson: "{}" })).toBe(true);
    expect(repaired({ ...first, index: 1 })).toBe(true);
    expect(repaired({ ...first, id: "" })).toBe(true);
    expect(repaired({ ...first, name: "" })).toBe(true);
    expect(repaired({ ...first, exact: false })).toBe(true);
    expect(assemble([first]).repaired).toBe(true);
  });

  test("are not made of pieces that say nothing", () => {
    expect(assemble([{}, { index: 0 }])).toMatchObject({ calls: [], named: true, repaired: false });
  });

  test("without a name are none", () => {
    expect(assemble([{ index: 0, id: "a", argumentsJson: "{}" }]).named).toBe(false);
  });

  test("are streamed: a piece is given on when it comes", () => {
    const { events } = assemble([
      { index: 0, id: "a", name: "f" },
      { index: 0, argumentsJson: '{"x"' },
      { index: 0, argumentsJson: ":1}" },
    ]);
    expect(events.slice(1).map(({ event }) => (event.case === "toolCall" ? event.value.argumentsJson : "?"))).toEqual(["", '{"x"', ":1}"]);
  });
});
