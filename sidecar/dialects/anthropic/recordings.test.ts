/** What really came from the provider, read in every way in which it can be cut, and written again as a door writes it. */
import { afterAll, describe, expect, it } from "vitest";
import type { ChatRequest } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import { differences } from "../../../test/kit/expected.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "../../../test/kit/random.ts";
import { readPieces, writeBatches } from "../../../test/kit/reading.ts";
import { type Recording, readRecordings, recordingsAbsent, recordingsFolder } from "../../../test/kit/recordings.ts";
import { anthropicClient, anthropicServer } from "./anthropic.ts";

const client = anthropicClient({ version: "2023-06-01", betas: [], defaultMaxTokens: 4096, models: [] });
const recordings = readRecordings(["anthropic"], ["anthropic.messages"]);
const cutsMax = 200;
let ran = 0;

function requestOf(recording: Recording): ChatRequest {
  return recording.request === undefined ? chatRequest() : anthropicServer.readRequest(Buffer.from(recording.request)).request;
}

describe.skipIf(recordingsFolder() === undefined)(`recordings${recordingsFolder() === undefined ? `: ${recordingsAbsent}` : ""}`, () => {
  it("are there", () => {
    expect(recordings.length).toBeGreaterThanOrEqual(18);
  });

  it.each(recordings.filter(({ expect: { kind } }) => kind === "chat").map((each) => [each.name, each] as const))(
    "%s",
    (name, recording) => {
      const { answer, stream: streaming, expect: meaning } = recording;
      const request = requestOf(recording);
      const cuts = [[answer], cutEverywhere(answer), cutAtRandom(answer, cutsMax, seededRandom(name.length))];
      for (const pieces of cuts) {
        const reading = readPieces(client, pieces, { request, streaming });
        const { response, complete, failure: fault, native, batches } = reading;
        expect(differences(meaning, { response, complete, fault })).toEqual([]);
        // What is passed on to a door of this dialect is what came, to the byte; of an answer that fails, all that came before.
        const text = answer.toString();
        if (complete) expect(native.toString()).toBe(text);
        else expect(text.startsWith(native.toString())).toBe(true);
        if (!complete) continue;
        expect(writeBatches(anthropicServer, batches, { streaming, native: true })).toBe(text);
        for (const again of [true, false]) {
          const written = writeBatches(anthropicServer, batches, { streaming: again });
          const read = readPieces(client, [written], { request, streaming: again });
          expect(differences(meaning, { response: read.response, complete: read.complete, fault: read.failure }, { native: true })).toEqual(
            [],
          );
        }
        ran++;
      }
    },
  );

  it.each(recordings.filter(({ expect: { kind } }) => kind === "error").map((each) => [each.name, each] as const))("%s", (_, recording) => {
    const { status, headers, answer: body, expect: meaning } = recording;
    const fault = client.readFault({ status, header: (name) => headers[name], body, nowMs: 0 });
    expect(differences(meaning, { response: readPieces(client, []).response, complete: false, fault })).toEqual([]);
  });

  it.each(recordings.filter(({ request }) => request !== undefined).map((each) => [each.name, each] as const))(
    "%s: the request is written as it was read",
    (_, { request = "" }) => {
      const read = anthropicServer.readRequest(Buffer.from(request));
      const asked = JSON.parse(request);
      const native = client.writeRequest({ ...read, model: asked.model, dropUnsupported: false });
      expect(JSON.parse(String(native.body))).toEqual(asked);
      const written = client.writeRequest({ ...read, native: undefined, model: asked.model, dropUnsupported: false });
      expect(plain(JSON.parse(String(written.body)))).toEqual(plain(asked));
      expect(written.warnings).toEqual([]);
    },
  );

  afterAll(() => {
    if (recordings.length > 0) expect(ran).toBeGreaterThan(0);
  });
});

/** A request in the one of several equal forms that is written here. */
// biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
function plain(request: any): unknown {
  const { stream, system, messages, output_format, ...rest } = request;
  // biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
  const blocks = (content: any): any => (typeof content === "string" ? [{ type: "text", text: content }] : content);
  return {
    ...rest,
    ...(stream === true ? { stream } : {}),
    ...(system === undefined ? {} : { system: blocks(system) }),
    ...(output_format === undefined ? {} : { output_config: { format: output_format } }),
    // biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
    messages: messages.map(({ role, content }: any) => ({
      role,
      // biome-ignore lint/suspicious/noExplicitAny: JSON that another program wrote.
      content: blocks(content).map((block: any) => {
        const [only] = block.type === "tool_result" && Array.isArray(block.content) ? block.content : [];
        return only?.type === "text" && block.content.length === 1 ? { ...block, content: only.text } : block;
      }),
    })),
  };
}
