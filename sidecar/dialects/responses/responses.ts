/**
 * OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses), as a door speaks it and as a provider does, without
 * the state that it can keep: every request brings the whole conversation, and nothing is stored.
 *
 * Reading order: `readRequest` and `writeRequest` are the way in, `readAnswer` and `writeAnswer` the way back. A conversation is a list of
 * items here: `readItems` and `writeItems` make messages of them and them of messages.
 */
import type { ClientHalf, ServerHalf } from "../dialect.ts";
import { readFault } from "../errorBody.ts";
import { readAnswer } from "./readAnswer.ts";
import { readRequest } from "./readRequest.ts";
import { writeAnswer } from "./writeAnswer.ts";
import { writeFault } from "./writeFault.ts";
import { type ResponsesOptions, requestWriter } from "./writeRequest.ts";

export type { ResponsesOptions };

/** The half that a door uses. */
export const responsesServer: ServerHalf = Object.freeze({
  dialect: "responses",
  readRequest: (body: Uint8Array) => readRequest(body),
  writeAnswer,
  writeFault,
});

/** The half that a provider's row configures. */
export function responsesClient(options: ResponsesOptions): ClientHalf {
  return Object.freeze({ dialect: "responses", writeRequest: requestWriter(options), readAnswer, readFault, seals });
}

/** Models that think do so unasked, and what they think can be opened only with the account it was sealed for. */
const seals = Object.freeze({ dialect: "responses", always: true, portable: false });
