/**
 * The Gemini dialect: generateContent and streamGenerateContent (https://ai.google.dev/api/generate-content), as Google serves them at
 * AI Studio and at Vertex AI. No door speaks it, so it has the client half alone.
 *
 * Reading order: `writeRequest` is the way in, `readAnswer` the way back, `readFault` what happens instead; `seal` tells how thought
 * signatures travel through callers that know nothing of them.
 */
import type { ClientHalf } from "../dialect.ts";
import { embeddingHalf } from "./embeddings.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { tokenCounting } from "./tokenCount.ts";
import { type GeminiOptions, requestWriter } from "./writeRequest.ts";

export { type GeminiProject, projectOrigin } from "./address.ts";
export type { GeminiModelRow } from "./models.ts";
export type { GeminiOptions } from "./writeRequest.ts";

/** The half that a provider uses, for one endpoint. */
export function geminiClient(options: GeminiOptions): ClientHalf {
  return Object.freeze({
    dialect: "gemini",
    writeRequest: requestWriter(options),
    readAnswer,
    readFault,
    embeddings: embeddingHalf(options),
    tokenCount: tokenCounting(options),
    seals,
  });
}

/** Models think and sign unasked. Nobody says that a signature made in one project is opened in another. */
const seals = Object.freeze({ dialect: "gemini", always: true, portable: false });
