/** Whether a caller's own request can go to an endpoint as it came, or must be written anew because the endpoint knows less. */
import { type ChatRequest, type Message, Role, ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { strictNames, toolNames } from "../toolNames.ts";
import type { OpenAiOptions } from "./options.ts";
import { toolCallIds } from "./toolCallIds.ts";

/** The path of thinking, in another form than its text, that stands in a message because it stood in an answer. */
export const givenBack = /^messages\[\d+\]\.reasoning(_details)?$/;

/** Whether nothing in a request of this dialect has to be said otherwise to an endpoint. The names of top-level members aside. */
export function isPassable(request: ChatRequest, options: OpenAiOptions): boolean {
  if (options.strictMembers === true) return false;
  const { thinking = "reasoning_content", toolChoice = "named", requiredWord = "required", toolCallIdLength = 0 } = options;
  if (options.seedField === "random_seed" && request.seed !== undefined) return false;
  if (options.jsonForm === "value" && request.responseFormat !== undefined) return false;
  if (options.wholeTopP === false && request.topP !== undefined && request.topP >= 1) return false;
  if (options.reasoningEfforts !== undefined && request.reasoning !== undefined) return false;
  const choice = request.toolChoice?.choice;
  if (choice !== undefined) {
    if (toolChoice === "none" || (toolChoice === "modes" && choice.case === "tool")) return false;
    if (requiredWord !== "required" && choice.value === ToolMode.REQUIRED) return false;
  }
  if (options.cacheMarkers !== true && request.tools.some(({ cache }) => cache !== undefined)) return false;
  if (toolCallIdLength > 0 && toolCallIds(request, toolCallIdLength).size > 0) return false;
  if (options.freeToolNames !== true && toolNames(request, strictNames).sent.size > 0) return false;
  if (thinking === "none" && request.extras.some(({ path }) => givenBack.test(path))) return false;
  let afterTool = false;
  for (const message of request.messages) {
    if (options.userAfterTool === false && afterTool && message.role !== Role.ASSISTANT && message.role !== Role.TOOL) return false;
    afterTool = message.role === Role.TOOL;
    if (message.role === Role.DEVELOPER && !options.developerRole) return false;
    if (!partsPass(message, thinking, options.cacheMarkers === true)) return false;
  }
  return true;
}

function partsPass({ role, parts }: Message, thinking: NonNullable<OpenAiOptions["thinking"]>, cacheMarkers: boolean): boolean {
  for (const { content, cache } of parts) {
    if (cache !== undefined && !cacheMarkers) return false;
    if (content.case === "toolResult") {
      if (!cacheMarkers && content.value.parts.some((part) => part.cache !== undefined)) return false;
    } else if (content.case === "reasoning" && role === Role.ASSISTANT) {
      // Thinking of another dialect stands in a member that only we know, and providers refuse what they do not know.
      if (content.value.dialect !== "openai" || thinking !== "reasoning_content") return false;
    }
  }
  return true;
}
