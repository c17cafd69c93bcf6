/** Counting tokens (https://docs.anthropic.com/en/api/messages-count-tokens): both halves. */
import type { Batch } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { AnswerInput, AnswerWriter, ServerHalf, TokenCountHalf, WrittenRequest } from "../dialect.ts";
import { bodyOf, readTokenCount } from "../tokenCount.ts";
import { ownField } from "./ownField.ts";
import { readRequest } from "./readRequest.ts";
import { writeFault } from "./writeFault.ts";

/** The half that a door uses. */
export const anthropicCountServer: ServerHalf = Object.freeze({
  dialect: "anthropic",
  readRequest: (body: Uint8Array, header?: (name: string) => string | undefined) => ({
    ...readRequest(body, header, { limited: false }),
    streaming: false,
    countOnly: true,
  }),
  writeAnswer: (_: unknown, requestId: string) => new CountWriter(requestId),
  writeFault,
  ownField,
});

/** The part of the client half that counts. */
export const tokenCounting: TokenCountHalf = Object.freeze({
  ask: (written: WrittenRequest): WrittenRequest => ({
    ...written,
    path: `${written.path}/count_tokens`,
    body: bodyOf(written, countedMembers),
  }),
  readAnswer: (input: AnswerInput) => readTokenCount(input, "input_tokens"),
});

/** What the API takes of a request: what becomes input. How the answer would be made it refuses to hear. */
const countedMembers: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "mcp_servers",
  "output_config",
  "context_management",
]);

class CountWriter implements AnswerWriter {
  readonly #requestId: string;
  #tokens: bigint | undefined;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  write(batch: Batch): undefined {
    for (const { event } of batch) if (event.case === "usage") this.#tokens = event.value.inputTokens;
    return undefined;
  }

  end(): string {
    if (this.#tokens === undefined) throw new Error("an answer to a question for a count has one");
    return `{"input_tokens":${this.#tokens}}`;
  }

  fault(fault: Fault): string {
    return writeFault(fault, this.#requestId);
  }
}
