/**
 * A provider that keeps the rules of the Converse API to the letter, with a model that thinks: the rules are those of the Messages API, in
 * other words. A block has exactly one member, and a stream is made of binary frames.
 */
import { dataFrame } from "../eventFrames.ts";
import type { ReplayAnswer, SeenRequest } from "../replay.ts";
import { type Json, MessageRules } from "./messages.ts";
import type { Script } from "./toolLoop.ts";

/** The provider: one conversation, streamed or not, as it is asked for. `key` is the credential that it knows. */
export class StrictConverse {
  readonly rules: MessageRules;
  readonly #key: string;

  constructor(script: Script, key: string) {
    this.rules = new MessageRules(script);
    this.#key = key;
  }

  answer({ body, headers, path }: Pick<SeenRequest, "body" | "headers" | "path">): ReplayAnswer & { readonly status: number } {
    const asked: Json = JSON.parse(body.toString());
    const thinking = asked.additionalModelRequestFields?.thinking;
    const thinks = thinking?.type === "enabled" ? "first" : thinking?.type === "adaptive" ? "freely" : "never";
    const most = asked.inferenceConfig?.maxTokens;
    let messages: Json[] = [];
    let wrong: string | undefined;
    try {
      messages = asked.messages.map(({ role, content }: Json) => ({ role, content: content.map(blockOf) }));
      if (headers.authorization !== `Bearer ${this.#key}`) wrong = "the key";
      else if (thinks === "first" && !(thinking.budget_tokens >= 1024 && (most === undefined || thinking.budget_tokens < most)))
        wrong = "the budget of thinking";
      else if (asked.toolConfig?.tools?.length !== 2) wrong = "the tools";
      else wrong = this.rules.wrong(messages, thinks);
    } catch (error) {
      wrong = error instanceof Error ? error.message : "the blocks";
    }
    if (wrong !== undefined) {
      const refusal = { "content-type": "application/json", "x-amzn-errortype": "ValidationException" };
      return { status: 400, headers: refusal, pieces: [JSON.stringify({ message: `Wrong: ${wrong}` })] };
    }
    const { turn, blocks } = this.rules.next(messages, thinks);
    const stopReason = turn.kind === "calls" ? "tool_use" : "end_turn";
    const usage = { inputTokens: 10, outputTokens: 5, totalTokens: 15 };
    if (!path.endsWith("/converse-stream")) {
      const whole = {
        output: { message: { role: "assistant", content: blocks.map(wireOf) } },
        stopReason,
        usage,
        metrics: { latencyMs: 1 },
      };
      return { status: 200, headers: { "content-type": "application/json" }, pieces: [JSON.stringify(whole)] };
    }
    const pieces = [
      dataFrame("messageStart", { role: "assistant" }),
      ...blocks.flatMap(frames),
      dataFrame("messageStop", { stopReason }),
      dataFrame("metadata", { usage, metrics: { latencyMs: 1 } }),
    ];
    return { status: 200, headers: { "content-type": "application/vnd.amazon.eventstream" }, pieces };
  }
}

/** A block in the form of the Messages API. Throws for what this API refuses. */
function blockOf(block: Json): Json {
  const [member, more] = Object.keys(block);
  if (member === undefined || more !== undefined) throw new Error("a block has not exactly one member");
  const { text, toolUse, toolResult, reasoningContent } = block;
  switch (member) {
    case "text":
      return { type: "text", text };
    case "toolUse":
      return { type: "tool_use", id: toolUse.toolUseId, name: toolUse.name, input: toolUse.input };
    case "toolResult":
      return { type: "tool_result", tool_use_id: toolResult.toolUseId, content: toolResult.content };
    case "reasoningContent": {
      const { reasoningText, redactedContent } = reasoningContent;
      if (redactedContent !== undefined) return { type: "redacted_thinking", data: redactedContent };
      return { type: "thinking", thinking: reasoningText.text, signature: reasoningText.signature };
    }
    default:
      throw new Error(`nobody knows blocks with ${member}`);
  }
}

/** A block of the Messages API in the form of this one. */
function wireOf(block: Json): Json {
  switch (block.type) {
    case "thinking":
      return { reasoningContent: { reasoningText: { text: block.thinking, signature: block.signature } } };
    case "redacted_thinking":
      return { reasoningContent: { redactedContent: block.data } };
    case "tool_use":
      return { toolUse: { toolUseId: block.id, name: block.name, input: block.input } };
    default:
      return { text: block.text };
  }
}

function frames(block: Json, contentBlockIndex: number): Buffer[] {
  const delta = (value: Json): Buffer => dataFrame("contentBlockDelta", { contentBlockIndex, delta: value });
  const stop = dataFrame("contentBlockStop", { contentBlockIndex });
  switch (block.type) {
    case "thinking":
      return [delta({ reasoningContent: { text: block.thinking } }), delta({ reasoningContent: { signature: block.signature } }), stop];
    case "redacted_thinking":
      return [delta({ reasoningContent: { redactedContent: block.data } }), stop];
    case "tool_use": {
      const start = { toolUse: { toolUseId: block.id, name: block.name } };
      return [
        dataFrame("contentBlockStart", { contentBlockIndex, start }),
        delta({ toolUse: { input: JSON.stringify(block.input) } }),
        stop,
      ];
    }
    default:
      return [delta({ text: block.text }), stop];
  }
}
