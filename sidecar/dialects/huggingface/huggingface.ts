/**
 * The native API of Text Generation Inference (https://huggingface.co/docs/text-generation-inference), as a provider speaks it. Its chat
 * API is that of many others and no part of this dialect.
 *
 * Reading order: `writeRequest` is the way in; `readAnswer` the way back; `readFault` what happens instead.
 */
import type { ClientHalf } from "../dialect.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { type HuggingFaceOptions, writeRequest } from "./writeRequest.ts";

export type { HuggingFaceOptions } from "./writeRequest.ts";

/** The half that a provider uses, for one endpoint. */
export function huggingFaceClient(options: HuggingFaceOptions): ClientHalf {
  return Object.freeze({
    dialect: "huggingface",
    completes: () => true,
    writeRequest: (input) => writeRequest(input, options),
    readAnswer,
    readFault,
  } satisfies ClientHalf);
}
