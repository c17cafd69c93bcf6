/**
 * The conversation as a request of the Anthropic Messages API (https://docs.anthropic.com/en/api/messages).
 *
 * A request that came in this dialect and that nobody changed goes out as it came, with the model's name in its place. Any other is
 * written from the conversation. What this API cannot carry is refused by name, or left out and reported where policy says so; what
 * it takes only in another form is sent in that form and reported.
 */
import { type ChatRequest, type Extra, type JsonSchemaFormat, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { JsonError, type JsonValue, memberSpans, parseObject, RawJson, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { Report } from "../report.ts";
import { answerToolName, type ToolNames, toolNames } from "../toolNames.ts";
import { closedSchema } from "./closedSchema.ts";
import { ExtraMembers } from "./extraMembers.ts";
import { type AnthropicModel, type AnthropicModelRow, modelTable } from "./models.ts";
import { anthropicNames } from "./names.ts";
import { writeCacheMarker } from "./writeCacheMarker.ts";
import { withoutThinking, workStart, writeTurns } from "./writeTurns.ts";

/** What is particular to one endpoint. */
export interface AnthropicOptions {
  /** The `anthropic-version` header, such as `2023-06-01`. */
  readonly version: string;
  /** Beta features for every request. */
  readonly betas: readonly string[];
  /** The limit on the answer where the caller gives none, since this API requires one. */
  readonly defaultMaxTokens: number;
  /** What an operator says of models; the built-in rows come after these. */
  readonly models: readonly AnthropicModelRow[];
}

/** Makes the writer of requests to one endpoint. */
export function requestWriter(options: AnthropicOptions): (input: RequestInput) => WrittenRequest {
  const modelOf = modelTable(options.models);
  const headers = new RequestHeaders(options);
  return function writeRequest(input) {
    const { native, request, streaming } = input;
    if (native?.dialect === "anthropic") {
      const extra = request.extras.find(({ dialect, path }) => dialect === "anthropic" && path === betaPath);
      const written = headers.write(streaming, extra === undefined ? undefined : textOf(extra));
      return { path, headers: written, body: retarget(native.text, input.model, streaming), warnings: [] };
    }
    return new RequestBody(input, modelOf(input.model), options).write(headers);
  };
}

const path = "/v1/messages";
const betaPath = "headers.anthropic-beta";

/** The caller's own text with another model's name, and with `stream` as it must be. */
function retarget(text: string, model: string, streaming: boolean): string {
  const members = memberSpans(text);
  const edits: { start: number; end: number; value: string }[] = [];
  const modelSpan = members.find(({ key }) => key === "model");
  const streamSpan = members.find(({ key }) => key === "stream");
  let added = "";
  if (modelSpan === undefined) added += `,"model":${JSON.stringify(model)}`;
  else edits.push({ start: modelSpan.valueStart, end: modelSpan.valueEnd, value: JSON.stringify(model) });
  if (streamSpan !== undefined) edits.push({ start: streamSpan.valueStart, end: streamSpan.valueEnd, value: String(streaming) });
  else if (streaming) added += ',"stream":true';
  const last = members.at(-1);
  if (last !== undefined && added !== "") edits.push({ start: last.valueEnd, end: last.valueEnd, value: added });
  let edited = text;
  // From the back, so that the offsets before an edit stay right.
  for (const { start, end, value } of edits.sort((a, b) => b.start - a.start)) edited = edited.slice(0, start) + value + edited.slice(end);
  return edited;
}

/** Headers, made once for each endpoint; only a caller's own beta features need new ones. */
class RequestHeaders {
  readonly #betas: readonly string[];
  readonly #version: string;
  readonly #unary: readonly string[];
  readonly #stream: readonly string[];

  constructor({ version, betas }: AnthropicOptions) {
    this.#version = version;
    this.#betas = betas;
    this.#unary = this.#make(false, betas);
    this.#stream = this.#make(true, betas);
  }

  /** `callers`: the caller's own beta features, as the value of its header. */
  write(streaming: boolean, callers: string | undefined): readonly string[] {
    if (callers === undefined) return streaming ? this.#stream : this.#unary;
    const asked = callers.split(",").map((beta) => beta.trim());
    return this.#make(
      streaming,
      [...new Set([...this.#betas, ...asked])].filter((beta) => /^[A-Za-z0-9._-]+$/.test(beta)),
    );
  }

  #make(streaming: boolean, betas: readonly string[]): readonly string[] {
    const headers = [
      "content-type",
      "application/json",
      "accept",
      streaming ? "text/event-stream" : "application/json",
      // A compressed stream would have to be inflated before it is read, and comes in larger and later pieces.
      "accept-encoding",
      "identity",
      "anthropic-version",
      this.#version,
    ];
    if (betas.length > 0) headers.push("anthropic-beta", betas.join(","));
    return Object.freeze(headers);
  }
}

/** The text that an extra holds as a JSON string, or undefined if it is none. */
function textOf(extra: Extra): string | undefined {
  try {
    const value: unknown = JSON.parse(extra.json);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

class RequestBody {
  readonly #request: ChatRequest;
  readonly #model: string;
  readonly #streaming: boolean;
  readonly #report: Report;
  readonly #markers = { count: 0 };
  readonly #traits: AnthropicModel;
  readonly #options: AnthropicOptions;
  readonly #names: ToolNames;
  readonly #extras: ExtraMembers;

  constructor(input: RequestInput, traits: AnthropicModel, options: AnthropicOptions) {
    this.#request = input.request;
    this.#model = input.model;
    this.#streaming = input.streaming;
    this.#report = new Report(input.model, input.dropUnsupported);
    this.#traits = traits;
    this.#options = options;
    this.#names = toolNames(input.request, anthropicNames);
    this.#extras = new ExtraMembers(input.request.extras, this.#report);
  }

  write(headers: RequestHeaders): WrittenRequest {
    const request = this.#request;
    this.#refuseUncarried();
    const { system, turns: all, usesTools } = writeTurns(request, this.#names, this.#extras, this.#markers, this.#report);
    if (all.length === 0)
      throw this.#report.invalid("messages", "this provider needs a message of a user or an assistant that is not empty");
    const format = this.#answerFormat();
    const tools = this.#tools(format, usesTools);
    const choice = this.#toolChoice(format, tools.length > 0, usesTools);
    const prefilled = all.at(-1)?.role === "assistant";
    const thinking = this.#thinking(choice.forced, prefilled, all[workStart(all)]?.callsUnthought ?? false);
    const thinks = thinking.config !== undefined && thinking.config.type !== "disabled";
    // What was asked for and is not done here; callers who ask for no thinking know themselves what they give back.
    const declined = request.reasoning !== undefined && thinking.config === undefined && this.#traits.thinking === "budget";
    const { turns, left } = declined ? withoutThinking(all) : { turns: all, left: false };
    if (left)
      this.#report.dropped("messages", "The model does not think in this turn, so the thinking of its last turns was not sent back.");
    const outputConfig: Members = {
      ...(thinking.effort === undefined ? {} : { effort: thinking.effort }),
      ...(format?.config === undefined
        ? {}
        : { format: this.#withExtras("output_config.format.", { type: "json_schema", schema: format.config }) }),
    };
    const known: Members = {
      model: this.#model,
      max_tokens: thinking.maxTokens,
      system: system.length > 0 ? system : undefined,
      messages: turns.map(({ role, blocks, extras }) => ({ role, content: blocks, ...extras })),
      tools: tools.length > 0 ? tools : undefined,
      tool_choice: choice.value && this.#withExtras("tool_choice.", choice.value),
      thinking: thinking.config && this.#withExtras("thinking.", thinking.config),
      output_config: filled(this.#withExtras("output_config.", outputConfig)),
      ...this.#sampling(thinks),
      stop_sequences: filledList(this.#stop()),
      metadata: filled(this.#withExtras("metadata.", request.user === "" ? {} : { user_id: request.user })),
      service_tier: this.#serviceTier(),
      stream: this.#streaming ? true : undefined,
    };
    const body = stringify(this.#withExtras("", known));
    const written = headers.write(this.#streaming, this.#extras.takeText(betaPath));
    this.#extras.reportRest();
    return { path, headers: written, body, warnings: this.#report.warnings };
  }

  /** An object with the members that only this dialect knows. */
  #withExtras(container: string, members: Members): Members {
    return { ...members, ...this.#extras.take(container, members) };
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
    if (request.responseFormat?.format.case === "jsonObject")
      this.#report.unsupported("response_format", " as a JSON object without a schema");
  }

  /** How JSON by schema is asked for, if it is: by a member of its own, or by a tool that must be called. */
  #answerFormat(): AnswerFormat | undefined {
    const format = this.#request.responseFormat?.format;
    if (format?.case !== "jsonSchema") return undefined;
    const schema = this.#schema(format.value.schemaJson, "response_format.json_schema.schema");
    const name = answerToolName(this.#request, anthropicNames);
    if (this.#traits.jsonSchema === "tool" && name !== undefined) return { tool: { name, format: format.value } };
    const { text, removed } = closedSchema(schema);
    if (removed.length > 0) {
      const list = removed.join(", ");
      this.#report.changed(
        "response_format.json_schema.schema",
        `The provider does not enforce these parts of the schema, so it was sent without them: ${list}.`,
      );
    }
    if (format.value.description !== "") {
      this.#report.dropped("response_format.json_schema.description", "This provider takes a schema without a description.");
    }
    return { config: new RawJson(text) };
  }

  #tools(format: AnswerFormat | undefined, usesTools: boolean): JsonValue[] {
    const written: JsonValue[] = [];
    const whole = this.#extras.takeTools();
    // Tools that the provider runs keep their places.
    const put = (tool: Members): void => {
      for (let given = whole.get(written.length); given !== undefined; given = whole.get(written.length)) {
        whole.delete(written.length);
        written.push(given);
      }
      written.push(this.#withExtras(`tools[${written.length}].`, tool));
    };
    for (const [index, tool] of this.#request.tools.entries()) {
      const member = `tools[${index}]`;
      if (tool.strict === true && this.#traits.jsonSchema === "tool") this.#report.unsupported(`${member}.strict`);
      const { parametersJson: schema } = tool;
      put({
        name: this.#names.sent.get(tool.name) ?? tool.name,
        description: tool.description === "" ? undefined : tool.description,
        input_schema: schema.trim() === "" ? noArguments : new RawJson(this.#schema(schema, `${member}.parameters_json`)),
        // Models that do not know the word need not be told that it does not hold.
        strict: this.#traits.jsonSchema === "tool" ? undefined : tool.strict,
        cache_control: writeCacheMarker(tool.cache, `${member}.cache`, this.#markers, this.#report),
      });
    }
    for (const [, tool] of [...whole].sort(([a], [b]) => a - b)) written.push(tool);
    if (format?.tool !== undefined) {
      const { name, format: wanted } = format.tool;
      const description = wanted.description === "" ? "Give your answer by calling this tool." : wanted.description;
      put({ name, description, input_schema: new RawJson(wanted.schemaJson) });
    }
    // This API refuses a history of tool calls where no tool is declared, and so this one stands for all that are gone.
    if (written.length === 0 && usesTools)
      put({ name: "unavailable", description: "No tool is available any more.", input_schema: noArguments });
    return written;
  }

  /** Which tool to call, and whether one must be called. */
  #toolChoice(
    format: AnswerFormat | undefined,
    hasTools: boolean,
    usesTools: boolean,
  ): { readonly value: Members | undefined; readonly forced: boolean } {
    const { toolChoice, parallelToolCalls, tools } = this.#request;
    const choice = toolChoice?.choice;
    if (!hasTools) {
      if (choice?.case === "tool" || choice?.value === ToolMode.REQUIRED)
        throw this.#report.invalid("tool_choice", "asks for a tool where there are none");
      return { value: undefined, forced: false };
    }
    const ownTools = tools.length > 0 || this.#extras.hadTools;
    const parallel = parallelToolCalls === undefined ? {} : { disable_parallel_tool_use: !parallelToolCalls };
    if (choice?.case === "tool") {
      return { value: { type: "tool", name: this.#names.sent.get(choice.value) ?? choice.value, ...parallel }, forced: true };
    }
    if (format?.tool !== undefined) {
      const single = { disable_parallel_tool_use: true };
      // Where the model may call other tools, it answers by this one when it is done with them.
      if (!ownTools || choice?.value === ToolMode.NONE) return { value: { type: "tool", name: format.tool.name, ...single }, forced: true };
      return { value: { type: "any", ...parallel }, forced: true };
    }
    if (!ownTools && usesTools) return { value: { type: "none" }, forced: false };
    switch (choice?.value) {
      case ToolMode.REQUIRED:
        return { value: { type: "any", ...parallel }, forced: true };
      case ToolMode.NONE:
        return { value: { type: "none" }, forced: false };
      case ToolMode.AUTO:
        return { value: { type: "auto", ...parallel }, forced: false };
      default:
        return { value: parallelToolCalls === false ? { type: "auto", ...parallel } : undefined, forced: false };
    }
  }

  /** How much the model thinks, and how long the answer may get: thinking counts as a part of the answer. */
  #thinking(forced: boolean, prefilled: boolean, unthought: boolean): Thinking {
    const limit = this.#traits.maxOutputTokens > 0 ? this.#traits.maxOutputTokens : Number.MAX_SAFE_INTEGER;
    const asked = this.#request.maxOutputTokens === undefined ? undefined : Number(this.#request.maxOutputTokens);
    if (asked !== undefined && asked > limit)
      this.#report.changed("max_output_tokens", `Lowered from ${asked} to ${limit}, the most that the model can answer with.`);
    const maxTokens = Math.min(asked ?? this.#options.defaultMaxTokens, limit);
    const { reasoning } = this.#request;
    if (reasoning === undefined) return { maxTokens };

    const { amount } = reasoning;
    const effort = amount.case === "effort" ? amount.value : undefined;
    if (effort === "none") return this.#traits.thinking === "none" ? { maxTokens } : { maxTokens, config: { type: "disabled" } };
    if (effort !== undefined && !Object.hasOwn(budgets, effort)) {
      this.#report.unsupported("reasoning.effort", ` with the value ${JSON.stringify(effort)}`);
      return { maxTokens };
    }
    if (reasoning.thinking === false) {
      if (effort === undefined) return { maxTokens };
      if (this.#traits.jsonSchema === "output_config") return { maxTokens, effort: effort === "minimal" ? "low" : effort };
      this.#report.unsupported("reasoning.effort");
      return { maxTokens };
    }
    if (this.#traits.thinking === "none") {
      this.#report.unsupported("reasoning");
      return { maxTokens };
    }
    if (forced) {
      this.#report.unsupported("reasoning", " along with a tool that must be called");
      return { maxTokens };
    }
    if (prefilled) {
      this.#report.unsupported("reasoning", " along with an answer that is begun by the application");
      return { maxTokens };
    }
    if (this.#traits.thinking === "adaptive") {
      if (amount.case !== "budgetTokens") {
        return {
          maxTokens,
          config: { type: "adaptive" },
          ...(effort === undefined ? {} : { effort: effort === "minimal" ? "low" : effort }),
        };
      }
      // A caller of this dialect may have said both.
      if (this.#extras.has("output_config.", "effort")) return { maxTokens, config: { type: "adaptive" } };
      const near = effortNear(Number(amount.value));
      this.#report.changed(
        "reasoning.budget_tokens",
        `The model takes no number of tokens to think with, so it was asked for ${near} effort.`,
      );
      return { maxTokens, config: { type: "adaptive" }, effort: near };
    }
    if (unthought) {
      // Claude models that think by a budget want the thinking that led to a tool call back, and refuse a request without it.
      this.#report.dropped(
        "reasoning",
        "The model cannot think in this turn: the thinking before its last tool call did not come back with the conversation.",
      );
      return { maxTokens };
    }
    return this.#budget(asked, maxTokens, limit, amount.case === "budgetTokens" ? Number(amount.value) : budgets[effort ?? "medium"]);
  }

  /** Thinking by a number of tokens, which must be at least 1024 and leave room for an answer. */
  #budget(asked: number | undefined, maxTokens: number, limit: number, wanted = budgetMin): Thinking {
    let budget = wanted;
    if (budget < budgetMin) {
      this.#report.changed("reasoning.budget_tokens", `Raised from ${budget} to ${budgetMin}, the least that the model thinks with.`);
      budget = budgetMin;
    }
    // Without a limit of the caller's, thinking comes on top of what an answer may have anyway.
    const room = asked === undefined ? Math.min(maxTokens + budget, limit) : maxTokens;
    if (room <= budgetMin) {
      this.#report.unsupported("reasoning", ` within ${room} tokens of answer`);
      return { maxTokens };
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
    return { maxTokens: room, config: { type: "enabled", budget_tokens: budget } };
  }

  #sampling(thinks: boolean): Members {
    const { topK } = this.#request;
    let { temperature, topP } = this.#request;
    const { sampling, samplingPair } = this.#traits;
    if (sampling && temperature !== undefined && temperature > 1) {
      this.#report.changed("temperature", `Lowered from ${temperature} to 1, the most that the model takes.`);
      temperature = 1;
    }
    // 1 is what happens without the parameter, so leaving it out does what was asked.
    if (!sampling || (!samplingPair && topP !== undefined)) temperature = temperature === 1 ? undefined : temperature;
    if (!sampling || (!samplingPair && temperature !== undefined)) topP = topP === 1 ? undefined : topP;
    const thinking = " while it thinks";
    if (temperature !== undefined && (!sampling || (thinks && temperature !== 1))) {
      this.#report.unsupported("temperature", sampling ? thinking : "");
      temperature = undefined;
    }
    if (topP !== undefined && (!sampling || (thinks && topP < 0.95))) {
      this.#report.unsupported("top_p", sampling ? `${thinking}, below 0.95` : "");
      topP = undefined;
    }
    if (topP !== undefined && temperature !== undefined && !samplingPair) {
      this.#report.unsupported("top_p", " along with temperature");
      topP = undefined;
    }
    if (topK !== undefined && (!sampling || thinks)) {
      this.#report.unsupported("top_k", sampling ? thinking : "");
      return { temperature, top_p: topP };
    }
    return { temperature, top_p: topP, top_k: topK };
  }

  /** Texts of blanks alone are refused by this API. */
  #stop(): string[] {
    const kept = this.#request.stop.filter((stop) => stop.trim() !== "");
    if (kept.length < this.#request.stop.length) this.#report.unsupported("stop", " with a text of blanks alone");
    return kept;
  }

  #serviceTier(): string | undefined {
    switch (this.#request.serviceTier) {
      case "":
        return undefined;
      case "auto":
      case "standard_only":
        return this.#request.serviceTier;
      case "default":
        return "standard_only";
      default:
        this.#report.unsupported("service_tier", ` with the value ${JSON.stringify(this.#request.serviceTier)}`);
        return undefined;
    }
  }

  /** A schema's text, which must be a JSON object, since it becomes a part of the request as it is. */
  #schema(text: string, field: string): string {
    try {
      parseObject(text);
      return text;
    } catch (caught) {
      if (!(caught instanceof JsonError)) throw caught;
      throw this.#report.invalid(field, `expected a JSON object as text: ${caught.message}`);
    }
  }
}

type Members = { readonly [key: string]: JsonValue | undefined };

/** JSON by schema: the schema for the member, or the tool. */
interface AnswerFormat {
  readonly config?: RawJson;
  readonly tool?: { readonly name: string; readonly format: JsonSchemaFormat };
}

interface Thinking {
  readonly maxTokens: number;
  readonly config?: { readonly type: "enabled" | "adaptive" | "disabled"; readonly budget_tokens?: number };
  readonly effort?: string;
}

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

function filled(members: Members): Members | undefined {
  return Object.keys(members).length > 0 ? members : undefined;
}

function filledList(texts: readonly string[]): readonly string[] | undefined {
  return texts.length > 0 ? texts : undefined;
}
