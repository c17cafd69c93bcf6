/**
 * Who a sidecar in Kubernetes is, by the token that is projected into its pod.
 *
 * Signature, issuer, audience and expiry are checked here with the cluster's keys, so a storm of sidecars asks nobody. Whether the pod is
 * still there only the API server knows: it is asked by TokenReview, and its answer holds for a minute, which is how long a token that was
 * stolen from a pod outlives it.
 */
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { z } from "zod";
import type { Clock } from "../clock.ts";
import { controlFault } from "../serve/fault.ts";
import { sha256 } from "../sha256.ts";
import type { AskApi } from "./apiServer.ts";
import type { Proven } from "./mesh.ts";

/** For whom tokens must be made. Nothing else in a cluster asks for this audience, so no other token can be shown here. */
export const tokenAudience = "outrigger-control";

/** How long keys are used before they are asked for again. */
const keysMs = 10 * 60 * 1000;
/** Keys are asked for again at most this often because of a token whose key is not known: anybody can make such tokens. */
const keysAgainMs = 30_000;
/** How long the API server's word holds, good or bad. */
const reviewMs = 60_000;
const reviewBadMs = 10_000;
/** Reviews that are remembered: those of all sidecars that one control can have. */
const reviewsMax = 20_000;
/** Seconds by which the clocks of control and cluster may differ. */
const skewSeconds = 30;
/** What clusters sign with. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"];

/** What is needed to read tokens. */
export interface ServiceAccountParts {
  readonly ask: AskApi;
  /** Who issues tokens; null for whom the API server names (OpenID Connect Discovery 1.0, section 4). */
  readonly issuer: string | null;
  readonly clock: Clock;
}

/** Makes what reads service-account tokens. What it returns rejects with a fault that says what to do. */
export function readServiceAccounts({ ask, issuer, clock }: ServiceAccountParts): (token: string) => Promise<Proven> {
  let keys: { readonly issuer: string; readonly set: JSONWebKeySet; readonly atMs: number } | undefined;
  let asking: Promise<NonNullable<typeof keys>> | undefined;
  const reviews = new Map<string, { readonly untilMs: number; readonly refusal: string | undefined }>();

  async function askKeys(): Promise<NonNullable<typeof keys>> {
    const [named, set] = await Promise.all([
      issuer ?? ask("/.well-known/openid-configuration").then((answer) => discovery.parse(answer).issuer),
      ask("/openid/v1/jwks").then((answer) => keySet.parse(answer) as JSONWebKeySet),
    ]);
    keys = { issuer: named, set, atMs: clock.monotonicMs() };
    return keys;
  }

  async function keysNow(olderThanMs: number): Promise<NonNullable<typeof keys>> {
    if (keys !== undefined && clock.monotonicMs() - keys.atMs < olderThanMs) return keys;
    asking ??= askKeys().finally(() => {
      asking = undefined;
    });
    try {
      return await asking;
    } catch (cause) {
      // Old keys are better than none: clusters keep them for as long as tokens that they have signed.
      if (keys !== undefined) return keys;
      throw unavailable(cause);
    }
  }

  async function verified(token: string): Promise<JWTPayload> {
    const check = async (known: NonNullable<typeof keys>): Promise<JWTPayload> => {
      const { payload } = await jwtVerify(token, createLocalJWKSet(known.set), {
        issuer: known.issuer,
        audience: tokenAudience,
        algorithms,
        clockTolerance: skewSeconds,
        currentDate: timestampDate(timestampFromMs(clock.wallMs())),
        requiredClaims: ["exp"],
      });
      return payload;
    };
    try {
      return await check(await keysNow(keysMs));
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      // The cluster may have changed its keys since.
      return check(await keysNow(keysAgainMs));
    }
  }

  async function review(token: string, account: string, podUid: string): Promise<void> {
    const key = sha256(token);
    const nowMs = clock.monotonicMs();
    let known = reviews.get(key);
    if (known === undefined || nowMs >= known.untilMs) {
      let answer: z.output<typeof reviewed>;
      try {
        const asked = await ask("/apis/authentication.k8s.io/v1/tokenreviews", {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          spec: { token, audiences: [tokenAudience] },
        });
        answer = reviewed.parse(asked);
      } catch (cause) {
        throw unavailable(cause);
      }
      const refusal = refusalOf(answer.status, account, podUid);
      known = { untilMs: nowMs + (refusal === undefined ? reviewMs : reviewBadMs), refusal };
      reviews.delete(key);
      reviews.set(key, known);
      for (const oldest of reviews.keys()) {
        if (reviews.size <= reviewsMax) break;
        reviews.delete(oldest);
      }
    }
    if (known.refusal !== undefined) throw controlFault("CREDENTIAL_UNKNOWN", known.refusal);
  }

  return async (token) => {
    let payload: JWTPayload;
    try {
      payload = await verified(token);
    } catch (error) {
      throw faultOf(error);
    }
    const claims = kubernetesClaims.safeParse(payload["kubernetes.io"]);
    if (!claims.success || payload.exp === undefined) {
      const message =
        "The token is bound to no pod. Project one into the pod (serviceAccountToken in a projected volume); do not use a Secret.";
      throw controlFault("CREDENTIAL_UNKNOWN", message);
    }
    const { namespace, serviceaccount, pod } = claims.data;
    const account = `system:serviceaccount:${namespace}:${serviceaccount.name}`;
    return {
      namespace,
      account: serviceaccount.name,
      instance: pod.uid,
      notAfterMs: payload.exp * 1000,
      whole: false,
      confirm: () => review(token, account, pod.uid),
    };
  };
}

const discovery = z.looseObject({ issuer: z.string().min(1) });
const keySet = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })) });
const kubernetesClaims = z.looseObject({
  namespace: z.string().min(1),
  serviceaccount: z.looseObject({ name: z.string().min(1) }),
  pod: z.looseObject({ name: z.string().min(1), uid: z.string().min(1) }),
});
const reviewStatus = z.looseObject({
  authenticated: z.boolean().default(false),
  error: z.string().default(""),
  user: z
    .looseObject({ username: z.string().default(""), extra: z.record(z.string(), z.array(z.string())).default({}) })
    .default({ username: "", extra: {} }),
});
const reviewed = z.looseObject({ status: reviewStatus });

/** Why the API server's word does not bear out a token; undefined if it does. */
function refusalOf({ authenticated, user }: z.output<typeof reviewStatus>, account: string, podUid: string): string | undefined {
  if (!authenticated) return "The cluster does not know this token any more: its pod or its service account is gone.";
  const uids = user.extra["authentication.kubernetes.io/pod-uid"];
  if (user.username === account && (uids === undefined || uids.includes(podUid))) return undefined;
  return "The cluster says that this token is another account's or another pod's.";
}

function faultOf(error: unknown): Error {
  if (error instanceof errors.JWTExpired) {
    return controlFault("CREDENTIAL_EXPIRED", "The service-account token has ended. The kubelet renews it: read the file again.");
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    const expected = error.claim === "aud" ? ` Project one with the audience ${tokenAudience}.` : "";
    const what = error.claim === "aud" ? "audience" : error.claim === "iss" ? "issuer" : error.claim;
    return controlFault("CREDENTIAL_UNKNOWN", `The service-account token has another ${what} than control expects.${expected}`);
  }
  if (error instanceof errors.JOSEError) {
    return controlFault("CREDENTIAL_UNKNOWN", "This is no service-account token of the cluster that this control trusts.");
  }
  return error instanceof Error ? error : new Error(String(error));
}

function unavailable(cause: unknown): Error {
  const message = "The cluster's API server could not be asked about the token. Try again shortly.";
  return controlFault("CLUSTER_UNAVAILABLE", message, { retryAfterMs: 5_000, cause });
}
