/**
 * The native chat API of Ollama (https://docs.ollama.com/api), as a provider speaks it.
 *
 * Reading order: `writeRequest`, with `writeMessages` for the conversation, is the way in; `readAnswer` the way back; `readFault` what
 * happens instead.
 */
import type { ClientHalf } from "../dialect.ts";
import { embeddingHalf } from "./embeddings.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { type OllamaOptions, requestWriter } from "./writeRequest.ts";

export type { OllamaModelRow } from "./models.ts";
export type { OllamaOptions } from "./writeRequest.ts";

/** The half that a provider uses, for one endpoint. */
export function ollamaClient(options: OllamaOptions): ClientHalf {
  return Object.freeze({
    dialect: "ollama",
    writeRequest: requestWriter(options),
    readAnswer,
    readFault,
    embeddings: embeddingHalf(options),
  });
}
