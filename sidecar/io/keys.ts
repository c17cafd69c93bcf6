/** What the machine's cryptography does for the mesh: signatures checked, secrets opened, content inflated. */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  sign,
  verify,
} from "node:crypto";
import { gunzipSync } from "node:zlib";
import { type HpkePrimitives, openBase } from "../../proto/hpke.ts";
import { sealingInfo } from "../../proto/mesh.ts";
import type { SealKey } from "../mesh/client.ts";
import type { OwnKey } from "../mesh/membership.ts";
import type { VerifySignature } from "../mesh/statement.ts";

/** Checks Ed25519 (RFC 8032). */
export const verifySignature: VerifySignature = (publicKey, data, signature) => {
  try {
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKey).toString("base64url") }, format: "jwk" });
    return verify(null, data, key, signature);
  } catch {
    return false; // What is no key has signed nothing.
  }
};

/** Undoes gzip, up to a number of bytes. */
export function gunzip(bytes: Uint8Array, bytesMax: number): Uint8Array {
  return gunzipSync(bytes, { maxOutputLength: bytesMax });
}

/** Makes a key to which control can seal secrets. */
export function makeSealKey(): SealKey {
  const pair = generateKeyPairSync("x25519");
  const { x = "" } = pair.publicKey.export({ format: "jwk" });
  const { d = "" } = pair.privateKey.export({ format: "jwk" });
  const keys = { publicKey: bytesOf(x), privateKey: bytesOf(d) };
  return {
    publicKey: keys.publicKey,
    open({ encapsulatedKey, ciphertext }, { scope, root, reference }) {
      const bound = { info: sealingInfo(scope, root), aad: new TextEncoder().encode(reference) };
      return new TextDecoder("utf-8", { fatal: true }).decode(openBase(ciphertext, encapsulatedKey, keys, bound, hpkePrimitives));
    },
  };
}

/**
 * Makes a key for a certificate: Ed25519, which both ends of the mesh use for everything that is signed. With a private part (PKCS #8 in
 * DER) it is that key again.
 */
export function makeOwnKey(privateKey?: Uint8Array): OwnKey {
  const own =
    privateKey === undefined
      ? generateKeyPairSync("ed25519").privateKey
      : createPrivateKey({ key: Buffer.from(privateKey), format: "der", type: "pkcs8" });
  return {
    privateKey: new Uint8Array(own.export({ format: "der", type: "pkcs8" })),
    publicKey: new Uint8Array(createPublicKey(own).export({ format: "der", type: "spki" })),
    sign: (bytes) => new Uint8Array(sign(null, bytes, own)),
  };
}

/** A private key, PKCS #8 in DER, in PEM. */
export function keyPem(privateKey: Uint8Array): string {
  return createPrivateKey({ key: Buffer.from(privateKey), format: "der", type: "pkcs8" })
    .export({ format: "pem", type: "pkcs8" })
    .toString();
}

/** The primitives of RFC 9180 by Node. */
export const hpkePrimitives: HpkePrimitives = Object.freeze({
  hmac: (key, data) => createHmac("sha256", key).update(data).digest(),
  dh(privateKey, publicKey) {
    const x = Buffer.from(publicKey).toString("base64url");
    const theirs = createPublicKey({ key: { kty: "OKP", crv: "X25519", x }, format: "jwk" });
    const mine = createPrivateKey({ key: Buffer.concat([pkcs8Head, privateKey]), format: "der", type: "pkcs8" });
    return diffieHellman({ privateKey: mine, publicKey: theirs });
  },
  seal(key, nonce, aad, text) {
    const cipher = createCipheriv(cipherOf(key), key, nonce).setAAD(aad);
    return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  },
  open(key, nonce, aad, sealed) {
    const end = Math.max(sealed.length - tagBytes, 0);
    const decipher = createDecipheriv(cipherOf(key), key, nonce, { authTagLength: tagBytes }).setAAD(aad).setAuthTag(sealed.subarray(end));
    return Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()]);
  },
} satisfies HpkePrimitives);

/** What stands before the 32 bytes of a private key of X25519 in PKCS #8 (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b656e04220420", "hex");
/** Of every AES-GCM of RFC 9180, section 7.3. */
const tagBytes = 16;

function cipherOf(key: Uint8Array): "aes-128-gcm" | "aes-256-gcm" {
  return key.length === 16 ? "aes-128-gcm" : "aes-256-gcm";
}

function bytesOf(base64url: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64url, "base64url"));
}
