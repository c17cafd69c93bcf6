/**
 * Writes requests of Chat Completions.
 *
 * A caller's own request in this dialect is sent as it came, byte for byte, but for the model's name and the wish for usage that
 * accounting needs. Any other is written from the conversation; what this dialect cannot carry is refused by name, or reported.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import {
  type CacheMarker,
  type ChatRequest,
  type Media,
  type Message,
  type Part,
  type ResponseFormat,
  Role,
  type Tool,
  ToolMode,
  type ToolResult,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Warning } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import {
  isObject,
  type JsonValue,
  memberSpans,
  pathSteps,
  RawJson,
  removeMember,
  renameMember,
  spliceMember,
  spliceMembers,
  stringify,
} from "../../framing/json.ts";
import type { RequestInput, WrittenRequest } from "../dialect.ts";
import { audioFormat, writeBase64, writeDataUrl } from "../media.ts";
import { pathWriter } from "../path.ts";
import { isHint } from "../report.ts";
import { argumentsText } from "../toolArguments.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import { nearestEffort } from "./efforts.ts";
import type { OpenAiOptions } from "./options.ts";
import { givenBack, isPassable } from "./passable.ts";
import { toolCallIds } from "./toolCallIds.ts";

/**
 * Makes what writes requests to an endpoint. It throws a fault with reason `PARAMETER_UNSUPPORTED` for what cannot be carried, unless
 * that may be dropped.
 */
export function requestWriter(options: OpenAiOptions): (input: RequestInput) => WrittenRequest {
  const pathOf = pathWriter(options, "/chat/completions");
  return function writeRequest(input) {
    const { native, request, streaming, model } = input;
    const headers = streaming ? streamHeaders : bodyHeaders;
    const path = pathOf(model);
    if (native?.dialect === "openai" && isPassable(request, options)) {
      return { path, headers, body: nativeBody(native.text, input, options), warnings: [] };
    }
    const builder = new RequestBuilder(input, options);
    return { path, headers, body: builder.body(), warnings: builder.warnings };
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

function nativeBody(text: string, input: RequestInput, options: OpenAiOptions): string {
  const edits = new Map<string, (current: string | undefined) => string>();
  if (input.model !== input.request.model) edits.set("model", () => JSON.stringify(input.model));
  if (input.streaming && options.streamUsage) {
    edits.set("stream_options", (current) =>
      spliceMember(current === undefined || current === "null" ? "{}" : current, ["include_usage"], "true"),
    );
  }
  const edited = edits.size === 0 ? text : spliceMembers(text, edits);
  const asked = input.streaming && !options.streamUsage ? removeMember(edited, "stream_options") : edited;
  return input.request.maxOutputTokens === undefined ? asked : withLimitIn(options.maxTokensField, asked);
}

/**
 * The limit on the answer in the field that the endpoint knows. Of a caller that gives both limits the newer one holds, where only the
 * older can be sent; the endpoint that knows the newer one has its own say.
 */
function withLimitIn(field: OpenAiOptions["maxTokensField"], text: string): string {
  const other = field === "max_tokens" ? "max_completion_tokens" : "max_tokens";
  if (!text.includes(`"${other}"`)) return text;
  const members = memberSpans(text);
  const isGiven = (key: string): boolean => members.some((member) => member.key === key && !text.startsWith("null", member.valueStart));
  if (!isGiven(other)) return text;
  if (!isGiven(field) || field === "max_tokens") return renameMember(removeMember(text, field), other, field);
  return text;
}

/** An object or list under construction. Members whose names come from outside are added with `define` only. */
type Wire = { [key: string]: JsonValue | undefined };

class RequestBuilder {
  readonly warnings: Warning[] = [];
  readonly #input: RequestInput;
  readonly #options: OpenAiOptions;
  readonly #messages: Wire[] = [];
  /** Where each message of the conversation begins among the wire's: one can become several. */
  readonly #wireIndexes: number[] = [];
  /** The ids to send for calls whose own do not fit. */
  readonly #callIds: ReadonlyMap<string, string> | undefined;
  /** The names to send for tools whose own do not fit. */
  readonly #toolNames: ReadonlyMap<string, string> | undefined;

  constructor(input: RequestInput, options: OpenAiOptions) {
    this.#input = input;
    this.#options = options;
    const { toolCallIdLength = 0, freeToolNames } = options;
    if (freeToolNames !== true) this.#toolNames = toolNames(input.request, strictNames).sent;
    if (toolCallIdLength > 0) this.#callIds = toolCallIds(input.request, toolCallIdLength);
  }

  body(): string {
    const { request, model, streaming } = this.#input;
    const { maxTokensField, streamUsage, topK, wholeTopP, seedField = "seed", thinking } = this.#options;
    request.messages.forEach((message, index) => {
      this.#wireIndexes.push(this.#messages.length);
      this.#message(message, `messages[${index}]`);
    });
    const root: Wire = { model, messages: this.#messages };
    this.#tools(root);
    if (request.responseFormat !== undefined) {
      root.response_format = (this.#options.jsonForm === "value" ? writeJsonValueFormat : writeResponseFormat)(request.responseFormat);
    }
    root[maxTokensField] = request.maxOutputTokens;
    root.temperature = request.temperature;
    if (wholeTopP !== false || request.topP === undefined || request.topP < 1) root.top_p = request.topP;
    if (topK === true) root.top_k = request.topK;
    else if (request.topK !== undefined) this.#lose("top_k", "the API has no such parameter");
    if (request.stop.length > 0) root.stop = request.stop;
    root.n = request.n;
    root[seedField] = request.seed;
    root.presence_penalty = request.presencePenalty;
    root.frequency_penalty = request.frequencyPenalty;
    if (Object.keys(request.logitBias).length > 0) root.logit_bias = request.logitBias;
    if (request.logprobs !== undefined) {
      root.logprobs = true;
      if (request.logprobs.top > 0) root.top_logprobs = request.logprobs.top;
    }
    root.reasoning_effort = this.#effort(request);
    if (request.user !== "") root.user = request.user;
    if (request.serviceTier !== "") root.service_tier = request.serviceTier;
    if (streaming) {
      root.stream = true;
      if (streamUsage) root.stream_options = { include_usage: true };
    }
    request.extras.forEach((extra, index) => {
      if (extra.dialect !== "openai") this.#lose(extra.path, "it belongs to another API");
      else if (thinking === "none" && givenBack.test(extra.path)) this.#warn(extra.path, "the API takes no thinking back");
      else if (thinking !== undefined && extra.path.endsWith(".reasoning") && givenBack.test(extra.path)) {
        // Callers of servers that write thinking under two names give it back twice.
        this.#warn(extra.path, "the thinking is given back once");
      } else if (!this.#place(root, extra.path, rawJson(extra.json, `extras[${index}].json`))) {
        this.#lose(extra.path, "there is no place for it in the request");
      }
    });
    return stringify(root as JsonValue);
  }

  #tools(root: Wire): void {
    const { tools, toolChoice, parallelToolCalls, extras } = this.#input.request;
    const { toolChoice: chosen = "named", requiredWord = "required" } = this.#options;
    const choice = toolChoice?.choice;
    const isNone = choice?.case === "mode" && choice.value === ToolMode.NONE;
    const written = tools.map((tool, index) => this.#tool(tool, `tools[${index}]`));
    if (chosen === "none") {
      // To offer none is how a server that knows no choice is kept from calling any.
      if (tools.length > 0 && !isNone) root.tools = written;
      if (choice?.case === "tool" || choice?.value === ToolMode.REQUIRED) {
        this.#lose("tool_choice", "the server leaves it to the model whether it calls a tool");
      }
    } else if (chosen === "modes" && choice?.case === "tool") {
      const index = tools.findIndex(({ name }) => name === choice.value);
      const only = written[index];
      if (only === undefined) this.#lose("tool_choice", `there is no tool ${JSON.stringify(choice.value)} among the tools`);
      root.tools = only === undefined ? written : [only];
      if (only !== undefined) root.tool_choice = requiredWord;
    } else {
      if (tools.length > 0) root.tools = written;
      if (choice?.case === "tool") root.tool_choice = { type: "function", function: { name: this.#toolName(choice.value) } };
      else if (choice?.case === "mode") root.tool_choice = modeWord(choice.value, requiredWord);
    }
    // Without tools the API refuses it, and it asks for nothing.
    const hasTools = root.tools !== undefined || extras.some(({ dialect, path }) => dialect === "openai" && path.startsWith("tools["));
    if (hasTools) root.parallel_tool_calls = parallelToolCalls;
  }

  #effort({ reasoning }: ChatRequest): string | undefined {
    if (reasoning === undefined) return undefined;
    const { amount, thinking } = reasoning;
    if (amount.case === "budgetTokens") this.#lose("reasoning.budget_tokens", "the API takes a word of effort and no number of tokens");
    const asked = amount.case === "effort" ? amount.value : undefined;
    const effort = asked === undefined ? undefined : nearestEffort(asked, this.#options.reasoningEfforts ?? []);
    if (effort !== asked) {
      const message = `The effort ${asked} was sent as ${effort}: the model ${this.#input.model} does not know it.`;
      this.warnings.push({ $typeName: "outrigger.chat.v1.Warning", code: "PARAMETER_CHANGED", field: "reasoning.effort", message });
    }
    if (thinking === false && effort !== "none")
      this.#lose("reasoning.thinking", "the API cannot switch thinking off apart from its effort");
    return effort;
  }

  #message(message: Message, path: string): void {
    switch (message.role) {
      case Role.ASSISTANT:
        this.#assistant(message, path);
        return;
      case Role.SYSTEM:
        this.#spoken("system", message, path);
        return;
      case Role.DEVELOPER:
        this.#spoken(this.#options.developerRole ? "developer" : "system", message, path);
        return;
      case Role.USER:
      case Role.TOOL:
        this.#spoken("user", message, path);
        return;
      default:
        throw new Fault(FaultReason.REQUEST_INVALID, `The role of ${path} is not known.`, { field: `${path}.role` });
    }
  }

  /** A message of the application: what tools returned stands in messages of their own, one for each call, before the rest. */
  #spoken(role: string, message: Message, path: string): void {
    const parts: JsonValue[] = [];
    message.parts.forEach((part, index) => {
      const at = `${path}.parts[${index}]`;
      if (part.content.case === "toolResult") {
        this.#messages.push(named(message, this.#toolResult(part.content.value, this.#marked(part.cache, at), at)));
      } else {
        const written = this.#part(part, at);
        if (written !== undefined) parts.push(written);
      }
    });
    const onlyResults = message.parts.length > 0 && message.parts.every(({ content }) => content.case === "toolResult");
    if (onlyResults) return;
    if (this.#options.userAfterTool === false && this.#messages.at(-1)?.role === "tool") this.#answerTool(path);
    this.#messages.push(this.#spokenBy(message, path, { role, content: plainContent(parts) }));
  }

  /** A message with its speaker's name, which servers that refuse what they do not know take of tools alone. */
  #spokenBy(message: Message, path: string, wire: Wire): Wire {
    if (message.name !== "" && this.#options.strictMembers === true) {
      this.#lose(`${path}.name`, "the API takes names of tools only");
      return wire;
    }
    return named(message, wire);
  }

  /** Puts a turn of the assistant behind a tool's where nobody else may speak next. Empty ones are refused, so it says the least. */
  #answerTool(path: string): void {
    const at = this.#messages.push({ role: "assistant", content: "OK." });
    // What belongs to the message that follows must not end up on this turn.
    if (this.#wireIndexes.at(-1) === at - 1) this.#wireIndexes[this.#wireIndexes.length - 1] = at;
    const message = `A short turn of the assistant was sent before ${path}: the model ${this.#input.model} hears nobody else straight after a tool.`;
    this.warnings.push({ $typeName: "outrigger.chat.v1.Warning", code: "PARAMETER_CHANGED", field: path, message });
  }

  #toolName(name: string): string {
    return this.#toolNames?.get(name) ?? name;
  }

  /** `marker`: of the whole result, which ends with its last text. */
  #toolResult(result: ToolResult, marker: Marker, path: string): Wire {
    const parts: JsonValue[] = [];
    result.parts.forEach((part, index) => {
      const at = `${path}.tool_result.parts[${index}]`;
      const ownMarker = this.#marked(part.cache, at);
      const markers = index === result.parts.length - 1 ? { ...marker, ...ownMarker } : ownMarker;
      if (part.content.case === "text") parts.push({ type: "text", text: part.content.value.text, ...markers });
      else if (part.content.case === "extra" && part.content.value.dialect === "openai") parts.push(rawJson(part.content.value.json, at));
      else this.#lose(at, "results of tools are text in this API");
    });
    if (marker.cache_control !== undefined && result.parts.at(-1)?.content.case !== "text") {
      this.#warn(`${path}.cache`, "the API has no place for a cache marker here");
    }
    // The API has no mark for a failed tool, so the model must read it.
    if (result.isError) parts.unshift({ type: "text", text: "Error: " });
    return { role: "tool", tool_call_id: this.#callId(result.toolCallId), content: joinedText(parts) ?? parts };
  }

  #callId(id: string): string {
    return this.#callIds?.get(id) ?? id;
  }

  #assistant(message: Message, path: string): void {
    const { thinking: member = "reasoning_content" } = this.#options;
    const parts: JsonValue[] = [];
    const calls: JsonValue[] = [];
    let thinking = "";
    let foreign = false;
    message.parts.forEach((part, index) => {
      const at = `${path}.parts[${index}]`;
      const { content } = part;
      switch (content.case) {
        case "reasoning":
          this.#unmarkable(part, at);
          if (content.value.dialect !== "openai") foreign = true;
          else if (member === "parts") {
            parts.push({ type: "thinking", thinking: [{ type: "text", text: content.value.text }], closed: true });
          } else thinking += content.value.text;
          break;
        case "toolCall": {
          this.#unmarkable(part, at);
          const { id, name, argumentsJson } = content.value;
          calls.push({
            id: this.#callId(id),
            type: "function",
            function: { name: this.#toolName(name), arguments: argumentsText(argumentsJson) },
          });
          break;
        }
        case "text":
        case "refusal": {
          const written = this.#part(part, at);
          if (written !== undefined) parts.push(written);
          break;
        }
        case "extra": {
          const written = this.#part(part, at);
          if (written !== undefined) (/\.tool_calls\[\d+\]$/.test(content.value.path) ? calls : parts).push(written);
          break;
        }
        default:
          this.#lose(at, "the API takes no such part from the model");
      }
    });
    if (foreign) {
      // To send it would be refused by every provider but the one that sealed it, and without it the conversation still holds.
      this.#warn(`${path}.reasoning`, "thinking is given back only to the dialect that made it");
    }
    const wire: Wire = { role: "assistant" };
    if (parts.length > 0) wire.content = joinedText(parts) ?? parts;
    // Null is right beside calls, and an error without them.
    else wire.content = calls.length > 0 ? null : "";
    if (thinking !== "" && member === "none") this.#warn(`${path}.reasoning`, "the API takes no thinking back");
    else if (thinking !== "") wire[member] = thinking;
    if (calls.length > 0) wire.tool_calls = calls;
    this.#messages.push(this.#spokenBy(message, path, wire));
  }

  #part(part: Part, path: string): JsonValue | undefined {
    const { content } = part;
    const marker = this.#marked(part.cache, path);
    switch (content.case) {
      case "text":
        return { type: "text", text: content.value.text, ...marker };
      case "refusal":
        // A kind of part that servers which know the format less closely refuse.
        if (this.#options.strictMembers === true) return { type: "text", text: content.value.text, ...marker };
        return { type: "refusal", refusal: content.value.text, ...marker };
      case "image":
        return this.#image(content.value, path, marker);
      case "audio":
        return this.#audio(content.value, path, marker);
      case "file":
        return this.#file(content.value, path, marker);
      case "extra":
        if (content.value.dialect === "openai") return rawJson(content.value.json, path);
        this.#lose(path, "it belongs to another API");
        return undefined;
      default:
        this.#lose(path, "the API takes no such part here");
        return undefined;
    }
  }

  #image({ source, mediaType, detail }: Media, path: string, marker: Marker): JsonValue | undefined {
    const more = { detail: detail === "" ? undefined : detail };
    if (source.case === "url") return { type: "image_url", image_url: { url: source.value, ...more }, ...marker };
    if (source.case === "data") {
      return { type: "image_url", image_url: { url: writeDataUrl({ mediaType, data: source.value }), ...more }, ...marker };
    }
    this.#lose(path, "the API takes pictures by address or by value, not by an uploaded file's name");
    return undefined;
  }

  #audio({ source, mediaType }: Media, path: string, marker: Marker): JsonValue | undefined {
    const format = audioFormat(mediaType);
    if (source.case === "data" && format !== undefined) {
      return { type: "input_audio", input_audio: { data: writeBase64(source.value), format }, ...marker };
    }
    this.#lose(path, "the API takes sounds by value only");
    return undefined;
  }

  #file({ source, mediaType, filename }: Media, path: string, marker: Marker): JsonValue | undefined {
    const more = { filename: filename === "" ? undefined : filename };
    if (source.case === "fileId") return { type: "file", file: { file_id: source.value, ...more }, ...marker };
    if (source.case === "data") {
      return { type: "file", file: { file_data: writeDataUrl({ mediaType, data: source.value }), ...more }, ...marker };
    }
    this.#lose(path, "the API takes documents by value or by an uploaded file's name, not by address");
    return undefined;
  }

  #tool(tool: Tool, path: string): JsonValue {
    return {
      ...this.#marked(tool.cache, path),
      type: "function",
      function: {
        name: this.#toolName(tool.name),
        description: tool.description === "" ? undefined : tool.description,
        parameters: tool.parametersJson === "" ? undefined : rawJson(tool.parametersJson, `${path}.parameters_json`),
        strict: tool.strict,
      },
    };
  }

  /**
   * Puts an extra back where it stood. False if that place is gone or taken: an extra never overrules what was decided about a call,
   * such as its model.
   */
  #place(root: Wire, path: string, value: RawJson): boolean {
    const steps = pathSteps(path);
    if (steps === undefined) return false;
    const [first, second] = steps;
    // Whole tools only: a whole message would be one that no guard has seen.
    const isTool = first === "tools" && typeof second === "number" && steps.length === 2;
    if (first === "messages" && typeof second === "number") {
      const index = this.#wireIndexes[second];
      if (index === undefined) return false;
      steps[1] = index;
    }
    let place: unknown = root;
    for (const [at, step] of steps.slice(0, -1).entries()) {
      if (typeof step === "string" && isObject(place) && !(place instanceof RawJson)) {
        if (!Object.hasOwn(place, step) || place[step] === undefined) {
          const below = steps.slice(at + 1);
          // What is not there is made, if it can be made whole: objects, or the list of tools.
          if (!below.every((next) => typeof next === "string" || (next === 0 && isTool))) return false;
          define(place, step, isTool ? [] : {});
        }
        place = place[step];
      } else if (typeof step === "number" && Array.isArray(place)) place = place[step];
      else return false;
    }
    const last = steps.at(-1);
    if (typeof last === "number" && isTool && Array.isArray(place) && last <= place.length) {
      place.splice(last, 0, value);
      return true;
    }
    if (typeof last !== "string" || !isObject(place) || place instanceof RawJson) return false;
    if (Object.hasOwn(place, last) && place[last] !== undefined) return false;
    define(place, last, value);
    return true;
  }

  /**
   * A marker for the prompt cache as a member of what it marks. Where there is no such member it is reported and never refused: the
   * answer is the same without it.
   */
  #marked(cache: CacheMarker | undefined, path: string): Marker {
    if (cache === undefined) return noMarker;
    if (this.#options.cacheMarkers === true) {
      return { cache_control: cache.ttl === "" ? { type: "ephemeral" } : { type: "ephemeral", ttl: cache.ttl } };
    }
    this.#warn(`${path}.cache`, "the API has no cache markers");
    return noMarker;
  }

  /** Reports a marker on what has no place for one. */
  #unmarkable({ cache }: Part, path: string): void {
    if (cache !== undefined) this.#warn(`${path}.cache`, "the API has no place for a cache marker here");
  }

  /** Refuses what cannot be carried, or reports it. */
  #lose(field: string, why: string): void {
    const { model, dropUnsupported } = this.#input;
    if (!dropUnsupported && !isHint(field)) {
      throw new Fault(FaultReason.PARAMETER_UNSUPPORTED, `The model ${model} cannot be given ${field}: ${why}.`, {
        field,
        facts: { model },
      });
    }
    this.#warn(field, why);
  }

  #warn(field: string, why: string): void {
    this.warnings.push({
      $typeName: "outrigger.chat.v1.Warning",
      code: "PARAMETER_DROPPED",
      field,
      message: `${field} was left out for the model ${this.#input.model}: ${why}.`,
    });
  }
}

/** A marker for the prompt cache, or nothing, to be a member of what it marks. */
type Marker = { readonly cache_control?: JsonValue };

const noMarker: Marker = Object.freeze({});

/** Adds a member whose name came from outside: an assignment to `__proto__` would do something else. */
function define(object: object, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** JSON text from a caller, embedded as it is: checked, because broken text would change the meaning of what stands around it. */
function rawJson(text: string, field: string): RawJson {
  try {
    JSON.parse(text);
  } catch {
    throw new Fault(FaultReason.REQUEST_INVALID, `Expected JSON text at ${field} and saw something else.`, { field });
  }
  return new RawJson(text);
}

function named(message: Message, wire: Wire): Wire {
  if (message.name !== "") wire.name = message.name;
  return wire;
}

/** A single text as a string, as most callers write it and every server understands it. */
function plainContent(parts: readonly JsonValue[]): JsonValue {
  if (parts.length === 0) return "";
  return parts.length === 1 ? (joinedText(parts) ?? parts) : parts;
}

/** The text of parts that are nothing but text, joined verbatim; undefined if there is anything else. */
function joinedText(parts: readonly JsonValue[]): string | undefined {
  let joined = "";
  for (const part of parts) {
    if (!isObject(part) || part.type !== "text" || typeof part.text !== "string" || part.cache_control !== undefined) return undefined;
    joined += part.text;
  }
  return joined;
}

function modeWord(mode: ToolMode, requiredWord: string): string | undefined {
  switch (mode) {
    case ToolMode.AUTO:
      return "auto";
    case ToolMode.NONE:
      return "none";
    case ToolMode.REQUIRED:
      return requiredWord;
    default:
      return undefined;
  }
}

/** JSON by schema for servers whose formats have one, and a value for it; any object is a schema, too. */
function writeJsonValueFormat({ format }: ResponseFormat): JsonValue | undefined {
  if (format.case === "jsonObject") return { type: "json", value: { type: "object" } };
  if (format.case !== "jsonSchema") return undefined;
  return { type: "json", value: rawJson(format.value.schemaJson, "response_format.json_schema.schema_json") };
}

function writeResponseFormat({ format }: ResponseFormat): JsonValue | undefined {
  switch (format.case) {
    case "text":
      return { type: "text" };
    case "jsonObject":
      return { type: "json_object" };
    case "jsonSchema": {
      const { name, description, schemaJson, strict } = format.value;
      return {
        type: "json_schema",
        json_schema: {
          // The API wants a name and does nothing with it.
          name: name === "" ? "answer" : name,
          description: description === "" ? undefined : description,
          schema: rawJson(schemaJson, "response_format.json_schema.schema_json"),
          strict,
        },
      };
    }
    default:
      return undefined;
  }
}
