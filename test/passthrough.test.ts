/**
 * An OpenAI caller before an OpenAI-format provider loses nothing, whether we know it or not: what is not ours to change travels byte
 * for byte, there and back, through real sockets. Members we do not know, their order, and how numbers are spelt.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, type Caller, callers } from "./kit/callers.ts";
import { jsonText, objectText } from "./kit/jsonText.ts";
import { cutAtRandom, seededRandom } from "./kit/random.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { openAiBody, openAiStream } from "./kit/wire.ts";

/** Through sockets a run costs about a millisecond. */
const runs = 300;

let replay: Replay;
let house: TestSidecar;
beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policyFor(replay.origin), { open: "a", ant: "b" }, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

const [unary, stream] = ["openai unary", "openai stream"].map((name): Caller => {
  const caller = callers.find((candidate) => candidate.name === name);
  if (caller === undefined) throw new Error(`there is no caller ${name}`);
  return caller;
}) as [Caller, Caller];

const message = objectText([fc.constant('"role":"user"'), fc.constantFrom('"content":"Hi"', '"content": "\\u0048i \\ud83d\\udea3"')]);

/** A request whose model's value is `MODEL`, once. */
function requestText(more: readonly string[]): fc.Arbitrary<string> {
  return objectText([
    fc.constantFrom('"model":MODEL', '"model" : MODEL'),
    fc.array(message, { minLength: 1, maxLength: 3 }).map((messages) => `"messages":[${messages.join(",")}]`),
    fc.constantFrom('"temperature":1.0', '"temperature":0', '"temperature":7e-1'),
    fc.constantFrom('"seed":12345678901234567', '"seed": 0'),
    fc.constantFrom('"metadata":{"k":"v"}', '"store":false', '"prediction":{"type":"content","content":"x"}'),
    ...more.map((member) => fc.constant(member)),
  ]);
}

/** What the provider was sent for a request text. */
async function sentFor(caller: Caller, text: string): Promise<string> {
  replay.forget();
  const answer = await ask(caller, house.port, "open", { body: Buffer.from(text) });
  expect({ status: answer.status, said: answer.status === 200 ? "" : answer.body.toString() }).toEqual({ status: 200, said: "" });
  return replay.requests[0]?.body.toString() ?? "";
}

test("a request reaches the provider as it was written, but for the model's name", { timeout: 60_000 }, async () => {
  replay.answerWith({ pieces: [openAiBody({ text: "ok" })], headers: { "content-type": "application/json" } });
  await fc.assert(
    fc.asyncProperty(requestText([]), async (text) => {
      expect(await sentFor(unary, text.replace("MODEL", '"open"'))).toBe(text.replace("MODEL", '"upstream-model"'));
    }),
    { numRuns: runs },
  );
});

test("a streaming request that asks for usage reaches the provider as it was written", { timeout: 60_000 }, async () => {
  replay.answerWith({ pieces: openAiStream({ text: "ok" }), headers: { "content-type": "text/event-stream" } });
  await fc.assert(
    fc.asyncProperty(requestText(['"stream":true', '"stream_options":{"include_usage":true,"x_more":1.0}']), async (text) => {
      expect(await sentFor(stream, text.replace("MODEL", '"open"'))).toBe(text.replace("MODEL", '"upstream-model"'));
    }),
    { numRuns: runs },
  );
});

test("a streaming request that does not ask for usage gains that question and changes in nothing else", { timeout: 60_000 }, async () => {
  replay.answerWith({ pieces: openAiStream({ text: "ok" }), headers: { "content-type": "text/event-stream" } });
  await fc.assert(
    fc.asyncProperty(requestText(['"stream":true']), async (text) => {
      const sent = await sentFor(stream, text.replace("MODEL", '"open"'));
      const asked = /,?"stream_options":\{"include_usage":true\},?/.exec(sent);
      expect(asked).not.toBeNull();
      const without = sent.slice(0, asked?.index) + sent.slice((asked?.index ?? 0) + (asked?.[0].length ?? 0));
      const separator = asked?.[0].startsWith(",") && asked[0].endsWith(",") ? "," : "";
      const expected = text.replace("MODEL", '"upstream-model"');
      expect(sent.slice(0, asked?.index) + separator + without.slice(asked?.index)).toBe(expected);
    }),
    { numRuns: runs },
  );
});

const answerText = objectText([
  fc.constant('"id":"chatcmpl-1"'),
  fc.constant('"object":"chat.completion"'),
  fc.constantFrom('"created":1700000000', '"created":1.7e9'),
  fc.constant('"model":"upstream-model"'),
  objectText([
    fc.constant('"index":0'),
    objectText([fc.constant('"role":"assistant"'), fc.constantFrom('"content":"Hi"', '"content":"\\u0048\\/"')]).map(
      (text) => `"message":${text}`,
    ),
    fc.constant('"finish_reason":"stop"'),
  ]).map((choice) => `"choices":[${choice}]`),
  objectText([fc.constant('"prompt_tokens":3'), fc.constant('"completion_tokens":4'), fc.constant('"total_tokens":7')]).map(
    (usage) => `"usage":${usage}`,
  ),
]);

test("a whole answer reaches the caller as the provider wrote it", { timeout: 60_000 }, async () => {
  const random = seededRandom(4);
  await fc.assert(
    fc.asyncProperty(answerText, fc.constantFrom("", "\n", "  "), async (text, tail) => {
      const written = Buffer.from(text + tail);
      replay.answerWith({ pieces: cutAtRandom(written, random.below(5), random), headers: { "content-type": "application/json" } });
      const answer = await ask(unary, house.port, "open");
      expect(answer.body.toString()).toBe(written.toString());
    }),
    { numRuns: runs },
  );
});

/** A chunk with something to say, and members that no format knows at each level. */
const chunkText = (choice: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  objectText([
    fc.constant('"id":"chatcmpl-1"'),
    fc.constant('"object":"chat.completion.chunk"'),
    fc.constant('"created":1700000000'),
    fc.constant('"model":"upstream-model"'),
    choice.map((text) => `"choices":[${text}]`),
  ]);

const deltaChunk = chunkText(
  objectText([
    fc.constant('"index":0'),
    objectText([fc.constantFrom('"content":"a"', '"content":"\\u0062"', '"role":"assistant"')]).map((text) => `"delta":${text}`),
    fc.constant('"finish_reason":null'),
  ]),
);
const lastChunk = chunkText(objectText([fc.constant('"index":0'), fc.constant('"delta":{}'), fc.constant('"finish_reason":"stop"')]));

/** Each way in which providers frame an event; a line break inside JSON text would end the line, so there is none. */
const framed = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(
      text,
      fc.constantFrom("data: TEXT\n\n", "data:TEXT\n\n", "data: TEXT\r\n\r\n", "event: chunk\ndata: TEXT\n\n", "id: 7\ndata: TEXT\n\n"),
    )
    .map(([written, frame]) => frame.replace("TEXT", () => written.replaceAll(/[\n\r\t]/g, " ")));

test("a streamed answer reaches the caller as the provider framed and wrote it", { timeout: 60_000 }, async () => {
  const random = seededRandom(6);
  await fc.assert(
    fc.asyncProperty(fc.array(framed(deltaChunk), { maxLength: 6 }), framed(lastChunk), async (deltas, last) => {
      const written = [...deltas, last].join("");
      const pieces = cutAtRandom(Buffer.from(`${written}data: [DONE]\n\n`), random.below(6), random);
      replay.answerWith({ pieces, headers: { "content-type": "text/event-stream" } });
      const answer = await ask(stream, house.port, "open");
      expect(answer.whole).toBe(true);
      expect(answer.body.toString()).toBe(`${written}data: [DONE]\n\n`);
    }),
    { numRuns: runs },
  );
});

test("the text generator itself makes JSON", () => {
  fc.assert(fc.property(jsonText, (text) => JSON.parse(text) !== undefined));
  fc.assert(fc.property(answerText, (text) => JSON.parse(text).object === "chat.completion"));
});
