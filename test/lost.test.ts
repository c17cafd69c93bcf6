/** What a caller's format has no place for is said to whoever runs the sidecar, and what has a place is not. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, callers } from "./kit/callers.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";

let replay: Replay;
let house: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin), { open: "a", ant: "b" }, { logLevel: "warn" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

const custom = { id: "c", type: "custom", custom: { name: "f", input: "x" } };
const openWords = { role: "assistant", content: "a", tool_calls: [custom] };
const openChoices = [0, 1].map((index) => ({ index, finish_reason: "stop", message: openWords, delta: openWords }));
const open = JSON.stringify({ id: "i", model: "m", choices: openChoices });
const serverTool = { type: "server_tool_use", id: "s", name: "web_search", input: {} };
const ant = {
  body: JSON.stringify({ id: "m", model: "m", role: "assistant", content: [serverTool], stop_reason: "end_turn", usage: {} }),
  stream: [
    { type: "message_start", message: { id: "m", model: "m" } },
    { type: "content_block_start", index: 0, content_block: serverTool },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason: "end_turn" } },
    { type: "message_stop" },
  ],
};

test.each([
  ["anthropic unary", "open", ["choices beyond the first", "openai tool_calls"]],
  ["anthropic stream", "open", ["choices beyond the first", "openai tool_calls"]],
  ["responses unary", "open", ["choices beyond the first", "openai tool_calls"]],
  ["responses stream", "open", ["choices beyond the first", "openai tool_calls"]],
  ["responses unary", "ant", ["anthropic content"]],
  ["responses stream", "ant", ["anthropic content"]],
  ["openai unary", "ant", ["anthropic content"]],
  ["openai stream", "ant", ["anthropic content"]],
  ["openai unary", "open", []],
  ["openai stream", "open", []],
  ["anthropic unary", "ant", []],
  ["anthropic stream", "ant", []],
])("%s of the model %s leaves out %j, and says so", async (name, model, lost) => {
  const caller = callers.find((each) => each.name === name);
  if (caller === undefined) throw new Error("there is such a caller");
  const frames =
    model === "open" ? [`data: ${open}\n\n`] : ant.stream.map((data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
  replay.answerWith(
    caller.streaming
      ? { headers: { "content-type": "text/event-stream" }, pieces: frames }
      : { headers: { "content-type": "application/json" }, pieces: [model === "open" ? open : ant.body] },
  );
  const before = house.log().length;
  const { status } = await ask(caller, house.port, model);
  expect(status).toBe(200);
  const said = house
    .log()
    .slice(before)
    .split("\n")
    .filter((line) => line.includes("no place in the caller's format"))
    .map((line) => (JSON.parse(line) as { parts: string }).parts.split(", ").sort());
  expect(said).toEqual(lost.length === 0 ? [] : [lost]);
});
