import { describe, expect, test } from "vitest";
import { Refusal, readRequest } from "./request.ts";

const user = { role: "user", content: "hello" };
const tool = { type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } };
const call = { role: "assistant", content: null, tool_calls: [{ id: "a", type: "function", function: { name: "look", arguments: "{}" } }] };

/** What is refused of a request: status, type, code and parameter, and the message. */
function refusal(request: unknown): { status: number; type: string; code: string | null; param: string | null; message: string } {
  try {
    readRequest(typeof request === "string" ? request : JSON.stringify(request));
  } catch (error) {
    if (error instanceof Refusal)
      return { status: error.status, type: error.type, code: error.code, param: error.param, message: error.message };
    throw error;
  }
  throw new Error("the request was not refused");
}

describe("wrong requests are refused as OpenAI refuses them", () => {
  const cases: [string, unknown, string | null, string | null, RegExp][] = [
    ["not JSON", "{", null, null, /not JSON/],
    ["not an object", "[]", null, null, /expected an object, but got an array/],
    ["no model", { messages: [user] }, "model", "missing_required_parameter", /Missing required parameter: 'model'/],
    ["a model of the wrong type", { model: 4, messages: [user] }, "model", "invalid_type", /expected a string, but got an integer/],
    ["a wrong setting of a model", { model: "demo?gap=x", messages: [user] }, "model", "invalid_value", /'gap'/],
    ["no messages", { model: "demo" }, "messages", "missing_required_parameter", /messages/],
    ["empty messages", { model: "demo", messages: [] }, "messages", "empty_array", /empty array/],
    ["an unknown parameter", { model: "demo", messages: [user], top_k: 3 }, "top_k", "unknown_parameter", /Unknown parameter: 'top_k'/],
    ["an unknown role", { model: "demo", messages: [{ role: "robot", content: "x" }] }, "messages[0].role", "invalid_value", /'robot'/],
    ["null content", { model: "demo", messages: [{ role: "user", content: null }] }, "messages[0].content", null, /got null/],
    [
      "null content of an assistant without calls",
      { model: "demo", messages: [user, { role: "assistant", content: null }] },
      "messages[1].content",
      null,
      /got null/,
    ],
    ["no content", { model: "demo", messages: [{ role: "user" }] }, "messages[0].content", "missing_required_parameter", /content/],
    [
      "content of the wrong type",
      { model: "demo", messages: [{ role: "user", content: 7 }] },
      "messages[0].content",
      "invalid_type",
      /got an integer/,
    ],
    [
      "an unknown member of a message",
      { model: "demo", messages: [{ ...user, cache_control: {} }] },
      "messages[0].cache_control",
      "unknown_parameter",
      /cache_control/,
    ],
    [
      "an unknown kind of part",
      { model: "demo", messages: [{ role: "user", content: [{ type: "video" }] }] },
      "messages[0].content[0].type",
      "invalid_value",
      /'video'/,
    ],
    [
      "a picture that is none",
      { model: "demo", messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "file:///etc/passwd" } }] }] },
      "messages[0].content[0].image_url.url",
      "invalid_image_url",
      /data URL/,
    ],
    [
      "a picture from the model",
      { model: "demo", messages: [{ role: "assistant", content: [{ type: "image_url", image_url: { url: "https://a.b" } }] }] },
      "messages[0].content[0].type",
      "invalid_value",
      /image_url/,
    ],
    [
      "a result without a call",
      { model: "demo", messages: [user, { role: "tool", tool_call_id: "a", content: "1" }] },
      "messages.[1].role",
      null,
      /must be a response to a preceding message/,
    ],
    [
      "a result of another call",
      { model: "demo", messages: [user, call, { role: "tool", tool_call_id: "b", content: "1" }] },
      "messages.[2].tool_call_id",
      null,
      /'b' not found/,
    ],
    [
      "a result twice",
      {
        model: "demo",
        messages: [user, call, { role: "tool", tool_call_id: "a", content: "1" }, { role: "tool", tool_call_id: "a", content: "1" }],
      },
      "messages.[3].tool_call_id",
      null,
      /'a' not found/,
    ],
    [
      "a call without a result",
      { model: "demo", messages: [user, call, user] },
      "messages.[2].role",
      null,
      /did not have response messages: a/,
    ],
    [
      "a call without a result at the end",
      { model: "demo", messages: [user, call] },
      "messages.[2].role",
      null,
      /did not have response messages: a/,
    ],
    [
      "both limits",
      { model: "demo", messages: [user], max_tokens: 5, max_completion_tokens: 5 },
      "max_tokens",
      "invalid_parameter_combination",
      /not supported/,
    ],
    [
      "a limit of zero",
      { model: "demo", messages: [user], max_tokens: 0 },
      "max_tokens",
      "integer_below_min_value",
      /integer below minimum value. Expected a value >= 1, but got 0/,
    ],
    [
      "half a token",
      { model: "demo", messages: [user], max_tokens: 1.5 },
      "max_tokens",
      "invalid_type",
      /expected an integer, but got a decimal number/,
    ],
    ["too hot", { model: "demo", messages: [user], temperature: 3 }, "temperature", "decimal_above_max_value", /<= 2/],
    [
      "too many stops",
      { model: "demo", messages: [user], stop: ["a", "b", "c", "d", "e"] },
      "stop",
      "array_above_max_length",
      /maximum length 4/,
    ],
    [
      "stream options without a stream",
      { model: "demo", messages: [user], stream_options: { include_usage: true } },
      "stream_options",
      null,
      /only allowed/,
    ],
    [
      "a choice of tools without tools",
      { model: "demo", messages: [user], tool_choice: "auto" },
      "tool_choice",
      null,
      /only allowed when 'tools'/,
    ],
    [
      "a tool nobody declared",
      { model: "demo", messages: [user], tools: [tool], tool_choice: { type: "function", function: { name: "else" } } },
      "tool_choice",
      null,
      /no function named 'else'/,
    ],
    ["empty tools", { model: "demo", messages: [user], tools: [] }, "tools", "empty_array", /empty array/],
    [
      "a tool's name with blanks",
      { model: "demo", messages: [user], tools: [{ type: "function", function: { name: "a b" } }] },
      "tools[0].function.name",
      "invalid_value",
      /pattern/,
    ],
    [
      "a tool that takes a list",
      { model: "demo", messages: [user], tools: [{ type: "function", function: { name: "a", parameters: { type: "array" } } }] },
      "tools[0].function.parameters",
      "invalid_function_parameters",
      /'object'/,
    ],
    [
      "parallel calls without tools",
      { model: "demo", messages: [user], parallel_tool_calls: true },
      "parallel_tool_calls",
      null,
      /only allowed/,
    ],
    [
      "JSON without the word",
      { model: "demo", messages: [user], response_format: { type: "json_object" } },
      "messages",
      null,
      /must contain the word 'json'/,
    ],
    [
      "a schema without a name",
      { model: "demo", messages: [user], response_format: { type: "json_schema", json_schema: { schema: {} } } },
      "response_format.json_schema.name",
      "missing_required_parameter",
      /name/,
    ],
    ["top_logprobs alone", { model: "demo", messages: [user], top_logprobs: 2 }, "top_logprobs", null, /logprobs/],
    ["an unknown effort", { model: "demo", messages: [user], reasoning_effort: "huge" }, "reasoning_effort", "invalid_value", /'huge'/],
    ["spoken answers", { model: "demo", messages: [user], modalities: ["text", "audio"] }, "modalities", "invalid_value", /text/],
  ];
  test.each(cases)("%s", (_, request, param, code, message) => {
    expect(refusal(request)).toMatchObject({
      status: 400,
      type: "invalid_request_error",
      param,
      code,
      message: expect.stringMatching(message),
    });
  });

  test("a model that is not here, with the names of those that are", () => {
    expect(refusal({ model: "gpt-5", messages: [user] })).toMatchObject({
      status: 404,
      code: "model_not_found",
      message: expect.stringContaining("demo, demo:tools"),
    });
  });
});

test("null counts as absent, zero does not", () => {
  const request = readRequest(
    JSON.stringify({ model: "demo", messages: [user], seed: 0, stop: null, max_tokens: null, tools: null, stream: null }),
  );
  expect(request).toMatchObject({ seed: 0, stop: [], tokensMax: Number.POSITIVE_INFINITY, tools: [], stream: false });
});

test("a conversation with calls, results and pictures is understood", () => {
  const request = readRequest(
    JSON.stringify({
      model: "demo",
      messages: [
        { role: "developer", content: "Be brief." },
        {
          role: "user",
          content: [
            { type: "text", text: "See: " },
            { type: "image_url", image_url: { url: "data:image/png;base64,AAAAAA==", detail: "low" } },
          ],
        },
        call,
        { role: "tool", tool_call_id: "a", name: "look", content: [{ type: "text", text: "12 degrees" }] },
      ],
    }),
  );
  expect(request.messages[1]).toMatchObject({ text: "See: ", attachments: ["an image (image/png, 4 bytes)"], mediaTokens: 85 });
  expect(request.messages[2]).toMatchObject({ toolCalls: [{ id: "a", name: "look" }] });
  expect(request.messages[3]).toMatchObject({ text: "12 degrees", toolCallId: "a" });
});
