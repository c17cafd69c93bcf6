/** Who calls PolicyService and what they may do: bearer tokens with a role, and no other way in. */
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { type ContextKey, createContextKey, type Interceptor } from "@connectrpc/connect";
import { PolicyService } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import type { Clock } from "../clock.ts";
import { controlFault } from "./fault.ts";
import { peerKey } from "./listener.ts";
import type { Role, Tokens } from "./tokens.ts";

/** Who calls. */
export interface Caller {
  /** The name of the token. */
  readonly name: string;
  readonly role: Role;
}

/** Who calls, for the handlers of services that want a token. */
export const callerKey: ContextKey<Caller | undefined> = createContextKey<Caller | undefined>(undefined);

/** Bad tokens from one address before it has to wait: somebody who mistypes is not kept out, somebody who guesses gets nowhere. */
const badMax = 20;
/** One more bad token is allowed after this time. */
const badEveryMs = 6_000;
/** Addresses remembered: beyond them the oldest is forgotten, so that a flood from many addresses costs no memory. */
const addressesMax = 10_000;

/**
 * Lets callers of the services for people in by their tokens. Other services see to their callers themselves. `whence` says where a token
 * comes from, as a clause.
 */
export function authenticate(tokens: Tokens, clock: Pick<Clock, "monotonicMs">, whence: string): Interceptor {
  const attempts = new Attempts(clock);
  return (next) => async (request) => {
    if (request.service.typeName !== PolicyService.typeName && request.service.typeName !== SidecarService.typeName) return next(request);
    const address = request.contextValues.get(peerKey).address;
    const token = bearerOf(request.header.get("authorization"));
    const found = token === undefined ? undefined : await tokens.find(token, address);
    if (found === undefined || found === "expired") {
      // A good token is never kept waiting, whoever else fails from the same address.
      const waitMs = attempts.bad(address);
      if (waitMs > 0) {
        const message = `Too many requests with bad tokens came from this address. Try again in ${Math.ceil(waitMs / 1000)} s.`;
        throw controlFault("ATTEMPTS_SPENT", message, { retryAfterMs: waitMs });
      }
      if (token === undefined) {
        throw controlFault("CREDENTIAL_MISSING", `No token was sent. Send one as \`authorization: Bearer TOKEN\`; ${whence}.`);
      }
      throw found === "expired"
        ? controlFault("CREDENTIAL_EXPIRED", `This token has expired. Send another; ${whence}.`)
        : controlFault("CREDENTIAL_UNKNOWN", `Nobody issued this token, or it was revoked. Send another; ${whence}.`);
    }
    const reads = request.method.idempotency === Idempotency.NO_SIDE_EFFECTS || request.method.methodKind === "server_streaming";
    const plans = "message" in request && isPlan(request.message);
    if (found.role !== "editor" && !reads && !plans) {
      const message = `The token ${found.name} has the role ${found.role}, and ${request.method.name} needs the role editor.`;
      throw controlFault("ROLE_MISSING", message, { facts: { role: found.role, needed: "editor" } });
    }
    request.contextValues.set(callerKey, found);
    return next(request);
  };
}

/** Whether a request only asks what would change. */
function isPlan(message: unknown): boolean {
  return typeof message === "object" && message !== null && "validateOnly" in message && message.validateOnly === true;
}

function bearerOf(header: string | null): string | undefined {
  return /^bearer +(\S+) *$/i.exec(header ?? "")?.[1];
}

/** Counts bad tokens by address: a bucket that drains with time. */
class Attempts {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #buckets = new Map<string, { level: number; atMs: number }>();

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Counts one. Returns how long this address has to wait, in milliseconds: 0 if it does not. */
  bad(address: string): number {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#buckets.get(address) ?? { level: 0, atMs: nowMs };
    const level = Math.max(0, before.level - (nowMs - before.atMs) / badEveryMs);
    const refused = level + 1 > badMax;
    this.#buckets.delete(address);
    this.#buckets.set(address, { level: refused ? level : level + 1, atMs: nowMs });
    const oldest = this.#buckets.keys().next().value;
    if (this.#buckets.size > addressesMax && oldest !== undefined) this.#buckets.delete(oldest);
    return refused ? (level + 1 - badMax) * badEveryMs : 0;
  }
}
