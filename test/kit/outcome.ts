/** How a call ended that was made byte by byte, whatever protocol it was made in. */
import { expect } from "vitest";
import { reasonIn } from "./rpc.ts";
import type { WholeAnswer } from "./sockets.ts";

/** How an answer of any wire went. */
export function outcomeOf(answer: WholeAnswer): { code: number; reason: string | undefined } {
  const { headers, trailers, body } = answer;
  expect(answer.status).toBe(200);
  const contentType = headers["content-type"] ?? "";
  if (contentType.startsWith("application/connect")) {
    const error = body.lastIndexOf('{"error":');
    const end = JSON.parse(body.slice(error === -1 ? body.lastIndexOf("{") : error));
    if (end.error === undefined) return { code: 0, reason: undefined };
    const info = end.error.details?.find(({ type }: { type: string }) => type === "google.rpc.ErrorInfo");
    return { code: connectCodes.indexOf(end.error.code), reason: info?.debug.reason };
  }
  const lines = contentType.startsWith("application/grpc-web") ? body.slice(body.indexOf("grpc-status")) : "";
  const read = (name: string): string | undefined =>
    lines === "" ? String(trailers[name] ?? headers[name] ?? "") : new RegExp(`${name}: (.*)\r\n`).exec(lines)?.[1];
  return { code: Number(read("grpc-status")), reason: reasonIn(Buffer.from(read("grpc-status-details-bin") ?? "", "base64")) };
}

const connectCodes = [
  "ok",
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
];
