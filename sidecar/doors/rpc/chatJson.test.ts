/** Protobuf-es is the measure: all that is read by hand, it reads to the same message. */
import { fromJson, type JsonValue, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CreateChatCompletionRequestSchema } from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { anyRequest } from "../../../test/kit/anyRequest.ts";
import type { JsonObject } from "../../framing/json.ts";
import { askedFromJson } from "./chatJson.ts";

const schema = CreateChatCompletionRequestSchema;

/** What protobuf-es makes of JSON, or undefined if it refuses it. */
function expected(json: JsonObject) {
  try {
    const { chat, validateOnly } = fromJson(schema, json as JsonValue, { ignoreUnknownFields: false, recursionLimit: 64 });
    return { chat, validateOnly };
  } catch {
    return undefined;
  }
}

/** Values that are right in one place and wrong in another. */
const strangers: readonly unknown[] = [
  null,
  true,
  0,
  -0,
  7,
  1.5,
  2 ** 31,
  1e300,
  Number.POSITIVE_INFINITY,
  "",
  "7",
  "07",
  "-7",
  "1e3",
  "NaN",
  "9".repeat(18),
  "9".repeat(30),
  "ROLE_USER",
  "ROLE_UNSPECIFIED",
  "\ud800",
  [],
  [null],
  ["a"],
  {},
  { text: "a" },
  { "\ud800": 1 },
  JSON.parse('{"__proto__":1}'),
];

/** The names that members may be given, besides their own: those of the proto file, and of the neighbours. */
const names = ["max_output_tokens", "tool_call", "text", "image", "parts", "cache", "name", "model", "user", "__proto__", "nobody"];

/** The value with one change somewhere within. `dice` gives numbers from 0 up to but not including its argument. */
function changed(value: unknown, dice: (sides: number) => number): unknown {
  const keys = typeof value === "object" && value !== null ? Object.keys(value) : [];
  if (keys.length === 0 || dice(8) === 0) {
    const choice = dice(2) === 0 ? strangers : strangers.filter((stranger) => typeof stranger === typeof value);
    return choice[dice(choice.length)];
  }
  const at = dice(keys.length);
  if (Array.isArray(value)) return value.map((item, index) => (index === at ? changed(item, dice) : item));
  const rename = dice(8) === 0;
  return Object.fromEntries(
    Object.entries(value as JsonObject).map(([key, member], index) => {
      if (index !== at) return [key, member];
      return rename ? [names[dice(names.length)] ?? key, member] : [key, changed(member, dice)];
    }),
  );
}

const asJson = anyRequest.map((message) => JSON.parse(toJsonString(schema, message)) as JsonObject);

describe("askedFromJson", () => {
  test("reads what protobuf-es writes, but for numbers that JSON has no number for", () => {
    fc.assert(
      fc.property(asJson, (json) => {
        const found = askedFromJson(json);
        // Words for numbers, and values without a name, are rare enough to be left alone.
        const strange = /"(?:NaN|-?Infinity)"|"role":\d|"__proto__":|"-?\d{19}"|"mode":/.test(JSON.stringify(json));
        if (!strange) expect(found).toBeDefined();
        if (found !== undefined) expect(found).toEqual(expected(json));
      }),
      { numRuns: process.env.OUTRIGGER_LONG === undefined ? 500 : 10_000 },
    );
  });

  test("whatever is changed in it is read as protobuf-es reads it, or not at all", () => {
    let readCount = 0;
    fc.assert(
      fc.property(asJson, fc.noBias(fc.infiniteStream(fc.nat())), (json, numbers) => {
        const dice = (sides: number) => ((numbers.next().value as number) % sides) as number;
        const object = changed(json, dice);
        if (typeof object !== "object" || object === null || Array.isArray(object)) return;
        const found = askedFromJson(object as JsonObject);
        if (found === undefined) return;
        readCount++;
        expect(found).toEqual(expected(object as JsonObject));
      }),
      { numRuns: process.env.OUTRIGGER_LONG === undefined ? 3_000 : 50_000 },
    );
    expect(readCount).toBeGreaterThan(300);
  });

  test.each<[string, string]>([
    ["null, which stands for nothing", '{"chat":{"model":null}}'],
    ["a name of the proto file", '{"chat":{"max_output_tokens":"1"}}'],
    ["a member that nobody knows", '{"chat":{"nobody":1}}'],
    ["two pieces of content", '{"chat":{"messages":[{"parts":[{"text":{},"refusal":{}}]}]}}'],
    ["a role by its number", '{"chat":{"messages":[{"role":3}]}}'],
    ["half a pair of surrogates", String.raw`{"chat":{"model":"\ud800"}}`],
    ["a list that is none", '{"chat":{"stop":{"0":"a"}}}'],
    ["a number beyond 32 bits", '{"chat":{"n":2147483648}}'],
    ["a number that is not whole", '{"chat":{"topK":0.5}}'],
    ["a number of too many digits", '{"chat":{"seed":9007199254740993}}'],
    ["a number that is too large", '{"chat":{"temperature":1e999}}'],
    ["the name of the prototype", '{"chat":{"logitBias":{"__proto__":1}}}'],
    ["what is wrong within a rare message", '{"chat":{"toolChoice":{"mode":1,"tool":"x"}}}'],
  ])("leaves %s to protobuf-es", (_, text) => {
    expect(askedFromJson(JSON.parse(text) as JsonObject)).toBeUndefined();
  });
});
