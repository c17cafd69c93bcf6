import { describe, expect, test } from "vitest";
import { anthropicServer } from "./anthropic.ts";
import { ownField } from "./ownField.ts";

const image = { type: "image", source: { type: "url", url: "https://p.test/a.png" } };
const text = { type: "text", text: "a" };
const call = { type: "tool_use", id: "c", name: "f", input: {} };
const body = {
  model: "m",
  max_tokens: 5,
  system: [text, text],
  messages: [
    { role: "user", content: "q" },
    { role: "assistant", content: [text, call, { ...call, id: "d" }] },
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "d", content: [text, image] },
        { type: "tool_result", tool_use_id: "c", content: "r" },
        text,
        image,
      ],
    },
    { role: "assistant", content: [] },
    { role: "user", content: [] },
  ],
};
const written = JSON.stringify(body);

describe("fields by the names that the caller gave them", () => {
  test.each([
    ["messages[0]", "system"],
    ["messages[0].parts[1].cache", "system[1].cache_control"],
    ["messages[1].parts[0].text", "messages[0].content"],
    ["messages[2].parts[2].tool_call.arguments_json", "messages[1].content[2].input"],
    ["messages[2].reasoning", "messages[1]"],
    ["messages[3].parts[0]", "messages[2].content[0]"],
    ["messages[3].parts[0].tool_result.parts[1].image", "messages[2].content[0].content[1]"],
    ["messages[4].parts[0].tool_result.parts[0]", "messages[2].content[1].content"],
    ["messages[5].parts[1].image.media_type", "messages[2].content[3].source.media_type"],
    ["messages[5].name", "messages[2].name"],
    ["messages[6]", "messages[3]"],
    ["messages[7]", "messages[4]"],
    ["messages[8]", "messages[8]"],
    ["messages", "messages"],
    ["max_output_tokens", "max_tokens"],
    ["stop", "stop_sequences"],
    ["user", "metadata.user_id"],
    ["tools[3].parameters_json", "tools[3].input_schema"],
    ["tools[0].cache", "tools[0].cache_control"],
    ["tools[0].strict", "tools[0].strict"],
    ["response_format.json_schema.schema", "output_config.format"],
    ["reasoning.effort", "output_config.effort"],
    ["reasoning.thinking", "thinking"],
    ["temperature", "temperature"],
    ["container", "container"],
  ])("%s is %s", (field, own) => {
    expect(ownField(field, written)).toBe(own);
  });

  test("every message of the conversation has a place, and every part a block of its kind", () => {
    const { request } = anthropicServer.readRequest(Buffer.from(written));
    expect(request.messages).toHaveLength(8);
    const kinds = { image: "image", toolCall: "tool_use", toolResult: "tool_result", text: "text" } as Record<string, string>;
    request.messages.forEach(({ parts }, at) => {
      expect(ownField(`messages[${at}]`, written)).not.toBe(`messages[${at + 100}]`);
      parts.forEach(({ content }, index) => {
        const path = ownField(`messages[${at}].parts[${index}]`, written);
        const place = path
          .replaceAll("]", "")
          .split(/[.[]/)
          .reduce<unknown>((node, step) => (node as Record<string, unknown>)[step], body);
        expect(typeof place === "string" ? "text" : (place as { type: string }).type, path).toBe(kinds[content.case ?? ""]);
      });
    });
  });
});
