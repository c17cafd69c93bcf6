import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EVENTS_PER_STREAM, geminiAnswer, geminiStream, openaiAnswer, openaiRequest, PROVIDER_KEY, STAMP_NONE } from "./payloads.ts";
import type { ProviderCounts } from "./provider/main.ts";

let child: ChildProcess;
let port = 0;

function heard<Message>(): Promise<Message> {
  return new Promise((resolve, reject) => {
    child.once("message", (message) => resolve(message as Message));
    child.once("exit", (code) => reject(new Error(`the provider ended with ${code}`)));
  });
}

beforeAll(async () => {
  child = fork(join(import.meta.dirname, "provider/main.ts"));
  ({ port } = await heard<{ port: number }>());
});
afterAll(() => {
  child.kill();
});

async function ask(path: string, body: string): Promise<{ status: number; text: string }> {
  const headers = { "x-goog-api-key": PROVIDER_KEY };
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", headers, body });
  return { status: answer.status, text: await answer.text() };
}

test("each path answers in its own format, whole, at once or at a pace, and is counted", async () => {
  const unary = await ask("/v1beta/models/gemini-bench-burst:generateContent", "{}");
  expect(unary).toEqual({ status: 200, text: geminiAnswer() });
  const { contents, last } = geminiStream();
  const burst = await ask("/v1beta/models/gemini-bench-burst:streamGenerateContent?alt=sse", "{}");
  expect(burst.text).toBe([...contents, ...last].join(""));
  const paced = await ask("/v1beta/models/gemini-bench-paced-1:streamGenerateContent?alt=sse", "{}");
  const stamps = paced.text.match(/~t\d{16} /g) ?? [];
  expect(stamps).toHaveLength(EVENTS_PER_STREAM);
  // Each event tells when it was written.
  expect(stamps).toEqual([...stamps].sort());
  expect(stamps[0]).not.toBe(stamps.at(-1));
  expect(paced.text.replaceAll(/~t\d{16} /g, STAMP_NONE)).toBe(burst.text);
  // The real one would answer with an array.
  expect((await ask("/v1beta/models/gemini-bench-burst:streamGenerateContent", "{}")).status).toBe(404);
  expect((await ask("/v1/chat/completions", openaiRequest("gpt-bench-burst", 600, false))).text).toBe(openaiAnswer());
  const counted = heard<ProviderCounts>();
  child.send({});
  expect(await counted).toMatchObject({ requests: 5, streams: 2, events: 2 * EVENTS_PER_STREAM, withProviderKey: 5, cut: 0 });
});
