/**
 * The sidecar's end of the mesh: gets policy from control, makes it its own or refuses it, and says which.
 *
 * One stream at a time. It begins with who the sidecar is and what it holds. Each root that control announces is put together beside
 * what runs, believed only with the right signature, scope and revision, and offered whole; it is acknowledged after it holds, and
 * refused with everything that is wrong. Whatever goes wrong with the stream, the network or control, what holds goes on to hold: control's
 * failures never reach a call.
 *
 * A stream proves that it lives by heartbeats of its own; one that is silent for three of them is left. Everything that this file does
 * goes through its parts, so that a test can be the clock, the network and control.
 */
import { create } from "@bufbuild/protobuf";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Hello,
  type SealedSecrets,
  type SignedRoot,
  type Status,
  SubscribeRequestSchema,
  type SubscribeResponse,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type PolicyProblem, PolicyProblemSchema, ProblemSeverity } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { scopeOf } from "../../proto/mesh.ts";
import type { Problem, Resources } from "../../proto/resources.ts";
import type { SnapshotEntry } from "../../proto/snapshot.ts";
import type { Clock, Random } from "../call.ts";
import type { Offer, Outcome } from "../policy/watch.ts";
import { type Assembly, type AssemblyParts, type Body, beginDelta, beginManifest, type Progress } from "./assembly.ts";
import { waitMs } from "./backoff.ts";
import { type Held, readHeld } from "./held.ts";
import type { Dial, Link, LinkEnd } from "./link.ts";
import { readStatement, refusalOf, type TrustedKeys, trustKeys, type VerifySignature } from "./statement.ts";

/** Who a sidecar says it is. */
export interface MeshIdentity {
  /** Its own name for itself, unique at one time. */
  readonly instance: string;
  readonly namespace: string;
  readonly account: string;
  readonly build: string;
  readonly capabilityLevel: number;
}

/** What the disk remembers. */
export interface Slots {
  /** What it holds, the newest first: only what is whole, vouched for and of this scope. */
  readonly found: readonly { readonly held: Held; readonly confirmedMs: number }[];
  /** Keeps what holds now; later calls win over those that are still on their way. */
  keep(held: Held, confirmedMs: number): void;
  /** Resolves when everything is on the disk. */
  settled(): Promise<void>;
}

/** A key pair for one stream, to which control seals secrets. */
export interface SealKey {
  readonly publicKey: Uint8Array;
  /** Opens a secret that was sealed for a scope and root under a name; throws if it was not sealed for just that. */
  open(sealed: { readonly encapsulatedKey: Uint8Array; readonly ciphertext: Uint8Array }, bound: SealBinding): string;
}

/** What a sealed secret is bound to. */
export interface SealBinding {
  readonly scope: string;
  readonly root: string;
  readonly reference: string;
}

/** What the client takes. */
export interface MeshParts extends AssemblyParts {
  readonly identity: MeshIdentity;
  readonly clock: Clock;
  readonly random: Pick<Random, "next">;
  readonly dial: Dial;
  readonly verify: VerifySignature;
  readonly sealKey: () => SealKey;
  /** The keys that were trusted before; empty for none. */
  readonly keys: TrustedKeys;
  /** What proves who this sidecar is, as it is now, or empty if the connection does. */
  readonly credential: () => string;
  readonly slots: Slots;
  /** Offers policy. `later` hears if what was refused takes hold after all, as when a missing secret has come. */
  readonly offer: (offer: Offer, later: (outcome: Outcome) => void) => Outcome;
  /** Compiles an offer and does no more. */
  readonly trial: (offer: Offer) => readonly Problem[];
  /** What is wrong with resources by their own rules. */
  readonly check: (resources: Resources) => readonly Problem[];
  /** Takes secrets by name; those that are not among them stay. */
  readonly deliver: (secrets: ReadonlyMap<string, string>) => void;
  /** How the sidecar did since it was last asked. */
  readonly health: () => Omit<Status, "$typeName" | "$unknown" | "root">;
  /** Hears which keys are trusted, whenever they change. */
  readonly trusted: (keys: TrustedKeys) => void;
  readonly note: (level: "info" | "warn", message: string, facts: Readonly<Record<string, unknown>>) => void;
  readonly times: MeshTimes;
}

/** Times that an operator sets. */
export interface MeshTimes {
  /** How long control is waited for at the start before the disk is used. */
  readonly bootGraceMs: number;
  /** How old, since control last confirmed it, a policy on the disk may be to start with it. */
  readonly maxStaleMs: number;
}

/** How the client does. */
export interface MeshStatus {
  readonly connected: boolean;
  /** What holds; undefined if nothing does. */
  readonly root: string | undefined;
  readonly revision: number;
  /** When control last said that what holds is what should; 0 if never. */
  readonly confirmedMs: number;
  readonly bootedFrom: BootSource;
  /** Why no policy holds, as the end of a sentence; empty if one does. */
  readonly waitingFor: string;
  /** Roots that came whole from control since the start, and bytes of resources that were sent for them. */
  readonly received: { readonly roots: number; readonly wanted: number };
}

/** The running client. */
export interface MeshClient {
  status(): MeshStatus;
  /** Tells control that this sidecar stops, so that nobody misses it. Resolves once control has heard it, or when that takes too long. */
  farewell(): Promise<void>;
  /** Leaves control. What holds stays. Resolves when nothing is on its way to the disk any more. */
  close(): Promise<void>;
}

/** Heartbeats that may be missing: fewer would leave streams for a pause of the network. */
const missedMax = 3;
/** Between heartbeats, until control says how long. */
const heartbeatMs = 5_000;
/** What control may say: less would be a load, and more would leave a dead stream unseen. */
const heartbeatRangeMs = [250, 20_000] as const;
/** How long a stream lives: replicas of control get their share of sidecars back within this time. */
const lifetimeMs = 30 * 60_000;
/** By which part of it lifetimes differ, either way, so that streams which began together do not end together. */
const lifetimeSpread = 0.1;
/** Between two words on how the sidecar does: half of what a staged roll-out takes to notice. */
const statusMs = 10_000;
/** Heartbeats that may name another root while nothing comes: control may be busy, and may also have lost a message. */
const behindMax = 12;
/** Between two writes that only say that a policy is still the right one: a 24th of a day, which is what it may be old. */
const confirmMs = 60 * 60_000;
/** How long before its end a credential is replaced; control needs less than a second. */
const reauthAheadMs = 60_000;
/** How soon a credential is looked at again that was to be replaced and is still the same. */
const reauthAgainMs = 10_000;
/** How long a sidecar that stops waits for control to hear it: what it takes is one way and back. */
const farewellMs = 1_000;
/** The longest time over which control may spread its sidecars. */
const spreadMaxMs = 10 * 60_000;
/** Problems of one refusal at most: nobody reads more, and the message must stay small. */
const problemsMax = 200;

/** Starts the client: it dials at once, and goes on until it is closed. */
export function openMesh(parts: MeshParts): MeshClient {
  const { clock, random, slots, note } = parts;
  const scope = scopeOf(parts.identity);
  const diskHeld = slots.found[0]?.held;
  let keys = parts.keys;
  let applied: Held | undefined;
  let floor = diskHeld?.revision ?? 0;
  let refused: string | undefined;
  let confirmedMs = 0;
  let writtenConfirmedMs = 0;
  let bootedFrom: BootSource = BootSource.UNSPECIFIED;
  let failures = 0;
  /** When the last stream that was open was lost, or the first dialled. */
  let awaySinceMs = 0;
  /** Snapshots in a row that were not what was announced. */
  let broken = 0;
  let lastEnd = "control has not answered yet";
  let received = { roots: 0, wanted: 0 };
  let session: Session | undefined;
  let closed = false;
  let cancelDial: (() => void) | undefined;
  let cancelBoot: (() => void) | undefined;
  let connectedBefore = false;
  /** Hears that the last stream has ended. */
  let parting: (() => void) | undefined;

  function dialNow(): void {
    cancelDial = undefined;
    const sealKey = parts.sealKey();
    // The first event comes later, when the session is there.
    const opened: Session = new Session(
      parts.dial({
        received: (message) => {
          if (session === opened) opened.heard(() => take(opened, message));
        },
        ended: (end) => {
          if (session === opened) leave(end);
        },
      }),
      sealKey,
      clock,
      () => leave({ code: "deadline_exceeded", message: "control was silent for three heartbeats", retryAfterMs: undefined }),
    );
    session = opened;
    opened.listen();
    const credential = parts.credential();
    opened.credential = credential;
    opened.send({
      case: "opening",
      value: {
        credential,
        ...parts.identity,
        appliedRoot: applied?.root ?? "",
        appliedRevision: BigInt(applied?.revision ?? 0),
        diskRoot: diskHeld?.root ?? "",
        sealKey: sealKey.publicKey,
        bootedFrom,
      },
    });
  }

  /** Leaves the stream, and comes back. */
  function leave(end: LinkEnd, soon = false): void {
    const wasOpen = session?.hello !== undefined;
    session?.close();
    session = undefined;
    parting?.();
    if (closed || parting !== undefined) return;
    lastEnd = `${end.message} (${end.code})`;
    const nowMs = clock.monotonicMs();
    if (failures === 0) awaySinceMs = nowMs;
    const wait = waitMs(soon ? 0 : failures, end.retryAfterMs, random, nowMs - awaySinceMs);
    if (!soon) {
      if (wasOpen || failures === 0)
        note("warn", connectedBefore ? "lost control; what holds goes on to hold" : "no stream to control yet", {
          code: end.code,
          cause: end.message,
        });
      failures += 1;
    }
    cancelDial = clock.after(wait, dialNow);
  }

  function take(on: Session, { message }: SubscribeResponse): void {
    if (on.hello === undefined && message.case !== "hello") {
      leave({ code: "internal", message: "control did not say who it is first", retryAfterMs: undefined });
      return;
    }
    switch (message.case) {
      case "hello":
        greet(on, message.value);
        break;
      case "delta":
      case "trial": {
        const { baseRoot, target } = message.value;
        announce(on, target, message.case === "trial", (announced) =>
          beginDelta(announced, baseOf(baseRoot), bodyOf(message.value), parts),
        );
        break;
      }
      case "manifest":
        announce(on, message.value.target, false, (announced) => beginManifest(announced, knownBytes(), bodyOf(message.value), parts));
        break;
      case "chunk": {
        const { pending } = on;
        if (pending === undefined || pending.assembly.root !== message.value.root) break; // of an announcement that a newer one has replaced
        advance(on, pending, pending.assembly.take(message.value));
        break;
      }
      case "heartbeat":
        beat(on, message.value);
        break;
      case "goaway": {
        const spread = Math.min(message.value.spread === undefined ? 0 : durationMs(message.value.spread), spreadMaxMs);
        note("info", "control asks to leave", { reason: message.value.reason, spread_ms: spread });
        on.after(random.next() * Math.max(spread, 0), () =>
          leave({ code: "unavailable", message: "control asked to leave", retryAfterMs: undefined }, true),
        );
        break;
      }
      case "secrets":
        unseal(on, message.value);
        break;
      case undefined:
        break; // of a later control
    }
  }

  function greet(on: Session, hello: Hello): void {
    if (on.hello !== undefined) return;
    if (hello.scope !== "" && hello.scope !== scope) {
      leave({
        code: "failed_precondition",
        message: `control takes this sidecar for ${hello.scope}; it is ${scope}`,
        retryAfterMs: undefined,
      });
      return;
    }
    on.hello = hello;
    failures = broken; // after the first response, not after the connection: a server that accepts and fails is no server
    const before = keys;
    keys = trustKeys(keys, hello.signingKeys, parts.verify);
    if (keys.size !== before.size) parts.trusted(keys);
    const [shortest, longest] = heartbeatRangeMs;
    on.periodMs = Math.min(Math.max(hello.heartbeat === undefined ? heartbeatMs : durationMs(hello.heartbeat), shortest), longest);
    on.listen();
    on.after(lifetimeMs * (1 + (random.next() * 2 - 1) * lifetimeSpread), () =>
      leave({ code: "unavailable", message: "the stream has reached its age", retryAfterMs: undefined }, true),
    );
    report(on);
    if (hello.credentialNotAfter !== undefined) renew(on, timestampMs(hello.credentialNotAfter));
    note("info", connectedBefore ? "control is back" : "connected to control", { server: hello.server });
    connectedBefore = true;
  }

  /** Sends a fresh credential before the old one ends. */
  function renew(on: Session, notAfterMs: number): void {
    const left = notAfterMs - clock.wallMs();
    // Of short lives a fifth: half a minute is long for a token of two.
    on.after(Math.max(left - Math.min(reauthAheadMs, left / 5), 0), function look() {
      const fresh = parts.credential();
      if (fresh === "" || fresh === on.credential) {
        on.after(reauthAgainMs, look);
        return;
      }
      on.credential = fresh;
      on.send({ case: "reauth", value: { credential: fresh } });
      // Control says nothing to it: whoever knows when it ends is asked on the next stream. Until then it is looked at again.
      on.after(reauthAheadMs, look);
    });
  }

  function announce(
    on: Session,
    target: SignedRoot | undefined,
    trial: boolean,
    begin: (announced: Pick<Held, "root" | "revision" | "signed">) => { readonly assembly: Assembly; readonly progress: Progress },
  ): void {
    if (target === undefined) {
      leave({ code: "internal", message: "control announced no root", retryAfterMs: undefined });
      return;
    }
    const read = readStatement(target, keys, scope, parts.verify);
    const refusal = "refusal" in read ? read.refusal : refusalOf(read.statement, floor, clock.wallMs());
    if ("refusal" in read || refusal !== undefined) {
      const root = "refusal" in read ? "" : read.statement.root;
      const revision = "refusal" in read ? 0 : Number(read.statement.revision);
      const message = `This policy is not to be believed. ${refusal ?? ""}`;
      const hint = "Look whether this control is the one that the sidecar was set up with.";
      const problem: Problem = { id: "policy/not-vouched", severity: "error", kind: "", name: "", field: "", message, hint };
      note("warn", "a root is not to be believed", { reason: refusal });
      answer(on, { root, revision }, trial, [problem]);
      return;
    }
    const { statement } = read;
    const announced = { root: statement.root, revision: Number(statement.revision), signed: target };
    const beganMs = clock.monotonicMs();
    if (!trial && announced.root === applied?.root) {
      on.pending = undefined;
      forgetRefused();
      hold({ ...applied, ...announced }, on, beganMs);
      return;
    }
    const { assembly, progress } = begin(announced);
    // A newer announcement takes the place of one whose pieces are still coming: nobody needs those any more.
    const pending: Pending = { assembly, trial, beganMs };
    on.pending = pending;
    advance(on, pending, progress);
  }

  function advance(on: Session, pending: Pending, progress: Progress): void {
    switch (progress.is) {
      case "waiting":
        break;
      case "wanting":
        received = { ...received, wanted: received.wanted + progress.hashes.length };
        on.send({ case: "want", value: { root: pending.assembly.root, hashes: [...progress.hashes] } });
        break;
      case "broken":
        broken += 1;
        note("warn", "what control sent is not what it announced", { root: pending.assembly.root.slice(0, 12), reason: progress.reason });
        failures = Math.max(failures, broken);
        leave({ code: "data_loss", message: progress.reason, retryAfterMs: undefined });
        break;
      case "whole":
        on.pending = undefined;
        broken = 0;
        if (pending.trial) tryOut(on, progress.held);
        else {
          received = { ...received, roots: received.roots + 1 };
          apply(on, progress.held, pending.beganMs);
        }
        break;
    }
  }

  function tryOut(on: Session, held: Held): void {
    const offer = offerOf(held);
    answer(on, held, true, parts.trial(offer));
  }

  /** Makes a policy hold, or refuses it. What holds is acknowledged only once it does. */
  function apply(on: Session | undefined, held: Held, beganMs: number): boolean {
    const outcome = parts.offer(offerOf(held), (later) => {
      if (later.applied && !closed && refused === held.root) hold(held, session, clock.monotonicMs() - later.tookMs);
    });
    if (outcome.applied) hold(held, on, beganMs);
    else {
      refused = held.root;
      lastEnd = "the policy that came was refused; the log and the status have the reasons";
      if (on !== undefined) answer(on, held, false, outcome.problems);
    }
    return outcome.applied;
  }

  /** Takes note that a policy holds. */
  function hold(held: Held, on: Session | undefined, beganMs: number): void {
    applied = held;
    floor = held.revision;
    refused = undefined;
    confirmedMs = clock.wallMs();
    if (bootedFrom === BootSource.UNSPECIFIED) bootedFrom = BootSource.CONTROL;
    cancelBoot?.();
    const applyUs = BigInt(Math.max(Math.round((clock.monotonicMs() - beganMs) * 1000), 1));
    if (on?.hello !== undefined) on.send({ case: "ack", value: { root: held.root, revision: BigInt(held.revision), applyUs } });
    writtenConfirmedMs = confirmedMs;
    slots.keep(held, confirmedMs);
  }

  /** Control wants what holds: what was refused meanwhile must not take hold any more, whatever it waits for. */
  function forgetRefused(): void {
    if (refused === undefined || applied === undefined) return;
    refused = undefined;
    parts.offer(offerOf(applied), () => undefined);
  }

  function answer(on: Session, { root, revision }: Pick<Held, "root" | "revision">, trial: boolean, problems: readonly Problem[]): void {
    const told = problems.slice(0, problemsMax).map(problemMessage);
    if (trial) on.send({ case: "trialResult", value: { root, problems: told } });
    else
      on.send({
        case: "nack",
        value: { refusedRoot: root, refusedRevision: BigInt(revision), keptRoot: applied?.root ?? "", problems: told },
      });
  }

  function beat(on: Session, { root, sequence }: { readonly root: string; readonly sequence: bigint }): void {
    if (on.sequence !== undefined && sequence !== on.sequence + 1n) {
      leave({ code: "data_loss", message: "a heartbeat is missing", retryAfterMs: undefined });
      return;
    }
    on.sequence = sequence;
    if (root === applied?.root) {
      on.behind = 0;
      forgetRefused();
      confirmedMs = clock.wallMs();
      if (confirmedMs - writtenConfirmedMs >= confirmMs) {
        writtenConfirmedMs = confirmedMs;
        slots.keep(applied, confirmedMs);
      }
    } else if (root !== "" && root !== refused && ++on.behind > behindMax) {
      leave({ code: "unavailable", message: "control names a root and does not send it", retryAfterMs: undefined });
    }
  }

  function unseal(on: Session, { root, secrets }: SealedSecrets): void {
    const opened = new Map<string, string>();
    for (const sealed of secrets) {
      try {
        opened.set(sealed.reference, on.sealKey.open(sealed, { scope, root, reference: sealed.reference }));
      } catch {
        note("warn", "a secret was not sealed for this sidecar", { reference: sealed.reference });
      }
    }
    parts.deliver(opened);
  }

  /** Says how the sidecar does, now and then. */
  function report(on: Session): void {
    on.after(statusMs, () => {
      on.send({ case: "status", value: { ...parts.health(), root: applied?.root ?? "" } });
      report(on);
    });
  }

  /** Starts with what is on the disk, if control has not been in time. */
  function bootFromDisk(): void {
    cancelBoot = undefined;
    if (applied !== undefined) return;
    for (const { held, confirmedMs: writtenMs } of slots.found) {
      const ageMs = clock.wallMs() - writtenMs;
      if (ageMs > parts.times.maxStaleMs) {
        note("warn", "what is on the disk is too old to start with", { root: held.root.slice(0, 12), age_s: Math.round(ageMs / 1000) });
        continue;
      }
      const outcome = parts.offer(offerOf(held), (later) => {
        if (later.applied && applied === undefined && !closed) started(held, writtenMs);
      });
      if (outcome.applied) {
        started(held, writtenMs);
        return;
      }
    }
  }

  function started(held: Held, writtenMs: number): void {
    applied = held;
    floor = Math.max(floor, held.revision);
    bootedFrom = BootSource.DISK;
    confirmedMs = writtenMs;
    note("info", "started with the policy on the disk", { root: held.root.slice(0, 12), revision: held.revision });
  }

  function offerOf(held: Held): Offer {
    const { resources, problems } = readHeld(held);
    return { resources, root: held.root, problems: problems.length > 0 ? problems : parts.check(resources) };
  }

  function baseOf(root: string): readonly SnapshotEntry[] | undefined {
    if (root === "") return [];
    return [applied, diskHeld].find((held) => held?.root === root)?.entries;
  }

  /** Finds bytes that are held already by their hash. */
  function knownBytes(): (hash: string) => Uint8Array | undefined {
    const byHash = new Map<string, Uint8Array>();
    for (const held of [diskHeld, applied]) for (const { hash, bytes } of held?.entries ?? []) byHash.set(hash, bytes);
    return (hash) => byHash.get(hash);
  }

  if (slots.found.length > 0) cancelBoot = clock.after(parts.times.bootGraceMs, bootFromDisk);
  dialNow();

  return {
    status: () => ({
      connected: session?.hello !== undefined,
      root: applied?.root,
      revision: applied?.revision ?? 0,
      confirmedMs,
      bootedFrom,
      waitingFor: applied === undefined ? lastEnd : "",
      received,
    }),
    farewell() {
      const on = session;
      const over = Promise.withResolvers<void>();
      parting = over.resolve;
      // Whoever is between two streams is not heard; one more would only be opened to say that it ends.
      cancelDial?.();
      if (closed || on?.hello === undefined) return Promise.resolve();
      on.send({ case: "leaving", value: {} });
      on.after(farewellMs, over.resolve);
      return over.promise;
    },
    async close() {
      closed = true;
      cancelDial?.();
      cancelBoot?.();
      session?.close();
      session = undefined;
      await slots.settled();
    },
  };
}

interface Pending {
  readonly assembly: Assembly;
  /** Whether it is to be compiled and not to be enforced. */
  readonly trial: boolean;
  /** When it was announced, on the monotonic clock. */
  readonly beganMs: number;
}

/** One stream, from its first message to its end: whatever was planned for it ends with it. */
class Session {
  readonly sealKey: SealKey;
  readonly #link: Link;
  readonly #clock: Clock;
  readonly #silent: () => void;
  readonly #timers = new Set<() => void>();
  #cancelWatch: (() => void) | undefined;
  hello: Hello | undefined;
  pending: Pending | undefined;
  /** The credential that was sent last. */
  credential = "";
  /** The number of the last heartbeat. */
  sequence: bigint | undefined;
  /** Heartbeats in a row that named another root than the one that holds. */
  behind = 0;
  periodMs: number = heartbeatMs;

  constructor(link: Link, sealKey: SealKey, clock: Clock, silent: () => void) {
    this.#link = link;
    this.sealKey = sealKey;
    this.#clock = clock;
    this.#silent = silent;
  }

  send(message: MessageInit): void {
    this.#link.send(create(SubscribeRequestSchema, { message }));
  }

  /** Something came: the stream lives. */
  heard(then: () => void): void {
    this.listen();
    then();
  }

  /** Waits for the next sign of life, from now on. */
  listen(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = this.#clock.after(missedMax * this.periodMs, this.#silent);
  }

  /** Does something after a time, unless the stream has ended by then. */
  after(delayMs: number, then: () => void): void {
    const cancel = this.#clock.after(delayMs, () => {
      this.#timers.delete(cancel);
      then();
    });
    this.#timers.add(cancel);
  }

  close(): void {
    this.#cancelWatch?.();
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.#link.close();
  }
}

type MessageInit = NonNullable<NonNullable<Parameters<typeof create<typeof SubscribeRequestSchema>>[1]>["message"]>;

function bodyOf({ content, chunkedBytes, gzip }: Body): Body {
  return { content, chunkedBytes, gzip };
}

/** A problem as control takes it. */
function problemMessage({ id, severity, kind, name, field, message, hint }: Problem): PolicyProblem {
  const level = severity === "error" ? ProblemSeverity.ERROR : ProblemSeverity.WARNING;
  return create(PolicyProblemSchema, { id, severity: level, kind, name, field, message, hint });
}
