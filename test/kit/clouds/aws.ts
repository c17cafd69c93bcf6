/**
 * AWS's token and metadata services as strict as the real ones: what they would refuse is refused, in their own words. Each is a function
 * from a request to an answer, for `startReplay`.
 */
import { signed } from "../../../sidecar/io/sign.ts";
import type { ReplayAnswer, SeenRequest } from "../replay.ts";

/** A key that a fake knows or gives. */
export interface FakeKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** What a security token service knows. */
export interface FakeSts {
  readonly region: string;
  /** Keys whose signatures it accepts. */
  readonly keys: readonly FakeKey[];
  /** Tokens of pods that it accepts for a role. */
  readonly webTokens?: Readonly<Record<string, string>>;
  /** What it gives next, and when that ends (milliseconds since 1970). */
  give(role: string, form: URLSearchParams): FakeKey & { readonly endsAtMs: number };
  nowMs(): number;
}

/** A security token service. It makes every signature again from what arrived, and refuses one that is more than five minutes off. */
export function fakeSts(sts: FakeSts): (request: SeenRequest) => ReplayAnswer {
  return (request) => {
    const form = new URLSearchParams(request.body.toString());
    const fault = (status: number, code: string): ReplayAnswer => ({
      status,
      headers: { "content-type": "text/xml" },
      pieces: [`<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>because</Message></Error></ErrorResponse>`],
    });
    if (request.method !== "POST" || request.path !== "/") return fault(404, "InvalidAction");
    if (!/^application\/x-www-form-urlencoded(;|$)/.test(request.headers["content-type"] ?? "")) return fault(400, "InvalidAction");
    if (form.get("Version") !== "2011-06-15") return fault(400, "InvalidAction");
    const [role, session] = [form.get("RoleArn") ?? "", form.get("RoleSessionName") ?? ""];
    if (!/^arn:aws:iam::\d{12}:role\/.+/.test(role) || !/^[\w+=,.@-]{2,64}$/.test(session)) return fault(400, "ValidationError");
    const action = form.get("Action");
    if (action === "AssumeRole") {
      const refusal = signatureFault(request, sts);
      if (refusal !== undefined) return fault(403, refusal);
    } else if (action === "AssumeRoleWithWebIdentity") {
      if (request.headers.authorization !== undefined) return fault(400, "InvalidAction");
      if (sts.webTokens?.[role] !== form.get("WebIdentityToken")) return fault(400, "InvalidIdentityToken");
    } else return fault(400, "InvalidAction");
    const { accessKeyId, secretAccessKey, sessionToken = "", endsAtMs } = sts.give(role, form);
    const expiration = new Date(endsAtMs).toISOString().replace(/\.\d+/, "");
    return {
      headers: { "content-type": "text/xml" },
      pieces: [
        `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result><AssumedRoleUser><Arn>${role}/${session}</Arn></AssumedRoleUser>`,
        `<Credentials><AccessKeyId>${accessKeyId}</AccessKeyId><SecretAccessKey>${secretAccessKey.replaceAll("&", "&amp;")}</SecretAccessKey>`,
        `<SessionToken>${sessionToken}</SessionToken><Expiration>${expiration}</Expiration></Credentials></${action}Result></${action}Response>`,
      ],
    };
  };
}

/** Why a signature is refused, or undefined. */
function signatureFault({ method, path, headers, body }: SeenRequest, sts: FakeSts): string | undefined {
  const said =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/sts\/aws4_request, SignedHeaders=([^,]+), Signature=[0-9a-f]{64}$/.exec(
      headers.authorization ?? "",
    );
  if (said === null) return "IncompleteSignature";
  const key = sts.keys.find(({ accessKeyId }) => accessKeyId === said[1]);
  if (key === undefined || headers["x-amz-security-token"] !== key.sessionToken) return "InvalidClientTokenId";
  if (said[3] !== sts.region) return "SignatureDoesNotMatch";
  const names = (said[4] ?? "").split(";");
  if (!["content-type", "host", "x-amz-date"].every((name) => names.includes(name))) return "SignatureDoesNotMatch";
  const atMs = Date.parse(String(headers["x-amz-date"]).replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (Math.abs(atMs - sts.nowMs()) > 300_000) return "SignatureDoesNotMatch";
  const made = ["host", "x-amz-date", "x-amz-security-token"];
  const others = names.filter((name) => !made.includes(name)).flatMap((name) => [name, String(headers[name])]);
  const scope = { host: "", region: sts.region, service: "sts" };
  const again = signed({ method, host: headers.host ?? "", path, headers: others, body }, scope, key, atMs).at(-1);
  return again === headers.authorization ? undefined : "SignatureDoesNotMatch";
}

/** The metadata service of a machine, version 2 alone: every question needs a session that was begun by PUT. */
export function fakeInstance(role: string, give: () => FakeKey & { readonly endsAtMs: number }): (request: SeenRequest) => ReplayAnswer {
  const sessions = new Set<string>();
  return ({ method, path, headers }) => {
    if (method === "PUT" && path === "/latest/api/token") {
      const seconds = Number(headers["x-aws-ec2-metadata-token-ttl-seconds"]);
      if (!(seconds >= 1 && seconds <= 21_600) || headers["x-forwarded-for"] !== undefined) return { status: 400, pieces: [] };
      const session = `session-${sessions.size}==`;
      sessions.add(session);
      return { pieces: [session] };
    }
    if (!sessions.has(String(headers["x-aws-ec2-metadata-token"]))) return { status: 401, pieces: ["Unauthorized"] };
    const folder = "/latest/meta-data/iam/security-credentials/";
    if (method === "GET" && path === folder) return { pieces: [role] };
    if (method !== "GET" || path !== folder + encodeURIComponent(role)) return { status: 404, pieces: [] };
    return keysAnswer(give(), { Code: "Success", Type: "AWS-HMAC", LastUpdated: "2026-01-01T00:00:00Z" });
  };
}

/** What ECS and the agent of EKS Pod Identity have at `path`, for whoever shows `token`. */
export function fakeContainer(
  path: string,
  token: () => string | undefined,
  give: () => FakeKey & { readonly endsAtMs: number },
): (request: SeenRequest) => ReplayAnswer {
  return (request) => {
    if (request.method !== "GET" || request.path !== path) return { status: 404, pieces: ['{"code":"ResourceNotFoundException"}'] };
    if (request.headers.authorization !== token()) return { status: 400, pieces: ['{"code":"AccessDeniedException"}'] };
    return keysAnswer(give(), { AccountId: "123456789012" });
  };
}

function keysAnswer(
  { accessKeyId, secretAccessKey, sessionToken, endsAtMs }: FakeKey & { readonly endsAtMs: number },
  more: Readonly<Record<string, string>>,
): ReplayAnswer {
  const expiration = new Date(endsAtMs).toISOString();
  const body = { ...more, AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration: expiration };
  return { headers: { "content-type": "application/json" }, pieces: [JSON.stringify(body)] };
}
