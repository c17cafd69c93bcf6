import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { anyPeer, MeshWorld } from "../../test/kit/meshWorld.ts";
import { askApiServer } from "./apiServer.ts";
import { readServiceAccounts, tokenAudience } from "./serviceAccounts.ts";

type Keys = Awaited<ReturnType<typeof generateKeyPair>>;

/** An API server as far as control asks one: keys, discovery, and a word on tokens by pods that there are. */
class FakeCluster {
  readonly pods = new Map<string, string>([["uid-1", "system:serviceaccount:shop:chat"]]);
  readonly asked: string[] = [];
  keys = new Map<string, Keys>();
  isDown = false;
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      this.asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      if (this.isDown) return void response.writeHead(503).end();
      let body = "";
      request.on("data", (piece) => {
        body += piece;
      });
      request.on("end", async () => response.end(JSON.stringify(await this.#answer(request.url ?? "", body))));
    });
  }

  async start(): Promise<string> {
    this.keys.set("one", await generateKeyPair("ES256"));
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async sign(claims: JWTPayload, atMs: number, kid = "one", keys = this.keys.get(kid)): Promise<string> {
    if (keys === undefined) throw new Error("there is no such key");
    const nowS = Math.floor(atMs / 1000);
    const standard = {
      iss: "https://cluster.test",
      aud: [tokenAudience],
      sub: "system:serviceaccount:shop:chat",
      iat: nowS,
      nbf: nowS,
      exp: nowS + 600,
      "kubernetes.io": { namespace: "shop", serviceaccount: { name: "chat", uid: "sa" }, pod: { name: "chat-7", uid: "uid-1" } },
    };
    return new SignJWT({ ...standard, ...claims }).setProtectedHeader({ alg: "ES256", kid }).sign(keys.privateKey);
  }

  async #answer(url: string, body: string): Promise<unknown> {
    if (url.endsWith("/openid-configuration")) return { issuer: "https://cluster.test", jwks_uri: "elsewhere" };
    if (url === "/openid/v1/jwks") {
      return {
        keys: await Promise.all(
          [...this.keys].map(async ([kid, { publicKey }]) => ({ ...(await exportJWK(publicKey)), kid, alg: "ES256" })),
        ),
      };
    }
    const { spec } = JSON.parse(body) as { spec: { token: string; audiences: string[] } };
    const claims = JSON.parse(Buffer.from(spec.token.split(".")[1] ?? "", "base64url").toString()) as {
      "kubernetes.io": { pod: { uid: string } };
    };
    const { uid } = claims["kubernetes.io"].pod;
    const username = this.pods.get(uid);
    if (username === undefined || spec.audiences[0] !== tokenAudience) return { status: { authenticated: false, error: "gone" } };
    return { status: { authenticated: true, user: { username, extra: { "authentication.kubernetes.io/pod-uid": [uid] } } } };
  }
}

let cluster: FakeCluster;
let world: MeshWorld;
let clock: ManualClock;
let folder: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-cluster-"));
  writeFileSync(join(folder, "token"), "control's own\n");
  cluster = new FakeCluster();
  clock = new ManualClock();
  const ask = askApiServer({ origin: await cluster.start(), caPath: null, tokenPath: join(folder, "token") });
  const serviceAccounts = readServiceAccounts({ ask, issuer: null, clock });
  world = await MeshWorld.open({ clock, identify: (_, credential) => serviceAccounts(credential) });
});

afterEach(() => {
  world.close();
  cluster.stop();
  rmSync(folder, { recursive: true });
});

const pod = (uid = "uid-1", account = "chat", namespace = "shop"): LightSidecar => new LightSidecar(uid, account, namespace);

test("a pod with its projected token is who the token says, for as long as it says", async () => {
  const credential = await cluster.sign({}, clock.wallMs());
  const sidecar = pod();
  await world.connect(sidecar, { credential });
  await world.settle();
  expect(sidecar.hello?.scope).toBe("shop/chat@2");
  expect(Number(sidecar.hello?.credentialNotAfter?.seconds)).toBe(Math.floor(clock.wallMs() / 1000) + 600);
  expect(cluster.asked.every((line) => line.endsWith("Bearer control's own"))).toBe(true);
  await world.pass(602_000, 10_000);
  expect(world.ended.get(sidecar)?.code).toBe(Code.Unauthenticated);
});

test("the API server is asked once a minute for each token, and for keys once for all", async () => {
  const credential = await cluster.sign({}, clock.wallMs());
  for (let times = 0; times < 5; times++) await world.connect(pod(), { credential });
  expect(cluster.asked.filter((line) => line.includes("tokenreviews"))).toHaveLength(1);
  expect(cluster.asked.filter((line) => line.includes("jwks"))).toHaveLength(1);
});

test.each<[string, JWTPayload, Code]>([
  ["has ended", { exp: 1 }, Code.Unauthenticated],
  ["is not valid yet", { nbf: 4_000_000_000 }, Code.Unauthenticated],
  ["is for another audience", { aud: ["vault"] }, Code.Unauthenticated],
  ["has another issuer", { iss: "https://other.test" }, Code.Unauthenticated],
  ["is bound to no pod", { "kubernetes.io": { namespace: "shop", serviceaccount: { name: "chat" } } }, Code.Unauthenticated],
  [
    "is another pod's",
    { "kubernetes.io": { namespace: "shop", serviceaccount: { name: "chat" }, pod: { name: "b", uid: "uid-2" } } },
    Code.PermissionDenied,
  ],
  [
    "is another account's",
    { "kubernetes.io": { namespace: "shop", serviceaccount: { name: "batch" }, pod: { name: "a", uid: "uid-1" } } },
    Code.PermissionDenied,
  ],
  [
    "is another namespace's",
    { "kubernetes.io": { namespace: "bank", serviceaccount: { name: "chat" }, pod: { name: "a", uid: "uid-1" } } },
    Code.PermissionDenied,
  ],
])("a token that %s is refused", async (_, claims, code) => {
  const credential = await cluster.sign(claims, clock.wallMs());
  await expect(world.connect(pod(), { credential })).rejects.toMatchObject({ code });
  expect(world.mesh.sidecars()).toEqual([]);
});

test("a token that somebody else signed, and text that is none, are refused", async () => {
  const forged = await cluster.sign({}, clock.wallMs(), "one", await generateKeyPair("ES256"));
  for (const credential of [forged, "abc", "a.b.c"]) {
    await expect(world.connect(pod(), { credential })).rejects.toMatchObject({ code: Code.Unauthenticated });
  }
});

test("a pod that was deleted is refused once the last word on it is a minute old", async () => {
  const credential = await cluster.sign({}, clock.wallMs());
  await world.connect(pod(), { credential });
  cluster.pods.delete("uid-1");
  await world.connect(pod(), { credential });
  clock.advance(60_000);
  await expect(world.connect(pod(), { credential })).rejects.toMatchObject({ code: Code.Unauthenticated });
});

test("a token of the right shape for an account that the cluster says is another's is refused", async () => {
  cluster.pods.set("uid-1", "system:serviceaccount:shop:batch");
  const credential = await cluster.sign({}, clock.wallMs());
  await expect(world.connect(pod(), { credential })).rejects.toMatchObject({ code: Code.Unauthenticated });
});

test("when the cluster changes its keys, tokens of the new one are taken, and made-up keys make nobody ask again and again", async () => {
  await world.connect(pod(), { credential: await cluster.sign({}, clock.wallMs()) });
  cluster.keys.set("two", await generateKeyPair("ES256"));
  clock.advance(31_000);
  await world.connect(pod(), { credential: await cluster.sign({}, clock.wallMs(), "two") });
  const asked = cluster.asked.length;
  const made = await generateKeyPair("ES256");
  for (let times = 0; times < 5; times++) {
    const credential = await cluster.sign({}, clock.wallMs(), "three", made);
    await expect(world.connect(pod(), { credential })).rejects.toMatchObject({ code: Code.Unauthenticated });
  }
  expect(cluster.asked.length).toBe(asked);
});

test("while the API server is down nobody new comes in, and is told to come again", async () => {
  cluster.isDown = true;
  const credential = await cluster.sign({}, clock.wallMs());
  await expect(world.connect(pod(), { credential }, anyPeer)).rejects.toMatchObject({ code: Code.Unavailable });
  cluster.isDown = false;
  await world.connect(pod(), { credential });
  // Whoever was looked at within the last minute comes in all the same.
  cluster.isDown = true;
  clock.advance(30_000);
  await world.connect(pod(), { credential });
});
