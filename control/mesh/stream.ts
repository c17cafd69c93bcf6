/**
 * Control's end of one sidecar's stream, without sockets and timers: messages, targets and time go in, messages are taken out.
 *
 * One root is on its way at a time, and while an answer to it is awaited nothing is remembered but the newest target, so a slow sidecar
 * costs no more than a fast one. Messages are made when they are taken: whoever carries them takes the next when the one before has gone,
 * and what waits meanwhile is a state, never a queue.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  ChunkSchema,
  DeltaSchema,
  GoawaySchema,
  HeartbeatSchema,
  type Hello,
  ManifestSchema,
  type SealedSecrets,
  type SignedRoot,
  type Status,
  type SubscribeRequest,
  type SubscribeResponse,
  SubscribeResponseSchema,
  TrialSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type PolicyProblem, PolicyProblemSchema } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { chunkBytesMax } from "../../proto/mesh.ts";
import { type KeptSnapshot, nothing, type Packed, type SnapshotBook } from "./book.ts";

/** Content up to this size stands in its message; chunks of their own are for what would hold up a heartbeat. */
const inlineBytesMax = 64 * 1024;
/** A difference up to this size is sent whole. For a larger one the sidecar says what it lacks: its disk may have most of it. */
const deltaBytesMax = 1024 * 1024;
/** How long a sidecar may take to answer a root: a hundred times what compiling the largest takes. Then it is closed, to begin anew. */
export const answerMs = 120_000;
/** Bytes of the problems of one refusal that are kept: two hundred, which is what a sidecar tells at most, of a thousand and more each. */
const problemBytesMax = 256 * 1024;
/** How long it may take to answer a trial. */
export const trialMs = 30_000;

/** What a sidecar should enforce. */
export interface StreamTarget {
  readonly snapshot: KeptSnapshot;
  readonly revision: number;
  /** Signs it, as from the revision that the sidecar enforces: a lower one may need a statement of its own. */
  readonly signed: (appliedRevision: number) => SignedRoot | undefined;
  /** Seals what goes before it to one stream's key; undefined if its policy refers to no secret that control delivers. */
  readonly secrets: ((sealKey: Uint8Array) => SealedSecrets) | undefined;
}

/** What a stream is opened with. */
export interface StreamOpening {
  readonly hello: Hello;
  readonly book: SnapshotBook;
  readonly appliedRoot: string;
  readonly appliedRevision: number;
  readonly diskRoot: string;
  /** The key to which secrets are sealed, or empty. */
  readonly sealKey: Uint8Array;
  readonly nowMs: number;
  /** When the first heartbeat is due, from now: any time within a period, so that those of many streams spread. */
  readonly firstHeartbeatMs: number;
}

/** What a sidecar's message meant. */
export type StreamEvent =
  | { readonly is: "acked"; readonly root: string; readonly revision: number; readonly applyUs: number }
  | {
      readonly is: "refused";
      readonly root: string;
      readonly revision: number;
      readonly keptRoot: string;
      readonly problems: readonly PolicyProblem[];
    }
  | { readonly is: "tried"; readonly root: string; readonly problems: readonly PolicyProblem[] }
  | { readonly is: "status"; readonly status: Status }
  | { readonly is: "reauth"; readonly credential: string }
  /** It stops. */
  | { readonly is: "leaving" }
  | { readonly is: "nothing" }
  /** It may not say that: the stream ends. */
  | { readonly is: "wrong"; readonly message: string };

/** What a sidecar refused. */
export interface Refusal {
  readonly root: string;
  readonly revision: number;
  readonly problems: readonly PolicyProblem[];
}

/** One stream. */
export class MeshStream {
  readonly #book: SnapshotBook;
  #hello: Hello | undefined;
  #target: StreamTarget | undefined;
  /** What the sidecar enforces, by its own word. */
  #applied: { readonly root: string; readonly revision: number };
  #diskRoot: string;
  readonly #sealKey: Uint8Array;
  /** What the sidecar accepted on this stream, so that nothing is sent twice; a resumed one is sent its root's statement once. */
  #settled: StreamTarget | undefined;
  #refusal: Refusal | undefined;
  /** The target whose secrets went out last. */
  #unsealed: StreamTarget | undefined;
  #awaited: { readonly target: StreamTarget; readonly sinceMs: number; readonly byManifest: boolean } | undefined;
  #trial: { readonly target: StreamTarget; sentAtMs: number | undefined } | undefined;
  #sending: Sending | undefined;
  #replay: Packed | undefined;
  #manifestWanted = false;
  #sequence = 0;
  #heartbeatAtMs: number;
  #goaway: { readonly spreadMs: number; readonly reason: string } | undefined;

  constructor({ hello, book, appliedRoot, appliedRevision, diskRoot, sealKey, nowMs, firstHeartbeatMs }: StreamOpening) {
    this.#hello = hello;
    this.#book = book;
    this.#applied = { root: appliedRoot, revision: appliedRevision };
    this.#diskRoot = diskRoot;
    this.#sealKey = sealKey;
    this.#heartbeatAtMs = nowMs + firstHeartbeatMs;
  }

  /** What the sidecar enforces, by its own word. */
  get applied(): { readonly root: string; readonly revision: number } {
    return this.#applied;
  }

  /** When the next heartbeat is due, by the time that is given to `take`. */
  get heartbeatAtMs(): number {
    return this.#heartbeatAtMs;
  }

  /** What it refused, if that is what it should enforce. */
  get refusal(): Refusal | undefined {
    return this.#refusal;
  }

  /** When the answer that is awaited was asked for. */
  get awaitingSinceMs(): number | undefined {
    return this.#awaited?.sinceMs;
  }

  /** What it should enforce from now on, or undefined for what it has. What was to be sent and is not on its way yet is forgotten. */
  retarget(target: StreamTarget | undefined): void {
    if (this.#refusal !== undefined && this.#refusal.root !== target?.snapshot.root) this.#refusal = undefined;
    this.#target = target;
  }

  /** Asks the sidecar whether it could enforce a root. A trial that is already on its way is awaited first. */
  try(target: StreamTarget): void {
    this.#trial = { target, sentAtMs: undefined };
  }

  /** Asks the sidecar to leave. */
  sendAway(spreadMs: number, reason: string): void {
    this.#goaway = { spreadMs, reason };
  }

  /** Whether the sidecar took too long to answer. */
  isStuck(nowMs: number): boolean {
    return this.#awaited !== undefined && nowMs - this.#awaited.sinceMs > answerMs;
  }

  /** Gives up a trial that is not answered. Returns whether there was one. */
  dropTrial(nowMs: number): boolean {
    const sentAtMs = this.#trial?.sentAtMs;
    if (sentAtMs === undefined || nowMs - sentAtMs <= trialMs) return false;
    this.#trial = undefined;
    return true;
  }

  /** Takes in a message of the sidecar. */
  receive(request: SubscribeRequest): StreamEvent {
    const { message } = request;
    switch (message.case) {
      case "ack": {
        const { root, revision, applyUs } = message.value;
        if (!isRoot(root) || !isCount(revision) || !isCount(applyUs)) return outOfRange("ack");
        this.#applied = { root, revision: Number(revision) };
        if (this.#awaited?.target.snapshot.root === root) {
          this.#settled = this.#awaited.target;
          this.#awaited = undefined;
        }
        if (this.#refusal?.root === root) this.#refusal = undefined;
        return { is: "acked", root, revision: Number(revision), applyUs: Number(applyUs) };
      }
      case "nack": {
        const { refusedRoot, refusedRevision, keptRoot } = message.value;
        if (!isRoot(refusedRoot) || !isCount(refusedRevision) || (keptRoot !== "" && !isRoot(keptRoot))) return outOfRange("refusal");
        const problems = keptOf(message.value.problems);
        const refusal = { root: refusedRoot, revision: Number(refusedRevision), problems };
        if (this.#awaited?.target.snapshot.root === refusedRoot) this.#awaited = undefined;
        if (this.#target?.snapshot.root === refusedRoot) this.#refusal = refusal;
        if (keptRoot !== this.#applied.root) this.#applied = { root: keptRoot, revision: this.#applied.revision };
        return { is: "refused", ...refusal, keptRoot };
      }
      case "want":
        return this.#want(message.value.root, message.value.hashes);
      case "trialResult": {
        const { root } = message.value;
        const problems = keptOf(message.value.problems);
        if (this.#trial?.sentAtMs === undefined || this.#trial.target.snapshot.root !== root) return { is: "nothing" };
        this.#trial = undefined;
        return { is: "tried", root, problems };
      }
      case "status":
        return { is: "status", status: message.value };
      case "reauth":
        return { is: "reauth", credential: message.value.credential };
      case "leaving":
        return { is: "leaving" };
      case "opening":
        return { is: "wrong", message: "a stream has one opening, its first message" };
      case undefined:
        return { is: "wrong", message: "the message is empty or of a kind that this control does not know" };
    }
  }

  /**
   * The next message to send, or undefined if there is none for now: then there is one after something is received, after another target,
   * or when the next heartbeat is due.
   */
  take(nowMs: number, heartbeatMs: number): SubscribeResponse | undefined {
    if (this.#hello !== undefined) {
      const value = this.#hello;
      this.#hello = undefined;
      return response({ case: "hello", value });
    }
    // Before anything else, between the pieces of large content too: a sidecar that hears none leaves.
    if (nowMs >= this.#heartbeatAtMs) return this.#heartbeat(nowMs, heartbeatMs);
    if (this.#sending !== undefined) return this.#piece(this.#sending);
    if (this.#goaway !== undefined) {
      const { spreadMs, reason } = this.#goaway;
      this.#goaway = undefined;
      return response({ case: "goaway", value: create(GoawaySchema, { spread: durationFromMs(Math.round(spreadMs)), reason }) });
    }
    if (this.#awaited !== undefined) return this.#answerToWant(this.#awaited.target);
    if (this.#trial !== undefined) return this.#trial.sentAtMs === undefined ? this.#offerTrial(this.#trial, nowMs) : undefined;
    return this.#offer(nowMs);
  }

  #want(root: string, hashes: readonly Uint8Array[]): StreamEvent {
    const awaited = this.#awaited;
    if (awaited?.target.snapshot.root !== root) return { is: "wrong", message: "it wants content of a root that it was not sent" };
    if (hashes.length === 0) {
      if (awaited.byManifest) return { is: "wrong", message: "it was sent a manifest already" };
      this.#manifestWanted = true;
      return { is: "nothing" };
    }
    const replay = this.#book.wanted(awaited.target.snapshot, hashes);
    if (replay === undefined) return { is: "wrong", message: "it wants content that the root does not have" };
    this.#replay = replay;
    return { is: "nothing" };
  }

  #heartbeat(nowMs: number, heartbeatMs: number): SubscribeResponse {
    this.#heartbeatAtMs = nowMs + heartbeatMs;
    this.#sequence += 1;
    // Whoever has no target shall keep what it has.
    const root = this.#target?.snapshot.root ?? this.#applied.root;
    const revision = BigInt(this.#target?.revision ?? this.#applied.revision);
    return response({ case: "heartbeat", value: create(HeartbeatSchema, { root, revision, sequence: BigInt(this.#sequence) }) });
  }

  #piece(sending: Sending): SubscribeResponse {
    const end = Math.min(sending.at + chunkBytesMax, sending.packed.bytes.length);
    const data = sending.packed.bytes.subarray(sending.at, end);
    const last = end === sending.packed.bytes.length;
    sending.at = end;
    if (last) this.#sending = undefined;
    return response({ case: "chunk", value: create(ChunkSchema, { root: sending.root, data, last, gzip: sending.packed.gzip }) });
  }

  #answerToWant(target: StreamTarget): SubscribeResponse | undefined {
    if (this.#manifestWanted) {
      this.#manifestWanted = false;
      const signed = target.signed(this.#applied.revision);
      if (signed === undefined || this.#awaited === undefined) return undefined;
      this.#awaited = { ...this.#awaited, byManifest: true };
      return this.#manifest(target, signed);
    }
    if (this.#replay === undefined) return undefined;
    const packed = this.#replay;
    this.#replay = undefined;
    this.#sending = { root: target.snapshot.root, packed, at: 0 };
    return this.#piece(this.#sending);
  }

  #offer(nowMs: number): SubscribeResponse | undefined {
    const target = this.#target;
    if (target === undefined || target === this.#settled) return undefined;
    if (target.secrets !== undefined && this.#unsealed?.secrets !== target.secrets && this.#sealKey.length > 0) {
      this.#unsealed = target;
      return response({ case: "secrets", value: target.secrets(this.#sealKey) });
    }
    if (this.#refusal?.root === target.snapshot.root) return undefined;
    // The same content again, with a later revision: what the sidecar enforces is what it should, and a heartbeat says so.
    if (this.#settled?.snapshot === target.snapshot && this.#applied.root === target.snapshot.root) {
      this.#settled = target;
      return undefined;
    }
    const signed = target.signed(this.#applied.revision);
    if (signed === undefined) return undefined;
    const base = this.#base();
    const packed = base === undefined ? undefined : this.#book.delta(base, target.snapshot);
    const byManifest = base === undefined || packed === undefined || (base !== nothing && packed.bytes.length > deltaBytesMax);
    this.#awaited = { target, sinceMs: nowMs, byManifest };
    if (byManifest) return this.#manifest(target, signed);
    const delta = (): SubscribeResponse =>
      response({
        case: "delta",
        value: create(DeltaSchema, { baseRoot: base.root, target: signed, ...this.#content(target, packed) }),
      });
    // What is sent in chunks is told to each stream anew, since the chunks are its own.
    return packed.bytes.length <= inlineBytesMax ? this.#book.shared(signed, base.root, delta) : delta();
  }

  #manifest(target: StreamTarget, signed: SignedRoot): SubscribeResponse {
    const content = this.#content(target, this.#book.manifest(target.snapshot));
    return response({ case: "manifest", value: create(ManifestSchema, { target: signed, ...content }) });
  }

  #offerTrial(trial: { readonly target: StreamTarget; sentAtMs: number | undefined }, nowMs: number): SubscribeResponse | undefined {
    // A trial of what is older than what the sidecar enforces is signed as what it is: it is not enforced.
    const signed = trial.target.signed(0);
    if (signed === undefined) return undefined;
    trial.sentAtMs = nowMs;
    const base = this.#book.find(this.#applied.root) ?? nothing;
    const content = this.#content(trial.target, this.#book.delta(base, trial.target.snapshot));
    return response({ case: "trial", value: create(TrialSchema, { baseRoot: base.root, target: signed, ...content }) });
  }

  /** What the sidecar has and control knows; undefined if it has something that control does not know. */
  #base(): KeptSnapshot | undefined {
    if (this.#applied.root !== "") return this.#book.find(this.#applied.root);
    const onDisk = this.#diskRoot;
    // What is on its disk counts once: after that it has told what it enforces.
    this.#diskRoot = "";
    return this.#book.find(onDisk);
  }

  /** Content inside its message, or announced by it and then sent in chunks. */
  #content(target: StreamTarget, packed: Packed): { content: Uint8Array; chunkedBytes: bigint; gzip: boolean } {
    if (packed.bytes.length <= inlineBytesMax) return { content: packed.bytes, chunkedBytes: 0n, gzip: packed.gzip };
    this.#sending = { root: target.snapshot.root, packed, at: 0 };
    return { content: new Uint8Array(), chunkedBytes: BigInt(packed.bytes.length), gzip: packed.gzip };
  }
}

/** Whether a text is a root. What a sidecar says it enforces is remembered, shown to people, and written to the store. */
export function isRoot(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** Whether a number is one that counts something: others cannot be written as what they are, and nobody could be told of any sidecar. */
export function isCount(number: bigint): boolean {
  return number >= 0n && number <= Number.MAX_SAFE_INTEGER;
}

function outOfRange(what: string): StreamEvent {
  return { is: "wrong", message: `its ${what} has a root that is none, or a number that counts nothing` };
}

/** The first problems, as many as are kept. */
function keptOf(problems: readonly PolicyProblem[]): readonly PolicyProblem[] {
  let bytes = 0;
  const beyond = problems.findIndex((problem) => {
    bytes += toBinary(PolicyProblemSchema, problem).length;
    return bytes > problemBytesMax;
  });
  return beyond < 0 ? problems : problems.slice(0, beyond);
}

interface Sending {
  readonly root: string;
  readonly packed: Packed;
  at: number;
}

function response(message: SubscribeResponse["message"]): SubscribeResponse {
  return create(SubscribeResponseSchema, { message });
}
