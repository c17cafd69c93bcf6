import fc from "fast-check";
import { expect, test } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { cutAtRandom, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { responsesClient } from "./responses.ts";

const client = responsesClient({ models: [] });

type Written = Readonly<Record<string, unknown>>;

/** A frame with its members in an order of its own. */
function frame(members: Written): string {
  return `event: response.output_text.delta\ndata: ${JSON.stringify(members)}\n\n`;
}

function delta(piece: string, number: number, more: Written = {}): Written {
  return {
    type: "response.output_text.delta",
    content_index: 0,
    delta: piece,
    item_id: "msg",
    logprobs: [],
    output_index: 0,
    sequence_number: number,
    ...more,
  };
}

const end = 'data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}\n\n';

/** The pieces as they are read. */
function piecesOf(text: string): { pieces: string[]; failure: number | undefined } {
  const { events, failure } = readPieces(client, [text]);
  return { pieces: events.flatMap((event) => (event.case === "text" ? [event.value.text] : [])), failure: failure?.reason };
}

test("a piece is the same whether its event was parsed or recognised", () => {
  const piece = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom('"delta":"', "\n", "\\", '"', "\u2028", "é🚣", "{", "}", "\ud800"));
  const padding = fc.option(fc.string(), { nil: undefined });
  fc.assert(
    fc.property(fc.array(fc.tuple(piece, padding), { maxLength: 12 }), fc.nat(), fc.boolean(), (said, seed, reversed) => {
      const frames = said.map(([text, obfuscation], at) => {
        const members = Object.entries(delta(text, at * 7, obfuscation === undefined ? {} : { obfuscation }));
        return frame(Object.fromEntries(reversed ? members.reverse() : members));
      });
      const random = seededRandom(seed);
      const wire = Buffer.from(frames.join("") + end);
      const { events, failure, native } = readPieces(client, cutAtRandom(wire, random.below(5), random));
      expect(failure).toBeUndefined();
      const seen = events.flatMap((event) => (event.case === "text" ? [event.value.text] : []));
      expect(seen).toEqual(said.map(([text]) => text).filter((text) => text !== ""));
      expect(native.toString()).toBe(wire.toString());
    }),
  );
});

test("what differs elsewhere is another event", () => {
  const first = frame(delta("a", 0));
  const logprobs = [{ token: "b", logprob: -1, bytes: [98], top_logprobs: [] }];
  const { events } = readPieces(client, [first + frame(delta("b", 1, { logprobs })) + frame(delta("c", 2)) + end]);
  expect(events.map(({ case: kind }) => kind)).toEqual(["start", "text", "text", "logprobs", "text", "finish", "end"]);
  // A part of another item is not said again when that item comes whole.
  const item = { type: "message", content: [{ type: "output_text", text: "b" }] };
  const whole = `data: ${JSON.stringify({ type: "response.output_item.done", output_index: 1, item })}\n\n`;
  expect(piecesOf(first + frame(delta("b", 1, { output_index: 1 })) + whole + end).pieces).toEqual(["a", "b"]);
});

test.each([
  ["cut", frame(delta("b", 1)).replace("}\n", "\n")],
  ["longer than it should be", frame(delta("b", 1)).replace("}\n", "}}\n")],
  ["with a number that is none", frame(delta("b", 1)).replace(":1}", ":01}")],
  ["without its number", frame(delta("b", 1)).replace(":1}", ":}")],
  ["with a line end in its text", frame(delta("b\u0001", 1)).replace("\\u0001", "\u0001")],
  ["with an escape that is none", frame(delta("b", 1)).replace('"b"', '"\\x"')],
  ["with a text that does not end", frame(delta("b", 1)).replace('"b",', '"b,')],
])("an event that is no JSON is none, however like the last one: %s", (_, broken) => {
  expect(piecesOf(frame(delta("a", 0)) + broken + end)).toEqual({ pieces: ["a"], failure: FaultReason.PROVIDER_ANSWER_INVALID });
});
