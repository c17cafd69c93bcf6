/** What policy says of a provider in the Bedrock dialect, as the dialect takes it. */
import {
  type BedrockDialect,
  BedrockGuardrailStreaming,
  BedrockGuardrailTrace,
  BedrockJsonSchema,
  type BedrockModel,
  BedrockReasoning,
  BedrockToolChoice,
} from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { BedrockModelRow, BedrockOptions, EnvelopeFormat, ReasoningWay } from "../dialects/bedrock/bedrock.ts";

/** The options of the dialect's client half. */
export function bedrockOptions({ guardrail, models }: BedrockDialect): BedrockOptions {
  return {
    guardrail: guardrail && {
      identifier: guardrail.identifier,
      version: guardrail.version,
      trace: guardrailTraces[guardrail.trace],
      streamProcessing: guardrailStreams[guardrail.streaming],
    },
    models: models.map(modelRow),
  };
}

/** The Messages format inside the envelope of InvokeModel. */
export const messagesFormat: EnvelopeFormat = Object.freeze({
  versionMember: "anthropic_version",
  betaHeader: "anthropic-beta",
  betaMember: "anthropic_beta",
});

function modelRow(model: BedrockModel): BedrockModelRow {
  return {
    pattern: model.pattern,
    reasoning: reasoningWays[model.reasoning],
    jsonSchema: schemaWays[model.jsonSchema],
    toolChoice: toolChoices[model.toolChoice],
    system: model.system,
    tools: model.tools,
    strictTools: model.strictTools,
    cache: model.cache,
    sampling: model.sampling,
    topK: model.topK,
    maxOutputTokens: Number(model.maxOutputTokens) || undefined,
  };
}

const guardrailTraces: Readonly<Record<number, "enabled" | "disabled" | "enabled_full">> = {
  [BedrockGuardrailTrace.ENABLED]: "enabled",
  [BedrockGuardrailTrace.DISABLED]: "disabled",
  [BedrockGuardrailTrace.FULL]: "enabled_full",
};

const guardrailStreams: Readonly<Record<number, "sync" | "async">> = {
  [BedrockGuardrailStreaming.SYNC]: "sync",
  [BedrockGuardrailStreaming.ASYNC]: "async",
};

const reasoningWays: Readonly<Record<number, ReasoningWay>> = {
  [BedrockReasoning.NONE]: "none",
  [BedrockReasoning.BUDGET]: "budget",
  [BedrockReasoning.ADAPTIVE]: "adaptive",
  [BedrockReasoning.CONFIG]: "config",
  [BedrockReasoning.EFFORT]: "effort",
};

const schemaWays: Readonly<Record<number, "output_config" | "tool" | "none">> = {
  [BedrockJsonSchema.OUTPUT_CONFIG]: "output_config",
  [BedrockJsonSchema.TOOL]: "tool",
  [BedrockJsonSchema.NONE]: "none",
};

const toolChoices: Readonly<Record<number, "auto" | "any" | "tool">> = {
  [BedrockToolChoice.AUTO]: "auto",
  [BedrockToolChoice.ANY]: "any",
  [BedrockToolChoice.TOOL]: "tool",
};
