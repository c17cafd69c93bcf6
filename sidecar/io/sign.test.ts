/** Signatures against those that AWS published, and against those that the package of its SDK makes. */
import { describe, expect, test } from "vitest";
import type { Clock } from "../call.ts";
import { type SignableRequest, signed, signer } from "./sign.ts";

/** The key, day and scope of the published suite (aws-sig-v4-test-suite). */
const key = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const nowMs = Date.UTC(2015, 7, 30, 12, 36, 0);
const scope = { host: "example.amazonaws.com", region: "us-east-1", service: "service" };

/** Cases of the suite: what is asked, which headers are signed, and the signature. */
const published: readonly (readonly [string, Partial<SignableRequest>, string, string])[] = [
  ["get-vanilla", { method: "GET" }, "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"],
  ["post-vanilla", {}, "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"],
  [
    "post-header-key-sort",
    { headers: ["my-header1", "value1"] },
    "host;my-header1;x-amz-date",
    "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
  ],
  [
    "post-header-value-case",
    { headers: ["my-header1", "VALUE1"] },
    "host;my-header1;x-amz-date",
    "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
  ],
  [
    "get-vanilla-query-order-key-case",
    { method: "GET", path: "/?Param2=value2&Param1=value1" },
    "host;x-amz-date",
    "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
  ],
  ["get-utf8", { method: "GET", path: "/ሴ" }, "host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"],
  [
    "post-x-www-form-urlencoded",
    { headers: ["content-type", "application/x-www-form-urlencoded"], body: "Param1=value1" },
    "content-type;host;x-amz-date",
    "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
  ],
  [
    "get-header-key-duplicate",
    { method: "GET", headers: ["my-header1", "value2", "my-header1", "value2", "my-header1", "value1"] },
    "host;my-header1;x-amz-date",
    "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
  ],
];

function request(changes: Partial<SignableRequest>): SignableRequest {
  return { method: "POST", host: scope.host, path: "/", headers: [], body: "", ...changes };
}

describe("the published suite", () => {
  test.each(published)("%s", (_, changes, names, signature) => {
    expect(signed(request(changes), scope, key, nowMs)).toEqual([
      "x-amz-date",
      "20150830T123600Z",
      "authorization",
      `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=${names}, Signature=${signature}`,
    ]);
  });

  // Keys that a role was given: the token is signed along with the rest, and one that is added afterwards is not.
  test("post-sts-header-before and post-sts-header-after", () => {
    const token =
      "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/" +
      "kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64l" +
      "IZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    const before = signed(request({}), scope, { ...key, sessionToken: token }, nowMs);
    expect(before.slice(2, 4)).toEqual(["x-amz-security-token", token]);
    expect(before.at(-1)).toMatch(
      /SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead$/,
    );
    const after = signed(request({}), scope, key, nowMs);
    expect(after.at(-1)).toMatch(
      /SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b$/,
    );
  });

  test("the example of the reference: ListUsers", () => {
    const listUsers = request({
      method: "GET",
      host: "iam.amazonaws.com",
      path: "/?Action=ListUsers&Version=2010-05-08",
      headers: ["content-type", "application/x-www-form-urlencoded; charset=utf-8"],
    });
    const headers = signed(listUsers, { ...scope, service: "iam" }, key, nowMs);
    expect(headers.at(-1)).toMatch(/Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7$/);
  });
});

test("a question to the token service is signed as the SDK for Python (botocore 1.43) does", () => {
  const sts = { host: "sts.eu-central-1.amazonaws.com", region: "eu-central-1", service: "sts" };
  const form = {
    Action: "AssumeRole",
    Version: "2011-06-15",
    RoleArn: "arn:aws:iam::123456789012:role/reader",
    RoleSessionName: "outrigger",
  };
  const body = new URLSearchParams(form).toString();
  const headers = ["content-type", "application/x-www-form-urlencoded"];
  const made = signed(request({ host: sts.host, headers, body }), sts, { ...key, sessionToken: "session+token/1==" }, nowMs);
  expect(made.at(-1)).toBe(
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, " +
      "Signature=28e6b364ff59f9415fbb692b5244017d919c494b2f46b56cd1bdea27df32661c",
  );
});

/** Made with the signature-v4 package of the SDK. The wire's `%3A` is signed as `%253A`. */
describe("a signer", () => {
  const there = { host: "bedrock-runtime.eu-central-1.amazonaws.com", region: "eu-central-1", service: "bedrock" };
  const path = "/model/anthropic.claude-3-5-haiku-20241022-v1%3A0/converse";
  const body = '{"messages":[]}';
  const headers = ["content-type", "application/json", "accept", "application/json", "accept-encoding", "identity"];

  let wallMs = 0;
  const clock: Clock = { monotonicMs: () => 0, wallMs: () => wallMs, after: () => () => {} };

  function signAt(now: number, sign: ReturnType<typeof signer>, sentPath = path): string {
    wallMs = now;
    return sign(sentPath, headers, body).at(-1) ?? "";
  }

  test("signs as the SDK does, over what is sent", () => {
    const sign = signer(there, () => ({ ...key, sessionToken: "session/token+with==signs" }), clock);
    const now = Date.UTC(2026, 1, 3, 4, 5, 6);
    expect(signAt(now, sign)).toBe(
      "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260203/eu-central-1/bedrock/aws4_request, " +
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, " +
        "Signature=acda8fe027e692e40c549c412f5376fd40c13caa5ce13a980bec7a2a8ad728af",
    );
    const arn = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.x/converse-stream";
    expect(signAt(now, sign, arn)).toMatch(/=6eedecd21c45b0e85ebaa5e0d9c1ea009c85f440c7869a28ed07a28663c35e5f$/);
    expect(sign(path, headers, body).slice(0, 4)).toEqual([
      "x-amz-date",
      "20260203T040506Z",
      "x-amz-security-token",
      "session/token+with==signs",
    ]);
    // Bytes are signed as the text that they are.
    expect(sign(path, headers, Buffer.from(body))).toEqual(sign(path, headers, body));
  });

  test("uses a replaced key and a new day at once", () => {
    let secretAccessKey = "first";
    const sign = signer(there, () => ({ ...key, secretAccessKey }), clock);
    const evening = Date.UTC(2026, 1, 3, 23, 59, 59);
    const first = signAt(evening, sign);
    secretAccessKey = "second";
    const second = signAt(evening, sign);
    const nextDay = signAt(evening + 1000, sign);
    expect(new Set([first, second, nextDay]).size).toBe(3);
    expect(nextDay).toContain("/20260204/");
    const fresh = signer(there, () => ({ ...key, secretAccessKey }), clock);
    expect(signAt(evening + 1000, fresh)).toBe(nextDay);
    secretAccessKey = "first";
    expect(signAt(evening, sign)).toBe(first);
  });

  test("leaves out of the signature what may change on the way, and lets nothing else change", () => {
    const sign = signer(there, () => key, clock);
    const signature = sign(path, headers, body).at(-1);
    expect(sign(path, [...headers, "user-agent", "x"], body).at(-1)).toBe(signature);
    expect(sign(path, [...headers, "x-amz-target", "x"], body).at(-1)).not.toBe(signature);
    expect(sign(path, headers, `${body} `).at(-1)).not.toBe(signature);
    expect(sign(`${path}-stream`, headers, body).at(-1)).not.toBe(signature);
  });
});
