/** What a sidecar says of itself when it opens a stream: whether that is in order, and whether it is what it has proven. */
import type { ConnectError } from "@connectrpc/connect";
import type { Opening } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { controlFault } from "../serve/fault.ts";
import type { Proven } from "./session.ts";
import { isCount, isRoot } from "./stream.ts";

/** The longest text that a sidecar may say about itself. */
const nameLengthMax = 253;

/** Throws if an opening is not in order. */
export function checkOpening(opening: Opening): void {
  const wrong = (what: string): ConnectError => controlFault("REQUEST_INVALID", `The opening is not in order: ${what}.`);
  for (const [field, text] of Object.entries({ instance: opening.instance, account: opening.account, namespace: opening.namespace })) {
    if (text.length > nameLengthMax) throw wrong(`${field} has more than ${nameLengthMax} characters`);
  }
  if (opening.instance === "" || /[\s/]/.test(opening.instance)) throw wrong("instance is empty or has blanks or slashes");
  if (opening.build.length > nameLengthMax) throw wrong(`build has more than ${nameLengthMax} characters`);
  if (opening.capabilityLevel < 1) throw wrong("capability_level must be 1 or more");
  for (const root of [opening.appliedRoot, opening.diskRoot]) {
    if (root !== "" && !isRoot(root)) throw wrong("a root has 64 hexadecimal digits");
  }
  if (!isCount(opening.appliedRevision)) throw wrong("applied_revision counts nothing");
  if (opening.sealKey.length !== 0 && opening.sealKey.length !== 32) throw wrong("seal_key has 32 bytes");
}

/** What a sidecar says of itself must be what it has proven. What it leaves out is taken from the proof. */
export function checkClaims(opening: Opening, proven: Proven): void {
  const differs = (claim: string, proof: string | undefined): boolean => claim !== "" && proof !== undefined && claim !== proof;
  if (differs(opening.namespace, proven.namespace) || differs(opening.account, proven.account)) {
    throw controlFault(
      "IDENTITY_MISMATCH",
      `The sidecar says that it is ${opening.namespace}/${opening.account} and has proven to be ${proven.namespace}/${proven.account}. ` +
        "Start it with the account that its credential is for, or give it a credential for this one.",
    );
  }
  if (differs(opening.instance, proven.instance)) {
    throw controlFault(
      "IDENTITY_MISMATCH",
      "The sidecar's instance is not the one that its credential is bound to. In Kubernetes the instance is the pod's UID.",
    );
  }
}
