/**
 * What the embedding halves of all dialects have in common: the way from a body to vectors, their two forms on wires, and what most APIs
 * cannot be asked.
 *
 * A dialect says where in a body the vectors stand; here is what holds for every one. Vectors are as many as the inputs, in their order,
 * all of one length and of finite numbers: whatever else comes is no answer, since a vector in the wrong place is found by the wrong
 * question for as long as the index that it is put in lives.
 */
import { embeddingEvent, startEvent, usageEvent } from "../../proto/chat.ts";
import { Fault } from "../../proto/fault.ts";
import type { Extra, Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type EmbeddingInput, EmbeddingPurpose, type EmbeddingRequest } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { AnswerReader, EmbeddingAnswerInput } from "./dialect.ts";
import { type AnswerEvents, notUnderstood, readBody } from "./plainReader.ts";
import type { Report } from "./report.ts";

/** What a body says. */
export interface VectorAnswer {
  /** The answer's id; one is made where it is left out. */
  readonly id?: string | undefined;
  /** The model that answered; the one that was asked if left out. */
  readonly model?: string | undefined;
  /** The vectors as the body has them, lists of numbers or base64, in the order of the inputs; anything else if it has none. */
  readonly vectors: unknown;
  readonly usage: Usage | undefined;
}

/**
 * Reads an answer that is one JSON value. `read` finds in it what it says, or the fault that it is; `json` is its text. It may throw
 * faults, and may give anything as vectors, which are checked here.
 */
export function readVectors(input: EmbeddingAnswerInput, read: (body: unknown, json: string) => VectorAnswer | Fault): AnswerReader {
  return readBody(input, new VectorEvents(input, read));
}

class VectorEvents implements AnswerEvents {
  failure: Fault | undefined;
  complete = false;
  readonly #input: EmbeddingAnswerInput;
  readonly #read: (body: unknown, json: string) => VectorAnswer | Fault;

  constructor(input: EmbeddingAnswerInput, read: (body: unknown, json: string) => VectorAnswer | Fault) {
    this.#input = input;
    this.#read = read;
  }

  /** A body shows no sign of life. */
  ping(): void {}

  add(value: unknown, json: string, out: ChatEvent[]): void {
    const said = this.#read(value, json);
    if (said instanceof Fault) {
      this.failure = said;
      return;
    }
    const { request, model, route, provider, newId } = this.#input;
    const vectors = Array.isArray(said.vectors) ? (said.vectors as readonly unknown[]) : [];
    const wrong = vectors.length === request.inputs.length ? undefined : `${vectors.length} vectors for ${request.inputs.length} inputs`;
    const read = wrong === undefined ? vectors.map(vectorOf) : [];
    const length = read[0]?.length ?? 0;
    if (wrong !== undefined || length === 0 || read.some((vector) => vector?.length !== length)) {
      const what = wrong ?? "vectors that are no lists of numbers, or not all of one length";
      this.failure = notUnderstood(this.#input, `The provider answered with ${what}.`);
      return;
    }
    out.push(startEvent(said.id || newId("embd-"), said.model || model, 0, route, provider));
    read.forEach((vector, index) => {
      if (vector !== undefined) out.push(embeddingEvent(index, vector));
    });
    if (said.usage !== undefined) out.push(usageEvent(said.usage));
    this.complete = true;
  }
}

/** One vector in either form, or undefined for what is none. */
function vectorOf(value: unknown): number[] | undefined {
  if (typeof value === "string") return decodeVector(value);
  if (!Array.isArray(value)) return undefined;
  const numbers = value as readonly unknown[];
  return numbers.every((number) => typeof number === "number" && Number.isFinite(number)) ? (numbers as number[]) : undefined;
}

/** The numbers of base64 of 32-bit floats, little end first, or undefined for text that is none or has numbers that are not finite. */
export function decodeVector(base64: string): number[] | undefined {
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return undefined;
  const bytes = Buffer.from(base64, "base64");
  if (bytes.byteLength % 4 !== 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Array<number>(bytes.byteLength / 4);
  for (let index = 0; index < values.length; index++) {
    const value = view.getFloat32(index * 4, true);
    if (!Number.isFinite(value)) return undefined;
    values[index] = value;
  }
  return values;
}

/** Numbers as base64 of 32-bit floats, little end first. What is more exact than these is rounded to the nearest. */
export function encodeVector(values: readonly number[]): string {
  const bytes = Buffer.allocUnsafe(values.length * 4);
  for (let index = 0; index < values.length; index++) bytes.writeFloatLE(values[index] ?? 0, index * 4);
  return bytes.toString("base64");
}

/** The texts of a request, for APIs that take no tokens. */
export function textsOf(inputs: readonly EmbeddingInput[], report: Report): string[] {
  return inputs.map(({ content }, index) => {
    if (content.case === "text") return content.value;
    // Never left out: a vector of nothing would stand where one of something was asked for.
    throw report.refusal(`inputs[${index}].tokens`, ": the API takes texts only");
  });
}

/** Headers of every request for vectors. */
export const vectorHeaders: readonly string[] = Object.freeze([
  "content-type",
  "application/json",
  "accept",
  "application/json",
  "accept-encoding",
  "identity",
]);

/**
 * The purpose in words of an API that must be told one, and knows `others` beside documents. What is said for a request that names none,
 * or one that the API has no word for, is reported: vectors for another purpose are other vectors.
 */
export function requiredPurpose<Word extends string>(
  { purpose }: EmbeddingRequest,
  document: Word,
  others: Readonly<Partial<Record<EmbeddingPurpose, Word>>>,
  report: Report,
): Word {
  if (purpose === EmbeddingPurpose.DOCUMENT) return document;
  const word = others[purpose];
  if (word !== undefined) return word;
  const why = purpose === EmbeddingPurpose.UNSPECIFIED ? "the request names none" : "the API has no other word for it";
  report.changed("purpose", `The purpose was sent as ${document}: the API must be told one, and ${why}.`);
  return document;
}

/** Reports the purpose to a caller whose model knows none: what it makes is the same for each, so that nothing is lost. */
export function reportPurpose({ purpose }: EmbeddingRequest, report: Report): void {
  if (purpose === EmbeddingPurpose.UNSPECIFIED) return;
  report.dropped("purpose", "purpose was left out: the model makes the same vectors for every purpose, or is not told it by this API.");
}

/** Reports what an API that makes vectors of texts has no place for. */
export function reportUser({ user }: EmbeddingRequest, report: Report): void {
  if (user !== "") report.dropped("user", "This provider has no place for the name of a user.");
}

/** Usage of one count that stands apart from any account in the body, such as in a header; undefined for what is none. */
export function countedInput(count: string | number | undefined, nativeJson = ""): Usage | undefined {
  const tokens = typeof count === "string" && /^\d{1,15}$/.test(count) ? Number(count) : count;
  if (typeof tokens !== "number" || !Number.isSafeInteger(tokens) || tokens < 0) return undefined;
  return { $typeName: "outrigger.chat.v1.Usage", inputTokens: BigInt(tokens), nativeJson };
}

/**
 * The extras of a request that are still to be carried: one that says by another name what the purpose says is none where the purpose
 * has a place.
 */
export function extrasBesidePurpose({ purpose, extras }: EmbeddingRequest): readonly Extra[] {
  return purpose === EmbeddingPurpose.UNSPECIFIED ? extras : extras.filter(({ path }) => path !== PURPOSE_MEMBER);
}

/** The member by which callers of a format without purposes came to say one. */
export const PURPOSE_MEMBER = "input_type";
