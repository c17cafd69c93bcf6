import fc from "fast-check";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DemoProvider, startDemoProvider } from "./server.ts";
import { countTokens } from "./tokens.ts";

const clock = { wallMs: () => 0, after: () => () => {} };
const providers: DemoProvider[] = [];

/** A provider of its own, asked by the official package. */
async function start(seed = "test"): Promise<OpenAI> {
  const demo = await startDemoProvider({ host: "127.0.0.1", port: 0, seed, clock });
  providers.push(demo);
  return new OpenAI({ baseURL: demo.endpoint, apiKey: "none", maxRetries: 0 });
}

let openai: OpenAI;
beforeAll(async () => {
  openai = await start();
});
afterAll(() => Promise.all(providers.map((demo) => demo.close())));

async function vectors(input: string[], more: object = {}): Promise<number[][]> {
  const { data } = await openai.embeddings.create({ model: "demo", input, encoding_format: "float", ...more });
  return data.map(({ embedding }) => [...embedding]);
}

function likeness(one: readonly number[] = [], other: readonly number[] = []): number {
  return one.reduce((sum, value, at) => sum + value * (other[at] ?? 0), 0);
}

describe("the demo provider's vectors", () => {
  test("are of length one, as long as asked for, and the same every time, whatever the company", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ minLength: 1 }), fc.integer({ min: 1, max: 400 }), async (text, dimensions) => {
        const [vector = []] = await vectors([text], { dimensions });
        expect(vector).toHaveLength(dimensions);
        expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
        expect((await vectors(["another", text], { dimensions }))[1]).toEqual(vector);
      }),
      { numRuns: 40 },
    );
    const [vector] = await vectors(["a word"]);
    const again = await (await start()).embeddings.create({ model: "demo", input: "a word", encoding_format: "float" });
    const other = await (await start("another seed")).embeddings.create({ model: "demo", input: "a word", encoding_format: "float" });
    expect(again.data[0]?.embedding).toEqual(vector);
    expect(other.data[0]?.embedding).not.toEqual(vector);
  });

  test("lie closer together the more words they share", async () => {
    const [cats, more, sea] = await vectors(["My cat sleeps on the sofa", "the cat sleeps in my bed", "Waves break at the harbour wall"]);
    expect(likeness(cats, more)).toBeGreaterThan(likeness(cats, sea) + 0.2);
    expect(likeness(...(await vectors(["Cats", " cats"])))).toBeCloseTo(1, 4);
  });

  test("come as base64 where that is asked for, as the package does by itself", async () => {
    const [vector] = await vectors(["a word"]);
    const { data, usage } = await openai.embeddings.create({ model: "demo", input: "a word" });
    expect([...(data[0]?.embedding ?? [])]).toEqual(vector);
    expect(usage).toEqual({ prompt_tokens: countTokens("a word"), total_tokens: countTokens("a word") });
  });

  test("are made of tokens, too", async () => {
    const { data } = await openai.embeddings.create({ model: "demo", input: [[1, 2], [3]] });
    expect(data).toHaveLength(2);
  });

  test.each<[string, object, string | null]>([
    ["nothing", { input: [] }, "input"],
    ["an empty text", { input: ["a", ""] }, "input"],
    ["something else", { input: { a: 1 } }, "input"],
    ["no length", { input: "a", dimensions: 0 }, "dimensions"],
    ["a strange form", { input: "a", encoding_format: "hex" }, "encoding_format"],
    ["a member that nobody knows", { input: "a", colour: "red" }, "colour"],
    ["a model that is not there", { input: "a", model: "gpt" }, "model"],
  ])("are not made of %s", async (_, body, param) => {
    await expect(openai.embeddings.create({ model: "demo", ...body } as never)).rejects.toMatchObject({ param });
  });

  test("fail as the model's name says", async () => {
    await expect(openai.embeddings.create({ model: "demo:429", input: "a" })).rejects.toMatchObject({ status: 429 });
  });
});
