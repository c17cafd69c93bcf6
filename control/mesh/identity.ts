/** Finds out who opens a stream: by the connection's certificate, by a Kubernetes service-account token, or by a join token. */
import { readJoinToken } from "../../proto/mesh.ts";
import type { Clock } from "../clock.ts";
import { controlFault } from "../serve/fault.ts";
import type { Authority } from "./authority.ts";
import type { Joining } from "./joining.ts";
import type { MeshParts, Proven } from "./mesh.ts";

/** What proves who a sidecar is. */
export interface IdentityParts {
  readonly authority: Authority;
  readonly joining: Joining;
  readonly clock: Clock;
  /** Reads service-account tokens; undefined if control trusts no cluster. Rejects with a ConnectError. */
  readonly serviceAccounts: ((token: string) => Promise<Proven>) | undefined;
}

/** Makes what finds out who opens a stream. */
export function identifyBy({ authority, joining, clock, serviceAccounts }: IdentityParts): MeshParts["identify"] {
  return async ({ instance }, credential, peer) => {
    if (credential === "") {
      const shown = peer.certificate();
      const sidecar = shown === undefined ? undefined : authority.read(shown, clock.wallMs());
      if (sidecar !== undefined) return { ...sidecar, whole: false };
      throw controlFault(
        shown === undefined ? "CREDENTIAL_MISSING" : "CREDENTIAL_EXPIRED",
        shown === undefined
          ? "The sidecar has proven nothing. Start it with a join token (`outrigger join-token create` makes one) or, in Kubernetes, with a " +
              "projected service-account token for the audience outrigger-control."
          : "The sidecar's certificate was not made by this control, or has ended. Join again with a token.",
      );
    }
    if (readJoinToken(credential) !== undefined) {
      // The instance holds the token: when it comes again after a cut, that is no further use.
      const { namespace, account, notAfterMs } = joining.admit(credential, `instance ${instance}`);
      return { namespace, account, instance: undefined, notAfterMs, whole: false };
    }
    if (serviceAccounts !== undefined) return serviceAccounts(credential);
    throw controlFault(
      "CREDENTIAL_UNKNOWN",
      "The credential is no join token, and this control trusts the service accounts of no cluster. Join with a token, or set control to " +
        "trust the cluster.",
    );
  };
}
