import { describe, expect, test } from "vitest";
import { type Batch, Collector } from "../../../proto/chat.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { differences, type Outcome } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { answerInput } from "../../../test/kit/reading.ts";
import { type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { responsesClient, responsesServer } from "./responses.ts";

const client = responsesClient({ models: [] });

/** Reads a recorded answer that arrives in the given pieces. */
function read(
  recording: Recording,
  pieces: readonly Uint8Array[],
): Outcome & { readonly native: string; readonly batches: readonly Batch[] } {
  const collector = new Collector();
  const reader = client.readAnswer(answerInput({ streaming: recording.stream, answerBytesMax: 1 << 22 }));
  const batches: Batch[] = [];
  for (const piece of pieces) batches.push(...reader.read(piece));
  batches.push(...reader.end());
  for (const batch of batches) collector.add(batch);
  const native = Buffer.concat(batches.flatMap((batch) => (batch.native === undefined ? [] : [batch.native.bytes]))).toString();
  return { response: collector.response, complete: collector.complete, fault: reader.failure, native, batches };
}

/** What a caller of the same dialect gets of the bytes: everything but what says that the answer failed, which the door says itself. */
function passedOn(recording: Recording): string {
  const text = Buffer.from(recording.answer).toString();
  if (!recording.stream) return text;
  return text
    .split(/(?<=\n\n)/)
    .filter((frame) => !/^event: (?:error|response\.failed)\n/.test(frame))
    .join("");
}

const recordings = readRecordings(["openai", "azure"], ["openai.responses"]);

describe.skipIf(recordingsFolder() === undefined)(`recordings (where there are none: ${recordingsAbsent})`, () => {
  test("are as many as are known", () => {
    expect(recordings.length).toBe(6);
  });

  describe.each(recordings.map((recording) => ({ name: recording.name, recording })))("$name", ({ recording }) => {
    // An answer that fails has no end, and so no reason for it; everything else is compared to the last word.
    const lenience = { native: recording.expect.stream_error !== undefined };

    test("means the same whole, byte by byte and at 200 random cuts", () => {
      const whole = read(recording, [recording.answer]);
      expect(differences(recording.expect, whole, lenience)).toEqual([]);
      expect(differences(recording.expect, read(recording, cutEverywhere(recording.answer)), lenience)).toEqual([]);
      for (let seed = 0; seed < 200; seed++) {
        const random = seededRandom(seed);
        const pieces = cutAtRandom(recording.answer, 1 + random.below(12), random);
        const cut = read(recording, pieces);
        expect(differences(recording.expect, cut, lenience), `seed ${seed}`).toEqual([]);
        expect(cut.fault?.message).toBe(whole.fault?.message);
      }
    });

    test("passes its bytes on as they came, however they are cut", () => {
      const expected = passedOn(recording);
      for (let seed = 0; seed < 50; seed++) {
        const random = seededRandom(seed);
        const { native } = read(recording, cutAtRandom(recording.answer, random.below(12), random));
        expect(native).toBe(expected);
      }
      expect(read(recording, [recording.answer]).batches.length).toBeLessThanOrEqual(2);
    });

    test("means the same written anew, from any batch on", () => {
      const { batches, fault } = read(recording, cutEverywhere(recording.answer));
      const request = chatRequest({ model: "asked" });
      // Every place from which on the bytes are not to be had any more.
      for (let from = 0; from <= batches.length; from += Math.max(1, Math.floor(batches.length / 40))) {
        const writer = responsesServer.writeAnswer(
          { request, native: { dialect: "openai", text: "{}" }, streaming: recording.stream, streamUsage: true },
          "request-1",
        );
        let text = "";
        batches.forEach((batch, index) => {
          text += String(Buffer.from(writer.write(index < from ? batch : [...batch]) ?? ""));
        });
        text += fault === undefined ? String(Buffer.from(writer.end() ?? "")) : writer.fault(fault);
        const reader = client.readAnswer(answerInput({ streaming: recording.stream, answerBytesMax: 1 << 22 }));
        const again = [...reader.read(Buffer.from(text)), ...reader.end()];
        const collector = new Collector();
        for (const batch of again) collector.add(batch);
        const outcome = { response: collector.response, complete: collector.complete, fault: reader.failure };
        expect(differences(recording.expect, outcome, { native: true }), `from batch ${from}`).toEqual([]);
      }
    });
  });
});
