import { createHash, createPublicKey, verify } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { type JoinResponse, JoinResponseSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { StoredIdentitySchema } from "../../proto/gen/outrigger/mesh/v1/slot_pb.ts";
import { joinProofBytes, joinTokenText, readJoinToken } from "../../proto/mesh.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { Signer } from "../../test/kit/meshControl.ts";
import { makeOwnKey, verifySignature } from "../io/keys.ts";
import { certificateState, identityBytes, type JoinParts, join, keysOf, linkOnce, readClaims, readIdentity } from "./membership.ts";

const clock = new ManualClock();
const signer = new Signer("k1", clock);
const digest = (data: Uint8Array | string) => new Uint8Array(createHash("sha256").update(data).digest());
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const authority = Uint8Array.of(1, 2, 3);
const text = joinTokenText({
  secret: "0".repeat(64),
  authoritySha256: hex(digest(authority)),
  signingKeySha256: hex(digest(signer.key().publicKey)),
  namespace: "default",
  account: "chat",
});
const read = readJoinToken(text);
if (read === undefined) throw new Error("it is a token");
const token = { text, read };

function answer(more: Partial<JoinResponse> = {}): JoinResponse {
  return create(JoinResponseSchema, {
    certificates: [Uint8Array.of(9)],
    authority,
    notAfter: timestampFromMs(7_200_000),
    account: "chat",
    namespace: "default",
    signingKeys: [signer.key()],
    ...more,
  });
}

function partsFor(given: JoinResponse, asked: Parameters<JoinParts["ask"]>[0][] = []): JoinParts {
  return {
    makeKey: makeOwnKey,
    verify: verifySignature,
    digest,
    ask: async (request) => {
      asked.push(request);
      return given;
    },
  };
}

describe("joining", () => {
  test("shows the token, a key and a proof that the key is its own, and keeps what it gets", async () => {
    const asked: Parameters<JoinParts["ask"]>[0][] = [];
    const identity = await join(token, undefined, "me", 1000, partsFor(answer(), asked));
    expect(asked).toMatchObject([{ token: text, instance: "me" }]);
    const { publicKey = new Uint8Array(), proof = new Uint8Array() } = asked[0] ?? {};
    const key = createPublicKey({ key: Buffer.from(publicKey), format: "der", type: "spki" });
    expect(verify(null, joinProofBytes(digest(text), publicKey), key, proof)).toBe(true);
    expect(identity).toMatchObject({ account: "chat", namespace: "default", instance: "me", certificates: [Uint8Array.of(9)] });
    expect([...keysOf(readIdentity(identityBytes(identity))).keys()]).toEqual(["k1"]);
  });

  test("uses the key that it has, so that a token is counted once", async () => {
    const asked: Parameters<JoinParts["ask"]>[0][] = [];
    const first = await join(token, undefined, "me", 0, partsFor(answer(), asked));
    await join(token, first, "me", 0, partsFor(answer(), asked));
    expect(asked[1]?.publicKey).toEqual(asked[0]?.publicKey);
  });

  test("believes no other authority than the one of the token", async () => {
    await expect(join(token, undefined, "me", 0, partsFor(answer({ authority: Uint8Array.of(4) })))).rejects.toThrow("another authority");
  });

  test("believes no other signing key than the one of the token", async () => {
    const other = new Signer("k1", clock).key();
    await expect(join(token, undefined, "me", 0, partsFor(answer({ signingKeys: [other] })))).rejects.toThrow("another key");
  });

  test("takes a further key only with an endorsement", async () => {
    const [endorsed, stranger] = [new Signer("k2", clock), new Signer("k3", clock)];
    const keys = [signer.key(), endorsed.key(signer), stranger.key()];
    const identity = await join(token, undefined, "me", 0, partsFor(answer({ signingKeys: keys })));
    expect([...keysOf(identity).keys()]).toEqual(["k1", "k2"]);
  });

  test("takes nothing that is no certificate", async () => {
    await expect(join(token, undefined, "me", 0, partsFor(answer({ certificates: [] })))).rejects.toThrow("no certificate");
  });

  test("renews without a token, and changes neither the authority nor whom it trusts", async () => {
    const asked: Parameters<JoinParts["ask"]>[0][] = [];
    const before = await join(token, undefined, "me", 0, partsFor(answer()));
    const after = await join(
      undefined,
      before,
      "me",
      0,
      partsFor(answer({ authority: Uint8Array.of(7), signingKeys: [new Signer("k1", clock).key()] }), asked),
    );
    expect(asked).toMatchObject([{ token: "" }]);
    expect(after.authority).toEqual(authority);
    expect(keysOf(after).get("k1")?.publicKey).toEqual(signer.key().publicKey);
  });
});

test.each([
  [0, "good"],
  [3_599_999, "good"],
  [3_600_000, "renew"],
  [5_399_999, "renew"],
  [5_400_000, "ended"],
] as const)("a certificate of an hour and a half is, after %d ms, %s", (nowMs, state) => {
  const identity = create(StoredIdentitySchema, {
    certificates: [Uint8Array.of(1)],
    notBefore: timestampFromMs(0),
    notAfter: timestampFromMs(5_400_000),
  });
  expect(certificateState(identity, nowMs)).toBe(state);
});

test("nothing is no identity, and neither is something else", () => {
  expect(readIdentity(undefined)).toBeUndefined();
  expect(readIdentity(Uint8Array.of(255, 255, 255))).toBeUndefined();
  expect(certificateState(undefined, 0)).toBe("none");
});

test("who a platform's token is for is read from it, and from nothing else", () => {
  const decode = (part: string) => Buffer.from(part, "base64url").toString("utf8");
  const tokenOf = (claims: unknown) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.sig`;
  const claims = { namespace: "team", serviceaccount: { name: "chat", uid: "u" }, pod: { name: "p", uid: "pod-uid" } };
  expect(readClaims(tokenOf({ "kubernetes.io": claims }), decode)).toEqual({ namespace: "team", account: "chat", pod: "pod-uid" });
  for (const other of ["", "a.b.c", tokenOf({}), tokenOf(null), tokenOf({ "kubernetes.io": { namespace: 5 } })]) {
    expect(readClaims(other, decode)).toBeUndefined();
  }
});

describe("a link that has to wait", () => {
  const sent: string[] = [];
  const dial = () => ({ send: (message: { $typeName: string }) => sent.push(message.$typeName), close: () => sent.push("closed") });

  test("brings what was sent meanwhile, in order", async () => {
    const events = { received: () => undefined, ended: () => undefined };
    const link = linkOnce(
      async () => dial as never,
      () => ({ code: "", message: "", retryAfterMs: undefined }),
      events,
    );
    link.send({ $typeName: "one" } as never);
    link.send({ $typeName: "two" } as never);
    await new Promise(setImmediate);
    link.send({ $typeName: "three" } as never);
    link.close();
    expect(sent).toEqual(["one", "two", "three", "closed"]);
  });

  test("ends if what it waits for fails, unless it was closed", async () => {
    const ends: string[] = [];
    const events = { received: () => undefined, ended: ({ message }: { message: string }) => ends.push(message) };
    const failing = () =>
      linkOnce(
        () => Promise.reject(new Error("no")),
        (error) => ({ code: "", message: String(error), retryAfterMs: undefined }),
        events,
      );
    failing();
    failing().close();
    await new Promise(setImmediate);
    expect(ends).toEqual(["Error: no"]);
  });
});
