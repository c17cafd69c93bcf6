/** The mesh as processes, for longer: a minute without control, and a stream that is accepted and then silent. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { Mesh, policyOf, until } from "../kit/meshProcesses.ts";
import { playOutage } from "./outage.ts";

test("a minute of load without control, with sidecars restarted all the time: no call fails", async () => {
  const report = await playOutage(60_000);
  expect(report).toMatchObject({ failures: [], torn: 0, usedOther: 1, downloadedTwice: 0 });
  const { told, killed, spoilt } = report.restarts;
  expect(report.fromDisk).toBe(told + killed + spoilt);
}, 300_000);

test("a stream that goes silent is noticed within 15 s and replaced", async () => {
  const mesh = new Mesh();
  const between = await openBetween(() => mesh.controlOrigin);
  try {
    await mesh.open();
    const token = await mesh.joinToken("chat", 1);
    await mesh.apply(policyOf(mesh.providerOrigin, 1));
    const sidecar = await mesh.startSidecar("one", token, [], between.origin);
    await sidecar.ready();
    // Connections stay open, and nothing passes any more: what a dead machine behind a live load balancer looks like.
    between.hush();
    const silentMs = performance.now();
    expect(await sidecar.metric("outrigger_control_connected")).toBe(1);
    await until("it has left", () => (between.left() ? true : undefined));
    const noticedMs = performance.now() - silentMs;
    // Up to 15 s after the last heartbeat, which was up to 5 s before; and a second for a busy machine.
    expect(noticedMs).toBeLessThan(16_000);
    expect(noticedMs).toBeGreaterThan(9_000);
    between.speak();
    await mesh.apply(policyOf(mesh.providerOrigin, 2));
    await until("it is back", async () => ((await sidecar.metric("outrigger_policy_revision")) === 2 ? true : undefined));
  } finally {
    between.close();
    await mesh.close();
  }
}, 120_000);

/** What stands between sidecar and control, and can fall silent. */
async function openBetween(target: () => string) {
  const pairs = new Set<readonly [Socket, Socket]>();
  let silent = false;
  let left = false;
  const server = createServer((near) => {
    const far = connect(Number(new URL(target()).port), "127.0.0.1");
    const pair = [near, far] as const;
    pairs.add(pair);
    near.on("data", (bytes) => (silent ? undefined : far.write(bytes)));
    far.on("data", (bytes) => (silent ? undefined : near.write(bytes)));
    near.on("close", () => {
      left ||= silent;
      far.destroy();
      pairs.delete(pair);
    });
    for (const socket of pair) socket.on("error", () => undefined);
    far.on("close", () => (silent ? undefined : near.destroy()));
  });
  await new Promise<void>((done) => {
    server.listen(0, "127.0.0.1", done);
  });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hush: () => {
      silent = true;
    },
    speak: () => {
      silent = false;
    },
    left: () => left,
    close() {
      server.close();
      for (const [near, far] of pairs) {
        near.destroy();
        far.destroy();
      }
    },
  };
}
