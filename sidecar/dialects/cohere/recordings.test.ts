/** What really came from the provider, read in every way in which it can be cut; and what was really sent, written from what it meant. */
import { afterAll, describe, expect, it } from "vitest";
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { differences } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { cohereClient } from "./cohere.ts";

const client = cohereClient({ models: [] });
const recordings = readRecordings(["cohere"], ["cohere.chat"]);
/** Runs of each case at random cuts. */
const cutRuns = 200;
let ran = 0;

describe.skipIf(recordingsFolder() === undefined)(`recordings${recordingsFolder() === undefined ? `: ${recordingsAbsent}` : ""}`, () => {
  it("are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(9);
  });

  it.each(recordings.filter(({ expect: { kind } }) => kind === "chat").map((each) => [each.name, each] as const))(
    "%s",
    (name, recording) => {
      const { answer, stream: streaming, expect: meaning } = recording;
      const random = seededRandom(name.length);
      const ways = [[answer], cutEverywhere(answer)];
      for (let run = 0; run < cutRuns; run++) ways.push(cutAtRandom(answer, 1 + random.below(8), random));
      for (const pieces of ways) {
        const { response, complete, failure: fault, batches } = readPieces(client, pieces, { streaming });
        expect(differences(meaning, { response, complete, fault })).toEqual([]);
        expect(response.model).toBe("upstream-model");
        expect(response.id).not.toBe("");
        // Bytes of a dialect that no door speaks are of no use to anyone.
        expect(batches.every(({ native }) => native === undefined)).toBe(true);
        ran++;
      }
      // What is cut off is never taken for a whole answer.
      const short = readPieces(client, [answer.subarray(0, Math.floor(answer.length / 2))], { streaming });
      expect([short.complete, short.failure?.message]).toEqual([false, expect.stringContaining("answer")]);
    },
  );

  it.each(recordings.filter(({ expect: { kind } }) => kind === "error").map((each) => [each.name, each] as const))("%s", (_, recording) => {
    const { status, headers, answer: body, expect: meaning } = recording;
    const fault = client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
    expect(differences(meaning, { response: readPieces(client, []).response, complete: false, fault })).toEqual([]);
  });

  it("requests are written as they were sent", () => {
    const sent = new Map(recordings.map(({ name, request }) => [name, request]));
    const user = (text: string) => ({ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text } } }] });
    const schema =
      '{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}';
    const ours = new Map([
      ["cohere/reasoning", { model: "command-a-reasoning-08-2025", messages: [user("What is 5 + 3?")], reasoning: {} }],
      [
        "cohere/json-schema",
        {
          model: "command-a-03-2025",
          messages: [user("Generate a person named John who is 30 years old")],
          responseFormat: { format: { case: "jsonSchema" as const, value: { name: "person", schemaJson: schema, strict: true } } },
        },
      ],
      [
        "cohere/parallel-tools",
        {
          model: "command-a-03-2025",
          messages: [
            {
              role: Role.DEVELOPER,
              parts: [
                {
                  content: {
                    case: "text" as const,
                    value: { text: "You must call the dice_roll tool exactly 3 times when asked to roll dice 3 times." },
                  },
                },
              ],
            },
            user("Roll the dice 3 times"),
          ],
          tools: [
            {
              name: "dice_roll",
              description: "Rolls a single six-sided die and returns the result",
              parametersJson: '{"type":"object","properties":{},"required":[],"additionalProperties":false}',
            },
          ],
        },
      ],
    ]);
    for (const [name, init] of ours) {
      const { model } = init;
      const written = client.writeRequest({
        request: chatRequest(init),
        native: undefined,
        model,
        streaming: false,
        dropUnsupported: false,
      });
      expect(JSON.parse(String(written.body))).toEqual(plain(JSON.parse(sent.get(name) ?? "")));
      expect(written.warnings).toEqual([]);
    }
  });

  afterAll(() => {
    if (recordings.length > 0) expect(ran).toBeGreaterThan(0);
  });
});

/** A request in the one of several equal forms that is written here: text as a string, and no word where nothing is streamed. */
function plain({ stream: _, messages, ...rest }: { stream: boolean; messages: { role: string; content: { text: string }[] }[] }): unknown {
  return { ...rest, messages: messages.map(({ role, content }) => ({ role, content: content.map(({ text }) => text).join("") })) };
}
