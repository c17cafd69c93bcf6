/**
 * The conversation as a request of generateContent (https://ai.google.dev/api/generate-content).
 *
 * What this API cannot carry is refused by name, or left out and reported where policy says so; what it takes only in another form is
 * sent in that form and reported.
 */
import { type ChatRequest, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { JsonError, type JsonValue, parseObject, RawJson, stringify } from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { Report } from "../report.ts";
import { type ToolNames, toolNames } from "../toolNames.ts";
import { type GeminiProject, modelPaths } from "./address.ts";
import { ExtraMembers, type Members } from "./extraMembers.ts";
import { type GeminiModel, type GeminiModelRow, modelTable } from "./models.ts";
import { geminiNames } from "./names.ts";
import { schemaSubset } from "./schemaSubset.ts";
import { writeContents } from "./writeContents.ts";

/** What is particular to one endpoint. */
export interface GeminiOptions {
  /** The version of the API in its paths, such as `v1beta`. */
  readonly version: string;
  /** The project and location whose models are asked, or undefined at AI Studio. */
  readonly project: GeminiProject | undefined;
  /** Whether the endpoint takes ids of function calls. */
  readonly callIds: boolean;
  /** What an operator says of models; the built-in rows come after these. */
  readonly models: readonly GeminiModelRow[];
}

/** Makes the writer of requests to one endpoint. */
export function requestWriter(options: GeminiOptions): (input: RequestInput) => WrittenRequest {
  const modelOf = modelTable(options.models);
  const pathOf = modelPaths(options.version, options.project);
  return function writeRequest(input) {
    const report = new Report(input.model, input.dropUnsupported);
    const body = new RequestBody(input.request, modelOf(input.model), options, report).write();
    // Without `alt=sse` a stream would come as one JSON array.
    const method = input.streaming ? "streamGenerateContent?alt=sse" : "generateContent";
    const headers = input.streaming ? streamHeaders : unaryHeaders;
    return { path: `${pathOf(input.model)}:${method}`, headers, body, warnings: report.warnings };
  };
}

// A compressed stream would have to be inflated before it is read, and comes in larger and later pieces.
const headersFor = (accept: string): readonly string[] =>
  Object.freeze(["content-type", "application/json", "accept", accept, "accept-encoding", "identity"]);
const unaryHeaders = headersFor("application/json");
const streamHeaders = headersFor("text/event-stream");

class RequestBody {
  readonly #request: ChatRequest;
  readonly #traits: GeminiModel;
  readonly #options: GeminiOptions;
  readonly #report: Report;
  readonly #names: ToolNames;
  readonly #extras: ExtraMembers;

  constructor(request: ChatRequest, traits: GeminiModel, options: GeminiOptions, report: Report) {
    this.#request = request;
    this.#traits = traits;
    this.#options = options;
    this.#report = report;
    this.#names = toolNames(request, geminiNames);
    this.#extras = new ExtraMembers(request.extras, report);
  }

  write(): string {
    this.#refuseUncarried();
    const { callIds, project, version } = this.#options;
    const { system, contents } = writeContents(this.#request, {
      names: this.#names,
      traits: this.#traits,
      callIds,
      filesAddress: project === undefined ? `https://generativelanguage.googleapis.com/${version}` : undefined,
      extras: this.#extras,
      report: this.#report,
    });
    const form = this.#form();
    const declarations = form.declares ? this.#declarations() : [];
    const tools = [...(declarations.length > 0 ? [{ functionDeclarations: declarations }] : []), ...this.#extras.tools];
    const known: Members = {
      systemInstruction: system.length > 0 ? { parts: system } : undefined,
      contents,
      tools: tools.length > 0 ? tools : undefined,
      toolConfig: filled(this.#extras.complete("toolConfig", { functionCallingConfig: this.#callingConfig(declarations.length > 0) })),
      generationConfig: filled(this.#extras.complete("generationConfig", this.#generationConfig(form.json))),
      labels: filled(this.#extras.complete("labels", { user: this.#userLabel() })),
    };
    const body = stringify(this.#extras.complete("", known));
    this.#extras.reportRest();
    return body;
  }

  /** Parameters that this API has no word for. Values that mean what happens anyway need none. */
  #refuseUncarried(): void {
    const { logitBias, parallelToolCalls, serviceTier, tools } = this.#request;
    if (Object.keys(logitBias).length > 0) this.#report.unsupported("logit_bias");
    if (parallelToolCalls === false && tools.length > 0) this.#report.unsupported("parallel_tool_calls", " with the value false");
    if (serviceTier !== "" && serviceTier !== "auto" && serviceTier !== "default") {
      this.#report.unsupported("service_tier", ` with the value ${JSON.stringify(serviceTier)}`);
    }
  }

  /** Whether tools are declared and an answer by JSON is asked for: most models before the third generation refuse both at once. */
  #form(): { readonly declares: boolean; readonly json: boolean } {
    const { responseFormat, toolChoice, tools } = this.#request;
    const json = responseFormat?.format.case === "jsonObject" || responseFormat?.format.case === "jsonSchema";
    const declares = tools.length > 0;
    if (!json || !declares || this.#traits.schemaWithTools) return { declares, json };
    // What must not be called need not be declared.
    if (toolChoice?.choice.value === ToolMode.NONE) return { declares: false, json };
    this.#report.unsupported("response_format", " along with tools");
    return { declares, json: false };
  }

  /** All functions, which stand in one tool. */
  #declarations(): JsonValue[] {
    const { tools } = this.#request;
    return tools.map((tool, index) => {
      const member = `tools[${index}]`;
      if (tool.cache !== undefined)
        this.#report.dropped(`${member}.cache`, "This provider decides for itself what it keeps in its prompt cache.");
      return {
        name: this.#names.sent.get(tool.name) ?? tool.name,
        description: tool.description === "" ? undefined : tool.description,
        ...this.#schema(tool.parametersJson, `${member}.parameters_json`, "parametersJsonSchema", "parameters"),
      };
    });
  }

  /** Which function to call, and whether one must be called. */
  #callingConfig(declared: boolean): Members | undefined {
    const { toolChoice, tools } = this.#request;
    const choice = toolChoice?.choice;
    if (choice?.case === "tool") {
      const { value } = choice;
      if (!tools.some(({ name }) => name === value)) throw this.#report.invalid("tool_choice", "names a tool that is not among the tools");
      return { mode: "ANY", allowedFunctionNames: [this.#names.sent.get(value) ?? value] };
    }
    if (choice?.value === ToolMode.REQUIRED) {
      if (!declared) throw this.#report.invalid("tool_choice", "asks for a tool where there are none");
      return { mode: "ANY" };
    }
    if (!declared) return undefined;
    if (choice?.value === ToolMode.NONE) return { mode: "NONE" };
    // The mode in which a call, if there is one, keeps to its schema. A call that must be made does so anyway.
    if (tools.some(({ strict }) => strict === true)) {
      if (this.#traits.schemas === "json") return { mode: "VALIDATED" };
      this.#report.unsupported("tools.strict");
    }
    return choice?.value === ToolMode.AUTO ? { mode: "AUTO" } : undefined;
  }

  #generationConfig(json: boolean): Members {
    const { maxOutputTokens, topP, topK, n, presencePenalty, frequencyPenalty, logprobs } = this.#request;
    return {
      candidateCount: n,
      stopSequences: this.#stop(),
      maxOutputTokens,
      temperature: this.#temperature(),
      topP,
      topK,
      seed: this.#seed(),
      presencePenalty,
      frequencyPenalty,
      responseLogprobs: logprobs === undefined ? undefined : true,
      logprobs: logprobs === undefined || logprobs.top === 0 ? undefined : logprobs.top,
      ...(json ? this.#answerFormat() : {}),
      thinkingConfig: this.#thinkingConfig(),
    };
  }

  #answerFormat(): Members {
    const format = this.#request.responseFormat?.format;
    if (format?.case !== "jsonSchema") return { responseMimeType: "application/json" };
    if (format.value.description !== "") {
      this.#report.dropped("response_format.json_schema.description", "This provider takes a schema without a description.");
    }
    const field = "response_format.json_schema.schema";
    return {
      responseMimeType: "application/json",
      ...this.#schema(format.value.schemaJson, field, "responseJsonSchema", "responseSchema"),
    };
  }

  /** A schema under the name of the form in which the model takes it. The text becomes a part of the request, so it must be an object. */
  #schema(text: string, field: string, jsonMember: string, subsetMember: string): Members {
    if (text.trim() === "") return {};
    try {
      parseObject(text);
    } catch (caught) {
      if (!(caught instanceof JsonError)) throw caught;
      throw this.#report.invalid(field, `expected a JSON object as text: ${caught.message}`);
    }
    if (this.#traits.schemas === "json") return { [jsonMember]: new RawJson(text) };
    const subset = schemaSubset(text);
    if (subset === undefined)
      throw this.#report.invalid(field, "gets too large once its references are written out, as the model wants it");
    if (subset.lost.length > 0) {
      const list = subset.lost.join(", ");
      this.#report.changed(field, `The model takes a subset of JSON Schema, so these parts were left out or weakened: ${list}.`);
    }
    return subset.text === undefined ? {} : { [subsetMember]: new RawJson(subset.text) };
  }

  #stop(): readonly string[] | undefined {
    const kept = this.#request.stop.filter((stop) => stop !== "");
    if (kept.length < this.#request.stop.length) this.#report.unsupported("stop", " with an empty text");
    if (kept.length > STOP_SEQUENCES_MAX) this.#report.unsupported("stop", ` with more than ${STOP_SEQUENCES_MAX} texts`);
    return kept.length === 0 ? undefined : kept.slice(0, STOP_SEQUENCES_MAX);
  }

  #temperature(): number | undefined {
    const { temperature } = this.#request;
    if (temperature === undefined || temperature <= TEMPERATURE_MAX) return temperature;
    this.#report.changed("temperature", `Lowered from ${temperature} to ${TEMPERATURE_MAX}, the most that the model takes.`);
    return TEMPERATURE_MAX;
  }

  /** A seed has 32 bits here; a larger one would be refused without a word of what is wrong. */
  #seed(): bigint | undefined {
    const { seed } = this.#request;
    if (seed === undefined || BigInt.asIntN(32, seed) === seed) return seed;
    this.#report.unsupported("seed", " beyond 32 bits");
    return undefined;
  }

  #thinkingConfig(): Members | undefined {
    const { reasoning } = this.#request;
    if (reasoning === undefined) return undefined;
    const { amount } = reasoning;
    const effort = amount.case === "effort" ? amount.value : undefined;
    const budget = amount.case === "budgetTokens" ? Number(amount.value) : undefined;
    const { thinking } = this.#traits;
    if (thinking === "none") {
      if (effort !== "none" && budget !== 0) this.#report.unsupported("reasoning");
      return undefined;
    }
    if (effort !== undefined && !Object.hasOwn(budgets, effort)) {
      this.#report.unsupported("reasoning.effort", ` with the value ${JSON.stringify(effort)}`);
      return undefined;
    }
    const off = effort === "none" || budget === 0;
    const includeThoughts = off || reasoning.thinking === false ? undefined : true;
    if (effort === undefined && budget === undefined) return filled({ includeThoughts });
    if (budget !== undefined) return { thinkingBudget: this.#budget(budget, "reasoning.budget_tokens", true), includeThoughts };
    if (thinking === "budget") {
      return { thinkingBudget: this.#budget(budgets[effort ?? "medium"] ?? 0, "reasoning.effort", effort === "none"), includeThoughts };
    }
    return { thinkingLevel: this.#level(effort ?? "medium"), includeThoughts };
  }

  /** A number of tokens that the model can be told to think with. `exact`: whether the caller gave the number, and hears of another. */
  #budget(wanted: number, field: string, exact: boolean): number {
    const { budgetMin, budgetMax, budgetOff } = this.#traits;
    if (wanted === 0 && budgetOff) return 0;
    const taken = Math.min(Math.max(wanted, budgetMin), budgetMax);
    if (taken !== wanted && exact) {
      const [way, bound] = taken > wanted ? ["Raised", "least"] : ["Lowered", "most"];
      this.#report.changed(field, `${way} from ${wanted} to ${taken}, the ${bound} tokens that the model thinks with.`);
    }
    return taken;
  }

  /** The model's own word for an effort: the next one up that it has, or its highest. */
  #level(effort: string): string {
    const { levels } = this.#traits;
    const rank = efforts.indexOf(effort);
    const level = levels.find((candidate) => efforts.indexOf(candidate) >= rank) ?? levels.at(-1) ?? "high";
    if (level !== effort) {
      this.#report.changed("reasoning.effort", `The model does not know the effort ${effort}, so it was asked for ${level}.`);
    }
    return level;
  }

  /** The caller's name for its end user, which only Vertex AI takes, as a label of Google Cloud. */
  #userLabel(): string | undefined {
    const { user } = this.#request;
    if (user === "") return undefined;
    if (this.#options.project !== undefined && /^[a-z0-9_-]{1,63}$/.test(user)) return user;
    const why = this.#options.project === undefined ? "" : ", unless it has at most 63 small letters, digits, - and _";
    this.#report.unsupported("user", why);
    return undefined;
  }
}

const STOP_SEQUENCES_MAX = 5; // More are refused by the API.
const TEMPERATURE_MAX = 2; // So is more heat.

/** Words of effort, the least first. */
const efforts: readonly string[] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/** Tokens to think with, by the word of effort; what Google's own endpoint in OpenAI's format takes. */
const budgets: Readonly<Record<string, number>> = Object.freeze({
  none: 0,
  minimal: 1024,
  low: 1024,
  medium: 8192,
  high: 24_576,
  xhigh: 32_768,
  max: 32_768,
});

function filled(members: Members): Members | undefined {
  return Object.values(members).some((value) => value !== undefined) ? members : undefined;
}
