/**
 * The conversation as a request of version 2 of the chat API (https://docs.cohere.com/reference/chat).
 *
 * What this API cannot carry is refused by name, or left out and reported where policy says so; what it takes only in another form is
 * sent in that form and reported.
 */
import { type ChatRequest, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isObject, JsonError, type JsonObject, type JsonValue, parseObject, RawJson, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { Report } from "../report.ts";
import { strictNames, type ToolNames, toolNames } from "../toolNames.ts";
import { type CohereModel, type CohereModelRow, modelTable } from "./models.ts";
import { rawJson, writeMessages } from "./writeMessages.ts";

/** What is particular to one endpoint. */
export interface CohereOptions {
  /** What an operator says of models; the built-in rows come after these. */
  readonly models: readonly CohereModelRow[];
}

/** Makes the writer of requests to one endpoint. */
export function requestWriter(options: CohereOptions): (input: RequestInput) => WrittenRequest {
  const modelOf = modelTable(options.models);
  return function writeRequest(input) {
    return new RequestBody(input, modelOf(input.model)).write();
  };
}

const path = "/v2/chat";

/** Identity: a compressed stream would have to be inflated before it is read, and comes in larger and later pieces. */
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

class RequestBody {
  readonly #input: RequestInput;
  readonly #request: ChatRequest;
  readonly #traits: CohereModel;
  readonly #report: Report;
  readonly #names: ToolNames;

  constructor(input: RequestInput, traits: CohereModel) {
    this.#input = input;
    this.#request = input.request;
    this.#traits = traits;
    this.#report = new Report(input.model, input.dropUnsupported);
    this.#names = toolNames(input.request, strictNames);
  }

  write(): WrittenRequest {
    const { model, streaming } = this.#input;
    const request = this.#request;
    this.#refuseUncarried();
    const messages = writeMessages(request.messages, this.#names, this.#traits, this.#report);
    const { tools, choice } = this.#tools();
    const members: Members = {
      model,
      messages,
      tools: tools.length > 0 ? tools : undefined,
      tool_choice: choice,
      strict_tools: tools.length > 0 && this.#strictTools() ? true : undefined,
      response_format: this.#responseFormat(tools.length > 0),
      thinking: this.#thinking(),
      max_tokens: request.maxOutputTokens,
      temperature: request.temperature,
      p: this.#within("top_p", request.topP, 0.01, 0.99),
      k: this.#topK(),
      seed: this.#seed(),
      presence_penalty: this.#penalty("presence_penalty", request.presencePenalty),
      frequency_penalty: this.#penalty("frequency_penalty", request.frequencyPenalty),
      stop_sequences: this.#stop(),
      logprobs: request.logprobs === undefined ? undefined : true,
      stream: streaming ? true : undefined,
    };
    const body = stringify(this.#withExtras(members));
    return { path, headers: streaming ? streamHeaders : bodyHeaders, body, warnings: this.#report.warnings };
  }

  /** Parameters that this API has no word for. Values that mean what happens anyway need none. */
  #refuseUncarried(): void {
    const { n, parallelToolCalls, logitBias, user, serviceTier, logprobs } = this.#request;
    if (n !== undefined && n !== 1) this.#report.unsupported("n");
    if (parallelToolCalls === false) this.#report.unsupported("parallel_tool_calls", " with the value false");
    if (Object.keys(logitBias).length > 0) this.#report.unsupported("logit_bias");
    if (logprobs !== undefined && logprobs.top > 0) this.#report.unsupported("logprobs.top");
    if (serviceTier !== "" && serviceTier !== "auto" && serviceTier !== "default") {
      this.#report.unsupported("service_tier", ` with the value ${JSON.stringify(serviceTier)}`);
    }
    // It changes nothing of the answer.
    if (user !== "") this.#report.dropped("user", "This provider takes no name of an end user.");
  }

  /** The tools to send, and the word for whether one must be called. */
  #tools(): { readonly tools: readonly JsonValue[]; readonly choice: string | undefined } {
    const { tools, toolChoice } = this.#request;
    const choice = toolChoice?.choice;
    const written = tools.map((tool, index) => {
      if (tool.cache !== undefined) {
        this.#report.dropped(`tools[${index}].cache`, "This provider decides for itself what it keeps in its prompt cache.");
      }
      const { name, description, parametersJson } = tool;
      const parameters = parametersJson.trim() === "" ? noArguments : new RawJson(parametersJson);
      if (parameters instanceof RawJson) this.#object(parametersJson, `tools[${index}].parameters_json`);
      const sent = this.#names.sent.get(name) ?? name;
      return { type: "function", function: { name: sent, description: description === "" ? undefined : description, parameters } };
    });
    if (choice?.case === "tool") {
      const at = tools.findIndex(({ name }) => name === choice.value);
      const only = written[at];
      if (only === undefined) throw this.#report.invalid("tool_choice", "names a tool that is not there");
      if (!this.#traits.toolChoice) {
        this.#report.unsupported("tool_choice");
        return { tools: written, choice: undefined };
      }
      // The API cannot name a tool. Where it is the only one, the order to call any is the order to call it.
      return { tools: [only], choice: "REQUIRED" };
    }
    if (choice?.value === ToolMode.REQUIRED) {
      if (written.length === 0) throw this.#report.invalid("tool_choice", "asks for a tool where there are none");
      if (this.#traits.toolChoice) return { tools: written, choice: "REQUIRED" };
      this.#report.unsupported("tool_choice");
    }
    if (choice?.value === ToolMode.NONE && written.length > 0) {
      // What is not there cannot be called, either.
      return this.#traits.toolChoice ? { tools: written, choice: "NONE" } : { tools: [], choice: undefined };
    }
    return { tools: written, choice: undefined };
  }

  /** Whether calls must keep to the schemas, which this API says once for all tools, and only where each has a required parameter. */
  #strictTools(): boolean {
    const { tools } = this.#request;
    if (!tools.some(({ strict }) => strict === true)) return false;
    let all = true;
    for (const [index, { strict, parametersJson }] of tools.entries()) {
      const field = `tools[${index}].strict`;
      if (strict !== true) {
        this.#report.unsupported("tools.strict", " for some tools and not for others");
        return false;
      }
      if (requiredOf(parametersJson).length > 0) continue;
      this.#report.unsupported(field, " for a tool without a required parameter");
      all = false;
    }
    return all;
  }

  #responseFormat(hasTools: boolean): JsonValue | undefined {
    const format = this.#request.responseFormat?.format;
    if (format?.case !== "jsonObject" && format?.case !== "jsonSchema") return undefined;
    if (hasTools) {
      this.#report.unsupported("response_format", " along with tools");
      return undefined;
    }
    if (format.case === "jsonObject") return { type: "json_object" };
    const { schemaJson, description } = format.value;
    this.#object(schemaJson, "response_format.json_schema.schema");
    if (description !== "") {
      this.#report.dropped("response_format.json_schema.description", "This provider takes a schema without a description.");
    }
    return { type: "json_object", json_schema: new RawJson(schemaJson) };
  }

  /** Whether and how much the model thinks. Models that can think do so unless they are told not to. */
  #thinking(): JsonValue | undefined {
    const { reasoning } = this.#request;
    if (reasoning === undefined) return undefined;
    const { amount } = reasoning;
    const effort = amount.case === "effort" ? amount.value : undefined;
    const budget = amount.case === "budgetTokens" ? Number(amount.value) : undefined;
    const off = effort === "none" || budget === 0 || reasoning.thinking === false;
    if (off && (effort ?? "none") !== "none") this.#report.unsupported("reasoning.effort", " without thinking");
    if (!this.#traits.thinking) {
      if (!off) this.#report.unsupported("reasoning");
      return undefined;
    }
    if (off) return { type: "disabled" };
    if (effort !== undefined && !Object.hasOwn(budgets, effort)) {
      this.#report.unsupported("reasoning.effort", ` with the value ${JSON.stringify(effort)}`);
      return undefined;
    }
    return { type: "enabled", token_budget: budget ?? (effort === undefined ? undefined : budgets[effort]) };
  }

  #topK(): number | undefined {
    const { topK } = this.#request;
    return this.#within("top_k", topK === undefined ? undefined : Number(topK), 0, 500);
  }

  #seed(): bigint | undefined {
    const { seed } = this.#request;
    if (seed === undefined || seed >= 0n) return seed;
    this.#report.unsupported("seed", " below 0");
    return undefined;
  }

  /** Rewards for repetition are what penalties below 0 are, and this API has none. */
  #penalty(field: string, penalty: number | undefined): number | undefined {
    if (penalty !== undefined && penalty < 0) {
      this.#report.unsupported(field, " below 0");
      return undefined;
    }
    return this.#within(field, penalty, 0, 1);
  }

  /** A number within the limits of this API, which the caller hears of if it was not. */
  #within(field: string, value: number | undefined, min: number, max: number): number | undefined {
    if (value === undefined) return undefined;
    if (value > max) this.#report.changed(field, `Lowered from ${value} to ${max}, the most that this provider takes.`);
    if (value < min) this.#report.changed(field, `Raised from ${value} to ${min}, the least that this provider takes.`);
    return Math.min(Math.max(value, min), max);
  }

  #stop(): readonly string[] | undefined {
    const { stop } = this.#request;
    if (stop.length > STOPS_MAX) this.#report.unsupported(`stop[${STOPS_MAX}]`, `, nor any text behind the first ${STOPS_MAX}`);
    return stop.length === 0 ? undefined : stop.slice(0, STOPS_MAX);
  }

  /** The request with the members that only this dialect knows, such as documents, in a place where nothing else stands. */
  #withExtras(members: Members): Members {
    const { extras } = this.#request;
    if (extras.length === 0) return members;
    const all = new Map<string, JsonValue | undefined>(Object.entries(members));
    for (const [index, { dialect, path: member, json }] of extras.entries()) {
      if (dialect !== "cohere" || !/^[a-z][a-z0-9_]*$/.test(member)) this.#report.unsupported(member === "" ? `extras[${index}]` : member);
      else if (Object.hasOwn(members, member) || all.has(member)) {
        throw this.#report.invalid(`extras[${index}].path`, `${member} has a place of its own in the conversation, or was given twice`);
      } else all.set(member, rawJson(json, `extras[${index}].json`, this.#report));
    }
    return Object.fromEntries(all);
  }

  /** The object that a schema's text is: it becomes a part of the request as it is. */
  #object(text: string, field: string): JsonObject {
    try {
      return parseObject(text);
    } catch (caught) {
      if (!(caught instanceof JsonError)) throw caught;
      throw this.#report.invalid(field, `expected a JSON object as text: ${caught.message}`);
    }
  }
}

type Members = { readonly [key: string]: JsonValue | undefined };

/** The schema of a tool that takes no arguments. */
const noArguments = Object.freeze({ type: "object", properties: Object.freeze({}) });

/** What the API takes; more are refused. */
const STOPS_MAX = 5;

/**
 * Tokens to think with, by the word of effort; what other dialects take too, so that a change of provider changes no bill. Without a
 * number the model thinks as long as it wants, which is what the strongest words ask for.
 */
const budgets: Readonly<Record<string, number | undefined>> = Object.freeze({
  minimal: 1024,
  low: 1024,
  medium: 2048,
  high: 4096,
  xhigh: 8192,
  max: undefined,
});

/** The names of the parameters that a schema requires. The text was checked to be an object's, or is blank. */
function requiredOf(schemaJson: string): readonly unknown[] {
  const schema: unknown = schemaJson.trim() === "" ? {} : JSON.parse(schemaJson);
  return isObject(schema) && Array.isArray(schema.required) ? schema.required : [];
}
