/**
 * InvokeModel: another dialect inside this provider's envelope
 * (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html).
 *
 * The body and the answer are the model's own, in the Messages format; what is of this provider is the path, the version inside the body,
 * and for streams the frames, each of which holds one event of the other dialect as base64. So the other dialect writes and reads, and a
 * caller who speaks it gets what the model said byte for byte.
 */
import type { Batch } from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import type { ChatRequest, Part } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { EventStreamReader } from "../../framing/eventStream.ts";
import { isObject, removeMember, spliceMembers } from "../../framing/json.ts";
import { incomplete, invalid } from "../answerFaults.ts";
import type { AnswerInput, AnswerReader, ClientHalf, RequestInput, WrittenRequest } from "../dialect.ts";
import { Report } from "../report.ts";
import { embeddings } from "./embeddings.ts";
import { eventOf, faultOfBytes, textOf } from "./frames.ts";
import { readFault } from "./readFault.ts";
import { invokeCounting } from "./tokenCount.ts";
import { modelPath, streamHeaders, unaryHeaders } from "./writeRequest.ts";

/** What the envelope must know of the format inside. */
export interface EnvelopeFormat {
  /** The member of the body that says the format's version, which is the same for all requests. */
  readonly versionMember: string;
  /** The header in which the other dialect names beta features, and the member of the body in which this provider takes them. */
  readonly betaHeader: string;
  readonly betaMember: string;
}

/** Puts the envelope around a client half that writes bodies in the Messages format, and streams as server-sent events. */
export function invokeClient(inner: ClientHalf, format: EnvelopeFormat): ClientHalf {
  return Object.freeze({
    dialect: "bedrock",
    writeRequest: (input: RequestInput) => writeRequest(inner, format, input),
    readAnswer: (input: AnswerInput) => (input.streaming ? new ChunkReader(inner.readAnswer(input), input) : inner.readAnswer(input)),
    readFault,
    embeddings,
    tokenCount: invokeCounting,
    seals: inner.seals,
  });
}

function writeRequest(inner: ClientHalf, format: EnvelopeFormat, input: RequestInput): WrittenRequest {
  const report = new Report(input.model, input.dropUnsupported);
  const request = carried(input.request, report);
  // The request as it came says what must not be said.
  const written = inner.writeRequest(request === input.request ? input : { ...input, request, native: undefined });
  const betas = takenBetas(written.headers, format.betaHeader, report);
  const edits = new Map<string, () => string>([[format.versionMember, () => '"bedrock-2023-05-31"']]);
  if (betas.length > 0) edits.set(format.betaMember, () => JSON.stringify(betas));
  const text = typeof written.body === "string" ? written.body : textOf(written.body);
  return {
    path: modelPath(input.model, input.streaming ? "invoke-with-response-stream" : "invoke"),
    headers: input.streaming ? streamHeaders : unaryHeaders,
    // The path says which model and whether to stream; the body must not.
    body: spliceMembers(removeMember(removeMember(text, "model"), "stream"), edits),
    warnings: [...written.warnings, ...report.warnings],
  };
}

/** The request without pictures and documents that the provider would have to fetch; the same object if there are none. */
function carried(request: ChatRequest, report: Report): ChatRequest {
  const isCarried = ({ content }: Part, field: string): boolean => {
    if (content.case !== "image" && content.case !== "file") return true;
    const { source } = content.value;
    if (source.case === "fileId") report.unsupported(field, " as an uploaded file");
    else if (source.case === "url" && !source.value.startsWith("data:"))
      report.unsupported(field, " by address: this provider fetches nothing");
    else return true;
    return false;
  };
  let changed = false;
  const filtered = (parts: readonly Part[], path: string): Part[] =>
    parts.flatMap((part, index): Part[] => {
      const field = `${path}parts[${index}]`;
      if (!isCarried(part, field)) {
        changed = true;
        return [];
      }
      if (part.content.case !== "toolResult") return [part];
      const { value } = part.content;
      return [{ ...part, content: { case: "toolResult", value: { ...value, parts: filtered(value.parts, `${field}.tool_result.`) } } }];
    });
  const messages = request.messages.map((message, index) => ({ ...message, parts: filtered(message.parts, `messages[${index}].`) }));
  return changed ? { ...request, messages } : request;
}

/** The beta features of a request that this provider takes: one that it does not know makes it refuse the request. */
function takenBetas(headers: readonly string[], header: string, report: Report): string[] {
  const at = headers.indexOf(header);
  const asked = at === -1 ? [] : (headers[at + 1] ?? "").split(",");
  return asked.filter((beta) => {
    if (knownBetas.has(beta)) return true;
    report.dropped(`headers.${header}`, `The beta feature ${beta} was left out: this provider does not take it.`);
    return false;
  });
}

/** As the provider's documentation lists them. */
const knownBetas: ReadonlySet<string> = new Set([
  "computer-use-2024-10-22",
  "computer-use-2025-01-24",
  "computer-use-2025-11-24",
  "context-1m-2025-08-07",
  "context-management-2025-06-27",
  "dev-full-thinking-2025-05-14",
  "effort-2025-11-24",
  "fine-grained-tool-streaming-2025-05-14",
  "interleaved-thinking-2025-05-14",
  "output-128k-2025-02-19",
  "token-efficient-tools-2025-02-19",
  "tool-examples-2025-10-29",
  "tool-search-tool-2025-10-19",
]);

/** Unwraps a stream: frames to the server-sent events that the other dialect reads. */
class ChunkReader implements AnswerReader {
  failure: Fault | undefined;
  readonly #inner: AnswerReader;
  readonly #input: AnswerInput;
  readonly #frames: EventStreamReader;
  #decided = false;
  /** The answer comes as one body although a stream was asked for. */
  #plain = false;

  constructor(inner: AnswerReader, input: AnswerInput) {
    this.#inner = inner;
    this.#input = input;
    // Base64 is a third longer than what it holds, and stands in JSON.
    this.#frames = new EventStreamReader(Math.ceil(input.answerBytesMax * 1.4) + 1024);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined || bytes.length === 0) return none;
    if (!this.#decided) {
      this.#decided = true;
      this.#plain = bytes[0] === 0x7b;
    }
    if (this.#plain) return this.#pass(bytes);
    let events = "";
    let failure: Fault | undefined;
    try {
      for (const frame of this.#frames.read(bytes)) events += eventOf(frame) === "chunk" ? serverSentEvent(frame.payload) : "";
      failure = faultOfBytes(this.#frames, this.#input.answerBytesMax);
    } catch (caught) {
      if (!(caught instanceof Fault)) throw caught;
      failure = caught;
    }
    const batches = events === "" ? none : this.#pass(Buffer.from(events));
    this.failure ??= failure;
    return batches;
  }

  end(): readonly Batch[] {
    if (this.failure !== undefined) return none;
    if (this.#frames.leftOver > 0) {
      this.failure = incomplete("The provider's stream broke off inside a frame.");
      return none;
    }
    const batches = this.#inner.end();
    this.failure = this.#inner.failure;
    return batches;
  }

  #pass(bytes: Uint8Array): readonly Batch[] {
    const batches = this.#inner.read(bytes);
    this.failure = this.#inner.failure;
    return batches;
  }
}

/** The event inside a frame as the other dialect's own stream has it. */
function serverSentEvent(payload: Uint8Array): string {
  let data: unknown;
  try {
    data = JSON.parse(textOf(payload));
  } catch {
    // What is no JSON is said below.
  }
  if (!isObject(data) || typeof data.bytes !== "string") throw invalid("a frame without its chunk");
  // A line's end between two members would end the event.
  const json = Buffer.from(data.bytes, "base64")
    .toString()
    .replace(/[\r\n]+/g, " ");
  const name = /^\s*\{\s*"type"\s*:\s*"([a-z_]+)"/.exec(json)?.[1];
  return `${name === undefined ? "" : `event: ${name}\n`}data: ${json}\n\n`;
}

const none: readonly Batch[] = Object.freeze([]);
