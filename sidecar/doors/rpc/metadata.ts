/**
 * What an answer tells of itself beside its messages.
 */
import type { CallNotes } from "../../call.ts";
import { percentEncode } from "./status.ts";

/** What every answer tells of itself, the same at every door: names in lower case and values, in turn. */
export function answerMetadata(requestId: string, notes: CallNotes | undefined): readonly string[] {
  if (notes === undefined || notes.route === "") return ["x-request-id", requestId];
  const metadata = ["x-request-id", requestId, "x-outrigger-route", notes.route];
  if (notes.provider !== "") metadata.push("x-outrigger-provider", notes.provider);
  // Names of parameters come from the caller's JSON; whatever they hold, a header stays one header.
  if (notes.droppedParams.length > 0) metadata.push("x-outrigger-dropped-params", percentEncode(notes.droppedParams.join(",")));
  return metadata;
}
