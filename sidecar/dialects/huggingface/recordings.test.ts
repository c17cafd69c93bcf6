/** What really came from servers of this dialect, read in every way in which it can be cut. */
import { describe, expect, test } from "vitest";
import { differences, type Outcome } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { huggingFaceClient } from "./huggingface.ts";

const client = huggingFaceClient({
  prompt: { format: "plain", beginning: false },
  defaultMaxTokens: 1024n,
  modelInPath: false,
});
const recordings = readRecordings(["tgi"], ["tgi.generate"]);
const cutRuns = 200;

function read(recording: Recording, pieces: readonly Uint8Array[]): Outcome {
  if (recording.status >= 300) {
    const { status, headers } = recording;
    const body = Buffer.concat(pieces);
    const fault = client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
    return { response: readPieces(client, []).response, complete: false, fault };
  }
  const { response, complete, failure: fault } = readPieces(client, pieces, { streaming: recording.stream, model: recording.model });
  return { response, complete, fault };
}

describe.skipIf(recordingsFolder() === undefined)(`recordings (where there are none: ${recordingsAbsent})`, () => {
  test("are as many as are known", () => {
    expect(recordings.length).toBe(4);
  });

  test.each(recordings.map((recording) => ({ name: recording.name, recording })))(
    "$name means the same whole, byte by byte and at 200 random cuts",
    ({ recording }) => {
      const { answer, expect: meaning } = recording;
      expect(differences(meaning, read(recording, [answer]))).toEqual([]);
      expect(differences(meaning, read(recording, cutEverywhere(answer)))).toEqual([]);
      for (let seed = 0; seed < cutRuns; seed++) {
        const random = seededRandom(seed);
        const pieces = cutAtRandom(answer, 1 + random.below(12), random);
        expect(differences(meaning, read(recording, pieces)), `seed ${seed}`).toEqual([]);
      }
    },
  );
});
