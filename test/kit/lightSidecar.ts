/**
 * A sidecar that only takes policy: it speaks the mesh's protocol without sockets, checks everything that a real one checks, and does
 * with it what a test says. Its rules are written from the proto's comments, not from control's code.
 */
import { createPublicKey, verify } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { sha256 } from "../../control/sha256.ts";
import {
  DeltaContentSchema,
  type Hello,
  ManifestContentSchema,
  OpeningSchema,
  type RootStatement,
  RootStatementSchema,
  type SignedRoot,
  type SubscribeRequest,
  SubscribeRequestSchema,
  type SubscribeResponse,
  WantedContentSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { PolicyProblemSchema } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { chunkBytesMax, rootSigningBytes } from "../../proto/mesh.ts";
import { rootOf, type SnapshotEntry } from "../../proto/snapshot.ts";

/** What a sidecar has, by type and name. */
export type Held = ReadonlyMap<string, SnapshotEntry>;

/** What it does with a root that it could enforce: nothing, enforce it, or refuse it for a reason. */
export type Taste = (root: string) => "accept" | "ignore" | { readonly refuse: string };

/** Whether control's key, 32 bytes of Ed25519, has signed a root's statement. */
export type VerifyRoot = (publicKey: Uint8Array, target: SignedRoot) => boolean;

/** Looks at the signature. */
export const verifyRoot: VerifyRoot = (publicKey, { statement, signature }) => {
  // RFC 8410: the SubjectPublicKeyInfo of an Ed25519 key is a fixed head and the key.
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), publicKey]);
  return verify(null, rootSigningBytes(statement), createPublicKey({ key: der, format: "der", type: "spki" }), signature);
};

interface Offer {
  readonly kind: "delta" | "manifest" | "trial";
  readonly baseRoot: string;
  readonly signed: SignedRoot;
  readonly statement: RootStatement;
  readonly gzip: boolean;
  awaitedBytes: number;
  readonly chunks: Uint8Array[];
  /** Of a manifest: what is asked for, in order, and what the whole is made of. */
  manifest?: { readonly type: string; readonly name: string; readonly hash: string }[];
  wanted?: string[];
}

/** One sidecar. */
export class LightSidecar {
  readonly instance: string;
  readonly namespace: string;
  readonly account: string;
  level = 2;
  taste: Taste = () => "accept";
  held: Held = new Map();
  root = "";
  revision = 0;
  hello: Hello | undefined;
  /** What it got, for tests to look at. */
  readonly got: string[] = [];
  bytes = 0;
  heartbeats = 0;
  lastHeartbeat: { root: string; sequence: number } | undefined;
  goaway: { spreadMs: number; reason: string } | undefined;
  /** Roots that it has heard of and not answered. Never more than one. */
  unanswered = 0;
  readonly #verify: VerifyRoot;
  #offer: Offer | undefined;
  #said: SubscribeRequest[] = [];

  constructor(instance: string, account = "chat", namespace = "default", verify: VerifyRoot = verifyRoot) {
    this.#verify = verify;
    this.instance = instance;
    this.account = account;
    this.namespace = namespace;
  }

  /** The opening of its next stream. */
  opening(more: { credential?: string; appliedRoot?: string } = {}) {
    this.#offer = undefined;
    this.#said = [];
    this.hello = undefined;
    this.unanswered = 0;
    return create(OpeningSchema, {
      instance: this.instance,
      account: this.account,
      namespace: this.namespace,
      build: "light 1",
      capabilityLevel: this.level,
      appliedRoot: this.root,
      appliedRevision: BigInt(this.revision),
      bootedFrom: this.root === "" ? BootSource.UNSPECIFIED : BootSource.DISK,
      ...more,
    });
  }

  /** What it has to say, which is then said. */
  say(): SubscribeRequest[] {
    const said = this.#said;
    this.#said = [];
    return said;
  }

  /** Says something of its own. */
  tell(message: SubscribeRequest["message"]): void {
    this.#said.push(create(SubscribeRequestSchema, { message }));
  }

  /** Hears a message of control. Throws if control breaks the protocol. */
  hear({ message }: SubscribeResponse): void {
    this.got.push(message.case ?? "");
    if (this.hello === undefined && message.case !== "hello") throw new Error(`the first message was ${message.case}`);
    switch (message.case) {
      case "hello":
        if (this.hello !== undefined) throw new Error("there were two hellos");
        this.hello = message.value;
        return;
      case "heartbeat": {
        const sequence = Number(message.value.sequence);
        if (sequence !== (this.lastHeartbeat?.sequence ?? 0) + 1 && this.lastHeartbeat !== undefined && sequence !== 1)
          throw new Error(`heartbeat ${sequence} came after ${this.lastHeartbeat.sequence}`);
        this.lastHeartbeat = { root: message.value.root, sequence };
        this.heartbeats += 1;
        return;
      }
      case "delta":
      case "trial": {
        this.#offered(message.case, message.value.baseRoot, message.value);
        return;
      }
      case "manifest": {
        this.#offered("manifest", "", message.value);
        return;
      }
      case "chunk": {
        this.#chunk(message.value.root, message.value.data, message.value.last, message.value.gzip);
        return;
      }
      case "goaway":
        this.goaway = { spreadMs: Number(message.value.spread?.seconds ?? 0n) * 1000, reason: message.value.reason };
        return;
      case "secrets":
        return;
      case undefined:
        throw new Error("control said nothing");
    }
  }

  #offered(
    kind: Offer["kind"],
    baseRoot: string,
    value: {
      readonly target?: SignedRoot | undefined;
      readonly content: Uint8Array;
      readonly chunkedBytes: bigint;
      readonly gzip: boolean;
    },
  ): void {
    const { target, content, chunkedBytes, gzip } = value;
    const isManifestForDelta = kind === "manifest" && this.#offer?.kind === "delta" && this.#offer.wanted?.length === 0;
    if (this.#offer !== undefined && !isManifestForDelta) throw new Error(`${kind} came while another was unanswered`);
    if (target === undefined) throw new Error("there was no target");
    const statement = this.#check(target);
    if (kind !== "trial") this.unanswered = 1;
    this.#offer = { kind, baseRoot, signed: target, statement, gzip, awaitedBytes: Number(chunkedBytes), chunks: [] };
    this.bytes += content.length;
    if (chunkedBytes === 0n) this.#content(content, gzip);
  }

  #check(target: SignedRoot): RootStatement {
    const key = this.hello?.signingKeys.find(({ id }) => id === target.keyId);
    if (key === undefined) throw new Error("an unknown key has signed");
    if (!this.#verify(key.publicKey, target)) throw new Error("the signature is not that of the root");
    const statement = fromBinary(RootStatementSchema, target.statement);
    if (statement.scope !== this.hello?.scope) throw new Error(`the root is for ${statement.scope}`);
    if (statement.notAfter === undefined || timestampMs(statement.notAfter) === 0) throw new Error("the statement does not end");
    if (Number(statement.revision) < this.revision && !statement.rollback) throw new Error("the revision is lower than the one before");
    return statement;
  }

  #chunk(root: string, data: Uint8Array, last: boolean, gzip: boolean): void {
    const offer = this.#offer;
    if (offer === undefined || offer.statement.root !== root) throw new Error("a chunk came for nothing");
    if (data.length > chunkBytesMax) throw new Error("a chunk is too large");
    this.bytes += data.length;
    offer.chunks.push(data);
    if (!last) return;
    const joined = Buffer.concat(offer.chunks.splice(0));
    if (offer.awaitedBytes > 0 && joined.length !== offer.awaitedBytes) throw new Error("chunks are not as long as announced");
    offer.awaitedBytes = 0;
    this.#content(joined, gzip);
  }

  #content(packed: Uint8Array, gzip: boolean): void {
    const offer = this.#offer;
    if (offer === undefined) throw new Error("content came for nothing");
    const bytes = gzip ? gunzipSync(packed) : packed;
    if (offer.kind === "manifest" && offer.manifest === undefined) {
      this.#manifest(offer, bytes);
      return;
    }
    if (offer.kind === "manifest") {
      this.#wanted(offer, bytes);
      return;
    }
    if (offer.baseRoot !== "" && offer.baseRoot !== this.root) {
      if (offer.kind === "trial") {
        this.#answer(offer, new Map(), "the base is not there");
        return;
      }
      offer.wanted = [];
      this.tell({ case: "want", value: wantOf(offer.statement.root, []) });
      return;
    }
    const held = new Map(offer.baseRoot === "" ? [] : this.held);
    const content = fromBinary(DeltaContentSchema, bytes);
    for (const { type, name } of content.removals)
      if (!held.delete(`${type} ${name}`)) throw new Error(`${name} is removed and was not there`);
    for (const { type, name, resource } of content.upserts)
      held.set(`${type} ${name}`, { type, name, bytes: resource, hash: sha256(resource) });
    this.#answer(offer, held, undefined);
  }

  #manifest(offer: Offer, bytes: Uint8Array): void {
    const { entries } = fromBinary(ManifestContentSchema, bytes);
    offer.manifest = entries.map(({ type, name, hash }) => ({ type, name, hash: Buffer.from(hash).toString("hex") }));
    const has = new Set([...this.held.values()].map(({ hash }) => hash));
    offer.wanted = [...new Set(offer.manifest.map(({ hash }) => hash).filter((hash) => !has.has(hash)))];
    if (offer.wanted.length === 0) this.#wanted(offer, new Uint8Array());
    else this.tell({ case: "want", value: wantOf(offer.statement.root, offer.wanted) });
  }

  #wanted(offer: Offer, bytes: Uint8Array): void {
    const { resources } = fromBinary(WantedContentSchema, bytes);
    const byHash = new Map([...this.held.values()].map((entry) => [entry.hash, entry.bytes]));
    for (const [at, resource] of resources.entries()) {
      if (sha256(resource) !== offer.wanted?.[at]) throw new Error("what came is not what was wanted");
      byHash.set(sha256(resource), resource);
    }
    const held = new Map<string, SnapshotEntry>();
    for (const { type, name, hash } of offer.manifest ?? []) {
      const resource = byHash.get(hash);
      if (resource === undefined) throw new Error("something that was wanted did not come");
      held.set(`${type} ${name}`, { type, name, hash, bytes: resource });
    }
    this.#answer(offer, held, undefined);
  }

  #answer(offer: Offer, held: Held, wrong: string | undefined): void {
    const { root, revision } = offer.statement;
    if (wrong === undefined) {
      const entries = [...held.values()].sort((a, b) => (a.type === b.type ? (a.name < b.name ? -1 : 1) : a.type < b.type ? -1 : 1));
      if (rootOf(entries, sha256) !== root) throw new Error(`what came for ${root} has another root`);
    }
    const taste = wrong === undefined ? this.taste(root) : { refuse: wrong };
    if (taste === "ignore") return;
    this.#offer = undefined;
    const problems = taste === "accept" ? [] : [create(PolicyProblemSchema, { id: "test", message: taste.refuse })];
    if (offer.kind === "trial") {
      this.tell({ case: "trialResult", value: { $typeName: "outrigger.mesh.v1.TrialResult", root, problems } });
      return;
    }
    this.unanswered = 0;
    if (taste === "accept") {
      this.held = held;
      this.root = root;
      this.revision = Number(revision);
      this.tell({ case: "ack", value: { $typeName: "outrigger.mesh.v1.Ack", root, revision, applyUs: 5n } });
      return;
    }
    const kept = { refusedRoot: root, refusedRevision: revision, keptRoot: this.root, problems };
    this.tell({ case: "nack", value: { $typeName: "outrigger.mesh.v1.Nack", ...kept } });
  }
}

function wantOf(root: string, hashes: readonly string[]) {
  return { $typeName: "outrigger.mesh.v1.Want" as const, root, hashes: hashes.map((hash) => new Uint8Array(Buffer.from(hash, "hex"))) };
}
