/**
 * Vectors that the demo provider makes up: one direction for each word, the same in every text, added up and brought to length one. Texts that share words lie close together, so that a search over them finds something, and nothing is learned or stored.
 */
import { isArray, type Json, member } from "./json.ts";
import type { DemoModel } from "./models.ts";
import { modelOf, parseBody, Refusal } from "./request.ts";
import { Seeded } from "./seeded.ts";
import { countTokens, tokensOf } from "./tokens.ts";

/** A request for vectors that was understood. */
export interface DemoEmbeddingRequest {
  readonly model: DemoModel;
  /** What vectors are made of; an input of tokens is what their numbers look like as text. */
  readonly inputs: readonly string[];
  readonly dimensions: number;
  readonly base64: boolean;
}

const usualDimensions = 256; // enough to tell texts apart, few enough to read a vector on a screen
const dimensionsMax = 3_072; // as large embedding models have them
const inputsMax = 2_048; // as the format has it

const known: ReadonlySet<string> = new Set(["model", "input", "dimensions", "encoding_format", "user"]);

/** Reads a body. Throws `Refusal`. */
export function readEmbeddingRequest(body: string): DemoEmbeddingRequest {
  const request = parseBody(body);
  for (const name of Object.keys(request)) {
    if (!known.has(name)) throw new Refusal(`Unknown parameter: '${name}'.`, name, "unknown_parameter");
  }
  const model = modelOf(request);
  const dimensions = member(request, "dimensions") ?? usualDimensions;
  if (typeof dimensions !== "number" || !Number.isInteger(dimensions) || dimensions < 1 || dimensions > dimensionsMax) {
    throw new Refusal(`Invalid value for 'dimensions': expected an integer from 1 to ${dimensionsMax}.`, "dimensions", null);
  }
  const encoding = member(request, "encoding_format") ?? "float";
  if (encoding !== "float" && encoding !== "base64") {
    throw new Refusal("Invalid value for 'encoding_format': expected 'float' or 'base64'.", "encoding_format", null);
  }
  return { model, inputs: inputsOf(member(request, "input")), dimensions, base64: encoding === "base64" };
}

/** The body of the answer. */
export function writeEmbeddings({ model, inputs, dimensions, base64 }: DemoEmbeddingRequest, seed: string): string {
  const directions = new Map<string, readonly number[]>();
  const data = inputs.map((input, index) => {
    const vector = vectorOf(input, dimensions, seed, directions);
    return { object: "embedding", index, embedding: base64 ? Buffer.from(Float32Array.from(vector).buffer).toString("base64") : vector };
  });
  const tokens = inputs.reduce((sum, input) => sum + countTokens(input), 0);
  return JSON.stringify({ object: "list", data, model: model.name, usage: { prompt_tokens: tokens, total_tokens: tokens } });
}

/** The vector of a text: of length one, and of 32-bit numbers, as real ones are. `directions` remembers those of words. */
function vectorOf(text: string, dimensions: number, seed: string, directions: Map<string, readonly number[]>): number[] {
  const sum = new Array<number>(dimensions).fill(0);
  // A blank or a capital makes another token and the same word.
  const words = tokensOf(text).map((token) => token.trim().toLowerCase());
  for (const word of words.some((each) => each !== "") ? words.filter((each) => each !== "") : [text]) {
    let direction = directions.get(word);
    if (direction === undefined) {
      const random = new Seeded(`${seed}/vector/${word}`);
      direction = sum.map(() => random.next() * 2 - 1);
      directions.set(word, direction);
    }
    for (let at = 0; at < dimensions; at++) sum[at] = (sum[at] ?? 0) + (direction[at] ?? 0);
  }
  const length = Math.hypot(...sum);
  return sum.map((value) => Math.fround(length === 0 ? 1 / Math.sqrt(dimensions) : value / length));
}

function inputsOf(input: Json | undefined): string[] {
  const inputs = isArray(input) && typeof input[0] !== "number" ? input : input === undefined || input === null ? [] : [input];
  if (inputs.length === 0 || inputs.length > inputsMax) {
    throw new Refusal(`Invalid 'input': expected from 1 to ${inputsMax} inputs.`, "input", null);
  }
  return inputs.map((each, index) => {
    if (typeof each === "string" && each !== "") return each;
    if (isArray(each) && each.length > 0 && each.every((token) => Number.isInteger(token))) return each.join(" ");
    throw new Refusal(`Invalid 'input[${index}]': expected a text or a list of tokens that is not empty.`, "input", null);
  });
}
