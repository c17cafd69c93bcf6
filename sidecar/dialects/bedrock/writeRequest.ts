/**
 * The conversation as a request of the Converse API (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html).
 *
 * What the API or the model cannot carry is refused by name, or left out and reported where policy says so; what it takes only in another
 * form is sent in that form and reported.
 */
import { type ChatRequest, type Extra, type JsonSchemaFormat, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { JsonError, type JsonValue, parseObject, RawJson, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { Report } from "../report.ts";
import { answerToolName, strictNames, type ToolNames, toolNames } from "../toolNames.ts";
import { CacheMarkers } from "./cacheMarkers.ts";
import { type BedrockModel, type BedrockModelRow, modelTable } from "./models.ts";
import type { Block } from "./writeMedia.ts";
import { writeTurns } from "./writeTurns.ts";

/** What is particular to one endpoint. */
export interface BedrockOptions {
  /** The guardrail that the platform puts before and behind the model, or undefined. */
  readonly guardrail: GuardrailOptions | undefined;
  /** What an operator says of models; the built-in rows come after these. */
  readonly models: readonly BedrockModelRow[];
}

/** A guardrail that is kept at the provider. */
export interface GuardrailOptions {
  /** Its id or resource name. */
  readonly identifier: string;
  /** A number, or `DRAFT`. */
  readonly version: string;
  /** How much the answer tells of what it did; undefined leaves it to the provider. */
  readonly trace: "enabled" | "disabled" | "enabled_full" | undefined;
  /** Whether a stream waits for it; undefined leaves it to the provider. */
  readonly streamProcessing: "sync" | "async" | undefined;
}

/** Makes the writer of requests to one endpoint. */
export function requestWriter(options: BedrockOptions): (input: RequestInput) => WrittenRequest {
  const modelOf = modelTable(options.models);
  return function writeRequest(input) {
    return new RequestWriter(input, modelOf(input.model), options).write();
  };
}

/** The path of one operation on a model, whose name or resource name is one segment. */
export function modelPath(model: string, operation: string): string {
  // Colons and slashes of resource names are escaped too; what encodeURIComponent leaves alone would have to be escaped for a signature.
  const segment = encodeURIComponent(model).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
  return `/model/${segment}/${operation}`;
}

/** Headers of a unary request. A compressed stream would have to be inflated before it is read, and comes in larger and later pieces. */
export const unaryHeaders = Object.freeze([
  "content-type",
  "application/json",
  "accept",
  "application/json",
  "accept-encoding",
  "identity",
]);
/** Headers of a request for a stream. */
export const streamHeaders = Object.freeze([
  "content-type",
  "application/json",
  "accept",
  "application/vnd.amazon.eventstream",
  "accept-encoding",
  "identity",
]);

class RequestWriter {
  readonly #request: ChatRequest;
  readonly #input: RequestInput;
  readonly #model: BedrockModel;
  readonly #options: BedrockOptions;
  readonly #report: Report;
  readonly #names: ToolNames;
  readonly #markers: CacheMarkers;
  /** Extras of this dialect by path, as long as nothing took them. */
  readonly #extras = new Map<string, Extra>();

  constructor(input: RequestInput, model: BedrockModel, options: BedrockOptions) {
    this.#request = input.request;
    this.#input = input;
    this.#model = model;
    this.#options = options;
    this.#report = new Report(input.model, input.dropUnsupported);
    this.#names = toolNames(input.request, strictNames);
    this.#markers = new CacheMarkers(model.cache, this.#report);
  }

  write(): WrittenRequest {
    this.#refuseUncarried();
    this.#sortExtras();
    const { tools, format } = this.#tools();
    const turns = writeTurns(this.#request, this.#model, this.#names, this.#markers, this.#report);
    const toolConfig = this.#toolConfig(tools, format, turns.usesTools);
    const thinking = this.#thinking(toolConfig.forced, turns.turns.at(-1)?.role === "assistant", turns.callsUnthought);
    const declined = this.#request.reasoning !== undefined && !thinking.thinks && thinking.fields === undefined;
    const messages = declined && this.#model.reasoning === "budget" ? turns.unthinking : turns.turns;
    if (messages.some((turn, at) => turn !== turns.turns[at]))
      this.#report.dropped("messages", "The model does not think in this turn, so the thinking of its last turns was not sent back.");
    const sampling = this.#sampling(thinking);
    const additional = { ...thinking.fields, ...sampling.additional };
    const body: Members = {
      system: filledList(turns.system),
      messages: messages.map(({ role, content }) => ({ role, content })),
      inferenceConfig: filled(
        this.#withExtras("inferenceConfig.", {
          maxTokens: thinking.maxTokens,
          temperature: sampling.temperature,
          topP: sampling.topP,
          stopSequences: filledList(this.#request.stop),
        }),
      ),
      toolConfig: toolConfig.value,
      outputConfig: format?.config,
      guardrailConfig: this.#guardrail(),
      requestMetadata: filled(this.#withExtras("requestMetadata.", this.#user())),
      serviceTier: this.#serviceTier(),
      additionalModelRequestFields: filled(this.#withExtras("additionalModelRequestFields.", additional)),
    };
    const whole = this.#withExtras("", body);
    this.#reportExtras();
    return {
      path: modelPath(this.#input.model, this.#input.streaming ? "converse-stream" : "converse"),
      headers: this.#input.streaming ? streamHeaders : unaryHeaders,
      body: stringify(whole),
      warnings: this.#report.warnings,
    };
  }

  /** Parameters that this API has no word for. Values that mean what happens anyway need none. */
  #refuseUncarried(): void {
    const request = this.#request;
    if (request.n !== undefined && request.n !== 1) this.#report.unsupported("n");
    if (request.seed !== undefined) this.#report.unsupported("seed");
    if ((request.presencePenalty ?? 0) !== 0) this.#report.unsupported("presence_penalty");
    if ((request.frequencyPenalty ?? 0) !== 0) this.#report.unsupported("frequency_penalty");
    if (Object.keys(request.logitBias).length > 0) this.#report.unsupported("logit_bias");
    if (request.logprobs !== undefined) this.#report.unsupported("logprobs");
    if (request.parallelToolCalls === false && request.tools.length > 0) this.#report.unsupported("parallel_tool_calls");
    if (request.responseFormat?.format.case === "jsonObject")
      this.#report.unsupported("response_format", " as a JSON object without a schema");
  }

  /** The caller's tools, and how JSON by schema is asked for, if it is. */
  #tools(): { tools: DeclaredTool[]; format: AnswerFormat | undefined } {
    const { tools } = this.#request;
    const declared: DeclaredTool[] = [];
    if (tools.length > 0 && !this.#model.tools) this.#report.unsupported("tools");
    else {
      for (const [index, tool] of tools.entries()) {
        const member = `tools[${index}]`;
        if (tool.strict === true && !this.#model.strictTools) this.#report.unsupported(`${member}.strict`);
        const blocks: (Block | RawJson)[] = [];
        blocks.push({
          toolSpec: {
            name: this.#names.sent.get(tool.name) ?? tool.name,
            description: tool.description === "" ? undefined : tool.description,
            inputSchema: { json: this.#schema(tool.parametersJson, `${member}.parameters_json`) },
            strict: this.#model.strictTools ? tool.strict : undefined,
          },
        });
        this.#markers.add(blocks, tool.cache, `${member}.cache`);
        declared.push({ name: tool.name, blocks });
      }
    }
    return { tools: declared, format: this.#answerFormat() };
  }

  #answerFormat(): AnswerFormat | undefined {
    const format = this.#request.responseFormat?.format;
    if (format?.case !== "jsonSchema") return undefined;
    const { name, description, schemaJson } = format.value;
    this.#schema(schemaJson, "response_format.json_schema.schema");
    switch (this.#model.jsonSchema) {
      case "output_config": {
        const jsonSchema = {
          schema: schemaJson,
          name: name === "" ? undefined : name,
          description: description === "" ? undefined : description,
        };
        return { config: { textFormat: { type: "json_schema", structure: { jsonSchema } } } };
      }
      case "tool":
        if (this.#model.toolChoice !== "auto" && this.#model.tools) return { tool: format.value };
        break;
      case "none":
        break;
    }
    this.#report.unsupported("response_format", " as JSON by schema");
    return undefined;
  }

  /** Which tools there are, and whether one must be called. */
  #toolConfig(
    declared: readonly DeclaredTool[],
    format: AnswerFormat | undefined,
    usesTools: boolean,
  ): { readonly value: Members | undefined; readonly forced: boolean } {
    const choice = this.#request.toolChoice?.choice;
    const named = choice?.case === "tool" ? choice.value : undefined;
    const required = choice?.case === "mode" && choice.value === ToolMode.REQUIRED;
    const forbidden = choice?.case === "mode" && choice.value === ToolMode.NONE;
    if (named !== undefined && declared.every(({ name }) => name !== named) && this.#model.tools)
      throw this.#report.invalid("tool_choice", "names a tool that is not among the tools");
    if (required && declared.length === 0 && this.#model.tools)
      throw this.#report.invalid("tool_choice", "asks for a tool where there are none");

    // There is no word for "none", so the tools themselves are left out.
    let tools = forbidden ? [] : declared;
    let toolChoice: Members | undefined;
    if (tools.length > 0 && (named !== undefined || required)) {
      if (this.#model.toolChoice === "auto") this.#report.unsupported("tool_choice", " other than auto");
      else if (named === undefined) toolChoice = { any: {} };
      else if (this.#model.toolChoice === "tool") toolChoice = { tool: { name: this.#names.sent.get(named) ?? named } };
      else {
        // A model that can be made to call some tool calls this one if there is no other.
        tools = tools.filter(({ name }) => name === named);
        toolChoice = { any: {} };
      }
    }
    const specs = tools.flatMap(({ blocks }) => blocks);
    if (format?.tool !== undefined) {
      const { name, spec } = this.#answerTool(format.tool);
      // Where one of the caller's own tools must be called the answer comes in a later turn.
      if (toolChoice === undefined) {
        toolChoice = tools.length > 0 || this.#model.toolChoice === "any" ? { any: {} } : { tool: { name } };
        specs.push(spec);
      }
    }
    // A history of tool calls is refused where no tool is declared, and so this one stands for all that are gone.
    if (specs.length === 0 && usesTools) {
      specs.push({ toolSpec: { name: "unavailable", description: "No tool is available any more.", inputSchema: { json: noArguments } } });
    }
    return { value: specs.length === 0 ? undefined : { tools: specs, toolChoice }, forced: toolChoice !== undefined };
  }

  /** The tool whose arguments are the answer. */
  #answerTool(format: JsonSchemaFormat): { readonly name: string; readonly spec: Block } {
    const name = answerToolName(this.#request, strictNames) ?? "json";
    const description = format.description === "" ? "Give your answer by calling this tool." : format.description;
    return { name, spec: { toolSpec: { name, description, inputSchema: { json: new RawJson(format.schemaJson) } } } };
  }

  /** How much the model thinks, and how long the answer may get: thinking counts as a part of the answer. */
  #thinking(forced: boolean, prefilled: boolean, unthought: boolean): Thinking {
    const { reasoning: asked, maxOutputTokens } = this.#request;
    const { reasoning: way } = this.#model;
    const maxTokens = this.#maxTokens(maxOutputTokens);
    if (asked === undefined) return { maxTokens, thinks: false };
    const effort = asked.amount.case === "effort" ? asked.amount.value : undefined;
    const budget = asked.amount.case === "budgetTokens" ? Number(asked.amount.value) : undefined;
    if (effort === "none" || asked.thinking === false) {
      if (way === "config") return { maxTokens, thinks: false, fields: { reasoningConfig: { type: "disabled" } } };
      // Models that think by a word of effort always think.
      if (way === "effort") this.#report.unsupported("reasoning.effort", " with the value none");
      return { maxTokens, thinks: false };
    }
    if (effort !== undefined && !Object.hasOwn(budgets, effort)) {
      this.#report.unsupported("reasoning.effort", ` with the value ${JSON.stringify(effort)}`);
      return { maxTokens, thinks: false };
    }
    switch (way) {
      case "none":
        this.#report.unsupported("reasoning");
        return { maxTokens, thinks: false };
      case "effort":
        return { maxTokens, thinks: true, fields: { reasoning_effort: this.#word(effort, budget) ?? "medium" }, free: true };
      case "config":
        return this.#byConfig(maxTokens, this.#word(effort, budget) ?? "medium");
      case "budget":
      case "adaptive":
        break;
    }
    const obstacle = forced
      ? " along with a tool that must be called"
      : prefilled
        ? " along with an answer that is begun by the application"
        : undefined;
    if (obstacle !== undefined) {
      this.#report.unsupported("reasoning", obstacle);
      return { maxTokens, thinks: false };
    }
    if (way === "adaptive") {
      if (budget !== undefined) this.#report.changed("reasoning.budget_tokens", noNumber(effortNear(budget)));
      const word = budget === undefined ? (effort === "minimal" ? "low" : effort) : effortNear(budget);
      return {
        maxTokens,
        thinks: true,
        fields: { thinking: { type: "adaptive" }, output_config: word === undefined ? undefined : { effort: word } },
      };
    }
    if (unthought) {
      // Models that think by a budget want the thinking that led to a tool call back, and refuse a request without it.
      const unable = "The model cannot think in this turn: the thinking before its last tool call did not come back with the conversation.";
      this.#report.dropped("reasoning", unable);
      return { maxTokens, thinks: false };
    }
    return this.#byBudget(maxTokens, budget ?? budgets[effort ?? "medium"] ?? budgetMin);
  }

  #maxTokens(asked: bigint | undefined): number | undefined {
    const limit = this.#model.maxOutputTokens;
    if (asked === undefined) return undefined;
    if (limit > 0 && asked > limit) {
      this.#report.changed("max_output_tokens", `Lowered from ${asked} to ${limit}, the most that the model can answer with.`);
      return limit;
    }
    return Number(asked);
  }

  /** Thinking by one of three words. With the strongest the model decides over all else itself. */
  #byConfig(maxTokens: number | undefined, word: string): Thinking {
    const fields = { reasoningConfig: { type: "enabled", maxReasoningEffort: word } };
    if (word !== "high") return { maxTokens, thinks: true, fields, free: true };
    if (maxTokens !== undefined) this.#report.unsupported("max_output_tokens", " along with high effort of thinking");
    return { maxTokens: undefined, thinks: true, fields };
  }

  /** One of low, medium and high, reported where that is not what was asked. */
  #word(effort: string | undefined, budget: number | undefined): string | undefined {
    if (budget !== undefined) {
      this.#report.changed("reasoning.budget_tokens", noNumber(effortNear(budget)));
      return effortNear(budget);
    }
    if (effort === undefined || ["low", "medium", "high"].includes(effort)) return effort;
    const near = effort === "minimal" ? "low" : "high";
    this.#report.changed(
      "reasoning.effort",
      `The model knows low, medium and high effort, so it was asked for ${near} instead of ${effort}.`,
    );
    return near;
  }

  /** Thinking by a number of tokens, which must be at least 1024 and leave room for an answer. */
  #byBudget(maxTokens: number | undefined, wanted: number): Thinking {
    let budget = wanted;
    if (budget < budgetMin) {
      this.#report.changed("reasoning.budget_tokens", `Raised from ${budget} to ${budgetMin}, the least that the model thinks with.`);
      budget = budgetMin;
    }
    // Without a limit of the caller's the answer may be as long as the model can make it.
    const room = maxTokens ?? (this.#model.maxOutputTokens || Number.MAX_SAFE_INTEGER);
    if (room <= budgetMin) {
      this.#report.unsupported("reasoning", ` within ${room} tokens of answer`);
      return { maxTokens, thinks: false };
    }
    if (budget >= room) {
      const explicit = this.#request.reasoning?.amount.case === "budgetTokens";
      const lowered = explicit ? room - 1 : Math.max(budgetMin, Math.floor(room / 2));
      this.#report.changed(
        explicit ? "reasoning.budget_tokens" : "reasoning.effort",
        `Thinking was lowered from ${budget} to ${lowered} tokens, to leave room for an answer within ${room}.`,
      );
      budget = lowered;
    }
    return { maxTokens, thinks: true, fields: { thinking: { type: "enabled", budget_tokens: budget } } };
  }

  #sampling({ thinks, free }: Thinking): { temperature: number | undefined; topP: number | undefined; additional: Members } {
    const { sampling, samplingPair, topK: topKPath } = this.#model;
    const restrained = thinks && free !== true;
    let { temperature, topP } = this.#request;
    if (sampling && temperature !== undefined && temperature > 1) {
      this.#report.changed("temperature", `Lowered from ${temperature} to 1, the most that this provider takes.`);
      temperature = 1;
    }
    // 1 is what happens without the parameter where only one of the two may be sent, so leaving it out does what was asked.
    if (!sampling || restrained || (!samplingPair && topP !== undefined)) temperature = temperature === 1 ? undefined : temperature;
    if (!sampling || restrained || (!samplingPair && temperature !== undefined)) topP = topP === 1 ? undefined : topP;
    const why = sampling ? " while it thinks" : "";
    if (temperature !== undefined && (!sampling || restrained)) {
      this.#report.unsupported("temperature", why);
      temperature = undefined;
    }
    if (topP !== undefined && (!sampling || restrained)) {
      this.#report.unsupported("top_p", why);
      topP = undefined;
    }
    if (topP !== undefined && temperature !== undefined && !samplingPair) {
      this.#report.unsupported("top_p", " along with temperature");
      topP = undefined;
    }
    const { topK } = this.#request;
    if (topK === undefined) return { temperature, topP, additional: {} };
    if (topKPath === "" || !sampling || restrained) {
      this.#report.unsupported("top_k", topKPath === "" || !sampling ? "" : why);
      return { temperature, topP, additional: {} };
    }
    const [outer = "", inner] = topKPath.split(".");
    return { temperature, topP, additional: inner === undefined ? { [outer]: topK } : { [outer]: { [inner]: topK } } };
  }

  #guardrail(): Members | undefined {
    const { guardrail } = this.#options;
    if (guardrail === undefined) return undefined;
    return {
      guardrailIdentifier: guardrail.identifier,
      guardrailVersion: guardrail.version,
      trace: guardrail.trace,
      // A unary request knows no such member.
      streamProcessingMode: this.#input.streaming ? guardrail.streamProcessing : undefined,
    };
  }

  /** Metadata of a request stands in the platform's own log of invocations; it has few characters. */
  #user(): Members {
    const { user } = this.#request;
    if (user === "") return {};
    if (/^[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}$/.test(user)) return { user };
    this.#report.dropped("user", "The name of the application's user was left out: it has characters that this provider refuses.");
    return {};
  }

  #serviceTier(): Members | undefined {
    const { serviceTier } = this.#request;
    switch (serviceTier) {
      case "":
      case "auto":
        return undefined;
      case "default":
      case "priority":
      case "flex":
      case "reserved":
        return { type: serviceTier };
      case "standard_only":
        return { type: "default" };
      default:
        this.#report.unsupported("service_tier", ` with the value ${JSON.stringify(serviceTier)}`);
        return undefined;
    }
  }

  /** A schema as it is, which must be a JSON object, since it becomes a part of the request. */
  #schema(text: string, field: string): JsonValue {
    if (text.trim() === "") return noArguments;
    try {
      parseObject(text);
      return new RawJson(text);
    } catch (caught) {
      if (!(caught instanceof JsonError)) throw caught;
      throw this.#report.invalid(field, `expected a JSON object as text: ${caught.message}`);
    }
  }

  #sortExtras(): void {
    for (const extra of this.#request.extras) {
      if (extra.dialect !== "bedrock") this.#report.unsupported(extra.path);
      else if (carried.test(extra.path)) this.#extras.set(extra.path, extra);
      else this.#report.unsupported(extra.path);
    }
  }

  /** An object with the members that only this dialect knows. What is written here already, such as the guardrail, nobody replaces. */
  #withExtras(container: string, members: Members): Members {
    const added: [string, JsonValue][] = [];
    for (const [path, { json }] of this.#extras) {
      const member = path.slice(container.length);
      const taken = Object.hasOwn(members, member) && members[member] !== undefined;
      if (!path.startsWith(container) || member.includes(".") || taken) continue;
      this.#extras.delete(path);
      added.push([member, this.#raw(json, path)]);
    }
    // From entries, so that a member called __proto__ is a member and nothing more.
    return added.length === 0 ? members : { ...members, ...Object.fromEntries(added) };
  }

  #raw(json: string, path: string): RawJson {
    try {
      JSON.parse(json);
    } catch {
      throw this.#report.invalid(path, "expected JSON as text");
    }
    return new RawJson(json);
  }

  /** What nobody took is refused or reported: nothing is lost in silence. */
  #reportExtras(): void {
    for (const path of this.#extras.keys()) this.#report.unsupported(path);
  }
}

type Members = { readonly [key: string]: JsonValue | undefined };

/** A tool of the caller's, with its marker behind it. */
interface DeclaredTool {
  readonly name: string;
  readonly blocks: readonly (Block | RawJson)[];
}

/** JSON by schema: the value of the member, or what the tool must take. */
interface AnswerFormat {
  readonly config?: Members;
  readonly tool?: JsonSchemaFormat;
}

interface Thinking {
  readonly maxTokens: number | undefined;
  readonly thinks: boolean;
  readonly fields?: Members;
  /** Whether sampling parameters may be sent although the model thinks. */
  readonly free?: boolean;
}

/** What a caller of this dialect may say beside the conversation. Instructions and turns are not among it: they have one way in. */
const carried =
  /^(?:guardrailConfig|performanceConfig|promptVariables|additionalModelResponseFieldPaths|requestMetadata|additionalModelRequestFields|(?:inferenceConfig|requestMetadata|additionalModelRequestFields)\.[A-Za-z0-9_-]+)$/;

/** The schema of a tool that takes no arguments. */
const noArguments = { type: "object", properties: {} } as const;

/** The least that a model thinks with when it is given a number. */
const budgetMin = 1024;

/** Tokens to think with, by the word of effort; what the peers take too, so that a change of gateway changes no bill. */
const budgets: Readonly<Record<string, number>> = Object.freeze({
  minimal: 1024,
  low: 1024,
  medium: 2048,
  high: 4096,
  xhigh: 8192,
  max: 16_384,
});

/** The word of effort for a number of tokens, for models that take words alone. */
function effortNear(budgetTokens: number): string {
  if (budgetTokens <= 2048) return "low";
  return budgetTokens <= 8192 ? "medium" : "high";
}

function noNumber(word: string): string {
  return `The model takes no number of tokens to think with, so it was asked for ${word} effort.`;
}

function filled(members: Members): Members | undefined {
  return Object.values(members).some((value) => value !== undefined) ? members : undefined;
}

function filledList<Item>(items: readonly Item[]): readonly Item[] | undefined {
  return items.length > 0 ? items : undefined;
}
