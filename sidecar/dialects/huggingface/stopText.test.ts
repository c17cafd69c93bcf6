import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StopText } from "./stopText.ts";

/** Short words of few letters, so that they overlap often. */
const word = fc.string({ unit: fc.constantFrom("a", "b", "\n"), maxLength: 5 });

/** What a whole answer becomes that comes in pieces. */
function passAll(pieces: readonly string[], stops: readonly string[], atStop: boolean): { text: string; stop: string } {
  const stopText = new StopText(stops);
  const passed = pieces.map((piece) => stopText.pass(piece)).join("");
  const { text, stop } = stopText.end(atStop);
  return { text: passed + text, stop };
}

describe("a stop text", () => {
  test("is cut off the end however the answer comes, the longest where several fit", () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.array(word, { minLength: 1, maxLength: 3 }), (pieces, stops) => {
        const answer = pieces.join("");
        const met = stops.filter((stop) => stop !== "" && answer.endsWith(stop)).sort((one, other) => other.length - one.length)[0] ?? "";
        expect(passAll(pieces, stops, true)).toEqual({ text: answer.slice(0, answer.length - met.length), stop: met });
      }),
    );
  });

  test("changes nothing of an answer that ended otherwise", () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.array(word, { maxLength: 3 }), (pieces, stops) => {
        expect(passAll(pieces, stops, false)).toEqual({ text: pieces.join(""), stop: "" });
      }),
    );
  });

  test("holds back no more than what could become one", () => {
    const stopText = new StopText(["END"]);
    expect(stopText.pass("the E")).toBe("the ");
    expect(stopText.pass("ast E")).toBe("East ");
    expect(stopText.pass("N")).toBe("");
  });
});
