/** What control vouches for, and whether to believe it: the right key, the right scope, the right time, and no step back. */
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type RootStatement,
  RootStatementSchema,
  type SignedRoot,
  type SigningKey,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { keySigningBytes, rootSigningBytes } from "../../proto/mesh.ts";

/** Checks an Ed25519 signature (RFC 8032) with a public key of 32 bytes. False for whatever is no key or no signature; never throws. */
export type VerifySignature = (publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array) => boolean;

/** Keys that are trusted to sign roots, by name. */
export type TrustedKeys = ReadonlyMap<string, SigningKey>;

/** A signing key's public part has this many bytes. */
const keyBytes = 32;
/** Trusted keys at most: one that signs, one that comes, and those of rotations that a sidecar slept through. */
const keysMax = 16;

/** A statement that is believed, or why it is not. The reason is a sentence. */
export type ReadStatement = { readonly statement: RootStatement } | { readonly refusal: string };

/** Reads a signed root. Whether it may take effect now is asked by `refusalOf`. */
export function readStatement(signed: SignedRoot, keys: TrustedKeys, scope: string, verify: VerifySignature): ReadStatement {
  const key = keys.get(signed.keyId);
  if (key === undefined) return { refusal: "It is signed with a key that this sidecar does not trust." };
  if (!verify(key.publicKey, rootSigningBytes(signed.statement), signed.signature)) return { refusal: "Its signature is wrong." };
  let statement: RootStatement;
  try {
    statement = fromBinary(RootStatementSchema, signed.statement);
  } catch {
    return { refusal: "What is signed cannot be read." };
  }
  if (!/^[0-9a-f]{64}$/.test(statement.root)) return { refusal: "What is signed names no root." };
  if (statement.revision < 0n || statement.revision > BigInt(Number.MAX_SAFE_INTEGER))
    return { refusal: "What is signed names no revision." };
  if (statement.scope !== scope) return { refusal: `It is for the scope ${shownScope(statement.scope)}, and this sidecar is of ${scope}.` };
  return { statement };
}

/** Why a statement may not take effect now, after a policy of the revision `floor`; undefined if it may. */
export function refusalOf(statement: RootStatement, floor: number, nowMs: number): string | undefined {
  if (Number(statement.revision) < floor && !statement.rollback) {
    return `It is of revision ${statement.revision}, and this sidecar has seen ${floor}: a step back must be signed as one.`;
  }
  if (statement.notAfter === undefined) return "It does not say until when it holds.";
  if (timestampMs(statement.notAfter) < nowMs) return "It may no longer be put in force: it is too old.";
  return undefined;
}

/**
 * The keys to trust once control has named its own. Whoever trusts none yet takes all, since the connection has proven who control is.
 * Whoever trusts some takes another only if one of them, or one taken before in the same list, has endorsed it.
 */
export function trustKeys(trusted: TrustedKeys, named: readonly SigningKey[], verify: VerifySignature): TrustedKeys {
  const wellFormed = named.filter(({ id, publicKey }) => id !== "" && publicKey.length === keyBytes);
  if (trusted.size === 0) return new Map(wellFormed.slice(0, keysMax).map((key) => [key.id, key]));
  const all = new Map(trusted);
  for (let before = -1; before !== all.size && all.size < keysMax; ) {
    before = all.size;
    for (const key of wellFormed) {
      const endorser = all.get(key.endorsedBy);
      if (all.has(key.id) || endorser === undefined || all.size >= keysMax) continue;
      if (verify(endorser.publicKey, keySigningBytes(key.publicKey), key.endorsement)) all.set(key.id, key);
    }
  }
  return all;
}

/** A scope as it may be shown: what a wrong key signs may be anything. */
function shownScope(scope: string): string {
  return /^[a-z0-9./@-]{1,330}$/.test(scope) ? scope : "(not shown)";
}
