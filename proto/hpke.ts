/**
 * Hybrid public key encryption in base mode (RFC 9180): whoever has a public key seals for its holder, who cannot tell who sealed.
 *
 * Only what both ends of the mesh need: one message for each key that is made for it. The suite is DHKEM(X25519, HKDF-SHA256),
 * HKDF-SHA256 and AES-256-GCM; AES-128-GCM is there because the RFC's own examples use it. Primitives arrive as an argument.
 */

/** What the machine lends. */
export interface HpkePrimitives {
  /** HMAC with SHA-256 (RFC 2104). */
  readonly hmac: (key: Uint8Array, data: Uint8Array) => Uint8Array;
  /** X25519 (RFC 7748) of a private and a public key, 32 bytes each; throws if the result is all zero, as section 7.1.4 wants. */
  readonly dh: (privateKey: Uint8Array, publicKey: Uint8Array) => Uint8Array;
  /** AES-GCM with a tag of 16 bytes at the end; the key's length says which AES. */
  readonly seal: (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, text: Uint8Array) => Uint8Array;
  /** Undoes `seal`; throws if anything differs. */
  readonly open: (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array) => Uint8Array;
}

/** A key pair of X25519, 32 bytes each. */
export interface KeyPair {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

/** An AEAD of the RFC: its number and the length of its key in bytes (section 7.3). */
export interface Aead {
  readonly id: number;
  readonly keyBytes: number;
}

/** AES-256-GCM. */
export const aes256Gcm: Aead = Object.freeze({ id: 2, keyBytes: 32 });

/** What a message is bound to beside its key. */
export interface Bound {
  readonly info: Uint8Array;
  readonly aad: Uint8Array;
}

/** Seals a message for the holder of a key. `ephemeral` is made for this message alone; its public part travels along (`enc`). */
export function sealBase(
  text: Uint8Array,
  recipient: Uint8Array,
  ephemeral: KeyPair,
  { info, aad }: Bound,
  lent: HpkePrimitives,
  aead = aes256Gcm,
): Uint8Array {
  const dh = lent.dh(ephemeral.privateKey, recipient);
  const { key, nonce } = schedule(dh, ephemeral.publicKey, recipient, info, lent, aead);
  return lent.seal(key, nonce, aad, text);
}

/** Opens a message; throws if it was not sealed for this key, or is bound to something else. */
export function openBase(
  sealed: Uint8Array,
  encapsulated: Uint8Array,
  recipient: KeyPair,
  { info, aad }: Bound,
  lent: HpkePrimitives,
  aead = aes256Gcm,
): Uint8Array {
  const dh = lent.dh(recipient.privateKey, encapsulated);
  const { key, nonce } = schedule(dh, encapsulated, recipient.publicKey, info, lent, aead);
  return lent.open(key, nonce, aad, sealed);
}

/** Key and nonce of the first message: sections 4.1 (the KEM's secret) and 5.1 (the key schedule, base mode). */
function schedule(
  dh: Uint8Array,
  encapsulated: Uint8Array,
  recipient: Uint8Array,
  info: Uint8Array,
  { hmac }: HpkePrimitives,
  aead: Aead,
): { readonly key: Uint8Array; readonly nonce: Uint8Array } {
  const kem = labeled(hmac, join(utf8("KEM"), twoBytes(kemId)));
  const shared = kem.expand(kem.extract(empty, "eae_prk", dh), "shared_secret", join(encapsulated, recipient), secretBytes);
  const suite = labeled(hmac, join(utf8("HPKE"), twoBytes(kemId), twoBytes(kdfId), twoBytes(aead.id)));
  // No pre-shared key in base mode: its name and value are empty.
  const context = join(Uint8Array.of(baseMode), suite.extract(empty, "psk_id_hash", empty), suite.extract(empty, "info_hash", info));
  const secret = suite.extract(shared, "secret", empty);
  // The nonce of the first message is the base nonce itself (section 5.2).
  return { key: suite.expand(secret, "key", context, aead.keyBytes), nonce: suite.expand(secret, "base_nonce", context, nonceBytes) };
}

/** HKDF (RFC 5869) with the labels of section 4. */
function labeled(hmac: HpkePrimitives["hmac"], suite: Uint8Array) {
  const version = utf8("HPKE-v1");
  return {
    extract: (salt: Uint8Array, label: string, input: Uint8Array) => hmac(salt, join(version, suite, utf8(label), input)),
    expand(key: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
      // One block of SHA-256 is 32 bytes, and nothing here is longer.
      if (length > 32) throw new Error("more than one block of key was asked for");
      return hmac(key, join(twoBytes(length), version, suite, utf8(label), info, Uint8Array.of(1))).subarray(0, length);
    },
  };
}

/** DHKEM(X25519, HKDF-SHA256), section 7.1. */
const kemId = 0x0020;
/** HKDF-SHA256, section 7.2. */
const kdfId = 0x0001;
/** Of every AES-GCM, section 7.3. */
const nonceBytes = 12;
/** Of the KEM's shared secret, section 7.1. */
const secretBytes = 32;
/** Section 5. */
const baseMode = 0x00;
const empty = new Uint8Array();

function twoBytes(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
