/** Control and sidecars as real processes, run as people run them. */
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { expect, test } from "vitest";
import { Mesh, policyOf, type Seen, until } from "../kit/meshProcesses.ts";
import { playOutage } from "./outage.ts";

const patienceMs = 120_000;

test(
  "a route that is applied holds in three sidecars within a second; what one of them cannot understand, it refuses by field, and the others go on",
  async () => {
    const mesh = new Mesh();
    try {
      await mesh.open();
      const token = await mesh.joinToken("chat", 3);
      await mesh.apply(policyOf(mesh.providerOrigin, 1));
      const sidecars = [
        await mesh.startSidecar("one", token),
        await mesh.startSidecar("two", token),
        await mesh.startSidecar("old", token, ["--capability-level", "1"]),
      ];
      for (const sidecar of sidecars) await sidecar.ready();

      const revision = await mesh.apply(policyOf(mesh.providerOrigin, 2));
      const appliedMs = performance.now();
      await until("all three enforce it", async () => {
        const { sidecars: known } = await mesh.sidecars().listSidecars({});
        return known.length === 3 && known.every((one) => one.revision === BigInt(revision) && one.behind === undefined) ? true : undefined;
      });
      // A second on a machine of one's own; others run on this one, too.
      expect(performance.now() - appliedMs).toBeLessThan(3_000);
      for (const sidecar of sidecars) expect(await sidecar.call()).toMatchObject({ model: "2", revision: "2" });

      const later = policyOf(mesh.providerOrigin, 3).replace("headers:", "credential: {header: {secret: {delivered: key}}}, headers:");
      const next = BigInt(await mesh.apply(later));
      await until("the others enforce it", async () => {
        const [one, two] = [await mesh.statusOf("one"), await mesh.statusOf("two")];
        return one?.revision === next && two?.revision === next ? true : undefined;
      });
      const old = await until("the old one's refusal is known", async () => {
        const status = await mesh.statusOf("old");
        return status !== undefined && status.refusal.length > 0 ? status : undefined;
      });
      expect(old.revision).toBe(BigInt(revision));
      expect(old.behind).toBeDefined();
      expect(old.refusal[0]).toMatchObject({ kind: "Provider", name: "default/p", field: "spec.credential.header.secret.delivered" });
      expect(old.refusal[0]?.message).toContain("needs capability level 2, this sidecar has 1");
      expect(await sidecars[2]?.call()).toMatchObject({ model: "2", revision: "2" });
      expect(await statusTable(mesh)).toMatch(/old[\s\S]*spec\.credential\.header\.secret\.delivered[\s\S]*capability level 2/);
    } finally {
      await mesh.close();
    }
  },
  patienceMs,
);

test(
  "policy that changes under load: no call fails or sees two policies, and none goes back",
  async () => {
    const mesh = new Mesh();
    try {
      await mesh.open();
      const token = await mesh.joinToken("chat", 1);
      await mesh.apply(policyOf(mesh.providerOrigin, 1));
      const sidecar = await mesh.startSidecar("one", token);
      await sidecar.ready();
      let stopping = false;
      const seen: Seen[][] = [[], [], [], []];
      const load = seen.map(async (list) => {
        while (!stopping) list.push(await sidecar.call());
      });
      const last = 12;
      for (let number = 2; number <= last; number++) {
        await mesh.apply(policyOf(mesh.providerOrigin, number));
        await sleep(50);
      }
      await until("the last one holds", async () => ((await sidecar.metric("outrigger_policy_revision")) === last ? true : undefined));
      await sidecar.call();
      stopping = true;
      await Promise.all(load);
      for (const list of seen) {
        expect(list.filter(({ model, revision }) => model !== revision)).toEqual([]);
        const numbers = list.map(({ model }) => Number(model));
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      }
      expect(new Set(seen.flat().map(({ model }) => model)).size).toBeGreaterThan(3);
    } finally {
      await mesh.close();
    }
  },
  patienceMs,
);

test(
  "control is killed under load while sidecars restart: no call fails, they start from their disks, and nothing is downloaded twice",
  async () => {
    const report = await playOutage(3_000);
    expect(report).toMatchObject({ failures: [], torn: 0, usedOther: 1, downloadedTwice: 0 });
    const { told, killed, spoilt } = report.restarts;
    expect(spoilt).toBe(1);
    expect(told + killed).toBeGreaterThanOrEqual(2);
    expect(report.fromDisk).toBe(told + killed + spoilt);
    expect(report.calls).toBeGreaterThan(100);
  },
  patienceMs,
);

test(
  "over TLS a token buys a certificate from control alone, and a secret that control delivers is on no disk",
  async () => {
    const mesh = new Mesh();
    try {
      const secrets = join(mesh.folder, "secrets");
      mkdirSync(join(secrets, "default"), { recursive: true });
      writeFileSync(join(secrets, "default", "key"), "value-that-was-delivered\n");
      await mesh.open(["--tls-host", "localhost", "--secrets", secrets]);
      expect(mesh.controlOrigin).toMatch(/^https:/);
      const policy = policyOf(mesh.providerOrigin, 1).replace("headers:", "credential: {header: {secret: {delivered: key}}}, headers:");
      await mesh.apply(policy);
      const token = await mesh.joinToken("chat", 1);
      const sidecar = await mesh.startSidecar("one", token);
      await sidecar.ready();
      await until("the secret is there", async () => ((await sidecar.call()).key === "Bearer value-that-was-delivered" ? true : undefined));
      expect(await mesh.statusOf("one")).toMatchObject({ namespace: "default", account: "chat", connected: true });
      for (const file of readdirSync(sidecar.state)) {
        expect(readFileSync(join(sidecar.state, file)).includes("value-that-was-delivered"), file).toBe(false);
        expect(statSync(join(sidecar.state, file)).mode & 0o077, file).toBe(0);
      }

      // One whose token names another authority never shows that token to this control.
      const strange = token.replace(/[0-9a-f]{64}(-[0-9a-f]{64}-[^-]+)$/, `${"0".repeat(64)}$1`);
      const stranger = await mesh.startSidecar("stranger", strange);
      await until("it says why", async () => ((await stranger.notReady()).includes("another authority") ? true : undefined));
      await stranger.end("SIGKILL");

      // Without control: policy from the disk, and no secret. The certificate and not the token, which was used once, brings it back.
      await mesh.killControl();
      await sidecar.end("SIGKILL");
      const again = await mesh.startSidecar("one", token);
      await again.ready();
      await expect(again.call()).rejects.toThrow(/503.*not been delivered/s);
      await mesh.startControl();
      await until("the secret is there again", async () => {
        return (await again.call()).key === "Bearer value-that-was-delivered" ? true : undefined;
      });
    } finally {
      await mesh.close();
    }
  },
  patienceMs,
);

test(
  "where only HTTP/1.1 passes, policy comes in single requests",
  async () => {
    const mesh = new Mesh();
    let polls = 0;
    // What stands in between knows no HTTP/2, and passes on what it understands.
    const proxy = createServer((incoming, outgoing) => {
      polls += incoming.url?.endsWith("/Poll") === true ? 1 : 0;
      const { method, headers } = incoming;
      const onward = request(`${mesh.controlOrigin}${incoming.url}`, { method: method ?? "GET", headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      });
      onward.on("error", () => outgoing.destroy());
      outgoing.on("close", () => onward.destroy());
      incoming.pipe(onward);
    });
    await new Promise<void>((done) => {
      proxy.listen(0, "127.0.0.1", done);
    });
    try {
      await mesh.open();
      const token = await mesh.joinToken("chat", 1);
      await mesh.apply(policyOf(mesh.providerOrigin, 1));
      const sidecar = await mesh.startSidecar("one", token, [], `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
      await sidecar.ready();
      const revision = await mesh.apply(policyOf(mesh.providerOrigin, 2));
      await until("it enforces it", async () => ((await mesh.statusOf("one"))?.revision === BigInt(revision) ? true : undefined));
      expect(await sidecar.call()).toMatchObject({ model: "2", revision: "2" });
      expect(polls).toBeGreaterThan(1);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
      await mesh.close();
    }
  },
  patienceMs,
);

test(
  "in a cluster the pod's own token proves who a sidecar is, and one of a pod that is gone proves nothing",
  async () => {
    const keys = await generateKeyPair("ES256");
    const jwk = { ...(await exportJWK(keys.publicKey)), kid: "one", alg: "ES256" };
    // As much of an API server as control asks one: who issues tokens, with which keys, and whether a token's pod is still there.
    const cluster = createServer(async (incoming, outgoing) => {
      const body = (await incoming.toArray()).join("");
      const answer = (value: unknown) => outgoing.end(JSON.stringify(value));
      if (incoming.url?.endsWith("/openid-configuration")) return answer({ issuer: "https://cluster.test" });
      if (incoming.url === "/openid/v1/jwks") return answer({ keys: [jwk] });
      const { uid } = claimsOf(JSON.parse(body).spec.token)["kubernetes.io"].pod;
      const user = { username: "system:serviceaccount:shop:chat", extra: { "authentication.kubernetes.io/pod-uid": [uid] } };
      return answer({ status: uid === "pod-there" ? { authenticated: true, user } : { authenticated: false, error: "the pod is gone" } });
    });
    await new Promise<void>((done) => {
      cluster.listen(0, "127.0.0.1", done);
    });
    const mesh = new Mesh();
    try {
      const write = (name: string, text: string): string => {
        const path = join(mesh.folder, name);
        writeFileSync(path, text);
        return path;
      };
      const origin = `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`;
      const asked = [
        "--trust-cluster",
        origin,
        "--cluster-ca",
        write("cluster.pem", ""),
        "--cluster-token",
        write("reviewer", "its token"),
      ];
      await mesh.open(["--tls-host", "localhost", ...asked]);
      const policy = policyOf(mesh.providerOrigin, 1).replace("{account: chat}", "{account: chat, namespace: shop}");
      await mesh.apply(policy);
      const authority = write("ca.pem", mesh.authority);
      const tokenOf = (uid: string): Promise<string> => {
        const claims = { namespace: "shop", serviceaccount: { name: "chat", uid: "sa" }, pod: { name: "chat-1", uid } };
        return new SignJWT({ "kubernetes.io": claims, sub: "system:serviceaccount:shop:chat" })
          .setProtectedHeader({ alg: "ES256", kid: "one" })
          .setIssuer("https://cluster.test")
          .setAudience("outrigger-control")
          .setIssuedAt()
          .setNotBefore("0s")
          .setExpirationTime("10m")
          .sign(keys.privateKey);
      };
      const words = async (uid: string) => ["--token-file", write(uid, await tokenOf(uid)), "--control-ca", authority];
      const sidecar = await mesh.startSidecarWith("there", await words("pod-there"));
      await sidecar.ready();
      expect(await sidecar.call()).toMatchObject({ model: "1", revision: "1" });
      expect(await mesh.statusOf("pod-there")).toMatchObject({ namespace: "shop", account: "chat", connected: true });
      const gone = await mesh.startSidecarWith("gone", await words("pod-gone"));
      await until("it says why", async () => (/unauthenticated|permission/.test(await gone.notReady()) ? true : undefined));
    } finally {
      cluster.closeAllConnections();
      cluster.close();
      await mesh.close();
    }
  },
  patienceMs,
);

function claimsOf(token: string): { readonly "kubernetes.io": { readonly pod: { readonly uid: string } } } {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
}

async function statusTable(mesh: Mesh): Promise<string> {
  const main = join(import.meta.dirname, "../../control/cli/main.ts");
  const environment = { PATH: process.env.PATH ?? "", NO_COLOR: "1", OUTRIGGER_CONTROL_TOKEN: mesh.token };
  // It ends with 3, since one sidecar is behind.
  const ran = promisify(execFile)(process.execPath, [main, "status", "--control", mesh.controlOrigin], { env: environment });
  return ran.then(
    ({ stdout }) => stdout,
    ({ stdout }: { stdout: string }) => stdout,
  );
}
