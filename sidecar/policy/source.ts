/** Where policy comes from, and what a sidecar lends for it. Files are a source, and so is control. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Problem } from "../../proto/resources.ts";
import type { Clock, Random } from "../call.ts";
import type { MeshStatus } from "../mesh/client.ts";
import type { Tallied } from "../mesh/tally.ts";
import type { Offer, Outcome } from "./watch.ts";

/** Where policy comes from. */
export interface PolicySource {
  /**
   * Offers the policy that holds now, and again each time it changes, until the function returned is called. What becomes of an offer is
   * returned at once: whoever sent it may want to know. `desk` is what this sidecar lends for it.
   */
  subscribe(offer: (offer: Offer, later?: (outcome: Outcome) => void) => Outcome, desk: PolicyDesk): () => void | Promise<void>;
  /** Whether secrets are delivered with it. */
  readonly delivers?: boolean;
  /** Resolves once the first offer was made, where that is a matter of moments: the doors open only then. */
  readonly begun?: Promise<void>;
  /** Why there is no policy yet, as the end of a sentence; empty if nothing is known. */
  readonly waitingFor?: () => string;
}

/** What a sidecar lends to the source of its policy. */
export interface PolicyDesk {
  readonly clock: Clock;
  readonly random: Random;
  /** The version of this build. */
  readonly version: string;
  /** What this sidecar understands of policy. */
  readonly capabilityLevel: number;
  /** Compiles an offer and does no more. */
  trial(offer: Offer): readonly Problem[];
  /** Takes secrets by namespace and name, for the memory alone. */
  deliver(secrets: ReadonlyMap<string, string>): void;
  /** How calls went since this was last asked; counted from the first time on. */
  health(): Tallied & { readonly loopDelayMax: Duration };
  /** Shows how policy comes, whenever metrics are asked for. */
  watchMesh(status: () => MeshStatus): void;
  /** Takes a line for the log. */
  note(level: "info" | "warn", message: string, facts: Readonly<Record<string, unknown>>): void;
}
