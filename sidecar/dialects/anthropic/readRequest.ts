/**
 * Requests of the Anthropic Messages API into the conversation (https://docs.anthropic.com/en/api/messages).
 *
 * What the conversation models is read and checked; what it does not becomes extras with its exact text, so that a provider of the
 * same dialect gets it back and any other one can say what it cannot carry. A member that is null says as little as one that is
 * missing.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import {
  type CacheMarker,
  type ChatRequest,
  type Extra,
  type Media,
  type Message,
  type Part,
  type ReasoningRequest,
  type ResponseFormat,
  Role,
  type Tool,
  type ToolChoice,
  ToolMode,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { decodeJson, JsonError, type JsonObject, JsonPlace, parseObject } from "../../framing/json.ts";
import type { ReadRequest } from "../dialect.ts";
import { Field } from "../field.ts";
import { extraPath } from "./extraPath.ts";
import { readSeal } from "./seal.ts";

/**
 * Reads a request body, and the header by which its beta features are asked for. `limited`: whether it must say how long the answer may
 * be, which a question that has no answer need not.
 */
export function readRequest(
  body: Uint8Array,
  header?: (name: string) => string | undefined,
  { limited }: { readonly limited: boolean } = { limited: true },
): ReadRequest {
  const { text, top } = open(body);
  const reader = new RequestReader(top);
  const request = reader.read(betasOf(header?.("anthropic-beta")), limited);
  const stream = top.member("stream");
  return {
    request,
    native: { dialect: "anthropic", text },
    streaming: stream.given && stream.boolean(),
    streamUsage: true,
  };
}

function open(body: Uint8Array): { text: string; top: Field } {
  let text: string;
  let value: JsonObject;
  try {
    text = decodeJson(body);
    value = parseObject(text);
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `The body is not a JSON object: ${caught.message} (at character ${caught.offset}).`);
  }
  return { text, top: new Field(value, JsonPlace.root(text)) };
}

/** The beta features that a caller asks for: names without blanks, in one header. */
function betasOf(header: string | undefined): string | undefined {
  if (header === undefined || header.trim() === "") return undefined;
  if (/^[A-Za-z0-9._, -]+$/.test(header)) return header;
  throw new Fault(FaultReason.REQUEST_INVALID, "anthropic-beta: expected names of letters, digits, dots and dashes, with commas between", {
    field: "anthropic-beta",
  });
}

/** As at every other door: names are kept, written to logs and looked up. */
const modelBytesMax = 512;

class RequestReader {
  readonly #top: Field;
  readonly #messages: Message[] = [];
  readonly #extras: Extra[] = [];

  constructor(top: Field) {
    this.#top = top;
  }

  read(betas: string | undefined, limited: boolean): ChatRequest {
    const top = this.#top;
    const model = top.member("model").string();
    if (model === "") throw top.member("model").broken("must not be empty");
    if (Buffer.byteLength(model) > modelBytesMax) throw top.member("model").broken(`must be at most ${modelBytesMax} bytes long`);
    const limit = top.member("max_tokens");
    const maxOutputTokens = limited || limit.given ? limit.count() : undefined;
    this.#readSystem(top.member("system"));
    this.#readMessages(top.member("messages"));
    const { tools, choice, parallel } = this.#readTools();
    const { format, effort } = this.#readOutput();
    const request: ChatRequest = {
      $typeName: "outrigger.chat.v1.ChatRequest",
      model,
      messages: this.#messages,
      tools,
      stop: top.member("stop_sequences").given
        ? top
            .member("stop_sequences")
            .elements()
            .map((stop) => stop.string())
        : [],
      logitBias: {},
      user: this.#readUser(top.member("metadata")),
      serviceTier: top.member("service_tier").given ? top.member("service_tier").string() : "",
      ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
      extras: this.#extras,
    };
    if (choice !== undefined) request.toolChoice = choice;
    if (parallel !== undefined) request.parallelToolCalls = parallel;
    if (format !== undefined) request.responseFormat = format;
    const reasoning = this.#readReasoning(top.member("thinking"), effort);
    if (reasoning !== undefined) request.reasoning = reasoning;
    if (top.member("temperature").given) request.temperature = top.member("temperature").number(0, Number.MAX_VALUE);
    if (top.member("top_p").given) request.topP = top.member("top_p").number(0, 1);
    if (top.member("top_k").given) request.topK = top.member("top_k").count();
    this.#keepRest(top, knownMembers.request, "");
    if (betas !== undefined) this.#keep("headers.", "anthropic-beta", JSON.stringify(betas));
    return request;
  }

  #readSystem(system: Field): void {
    if (!system.given || system.value === "") return;
    const message = newMessage(Role.SYSTEM);
    const at = this.#messages.push(message) - 1;
    this.#readParts(system, message, `messages[${at}].`);
  }

  #readMessages(messages: Field): void {
    const elements = messages.elements();
    if (elements.length === 0) throw messages.broken("must not be empty");
    for (const element of elements) {
      const first = this.#messages.length;
      const content = element.member("content");
      const role = element.member("role");
      switch (role.value) {
        case "user":
          this.#readUserTurn(content);
          break;
        case "assistant":
        case "system": {
          const message = newMessage(role.value === "system" ? Role.SYSTEM : Role.ASSISTANT);
          this.#messages.push(message);
          this.#readParts(content, message, `messages[${first}].`);
          break;
        }
        default:
          throw role.unknownWord('"user" or "assistant"');
      }
      this.#keepRest(element, knownMembers.message, `messages[${first}].`);
    }
  }

  /** A user's turn: each result of a tool becomes a message of its own, and what stands between them a user's message. */
  #readUserTurn(content: Field): void {
    if (typeof content.value === "string") {
      this.#messages.push(newMessage(Role.USER, [textPart(content.value)]));
      return;
    }
    let spoken: Message | undefined;
    const blocks = content.elements("a string or an array of blocks");
    for (const block of blocks) {
      if (block.member("type").value === "tool_result") {
        spoken = undefined;
        const message = newMessage(Role.TOOL);
        const at = this.#messages.push(message) - 1;
        message.parts.push(this.#readToolResult(block, `messages[${at}].parts[0].`));
        continue;
      }
      if (spoken === undefined) {
        spoken = newMessage(Role.USER);
        this.#messages.push(spoken);
      }
      const path = `messages[${this.#messages.length - 1}].parts[${spoken.parts.length}].`;
      spoken.parts.push(this.#readBlock(block, Role.USER, path));
    }
    if (blocks.length === 0) this.#messages.push(newMessage(Role.USER));
  }

  /** Content of a turn that holds no tool results. */
  #readParts(content: Field, message: Message, path: string): void {
    if (typeof content.value === "string") {
      message.parts.push(textPart(content.value));
      return;
    }
    for (const block of content.elements("a string or an array of blocks")) {
      message.parts.push(this.#readBlock(block, message.role, `${path}parts[${message.parts.length}].`));
    }
  }

  #readBlock(block: Field, role: Role, path: string): Part {
    const type = block.member("type").string();
    const only = (allowed: Role, whose: string): void => {
      if (role !== allowed) throw block.member("type").broken(`a ${type} block may only stand in ${whose} turn`);
    };
    switch (type) {
      case "text": {
        const part = this.#part(
          { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text: block.member("text").string() } },
          block,
        );
        this.#keepRest(block, knownMembers.text, path);
        return part;
      }
      case "image":
      case "document":
        return this.#readMedia(block, type, path);
      case "tool_use":
        only(Role.ASSISTANT, "an assistant's");
        return this.#readToolCall(block, path);
      case "tool_result":
        throw block.member("type").broken("a tool_result block may only stand in a user's turn");
      case "thinking": {
        only(Role.ASSISTANT, "an assistant's");
        const signature = block.member("signature");
        const seal = readSeal(signature.given ? signature.string() : "");
        this.#keepRest(block, knownMembers.thinking, path);
        const value = { ...emptyReasoning, text: block.member("thinking").string(), signature: seal.text, dialect: seal.dialect };
        return newPart({ case: "reasoning", value });
      }
      case "redacted_thinking": {
        only(Role.ASSISTANT, "an assistant's");
        const seal = readSeal(block.member("data").string());
        this.#keepRest(block, knownMembers.redacted, path);
        return newPart({ case: "reasoning", value: { ...emptyReasoning, redacted: seal.text, dialect: seal.dialect } });
      }
      default:
        return extraPart(block);
    }
  }

  /** A part with the cache marker of its block. */
  #part(content: Part["content"], block: Field): Part {
    const part = newPart(content);
    const cache = block.member("cache_control");
    if (cache.given) part.cache = readCacheMarker(cache);
    return part;
  }

  #readMedia(block: Field, kind: "image" | "document", path: string): Part {
    const source = block.member("source");
    const type = source.member("type").string();
    const media: Media = {
      $typeName: "outrigger.chat.v1.Media",
      source: { case: undefined },
      mediaType: "",
      detail: "",
      filename: "",
    };
    switch (type) {
      case "base64":
        media.source = { case: "data", value: readBase64(source.member("data")) };
        media.mediaType = source.member("media_type").string();
        break;
      case "url":
        media.source = { case: "url", value: source.member("url").string() };
        break;
      case "file":
        media.source = { case: "fileId", value: source.member("file_id").string() };
        break;
      case "text":
        if (kind === "image") return extraPart(block);
        media.source = { case: "data", value: encoder.encode(source.member("data").string()) };
        media.mediaType = source.member("media_type").given ? source.member("media_type").string() : "text/plain";
        break;
      default:
        return extraPart(block);
    }
    const title = block.member("title");
    if (kind === "document" && title.given) media.filename = title.string();
    this.#keepRest(block, kind === "image" ? knownMembers.image : knownMembers.document, path);
    this.#keepRest(source, knownMembers.source, `${path}source.`);
    return this.#part({ case: kind === "image" ? "image" : "file", value: media }, block);
  }

  #readToolCall(block: Field, path: string): Part {
    const id = block.member("id").string();
    const name = block.member("name").string();
    if (id === "") throw block.member("id").broken("must not be empty");
    if (name === "") throw block.member("name").broken("must not be empty");
    const input = block.member("input");
    input.object();
    for (const key of block.keys()) {
      if (knownMembers.toolUse.has(key)) continue;
      // The model itself called the tool: that is what a tool call is. Clients send this back with every call.
      if (key === "caller" && block.member("caller").member("type").value === "direct") continue;
      this.#keep(path, key, block.member(key).json());
    }
    const value = { $typeName: "outrigger.chat.v1.ToolCall" as const, id, name, argumentsJson: input.json() };
    return this.#part({ case: "toolCall", value }, block);
  }

  #readToolResult(block: Field, path: string): Part {
    const toolCallId = block.member("tool_use_id").string();
    if (toolCallId === "") throw block.member("tool_use_id").broken("must not be empty");
    const content = block.member("content");
    const isError = block.member("is_error");
    const parts: Part[] = [];
    if (typeof content.value === "string") parts.push(textPart(content.value));
    else if (content.given) {
      for (const inner of content.elements("a string or an array of blocks")) {
        parts.push(this.#readBlock(inner, Role.TOOL, `${path}parts[${parts.length}].`));
      }
    }
    this.#keepRest(block, knownMembers.toolResult, path);
    const value = {
      $typeName: "outrigger.chat.v1.ToolResult" as const,
      toolCallId,
      parts,
      isError: isError.given && isError.boolean(),
    };
    return this.#part({ case: "toolResult", value }, block);
  }

  /** Tools that the application runs; tools that the provider runs are its own affair and stay as they are, in their places. */
  #readTools(): { tools: Tool[]; choice: ToolChoice | undefined; parallel: boolean | undefined } {
    const field = this.#top.member("tools");
    const tools: Tool[] = [];
    const elements = field.given ? field.elements() : [];
    elements.forEach((element, index) => {
      const type = element.member("type");
      if (type.given && type.string() !== "custom") this.#keep("", `tools[${index}]`, element.json());
      else tools.push(this.#readTool(element, `tools[${index}].`));
    });
    const choice = this.#top.member("tool_choice");
    if (!choice.given) return { tools, choice: undefined, parallel: undefined };
    const disable = choice.member("disable_parallel_tool_use");
    const parallel = disable.given ? !disable.boolean() : undefined;
    this.#keepRest(choice, knownMembers.toolChoice, "tool_choice.");
    return { tools, choice: readToolChoice(choice), parallel };
  }

  #readTool(element: Field, path: string): Tool {
    const name = element.member("name").string();
    if (name === "") throw element.member("name").broken("must not be empty");
    const schema = element.member("input_schema");
    schema.object();
    const description = element.member("description");
    const strict = element.member("strict");
    const cache = element.member("cache_control");
    const tool: Tool = {
      $typeName: "outrigger.chat.v1.Tool",
      name,
      description: description.given ? description.string() : "",
      parametersJson: schema.json(),
    };
    if (strict.given) tool.strict = strict.boolean();
    if (cache.given) tool.cache = readCacheMarker(cache);
    this.#keepRest(element, knownMembers.tool, path);
    return tool;
  }

  /** The form of the answer stands in `output_config` today and stood in `output_format` before. */
  #readOutput(): { format: ResponseFormat | undefined; effort: Field | undefined } {
    const config = this.#top.member("output_config");
    const older = this.#top.member("output_format");
    let format: ResponseFormat | undefined;
    let effort: Field | undefined;
    if (config.given) {
      if (config.member("format").given) format = this.#readFormat(config.member("format"), "output_config.", "format");
      if (config.member("effort").given) effort = config.member("effort");
      this.#keepRest(config, knownMembers.outputConfig, "output_config.");
    }
    if (older.given) {
      if (format === undefined) format = this.#readFormat(older, "", "output_format");
      else this.#keep("", "output_format", older.json());
    }
    return { format, effort };
  }

  #readFormat(format: Field, container: string, member: string): ResponseFormat | undefined {
    if (format.member("type").string() !== "json_schema") {
      this.#keep(container, member, format.json());
      return undefined;
    }
    format.member("schema").object();
    this.#keepRest(format, knownMembers.format, "output_config.format.");
    const value = {
      $typeName: "outrigger.chat.v1.JsonSchemaFormat" as const,
      name: "",
      description: "",
      schemaJson: format.member("schema").json(),
    };
    return { $typeName: "outrigger.chat.v1.ResponseFormat", format: { case: "jsonSchema", value } };
  }

  #readReasoning(thinking: Field, effort: Field | undefined): ReasoningRequest | undefined {
    const word = effort?.string();
    const byEffort: ReasoningRequest["amount"] = word === undefined ? { case: undefined } : { case: "effort", value: word };
    if (!thinking.given) {
      // Effort alone says how thorough the answer is to be, and does not ask for thinking.
      return effort === undefined ? undefined : { $typeName: "outrigger.chat.v1.ReasoningRequest", amount: byEffort, thinking: false };
    }
    this.#keepRest(thinking, knownMembers.thinkingConfig, "thinking.");
    const type = thinking.member("type");
    switch (type.value) {
      case "enabled":
        if (word !== undefined) this.#keep("output_config.", "effort", JSON.stringify(word));
        return {
          $typeName: "outrigger.chat.v1.ReasoningRequest",
          amount: { case: "budgetTokens", value: thinking.member("budget_tokens").count() },
        };
      case "adaptive":
        return { $typeName: "outrigger.chat.v1.ReasoningRequest", amount: byEffort };
      case "disabled":
        if (word !== undefined) return { $typeName: "outrigger.chat.v1.ReasoningRequest", amount: byEffort, thinking: false };
        return { $typeName: "outrigger.chat.v1.ReasoningRequest", amount: { case: "effort", value: "none" } };
      default:
        throw type.unknownWord('"enabled", "adaptive" or "disabled"');
    }
  }

  #readUser(metadata: Field): string {
    if (!metadata.given) return "";
    const user = metadata.member("user_id");
    this.#keepRest(metadata, knownMembers.metadata, "metadata.");
    return user.given ? user.string() : "";
  }

  #keepRest(field: Field, known: ReadonlySet<string>, container: string): void {
    for (const key of field.keys()) if (!known.has(key)) this.#keep(container, key, field.member(key).json());
  }

  #keep(container: string, member: string, json: string): void {
    const path = member.startsWith("tools[") && container === "" ? member : extraPath(container, member);
    this.#extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "anthropic", path, json });
  }
}

function readToolChoice(choice: Field): ToolChoice {
  const type = choice.member("type");
  const mode = toolModes.get(type.string());
  if (mode !== undefined) return { $typeName: "outrigger.chat.v1.ToolChoice", choice: { case: "mode", value: mode } };
  if (type.value !== "tool") throw type.unknownWord('"auto", "any", "tool" or "none"');
  const name = choice.member("name").string();
  if (name === "") throw choice.member("name").broken("must not be empty");
  return { $typeName: "outrigger.chat.v1.ToolChoice", choice: { case: "tool", value: name } };
}

function readCacheMarker(cache: Field): CacheMarker {
  if (cache.member("type").value !== "ephemeral") throw cache.member("type").unknownWord('"ephemeral"');
  const ttl = cache.member("ttl");
  return { $typeName: "outrigger.chat.v1.CacheMarker", ttl: ttl.given ? ttl.string() : "" };
}

function readBase64(field: Field): Uint8Array {
  const text = field.string();
  const bytes = Buffer.from(text, "base64");
  // The decoder skips what is no base64 and also takes the alphabet for addresses, so the length tells whether all of it was read.
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const whole = text.length % 4 === 0 && bytes.length === (text.length / 4) * 3 - padding;
  if (!whole || text.includes("-") || text.includes("_")) throw field.broken("expected base64 with its padding");
  return bytes;
}

function newMessage(role: Role, parts: Part[] = []): Message {
  return { $typeName: "outrigger.chat.v1.Message", role, parts, name: "" };
}

function newPart(content: Part["content"]): Part {
  return { $typeName: "outrigger.chat.v1.Part", content };
}

function textPart(text: string): Part {
  return newPart({ case: "text", value: { $typeName: "outrigger.chat.v1.Text", text } });
}

/** A block that only this dialect knows, whole. */
function extraPart(block: Field): Part {
  return newPart({
    case: "extra",
    value: { $typeName: "outrigger.chat.v1.Extra", dialect: "anthropic", path: "content", json: block.json() },
  });
}

const emptyReasoning = { $typeName: "outrigger.chat.v1.Reasoning" as const, text: "", signature: "", redacted: "", dialect: "" };

const encoder = new TextEncoder();

const toolModes: ReadonlyMap<string, ToolMode> = new Map([
  ["auto", ToolMode.AUTO],
  ["any", ToolMode.REQUIRED],
  ["none", ToolMode.NONE],
]);

/** The members of each kind of object that the conversation models; all others are extras. */
const knownMembers = {
  request: new Set([
    "model",
    "messages",
    "max_tokens",
    "system",
    "tools",
    "tool_choice",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "thinking",
    "output_config",
    "output_format",
    "service_tier",
    "stream",
  ]),
  message: new Set(["role", "content"]),
  text: new Set(["type", "text", "cache_control"]),
  image: new Set(["type", "source", "cache_control"]),
  document: new Set(["type", "source", "title", "cache_control"]),
  source: new Set(["type", "data", "media_type", "url", "file_id"]),
  toolUse: new Set(["type", "id", "name", "input", "cache_control"]),
  toolResult: new Set(["type", "tool_use_id", "content", "is_error", "cache_control"]),
  thinking: new Set(["type", "thinking", "signature"]),
  redacted: new Set(["type", "data"]),
  tool: new Set(["type", "name", "description", "input_schema", "strict", "cache_control"]),
  toolChoice: new Set(["type", "name", "disable_parallel_tool_use"]),
  metadata: new Set(["user_id"]),
  thinkingConfig: new Set(["type", "budget_tokens"]),
  outputConfig: new Set(["format", "effort"]),
  format: new Set(["type", "schema"]),
} as const;
