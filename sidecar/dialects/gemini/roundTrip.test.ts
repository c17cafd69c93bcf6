/** What a model says comes back to it as it said it, after it was read as an answer and written as a part of the next request. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { chatRequest } from "../../../test/kit/call.ts";
import { cutAtRandom, seededRandom } from "../../../test/kit/random.ts";
import { readPieces } from "../../../test/kit/reading.ts";
import { anthropicServer } from "../anthropic/anthropic.ts";
import { openAiServer } from "../openai/openai.ts";
import { geminiClient } from "./gemini.ts";
import { PartialArguments } from "./partialArguments.ts";
import { readSeal, showSeal } from "./seal.ts";

const client = geminiClient({ version: "v1beta", project: undefined, callIds: false, models: [{ pattern: "*", signedCalls: false }] });

const signature = fc.uint8Array({ minLength: 1, maxLength: 12 }).map((bytes) => Buffer.from(bytes).toString("base64"));
const signed = { thoughtSignature: fc.option(signature, { nil: undefined }) };
const words = fc.string({ minLength: 1, unit: "binary" }).filter((text) => text.isWellFormed());
const functionCall = fc.record(
  {
    name: fc.stringMatching(/^[a-z_][a-zA-Z0-9_.:-]{0,20}$/),
    args: fc.dictionary(fc.string(), fc.jsonValue()),
    id: fc.string({ minLength: 1 }),
  },
  { requiredKeys: ["name", "args"] },
);
interface ModelPart {
  readonly text?: string;
  readonly thought?: boolean;
  readonly thoughtSignature?: string | undefined;
  readonly functionCall?: { readonly name: string; readonly args: object; readonly id?: string };
  readonly executableCode?: object;
}
const part: fc.Arbitrary<ModelPart> = fc.oneof(
  fc.record({ text: words, ...signed }),
  fc.record({ text: words, thought: fc.constant(true), ...signed }),
  fc.record({ functionCall, ...signed }),
  fc.record({ text: fc.constant(""), thoughtSignature: signature }),
  fc.record({ executableCode: fc.record({ code: fc.string() }) }),
);
// A signature on an empty text ends an answer; one that begins it would be put at its end.
const parts = fc.array(part, { minLength: 1, maxLength: 6 }).filter(([first]) => first?.text !== "");

/** Pieces of one text are one text, and ids are not sent here. */
function plain(given: readonly ModelPart[]): ModelPart[] {
  const plainParts: ModelPart[] = [];
  for (const { functionCall: call, thoughtSignature, ...rest } of given) {
    const next: ModelPart = {
      ...rest,
      ...(call === undefined ? {} : { functionCall: { name: call.name, args: call.args } }),
      ...(thoughtSignature === undefined ? {} : { thoughtSignature }),
    };
    const last = plainParts.at(-1);
    const joins = last?.text !== undefined && next.text !== undefined && next.text !== "" && last.thought === next.thought;
    if (joins && last.thoughtSignature === undefined)
      plainParts[plainParts.length - 1] = { ...last, ...next, text: `${last.text}${next.text}` };
    else plainParts.push(next);
  }
  return plainParts;
}

function answerOf(said: readonly ModelPart[]): string {
  const chunks = said.map((each) => ({ candidates: [{ content: { role: "model", parts: [each] } }] }));
  return [...chunks, { candidates: [{ finishReason: "STOP" }] }].map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`).join("");
}

function writtenParts(request: ReturnType<typeof chatRequest>): ModelPart[] {
  const { body } = client.writeRequest({ request, native: undefined, model: "m", streaming: false, dropUnsupported: false });
  return JSON.parse(String(body)).contents[1].parts;
}

it("an answer goes back part by part, with every signature where it was", () => {
  fc.assert(
    fc.property(parts, fc.nat(), (said, seed) => {
      const { response, complete } = readPieces(client, cutAtRandom(Buffer.from(answerOf(said)), 5, seededRandom(seed)));
      expect(complete).toBe(true);
      const message = response.choices[0]?.message;
      if (message === undefined) throw new Error("there is no message");
      const written = writtenParts(chatRequest({ messages: [...chatRequest().messages, message] }));
      expect(plain(written)).toEqual(plain(JSON.parse(JSON.stringify(said))));
    }),
    { numRuns: 300 },
  );
});

it.each([
  ["the OpenAI door", openAiServer],
  ["the Anthropic door", anthropicServer],
])("calls keep their signatures through a client of %s that gives back what it got", (_, server) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ functionCall, thoughtSignature: fc.option(signature, { nil: undefined }) }), { minLength: 1, maxLength: 4 }),
      (said) => {
        const { batches } = readPieces(client, [answerOf(said)]);
        const writer = server.writeAnswer(
          { request: chatRequest(), native: { dialect: "", text: "{}" }, streaming: false, streamUsage: false },
          "r",
        );
        for (const batch of batches) writer.write(batch);
        const answer = JSON.parse(String(writer.end()));
        const message = server === openAiServer ? answer.choices[0].message : { role: "assistant", content: answer.content };
        const request = { model: "m", max_tokens: 9, messages: [{ role: "user", content: "Go." }, message] };
        const written = writtenParts(server.readRequest(Buffer.from(JSON.stringify(request))).request);
        expect(plain(written.filter((each) => each.functionCall !== undefined))).toEqual(plain(JSON.parse(JSON.stringify(said))));
      },
    ),
    { numRuns: 100 },
  );
});

it("a seal is read as it was shown, whatever the call's id is", () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }),
      signature,
      fc.constantFrom("text" as const, "end" as const, "thought" as const),
      (id, sealed, kind) => {
        for (const seal of [
          { part: { kind: "call" as const, id }, signature: sealed },
          { part: { kind }, signature: sealed },
        ]) {
          expect(readSeal(showSeal(seal))).toEqual(seal);
        }
      },
    ),
  );
});

it("arguments that come in pieces are what they were, with texts cut anywhere and members of any name", () => {
  const pieces = (value: unknown, path: string): object[] => {
    if (Array.isArray(value)) return value.flatMap((each, index) => pieces(each, `${path}[${index}]`));
    if (typeof value === "object" && value !== null) {
      return Object.entries(value).flatMap(([key, each]) => pieces(each, `${path}['${key.replace(/[\\']/g, "\\$&")}']`));
    }
    if (typeof value === "number") return [{ jsonPath: path, numberValue: value }];
    if (typeof value === "boolean") return [{ jsonPath: path, boolValue: value }];
    if (typeof value !== "string") return [{ jsonPath: path, nullValue: "NULL_VALUE" }];
    const half = Math.floor(value.length / 2);
    return [
      { jsonPath: path, stringValue: value.slice(0, half), willContinue: true },
      { jsonPath: path, stringValue: value.slice(half) },
    ];
  };
  const isFull = (value: unknown): boolean =>
    typeof value !== "object" || value === null || (Object.keys(value).length > 0 && Object.values(value).every(isFull));
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()).filter((value) => Object.values(value).every(isFull)),
      (value) => {
        const args = new PartialArguments();
        for (const piece of pieces(value, "$")) expect(args.add(piece)).toBe(true);
        expect(JSON.parse(args.json())).toEqual(JSON.parse(JSON.stringify(value)));
      },
    ),
  );
});

it.each(["", "a", "$", "$a", "$.", "$..a", "$[x]", "$[01]", "$.a[7]", "$[0]", "$.a.b"])(
  "a piece without a place is refused: %s",
  (jsonPath) => {
    const args = new PartialArguments();
    expect(args.add({ jsonPath: "$.a", numberValue: 1 })).toBe(true);
    expect(args.add({ jsonPath, stringValue: "x" })).toBe(false);
  },
);
