/**
 * How long a caller is willing to wait, as its headers say it.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";

/**
 * Milliseconds of a `grpc-timeout` header: at most eight digits and a unit (gRPC PROTOCOL-HTTP2, "Timeout"). `Infinity` without one.
 * Throws `REQUEST_INVALID` for anything else, since a caller that is misunderstood would wait for ever or not at all.
 */
export function grpcTimeoutMs(value: string | undefined): number {
  if (value === undefined) return Number.POSITIVE_INFINITY;
  const unitMs = /^\d{1,8}[HMSmun]$/.test(value) ? unitsMs.get(value.slice(-1)) : undefined;
  if (unitMs === undefined) {
    throw invalid("grpc-timeout", value, "at most eight digits and one of the units H, M, S, m, u, n");
  }
  return Number(value.slice(0, -1)) * unitMs;
}

/**
 * Milliseconds of a `connect-timeout-ms` header: at most ten digits (https://connectrpc.com/docs/protocol, "Timeout"). `Infinity`
 * without one. Throws `REQUEST_INVALID` for anything else.
 */
export function connectTimeoutMs(value: string | undefined): number {
  if (value === undefined) return Number.POSITIVE_INFINITY;
  if (!/^\d{1,10}$/.test(value)) throw invalid("connect-timeout-ms", value, "at most ten digits");
  return Number(value);
}

const unitsMs: ReadonlyMap<string, number> = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1_000],
  ["m", 1],
  ["u", 1e-3],
  ["n", 1e-6],
]);

function invalid(name: string, value: string, expected: string): Fault {
  // A header may be long; what does not fit a timeout is recognised by its beginning.
  return new Fault(FaultReason.REQUEST_INVALID, `The header ${name} is ${JSON.stringify(value.slice(0, 32))}; expected ${expected}.`, {
    field: name,
  });
}
