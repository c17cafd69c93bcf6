/** Counting tokens (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html). */
import { RawJson, stringify } from "../../framing/json.ts";
import type { AnswerInput, TokenCountHalf, WrittenRequest } from "../dialect.ts";
import { bodyOf, readTokenCount } from "../tokenCount.ts";
import { modelPath } from "./writeRequest.ts";

/** Counts what Converse would read. */
export const converseCounting: TokenCountHalf = counting((written) => ({ converse: new RawJson(bodyOf(written, inputMembers)) }));

/** Counts what a model would read that is invoked with a body of its own. */
export const invokeCounting: TokenCountHalf = counting(({ body }) => ({
  invokeModel: { body: Buffer.from(body).toString("base64") },
}));

const inputMembers: ReadonlySet<string> = new Set(["messages", "system", "toolConfig", "additionalModelRequestFields"]);

function counting(inputOf: (written: WrittenRequest) => { readonly [form: string]: RawJson | { readonly body: string } }): TokenCountHalf {
  return Object.freeze({
    ask: (written: WrittenRequest, model: string): WrittenRequest => ({
      ...written,
      path: modelPath(model, "count-tokens"),
      body: stringify({ input: inputOf(written) }),
    }),
    readAnswer: (input: AnswerInput) => readTokenCount(input, "inputTokens"),
  });
}
