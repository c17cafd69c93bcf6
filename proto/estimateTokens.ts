/**
 * How many tokens a conversation is likely to have, for models that nobody can ask. No vocabulary is the same, so this is right to about a
 * third for prose and code, and always says the same of the same conversation.
 */
import type { ChatRequest, Part } from "./gen/outrigger/chat/v1/conversation_pb.ts";
import { utf8Length } from "./utf8.ts";

/** The likely number of input tokens, at least 1. */
export function estimateTokens(request: ChatRequest): number {
  let tokens = 0;
  for (const { parts, name } of request.messages) {
    tokens += messageTokens + tokensOf(name);
    for (const part of parts) tokens += partTokens(part);
  }
  for (const { name, description, parametersJson } of request.tools) {
    tokens += toolTokens + tokensOf(name) + tokensOf(description) + tokensOf(parametersJson);
  }
  const format = request.responseFormat?.format;
  if (format?.case === "jsonSchema") tokens += tokensOf(format.value.schemaJson);
  return Math.max(1, Math.ceil(tokens));
}

/** What models put around a turn and around a tool; vendors' own examples come to about these. */
const messageTokens = 4;
const toolTokens = 12;
/** A picture of usual size at the usual detail; a page or two of a document, a minute of sound. */
const mediaTokens = 1_000;

function partTokens({ content }: Part): number {
  switch (content.case) {
    case "text":
    case "reasoning":
    case "refusal":
      return tokensOf(content.value.text);
    case "image":
    case "audio":
    case "file":
      return mediaTokens;
    case "toolCall":
      return tokensOf(content.value.name) + tokensOf(content.value.argumentsJson);
    case "toolResult": {
      let tokens = 0;
      for (const part of content.value.parts) tokens += partTokens(part);
      return tokens;
    }
    case "extra":
      return tokensOf(content.value.json);
    case undefined:
      return 0;
  }
}

/** Four letters of ASCII make about one token; of other scripts three bytes do, which is one sign of Chinese. */
function tokensOf(text: string): number {
  let ascii = 0;
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) < 0x80) ascii++;
  return ascii / 4 + (utf8Length(text) - ascii) / 3;
}
