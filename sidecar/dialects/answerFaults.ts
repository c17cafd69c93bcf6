/** What is thrown while an answer is read, by every dialect in the same words. */
import { Fault, FaultReason } from "../../proto/fault.ts";
import { isObject, type JsonObject } from "../framing/json.ts";

/** The fault that an answer cannot be understood; `what` says what was seen, as the end of a sentence. */
export function invalid(what: string): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, `The provider's answer could not be understood: ${what}.`);
}

/** The fault that an answer was cut off. */
export function incomplete(message: string): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, message);
}

/** The fault that an answer, or a piece of it that must be held, is larger than the limit. */
export function tooLarge(answerBytesMax: number): Fault {
  return new Fault(FaultReason.PROVIDER_ANSWER_INVALID, `The provider's answer is larger than the limit of ${answerBytesMax} bytes.`);
}

/** The fault that was thrown; what is none is a mistake of ours and goes on. */
export function asFault(caught: unknown): Fault {
  if (caught instanceof Fault) return caught;
  throw caught;
}

/** The object that a text is. Throws the fault that it is none. */
export function parseObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid("no JSON");
  }
  if (!isObject(value)) throw invalid("no JSON object");
  return value;
}
