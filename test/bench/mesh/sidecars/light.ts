/**
 * A light sidecar and its connection: an HTTP/2 connection of its own to a real control, on which it speaks gRPC. It checks signatures and
 * roots as every light sidecar does, each distinct signature once in a process, and waits between attempts as real ones do.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { RetryInfoSchema } from "../../../../proto/gen/google/rpc/error_details_pb.ts";
import { SubscribeRequestSchema, SubscribeResponseSchema } from "../../../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { waitMs } from "../../../../sidecar/mesh/backoff.ts";
import { LightSidecar, type VerifyRoot, verifyRoot } from "../../../kit/lightSidecar.ts";
import type { BenchSidecar, Happened } from "./sidecar.ts";

/** How long a stream may be silent at its beginning: three heartbeats, as for real sidecars. */
const silentMs = 15_000;
/** Signatures whose check is remembered: those of one change for all scopes, and of the one before. */
const verifiedMax = 2_000;

/** Fifty sidecars of a scope are sent the same statement: to check it once leaves more of the machine to control, which is measured. */
const verified = new Map<string, boolean>();
const verifyOnce: VerifyRoot = (key, target) => {
  const name = Buffer.concat([key, target.statement, target.signature]).toString("latin1");
  const known = verified.get(name);
  if (known !== undefined) return known;
  const [oldest] = verified.keys();
  if (verified.size >= verifiedMax && oldest !== undefined) verified.delete(oldest);
  const holds = verifyRoot(key, target);
  verified.set(name, holds);
  return holds;
};

/** Makes a light sidecar that dials when it is started. */
export function lightSidecar(instance: string, account: string, token: string, port: number, tell: (what: Happened) => void): BenchSidecar {
  return new Connected(new LightSidecar(instance, account, "default", verifyOnce), token, port, tell);
}

class Connected implements BenchSidecar {
  readonly #sidecar: LightSidecar;
  readonly #token: string;
  readonly #port: number;
  readonly #tell: (what: Happened) => void;
  #session: ClientHttp2Session | undefined;
  #stream: ClientHttp2Stream | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #failures = 0;
  #lostAtMs = performance.now();

  constructor(sidecar: LightSidecar, token: string, port: number, tell: (what: Happened) => void) {
    this.#sidecar = sidecar;
    this.#token = token;
    this.#port = port;
    this.#tell = tell;
  }

  start(): void {
    let isOver = false;
    let retryAfterMs: number | undefined;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      session.destroy();
      if (this.#session === session) this.#lost(retryAfterMs);
    };
    const told = (headers: IncomingHttpHeaders): void => {
      if (headers["grpc-status"] === undefined) return;
      // Control has ended the stream.
      retryAfterMs = retryAfter(headers);
      over();
    };
    this.#tell({ is: "dialled" });
    const session = connect(`http://127.0.0.1:${this.#port}`);
    this.#session = session;
    session.on("error", over);
    session.on("close", over);
    const stream = session.request({
      ":method": "POST",
      ":path": "/outrigger.mesh.v1.MeshService/Subscribe",
      "content-type": "application/grpc+proto",
      te: "trailers",
    });
    this.#stream = stream;
    this.#rest = Buffer.alloc(0);
    stream.on("error", over);
    stream.on("close", over);
    stream.on("response", told);
    stream.on("trailers", told);
    stream.on("data", (bytes: Buffer) => this.#read(bytes));
    const opening = this.#sidecar.opening({ credential: this.#token });
    this.#write({ case: "opening", value: opening });
    // A connection that the kernel took and control never saw is silent for ever.
    setTimeout(() => {
      if (this.#session === session && this.#sidecar.hello === undefined) over();
    }, silentMs);
  }

  stick(): void {
    this.#stream?.pause();
  }

  #lost(retryAfterMs: number | undefined): void {
    if (this.#failures === 0) {
      this.#lostAtMs = performance.now();
      this.#tell({ is: "lost" });
    }
    const wait = waitMs(this.#failures++, retryAfterMs, { next: Math.random }, performance.now() - this.#lostAtMs);
    setTimeout(() => this.start(), wait);
  }

  #read(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const before = this.#sidecar.root;
    while (this.#rest.length >= 5) {
      const end = 5 + this.#rest.readUInt32BE(1);
      if (this.#rest.length < end) break;
      const message = fromBinary(SubscribeResponseSchema, this.#rest.subarray(5, end));
      this.#rest = this.#rest.subarray(end);
      this.#sidecar.hear(message);
    }
    for (const request of this.#sidecar.say()) {
      if (request.message.case === "ack") {
        this.#tell({ is: "acked", resumed: before === this.#sidecar.root });
        this.#failures = 0;
      }
      this.#write(request.message);
    }
  }

  #write(message: Parameters<LightSidecar["tell"]>[0]): void {
    const bytes = toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, { message }));
    const framed = Buffer.alloc(5 + bytes.length);
    framed.writeUInt32BE(bytes.length, 1);
    framed.set(bytes, 5);
    this.#stream?.write(framed);
  }
}

/** How long control asks to be left alone. */
function retryAfter(headers: IncomingHttpHeaders): number | undefined {
  const told = Object.entries(headers).filter(([name]) => name.startsWith("grpc-"));
  const fault = findTrailerError(new Headers(told.map(([name, value]) => [name, String(value)])));
  const delay = fault?.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : durationMs(delay);
}
