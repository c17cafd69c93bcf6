/**
 * A control on the other side of a connection: finds out who this sidecar is, what it has on its disk, and how to dial. Everything that
 * reaches outside arrives as an argument.
 */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type StoredIdentity, StoredIdentitySchema } from "../../proto/gen/outrigger/mesh/v1/slot_pb.ts";
import { readJoinToken, scopeOf } from "../../proto/mesh.ts";
import { openLastKnownGood, type SlotDisk } from "../policy/lastKnownGood.ts";
import type { PolicyDesk } from "../policy/source.ts";
import type { MeshIdentity, Slots } from "./client.ts";
import { type Sha256, sealEntries } from "./held.ts";
import type { Dial, LinkEnd } from "./link.ts";
import {
  certificateState,
  identityBytes,
  identityName,
  type JoinParts,
  join,
  keysOf,
  linkOnce,
  readClaims,
  readIdentity,
} from "./membership.ts";
import type { MeshMeans } from "./source.ts";
import { readStatement, type TrustedKeys } from "./statement.ts";

/** How a sidecar is set up to reach control. */
export interface RemoteSettings {
  readonly url: string;
  readonly joinToken: string | null;
  readonly namespace: string | null;
  readonly account: string | null;
  readonly instance: string | null;
  readonly bootGraceMs: number;
  readonly maxStaleMs: number;
}

/** Where control is and what proves either side to the other; certificates and key in DER. */
export interface RemoteAddress {
  readonly url: string;
  readonly authority: Uint8Array | string | undefined;
  readonly own: { readonly certificates: readonly Uint8Array[]; readonly privateKey: Uint8Array } | undefined;
}

/** What reaches outside. */
export interface RemoteParts extends Pick<JoinParts, "makeKey" | "verify" | "digest">, Pick<MeshMeans, "gunzip" | "sealKey" | "check"> {
  readonly sha256: Sha256;
  /** Where things are kept; undefined for nowhere. */
  readonly disk: SlotDisk | undefined;
  /** The platform's token as it is now, or empty. Throws if its file cannot be read. */
  readonly readToken: () => string;
  /** Undoes base64url, as UTF-8. */
  readonly decode: (base64url: string) => string;
  /** The authority from a file, in PEM, or undefined. Throws if the file cannot be read. */
  readonly readAuthority: () => string | undefined;
  /** Fetches control's authority by its SHA-256, in DER. */
  readonly fetchAuthority: (url: string, sha256: string) => Promise<Uint8Array>;
  readonly ask: (address: RemoteAddress, request: Parameters<JoinParts["ask"]>[0]) => ReturnType<JoinParts["ask"]>;
  readonly dial: (address: () => RemoteAddress) => Dial;
  readonly endOf: (error: unknown) => LinkEnd;
  /** A new name that nobody else draws. */
  readonly drawName: () => string;
}

/** Prepares what the client takes. Rejects if who this sidecar is cannot be settled yet. */
export async function prepareRemote(settings: RemoteSettings, parts: RemoteParts, desk: PolicyDesk): Promise<MeshMeans> {
  const { disk, verify, sha256 } = parts;
  const secure = settings.url.startsWith("https:");
  const tokenText = settings.joinToken;
  const tokenRead = tokenText === null ? undefined : readJoinToken(tokenText);
  const joins = secure && tokenText !== null;
  let identity = readIdentity(await disk?.read(identityName));
  const claims = readClaims(parts.readToken(), parts.decode);
  const instance = settings.instance ?? (claims?.pod || identity?.instance || parts.drawName());
  let trusted: TrustedKeys = keysOf(identity);

  async function keep(changed: StoredIdentity): Promise<void> {
    identity = changed;
    await disk?.write(identityName, identityBytes(changed));
  }

  /** Buys a certificate, if there is none that is good; one that only ends soon is kept if that fails. */
  async function renew(): Promise<void> {
    if (!joins && (identity === undefined || identity.certificates.length === 0)) return;
    const state = certificateState(identity, desk.clock.wallMs());
    if (state === "good") return;
    if (state === "renew" || state === "ended") {
      try {
        // What has ended is no proof on a connection any more, but control takes it for some time.
        await buy(undefined, state === "renew" ? addressOf() : { ...addressOf(), own: undefined });
        return;
      } catch (error) {
        if (state === "ended" && tokenRead === undefined) throw error;
        desk.note("warn", "the certificate could not be renewed", { reason: error instanceof Error ? error.message : String(error) });
        if (state === "renew") return;
      }
    }
    if (tokenText === null || tokenRead === undefined) throw new Error("there is neither a certificate nor a join token");
    if (identity === undefined) {
      // Before the token is shown: if the answer is lost, the same key asks again, and the token has not been used twice.
      await keep(create(StoredIdentitySchema, { instance, privateKey: parts.makeKey().privateKey }));
    }
    const authority = await parts.fetchAuthority(settings.url, tokenRead.authoritySha256);
    await buy({ text: tokenText, read: tokenRead }, { url: settings.url, authority, own: undefined });
  }

  async function buy(token: Parameters<typeof join>[0], address: RemoteAddress): Promise<void> {
    const joined = await join(token, identity, instance, desk.clock.wallMs(), {
      makeKey: parts.makeKey,
      verify,
      digest: parts.digest,
      ask: (request) => parts.ask(address, request),
    });
    trusted = keysOf(joined);
    await keep(joined);
    const endsInSeconds = joined.notAfter === undefined ? 0 : Math.round((timestampMs(joined.notAfter) - desk.clock.wallMs()) / 1000);
    desk.note("info", token === undefined ? "renewed the certificate" : "joined the mesh", {
      account: `${joined.namespace}/${joined.account}`,
      ends_in_s: endsInSeconds,
    });
  }

  function addressOf(): RemoteAddress {
    const own =
      identity === undefined || identity.certificates.length === 0
        ? undefined
        : { certificates: identity.certificates, privateKey: identity.privateKey };
    return { url: settings.url, authority: own === undefined ? parts.readAuthority() : identity?.authority, own: secure ? own : undefined };
  }

  // Whoever has joined before knows who it is, and may start from its disk while control is away.
  if (joins && (identity === undefined || identity.certificates.length === 0)) await renew();
  const mesh: MeshIdentity = {
    instance,
    namespace: identity?.namespace || (settings.namespace ?? claims?.namespace ?? tokenRead?.namespace ?? "default"),
    account: identity?.account || (settings.account ?? claims?.account ?? tokenRead?.account ?? "default"),
    build: desk.version,
    capabilityLevel: desk.capabilityLevel,
  };
  const scope = scopeOf(mesh);
  // Once: it remembers which way the last link went.
  const onward = parts.dial(addressOf);
  const slots: Slots =
    disk === undefined
      ? forgetful
      : await openLastKnownGood({
          disk,
          scope,
          sha256,
          believe(signed) {
            if (signed === undefined) return undefined;
            const read = readStatement(signed, trusted, scope, verify);
            return "refusal" in read ? undefined : { root: read.statement.root, revision: Number(read.statement.revision) };
          },
          seal: (entries) => sealEntries(entries, sha256),
          note: desk.note,
        });

  return {
    identity: mesh,
    dial: (events) =>
      linkOnce(
        async () => {
          await renew();
          return onward;
        },
        parts.endOf,
        events,
      ),
    sha256,
    gunzip: parts.gunzip,
    verify,
    sealKey: parts.sealKey,
    keys: trusted,
    credential: () => (secure && identity !== undefined && identity.certificates.length > 0 ? "" : (tokenText ?? parts.readToken())),
    slots,
    check: parts.check,
    trusted(keys) {
      const signingKeys = [...keys.values()];
      void keep(identity === undefined ? create(StoredIdentitySchema, { signingKeys, instance }) : { ...identity, signingKeys }).catch(
        (error: unknown) => desk.note("warn", "the keys that sign roots could not be kept", { cause: String(error) }),
      );
    },
    times: settings,
  };
}

const forgetful: Slots = Object.freeze({ found: [], keep: () => undefined, settled: async () => undefined });
