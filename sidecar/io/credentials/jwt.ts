/**
 * Signed claims by which a service account or an application proves itself (RFC 7519, in the compact form of RFC 7515). Only signing is
 * needed here, which is one call of Node's own; a library earns its place where tokens are verified.
 */
import { constants, createPrivateKey, type KeyObject, sign } from "node:crypto";
import { CredentialFailure } from "./failure.ts";

/** Makes a signed token. Throws a `CredentialFailure` if the key is not one of RSA. */
export function signedClaims(
  header: { readonly alg: "RS256" | "PS256" } & Readonly<Record<string, string>>,
  claims: Readonly<Record<string, string | number>>,
  key: KeyObject,
): string {
  const text = `${encoded({ ...header, typ: "JWT" })}.${encoded(claims)}`;
  // RFC 7518, sections 3.3 and 3.5: of PS256 the salt is as long as the hash.
  const padding =
    header.alg === "PS256"
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      : { padding: constants.RSA_PKCS1_PADDING };
  return `${text}.${sign("sha256", Buffer.from(text), { key, ...padding }).toString("base64url")}`;
}

/** An RSA key from its PEM. Throws a `CredentialFailure`, which never repeats the text. `whence` says where it stands. */
export function rsaKey(pem: string, whence: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new CredentialFailure(`${whence} holds no private key that could be read`);
  }
  if (key.asymmetricKeyType !== "rsa") throw new CredentialFailure(`the private key in ${whence} is not one of RSA`);
  return key;
}

function encoded(value: Readonly<Record<string, string | number>>): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
