import { expect, test } from "vitest";
import { FinishReason } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { anthropicClient } from "../../sidecar/dialects/anthropic/anthropic.ts";
import type { ClientHalf } from "../../sidecar/dialects/dialect.ts";
import { geminiClient } from "../../sidecar/dialects/gemini/gemini.ts";
import { openAiClient } from "../../sidecar/dialects/openai/openai.ts";
import { readPieces } from "../kit/reading.ts";
import {
  ANSWER_BYTES,
  anthropicAnswer,
  anthropicStream,
  EVENTS_PER_STREAM,
  geminiAnswer,
  geminiStream,
  openaiAnswer,
  openaiStream,
  STAMP_NONE,
  USAGE,
} from "./payloads.ts";

/** Each format with the half of the sidecar that reads it. */
const formats: readonly [string, ClientHalf, string, ReturnType<typeof openaiStream>][] = [
  [
    "OpenAI",
    openAiClient({ maxTokensField: "max_completion_tokens", developerRole: true, streamUsage: true }),
    openaiAnswer(),
    openaiStream(),
  ],
  [
    "Anthropic",
    anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] }),
    anthropicAnswer(),
    anthropicStream(),
  ],
  ["Gemini", geminiClient({ version: "v1beta", project: undefined, callIds: false, models: [] }), geminiAnswer(), geminiStream()],
];

test.each(formats)("an answer in %s's format means what all others mean", (_, client, answer, stream) => {
  expect(Buffer.byteLength(answer)).toBe(ANSWER_BYTES);
  const unary = readPieces(client, [answer], { streaming: false });
  const streamed = readPieces(client, [...stream.first, ...stream.contents, ...stream.last], { streaming: true });
  for (const { complete, failure, response } of [unary, streamed]) {
    expect(failure).toBeUndefined();
    expect(complete).toBe(true);
    expect(response.choices.map(({ finishReason }) => finishReason)).toEqual([FinishReason.STOP]);
    expect([response.usage?.inputTokens, response.usage?.outputTokens]).toEqual([BigInt(USAGE.input), BigInt(USAGE.output)]);
  }
  const texts = streamed.events.flatMap((event) => (event.case === "text" ? [event.value.text] : []));
  expect(texts).toEqual(Array.from({ length: EVENTS_PER_STREAM }, () => STAMP_NONE));
});

test("usage grows from chunk to chunk of a Gemini stream", () => {
  const { contents } = geminiStream();
  expect(contents.map((content) => Number(/"candidatesTokenCount": (\d+)/.exec(content)?.[1]))).toEqual(
    Array.from({ length: EVENTS_PER_STREAM }, (_, i) => i + 1),
  );
  for (const content of contents) expect(Math.abs(content.length - 350)).toBeLessThan(5);
});
