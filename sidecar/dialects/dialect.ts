/**
 * What a dialect is: a provider wire language as pure functions, in two halves.
 *
 * The server half reads requests and writes answers; a door uses it. The client half writes requests and reads answers; a provider
 * is a row of settings for it. Any door works with any provider because both meet in the conversation.
 */
import type { AnyRequest, Batch, NativeRequest } from "../../proto/chat.ts";
import type { Fault } from "../../proto/fault.ts";
import type { ChatRequest } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { Warning } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";

/** The half that a door uses, for requests of one kind. */
export interface ServerHalf<Request extends AnyRequest = ChatRequest> {
  readonly dialect: string;
  /**
   * Reads a request body. Throws a fault with reason `REQUEST_INVALID` and the field's path if it does not fit this dialect;
   * members that the conversation does not model become extras. `header` gives a request header by its name in lower case: some
   * dialects ask there for what their bodies may use.
   */
  readRequest(body: Uint8Array, header?: (name: string) => string | undefined): ReadRequest<Request>;
  /** Begins an answer to what was read. `requestId` names the answer where the provider gave it no id. */
  writeAnswer(read: ReadRequest<Request>, requestId: string): AnswerWriter;
  /** Writes a fault as the body of an answer that never began. */
  writeFault(fault: Fault, requestId: string): string;
  /**
   * The caller's name of a field that the conversation knows under another; `body` is what the caller sent. Left out by dialects whose
   * names are near enough to the conversation's.
   */
  ownField?(field: string, body: string): string;
}

/** A request that was read. */
export interface ReadRequest<Request extends AnyRequest = ChatRequest> {
  readonly request: Request;
  /** The request as it came; undefined where nothing of it is passed on as it came. */
  readonly native: NativeRequest | undefined;
  /** Whether the caller wants the answer as it arrives. */
  readonly streaming: boolean;
  /** Whether the caller wants usage in a stream; dialects that always send it say true. */
  readonly streamUsage: boolean;
  /** Whether the caller only wants to know how many tokens the request has; no if left out. */
  readonly countOnly?: boolean;
}

/** Writes one answer. For a unary answer `write` returns nothing and `end` the whole body; for a stream each returns what to send now. */
export interface AnswerWriter {
  /**
   * What of the answer so far this dialect has no place for, in words such as `openai tool_calls`; undefined if nothing. The caller
   * cannot be told in its own format, so whoever runs the sidecar is, once the answer is over.
   */
  readonly lost?: ReadonlySet<string> | undefined;
  /** Takes in a batch. Returns bytes or text to send now, or undefined. */
  write(batch: Batch): Uint8Array | string | undefined;
  /** The answer is complete: returns the last bytes, or the whole unary body. */
  end(): Uint8Array | string | undefined;
  /** The answer fails after it began: returns what says so in this dialect, so that no caller takes it for a normal end. */
  fault(fault: Fault): string;
}

/** The half that a provider's row configures. */
export interface ClientHalf {
  readonly dialect: string;
  /** How the thinking is treated that its models seal; left out where they seal none. */
  readonly seals?: Seals | undefined;
  /** Whether a model goes on with texts as they stand (`ChatRequest.raw_prompt`); absent where none does. */
  completes?(model: string): boolean;
  /** How vectors are made; absent where the provider makes none. */
  readonly embeddings?: EmbeddingHalf;
  /** How the tokens of a request are counted; absent where the provider cannot be asked. */
  readonly tokenCount?: TokenCountHalf;
  /** What becomes of single parameters at a model, where that is known; for explanations. */
  capabilitiesOf?(model: string): readonly { readonly parameter: string; readonly support: string; readonly how: string }[];
  /**
   * Writes a request. Throws a fault with reason `PARAMETER_UNSUPPORTED` and the field's name for what the dialect cannot carry,
   * unless `dropUnsupported`: then it becomes a warning.
   */
  writeRequest(input: RequestInput): WrittenRequest;
  /** Begins to read an answer whose status says that it is one. */
  readAnswer(input: AnswerInput): AnswerReader;
  /** Reads an answer whose status says that it is a refusal. */
  readFault(refused: RefusedAnswer): Fault;
}

/** What a provider that seals its models' thinking wants of it when the conversation comes back. */
export interface Seals {
  /** The dialect that stands on its seals. */
  readonly dialect: string;
  /** Whether it wants them back with every request; otherwise with those alone that ask the model to think. */
  readonly always: boolean;
  /** Whether what one endpoint sealed every other one opens that has the model; otherwise only the one that made it. */
  readonly portable: boolean;
}

/** The part of a client half that makes vectors of texts. What is refused is read by `ClientHalf.readFault`. */
export interface EmbeddingHalf {
  /** The most inputs that one request to a model may hold; more are sent in several requests. */
  inputsMax(model: string): number;
  /** Writes a request. What the dialect cannot carry is treated as in a conversation. */
  writeRequest(input: EmbeddingRequestInput): WrittenRequest;
  /** Begins to read an answer, whose batch holds one vector for each input. */
  readAnswer(input: EmbeddingAnswerInput): AnswerReader;
}

/** The part of a client half that counts tokens. What is refused is read by `ClientHalf.readFault`. */
export interface TokenCountHalf {
  /** Makes of a request that was written for a whole answer the one that asks how many tokens it has. */
  ask(written: WrittenRequest, model: string): WrittenRequest;
  /** Begins to read the answer, whose batch holds usage and no words. */
  readAnswer(input: AnswerInput): AnswerReader;
}

/** What is to be sent to have vectors made. */
export interface EmbeddingRequestInput {
  /** With as many inputs as one request may hold at most. */
  readonly request: EmbeddingRequest;
  /** The model's name at the provider. */
  readonly model: string;
  readonly dropUnsupported: boolean;
}

/** What a reader of vectors must know. */
export interface EmbeddingAnswerInput {
  readonly request: EmbeddingRequest;
  /** The model's name at the provider, for answers that do not say which model gave them. */
  readonly model: string;
  /** The route's and the provider's name, for the start event. */
  readonly route: string;
  readonly provider: string;
  /** The most bytes of the body. */
  readonly answerBytesMax: number;
  /** The value of a header of the answer by its name in lower case, or undefined: some providers count tokens there. */
  header(name: string): string | undefined;
  /** Makes an id where the provider gave none. */
  newId(prefix: string): string;
}

/** What is to be sent. */
export interface RequestInput {
  readonly request: ChatRequest;
  /** The request as it came, if nothing changed it; used only if it is in this dialect. */
  readonly native: NativeRequest | undefined;
  /** The model's name at the provider. */
  readonly model: string;
  readonly streaming: boolean;
  readonly dropUnsupported: boolean;
}

/** A request in the provider's language, without address and credential. */
export interface WrittenRequest {
  /** Path and query below the endpoint, beginning with a slash. */
  readonly path: string;
  /** Names in lower case and values, in turn. */
  readonly headers: readonly string[];
  readonly body: string | Uint8Array;
  /**
   * One for each parameter that was left out: code `PARAMETER_DROPPED`, `field` the parameter. One for each that was sent otherwise
   * than asked because the provider takes it in no other way, such as a limit lowered to the model's: code `PARAMETER_CHANGED`.
   */
  readonly warnings: readonly Warning[];
}

/** What a reader of answers must know of the request. */
export interface AnswerInput {
  readonly request: ChatRequest;
  readonly streaming: boolean;
  /** The model's name at the provider, for answers that do not say which model gave them. */
  readonly model: string;
  /** The route's and the provider's name, for the start event. */
  readonly route: string;
  readonly provider: string;
  /** Whether the caller asked for the usage that the client half always asks for; if not, it is not part of the native bytes. */
  readonly nativeStreamUsage: boolean;
  /** The most bytes of a unary body, or of one event of a stream. */
  readonly answerBytesMax: number;
  /** Makes an id where the provider gave none: `prefix` such as `call_`, and something unique. */
  newId(prefix: string): string;
}

/**
 * Reads one answer. An answer that is an error, cannot be understood or is not complete is told by `failure` and not thrown, since a
 * read can bring words and then the failure: the words are returned first and reach the caller.
 */
export interface AnswerReader {
  /** Why the answer failed, from the moment that is known. Look at it after each call of the functions below; nothing comes after it. */
  readonly failure: Fault | undefined;
  /**
   * Takes in what one read brought, cut anywhere, and returns the batches that it completes. The bytes may be kept. A batch can hold
   * native bytes and no event, where a frame says nothing that the conversation knows.
   */
  read(bytes: Uint8Array): readonly Batch[];
  /** The body is over. Returns the last batches; if the answer is complete, the last one ends with the end event. */
  end(): readonly Batch[];
}

/** A refused request, as the provider answered it. */
export interface RefusedAnswer {
  readonly status: number;
  /** The value of a header by its name in lower case, or undefined. */
  header(name: string): string | undefined;
  /** The body, at most 64 KiB of it: an error has no more to say. */
  readonly body: Uint8Array;
  /** The time, in milliseconds since 1970, for retry dates. */
  readonly nowMs: number;
}
