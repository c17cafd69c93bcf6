/**
 * Secrets that control delivers: read from files that only control can read, sealed for one stream of one sidecar, and kept nowhere else.
 *
 * A file's name is that of the secret, in a folder with the name of the namespace; a mounted Kubernetes Secret looks just so. Values are
 * read anew from time to time, and whoever uses one that has changed is sent it again.
 */
import { createCipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { SealedSecretSchema, SealedSecretsSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type SecretReference, SecretReferenceSchema } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { type HpkePrimitives, type KeyPair, sealBase } from "../../proto/hpke.ts";
import { sealingInfo } from "../../proto/mesh.ts";
import { kindOf, listResources, namespaceOf, type Resources, schemaOf } from "../../proto/resources/kinds.ts";
import type { Clock } from "../clock.ts";
import type { MeshParts } from "./mesh.ts";

/** Between looks at the files. */
const lookMs = 5_000;
/** Bytes of a secret at most; a service account's key file has some thousand. */
const secretBytesMax = 64 * 1024;

/** What delivery is made with. */
export interface DeliveryParts {
  /** The folder with a folder for each namespace. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: MeshParts["log"];
}

/** Delivers secrets. */
export interface Delivery {
  /** What seals the secrets to which resources refer, for a scope and root; undefined if they refer to none that control delivers. */
  readonly secretsOf: NonNullable<MeshParts["secretsOf"]>;
  /** Calls `changed` whenever a secret that somebody refers to has another value, until the function returned is called. */
  watch(changed: () => void): () => void;
}

/** Opens a folder of secrets. It need not be there; then no secret is. */
export function openDelivery({ folder, clock, log }: DeliveryParts): Delivery {
  /** By reference, such as `default/key`: its value, or why there is none. Only those that policy has referred to. */
  const known = new Map<string, Uint8Array | string>();

  function read(reference: string): Uint8Array | string {
    try {
      // Ends of lines and blanks at the end are the editor's, as for the files of sidecars.
      const text = readFileSync(join(folder, reference), "utf8").trimEnd();
      if (text === "") return "is empty";
      return text.length > secretBytesMax ? `has more than ${secretBytesMax} bytes` : new TextEncoder().encode(text);
    } catch (error) {
      return error instanceof Error && "code" in error ? `cannot be read (${String(error.code)})` : "cannot be read";
    }
  }

  function find(reference: string): Uint8Array | string {
    const found = known.get(reference) ?? read(reference);
    if (!known.has(reference)) {
      known.set(reference, found);
      if (typeof found === "string") log("warn", `A secret that policy wants delivered ${found}.`, { secret: join(folder, reference) });
    }
    return found;
  }

  return {
    secretsOf(resources, scope, root) {
      const references = referencesOf(resources);
      if (references.size === 0) return undefined;
      const info = sealingInfo(scope, root);
      return (sealKey) => {
        const secrets = [...references].sort().flatMap((reference) => {
          const value = find(reference);
          if (typeof value === "string") return [];
          const ephemeral = makeKeyPair();
          const bound = { info, aad: new TextEncoder().encode(reference) };
          const ciphertext = sealBase(value, sealKey, ephemeral, bound, primitives);
          return create(SealedSecretSchema, { reference, encapsulatedKey: ephemeral.publicKey, ciphertext });
        });
        return create(SealedSecretsSchema, { root, secrets });
      };
    },
    watch(changed) {
      let cancel = (): void => undefined;
      const look = (): void => {
        let differs = false;
        for (const [reference, before] of known) {
          const now = read(reference);
          // While a file is being replaced it may be away for a moment: the last value stays in use, as at a sidecar.
          if (typeof now === "string" || (typeof before !== "string" && Buffer.from(now).equals(before))) continue;
          known.set(reference, now);
          differs = true;
        }
        if (differs) changed();
        cancel = clock.after(lookMs, look);
      };
      cancel = clock.after(lookMs, look);
      return () => cancel();
    },
  };
}

/** The secrets to which resources refer and that control delivers, as `namespace/name`. */
function referencesOf(resources: Resources): Set<string> {
  const references = new Set<string>();
  for (const resource of listResources(resources)) {
    search(reflect(schemaOf(kindOf(resource)), resource), ({ source }) => {
      if (source.case === "delivered") references.add(`${namespaceOf(resource)}/${source.value}`);
    });
  }
  return references;
}

/** Visits every reference to a secret in a message, however deep: whatever kind comes to hold one is covered. */
function search(message: ReflectMessage, found: (reference: SecretReference) => void): void {
  if (message.desc.typeName === SecretReferenceSchema.typeName) found(message.message as SecretReference);
  for (const field of message.sortedFields) {
    if (field.message === undefined || !message.isSet(field)) continue;
    if (field.fieldKind === "message") search(message.get(field), found);
    else if (field.fieldKind === "list") for (const item of message.get(field)) search(item as ReflectMessage, found);
    else if (field.fieldKind === "map") for (const [, item] of message.get(field)) search(item as ReflectMessage, found);
  }
}

function makeKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  // RFC 8410: both end with the 32 bytes of the key.
  return {
    privateKey: new Uint8Array(privateKey.export({ format: "der", type: "pkcs8" }).subarray(-32)),
    publicKey: new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(-32)),
  };
}

/** What stands before the 32 bytes of a key of X25519 in PKCS #8 and in SubjectPublicKeyInfo (RFC 8410, sections 7 and 4). */
const privateHead = Buffer.from("302e020100300506032b656e04220420", "hex");
const publicHead = Buffer.from("302a300506032b656e032100", "hex");

/** The primitives of RFC 9180 by Node. Control seals and opens nothing. */
const primitives: HpkePrimitives = Object.freeze({
  hmac: (key, data) => createHmac("sha256", key).update(data).digest(),
  dh(privateKey, publicKey) {
    const mine = createPrivateKey({ key: Buffer.concat([privateHead, privateKey]), format: "der", type: "pkcs8" });
    const theirs = createPublicKey({ key: Buffer.concat([publicHead, publicKey]), format: "der", type: "spki" });
    return diffieHellman({ privateKey: mine, publicKey: theirs });
  },
  seal(key, nonce, aad, text) {
    const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(aad);
    return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  },
  open() {
    throw new Error("control opens no secret");
  },
} satisfies HpkePrimitives);
