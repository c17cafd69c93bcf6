/** Writes faults in the words of this API, so that its SDKs raise the error class that their users catch. */
import type { Fault } from "../../../proto/fault.ts";
import { stringify } from "../../framing/json.ts";
import { errorObject } from "../errorObject.ts";

/** The body of an answer that never began. */
export function writeFault(fault: Fault): string {
  return stringify({ error: { ...errorObject(fault) } });
}
