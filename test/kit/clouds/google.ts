/** Google's token and metadata services as strict as the real ones. Each is a function from a request to an answer, for `startReplay`. */
import { type KeyObject, verify } from "node:crypto";
import type { ReplayAnswer, SeenRequest } from "../replay.ts";

type Answer = (request: SeenRequest) => ReplayAnswer;

const json = { "content-type": "application/json; charset=UTF-8" };

function answer(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): ReplayAnswer {
  return { status, headers: { ...json, ...headers }, pieces: [JSON.stringify(body)] };
}

/** A token endpoint (/token): verifies the signature and claims of service accounts, and knows one user. */
export function fakeGoogleTokens(known: {
  readonly account: string;
  readonly keyId: string;
  readonly key: KeyObject;
  readonly user?: Readonly<Record<"client_id" | "client_secret" | "refresh_token", string>>;
  nowMs(): number;
  give(scope: string): string;
}): Answer {
  return ({ method, path, headers, body }) => {
    const form = new URLSearchParams(body.toString());
    if (method !== "POST" || path !== "/token" || headers["content-type"] !== "application/x-www-form-urlencoded") return answer(404, {});
    if (form.get("grant_type") === "refresh_token") {
      const right = known.user !== undefined && Object.entries(known.user).every(([name, value]) => form.get(name) === value);
      if (!right) return answer(400, { error: "invalid_grant", error_description: "Bad Request" });
      return answer(200, { access_token: known.give("of the user"), expires_in: 3599, token_type: "Bearer", scope: "s" });
    }
    if (form.get("grant_type") !== "urn:ietf:params:oauth:grant-type:jwt-bearer") return answer(400, { error: "unsupported_grant_type" });
    const claims = verified(form.get("assertion") ?? "", { alg: "RS256", typ: "JWT", kid: known.keyId }, known.key);
    const nowS = known.nowMs() / 1000;
    const [iat, exp] = [Number(claims?.iat), Number(claims?.exp)];
    const right =
      claims?.iss === known.account &&
      claims.aud === "https://oauth2.googleapis.com/token" &&
      typeof claims.scope === "string" &&
      Math.abs(iat - nowS) <= 300 &&
      exp > nowS &&
      exp <= iat + 3600;
    if (claims === undefined || !right) return answer(400, { error: "invalid_grant", error_description: "Invalid JWT Signature." });
    return answer(200, { access_token: known.give(String(claims.scope)), expires_in: 3599, token_type: "Bearer" });
  };
}

/** The claims of a token whose header and signature are right, or undefined. */
export function verified(
  token: string,
  header: Readonly<Record<string, string>>,
  key: KeyObject,
  padding: { readonly padding?: number; readonly saltLength?: number } = {},
): Readonly<Record<string, unknown>> | undefined {
  const [head = "", body = "", signature = ""] = token.split(".");
  const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString());
  if (JSON.stringify(Object.entries(read(head)).sort()) !== JSON.stringify(Object.entries(header).sort())) return undefined;
  const right = verify("sha256", Buffer.from(`${head}.${body}`), { key, ...padding }, Buffer.from(signature, "base64url"));
  return right ? read(body) : undefined;
}

/** The metadata service: whoever does not say that it is meant gets nothing. */
export function fakeGoogleMetadata(account: string, give: (scopes: string) => { token: string; seconds: number }): Answer {
  return ({ method, path, headers }) => {
    const url = new URL(path, "http://metadata.google.internal");
    if (headers["metadata-flavor"] !== "Google" || headers["x-forwarded-for"] !== undefined) return { status: 403, pieces: [] };
    const flavor = { "metadata-flavor": "Google" };
    if (method !== "GET" || url.pathname !== `/computeMetadata/v1/instance/service-accounts/${account}/token`)
      return { status: 404, headers: flavor, pieces: ["<html>"] };
    const { token, seconds } = give(url.searchParams.get("scopes") ?? "");
    return answer(200, { access_token: token, expires_in: seconds, token_type: "Bearer" }, flavor);
  };
}

/** The exchange of tokens (/v1/token), for one audience and one foreign token. */
export function fakeGoogleSts(known: {
  readonly audience: string;
  readonly subject: string;
  readonly subjectType: string;
  readonly basic?: string;
  give(scope: string): string;
}): Answer {
  return ({ method, path, headers, body }) => {
    const form = new URLSearchParams(body.toString());
    if (method !== "POST" || path !== "/v1/token") return answer(404, {});
    if (headers.authorization !== known.basic) return answer(401, { error: "invalid_client" });
    if (form.get("grant_type") !== "urn:ietf:params:oauth:grant-type:token-exchange")
      return answer(400, { error: "unsupported_grant_type" });
    if (form.get("requested_token_type") !== "urn:ietf:params:oauth:token-type:access_token")
      return answer(400, { error: "invalid_request" });
    if (form.get("audience") !== known.audience) return answer(400, { error: "invalid_target", error_description: known.subject });
    if (form.get("subject_token") !== known.subject || form.get("subject_token_type") !== known.subjectType)
      return answer(400, { error: "invalid_grant", error_description: `The token ${form.get("subject_token")} is not valid` });
    const token = known.give(form.get("scope") ?? "");
    const issued = "urn:ietf:params:oauth:token-type:access_token";
    return answer(200, { access_token: token, issued_token_type: issued, token_type: "Bearer", expires_in: 3600 });
  };
}

/** What lets one account act as another (generateAccessToken), for whoever shows `token`. */
export function fakeGoogleIam(known: {
  readonly account: string;
  token(): string;
  nowMs(): number;
  give(asked: { readonly scope: readonly string[]; readonly lifetime: string; readonly delegates?: readonly string[] }): string;
}): Answer {
  return ({ method, path, headers, body }) => {
    const expected = `/v1/projects/-/serviceAccounts/${known.account}:generateAccessToken`;
    if (method !== "POST" || decodeURIComponent(path) !== expected) return answer(404, { error: { code: 404, status: "NOT_FOUND" } });
    if (headers.authorization !== `Bearer ${known.token()}`)
      return answer(403, { error: { code: 403, message: `Not with ${headers.authorization}`, status: "PERMISSION_DENIED" } });
    const asked = JSON.parse(body.toString());
    const seconds = Number(/^(\d+)s$/.exec(asked.lifetime)?.[1]);
    if (headers["content-type"] !== "application/json" || !Array.isArray(asked.scope) || Number.isNaN(seconds))
      return answer(400, { error: { code: 400, status: "INVALID_ARGUMENT" } });
    const expireTime = new Date(known.nowMs() + seconds * 1000).toISOString().replace(/\.\d+/, "");
    return answer(200, { accessToken: known.give(asked), expireTime });
  };
}
