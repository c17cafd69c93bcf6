/**
 * Control's own authority: it vouches for control's address and for sidecars that have joined. Made at the first start, kept in the data
 * folder. Its certificates are short: a sidecar's lasts an hour and names its account in the way of SPIFFE.
 */
import "reflect-metadata";
import { createHash, createPrivateKey, createPublicKey, type KeyObject, verify, webcrypto, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import type { PrivateFolder } from "./privateFolder.ts";

/** How long a sidecar's certificate lasts: what is stolen is worthless soon, and control may be away for most of it. */
export const sidecarCertificateMs = 60 * 60 * 1000;
/** How long control's own certificate lasts; it is made anew at every start. */
const serverCertificateMs = 365 * 24 * 60 * 60 * 1000;
/** How long the authority lasts. */
const authorityMs = 10 * serverCertificateMs;
/** Certificates begin this much earlier, for clocks that are slow. */
const skewMs = 5 * 60 * 1000;
/** The domain of the names that sidecars get. */
const trustDomain = "outrigger";

/** Who a certificate names. */
export interface CertifiedSidecar {
  readonly namespace: string;
  readonly account: string;
  readonly instance: string;
}

/** Control's own authority. */
export interface Authority {
  /** Its certificate in DER. */
  readonly certificate: Uint8Array;
  /** The same in PEM, for who checks clients and for people. */
  readonly pem: string;
  /** SHA-256 of its certificate in DER, as 64 hexadecimal digits: what a join token pins. */
  readonly sha256: string;
  /** Makes a certificate and key for control itself, both in PEM, for those names and addresses. */
  serve(hosts: readonly string[], nowMs: number): Promise<{ readonly certificate: string; readonly key: string }>;
  /** Makes a sidecar's certificate for a public key (SubjectPublicKeyInfo in DER). Returns it in DER, and when it ends. */
  certify(sidecar: CertifiedSidecar, publicKey: Uint8Array, nowMs: number): Promise<{ certificate: Uint8Array; notAfterMs: number }>;
  /** Who a certificate in DER names, if this authority made it and it has not ended, or has not for longer than `graceMs`. */
  read(certificate: Uint8Array, nowMs: number, graceMs?: number): (CertifiedSidecar & { readonly notAfterMs: number }) | undefined;
}

/** Opens the authority of a data folder, and makes it if there is none. Rejects if its file is there and cannot be used. */
export async function openAuthority(folder: PrivateFolder, nowMs: number): Promise<Authority> {
  const text = folder.read(fileName);
  if (text !== undefined) return authorityOf(await readAuthority(text, folder.pathOf(fileName)));
  const keys = await generateKeys();
  const made = await X509CertificateGenerator.createSelfSigned(
    {
      name: authorityName,
      keys,
      serialNumber: serialNumber(),
      ...span(nowMs, authorityMs),
      signingAlgorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      ],
    },
    cryptography,
  );
  folder.write(fileName, `${await privatePem(keys.privateKey)}${made.toString("pem")}\n`);
  return authorityOf({ certificate: new X509Certificate(Buffer.from(made.rawData)), key: keys.privateKey });
}

/** Whether a signature was made with the key that a public key belongs to; Ed25519 or P-256. False for any other key too. */
export function isSignedBy(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = readPublicKey(publicKey);
  if (key === undefined) return false;
  return key.asymmetricKeyType === "ed25519" ? verify(null, bytes, key, signature) : verify("sha256", bytes, key, signature);
}

interface Made {
  readonly certificate: X509Certificate;
  readonly key: CryptoKey;
}

function authorityOf({ certificate, key }: Made): Authority {
  const der = new Uint8Array(certificate.raw);
  const pem = certificate.toString();

  async function issue(extensions: Extension[], subject: string, publicKey: CryptoKey, nowMs: number, forMs: number) {
    return X509CertificateGenerator.create(
      {
        subject: [{ CN: [subject] }],
        issuer: authorityName,
        serialNumber: serialNumber(),
        ...span(nowMs, forMs),
        signingAlgorithm,
        publicKey,
        signingKey: key,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          ...extensions,
        ],
      },
      cryptography,
    );
  }

  return {
    certificate: der,
    pem,
    sha256: createHash("sha256").update(der).digest("hex"),
    async serve(hosts, nowMs) {
      const keys = await generateKeys();
      const names: JsonGeneralNames = hosts.map((host) => ({ type: isAddress(host) ? "ip" : "dns", value: host }));
      const extensions = [new SubjectAlternativeNameExtension(names), new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth])];
      const made = await issue(extensions, "Outrigger control", keys.publicKey, nowMs, serverCertificateMs);
      return { certificate: `${made.toString("pem")}\n${pem}`, key: await privatePem(keys.privateKey) };
    },
    async certify({ namespace, account, instance }, publicKey, nowMs) {
      const name = `spiffe://${trustDomain}/ns/${namespace}/sa/${account}`;
      const extensions = [
        new SubjectAlternativeNameExtension([{ type: "url", value: name }]),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
      ];
      const made = await issue(extensions, instance, await importPublicKey(publicKey), nowMs, sidecarCertificateMs);
      return { certificate: new Uint8Array(made.rawData), notAfterMs: made.notAfter.getTime() };
    },
    read(shown, nowMs, graceMs = 0) {
      let client: X509Certificate;
      try {
        client = new X509Certificate(shown);
      } catch {
        return undefined;
      }
      const [notBeforeMs, notAfterMs] = [client.validFromDate.getTime(), client.validToDate.getTime()];
      if (nowMs < notBeforeMs || nowMs > notAfterMs + graceMs || !client.checkIssued(certificate) || !client.verify(certificate.publicKey))
        return undefined;
      const name = new RegExp(`^URI:spiffe://${trustDomain}/ns/([a-z0-9-]+)/sa/([a-z0-9.-]+)$`).exec(client.subjectAltName ?? "");
      const instance = /^CN=(.+)$/.exec(client.subject)?.[1];
      if (name?.[1] === undefined || name[2] === undefined || instance === undefined) return undefined;
      return { namespace: name[1], account: name[2], instance, notAfterMs };
    },
  };
}

/** Where the authority of a data folder stands: its key, then its certificate, both in PEM. */
export function authorityPath(dataFolder: string): string {
  return join(dataFolder, fileName);
}

const fileName = "authority.pem";
/** What no certificate that it makes may be called: one with the name of its issuer counts as signed by itself. */
const authorityName = [{ CN: ["Outrigger authority"] }];
const cryptography = webcrypto as unknown as Crypto;
const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signingAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
}

async function privatePem(key: CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey("pkcs8", key);
  return createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" })
    .export({ type: "pkcs8", format: "pem" })
    .toString();
}

async function readAuthority(text: string, path: string): Promise<Made> {
  try {
    const certificate = new X509Certificate(text.slice(text.indexOf("-----BEGIN CERTIFICATE-----")));
    const der = createPrivateKey(text).export({ type: "pkcs8", format: "der" });
    if (!certificate.checkPrivateKey(createPrivateKey(text))) throw new Error("the key is another certificate's");
    return { certificate, key: await webcrypto.subtle.importKey("pkcs8", new Uint8Array(der), keyAlgorithm, false, ["sign"]) };
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new Error(`${path} is no authority as control writes it (${cause}); restore it from a backup`);
  }
}

function readPublicKey(der: Uint8Array): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(der), format: "der", type: "spki" });
    const isP256 = key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1";
    return isP256 || key.asymmetricKeyType === "ed25519" ? key : undefined;
  } catch {
    return undefined;
  }
}

function importPublicKey(der: Uint8Array): Promise<CryptoKey> {
  const algorithm = readPublicKey(der)?.asymmetricKeyType === "ed25519" ? { name: "Ed25519" } : keyAlgorithm;
  return webcrypto.subtle.importKey("spki", new Uint8Array(der), algorithm, true, ["verify"]) as Promise<CryptoKey>;
}

function span(nowMs: number, forMs: number): { notBefore: Date; notAfter: Date } {
  const dateOf = (ms: number): Date => timestampDate(timestampFromMs(ms));
  return { notBefore: dateOf(nowMs - skewMs), notAfter: dateOf(nowMs + forMs) };
}

/** Whether a host is an address and no name. */
function isAddress(host: string): boolean {
  return host.includes(":") || /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
}

/** 16 random bytes, positive (RFC 5280, section 4.1.2.2). */
function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}
