/**
 * Which pages in a browser may call, and what they are told.
 *
 * Pages that this machine serves to itself may, and those whose origin is in the settings. No cookie is ever looked at, so no answer
 * allows credentials; whoever may call still has to show a key.
 */
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { Exchange } from "./exchange.ts";

/** Decides about pages in a browser. */
export interface Cors {
  /**
   * Sets what every answer must carry, and answers preflights itself: true if it did. A fault says that this page must not be answered.
   * Requests that no page made pass untouched.
   */
  greet(exchange: Exchange): boolean | Fault;
}

/** Headers of answers that pages may read; browsers hide all others. The last five are those of gRPC-Web and Connect. */
export const exposedHeaders: readonly string[] = Object.freeze([
  "x-request-id",
  "request-id",
  "x-outrigger-route",
  "x-outrigger-provider",
  "x-outrigger-dropped-params",
  "x-outrigger-reason",
  "x-outrigger-provider-status",
  "x-should-retry",
  "retry-after",
  "retry-after-ms",
  "grpc-status",
  "grpc-message",
  "grpc-status-details-bin",
  "content-encoding",
  "connect-content-encoding",
]);

/** What pages may do; all that any door takes. */
const allowedMethods = "GET, HEAD, POST, OPTIONS";

/** Two hours, the longest that browsers remember a preflight; what is allowed does not depend on the day. */
const preflightSeconds = 7200;

/** Header names that a page asks to send; more than this nobody needs, and it is sent back. */
const requestedHeadersPattern = /^[a-z0-9!#$%&'*+.^_`|~, -]{0,4096}$/i;

const localName = /^(localhost|[a-z0-9.-]+\.localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?$/i;

/** `origins` are the web origins that may call beside pages of this machine, such as `https://chat.example.com`. */
export function cors(origins: readonly string[]): Cors {
  const allowed = new Set(origins.map((origin) => new URL(origin).origin));
  const allowedHosts = new Set(origins.map((origin) => new URL(origin).host));
  const exposed = exposedHeaders.join(", ");

  return {
    greet(exchange) {
      const origin = exchange.header("origin");
      const site = exchange.header("sec-fetch-site");
      if (origin === undefined && site === undefined) return false;
      if (isRebound(exchange, origin, site, allowedHosts)) return foreignName(exchange.header("host") ?? "");
      if (origin === undefined) return false;
      const may = allowed.has(origin) || isLocal(origin);
      if (exchange.method === "OPTIONS" && exchange.header("access-control-request-method") !== undefined) {
        exchange.head(204, may ? preflight(exchange, origin) : varies);
        exchange.end();
        return true;
      }
      exchange.extraHeaders = may
        ? ["access-control-allow-origin", origin, "access-control-expose-headers", exposed, "vary", "origin"]
        : varies;
      return false;
    },
  };
}

const varies: readonly string[] = Object.freeze(["vary", "origin"]);

function preflight(exchange: Exchange, origin: string): string[] {
  const headers = [
    "access-control-allow-origin",
    origin,
    "access-control-allow-methods",
    allowedMethods,
    "access-control-max-age",
    String(preflightSeconds),
    "vary",
    "origin, access-control-request-headers, access-control-request-private-network",
  ];
  // SDKs send many headers of their own. Since the origin is trusted and no cookie counts, whatever it asks for is allowed.
  const requested = exchange.header("access-control-request-headers");
  if (requested !== undefined && requestedHeadersPattern.test(requested)) headers.push("access-control-allow-headers", requested);
  // A page from a public address that calls a private one must be told that this is meant (WICG Private Network Access).
  if (exchange.header("access-control-request-private-network") === "true") headers.push("access-control-allow-private-network", "true");
  return headers;
}

/**
 * Whether a page calls under a name that was made to point at this machine. The browser takes such a page for one of ours, so that no
 * preflight is asked for and every answer can be read: DNS rebinding. Only where the connection is from this machine to itself; behind
 * any other address stands somebody who chose the name.
 */
function isRebound(exchange: Exchange, origin: string | undefined, site: string | undefined, allowedHosts: ReadonlySet<string>): boolean {
  const host = exchange.header("host") ?? "";
  if (!isLoopback(exchange.peer) || localName.test(host) || allowedHosts.has(host.toLowerCase())) return false;
  return site === "same-origin" || origin?.endsWith(`//${host}`) === true;
}

function isLocal(origin: string): boolean {
  const scheme = /^https?:\/\//.exec(origin);
  return scheme !== null && localName.test(origin.slice(scheme[0].length));
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.") || address.startsWith("::ffff:127.");
}

function foreignName(host: string): Fault {
  return new Fault(
    FaultReason.ORIGIN_NOT_ALLOWED,
    `A page in a browser called under the name '${host}', which is not a name of this machine. If it is meant, add its origin to the allowed ones.`,
    { facts: { host } },
  );
}
