/**
 * The keys that sign roots, and the statements that they sign.
 *
 * A sidecar enforces no root without the signature of a key that it trusts, so whoever takes over the store, the network or a replica
 * without the key can take policy away and not give any. Keys stand in one file of the data folder, which only its owner can read. The
 * newest signs; those before it stay known, and each new one is endorsed by the one before, so that sidecars follow a change of keys.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  RootStatementSchema,
  type SignedRoot,
  SignedRootSchema,
  type SigningKey,
  SigningKeySchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { keySigningBytes, rootSigningBytes } from "../../proto/mesh.ts";
import { sha256 } from "../sha256.ts";
import { type PrivateFolder, readJsonFile } from "./privateFolder.ts";

/** How long a sidecar may begin to enforce a root: over a long weekend without control, and no root that leaked counts for ever. */
const statementMs = 7 * 24 * 60 * 60 * 1000;
/** Keys that are kept: sidecars that were away while this many came must join again. */
const keysMax = 8;

/** What is said of a root. */
export interface Statement {
  readonly root: string;
  readonly revision: number;
  readonly scope: string;
  /** Whether it may take the place of a higher revision. */
  readonly rollback: boolean;
}

/** Signs roots. */
export interface Signer {
  /** The name of the key that signs. */
  readonly keyId: string;
  /** The public parts of all keys, the one that signs first. */
  readonly keys: readonly SigningKey[];
  /** Signs a statement that begins to end from now on. */
  sign(statement: Statement, nowMs: number): SignedRoot;
}

/** Opens the keys of a data folder, and makes the first one if there is none. Throws if the file is there and cannot be used. */
export function openSigner(folder: PrivateFolder): Signer {
  const known = readKeys(folder);
  if (known.length > 0) return signerOf(known);
  const first = [makeKey(undefined)];
  writeKeys(folder, first);
  return signerOf(first);
}

/** Adds a key that signs from now on, endorsed by the one before it. A control that runs takes it up when it starts again. */
export function rotateSigningKey(folder: PrivateFolder): Signer {
  const known = readKeys(folder);
  const keys = [makeKey(known[0]), ...known].slice(0, keysMax);
  writeKeys(folder, keys);
  return signerOf(keys);
}

/** Keys that live as long as the process, for sidecars in the same one. */
export function makeSigner(): Signer {
  return signerOf([makeKey(undefined)]);
}

/** The 32 bytes of an Ed25519 public key (RFC 8410: they end its SubjectPublicKeyInfo). */
export function rawPublicKey(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ type: "spki", format: "der" }).subarray(-32));
}

interface Key {
  readonly id: string;
  readonly private: KeyObject;
  readonly public: Uint8Array;
  readonly endorsedBy: string;
  readonly endorsement: Uint8Array;
}

function signerOf(keys: readonly Key[]): Signer {
  const [newest] = keys;
  if (newest === undefined) throw new Error("a signer has a key");
  return {
    keyId: newest.id,
    keys: keys.map(({ id, public: publicKey, endorsedBy, endorsement }) =>
      create(SigningKeySchema, { id, publicKey, endorsedBy, endorsement }),
    ),
    sign({ root, revision, scope, rollback }, nowMs) {
      const notAfter = timestampFromMs(nowMs + statementMs);
      const message = create(RootStatementSchema, { root, revision: BigInt(revision), scope, notAfter, rollback });
      const statement = toBinary(RootStatementSchema, message);
      const signature = new Uint8Array(sign(null, rootSigningBytes(statement), newest.private));
      return create(SignedRootSchema, { statement, signature, keyId: newest.id });
    },
  };
}

function makeKey(endorser: Key | undefined): Key {
  return keyOf(generateKeyPairSync("ed25519").privateKey, endorser?.id ?? "", (raw) =>
    endorser === undefined ? new Uint8Array() : new Uint8Array(sign(null, keySigningBytes(raw), endorser.private)),
  );
}

function keyOf(privateKey: KeyObject, endorsedBy: string, endorse: (raw: Uint8Array) => Uint8Array): Key {
  const raw = rawPublicKey(createPublicKey(privateKey));
  // Enough of the hash to tell the keys of one control apart, and short enough for a log line.
  return { id: sha256(raw).slice(0, 16), private: privateKey, public: raw, endorsedBy, endorsement: endorse(raw) };
}

const fileName = "signing-keys.json";

function readKeys(folder: PrivateFolder): Key[] {
  const found = readJsonFile(folder, fileName);
  if (found === undefined) return [];
  const broken = (): Error => new Error(`${folder.pathOf(fileName)} is not a file of signing keys as control writes it`);
  if (!Array.isArray(found) || found.length === 0) throw broken();
  return found.map((entry: unknown) => {
    const fields = typeof entry === "object" && entry !== null ? (entry as Record<string, unknown>) : {};
    const { privateKey, endorsedBy, endorsement } = fields;
    if (typeof privateKey !== "string" || typeof endorsedBy !== "string" || typeof endorsement !== "string") throw broken();
    const key = createPrivateKey({ key: Buffer.from(privateKey, "base64"), format: "der", type: "pkcs8" });
    if (key.asymmetricKeyType !== "ed25519") throw broken();
    return keyOf(key, endorsedBy, () => new Uint8Array(Buffer.from(endorsement, "base64")));
  });
}

function writeKeys(folder: PrivateFolder, keys: readonly Key[]): void {
  const entries = keys.map((key) => ({
    privateKey: key.private.export({ type: "pkcs8", format: "der" }).toString("base64"),
    endorsedBy: key.endorsedBy,
    endorsement: Buffer.from(key.endorsement).toString("base64"),
  }));
  folder.write(fileName, `${JSON.stringify(entries, undefined, 2)}\n`);
}
