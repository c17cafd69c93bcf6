/** OpenAI Chat Completions, and what is compatible with it: both halves of the dialect. */
import { matcher } from "../../../proto/pattern.ts";
import type { AnswerInput, ClientHalf, ReadRequest, RequestInput, ServerHalf } from "../dialect.ts";
import { readFault } from "../errorBody.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import { embeddingHalf } from "./embeddings.ts";
import type { OpenAiOptions } from "./options.ts";
import { readAnswer } from "./readAnswer.ts";
import { type OpenAiRequest, readRequest } from "./readRequest.ts";
import { readTexts, textWriter } from "./textClient.ts";
import { writeAnswer } from "./writeAnswer.ts";
import { writeFault } from "./writeFault.ts";
import { requestWriter } from "./writeRequest.ts";

export { openAiEmbeddingServer } from "./embeddings.ts";
export { openAiTextServer } from "./textServer.ts";
export type { OpenAiOptions };

/** The half that a door uses. */
export const openAiServer: ServerHalf = Object.freeze({
  dialect: "openai",
  readRequest: (body: Uint8Array) => readRequest(body),
  writeAnswer: (read: ReadRequest, requestId: string) => writeAnswer(withForm(read), requestId),
  writeFault,
});

/** The half that a provider's row configures. */
export function openAiClient(options: OpenAiOptions): ClientHalf {
  const write = requestWriter(options);
  const writeText = textWriter(options);
  const texts = (options.textModels ?? []).map((pattern) => matcher(pattern));
  return Object.freeze({
    dialect: "openai",
    completes: (model: string) => texts.some((fits) => fits(model)),
    writeRequest: (input: RequestInput) => (input.request.rawPrompt === true ? writeText(input) : write(input)),
    readAnswer(input: AnswerInput) {
      if (input.request.rawPrompt === true) return readTexts(input);
      return readAnswer(input, options.freeToolNames === true ? undefined : (request) => toolNames(request, strictNames).callers);
    },
    readFault,
    embeddings: embeddingHalf(options),
  } satisfies ClientHalf);
}

/** The form in which calls are written is known of what this dialect read; anything else is in the present form. */
function withForm(read: ReadRequest): OpenAiRequest {
  return { ...read, functionCalls: "functionCalls" in read && read.functionCalls === true };
}
