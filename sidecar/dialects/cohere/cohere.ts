/**
 * The Cohere dialect: version 2 of the chat API (https://docs.cohere.com/reference/chat), as providers speak it.
 *
 * Reading order: `writeRequest` and `writeMessages` are the way in, `readAnswer` the way back, `readFault` what happens instead.
 */
import type { ClientHalf } from "../dialect.ts";
import { embeddings } from "./embeddings.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { type CohereOptions, requestWriter } from "./writeRequest.ts";

/** The half that a provider uses, for one endpoint. */
export function cohereClient(options: CohereOptions): ClientHalf {
  return Object.freeze({ dialect: "cohere", writeRequest: requestWriter(options), readAnswer, readFault, embeddings, seals });
}

/** The seals are our own words for the place of a piece of thinking, so every endpoint takes them; plans are made unasked. */
const seals = Object.freeze({ dialect: "cohere", always: true, portable: true });
