/**
 * Keys from AWS's own sources (https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html), each as a function that
 * fetches once; `tokenSource` keeps what comes fresh. Keys of a source can take on roles, one after the other, and those of the last sign.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { AwsCredential, AwsRole } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { Clock } from "../../call.ts";
import type { AccessKey } from "../../policy/compile.ts";
import { signed } from "../sign.ts";
import { type Ask, objectOf, type Question, type Reply, refusedBy, textIn } from "./ask.ts";
import { CredentialFailure, knownCode, nameShown } from "./failure.ts";
import { type Environment, fileTextIfThere, homeFile, neededVariable, tokenIn, trustedAddress, variable } from "./place.ts";
import { type Profiles, readProfiles } from "./profiles.ts";
import type { Fetch, Fresh } from "./tokenSource.ts";

/** What fetching needs. */
export interface AwsParts {
  readonly ask: Ask;
  readonly clock: Clock;
  readonly environment: Environment;
}

/**
 * What fetches the keys that a credential names. `region` is that of the provider, whose token service is asked; `ownKey` reads the key
 * that stands in the credential, if one does. Throws a `CredentialFailure` for what is wrong with the credential whatever comes.
 */
export function awsKeys(
  credential: AwsCredential,
  region: string,
  ownKey: (() => AccessKey) | undefined,
  parts: AwsParts,
): Fetch<AccessKey> {
  const sts = stsOf(credential, region);
  const source = sourceOf(credential, ownKey, sts, parts);
  if (credential.assumeRoles.length === 0) return source;
  return async (signal) => {
    let keys = await source(signal);
    for (const role of credential.assumeRoles) keys = await assumeRole(keys.value, roleOf(role), sts, parts, signal);
    return keys;
  };
}

function sourceOf(credential: AwsCredential, ownKey: (() => AccessKey) | undefined, sts: Sts, parts: AwsParts): Fetch<AccessKey> {
  const { environment } = parts;
  const instance = () => instanceKeys(credential.endpoints?.instance ?? "", parts);
  const container = () => containerKeys(credential.endpoints?.container ?? "", parts);
  const { source } = credential;
  switch (source.case) {
    case "chain":
      return chain(sts, container, instance, parts);
    case "profile": {
      const files = filesOf(source.value.configFile, source.value.credentialsFile, environment);
      const name = source.value.name || variable(environment, "AWS_PROFILE") || "default";
      return async (signal) => {
        const profiles = await profilesOf(files);
        if (!profiles.has(name)) throw new CredentialFailure(`there is no profile ${nameShown(name)} in ${filesShown(files)}`);
        return profileKeys(name, profiles, sts, container, instance, parts, signal);
      };
    }
    case "webIdentity": {
      const { roleArn, tokenFile, sessionName } = source.value;
      const identity = {
        roleArn: roleArn || neededVariable(environment, "AWS_ROLE_ARN"),
        tokenFile: tokenFile || neededVariable(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        sessionName: sessionName || variable(environment, "AWS_ROLE_SESSION_NAME") || defaultSession,
      };
      return (signal) => assumeByToken(identity, sts, parts, signal);
    }
    case "container":
      return container();
    case "instance":
      return instance();
    case undefined:
      if (ownKey === undefined) throw new CredentialFailure("neither an access key nor a source of keys is given");
      return async () => ({ value: ownKey(), lifeMs: Number.POSITIVE_INFINITY });
  }
}

/**
 * The first source that is set up. What is set up and fails is a failure, and nothing after it is tried: a pod whose role is refused must
 * not act as the machine below it.
 */
function chain(sts: Sts, container: () => Fetch<AccessKey>, instance: () => Fetch<AccessKey>, parts: AwsParts): Fetch<AccessKey> {
  const { environment } = parts;
  const accessKeyId = variable(environment, "AWS_ACCESS_KEY_ID");
  const secretAccessKey = variable(environment, "AWS_SECRET_ACCESS_KEY");
  if (accessKeyId !== undefined && secretAccessKey !== undefined) {
    const value = checkedKey({ accessKeyId, secretAccessKey, sessionToken: variable(environment, "AWS_SESSION_TOKEN") }, "the environment");
    return async () => ({ value, lifeMs: Number.POSITIVE_INFINITY });
  }
  const tokenFile = variable(environment, "AWS_WEB_IDENTITY_TOKEN_FILE");
  const roleArn = variable(environment, "AWS_ROLE_ARN");
  if (tokenFile !== undefined && roleArn !== undefined) {
    const sessionName = variable(environment, "AWS_ROLE_SESSION_NAME") ?? defaultSession;
    return (signal) => assumeByToken({ roleArn, tokenFile, sessionName }, sts, parts, signal);
  }
  const files = filesOf("", "", environment);
  const named = variable(environment, "AWS_PROFILE");
  const inContainer = variable(environment, relativeUri) !== undefined || variable(environment, fullUri) !== undefined;
  return async (signal) => {
    const profiles = await profilesOf(files);
    const name = named ?? "default";
    if (profiles.has(name) && profiles.givesKeys(name)) return profileKeys(name, profiles, sts, container, instance, parts, signal);
    if (named !== undefined) throw new CredentialFailure(`the profile ${nameShown(named)} of AWS_PROFILE gives no keys`);
    return inContainer ? container()(signal) : instance()(signal);
  };
}

/** Profiles that lead to profiles: no one writes more, and a circle never ends. */
const profilesMax = 5;

/** How often files are read again that hold keys without an end. */
const lookAgainMs = 5_000;

async function profileKeys(
  name: string,
  profiles: Profiles,
  sts: Sts,
  container: () => Fetch<AccessKey>,
  instance: () => Fetch<AccessKey>,
  parts: AwsParts,
  signal: AbortSignal,
  depth = 1,
): Promise<Fresh<AccessKey>> {
  if (depth > profilesMax) throw new CredentialFailure(`the profiles lead from one to the other more than ${profilesMax} times`);
  const shown = nameShown(name);
  const profile = profiles.settings(name);
  const own = (): Fresh<AccessKey> => {
    const accessKeyId = profile.get("aws_access_key_id");
    const secretAccessKey = profile.get("aws_secret_access_key");
    if (accessKeyId === undefined || secretAccessKey === undefined) throw new CredentialFailure(whyNoKeys(shown, profile));
    const key = checkedKey({ accessKeyId, secretAccessKey, sessionToken: profile.get("aws_session_token") }, `the profile ${shown}`);
    return { value: key, lifeMs: Number.POSITIVE_INFINITY, refreshInMs: lookAgainMs };
  };
  const roleArn = profile.get("role_arn");
  if (roleArn === undefined) return own();
  const sessionName = profile.get("role_session_name") ?? defaultSession;
  const tokenFile = profile.get("web_identity_token_file");
  if (tokenFile !== undefined) return assumeByToken({ roleArn, tokenFile, sessionName }, sts, parts, signal);
  if (profile.has("mfa_serial")) throw new CredentialFailure(`the profile ${shown} wants a code from a person (mfa_serial)`);

  const base = async (): Promise<Fresh<AccessKey>> => {
    const source = profile.get("source_profile");
    if (source === name) return own();
    if (source !== undefined) {
      if (!profiles.has(source)) throw new CredentialFailure(`the profile ${shown} leads to ${nameShown(source)}, which is not there`);
      return profileKeys(source, profiles, sts, container, instance, parts, signal, depth + 1);
    }
    switch (profile.get("credential_source")) {
      case "Environment": {
        const accessKeyId = neededVariable(parts.environment, "AWS_ACCESS_KEY_ID");
        const secretAccessKey = neededVariable(parts.environment, "AWS_SECRET_ACCESS_KEY");
        const sessionToken = variable(parts.environment, "AWS_SESSION_TOKEN");
        return {
          value: checkedKey({ accessKeyId, secretAccessKey, sessionToken }, "the environment"),
          lifeMs: Number.POSITIVE_INFINITY,
        };
      }
      case "Ec2InstanceMetadata":
        return instance()(signal);
      case "EcsContainer":
        return container()(signal);
      default:
        throw new CredentialFailure(`the profile ${shown} names a role and neither source_profile nor a known credential_source`);
    }
  };
  const seconds = Number(profile.get("duration_seconds"));
  const role: Role = {
    roleArn,
    sessionName,
    externalId: profile.get("external_id"),
    seconds: Number.isInteger(seconds) && seconds >= 900 && seconds <= 43_200 ? seconds : undefined,
  };
  return assumeRole((await base()).value, role, sts, parts, signal);
}

/** Why a profile has no keys of its own: named, since each of these needs another remedy. */
function whyNoKeys(shown: string, profile: ReadonlyMap<string, string>): string {
  if (profile.has("credential_process"))
    // Whoever can write that file could have the sidecar, which holds every provider's keys, run what they like.
    return `the profile ${shown} names a program (credential_process), and programs are not run`;
  if (profile.has("sso_session") || profile.has("sso_start_url") || profile.has("login_session"))
    return `the profile ${shown} needs a person to sign in, which a sidecar has not`;
  return `the profile ${shown} has neither keys nor a role`;
}

interface AwsFiles {
  readonly config: string | undefined;
  readonly credentials: string | undefined;
}

function filesOf(config: string, credentials: string, environment: Environment): AwsFiles {
  return {
    config: config || (variable(environment, "AWS_CONFIG_FILE") ?? homeFile(environment, ".aws", "config")),
    credentials: credentials || (variable(environment, "AWS_SHARED_CREDENTIALS_FILE") ?? homeFile(environment, ".aws", "credentials")),
  };
}

function filesShown({ config, credentials }: AwsFiles): string {
  return [config, credentials].map((path) => nameShown(path ?? "(no home folder)")).join(" and ");
}

async function profilesOf({ config, credentials }: AwsFiles): Promise<Profiles> {
  const [configText, credentialsText] = await Promise.all([fileTextIfThere(config), fileTextIfThere(credentials)]);
  return readProfiles(configText ?? "", credentialsText ?? "");
}

/** The security token service of a region. */
interface Sts {
  readonly url: string;
  readonly region: string;
}

/** Own endpoints of the regions are what AWS recommends, and the only ones in China (https://docs.aws.amazon.com/general/latest/gr/sts.html). */
function stsOf({ endpoints }: AwsCredential, region: string): Sts {
  const suffix = region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  return { url: `${endpoints?.sts || `https://sts.${region}.${suffix}`}/`, region };
}

interface Role {
  readonly roleArn: string;
  readonly sessionName: string;
  readonly externalId: string | undefined;
  readonly seconds: number | undefined;
}

const defaultSession = "outrigger";

function roleOf({ roleArn, sessionName, externalId, duration }: AwsRole): Role {
  return {
    roleArn,
    sessionName: sessionName || defaultSession,
    externalId: externalId || undefined,
    seconds: duration === undefined ? undefined : Math.floor(durationMs(duration) / 1000),
  };
}

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html */
async function assumeRole(key: AccessKey, role: Role, sts: Sts, parts: AwsParts, signal: AbortSignal): Promise<Fresh<AccessKey>> {
  const form = new URLSearchParams({
    Action: "AssumeRole",
    Version: "2011-06-15",
    RoleArn: role.roleArn,
    RoleSessionName: role.sessionName,
    ...(role.externalId === undefined ? {} : { ExternalId: role.externalId }),
    ...(role.seconds === undefined ? {} : { DurationSeconds: String(role.seconds) }),
  });
  const body = form.toString();
  const { host, pathname } = new URL(sts.url);
  const contentType = ["content-type", "application/x-www-form-urlencoded"];
  const scope = { host, region: sts.region, service: "sts" };
  const signature = signed({ method: "POST", host, path: pathname, headers: contentType, body }, scope, key, parts.clock.wallMs());
  return askSts({ url: sts.url, headers: [...contentType, ...signature], body }, parts, signal);
}

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html. The request is not signed: the token is proof. */
async function assumeByToken(
  { roleArn, tokenFile, sessionName }: { readonly roleArn: string; readonly tokenFile: string; readonly sessionName: string },
  sts: Sts,
  parts: AwsParts,
  signal: AbortSignal,
): Promise<Fresh<AccessKey>> {
  const body = new URLSearchParams({
    Action: "AssumeRoleWithWebIdentity",
    Version: "2011-06-15",
    RoleArn: roleArn,
    RoleSessionName: sessionName,
    WebIdentityToken: await tokenIn(tokenFile),
  });
  return askSts({ url: sts.url, body }, parts, signal);
}

/** The service answers in XML of a fixed form, of which five elements matter; each stands once, and none has children or attributes. */
async function askSts(asked: Question, { ask, clock }: AwsParts, signal: AbortSignal): Promise<Fresh<AccessKey>> {
  const question = { ...asked, accept: "*/*" };
  const reply = await ask(question, signal);
  if (reply.status !== 200) throw refusedBy(question, reply, knownCode(elementIn(reply.body, "Code")));
  return keysOf(question, reply, (name) => elementIn(reply.body, name === "Token" ? "SessionToken" : name), clock);
}

/** The text of an element, or undefined. Found by its ends and not by a pattern, which could take its time over a body made for that. */
function elementIn(xml: string, name: string): string | undefined {
  const at = xml.indexOf(`<${name}>`);
  const from = at + name.length + 2;
  const to = xml.indexOf(`</${name}>`, from);
  if (at === -1 || to === -1) return undefined;
  const text = xml.slice(from, to).replace(/&(amp|lt|gt|quot|apos|#x2B|#43);/g, (_, entity: string) => entities[entity] ?? "");
  return /^[\x21-\x7e]+$/.test(text) ? text : undefined;
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", "#x2B": "+", "#43": "+" };

const relativeUri = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const fullUri = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/** Of ECS, and of the agent of EKS Pod Identity (https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html). */
const containerHosts: ReadonlySet<string> = new Set(["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"]);

function containerKeys(endpoint: string, parts: AwsParts): Fetch<AccessKey> {
  const { environment } = parts;
  const relative = variable(environment, relativeUri);
  const full = variable(environment, fullUri);
  if (relative === undefined && full === undefined)
    throw new CredentialFailure(`neither ${relativeUri} nor ${fullUri} is set, so this is no container of ECS and no pod with an identity`);
  if (relative !== undefined && !/^\/[^/\\]/.test(relative)) throw new CredentialFailure(`${relativeUri} is no path`);
  const text = relative === undefined ? (full ?? "") : (endpoint || "http://169.254.170.2") + relative;
  const { href: url } = trustedAddress(text, relative === undefined ? fullUri : relativeUri, (host) => containerHosts.has(host));
  const tokenFile = variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  const ownToken = variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (ownToken !== undefined && !/^[\x20-\x7e]+$/.test(ownToken))
    throw new CredentialFailure("AWS_CONTAINER_AUTHORIZATION_TOKEN holds characters that a header cannot carry");
  return async (signal) => {
    const token = tokenFile === undefined ? ownToken : await tokenIn(tokenFile);
    const question = { method: "GET", url, headers: token === undefined ? [] : ["authorization", token] } as const;
    const reply = await parts.ask(question, signal);
    const object = objectOf(reply);
    if (reply.status !== 200) throw refusedBy(question, reply, knownCode(textIn(object, "code") ?? textIn(object, "Code")));
    return keysOf(question, reply, (name) => textIn(object, name), parts.clock);
  };
}

/** Version 2 alone: version 1 gives keys to whoever can make a server of this machine fetch an address. */
function instanceKeys(endpoint: string, parts: AwsParts): Fetch<AccessKey> {
  const { environment, ask, clock } = parts;
  if (endpoint === "" && variable(environment, "AWS_EC2_METADATA_DISABLED")?.toLowerCase() === "true")
    throw new CredentialFailure("AWS_EC2_METADATA_DISABLED switches the metadata service off, and no other source is set up");
  const own = variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
  const six = variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")?.toLowerCase() === "ipv6";
  const text = endpoint || (own ?? (six ? "http://[fd00:ec2::254]" : "http://169.254.169.254"));
  const hosts = (host: string): boolean => host === "169.254.169.254" || host === "[fd00:ec2::254]";
  const base = trustedAddress(text, "AWS_EC2_METADATA_SERVICE_ENDPOINT", hosts).origin;
  return async (signal) => {
    // A session for these two questions; it is never used again.
    const begin = { method: "PUT", url: `${base}/latest/api/token`, headers: ["x-aws-ec2-metadata-token-ttl-seconds", "60"] } as const;
    const session = await ask(begin, signal);
    if (session.status !== 200 || !/^[\x21-\x7e]{1,4096}$/.test(session.body)) throw refusedBy(begin, session, "");
    const headers = ["x-aws-ec2-metadata-token", session.body];
    const list = { method: "GET", url: `${base}/latest/meta-data/iam/security-credentials/`, headers } as const;
    const roles = await ask(list, signal);
    const role = roles.body.trim().split(/\s/)[0] ?? "";
    if (roles.status === 404) throw new CredentialFailure("this machine has no role");
    if (roles.status !== 200 || !/^[\w+=,.@-]{1,64}$/.test(role)) throw refusedBy(list, roles, "");
    const question = { method: "GET", url: list.url + encodeURIComponent(role), headers } as const;
    const reply = await ask(question, signal);
    const object = objectOf(reply);
    const code = textIn(object, "Code");
    if (reply.status !== 200 || (code !== undefined && code !== "Success")) throw refusedBy(question, reply, knownCode(code));
    return keysOf(question, reply, (name) => textIn(object, name), clock);
  };
}

/** The keys of an answer. Those without an end are read again as often as a file is. */
function keysOf(question: Question, reply: Reply, read: (name: string) => string | undefined, clock: Clock): Fresh<AccessKey> {
  const accessKeyId = read("AccessKeyId");
  const secretAccessKey = read("SecretAccessKey");
  const sessionToken = read("Token");
  const expiration = read("Expiration");
  const endsAtMs = expiration === undefined ? Number.NaN : Date.parse(expiration);
  if (accessKeyId === undefined || secretAccessKey === undefined || sessionToken === undefined || Number.isNaN(endsAtMs))
    throw refusedBy(question, reply, "");
  return { value: { accessKeyId, secretAccessKey, sessionToken }, lifeMs: endsAtMs - clock.wallMs() };
}

/** A key as a header can carry it: a line end in it would begin another header. */
function checkedKey(key: AccessKey, whence: string): AccessKey {
  for (const part of [key.accessKeyId, key.secretAccessKey, key.sessionToken ?? "x"])
    if (!/^[\x21-\x7e]+$/.test(part)) throw new CredentialFailure(`the access key in ${whence} holds characters that no key has`);
  return key;
}
