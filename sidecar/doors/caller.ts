/** What a request's headers say of who calls, the same at every door. */
import { Secret } from "../call.ts";
import type { Exchange } from "./exchange.ts";

/** What the caller showed to prove who it is. Clients differ in where they put it, so every door looks in both places. */
export function credentialOf(exchange: Exchange): Secret | undefined {
  const bearer = /^bearer +(\S+) *$/i.exec(exchange.header("authorization") ?? "")?.[1];
  const shown = bearer ?? exchange.header("x-api-key");
  return shown === undefined || shown === "" ? undefined : new Secret(shown);
}

/** The caller's trace context if it is one (W3C Trace Context section 3.2). */
export function traceparentOf(exchange: Exchange): string | undefined {
  const header = exchange.header("traceparent");
  return header !== undefined && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(header) ? header : undefined;
}
