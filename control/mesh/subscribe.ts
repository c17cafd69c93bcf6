/**
 * A sidecar's stream over a connection, driven by hand: the session's messages go out as long as they are taken, and what the sidecar says
 * goes in. Nothing waits here: while nobody reads, nothing is made.
 */
import type { ConnectError } from "@connectrpc/connect";
import type { SubscribeRequest } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import type { Clock } from "../clock.ts";
import { controlFault } from "../serve/fault.ts";
import type { RpcListener, RpcStream } from "../serve/rpcStream.ts";
import type { Mesh, MeshPeer } from "./mesh.ts";
import { type MessageEncoder, readRequest } from "./messages.ts";
import type { MeshSession } from "./session.ts";

/** From the call to the opening: a sidecar sends it with the call. */
export const openingMs = 10_000;

/** What streams are served with. */
export interface SubscribeParts {
  readonly mesh: Pick<Mesh, "open">;
  readonly clock: Pick<Clock, "after">;
  readonly encoder: MessageEncoder;
  /** Turns what ended a stream into what its sidecar may hear, and counts it; `undefined` is a good end. */
  readonly ended: (error: unknown, peer: MeshPeer) => ConnectError | undefined;
}

/** Serves one stream to its end. */
export function serveSubscribe(stream: RpcStream, parts: SubscribeParts): void {
  stream.listen(new Subscription(stream, parts));
}

/** What a stream that does not begin with an opening is told. */
export function openingMissing(): ConnectError {
  return controlFault("SIDECAR_SILENT", openingMessage);
}

/** What a stream that begins with something else is told. */
export function openingWrong(): ConnectError {
  return controlFault("REQUEST_INVALID", openingMessage);
}

const openingMessage = "A stream begins with an opening, which did not come.";

class Subscription implements RpcListener {
  readonly #stream: RpcStream;
  readonly #parts: SubscribeParts;
  #stopWaiting: (() => void) | undefined;
  #begun = false;
  #session: MeshSession | undefined;
  /** Whether what was written waits to be taken. */
  #full = false;
  #ended = false;

  constructor(stream: RpcStream, parts: SubscribeParts) {
    this.#stream = stream;
    this.#parts = parts;
    this.#stopWaiting = parts.clock.after(openingMs, () => this.#end(openingMissing()));
  }

  message(bytes: Uint8Array): void {
    let request: SubscribeRequest;
    try {
      request = readRequest(bytes);
    } catch {
      this.#end(controlFault("REQUEST_INVALID", "The sidecar sent what is no message of this service."));
      return;
    }
    try {
      if (this.#begun) this.#session?.receive(request);
      else this.#begin(request);
    } catch (error) {
      // One sidecar's message may end its own stream, and never control.
      this.#end(error);
    }
  }

  over(fault: ConnectError | undefined): void {
    this.#end(this.#begun ? fault : (fault ?? openingWrong()));
  }

  drained(): void {
    this.#full = false;
    this.#pump();
  }

  #begin({ message }: SubscribeRequest): void {
    this.#begun = true;
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
    if (message.case !== "opening") {
      this.#end(openingWrong());
      return;
    }
    // Nothing more is read until it is known who says it.
    this.#stream.pause();
    this.#parts.mesh.open(message.value, this.#stream.peer).then(
      (session) => {
        if (this.#ended) {
          session.close();
          return;
        }
        this.#session = session;
        session.drive(() => this.#pump());
        this.#stream.resume();
        this.#pump();
      },
      (error: unknown) => this.#end(error),
    );
  }

  /** Sends what there is to say, as long as it is taken. */
  #pump(): void {
    const session = this.#session;
    if (session === undefined || this.#ended) return;
    try {
      // Also while what was written waits: an end is told to whoever does not read, too.
      session.check();
      if (session.isEnded) {
        this.#end(undefined);
        return;
      }
      while (!this.#full) {
        const message = session.take();
        if (message === undefined) return;
        this.#full = !this.#stream.write(this.#parts.encoder.envelope(message));
      }
    } catch (error) {
      this.#end(error);
    }
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stopWaiting?.();
    this.#stream.end(this.#parts.ended(error, this.#stream.peer));
    this.#session?.close();
  }
}
