/**
 * Checks a conversation against the rules that stand in `outrigger/chat/v1/conversation.proto`.
 *
 * Written by hand because every call passes here: interpreting the rules costs more than all the rest of a door. A property test
 * compares it with protovalidate, which reads the rules themselves, so the two cannot drift apart.
 */
import type { FieldViolation } from "./fault.ts";
import type {
  ChatRequest,
  Extra,
  Media,
  Message,
  Part,
  ResponseFormat,
  Tool,
  ToolCall,
  ToolChoice,
  ToolResult,
} from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { Role, ToolMode } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { utf8Length } from "./utf8.ts";

/** A request can break a rule in each of a million places; nobody reads more than the first few. */
const violationsMax = 16;

/**
 * The rules that a request breaks, the first 16 at most, or none. `at` is the path of the request itself, such as `chat`; a request
 * that is not there breaks the rule that it must be.
 */
export function validateChat(request: ChatRequest | undefined, at: string): readonly FieldViolation[] {
  if (request === undefined) return [{ field: at, message: "is required" }];
  const found = new Found();
  checkRequest(found, at, request);
  return found.violations ?? none;
}

const none: readonly FieldViolation[] = Object.freeze([]);

/** What was found so far; holds nothing as long as all is well. */
class Found {
  violations: FieldViolation[] | undefined;

  get full(): boolean {
    return this.violations !== undefined && this.violations.length >= violationsMax;
  }

  add(field: string, message: string): void {
    if (this.violations === undefined) this.violations = [{ field, message }];
    else if (!this.full) this.violations.push({ field, message });
  }
}

function checkRequest(found: Found, at: string, request: ChatRequest): void {
  if (!lengthWithin(request.model, 1, 512)) found.add(`${at}.model`, bytesRule(1, 512));
  const { messages, tools, extras } = request;
  if (messages.length < 1) found.add(`${at}.messages`, "must have at least one message");
  else if (messages.length > 16_384) found.add(`${at}.messages`, countRule(16_384));
  for (let index = 0; index < messages.length && !found.full; index++) {
    checkMessage(found, at, index, messages[index] as Message);
  }
  if (tools.length > 1_024) found.add(`${at}.tools`, countRule(1_024));
  for (let index = 0; index < tools.length && !found.full; index++) checkTool(found, at, index, tools[index] as Tool);
  if (request.toolChoice !== undefined) checkToolChoice(found, at, request.toolChoice);
  if (request.responseFormat !== undefined) checkResponseFormat(found, at, request.responseFormat);
  if (request.maxOutputTokens !== undefined && request.maxOutputTokens < 0n) found.add(`${at}.max_output_tokens`, notNegative);
  // Written so that NaN, which is below no number and above none, breaks the rules too.
  const { temperature, topP } = request;
  if (temperature !== undefined && !(temperature >= 0 && temperature < Number.POSITIVE_INFINITY)) {
    found.add(`${at}.temperature`, "must be a finite number and not negative");
  }
  if (topP !== undefined && !(topP >= 0 && topP <= 1)) found.add(`${at}.top_p`, "must be between 0 and 1");
  if (request.topK !== undefined && request.topK < 0n) found.add(`${at}.top_k`, notNegative);
  if (request.stop.length > 64) found.add(`${at}.stop`, countRule(64));
  if (request.n !== undefined && (request.n < 1 || request.n > 128)) found.add(`${at}.n`, "must be between 1 and 128");
  if (request.presencePenalty !== undefined && !Number.isFinite(request.presencePenalty)) found.add(`${at}.presence_penalty`, finite);
  if (request.frequencyPenalty !== undefined && !Number.isFinite(request.frequencyPenalty)) found.add(`${at}.frequency_penalty`, finite);
  if (moreKeysThan(request.logitBias, 1_024)) found.add(`${at}.logit_bias`, countRule(1_024));
  const top = request.logprobs?.top ?? 0;
  if (top < 0 || top > 20) found.add(`${at}.logprobs.top`, "must be between 0 and 20");
  const amount = request.reasoning?.amount;
  if (amount?.case === "effort" && !lengthWithin(amount.value, 0, 32)) found.add(`${at}.reasoning.effort`, bytesRule(0, 32));
  if (amount?.case === "budgetTokens" && amount.value < 0n) found.add(`${at}.reasoning.budget_tokens`, notNegative);
  if (!lengthWithin(request.user, 0, 1_024)) found.add(`${at}.user`, bytesRule(0, 1_024));
  if (!lengthWithin(request.serviceTier, 0, 64)) found.add(`${at}.service_tier`, bytesRule(0, 64));
  if (extras.length > 1_024) found.add(`${at}.extras`, countRule(1_024));
  for (let index = 0; index < extras.length && !found.full; index++) {
    const extra = extras[index] as Extra;
    if (!extraFits(extra)) explainExtra(found, `${at}.extras[${index}]`, extra);
  }
}

function checkMessage(found: Found, at: string, index: number, message: Message): void {
  const { role, parts, name } = message;
  if (role < Role.SYSTEM || role > Role.TOOL) found.add(`${at}.messages[${index}].role`, "must be one of the roles, and not unspecified");
  if (parts.length > 4_096) found.add(`${at}.messages[${index}].parts`, countRule(4_096));
  for (let part = 0; part < parts.length && !found.full; part++) {
    const checked = parts[part] as Part;
    if (!partFits(checked)) explainPart(found, `${at}.messages[${index}].parts[${part}]`, checked);
  }
  if (!lengthWithin(name, 0, 256)) found.add(`${at}.messages[${index}].name`, bytesRule(0, 256));
}

/** Whether a part breaks no rule; paths are made only for those that do. */
function partFits(part: Part): boolean {
  const { content } = part;
  if (part.cache !== undefined && !lengthWithin(part.cache.ttl, 0, 16)) return false;
  switch (content.case) {
    case "text":
    case "refusal":
      return true;
    case "image":
    case "audio":
    case "file":
      return mediaFits(content.value);
    case "toolCall":
      return lengthWithin(content.value.id, 1, 4_096) && lengthWithin(content.value.name, 1, 256);
    case "toolResult": {
      const { toolCallId, parts } = content.value;
      if (!lengthWithin(toolCallId, 1, 4_096) || parts.length > 1_024) return false;
      for (const inner of parts) if (!partFits(inner)) return false;
      return true;
    }
    case "reasoning":
      return lengthWithin(content.value.dialect, 0, 64);
    case "extra":
      return extraFits(content.value);
    case undefined:
      return false;
  }
}

function explainPart(found: Found, at: string, part: Part): void {
  const { content } = part;
  switch (content.case) {
    case "image":
    case "audio":
    case "file":
      explainMedia(found, `${at}.${content.case}`, content.value);
      break;
    case "toolCall":
      explainToolCall(found, `${at}.tool_call`, content.value);
      break;
    case "toolResult":
      explainToolResult(found, `${at}.tool_result`, content.value);
      break;
    case "reasoning":
      if (!lengthWithin(content.value.dialect, 0, 64)) found.add(`${at}.reasoning.dialect`, bytesRule(0, 64));
      break;
    case "extra":
      explainExtra(found, `${at}.extra`, content.value);
      break;
    case undefined:
      found.add(`${at}.content`, "must be one of text, image, audio, file, tool_call, tool_result, reasoning, refusal, extra");
      break;
    case "text":
    case "refusal":
      break;
  }
  if (part.cache !== undefined && !lengthWithin(part.cache.ttl, 0, 16)) found.add(`${at}.cache.ttl`, bytesRule(0, 16));
}

function explainToolCall(found: Found, at: string, call: ToolCall): void {
  if (!lengthWithin(call.id, 1, 4_096)) found.add(`${at}.id`, bytesRule(1, 4_096));
  if (!lengthWithin(call.name, 1, 256)) found.add(`${at}.name`, bytesRule(1, 256));
}

function explainToolResult(found: Found, at: string, result: ToolResult): void {
  if (!lengthWithin(result.toolCallId, 1, 4_096)) found.add(`${at}.tool_call_id`, bytesRule(1, 4_096));
  if (result.parts.length > 1_024) found.add(`${at}.parts`, countRule(1_024));
  for (let index = 0; index < result.parts.length && !found.full; index++) {
    const inner = result.parts[index] as Part;
    if (!partFits(inner)) explainPart(found, `${at}.parts[${index}]`, inner);
  }
}

function mediaFits(media: Media): boolean {
  return (
    media.source.case !== undefined &&
    lengthWithin(media.mediaType, 0, 128) &&
    lengthWithin(media.detail, 0, 16) &&
    lengthWithin(media.filename, 0, 512)
  );
}

function explainMedia(found: Found, at: string, media: Media): void {
  if (media.source.case === undefined) found.add(`${at}.source`, "must be one of url, data, file_id");
  if (!lengthWithin(media.mediaType, 0, 128)) found.add(`${at}.media_type`, bytesRule(0, 128));
  if (!lengthWithin(media.detail, 0, 16)) found.add(`${at}.detail`, bytesRule(0, 16));
  if (!lengthWithin(media.filename, 0, 512)) found.add(`${at}.filename`, bytesRule(0, 512));
}

function extraFits(extra: Extra): boolean {
  return lengthWithin(extra.dialect, 1, 64) && lengthWithin(extra.path, 0, 1_024);
}

function explainExtra(found: Found, at: string, extra: Extra): void {
  if (!lengthWithin(extra.dialect, 1, 64)) found.add(`${at}.dialect`, bytesRule(1, 64));
  if (!lengthWithin(extra.path, 0, 1_024)) found.add(`${at}.path`, bytesRule(0, 1_024));
}

function checkTool(found: Found, at: string, index: number, tool: Tool): void {
  if (!lengthWithin(tool.name, 1, 256)) found.add(`${at}.tools[${index}].name`, bytesRule(1, 256));
  if (tool.cache !== undefined && !lengthWithin(tool.cache.ttl, 0, 16)) found.add(`${at}.tools[${index}].cache.ttl`, bytesRule(0, 16));
}

function checkToolChoice(found: Found, at: string, { choice }: ToolChoice): void {
  switch (choice.case) {
    case "mode":
      if (choice.value < ToolMode.UNSPECIFIED || choice.value > ToolMode.REQUIRED) {
        found.add(`${at}.tool_choice.mode`, "must be one of the modes");
      }
      break;
    case "tool":
      if (!lengthWithin(choice.value, 1, 256)) found.add(`${at}.tool_choice.tool`, bytesRule(1, 256));
      break;
    case undefined:
      found.add(`${at}.tool_choice.choice`, "must be one of mode, tool");
      break;
  }
}

function checkResponseFormat(found: Found, at: string, { format }: ResponseFormat): void {
  switch (format.case) {
    case "jsonSchema":
      if (!lengthWithin(format.value.name, 0, 256)) found.add(`${at}.response_format.json_schema.name`, bytesRule(0, 256));
      if (format.value.schemaJson === "") found.add(`${at}.response_format.json_schema.schema_json`, "must not be empty");
      break;
    case "text":
    case "jsonObject":
      break;
    case undefined:
      found.add(`${at}.response_format.format`, "must be one of text, json_object, json_schema");
      break;
  }
}

const notNegative = "must not be negative";
const finite = "must be a finite number";

function countRule(max: number): string {
  return `must have at most ${max} items`;
}

function bytesRule(min: number, max: number): string {
  return min === 0 ? `must be at most ${max} bytes long` : `must be ${min} to ${max} bytes long`;
}

/** Whether a text is from `min` to `max` bytes long as UTF-8. A character is one to three bytes a unit, so most are not counted. */
function lengthWithin(text: string, min: number, max: number): boolean {
  const units = text.length;
  if (units < min) return false;
  if (units * 3 <= max) return true;
  return units <= max && utf8Length(text) <= max;
}

function moreKeysThan(map: Readonly<Record<string, unknown>>, max: number): boolean {
  let count = 0;
  for (const _ in map) if (++count > max) return true;
  return false;
}
