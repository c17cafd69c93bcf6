/** Texts that a model goes on with, by the older form of OpenAI's API, through the whole house and by the official package. */
import { createGrpcTransport } from "@connectrpc/connect-node";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { collect, createChatClient, user } from "../proto/client.ts";
import { differences, type Outcome } from "./kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "./kit/random.ts";
import { readRecordings, recordingsAbsent, recordingsFolder } from "./kit/recordings.ts";
import { type Replay, replayHeaders, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { openAiBody, openAiStream } from "./kit/wire.ts";

let replay: Replay;
let house: TestSidecar;

const json = { "content-type": "application/json" };
const stream = { "content-type": "text/event-stream" };

beforeAll(async () => {
  replay = await startReplay();
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: text-route}
spec: {match: {models: [text]}, targets: [{provider: open-provider, model: davinci-002}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: lenient-route}
spec: {match: {models: [lenient]}, targets: [{provider: open-provider, model: gpt-4.1}], unsupported_params: UNSUPPORTED_PARAMS_DROP}
`;
  house = await startTestSidecar(policyFor(replay.origin, { more }), { open: "key", ant: "key" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});
beforeEach(() => replay.forget());

const sdk = () => new OpenAI({ baseURL: `${house.origin}/v1`, apiKey: "none", maxRetries: 0 });
const asked = () => replay.requests.map(({ path, body }) => ({ path, body: JSON.parse(body.toString()) }));

const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
const likely = {
  tokens: [" a", " time"],
  token_logprobs: [-0.5, -1],
  top_logprobs: [{ " a": -0.5, " the": -2 }, null],
  text_offset: [0, 2],
};
const answered = {
  id: "cmpl-1",
  object: "text_completion",
  created: 1_700_000_000,
  model: "davinci-002",
  choices: [
    { text: " a time", index: 0, logprobs: likely, finish_reason: "length" },
    { text: " two", index: 1, logprobs: null, finish_reason: "stop" },
  ],
  usage,
};

describe("a model that goes on with texts", () => {
  test("is given them as they are, with all that this form knows", async () => {
    replay.answerWith({ headers: json, pieces: [JSON.stringify(answered)] });
    const given = {
      prompt: ["Once upon", "One,"],
      max_tokens: 4,
      n: 1,
      echo: true,
      best_of: 2,
      suffix: "!",
      logprobs: 2,
      logit_bias: { "5": 1 },
    };
    const { choices, usage: used, id, object } = await sdk().completions.create({ model: "text", ...given });
    expect(asked()).toEqual([{ path: "/v1/completions", body: { model: "davinci-002", ...given } }]);
    expect({ id, object, used }).toMatchObject({ id: "cmpl-1", object: "text_completion", used: usage });
    expect(choices.map(({ text, finish_reason }) => [text, finish_reason])).toEqual([
      [" a time", "length"],
      [" two", "stop"],
    ]);
    expect(choices[0]?.logprobs).toEqual({ ...likely, top_logprobs: [{ " a": -0.5, " the": -2 }, {}] });
  });

  test("is given tokens, and a text alone as one", async () => {
    replay.answerWith({ headers: json, pieces: [JSON.stringify(answered)] });
    await sdk().completions.create({ model: "text", prompt: [1, 2, 3] });
    await sdk().completions.create({ model: "text", prompt: [[1, 2], [3]] });
    await sdk().completions.create({ model: "text", prompt: "Once", echo: false, best_of: 1, suffix: null });
    expect(asked().map(({ body }) => body)).toEqual([
      { model: "davinci-002", prompt: [1, 2, 3] },
      { model: "davinci-002", prompt: [[1, 2], [3]] },
      { model: "davinci-002", prompt: "Once" },
    ]);
  });

  test("streams", async () => {
    const chunk = (choices: unknown[], more: object = {}) =>
      `data: ${JSON.stringify({ id: "cmpl-1", object: "text_completion", created: 1, model: "davinci-002", choices, ...more })}\n\n`;
    const pieces = [
      chunk([{ text: " a", index: 0, logprobs: null, finish_reason: null }]),
      chunk([{ text: " time", index: 0, logprobs: likely, finish_reason: null }]),
      chunk([{ text: "", index: 0, logprobs: null, finish_reason: "stop" }]),
      chunk([], { usage }),
      "data: [DONE]\n\n",
    ];
    replay.answerWith({ headers: stream, pieces });
    const answer = await sdk().completions.create({
      model: "text",
      prompt: "Once upon",
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await Array.fromAsync(answer);
    expect(asked()[0]?.body).toEqual({ model: "davinci-002", prompt: "Once upon", stream: true, stream_options: { include_usage: true } });
    expect(chunks.map(({ choices }) => choices[0]?.text ?? null)).toEqual([" a", " time", "", null]);
    // The place of a token is that in the whole answer.
    expect(chunks[1]?.choices[0]?.logprobs?.text_offset).toEqual([2, 4]);
    expect(chunks[2]?.choices[0]?.finish_reason).toBe("stop");
    expect(chunks[3]?.usage).toMatchObject(usage);
  });

  test("tells no half answer for a whole one", async () => {
    const half = `data: ${JSON.stringify({ ...answered, choices: [{ text: " a", index: 0, finish_reason: null }], usage: null })}\n\n`;
    replay.answerWith({ headers: stream, pieces: [half, "data: [DONE]\n\n"] });
    const answer = await sdk().completions.create({ model: "text", prompt: "Once upon", stream: true });
    await expect(Array.fromAsync(answer)).rejects.toThrow(/before it was complete/);
    replay.answerWith({ status: 400, headers: json, pieces: ['{"error":{"message":"too long","type":"invalid_request_error"}}'] });
    await expect(sdk().completions.create({ model: "text", prompt: "Once upon" })).rejects.toMatchObject({ status: 400 });
  });
});

describe("a model that answers", () => {
  test("is asked by the text as a user's turn", async () => {
    replay.answerWith({ headers: json, pieces: [openAiBody({ text: "there was a door." })] });
    const { choices, object } = await sdk().completions.create({ model: "open", prompt: "Once upon", max_tokens: 5 });
    expect(asked()[0]).toEqual({
      path: "/v1/chat/completions",
      body: { model: "upstream-model", messages: [{ role: "user", content: "Once upon" }], max_completion_tokens: 5 },
    });
    expect({ object, choices }).toMatchObject({
      object: "text_completion",
      choices: [{ text: "there was a door.", index: 0, logprobs: null, finish_reason: "stop" }],
    });
  });

  test("streams in the older form", async () => {
    replay.answerWith({ headers: stream, pieces: openAiStream({ pieces: ["there ", "was"] }) });
    const chunks = await Array.fromAsync(await sdk().completions.create({ model: "open", prompt: "Once upon", stream: true }));
    expect(chunks.map(({ choices }) => choices[0]?.text).join("")).toBe("there was");
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe("stop");
    expect(chunks.every(({ object }) => object === "text_completion")).toBe(true);
  });

  test("is refused what it cannot do, by name; or it is left out, and said", async () => {
    const refused = (body: object) => sdk().completions.create({ model: "open", prompt: "x", ...body });
    await expect(refused({ echo: true })).rejects.toMatchObject({ status: 400, param: "echo" });
    await expect(refused({ prompt: ["a", "b"] })).rejects.toMatchObject({ status: 400, param: "prompt" });
    await expect(refused({ prompt: [1, 2] })).rejects.toMatchObject({ status: 400 });
    expect(replay.requests).toEqual([]);
    replay.answerWith({ headers: json, pieces: [openAiBody({ text: "y" })] });
    const { response } = await sdk().completions.create({ model: "lenient", prompt: "x", echo: true, suffix: "!" }).withResponse();
    expect(response.headers.get("x-outrigger-dropped-params")).toBe("echo, suffix");
  });
});

test.each<[string, object, string]>([
  ["no text", {}, "prompt"],
  ["an empty list", { prompt: [] }, "prompt"],
  ["a token that is none", { prompt: [1, -1] }, "prompt[1]"],
  ["an object", { prompt: {} }, "prompt"],
  ["no model", { model: "", prompt: "x" }, "model"],
  ["too many answers", { prompt: "x", n: 1000 }, "n"],
])("a request with %s is refused by name", async (_, body, param) => {
  await expect(sdk().completions.create({ model: "text", ...body } as never)).rejects.toMatchObject({ status: 400, param });
});

/** The same text by gRPC, marked as one. */
async function askTyped(streaming: boolean): Promise<Outcome> {
  const client = createChatClient(createGrpcTransport({ baseUrl: house.origin }));
  const request = { model: "text", rawPrompt: true, messages: [user("x")] };
  if (!streaming) return { response: await client.chat(request), complete: true, fault: undefined };
  return { ...(await collect(client.streamBatches(request))), fault: undefined };
}

const recordings = readRecordings(["openai", "vllm"], ["openai.completions"]);

if (recordingsFolder() === undefined) {
  test("recorded texts", (context) => context.skip(recordingsAbsent));
} else {
  test("the recordings that the suite is about are there", () => expect(recordings.length).toBe(2));

  describe("recorded texts, whole, byte by byte and at seeded cuts", () => {
    test.each(recordings)("$name", { timeout: 60_000 }, async (recording) => {
      const random = seededRandom(recording.answer.length);
      const ways = [[recording.answer], cutEverywhere(recording.answer)];
      for (let run = 0; run < 50; run++) ways.push(cutAtRandom(recording.answer, 1 + random.below(8), random));
      const given = JSON.parse(recording.request ?? "{}") as object;
      for (const pieces of ways) {
        replay.answerWith({ headers: replayHeaders(recording.headers, recording.stream), pieces });
        const body = { ...given, model: "text", prompt: "x", ...(recording.stream && { stream_options: { include_usage: true } }) };
        const meant = differences(recording.expect, await askTyped(recording.stream));
        expect(meant).toEqual([]);
        const answer = await sdk().completions.create(body as OpenAI.CompletionCreateParams);
        const chunks = Symbol.asyncIterator in answer ? await Array.fromAsync(answer) : [answer];
        const told = chunks.map((chunk) => chunk.usage).findLast((counts) => counts !== null && counts !== undefined);
        const meaning = recording.expect as unknown as { text: string; finish_reason: string; usage: Record<string, number> | null };
        expect(chunks.map(({ choices }) => choices[0]?.text ?? "").join("")).toBe(meaning.text);
        expect(chunks.map(({ choices }) => choices[0]?.finish_reason).findLast(Boolean)).toBe(meaning.finish_reason);
        expect({ in: told?.prompt_tokens, out: told?.completion_tokens }).toEqual({
          in: meaning.usage?.input_tokens,
          out: meaning.usage?.output_tokens,
        });
      }
    });
  });
}
