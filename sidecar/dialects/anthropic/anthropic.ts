/**
 * The Anthropic dialect: the Messages API (https://docs.anthropic.com/en/api/messages) as a door speaks it and as a provider does.
 *
 * Reading order: `readRequest` and `writeRequest` are the way in, `readAnswer` and `writeAnswer` the way back, `readFault` and
 * `writeFault` what happens instead.
 */
import type { ClientHalf, ServerHalf } from "../dialect.ts";
import { ownField } from "./ownField.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { readRequest } from "./readRequest.ts";
import { tokenCounting } from "./tokenCount.ts";
import { writeAnswer } from "./writeAnswer.ts";
import { writeFault } from "./writeFault.ts";
import { type AnthropicOptions, requestWriter } from "./writeRequest.ts";

export type { AnthropicModelRow } from "./models.ts";
export { anthropicCountServer } from "./tokenCount.ts";
export type { AnthropicOptions } from "./writeRequest.ts";

/** The half that a door uses. */
export const anthropicServer: ServerHalf = Object.freeze({
  dialect: "anthropic",
  readRequest: (body: Uint8Array, header?: (name: string) => string | undefined) => readRequest(body, header),
  writeAnswer,
  writeFault,
  ownField,
});

/** The half that a provider uses, for one endpoint. */
export function anthropicClient(options: AnthropicOptions): ClientHalf {
  return Object.freeze({
    dialect: "anthropic",
    writeRequest: requestWriter(options),
    readAnswer,
    readFault,
    tokenCount: tokenCounting,
    seals,
  });
}

/** A signature of one platform is opened on every other (https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking). */
const seals = Object.freeze({ dialect: "anthropic", always: false, portable: true });
