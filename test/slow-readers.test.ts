/** 200 callers that stop reading a 20 MiB answer hold little, stop the provider, and take nothing from another caller. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor } from "./kit/sidecar.ts";
import { type SidecarProcess, startSidecarProcess } from "./kit/sidecarProcess.ts";
import { measureSlowReaders } from "./kit/slowReaders.ts";

let replay: Replay;
let sidecar: SidecarProcess;
beforeAll(async () => {
  replay = await startReplay();
  // Each of the callers needs a connection of its own to the provider.
  sidecar = await startSidecarProcess(policyFor(replay.origin), { open: "a", ant: "b" });
}, 30_000);
afterAll(async () => {
  await sidecar.close();
  await replay.close();
});

test("200 stopped readers cost at most 256 KiB each, and others are served meanwhile", { timeout: 120_000 }, async ({ annotate }) => {
  // How long the other caller's calls take is printed by `test/bench/slow.ts`; here it must only be served.
  const found = await measureSlowReaders(sidecar, replay, 200, 50);
  await annotate(
    `200 callers that stopped reading 20 MiB: ${(found.rssEach / 1024).toFixed(0)} KiB of resident memory each (${(found.rssEachCold / 1024).toFixed(0)} from a cold start), ${(found.heldEach / 1024).toFixed(0)} KiB held by the runtime; the provider could send at most ${(found.sentMaxBytes / 1024).toFixed(0)} KiB`,
    "closing",
  );
  expect(found.rssEach).toBeLessThanOrEqual(256 * 1024);
  expect(found.heldEach).toBeLessThanOrEqual(256 * 1024);
  // What the kernel's socket buffers take on the way is not ours to bound; beyond that the provider must have been stopped.
  expect(found.sentMaxBytes).toBeLessThan(15 << 20);
  expect(found.otherDuringMs).toHaveLength(50);
});
