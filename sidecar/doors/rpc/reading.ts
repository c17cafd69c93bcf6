/**
 * What both ways of answering do with a request before its message is decoded, and how they refuse it.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { House } from "../../call.ts";
import type { Exchange } from "../exchange.ts";
import type { Refusal } from "../pump.ts";
import { compressionNames } from "./compression.ts";
import { compressedFlag, type Envelope, onlyMessage } from "./envelope.ts";
import { answerMetadata } from "./metadata.ts";
import { connectErrorJson, connectHttpStatus } from "./status.ts";
import { connectTimeoutMs, grpcTimeoutMs } from "./timeout.ts";
import type { Wire } from "./wire.ts";

/** How long the caller waits, in milliseconds; `Infinity` if it does not say. Throws `REQUEST_INVALID` for what is no timeout. */
export function timeoutOf(exchange: Exchange, wire: Wire | undefined): number {
  if (wire?.timeoutHeader === "grpc-timeout") return grpcTimeoutMs(exchange.header("grpc-timeout"));
  return connectTimeoutMs(exchange.header("connect-timeout-ms"));
}

/** How the request's messages are compressed, `identity` if they are not. Throws `ENCODING_UNSUPPORTED` for what nobody here can undo. */
export function encodingOf(exchange: Exchange, wire: Wire): string {
  const encoding = exchange.header(wire.encodingHeader)?.trim() ?? "";
  if (encoding === "" || encoding === "identity") return "identity";
  if (compressionNames.includes(encoding)) return encoding;
  const seen = encoding.slice(0, 100);
  throw new Fault(
    FaultReason.ENCODING_UNSUPPORTED,
    `The request's ${wire.encodingHeader} is '${seen}'; ${compressionNames.join(", ")} and identity are understood.`,
    { facts: { [wire.encodingHeader.replaceAll("-", "_")]: seen } },
  );
}

/**
 * The one message of a request, still encoded and possibly compressed. Throws for a body that is not exactly one message; see
 * `onlyMessage`. `encoding` is what the request says of its messages.
 */
export function requestMessage(wire: Wire, encoding: string, body: Uint8Array, bytesMax: number): Envelope {
  if (!wire.enveloped) return { flags: encoding === "identity" ? 0 : compressedFlag, message: body };
  const envelope = onlyMessage(body, bytesMax);
  if ((envelope.flags & compressedFlag) !== 0 && encoding === "identity") {
    throw new Fault(
      FaultReason.REQUEST_INVALID,
      `The request's message says that it is compressed, and no ${wire.encodingHeader} says how.`,
      { field: wire.encodingHeader },
    );
  }
  return envelope;
}

/** Refuses a request that never became a call. `more` are further headers, names and values in turn. */
export function refuse(house: House, exchange: Exchange, wire: Wire | undefined, id: string, fault: Fault): void {
  house.refused(wire?.door ?? "connect", id, fault);
  const metadata = [...answerMetadata(id, undefined)];
  // Tells a caller which compression it may use instead (gRPC's compression.md; Connect's protocol likewise).
  if (fault.reason === FaultReason.ENCODING_UNSUPPORTED && wire !== undefined) {
    metadata.push(
      wire.encodingHeader.replace("content-encoding", "accept-encoding").replace("grpc-", "grpc-accept-"),
      compressionNames.join(","),
    );
  }
  const refusal = wire === undefined ? plainRefusal(fault, id, metadata) : wire.refuse(fault, id, metadata);
  exchange.head(refusal.status, refusal.headers);
  exchange.end(refusal.data, refusal.trailers);
}

/** A refusal under an HTTP status of its own, for requests whose content type does not say how to tell it otherwise. */
export function plainRefusal(fault: Fault, id: string, metadata: readonly string[]): Refusal {
  return {
    status: connectHttpStatus(fault.kind.code),
    headers: ["content-type", "application/json", ...metadata],
    data: connectErrorJson(fault, id),
  };
}
