/**
 * Protobuf's bytes to the request of either chat method, straight-line: what nearly every gRPC and Connect call sends.
 *
 * A message that is written as every encoder writes it is read here, field by field, into plain literals of one shape. What is strange
 * (a message given twice, a field of the wrong wire type, a group, a length that does not fit, text that is not UTF-8) is not judged here:
 * the reader gives up, and protobuf-es reads or refuses the whole. So all that this file reads, protobuf-es reads to the same message,
 * which a property test holds to, and every refusal is protobuf-es's own.
 */
import { isUtf8 } from "node:buffer";
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import {
  type CacheMarker,
  CacheMarkerSchema,
  type ChatRequest,
  type Extra,
  LogprobsRequestSchema,
  MediaSchema,
  type Message,
  type Part,
  ReasoningRequestSchema,
  ResponseFormatSchema,
  Role,
  type Tool,
  ToolChoiceSchema,
  type ToolResult,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ELEMENTS_MAX } from "../../framing/elements.ts";
import { JSON_DEPTH_MAX } from "../../framing/json.ts";

/** What a request of either chat method holds: the two messages have the same fields. */
export interface Asked {
  readonly chat?: ChatRequest | undefined;
  readonly validateOnly: boolean;
}

/**
 * Reads a request, or returns undefined for one that is strange or broken, or is made of more than `ELEMENTS_MAX` fields. Bytes of
 * pictures and documents stay views of `bytes`.
 */
export function readAsked(bytes: Uint8Array): Asked | undefined {
  try {
    return new ChatReader(bytes).asked();
  } catch (caught) {
    if (caught === strange) return undefined;
    throw caught;
  }
}

/** A conversation with nothing in it: every field stands here, so that all conversations are objects of one shape. */
export function newChat(): ChatRequest {
  return {
    $typeName: "outrigger.chat.v1.ChatRequest",
    model: "",
    messages: [],
    tools: [],
    toolChoice: undefined,
    parallelToolCalls: undefined,
    responseFormat: undefined,
    maxOutputTokens: undefined,
    temperature: undefined,
    topP: undefined,
    topK: undefined,
    stop: [],
    n: undefined,
    seed: undefined,
    presencePenalty: undefined,
    frequencyPenalty: undefined,
    logitBias: {},
    logprobs: undefined,
    reasoning: undefined,
    user: "",
    serviceTier: "",
    extras: [],
    rawPrompt: undefined,
  };
}

/** Thrown from wherever something is strange. Made once, since a stack would cost more than all the reading. */
const strange = new Error("a message that protobuf-es shall read");

// The fields' tags below are their numbers and wire types (https://protobuf.dev/programming-guides/encoding), as they stand in
// `outrigger/chat/v1/conversation.proto`: number << 3 | wire type, where 0 is a varint, 1 eight bytes and 2 something with a length.

class ChatReader {
  readonly #bytes: Uint8Array;
  /** The same bytes, for what only buffers can. */
  readonly #buffer: Buffer;
  #position = 0;
  /** How many more fields may come. */
  #left = ELEMENTS_MAX;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  asked(): Asked {
    const end = this.#bytes.byteLength;
    let chat: ChatRequest | undefined;
    let validateOnly = false;
    while (this.#position < end) {
      const tag = this.#tag();
      switch (tag) {
        case 0x0a:
          // Protobuf merges messages that are given twice; nobody does that to one.
          if (chat !== undefined) throw strange;
          chat = this.#chat(this.#end());
          break;
        case 0x10:
          validateOnly = this.#truth();
          break;
        default:
          this.#skip(tag, 2);
      }
    }
    this.#arrivedAt(end);
    return { chat, validateOnly };
  }

  #chat(end: number): ChatRequest {
    const chat = newChat();
    while (this.#position < end) {
      const tag = this.#tag();
      switch (tag) {
        case 0x0a:
          chat.model = this.#text();
          break;
        case 0x12:
          chat.messages.push(this.#message(this.#end()));
          break;
        case 0x1a:
          chat.tools.push(this.#tool(this.#end()));
          break;
        case 0x22:
          chat.toolChoice = this.#rare(ToolChoiceSchema, chat.toolChoice, chatDepth);
          break;
        case 0x28:
          chat.parallelToolCalls = this.#truth();
          break;
        case 0x32:
          chat.responseFormat = this.#rare(ResponseFormatSchema, chat.responseFormat, chatDepth);
          break;
        case 0x38:
          chat.maxOutputTokens = this.#long();
          break;
        case 0x41:
          chat.temperature = this.#double();
          break;
        case 0x49:
          chat.topP = this.#double();
          break;
        case 0x50:
          chat.topK = this.#long();
          break;
        case 0x5a:
          chat.stop.push(this.#text());
          break;
        case 0x60:
          chat.n = this.#number();
          break;
        case 0x68:
          chat.seed = this.#long();
          break;
        case 0x71:
          chat.presencePenalty = this.#double();
          break;
        case 0x79:
          chat.frequencyPenalty = this.#double();
          break;
        case 0x82:
          this.#bias(this.#end(), chat.logitBias);
          break;
        case 0x8a:
          chat.logprobs = this.#rare(LogprobsRequestSchema, chat.logprobs, chatDepth);
          break;
        case 0x92:
          chat.reasoning = this.#rare(ReasoningRequestSchema, chat.reasoning, chatDepth);
          break;
        case 0x9a:
          chat.user = this.#text();
          break;
        case 0xa2:
          chat.serviceTier = this.#text();
          break;
        case 0xaa:
          chat.extras.push(this.#extra(this.#end()));
          break;
        case 0xb0:
          chat.rawPrompt = this.#truth();
          break;
        default:
          this.#skip(tag, 22);
      }
    }
    this.#arrivedAt(end);
    return chat;
  }

  #message(end: number): Message {
    let role: Role = Role.UNSPECIFIED;
    let parts: Part[] = [];
    let name = "";
    while (this.#position < end) {
      const tag = this.#tag();
      switch (tag) {
        case 0x08:
          // Numbers that later versions may have given a name are kept.
          role = this.#number() as Role;
          break;
        case 0x12:
          // Most have one part, and an array that grows makes room for seventeen.
          if (parts.length === 0) parts = [this.#part(this.#end(), chatDepth + 2)];
          else parts.push(this.#part(this.#end(), chatDepth + 2));
          break;
        case 0x1a:
          name = this.#text();
          break;
        default:
          this.#skip(tag, 3);
      }
    }
    this.#arrivedAt(end);
    return { $typeName: "outrigger.chat.v1.Message", role, parts, name };
  }

  /** A part, which is the `depth`th of the messages within each other. */
  #part(end: number, depth: number): Part {
    let content: Part["content"] = { case: undefined };
    let cache: CacheMarker | undefined;
    while (this.#position < end) {
      const tag = this.#tag();
      if (tag === 0x52) cache = this.#rare(CacheMarkerSchema, cache, depth);
      else if (tag >>> 3 > 10) this.#skip(tag, 10);
      // Of two pieces of content the latter counts, or both are merged; nobody sends two.
      else if (content.case !== undefined) throw strange;
      else content = this.#content(tag, depth);
    }
    this.#arrivedAt(end);
    return { $typeName: "outrigger.chat.v1.Part", content, cache };
  }

  #content(tag: number, depth: number): Part["content"] {
    switch (tag) {
      case 0x0a:
        return { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: this.#onlyText(this.#end()) } };
      case 0x12:
        return { case: "image", value: this.#rare(MediaSchema, undefined, depth) };
      case 0x1a:
        return { case: "audio", value: this.#rare(MediaSchema, undefined, depth) };
      case 0x22:
        return { case: "file", value: this.#rare(MediaSchema, undefined, depth) };
      case 0x2a: {
        const [id, name, argumentsJson] = this.#texts(this.#end(), 3);
        return { case: "toolCall", value: { $typeName: "outrigger.chat.v1.ToolCall", id, name, argumentsJson } };
      }
      case 0x32:
        return { case: "toolResult", value: this.#toolResult(this.#end(), depth + 1) };
      case 0x3a: {
        const [text, signature, redacted, dialect] = this.#texts(this.#end(), 4);
        return { case: "reasoning", value: { $typeName: "outrigger.chat.v1.Reasoning", text, signature, redacted, dialect } };
      }
      case 0x42:
        return { case: "refusal", value: { $typeName: "outrigger.chat.v1.Refusal", text: this.#onlyText(this.#end()) } };
      case 0x4a:
        return { case: "extra", value: this.#extra(this.#end()) };
      default:
        throw strange;
    }
  }

  #toolResult(end: number, depth: number): ToolResult {
    // Below it lie a part and what that holds. Who nests deeper is refused by protobuf-es; and the engine's stack is never the limit.
    if (depth + 2 > JSON_DEPTH_MAX) throw strange;
    let toolCallId = "";
    const parts: Part[] = [];
    let isError = false;
    while (this.#position < end) {
      const tag = this.#tag();
      switch (tag) {
        case 0x0a:
          toolCallId = this.#text();
          break;
        case 0x12:
          parts.push(this.#part(this.#end(), depth + 1));
          break;
        case 0x18:
          isError = this.#truth();
          break;
        default:
          this.#skip(tag, 3);
      }
    }
    this.#arrivedAt(end);
    return { $typeName: "outrigger.chat.v1.ToolResult", toolCallId, parts, isError };
  }

  #tool(end: number): Tool {
    let name = "";
    let description = "";
    let parametersJson = "";
    let strict: boolean | undefined;
    let cache: CacheMarker | undefined;
    while (this.#position < end) {
      const tag = this.#tag();
      switch (tag) {
        case 0x0a:
          name = this.#text();
          break;
        case 0x12:
          description = this.#text();
          break;
        case 0x1a:
          parametersJson = this.#text();
          break;
        case 0x20:
          strict = this.#truth();
          break;
        case 0x2a:
          cache = this.#rare(CacheMarkerSchema, cache, chatDepth + 1);
          break;
        default:
          this.#skip(tag, 5);
      }
    }
    this.#arrivedAt(end);
    return { $typeName: "outrigger.chat.v1.Tool", name, description, parametersJson, strict, cache };
  }

  #extra(end: number): Extra {
    const [dialect, path, json] = this.#texts(end, 3);
    return { $typeName: "outrigger.chat.v1.Extra", dialect, path, json };
  }

  /** One entry of the map of token biases: a message of a text and eight bytes, which counts as one field. */
  #bias(end: number, into: { [key: string]: number }): void {
    let token = "";
    let bias = 0;
    while (this.#position < end) {
      const tag = this.#bytes[this.#position++];
      if (tag === 0x0a) token = this.#text();
      else if (tag === 0x11) bias = this.#double();
      else throw strange;
    }
    this.#arrivedAt(end);
    // The one name that no assignment may be made to.
    if (token === "__proto__") throw strange;
    into[token] = bias;
  }

  /** A message that holds one text, in its field 1. */
  #onlyText(end: number): string {
    let text = "";
    while (this.#position < end) {
      const tag = this.#tag();
      if (tag === 0x0a) text = this.#text();
      else this.#skip(tag, 1);
    }
    this.#arrivedAt(end);
    return text;
  }

  /** A message that holds texts alone, `count` of them at most, in its fields from 1 on. */
  #texts(end: number, count: number): [string, string, string, string] {
    const texts: [string, string, string, string] = ["", "", "", ""];
    while (this.#position < end) {
      const tag = this.#tag();
      const index = (tag >>> 3) - 1;
      if (index >= count) this.#skip(tag, count);
      else if ((tag & 7) === lengthDelimited && index >= 0) texts[index] = this.#text();
      else throw strange;
    }
    this.#arrivedAt(end);
    return texts;
  }

  /** A message that calls seldom hold, which protobuf-es reads. `already` is what the field held before. */
  #rare<Desc extends DescMessage>(schema: Desc, already: MessageShape<Desc> | undefined, depth: number): MessageShape<Desc> {
    if (already !== undefined) throw strange;
    const end = this.#end();
    const start = this.#position;
    // As many fields as could be in it: each takes a byte for its tag and one for its value.
    this.#left -= (end - start) >> 1;
    if (this.#left < 0) throw strange;
    this.#position = end;
    try {
      return fromBinary(schema, this.#bytes.subarray(start, end), { readUnknownFields: false, recursionLimit: JSON_DEPTH_MAX - depth });
    } catch {
      throw strange;
    }
  }

  /** A field's tag: one byte, or two for numbers from 16 on. */
  #tag(): number {
    if (--this.#left < 0) throw strange;
    const first = this.#bytes[this.#position++] as number;
    if (first < 0x80) return first;
    const second = this.#bytes[this.#position++];
    if (second === undefined || second >= 0x80) throw strange;
    return (first & 0x7f) | (second << 7);
  }

  /** Passes over a field that this build does not know. `known` is the number of the last one that it does. */
  #skip(tag: number, known: number): void {
    const number = tag >>> 3;
    if (number === 0 || number <= known) throw strange;
    switch (tag & 7) {
      case 0:
        this.#long();
        break;
      case 1:
        this.#position += 8;
        break;
      case lengthDelimited:
        this.#position = this.#end();
        break;
      case 5:
        this.#position += 4;
        break;
      default:
        throw strange;
    }
  }

  /** Where what begins here ends, by the length before it. */
  #end(): number {
    const length = this.#number();
    const end = this.#position + length;
    if (end > this.#bytes.byteLength) throw strange;
    return end;
  }

  /** What has an end must end there, and not run into what follows. */
  #arrivedAt(end: number): void {
    if (this.#position !== end) throw strange;
  }

  #text(): string {
    const end = this.#end();
    const start = this.#position;
    this.#position = end;
    if (start === end) return "";
    const text = this.#buffer.toString("utf8", start, end);
    // What is not UTF-8 becomes this character, which may also have been meant.
    if (text.includes("\ufffd") && !isUtf8(this.#bytes.subarray(start, end))) throw strange;
    return text;
  }

  /** A whole number below 2^28, and so every length that can come. */
  #number(): number {
    const bytes = this.#bytes;
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[this.#position++];
      if (byte === undefined) throw strange;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw strange;
  }

  /** A signed number of 64 bits, in two's complement, which takes ten bytes at most. */
  #long(): bigint {
    const bytes = this.#bytes;
    let low = 0;
    let scale = 1;
    for (let count = 0; count < 7; count++) {
      const byte = bytes[this.#position++];
      if (byte === undefined) throw strange;
      low += (byte & 0x7f) * scale;
      if (byte < 0x80) return BigInt(low);
      scale *= 128;
    }
    let high = 0;
    for (let shift = 0; shift < 21; shift += 7) {
      const byte = bytes[this.#position++];
      if (byte === undefined) throw strange;
      high |= (byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, BigInt(low) + (BigInt(high) << 49n));
    }
    throw strange;
  }

  #truth(): boolean {
    const byte = this.#bytes[this.#position++];
    if (byte === undefined || byte >= 0x80) throw strange;
    return byte !== 0;
  }

  #double(): number {
    const start = this.#position;
    this.#position += 8;
    if (this.#position > this.#bytes.byteLength) throw strange;
    return this.#buffer.readDoubleLE(start);
  }
}

const lengthDelimited = 2;

/** How deep a conversation lies: within the request. */
const chatDepth = 2;
