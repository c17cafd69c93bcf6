/** What really came from the provider, read in every way in which it can be cut. */
import { afterAll, describe, expect, it } from "vitest";
import { FaultReason } from "../../../proto/fault.ts";
import { differences } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { bedrockClient } from "./bedrock.ts";

const client = bedrockClient({ guardrail: undefined, models: [] });
const recordings = readRecordings(["bedrock"], ["bedrock.converse"]);
const cutRuns = 200;
let ran = 0;

describe.skipIf(recordingsFolder() === undefined)(`recordings${recordingsFolder() === undefined ? `: ${recordingsAbsent}` : ""}`, () => {
  it("are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(13);
  });

  it.each(recordings.filter(({ expect: { kind } }) => kind === "chat").map((each) => [each.name, each] as const))(
    "%s: whole, byte by byte and at seeded cuts",
    (name, { answer, stream: streaming, expect: meaning }) => {
      const random = seededRandom(name.length);
      const cuts = [[answer], cutEverywhere(answer)];
      for (let run = 0; run < cutRuns; run++) cuts.push(cutAtRandom(answer, 1 + random.below(8), random));
      for (const pieces of cuts) {
        const { response, complete, failure: fault } = readPieces(client, pieces, { streaming });
        expect(differences(meaning, { response, complete, fault })).toEqual([]);
        ran++;
      }
    },
  );

  it.each(recordings.filter(({ expect: { kind } }) => kind === "error").map((each) => [each.name, each] as const))("%s", (_, recording) => {
    const { status, headers, answer: body, expect: meaning } = recording;
    const fault = client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
    expect(differences(meaning, { response: readPieces(client, []).response, complete: false, fault })).toEqual([]);
    ran++;
  });

  it.each(recordings.filter(({ stream, expect: { complete } }) => stream && complete).map((each) => [each.name, each] as const))(
    "%s: any flipped bit is an error and no end",
    (name, { answer }) => {
      const random = seededRandom(name.length);
      for (let run = 0; run < 300; run++) {
        const flipped = Uint8Array.from(answer);
        // The very first byte decides whether these are frames at all.
        const at = 1 + random.below(answer.length - 1);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
        const { complete, failure } = readPieces(client, [flipped]);
        expect(complete).toBe(false);
        expect(failure?.reason).toSatisfy((reason) =>
          [FaultReason.PROVIDER_ANSWER_INVALID, FaultReason.PROVIDER_ANSWER_INCOMPLETE].includes(reason),
        );
      }
    },
  );

  it.each(recordings.filter(({ stream, expect: { complete } }) => stream && complete).map((each) => [each.name, each] as const))(
    "%s: cut off anywhere inside a frame is an error and no end",
    (_, { answer }) => {
      const ends = new Set(frameEnds(answer));
      for (let length = 0; length < answer.length; length++) {
        const { complete, failure } = readPieces(client, [answer.subarray(0, length)]);
        // Behind messageStop a frame border is an end, whether or not usage came.
        if (ends.has(length) && complete) continue;
        expect({ length, complete, reason: failure?.reason }).toEqual({
          length,
          complete: false,
          reason: FaultReason.PROVIDER_ANSWER_INCOMPLETE,
        });
      }
    },
  );

  afterAll(() => {
    if (recordings.length > 0) expect(ran).toBeGreaterThan(0);
  });
});

/** Where frames end, by their own lengths. */
function frameEnds(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const ends: number[] = [];
  for (let at = 0; at < bytes.length; at += view.getUint32(at)) ends.push(at + view.getUint32(at));
  return ends;
}
