/**
 * Vectors as this API makes them (https://platform.openai.com/docs/api-reference/embeddings): both halves.
 *
 * Callers of the official packages ask for base64 unless they are told otherwise, and decode it themselves. Which of the two forms a
 * provider answers in is its affair and ours, and the caller gets the one that it asked for.
 */
import { type Batch, EmbeddingCollector } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type EmbeddingInput, EmbeddingPurpose, type EmbeddingRequest } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import {
  decodeJson,
  isObject,
  JsonError,
  JsonPlace,
  type JsonValue,
  lateMember,
  parseObject,
  RawJson,
  stringify,
} from "../../framing/json.ts";
import type {
  AnswerReader,
  AnswerWriter,
  EmbeddingAnswerInput,
  EmbeddingHalf,
  EmbeddingRequestInput,
  ReadRequest,
  ServerHalf,
  WrittenRequest,
} from "../dialect.ts";
import { faultInAnswer, readError } from "../errorBody.ts";
import { Field } from "../field.ts";
import { pathWriter } from "../path.ts";
import { type Members, placeExtras } from "../placeExtras.ts";
import { Report } from "../report.ts";
import { encodeVector, PURPOSE_MEMBER, readVectors, reportPurpose, type VectorAnswer, vectorHeaders } from "../vectors.ts";
import type { OpenAiOptions } from "./options.ts";
import { readUsage } from "./usage.ts";
import { writeFault } from "./writeFault.ts";

/** The half that a door uses. */
export const openAiEmbeddingServer: ServerHalf<EmbeddingRequest> = Object.freeze({
  dialect: "openai",
  readRequest: (body: Uint8Array) => readRequest(body),
  writeAnswer: (read: ReadRequest<EmbeddingRequest>) => new VectorWriter("base64" in read && read.base64 === true),
  writeFault,
  ownField,
});

/** The half that a provider's row configures. */
export function embeddingHalf(options: OpenAiOptions): EmbeddingHalf {
  const pathOf = pathWriter(options, "/embeddings");
  return Object.freeze({
    inputsMax: () => inputsMax,
    writeRequest(input: EmbeddingRequestInput): WrittenRequest {
      const report = new Report(input.model, input.dropUnsupported);
      return { path: pathOf(input.model), headers: vectorHeaders, body: writeBody(input, options, report), warnings: report.warnings };
    },
    readAnswer: (input: EmbeddingAnswerInput): AnswerReader => readVectors(input, readBody),
  });
}

/** As many as the API takes at once; servers that borrowed it take fewer or more, and say so in a refusal. */
const inputsMax = 2048;

/** What was read, with the form in which the caller wants numbers. */
interface OpenAiEmbeddingRequest extends ReadRequest<EmbeddingRequest> {
  readonly base64: boolean;
}

/** The caller's name of a field: of one input `input`, of several with its number. */
function ownField(field: string, body: string): string {
  if (field === "purpose") return PURPOSE_MEMBER;
  if (!/^inputs([.[]|$)/.test(field)) return field;
  const [, number] = /^inputs\[(\d+)\]/.exec(field) ?? [];
  return number === undefined || !severalInputs(body) ? "input" : `input[${number}]`;
}

function severalInputs(body: string): boolean {
  const { input } = parseObject(body);
  return Array.isArray(input) && typeof input[0] !== "number";
}

function readRequest(body: Uint8Array): OpenAiEmbeddingRequest {
  const { root, text } = readRoot(body);
  const request: EmbeddingRequest = {
    $typeName: "outrigger.chat.v1.EmbeddingRequest",
    model: "",
    inputs: [],
    purpose: EmbeddingPurpose.UNSPECIFIED,
    user: "",
    extras: [],
  };
  let base64 = false;
  for (const key of root.keys()) {
    const field = root.member(key);
    switch (key) {
      case "model":
        request.model = boundedText(field, 512);
        if (request.model === "") throw field.broken("expected the name of a model, saw an empty string");
        break;
      case "input":
        request.inputs = readInputs(field);
        break;
      case "dimensions": {
        const length = field.count();
        if (length < 1n || length > 65_536n) throw field.broken(`expected a whole number from 1 to 65536, saw ${length}`);
        request.dimensions = Number(length);
        break;
      }
      case "encoding_format":
        if (field.value !== "float" && field.value !== "base64") throw field.unknownWord("float or base64");
        base64 = field.value === "base64";
        break;
      case "user":
        request.user = boundedText(field, 1024);
        break;
      default:
        if (request.extras.length === extrasMax) throw field.broken("there are too many members that are not known");
        // Not a member of this API, but the word by which callers of many servers say what vectors are for. Kept as it came, too.
        if (key === PURPOSE_MEMBER && typeof field.value === "string") request.purpose = purposes[field.value] ?? request.purpose;
        request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "openai", path: field.path, json: field.json() });
    }
  }
  if (request.model === "") throw root.member("model").refusal("the name of a model");
  if (request.inputs.length === 0) throw root.member("input").refusal(inputForms);
  return { request, native: { dialect: "openai", text }, streaming: false, streamUsage: true, base64 };
}

const extrasMax = 1024; // as in the conversation's own rules
const inputForms = "a text, a list of texts, a list of tokens or a list of such lists";

function readRoot(body: Uint8Array): { readonly root: Field; readonly text: string } {
  try {
    const text = decodeJson(body);
    return { root: new Field(parseObject(text), JsonPlace.root(text)), text };
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `The request body cannot be read: ${caught.message}, at character ${caught.offset}.`, {
      facts: { offset: String(caught.offset) },
    });
  }
}

function readInputs(field: Field): EmbeddingInput[] {
  const { value } = field;
  if (typeof value === "string") return [textInput(value, field)];
  const elements = field.elements(inputForms);
  if (elements.length === 0) throw field.broken("expected at least one input, saw an empty list");
  // A list of numbers is one input, a list of anything else is one for each.
  if (typeof elements[0]?.value === "number") return [tokenInput(field)];
  if (elements.length > inputsMax) throw field.broken(`expected at most ${inputsMax} inputs, saw ${elements.length}`);
  return elements.map((element) => (typeof element.value === "string" ? textInput(element.value, element) : tokenInput(element)));
}

function textInput(text: string, field: Field): EmbeddingInput {
  if (text === "") throw field.broken("expected a text, saw an empty string");
  return { $typeName: "outrigger.chat.v1.EmbeddingInput", content: { case: "text", value: text } };
}

function tokenInput(field: Field): EmbeddingInput {
  const elements = field.elements(inputForms);
  if (elements.length === 0) throw field.broken("expected at least one token, saw an empty list");
  const ids = elements.map((element) => {
    const id = element.value;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw element.refusal("a token's number");
    return id;
  });
  return {
    $typeName: "outrigger.chat.v1.EmbeddingInput",
    content: { case: "tokens", value: { $typeName: "outrigger.chat.v1.TokenList", ids } },
  };
}

/** A string of at most so many bytes of UTF-8. */
function boundedText(field: Field, bytesMax: number): string {
  const text = field.string();
  if (text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax) throw field.broken(`expected at most ${bytesMax} bytes`);
  return text;
}

/** The words that servers came to use for purposes. */
const purposes: Readonly<Record<string, EmbeddingPurpose>> = Object.freeze({
  query: EmbeddingPurpose.QUERY,
  search_query: EmbeddingPurpose.QUERY,
  passage: EmbeddingPurpose.DOCUMENT,
  document: EmbeddingPurpose.DOCUMENT,
  search_document: EmbeddingPurpose.DOCUMENT,
  similarity: EmbeddingPurpose.SIMILARITY,
  semantic_similarity: EmbeddingPurpose.SIMILARITY,
  classification: EmbeddingPurpose.CLASSIFICATION,
  clustering: EmbeddingPurpose.CLUSTERING,
});

/** Writes the vectors at the end, since they come all at once. */
class VectorWriter implements AnswerWriter {
  readonly #base64: boolean;
  readonly #collector = new EmbeddingCollector();

  constructor(base64: boolean) {
    this.#base64 = base64;
  }

  write(batch: Batch): undefined {
    this.#collector.add(batch);
    return undefined;
  }

  end(): string {
    const { model, embeddings, usage } = this.#collector.response;
    return stringify({
      object: "list",
      data: embeddings.map(({ index, values }) => ({
        object: "embedding",
        index,
        embedding: this.#base64 ? encodeVector(values) : new RawJson(JSON.stringify(values)),
      })),
      model,
      usage: usage === undefined ? undefined : writeVectorUsage(usage),
    });
  }

  fault(fault: Fault): string {
    return writeFault(fault);
  }
}

/** Callers of this API look for a sum; of vectors there is no other part of it than the input. */
function writeVectorUsage({ inputTokens, totalTokens }: Usage): JsonValue {
  return { prompt_tokens: inputTokens, total_tokens: totalTokens ?? inputTokens };
}

function writeBody({ request, model }: EmbeddingRequestInput, options: OpenAiOptions, report: Report): string {
  const { dimensionsField = "dimensions", base64Vectors = false } = options;
  const root: Members = { model, input: writeInputs(request.inputs, report), [dimensionsField]: request.dimensions };
  if (base64Vectors) root.encoding_format = "base64";
  if (request.user !== "") root.user = request.user;
  const said = request.extras.some(({ dialect, path }) => dialect === "openai" && path === PURPOSE_MEMBER);
  if (!said) reportPurpose(request, report);
  placeExtras(root, request.extras, "openai", report);
  return stringify(root);
}

function writeInputs(inputs: readonly EmbeddingInput[], report: Report): JsonValue {
  const written = inputs.map(({ content }) => {
    if (content.case === "text") return content.value;
    return content.case === "tokens" ? new RawJson(JSON.stringify(content.value.ids)) : "";
  });
  const texts = inputs.filter(({ content }) => content.case === "text").length;
  if (texts > 0 && texts < inputs.length) throw report.invalid("inputs", "expected either texts or tokens, saw both");
  return written;
}

/** The vectors stand in the order of their numbers, which need not be that of the list. */
function readBody(body: unknown, json: string): VectorAnswer | Fault {
  if (!isObject(body)) return { vectors: undefined, usage: undefined };
  const error = readError(body);
  if (error !== undefined) return faultInAnswer(error);
  const data: readonly unknown[] = Array.isArray(body.data) ? body.data : [];
  // What is missing in the middle stays no vector, and is found to be none.
  const vectors = new Array<unknown>(data.length).fill(undefined);
  data.forEach((entry, position) => {
    if (!isObject(entry)) return;
    const { index } = entry;
    vectors[typeof index === "number" && index in vectors ? index : position] = entry.embedding;
  });
  return {
    id: text(body.id),
    model: text(body.model),
    vectors,
    usage: isObject(body.usage) ? readUsage(body.usage, lateMember(json, "usage")) : undefined,
  };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
