/**
 * A caller of this dialect and a provider of this dialect understand each other through us as if we were not there: members that nobody
 * models, the order of members, blanks, escapes and the spelling of numbers arrive as they were sent.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Batch } from "../../../proto/chat.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { cutAtRandom, seededRandom } from "../../../test/kit/random.ts";
import { memberSpans, spliceMember } from "../../framing/json.ts";
import { openAiClient, openAiServer } from "./openai.ts";

const client = openAiClient({ maxTokensField: "max_completion_tokens", developerRole: true, streamUsage: true });

const blank = fc.constantFrom("", "", "", " ", "\n", "\t ", "\r\n");
const scalar = fc.oneof(
  fc.constantFrom(
    "1.0",
    "1e5",
    "-0",
    "0.10",
    "12345678901234567890",
    "1E-7",
    "true",
    "null",
    '"\\u00e9\\/"',
    '"\\ud83e\\udd8a"',
    "[]",
    "{}",
  ),
  fc.string({ unit: "grapheme", maxLength: 8 }).map((text) => JSON.stringify(text)),
);
const { value: anyJson } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 3 }).map((elements) => `[${elements.join(", ")}]`),
    fc
      .uniqueArray(fc.tuple(fc.stringMatching(/^[a-z_]{1,6}$/), tie("value")), { maxLength: 3, selector: ([key]) => key })
      .map((members) => `{${members.map(([key, value]) => `"${key}" :${value}`).join(",")}}`),
  ),
}));

/** An object of the given members and unknown ones, in any order and spelling. */
function objectWith(members: Readonly<Record<string, fc.Arbitrary<string>>>): fc.Arbitrary<string> {
  const known = Object.entries(members).map(([key, value]) => value.map((text) => [key, text] as const));
  const unknown = fc.uniqueArray(
    fc.tuple(fc.constantFrom("x_new", "x-other", "X", "zz.top", "", "__proto__", "é", 'q"', "constructor", "x[0]"), anyJson),
    { maxLength: 3, selector: ([key]) => key },
  );
  return fc
    .tuple(fc.tuple(...known), unknown, fc.infiniteStream(fc.nat()), fc.infiniteStream(blank))
    .map(([own, others, order, blanks]) => {
      const all = [...own, ...others].map((member) => ({ member, at: order.next().value ?? 0 }));
      all.sort((a, b) => a.at - b.at);
      const space = (): string => blanks.next().value ?? "";
      return `{${all.map(({ member: [key, text] }) => `${space()}${JSON.stringify(key)}${space()}:${space()}${text}${space()}`).join(",")}}`;
    });
}

const string = fc.string({ unit: "grapheme", maxLength: 10 }).map((text) => JSON.stringify(text));
const text = fc.oneof(string, fc.constantFrom('"\\u0041\\n"', '""'));
const list = (element: fc.Arbitrary<string>, minLength = 0): fc.Arbitrary<string> =>
  fc.array(element, { minLength, maxLength: 3 }).map((elements) => `[${elements.join(" ,")}]`);
const constant = (value: string): fc.Arbitrary<string> => fc.constant(value);

const toolCall = objectWith({
  id: constant('"c1"'),
  type: constant('"function"'),
  function: objectWith({ name: constant('"f"'), arguments: text }),
});
/** Of an answer: arguments that say nothing would be put right, which is not passing on. */
const answeredCall = objectWith({
  id: constant('"c1"'),
  type: constant('"function"'),
  function: objectWith({ name: constant('"f"'), arguments: fc.constantFrom('"{}"', '"{ \\"x\\":1.0 }"', '"not json"') }),
});
const message = fc.oneof(
  objectWith({ role: constant('"user"'), content: text }),
  objectWith({
    role: constant('"user"'),
    content: list(
      fc.oneof(objectWith({ type: constant('"text"'), text }), objectWith({ type: constant('"new_kind"'), new_kind: anyJson })),
    ),
  }),
  objectWith({ role: constant('"assistant"'), content: fc.oneof(text, constant("null")), tool_calls: list(toolCall) }),
  objectWith({ role: constant('"tool"'), tool_call_id: constant('"c1"'), content: text }),
);
const tool = objectWith({
  type: constant('"function"'),
  function: objectWith({ name: constant('"f"'), parameters: objectWith({ type: constant('"object"') }) }),
});
const body = (more: Readonly<Record<string, fc.Arbitrary<string>>>): fc.Arbitrary<string> =>
  objectWith({
    model: constant('"as\\u006bed"'),
    messages: list(message, 1),
    temperature: fc.constantFrom("0", "0.50", "1e0", "null"),
    seed: fc.constantFrom("1", "9007199254740993", "-0"),
    tools: list(tool),
    ...more,
  });

/** What a provider of this dialect is sent for a body. */
function sent(given: string, model: string): string {
  const { request, native, streaming } = openAiServer.readRequest(Buffer.from(given));
  expect(validateChat(request, "chat")).toEqual([]);
  return String(client.writeRequest({ request, native, model, streaming, dropUnsupported: false }).body);
}

describe("requests", () => {
  test("arrive as they were sent, but for the model's name", () => {
    fc.assert(
      fc.property(body({}), (given) => {
        expect(sent(given, "asked")).toBe(given);
        expect(sent(given, "other")).toBe(given.replace('"as\\u006bed"', '"other"'));
      }),
    );
  });

  test("of streams arrive with the wish for usage besides", () => {
    const options = fc.oneof(constant("null"), objectWith({}), objectWith({ include_usage: fc.constantFrom("true", "false", "null") }));
    fc.assert(
      fc.property(body({ stream: constant("true"), stream_options: options }), (given) => {
        const wire = sent(given, "asked");
        const before = memberSpans(given).find(({ key }) => key === "stream_options");
        const asked = given.slice(before?.valueStart, before?.valueEnd);
        const expected = spliceMember(asked === "null" ? "{}" : asked, ["include_usage"], "true");
        expect(wire).toBe(given.slice(0, before?.valueStart) + expected + given.slice(before?.valueEnd));
        expect(JSON.parse(wire).stream_options.include_usage).toBe(true);
      }),
    );
  });
});

const usage = fc.oneof(
  constant("null"),
  objectWith({ prompt_tokens: constant("1"), completion_tokens: constant("2.0"), total_tokens: constant("3") }),
);
const word = fc.constantFrom('"stop"', '"length"', '"content_filter"', '"new_word"');

/** What a caller gets of an answer that arrives in the given pieces. */
function received(pieces: readonly Uint8Array[], streaming: boolean, showUsage: boolean): string {
  const members = streaming ? { stream: true, stream_options: { include_usage: showUsage } } : {};
  const read = openAiServer.readRequest(
    Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content: "q" }], ...members })),
  );
  const reader = client.readAnswer({
    request: read.request,
    streaming: read.streaming,
    model: "upstream-model",
    route: "r",
    provider: "p",
    nativeStreamUsage: read.streamUsage,
    answerBytesMax: 1 << 20,
    newId: (prefix) => `${prefix}1`,
  });
  const writer = openAiServer.writeAnswer(read, "request-1");
  const batches: Batch[] = [...pieces.flatMap((piece) => [...reader.read(piece)]), ...reader.end()];
  expect(reader.failure).toBeUndefined();
  const written = [...batches.map((batch) => writer.write(batch)), writer.end()];
  return Buffer.concat(written.map((piece) => Buffer.from(piece ?? ""))).toString();
}

describe("answers", () => {
  test("arrive whole as they were sent", () => {
    const choice = (index: number): fc.Arbitrary<string> =>
      objectWith({
        index: constant(String(index)),
        message: objectWith({ role: constant('"assistant"'), content: text, tool_calls: list(answeredCall) }),
        finish_reason: word,
      });
    const choices = fc.oneof(
      choice(0).map((only) => `[${only}]`),
      fc.tuple(choice(1), choice(0)).map((both) => `[${both.join(", ")}]`),
    );
    const answer = objectWith({ id: constant('"i"'), created: constant("1.7e9"), model: string, choices, usage });
    fc.assert(
      fc.property(answer, fc.nat(), (given, seed) => {
        const random = seededRandom(seed);
        expect(received(cutAtRandom(Buffer.from(given), random.below(6), random), false, false)).toBe(given);
      }),
    );
  });

  test("of streams arrive as they were sent, but for usage that was not asked for", () => {
    const oneLine = (frame: fc.Arbitrary<string>): fc.Arbitrary<string> => frame.map((json) => json.replaceAll(/[\r\n]/g, " "));
    const delta = (more: Readonly<Record<string, fc.Arbitrary<string>>>) =>
      objectWith({
        id: constant('"i"'),
        choices: objectWith({ index: constant("0"), ...more }).map((choice) => `[${choice}]`),
        usage: constant("null"),
      });
    const words = fc.array(oneLine(delta({ delta: objectWith({ content: text }) })), { maxLength: 6 });
    const end = oneLine(delta({ delta: objectWith({}), finish_reason: word }));
    const last = oneLine(
      objectWith({ id: constant('"i"'), choices: constant("[]"), usage: objectWith({ prompt_tokens: constant("1.0") }) }),
    );
    fc.assert(
      fc.property(words, end, last, fc.boolean(), fc.nat(), (chunks, finish, counted, showUsage, seed) => {
        const frames = [...chunks, finish].map((json) => `data: ${json}\n\n`).join("");
        const given = Buffer.from(`${frames}data: ${counted}\n\ndata: [DONE]\n\n`);
        const random = seededRandom(seed);
        const got = received(cutAtRandom(given, random.below(6), random), true, showUsage);
        expect(got).toBe(showUsage ? given.toString() : `${frames}data: [DONE]\n\n`);
      }),
    );
  });
});
