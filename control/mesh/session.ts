/** One sidecar's stream and what control keeps of it: what comes in changes the fleet, what is to go out is taken when there is room. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import {
  HelloSchema,
  type Opening,
  type SubscribeRequest,
  type SubscribeResponse,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { scopeOf } from "../../proto/mesh.ts";
import { controlFault, controlFaultName } from "../serve/fault.ts";
import type { SnapshotBook } from "./book.ts";
import type { Asker } from "./distribution.ts";
import type { Fleet, SidecarRecord } from "./fleet.ts";
import type { MeshMetrics } from "./metrics.ts";
import { add, tallyOf } from "./rollout.ts";
import type { Rollouts } from "./rollouts.ts";
import type { Signer } from "./signing.ts";
import { MeshStream } from "./stream.ts";

/** Between two heartbeats on one stream; three that are missed are 15 s. */
const heartbeatMs = 5_000;
/** The same with many sidecars, where heartbeats would be most of what control does. */
const heartbeatCrowdMs = 10_000;
/** From this many sidecars on. */
const crowd = 5_000;
/** A stream's age at which its sidecar is asked to come again, perhaps to another replica; a tenth more or less, by lot. */
const streamAgeMs = 30 * 60 * 1000;
/** How much of how a sidecar's calls went before still counts with each report: about a quarter of an hour of reports. */
const usualWeight = 0.99;

/** Who a sidecar has proven to be. */
export interface Proven {
  readonly namespace: string;
  readonly account: string;
  /** The instance that the proof is bound to; undefined if it is bound to none. */
  readonly instance: string | undefined;
  /** When the proof ends, in milliseconds since 1970; undefined for never. */
  readonly notAfterMs: number | undefined;
  /** Whether it gets everything, because it shares control's process. */
  readonly whole: boolean;
  /** What is left to ask somebody else; it rejects with a ConnectError. Not done before there is room for the sidecar. */
  readonly confirm?: () => Promise<void>;
}

/** What is known of a connection. */
export interface MeshPeer {
  readonly address: string;
  /** The certificate that the other side has shown and that its authority vouches for, in DER; undefined if none. */
  certificate(): Uint8Array | undefined;
}

/** A stream that is open. */
export interface MeshSession {
  /** Takes in what the sidecar says. */
  receive(request: SubscribeRequest): void;
  /** The next message for it; undefined once it is to be ended without a fault. Throws a ConnectError if it is to end with one. */
  next(): Promise<SubscribeResponse | undefined>;
  /** The same, but undefined too once `over` resolves. */
  nextBefore(over: Promise<undefined>): Promise<SubscribeResponse | undefined>;
  /** The next message, if there is one now. */
  take(): SubscribeResponse | undefined;
  /** Calls `wake` from now on whenever there may be something to take, or the stream has ended; for those who wait for no promise. */
  drive(wake: () => void): void;
  /** Throws the fault with which the stream has ended, if it has. */
  check(): void;
  /** Whether it has ended, with a fault or without. */
  readonly isEnded: boolean;
  /** Ends the stream, with a fault or well. */
  end(fault: ConnectError | undefined): void;
  /** The sidecar is gone. */
  close(): void;
}

/** What sessions share. */
export interface SessionHouse {
  readonly signer: Pick<Signer, "keyId" | "keys">;
  readonly book: SnapshotBook;
  readonly fleet: Pick<Fleet, "enforce" | "refuse">;
  readonly rollouts: Pick<Rollouts, "enforced" | "refused" | "tried" | "reported">;
  readonly metrics: Pick<MeshMetrics, "acked" | "refused" | "sent">;
  /** This server's name. */
  readonly server: string;
  /** Milliseconds since 1970, by which credentials end. */
  nowMs(): number;
  /** Milliseconds on a clock that only goes forward, by which is waited. */
  steadyMs(): number;
  /** A number from 0 up to but not including 1. */
  random(): number;
  /** How many streams are open. */
  count(): number;
  /** As in `MeshParts`. */
  identify(opening: Opening, credential: string, peer: MeshPeer): Promise<Proven>;
  /** Hears that a session has ended: because its sidecar said that it stops, or was asked to leave, or for any other reason. */
  gone(session: Session, how: "done" | "sent away" | "lost"): void;
}

/** What a session is opened with. */
export interface SessionOpening {
  readonly record: SidecarRecord;
  readonly asker: Asker;
  readonly opening: Opening;
  readonly proven: Proven;
  /** Undefined for the sidecar in this process. */
  readonly peer: MeshPeer | undefined;
}

/** One sidecar's stream. */
export class Session implements MeshSession {
  readonly #house: SessionHouse;
  readonly record: SidecarRecord;
  readonly asker: Asker;
  readonly stream: MeshStream;
  /** Since when it should enforce what it should. */
  aimedMs = 0;
  isClosed = false;
  readonly #opening: Opening;
  readonly #peer: MeshPeer | undefined;
  #notAfterMs: number;
  /** When it is asked to come again. */
  #agedMs: number;
  #ended: { readonly fault: ConnectError | undefined } | undefined;
  /** Called once, for whoever waits for a promise. */
  #wake: (() => void) | undefined;
  /** Called each time. */
  #driver: (() => void) | undefined;
  #heartbeatMs = heartbeatMs;
  /** Whether it was asked to leave, so that its end is no loss. */
  #sentAway = false;
  /** Whether it said that it stops: then it is not missed, either. */
  #isDone = false;

  constructor({ record, asker, opening, proven, peer }: SessionOpening, house: SessionHouse) {
    const now = house.steadyMs();
    this.#house = house;
    this.record = record;
    this.asker = asker;
    this.#opening = opening;
    this.#peer = peer;
    this.#notAfterMs = proven.notAfterMs ?? Number.POSITIVE_INFINITY;
    this.#agedMs = peer === undefined ? Number.POSITIVE_INFINITY : now + streamAgeMs * (0.9 + 0.2 * house.random());
    this.#heartbeatMs = house.count() > crowd ? heartbeatCrowdMs : heartbeatMs;
    const hello = create(HelloSchema, {
      server: house.server,
      heartbeat: durationFromMs(this.#heartbeatMs),
      signingKeyId: house.signer.keyId,
      signingKeys: [...house.signer.keys],
      scope: scopeOf(asker),
      ...(proven.notAfterMs === undefined ? {} : { credentialNotAfter: timestampFromMs(proven.notAfterMs) }),
    });
    this.stream = new MeshStream({
      hello,
      book: house.book,
      appliedRoot: opening.appliedRoot,
      appliedRevision: Number(opening.appliedRevision),
      diskRoot: opening.diskRoot,
      sealKey: opening.sealKey,
      nowMs: now,
      firstHeartbeatMs: house.random() * this.#heartbeatMs,
    });
  }

  get inProcess(): boolean {
    return this.#peer === undefined;
  }

  receive(request: SubscribeRequest): void {
    if (this.isClosed) return;
    const { record } = this;
    const { fleet, metrics, rollouts } = this.#house;
    const now = this.#house.nowMs();
    record.lastHeardMs = now;
    const event = this.stream.receive(request);
    switch (event.is) {
      case "acked":
        if (event.root === record.wanted.root && record.root !== event.root) metrics.acked(this.#house.steadyMs() - this.aimedMs);
        fleet.enforce(record, event.root, event.revision, now);
        record.applyUs = event.applyUs;
        rollouts.enforced(record.key, event.root);
        break;
      case "refused":
        if (event.keptRoot !== record.root) fleet.enforce(record, event.keptRoot, record.revision, now);
        if (event.root === record.wanted.root) fleet.refuse(record, event.root, event.problems);
        metrics.refused();
        rollouts.refused(record.key, event.root);
        break;
      case "tried":
        rollouts.tried(record.key, event.root, event.problems);
        break;
      case "status": {
        const tally = tallyOf(event.status);
        if (!rollouts.reported(record.key, event.status.root, tally)) record.usual = add(record.usual, tally, usualWeight);
        break;
      }
      case "reauth":
        void this.#reauthenticate(event.credential);
        break;
      case "leaving":
        this.#isDone = true;
        this.end(undefined);
        return;
      case "wrong":
        this.end(controlFault("REQUEST_INVALID", `The sidecar broke the protocol: ${event.message}.`));
        break;
      case "nothing":
        break;
    }
    this.wake();
  }

  take(): SubscribeResponse | undefined {
    const message = this.stream.take(this.#house.steadyMs(), this.#heartbeatMs);
    if (message !== undefined) this.#house.metrics.sent(message);
    return message;
  }

  check(): void {
    if (this.#ended?.fault !== undefined) throw this.#ended.fault;
  }

  next(): Promise<SubscribeResponse | undefined> {
    return this.nextBefore(undefined);
  }

  async nextBefore(over: Promise<undefined> | undefined): Promise<SubscribeResponse | undefined> {
    let isOver = false;
    void over?.then(() => {
      isOver = true;
      this.wake();
    });
    for (;;) {
      this.check();
      if (this.#ended !== undefined) return undefined;
      const message = this.take();
      if (message !== undefined || isOver) return message;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  drive(wake: () => void): void {
    this.#driver = wake;
  }

  get isEnded(): boolean {
    return this.#ended !== undefined;
  }

  wake(): void {
    this.#driver?.();
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** Looks whether something is due. `now` is of the steady clock, `wallMs` since 1970. Returns whether to wake it. */
  tick(now: number, wallMs: number): boolean {
    if (wallMs > this.#notAfterMs) {
      const message = "The credential has ended and no other was sent. Open another stream with a fresh one.";
      this.end(controlFault("CREDENTIAL_EXPIRED", message));
      return false;
    }
    if (this.stream.isStuck(now)) {
      this.end(controlFault("SIDECAR_SILENT", "The sidecar did not answer to the root that it was sent."));
      return false;
    }
    if (now >= this.#agedMs) {
      this.#agedMs = Number.POSITIVE_INFINITY;
      this.sendAway(this.#heartbeatMs, "this stream has lived long enough");
    }
    this.stream.dropTrial(now);
    // Whoever has nothing to say is not woken; the stream itself knows whether a heartbeat is due.
    return now >= this.stream.heartbeatAtMs;
  }

  sendAway(spreadMs: number, reason: string): void {
    this.#sentAway = true;
    this.stream.sendAway(spreadMs, reason);
    this.wake();
  }

  end(fault: ConnectError | undefined): void {
    this.#ended ??= { fault };
    if (controlFaultName(fault) === "STREAM_REPLACED") this.#sentAway = true;
    this.wake();
    this.close();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#ended ??= { fault: undefined };
    this.wake();
    this.#house.gone(this, this.#isDone ? "done" : this.#sentAway ? "sent away" : "lost");
  }

  async #reauthenticate(credential: string): Promise<void> {
    try {
      const proven = await this.#house.identify(this.#opening, credential, this.#peer ?? ownProcess);
      await proven.confirm?.();
      if (proven.namespace !== this.asker.namespace || proven.account !== this.asker.account) {
        throw controlFault("IDENTITY_MISMATCH", "The fresh credential is another account's. Open another stream for it.");
      }
      this.#notAfterMs = proven.notAfterMs ?? Number.POSITIVE_INFINITY;
    } catch (error) {
      this.end(ConnectError.from(error));
    }
  }
}

const ownProcess: MeshPeer = { address: "", certificate: () => undefined };
