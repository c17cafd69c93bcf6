/**
 * The dialect of the AWS Bedrock runtime: Converse and ConverseStream, one API for the models of many makers
 * (https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html).
 *
 * Reading order: `writeRequest` with `writeTurns` and the table of `models` is the way in, `readAnswer` with `frames` the way back,
 * `readFault` what happens instead. `invoke` is the older API, in which a model is spoken to in its own dialect.
 */
import type { ClientHalf } from "../dialect.ts";
import { embeddings } from "./embeddings.ts";
import { readAnswer } from "./readAnswer.ts";
import { readFault } from "./readFault.ts";
import { converseCounting } from "./tokenCount.ts";
import { type BedrockOptions, requestWriter } from "./writeRequest.ts";

export { type EnvelopeFormat, invokeClient } from "./invoke.ts";
export type { BedrockModelRow, ReasoningWay } from "./models.ts";
export type { BedrockOptions, GuardrailOptions } from "./writeRequest.ts";

/** The half that a provider uses, for one endpoint. */
export function bedrockClient(options: BedrockOptions): ClientHalf {
  return Object.freeze({
    dialect: "bedrock",
    writeRequest: requestWriter(options),
    readAnswer,
    readFault,
    embeddings,
    tokenCount: converseCounting,
    seals,
  });
}

/** Models of many makers seal here, and not all say that their seals can be opened elsewhere. */
const seals = Object.freeze({ dialect: "bedrock", always: false, portable: false });
