/** What really came from the provider, read in every way in which it can be cut. */
import { afterAll, describe, expect, it } from "vitest";
import { chatRequest } from "../../../test/kit/call.ts";
import { differences } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { geminiClient } from "./gemini.ts";

const client = geminiClient({ version: "v1beta", project: undefined, callIds: true, models: [] });
const recordings = readRecordings(["gemini", "vertex"], ["gemini.generateContent"]);
const cutRuns = 200;
let ran = 0;

describe.skipIf(recordingsFolder() === undefined)(`recordings${recordingsFolder() === undefined ? `: ${recordingsAbsent}` : ""}`, () => {
  it("are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(19);
  });

  it.each(recordings.filter(({ expect: { kind } }) => kind === "chat").map((each) => [each.name, each] as const))(
    "%s",
    (name, { answer, stream: streaming, expect: meaning }) => {
      const random = seededRandom(name.length);
      const cuts: Iterable<Uint8Array>[] = [[answer], cutEverywhere(answer)];
      for (let run = 0; run < cutRuns; run++) cuts.push(cutAtRandom(answer, 1 + random.below(8), random));
      for (const pieces of cuts) {
        const { response, complete, failure: fault } = readPieces(client, pieces, { streaming });
        expect(differences(meaning, { response, complete, fault })).toEqual([]);
        ran++;
      }
    },
  );

  it.each(recordings.filter(({ stream }) => stream).map((each) => [each.name, each] as const))(
    "%s: the same as one array, which is how it comes without server-sent events",
    (name, { answer, expect: meaning }) => {
      const chunks = Buffer.from(answer).toString().split("\r\n\r\n").filter(Boolean);
      const array = Buffer.from(`[${chunks.map((chunk) => chunk.replace(/^data: /, "")).join("\n,\r\n")}\n]`);
      for (const pieces of [[array], cutEverywhere(array), cutAtRandom(array, 9, seededRandom(name.length))]) {
        const { response, complete, failure: fault } = readPieces(client, pieces);
        expect(differences(meaning, { response, complete, fault })).toEqual([]);
      }
    },
  );

  it.each(recordings.filter(({ stream }) => stream).map((each) => [each.name, each] as const))(
    "%s: without its last chunk it is incomplete and no answer",
    (_, { answer }) => {
      const text = Buffer.from(answer).toString();
      const { complete, failure } = readPieces(client, [text.slice(0, text.trimEnd().lastIndexOf("data:"))]);
      expect([complete, failure?.kind.name]).toEqual([false, "PROVIDER_ANSWER_INCOMPLETE"]);
    },
  );

  it.each(recordings.filter(({ expect: { kind } }) => kind === "error").map((each) => [each.name, each] as const))("%s", (_, recording) => {
    const { status, headers, answer: body, expect: meaning } = recording;
    const fault = client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
    expect(differences(meaning, { response: readPieces(client, []).response, complete: false, fault })).toEqual([]);
  });

  it("answers that call tools give the model's words and signatures back as they came", () => {
    const calling = recordings.filter(
      ({ expect: { kind, tool_calls } }) => kind === "chat" && Array.isArray(tool_calls) && tool_calls.length > 0,
    );
    expect(calling.length).toBeGreaterThan(4);
    for (const { name, answer, stream: streaming } of calling) {
      const { response } = readPieces(client, [answer], { streaming });
      const message = response.choices[0]?.message;
      const history = chatRequest({ messages: [...chatRequest().messages, ...(message === undefined ? [] : [message])] });
      const written = client.writeRequest({ request: history, native: undefined, model: "gemini-3", streaming, dropUnsupported: false });
      const [, model] = JSON.parse(String(written.body)).contents;
      const signatures = (parts: { thoughtSignature?: string; functionCall?: { name: string } }[]): unknown[] =>
        parts
          .filter(({ functionCall }) => functionCall?.name !== undefined)
          .map((part) => [part.functionCall?.name, part.thoughtSignature]);
      expect([name, signatures(model.parts)]).toEqual([name, signatures(partsOf(Buffer.from(answer).toString()))]);
    }
  });

  afterAll(() => {
    if (recordings.length > 0) expect(ran).toBeGreaterThan(0);
  });
});

/** All parts of an answer, whole or streamed. */
// biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
function partsOf(text: string): any[] {
  const responses = text.startsWith("data:")
    ? text
        .split("\r\n\r\n")
        .filter(Boolean)
        .map((chunk) => JSON.parse(chunk.replace(/^data: /, "")))
    : [JSON.parse(text)];
  return responses.flatMap(({ candidates }) => candidates?.[0]?.content?.parts ?? []);
}
