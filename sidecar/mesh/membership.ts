/**
 * How a sidecar proves who it is: with a certificate that a join token buys and that is renewed before it ends, or with a token that its
 * platform writes to a file and replaces from time to time.
 *
 * The key never leaves the machine. What a join token vouches for, control's authority and the key that signs roots, is known by hash
 * before anything is said, so that nobody in between can take the token or give policy.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { JoinResponse, SigningKey } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type StoredIdentity, StoredIdentitySchema } from "../../proto/gen/outrigger/mesh/v1/slot_pb.ts";
import { type JoinToken, joinProofBytes } from "../../proto/mesh.ts";
import type { Link, LinkEvents } from "./link.ts";
import { type TrustedKeys, trustKeys, type VerifySignature } from "./statement.ts";

/** A key pair that a certificate is for. */
export interface OwnKey {
  /** PKCS #8 in DER. */
  readonly privateKey: Uint8Array;
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  sign(bytes: Uint8Array): Uint8Array;
}

/** What joining takes of the machine. */
export interface JoinParts {
  /** Makes a key, or makes one ready again from its private part. */
  readonly makeKey: (privateKey?: Uint8Array) => OwnKey;
  readonly verify: VerifySignature;
  /** SHA-256 as bytes. */
  readonly digest: (data: Uint8Array | string) => Uint8Array;
  /** Asks control. */
  readonly ask: (request: {
    token: string;
    publicKey: Uint8Array;
    proof: Uint8Array;
    instance: string;
    certificate: Uint8Array;
  }) => Promise<JoinResponse>;
}

/** The file in which identity stands. */
export const identityName = "identity";

/** By which part of a certificate's life it is renewed: the rest is for a control that is away. */
const renewAt = 2 / 3;

/** How much a certificate is worth now. */
export function certificateState(identity: StoredIdentity | undefined, nowMs: number): "none" | "good" | "renew" | "ended" {
  if (identity?.notBefore === undefined || identity.notAfter === undefined || identity.certificates.length === 0) return "none";
  const [beginMs, endMs] = [timestampMs(identity.notBefore), timestampMs(identity.notAfter)];
  if (nowMs >= endMs) return "ended";
  return nowMs >= beginMs + (endMs - beginMs) * renewAt ? "renew" : "good";
}

/**
 * Buys a certificate: with a token, or with the one that there is, whether the connection shows it or it has just ended. Rejects if control gives what cannot be believed, or with
 * what `ask` rejects with.
 */
export async function join(
  token: { readonly text: string; readonly read: JoinToken } | undefined,
  before: StoredIdentity | undefined,
  instance: string,
  nowMs: number,
  { makeKey, verify, digest, ask }: JoinParts,
): Promise<StoredIdentity> {
  // A key that has bought a certificate with a token can do so again with the same one, which is counted once for each key.
  const key = makeKey(before === undefined || before.privateKey.length === 0 ? undefined : before.privateKey);
  const proof = key.sign(joinProofBytes(token === undefined ? new Uint8Array() : digest(token.text), key.publicKey));
  const certificate = (token === undefined ? before?.certificates[0] : undefined) ?? new Uint8Array();
  const answer = await ask({ token: token?.text ?? "", publicKey: key.publicKey, proof, instance, certificate });
  const authority = token === undefined ? before?.authority : answer.authority;
  if (authority === undefined || (token !== undefined && hexOf(digest(authority)) !== token.read.authoritySha256)) {
    throw new Error("control gave another authority than the one that the join token names");
  }
  if (answer.certificates.length === 0 || answer.notAfter === undefined || answer.account === "" || answer.namespace === "") {
    throw new Error("control gave no certificate");
  }
  const pinned = token === undefined ? keysOf(before) : pinnedKeys(answer.signingKeys, token.read.signingKeySha256, digest);
  if (pinned.size === 0) throw new Error("control signs with another key than the one that the join token names");
  return create(StoredIdentitySchema, {
    privateKey: key.privateKey,
    certificates: answer.certificates,
    authority,
    notBefore: timestampFromMs(nowMs),
    notAfter: answer.notAfter,
    account: answer.account,
    namespace: answer.namespace,
    signingKeys: [...trustKeys(pinned, answer.signingKeys, verify).values()],
    instance,
  });
}

/** The keys that a sidecar trusts by what stands on its disk. */
export function keysOf(identity: StoredIdentity | undefined): TrustedKeys {
  return new Map((identity?.signingKeys ?? []).map((key) => [key.id, key]));
}

/** Reads what stands on the disk; undefined if it is nothing that was written here. */
export function readIdentity(bytes: Uint8Array | undefined): StoredIdentity | undefined {
  if (bytes === undefined) return undefined;
  try {
    return fromBinary(StoredIdentitySchema, bytes);
  } catch {
    return undefined;
  }
}

/** What is written to the disk. */
export function identityBytes(identity: StoredIdentity): Uint8Array {
  return toBinary(StoredIdentitySchema, identity);
}

/** Who a platform's token says that it is for, without a proof: control asks for that. */
export interface TokenClaims {
  readonly namespace: string;
  readonly account: string;
  /** The pod's UID, or empty. */
  readonly pod: string;
}

/**
 * Reads the claims of a service account's token (a JWT of RFC 7519 with Kubernetes' own claims); undefined if it has none. Nothing is
 * believed of it: a sidecar says of itself what its token says, and control checks the token.
 */
export function readClaims(token: string, decode: (base64url: string) => string): TokenClaims | undefined {
  try {
    const claims: unknown = JSON.parse(decode(token.split(".")[1] ?? ""));
    const kubernetes = memberOf(claims, "kubernetes.io");
    const namespace = memberOf(kubernetes, "namespace");
    const account = memberOf(memberOf(kubernetes, "serviceaccount"), "name");
    const pod = memberOf(memberOf(kubernetes, "pod"), "uid");
    if (typeof namespace !== "string" || typeof account !== "string") return undefined;
    return { namespace, account, pod: typeof pod === "string" ? pod : "" };
  } catch {
    return undefined;
  }
}

/**
 * Opens a link once something that takes time is settled, as a certificate that must be renewed first. What is sent until then waits; if
 * it cannot be settled, the link ends as one that control ended.
 */
export function linkOnce(
  settle: () => Promise<(events: LinkEvents) => Link>,
  endOf: (error: unknown) => Parameters<LinkEvents["ended"]>[0],
  events: LinkEvents,
): Link {
  let closed = false;
  let link: Link | undefined;
  const waiting: Parameters<Link["send"]>[0][] = [];
  void settle().then(
    (dial) => {
      if (closed) return;
      link = dial(events);
      for (const message of waiting.splice(0)) link.send(message);
    },
    (error: unknown) => {
      if (!closed) events.ended(endOf(error));
    },
  );
  return {
    send(message) {
      if (link === undefined) waiting.push(message);
      else link.send(message);
    },
    close() {
      closed = true;
      link?.close();
    },
  };
}

function pinnedKeys(keys: readonly SigningKey[], sha256: string, digest: JoinParts["digest"]): TrustedKeys {
  const pinned = keys.find(({ publicKey }) => hexOf(digest(publicKey)) === sha256);
  return new Map(pinned === undefined ? [] : [[pinned.id, pinned]]);
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
