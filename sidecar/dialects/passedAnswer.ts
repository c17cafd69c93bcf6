/**
 * What readers have in common whose answers are passed on as they came: the whole body, and the pure parts of reading one or its frames.
 */
import { type Batch, endEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject } from "../framing/json.ts";
import type { SseBlock } from "../framing/sse.ts";
import { BodyReader, joined } from "./bodyReader.ts";
import type { AnswerInput } from "./dialect.ts";

/** What a dialect made of a whole body. */
export interface UnderstoodBody {
  /** Why the answer failed, or undefined. */
  readonly failure: Fault | undefined;
  /** Whether the provider's own end was seen. */
  readonly complete: boolean;
  /** Whether the events say something else than the bytes, which then must not be passed on. */
  readonly repaired: boolean;
}

/**
 * Reads a whole body. `dialect`: in whose words its bytes are what a unary caller expects; undefined where they are passed on to nobody.
 * `understand` adds what a body says, which came as the text `json`.
 */
export function passedBody(
  input: AnswerInput,
  dialect: string | undefined,
  understand: (wire: JsonObject, json: string, out: ChatEvent[]) => UnderstoodBody,
): BodyReader {
  return new BodyReader(input.answerBytesMax, (bytes, out) => {
    const json = lenient.decode(bytes);
    const wire = parseObject(json);
    if (wire === undefined) throw json.trim() === "" ? incomplete(input.provider) : invalid(input.provider);
    const { failure, complete, repaired } = understand(wire, json, out);
    if (failure !== undefined) throw failure;
    if (!complete) throw incomplete(input.provider);
    out.push(endEvent());
    return repaired ? undefined : dialect;
  });
}

/** No batches. */
export const none: readonly Batch[] = Object.freeze([]);

/** An object, or undefined for text that is none. */
export function parseObject(text: string): JsonObject | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whole frames. The last one of a stream may lack its blank line, without which what the door writes next would be a part of it. */
export function bytesOf(block: SseBlock, start: number, end: number, last: boolean): Uint8Array {
  const bytes = block.bytes.subarray(start, end);
  return last ? joined([bytes, blankLine], bytes.length + blankLine.length) : bytes;
}

/** The fault of an answer that is over and has no end. */
export function incomplete(provider: string): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "The provider's answer ended before it was complete.", { facts: { provider } });
}

/** The fault of an answer that nobody can read. */
export function invalid(provider: string): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, "The provider's answer could not be understood.", { facts: { provider } });
}

/** The fault of a body, or of an event, that is larger than may be. */
export function tooLarge({ provider, answerBytesMax, streaming }: AnswerInput): Fault {
  const what = streaming ? "An event of the provider's answer" : "The provider's answer";
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, `${what} is larger than ${answerBytesMax} bytes.`, { facts: { provider } });
}

const lenient = new TextDecoder("utf-8");
const blankLine = Uint8Array.of(0x0a, 0x0a);
