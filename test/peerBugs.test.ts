/**
 * Forty ways in which gateways like this one have failed their users, each of which was shipped by somebody, and the test that keeps each
 * from being shipped by us. A test is named for its line: it begins with the line's number. Other tests may begin with the same number,
 * where a line can be got wrong in more than one dialect; the one that is listed stands where the fault was found first.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

interface Line {
  /** What went wrong. */
  readonly wrong: string;
  /** The file of the test, below `sidecar/`, and its title. */
  readonly test: readonly [file: string, title: string];
}

const anthropic = "dialects/anthropic/lessons.test.ts";
const bedrock = "dialects/bedrock/lessons.test.ts";
const gemini = "dialects/gemini/lessons.test.ts";
const openai = "dialects/openai/peerBugs.test.ts";

const lines: readonly Line[] = [
  // Calls of tools
  {
    wrong: "the empty object of a block's start was put before the arguments that followed",
    test: [anthropic, "1: the empty input of a block's start is not written before the pieces"],
  },
  {
    wrong: "a call without arguments was given the empty text, which the next turn refuses",
    test: [openai, '2: "" for calls without arguments broke the next turn'],
  },
  { wrong: "every call had index 0, or the index of its block", test: [anthropic, "3: calls are counted apart from blocks"] },
  { wrong: "every choice had index 0", test: [openai, "4: every choice had index 0"] },
  {
    wrong: "an answer that called tools ended with stop, also where the call came in an earlier piece",
    test: [gemini, "5: STOP after a call means the call, whether it comes with it, after it, or with an empty text"],
  },
  {
    wrong: "pieces of calls without name, id or index crashed or were merged; a call was over once it parsed",
    test: [openai, "6: pieces without name, id or index crashed, or calls were merged"],
  },
  {
    wrong: "several results were not put into one turn, or were matched with their calls by position",
    test: [gemini, "7: results stand in one turn behind their calls, in the order of the calls, under the names of their functions"],
  },
  { wrong: "ids that were missing or empty were taken for ids", test: [openai, "8: ids that were null or empty were taken for ids"] },
  {
    wrong: "names that a model made up, and arguments that are no object, made the next turn fail",
    test: [bedrock, "9: invented names and broken arguments can be sent back"],
  },
  { wrong: "the choice of a tool was not translated at all", test: [anthropic, "10: the choice of a tool arrives"] },
  // What is said
  { wrong: "of several texts only one was kept", test: [anthropic, "11: all blocks of text are kept, joined without a separator"] },
  { wrong: "null was sent as content without any call", test: [openai, "12: null content was sent where there were no calls"] },
  {
    wrong: "empty turns, and thinking without its seal, were sent to a provider that refuses them",
    test: [bedrock, "13: no empty turn, no blank text and no unsealed thinking is sent"],
  },
  { wrong: "the chunk with the usage had null for choices", test: [openai, "14: choices were null in the usage chunk, written and read"] },
  { wrong: "the first delta had no role", test: [openai, "15: the first delta had no role"] },
  { wrong: "empty deltas became empty blocks", test: [anthropic, "16: empty pieces become no blocks"] },
  {
    wrong: "a cache marker was folded into another block or tool",
    test: [bedrock, "17: every block has one member, cache markers too, also among the tools; more than four are left out"],
  },
  {
    wrong: "beta flags were passed on to a provider that refuses those it does not know",
    test: [
      "dialects/bedrock/invoke.test.ts",
      "18: of callers of the Messages format keep all that they say; beta features that would be refused are left out and reported",
    ],
  },
  { wrong: "an answer that stood in the member for thinking was lost", test: [openai, "19: an answer that was all thinking had no place"] },
  // What was used
  {
    wrong: "the count of the input was overwritten with 0, counted twice, or taken from the wrong frame",
    test: [anthropic, "20: counts are replaced one by one, never added, and never by 0 or null"],
  },
  {
    wrong: "output was counted without thoughts, and running totals were added up",
    test: [gemini, "21: the output counts the thoughts, and running totals replace each other"],
  },
  {
    wrong: "input was counted without what came from the cache",
    test: [bedrock, "22: input counts what came from and went to the cache; 23: what was not said is absent"],
  },
  { wrong: "null for a count broke callers", test: [openai, "23: null for cached tokens broke clients"] },
  {
    wrong: "what an answer consumed that failed or broke off was lost",
    test: ["dialects/responses/lessons.test.ts", "24: what an answer that was cut short or failed consumed is counted"],
  },
  {
    wrong: "tokens of embeddings that only a header counts were lost",
    test: ["dialects/bedrock/embeddings.test.ts", "25: tokens that only a header counts are counted, whichever form the vectors are in"],
  },
  // Streams and errors
  { wrong: "a piece that the network brought was taken for an event", test: [openai, "26: a network chunk was taken for an event"] },
  {
    wrong: "the error body of a streaming request was lost because it was read as a stream",
    test: [openai, "27: an error body of a streaming request was read as a stream and lost"],
  },
  {
    wrong: "exceptions in frames, a cut last frame and wrong checksums were passed over",
    test: [bedrock, "28: exception frames, error frames, cut frames and wrong checksums are errors, whatever came before"],
  },
  {
    wrong: "streams without a reason for their end were reported as finished",
    test: [openai, "29: streams without a finish reason were reported as finished"],
  },
  {
    wrong: "signs of life were dropped, and what stood between cut the stream",
    test: [anthropic, "30: pings are heartbeats, and heartbeats are pings"],
  },
  { wrong: "data without a blank behind its colon was not recognised", test: [openai, "31: data without a blank was not recognised"] },
  { wrong: "an error code that is a number made 500 of every refusal", test: [openai, "32: a code that is a number made 500 of 400"] },
  {
    wrong: "compressed bodies were passed on without the header that says so",
    test: [openai, "33: compressed bodies were passed on without saying so"],
  },
  {
    wrong: "a request was changed in place and sent so to the next provider",
    test: [openai, "34: a request was changed in place and sent so to the next provider"],
  },
  { wrong: "names of models were not escaped in paths", test: [bedrock, "35: resource names and model ids are one segment of the path"] },
  { wrong: "a missing body or member crashed the proxy", test: [openai, "36: missing members crashed the proxy"] },
  {
    wrong: "zero, the empty text and false were taken for missing",
    test: [openai, "37: zero, empty text and false were taken for missing"],
  },
  {
    wrong: "names in a provider's JSON, and paths into it, changed prototypes",
    test: [gemini, "38: names from outside are names and nothing more"],
  },
  { wrong: "the newer of two names for the limit on the answer was ignored", test: [openai, "39: max_completion_tokens was ignored"] },
  {
    wrong: "what a model can do was guessed from a name that nobody knew",
    test: [anthropic, "40: a model that no row knows behaves like the newest of its family"],
  },
];

test("there are forty lines, each with a test of its own that is named for it", () => {
  expect(lines).toHaveLength(40);
  expect(new Set(lines.map((line) => line.test.join(": "))).size).toBe(40);
  const wrong = lines.flatMap(({ test: [file, title] }, index) => {
    if (!title.startsWith(`${index + 1}: `)) return [`the test of line ${index + 1} is named ${JSON.stringify(title)}`];
    const text = readFileSync(join(import.meta.dirname, "../sidecar", file), "utf8");
    const begins = [`it("${title}"`, `test("${title}"`, `test('${title}'`].map((begin) => text.split(`  ${begin},`).length - 1);
    const found = begins.reduce((sum, count) => sum + count, 0);
    return found === 1 ? [] : [`sidecar/${file} has ${found} tests ${JSON.stringify(title)}`];
  });
  expect(wrong).toEqual([]);
});
