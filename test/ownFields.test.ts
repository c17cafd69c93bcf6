/** A caller is told of its fields by the names that it gave them, and not by those that they have in here. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { openAiBody } from "./kit/wire.ts";

let replay: Replay;
let rejecting: TestSidecar;
let dropping: TestSidecar;

beforeAll(async () => {
  replay = await startReplay();
  const policy = policyFor(replay.origin);
  const secrets = { open: "a", ant: "b" };
  rejecting = await startTestSidecar(policy, secrets, { logLevel: "silent" });
  dropping = await startTestSidecar(policy.replaceAll("match: {models", "unsupported_params: drop\n  match: {models"), secrets, {
    logLevel: "silent",
  });
});
afterAll(async () => {
  await rejecting.close();
  await dropping.close();
  await replay.close();
});

const asked = {
  model: "open",
  max_tokens: 5,
  system: "s",
  messages: [
    { role: "user", content: "q" },
    { role: "assistant", content: "a" },
    {
      role: "user",
      content: [
        { type: "text", text: "look" },
        { type: "document", source: { type: "url", url: "https://files.test/a.pdf" } },
      ],
    },
  ],
};

function ask({ origin }: TestSidecar, body: object): Promise<Response> {
  const headers = { "content-type": "application/json", "anthropic-version": "2023-06-01" };
  return fetch(`${origin}/v1/messages`, { method: "POST", headers, body: JSON.stringify(body) });
}

test("in a refusal", async () => {
  const response = await ask(rejecting, asked);
  expect(response.status).toBe(400);
  const { error } = (await response.json()) as { error: { message: string } };
  expect(error.message).toContain("messages[2].content[1]");
  expect(error.message).not.toContain("parts[");
});

test("in the list of what was left out", async () => {
  replay.answerWith({ headers: { "content-type": "application/json" }, pieces: [openAiBody({ text: "a" })] });
  const response = await ask(dropping, { ...asked, top_k: 3 });
  expect(response.status).toBe(200);
  expect(response.headers.get("x-outrigger-dropped-params")?.split(", ").sort()).toEqual(["messages[2].content[1]", "top_k"]);
});

test("but a provider's own words stay", async () => {
  const error = { message: "messages[0].parts[0] is odd", type: "invalid_request_error", param: "messages[0].parts[0]" };
  replay.answerWith({ status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify({ error })] });
  const response = await ask(dropping, asked);
  expect(((await response.json()) as { error: { message: string } }).error.message).toBe(error.message);
});
