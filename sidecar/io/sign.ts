/**
 * Signatures of requests by AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
 *
 * Own code on Node's hashes: what is needed of the protocol is one canonical text and five HMACs, and the packages that do it bring a
 * dozen others, work on promises, and take a request object apart that we would have to put together first. The signing key holds for a
 * day and is kept.
 */
import { createHash, createHmac } from "node:crypto";
import type { Clock } from "../call.ts";
import type { AccessKey, Signer, SigningScope } from "../policy/compile.ts";
import { isoTime } from "./clock.ts";

/** Makes what signs requests of one scope. `key` is asked for each request, so that a replaced key is used at once. */
export function signer(scope: SigningScope, key: () => AccessKey, clock: Clock): Signer {
  const signingKeys = new SigningKeys(scope);
  return function sign(path, headers, body) {
    return signed({ method: "POST", host: scope.host, path, headers: vital(headers), body }, scope, key(), clock.wallMs(), signingKeys);
  };
}

/** What must be signed and a little more. Everything else may be changed by whatever stands between here and there. */
function vital(headers: readonly string[]): string[] {
  const chosen: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const [name = "", value = ""] = [headers[at], headers[at + 1]];
    if (name === "content-type" || name.startsWith("x-amz-")) chosen.push(name, value);
  }
  return chosen;
}

/** A request that is final but for its signature. */
export interface SignableRequest {
  readonly method: string;
  /** The `Host` header as it is sent. */
  readonly host: string;
  /** Path and query as they are sent. */
  readonly path: string;
  /** Names in lower case and values, in turn; all are signed. */
  readonly headers: readonly string[];
  readonly body: string | Uint8Array;
}

/** The headers that a signature adds to a request: the time, the session's token if there is one, and the signature itself. */
export function signed(
  request: SignableRequest,
  scope: SigningScope,
  key: AccessKey,
  nowMs: number,
  signingKeys: SigningKeys = new SigningKeys(scope),
): readonly string[] {
  const time = isoTime(nowMs).replace(/[-:]|\.\d{3}/g, "");
  const day = time.slice(0, 8);
  const added = ["x-amz-date", time];
  if (key.sessionToken !== undefined) added.push("x-amz-security-token", key.sessionToken);
  const { text: headersText, names } = canonicalHeaders(["host", request.host, ...request.headers, ...added]);
  const [path = "", ...query] = request.path.split("?");
  const canonical = [request.method, canonicalPath(path), canonicalQuery(query.join("?")), headersText, names, sha256(request.body)].join(
    "\n",
  );
  const scopeText = `${day}/${scope.region}/${scope.service}/aws4_request`;
  const toSign = ["AWS4-HMAC-SHA256", time, scopeText, sha256(canonical)].join("\n");
  const signature = createHmac("sha256", signingKeys.of(key.secretAccessKey, day)).update(toSign).digest("hex");
  const credential = `${key.accessKeyId}/${scopeText}`;
  return [...added, "authorization", `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names}, Signature=${signature}`];
}

/** The key of the day for one scope, made again only when the day or the secret changes. */
export class SigningKeys {
  readonly #scope: SigningScope;
  #secret = "";
  #day = "";
  #key: Buffer = Buffer.alloc(0);

  constructor(scope: SigningScope) {
    this.#scope = scope;
  }

  of(secret: string, day: string): Buffer {
    if (secret !== this.#secret || day !== this.#day) {
      const parts = [day, this.#scope.region, this.#scope.service, "aws4_request"];
      this.#key = parts.reduce((key, part) => createHmac("sha256", key).update(part).digest(), Buffer.from(`AWS4${secret}`));
      this.#secret = secret;
      this.#day = day;
    }
    return this.#key;
  }
}

/** Header lines sorted by name, blanks around and within values made one, values of one name joined; and the list of names. */
function canonicalHeaders(headers: readonly string[]): { readonly text: string; readonly names: string } {
  const values = new Map<string, string>();
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = headers[at] ?? "";
    const value = (headers[at + 1] ?? "").trim().replace(/\s+/g, " ");
    const before = values.get(name);
    values.set(name, before === undefined ? value : `${before},${value}`);
  }
  const sorted = [...values].sort(([one], [other]) => order(one, other));
  return { text: sorted.map(([name, value]) => `${name}:${value}\n`).join(""), names: sorted.map(([name]) => name).join(";") };
}

/** The path with each segment escaped once more than on the wire: what is %3A there is signed as %253A. */
function canonicalPath(path: string): string {
  return path.split("/").map(escaped).join("/") || "/";
}

/** Parameters escaped and sorted, by name and then by value. */
function canonicalQuery(query: string): string {
  if (query === "") return "";
  return query
    .split("&")
    .map((parameter) => {
      const at = parameter.indexOf("=");
      const [name, value] = at === -1 ? [parameter, ""] : [parameter.slice(0, at), parameter.slice(at + 1)];
      return [escaped(unescaped(name)), escaped(unescaped(value))] as const;
    })
    .sort(([name, value], [otherName, otherValue]) => order(name, otherName) || order(value, otherValue))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A percent sign that escapes nothing stands for itself.
    return text;
  }
}

/** Everything but letters, digits and `-_.~` as percent signs and capital digits (RFC 3986, section 2.3). */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** By code units and not by language. */
function order(one: string, other: string): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
