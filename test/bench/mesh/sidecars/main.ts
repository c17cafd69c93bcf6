/**
 * Many sidecars in one process, each with an HTTP/2 connection of its own to a real control, speaking gRPC. They check signatures and
 * roots as every light sidecar does, wait between attempts as real ones do, and tell their parent when each root was enforced.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SubscribeRequestSchema, SubscribeResponseSchema } from "../../../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { waitMs } from "../../../../sidecar/mesh/backoff.ts";
import { LightSidecar } from "../../../kit/lightSidecar.ts";
import type { SidecarsAsked, SidecarsTold } from "../main.ts";

/** How long a stream may be silent at its beginning: three heartbeats, as for real sidecars. */
const silentMs = 15_000;

/** A sidecar and its connection. */
class Connected {
  readonly sidecar: LightSidecar;
  readonly #token: string;
  #session: ClientHttp2Session | undefined;
  #stream: ClientHttp2Stream | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #failures = 0;
  #lostAtMs = performance.now();
  isStuck = false;

  constructor(sidecar: LightSidecar, token: string) {
    this.sidecar = sidecar;
    this.#token = token;
  }

  dial(): void {
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      session.destroy();
      if (this.#session === session) this.#lost();
    };
    const session = connect(`http://127.0.0.1:${port}`);
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
    stream.on("data", (bytes: Buffer) => this.#read(bytes));
    const opening = this.sidecar.opening({ credential: this.#token });
    this.#write({ case: "opening", value: opening });
    // A connection that the kernel took and control never saw is silent for ever.
    setTimeout(() => {
      if (this.#session === session && this.sidecar.hello === undefined) over();
    }, silentMs);
  }

  /** Reads nothing any more, as a process that hangs. */
  stick(): void {
    this.isStuck = true;
    this.#stream?.pause();
  }

  #lost(): void {
    if (this.#failures === 0) {
      this.#lostAtMs = performance.now();
      tell({ is: "lost" });
    }
    const wait = waitMs(this.#failures++, undefined, { next: Math.random }, performance.now() - this.#lostAtMs);
    setTimeout(() => this.dial(), wait);
  }

  #read(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const before = this.sidecar.root;
    while (this.#rest.length >= 5) {
      const end = 5 + this.#rest.readUInt32BE(1);
      if (this.#rest.length < end) break;
      const message = fromBinary(SubscribeResponseSchema, this.#rest.subarray(5, end));
      this.#rest = this.#rest.subarray(end);
      this.sidecar.hear(message);
    }
    for (const request of this.sidecar.say()) {
      if (request.message.case === "ack") {
        tell({
          is: "acked",
          resumed: before === this.sidecar.root,
          atMs: performance.timeOrigin + performance.now(),
        });
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

/** What happened since the parent asked last; one message for each sidecar would be the parent's load and not control's. */
let told: SidecarsTold = { acks: [], resumes: [], lost: 0 };

function tell(what: { is: "acked"; resumed: boolean; atMs: number } | { is: "lost" }): void {
  if (what.is === "lost") told.lost += 1;
  else if (what.resumed) told.resumes.push(what.atMs);
  else told.acks.push(what.atMs);
}

let port = 0;
const all: Connected[] = [];

process.on("message", (asked: SidecarsAsked) => {
  switch (asked.is) {
    case "connect":
      port = asked.port;
      for (let at = 0; at < asked.sidecars.length; at++) {
        const { instance, account, token } = asked.sidecars[at] ?? { instance: "", account: "", token: "" };
        const connected = new Connected(new LightSidecar(instance, account), token);
        all.push(connected);
        // Spread by us: cold starts are measured as work, not as a storm.
        setTimeout(() => connected.dial(), (at / asked.perSecond) * 1000);
      }
      break;
    case "stick":
      for (let at = 0; at < all.length; at += asked.oneIn) all[at]?.stick();
      break;
    case "tell":
      break;
  }
  process.send?.(told);
  told = { acks: [], resumes: [], lost: 0 };
});
process.on("disconnect", () => process.exit());
