import { describe, expect, test } from "vitest";
import { type Batch, Collector } from "../../../proto/chat.ts";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { differences, type Outcome } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { openAiClient } from "./openai.ts";

const client = openAiClient({ maxTokensField: "max_completion_tokens", developerRole: true, streamUsage: true });

const request: ChatRequest = {
  $typeName: "outrigger.chat.v1.ChatRequest",
  model: "asked",
  messages: [],
  tools: [],
  stop: [],
  logitBias: {},
  user: "",
  serviceTier: "",
  extras: [],
};

/** Reads a recorded answer that arrives in the given pieces. */
function read(
  recording: Recording,
  pieces: readonly Uint8Array[],
): Outcome & { readonly native: Uint8Array; readonly batches: readonly Batch[] } {
  const collector = new Collector();
  if (recording.status >= 300) {
    const body = Buffer.concat(pieces);
    const fault = client.readFault({ status: recording.status, header: (name) => recording.headers[name], body, nowMs: 0 });
    return { response: collector.response, complete: false, fault, native: new Uint8Array(), batches: [] };
  }
  let ids = 0;
  const reader = client.readAnswer({
    request,
    streaming: recording.stream,
    model: "upstream-model",
    route: "route",
    provider: "provider",
    nativeStreamUsage: true,
    answerBytesMax: 1 << 22,
    newId: (prefix) => `${prefix}${++ids}`,
  });
  const batches: Batch[] = [];
  for (const piece of pieces) batches.push(...reader.read(piece));
  batches.push(...reader.end());
  for (const batch of batches) collector.add(batch);
  const native = Buffer.concat(batches.flatMap((batch) => (batch.native === undefined ? [] : [batch.native.bytes])));
  return { response: collector.response, complete: collector.complete, fault: reader.failure, native, batches };
}

/** What a caller of the same dialect gets of the bytes: everything but the closing word, errors, and what was cut off. */
function passedOn(recording: Recording): string {
  const text = Buffer.from(recording.answer).toString();
  if (!recording.stream) return text;
  return text
    .split(/(?<=\n\n)/)
    .filter((frame) => frame.endsWith("\n\n") && !frame.startsWith("data: [DONE]") && !frame.startsWith("event: error"))
    .join("");
}

const recordings = readRecordings(["openai", "openai-compatible"], ["openai.chat"]);
/** Of servers that borrow the format, each with something that the format does not say. */
const borrowed = readRecordings(["azure", "huggingface", "mistral", "ollama", "tgi", "vllm"], ["openai.chat"]);

describe.skipIf(recordingsFolder() === undefined)(`recordings (where there are none: ${recordingsAbsent})`, () => {
  test("are as many as are known", () => {
    expect(recordings.length).toBe(18);
    expect(borrowed.length).toBe(32);
  });

  describe.each([...recordings, ...borrowed].map((recording) => ({ name: recording.name, recording })))("$name", ({ recording }) => {
    test("means the same whole, byte by byte and at 200 random cuts", () => {
      const whole = read(recording, [recording.answer]);
      expect(differences(recording.expect, whole)).toEqual([]);
      expect(differences(recording.expect, read(recording, cutEverywhere(recording.answer)))).toEqual([]);
      for (let seed = 0; seed < 200; seed++) {
        const random = seededRandom(seed);
        const pieces = cutAtRandom(recording.answer, 1 + random.below(12), random);
        expect(differences(recording.expect, read(recording, pieces)), `seed ${seed}`).toEqual([]);
      }
    });
  });

  describe.each(recordings.filter(({ expect }) => expect.kind === "chat").map((recording) => ({ name: recording.name, recording })))(
    "$name",
    ({ recording }) => {
      test("passes its bytes on as they came, however they are cut", () => {
        const expected = passedOn(recording);
        for (let seed = 0; seed < 50; seed++) {
          const random = seededRandom(seed);
          const { native } = read(recording, cutAtRandom(recording.answer, random.below(12), random));
          expect(Buffer.from(native).toString()).toBe(expected);
        }
      });

      test("comes in one batch for each read, but for what must stand apart", () => {
        const { batches } = read(recording, [recording.answer]);
        expect(batches.length).toBeLessThanOrEqual(3);
      });
    },
  );
});
