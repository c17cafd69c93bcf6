/**
 * What a frame of the runtime's streams says: an event with its kind, or that the stream failed. An exception comes inside an answer with
 * status 200 and is never an end.
 */

import type { Fault } from "../../../proto/fault.ts";
import type { EventFrame, EventStreamReader } from "../../framing/eventStream.ts";
import { invalid, tooLarge } from "../answerFaults.ts";
import { faultInStream } from "./readFault.ts";

/** The kind of an event, such as `contentBlockDelta`. Throws the fault that a frame tells of. */
export function eventOf({ headers, payload }: EventFrame): string {
  const type = headers.get(":event-type");
  switch (headers.get(":message-type")) {
    case "exception":
      throw faultInStream(headers.get(":exception-type") ?? "", textOf(payload));
    case "error": {
      // An error that the service did not foresee has no payload: its words are headers.
      const message = headers.get(":error-message") ?? "";
      throw faultInStream(headers.get(":error-code") ?? "", JSON.stringify({ message }));
    }
    default:
      return type ?? "";
  }
}

/** The payload of a frame as text, broken UTF-8 replaced. */
export function textOf(payload: Uint8Array): string {
  return lenient.decode(payload);
}

/** The fault of a stream that cannot be read on, or undefined if all is well. */
export function faultOfBytes({ broken }: EventStreamReader, answerBytesMax: number): Fault | undefined {
  switch (broken) {
    case undefined:
      return undefined;
    case "checksum":
      return invalid("a frame's checksum does not fit its bytes");
    case "form":
      return invalid("a frame that breaks its encoding");
    case "size":
      return tooLarge(answerBytesMax);
  }
}

const lenient = new TextDecoder("utf-8");
