import { describe, expect, test } from "vitest";
import { stringify } from "../framing/json.ts";
import { argumentsObject, argumentsObjectText, argumentsText } from "./toolArguments.ts";

describe("arguments of tool calls", () => {
  test.each([
    ["", "{}", "{}"],
    [" \n", "{}", "{}"],
    ["null", "{}", "{}"],
    [" null ", "{}", "{}"],
    ['{"a" : 1.0,"a":12345678901234567890}', '{"a" : 1.0,"a":12345678901234567890}', '{"a" : 1.0,"a":12345678901234567890}'],
    ['{"a":', '{"value":"{\\"a\\":"}', '{"a":'],
    ["{a}", '{"value":"{a}"}', "{a}"],
    ["[1]", '{"value":"[1]"}', "[1]"],
    ["nullable", '{"value":"nullable"}', "nullable"],
  ])("%j are an object, and go on", (given, object, text) => {
    expect(stringify(argumentsObject(given))).toBe(object);
    expect(argumentsObjectText(given)).toBe(object);
    expect(argumentsText(given)).toBe(text);
  });

  test("keep the blanks around them where they are text, and lose them inside another text", () => {
    expect(argumentsObjectText(' {"a":1} ')).toBe(' {"a":1} ');
    expect(stringify(argumentsObject(' {"a":1} '))).toBe('{"a":1}');
  });
});
