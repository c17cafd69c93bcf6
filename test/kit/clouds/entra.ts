/**
 * Microsoft's token endpoint and the places where its platforms give tokens, as strict as the real ones. Each is a function from a request to
 * an answer, for `startReplay`.
 */
import type { ReplayAnswer, SeenRequest } from "../replay.ts";

type Answer = (request: SeenRequest) => ReplayAnswer;

function answer(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): ReplayAnswer {
  return { status, headers: { "content-type": "application/json", ...headers }, pieces: [JSON.stringify(body)] };
}

/** The token endpoint of one tenant. `proves` looks at the rest of the form: an application's secret, or its assertion. */
export function fakeEntra(known: {
  readonly tenant: string;
  readonly clientId: string;
  proves(form: URLSearchParams): boolean;
  give(scope: string): { readonly token: string; readonly seconds: number; readonly refreshSeconds?: number };
}): Answer {
  return ({ method, path, headers, body }) => {
    const form = new URLSearchParams(body.toString());
    const refuse = (status: number, error: string, number: number) =>
      answer(status, { error, error_description: `AADSTS${number}: because of ${body}`, error_codes: [number], trace_id: "t" });
    if (path !== `/${known.tenant}/oauth2/v2.0/token`) return refuse(400, "invalid_request", 90002);
    if (method !== "POST" || headers["content-type"] !== "application/x-www-form-urlencoded") return refuse(400, "invalid_request", 900144);
    if (form.get("grant_type") !== "client_credentials") return refuse(400, "unsupported_grant_type", 70003);
    if (form.get("client_id") !== known.clientId) return refuse(400, "unauthorized_client", 700016);
    if (!known.proves(form)) return refuse(401, "invalid_client", 7000215);
    const scope = form.get("scope") ?? "";
    if (!scope.endsWith("/.default")) return refuse(400, "invalid_scope", 1002012);
    const { token, seconds, refreshSeconds } = known.give(scope);
    const life = { expires_in: seconds, ext_expires_in: seconds, ...(refreshSeconds === undefined ? {} : { refresh_in: refreshSeconds }) };
    return answer(200, { token_type: "Bearer", access_token: token, ...life });
  };
}

/** A place where a platform gives tokens: `path`, its headers and its version of the API. Numbers are written as text, as there. */
export function fakePlatform(known: {
  readonly path: string;
  readonly version: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly more?: Readonly<Record<string, string>>;
  give(resource: string): Readonly<Record<string, string>>;
}): Answer {
  return ({ method, path, headers }) => {
    const url = new URL(path, "http://platform");
    if (method !== "GET" || url.pathname !== known.path) return answer(404, { error: "identity_not_found" });
    for (const [name, value] of Object.entries(known.headers))
      if (headers[name] !== value) return answer(400, { error: "invalid_request" });
    const { resource = "", "api-version": version, ...more } = Object.fromEntries(url.searchParams);
    if (version !== known.version || resource.endsWith("/.default")) return answer(400, { error: "invalid_request" });
    if (JSON.stringify(more) !== JSON.stringify(known.more ?? {})) return answer(400, { error: "invalid_request" });
    return answer(200, { token_type: "Bearer", resource, ...known.give(resource) });
  };
}

/** A connected server's agent: it challenges with the path of a file, and gives a token to whoever shows what the file holds. */
export function fakeAgent(file: string, content: () => string, give: () => string): Answer {
  return ({ method, path, headers }) => {
    const url = new URL(path, "http://agent");
    if (method !== "GET" || url.pathname !== "/metadata/identity/oauth2/token" || headers.metadata !== "true") return answer(400, {});
    if (url.searchParams.get("api-version") !== "2020-06-01") return answer(400, { error: "invalid_request" });
    if (headers.authorization === undefined) return answer(401, {}, { "www-authenticate": `Basic realm=${file}` });
    if (headers.authorization !== `Basic ${content()}`) return answer(401, { error: "unauthorized_client" });
    return answer(200, { access_token: give(), expires_in: "86000", token_type: "Bearer" });
  };
}
