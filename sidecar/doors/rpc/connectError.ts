/** Faults as the errors that Connect's generic stack takes. */
import { type Code, ConnectError } from "@connectrpc/connect";
import { type Fault, GrpcCode } from "../../../proto/fault.ts";
import { faultDetails, upTo } from "./status.ts";

/** The error that tells a caller of a fault, with all its details. `metadata` are names and values, in turn. */
export function connectErrorOf(fault: Fault, requestId: string, metadata: readonly string[]): ConnectError {
  const headers = new Headers();
  for (let index = 0; index + 1 < metadata.length; index += 2) headers.append(metadata[index] ?? "", metadata[index + 1] ?? "");
  const error = new ConnectError(upTo(messageBytesMax, fault.message), codes[fault.kind.code], headers);
  error.details = faultDetails(fault, requestId);
  return error;
}

const messageBytesMax = 1_024; // as in trailers written by hand; this stack uses one text for trailers and bodies

/** Connect has the codes of gRPC under the same numbers. */
const codes: Readonly<Record<keyof typeof GrpcCode, Code>> = GrpcCode;
