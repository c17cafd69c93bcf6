/**
 * Access tokens from Microsoft Entra ID (https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, and
 * https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token), each source as a function that
 * fetches once; `tokenSource` keeps what comes fresh.
 */
import { createHash, X509Certificate } from "node:crypto";
import { basename, dirname } from "node:path";
import type { EntraCredential, EntraManagedIdentity } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { type Clock, type Random, Secret } from "../../call.ts";
import { type Ask, numberIn, objectOf, type Question, type Reply, refusedBy, textIn } from "./ask.ts";
import { CredentialFailure, knownCode, nameShown } from "./failure.ts";
import { rsaKey, signedClaims } from "./jwt.ts";
import { type Environment, fileText, fileTextNow, neededVariable, tokenIn, trustedAddress, variable } from "./place.ts";
import type { Fetch, Fresh } from "./tokenSource.ts";

/** What fetching needs. */
export interface EntraParts {
  readonly ask: Ask;
  readonly clock: Clock;
  readonly random: Random;
  readonly environment: Environment;
  /** Where the agent of a connected server leaves its proofs. */
  readonly proofFolder?: string;
}

/**
 * What fetches the token that a credential names, for a scope. `secret` reads the application's secret, where the credential has one. Throws a
 * `CredentialFailure` for what is wrong with it whatever comes.
 */
export function entraToken(
  credential: EntraCredential,
  scope: string,
  secret: (() => Secret) | undefined,
  parts: EntraParts,
): Fetch<Secret> {
  const { source, endpoints } = credential;
  const { environment } = parts;
  const application = (given: { readonly tenantId: string; readonly clientId: string }): Application => ({
    url: tokenAddress(endpoints?.authority ?? "", given.tenantId || neededVariable(environment, "AZURE_TENANT_ID"), environment),
    clientId: given.clientId || neededVariable(environment, "AZURE_CLIENT_ID"),
    scope,
  });
  const metadata = endpoints?.metadata || "http://169.254.169.254";
  switch (source.case) {
    case "clientSecret": {
      if (secret === undefined) throw new CredentialFailure("no secret of the application is given");
      return bySecret(application(source.value), secret, parts);
    }
    case "clientCertificate":
      return byCertificate(application(source.value), source.value.path, parts);
    case "workloadIdentity":
      return byTokenFile(
        application(source.value),
        source.value.tokenFile || neededVariable(environment, "AZURE_FEDERATED_TOKEN_FILE"),
        parts,
      );
    case "managedIdentity":
      return managedIdentity(source.value.identity, metadata, scope, parts);
    default:
      return chain(application, metadata, scope, parts);
  }
}

/** An application at the address that gives it tokens. */
interface Application {
  readonly url: string;
  readonly clientId: string;
  readonly scope: string;
}

/** The order of Azure's own tools, without those that need a person. What is set up and fails is a failure; nothing after it is tried. */
function chain(
  application: (given: { tenantId: string; clientId: string }) => Application,
  metadata: string,
  scope: string,
  parts: EntraParts,
): Fetch<Secret> {
  const { environment } = parts;
  const fromEnvironment = { tenantId: "", clientId: "" };
  const [tenant, client] = [variable(environment, "AZURE_TENANT_ID"), variable(environment, "AZURE_CLIENT_ID")];
  if (tenant !== undefined && client !== undefined) {
    const secret = variable(environment, "AZURE_CLIENT_SECRET");
    if (secret !== undefined) {
      const held = new Secret(secret);
      return bySecret(application(fromEnvironment), () => held, parts);
    }
    const certificate = variable(environment, "AZURE_CLIENT_CERTIFICATE_PATH");
    if (certificate !== undefined) return byCertificate(application(fromEnvironment), certificate, parts);
    const tokenFile = variable(environment, "AZURE_FEDERATED_TOKEN_FILE");
    if (tokenFile !== undefined) return byTokenFile(application(fromEnvironment), tokenFile, parts);
  }
  return managedIdentity(client === undefined ? { case: undefined } : { case: "clientId", value: client }, metadata, scope, parts);
}

function bySecret(application: Application, secret: () => Secret, parts: EntraParts): Fetch<Secret> {
  return (signal) => grant(application, { client_secret: secret().reveal() }, parts, signal);
}

/** The token of the pod, which its platform keeps fresh in a file, stands for the application's own proof. */
function byTokenFile(application: Application, tokenFile: string, parts: EntraParts): Fetch<Secret> {
  return async (signal) => grant(application, assertion(await tokenIn(tokenFile)), parts, signal);
}

/** https://learn.microsoft.com/entra/identity-platform/certificate-credentials */
function byCertificate(application: Application, path: string, parts: EntraParts): Fetch<Secret> {
  const shown = `the file ${nameShown(path)}`;
  const read = (pem: string) => {
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(pem);
    } catch {
      throw new CredentialFailure(`${shown} holds no certificate that could be read`);
    }
    return { key: rsaKey(pem, shown), thumbprint: createHash("sha256").update(certificate.raw).digest("base64url") };
  };
  read(fileTextNow(path));
  return async (signal) => {
    const { key, thumbprint } = read(await fileText(path));
    const { url, clientId } = application;
    const nowS = Math.floor(parts.clock.wallMs() / 1000);
    // Ten minutes are plenty for one question, and little for whoever finds it.
    const claims = { aud: url, iss: clientId, sub: clientId, jti: parts.random.id(), nbf: nowS, iat: nowS, exp: nowS + 600 };
    const proof = signedClaims({ alg: "PS256", "x5t#S256": thumbprint }, claims, key);
    return grant(application, assertion(proof), parts, signal);
  };
}

function assertion(token: string): Readonly<Record<string, string>> {
  return { client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", client_assertion: token };
}

async function grant(
  { url, clientId, scope }: Application,
  proof: Readonly<Record<string, string>>,
  { ask }: EntraParts,
  signal: AbortSignal,
): Promise<Fresh<Secret>> {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: clientId, scope, ...proof });
  const question = { url, body };
  const reply = await ask(question, signal);
  const object = objectOf(reply);
  const value = textIn(object, "access_token");
  const seconds = numberIn(object, "expires_in");
  if (reply.status !== 200 || value === undefined || seconds === undefined) throw refusedBy(question, reply, codeOf(reply));
  return fresh(value, seconds, numberIn(object, "refresh_in"));
}

function tokenAddress(given: string, tenant: string, environment: Environment): string {
  if (!/^[A-Za-z0-9.-]+$/.test(tenant)) throw new CredentialFailure("the tenant is neither an id nor a domain");
  const text = given || (variable(environment, "AZURE_AUTHORITY_HOST") ?? "https://login.microsoftonline.com");
  return `${trustedAddress(text, "AZURE_AUTHORITY_HOST").origin}/${tenant}/oauth2/v2.0/token`;
}

/**
 * The identity of what we run on. The platform tells by variables where its tokens are: an app (App Service, Functions, Container Apps) by
 * an address and a header, a connected server (Arc) by an address and a challenge; a machine, and a pod on one, tells nothing and has the
 * metadata service.
 */
function managedIdentity(identity: EntraManagedIdentity["identity"], metadata: string, scope: string, parts: EntraParts): Fetch<Secret> {
  const { environment, ask, clock } = parts;
  const resource = scope.replace(/\/\.default$/, "");
  const address = variable(environment, "IDENTITY_ENDPOINT");
  const header = variable(environment, "IDENTITY_HEADER");
  if (variable(environment, "IDENTITY_SERVER_THUMBPRINT") !== undefined)
    throw new CredentialFailure("the environment is that of Service Fabric, whose identities are not used here");

  if (address !== undefined && header !== undefined) {
    if (!/^[\x21-\x7e]+$/.test(header)) throw new CredentialFailure("IDENTITY_HEADER holds characters that a header cannot carry");
    // Apps are given addresses of their own machine, or of the range that never leaves a link (RFC 3927).
    const base = trustedAddress(address, "IDENTITY_ENDPOINT", (host) => /^169\.254(\.[0-9]{1,3}){2}$/.test(host));
    const url = askingFor(base, { resource, "api-version": "2019-08-01" }, identity, appNames);
    const question = { method: "GET", url, headers: ["x-identity-header", header] } as const;
    return async (signal) => platformToken(question, await ask(question, signal), clock);
  }

  if (address !== undefined && variable(environment, "IMDS_ENDPOINT") !== undefined) {
    if (identity.case !== undefined) throw new CredentialFailure("a connected server has one identity, and another one is named");
    const base = trustedAddress(address, "IDENTITY_ENDPOINT");
    const url = askingFor(base, { resource, "api-version": "2020-06-01" }, identity, machineNames);
    return (signal) => provenToken({ method: "GET", url, headers: ["metadata", "true"] }, parts, signal);
  }

  const base = new URL("/metadata/identity/oauth2/token", metadata);
  const url = askingFor(base, { resource, "api-version": "2018-02-01" }, identity, machineNames);
  const question = { method: "GET", url, headers: ["metadata", "true"] } as const;
  return async (signal) => platformToken(question, await ask(question, signal), clock);
}

const appNames = { clientId: "client_id", objectId: "object_id", resourceId: "mi_res_id" } as const;
const machineNames = { clientId: "client_id", objectId: "object_id", resourceId: "msi_res_id" } as const;

/** An address with what is asked for, and which identity of several. */
function askingFor(
  url: URL,
  parameters: Readonly<Record<string, string>>,
  identity: EntraManagedIdentity["identity"],
  names: Readonly<Record<"clientId" | "objectId" | "resourceId", string>>,
): string {
  const asking = new URL(url);
  for (const [name, value] of Object.entries(parameters)) asking.searchParams.set(name, value);
  if (identity.case !== undefined) asking.searchParams.set(names[identity.case], identity.value);
  return asking.href;
}

/** Where the agent of a connected server leaves its proofs; on other systems it is not used. */
const usualProofFolder = "/var/opt/azcmagent/tokens";

/**
 * Of a connected server: the first answer names a file that only the administrator's programs can read; its content is the proof
 * (https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication). Another file is never read: whoever answers
 * at that address could have any file sent to them.
 */
async function provenToken(
  question: Question,
  { ask, clock, proofFolder = usualProofFolder }: EntraParts,
  signal: AbortSignal,
): Promise<Fresh<Secret>> {
  const challenge = await ask(question, signal);
  const path = /^Basic realm=(\S+)$/i.exec(challenge.header("www-authenticate") ?? "")?.[1];
  if (challenge.status !== 401 || path === undefined) throw refusedBy(question, challenge, codeOf(challenge));
  if (dirname(path) !== proofFolder || !/^[A-Za-z0-9-]+\.key$/.test(basename(path)))
    throw new CredentialFailure("the agent of this server names a file that is not one of its proofs");
  const proof = await tokenIn(path);
  const proven = { ...question, headers: [...(question.headers ?? []), "authorization", `Basic ${proof}`] };
  return platformToken(proven, await ask(proven, signal), clock);
}

/** The token of an answer of a platform, which writes numbers as text, and the end as seconds to go or as seconds since 1970. */
function platformToken(question: Question, reply: Reply, clock: Clock): Fresh<Secret> {
  const object = objectOf(reply);
  const value = textIn(object, "access_token");
  const endsAt = numberIn(object, "expires_on");
  const seconds = numberIn(object, "expires_in") ?? (endsAt === undefined ? undefined : endsAt - clock.wallMs() / 1000);
  if (reply.status !== 200 || value === undefined || seconds === undefined) throw refusedBy(question, reply, codeOf(reply));
  return fresh(value, seconds, numberIn(object, "refresh_in"));
}

function fresh(value: string, seconds: number, refreshSeconds: number | undefined): Fresh<Secret> {
  const token = { value: new Secret(value), lifeMs: seconds * 1000 };
  return refreshSeconds === undefined ? token : { ...token, refreshInMs: refreshSeconds * 1000 };
}

/** The word for what is wrong, and the number by which Microsoft's pages explain it: a number holds no secret. */
function codeOf(reply: Reply): string {
  const object = objectOf(reply);
  const [number] = Array.isArray(object.error_codes) ? object.error_codes : [];
  const explained = Number.isSafeInteger(number) && number >= 0 && number < 1e8 ? ` (AADSTS${number})` : "";
  return knownCode(textIn(object, "error")) + explained;
}
