import { describe, expect, test } from "vitest";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { type OpenAiOptions, openAiClient, openAiServer } from "./openai.ts";

const options: OpenAiOptions = { maxTokensField: "max_tokens", developerRole: false, streamUsage: true };
const names = ["sea/state", "sea.state", "x".repeat(70), "fits"];
const wire = ["sea_state", "sea_state_2", "x".repeat(64), "fits"];
const asked = openAiServer.readRequest(
  Buffer.from(
    JSON.stringify({
      model: "m",
      messages: [
        { role: "user", content: "q" },
        { role: "assistant", tool_calls: [{ id: "c", type: "function", function: { name: names[0], arguments: "{}" } }] },
        { role: "tool", tool_call_id: "c", content: "calm" },
      ],
      tools: names.map((name) => ({ type: "function", function: { name } })),
      tool_choice: { type: "function", function: { name: names[1] } },
    }),
  ),
);

function sentTo(client: ReturnType<typeof openAiClient>) {
  const input = { request: asked.request, native: asked.native, model: "m", streaming: false, dropUnsupported: false };
  return JSON.parse(String(client.writeRequest(input).body));
}

describe("names of tools that most servers refuse", () => {
  // Names of other APIs' callers went out as they were and were refused; the caller's own request in this dialect, too.
  test("are sent as others, wherever they stand", () => {
    const body = sentTo(openAiClient(options));
    expect(body.tools.map((tool: { function: { name: string } }) => tool.function.name)).toEqual(wire);
    expect(body.tool_choice.function.name).toBe(wire[1]);
    expect(body.messages[1].tool_calls[0].function.name).toBe(wire[0]);
    expect(body.messages[2].tool_call_id).toBe("c");
  });

  test("are sent as they are to a server that takes any", () => {
    const body = sentTo(openAiClient({ ...options, freeToolNames: true }));
    expect(body).toEqual(JSON.parse(asked.native?.text ?? ""));
  });

  test.each([
    ["a stream", true],
    ["a whole answer", false],
  ])("come back in %s as the caller knows them, and not as the bytes have them", (_, streaming) => {
    const calls = wire.map((name, index) => ({ index, id: `c${index}`, type: "function", function: { name, arguments: "{}" } }));
    const words = { role: "assistant", content: null, tool_calls: calls };
    const choice = { index: 0, finish_reason: "tool_calls", ...(streaming ? { delta: words } : { message: words }) };
    const answer = JSON.stringify({ id: "i", model: "m", choices: [choice] });
    const reading = readPieces(openAiClient(options), [streaming ? `data: ${answer}\n\n` : answer], { request: asked.request, streaming });
    expect(reading.failure).toBeUndefined();
    const called = reading.response.choices[0]?.message?.parts.map(({ content }) =>
      content.case === "toolCall" ? content.value.name : "",
    );
    expect(called).toEqual(names);
    const written = writeBatches(openAiServer, reading.batches, { streaming, native: true, request: asked.request });
    for (const name of names) expect(written).toContain(JSON.stringify(name));
    expect(written).not.toContain('"sea_state"');
  });
});

describe("a user who speaks straight after a tool", () => {
  const turns = (...roles: string[]) =>
    roles.map((role) => ({ role, content: role, ...(role === "tool" ? { tool_call_id: "c" } : {}), ...(role === "user" ? { x: 1 } : {}) }));
  const calls = { role: "assistant", tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] };
  const write = (messages: object[], more: Partial<OpenAiOptions>) => {
    const { request, native } = openAiServer.readRequest(Buffer.from(JSON.stringify({ model: "m", messages })));
    const { body, warnings } = openAiClient({ ...options, ...more }).writeRequest({
      request,
      native,
      model: "m",
      streaming: false,
      dropUnsupported: false,
    });
    return { messages: JSON.parse(String(body)).messages, warnings: warnings.map(({ code, field }) => `${code} ${field}`) };
  };

  // Such a server answered 400 to every conversation in which a user went on after a tool.
  test("is answered first where the server wants that, which is told, and keeps what is its own", () => {
    const asked = [...turns("user"), calls, ...turns("tool", "user")];
    const { messages, warnings } = write(asked, { userAfterTool: false });
    expect(messages.map(({ role }: { role: string }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
    expect(messages[3]).toEqual({ role: "assistant", content: "OK." });
    expect(messages[4]).toEqual({ role: "user", content: "user", x: 1 });
    expect(warnings).toEqual(["PARAMETER_CHANGED messages[3]"]);
  });

  test("is sent as it is where the server allows it, and where there is nothing to be put right", () => {
    const asked = [...turns("user"), calls, ...turns("tool", "user")];
    expect(write(asked, {})).toEqual({ messages: asked, warnings: [] });
    const proper = [...turns("user"), calls, ...turns("tool", "tool", "assistant", "user")];
    expect(write(proper, { userAfterTool: false })).toEqual({ messages: proper, warnings: [] });
  });
});

describe("a stream of several answers", () => {
  const { request } = openAiServer.readRequest(Buffer.from('{"model":"m","messages":[{"role":"user","content":"q"}],"n":2}'));
  const chunk = (index: number, reason: string | null) =>
    `data: {"id":"i","choices":[{"index":${index},"delta":{"content":"a"},"finish_reason":${JSON.stringify(reason)}}]}\n\n`;
  const read = (...pieces: string[]) => readPieces(openAiClient(options), pieces, { request });

  // An answer whose second choice never began was taken for a whole one.
  test("is not complete if one of them never began", () => {
    expect(read(chunk(0, "stop")).failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
    expect(read(chunk(0, "stop"), chunk(1, null)).failure?.kind.name).toBe("PROVIDER_ANSWER_INCOMPLETE");
    expect(read(chunk(0, "stop"), chunk(1, "stop")).complete).toBe(true);
  });

  test("is complete with fewer, if the provider says that this is all", () => {
    expect(read(chunk(0, "stop"), "data: [DONE]\n\n").complete).toBe(true);
  });
});

describe("a server that refuses members that it does not know", () => {
  const client = openAiClient({ ...options, strictMembers: true });
  const { request } = openAiServer.readRequest(
    Buffer.from(
      JSON.stringify({
        model: "m",
        messages: [
          { role: "user", content: "q", name: "ada" },
          { role: "assistant", content: [{ type: "refusal", refusal: "No." }] },
          { role: "user", content: "please" },
        ],
      }),
    ),
  );
  const input = { request, native: undefined, model: "m", streaming: false };

  // Both were sent and answered with 422.
  test("hears a refusal as text, and no names of speakers", () => {
    expect(() => client.writeRequest({ ...input, dropUnsupported: false })).toThrow(/messages\[0\]\.name/);
    const { body, warnings } = client.writeRequest({ ...input, dropUnsupported: true });
    expect(JSON.parse(String(body)).messages).toEqual([
      { role: "user", content: "q" },
      { role: "assistant", content: "No." },
      { role: "user", content: "please" },
    ]);
    expect(warnings.map(({ field }) => field)).toEqual(["messages[0].name"]);
  });
});
