/**
 * What sidecar and control must write alike, byte for byte: whom a root is for, what is signed, and what a join token holds.
 */

/** Who a sidecar has proven to be, and what its build understands. */
export interface SidecarIdentity {
  readonly namespace: string;
  readonly account: string;
  readonly capabilityLevel: number;
}

/** The class of sidecars that may use exactly the same, as it stands in a statement, such as `default/chat@2`. */
export function scopeOf({ namespace, account, capabilityLevel }: SidecarIdentity): string {
  return `${namespace}/${account}@${capabilityLevel}`;
}

/** Bytes of one message's content at most; what is larger travels in chunks of this size, so that no message needs a larger limit. */
export const chunkBytesMax = 256 * 1024;

/** Bytes of a snapshot's resources at most: enough for 100,000 routes, and a sidecar holds it twice while it compiles. */
export const snapshotBytesMax = 64 * 1024 * 1024;

/** What is signed for a root: the binary form of a RootStatement, set apart from all else that the key could sign. */
export function rootSigningBytes(statement: Uint8Array): Uint8Array<ArrayBuffer> {
  return afterLine("outrigger root 1", statement);
}

/** What is signed to endorse a key that signs roots: its public part, 32 bytes. */
export function keySigningBytes(publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
  return afterLine("outrigger key 1", publicKey);
}

/** What a sealed secret is bound to beside its name: the scope and root that it was sealed for. */
export function sealingInfo(scope: string, root: string): Uint8Array<ArrayBuffer> {
  return afterLine("outrigger secret 1", new TextEncoder().encode(`${scope}\n${root}`));
}

/** What a sidecar signs to show that a public key is its own: SHA-256 of the join token (32 bytes, or none) and the key in DER. */
export function joinProofBytes(tokenSha256: Uint8Array, publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(tokenSha256.length + publicKey.length);
  bytes.set(tokenSha256);
  bytes.set(publicKey, tokenSha256.length);
  return afterLine("outrigger join 1", bytes);
}

/** What a join token holds. */
export interface JoinToken {
  /** What nobody can guess: 32 bytes as hexadecimal digits. */
  readonly secret: string;
  /** SHA-256 of the authority's certificate in DER, which vouches for control's address; 64 hexadecimal digits. */
  readonly authoritySha256: string;
  /** SHA-256 of the public key (32 bytes) that signs roots; 64 hexadecimal digits. */
  readonly signingKeySha256: string;
  /** Whom it lets in, so that nobody must say it again. Control believes its own record, of which the hash of the whole text is the key. */
  readonly namespace: string;
  readonly account: string;
}

/** A join token as text. Its SHA-256 in UTF-8 is what control remembers of it. */
export function joinTokenText({ secret, authoritySha256, signingKeySha256, namespace, account }: JoinToken): string {
  return `outrigger-join-1-${secret}-${authoritySha256}-${signingKeySha256}-${namespace}/${account}`;
}

/** Reads a join token; undefined if the text is none. */
export function readJoinToken(text: string): JoinToken | undefined {
  const found = /^outrigger-join-1-([0-9a-f]{64})-([0-9a-f]{64})-([0-9a-f]{64})-([a-z0-9-]{1,63})\/([a-z0-9.-]{1,253})$/.exec(text);
  if (found === null) return undefined;
  const [, secret = "", authoritySha256 = "", signingKeySha256 = "", namespace = "", account = ""] = found;
  return { secret, authoritySha256, signingKeySha256, namespace, account };
}

function afterLine(line: string, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = new TextEncoder().encode(`${line}\n`);
  const all = new Uint8Array(head.length + bytes.length);
  all.set(head);
  all.set(bytes, head.length);
  return all;
}
