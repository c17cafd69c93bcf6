import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { beforeEach, describe, expect, test } from "vitest";
import { JoinResponseSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { joinTokenText } from "../../proto/mesh.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { heard, Lines, Signer, sha256 } from "../../test/kit/meshControl.ts";
import { gunzip, makeOwnKey, makeSealKey, verifySignature } from "../io/keys.ts";
import type { PolicyDesk } from "../policy/source.ts";
import { openMesh } from "./client.ts";
import { type JoinParts, readIdentity } from "./membership.ts";
import { prepareRemote, type RemoteAddress, type RemoteParts, type RemoteSettings } from "./remote.ts";
import type { MeshMeans } from "./source.ts";

const digest = (data: Uint8Array | string) => new Uint8Array(createHash("sha256").update(data).digest());
const authority = Uint8Array.of(1, 2, 3);
const hourMs = 3_600_000;

let clock: ManualClock;
let lines: Lines;
let signer: Signer;
let files: Map<string, Uint8Array>;
let asked: { readonly address: RemoteAddress; readonly request: Parameters<JoinParts["ask"]>[0] }[];
/** Why control says no; empty if it says yes. */
let refusing: string;
let dialled: RemoteAddress[];
let platformToken: string;

beforeEach(() => {
  clock = new ManualClock();
  lines = new Lines(clock);
  signer = new Signer("k1", clock);
  files = new Map();
  asked = [];
  refusing = "";
  dialled = [];
  platformToken = "";
});

function joinToken(): string {
  const [authoritySha256, signingKeySha256] = [digest(authority), digest(signer.key().publicKey)].map((bytes) =>
    Buffer.from(bytes).toString("hex"),
  );
  const whom = { namespace: "shop", account: "chat" };
  return joinTokenText({
    secret: "0".repeat(64),
    authoritySha256: authoritySha256 ?? "",
    signingKeySha256: signingKeySha256 ?? "",
    ...whom,
  });
}

const parts: RemoteParts = {
  disk: {
    read: async (name) => files.get(name),
    write: async (name, bytes) => {
      files.set(name, bytes);
    },
  },
  makeKey: makeOwnKey,
  verify: verifySignature,
  digest,
  sha256,
  gunzip,
  sealKey: makeSealKey,
  check: () => [],
  readToken: () => platformToken,
  decode: (text) => Buffer.from(text, "base64url").toString("utf8"),
  readAuthority: () => undefined,
  fetchAuthority: async () => authority,
  async ask(address, request) {
    asked.push({ address, request });
    if (refusing !== "") throw new Error(refusing);
    const notAfter = timestampFromMs(clock.wallMs() + hourMs);
    const who = { account: "chat", namespace: "shop" };
    return create(JoinResponseSchema, {
      certificates: [Uint8Array.of(asked.length)],
      authority,
      notAfter,
      ...who,
      signingKeys: [signer.key()],
    });
  },
  dial: (address) => (events) => {
    dialled.push(address());
    return lines.dial(events);
  },
  endOf: (error) => ({ code: "unavailable", message: String(error), retryAfterMs: undefined }),
  drawName: () => "drawn",
};

const desk = (): PolicyDesk => ({
  clock,
  random: { next: () => 0, id: () => "id" },
  version: "test",
  capabilityLevel: 2,
  trial: () => [],
  deliver: () => undefined,
  health: () => ({ calls: 0n, failedCalls: 0n, blockedCalls: 0n, loopDelayMax: durationFromMs(0) }),
  watchMesh: () => undefined,
  note: () => undefined,
});

function prepare(more: Partial<RemoteSettings> = {}): Promise<MeshMeans> {
  const settings = {
    url: "https://control",
    joinToken: joinToken(),
    namespace: null,
    account: null,
    instance: null,
    bootGraceMs: 5000,
    maxStaleMs: 1,
  };
  return prepareRemote({ ...settings, ...more }, parts, desk());
}

/** Dials once as the client does. */
async function dial(means: MeshMeans): Promise<void> {
  means.dial({ received: () => undefined, ended: () => undefined });
  await new Promise(setImmediate);
}

describe("with a join token over TLS", () => {
  test("it joins once, is who the certificate says, and says the token on no stream", async () => {
    const means = await prepare();
    expect(means.identity).toMatchObject({ namespace: "shop", account: "chat", instance: "drawn" });
    expect(means.credential()).toBe("");
    expect([...means.keys.keys()]).toEqual(["k1"]);
    await dial(means);
    expect(asked).toHaveLength(1);
    expect(dialled).toMatchObject([{ own: { certificates: [Uint8Array.of(1)] }, authority }]);
  });

  test("it is the same one after a restart, without asking anybody", async () => {
    await prepare();
    refusing = "gone";
    const means = await prepare();
    expect(means.identity).toMatchObject({ namespace: "shop", account: "chat", instance: "drawn" });
    expect(asked).toHaveLength(1);
  });

  test("it asks with the same key again if the first answer was lost", async () => {
    refusing = "lost";
    await expect(prepare()).rejects.toThrow("lost");
    refusing = "";
    await prepare();
    expect(asked[1]?.request.publicKey).toEqual(asked[0]?.request.publicKey);
  });

  test("it renews after two thirds of the certificate's life, over the certificate, and goes on with the old one if that fails", async () => {
    const means = await prepare();
    clock.advance((hourMs * 2) / 3);
    refusing = "busy";
    await dial(means);
    expect(asked[1]).toMatchObject({ request: { token: "" }, address: { own: {} } });
    expect(dialled[0]?.own?.certificates).toEqual([Uint8Array.of(1)]);
    refusing = "";
    await dial(means);
    expect(dialled[1]?.own?.certificates).toEqual([Uint8Array.of(3)]);
    expect(readIdentity(files.get("identity"))?.certificates).toEqual([Uint8Array.of(3)]);
  });

  test("once the certificate has ended it is renewed with its own key, not shown on the connection; the token is the last resort", async () => {
    const means = await prepare();
    clock.advance(hourMs);
    await dial(means);
    expect(asked[1]).toMatchObject({ request: { token: "", certificate: Uint8Array.of(1) }, address: { own: undefined, authority } });
    clock.advance(hourMs);
    refusing = "too late";
    await dial(means);
    expect(asked.slice(2).map(({ request }) => request.token)).toEqual(["", joinToken()]);
  });
});

describe("with a platform's token", () => {
  const tokenOf = (account: string): string => {
    const claims = { namespace: "team", serviceaccount: { name: account }, pod: { uid: "pod-uid" } };
    return `e30.${Buffer.from(JSON.stringify({ "kubernetes.io": claims })).toString("base64url")}.sig`;
  };

  test("it is who the token says, shows the token as it is now, and joins nowhere", async () => {
    platformToken = tokenOf("chat");
    const means = await prepare({ joinToken: null });
    expect(means.identity).toMatchObject({ namespace: "team", account: "chat", instance: "pod-uid" });
    platformToken = "fresh";
    expect(means.credential()).toBe("fresh");
    await dial(means);
    expect(asked).toEqual([]);
  });

  test("it keeps the signing keys that it has learned, and believes no other after a restart", async () => {
    platformToken = tokenOf("chat");
    const means = await prepare({ joinToken: null });
    means.trusted(new Map([["k1", signer.key()]]));
    await new Promise(setImmediate);
    expect([...(await prepare({ joinToken: null })).keys.keys()]).toEqual(["k1"]);
  });
});

test("on one machine, without TLS, the join token itself is shown, and says who the sidecar is", async () => {
  const means = await prepare({ url: "http://127.0.0.1:1" });
  expect(means.identity).toMatchObject({ namespace: "shop", account: "chat" });
  const { random, trial, deliver, health, note } = desk();
  const offer = () => ({ applied: true, root: "", changed: true, warnings: [], tookMs: 0 }) as const;
  const client = openMesh({ ...means, clock, random, trial, deliver, health, note, offer });
  await new Promise(setImmediate);
  expect(heard(lines.last, "opening")).toMatchObject([{ credential: joinToken(), account: "chat", namespace: "shop" }]);
  expect(asked).toEqual([]);
  await client.close();
});
