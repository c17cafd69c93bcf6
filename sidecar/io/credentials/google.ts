/**
 * Access tokens from Google (https://google.aip.dev/auth/4110 and the pages after it), each source as a function that fetches once;
 * `tokenSource` keeps what comes fresh. Credentials files are read anew each time, and programs that one names are never run.
 */
import type { GoogleCredential, GoogleEndpoints } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { type Clock, Secret } from "../../call.ts";
import { isObject, type JsonObject, parseObject } from "../../framing/json.ts";
import { type Ask, numberIn, objectOf, type Question, refusedBy, textIn } from "./ask.ts";
import { CredentialFailure, knownCode, nameShown } from "./failure.ts";
import { rsaKey, signedClaims } from "./jwt.ts";
import { type Environment, fileText, fileTextIfThere, fileTextNow, homeFile, tokenIn, trustedAddress, variable } from "./place.ts";
import type { Fetch, Fresh } from "./tokenSource.ts";

/** What fetching needs. */
export interface GoogleParts {
  readonly ask: Ask;
  readonly clock: Clock;
  readonly environment: Environment;
}

/**
 * What fetches the token that a credential names. Throws a `CredentialFailure` for what is wrong with it whatever comes, such as a file that
 * is not there or is of a kind that is not used.
 */
export function googleToken(credential: GoogleCredential, parts: GoogleParts): Fetch<Secret> {
  const scopes = credential.scopes.length > 0 ? credential.scopes : [cloudPlatform];
  const { endpoints, impersonate } = credential;
  // Whoever acts as another account asks for that with a token that may do anything, and limits the token that it is given.
  const asked = { ...parts, endpoints, scopes: impersonate === "" ? scopes : [cloudPlatform] };
  const source = sourceOf(credential, asked);
  if (impersonate === "") return source;
  const base = endpoints?.iamCredentials || "https://iamcredentials.googleapis.com";
  const url = `${base}/v1/projects/-/serviceAccounts/${encodeURIComponent(impersonate)}:generateAccessToken`;
  return async (signal) => actAs({ url, scopes, delegates: [], seconds: 3_600 }, (await source(signal)).value, parts, signal);
}

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform";

interface Asked extends GoogleParts {
  readonly endpoints: GoogleEndpoints | undefined;
  readonly scopes: readonly string[];
}

function sourceOf({ source }: GoogleCredential, asked: Asked): Fetch<Secret> {
  switch (source.case) {
    case "file": {
      const { path } = source.value;
      checkFile(readFileOf(fileTextNow(path), path), path);
      return async (signal) => tokenByFile(readFileOf(await fileText(path), path), path, asked, signal);
    }
    case "metadata":
      return metadataToken(source.value.serviceAccount || "default", asked);
    default:
      return chain(asked);
  }
}

/** Application default credentials (https://cloud.google.com/docs/authentication/application-default-credentials), in their order. */
function chain(asked: Asked): Fetch<Secret> {
  const { environment } = asked;
  const named = variable(environment, "GOOGLE_APPLICATION_CREDENTIALS");
  if (named !== undefined) {
    checkFile(readFileOf(fileTextNow(named), named), named);
    return async (signal) => tokenByFile(readFileOf(await fileText(named), named), named, asked, signal);
  }
  const folder = variable(environment, "CLOUDSDK_CONFIG");
  const usual = homeFile(environment, ".config", "gcloud", fileName);
  const path = folder === undefined ? usual : `${folder}/${fileName}`;
  const metadata = metadataToken("default", asked);
  return async (signal) => {
    const text = await fileTextIfThere(path);
    return text === undefined || path === undefined ? metadata(signal) : tokenByFile(readFileOf(text, path), path, asked, signal);
  };
}

const fileName = "application_default_credentials.json";

function readFileOf(text: string, path: string): JsonObject {
  try {
    return parseObject(text);
  } catch {
    throw new CredentialFailure(`the file ${nameShown(path)} is no JSON object`);
  }
}

/** Throws for a file that no attempt could use, so that the policy is refused and not its calls. */
function checkFile(file: JsonObject, path: string): void {
  const type = textIn(file, "type");
  if (type === "service_account") rsaKey(keyIn(file, path), `the file ${nameShown(path)}`);
  else if (type === "external_account") subjectOf(file, path);
  else if (type === "impersonated_service_account") checkFile(innerOf(file, path), path);
  else if (type !== "authorized_user") throw unknownType(type, path);
}

async function tokenByFile(file: JsonObject, path: string, asked: Asked, signal: AbortSignal): Promise<Fresh<Secret>> {
  const type = textIn(file, "type");
  switch (type) {
    case "service_account":
      return serviceAccountToken(file, path, asked, signal);
    case "authorized_user":
      return userToken(file, path, asked, signal);
    case "external_account":
      return exchangedToken(file, path, asked, signal);
    case "impersonated_service_account": {
      const inner = await tokenByFile(innerOf(file, path), path, { ...asked, scopes: [cloudPlatform] }, signal);
      const delegates = Array.isArray(file.delegates) ? file.delegates.filter((name) => typeof name === "string") : [];
      const wanted = { url: impersonationIn(file, path, asked), scopes: asked.scopes, delegates, seconds: 3_600 };
      return actAs(wanted, inner.value, asked, signal);
    }
    default:
      throw unknownType(type, path);
  }
}

function unknownType(type: string | undefined, path: string): CredentialFailure {
  // The types of files that Google documents and that need a person, or a program.
  const said = type === "external_account_authorized_user" || type === "gdch_service_account" ? ` (${type})` : "";
  return new CredentialFailure(`the file ${nameShown(path)} is of a type that is not used here${said}`);
}

/** A service account signs claims, for which it is given a token (https://developers.google.com/identity/protocols/oauth2/service-account). */
async function serviceAccountToken(file: JsonObject, path: string, asked: Asked, signal: AbortSignal): Promise<Fresh<Secret>> {
  const account = memberOf(file, "client_email", path);
  const url = tokenAddress(file, path, asked);
  const keyId = textIn(file, "private_key_id");
  const key = rsaKey(keyIn(file, path), `the file ${nameShown(path)}`);
  const nowS = Math.floor(asked.clock.wallMs() / 1000);
  // The audience is this one wherever the question goes: an address of a private network is no name of Google's.
  const claims = { iss: account, scope: asked.scopes.join(" "), aud: `${usualToken}/token`, iat: nowS, exp: nowS + 3_600 };
  const assertion = signedClaims({ alg: "RS256", ...(keyId === undefined ? {} : { kid: keyId }) }, claims, key);
  const body = new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion });
  return tokenFor({ url, body }, asked, signal);
}

const usualToken = "https://oauth2.googleapis.com";

async function userToken(file: JsonObject, path: string, asked: Asked, signal: AbortSignal): Promise<Fresh<Secret>> {
  const url = tokenAddress(file, path, asked);
  const body = new URLSearchParams({
    grant_type: "refresh_token",
    client_id: memberOf(file, "client_id", path),
    client_secret: memberOf(file, "client_secret", path),
    refresh_token: memberOf(file, "refresh_token", path),
  });
  return tokenFor({ url, body }, asked, signal);
}

/** Workload identity federation (https://google.aip.dev/auth/4117): a token of another issuer is exchanged (RFC 8693). */
async function exchangedToken(file: JsonObject, path: string, asked: Asked, signal: AbortSignal): Promise<Fresh<Secret>> {
  const actsAs = textIn(file, "service_account_impersonation_url") !== undefined;
  const url = neededAddress(file, "token_url", path, asked.endpoints?.sts);
  const body = new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    requested_token_type: "urn:ietf:params:oauth:token-type:access_token",
    audience: memberOf(file, "audience", path),
    scope: actsAs ? cloudPlatform : asked.scopes.join(" "),
    subject_token_type: memberOf(file, "subject_token_type", path),
    subject_token: await subjectOf(file, path)(asked, signal),
  });
  const [id, secret] = [textIn(file, "client_id"), textIn(file, "client_secret")];
  // RFC 6749, section 2.3.1.
  const basic = id === undefined || secret === undefined ? [] : [encodeURIComponent(id), encodeURIComponent(secret)];
  const headers = basic.length === 0 ? [] : ["authorization", `Basic ${Buffer.from(basic.join(":")).toString("base64")}`];
  const token = await tokenFor({ url, body, headers }, asked, signal);
  if (!actsAs) return token;
  const given = isObject(file.service_account_impersonation)
    ? numberIn(file.service_account_impersonation, "token_lifetime_seconds")
    : undefined;
  const seconds = given !== undefined && given >= 600 && given <= 43_200 ? given : 3_600;
  return actAs({ url: impersonationIn(file, path, asked), scopes: asked.scopes, delegates: [], seconds }, token.value, asked, signal);
}

/** Gets the token of the other issuer. */
type Subject = (asked: Asked, signal: AbortSignal) => Promise<string>;

/** Where the token of the other issuer comes from. Throws for what is not used: a program, or signed requests of another cloud. */
function subjectOf(file: JsonObject, path: string): Subject {
  const shown = nameShown(path);
  const source = file.credential_source;
  if (!isObject(source)) throw new CredentialFailure(`the file ${shown} has no credential_source`);
  if (isObject(source.executable)) throw new CredentialFailure(`the file ${shown} names a program (executable), and programs are not run`);
  const format = isObject(source.format) ? source.format : {};
  const member = textIn(format, "type") === "json" ? memberOf(format, "subject_token_field_name", path) : undefined;
  const tokenFile = textIn(source, "file");
  if (tokenFile !== undefined) {
    if (member === undefined) return () => tokenIn(tokenFile);
    return async () => memberOf(readFileOf(await fileText(tokenFile), tokenFile), member, tokenFile);
  }
  const address = textIn(source, "url");
  if (address === undefined || textIn(source, "environment_id") !== undefined)
    throw new CredentialFailure(`the file ${shown} takes its token neither from a file nor from an address`);
  // The metadata service of another cloud's machine is at one address everywhere.
  const { href } = trustedAddress(address, `the file ${shown}`, (host) => host === "169.254.169.254");
  const headers = isObject(source.headers) ? headersOf(source.headers, path) : [];
  return async ({ ask }, signal) => {
    const question = { method: "GET", url: href, headers } as const;
    const reply = await ask(question, signal);
    const token = member === undefined ? reply.body.trim() : textIn(objectOf(reply), member);
    if (reply.status !== 200 || token === undefined || !/^[\x21-\x7e]+$/.test(token)) throw refusedBy(question, reply, "");
    return token;
  };
}

function headersOf(given: JsonObject, path: string): string[] {
  return Object.keys(given).flatMap((name) => {
    if (!/^[A-Za-z0-9-]{1,64}$/.test(name)) throw new CredentialFailure(`the file ${nameShown(path)} names a header that is none`);
    return [name.toLowerCase(), memberOf(given, name, path)];
  });
}

/** https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken */
async function actAs(
  wanted: { readonly url: string; readonly scopes: readonly string[]; readonly delegates: readonly string[]; readonly seconds: number },
  token: Secret,
  { ask, clock }: GoogleParts,
  signal: AbortSignal,
): Promise<Fresh<Secret>> {
  const { url, scopes, delegates, seconds } = wanted;
  const body = JSON.stringify({ scope: scopes, lifetime: `${seconds}s`, ...(delegates.length === 0 ? {} : { delegates }) });
  const question = { url, headers: ["authorization", `Bearer ${token.reveal()}`, "content-type", "application/json"], body };
  const reply = await ask(question, signal);
  const object = objectOf(reply);
  const value = textIn(object, "accessToken");
  const endsAtMs = Date.parse(textIn(object, "expireTime") ?? "");
  if (reply.status !== 200 || value === undefined || Number.isNaN(endsAtMs))
    throw refusedBy(question, reply, knownCode(textIn(object.error, "status")));
  return { value: new Secret(value), lifeMs: endsAtMs - clock.wallMs() };
}

/** https://cloud.google.com/compute/docs/metadata/overview */
function metadataToken(account: string, { ask, environment, endpoints, scopes }: Asked): Fetch<Secret> {
  const host = variable(environment, "GCE_METADATA_HOST");
  const text = endpoints?.metadata || `http://${host ?? "metadata.google.internal"}`;
  const known = (name: string): boolean => name === "metadata.google.internal" || name === "169.254.169.254";
  const base = trustedAddress(text, "GCE_METADATA_HOST", known).origin;
  const query = new URLSearchParams({ scopes: scopes.join(",") });
  const url = `${base}/computeMetadata/v1/instance/service-accounts/${encodeURIComponent(account)}/token?${query}`;
  return async (signal) => {
    const question = { method: "GET", url, headers: ["metadata-flavor", "Google"] } as const;
    const reply = await ask(question, signal);
    // Something else at this address does not say so, and what it gives is no token of Google's.
    if (reply.header("metadata-flavor") !== "Google") throw new CredentialFailure("the metadata service that answered is not Google's");
    return tokenOf(question, reply);
  };
}

async function tokenFor(question: Question, { ask }: GoogleParts, signal: AbortSignal): Promise<Fresh<Secret>> {
  return tokenOf(question, await ask(question, signal));
}

/** The token of an answer (RFC 6749, section 5.1). */
function tokenOf(question: Question, reply: Awaited<ReturnType<Ask>>): Fresh<Secret> {
  const object = objectOf(reply);
  const value = textIn(object, "access_token");
  const seconds = numberIn(object, "expires_in");
  if (reply.status !== 200 || value === undefined || seconds === undefined)
    throw refusedBy(question, reply, knownCode(textIn(object, "error")));
  return { value: new Secret(value), lifeMs: seconds * 1000 };
}

function memberOf(object: JsonObject, name: string, path: string): string {
  const value = textIn(object, name);
  if (value === undefined) throw new CredentialFailure(`the file ${nameShown(path)} has no ${nameShown(name)}`);
  return value;
}

/** The one member of several lines. */
function keyIn(file: JsonObject, path: string): string {
  if (typeof file.private_key !== "string") throw new CredentialFailure(`the file ${nameShown(path)} has no private_key`);
  return file.private_key;
}

function innerOf(file: JsonObject, path: string): JsonObject {
  const inner = file.source_credentials;
  // One account may act as another, and no file says more: a file inside a file inside a file is a mistake.
  if (!isObject(inner) || textIn(inner, "type") === "impersonated_service_account")
    throw new CredentialFailure(`the file ${nameShown(path)} has no source_credentials that can be used`);
  return inner;
}

function impersonationIn(file: JsonObject, path: string, { endpoints }: Asked): string {
  return neededAddress(file, "service_account_impersonation_url", path, endpoints?.iamCredentials);
}

function tokenAddress(file: JsonObject, path: string, { endpoints }: Asked): string {
  return textIn(file, "token_uri") === undefined
    ? `${endpoints?.token || usualToken}/token`
    : neededAddress(file, "token_uri", path, endpoints?.token);
}

/** An address in a file, at the origin that policy gives in its place if it gives one. */
function neededAddress(file: JsonObject, name: string, path: string, otherOrigin: string | undefined): string {
  const { href, pathname, search } = trustedAddress(memberOf(file, name, path), `the file ${nameShown(path)}`);
  return otherOrigin ? otherOrigin + pathname + search : href;
}
