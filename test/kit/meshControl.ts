/**
 * A small control for tests of the sidecar's end: it says what it is told to, signed with a real key, and remembers what it hears. The
 * links between the two run on the test's clock.
 */
import { generateKeyPairSync, hash, sign } from "node:crypto";
import { gzipSync } from "node:zlib";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ChunkSchema,
  DeltaContentSchema,
  ManifestContentSchema,
  RootStatementSchema,
  SignedRootSchema,
  type SigningKey,
  SigningKeySchema,
  type SubscribeRequest,
  type SubscribeResponse,
  SubscribeResponseSchema,
  WantedContentSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { chunkBytesMax, keySigningBytes, rootSigningBytes } from "../../proto/mesh.ts";
import { groupResources, type Resource } from "../../proto/resources.ts";
import { type Snapshot, snapshotOf } from "../../proto/snapshot.ts";
import type { Clock } from "../../sidecar/call.ts";
import { gunzip, verifySignature } from "../../sidecar/io/keys.ts";
import type { MeshParts, Slots } from "../../sidecar/mesh/client.ts";
import type { Held, Sha256 } from "../../sidecar/mesh/held.ts";
import type { Dial, LinkEnd, LinkEvents } from "../../sidecar/mesh/link.ts";

/** What control says, without its envelope. */
export type Say = NonNullable<NonNullable<MessageInitShape<typeof SubscribeResponseSchema>["message"]>>;

export const sha256: Sha256 = (data) => hash("sha256", data, "hex");

/** A snapshot at a revision. */
export interface Published {
  readonly snapshot: Snapshot;
  readonly revision: number;
}

/** A snapshot of resources. */
export function publish(resources: readonly Resource[], revision: number): Published {
  return { snapshot: snapshotOf(groupResources(resources), sha256), revision };
}

/** What signs roots. */
export class Signer {
  readonly id: string;
  readonly #pair = generateKeyPairSync("ed25519");
  readonly #clock: Clock;

  constructor(id: string, clock: Clock) {
    this.id = id;
    this.#clock = clock;
  }

  /** The public part. */
  key(endorsedBy?: Signer): SigningKey {
    const { x = "" } = this.#pair.publicKey.export({ format: "jwk" });
    const publicKey = new Uint8Array(Buffer.from(x, "base64url"));
    const endorsement = endorsedBy?.sign(keySigningBytes(publicKey)) ?? new Uint8Array();
    return create(SigningKeySchema, { id: this.id, publicKey, endorsedBy: endorsedBy?.id ?? "", endorsement });
  }

  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, bytes, this.#pair.privateKey));
  }

  /** Vouches for a snapshot. */
  root({ snapshot, revision }: Published, more: { scope?: string; rollback?: boolean; lifeMs?: number } = {}) {
    const { scope = "default/chat@2", rollback = false, lifeMs = 60_000 } = more;
    const statement = toBinary(
      RootStatementSchema,
      create(RootStatementSchema, {
        root: snapshot.root,
        revision: BigInt(revision),
        scope,
        rollback,
        notAfter: timestampFromMs(Math.round(this.#clock.wallMs()) + lifeMs),
      }),
    );
    return create(SignedRootSchema, { statement, signature: this.sign(rootSigningBytes(statement)), keyId: this.id });
  }

  /** A snapshot as it would lie on a sidecar's disk. */
  held(published: Published): Held {
    const { root, entries } = published.snapshot;
    return { root, revision: published.revision, entries, signed: this.root(published) };
  }
}

/** What control says, first and on. */
export const says = {
  hello: (signer: Signer, more: { heartbeatMs?: number; scope?: string; credentialEndsMs?: number } = {}): Say => ({
    case: "hello",
    value: {
      server: "test",
      heartbeat: durationFromMs(more.heartbeatMs ?? 5000),
      signingKeyId: signer.id,
      scope: more.scope ?? "default/chat@2",
      signingKeys: [signer.key()],
      ...(more.credentialEndsMs === undefined ? {} : { credentialNotAfter: timestampFromMs(more.credentialEndsMs) }),
    },
  }),
  heartbeat: ({ snapshot, revision }: Published, sequence: number): Say => ({
    case: "heartbeat",
    value: { root: snapshot.root, revision: BigInt(revision), sequence: BigInt(sequence) },
  }),
  /** A difference, in one piece. */
  delta(from: Snapshot | undefined, to: Published, signed: ReturnType<Signer["root"]>, kind: "delta" | "trial" = "delta"): Say {
    return { case: kind, value: { baseRoot: from?.root ?? "", target: signed, content: deltaBytes(from, to.snapshot) } };
  },
  /** A difference as an announcement and its pieces. */
  chunkedDelta(from: Snapshot | undefined, to: Published, signed: ReturnType<Signer["root"]>, gzip = false, size = chunkBytesMax): Say[] {
    const raw = deltaBytes(from, to.snapshot);
    const bytes = gzip ? new Uint8Array(gzipSync(raw)) : raw;
    return [
      { case: "delta", value: { baseRoot: from?.root ?? "", target: signed, chunkedBytes: BigInt(bytes.length), gzip } },
      ...chunks(to.snapshot.root, bytes, gzip, size),
    ];
  },
  /** A list of hashes, in one piece. */
  manifest: ({ snapshot }: Published, signed: ReturnType<Signer["root"]>): Say => ({
    case: "manifest",
    value: { target: signed, content: manifestBytes(snapshot) },
  }),
  /** The answer to a question for hashes. */
  wanted(snapshot: Snapshot, hashes: readonly Uint8Array[], size = chunkBytesMax): Say[] {
    const byHash = new Map(snapshot.entries.map(({ hash: own, bytes }) => [own, bytes]));
    const resources = hashes.map((one) => byHash.get(Buffer.from(one).toString("hex")) ?? new Uint8Array());
    return chunks(snapshot.root, toBinary(WantedContentSchema, create(WantedContentSchema, { resources })), false, size);
  },
};

function deltaBytes(from: Snapshot | undefined, to: Snapshot): Uint8Array {
  const before = new Map((from?.entries ?? []).map((entry) => [`${entry.type} ${entry.name}`, entry]));
  const upserts = to.entries.filter(({ type, name, hash: own }) => before.get(`${type} ${name}`)?.hash !== own);
  const after = new Set(to.entries.map(({ type, name }) => `${type} ${name}`));
  const removals = [...before].filter(([key]) => !after.has(key)).map(([, { type, name }]) => ({ type, name }));
  const content = create(DeltaContentSchema, {
    upserts: upserts.map(({ type, name, bytes }) => ({ type, name, resource: bytes })),
    removals,
  });
  return toBinary(DeltaContentSchema, content);
}

function manifestBytes(snapshot: Snapshot): Uint8Array {
  const entries = snapshot.entries.map(({ type, name, hash: own }) => ({ type, name, hash: new Uint8Array(Buffer.from(own, "hex")) }));
  return toBinary(ManifestContentSchema, create(ManifestContentSchema, { entries }));
}

function chunks(root: string, bytes: Uint8Array, gzip: boolean, size: number): Say[] {
  const pieces: MessageInitShape<typeof ChunkSchema>[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += size) {
    pieces.push({ root, data: bytes.slice(at, at + size), last: at + size >= bytes.length, gzip });
  }
  return pieces.map((value): Say => ({ case: "chunk", value: value as never }));
}

/** One link as the test's control sees it. */
export interface Line {
  readonly heard: SubscribeRequest["message"][];
  readonly say: (...words: readonly Say[]) => void;
  readonly end: (end?: Partial<LinkEnd>) => void;
  /** Whether the sidecar has left it. */
  left: boolean;
}

/** Links that a test holds by hand: what is said arrives at once. */
export class Lines {
  readonly lines: Line[] = [];
  /** Called for each new line once it is there. */
  answer: ((line: Line) => void) | undefined;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  readonly dial: Dial = (events: LinkEvents) => {
    let open = true;
    const line: Line = {
      heard: [],
      left: false,
      say: (...words) => {
        for (const message of words) if (open) events.received(create(SubscribeResponseSchema, { message }) as SubscribeResponse);
      },
      end: (end = {}) => {
        if (!open) return;
        open = false;
        events.ended({ code: "unavailable", message: "gone", retryAfterMs: undefined, ...end });
      },
    };
    this.lines.push(line);
    if (this.answer !== undefined) this.#clock.after(0, () => this.answer?.(line));
    return {
      send: ({ message }) => {
        if (open) line.heard.push(message);
      },
      close: () => {
        open = false;
        line.left = true;
      },
    };
  };

  /** The newest line. */
  get last(): Line {
    const last = this.lines.at(-1);
    if (last === undefined) throw new Error("the sidecar has not dialled");
    return last;
  }
}

/** All that was heard of one kind. */
export function heard<Case extends NonNullable<SubscribeRequest["message"]["case"]>>(
  line: Line,
  kind: Case,
): Extract<SubscribeRequest["message"], { case: Case }>["value"][] {
  return line.heard.flatMap((message) => (message.case === kind ? [message.value as never] : []));
}

/** Slots that keep nothing beyond the test. */
export class SlotsInMemory implements Slots {
  readonly found: Slots["found"];
  readonly kept: { readonly held: Held; readonly confirmedMs: number }[] = [];

  constructor(found: Slots["found"] = []) {
    this.found = found;
  }

  keep(held: Held, confirmedMs: number): void {
    this.kept.push({ held, confirmedMs });
  }

  async settled(): Promise<void> {}
}

/** Parts of a client that takes every policy and does nothing with it. */
export function quietParts(clock: Clock, dial: Dial): MeshParts {
  return {
    identity: { instance: "pod-1", namespace: "default", account: "chat", build: "test", capabilityLevel: 2 },
    clock,
    random: { next: () => 0.5 },
    dial,
    sha256,
    gunzip,
    verify: verifySignature,
    sealKey: () => ({
      publicKey: new Uint8Array(32),
      open: () => {
        throw new Error("nothing is sealed here");
      },
    }),
    keys: new Map(),
    credential: () => "",
    slots: new SlotsInMemory(),
    offer: ({ root, problems }) =>
      problems.some(({ severity }) => severity === "error")
        ? { applied: false, root, problems, tookMs: 0 }
        : { applied: true, root, changed: true, warnings: [], tookMs: 0 },
    trial: ({ problems }) => problems,
    check: () => [],
    deliver: () => undefined,
    health: () => ({ calls: 0n, failedCalls: 0n, blockedCalls: 0n }),
    trusted: () => undefined,
    note: () => undefined,
    times: { bootGraceMs: 5_000, maxStaleMs: 24 * 60 * 60_000 },
  };
}
