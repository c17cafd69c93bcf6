/**
 * The wires that RPC callers speak, as far as they differ: how an answer begins, how a message is wrapped, how it ends well or badly.
 *
 * A wire is chosen once, by the request's content type; everything in it that is the same for every answer is made when the door is.
 */
import type { Fault } from "../../../proto/fault.ts";
import type { DoorName } from "../../call.ts";
import type { AnswerHead, AnswerTail, Refusal } from "../pump.ts";
import { connectEndFlag, webTrailersFlag, wrapText } from "./envelope.ts";
import { connectEndJson, connectErrorJson, connectHttpStatus, faultTrailers, okTrailers } from "./status.ts";

/** How one protocol, in one codec, puts messages on HTTP. */
export interface Wire {
  readonly door: DoorName;
  /** Whether messages are JSON; otherwise they are protobuf's bytes. */
  readonly json: boolean;
  /** Whether messages stand in envelopes; otherwise one message is the whole body. */
  readonly enveloped: boolean;
  /** Which methods may be called so: Connect has a content type of its own for each kind. */
  readonly takes: "unary" | "stream" | "both";
  /** The headers that say how long the caller waits, and how its messages are compressed. */
  readonly timeoutHeader: "grpc-timeout" | "connect-timeout-ms";
  readonly encodingHeader: "grpc-encoding" | "connect-content-encoding" | "content-encoding";
  /** The head of an answer that succeeds so far. `metadata` are names in lower case and values, in turn. */
  head(metadata: readonly string[]): AnswerHead;
  /** The end of an answer that succeeded; `last` are bytes still to be sent. */
  end(last: Uint8Array | string | undefined): AnswerTail;
  /** An answer that never began. */
  refuse(fault: Fault, requestId: string, metadata: readonly string[]): Refusal;
  /** An answer that fails after it began. */
  fail(fault: Fault, requestId: string): AnswerTail;
}

/** All wires by the media type of a request, in lower case and without parameters. gRPC-Web's base64 form is not one; see `webText.ts`. */
export function allWires(): ReadonlyMap<string, Wire> {
  return new Map<string, Wire>([
    ["application/grpc", new GrpcWire("application/grpc", false)],
    ["application/grpc+proto", new GrpcWire("application/grpc+proto", false)],
    ["application/grpc+json", new GrpcWire("application/grpc+json", true)],
    ["application/grpc-web", new WebWire("application/grpc-web", false)],
    ["application/grpc-web+proto", new WebWire("application/grpc-web+proto", false)],
    ["application/grpc-web+json", new WebWire("application/grpc-web+json", true)],
    ["application/connect+proto", new ConnectStreamWire("application/connect+proto", false)],
    ["application/connect+json", new ConnectStreamWire("application/connect+json", true)],
    ["application/proto", new ConnectUnaryWire("application/proto", false)],
    ["application/json", new ConnectUnaryWire("application/json", true)],
  ]);
}

/** The media type of a content type: in lower case, without parameters. */
export function mediaType(contentType: string | undefined): string {
  if (contentType === undefined) return "";
  const end = contentType.indexOf(";");
  return (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/** gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): the status comes as trailers. */
class GrpcWire implements Wire {
  readonly door = "grpc";
  readonly json: boolean;
  readonly enveloped = true;
  readonly takes = "both";
  readonly timeoutHeader = "grpc-timeout";
  readonly encodingHeader = "grpc-encoding";
  readonly #headers: readonly string[];

  constructor(contentType: string, json: boolean) {
    this.json = json;
    this.#headers = ["content-type", contentType];
  }

  head(metadata: readonly string[]): AnswerHead {
    return { status: 200, headers: [...this.#headers, ...metadata], trailing: true };
  }

  end(last: Uint8Array | string | undefined): AnswerTail {
    return { data: last, trailers: okTrailers };
  }

  refuse(fault: Fault, requestId: string, metadata: readonly string[]): Refusal {
    // "Trailers-Only": headers and trailers in one block, which ends the stream.
    return { status: 200, headers: [...this.#headers, ...metadata, ...faultTrailers(fault, requestId)] };
  }

  fail(fault: Fault, requestId: string): AnswerTail {
    return { trailers: faultTrailers(fault, requestId) };
  }
}

/** gRPC-Web (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): the trailers come as the last piece of the body. */
class WebWire implements Wire {
  readonly door = "grpc-web";
  readonly json: boolean;
  readonly enveloped = true;
  readonly takes = "both";
  readonly timeoutHeader = "grpc-timeout";
  readonly encodingHeader = "grpc-encoding";
  readonly #headers: readonly string[];
  readonly #ok = headerLines(okTrailers);

  constructor(contentType: string, json: boolean) {
    this.json = json;
    this.#headers = ["content-type", contentType];
  }

  head(metadata: readonly string[]): AnswerHead {
    return { status: 200, headers: [...this.#headers, ...metadata] };
  }

  end(last: Uint8Array | string | undefined): AnswerTail {
    return { data: last === undefined ? this.#ok : Buffer.concat([typeof last === "string" ? Buffer.from(last) : last, this.#ok]) };
  }

  refuse(fault: Fault, requestId: string, metadata: readonly string[]): Refusal {
    // Not as headers, which a page may not see unless CORS names every one of them.
    return { status: 200, headers: [...this.#headers, ...metadata], data: headerLines(faultTrailers(fault, requestId)) };
  }

  fail(fault: Fault, requestId: string): AnswerTail {
    return { data: headerLines(faultTrailers(fault, requestId)) };
  }
}

/** Connect's streams (https://connectrpc.com/docs/protocol): always 200, and the last envelope says how it went. */
class ConnectStreamWire implements Wire {
  readonly door = "connect";
  readonly json: boolean;
  readonly enveloped = true;
  readonly takes = "stream";
  readonly timeoutHeader = "connect-timeout-ms";
  readonly encodingHeader = "connect-content-encoding";
  readonly #headers: readonly string[];
  readonly #ok = wrapText(connectEndFlag, connectEndJson(undefined, ""));

  constructor(contentType: string, json: boolean) {
    this.json = json;
    this.#headers = ["content-type", contentType];
  }

  head(metadata: readonly string[]): AnswerHead {
    return { status: 200, headers: [...this.#headers, ...metadata] };
  }

  end(last: Uint8Array | string | undefined): AnswerTail {
    return { data: last === undefined ? this.#ok : Buffer.concat([typeof last === "string" ? Buffer.from(last) : last, this.#ok]) };
  }

  refuse(fault: Fault, requestId: string, metadata: readonly string[]): Refusal {
    return { status: 200, headers: [...this.#headers, ...metadata], data: wrapText(connectEndFlag, connectEndJson(fault, requestId)) };
  }

  fail(fault: Fault, requestId: string): AnswerTail {
    return { data: wrapText(connectEndFlag, connectEndJson(fault, requestId)) };
  }
}

/** Connect's unary calls: the message is the body, and a fault is JSON under an HTTP status of its own. */
class ConnectUnaryWire implements Wire {
  readonly door = "connect";
  readonly json: boolean;
  readonly enveloped = false;
  readonly takes = "unary";
  readonly timeoutHeader = "connect-timeout-ms";
  readonly encodingHeader = "content-encoding";
  readonly #headers: readonly string[];

  constructor(contentType: string, json: boolean) {
    this.json = json;
    this.#headers = ["content-type", contentType];
  }

  head(metadata: readonly string[]): AnswerHead {
    return { status: 200, headers: [...this.#headers, ...metadata] };
  }

  end(last: Uint8Array | string | undefined): AnswerTail {
    return { data: last };
  }

  refuse(fault: Fault, requestId: string, metadata: readonly string[]): Refusal {
    return {
      status: connectHttpStatus(fault.kind.code),
      headers: ["content-type", "application/json", ...metadata],
      data: connectErrorJson(fault, requestId),
    };
  }

  fail(): AnswerTail {
    throw new Error("a unary answer begins with its end, so it cannot fail in between");
  }
}

/** Trailers as lines in gRPC-Web's own envelope. */
function headerLines(trailers: readonly string[]): Uint8Array {
  let lines = "";
  for (let index = 0; index + 1 < trailers.length; index += 2) lines += `${trailers[index]}: ${trailers[index + 1]}\r\n`;
  return wrapText(webTrailersFlag, lines);
}
