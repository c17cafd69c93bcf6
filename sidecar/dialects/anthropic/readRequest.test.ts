import { describe, expect, it } from "vitest";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { readRequest } from "./readRequest.ts";

/** Reads a request with `changes` to a small one. */
function read(changes: object, header?: (name: string) => string | undefined) {
  const body = { model: "m", max_tokens: 5, messages: [{ role: "user", content: "x" }], ...changes };
  return readRequest(Buffer.from(JSON.stringify(body)), header);
}

function refused(changes: object): { field: string | undefined; message: string } {
  try {
    read(changes);
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    expect(caught.reason).toBe(FaultReason.REQUEST_INVALID);
    return { field: caught.field, message: caught.message };
  }
  throw new Error("the request was expected to be refused");
}

const user = (...content: object[]) => ({ messages: [{ role: "user", content }] });
const assistant = (...content: object[]) => ({ messages: [{ role: "assistant", content }] });

describe("readRequest", () => {
  it("names the field, what was expected and what was seen", () => {
    const cases: [object, string, RegExp][] = [
      [{ model: 5 }, "model", /expected a string, saw 5$/],
      [{ model: "" }, "model", /must not be empty/],
      [{ model: "\u00e9".repeat(257) }, "model", /must be at most 512 bytes long/],
      [{ max_tokens: undefined }, "max_tokens", /expected a whole number of at least 0, saw nothing/],
      [{ max_tokens: 1.5 }, "max_tokens", /saw 1.5/],
      [{ max_tokens: "5" }, "max_tokens", /saw a string/],
      [{ messages: {} }, "messages", /expected an array, saw an object/],
      [{ messages: [] }, "messages", /must not be empty/],
      [{ messages: [5] }, "messages[0]", /expected an object, saw 5/],
      [{ messages: [{ role: "robot", content: "x" }] }, "messages[0].role", /saw "robot"/],
      [{ messages: [{ role: "user", content: 5 }] }, "messages[0].content", /expected a string or an array of blocks, saw 5/],
      [user({ text: "x" }), "messages[0].content[0].type", /expected a string, saw nothing/],
      [user({ type: "text", text: null }), "messages[0].content[0].text", /saw null/],
      [user({ type: "tool_use", id: "a", name: "b", input: {} }), "messages[0].content[0].type", /only stand in an assistant's turn/],
      [user({ type: "thinking", thinking: "a" }), "messages[0].content[0].type", /only stand in an assistant's turn/],
      [assistant({ type: "tool_result", tool_use_id: "a" }), "messages[0].content[0].type", /only stand in a user's turn/],
      [assistant({ type: "tool_use", id: "", name: "b", input: {} }), "messages[0].content[0].id", /must not be empty/],
      [
        assistant({ type: "tool_use", id: "a", name: "b", input: "{}" }),
        "messages[0].content[0].input",
        /expected an object, saw a string/,
      ],
      [
        user({ type: "image", source: { type: "base64", media_type: "image/png", data: "no!" } }),
        "messages[0].content[0].source.data",
        /base64/,
      ],
      [
        user({ type: "image", source: { type: "base64", media_type: "image/png", data: "ab-_" } }),
        "messages[0].content[0].source.data",
        /base64/,
      ],
      [user({ type: "text", text: "x", cache_control: { type: "forever" } }), "messages[0].content[0].cache_control.type", /saw "forever"/],
      [
        user({ type: "tool_result", tool_use_id: "a", content: [{ type: "text" }] }),
        "messages[0].content[0].content[0].text",
        /saw nothing/,
      ],
      [{ tools: [{ name: "a", input_schema: [] }] }, "tools[0].input_schema", /expected an object, saw an array/],
      [{ tools: [{ name: "", input_schema: {} }] }, "tools[0].name", /must not be empty/],
      [{ tool_choice: "auto" }, "tool_choice", /expected an object, saw a string/],
      [{ tool_choice: { type: "some" } }, "tool_choice.type", /saw "some"/],
      [{ tool_choice: { type: "tool" } }, "tool_choice.name", /saw nothing/],
      [{ temperature: -1 }, "temperature", /at least 0, saw -1/],
      [{ top_p: 2 }, "top_p", /from 0 to 1, saw 2/],
      [{ top_k: -1 }, "top_k", /saw -1/],
      [{ stop_sequences: "x" }, "stop_sequences", /expected an array/],
      [{ stop_sequences: [1] }, "stop_sequences[0]", /expected a string, saw 1/],
      [{ stream: "yes" }, "stream", /expected true or false, saw a string/],
      [{ thinking: { type: "deep" } }, "thinking.type", /saw "deep"/],
      [{ thinking: { type: "enabled" } }, "thinking.budget_tokens", /saw nothing/],
      [{ metadata: { user_id: 5 } }, "metadata.user_id", /expected a string, saw 5/],
      [{ system: 5 }, "system", /expected a string or an array of blocks/],
      [{ output_config: { format: { type: "json_schema" } } }, "output_config.format.schema", /expected an object, saw nothing/],
    ];
    for (const [changes, field, message] of cases) {
      const seen = refused(changes);
      expect(seen.field, JSON.stringify(changes)).toBe(field);
      expect(seen.message).toMatch(message);
      expect(seen.message.startsWith(`${field}: `)).toBe(true);
    }
  });

  it("does not show what a caller wrote where something else was expected", () => {
    expect(refused({ max_tokens: "my secret" }).message).not.toContain("secret");
    expect(refused({ messages: [{ role: "my secret", content: "" }] }).message).not.toContain("secret");
  });

  it("refuses bodies that are no JSON object", () => {
    for (const body of ["", "{", "[]", "null", '{"a":1,"a":2}', `${'{"a":'.repeat(70)}1${"}".repeat(70)}`]) {
      expect(() => readRequest(Buffer.from(body))).toThrow(expect.objectContaining({ reason: FaultReason.REQUEST_INVALID }));
    }
    expect(() => readRequest(Uint8Array.of(0x7b, 0xff, 0x7d))).toThrow(/not valid UTF-8/);
  });

  it("takes null for nothing", () => {
    const nothing = { system: null, tools: null, tool_choice: null, thinking: null, stream: null, metadata: null, stop_sequences: null };
    const others = { temperature: null, top_p: null, output_config: null, service_tier: null, unheard_of: null };
    expect(read({ ...nothing, ...others })).toMatchObject({ request: read({}).request, streaming: false });
  });

  it("makes each result of a tool a message of its own, in order", () => {
    const { request } = read(
      user(
        { type: "tool_result", tool_use_id: "a", content: "1" },
        { type: "text", text: "between" },
        { type: "tool_result", tool_use_id: "b", is_error: true, content: [{ type: "text", text: "2", x: 1 }] },
        { type: "tool_result", tool_use_id: "c" },
      ),
    );
    expect(request.messages.map(({ role }) => role)).toEqual([Role.TOOL, Role.USER, Role.TOOL, Role.TOOL]);
    expect(request.messages[2]?.parts[0]?.content.value).toMatchObject({ toolCallId: "b", isError: true });
    expect(request.messages[3]?.parts[0]?.content.value).toMatchObject({ toolCallId: "c", parts: [] });
    expect(request.extras).toMatchObject([{ path: "messages[2].parts[0].parts[0].x", json: "1" }]);
  });

  it("keeps what it does not know with its exact text", () => {
    const body = `{"model":"m","max_tokens":5,"speed":{"a": 1.0},"x.y":[1],"messages":[{"role":"user","content":"x","mood":"calm"}]}`;
    const { request, native } = readRequest(Buffer.from(body));
    expect(request.extras).toMatchObject([
      { path: "messages[0].mood", json: '"calm"' },
      { path: "speed", json: '{"a": 1.0}' },
      { path: '["x.y"]', json: "[1]" },
    ]);
    expect(native).toEqual({ dialect: "anthropic", text: body });
  });

  it("keeps what it does not know of pictures and cache markers' neighbours", () => {
    const source = { type: "url", url: "https://example.org/a.png", x: 1 };
    const { request } = read(
      user({ type: "image", source, y: 2 }, { type: "text", text: "a", cache_control: { type: "ephemeral" }, z: 3 }),
    );
    expect(request.extras.map(({ path, json }) => [path, json])).toEqual([
      ["messages[0].parts[0].y", "2"],
      ["messages[0].parts[0].source.x", "1"],
      ["messages[0].parts[1].z", "3"],
    ]);
  });

  it("gives seals of other dialects back to them", () => {
    const { request } = read(
      assistant(
        { type: "thinking", thinking: "a", signature: "other-2:c2ln" },
        { type: "redacted_thinking", data: "EqkE/+==" },
        { type: "thinking", thinking: "b" },
      ),
    );
    expect(request.messages[0]?.parts.map(({ content }) => content.value)).toMatchObject([
      { text: "a", signature: "c2ln", dialect: "other-2" },
      { redacted: "EqkE/+==", dialect: "anthropic" },
      { text: "b", signature: "", dialect: "anthropic" },
    ]);
  });

  it("keeps beta features that a caller asks for, if they are names", () => {
    const { request } = read({}, (name) => (name === "anthropic-beta" ? "files-api-2025-04-14, other" : undefined));
    expect(request.extras).toMatchObject([{ path: "headers.anthropic-beta", json: '"files-api-2025-04-14, other"' }]);
    expect(() => read({}, () => "a\r\nx-evil: 1")).toThrow(/anthropic-beta/);
    expect(read({}, () => " ").request.extras).toEqual([]);
  });

  it("tells thinking, effort and budget apart", () => {
    const amount = (changes: object) => {
      const { reasoning, extras } = read(changes).request;
      return { ...(reasoning?.amount.value === undefined ? {} : { value: reasoning.amount.value }), thinking: reasoning?.thinking, extras };
    };
    expect(amount({})).toEqual({ thinking: undefined, extras: [] });
    expect(amount({ thinking: { type: "adaptive" } })).toEqual({ thinking: undefined, extras: [] });
    expect(read({}).request.reasoning).toBeUndefined();
    expect(read({ thinking: { type: "adaptive" } }).request.reasoning).toMatchObject({ amount: { case: undefined } });
    expect(amount({ thinking: { type: "adaptive" }, output_config: { effort: "max" } })).toMatchObject({
      value: "max",
      thinking: undefined,
    });
    expect(amount({ output_config: { effort: "low" } })).toMatchObject({ value: "low", thinking: false });
    expect(amount({ thinking: { type: "disabled" } })).toMatchObject({ value: "none" });
    expect(amount({ thinking: { type: "enabled", budget_tokens: 2048 }, output_config: { effort: "low" } })).toMatchObject({
      value: 2048n,
      extras: [{ path: "output_config.effort", json: '"low"' }],
    });
  });
});
