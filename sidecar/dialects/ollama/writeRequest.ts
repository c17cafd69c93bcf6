/**
 * Writes requests of `/api/chat`. The server passes over members that it does not know, so nothing is sent that it might not obey: what
 * it cannot do is refused by name, or reported.
 */
import { type ChatRequest, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { type Members, placeExtras, rawJson } from "../placeExtras.ts";
import { Report } from "../report.ts";
import { modelTraits, type OllamaModel, type OllamaModelRow } from "./models.ts";
import { writeMessages } from "./writeMessages.ts";

/** What is particular to an endpoint that speaks this dialect. */
export interface OllamaOptions {
  /** The context window in tokens, or undefined for the server's own, which cuts long prompts without a word. */
  readonly contextTokens: number | undefined;
  /** How long the model stays loaded behind a call, such as `5m`; undefined leaves it to the server. */
  readonly keepAlive: string | undefined;
  /** Whether the server only makes vectors one at a time, as those before 0.3 do; no if left out. */
  readonly oneVectorAtOnce?: boolean;
  /** What single models can be asked; the first row that fits goes before the built-in ones. */
  readonly models: readonly OllamaModelRow[];
}

/** Makes the writer of requests to one endpoint. */
export function requestWriter(options: OllamaOptions): (input: RequestInput) => WrittenRequest {
  const traitsOf = modelTraits(options.models);
  return (input) => {
    const report = new Report(input.model, input.dropUnsupported);
    const body = writeBody(input, options, traitsOf(input.model), report);
    return { path: "/api/chat", headers: input.streaming ? streamHeaders : bodyHeaders, body, warnings: report.warnings };
  };
}

/** Identity: a compressed stream would have to be inflated before it is read, and comes in larger and later pieces. */
const bodyHeaders = Object.freeze(["content-type", "application/json", "accept", "application/json", "accept-encoding", "identity"]);
const streamHeaders = Object.freeze(["content-type", "application/json", "accept", "application/x-ndjson", "accept-encoding", "identity"]);

function writeBody(input: RequestInput, options: OllamaOptions, traits: OllamaModel, report: Report): string {
  const { request, model, streaming } = input;
  refuseUncarried(request, report);
  const tools = writeTools(request, report);
  const root: Members = {
    model,
    messages: writeMessages(request.messages, report),
    tools: tools.length === 0 ? undefined : tools,
    format: writeFormat(request, report),
    think: writeThinking(request, traits, report),
    keep_alive: options.keepAlive,
    // The server streams unless it is told not to.
    stream: streaming,
  };
  const settings: Members = {
    temperature: request.temperature,
    top_p: request.topP,
    top_k: request.topK,
    seed: request.seed,
    stop: request.stop.length === 0 ? undefined : request.stop,
    num_predict: writeLimit(request, report),
    presence_penalty: request.presencePenalty,
    frequency_penalty: request.frequencyPenalty,
    num_ctx: traits.contextTokens ?? options.contextTokens,
  };
  if (Object.values(settings).some((value) => value !== undefined)) root.options = settings;
  placeExtras(root, request.extras, "ollama", report);
  return stringify(root);
}

/** Parameters that this API has no word for. Values that mean what happens anyway need none. */
function refuseUncarried(request: ChatRequest, report: Report): void {
  if (request.n !== undefined && request.n !== 1) report.unsupported("n");
  if (Object.keys(request.logitBias).length > 0) report.unsupported("logit_bias");
  if (request.logprobs !== undefined) report.unsupported("logprobs");
  if (request.user !== "") report.dropped("user", "This provider has no place for the name of a user.");
  if (request.serviceTier !== "") report.unsupported("service_tier");
}

function writeTools(request: ChatRequest, report: Report): JsonValue[] {
  const choice = request.toolChoice?.choice;
  // The API has no word for it, but a model that knows of no tool calls none.
  if (choice?.value === ToolMode.NONE) return [];
  if (request.tools.length === 0) {
    if (choice?.case === "tool" || choice?.value === ToolMode.REQUIRED)
      throw report.invalid("tool_choice", "asks for a tool where there are none");
    return [];
  }
  if (request.parallelToolCalls === false) report.unsupported("parallel_tool_calls", " with the value false");
  if (choice?.case === "tool" || choice?.value === ToolMode.REQUIRED)
    report.unsupported("tool_choice", ": it decides by itself whether to call a tool");
  return request.tools.map((tool, index) => {
    const field = `tools[${index}]`;
    if (tool.strict === true) report.unsupported(`${field}.strict`);
    if (tool.cache !== undefined) report.dropped(`${field}.cache`, "This provider has no cache markers.");
    return {
      type: "function",
      function: {
        name: tool.name,
        description: tool.description === "" ? undefined : tool.description,
        parameters: tool.parametersJson.trim() === "" ? noArguments : rawJson(tool.parametersJson, `${field}.parameters_json`, report),
      },
    };
  });
}

/** The prompt templates of many models walk over the properties without asking whether there are any. */
const noArguments = { type: "object", properties: {} } as const;

function writeFormat({ responseFormat }: ChatRequest, report: Report): JsonValue | undefined {
  const format = responseFormat?.format;
  if (format?.case === "jsonObject") return "json";
  if (format?.case !== "jsonSchema") return undefined;
  const { description, schemaJson } = format.value;
  if (description !== "") {
    report.dropped("response_format.json_schema.description", "This provider takes a schema without a description.");
  }
  return rawJson(schemaJson, "response_format.json_schema.schema_json", report);
}

/** The server takes 0 for no limit at all, which is the opposite of what was asked. */
function writeLimit({ maxOutputTokens }: ChatRequest, report: Report): bigint | undefined {
  if (maxOutputTokens !== 0n) return maxOutputTokens;
  report.unsupported("max_output_tokens", " with the value 0");
  return undefined;
}

function writeThinking({ reasoning }: ChatRequest, { thinking: way }: OllamaModel, report: Report): JsonValue | undefined {
  if (reasoning === undefined) return undefined;
  const { amount, thinking } = reasoning;
  const effort = amount.case === "effort" ? amount.value : undefined;
  const off = thinking === false || effort === "none" || (amount.case === "budgetTokens" && amount.value === 0n);
  if (way === "none") {
    if (!off) report.unsupported("reasoning");
    return undefined;
  }
  if (off) {
    if (effort !== undefined && effort !== "none") report.unsupported("reasoning.effort", " along with no thinking");
    if (way === "switch") return false;
    report.changed("reasoning", "The model cannot be kept from thinking, so it was asked to think little.");
    return "low";
  }
  if (amount.case === "budgetTokens") report.unsupported("reasoning.budget_tokens", ", since it takes no number of tokens");
  if (effort === undefined) return true;
  const word = Object.hasOwn(words, effort) ? words[effort] : undefined;
  if (word === undefined) {
    report.unsupported("reasoning.effort", ` with the value ${JSON.stringify(effort)}`);
    return undefined;
  }
  if (way === "switch") {
    report.changed("reasoning.effort", `The model thinks or does not, so the effort ${effort} was sent as thinking.`);
    return true;
  }
  if (word !== effort) report.changed("reasoning.effort", `The model knows no effort ${effort}, so ${word} was sent.`);
  return word;
}

/** The nearest word that the API has, by the conversation's. */
const words: Readonly<Record<string, string>> = Object.freeze({
  minimal: "low",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "high",
  max: "high",
});
