/**
 * How sidecars come in without Kubernetes: somebody makes a join token, the sidecar buys a certificate with it, and renews that with the
 * certificate itself. Control remembers a token's hash, so that whoever reads the data folder cannot join.
 */
import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type JoinRequest, type JoinResponse, JoinResponseSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import {
  type CreateJoinTokenRequest,
  type CreateJoinTokenResponse,
  CreateJoinTokenResponseSchema,
} from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { joinProofBytes, joinTokenText, readJoinToken } from "../../proto/mesh.ts";
import type { Clock } from "../clock.ts";
import { controlFault } from "../serve/fault.ts";
import { sha256 } from "../sha256.ts";
import { type Authority, isSignedBy } from "./authority.ts";
import type { MeshPeer } from "./mesh.ts";
import { type PrivateFolder, readJsonFile } from "./privateFolder.ts";
import type { Signer } from "./signing.ts";

/** How long a token can be used unless somebody says otherwise. */
const lifetimeMs = 60 * 60 * 1000;
/**
 * For how long a certificate that has ended can still be renewed: sidecars start from their disks for a day while control is away, and must
 * find back by themselves when it returns. Whoever has stolen the key could have renewed in time as well.
 */
const renewableMs = 24 * 60 * 60 * 1000;
/** Tokens at one time; those that have ended go first. */
const tokensMax = 10_000;
/** Bytes of a public key at most; a P-256 key has 91. */
const publicKeyBytesMax = 256;

/** What joining is made with. */
export interface JoiningParts {
  readonly folder: PrivateFolder;
  readonly authority: Authority;
  readonly signer: Signer;
  readonly clock: Clock;
  /** That many unguessable bytes. */
  readonly randomBytes: (count: number) => Uint8Array;
}

/** Whom a token lets in. */
export interface Admitted {
  readonly namespace: string;
  readonly account: string;
  readonly notAfterMs: number;
}

/** Lets sidecars in. */
export interface Joining {
  /** Makes a token, which is shown this once. */
  createToken(request: CreateJoinTokenRequest): CreateJoinTokenResponse;
  /** Gives a sidecar a certificate for a token or for the certificate that it has. Rejects with a ConnectError that says what to do. */
  join(request: JoinRequest, peer: MeshPeer): Promise<JoinResponse>;
  /** Whom a token lets in. `holder` is who uses it: the same one again is no further use. Throws a ConnectError if it lets nobody in. */
  admit(token: string, holder: string): Admitted;
}

/** Opens the tokens of a data folder. Throws if its file cannot be used. */
export function openJoining({ folder, authority, signer, clock, randomBytes }: JoiningParts): Joining {
  const tokens = new Map(readTokens(folder).map((token) => [token.hash, token]));

  function keep(): void {
    folder.write(fileName, `${JSON.stringify([...tokens.values()], undefined, 2)}\n`);
  }

  function forgetEnded(): void {
    const nowMs = clock.wallMs();
    for (const [hash, { notAfterMs }] of tokens) if (nowMs > notAfterMs) tokens.delete(hash);
    // The oldest stand first.
    for (const hash of tokens.keys()) {
      if (tokens.size < tokensMax) break;
      tokens.delete(hash);
    }
  }

  function admit(text: string, holder: string): Admitted {
    const token = readJoinToken(text) === undefined ? undefined : tokens.get(sha256(text));
    const another = "Ask for another one: `outrigger join-token create` makes it.";
    if (token === undefined) throw controlFault("CREDENTIAL_UNKNOWN", `Nobody issued this join token. ${another}`);
    if (clock.wallMs() > token.notAfterMs) throw controlFault("CREDENTIAL_EXPIRED", `This join token has ended. ${another}`);
    const mark = sha256(holder).slice(0, 16);
    if (!token.holders.includes(mark)) {
      if (token.holders.length >= token.uses) {
        throw controlFault("TOKEN_SPENT", `This join token was used ${token.uses} times, which is all it is for. ${another}`);
      }
      tokens.set(token.hash, { ...token, holders: [...token.holders, mark] });
      keep();
    }
    return { namespace: token.namespace, account: token.account, notAfterMs: token.notAfterMs };
  }

  return {
    admit,
    createToken({ namespace, account, lifetime, uses }) {
      forgetEnded();
      const secret = Buffer.from(randomBytes(32)).toString("hex");
      const signingKey = signer.keys[0];
      if (signingKey === undefined) throw new Error("a signer has a key");
      const pins = { authoritySha256: authority.sha256, signingKeySha256: sha256(signingKey.publicKey) };
      const text = joinTokenText({ secret, ...pins, namespace, account });
      const notAfterMs = clock.wallMs() + (lifetime === undefined ? lifetimeMs : durationMs(lifetime));
      tokens.set(sha256(text), { hash: sha256(text), namespace, account, notAfterMs, uses: uses === 0 ? 1 : uses, holders: [] });
      keep();
      return create(CreateJoinTokenResponseSchema, { token: text, notAfter: timestampFromMs(notAfterMs) });
    },
    async join({ token, publicKey, proof, instance, certificate: ended }, peer) {
      if (publicKey.length > publicKeyBytesMax) throw controlFault("REQUEST_INVALID", "The public key is too long to be one.");
      if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(instance)) {
        const message = "The instance has 1 to 63 letters, digits, dots, underscores and hyphens, and begins with a letter or digit.";
        throw controlFault("REQUEST_INVALID", message);
      }
      const tokenHash = token === "" ? new Uint8Array() : new Uint8Array(Buffer.from(sha256(token), "hex"));
      // Before the token is counted: whoever saw a token and not the key must not be able to use it up.
      if (!isSignedBy(publicKey, joinProofBytes(tokenHash, publicKey), proof)) {
        throw controlFault("REQUEST_INVALID", "The proof was not made with this public key, which must be Ed25519 or P-256.");
      }
      const who =
        token === "" ? renewing(peer, instance, ended, publicKey) : { ...admit(token, Buffer.from(publicKey).toString("hex")), instance };
      const { certificate, notAfterMs } = await authority.certify(who, publicKey, clock.wallMs());
      return create(JoinResponseSchema, {
        certificates: [certificate],
        authority: authority.certificate,
        notAfter: timestampFromMs(notAfterMs),
        account: who.account,
        namespace: who.namespace,
        signingKeys: [...signer.keys],
      });
    },
  };

  function renewing(peer: MeshPeer, instance: string, ended: Uint8Array, publicKey: Uint8Array) {
    const shown = peer.certificate();
    // The connection proves the key of a certificate that holds; of one that has ended the proof does, which is made with this public key.
    const known =
      shown !== undefined
        ? authority.read(shown, clock.wallMs())
        : isFor(ended, publicKey)
          ? authority.read(ended, clock.wallMs(), renewableMs)
          : undefined;
    if (known === undefined) {
      const message = "There is neither a join token nor a certificate of this control that can be renewed. Join again with a token.";
      throw controlFault("CREDENTIAL_UNKNOWN", message);
    }
    if (known.instance !== instance) throw controlFault("IDENTITY_MISMATCH", "The certificate is another instance's.");
    return known;
  }
}

/** Whether a certificate in DER is for a public key in DER. */
function isFor(certificate: Uint8Array, publicKey: Uint8Array): boolean {
  try {
    return new X509Certificate(certificate).publicKey.export({ format: "der", type: "spki" }).equals(publicKey);
  } catch {
    return false;
  }
}

interface Token {
  readonly hash: string;
  readonly namespace: string;
  readonly account: string;
  readonly notAfterMs: number;
  readonly uses: number;
  /** Marks of those who have used it. */
  readonly holders: readonly string[];
}

const fileName = "join-tokens.json";

function readTokens(folder: PrivateFolder): Token[] {
  const found = readJsonFile(folder, fileName);
  if (found === undefined) return [];
  if (Array.isArray(found) && found.every(isToken)) return found;
  throw new Error(`${folder.pathOf(fileName)} is not a file of join tokens as control writes it`);
}

function isToken(value: unknown): value is Token {
  if (typeof value !== "object" || value === null) return false;
  const { hash, namespace, account, notAfterMs, uses, holders } = value as Record<string, unknown>;
  return (
    [hash, namespace, account].every((text) => typeof text === "string") &&
    [notAfterMs, uses].every((number) => typeof number === "number") &&
    Array.isArray(holders) &&
    holders.every((holder) => typeof holder === "string")
  );
}
