/**
 * Writes requests of the Responses API.
 *
 * A caller's own request in this dialect is sent as it came, byte for byte, but for the model's name, the word that nothing is to be
 * stored, and the wish for sealed thinking, without which a conversation that is stored nowhere could not go on. Any other is written from
 * the conversation; what this dialect cannot carry is refused by name, or reported.
 */
import {
  type ChatRequest,
  type ResponseFormat,
  type Tool,
  type ToolChoice,
  ToolMode,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, spliceMembers, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { type PathOptions, pathWriter } from "../path.ts";
import { Report } from "../report.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import { callIds } from "./callIds.ts";
import { Extras, type Members } from "./extras.ts";
import { type ResponsesModelRow, sealedThinkingOf } from "./models.ts";
import { writeItems } from "./writeItems.ts";

/** What is particular to an endpoint that speaks this dialect. */
export interface ResponsesOptions extends PathOptions {
  /** What is particular to single models, before the built-in rows. */
  readonly models: readonly ResponsesModelRow[];
}

/**
 * Makes what writes requests to an endpoint. It throws a fault with reason `PARAMETER_UNSUPPORTED` for what cannot be carried, unless
 * that may be dropped.
 */
export function requestWriter(options: ResponsesOptions): (input: RequestInput) => WrittenRequest {
  const pathOf = pathWriter(options, "/responses");
  const sealsThinking = sealedThinkingOf(options.models);
  return function writeRequest(input) {
    const { native, request, streaming, model } = input;
    const path = pathOf(model);
    const headers = streaming ? streamHeaders : bodyHeaders;
    const sealed = sealsThinking(model);
    if (native?.dialect === "responses" && isPassable(request, sealed)) {
      return { path, headers, body: nativeBody(native.text, input, sealed), warnings: [] };
    }
    const report = new Report(model, input.dropUnsupported);
    return { path, headers, body: writeBody(input, sealed, report), warnings: report.warnings };
  };
}

/** Identity: a compressed stream is delivered in lumps, and the bytes are to be passed on as they are. */
const bodyHeaders: readonly string[] = Object.freeze([
  "content-type",
  "application/json",
  "accept",
  "application/json",
  "accept-encoding",
  "identity",
]);
const streamHeaders: readonly string[] = Object.freeze([
  "content-type",
  "application/json",
  "accept",
  "text/event-stream",
  "accept-encoding",
  "identity",
]);

/** Whether nothing in a request of this dialect has to be said otherwise: thinking of others and long ids of calls come from elsewhere. */
function isPassable(request: ChatRequest, sealed: boolean): boolean {
  for (const { parts } of request.messages) {
    for (const { content } of parts) {
      if (content.case === "reasoning") {
        const { dialect, signature } = content.value;
        if (!sealed || dialect !== "responses" || signature === "") return false;
      }
    }
  }
  return callIds(request).size === 0;
}

function nativeBody(text: string, { model, request }: RequestInput, sealed: boolean): string {
  const edits = new Map<string, (current: string | undefined) => string>();
  if (model !== request.model) edits.set("model", () => JSON.stringify(model));
  edits.set("store", () => "false");
  if (sealed) edits.set("include", withSealedThinking);
  return spliceMembers(text, edits);
}

function withSealedThinking(current: string | undefined): string {
  const asked: unknown = current === undefined ? null : JSON.parse(current);
  if (current === undefined || !Array.isArray(asked) || asked.length === 0) return JSON.stringify([SEALED_THINKING]);
  if (asked.includes(SEALED_THINKING)) return current;
  return `${current.slice(0, current.lastIndexOf("]"))},${JSON.stringify(SEALED_THINKING)}]`;
}

const SEALED_THINKING = "reasoning.encrypted_content";

function writeBody({ request, model, streaming }: RequestInput, sealed: boolean, report: Report): string {
  const extras = new Extras(request.extras, report);
  const names = toolNames(request, strictNames).sent;
  const { instructions, items } = writeItems({
    messages: request.messages,
    extras,
    report,
    toolNames: names,
    callIds: callIds(request),
    thinking: sealed,
  });
  const tools = extras.withTools(request.tools.map((tool, index) => writeTool(tool, index, names, extras, report)));
  const include = [...(sealed ? [SEALED_THINKING] : []), ...(request.logprobs === undefined ? [] : ["message.output_text.logprobs"])];
  const root: Members = { model, instructions, input: items };
  if (tools.length > 0) root.tools = tools;
  if (request.toolChoice !== undefined) root.tool_choice = writeToolChoice(request.toolChoice, names);
  // Without tools it asks for nothing.
  if (tools.length > 0) root.parallel_tool_calls = request.parallelToolCalls;
  if (request.responseFormat !== undefined) root.text = { format: writeFormat(request.responseFormat, extras) };
  const effort = effortOf(request, report);
  if (effort !== undefined) root.reasoning = { effort };
  root.max_output_tokens = limitOf(request, model, report);
  root.temperature = request.temperature;
  root.top_p = request.topP;
  if (request.logprobs !== undefined && request.logprobs.top > 0) root.top_logprobs = request.logprobs.top;
  if (include.length > 0) root.include = include;
  if (request.user !== "") root.user = request.user;
  if (request.serviceTier !== "") root.service_tier = request.serviceTier;
  root.store = false;
  if (streaming) root.stream = true;
  reportMissing(request, report);
  extras.finish(root);
  return stringify(root as JsonValue);
}

/** What the API has no parameter for. */
function reportMissing(request: ChatRequest, report: Report): void {
  const why = ", since the API has no such parameter";
  if (request.topK !== undefined) report.unsupported("top_k", why);
  if (request.stop.length > 0) report.unsupported("stop", why);
  if (request.seed !== undefined) report.unsupported("seed", why);
  if ((request.n ?? 1) > 1) report.unsupported("n", ", since there is one answer to a call");
  if ((request.presencePenalty ?? 0) !== 0) report.unsupported("presence_penalty", why);
  if ((request.frequencyPenalty ?? 0) !== 0) report.unsupported("frequency_penalty", why);
  if (Object.keys(request.logitBias).length > 0) report.unsupported("logit_bias", why);
}

/** The least limit that the API takes. */
const OUTPUT_TOKENS_MIN = 16n;

function limitOf({ maxOutputTokens }: ChatRequest, model: string, report: Report): bigint | undefined {
  if (maxOutputTokens === undefined || maxOutputTokens >= OUTPUT_TOKENS_MIN) return maxOutputTokens;
  const message = `The limit of ${maxOutputTokens} tokens was sent as ${OUTPUT_TOKENS_MIN}: the API takes no lower one for the model ${model}.`;
  report.changed("max_output_tokens", message);
  return OUTPUT_TOKENS_MIN;
}

function effortOf({ reasoning }: ChatRequest, report: Report): string | undefined {
  if (reasoning === undefined) return undefined;
  const { amount, thinking } = reasoning;
  if (amount.case === "budgetTokens") report.unsupported("reasoning.budget_tokens", ", since the API takes a word of effort and no number");
  const effort = amount.case === "effort" ? amount.value : undefined;
  if (thinking === false && effort !== "none") {
    report.unsupported("reasoning.thinking", ", since the API cannot switch thinking off apart from its effort");
  }
  return effort;
}

function writeTool(tool: Tool, index: number, names: ReadonlyMap<string, string>, extras: Extras, report: Report): JsonValue {
  if (tool.cache !== undefined) {
    report.dropped(`tools[${index}].cache`, "The API decides for itself what it keeps in its prompt cache.");
  }
  const { name, description, parametersJson, strict } = tool;
  const written: Members = {
    type: "function",
    name: names.get(name) ?? name,
    description: description === "" ? undefined : description,
    parameters: parametersJson === "" ? { type: "object", properties: {} } : extras.raw(parametersJson, `tools[${index}].parameters_json`),
    // The API would be strict where nothing is said, and refuse schemas that are not made for it.
    strict: strict ?? false,
  };
  extras.addTo(written, `tools[${index}].`);
  return written as JsonValue;
}

function writeToolChoice({ choice }: ToolChoice, names: ReadonlyMap<string, string>): JsonValue | undefined {
  if (choice.case === "tool") return { type: "function", name: names.get(choice.value) ?? choice.value };
  switch (choice.value) {
    case ToolMode.AUTO:
      return "auto";
    case ToolMode.NONE:
      return "none";
    case ToolMode.REQUIRED:
      return "required";
    default:
      return undefined;
  }
}

function writeFormat({ format }: ResponseFormat, extras: Extras): JsonValue | undefined {
  switch (format.case) {
    case "text":
      return { type: "text" };
    case "jsonObject":
      return { type: "json_object" };
    case "jsonSchema": {
      const { name, description, schemaJson, strict } = format.value;
      return {
        type: "json_schema",
        // The API wants a name and does nothing with it.
        name: name === "" ? "answer" : name,
        description: description === "" ? undefined : description,
        schema: extras.raw(schemaJson, "response_format.json_schema.schema_json"),
        strict,
      };
    }
    default:
      return undefined;
  }
}
