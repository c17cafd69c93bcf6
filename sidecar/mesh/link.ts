/** The way to control, as the client sees it: messages both ways in order, and an end. */
import type { SubscribeRequest, SubscribeResponse } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";

/** Opens a way to control. Events come later, never while this is called; none comes after the end. */
export type Dial = (events: LinkEvents) => Link;

/** A way to control. */
export interface Link {
  /** Sends a message after those before it. Does nothing after the end. */
  send(message: SubscribeRequest): void;
  /** Ends it, also towards control. No event comes any more, not even the end. */
  close(): void;
}

/** What a way to control tells. */
export interface LinkEvents {
  readonly received: (message: SubscribeResponse) => void;
  readonly ended: (end: LinkEnd) => void;
}

/** How a way to control ended. */
export interface LinkEnd {
  /** The gRPC code by its name, such as `unavailable`. */
  readonly code: string;
  /** Why, as control or the network says; safe to log. */
  readonly message: string;
  /** How long control asks to be left alone, in milliseconds; undefined if it does not say. */
  readonly retryAfterMs: number | undefined;
}
