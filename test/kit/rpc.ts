/** Real gRPC and Connect clients for tests, and what their answers have in common. */
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, type ClientReadableStream, credentials, Metadata, type ServiceError, type StatusObject } from "@grpc/grpc-js";
import type { Fault } from "../../proto/fault.ts";
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../proto/gen/google/rpc/status_pb.ts";
import type { Door } from "../../sidecar/doors/exchange.ts";
import { createListener } from "../../sidecar/doors/listener.ts";
import type { FakeHouse } from "./house.ts";

/** A door behind a listener on a port of this machine. */
export interface OpenDoor {
  readonly port: number;
  close(): Promise<void>;
}

/** Opens one door. Whoever knocks elsewhere is cut off. */
export async function openDoor(house: FakeHouse, door: Door): Promise<OpenDoor> {
  const listener = createListener({ doors: [door], turnAway: (exchange) => exchange.reset(), corsOrigins: [], house });
  const port = await listener.listen("127.0.0.1", 0);
  return { port, close: () => listener.close(0) };
}

/** Every way in which Connect's clients speak, by name. */
export const transports: Readonly<Record<string, (port: number) => Transport>> = {
  "Connect, HTTP/1.1, proto": (port) => createConnectTransport({ ...at(port), httpVersion: "1.1", useBinaryFormat: true }),
  "Connect, HTTP/1.1, JSON": (port) => createConnectTransport({ ...at(port), httpVersion: "1.1", useBinaryFormat: false }),
  "Connect, HTTP/2, proto": (port) => createConnectTransport({ ...at(port), httpVersion: "2", useBinaryFormat: true }),
  "Connect, HTTP/2, JSON": (port) => createConnectTransport({ ...at(port), httpVersion: "2", useBinaryFormat: false }),
  "gRPC, HTTP/2, proto": (port) => createGrpcTransport({ ...at(port), useBinaryFormat: true }),
  "gRPC, HTTP/2, JSON": (port) => createGrpcTransport({ ...at(port), useBinaryFormat: false }),
  "gRPC-Web, HTTP/1.1, proto": (port) => createGrpcWebTransport({ ...at(port), httpVersion: "1.1", useBinaryFormat: true }),
  "gRPC-Web, HTTP/1.1, JSON": (port) => createGrpcWebTransport({ ...at(port), httpVersion: "1.1", useBinaryFormat: false }),
  "gRPC-Web, HTTP/2, proto": (port) => createGrpcWebTransport({ ...at(port), httpVersion: "2", useBinaryFormat: true }),
};

function at(port: number) {
  return { baseUrl: `http://127.0.0.1:${port}` };
}

/** What a failed call told its caller. */
export interface ToldFault {
  readonly code: number;
  readonly message: string;
  readonly reason: string | undefined;
  readonly facts: Readonly<Record<string, string>>;
  readonly fields: readonly string[];
  readonly retryAfterMs: number | undefined;
  readonly requestId: string | undefined;
}

/** What Connect's clients were told; fails if the call ended well. */
export async function toldFault(failing: Promise<unknown>): Promise<ToldFault> {
  const error = ConnectError.from(
    await failing.then(
      (answer) =>
        new Error(`the call ended well: ${JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`),
      (caught: unknown) => caught,
    ),
  );
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const info = error.findDetails(ErrorInfoSchema)[0];
  return {
    code: error.code,
    message: error.rawMessage,
    reason: info?.reason,
    facts: info?.metadata ?? {},
    fields: error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field) ?? [],
    retryAfterMs: retry === undefined ? undefined : Number(retry.seconds) * 1_000 + retry.nanos / 1e6,
    requestId: error.findDetails(RequestInfoSchema)[0]?.requestId,
  };
}

/** What a fault is expected to tell. */
export function toldOf(fault: Fault, code: number, requestId: string): ToldFault {
  return {
    code,
    message: fault.message,
    reason: fault.kind.name,
    facts: fault.facts,
    fields: fault.field === undefined ? [] : [fault.field],
    retryAfterMs: fault.retryAfterMs,
    requestId,
  };
}

/** An answer of grpc-js, stream or not. */
export interface GrpcAnswer<Output> {
  readonly messages: readonly Output[];
  /** Head and trailers together. */
  readonly metadata: Metadata;
  readonly code: number;
  readonly details: string;
  /** The reason in `google.rpc.ErrorInfo`, or undefined. */
  readonly reason: string | undefined;
}

/** grpc-js, with protobuf-es for its messages. */
export class GrpcClient {
  readonly #client: Client;

  constructor(port: number, options: ConstructorParameters<typeof Client>[2] = {}) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  }

  close(): void {
    this.#client.close();
  }

  /** Calls a unary method. */
  unary<In extends DescMessage, Out extends DescMessage>(
    path: string,
    input: In,
    output: Out,
    message: MessageShape<In>,
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<GrpcAnswer<MessageShape<Out>>> {
    return new Promise((resolve) => {
      const messages: MessageShape<Out>[] = [];
      const all = new Metadata();
      const call = this.#client.makeUnaryRequest<MessageShape<In>, MessageShape<Out>>(
        path,
        (request) => Buffer.from(toBinary(input, request)),
        (bytes) => fromBinary(output, bytes),
        message,
        metadataOf(metadata),
        (_error: ServiceError | null, answer) => {
          if (answer !== undefined) messages.push(answer);
        },
      );
      call.on("metadata", (head: Metadata) => all.merge(head));
      call.on("status", (status) => resolve(answerOf(messages, all, status)));
    });
  }

  /** Begins a server stream. */
  stream<In extends DescMessage, Out extends DescMessage>(
    path: string,
    input: In,
    output: Out,
    message: MessageShape<In>,
    metadata: Readonly<Record<string, string>> = {},
  ): ClientReadableStream<MessageShape<Out>> {
    return this.#client.makeServerStreamRequest<MessageShape<In>, MessageShape<Out>>(
      path,
      (request) => Buffer.from(toBinary(input, request)),
      (bytes) => fromBinary(output, bytes),
      message,
      metadataOf(metadata),
    );
  }

  /** Begins a stream both ways. */
  both<In extends DescMessage, Out extends DescMessage>(path: string, input: In, output: Out) {
    return this.#client.makeBidiStreamRequest<MessageShape<In>, MessageShape<Out>>(
      path,
      (request) => Buffer.from(toBinary(input, request)),
      (bytes) => fromBinary(output, bytes),
    );
  }
}

/** All of a grpc-js stream. */
export function grpcStream<Output>(call: ClientReadableStream<Output>): Promise<GrpcAnswer<Output>> {
  return new Promise((resolve) => {
    const messages: Output[] = [];
    const all = new Metadata();
    call.on("data", (message: Output) => messages.push(message));
    call.on("metadata", (head: Metadata) => all.merge(head));
    // The status says it too, with all that belongs to it.
    call.on("error", () => {});
    call.on("status", (status: StatusObject) => resolve(answerOf(messages, all, status)));
  });
}

function answerOf<Output>(messages: readonly Output[], head: Metadata, status: StatusObject): GrpcAnswer<Output> {
  const metadata = head.clone();
  metadata.merge(status.metadata);
  const [details] = status.metadata.get("grpc-status-details-bin");
  const reason = details instanceof Buffer ? reasonIn(details) : undefined;
  return { messages, metadata, code: status.code, details: status.details, reason };
}

/** The reason in the bytes of a `google.rpc.Status`, or undefined. */
export function reasonIn(status: Uint8Array): string | undefined {
  const infos = fromBinary(StatusSchema, status).details.map((any) => anyUnpack(any, ErrorInfoSchema));
  return infos.find((info) => info !== undefined)?.reason;
}

function metadataOf(entries: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
  return metadata;
}
