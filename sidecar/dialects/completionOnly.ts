/** What a server that only completes text cannot do, whatever its form: refused by name, or reported. */
import { type ChatRequest, ToolMode } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Report } from "./report.ts";

/** Reports what of a request needs more than text in and text out. Values that mean what happens anyway need no word. */
export function refuseChatOnly(request: ChatRequest, report: Report): void {
  const choice = request.toolChoice?.choice;
  const mayCall = choice?.value !== ToolMode.NONE;
  if (request.tools.length > 0 && mayCall) report.unsupported("tools");
  if (choice?.case === "tool" || choice?.value === ToolMode.REQUIRED) report.unsupported("tool_choice");
  if (request.reasoning !== undefined) report.unsupported("reasoning");
  if (request.n !== undefined && request.n !== 1) report.unsupported("n");
  if (request.user !== "") report.dropped("user", "This provider has no place for the name of a user.");
  if (request.serviceTier !== "") report.unsupported("service_tier");
}
