/**
 * Reads a Chat Completions request as strictly as OpenAI does: what would be refused there is refused here, with the same type, code
 * and `param`, in our own words. A test that passes against the demo provider for a wrong request would be worth nothing.
 */
import { isArray, isObject, type Json, type JsonObject, kindOf, member } from "./json.ts";
import { type DemoModel, modelNames, readModel } from "./models.ts";

/** A request that was understood. */
export interface DemoRequest {
  readonly model: DemoModel;
  readonly messages: readonly DemoMessage[];
  readonly tools: readonly DemoTool[];
  /** Whether tools came in the form of the deprecated `functions`, so that the answer must, too. */
  readonly legacyFunctions: boolean;
  readonly toolChoice: "auto" | "none" | "required" | { readonly name: string };
  readonly parallelToolCalls: boolean;
  readonly format: { readonly kind: "text" | "json_object" } | { readonly kind: "json_schema"; readonly schema: Json };
  /** Thinking included. */
  readonly tokensMax: number;
  readonly stop: readonly string[];
  readonly choices: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly reasoningEffort: string | undefined;
  /** Alternatives to show at each token, or undefined where none were asked for. */
  readonly logprobs: number | undefined;
  readonly seed: number | undefined;
}

/** A message, as far as it matters to an answer. */
export interface DemoMessage {
  readonly role: string;
  readonly text: string;
  /** What was sent beside text, in words such as "an image (image/png, 68 bytes)". */
  readonly attachments: readonly string[];
  readonly toolCalls: readonly { readonly id: string; readonly name: string }[];
  /** The tools that it called and their arguments, as text. */
  readonly callsText: string;
  /** Of a tool's message: the call that it answers. */
  readonly toolCallId: string;
  /** The whole message as JSON, by which prompts with the same beginning are recognised. */
  readonly json: string;
  /** Tokens that its pictures and sounds count for. */
  readonly mediaTokens: number;
}

/** A function that may be called. */
export interface DemoTool {
  readonly name: string;
  readonly description: string;
  readonly parameters: Json;
}

/** A request that is refused, with what OpenAI would say of it. */
export class Refusal extends Error {
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;

  constructor(message: string, param: string | null, code: string | null, status = 400, type = "invalid_request_error") {
    super(message);
    this.status = status;
    this.type = type;
    this.param = param;
    this.code = code;
  }

  /** The body of the refusal. */
  body(): string {
    return JSON.stringify({ error: { message: this.message, type: this.type, param: this.param, code: this.code } });
  }
}

/** Reads a body. Throws `Refusal`. */
export function readRequest(body: string): DemoRequest {
  const request = parseBody(body);
  for (const name of Object.keys(request)) {
    if (!known.has(name)) throw new Refusal(`Unknown parameter: '${name}'.`, name, "unknown_parameter");
  }
  const model = modelOf(request);
  const messages = messagesOf(request);
  const legacyFunctions = member(request, "functions") !== undefined;
  const tools = legacyFunctions ? functionsOf(request) : toolsOf(request);
  const format = formatOf(request);
  if (format.kind === "json_object" && !messages.some((message) => /json/i.test(message.text))) {
    throw new Refusal(
      "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
      "messages",
      null,
    );
  }
  const stream = boolean(request, "stream") ?? false;
  const streamOptions = objectIn(request, "stream_options");
  if (streamOptions !== undefined && !stream) {
    throw new Refusal("The 'stream_options' parameter is only allowed when 'stream' is true.", "stream_options", null);
  }
  const includeUsage = streamOptions === undefined ? false : (boolean(streamOptions, "include_usage", "stream_options.") ?? false);
  checkSampling(request);
  return {
    model,
    messages,
    tools,
    legacyFunctions,
    toolChoice: legacyFunctions ? functionCallOf(request, tools) : toolChoiceOf(request, tools),
    parallelToolCalls: parallelOf(request, tools),
    format,
    tokensMax: tokensMaxOf(request),
    stop: stopOf(request),
    choices: number(request, "n", 1, 128, true) ?? 1,
    stream,
    includeUsage,
    reasoningEffort: effortOf(request),
    logprobs: logprobsOf(request),
    seed: number(request, "seed", -(2 ** 63), 2 ** 63, true),
  };
}

/** The object that a body is. Throws `Refusal`. */
export function parseBody(body: string): JsonObject {
  let value: Json;
  try {
    value = JSON.parse(body);
  } catch {
    throw new Refusal("We could not parse the JSON body of your request: it is not JSON.", null, null);
  }
  if (!isObject(value))
    throw new Refusal(`We could not use the body of your request: expected an object, but got ${article(value)}.`, null, null);
  return value;
}

/** The model that a request asks for. Throws `Refusal`. */
export function modelOf(request: JsonObject): DemoModel {
  const name = text(request, "model") ?? missing("model");
  const model = readModel(name);
  if (typeof model === "string") throw new Refusal(model, "model", "invalid_value");
  if (model === undefined) {
    throw new Refusal(
      `The model '${name}' does not exist. The demo provider has: ${modelNames.join(", ")}.`,
      "model",
      "model_not_found",
      404,
    );
  }
  return model;
}

function messagesOf(request: JsonObject): DemoMessage[] {
  const list = arrayIn(request, "messages") ?? missing("messages");
  if (list.length === 0) {
    throw new Refusal(
      "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      "messages",
      "empty_array",
    );
  }
  const messages = list.map((value, at) => messageOf(value, `messages[${at}]`));
  checkToolResults(messages);
  return messages;
}

function messageOf(value: Json, path: string): DemoMessage {
  if (!isObject(value)) throw wrongType(path, "an object", value);
  const role = text(value, "role", `${path}.`) ?? missing(`${path}.role`);
  const allowed = fieldsOfRole.get(role);
  if (allowed === undefined) {
    const roles = [...fieldsOfRole.keys()].map((name) => `'${name}'`).join(", ");
    throw new Refusal(`Invalid value: '${role}'. Supported values are: ${roles}.`, `${path}.role`, "invalid_value");
  }
  for (const name of Object.keys(value)) {
    if (!allowed.includes(name)) throw new Refusal(`Unknown parameter: '${path}.${name}'.`, `${path}.${name}`, "unknown_parameter");
  }
  text(value, "name", `${path}.`);
  const toolCalls = toolCallsOf(value, path);
  const legacyCall = objectIn(value, "function_call", `${path}.`);
  const content = contentOf(
    value,
    role,
    path,
    toolCalls.length > 0 || legacyCall !== undefined || typeof member(value, "refusal") === "string",
  );
  const toolCallId = role === "tool" ? (text(value, "tool_call_id", `${path}.`) ?? missing(`${path}.tool_call_id`)) : "";
  return { role, ...content, toolCalls, callsText: callsTextOf(toolCalls), toolCallId, json: JSON.stringify(value) };
}

type Content = Pick<DemoMessage, "text" | "attachments" | "mediaTokens">;

function contentOf(message: JsonObject, role: string, path: string, mayBeEmpty: boolean): Content {
  const content = member(message, "content");
  if (typeof content === "string") return { text: content, attachments: [], mediaTokens: 0 };
  if (content === undefined || content === null) {
    if (role === "assistant" && mayBeEmpty) return { text: "", attachments: [], mediaTokens: 0 };
    if (content === undefined) missing(`${path}.content`);
    throw new Refusal(
      `Invalid value for 'content': expected a string, got null. Only an assistant message with 'tool_calls' may leave it out.`,
      `${path}.content`,
      null,
    );
  }
  if (!isArray(content)) throw wrongType(`${path}.content`, "one of a string or array of objects", content);
  if (content.length === 0) {
    throw new Refusal(
      `Invalid '${path}.content': empty array. Expected an array with minimum length 1, but got an empty array instead.`,
      `${path}.content`,
      "empty_array",
    );
  }
  const parts = content.map((part, at) => partOf(part, role, `${path}.content[${at}]`));
  return {
    text: parts.map((part) => part.text).join(""),
    attachments: parts.flatMap((part) => part.attachments),
    mediaTokens: parts.reduce((sum, part) => sum + part.mediaTokens, 0),
  };
}

function partOf(part: Json, role: string, path: string): Content {
  if (!isObject(part)) throw wrongType(path, "an object", part);
  const type = text(part, "type", `${path}.`) ?? missing(`${path}.type`);
  const allowed = role === "user" ? ["text", "image_url", "input_audio", "file"] : role === "assistant" ? ["text", "refusal"] : ["text"];
  if (!allowed.includes(type)) {
    const values = allowed.map((name) => `'${name}'`).join(", ");
    throw new Refusal(`Invalid value: '${type}'. Supported values are: ${values}.`, `${path}.type`, "invalid_value");
  }
  const value = member(part, type);
  if (type === "text" || type === "refusal") {
    return { text: text(part, type, `${path}.`) ?? missing(`${path}.${type}`), attachments: [], mediaTokens: 0 };
  }
  if (!isObject(value)) {
    if (value === undefined) missing(`${path}.${type}`);
    throw wrongType(`${path}.${type}`, "an object", value ?? null);
  }
  return attachment(type, value, `${path}.${type}`);
}

/** What a picture, sound or file is in words, and what it costs. The figures are our own; real ones depend on the size in pixels. */
function attachment(type: string, value: JsonObject, path: string): Content {
  if (type === "image_url") {
    const url = text(value, "url", `${path}.`) ?? missing(`${path}.url`);
    const detail = text(value, "detail", `${path}.`);
    if (detail !== undefined && !["auto", "low", "high"].includes(detail)) {
      throw new Refusal(`Invalid value: '${detail}'. Supported values are: 'auto', 'low', and 'high'.`, `${path}.detail`, "invalid_value");
    }
    if (/^https?:\/\//.test(url))
      return { text: "", attachments: [`an image by address (${new URL(url).host})`], mediaTokens: detail === "low" ? 85 : 765 };
    const data = /^data:([\w.+-]+\/[\w.+-]+);base64,([A-Za-z0-9+/]+={0,2})$/.exec(url);
    if (data === null) {
      throw new Refusal(
        `Failed to read '${path}.url': expected an http(s) address or a base64-encoded data URL.`,
        `${path}.url`,
        "invalid_image_url",
      );
    }
    const [, mediaType = "", base64 = ""] = data;
    return { text: "", attachments: [`an image (${mediaType}, ${base64Bytes(base64)} bytes)`], mediaTokens: detail === "low" ? 85 : 765 };
  }
  if (type === "input_audio") {
    const data = text(value, "data", `${path}.`) ?? missing(`${path}.data`);
    const format = text(value, "format", `${path}.`) ?? missing(`${path}.format`);
    if (format !== "wav" && format !== "mp3") {
      throw new Refusal(`Invalid value: '${format}'. Supported values are: 'wav' and 'mp3'.`, `${path}.format`, "invalid_value");
    }
    return { text: "", attachments: [`a sound (${format}, ${base64Bytes(data)} bytes)`], mediaTokens: 100 };
  }
  const named = text(value, "filename", `${path}.`) ?? text(value, "file_id", `${path}.`) ?? "without a name";
  if (member(value, "file_data") === undefined && member(value, "file_id") === undefined) missing(`${path}.file_id`);
  return { text: "", attachments: [`a file (${named})`], mediaTokens: 200 };
}

function base64Bytes(base64: string): number {
  return Math.floor((base64.replace(/=+$/, "").length * 3) / 4);
}

function callsTextOf(calls: readonly { name: string; argumentsText: string }[]): string {
  return calls.map((call) => `${call.name}${call.argumentsText}`).join("");
}

function toolCallsOf(message: JsonObject, path: string): { id: string; name: string; argumentsText: string }[] {
  const calls = arrayIn(message, "tool_calls", `${path}.`);
  if (calls === undefined) return [];
  if (calls.length === 0) {
    throw new Refusal(
      `Invalid '${path}.tool_calls': empty array. Expected an array with minimum length 1, but got an empty array instead.`,
      `${path}.tool_calls`,
      "empty_array",
    );
  }
  return calls.map((call, at) => {
    const place = `${path}.tool_calls[${at}]`;
    if (!isObject(call)) throw wrongType(place, "an object", call);
    const id = text(call, "id", `${place}.`) ?? missing(`${place}.id`);
    const type = text(call, "type", `${place}.`) ?? missing(`${place}.type`);
    if (type !== "function")
      throw new Refusal(`Invalid value: '${type}'. Supported values are: 'function'.`, `${place}.type`, "invalid_value");
    const called = objectIn(call, "function", `${place}.`) ?? missing(`${place}.function`);
    const argumentsText = text(called, "arguments", `${place}.function.`) ?? missing(`${place}.function.arguments`);
    return { id, argumentsText, name: text(called, "name", `${place}.function.`) ?? missing(`${place}.function.name`) };
  });
}

/** Every result follows the call it answers, and every call is answered. */
function checkToolResults(messages: readonly DemoMessage[]): void {
  let open = new Set<string>();
  let asked = -1;
  for (const [at, message] of messages.entries()) {
    if (message.role === "tool") {
      if (!open.delete(message.toolCallId)) {
        throw new Refusal(
          asked === -1
            ? "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            : `Invalid parameter: 'tool_call_id' of '${message.toolCallId}' not found in 'tool_calls' of the previous message.`,
          `messages.[${at}].${asked === -1 ? "role" : "tool_call_id"}`,
          null,
        );
      }
      continue;
    }
    refuseOpenCalls(open, at);
    open = new Set(message.toolCalls.map((call) => call.id));
    asked = open.size > 0 ? at : -1;
  }
  refuseOpenCalls(open, messages.length);
}

function refuseOpenCalls(open: ReadonlySet<string>, at: number): void {
  if (open.size === 0) return;
  throw new Refusal(
    `An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. ` +
      `The following tool_call_ids did not have response messages: ${[...open].join(", ")}`,
    at === 0 ? "messages" : `messages.[${at}].role`,
    null,
  );
}

function toolsOf(request: JsonObject): DemoTool[] {
  const list = arrayIn(request, "tools");
  if (list === undefined) return [];
  if (list.length === 0) {
    throw new Refusal(
      "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      "tools",
      "empty_array",
    );
  }
  return list.map((tool, at) => {
    const path = `tools[${at}]`;
    if (!isObject(tool)) throw wrongType(path, "an object", tool);
    const type = text(tool, "type", `${path}.`) ?? missing(`${path}.type`);
    if (type !== "function")
      throw new Refusal(`Invalid value: '${type}'. Supported values are: 'function'.`, `${path}.type`, "invalid_value");
    return toolOf(member(tool, "function"), `${path}.function`);
  });
}

function functionsOf(request: JsonObject): DemoTool[] {
  const list = arrayIn(request, "functions");
  return (list ?? []).map((tool, at) => toolOf(tool, `functions[${at}]`));
}

function toolOf(value: Json | undefined, path: string): DemoTool {
  if (value === undefined) missing(path);
  if (!isObject(value)) throw wrongType(path, "an object", value);
  const name = text(value, "name", `${path}.`) ?? missing(`${path}.name`);
  if (!/^[a-zA-Z0-9_-]{1,64}$/.test(name)) {
    throw new Refusal(
      `Invalid '${path}.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.`,
      `${path}.name`,
      "invalid_value",
    );
  }
  const parameters = objectIn(value, "parameters", `${path}.`) ?? { type: "object", properties: {} };
  if (member(parameters, "type") !== undefined && member(parameters, "type") !== "object") {
    throw new Refusal(
      `Invalid schema for function '${name}': schema must be of type 'object', got 'type: ${JSON.stringify(member(parameters, "type"))}'.`,
      `${path}.parameters`,
      "invalid_function_parameters",
    );
  }
  return { name, description: text(value, "description", `${path}.`) ?? "", parameters };
}

function toolChoiceOf(request: JsonObject, tools: readonly DemoTool[]): DemoRequest["toolChoice"] {
  const choice = member(request, "tool_choice");
  if (choice === undefined || choice === null) return "auto";
  if (tools.length === 0)
    throw new Refusal("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", "tool_choice", null);
  if (choice === "auto" || choice === "none" || choice === "required") return choice;
  if (typeof choice === "string") {
    throw new Refusal(`Invalid value: '${choice}'. Supported values are: 'none', 'auto', and 'required'.`, "tool_choice", "invalid_value");
  }
  if (!isObject(choice)) throw wrongType("tool_choice", "one of a string or object", choice);
  const wanted = objectIn(choice, "function", "tool_choice.") ?? missing("tool_choice.function");
  return namedTool(text(wanted, "name", "tool_choice.function.") ?? missing("tool_choice.function.name"), tools, "tool_choice");
}

function functionCallOf(request: JsonObject, tools: readonly DemoTool[]): DemoRequest["toolChoice"] {
  const choice = member(request, "function_call");
  if (choice === undefined || choice === null || choice === "auto") return "auto";
  if (choice === "none") return "none";
  if (!isObject(choice)) throw wrongType("function_call", "one of 'none', 'auto' or an object", choice);
  return namedTool(text(choice, "name", "function_call.") ?? missing("function_call.name"), tools, "function_call");
}

function namedTool(name: string, tools: readonly DemoTool[], param: string): { name: string } {
  if (!tools.some((tool) => tool.name === name)) {
    throw new Refusal(`Invalid value for '${param}': no function named '${name}' was specified in the 'tools' parameter.`, param, null);
  }
  return { name };
}

function parallelOf(request: JsonObject, tools: readonly DemoTool[]): boolean {
  const parallel = boolean(request, "parallel_tool_calls");
  if (parallel !== undefined && tools.length === 0) {
    throw new Refusal(
      "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
      "parallel_tool_calls",
      null,
    );
  }
  return parallel ?? true;
}

function formatOf(request: JsonObject): DemoRequest["format"] {
  const format = objectIn(request, "response_format");
  if (format === undefined) return { kind: "text" };
  const type = text(format, "type", "response_format.") ?? missing("response_format.type");
  if (type === "text" || type === "json_object") return { kind: type };
  if (type !== "json_schema") {
    throw new Refusal(
      `Invalid value: '${type}'. Supported values are: 'json_object', 'json_schema', and 'text'.`,
      "response_format.type",
      "invalid_value",
    );
  }
  const described = objectIn(format, "json_schema", "response_format.") ?? missing("response_format.json_schema");
  const name = text(described, "name", "response_format.json_schema.") ?? missing("response_format.json_schema.name");
  if (!/^[a-zA-Z0-9_-]{1,64}$/.test(name)) {
    throw new Refusal(
      "Invalid 'response_format.json_schema.name': expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.",
      "response_format.json_schema.name",
      "invalid_value",
    );
  }
  boolean(described, "strict", "response_format.json_schema.");
  const schema = objectIn(described, "schema", "response_format.json_schema.") ?? missing("response_format.json_schema.schema");
  return { kind: "json_schema", schema };
}

function tokensMaxOf(request: JsonObject): number {
  const old = number(request, "max_tokens", 1, Number.MAX_SAFE_INTEGER, true);
  const current = number(request, "max_completion_tokens", 1, Number.MAX_SAFE_INTEGER, true);
  if (old !== undefined && current !== undefined) {
    throw new Refusal(
      "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
      "max_tokens",
      "invalid_parameter_combination",
    );
  }
  return current ?? old ?? Number.POSITIVE_INFINITY;
}

function stopOf(request: JsonObject): string[] {
  const stop = member(request, "stop");
  if (stop === undefined || stop === null) return [];
  if (typeof stop === "string") return stop === "" ? [] : [stop];
  if (!isArray(stop)) throw wrongType("stop", "one of a string or array of strings", stop);
  if (stop.length > 4) {
    throw new Refusal(
      `Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length ${stop.length} instead.`,
      "stop",
      "array_above_max_length",
    );
  }
  return stop.map((one, at) => {
    if (typeof one !== "string") throw wrongType(`stop[${at}]`, "a string", one);
    return one;
  });
}

function effortOf(request: JsonObject): string | undefined {
  const effort = text(request, "reasoning_effort");
  if (effort === undefined || efforts.includes(effort)) return effort;
  const values = efforts.map((name) => `'${name}'`).join(", ");
  throw new Refusal(`Invalid value: '${effort}'. Supported values are: ${values}.`, "reasoning_effort", "invalid_value");
}

function logprobsOf(request: JsonObject): number | undefined {
  const wanted = boolean(request, "logprobs") ?? false;
  const top = number(request, "top_logprobs", 0, 20, true);
  if (top !== undefined && !wanted) {
    throw new Refusal("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs", null);
  }
  return wanted ? (top ?? 0) : undefined;
}

function checkSampling(request: JsonObject): void {
  number(request, "temperature", 0, 2);
  number(request, "top_p", 0, 1);
  number(request, "presence_penalty", -2, 2);
  number(request, "frequency_penalty", -2, 2);
  text(request, "user");
  objectIn(request, "metadata");
  objectIn(request, "logit_bias");
  const modalities = arrayIn(request, "modalities");
  if (modalities?.some((one) => one !== "text") === true) {
    throw new Refusal("The demo provider answers in text: 'modalities' may only hold 'text'.", "modalities", "invalid_value");
  }
}

// The readers below take a member if it is there and of the right type. Null counts as absent, as it does at OpenAI.

function objectIn(object: JsonObject, name: string, path = ""): JsonObject | undefined {
  const value = member(object, name);
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw wrongType(`${path}${name}`, "an object", value);
  return value;
}

function arrayIn(object: JsonObject, name: string, path = ""): readonly Json[] | undefined {
  const value = member(object, name);
  if (value === undefined || value === null) return undefined;
  if (!isArray(value)) throw wrongType(`${path}${name}`, "an array", value);
  return value;
}

function text(object: JsonObject, name: string, path = ""): string | undefined {
  const value = member(object, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw wrongType(`${path}${name}`, "a string", value);
  return value;
}

function boolean(object: JsonObject, name: string, path = ""): boolean | undefined {
  const value = member(object, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "boolean") throw wrongType(`${path}${name}`, "a boolean", value);
  return value;
}

function number(object: JsonObject, name: string, min: number, max: number, whole = false): number | undefined {
  const value = member(object, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number") throw wrongType(name, whole ? "an integer" : "a decimal", value);
  if (whole && !Number.isInteger(value)) throw wrongType(name, "an integer", value);
  const kind = whole ? "integer" : "decimal";
  if (value < min) {
    throw new Refusal(
      `Invalid '${name}': ${kind} below minimum value. Expected a value >= ${min}, but got ${value} instead.`,
      name,
      `${kind}_below_min_value`,
    );
  }
  if (value > max) {
    throw new Refusal(
      `Invalid '${name}': ${kind} above maximum value. Expected a value <= ${max}, but got ${value} instead.`,
      name,
      `${kind}_above_max_value`,
    );
  }
  return value;
}

function missing(param: string): never {
  throw new Refusal(`Missing required parameter: '${param}'.`, param, "missing_required_parameter");
}

function wrongType(param: string, expected: string, value: Json): Refusal {
  return new Refusal(`Invalid type for '${param}': expected ${expected}, but got ${article(value)} instead.`, param, "invalid_type");
}

function article(value: Json): string {
  const kind = kindOf(value);
  return kind === "null" ? "null" : kind === "number" ? "a decimal number" : `${/^[aio]/.test(kind) ? "an" : "a"} ${kind}`;
}

const efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

const fieldsOfRole: ReadonlyMap<string, readonly string[]> = new Map([
  ["system", ["role", "content", "name"]],
  ["developer", ["role", "content", "name"]],
  ["user", ["role", "content", "name"]],
  [
    "assistant",
    // The last three are what other endpoints of this format send and take back as thinking.
    [
      "role",
      "content",
      "name",
      "refusal",
      "tool_calls",
      "function_call",
      "audio",
      "annotations",
      "reasoning_content",
      "reasoning",
      "thinking",
    ],
  ],
  // The name is in no list of the API's, and it takes one: its older examples name the tool here.
  ["tool", ["role", "content", "tool_call_id", "name"]],
  ["function", ["role", "content", "name"]],
]);

const known: ReadonlySet<string> = new Set(
  (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages metadata modalities " +
    "model n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort response_format " +
    "safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity " +
    "web_search_options"
  ).split(" "),
);
