/** Expected failures of control, as values from one list: what callers of its services are told, and nothing of what lies underneath. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";

/** Whose list of reasons these are from, as `google.rpc.ErrorInfo.domain`. */
const faultDomain = "outrigger.dev";

/** Every reason with its status. The name is `google.rpc.ErrorInfo.reason`, and stable. */
export const controlFaults = Object.freeze({
  /** No credential was sent. */
  CREDENTIAL_MISSING: Code.Unauthenticated,
  /** A credential that nobody issued, or that was revoked. */
  CREDENTIAL_UNKNOWN: Code.Unauthenticated,
  /** A credential whose time is over. */
  CREDENTIAL_EXPIRED: Code.Unauthenticated,
  /** A credential that is good and not for this. */
  ROLE_MISSING: Code.PermissionDenied,
  /** Too many bad credentials from one address. */
  ATTEMPTS_SPENT: Code.ResourceExhausted,
  REQUEST_INVALID: Code.InvalidArgument,
  /** More than is taken at once; the message has the limit. */
  REQUEST_TOO_LARGE: Code.ResourceExhausted,
  RESOURCE_NOT_FOUND: Code.NotFound,
  /** A revision that never was, or that is no longer remembered. */
  REVISION_NOT_FOUND: Code.NotFound,
  /** Policy is not what it was when the caller looked. */
  CONFLICT: Code.Aborted,
  /** Policy comes from elsewhere and cannot be changed here. */
  STORE_READ_ONLY: Code.FailedPrecondition,
  /** The store cannot be reached for now. */
  STORE_UNAVAILABLE: Code.Unavailable,
  /** What a sidecar says of itself is not what it has proven. */
  IDENTITY_MISMATCH: Code.PermissionDenied,
  /** A join token that was used as often as it may be. */
  TOKEN_SPENT: Code.PermissionDenied,
  /** A sidecar from outside, where control has one of its own and no other. */
  JOINING_CLOSED: Code.FailedPrecondition,
  /** More sidecars than there is room for, now or at all. */
  TOO_MANY_SIDECARS: Code.ResourceExhausted,
  /** A sidecar that does not answer. */
  SIDECAR_SILENT: Code.DeadlineExceeded,
  /** The same instance has opened another stream. */
  STREAM_REPLACED: Code.Aborted,
  /** A roll-out that is over cannot be ended. */
  ROLLOUT_ENDED: Code.FailedPrecondition,
  /** The cluster whose service accounts are trusted cannot be asked. */
  CLUSTER_UNAVAILABLE: Code.Unavailable,
  /** Control stops. */
  STOPPING: Code.Unavailable,
  INTERNAL: Code.Internal,
});

/** The name of a reason. */
export type ControlFaultName = keyof typeof controlFaults;

/** What can be said beside reason and message. */
export interface ControlFaultDetails {
  /** Facts that the message names, for programs. Never a secret. */
  readonly facts?: Readonly<Record<string, string>>;
  /** The fields of the request that are wrong. */
  readonly violations?: readonly { readonly field: string; readonly description: string }[];
  /** When another attempt may pass, in milliseconds from now. */
  readonly retryAfterMs?: number;
  /** What happened underneath, for the log only. */
  readonly cause?: unknown;
}

/** Makes a fault. Its message reaches the caller: what was seen, what was expected, what to do. */
export function controlFault(name: ControlFaultName, message: string, details: ControlFaultDetails = {}): ConnectError {
  const outgoing: ConstructorParameters<typeof ConnectError>[3] = [
    { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: name, domain: faultDomain, metadata: { ...details.facts } }) },
  ];
  if (details.violations !== undefined) {
    outgoing.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations: [...details.violations] }) });
  }
  if (details.retryAfterMs !== undefined) {
    outgoing.push({
      desc: RetryInfoSchema,
      value: create(RetryInfoSchema, { retryDelay: durationFromMs(Math.ceil(details.retryAfterMs)) }),
    });
  }
  return new ConnectError(message, controlFaults[name], undefined, outgoing, details.cause);
}

/** The name of a fault that was made here, or undefined. */
export function controlFaultName(error: unknown): string | undefined {
  return error instanceof ConnectError ? error.findDetails(ErrorInfoSchema)[0]?.reason : undefined;
}
