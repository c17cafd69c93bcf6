/**
 * Llama and other models behind servers that complete text and have no API for conversations: the prompt is written here, in the format
 * that the model was trained on.
 *
 * Reading order: `forms` says which servers there are; `writeRequest` is the way in; `readAnswer`, with `echo`, the way back; `readFault`
 * what happens instead.
 */
import type { ClientHalf } from "../dialect.ts";
import type { LlamaOptions } from "./forms.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { writeRequest } from "./writeRequest.ts";

export type { LlamaForm, LlamaOptions } from "./forms.ts";

/** The half that a provider uses, for one endpoint. */
export function llamaClient(options: LlamaOptions): ClientHalf {
  return Object.freeze({
    dialect: "llama",
    completes: () => true,
    writeRequest: (input) => writeRequest(input, options),
    readAnswer: (input) => readAnswer(input, options),
    readFault,
  } satisfies ClientHalf);
}
